"""Polygon's REST service: which path is answered by what. Facts: the vendor's own paths, fields and refusals."""

from starlette.routing import BaseRoute, Route

from marketagent.sandbox import polygon_bars as bars
from marketagent.sandbox import polygon_reference as reference
from marketagent.sandbox import polygon_ticks as ticks
from marketagent.sandbox.polygon_plan import Gate
from marketagent.sandbox.world import SandboxWorld

PATHS = {
    "/v2/aggs/ticker/{ticker}/range/{multiplier}/{timespan}/{from}/{to}": bars.aggregates,
    "/v2/aggs/ticker/{ticker}/prev": bars.previous,
    "/v2/aggs/grouped/locale/us/market/stocks/{date}": bars.grouped,
    "/v1/open-close/{ticker}/{date}": bars.open_close,
    "/v1/marketstatus/now": reference.status,
    "/v1/marketstatus/upcoming": reference.upcoming,
    "/v2/reference/news": ticks.news,
    "/v2/last/trade/{ticker}": ticks.last_trade,
    "/v2/last/nbbo/{ticker}": ticks.last_quote,
    "/v2/snapshot/locale/us/markets/stocks/tickers": ticks.snapshots,
    "/v2/snapshot/locale/us/markets/stocks/tickers/{ticker}": ticks.snapshot,
    "/v3/reference/splits": reference.splits,
    "/v3/reference/dividends": reference.dividends,
    "/v3/reference/exchanges": reference.exchanges,
    "/v3/reference/tickers": reference.tickers,
    "/v3/reference/tickers/types": reference.types,
    "/v3/reference/tickers/{ticker}": reference.details,
    "/v3/trades/{ticker}": ticks.trades,
    "/v3/quotes/{ticker}": ticks.quotes,
    "/vX/reference/tickers/{id}/events": reference.events,
    "/stocks/v1/splits": reference.new_splits,
    "/stocks/v1/dividends": reference.new_dividends,
}


def routes(world: SandboxWorld) -> list[BaseRoute]:
    gate = Gate(world)
    return [Route(path, gate.endpoint(handler)) for path, handler in PATHS.items()]
