"""What a market of the sandbox offers to the vendors that speak for it; `replay` and `synthetic` are two of them.

A market knows no vendor and no clock: who asks says up to when, and shows nothing later than its own clock. Prices
are as traded. The same market, seed and question give the same bytes, whatever was asked before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Session:
    """One trading day: `day` in New York, regular open and close in UTC."""

    day: date
    open_at: datetime
    close_at: datetime


@dataclass(frozen=True, kw_only=True)
class Bars:
    """K bars of one symbol, oldest first; `start` in Unix seconds (a day's: its session's regular open)."""

    start: NDArray[np.int64]
    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array
    vwap: Array
    trades: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A listed company. `listed` and `delisted` are its first and last session; `former` (date, ticker) before that."""

    symbol: str
    name: str
    exchange: str = "XNAS"
    listed: date
    delisted: date | None = None
    former: tuple[tuple[date, str], ...] = ()
    shortable: bool = True
    fractionable: bool = True


@dataclass(frozen=True, kw_only=True)
class Split:
    """`new` shares for `old` ones from the open of `day` on."""

    symbol: str
    day: date
    new: float
    old: float


@dataclass(frozen=True, kw_only=True)
class Dividend:
    """USD `cash` a share as traded, for who held over the close before `day`, the ex-date."""

    symbol: str
    day: date
    cash: float
    special: bool = False


class Market(Protocol):
    """Dates are inclusive. A symbol the market does not know has no asset and empty bars."""

    seed: int

    def assets(self) -> Sequence[Asset]:
        """Everything that is or was listed, by symbol."""

    def asset(self, symbol: str) -> Asset | None: ...

    def sessions(self, first: date, last: date) -> Sequence[Session]: ...

    def days(self, symbol: str, first: date, last: date) -> Bars:
        """Daily bars. Each agrees with that day's minutes: first open, highest high, lowest low, last close, sum."""

    def minutes(self, symbol: str, day: date) -> Bars:
        """Minute bars of one session's regular hours; a minute without a trade, or in a halt, has none."""

    def halts(self, symbol: str, day: date) -> Sequence[tuple[datetime, datetime]]: ...

    def splits(self, symbol: str | None, first: date, last: date) -> Sequence[Split]:
        """Of `symbol`, or of all, by day and symbol."""

    def dividends(self, symbol: str | None, first: date, last: date) -> Sequence[Dividend]: ...
