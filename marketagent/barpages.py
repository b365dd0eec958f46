"""Pages of bars, read by their shape: five times as quick as reading them as any JSON and looking at each number.

A page whose every bar is whole is read so; any other is left to the strict reader, bar by bar. Both refuse the same:
what is no number, a number too large, a name that stands twice in one bar. Import it where it is used: msgspec.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from marketagent.delivery import Rows, Times, rfc3339, rows, unix_ms
from marketagent.web.strict import NotJson, NotStrict, parsed

_NAMES = ("t", "o", "h", "l", "c", "v")
_LIST = b'"results":['


class _Bar(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    t: int
    o: float
    h: float
    l: float  # noqa: E741 - the vendors' own names
    c: float
    v: float
    vw: float | None = None
    n: float | None = None
    otc: bool = False


class _StampedBar(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    t: str
    o: float
    h: float
    l: float  # noqa: E741 - the vendors' own names
    c: float
    v: float
    vw: float | None = None
    n: float | None = None


class _BySymbol(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    bars: dict[str, list[_StampedBar]]
    next_page_token: str | msgspec.UnsetType | None = msgspec.UNSET
    currency: str | msgspec.UnsetType = msgspec.UNSET


_BARS = msgspec.json.Decoder(list[_Bar])
_BY_SYMBOL = msgspec.json.Decoder(_BySymbol)


def listed(data: bytes) -> Any:
    """Polygon's page: a list of bars at ``results``, which becomes Rows. Raises like ``strict.parsed``."""
    start = data.find(_LIST) + len(_LIST) - 1
    end = data.find(b"]", start) + 1  # no bar holds a list
    try:
        bars = _BARS.decode(data[start:end])
        page = parsed(data[:start] + b"[]" + data[end:])
    except (msgspec.MsgspecError, UnicodeDecodeError, NotJson, NotStrict):
        return _listed_slowly(data)  # not whole bars, or no JSON: it says which
    if page.get("results") != [] or data.count(b":", start, end) != sum(map(_names, bars)):
        return _listed_slowly(data)
    return page | {"results": _columns(bars, unix_ms)}


def by_symbol(data: bytes) -> Any:
    """Alpaca's page: a list of bars for each symbol at ``bars``, each of which becomes Rows."""
    try:
        page = _BY_SYMBOL.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _by_symbol_slowly(data)  # as above
    around = [text for text in (page.next_page_token, page.currency) if text is not msgspec.UNSET]
    colons = 1 + len(around) + sum(str(text).count(":") for text in around)
    for symbol, bars in page.bars.items():
        colons += 1 + symbol.count(":") + sum(_names(bar) + bar.t.count(":") for bar in bars)
    if data.count(b":") != colons:
        return _by_symbol_slowly(data)
    token = None if page.next_page_token is msgspec.UNSET else page.next_page_token
    try:
        found = {symbol: _columns(bars, rfc3339) for symbol, bars in page.bars.items()}
    except ValueError:
        return _by_symbol_slowly(data)  # a time that is none
    return {"bars": found, "next_page_token": token}


def _names(bar: _Bar | _StampedBar) -> int:
    """How many names, and so how many colons, the text of `bar` has if none stands there twice."""
    return 6 + (bar.vw is not None) + (bar.n is not None) + getattr(bar, "otc", False)


def _listed_slowly(data: bytes) -> Any:
    whole = parsed(data)
    if isinstance(whole, dict) and isinstance(whole.get("results"), list):
        return whole | {"results": rows(whole["results"], unix_ms, _NAMES)}
    return whole


def _by_symbol_slowly(data: bytes) -> Any:
    whole = parsed(data)
    bars = whole.get("bars") if isinstance(whole, dict) else None
    if isinstance(bars, dict) and all(isinstance(items, list) for items in bars.values()):
        return whole | {"bars": {symbol: rows(items, rfc3339, _NAMES) for symbol, items in bars.items()}}
    return whole


def _columns(bars: Sequence[_Bar | _StampedBar], times: Times) -> Rows:
    return Rows(
        times([bar.t for bar in bars]),
        np.array([bar.o for bar in bars], dtype=np.float64),
        np.array([bar.h for bar in bars], dtype=np.float64),
        np.array([bar.l for bar in bars], dtype=np.float64),
        np.array([bar.c for bar in bars], dtype=np.float64),
        np.array([bar.v for bar in bars], dtype=np.float64),
    )
