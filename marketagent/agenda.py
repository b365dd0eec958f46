"""What stands on which row of a panel: where a symbol ends, and which splits and dividends are of what is held.

A run asks row by row, so what is looked up is a memoryview: that gives plain numbers, and sooner than an array gives
its own.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from marketagent.panel import Array, Panel

Rows = NDArray[np.int64]


class Agenda:
    """The splits and dividends of `panel` by rows, and the ends of its symbols: on which row each `closes_on` (N,)."""

    def __init__(self, panel: Panel, closes_on: Rows) -> None:
        length = len(panel.sessions)
        self._split_rows, self._split_columns = panel.splits
        self._pay_rows, self._pay_columns = panel.dividends
        self._dividends = panel.dividend[self._pay_rows, self._pay_columns]
        self._splits, self._pays = starts(self._split_rows, length), starts(self._pay_rows, length)
        ending = np.zeros(length, dtype=bool)
        ending[closes_on[(closes_on >= 0) & (closes_on < length)]] = True
        self._ends = nexts(ending)

    def next_change(self, shares: Array, t: int, last: int) -> int:
        """The first of the rows from `t` to before `last` on which a symbol ends or any of the `shares` (N,) held is split,
        or `last`."""
        last = min(self._ends[t], last)
        first, end = self._splits[t], self._splits[last]
        if first == end:
            return last
        held = shares[self._split_columns[first:end]].nonzero()[0]
        return int(self._split_rows[first + held[0]]) if len(held) else last

    def is_ending(self, t: int) -> bool:
        """Whether a symbol ends on row `t`."""
        return self._ends[t] == t

    def splitting(self, t: int) -> Rows:
        """The symbols that split on row `t`."""
        return self._split_columns[self._splits[t] : self._splits[t + 1]]

    def is_paying(self, t: int, last: int) -> bool:
        """Whether there is a dividend on the rows from `t` to before `last`."""
        return self._pays[t] < self._pays[last]

    def dividends(self, shares: Array, t: int, last: int) -> tuple[Rows, Rows, Array, Array]:
        """Row, column, shares and dividend of what is paid on `shares` (N,) on the rows from `t` to before `last`."""
        first, end = self._pays[t], self._pays[last]
        columns = self._pay_columns[first:end]
        hit = shares[columns].nonzero()[0]
        columns = columns[hit]
        return self._pay_rows[first:end][hit], columns, shares[columns], self._dividends[first:end][hit]

    def anything(self) -> NDArray[np.bool_]:
        """(T,): whether any symbol is split, pays or ends on each row."""
        found = np.zeros(len(self._ends) - 1, dtype=bool)
        found[self._split_rows] = found[self._pay_rows] = True
        ends: NDArray[np.bool_] = np.asarray(self._ends)[:-1] == np.arange(len(found))
        return found | ends


def nexts(marked: NDArray[np.bool_]) -> Sequence[int]:
    """For each row, and for the end, the first row from it on that is `marked`; the end if none is.

    >>> list(nexts(np.array([False, True, False])))
    [1, 1, 3, 3]
    """
    found = np.concatenate([[-1], np.flatnonzero(marked), [len(marked)]])
    return np.repeat(found[1:], np.diff(found)).data


def starts(rows: Rows, length: int) -> Sequence[int]:
    """Where the entries of each row begin in the ordered `rows`, and at last where they end.

    >>> list(starts(np.array([0, 0, 2]), 3))
    [0, 2, 2, 3]
    """
    found = np.zeros(length + 1, dtype=np.int64)
    np.bincount(rows, minlength=length).cumsum(out=found[1:])
    return found.data
