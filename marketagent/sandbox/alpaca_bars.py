"""Alpaca's bars: minutes to months, of a feed's share of the volume, adjusted or as traded, in pages.

What is closed counts, down to the minute: a longer bar that is not over shows what it holds so far, as the real one
does. Minutes and hours begin at round ones of New York's day; a day at its midnight, a week on Monday.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketagent.sandbox.alpaca_query import Query, page_token
from marketagent.sandbox.extended import minutes_of
from marketagent.sandbox.market import Asset, Bars
from marketagent.sandbox.polygon_windows import changed, midnight, ny_day, together
from marketagent.sandbox.refusal import Refusal
from marketagent.sandbox.tape import new_york_day
from marketagent.sandbox.world import MINUTE_S, SandboxWorld, cut, joined

NS = 1_000_000_000
_UNITS = {"T": "Min", "Min": "Min", "H": "Hour", "Hour": "Hour", "D": "Day", "Day": "Day", "W": "Week", "Week": "Week"}
_UNITS |= {"M": "Month", "Month": "Month"}
_COUNTS = {"Min": range(1, 60), "Hour": range(1, 24), "Day": (1,), "Week": (1,), "Month": (1, 2, 3, 4, 6, 12)}
_IEX_SHARE = (0.02, 0.03)  # of the tape's volume
_ADJUSTMENTS = {"raw", "split", "dividend", "spin-off", "all"}


@dataclass(frozen=True)
class Frame:
    """A timeframe: `count` of Min, Hour, Day, Week or Month."""

    count: int
    unit: str

    @property
    def is_intraday(self) -> bool:
        return self.unit in ("Min", "Hour")


def frame(text: str) -> Frame:
    """Raises Refusal, 400."""
    found = re.fullmatch(r"(\d{1,2})([A-Za-z]{1,5})", text, re.ASCII)
    unit = _UNITS.get(found[2], "") if found else ""
    if not found or int(found[1]) not in _COUNTS.get(unit, ()):
        raise Refusal(400, None, f"invalid timeframe: {text[:40]}")
    return Frame(int(found[1]), unit)


def adjustments(text: str) -> frozenset[str]:
    """What prices are to be adjusted for: split, dividend, both or nothing. Raises Refusal, 400."""
    named = set(text.split(","))
    if not named <= _ADJUSTMENTS or (len(named) > 1 and named & {"raw", "all"}):
        raise Refusal(400, None, f"invalid adjustment: {text[:40]}")
    return frozenset({"split", "dividend"} if "all" in named else named & {"split", "dividend"})


def bar_page(
    world: SandboxWorld, wanted: Query, timeframe: Frame, adjusted: frozenset[str]
) -> tuple[dict[str, list[dict[str, Any]]], str | None]:
    """The bars of one page by symbol, and the token of the next; a page may end inside a symbol."""
    found: dict[str, list[dict[str, Any]]] = {}
    left, last = wanted.limit, None
    for name, asset in wanted.names.items():
        after = None
        if wanted.after is not None:
            if name < wanted.after[0]:
                continue
            after = wanted.after[1] if name == wanted.after[0] else None
        bars = selected(world, asset, wanted, timeframe, adjusted, after=after, most=left + 1)
        if len(bars.start) and left == 0:
            return found, last
        if len(bars.start):
            kept = cut(bars, slice(left))
            found[name] = rows(kept)
            last = page_token(name, int(kept.start[-1]) * NS)
        if len(bars.start) > left:
            return found, last
        left -= len(bars.start)
    return found, None


def selected(
    world: SandboxWorld,
    asset: Asset,
    wanted: Query,
    timeframe: Frame,
    adjusted: frozenset[str],
    *,
    after: int | None = None,
    most: int,
) -> Bars:
    """At most `most` bars of `asset` in the order asked for; those behind `after` (Unix nanoseconds)."""
    first, last = wanted.start.timestamp(), wanted.end.timestamp()
    if after is not None and wanted.descending:
        last = min(last, after / NS - 1)
    elif after is not None:
        first = max(first, after / NS + 1)
    parts: list[Bars] = []
    total = 0
    if wanted.feed in ("sip", "iex", "delayed_sip") and first <= last:
        for bars in _pieces(world, asset, wanted, timeframe, adjusted, first, last):
            parts.append(cut(bars, slice(None, None, -1)) if wanted.descending else bars)
            total += len(bars.start)
            if total >= most:
                break
    return cut(joined(parts), slice(most))


def rows(bars: Bars) -> list[dict[str, Any]]:
    """Bars as Alpaca writes them."""
    columns = (bars.close, bars.high, bars.low, bars.trades, bars.open, bars.start, bars.volume, bars.vwap)
    return [
        {"c": c, "h": h, "l": low, "n": n, "o": o, "t": second(t), "v": int(v), "vw": vw}
        for c, h, low, n, o, t, v, vw in zip(*(column.tolist() for column in columns), strict=True)
    ]


def second(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def of_feed(world: SandboxWorld, symbol: str, bars: Bars, feed: str) -> Bars:
    """What `feed` saw of `bars`: of IEX's few trades, none in some minutes."""
    if feed != "iex" or not len(bars.start):
        return bars
    share = iex_share(world, symbol, ny_day(int(bars.start[0])))
    volume = np.floor(bars.volume * share)
    trades = np.maximum(np.floor(bars.trades * share), 1).astype(np.int64)
    return cut(changed(bars, volume=volume, trades=trades), volume > 0)


