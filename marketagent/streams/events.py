"""What a stream tells, whichever vendor it comes from."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from marketagent.errors import MarketAgentError

MINUTE = timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Word = Literal["connected", "authenticated", "subscribed", "told", "broken", "ended"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One minute that began at `start`. A number the vendor did not send is NaN: the store sets such a bar aside.

    An `updated` bar replaces the one of the same minute. `text` is the bar as it came.
    """

    symbol: str
    start: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float | None = None
    trades: int | None = None
    feed: str = ""
    updated: bool = False
    text: str = field(default="", compare=False)

    @property
    def values(self) -> tuple[float, float, float, float, float]:
        return self.open, self.high, self.low, self.close, self.volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One trade; `size` in shares."""

    symbol: str
    at: datetime
    price: float
    size: float
    exchange: str = ""
    feed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """The best bid and offer since `at`."""

    symbol: str
    at: datetime
    bid: float
    bid_size: float
    ask: float
    ask_size: float
    feed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A word about the connection itself.

    ``told`` is for a person, ``broken`` a frame that could not be read, ``ended`` the end of this connection: for good
    if there is a `final` error, else to be tried again. `topics` are the subscriptions that are confirmed.
    """

    word: Word
    text: str = ""
    topics: frozenset[str] = frozenset()
    final: MarketAgentError | None = None


Event = Bar | Trade | Quote | Status


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to subscribe to: `kinds` of ``bars``, ``trades``, ``quotes`` for each of `symbols`."""

    symbols: tuple[str, ...]
    kinds: tuple[str, ...] = ("bars",)


def number(value: Any) -> float:
    """A number of JSON as a float; NaN for anything else, a text that looks like one included."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return math.nan


def finite(event: Trade | Quote) -> "Trade | Quote | Status":
    """`event`, or a word about it if one of its numbers is none: no line could hold it."""
    values = (
        (event.price, event.size)
        if isinstance(event, Trade)
        else (event.bid, event.bid_size, event.ask, event.ask_size)
    )
    if all(map(math.isfinite, values)):
        return event
    return Status(word="told", text=f"a {type(event).__name__.lower()} without its numbers")


def moment(ms: Any) -> datetime | None:
    """Milliseconds since 1970 as an instant; None for what is none."""
    if isinstance(ms, bool) or not isinstance(ms, int | float) or not 0 <= ms < 253_402_300_800_000:
        return None
    return EPOCH + timedelta(milliseconds=ms)


def minute(at: datetime) -> datetime:
    """The start of the minute that `at` is in.

    >>> minute(datetime(2026, 11, 20, 14, 31, 59, 5, UTC)).isoformat()
    '2026-11-20T14:31:00+00:00'
    """
    return at.replace(second=0, microsecond=0)


def ticker(symbol: str) -> str:
    """`symbol` as the vendors write it.

    >>> ticker("BRK-B")
    'BRK.B'
    """
    return symbol.replace("/", ".").replace("-", ".").replace("_", ".")
