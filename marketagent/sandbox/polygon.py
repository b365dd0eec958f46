"""Polygon's REST service: which path is answered by what. Facts: the vendor's own paths, fields and refusals."""

from starlette.routing import BaseRoute, Route

from marketagent.sandbox import polygon_bars as bars
from marketagent.sandbox.polygon_plan import Gate
from marketagent.sandbox.world import SandboxWorld

PATHS = {
    "/v2/aggs/ticker/{ticker}/range/{multiplier}/{timespan}/{from}/{to}": bars.aggregates,
    "/v2/aggs/ticker/{ticker}/prev": bars.previous,
    "/v2/aggs/grouped/locale/us/market/stocks/{date}": bars.grouped,
    "/v1/open-close/{ticker}/{date}": bars.open_close,
}


def routes(world: SandboxWorld) -> list[BaseRoute]:
    gate = Gate(world)
    return [Route(path, gate.endpoint(handler)) for path, handler in PATHS.items()]
