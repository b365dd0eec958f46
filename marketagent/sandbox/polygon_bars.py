"""Polygon's bars: ranges of any width, the whole market on a day, the day before, the open and the close of a day.

Widths are counted from midnight New York for minutes and hours, from the calendar for days and more; ``limit`` counts
the minutes or days behind the bars, not the bars. A day that is still going on shows as the bar it is so far.
"""

import json
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketagent.sandbox.extended import minutes_of
from marketagent.sandbox.market import Array, Bars, Session
from marketagent.sandbox.names import spans
from marketagent.sandbox.names import ticker as ticker_of
from marketagent.sandbox.polygon_plan import NO_TIMEFRAME, NOT_ENTITLED, Asked, bad, day, forbidden, moment, not_found
from marketagent.sandbox.polygon_windows import Range, changed, midnight, ny_day, page, together, windows_of
from marketagent.sandbox.world import MINUTE_S, NEW_YORK, SandboxWorld, cut, joined

_SPANS = ("minute", "hour", "day", "week", "month", "quarter", "year")
_LONG = ("day", "week", "month", "quarter", "year")
_ODD = 97  # of so many bars one lacks vw and n, as a few real ones do


def aggregates(asked: Asked) -> bytes | dict[str, Any]:
    """``/v2/aggs/ticker/{T}/range/{mult}/{span}/{from}/{to}``."""
    wanted = _range(asked)
    if asked.plan.years and ny_day(wanted.first) < asked.today - timedelta(days=366 * asked.plan.years):
        raise forbidden(NO_TIMEFRAME)
    base = _base(asked, wanted)
    base, windows, following = page(wanted, base, windows_of(wanted, base.start))
    bars = together(base, windows)
    head: dict[str, Any] = {
        "ticker": wanted.ticker,
        "queryCount": len(base.start),
        "resultsCount": len(bars.start),
        "adjusted": wanted.adjusted,
    }
    tail: dict[str, Any] = {"status": asked.status, "request_id": asked.request_id}
    if not len(bars.start):
        return head | tail
    tail["count"] = len(bars.start)
    if following is not None:
        tail["next_url"] = _next(asked, wanted, following)
    return spliced(head, rows(bars, bars.start * 1000, seed=asked.world.seed), tail)


def grouped(asked: Asked) -> bytes | dict[str, Any]:
    """``/v2/aggs/grouped/locale/us/market/stocks/{date}``: every symbol on one day, `t` at 16:00 New York."""
    wanted = day(asked.parts["date"], "date")
    adjusted = asked.flag("adjusted", default=True)
    _require(asked, wanted)
    found: list[str] = []
    at = int(datetime.combine(wanted, time(16), NEW_YORK).timestamp()) * 1000
    for asset in asked.world.market.assets():
        bars = _adjusted(asked, asset.symbol, asked.world.days(asset.symbol, wanted, wanted)) if adjusted else (
            asked.world.days(asset.symbol, wanted, wanted)
        )  # fmt: skip
        if len(bars.start):
            ticker = ticker_of(asset, wanted)
            found += rows(bars, np.array([at]), ticker=ticker, seed=asked.world.seed)
    head = {"queryCount": len(found), "resultsCount": len(found), "adjusted": adjusted}
    tail = {"status": asked.status, "request_id": asked.request_id}
    return spliced(head, found, tail | {"count": len(found)}) if found else head | tail


def previous(asked: Asked) -> bytes | dict[str, Any]:
    """``/v2/aggs/ticker/{T}/prev``: the last day that is over."""
    ticker, adjusted = asked.parts["ticker"], asked.flag("adjusted", default=True)
    bars = _days(asked, ticker, asked.today - timedelta(days=14), asked.today, adjusted=adjusted)
    head = {"ticker": ticker, "queryCount": 0, "resultsCount": 0, "adjusted": adjusted}
    tail = {"status": asked.status, "request_id": asked.request_id}
    if not len(bars.start):
        return head | tail
    last = cut(bars, slice(-1, None))
    at = np.array([int(datetime.combine(ny_day(int(last.start[0])), time(16), NEW_YORK).timestamp()) * 1000])
    head |= {"queryCount": 1, "resultsCount": 1}
    return spliced(head, rows(last, at, ticker=ticker, seed=asked.world.seed), tail | {"count": 1})


