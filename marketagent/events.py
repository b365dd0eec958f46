"""What happens to a simulated account: fills, splits, dividends, fractions paid out, positions closed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketagent.panel import Array

FILL, SPLIT, DIVIDEND, FRACTION, CLOSED = range(5)
KINDS = ("fill", "split", "dividend", "fraction", "closed")
Column = NDArray[Any]  # rows, symbols and kinds are whole numbers, quantities and prices are not
# Of the log, in the order of Events: what is the same for all of its symbols is there once.
Entry = tuple[Column | int, int, Column, int, Array | float, Array | float, Array | float]


@dataclass(frozen=True)
class Events:
    """What happened to the account, K rows in order.

    `row` and `decided` are rows of the panel (`decided` is -1 where nobody decided), `column` the symbol. `kind`
    is one of KINDS: for fill, fraction and closed `quantity` is signed shares and `price` USD; for split
    `quantity` is the ratio; for dividend `quantity` is the shares and `price` USD a share.
    """

    row: NDArray[np.int64]
    decided: NDArray[np.int64]
    column: NDArray[np.int64]
    kind: NDArray[np.int64]
    quantity: Array
    price: Array
    commission: Array

    def __len__(self) -> int:
        return len(self.row)


def events_of(log: list[Entry]) -> Events:
    """The log as columns; what an entry says once holds for each of its symbols."""
    if not log:
        log = [(0, 0, np.zeros(0, np.int64), 0, 0.0, 0.0, 0.0)]
    counts = [len(entry[2]) for entry in log]
    row, decided, column, kind, quantity, price, commission = zip(*log, strict=True)
    whole = [_column(values, counts, np.int64) for values in (row, decided, column, kind)]
    return Events(*whole, *(_column(values, counts, np.float64) for values in (quantity, price, commission)))


def _column(values: Sequence[Column | float], counts: list[int], kind: type[np.generic]) -> Column:
    """Of each of their symbols what the entries say, in an array or in one number for all."""
    types = set(map(type, values))
    if types == {np.ndarray}:
        return np.concatenate(values)
    if np.ndarray not in types:
        return np.repeat(np.array(values, kind), counts)
    made = np.repeat(np.array([0 if isinstance(value, np.ndarray) else value for value in values], kind), counts)
    ends = np.cumsum(counts)
    for value, count, end in zip(values, counts, ends.tolist(), strict=True):
        if isinstance(value, np.ndarray):
            made[end - count : end] = value
    return made
