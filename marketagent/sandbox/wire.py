"""Around every answer of the sandbox: it is logged, compressed where the client likes it, and spoiled where a rule says so.

What ASGI has no word for (a reset, half a body, a wrong length) is written to the connection itself, which the server's
protocols put into the scope under TRANSPORT.
"""

import asyncio
import gzip
import json
import socket
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, cast

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from marketagent.sandbox.faults import Rule
from marketagent.sandbox.log import summary, without_secrets
from marketagent.sandbox.words import refusal
from marketagent.sandbox.world import SandboxWorld

TRANSPORT = "ma.transport"
SMALL = 1000  # bytes not worth compressing
_HTML = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>"


class Wire:
    """The outermost layer of the app."""

    def __init__(self, app: ASGIApp, world: SandboxWorld) -> None:
        self.app, self.world = app, world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = scope["query_string"].decode("latin-1")
        rules = self.world.faults.met(scope["method"], scope["path"], without_secrets(query))
        for rule in rules:
            if rule.kind == "latency":
                part = 0.5 + self.world.random("latency", scope["path"], query).random() / 2
                await self.world.sleep(rule.seconds * part)
        spoiled = next((rule for rule in rules if rule.kind != "latency"), None)

        def note(status: int) -> None:
            self._log(scope, status, query, ",".join(rule.kind for rule in rules))

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                note(message["status"])  # before it goes out: who has the answer finds it in the log
            await send(message)

        if spoiled is None:
            await _compressed(self.app, scope, receive, sent)
        else:
            await _Spoiled(self.app, spoiled, scope, receive, sent, note).play()

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        rules = self.world.faults.met("WS", scope["path"])
        self._log(scope, 101, "", ",".join(rule.kind for rule in rules))

        async def received() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive":
                self._log(scope, 0, "", "", summary(message.get("text")))
            return message

        await self.app(scope, received, _frames(rules[0], scope, send) if rules else send)

    def _log(self, scope: Scope, status: int, query: str, fault: str, message: str = "") -> None:
        if not scope["path"].startswith("/_sandbox"):
            self.world.log.add(
                at=self.world.now().astimezone(UTC).isoformat().replace("+00:00", "Z"),
                method=scope.get("method", "WS"),
                path=scope["path"],
                query=without_secrets(query),
                status=status,
                fault=fault,
                message=message,
            )


