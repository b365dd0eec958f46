"""Alpaca's ``/stream``: what happens to an account's orders, as JSON in binary frames, from when a client listens.

Nothing is told again: what happened while nobody listened has to be read from the orders themselves.
"""

import asyncio
import json
from typing import Any
from uuid import UUID

from starlette.websockets import WebSocket, WebSocketDisconnect

from marketagent.sandbox.alpaca_http import Alpaca, stamp
from marketagent.sandbox.alpaca_shapes import order_json
from marketagent.sandbox.checks import plain
from marketagent.sandbox.exchange import Account, Event
from marketagent.sandbox.world import SandboxWorld

LOOK_S = 0.05  # of the system's time: so often is the account looked at
UPDATES = "trade_updates"
Json = dict[str, Any]


async def order_stream(world: SandboxWorld, socket: WebSocket) -> None:
    """Serve one client until it leaves."""
    await socket.accept()
    account = None
    while account is None:
        asked = await _asked(socket)
        key, secret = _credentials(asked)
        account = world.part(Alpaca).account(key, secret)
        status = "unauthorized" if account is None else "authorized"
        await _send(socket, "authorization", {"action": asked.get("action", ""), "status": status})
        if account is None:
            await socket.close(1000)
            return
    await _Listener(world, socket, account).run()


class _Listener:
    """`told` counts the account's events that this client knows, or does not need to."""

    def __init__(self, world: SandboxWorld, socket: WebSocket, account: Account) -> None:
        self.world, self.socket, self.account = world, socket, account
        self.streams: list[str] = []
        self.told = 0

    async def run(self) -> None:
        asking = asyncio.create_task(_asked(self.socket))
        try:
            while True:
                done, _ = await asyncio.wait([asking], timeout=LOOK_S)
                if done:
                    await self._handle(asking.result())
                    asking = asyncio.create_task(_asked(self.socket))
                await self._tell()
        finally:
            asking.cancel()

    async def _handle(self, asked: Json) -> None:
        data = asked.get("data")
        if asked.get("action") != "listen" or not isinstance(data, dict):
            await _send(self.socket, "authorization", {"action": asked.get("action", ""), "status": "authorized"})
            return
        wanted = data.get("streams")
        self._catch_up()
        if UPDATES not in self.streams:
            self.told = len(self.account.events)
        self.streams = [name for name in wanted if name == UPDATES] if isinstance(wanted, list) else []
        await _send(self.socket, "listening", {"streams": self.streams})

    async def _tell(self) -> None:
        if UPDATES not in self.streams:
            return
        self._catch_up()
        events, number = self.account.events[self.told :], self.told
        self.told += len(events)
        for k, event in enumerate(events):
            await _send(self.socket, UPDATES, _update(self.world, self.account, event, number + k))

    def _catch_up(self) -> None:
        self.account.catch_up(self.world.now())


def _update(world: SandboxWorld, account: Account, event: Event, number: int) -> Json:
    """`price` and `qty` are those of this fill; the order has the sums."""
    made: Json = {
        "event": event.name,
        "event_id": f"{number:026d}",
        "at": stamp(event.at),
        "timestamp": stamp(event.at),
        "execution_id": event.fill.id if event.fill else _execution_id(world, account, number),
        "order": order_json(world, event.order),
    }
    if event.fill is not None and event.position_qty is not None:
        made |= {"price": plain(event.fill.price), "qty": plain(event.fill.qty)}
        made["position_qty"] = plain(event.position_qty)
    return made


def _execution_id(world: SandboxWorld, account: Account, number: int) -> str:
    return str(UUID(int=world.random("execution", account.key, number).getrandbits(128), version=4))


def _credentials(asked: Json) -> tuple[str, str]:
    """The keys of the documented form, nested under `data`, or of the older one, flat."""
    data = asked.get("data")
    found = data if isinstance(data, dict) else asked
    if asked.get("action") not in ("auth", "authenticate"):
        return "", ""
    key, secret = found.get("key_id", found.get("key")), found.get("secret_key", found.get("secret"))
    return str(key), str(secret)


async def _asked(socket: WebSocket) -> Json:
    """The next message that is an object, in whichever frame; others are passed over."""
    while True:
        received = await socket.receive()
        if received["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(received.get("code") or 1005, received.get("reason"))
        try:
            found = json.loads(received.get("text") or received.get("bytes") or b"")
        except ValueError:
            continue  # Alpaca does not answer what it cannot read
        if isinstance(found, dict):
            return found


async def _send(socket: WebSocket, stream: str, data: Json) -> None:
    await socket.send_bytes(json.dumps({"stream": stream, "data": data}, separators=(",", ":")).encode())
