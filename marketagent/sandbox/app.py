"""The sandbox as one ASGI application: every vendor's routes on one port, and a few of its own under ``/_sandbox``."""

import json
import pkgutil
from importlib import import_module

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from marketagent import sandbox
from marketagent.sandbox.wire import Wire
from marketagent.sandbox.world import SandboxWorld


def build(world: SandboxWorld) -> ASGIApp:
    """Everything that is asked of `world`; a vendor joins with a file that has ``routes(world)``."""
    found: list[BaseRoute] = _own(world)
    for name in sorted(module.name for module in pkgutil.iter_modules(sandbox.__path__)):
        if name in _INNER:
            continue
        module = import_module(f"{sandbox.__name__}.{name}")
        found += module.routes(world) if hasattr(module, "routes") else []
    return Wire(Starlette(routes=found, exception_handlers={HTTPException: _unknown}), world)


_INNER = {"app", "run"}  # this file, and the server around it


def _own(world: SandboxWorld) -> list[BaseRoute]:
    async def log(request: Request) -> Response:
        after = request.query_params.get("after", "0")
        return PlainTextResponse(
            world.log.lines(int(after) if after.isdecimal() else 0), media_type="application/x-ndjson"
        )

    async def clock(request: Request) -> Response:
        session = world.session(world.now())
        body = {
            "now": world.now().isoformat(),
            "clock": world.clock.text,
            "speed": world.clock.speed,
            "seed": world.seed,
            "is_open": session is not None,
        }
        return Response(json.dumps(body) + "\n", media_type="application/json")

    return [Route("/_sandbox/log", log), Route("/_sandbox/clock", clock)]


async def _unknown(request: Request, error: Exception) -> Response:
    """A path nobody serves: plain text, as the vendors' own gateways answer."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = "404 page not found" if status == 404 else str(getattr(error, "detail", "error"))
    return PlainTextResponse(f"{text}\n", status_code=status)
