"""How a wire source asks its vendor: the client with its limits, the cache for what changes slowly, tasks for many symbols.

Bars are not cached: they go into the store, which is asked first. What is cached are answers that every run would ask
again: splits and dividends of a span, which many symbols and commands share.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from marketagent.cache import through
from marketagent.delivery import Delivery, Want
from marketagent.errors import MarketAgentError
from marketagent.show import say
from marketagent.web.meaning import Read
from marketagent.web.paging import Link, Params
from marketagent.web.strict import parsed
from marketagent.web.vendor import Vendor
from marketagent.wire import Desk, vendor_workers

if TYPE_CHECKING:
    from marketagent.web.client import Client

K = TypeVar("K")
V = TypeVar("V")


class Asker:
    """A vendor's client and the cache beside it."""

    def __init__(self, client: "Client", desk: Desk) -> None:
        self._client = client
        self._cache = desk.cache
        self._refresh = desk.refresh
        self._fresh: set[str] = set()  # what was asked anew in this run
        self.workers = vendor_workers(client.vendor, desk.concurrency)

    def tell_time(self, calls: int) -> None:
        """Say how long so many calls will take, if the vendor's limit makes it minutes."""
        for limit in self._client.vendor.limits:
            minutes = calls / limit.calls * limit.window_s / 60.0
            if calls > limit.calls:
                say(
                    f"{self._client.vendor.name} takes {limit.calls} calls in {limit.window_s:g} s: {calls} of them need"
                    f" {max(minutes, 1.0):.0f} min or so; what is there is stored as it comes"
                )

    async def get(self, path: str, params: Params | None = None, read: Read = parsed) -> Any:
        return await self._client.get_json(path, params, read=read)

    def pages(self, path: str, params: Params, next: Callable[[Any], Link], read: Read = parsed) -> AsyncIterator[Any]:
        return self._client.pages(path, params, next=next, read=read)

    async def remembered_pages(
        self,
        path: str,
        params: Params,
        next: Callable[[Any], Link],
        items: Callable[[Any], list[Any]],
        ttl_s: float,
    ) -> list[Any]:
        """The items of all pages, from the cache if they are there; of all who ask at once, in any process, one asks."""

        async def fetch() -> list[Any]:
            found: dict[str, Any] = {}
            async for page in self.pages(path, params, next):
                for item in items(page):
                    found[json.dumps(item, sort_keys=True)] = item  # pages may overlap; an item is one by all it says
            return list(found.values())

        query = urlencode([(name, value) for name, value in params.items() if value is not None])
        # The origin is part of the key: what a stand-in said is not what the vendor says.
        key = f"{self._client.vendor.name} {self._client.vendor.base_url} {path}?{query}"
        if self._refresh and key not in self._fresh:
            self._cache.delete(key)
            self._fresh.add(key)
        answer = await through(self._cache, key, fetch, ttl_s)
        return answer if isinstance(answer, list) else await fetch()


@asynccontextmanager
async def asking(desk: Desk, vendor: Vendor) -> AsyncIterator[Asker]:
    """An Asker for `vendor`; its connections are closed at the end."""
    from marketagent.web.client import Client  # 0.2 s of aiohttp, and who lacks nothing asks nobody

    client = Client(
        vendor, desk.settings.home, world=desk.world, concurrency=desk.concurrency, max_wait_s=desk.max_wait_s
    )
    async with client:
        yield Asker(client, desk)


async def together(calls: Mapping[K, Callable[[], Awaitable[V]]]) -> dict[K, V]:
    """What each of `calls` returned, all made at once; raises the first of their errors when all are over."""
    from marketagent.web.client import gather

    results, failures = await gather(calls)
    for error in failures.values():
        raise error
    return results


async def each(
    desk: Desk, asker: Asker, wants: Sequence[Want], serve: Callable[[Want], Awaitable[Delivery]], *, calls: int = 1
) -> None:
    """`serve` every want, as many at once as the vendor's limit has use for; the failure of one leaves the others.

    `calls` is how many a want takes, at least.
    """
    import anyio

    waiting = list(reversed(wants))
    asker.tell_time(len(wants) * calls)

    async def work() -> None:
        while waiting:
            want = waiting.pop()
            try:
                delivery = await serve(want)
            except MarketAgentError as error:
                desk.fail(want.symbol, error)  # named in the end; nothing of this symbol is stored
            else:
                await desk.deliver(delivery)

    async with anyio.create_task_group() as tasks:
        # No more calls at once than the limit lets through in a window: the others would wait for two.
        for _ in range(max(1, min(asker.workers // calls, len(wants)))):
            tasks.start_soon(work)
