"""Arrays that begin at a line of the processor's cache: vectors of them are read and written in one piece, not in two."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LINE = 64  # bytes
_CELLS = LINE // 8


def room(cells: int) -> Array:
    """So many cells, not filled, from the beginning of a line on."""
    cells_and_more = np.empty(cells + _CELLS)
    first = -cells_and_more.__array_interface__["data"][0] % LINE // 8
    return cells_and_more[first : first + cells]


def in_lines(values: Array) -> Array:
    """`values` as float64 in C order from the beginning of a line on: themselves, if they are, else a copy."""
    if values.dtype == np.float64 and values.flags.c_contiguous and values.__array_interface__["data"][0] % LINE == 0:
        return values
    made = room(values.size).reshape(values.shape)
    made[...] = values
    return made
