"""What every REST answer of Polygon's stand-in has in common: who asks by which plan, what is refused, how it is paged.

The key is the plan: ``sandbox-advanced`` has everything, ``sandbox-basic`` what costs nothing (5 calls a minute of the
system's clock, two years, no streams), ``sandbox-starter`` and ``sandbox-developer`` what lies between: they are called
delayed, though they are not. No other key is known.
"""

import base64
import binascii
import hashlib
import json
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import Response

from marketagent.sandbox.words import TOO_MANY
from marketagent.sandbox.world import NEW_YORK, SandboxWorld

WINDOW_S = 60.0
NOT_ENTITLED = "You are not entitled to this data. Please upgrade your plan at https://polygon.io/pricing"
NO_TIMEFRAME = "Your plan doesn't include this data timeframe. Please upgrade your plan at https://polygon.io/pricing"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a key may ask; `calls_per_minute` and `years` 0: as much as it likes. `topics` are the stream's prefixes."""

    calls_per_minute: int = 0
    years: int = 0
    today: bool = True
    ticks: tuple[str, ...] = ("trades", "quotes")
    snapshots: bool = True
    topics: tuple[str, ...] = ("AM", "A", "T", "Q")
    is_delayed: bool = False


PLANS = {
    "sandbox-advanced": Plan(),
    "sandbox": Plan(),
    "sandbox-developer": Plan(ticks=("trades",), topics=("AM", "A", "T"), is_delayed=True),
    "sandbox-starter": Plan(ticks=(), topics=("AM", "A"), is_delayed=True),
    "sandbox-basic": Plan(
        calls_per_minute=5, years=2, today=False, ticks=(), snapshots=False, topics=(), is_delayed=True
    ),
}


class Refusal(Exception):
    """An answer that is none: an HTTP status and the body without its request id."""

    def __init__(self, code: int, /, **body: Any) -> None:
        super().__init__(code)
        self.code, self.body = code, body


def not_found(text: str) -> Refusal:
    return Refusal(404, status="NOT_FOUND", message=text)


def bad(text: str) -> Refusal:
    return Refusal(400, status="ERROR", error=text)


def forbidden(text: str) -> Refusal:
    return Refusal(403, status="NOT_AUTHORIZED", message=text)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One admitted request. `query` holds its parameters, those of its cursor included."""

    world: SandboxWorld
    plan: Plan
    path: str
    parts: dict[str, str]
    query: dict[str, str]
    request_id: str
    status: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", "DELAYED" if self.plan.is_delayed else "OK")

    @property
    def today(self) -> date:
        return self.world.now().astimezone(NEW_YORK).date()

    def number(self, name: str, default: int, most: int) -> int:
        """A parameter from 1 to `most`; more is cut, as the real one does."""
        text = self.query.get(name, "")
        if not text:
            return default
        if not text.isdecimal() or int(text) < 1:
            raise bad(f"Could not parse '{name}': {text!r} is not a positive number.")
        return min(int(text), most)

    def flag(self, name: str, *, default: bool) -> bool:
        text = self.query.get(name, "").lower()
        if text in ("", "true", "false"):
            return default if not text else text == "true"
        raise bad(f"Could not parse '{name}': {text!r} is not true or false.")

    def choice(self, name: str, known: tuple[str, ...]) -> str:
        """A parameter that is one of `known`, the first of them without it."""
        text = self.query.get(name, "") or known[0]
        if text not in known:
            raise bad(f"Could not parse '{name}': {text!r} is none of {', '.join(known)}.")
        return text

    def span(self, name: str) -> tuple[date, date]:
        """The dates that `name` and `name`.gt, .gte, .lt, .lte leave, inclusive."""
        first, last = date.min, date.max
        for suffix, step in (("", 0), (".gte", 0), (".gt", 1)):
            if text := self.query.get(f"{name}{suffix}"):
                first = max(first, day(text, name) + timedelta(days=step))
        for suffix, step in (("", 0), (".lte", 0), (".lt", 1)):
            if text := self.query.get(f"{name}{suffix}"):
                last = min(last, day(text, name) - timedelta(days=step))
        return first, last

    def next_url(self, path: str = "", **changes: str) -> str:
        """The page behind this one: the query in a cursor, and the host that the real one would name."""
        known = {name: value for name, value in self.query.items() if name.lower() != "apikey"}
        packed = base64.urlsafe_b64encode(urlencode(known | changes).encode()).decode().rstrip("=")
        return f"{self.world.polygon_origin or self.world.origin}{path or self.path}?cursor={packed}"


Handler = Callable[[Asked], "dict[str, Any] | list[Any] | bytes"]
Endpoint = Callable[[Request], Awaitable[Response]]


class Gate:
    """Admits requests to one sandbox: knows the keys, counts calls and ids."""

    def __init__(self, world: SandboxWorld) -> None:
        self.world = world
        self._calls: dict[str, deque[float]] = {}
        self._ids: Counter[str] = Counter()

    def endpoint(self, handler: Handler) -> Endpoint:
        """`handler` behind the gate; it gives a body without its request id, or one as bytes."""

        async def answer(request: Request) -> Response:
            request_id = self._id(request)
            try:
                body = handler(self._admitted(request, request_id))
            except Refusal as refusal:
                return _json({**refusal.body, "request_id": request_id}, refusal.code)
            return _json(body)

        return answer

    def _admitted(self, request: Request, request_id: str) -> Asked:
        key = _key(request)
        if not key:
            raise Refusal(401, status="ERROR", error="API Key was not provided")
        if key not in PLANS:
            raise Refusal(401, status="ERROR", error="Unknown API Key")
        self._count(key, PLANS[key].calls_per_minute)
        query = dict(request.query_params)
        return Asked(
            world=self.world,
            plan=PLANS[key],
            path=request.url.path,
            parts={name: str(value) for name, value in request.path_params.items()},
            query=query | _opened(query.pop("cursor", "")),
            request_id=request_id,
        )

    def _count(self, key: str, most: int) -> None:
        now = self.world.clock.seconds()
        calls = self._calls.setdefault(key, deque())
        while calls and calls[0] <= now - WINDOW_S:
            calls.popleft()
        if most and len(calls) >= most:
            raise Refusal(429, status="ERROR", error=TOO_MANY)
        calls.append(now)

    def _id(self, request: Request) -> str:
        """32 hex digits, from the seed, the request and how often it was made: the same ones in every run."""
        asked = f"{request.url.path}?{request.url.query}"
        self._ids[asked] += 1
        return hashlib.blake2b(f"{self.world.seed}|{asked}|{self._ids[asked]}".encode(), digest_size=16).hexdigest()


def day(text: str, name: str) -> date:
    """``YYYY-MM-DD`` (or an instant's day) as a date."""
    try:
        return date.fromisoformat(text[:10])
    except ValueError as error:
        raise bad(f"Could not parse '{name}': {text!r} is not in the format YYYY-MM-DD.") from error


def moment(text: str, name: str) -> date | datetime:
    """A date as it is, or Unix milliseconds as an instant."""
    if text.lstrip("-").isdecimal() and len(text) > 8:
        return datetime.fromtimestamp(int(text) / 1000, UTC)
    return day(text, name)


def _key(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else request.query_params.get("apiKey", "")


def _opened(cursor: str) -> dict[str, str]:
    if not cursor:
        return {}
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise bad("Invalid cursor.") from error
    return dict(parse_qsl(text, keep_blank_values=True))


def _json(body: dict[str, Any] | list[Any] | bytes, status: int = 200) -> Response:
    data = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    return Response(data, status_code=status, media_type="application/json")
