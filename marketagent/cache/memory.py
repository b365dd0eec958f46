"""The cache of one process: for tests, and for who wants nothing on the disk."""

from collections.abc import Callable

from marketagent.cache.base import Cache, Release

MOST = 10_000


class MemoryCache(Cache):
    """Texts in a dict, the oldest dropped first. Texts, so that nobody changes what another one got."""

    def __init__(self, now: Callable[[], float], most: int = MOST) -> None:
        super().__init__(now)
        self._most = most
        self._texts: dict[str, tuple[str, float]] = {}
        self._flying: set[str] = set()

    def sweep(self) -> int:
        over = [key for key, (_, until) in self._texts.items() if until <= self._now()]
        for key in over:
            del self._texts[key]
        return len(over)

    def close(self) -> None:
        self._texts.clear()

    def _read(self, key: str) -> str | None:
        found = self._texts.get(key)
        return found[0] if found else None

    def _write(self, key: str, text: str, ttl_s: float) -> None:
        self._texts.pop(key, None)
        self._texts[key] = (text, self._now() + ttl_s)
        while len(self._texts) > self._most:
            del self._texts[next(iter(self._texts))]

    def _remove(self, key: str) -> None:
        self._texts.pop(key, None)

    def _try_lock(self, key: str) -> Release | None:
        if key in self._flying:
            return None
        self._flying.add(key)
        return lambda: self._flying.discard(key)
