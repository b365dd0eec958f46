"""What every market of the sandbox has in common: sessions to look up, days kept as columns, minutes made when asked for."""

from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

from marketagent.sandbox import bridge
from marketagent.sandbox.market import Array, Asset, Bars, Dividend, Session, Split

_KEPT = 2048  # days of minutes remembered: a stream of 100 names asks for each of its days 390 times
EMPTY = Bars(
    start=np.zeros(0, np.int64), **dict.fromkeys(("open", "high", "low", "close", "volume", "vwap"), np.zeros(0)),
    trades=np.zeros(0, np.int64),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One company's whole life here: an asset, its days (`session` (K,) counts in the calendar), and what befell it.

    `minutes` holds stored ones by session; the others are made up.
    """

    asset: Asset
    session: NDArray[np.int64]
    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array
    splits: tuple[Split, ...] = ()
    dividends: tuple[Dividend, ...] = ()
    minutes: dict[int, Bars] = field(default_factory=dict)


class Calendar:
    """The sessions there are, by number and by day."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self.sessions = tuple(sessions)
        self.days = [one.day for one in self.sessions]
        self.opens = np.array([int(one.open_at.timestamp()) for one in self.sessions], dtype=np.int64)

    def between(self, first: date, last: date) -> tuple[Session, ...]:
        return self.sessions[bisect_left(self.days, first) : bisect_right(self.days, last)]

    def number(self, day: date) -> int:
        """Which session `day` is; if it is none, the one after it."""
        return bisect_left(self.days, day)

    def newest(self, at: datetime) -> int:
        """The number of the last session that began before `at`."""
        return int(np.searchsorted(self.opens, at.timestamp(), side="left")) - 1


class Listing(ABC):
    """A market of some companies; what is asked of one is the same whatever was asked of the others before."""

    def __init__(self, seed: int, calendar: Calendar) -> None:
        self.seed = seed
        self.calendar = calendar
        self._minutes: OrderedDict[tuple[str, date], Bars] = OrderedDict()

    @abstractmethod
    def listed(self, symbol: str) -> Listed | None:
        """Everything about `symbol`."""

    @abstractmethod
    def assets(self) -> Sequence[Asset]: ...

    def asset(self, symbol: str) -> Asset | None:
        found = self.listed(symbol)
        return found.asset if found else None

    def sessions(self, first: date, last: date) -> Sequence[Session]:
        return self.calendar.between(first, last)

    def days(self, symbol: str, first: date, last: date) -> Bars:
        found = self.listed(symbol)
        if found is None:
            return EMPTY
        begin = int(np.searchsorted(found.session, self.calendar.number(first)))
        end = int(np.searchsorted(found.session, bisect_right(self.calendar.days, last)))
        part = slice(begin, max(begin, end))
        high, low, close = found.high[part], found.low[part], found.close[part]
        return Bars(
            start=self.calendar.opens[found.session[part]],
            open=found.open[part],
            high=high,
            low=low,
            close=close,
            volume=found.volume[part],
            vwap=bridge.vwap(high, low, close),
            trades=bridge.trades(found.volume[part]),
        )

    def minutes(self, symbol: str, day: date) -> Bars:
        key = (symbol, day)
        if key in self._minutes:
            self._minutes.move_to_end(key)
            return self._minutes[key]
        bars = self._made(symbol, day)
        self._minutes[key] = bars
        if len(self._minutes) > _KEPT:
            self._minutes.popitem(last=False)
        return bars

    def _made(self, symbol: str, day: date) -> Bars:
        found = self.listed(symbol)
        number = self.calendar.number(day)
        if found is None or number >= len(self.calendar.days) or self.calendar.days[number] != day:
            return EMPTY
        k = int(np.searchsorted(found.session, number))
        if k == len(found.session) or found.session[k] != number:
            return EMPTY
        values = (found.open, found.high, found.low, found.close, found.volume)
        one = bridge.Day(
            **dict(zip(("open", "high", "low", "close", "volume"), (float(v[k]) for v in values), strict=True))
        )
        if number in found.minutes:
            return bridge.fitted(found.minutes[number], one)
        rng = bridge.dice(self.seed, "minutes", symbol, day)
        return bridge.minutes(one, self._starts(symbol, self.calendar.sessions[number]), rng)

    def _starts(self, symbol: str, session: Session) -> NDArray[np.int64]:
        """When the minutes begin that are traded in: all of the session but halts."""
        starts = np.arange(session.open_at.timestamp(), session.close_at.timestamp(), bridge.MINUTE_S, dtype=np.int64)
        for first, last in self.halts(symbol, session.day):
            starts = starts[(starts < first.timestamp()) | (starts >= last.timestamp())]
        return starts

    def halts(self, symbol: str, day: date) -> Sequence[tuple[datetime, datetime]]:
        return ()

    def splits(self, symbol: str | None, first: date, last: date) -> Sequence[Split]:
        found = [one for listed in self._of(symbol) for one in listed.splits if first <= one.day <= last]
        return sorted(found, key=lambda one: (one.day, one.symbol))

    def dividends(self, symbol: str | None, first: date, last: date) -> Sequence[Dividend]:
        found = [one for listed in self._of(symbol) for one in listed.dividends if first <= one.day <= last]
        return sorted(found, key=lambda one: (one.day, one.symbol))

    def _of(self, symbol: str | None) -> list[Listed]:
        names = [symbol] if symbol is not None else [one.symbol for one in self.assets()]
        return [found for name in names if (found := self.listed(name))]
