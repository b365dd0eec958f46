"""The widths of Polygon's bars: which window a minute or a day is part of, and what the windows hold together.

Minutes and hours are counted from midnight New York; days from the first one asked for; weeks from Sunday; months,
quarters and years from the calendar.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketagent.sandbox.market import Array, Bars
from marketagent.sandbox.world import MINUTE_S, NEW_YORK, cut


@dataclass(frozen=True)
class Range:
    """What a range asks for, its ends in Unix seconds, inclusive."""

    ticker: str
    count: int
    unit: str
    first: float
    last: float
    adjusted: bool
    descending: bool
    limit: int


def together(base: Bars, windows: NDArray[np.int64]) -> Bars:
    """`base` put together by window, in the order the windows have."""
    if not len(windows):
        return base
    begins = np.flatnonzero(np.concatenate([[True], windows[1:] != windows[:-1]]))
    ends = np.concatenate([begins[1:], [len(windows)]]) - 1
    rising = bool(base.start[0] <= base.start[-1])
    first, last = (begins, ends) if rising else (ends, begins)
    total: Array = np.add.reduceat(base.volume, begins)
    paid = np.add.reduceat(base.volume * base.vwap, begins)
    mean = np.add.reduceat(base.vwap, begins) / (ends - begins + 1)
    alone = ends == begins
    weighted = np.where(total > 0, np.round(paid / np.where(total > 0, total, 1), 4), np.round(mean, 4))
    return Bars(
        start=windows[begins],
        open=base.open[first],
        high=np.maximum.reduceat(base.high, begins),
        low=np.minimum.reduceat(base.low, begins),
        close=base.close[last],
        volume=np.asarray(np.round(total, 6), dtype=np.float64),
        vwap=np.where(alone, base.vwap[begins], weighted),
        trades=np.add.reduceat(base.trades, begins),
    )


def windows_of(wanted: Range, starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each base bar, the start of the bar that it is part of."""
    if wanted.unit in ("minute", "hour"):
        width = wanted.count * (MINUTE_S if wanted.unit == "minute" else 3600)
        # Five hours behind UTC it is New York's date from 4:00 to 20:00 there, in summer and in winter.
        days, place = np.unique((starts - 5 * 3600) // 86_400, return_inverse=True)
        midnights = np.array([int(midnight(ny_day(int(own) * 86_400 + 43_200))) for own in days], dtype=np.int64)
        return np.asarray(starts - (starts - midnights[place]) % width) if len(starts) else starts
    return np.array([int(midnight(_window_day(wanted, ny_day(int(start))))) for start in starts], dtype=np.int64)


def _window_day(wanted: Range, own: date) -> date:
    """The day that a bar of days, weeks (from Sunday), months, quarters or years begins on."""
    if wanted.unit in ("day", "week"):
        width = wanted.count * (7 if wanted.unit == "week" else 1)
        origin = date(1970, 1, 4) if wanted.unit == "week" else ny_day(wanted.first)
        return own - timedelta(days=(own - origin).days % width)
    width = wanted.count * {"month": 1, "quarter": 3, "year": 12}[wanted.unit]
    month = own.year * 12 + own.month - 1
    month -= month % width
    return date(month // 12, month % 12 + 1, 1)


def page(wanted: Range, base: Bars, windows: NDArray[np.int64]) -> tuple[Bars, NDArray[np.int64], int | None]:
    """The page's base bars and windows, and where the next page begins (Unix seconds), None if this is the last.

    `base` holds one bar more than the limit if there is one. No window is torn, unless it alone is beyond the limit.
    """
    if len(windows) <= wanted.limit:
        return base, windows, None
    whole = np.arange(len(windows)) < wanted.limit
    before = whole & (windows != windows[wanted.limit])
    kept = before if before.any() else whole
    base, rest = cut(base, kept), cut(base, ~kept)
    following = int(rest.start[0])
    if before.any():
        following = int(windows[kept][-1]) - 1 if wanted.descending else int(windows[wanted.limit])
    return base, windows[kept], following


def changed(bars: Bars, **columns: Any) -> Bars:
    """`bars` with some columns others."""
    return Bars(**{name: columns.get(name, getattr(bars, name)) for name in Bars.__dataclass_fields__})


# Asked for the same sessions by every symbol: remembered, they cost a tenth.
@lru_cache(maxsize=16_384)
def midnight(wanted: date) -> float:
    """Unix seconds of the beginning of a day in New York."""
    return datetime(wanted.year, wanted.month, wanted.day, tzinfo=NEW_YORK).timestamp()


@lru_cache(maxsize=16_384)
def ny_day(seconds: float) -> date:
    """The date in New York at so many Unix seconds."""
    return datetime.fromtimestamp(seconds, UTC).astimezone(NEW_YORK).date()
