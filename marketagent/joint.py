"""The signals of a strategy on several panels at once: traced on the first, and read as a formula on all of them.

What a strategy makes of a panel's arrays with built-in indicators and arithmetic is a program, and all that it reads has a
name (see ``deferred.Memo.name``). With the arrays of another panel that have these names the program gives what the
strategy gives there, as long as nobody has looked at anything: at a value, a shape, the symbols. Who has is found out, and
then there is no formula.
"""

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any

from marketagent.compiled import address
from marketagent.decision import usable
from marketagent.deferred import Array, Deferred, Memo, Shown, remembering, watching
from marketagent.lines import in_lines
from marketagent.names import Parameter, named
from marketagent.panel import Panel
from marketagent.signals import Signal
from marketagent.strategy import Strategy

_BYTES = 96_000_000  # of indicators that are kept; the oldest go first


class NoFormula(Exception):
    """The strategy has looked at something, or uses an array without a name."""


class Joint:
    """Arrays by name on each of several panels, whose own arrays have the names in `known`; the first are those of `panel`
    and `memo`."""

    def __init__(
        self, panel: Panel, memo: Memo, known: Sequence[Mapping[str, Array]], *, most_bytes: int = _BYTES
    ) -> None:
        self._panel, self._shown, self._memo = panel, Shown(panel, known[0]), memo
        self._known, self._most = known, most_bytes
        self._kept: dict[Any, tuple[list[int], list[Array]]] = {}
        self._bytes, self._lock = 0, Lock()

    def signals(self, strategy: Strategy, *, of_all: bool = False) -> dict[str, Signal]:
        """Those on the first panel, deferred, as a formula for all; raises NoFormula, and whatever the strategy raises.

        `of_all` makes them a formula of the parameters, too (see ``names.Parameter``): one for all combinations."""
        shown: Any = self._shown
        asked: Any = _AnyOf(strategy) if of_all else strategy
        with remembering(self._memo), watching() as looks:
            made = type(strategy).signals(asked, shown, {})
        if looks:
            raise NoFormula
        return usable(strategy, made, self._panel.shape)

    def names(self, leaves: Sequence[Deferred | Array]) -> list[Any]:
        """What `leaves` are called; raises NoFormula for one without a name."""
        names = [self._memo.name(leaf) for leaf in leaves]
        if None in names:
            raise NoFormula
        return names

    def addressed(self, leaves: Sequence[Deferred | Array]) -> tuple[list[list[int]], list[list[Array]]]:
        """The addresses, by leaf and panel, of the arrays for `leaves`, and these arrays; raises NoFormula."""
        return self.found(self.names(leaves))

    def found(self, names: Sequence[Any]) -> tuple[list[list[int]], list[list[Array]]]:
        """As ``addressed``, of arrays by name."""
        found = [self._of(name) for name in names]
        return [addresses for addresses, _ in found], [arrays for _, arrays in found]

    def on(self, panel: int) -> Callable[[Sequence[Deferred | Array]], list[Array]]:
        """What gives the leaves of one of the panels."""
        return lambda leaves: [arrays[panel] for arrays in self.addressed(leaves)[1]]

    def _of(self, name: Any) -> tuple[list[int], list[Array]]:
        with self._lock:  # all threads ask for the same window at first; one computes it
            made = self._kept.pop(name, None)
            if made is None:
                found = (named(name, panel) for panel in self._known)
                arrays = [in_lines(array) for array in found]
                made = [address(array) for array in arrays], arrays
                self._bytes += _size(arrays)
            self._kept[name] = made  # the newest is the last
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= _size(self._kept.pop(next(iter(self._kept)))[1])
            return made


class _AnyOf:
    """A strategy, its parameters standing for all their values."""

    def __init__(self, strategy: Strategy) -> None:
        self._parameters = {name: Parameter(name, value) for name, value in strategy.params().items()}

    def __getattr__(self, name: str) -> Parameter:
        if name not in self._parameters:
            raise NoFormula
        return self._parameters[name]


def _size(arrays: Sequence[Array]) -> int:
    return sum(array.nbytes for array in arrays)