async def _whole(app: ASGIApp, scope: Scope, receive: Receive) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of what `app` answers."""
    start: dict[str, Any] = {}
    body = bytearray()

    async def keep(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
        else:
            body.extend(message.get("body", b""))

    await app(scope, receive, keep)
    return start["status"], list(start["headers"]), bytes(body)


async def _compressed(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """`app`, its JSON in gzip for whoever accepts that. The time in a gzip head is left out: same seed, same bytes."""
    if "gzip" not in Headers(scope=scope).get("accept-encoding", ""):
        await app(scope, receive, send)
        return
    held: Message | None = None

    async def packed(message: Message) -> None:
        nonlocal held
        if message["type"] == "http.response.start":
            held = message if _is_large_json(message) else None
            if held is None:
                await send(message)
        elif held is not None and not message.get("more_body"):
            body = gzip.compress(message["body"], compresslevel=1, mtime=0)
            headers = _relabelled(held["headers"], len(body), b"gzip")
            await send({**held, "headers": headers})
            await send({**message, "body": body})
        else:
            await send(message)

    await app(scope, receive, packed)


def _is_large_json(message: Message) -> bool:
    headers = dict(message["headers"])
    length = int(headers.get(b"content-length", b"0"))
    return length >= SMALL and headers.get(b"content-type", b"").startswith(b"application/json")


def _relabelled(
    headers: list[tuple[bytes, bytes]], length: int | None, encoding: bytes | None = None
) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in headers if name not in (b"content-length", b"content-encoding")]
    if length is not None:
        kept.append((b"content-length", str(length).encode()))
    return [*kept, (b"content-encoding", encoding)] if encoding else kept


class _Spoiled:
    """One answer with one fault. `note` is told the status of what does not go through `send`, 0 if there is none."""

    def __init__(
        self, app: ASGIApp, rule: Rule, scope: Scope, receive: Receive, send: Send, note: Callable[[int], None]
    ) -> None:
        self.app, self.rule, self.scope, self.receive, self.send, self.note = app, rule, scope, receive, send, note

    async def play(self) -> None:
        await getattr(self, f"_{self.rule.kind.replace('-', '_')}")()

    async def _answer(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        fields = {"content-type": kind, "content-length": str(len(body)), **headers}
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in fields.items()]
        await self.send({"type": "http.response.start", "status": status, "headers": pairs})
        await self.send({"type": "http.response.body", "body": body})

    async def _status(self) -> None:
        await self._answer(self.rule.status, refusal(self.scope["path"], self.rule.status), **self._later())

    def _later(self) -> dict[str, str]:
        text = self.rule.retry_after
        if text is None:
            return {}
        if text == "date":
            # Seen from the server's own Date, which is the system's time: +2 whole seconds.
            moment = datetime.fromtimestamp(int(datetime.now(UTC).timestamp()) + 2, UTC)
            text = format_datetime(moment, usegmt=True)
        return {"retry_after": text}

    async def _error_200(self) -> None:
        await self._answer(200, refusal(self.scope["path"], 429))

    async def _html(self) -> None:
        await self._answer(200, _HTML, "text/html; charset=utf-8")

    async def _empty(self) -> None:
        await self._answer(200, b"")

    async def _reset_before(self) -> None:
        self.note(0)
        await self._break()

    async def _reset_after(self) -> None:
        status, _, _ = await _whole(self.app, self.scope, self.receive)
        self.note(status)
        await self._break()

    async def _cut(self) -> None:
        await self._cut_behind(lambda headers, body: (_relabelled(headers, len(body)), body[: len(body) // 2]))

    async def _cut_chunked(self) -> None:
        def half(headers: list[tuple[bytes, bytes]], body: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
            piece = body[: len(body) // 2]
            return [*_relabelled(headers, None), (b"transfer-encoding", b"chunked")], b"%x\r\n%s\r\n" % (
                len(piece),
                piece,
            )

        await self._cut_behind(half)

    async def _cut_gzip(self) -> None:
        status, headers, body = await _whole(self.app, self.scope, self.receive)
        packed = gzip.compress(body, compresslevel=1, mtime=0)
        piece = packed[: max(len(packed) - 12, len(packed) // 2)]  # all of it may be there but the sum at the end
        await self.send(
            {"type": "http.response.start", "status": status, "headers": _relabelled(headers, len(piece), b"gzip")}
        )
        await self.send({"type": "http.response.body", "body": piece})

    async def _drip(self) -> None:
        status, headers, body = await _whole(self.app, self.scope, self.receive)
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        steps = min(len(body), 50)
        size = -(-len(body) // steps) if steps else 1
        for place in range(0, len(body), size):
            await asyncio.sleep(self.rule.seconds / steps)
            await self.send({"type": "http.response.body", "body": body[place : place + size], "more_body": True})
        await self.send({"type": "http.response.body", "body": b""})

    async def _duplicate(self) -> None:
        await self._changed(_doubled)

    async def _reorder(self) -> None:
        await self._changed(_reversed)

    async def _loop(self) -> None:
        url = f"http://{Headers(scope=self.scope).get('host', '')}{self.scope['path']}"
        query = self.scope["query_string"].decode("latin-1")
        await self._changed(lambda rows: rows, f"{url}?{query}" if query else url)

    async def _changed(self, change: Callable[[list[Any]], list[Any]], next_url: str = "") -> None:
        """The app's own answer with its lists of rows changed, wherever the vendor puts them."""
        status, headers, body = await _whole(self.app, self.scope, self.receive)
        try:
            page = json.loads(body)
        except ValueError:
            page = None  # no page of rows: it goes out as it is
        if isinstance(page, dict) and status == 200:
            page = {name: _rows(value, change) for name, value in page.items()}
            if next_url:
                page |= {"next_url": next_url} if "next_page_token" not in page else {"next_page_token": "again"}
            body = json.dumps(page, separators=(",", ":")).encode()
        await self.send({"type": "http.response.start", "status": status, "headers": _relabelled(headers, len(body))})
        await self.send({"type": "http.response.body", "body": body})

    async def _cut_behind(
        self, change: Callable[[list[tuple[bytes, bytes]], bytes], tuple[list[tuple[bytes, bytes]], bytes]]
    ) -> None:
        """Write head and body past the server, then end the connection."""
        status, headers, body = await _whole(self.app, self.scope, self.receive)
        headers, piece = change(headers, body)
        head = b"".join(b"%s: %s\r\n" % pair for pair in headers)
        self.note(status)
        transport = self._transport()
        transport.write(b"HTTP/1.1 %d OK\r\n%s\r\n%s" % (status, head, piece))
        transport.close()
        await self._gone()

    async def _break(self) -> None:
        reset(self._transport())
        await self._gone()

    async def _gone(self) -> None:
        """Wait until the server has seen the end of the connection, or it would add an answer of its own."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    def _transport(self) -> asyncio.Transport:
        return cast(asyncio.Transport, self.scope[TRANSPORT])


def reset(transport: asyncio.Transport) -> None:
    """Break the connection with a RST: nothing that waits to be sent is sent."""
    held: socket.socket | None = transport.get_extra_info("socket")
    if held is not None:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _rows(value: Any, change: Callable[[list[Any]], list[Any]]) -> Any:
    if isinstance(value, dict):
        return {name: _rows(inner, change) for name, inner in value.items()}
    return change(value) if isinstance(value, list) else value


def _doubled(rows: list[Any]) -> list[Any]:
    """Every third row twice, and the first ones again at the end, as when pages overlap."""
    return [row for k, row in enumerate(rows) for _ in range(2 if k % 3 == 0 else 1)] + rows[:2]


def _reversed(rows: list[Any]) -> list[Any]:
    return rows[len(rows) // 2 :] + rows[: len(rows) // 2][::-1]


def _frames(rule: Rule, scope: Scope, send: Send) -> Send:
    """`send` with the frames of a socket spoiled by `rule`; the handshake and a close go through."""
    count = 0
    held: list[Message] = []

    async def spoiled(message: Message) -> None:
        nonlocal count
        if message["type"] != "websocket.send":
            await send(message)
            return
        count += 1
        if rule.kind == "drop" and count > rule.frames:
            reset(cast(asyncio.Transport, scope[TRANSPORT]))
            return
        if rule.kind == "mute" and count > rule.frames:
            return
        for each in _order(rule, count, message, held):
            await send(each)

    return spoiled


def _order(rule: Rule, count: int, message: Message, held: list[Message]) -> list[Message]:
    """What is sent for the `count`-th frame. The first four are the greeting: a vendor's own are never out of order."""
    if count <= max(4, rule.frames) or rule.kind in ("drop", "mute"):
        return [message]
    if rule.kind == "duplicate-frames":
        return [message, message] if count % 3 == 0 else [message]
    if rule.kind == "garbage-frames":
        return [{"type": "websocket.send", "text": '[{"ev":"AM","sym'}, message] if count % 7 == 0 else [message]
    if held:
        return [message, held.pop()]
    if count % 5 == 0:
        held.append(message)
        return []
    return [message]
