"""Which bars of a symbol may go out now, so that its reader sees each minute once and none before an older one.

A bar waits while older ones may still come: until a gap is filled (`hold`), or, where the minute before it is not
there, for a moment: frames can change places, but most often nobody traded in that minute.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from marketagent.streams.events import MINUTE, Bar

REORDER_S = 0.1


@dataclass
class _Waiting:
    bar: Bar
    until: float


class Order:
    """Bars wait by symbol; `last` is the newest minute of each that is out."""

    def __init__(self, last: Mapping[str, datetime] | None = None, *, reorder_s: float = REORDER_S) -> None:
        self.last = dict(last or {})
        self._reorder_s = reorder_s
        self._waiting: dict[str, dict[datetime, _Waiting]] = {}
        self._held: dict[str, float] = {}

    def hold(self, symbol: str, until: float) -> None:
        """Let no bar of `symbol` out before it is let go, or the time is `until`."""
        self._held[symbol] = until

    def let_go(self, symbol: str) -> None:
        self._held.pop(symbol, None)

    def add(self, bar: Bar, now: float, *, settled: bool = False) -> bool:
        """Take a stored bar; False if a newer one is out. Of a `settled` one, nothing older is on its way."""
        last = self.last.get(bar.symbol)
        if last is not None and bar.start <= last:
            return False
        self._waiting.setdefault(bar.symbol, {})[bar.start] = _Waiting(bar, now if settled else now + self._reorder_s)
        return True

    def replace(self, bar: Bar) -> None:
        """Put a correction in the place of the bar of its minute, if that has not gone out yet."""
        waiting = self._waiting.get(bar.symbol, {}).get(bar.start)
        if waiting is not None:
            waiting.bar = bar

    def due(self, now: float, *, all_of_it: bool = False) -> list[Bar]:
        """The bars that go out now, in order for each symbol; `all_of_it`: nothing more will come."""
        return [bar for symbol in list(self._waiting) for bar in self._due(symbol, now, all_of_it)]

    def next_at(self) -> float | None:
        """When `due` may have something, if nothing is added before; None: never."""
        times = [
            max(self._held.get(symbol, 0.0), waiting[min(waiting)].until) for symbol, waiting in self._waiting.items()
        ]
        return min(times, default=None)

    def _due(self, symbol: str, now: float, all_of_it: bool) -> list[Bar]:
        if not all_of_it and self._held.get(symbol, 0.0) > now:
            return []
        self._held.pop(symbol, None)
        waiting, found = self._waiting[symbol], []
        for start in sorted(waiting):
            last = self.last.get(symbol)
            follows = last is None or start == last + MINUTE
            if not (follows or all_of_it or waiting[start].until <= now):
                break
            found.append(waiting.pop(start).bar)
            self.last[symbol] = start
        if not waiting:
            del self._waiting[symbol]
        return found
