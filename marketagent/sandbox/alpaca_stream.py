"""Alpaca's two WebSockets: market data under ``/v2/{feed}`` and the account's orders under ``/stream``.

Data is JSON in text frames, or msgpack in binary ones for a client whose Content-Type asks for it, as Alpaca's own SDK
does. One connection a key; a client that does not read is told so and cut off.
"""

import asyncio
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from operator import itemgetter
from typing import Any

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from marketagent.sandbox.alpaca_codec import Codec, codec_of
from marketagent.sandbox.alpaca_http import Alpaca, is_basic
from marketagent.sandbox.alpaca_live import CHANNELS, Message, Teller, Timed
from marketagent.sandbox.alpaca_orders_stream import order_stream
from marketagent.sandbox.alpaca_query import EMBARGO
from marketagent.sandbox.passing import windows
from marketagent.sandbox.ticks import NS
from marketagent.sandbox.world import MINUTE_S, SandboxWorld

FEEDS = ("iex", "sip", "delayed_sip", "test")
AUTH_S = 10.0
CONNECTIONS = 1
QUEUE = 500  # frames
SLOW_S = 5.0  # of the system's time, without a frame taken
TOGETHER = 100  # messages a frame
PAUSE_S = 0.05  # of the system's time: at most so often is something sent
LOOK_S = 0.25  # of the system's time: at least so often is the clock looked at
BASIC_SYMBOLS = 30
ERRORS = {
    400: "invalid syntax",
    401: "not authenticated",
    402: "auth failed",
    403: "already authenticated",
    404: "auth timeout",
    405: "symbol limit exceeded",
    406: "connection limit exceeded",
    407: "slow client",
    409: "insufficient subscription",
    410: "invalid subscribe action for this feed",
}
_OTHER_FEEDS = ("news", "orderbooks", "imbalances")


def routes(world: SandboxWorld) -> list[BaseRoute]:
    connected: Counter[str] = Counter()

    async def data(socket: WebSocket) -> None:
        feed = socket.path_params["feed"]
        if feed not in FEEDS:
            await socket.close(4404)  # before it is accepted: HTTP 403
            return
        with suppress(WebSocketDisconnect):  # the client may leave at any point: then nobody is left to tell
            await _Connection(world, socket, feed, connected).run()

    async def orders(socket: WebSocket) -> None:
        with suppress(WebSocketDisconnect):  # as above
            await order_stream(world, socket)

    return [WebSocketRoute("/stream", orders), WebSocketRoute("/v2/{feed}", data)]


