"""Alpaca's market data over HTTP: bars, trades and quotes of /v2/stocks, corporate actions, news."""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from marketagent.sandbox.alpaca_actions import corporate_actions
from marketagent.sandbox.alpaca_bars import adjustments, bar_page, frame
from marketagent.sandbox.alpaca_http import answered, guarded, is_basic
from marketagent.sandbox.alpaca_latest import latest_bar, latest_quote, latest_trade, snapshot
from marketagent.sandbox.alpaca_news import news_page
from marketagent.sandbox.alpaca_query import RECENT_SIP, Query, companies, feed_of, query
from marketagent.sandbox.alpaca_ticks import tick_page
from marketagent.sandbox.exchange import Account
from marketagent.sandbox.market import Asset
from marketagent.sandbox.refusal import Refusal
from marketagent.sandbox.world import SandboxWorld

Found = tuple[dict[str, list[dict[str, Any]]], str | None]
_LATEST: dict[str, tuple[str, Callable[[SandboxWorld, Asset, str], dict[str, Any] | None]]] = {
    "bars": ("bar", latest_bar),
    "trades": ("trade", latest_trade),
    "quotes": ("quote", latest_quote),
}


def routes(world: SandboxWorld) -> list[BaseRoute]:
    shelf = Shelf(world)
    table = [
        ("/v2/stocks/snapshots", shelf.snapshots),
        ("/v2/stocks/{kind}/latest", shelf.latest),
        ("/v2/stocks/{kind:series}", shelf.many),
        ("/v2/stocks/{symbol}/snapshot", shelf.one_snapshot),
        ("/v2/stocks/{symbol}/{kind}/latest", shelf.one_latest),
        ("/v2/stocks/{symbol}/{kind}", shelf.one),
        ("/v1/corporate-actions", shelf.actions),
        ("/v1beta1/news", shelf.news),
    ]
    table = [row for path, answer in table for row in _spelled(path, answer)]
    return [Route(path, guarded(world, "data", answer), methods=["GET"]) for path, answer in table]


def _spelled(path: str, answer: Any) -> list[tuple[str, Any]]:
    """A path of several symbols once for each kind of series, so that none takes a symbol's place."""
    if "{kind:series}" not in path:
        return [(path, answer)]
    return [(path.replace("{kind:series}", kind), answer) for kind in _LATEST]


class Shelf:
    """One method an endpoint."""

    def __init__(self, world: SandboxWorld) -> None:
        self.world = world

    async def many(self, request: Request, account: Account) -> Response:
        kind = request.url.path.rpartition("/")[2]
        found, token = self._page(kind, account.key, request.query_params, request.query_params.get("symbols", ""))
        return answered({kind: found, "next_page_token": token})

    async def one(self, request: Request, account: Account) -> Response:
        """The series of one symbol: null where there is none."""
        kind, symbol = request.path_params["kind"], request.path_params["symbol"]
        found, token = self._page(kind, account.key, request.query_params, symbol)
        return answered({kind: found.get(symbol), "symbol": symbol, "next_page_token": token})

    async def latest(self, request: Request, account: Account) -> Response:
        kind = request.path_params["kind"]
        found = self._latest(kind, account.key, request.query_params, request.query_params.get("symbols", ""))
        return answered({kind: {name: row for name, row in found.items() if row is not None}})

    async def one_latest(self, request: Request, account: Account) -> Response:
        kind, symbol = request.path_params["kind"], request.path_params["symbol"]
        found = self._latest(kind, account.key, request.query_params, symbol)
        if found.get(symbol) is None:
            raise Refusal(404, None, f"no {_LATEST[kind][0]} found for {symbol[:40]}")
        return answered({"symbol": symbol, _LATEST[kind][0]: found[symbol]})

    async def snapshots(self, request: Request, account: Account) -> Response:
        """null for a symbol that is unknown."""
        asked = request.query_params.get("symbols", "")
        feed = self._live_feed(account.key, request.query_params)
        known = companies(self.world, asked)
        names = sorted({name for name in asked.split(",") if name})
        return answered({name: snapshot(self.world, known[name], feed) if name in known else None for name in names})

    async def one_snapshot(self, request: Request, account: Account) -> Response:
        symbol = request.path_params["symbol"]
        feed = self._live_feed(account.key, request.query_params)
        known = companies(self.world, symbol)
        if symbol not in known:
            raise Refusal(404, None, f"no snapshot found for {symbol[:40]}")
        return answered({"symbol": symbol, **snapshot(self.world, known[symbol], feed)})

    async def actions(self, request: Request, account: Account) -> Response:
        return answered(corporate_actions(self.world, request.query_params))

    async def news(self, request: Request, account: Account) -> Response:
        return answered(news_page(self.world, request.query_params))

    def _page(self, kind: str, key_id: str, asked: Mapping[str, str], symbols: str) -> Found:
        if kind not in _LATEST:
            raise Refusal(404, None, "endpoint not found.")
        wanted: Query = query(self.world, key_id, asked, symbols)
        if kind != "bars":
            return tick_page(self.world, wanted, kind)
        if not asked.get("timeframe"):
            raise Refusal(400, None, "timeframe is required")
        adjusted = adjustments(asked.get("adjustment") or "raw")
        return bar_page(self.world, wanted, frame(asked["timeframe"]), adjusted)

    def _latest(
        self, kind: str, key_id: str, asked: Mapping[str, str], symbols: str
    ) -> dict[str, dict[str, Any] | None]:
        if kind not in _LATEST:
            raise Refusal(404, None, "endpoint not found.")
        feed = self._live_feed(key_id, asked)
        found = _LATEST[kind][1]
        return {name: found(self.world, asset, feed) for name, asset in companies(self.world, symbols).items()}

    def _live_feed(self, key_id: str, asked: Mapping[str, str]) -> str:
        feed = feed_of(asked, key_id)
        if feed == "sip" and is_basic(key_id):
            raise Refusal(403, None, RECENT_SIP)
        return feed
