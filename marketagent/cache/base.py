"""The interface of every cache, and the part that all share: keys, JSON, ages, one flight a key.

A member stores texts under names and tries locks; it needs no notion of what the texts mean.
"""

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from marketagent.errors import Busy

FLIGHT_TIMEOUT_S = 120.0
_LOOK_S = (0.005, 0.1)  # how long to wait between two looks at a lock: the first time, and at most

Release = Callable[[], None]


@dataclass(frozen=True)
class Entry:
    """What was stored, and when (Unix seconds)."""

    value: Any
    at: float


class Cache(ABC):
    """Texts by key, each with its time. Use it in one thread; `close` it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now

    def get(self, key: str) -> Entry | None:
        """What is known under `key`; None if nothing is, or not any more. Never an error: a cache may forget."""
        text = self._read(_checked(key))
        if text is None:
            return None
        entry = _entry(text, self._now())
        if entry is None:
            self._remove(key)
        return entry

    def set(self, key: str, value: Any, ttl_s: float) -> None:
        """Keep `value` for `ttl_s` seconds, if it can be kept. Raises ValueError or TypeError if it is no JSON."""
        if not (math.isfinite(ttl_s) and ttl_s > 0):
            raise ValueError(f"a cache keeps things for a time, not for {ttl_s!r} s")
        at = self._now()
        text = json.dumps({"at": at, "until": at + ttl_s, "value": value}, allow_nan=False, separators=(",", ":"))
        self._write(_checked(key), text, ttl_s)

    def delete(self, key: str) -> None:
        self._remove(_checked(key))

    def single_flight(self, key: str, timeout_s: float = FLIGHT_TIMEOUT_S) -> "SingleFlight":
        """``with`` or ``async with``: one holder of `key` at a time, among all who share this cache.

        Raises Busy after `timeout_s`. Who dies lets go. Not re-entrant.
        """
        name = _checked(key)
        return SingleFlight(lambda: self._try_lock(name), key, timeout_s)

    @abstractmethod
    def sweep(self) -> int:
        """Remove what is over and what dead processes left; how many things that were."""

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def _read(self, key: str) -> str | None: ...

    @abstractmethod
    def _write(self, key: str, text: str, ttl_s: float) -> None: ...

    @abstractmethod
    def _remove(self, key: str) -> None: ...

    @abstractmethod
    def _try_lock(self, key: str) -> Release | None:
        """Take the lock of `key` now and return how to let go of it, or None if somebody has it."""


class SingleFlight:
    """A place in the queue for one key. It looks again and again: a lock has no queue that an event loop could join."""

    def __init__(self, try_lock: Callable[[], Release | None], key: str, timeout_s: float) -> None:
        self._try_lock = try_lock
        self._key = key
        self._timeout_s = timeout_s
        self._release: Release | None = None

    def __enter__(self) -> None:
        end, pause = time.monotonic() + self._timeout_s, _LOOK_S[0]
        while not self._taken(end):
            time.sleep(pause)
            pause = min(pause * 2, _LOOK_S[1])

    async def __aenter__(self) -> None:
        import anyio  # who waits here has it already

        end, pause = time.monotonic() + self._timeout_s, _LOOK_S[0]
        while not self._taken(end):
            await anyio.sleep(pause)
            pause = min(pause * 2, _LOOK_S[1])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._release is not None:
            self._release()
            self._release = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _taken(self, end: float) -> bool:
        self._release = self._try_lock()
        if self._release is None and time.monotonic() >= end:
            raise Busy(f"busy: another command is fetching {self._key[:80]!r}; waited {self._timeout_s:g} s")
        return self._release is not None


def _checked(key: str) -> str:
    if not (isinstance(key, str) and key and "\0" not in key):
        raise ValueError(f"not a key: {key!r}")
    key.encode("utf-8")  # half a surrogate pair is a ValueError here, not an error of some store later
    return key


def _entry(text: str, now: float) -> Entry | None:
    """The entry in `text`; None if it is over, damaged, or from a time that has not come (the clock went back)."""
    try:
        found = json.loads(text)
        at, until = float(found["at"]), float(found["until"])
        return Entry(found["value"], at) if at <= now < until else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None  # not what `set` wrote: forgotten