def open_close(asked: Asked) -> dict[str, Any]:
    """``/v1/open-close/{T}/{date}``; a day without a session is not found."""
    ticker, wanted = asked.parts["ticker"], day(asked.parts["date"], "date")
    _require(asked, wanted)
    bars = _days(asked, ticker, wanted, wanted, adjusted=asked.flag("adjusted", default=True))
    if not len(bars.start):
        raise not_found("Data not found.")
    values = {name: float(getattr(bars, name)[0]) for name in ("open", "high", "low", "close", "volume")}
    more = {"afterHours": values["close"], "preMarket": values["open"]}
    return {"status": asked.status, "from": wanted.isoformat(), "symbol": ticker, **values, **more} | {
        "request_id": asked.request_id
    }


def rows(bars: Bars, at_ms: NDArray[np.int64], *, ticker: str | None = None, seed: int = 0) -> list[str]:
    """Each bar as the JSON Polygon writes; large volumes in its form with an exponent."""
    name = "" if ticker is None else f'"T":{json.dumps(ticker)},'
    found = []
    columns = (bars.volume, bars.vwap, bars.open, bars.close, bars.high, bars.low, at_ms, bars.trades)
    for v, vw, o, c, h, low, t, n in zip(*(column.tolist() for column in columns), strict=True):
        odd = (t // 1000 + seed) // MINUTE_S % _ODD == 0
        weighted, counted = ("", "") if odd else (f'"vw":{vw!r},', f',"n":{n}')
        found.append(f'{{{name}"v":{volume(v)},{weighted}"o":{o!r},"c":{c!r},"h":{h!r},"l":{low!r},"t":{t}{counted}}}')
    return found


def volume(value: float) -> str:
    """A number of shares: whole if it is, with an exponent from ten million on.

    >>> volume(7.09e7), volume(1234.0), volume(0.5)
    ('7.09e+07', '1234', '0.5')
    """
    if value >= 1e7:
        digits, _, exponent = f"{value:.15e}".partition("e")
        short = f"{float(digits):.15g}"
        if float(f"{short}e{exponent}") == value:
            return f"{short}e{exponent}"
    return str(int(value)) if value == int(value) else repr(value)


def spliced(head: dict[str, Any], results: Sequence[str], tail: dict[str, Any]) -> bytes:
    """An envelope with `results` in the middle, each JSON already."""
    begin = json.dumps(head, separators=(",", ":"))[:-1]
    end = json.dumps(tail, separators=(",", ":"))[1:]
    return f'{begin},"results":[{",".join(results)}],{end}'.encode()


def _range(asked: Asked) -> Range:
    parts = asked.parts
    if not parts["multiplier"].isdecimal() or int(parts["multiplier"]) < 1:
        raise bad(f"Could not parse 'multiplier': {parts['multiplier']!r} is not a positive number.")
    if parts["timespan"] not in (*_SPANS, "second"):
        raise bad(f"Could not parse 'timespan': {parts['timespan']!r} is none of second, {', '.join(_SPANS)}.")
    if parts["timespan"] == "second":
        raise forbidden(NOT_ENTITLED)  # the sandbox keeps no seconds behind it: they are streamed only
    first, last = moment(parts["from"], "from"), moment(parts["to"], "to")
    begin, end = _begin(first), _end(last)
    if begin > end:
        raise bad("The parameter 'to' cannot be a time that occurs before 'from'")
    return Range(
        parts["ticker"],
        int(parts["multiplier"]),
        parts["timespan"],
        begin,
        end,
        asked.flag("adjusted", default=True),
        asked.choice("sort", ("asc", "desc")) == "desc",
        asked.number("limit", 5000, 50_000),
    )


def _begin(found: date | datetime) -> float:
    return found.timestamp() if isinstance(found, datetime) else midnight(found)


def _end(found: date | datetime) -> float:
    """A day is meant to its end, an instant as it is."""
    return found.timestamp() if isinstance(found, datetime) else midnight(found + timedelta(days=1)) - 1


def _base(asked: Asked, wanted: Range) -> Bars:
    """The minutes or days behind the range, in the order asked for, one more than the limit if there is one."""
    if wanted.unit in _LONG:
        bars = _days(asked, wanted.ticker, ny_day(wanted.first), ny_day(wanted.last), adjusted=wanted.adjusted)
        bars = _plus_today(asked, wanted, bars)
        starts = np.array([int(midnight(ny_day(int(one)))) for one in bars.start], dtype=np.int64)
        bars = changed(bars, start=starts)
        kept = (starts >= wanted.first) & (starts <= wanted.last)
        bars = cut(bars, kept)
    else:
        bars = _minutes(asked, wanted)
    bars = cut(bars, slice(None, None, -1)) if wanted.descending else bars
    return cut(bars, slice(wanted.limit + 1))


def _days(asked: Asked, ticker: str, first: date, last: date, *, adjusted: bool) -> Bars:
    """Days that are over under the name `ticker`, whoever had it then."""
    found = []
    for symbol, since, until in spans(asked.world.market, ticker):
        begin, end = max(first, since), min(last, until, asked.today)
        if begin <= end:
            bars = asked.world.days(symbol, begin, end)
            found.append(_adjusted(asked, symbol, bars) if adjusted else bars)
    return joined(found)


def _plus_today(asked: Asked, wanted: Range, bars: Bars) -> Bars:
    """Today so far, for a plan that sees it."""
    session = asked.world.session(asked.world.now())
    if session is None or not asked.plan.today or not wanted.first <= midnight(session.day) <= wanted.last:
        return bars
    for symbol, since, until in spans(asked.world.market, wanted.ticker):
        if since <= session.day <= until:
            minutes = asked.world.minutes(symbol, session.day)
            if len(minutes.start):
                so_far = together(minutes, np.zeros(len(minutes.start), dtype=np.int64))
                return joined([bars, changed(so_far, start=minutes.start[:1])])
    return bars


def _minutes(asked: Asked, wanted: Range) -> Bars:
    """One minute more than the limit, if there are so many, from the end that is asked for first; oldest first."""
    found: list[Bars] = []
    total = 0
    last = asked.today if asked.plan.today else asked.today - timedelta(days=1)
    pieces = spans(asked.world.market, wanted.ticker)
    for session in _sessions(asked.world, wanted, last):
        for symbol, since, until in pieces:
            if not since <= session.day <= until:
                continue
            bars = minutes_of(asked.world, symbol, session)
            bars = cut(bars, (bars.start >= wanted.first) & (bars.start <= wanted.last))
            found.append(_adjusted(asked, symbol, bars) if wanted.adjusted else bars)
            total += len(bars.start)
        if total > wanted.limit:
            break
    return joined(found[::-1] if wanted.descending else found)


def _sessions(world: SandboxWorld, wanted: Range, last: date) -> Sequence[Session]:
    sessions = world.market.sessions(ny_day(wanted.first), min(ny_day(wanted.last), last))
    return sessions[::-1] if wanted.descending else sessions


def _adjusted(asked: Asked, symbol: str, bars: Bars) -> Bars:
    """`bars` in today's shares: for splits up to today, and for nothing else."""
    splits = asked.world.market.splits(symbol, date.min, asked.today)
    if not splits or not len(bars.start):
        return bars
    factor = np.ones(len(bars.start))
    for split in splits:
        factor[bars.start < midnight(split.day)] *= split.new / split.old
    if (factor == 1.0).all():
        return bars
    prices: dict[str, Array] = {
        name: np.round(getattr(bars, name) / factor, 6) for name in ("open", "high", "low", "close", "vwap")
    }
    return changed(bars, volume=np.round(bars.volume * factor, 6), **prices)


def _next(asked: Asked, wanted: Range, following: int) -> str:
    """The following page's address: its ends in milliseconds, as the real one rewrites them."""
    first = int(wanted.first * 1000) if wanted.descending else following * 1000
    last = following * 1000 + 999 if wanted.descending else int(wanted.last * 1000)
    path = f"/v2/aggs/ticker/{wanted.ticker}/range/{wanted.count}/{wanted.unit}/{first}/{last}"
    order = "desc" if wanted.descending else "asc"
    adjusted = "true" if wanted.adjusted else "false"
    return asked.next_url(path, limit=str(wanted.limit), sort=order, adjusted=adjusted)


def _require(asked: Asked, wanted: date) -> None:
    """What a plan does not reach is refused: the years before, and a day that is not over."""
    if asked.plan.years and wanted < asked.today - timedelta(days=366 * asked.plan.years):
        raise forbidden(NO_TIMEFRAME)
    if not asked.plan.today and wanted >= asked.today:
        raise forbidden(
            "Attempted to request today's data before end of day. Please upgrade your plan at https://polygon.io/pricing"
        )
