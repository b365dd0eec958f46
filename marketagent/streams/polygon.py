"""Polygon's stream of stocks (fact sheet, 7): frames to send, and frames as events.

Inbound frames are arrays of events with ``ev``; ours are single objects. ``AM`` is a minute's bar, ``A`` a second's.
"""

import json
from datetime import timedelta
from typing import Any

from marketagent.config import Secret
from marketagent.errors import Busy, MarketAgentError, NotPermitted
from marketagent.streams.events import MINUTE, Bar, Event, Quote, Status, Trade, Wanted, finite, moment, number
from marketagent.streams.frames import Frame, objects

_PREFIXES = {"bars": "AM", "trades": "T", "quotes": "Q"}
_ACK = "subscribed to:"
_MS = timedelta(milliseconds=1)


class Polygon:
    """The protocol of ``wss://socket.polygon.io/stocks``."""

    name = "polygon"

    def __init__(self, stream_url: str, key: Secret, feed: str = "") -> None:
        self.url = f"{stream_url}/stocks"
        self.feed = feed
        self._key = key

    def login(self) -> str:
        return json.dumps({"action": "auth", "params": str(self._key)})

    def subscription(self, wanted: Wanted) -> tuple[list[str], frozenset[str]]:
        topics = [f"{_PREFIXES[kind]}.{symbol}" for kind in wanted.kinds for symbol in wanted.symbols]
        return [json.dumps({"action": "subscribe", "params": ",".join(topics)})], frozenset(topics)

    def read(self, frame: Frame) -> list[Event]:
        rows, broken = objects(frame)
        events = [event for row in rows if (event := self._event(row)) is not None]
        return [*events, broken] if broken else events

    def _event(self, row: dict[str, Any]) -> Event | None:
        match row.get("ev"):
            case "AM":
                return _bar(row, self.feed)
            case "T":
                return _trade(row, self.feed)
            case "Q":
                return _quote(row, self.feed)
            case "status":
                return _status(str(row.get("status", "")), str(row.get("message", "")))
        return None  # what we did not ask for, or do not know yet


def _bar(row: dict[str, Any], feed: str) -> Event | None:
    symbol, start, end = row.get("sym"), moment(row.get("s")), moment(row.get("e"))
    if not isinstance(symbol, str) or start is None:
        return Status(word="broken", text="a bar without a symbol or a time")
    if end is not None and end - start < MINUTE - _MS:
        return None  # one text of the vendor swaps A and AM: what spans a second is no minute, whatever it is called
    return Bar(
        symbol=symbol,
        start=start,
        open=number(row.get("o")),
        high=number(row.get("h")),
        low=number(row.get("l")),
        close=number(row.get("c")),
        volume=number(row.get("v")),
        vwap=number(row.get("vw")),
        feed=feed,
        text=json.dumps(row)[:400],
    )


def _trade(row: dict[str, Any], feed: str) -> Event | None:
    symbol, at = row.get("sym"), moment(row.get("t"))
    if not isinstance(symbol, str) or at is None:
        return Status(word="told", text="a trade without a symbol or a time")
    return finite(
        Trade(
            symbol=symbol,
            at=at,
            price=number(row.get("p")),
            size=_shares(row),
            exchange=str(row.get("x", "")),
            feed=feed,
        )
    )


def _shares(row: dict[str, Any]) -> float:
    """The size of a trade: newer feeds add ``ds`` as text, and then ``s`` may be 0."""
    size = number(row.get("s"))
    exact = row.get("ds")
    if isinstance(exact, str) and (exact.replace(".", "", 1).isascii() and exact.replace(".", "", 1).isdigit()):
        return float(exact)
    return number(exact) if size == 0 and exact is not None else size


def _quote(row: dict[str, Any], feed: str) -> Event | None:
    symbol, at = row.get("sym"), moment(row.get("t"))
    if not isinstance(symbol, str) or at is None:
        return Status(word="told", text="a quote without a symbol or a time")
    return finite(
        Quote(
            symbol=symbol,
            at=at,
            bid=number(row.get("bp")),
            bid_size=number(row.get("bs")),
            ask=number(row.get("ap")),
            ask_size=number(row.get("as")),
            feed=feed,
        )
    )


def _status(status: str, message: str) -> Status:
    match status:
        case "connected":
            return Status(word="connected", text=message)
        case "auth_success":
            return Status(word="authenticated", text=message)
        case "success":
            if message.lower().startswith(_ACK):
                topics = message[len(_ACK) :].split(",")
                return Status(word="subscribed", text=message, topics=frozenset(topic.strip() for topic in topics))
            return Status(word="told")
        case "auth_failed" | "max_connections":
            return _ended(message or status, _final(status, message))
        case "auth_timeout" | "slow_consumer" | "force_disconnect":
            return _ended(f"{status}: {message}")
        case "error" if "not authorized" in message.lower():
            return _ended(message, _final(status, message))
    return Status(word="told", text=f"{status}: {message}")


def _ended(text: str, final: MarketAgentError | None = None) -> Status:
    return Status(word="ended", text=text, final=final)


def _final(status: str, message: str) -> MarketAgentError:
    if status == "max_connections":
        return Busy(f"busy: polygon allows no further connection ({message}); close the other stream, then try again")
    if status == "auth_failed" and "plan" not in message.lower():
        return NotPermitted(f"polygon does not take the key ({message}); look at: ma config")
    return NotPermitted(
        f"polygon does not give this to the key's plan ({message}); see --bars, or ask for delayed data"
    )
