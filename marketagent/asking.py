"""How a wire source asks its vendor: the client with its limits, the cache for what changes slowly, tasks for many symbols.

Bars are not cached: they go into the store, which is asked first. What is cached are answers that every run would ask
again: splits and dividends of a span, which many symbols and commands share.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlencode

import anyio

from marketagent.bars import Delivery, Want
from marketagent.cache import through
from marketagent.errors import MarketAgentError
from marketagent.web.client import Client, gather
from marketagent.web.paging import Link, Params
from marketagent.web.vendor import Vendor
from marketagent.wire import Desk, vendor_workers

K = TypeVar("K")
V = TypeVar("V")


class Asker:
    """A vendor's client and the cache beside it."""

    def __init__(self, client: Client, desk: Desk) -> None:
        self._client = client
        self._cache = desk.cache
        self.workers = vendor_workers(client.vendor, desk.concurrency)

    async def get(self, path: str, params: Params | None = None) -> Any:
        return await self._client.get_json(path, params)

    def pages(self, path: str, params: Params, next: Callable[[Any], Link]) -> AsyncIterator[Any]:
        return self._client.pages(path, params, next=next)

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
        answer = await through(self._cache, key, fetch, ttl_s)
        return answer if isinstance(answer, list) else await fetch()


@asynccontextmanager
async def asking(desk: Desk, vendor: Vendor) -> AsyncIterator[Asker]:
    """An Asker for `vendor`; its connections are closed at the end."""
    client = Client(
        vendor, desk.settings.home, world=desk.world, concurrency=desk.concurrency, max_wait_s=desk.max_wait_s
    )
    async with client:
        yield Asker(client, desk)


async def together(calls: Mapping[K, Callable[[], Awaitable[V]]]) -> dict[K, V]:
    """What each of `calls` returned, all made at once; raises the first of their errors when all are over."""
    results, failures = await gather(calls)
    for error in failures.values():
        raise error
    return results


async def each(desk: Desk, asker: Asker, wants: Sequence[Want], serve: Callable[[Want], Awaitable[Delivery]]) -> None:
    """`serve` every want, as many at once as the vendor's limit has use for; the failure of one leaves the others."""
    waiting = list(reversed(wants))

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
        for _ in range(min(asker.workers, len(wants))):
            tasks.start_soon(work)
