"""Alpaca's trades and quotes, made from the minutes that they add up to: those of the past, and of now up to now."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from marketagent.sandbox import ticks
from marketagent.sandbox.alpaca_query import Query, page_token
from marketagent.sandbox.market import Asset
from marketagent.sandbox.polygon_windows import ny_day
from marketagent.sandbox.ticks import NS
from marketagent.sandbox.world import MINUTE_S, SandboxWorld

VENUES = {4: "D", 10: "N", 11: "P", 12: "Q", 15: "V", 19: "Z"}
TAPES = {"XNYS": "A", "XNAS": "C"}
IEX = 15
Json = dict[str, Any]


def tick_page(world: SandboxWorld, wanted: Query, kind: str) -> tuple[dict[str, list[Json]], str | None]:
    """One page of trades or quotes by symbol, and the token of the next."""
    found: dict[str, list[Json]] = {}
    left, last = wanted.limit, None
    for name, asset in wanted.names.items():
        if wanted.after is not None and name < wanted.after[0]:
            continue
        after = wanted.after[1] if wanted.after is not None and name == wanted.after[0] else None
        for at, row in ticks_of(world, asset, wanted, kind, after):
            if left == 0:
                return found, last
            found.setdefault(name, []).append(row)
            last = page_token(name, at)
            left -= 1
    return found, None


def ticks_of(
    world: SandboxWorld, asset: Asset, wanted: Query, kind: str, after: int | None = None
) -> Iterator[tuple[int, Json]]:
    """(Unix nanoseconds, trade or quote) in the order asked for, those behind `after`."""
    first, last = _ns(wanted.start), min(_ns(wanted.end), _ns(world.now()))
    if after is not None and wanted.descending:
        last = min(last, after - 1)
    elif after is not None:
        first = max(first, after + 1)
    if first > last or wanted.feed not in ("sip", "iex", "delayed_sip"):
        return
    for start in _minutes(world, asset.symbol, first // NS, last // NS, descending=wanted.descending):
        rows = minute_ticks(world, asset, start, kind, wanted.feed)
        for at, row in reversed(rows) if wanted.descending else rows:
            if first <= at <= last:
                yield at, row


def minute_ticks(world: SandboxWorld, asset: Asset, start: int, kind: str, feed: str) -> list[tuple[int, Json]]:
    """Trades or quotes of the minute that begins at `start`, oldest first, whole: who shows them cuts them at now."""
    bar = ticks.minute(world.market, asset.symbol, ny_day(start), start)
    if bar is None:
        return []
    tape = TAPES.get(asset.exchange, "B")
    trades = ticks.trades(world.seed, bar)
    if kind == "trades":
        return [(one.at, trade_json(one, tape)) for one in trades if feed != "iex" or one.exchange == IEX]
    return [(one.at, quote_json(one, tape, feed)) for one in ticks.quotes(world.seed, bar, trades)]


def trade_json(trade: ticks.Trade, tape: str) -> Json:
    size = int(trade.size) if trade.size == int(trade.size) else trade.size
    row = {"c": ["@"], "i": trade.number, "p": trade.price, "s": size, "t": nano(trade.at)}
    return row | {"x": VENUES[trade.exchange], "z": tape}


def quote_json(quote: ticks.Quote, tape: str, feed: str) -> Json:
    ask_venue, bid_venue = (
        VENUES[IEX if feed == "iex" else number] for number in (quote.ask_exchange, quote.bid_exchange)
    )
    return {
        "ap": quote.ask,
        "as": quote.ask_size,
        "ax": ask_venue,
        "bp": quote.bid,
        "bs": quote.bid_size,
        "bx": bid_venue,
        "c": ["R"],
        "t": nano(quote.at),
        "z": tape,
    }


def nano(at: int) -> str:
    """RFC 3339 with nine digits.

    >>> nano(1_795_446_000_123_456_789)
    '2026-11-23T15:00:00.123456789Z'
    """
    return f"{datetime.fromtimestamp(at // NS, UTC):%Y-%m-%dT%H:%M:%S}.{at % NS:09d}Z"


def _minutes(world: SandboxWorld, symbol: str, first: int, last: int, *, descending: bool) -> Iterator[int]:
    days = [session.day for session in world.market.sessions(ny_day(first), ny_day(last))]
    for day in days[::-1] if descending else days:
        starts = [int(one) for one in world.market.minutes(symbol, day).start]
        starts = [start for start in starts if first < start + MINUTE_S and start <= last]
        yield from starts[::-1] if descending else starts


def _ns(at: datetime) -> int:
    """Exact to the microsecond, which a float of Unix seconds is not."""
    whole = at.replace(microsecond=0)
    return int(whole.timestamp()) * NS + at.microsecond * 1000
