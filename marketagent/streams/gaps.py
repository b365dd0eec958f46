"""The minutes a stream missed, from the vendor's REST interface."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import quote

from marketagent.streams.alpaca import instant
from marketagent.streams.events import Bar, moment, number, ticker
from marketagent.web.client import Client
from marketagent.web.failures import Nonsense
from marketagent.web.paging import Params


class Gaps(Protocol):
    """What the keeper asks for minutes that it did not see."""

    async def missing(self, symbol: str, first: datetime, last: datetime) -> list[Bar]:
        """The bars of `symbol` that began from `first` to `last`, oldest first; a minute without a trade has none.

        Raises a MarketAgentError when they cannot be had.
        """


class PolygonGaps:
    """Polygon's aggregates of one minute, as traded."""

    def __init__(self, client: Client, feed: str = "") -> None:
        self._client, self._feed = client, feed

    async def missing(self, symbol: str, first: datetime, last: datetime) -> list[Bar]:
        path = f"/v2/aggs/ticker/{quote(ticker(symbol))}/range/1/minute/{_ms(first)}/{_ms(last)}"
        found: list[Bar] = []
        params: Params = {"adjusted": False, "sort": "asc", "limit": 50_000}
        async for page in self._client.pages(path, params, next=lambda page: _field(page, "next_url")):
            rows = _rows(_field(page, "results") or [], "polygon")
            found += [_bar(row, symbol, moment(row.get("t")), self._feed) for row in rows]
        return _between(found, first, last)


class AlpacaGaps:
    """Alpaca's bars of one minute, as traded, of the same channel as the stream."""

    def __init__(self, client: Client, channel: str, feed: str = "") -> None:
        self._client, self._channel, self._feed = client, channel, feed

    async def missing(self, symbol: str, first: datetime, last: datetime) -> list[Bar]:
        params: Params = {
            "symbols": ticker(symbol),
            "timeframe": "1Min",
            "start": _text(first),
            "end": _text(last),
            "adjustment": "raw",
            "feed": self._channel,
            "limit": 10_000,
            "sort": "asc",
        }
        found: list[Bar] = []
        async for page in self._client.pages("/v2/stocks/bars", params, next=_next_token):
            bars = _field(page, "bars") or {}
            rows = _rows(bars.get(ticker(symbol)) or [] if isinstance(bars, dict) else None, "alpaca")
            found += [_bar(row, symbol, instant(row.get("t")), self._feed) for row in rows]
        return _between(found, first, last)


def _next_token(page: Any) -> Mapping[str, str] | None:
    token = _field(page, "next_page_token")
    return {"page_token": token} if isinstance(token, str) and token else None


def _field(page: Any, name: str) -> Any:
    return page.get(name) if isinstance(page, dict) else None


def _rows(rows: Any, vendor: str) -> list[dict[str, Any]]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Nonsense(f"{vendor} sent bars that are no list of bars")
    return rows


def _bar(row: Mapping[str, Any], symbol: str, start: datetime | None, feed: str) -> Bar:
    if start is None:
        raise Nonsense(f"a bar of {symbol} has no time")
    return Bar(
        symbol=symbol,
        start=start,
        open=number(row.get("o")),
        high=number(row.get("h")),
        low=number(row.get("l")),
        close=number(row.get("c")),
        volume=number(row.get("v")),
        feed=feed,
    )


def _between(bars: list[Bar], first: datetime, last: datetime) -> list[Bar]:
    """Only what was asked for: an answer may be wider, and the minute under way is no bar yet."""
    unique = {bar.start: bar for bar in bars if first <= bar.start <= last}
    return [unique[start] for start in sorted(unique)]


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _text(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
