"""What was stored or came over the wire: fetched symbols, bars, trades, quotes, rows of a query, settings."""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What ``ma fetch`` did for one symbol: bars stored now, and what this run changed."""

    symbol: str
    source: str
    timeframe: str
    first: str | None
    last: str | None
    bars: int
    added: int
    corrected: int
    quarantined: int
    actions: int
    kind: Literal["fetched"] = "fetched"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One price, or the bar as such, that two sources have otherwise; `difference` is the left by the right, less 1.

    `ts` is the start of a bar within a day. For ``bar``, 1 says that the source has it, None that it has not.
    """

    symbol: str
    session: str
    field: str
    left_source: str
    left: float | None
    right_source: str
    right: float | None
    difference: float | None = None
    ts: str | None = None
    timeframe: str = "1d"
    kind: Literal["difference"] = "difference"


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One closed bar of ``ma stream``, stored before it is written; `ts` is its start. Prices in USD, as traded."""

    symbol: str
    session: str
    ts: str
    timeframe: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    source: str
    feed: str
    kind: Literal["bar"] = "bar"


@dataclass(frozen=True, kw_only=True)
class Trade:
    """One trade of ``ma stream``, at `ts`; `size` in shares. Trades are not stored."""

    symbol: str
    ts: str
    price: float
    size: float
    exchange: str
    source: str
    feed: str
    kind: Literal["trade"] = "trade"


@dataclass(frozen=True, kw_only=True)
class Quote:
    """The best bid and offer of ``ma stream``, since `ts`; sizes as the vendor counts them. Quotes are not stored."""

    symbol: str
    ts: str
    bid: float
    bid_size: float
    ask: float
    ask_size: float
    source: str
    feed: str
    kind: Literal["quote"] = "quote"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One effective setting and where it comes from; the value of a secret is never shown."""

    name: str
    value: Any
    origin: str
    kind: Literal["setting"] = "setting"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of ``ma sql``: the columns the query names."""

    values: dict[str, Any]
    kind: Literal["row"] = "row"
