"""What happens to a simulated account: fills, splits, dividends, fractions paid out, positions closed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketagent.panel import Array

FILL, SPLIT, DIVIDEND, FRACTION, CLOSED = range(5)
KINDS = ("fill", "split", "dividend", "fraction", "closed")
Column = NDArray[Any]  # rows, symbols and kinds are whole numbers, quantities and prices are not
# Of the log, in the order of Events: what is the same for all of its symbols is there once.
Entry = tuple[Column | int, int, Column, int, Array, Array, Array | float]


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
    counts = [len(entry[2]) for entry in log]
    row, decided, kind = (_column(log, k, counts, np.int64) for k in (0, 1, 3))
    column = np.concatenate([np.zeros(0, dtype=np.int64), *(entry[2] for entry in log)])
    quantity, price = (np.concatenate([np.zeros(0), *(entry[k] for entry in log)]) for k in (4, 5))
    return Events(row, decided, column, kind, quantity, price, _column(log, 6, counts, np.float64))


def _column(log: list[Entry], k: int, counts: list[int], kind: type[np.generic]) -> Column:
    """Of each of their symbols what the entries say at `k`, in an array or in one number for all."""
    values = [entry[k] for entry in log]
    arrays = [i for i, value in enumerate(values) if isinstance(value, np.ndarray)]
    if len(arrays) == len(values):
        return np.concatenate([np.zeros(0, kind), *values])
    numbers = [0 if isinstance(value, np.ndarray) else value for value in values]
    made = np.repeat(np.array(numbers, kind), counts)
    ends = np.cumsum(counts)
    for i in arrays:
        made[ends[i] - counts[i] : ends[i]] = values[i]
    return made
