"""What was answered before: a memory that may be lost at any moment, chosen by URL.

    disk:          in the home, shared by all processes (the default)
    disk:/a/path   elsewhere on this machine
    memory:        of this process only

Nothing above knows which one it is. Values are JSON. That there is nothing is worth remembering, too: store None,
and `get` gives an entry whose value is None, which is not the same as no entry.
"""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from marketagent import show
from marketagent.cache.base import Cache, Entry
from marketagent.errors import BadConfig, did_you_mean

__all__ = ["Cache", "Entry", "open_cache", "through"]

FOLDER = "cache"
KINDS = ("disk", "memory")


def open_cache(
    url: str, home: Path, *, now: Callable[[], float] = time.time, tell: Callable[[str], None] = show.say
) -> Cache:
    """The cache `url` names; close it. `tell` hears, once, of a cache that cannot be used: work goes on without.

    Raises BadConfig for a URL that names none, NotPermitted for a folder that is not ours alone.
    """
    kind, colon, rest = url.partition(":")
    if kind == "memory" and colon and not rest:
        from marketagent.cache.memory import MemoryCache

        return MemoryCache(now)
    if kind == "disk" and colon and (not rest or Path(rest).is_absolute()):
        from marketagent.cache.disk import DiskCache  # diskcache: 30 ms

        return DiskCache(Path(rest) if rest else home / FOLDER, now, tell)
    raise BadConfig(f"unknown cache {show.clean(url)!r}{did_you_mean(kind, KINDS)}; use disk:, disk:/a/path or memory:")


async def through(
    cache: Cache, key: str, fetch: Callable[[], Awaitable[Any]], ttl_s: float | Callable[[Any], float]
) -> Any:
    """The value of `key`, from the cache or else from `fetch`; of all who ask at once, in any process, one fetches.

    `ttl_s` may depend on the value: that there is nothing is true for a shorter time.
    """
    if (entry := cache.get(key)) is not None:
        return entry.value
    async with cache.single_flight(key):
        if (entry := cache.get(key)) is not None:  # somebody else fetched it while we waited
            return entry.value
        value = await fetch()
        cache.set(key, value, ttl_s(value) if callable(ttl_s) else ttl_s)
        return value
