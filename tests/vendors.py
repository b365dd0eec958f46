"""Vendors that stream, on loopback: a real WebSocket server whose every connection plays a script of the test."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, urlsplit

from faulty import Faulty, reply
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

KEY = "k3y-CANARY-0123"
OPEN = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)  # a Friday, regular hours 14:30 to 21:00 UTC
Script = Callable[["Socket"], Awaitable[None]]


class Socket:
    """One connection as a script sees it."""

    def __init__(self, connection: ServerConnection, server: "Vendor") -> None:
        self.raw, self._server = connection, server

    async def send(self, *events: Any) -> None:
        """One frame with `events`."""
        await self.raw.send(json.dumps(list(events)))

    async def text(self, frame: str | bytes) -> None:
        await self.raw.send(frame)

    async def hear(self) -> Any:
        frame = json.loads(await self.raw.recv())
        self._server.heard.append(frame)
        return frame

    async def stay(self) -> None:
        """Answer pings and say nothing."""
        await self.raw.wait_closed()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self.raw.close(code, reason)

    async def cut(self) -> None:
        """End the connection without a word."""
        self.raw.transport.abort()

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Vendor:
    """Plays `scripts` one a connection, the last one for ever. `heard` holds every frame that was sent to it."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.heard: list[Any] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self._thread.start()
        self._ready.wait(10)

    @property
    def connections(self) -> int:
        return len(self.times)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    async def _main(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with serve(self._play, "127.0.0.1", 0, close_timeout=0.2, max_size=None, compression=None) as server:
            self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            self._ready.set()
            await self._over.wait()

    async def _play(self, connection: ServerConnection) -> None:
        self.paths.append(connection.request.path if connection.request else "")
        self.times.append(self._loop.time())
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        with suppress(ConnectionClosed):  # the client may leave whenever it likes
            await script(Socket(connection, self))


@contextmanager
def streaming(*scripts: Script) -> Iterator[Vendor]:
    vendor = Vendor(*scripts)
    try:
        yield vendor
    finally:
        vendor.close()


# Polygon


def status(word: str, message: str = "") -> dict[str, str]:
    return {"ev": "status", "status": word, "message": message}


CONNECTED = status("connected", "Connected Successfully")


async def polygon_welcome(socket: Socket) -> list[str]:
    """Everything up to the acknowledgements; the topics that were asked for."""
    await socket.send(CONNECTED)
    await socket.hear()
    await socket.send(status("auth_success", "authenticated"))
    topics = (await socket.hear())["params"].split(",")
    await socket.send(*(status("success", f"subscribed to: {topic}") for topic in topics))
    return list(topics)


def minute_bar(symbol: str = "AAPL", k: int = 0, close: float = 10.5, **more: Any) -> dict[str, Any]:
    """Polygon's bar of minute `k` of the session."""
    start = int((OPEN + timedelta(minutes=k)).timestamp() * 1000)
    values = {"o": 10.0, "h": 11.0, "l": 9.0, "c": close, "v": 100.0, "vw": 10.2}
    return {"ev": "AM", "sym": symbol, **values, "s": start, "e": start + 60_000} | more


def playing(
    *frames: Sequence[Any] | Callable[[Socket], Awaitable[None]], then: str = "stay", pause: float = 0.0
) -> Script:
    """Welcome, then each of `frames`: events of one frame, or something to do; then ``stay``, ``cut`` or ``close``."""

    async def play(socket: Socket) -> None:
        await polygon_welcome(socket)
        for frame in frames:
            if callable(frame):
                await frame(socket)
            else:
                await socket.send(*frame)
            await socket.wait(pause)
        await getattr(socket, then)()

    return play


# REST


class Aggregates:
    """Polygon's minute bars over REST: ``bars[symbol]`` are the minutes of the session it has, as numbers or bars."""

    def __init__(self, **bars: Sequence[int | dict[str, Any]]) -> None:
        self.bars = bars
        self.asked: list[tuple[str, int, int]] = []

    def __call__(self, connection: Any, head: str) -> None:
        parts = urlsplit(head.split(" ")[1])
        words = parts.path.split("/")
        if words[1:3] == ["v2", "stocks"]:
            symbol = parse_qs(parts.query)["symbols"][0]
            first, last = (_k(datetime.fromisoformat(parse_qs(parts.query)[name][0])) for name in ("start", "end"))
        else:
            symbol, first, last = words[4], *(_k(datetime.fromtimestamp(int(ms) / 1000, UTC)) for ms in words[8:10])
        self.asked.append((symbol, first, last))
        rows = [bar if isinstance(bar, dict) else minute_bar(symbol, bar) for bar in self.bars.get(symbol, ())]
        results = [{**row, "t": row["s"]} for row in rows if first <= _k(_at(row)) <= last]
        body = json.dumps({"status": "OK", "resultsCount": len(results), "results": results}).encode()
        connection.sendall(reply(body, Date=formatdate(usegmt=True)))


def _at(row: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(row["s"] / 1000, UTC)


def _k(at: datetime) -> int:
    return int((at - OPEN) // timedelta(minutes=1))


@contextmanager
def resting(aggregates: Aggregates) -> Iterator[Faulty]:
    server = Faulty(aggregates)
    try:
        yield server
    finally:
        server.close()
