"""Polygon's WebSocket for stocks: minute bars, second bars, trades and quotes of the market's own time.

A minute's AM goes out when the minute is over. Trades, quotes and seconds go out in the order of their time, as the
clock reaches them; at a high speed several share a frame. One connection a key: another one is let in, acked, told and
closed. A client that does not read is told so and closed, once QUEUE frames wait for it.
"""

import asyncio
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, cast

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from marketagent.sandbox import ticks
from marketagent.sandbox.market import Session
from marketagent.sandbox.names import history
from marketagent.sandbox.polygon_plan import PLANS, Plan
from marketagent.sandbox.wire import TRANSPORT, reset
from marketagent.sandbox.world import MINUTE_S, NEW_YORK, SandboxWorld

CONNECTIONS = 1  # a key
AUTH_S = 10.0
QUEUE = 500  # frames
TOGETHER = 100  # events a frame
PAUSE_S = 0.05  # of the system's time: trades and quotes are sent at most so often
_PREFIXES = ("AM", "A", "T", "Q")
_NO_STREAM = "Your plan doesn't include websocket access. Visit https://polygon.io/pricing to upgrade."
_TOO_MANY = (
    "Maximum number of websocket connections exceeded. You have reached the connection limit for your account."
    " Please contact support at https://polygon.io/contact to increase your limit."
)

Event = dict[str, Any]


def routes(world: SandboxWorld) -> list[BaseRoute]:
    open_now: Counter[str] = Counter()

    async def stocks(socket: WebSocket) -> None:
        await _Connection(world, socket, open_now).run()

    return [WebSocketRoute("/stocks", stocks)]


