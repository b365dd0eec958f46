"""What the compiled files share: how a function becomes machine code, and how an address becomes an array.

numba keeps what it has compiled on disk and compiles again when the *file* of a function changes; it does not notice a
change in a file that the function calls into. So each compiled file calls into itself alone, and into this one, which
there is nothing to change in: after a change here, delete numba's cache.

Without ``fastmath``: a sum is added in the order it is written in.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import carray, njit, types  # type: ignore[attr-defined]  # numba's types leave some of it out
from numba.extending import intrinsic
from numpy.typing import NDArray

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """`function` as machine code, kept on disk; it lets other threads run.

    A private one becomes part of its caller: handing over ten arrays costs more than most of them do with them.
    """
    private = function.__name__.startswith("_")
    return cast(F, njit(cache=True, nogil=True, error_model="numpy", forceinline=private)(function))


def address(values: Array) -> int:
    """Where a C-ordered float64 array lies; whoever passes it on keeps the array alive."""
    if values.dtype != np.float64 or not values.flags.c_contiguous:
        raise ValueError(f"the array is of {values.dtype} and not of float64 in C order")
    return int(values.__array_interface__["data"][0])


def _to_pointer(typing: Any, address: Any) -> Any:
    def made(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.voidptr(address), made


_pointer: Any = intrinsic(_to_pointer)  # an address as a pointer, which numba has no name for


@compiled
def cells_at(address: int, first: int, count: int) -> Array:
    """`count` cells of the array at `address`, from cell `first` on."""
    return carray(_pointer(address + 8 * first), (count,), np.float64)


@compiled
def matrix_at(address: int, length: int, width: int) -> Array:
    """The (T, N) array at `address`."""
    return carray(_pointer(address), (length, width), np.float64)
