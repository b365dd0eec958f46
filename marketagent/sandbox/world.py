"""One running sandbox, as every vendor's file sees it: a market, a clock, a seed, and nothing that is not closed yet.

All that a vendor shows of the market goes through here, so that no answer holds a bar of the future.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from random import Random
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from marketagent.clock import Clock
from marketagent.sandbox.faults import Faults
from marketagent.sandbox.log import Log
from marketagent.sandbox.market import Bars, Market, Session
from marketagent.world import sleep

NEW_YORK = ZoneInfo("America/New_York")
MINUTE_S = 60
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class SandboxWorld:
    """`clock` gives market time; `sleep` waits system seconds. `origin` is where it is served, e.g. http://127.0.0.1:8777.

    `polygon_origin` is what Polygon's `next_url` names instead of `origin`: the real one names a host of its own.
    `extended_hours`: its minutes hold a few before the open and after the close, as the real ones do.
    """

    market: Market
    clock: Clock
    seed: int = 0
    origin: str = "http://127.0.0.1"
    polygon_origin: str = ""
    extended_hours: bool = False
    log: Log = field(default_factory=Log)
    faults: Faults = field(default_factory=Faults)
    sleep: Callable[[float], Awaitable[None]] = field(default=sleep)
    parts: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def part(self, made: Callable[["SandboxWorld"], T]) -> T:
        """What `made` makes of this world, the same one for all who ask: the accounts behind several routes, say."""
        if made not in self.parts:
            self.parts[made] = made(self)
        found: T = self.parts[made]
        return found

    def now(self) -> datetime:
        return self.clock()

    def random(self, *key: object) -> Random:
        """Dice for `key`: the same ones whatever else was asked before."""
        return Random(f"{self.seed}|{'|'.join(map(str, key))}")  # noqa: S311 - a market's dice, nobody's secret

    async def sleep_until(self, moment: datetime) -> None:
        """Wait until market time reaches `moment`."""
        while (left := self.clock.until(moment)) > 0:
            await self.sleep(left)

    def session(self, at: datetime) -> Session | None:
        """The session whose regular hours hold `at`."""
        day = at.astimezone(NEW_YORK).date()
        found = self.market.sessions(day, day)
        return found[0] if found and found[0].open_at <= at < found[0].close_at else None

    def minutes(self, symbol: str, day: date) -> Bars:
        """The minute bars of `day` that have closed."""
        bars = self.market.minutes(symbol, day)
        return cut(bars, bars.start + MINUTE_S <= self.now().timestamp())

    def days(self, symbol: str, first: date, last: date) -> Bars:
        """Daily bars of sessions that have closed."""
        today = self.now().astimezone(NEW_YORK).date()
        closed = [one for one in self.market.sessions(today, today) if one.close_at <= self.now()]
        bars = self.market.days(symbol, first, min(last, today))
        return bars if closed else cut(bars, bars.start < _midnight(today))


def cut(bars: Bars, kept: NDArray[np.bool_] | slice) -> Bars:
    """The bars where `kept` (K,) is true, or a slice of them."""
    return Bars(**{name: getattr(bars, name)[kept] for name in Bars.__dataclass_fields__})


def joined(parts: Sequence[Bars]) -> Bars:
    """Bars one after the other."""
    return Bars(**{name: np.concatenate([_EMPTY[name], *(getattr(part, name) for part in parts)]) for name in _EMPTY})


_EMPTY: dict[str, NDArray[Any]] = {
    name: np.zeros(0, np.int64 if name in ("start", "trades") else np.float64) for name in Bars.__dataclass_fields__
}


def _midnight(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=NEW_YORK).timestamp()