def iex_share(world: SandboxWorld, symbol: str, day: date) -> float:
    """The part of a day's volume that IEX saw."""
    return world.part(_Shares).of(symbol, day)


class _Shares:
    """Drawn for a year at once: dice of its own for each day would cost a fetch of years more than its bars."""

    def __init__(self, world: SandboxWorld) -> None:
        self.world = world
        self._years: dict[tuple[str, int], list[float]] = {}

    def of(self, symbol: str, day: date) -> float:
        key = symbol, day.year
        if key not in self._years:
            dice = self.world.random("iex", *key)
            self._years[key] = [dice.uniform(*_IEX_SHARE) for _ in range(366)]
        return self._years[key][day.timetuple().tm_yday - 1]


def so_far(world: SandboxWorld, symbol: str, feed: str) -> Bars:
    """Today's bar out of the minutes that have closed; none before the first."""
    today = new_york_day(world.now())
    minutes = of_feed(world, symbol, world.minutes(symbol, today), feed)
    start = np.full(len(minutes.start), int(midnight(today)), dtype=np.int64)
    return together(minutes, start)


def daily(world: SandboxWorld, symbol: str, first: date, last: date, feed: str) -> Bars:
    """Days that are over, and today so far; `start` is New York's midnight."""
    bars = world.days(symbol, first, last)
    days = [ny_day(int(start)) for start in bars.start]
    bars = changed(bars, start=np.array([int(midnight(day)) for day in days], dtype=np.int64))
    if feed == "iex" and days:
        share = np.array([iex_share(world, symbol, day) for day in days])
        trades = np.maximum(np.floor(bars.trades * share), 1).astype(np.int64)
        bars = changed(bars, volume=np.floor(bars.volume * share), trades=trades)
    today = new_york_day(world.now())
    if first <= today <= last and (not days or days[-1] < today):
        bars = joined([bars, so_far(world, symbol, feed)])
    return bars


def _pieces(
    world: SandboxWorld,
    asset: Asset,
    wanted: Query,
    timeframe: Frame,
    adjusted: frozenset[str],
    first: float,
    last: float,
) -> Iterator[Bars]:
    """Bars with their start from `first` to `last`, oldest first in a piece; pieces in the order asked for."""
    today = new_york_day(world.now())
    begin, end = max(ny_day(first), asset.listed), min(ny_day(last), today)
    if not timeframe.is_intraday:
        begin, end = _whole_period(timeframe, begin, today) if begin <= end else (begin, end)
        days = daily(world, asset.symbol, begin, end, wanted.feed) if begin <= end else joined([])
        days = _adjusted(world, asset.symbol, days, adjusted)
        bars = together(days, _days_windows(timeframe, days.start))
        yield cut(bars, (bars.start >= first) & (bars.start <= last))
        return
    sessions = world.market.sessions(begin, end) if begin <= end else ()
    for session in reversed(sessions) if wanted.descending else sessions:
        minutes = of_feed(world, asset.symbol, minutes_of(world, asset.symbol, session), wanted.feed)
        minutes = _adjusted(world, asset.symbol, minutes, adjusted)
        width = timeframe.count * (MINUTE_S if timeframe.unit == "Min" else 3600)
        origin = int(midnight(session.day))
        bars = together(minutes, minutes.start - (minutes.start - origin) % width)
        yield cut(bars, (bars.start >= first) & (bars.start <= last))


def _whole_period(timeframe: Frame, begin: date, today: date) -> tuple[date, date]:
    """From the first day of the period of `begin`, so that the first bar is whole; to today, so that the last one is."""
    return (ny_day(_window(timeframe, begin) + 43_200) if timeframe.unit != "Day" else begin), today


def _days_windows(timeframe: Frame, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    if timeframe.unit == "Day":
        return starts
    return np.array([_window(timeframe, ny_day(int(start))) for start in starts], dtype=np.int64)


def _window(timeframe: Frame, day: date) -> int:
    if timeframe.unit == "Week":
        return int(midnight(day - timedelta(days=day.weekday())))
    if timeframe.unit == "Month":
        month = day.year * 12 + day.month - 1
        month -= month % timeframe.count
        day = date(month // 12, month % 12 + 1, 1)
    return int(midnight(day))


def _adjusted(world: SandboxWorld, symbol: str, bars: Bars, kinds: frozenset[str]) -> Bars:
    """`bars` in today's shares and less the dividends since, as `kinds` has it; nothing that is yet to come."""
    if not kinds or not len(bars.start):
        return bars
    today = new_york_day(world.now())
    shares, price = np.ones(len(bars.start)), np.ones(len(bars.start))
    for split in world.market.splits(symbol, date.min, today) if "split" in kinds else ():
        shares[bars.start < midnight(split.day)] *= split.new / split.old
    for day, left in _dividends(world, symbol, today) if "dividend" in kinds else ():
        price[bars.start < midnight(day)] *= left
    factor = price / shares
    prices = {name: np.round(getattr(bars, name) * factor, 4) for name in ("open", "high", "low", "close", "vwap")}
    return changed(bars, volume=np.rint(bars.volume * shares), **prices)


def _dividends(world: SandboxWorld, symbol: str, today: date) -> Sequence[tuple[date, float]]:
    """(ex-date, what it leaves of a price before it) of every dividend so far."""
    found = []
    for dividend in world.market.dividends(symbol, date.min, today):
        before = world.market.days(symbol, dividend.day - timedelta(days=30), dividend.day - timedelta(days=1))
        if len(before.close):
            found.append((dividend.day, 1 - dividend.cash / float(before.close[-1])))
    return found