class _Final(Exception):
    """The connection is over, for a reason that is told with `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(ERRORS[code])
        self.code = code


class _Connection:
    """One client of one feed: what it subscribed to, and the frames that wait for it."""

    def __init__(self, world: SandboxWorld, socket: WebSocket, feed: str, connected: Counter[str]) -> None:
        self.world, self.socket, self.feed, self.connected = world, socket, feed, connected
        self.codec: Codec = codec_of(socket)
        self.teller = Teller(world, feed)
        self.behind = EMBARGO if feed == "delayed_sip" else timedelta(0)
        self.channels: dict[str, set[str]] = {channel: set() for channel in CHANNELS}
        self.version = 0  # of the channels: rises with every change
        self.changed = asyncio.Event()
        self.queue: asyncio.Queue[list[Message]] = asyncio.Queue(QUEUE)
        self.key = ""

    async def run(self) -> None:
        await self.socket.accept()
        await self._send([{"T": "success", "msg": "connected"}])
        try:
            await self._authenticate()
            try:
                await _first_of(self._read, self._write, self._play)
            finally:
                self.connected[self.key] -= 1
        except _Final as over:
            with suppress(TimeoutError):  # so slow that not even this goes out
                async with asyncio.timeout(1):
                    await self._error(over.code)
                    await self.socket.close(1000)

    async def _authenticate(self) -> None:
        try:
            async with asyncio.timeout(AUTH_S):
                while (asked := await self._asked()).get("action") != "auth":
                    await self._error(401)
        except TimeoutError:
            raise _Final(404) from None
        key, secret = str(asked.get("key")), str(asked.get("secret"))
        if self.world.part(Alpaca).account(key, secret) is None:
            raise _Final(402)
        if self.feed == "sip" and is_basic(key):
            raise _Final(409)
        self.key = key if self.feed != "test" else f"test {key}"
        if self.connected[self.key] >= CONNECTIONS:
            raise _Final(406)
        self.connected[self.key] += 1
        await self._send([{"T": "success", "msg": "authenticated"}])

    async def _read(self) -> None:
        while True:
            asked = await self._asked()
            action = asked.pop("action", None)
            if action == "auth":
                await self._error(403)
            elif action in ("subscribe", "unsubscribe"):
                await self._put(self._subscribed(asked, add=action == "subscribe"))
            else:
                await self._error(400)

    async def _asked(self) -> Message:
        """The next message that is an object; anything else is answered with an error."""
        while True:
            received = await self.socket.receive()
            if received["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(received.get("code") or 1005, received.get("reason"))
            found = self.codec.decode(received)
            if found is not None:
                return found
            await self._error(400)

    def _subscribed(self, asked: Message, *, add: bool) -> list[Message]:
        """The answer to a change of channels; one that is refused changes nothing."""
        if any(channel in _OTHER_FEEDS for channel in asked):
            return [_error(410)]
        if not all(channel in CHANNELS and _is_names(names) for channel, names in asked.items()):
            return [_error(400)]
        after = {channel: set(names) for channel, names in self.channels.items()}
        for channel, names in asked.items():
            for each in (channel, "corrections", "cancelErrors") if channel == "trades" else (channel,):
                after[each] = after[each] | set(names) if add else after[each] - set(names)
        if is_basic(self.key) and sum(len(after[channel]) for channel in ("trades", "quotes")) > BASIC_SYMBOLS:
            return [_error(405)]
        self.channels, self.version = after, self.version + 1
        self.changed.set()
        return [{"T": "subscription", **{channel: sorted(names) for channel, names in after.items()}}]

    async def _play(self) -> None:
        """Tell everything as market time passes it; a new subscription joins in the middle of a minute."""
        told = self._now()
        async for start in windows(self.world, always=self.feed == "test", behind=self.behind):
            version, events, end = -1, list[Timed](), (start + MINUTE_S) * NS - 1
            while told < end:
                if version != self.version:
                    version, events = self.version, self.teller.window(start, self.channels)
                now = min(max(self._now(), told), end)
                first, last = (bisect_right(events, at, key=itemgetter(0)) for at in (told, now))
                await self._put([message for _, message in events[first:last]])
                told = now
                if told < end:
                    await self._until(events[last][0] if last < len(events) else end)

    async def _until(self, at: int) -> None:
        """Wait until the feed reaches `at` or the channels change; a clock that is moved by hand is noticed."""
        left = self.world.clock.until(self.world.now() + timedelta(microseconds=(at - self._now()) / 1000))
        self.changed.clear()
        await asyncio.sleep(min(PAUSE_S, max(left, 0.0)))
        with suppress(TimeoutError):  # nothing changed, and the time has come
            async with asyncio.timeout(min(max(left - PAUSE_S, 0.0), LOOK_S)):
                await self.changed.wait()

    def _now(self) -> int:
        """What time it is on the feed, in Unix nanoseconds."""
        at = self.world.now() - self.behind
        return int(at.replace(microsecond=0).timestamp()) * NS + at.microsecond * 1000

    async def _put(self, messages: list[Message]) -> None:
        """Messages behind those that wait; a client that takes none of a full queue is given up."""
        for place in range(0, len(messages), TOGETHER):
            try:
                async with asyncio.timeout(SLOW_S):
                    await self.queue.put(messages[place : place + TOGETHER])
            except TimeoutError:
                raise _Final(407) from None

    async def _write(self) -> None:
        while True:
            await self._send(await self.queue.get())

    async def _error(self, code: int) -> None:
        await self._send([_error(code)])

    async def _send(self, messages: list[Message]) -> None:
        await self.socket.send(self.codec.encode(messages))


async def _first_of(*parts: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run all until one ends, which is with the error that is raised here."""
    tasks = [asyncio.create_task(part()) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _error(code: int) -> Message:
    return {"T": "error", "code": code, "msg": ERRORS[code]}


def _is_names(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)
