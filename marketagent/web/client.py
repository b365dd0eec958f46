"""The web client: asks a vendor within its limits, tries again what may pass, and tells every failure apart.

A call goes: breaker (is the vendor down?), a place among those in flight, limiter (may we?), the exchange, and on a
failure that may pass, the same again after an exponentially growing, fully random wait. The breaker hears of a call
once, when its tries are over; a call that probes an open breaker has one try.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import aiohttp
import anyio
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from marketagent import show
from marketagent.breaker import Breaker, BreakerOpen, Outcome, Pass, Rules
from marketagent.errors import MarketAgentError
from marketagent.ledger import Ledger
from marketagent.limits import Limiter
from marketagent.web.exchange import exchange, http_session, quiet_logs
from marketagent.web.failures import AskedToWait, Failure, Nonsense
from marketagent.web.meaning import Answer, Read, content, instant
from marketagent.web.paging import Link, Params, following, target
from marketagent.web.strict import parsed
from marketagent.web.vendor import Vendor
from marketagent.world import World

MAX_SKEW_S = 5.0
_BACKOFF_S = 1.0  # the first wait is anything up to it, the next up to twice that, ...
_LONGEST_BACKOFF_S = 20.0
_CLOSING_S = 5.0

K = TypeVar("K")
V = TypeVar("V")


@dataclass
class _Call:
    url: str
    read: Read
    leave: Pass | None = None
    tries: int = 0
    waited_s: float = 0.0


class Client:
    """``async with Client(vendor, home) as client:``; any number of tasks may use it at once.

    At most `concurrency` requests are in flight. No call waits longer than `max_wait_s` in all for the limiter,
    a pause or a next try. `tell` hears of a clock that is wrong, once.
    """

    def __init__(
        self,
        vendor: Vendor,
        home: Path,
        *,
        world: World | None = None,
        concurrency: int = 100,
        max_wait_s: float = 120.0,
        rules: Rules | None = None,
        tell: Callable[[str], None] = show.say,
    ) -> None:
        self.vendor = vendor
        self.skew_s: float | None = None
        self._world = world or World()
        self._max_wait_s = max_wait_s
        self._tell = tell
        self._told = False
        self._ledger = Ledger(home, self._world.now)
        self._limiter = Limiter(self._ledger, vendor.name, vendor.limits, self._world, max_wait_s=max_wait_s)
        rules = rules or Rules(lease_s=2 * vendor.deadline_s)
        # By address: that a stand-in is down says nothing of the vendor, nor a mistyped address of the right one.
        breaker = vendor.breaker or vendor.name
        self._breaker = Breaker(self._ledger, f"{breaker} at {vendor.origin[1]}:{vendor.origin[2]}", rules)
        self._places = anyio.CapacityLimiter(concurrency)
        self._concurrency = concurrency
        self._http: aiohttp.ClientSession | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Client":
        self._stack.callback(self._ledger.close)
        self._stack.enter_context(quiet_logs(self.vendor))
        self._http = http_session(self.vendor, self._concurrency)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._stack:
            with anyio.move_on_after(_CLOSING_S, shield=True):  # sockets are closed when cancelled, too
                if self._http is not None:
                    await self._http.close()

    async def get_json(self, path: str, params: Params | None = None, *, read: Read = parsed) -> Any:
        """The object or list that `path` answers with. Raises a Failure, RateLimited or BreakerOpen.

        `read` makes it of the bytes, and raises NotJson or NotStrict: for who knows what comes, and how much of it.
        """
        return await self._asked(target(self.vendor, path, params), read)

    async def pages(
        self,
        path: str,
        params: Params | None = None,
        *,
        next: Callable[[Any], Link],
        most: int = 1000,
        read: Read = parsed,
    ) -> AsyncIterator[Any]:
        """Each page from `path` on. `next` finds in a page the link to the next one, or parameters to change, or None.

        Raises Nonsense for a link to somebody else, a page that was there before, and more than `most` pages.
        """
        params = dict(params or {})
        place: str | None = target(self.vendor, path, params)
        seen: set[str] = set()
        while place is not None:
            if place in seen:
                raise Nonsense(f"{self.vendor.name} goes in circles: page {len(seen)} leads back to an earlier one")
            if len(seen) >= most:
                raise Nonsense(f"{self.vendor.name} has more than {most} pages; ask for a shorter range")
            seen.add(place)
            page = await self._asked(place, read)
            yield page
            link = next(page)
            if isinstance(link, Mapping):
                params |= link
                place = target(self.vendor, path, params)
            else:
                place = following(self.vendor, link) if link else None

    async def _asked(self, place: str, read: Read) -> Any:
        scheme, host, port = self.vendor.origin
        host = f"[{host}]" if ":" in host else host
        call = _Call(f"{scheme}://{host}:{port}{place}", read)
        outcome, wait_s = Outcome.UNKNOWN, 0.0  # what a cancelled call says
        try:
            answer: Any = await self._answered(call)
            outcome = Outcome.WELL
        except Failure as failure:
            outcome, wait_s = failure.outcome, failure.wait_s
            raise
        finally:
            if call.leave is not None:
                self._breaker.done(call.leave, outcome, retry_after_s=wait_s)
        return answer

    async def _answered(self, call: _Call) -> Any:
        """The answer of the first try, as nearly always, or of a retry for which its failure counts as the first."""
        try:
            return await self._try(call)
        except Failure as failure:
            failures = [failure]

        async def again() -> Any:
            if failures:
                raise failures.pop()
            return await self._try(call)

        return await self._retrying(call)(again)

    def _retrying(self, call: _Call) -> AsyncRetrying:
        return AsyncRetrying(
            sleep=self._world.sleep,
            wait=self._backoff,
            retry=retry_if_exception(lambda error: isinstance(error, Failure) and call.tries < error.tries),
            stop=partial(self._is_enough, call),
            reraise=True,
        )

    def _backoff(self, state: RetryCallState) -> float:
        """Full jitter (Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015), or what was asked for."""
        failure = state.outcome.exception() if state.outcome else None
        asked = failure.wait_s if isinstance(failure, Failure) else 0.0
        most = min(_BACKOFF_S * 2.0 ** (state.attempt_number - 1), _LONGEST_BACKOFF_S)
        return asked + self._world.jitter(most)

    def _is_enough(self, call: _Call, state: RetryCallState) -> bool:
        call.waited_s += state.upcoming_sleep
        if (call.leave and call.leave.probe) or call.tries >= self.vendor.tries or call.waited_s > self._max_wait_s:
            return True
        try:
            self._breaker.check()
        except BreakerOpen:
            return True  # others found it down meanwhile; what this call found is the better thing to say
        return False

    async def _try(self, call: _Call) -> Any:
        call.tries += 1
        answer = await self._admitted(call)
        if isinstance(answer, Failure):
            raise answer
        now = self._world.now()
        self._compare_clocks(answer, now)
        try:
            return content(self.vendor, answer, now, call.read)
        except AskedToWait as failure:
            self._limiter.pause(failure.wait_s)
            raise

    async def _admitted(self, call: _Call) -> Answer | Failure:
        """The exchange, as soon as there is a place for it and the limit has room.

        The place comes first: a grant is for now, and who then still waited for a place would send it in somebody
        else's window. Who waits for the limit gives the place back.
        """
        while True:
            if self._places.available_tokens < 1:
                self._breaker.check()  # before it waits in vain
            async with self._places:
                wait_s = self._limiter.take()
                if wait_s <= 0:
                    call.leave = call.leave or self._breaker.enter()
                    if self._http is None:
                        raise RuntimeError("a Client is used inside its `async with`")
                    return await exchange(self._http, self.vendor, call.url)
            call.waited_s = await self._limiter.sit_out(wait_s, call.waited_s)

    def _compare_clocks(self, answer: Answer, now: float) -> None:
        """Remember by how much the vendor's clock is ahead of ours, and say so if it matters."""
        date = instant(answer.headers.get("date", ""))
        if date is None or "age" in answer.headers:  # a cache answered: its date is the past
            return
        ahead = date + 0.5 - now  # the header has whole seconds, cut off
        self.skew_s = 0.0 if abs(ahead) <= 1.0 else ahead
        if abs(self.skew_s) > MAX_SKEW_S and not self._told:
            self._told = True
            self._tell(
                f"the clock here and that of {self.vendor.name} differ by {abs(ahead):.0f} s; set the system's clock"
            )


async def gather(
    calls: Mapping[K, Callable[[], Awaitable[V]]],
) -> tuple[dict[K, V], dict[K, MarketAgentError]]:
    """What each call returned, and what each of the others failed with, both in the order of `calls`.

    Only errors a user can act on are gathered: a mistake of ours stops everything.
    """
    results: dict[K, V] = {}
    failures: dict[K, MarketAgentError] = {}

    async def run(key: K, call: Callable[[], Awaitable[V]]) -> None:
        try:
            results[key] = await call()
        except MarketAgentError as error:  # told by who asked for `key`
            failures[key] = error

    async with anyio.create_task_group() as tasks:
        for key, call in calls.items():
            tasks.start_soon(run, key, call)
    return ({key: results[key] for key in calls if key in results}, {k: failures[k] for k in calls if k in failures})
