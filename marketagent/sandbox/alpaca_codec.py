"""The two spellings of Alpaca's data stream: JSON with times as text, msgpack with times as its own timestamps."""

import json
from typing import Any, Protocol

import msgpack
from starlette.types import Message as Frame
from starlette.websockets import WebSocket

from marketagent.sandbox.alpaca_live import Instant, Message
from marketagent.sandbox.alpaca_ticks import nano
from marketagent.sandbox.ticks import NS


class Codec(Protocol):
    def encode(self, messages: list[Message]) -> Frame:
        """One frame with all of them in a list."""

    def decode(self, frame: Frame) -> Message | None:
        """The object that a client sent; None for anything else."""


def codec_of(socket: WebSocket) -> Codec:
    """What the client's Content-Type asks for, JSON by default."""
    return Packed() if socket.headers.get("content-type") == "application/msgpack" else Text()


class Text:
    def encode(self, messages: list[Message]) -> Frame:
        return {"type": "websocket.send", "text": json.dumps(messages, separators=(",", ":"), default=_written)}

    def decode(self, frame: Frame) -> Message | None:
        try:
            return _object(json.loads(frame.get("text") or frame.get("bytes") or b""))
        except (ValueError, RecursionError):
            return None


class Packed:
    def encode(self, messages: list[Message]) -> Frame:
        return {"type": "websocket.send", "bytes": msgpack.packb(messages, default=_packed)}

    def decode(self, frame: Frame) -> Message | None:
        try:
            return _object(msgpack.unpackb(frame.get("bytes") or b""))
        except (ValueError, TypeError, msgpack.UnpackException):
            return Text().decode(frame)


def _object(found: Any) -> Message | None:
    return found if isinstance(found, dict) and all(isinstance(name, str) for name in found) else None


def _written(value: object) -> str:
    if isinstance(value, Instant):
        return nano(value.ns) if value.ns % NS else nano(value.ns).replace(".000000000", "")
    raise TypeError(value)


def _packed(value: object) -> msgpack.Timestamp:
    if isinstance(value, Instant):
        return msgpack.Timestamp(value.ns // NS, value.ns % NS)
    raise TypeError(value)