class _Connection:
    """One client: what it subscribed to, and the frames that wait for it."""

    def __init__(self, world: SandboxWorld, socket: WebSocket, open_now: Counter[str]) -> None:
        self.world, self.socket, self.open_now = world, socket, open_now
        self.topics: set[tuple[str, str]] = set()
        self.queue: asyncio.Queue[list[Event]] = asyncio.Queue()
        self.running = False  # once the first moments were sent, none is left out between two minutes

    async def run(self) -> None:
        with suppress(WebSocketDisconnect):  # the client may leave at any point: then nobody is left to tell
            await self.socket.accept()
            await self._status("connected", "Connected Successfully")
            key = await self._authenticated()
            if key is None:
                return
            self.open_now[key] += 1
            try:
                await self._serve(PLANS[key], crowded=self.open_now[key] > CONNECTIONS)
            finally:
                self.open_now[key] -= 1

    async def _authenticated(self) -> str | None:
        """The key, once there is a good one; None when the connection is over."""
        try:
            async with asyncio.timeout(AUTH_S):
                asked = await self._asked()
                while asked.get("action") != "auth":
                    asked = await self._asked()
        except TimeoutError:
            await self._status("auth_timeout", "No authentication request received.")
            await self.socket.close(1008)
            return None
        key = str(asked.get("params", ""))
        if key not in PLANS or not PLANS[key].topics:
            await self._status("auth_failed", _NO_STREAM if key in PLANS else "authentication failed")
            await asyncio.sleep(0.01)  # it goes out, and then the line is cut without a word: seen so
            reset(cast(asyncio.Transport, self.socket.scope[TRANSPORT]))
            return None
        await self._status("auth_success", "authenticated")
        return key

    async def _serve(self, plan: Plan, *, crowded: bool) -> None:
        if crowded:
            with suppress(TimeoutError):  # a client that does not subscribe is told all the same
                async with asyncio.timeout(0.5):
                    await self._handle(await self._asked(), plan)
            while not self.queue.empty():
                await self._send_frame(self.queue.get_nowait())
            await self._status("max_connections", _TOO_MANY)
            await self.socket.close(1008)
            return
        tasks = [
            asyncio.ensure_future(each) for each in (self._read(plan), self._send(), self._minutes(), self._moments())
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()  # raises why it ended: the client has gone, as a rule

    async def _read(self, plan: Plan) -> None:
        while True:
            await self._handle(await self._asked(), plan)

    async def _asked(self) -> dict[str, Any]:
        """The next message that is an object; others are answered with an error."""
        while True:
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code") or 1005, message.get("reason"))
            try:
                found = json.loads(message.get("text") or "")
            except ValueError:
                found = None
            if isinstance(found, dict):
                return found
            await self._status("error", "invalid message")

    async def _handle(self, asked: dict[str, Any], plan: Plan) -> None:
        action = asked.get("action")
        topics = [topic.strip() for topic in str(asked.get("params", "")).split(",")]
        if action == "subscribe":
            await self._subscribe(topics, plan)
        elif action == "unsubscribe":
            gone = [topic for topic in topics if _parsed(topic) in self.topics]
            self.topics -= {_parsed(topic) for topic in gone}
            await self._put([_status("success", f"unsubscribed to: {topic}") for topic in gone])
        elif action == "auth":
            await self._status("auth_success", "authenticated")
        else:
            await self._status("error", "unknown action")

    async def _subscribe(self, topics: list[str], plan: Plan) -> None:
        known = [topic for topic in topics if _parsed(topic)[0] in _PREFIXES]  # others: dropped without a word
        if any(_parsed(topic)[0] not in plan.topics for topic in known):
            await self._status("error", "not authorized")  # comes before the acks of the others
        allowed = [topic for topic in known if _parsed(topic)[0] in plan.topics]
        await self._put([_status("success", f"subscribed to: {topic}") for topic in allowed])
        self.topics |= {_parsed(topic) for topic in allowed}

    async def _status(self, status: str, message: str) -> None:
        await self._send_frame([_status(status, message)])

    async def _put(self, events: list[Event]) -> None:
        """Events in frames behind those that wait; too many of them end the connection."""
        for place in range(0, len(events), TOGETHER):
            self.queue.put_nowait(events[place : place + TOGETHER])
        if self.queue.qsize() > QUEUE:
            transport = cast(asyncio.Transport, self.socket.scope[TRANSPORT])
            slow = _status("slow_consumer", "Slow consumer: the connection is closed.")
            with suppress(TimeoutError):  # it may be so slow that not even this goes out
                async with asyncio.timeout(1):
                    await self._send_frame([slow])
                    await self.socket.close(1008)
            reset(transport)
            raise WebSocketDisconnect(1008)

    async def _send(self) -> None:
        while True:
            await self._send_frame(await self.queue.get())

    async def _send_frame(self, events: list[Event]) -> None:
        await self.socket.send_text(json.dumps(events, separators=(",", ":")))

    async def _minutes(self) -> None:
        """Each minute's bars, once it is over."""
        async for session, start in _each_minute(self.world):
            await self.world.sleep_until(_instant(start + MINUTE_S))
            bars = [bar for symbol in self._symbols("AM") if (bar := self._bar(symbol, session, start))]
            await self._put([_minute(bar) for bar in bars])

    async def _moments(self) -> None:
        """Trades, quotes and second bars, as market time passes them; a new topic joins in the middle of a minute."""
        async for session, start in _each_minute(self.world):
            await self.world.sleep_until(_instant(start))
            topics: set[tuple[str, str]] | None = None
            sent, end = int(self.world.now().timestamp() * ticks.NS) - 1, (start + MINUTE_S) * ticks.NS
            sent = start * ticks.NS - 1 if self.running else sent
            while sent < end:
                now = min(end, int(self.world.now().timestamp() * ticks.NS))
                if topics != self.topics:
                    topics, events = set(self.topics), sorted(self._within(session, start), key=itemgetter(0))
                first, last = (bisect_right(events, moment, key=itemgetter(0)) for moment in (sent, now))
                await self._put([event for _, event in events[first:last]])
                sent, self.running = now, True
                if now < end:
                    await self.world.sleep(PAUSE_S)

    def _within(self, session: Session, start: int) -> Iterator[tuple[int, Event]]:
        """(when, event) of everything but minute bars in the minute."""
        for symbol in sorted({name for prefix in ("T", "Q", "A") for name in self._symbols(prefix)}):
            bar = self._bar(symbol, session, start)
            if bar is None:
                continue
            trades = ticks.trades(self.world.seed, bar)
            if symbol in self._symbols("T"):
                yield from ((trade.at, _trade(trade)) for trade in trades)
            if symbol in self._symbols("Q"):
                yield from ((quote.at, _quote(quote)) for quote in ticks.quotes(self.world.seed, bar, trades))
            if symbol in self._symbols("A"):
                yield from _seconds(bar, trades)

    def _symbols(self, prefix: str) -> list[str]:
        """The tickers subscribed to under `prefix`, all there are for ``*``."""
        chosen = {symbol for each, symbol in self.topics if each == prefix}
        if "*" not in chosen:
            return sorted(chosen)
        return [asset.symbol for asset in self.world.market.assets()]

    def _bar(self, ticker: str, session: Session, start: int) -> ticks.Minute | None:
        asset = self.world.market.asset(ticker)
        names = history(asset) if asset else []
        if not any(name == ticker and first <= session.day <= last for name, first, last in names):
            return None
        return ticks.minute(self.world.market, ticker, session.day, start)


async def _each_minute(world: SandboxWorld) -> AsyncIterator[tuple[Session, int]]:
    """The session and the start of every minute of regular hours from now on, the one that goes on first."""
    after = 0
    while True:
        now = world.now()
        today = now.astimezone(NEW_YORK).date()
        sessions = world.market.sessions(today, today + timedelta(days=10))
        session = next((one for one in sessions if one.close_at > now and one.close_at.timestamp() > after), None)
        if session is None:
            await world.sleep(3600)
            continue
        begin = max(int(session.open_at.timestamp()), int(now.timestamp()) // MINUTE_S * MINUTE_S, after)
        for start in range(begin, int(session.close_at.timestamp()), MINUTE_S):
            yield session, start
            after = start + MINUTE_S


def _parsed(topic: str) -> tuple[str, str]:
    prefix, _, symbol = topic.partition(".")
    return prefix, symbol


def _status(status: str, message: str) -> Event:
    return {"ev": "status", "status": status, "message": message}


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _minute(bar: ticks.Minute) -> Event:
    event = {"ev": "AM", "sym": bar.symbol, "v": _whole(bar.volume), "av": _whole(bar.day_volume), "op": bar.day_open}
    event |= {"vw": bar.vwap, "o": bar.open, "c": bar.close, "h": bar.high, "l": bar.low, "a": bar.day_vwap}
    size = max(1, int(bar.volume // bar.trades))
    return event | {"z": size, "s": bar.start * 1000, "e": (bar.start + MINUTE_S) * 1000}


def _seconds(bar: ticks.Minute, trades: list[ticks.Trade]) -> Iterator[tuple[int, Event]]:
    before = bar.day_volume - bar.volume
    for second, made in ticks.seconds(trades):
        prices = [trade.price for trade in made]
        size = sum(trade.size for trade in made)
        before += size
        paid = sum(trade.price * trade.size for trade in made)
        event = {"ev": "A", "sym": bar.symbol, "v": _whole(size), "av": _whole(before), "op": bar.day_open}
        event |= {"vw": round(paid / size, 4) if size else prices[-1], "o": prices[0], "c": prices[-1]}
        event |= {"h": max(prices), "l": min(prices), "a": bar.day_vwap, "z": max(1, int(size // len(made)))}
        yield (second + 1) * ticks.NS, event | {"s": second * 1000, "e": (second + 1) * 1000}


def _trade(trade: ticks.Trade) -> Event:
    event = {"ev": "T", "sym": trade.symbol, "x": trade.exchange, "i": str(trade.number), "z": 3, "p": trade.price}
    return event | {"s": _whole(trade.size), "c": [], "t": trade.at // 1_000_000, "q": trade.number}


def _quote(quote: ticks.Quote) -> Event:
    event = {"ev": "Q", "sym": quote.symbol, "bx": quote.bid_exchange, "bp": quote.bid, "bs": quote.bid_size}
    event |= {"ax": quote.ask_exchange, "ap": quote.ask, "as": quote.ask_size}
    # A single condition comes as a number, several as a list: real ones do both.
    condition: int | list[int] = 1 if quote.number % 2 else [1]
    return event | {"c": condition, "i": [], "t": quote.at // 1_000_000, "q": quote.number, "z": 3}


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else value
