"""The arrays that the programs of a sweep read, on several panels at once: what one panel's signals are, on all of them.

A program whose arrays all have names (see ``deferred.Memo.name``) is a formula: with the arrays of another panel that have
these names it gives what the strategy gives there, provided that it is made of indicators and never looks at a value or
at the number of symbols. Whoever uses it has to try that, as ``sweep`` does.
"""

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np

from marketagent.deferred import Array, Deferred, Memo, named

_BYTES = 96_000_000  # of indicators that are kept; the oldest go first


class Unnamed(Exception):
    """An array has no name: nobody knows what it would be on another panel."""


class Joint:
    """Arrays by name on each of several panels, whose own arrays have the names in `known`; the first is that of `memo`."""

    def __init__(self, memo: Memo, known: Sequence[Mapping[str, Array]], *, most_bytes: int = _BYTES) -> None:
        self._memo, self._known, self._most = memo, known, most_bytes
        self._kept: dict[Any, list[Array]] = {}
        self._bytes, self._lock = 0, Lock()

    def leaves(self, leaves: Sequence[Deferred | Array]) -> list[list[Array]]:
        """Of each panel its arrays for `leaves`, as a program reads them. Raises Unnamed."""
        names = [self._memo.name(leaf) for leaf in leaves]
        if None in names:
            raise Unnamed
        columns = [self._of(name) for name in names]
        return [[column[g] for column in columns] for g in range(len(self._known))]

    def on(self, panel: int) -> Callable[[Sequence[Deferred | Array]], list[Array]]:
        """What gives the leaves of one of the panels."""
        return lambda leaves: self.leaves(leaves)[panel]

    def _of(self, name: Any) -> list[Array]:
        with self._lock:  # all threads ask for the same window at first; one computes it
            made = self._kept.pop(name, None)
            if made is None:
                found = (named(name, panel) for panel in self._known)
                made = [np.ascontiguousarray(array, dtype=np.float64) for array in found]
                self._bytes += sum(array.nbytes for array in made)
            self._kept[name] = made  # the newest is the last
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= sum(array.nbytes for array in self._kept.pop(next(iter(self._kept))))
            return made
