"""Which bars may go out now, so that their reader sees each minute of a symbol once and none before an older one.

While gaps are filled, all bars wait (`hold`) and then go out by minute over all symbols, so that who decides on whole
minutes finds them whole. Else a bar waits for a moment only, if the minute before it is not there: frames can change
places, but most often nobody traded in that minute.
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
        self._held_until = 0.0

    def hold(self, until: float) -> None:
        """Let no bar out before they are let go, or the time is `until`."""
        self._held_until = until

    def let_go(self) -> None:
        self._held_until = 0.0

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

    def due(self, now: float, coming: Mapping[str, datetime] | None = None, *, all_of_it: bool = False) -> list[Bar]:
        """The bars that go out now, by minute and symbol; `all_of_it`: nothing more will come.

        `coming` is the oldest minute of each symbol that is on its way into the store: none goes out before it.
        """
        if not all_of_it and now < self._held_until:
            return []
        oldest = coming or {}
        found = [bar for symbol in list(self._waiting) for bar in self._due(symbol, now, oldest.get(symbol), all_of_it)]
        return sorted(found, key=lambda bar: (bar.start, bar.symbol))

    def next_at(self) -> float | None:
        """When `due` may have something, if nothing is added before; None: never."""
        times = [waiting[min(waiting)].until for waiting in self._waiting.values()]
        return max(self._held_until, min(times)) if times else None

    def _due(self, symbol: str, now: float, coming: datetime | None, all_of_it: bool) -> list[Bar]:
        waiting, found = self._waiting[symbol], []
        for start in sorted(waiting):
            if coming is not None and coming < start:
                break
            last = self.last.get(symbol)
            follows = last is None or start == last + MINUTE
            if not (follows or all_of_it or waiting[start].until <= now):
                break
            found.append(waiting.pop(start).bar)
            self.last[symbol] = start
        if not waiting:
            del self._waiting[symbol]
        return found
