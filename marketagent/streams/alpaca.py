"""Alpaca's stream of stocks (fact sheet, 7): frames to send, and frames as events.

Inbound frames are arrays of messages with ``T``, as text or as bytes that hold JSON. A ``subscription`` names all that
is subscribed to now. A bar ``u`` replaces the minute's bar ``b`` when late trades came in.
"""

import json
from datetime import datetime
from typing import Any

from marketagent.config import Secret
from marketagent.errors import Busy, MarketAgentError, NotPermitted, Refused
from marketagent.streams.events import Bar, Event, Quote, Status, Trade, Wanted, finite, number
from marketagent.streams.frames import Frame, objects

_KEY = {402}
_PLAN = {405, 408, 409, 411}
_REQUEST = {400, 410}
_AGAIN = {401, 404, 407, 500}  # of this connection only: the next one starts anew


class Alpaca:
    """The protocol of ``wss://stream.data.alpaca.markets/v2/CHANNEL``; `feed` is what its events are said to be of."""

    name = "alpaca"

    def __init__(self, stream_url: str, key: Secret, secret: Secret, channel: str, feed: str) -> None:
        self.url = f"{stream_url}/v2/{channel}"
        self.feed = feed
        self._key, self._secret = key, secret

    def login(self) -> str:
        return json.dumps({"action": "auth", "key": str(self._key), "secret": str(self._secret)})

    def subscription(self, wanted: Wanted) -> tuple[list[str], frozenset[str]]:
        asked = {kind: list(wanted.symbols) for kind in wanted.kinds}
        if "bars" in asked:
            asked["updatedBars"] = list(wanted.symbols)
        topics = frozenset(f"{kind}.{symbol}" for kind in wanted.kinds for symbol in wanted.symbols)
        return [json.dumps({"action": "subscribe", **asked})], topics

    def read(self, frame: Frame) -> list[Event]:
        rows, broken = objects(frame)
        events = [event for row in rows if (event := self._event(row)) is not None]
        return [*events, broken] if broken else events

    def _event(self, row: dict[str, Any]) -> Event | None:
        match row.get("T"):
            case "b" | "u":
                return _bar(row, self.feed)
            case "t":
                return _trade(row, self.feed)
            case "q":
                return _quote(row, self.feed)
            case "success":
                word = {"connected": "connected", "authenticated": "authenticated"}.get(str(row.get("msg")))
                return Status(word=word or "told", text=str(row.get("msg", "")))  # type: ignore[arg-type]
            case "subscription":
                return Status(word="subscribed", topics=_topics(row))
            case "error":
                code = row.get("code")
                return _error(code if isinstance(code, int) else 0, str(row.get("msg", "")))
        return None  # halts, bands, corrections, news: not asked for, or not known yet


def _topics(row: dict[str, Any]) -> frozenset[str]:
    """Every list of strings in a ``subscription``, as ``bars.AAPL``."""
    lists = ((kind, symbols) for kind, symbols in row.items() if isinstance(symbols, list))
    return frozenset(f"{kind}.{symbol}" for kind, symbols in lists for symbol in symbols if isinstance(symbol, str))


def _bar(row: dict[str, Any], feed: str) -> Event:
    symbol, start = row.get("S"), instant(row.get("t"))
    if not isinstance(symbol, str) or start is None:
        return Status(word="broken", text="a bar without a symbol or a time")
    trades = row.get("n")
    return Bar(
        symbol=symbol,
        start=start,
        open=number(row.get("o")),
        high=number(row.get("h")),
        low=number(row.get("l")),
        close=number(row.get("c")),
        volume=number(row.get("v")),
        vwap=number(row.get("vw")),
        trades=trades if type(trades) is int else None,
        feed=feed,
        updated=row.get("T") == "u",
        text=json.dumps(row)[:400],
    )


def _trade(row: dict[str, Any], feed: str) -> Event:
    symbol, at = row.get("S"), instant(row.get("t"))
    if not isinstance(symbol, str) or at is None:
        return Status(word="told", text="a trade without a symbol or a time")
    return finite(
        Trade(
            symbol=symbol,
            at=at,
            price=number(row.get("p")),
            size=number(row.get("s")),
            exchange=str(row.get("x", "")),
            feed=feed,
        )
    )


def _quote(row: dict[str, Any], feed: str) -> Event:
    symbol, at = row.get("S"), instant(row.get("t"))
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


def instant(text: Any) -> datetime | None:
    """An RFC 3339 text, cut to microseconds; None for what is none, or has no zone.

    >>> instant("2026-11-20T14:31:00.123456789Z").isoformat()
    '2026-11-20T14:31:00.123456+00:00'
    """
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None  # an instant that nobody can read is none: the caller says so
    return found if found.tzinfo else None


def _error(code: int, message: str) -> Status:
    text = f"{code}: {message}"
    if code == 403:
        return Status(word="authenticated", text=text)  # "already authenticated": so it is
    if code in _AGAIN:
        return Status(word="ended", text=text)
    final = _final(code, text)
    return Status(word="ended" if final else "told", text=text, final=final)


def _final(code: int, text: str) -> MarketAgentError | None:
    if code == 406:
        return Busy(f"busy: alpaca allows no further connection ({text}); close the other stream, then try again")
    if code in _KEY:
        return NotPermitted(f"alpaca does not take the key ({text}); look at: ma config")
    if code in _PLAN:
        return NotPermitted(f"alpaca does not give this to the key's plan ({text}); ask for less, or set another feed")
    if code in _REQUEST:
        return Refused(f"alpaca refuses the subscription ({text}); its feed may not have this")
    return None
