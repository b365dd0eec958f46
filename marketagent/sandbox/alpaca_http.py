"""What every HTTP answer of the sandbox's Alpaca has in common: keys, the limit of calls, refusals, the same JSON.

A pair of keys is an account. An id that starts with PKSANDBOX opens one with the secret `sandbox-secret`; one that
starts with PKSANDBOXB has the basic plan for data, the others the paid one. Limits count in system time.
"""

import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from marketagent.sandbox.environment import SECRET
from marketagent.sandbox.exchange import Account
from marketagent.sandbox.refusal import Refusal
from marketagent.sandbox.world import SandboxWorld

CALLS_PER_MINUTE = {"trading": 200, "data": 10_000, "basic data": 200}
EARLIEST, LATEST = 1900, 2200  # years that can be asked for
_ANY, _BASIC = "PKSANDBOX", "PKSANDBOXB"

Answer = Callable[[Request, Account], Awaitable[Response]]


class Alpaca:
    """All accounts of one sandbox, opened when their keys are first seen."""

    def __init__(self, world: SandboxWorld) -> None:
        self.world = world
        self.calls_per_minute = dict(CALLS_PER_MINUTE)
        self._accounts: dict[str, Account] = {}
        self._calls: dict[tuple[str, str], tuple[int, int]] = {}
        self._answers = 0

    def account(self, key_id: str, secret: str) -> Account | None:
        """The account of a pair of keys, caught up to now; None for a pair that is none."""
        if not key_id.startswith(_ANY) or secret != SECRET:
            return None
        now = self.world.now()
        if key_id not in self._accounts:
            self._accounts[key_id] = Account(self.world.market, self.world.random, key_id, now)
        account = self._accounts[key_id]
        account.catch_up(now)
        return account

    def charge(self, key_id: str, service: str) -> tuple[dict[str, str], bool]:
        """Count one call: the headers that say so, and whether it was one too many."""
        minute, now = 60, int(self.world.clock.seconds())
        window = now // minute
        seen, used = self._calls.get((key_id, service), (window, 0))
        used = used + 1 if seen == window else 1
        self._calls[key_id, service] = (window, used)
        plan = f"basic {service}" if is_basic(key_id) else service
        limit = self.calls_per_minute.get(plan, self.calls_per_minute[service])
        headers = {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(max(limit - used, 0)),
            "X-RateLimit-Reset": str((window + 1) * minute),
        }
        return headers, used > limit

    def number(self) -> str:
        """A request's id."""
        self._answers += 1
        return f"{self.world.random('alpaca-request', self._answers).getrandbits(128):032x}"


def guarded(world: SandboxWorld, service: str, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    """`answer` behind the keys and the limit of `service`; its Refusal becomes the vendor's error body."""

    async def endpoint(request: Request) -> Response:
        alpaca = world.part(Alpaca)
        key_id, secret = _keys(request)
        account = alpaca.account(key_id, secret)
        headers: dict[str, str] = {}
        if account is None:
            response = refused(Refusal(401, 40110000, "request is not authorized"))
        else:
            headers, is_over = alpaca.charge(key_id, service)
            if is_over:
                response = refused(Refusal(429, 42910000, "rate limit exceeded."))
            else:
                response = await _answered(answer, request, account)
        response.headers.update({**headers, "X-Request-ID": alpaca.number()})
        return response

    return endpoint


def answered(content: object, status: int = 200) -> Response:
    """`content` as Alpaca's JSON: no spaces, as written."""
    body = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return Response(body, status, media_type="application/json; charset=UTF-8")


def refused(refusal: Refusal) -> Response:
    return answered(refusal.body, refusal.status)


def is_basic(key_id: str) -> bool:
    """Whether the data plan of `key_id` is the one without recent SIP data."""
    return key_id.startswith(_BASIC)


def stamp(at: datetime) -> str:
    """RFC 3339 with nanoseconds; a clock of microseconds makes the last three up.

    >>> stamp(datetime(2026, 11, 20, 15, 0, 0, 123456, UTC))
    '2026-11-20T15:00:00.123456829Z'
    """
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}{(at.microsecond * 7 + 637) % 1000:03d}Z"


def moment(text: str, name: str) -> datetime:
    """A date or a time of a query; a date is its midnight in UTC. Raises Refusal, also for centuries far from here."""
    try:
        found = datetime.fromisoformat(text.replace(" ", "+"))  # a plus sign that nobody escaped
    except ValueError:
        found = None
    if found is None or not EARLIEST <= found.year <= LATEST:
        raise Refusal(422, 40010001, f"invalid {name}: {text[:40]}")
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def whole(text: str | None, name: str, default: int, most: int) -> int:
    """A count of a query, from 1 to `most`. Raises Refusal."""
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise Refusal(422, 40010001, f"invalid {name}: must be between 1 and {most}")
    return int(text)


async def _answered(answer: Answer, request: Request, account: Account) -> Response:
    try:
        return await answer(request, account)
    except Refusal as no:
        return refused(no)


def _keys(request: Request) -> tuple[str, str]:
    """The pair of keys in the headers; an empty one where there is none."""
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            key_id, _, secret = base64.b64decode(text, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""  # no pair of keys, so nobody's
        return key_id, secret
    return request.headers.get("APCA-API-KEY-ID", ""), request.headers.get("APCA-API-SECRET-KEY", "")
