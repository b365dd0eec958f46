"""A market that lives through stored bars again, moved to the present.

The stored sessions are laid on the newest real ones, in order and one to one, so that the last stored one falls about a
year ahead of now: there is a past to fetch and a future to live through, and "today" is a real date near the wall
clock's. The end moves twice a year only, so that what a rehearsal stored in March is still the same market in May.
Split and dividend days move with the bars. A session that lands on a half day is a shorter one.
"""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import date, datetime
from fractions import Fraction
from typing import Any

import numpy as np

from marketagent.panel import Panel
from marketagent.sandbox import bridge
from marketagent.sandbox.listing import Calendar, Listed, Listing
from marketagent.sandbox.market import Asset, Bars, Dividend, Split
from marketagent.sandbox.stored import Stored

FUTURE = 250  # sessions


class Replay(Listing):
    """The stored companies, each from its first stored bar to its last."""

    def __init__(self, stored: Stored, now: datetime, seed: int = 0) -> None:
        super().__init__(seed, Calendar(stored.sessions))
        panel = stored.panel
        shift = _end(self.calendar, now, len(panel.sessions)) - len(panel.sessions)
        self._listed = {
            symbol: _listed(self.calendar, panel, n, shift, stored.minutes.get(symbol))
            for n, symbol in enumerate(panel.symbols)
        }

    def listed(self, symbol: str) -> Listed | None:
        return self._listed.get(symbol)

    def assets(self) -> Sequence[Asset]:
        return [self._listed[symbol].asset for symbol in sorted(self._listed)]


def end_of_life(calendar: Calendar, now: datetime) -> int:
    """The number of the session behind the last one that a sandbox lives through: an end of June or December."""
    today = calendar.newest(now)
    halves = [date(now.year + year, month, day) for year in (0, 1, 2) for month, day in ((6, 30), (12, 31))]
    ends = [bisect_right(calendar.days, half) for half in halves]
    return next((end for end in ends if end > today + FUTURE), len(calendar.days))


def _end(calendar: Calendar, now: datetime, stored: int) -> int:
    """The same; with less than two such years stored, a third of the sessions lies ahead."""
    today, end = calendar.newest(now), end_of_life(calendar, now)
    return end if 2 * (end - today) <= stored else min(today + 1 + stored // 3, len(calendar.days))


def _listed(calendar: Calendar, panel: Panel, n: int, shift: int, minutes: dict[str, Any] | None) -> Listed:
    """Column `n` of the panel, its rows moved to session `row + shift`; rows before the calendar's first are left out."""
    symbol = panel.symbols[n]
    rows = np.flatnonzero(np.isfinite(panel.raw.close[:, n]))
    rows = rows[rows + shift >= 0]
    days = [calendar.days[row + shift] for row in rows]
    splits, dividends = _actions(calendar, panel, n, shift, set(rows.tolist()))
    return Listed(
        asset=Asset(
            symbol=symbol,
            name=f"{symbol} as stored from {panel.sources[n] if panel.sources else 'a panel'}",
            listed=days[0],
            delisted=days[-1] if rows[-1] + 1 < len(panel.sessions) else None,
        ),
        session=rows + shift,
        open=panel.raw.open[rows, n],
        high=panel.raw.high[rows, n],
        low=panel.raw.low[rows, n],
        close=panel.raw.close[rows, n],
        volume=np.nan_to_num(panel.raw.volume[rows, n]),
        splits=splits,
        dividends=dividends,
        minutes=_moved(calendar, panel, shift, minutes) if minutes else {},
    )


def _actions(
    calendar: Calendar, panel: Panel, n: int, shift: int, rows: set[int]
) -> tuple[tuple[Split, ...], tuple[Dividend, ...]]:
    splits, dividends, symbol = [], [], panel.symbols[n]
    for row in range(max(0, -shift), len(panel.sessions)):
        if row not in rows:
            continue
        day = calendar.days[row + shift]
        if (ratio := float(panel.split[row, n])) != 1.0:
            new, old = _ratio(ratio)
            splits.append(Split(symbol=symbol, day=day, new=new, old=old))
        if (cash := float(panel.dividend[row, n])) > 0:
            dividends.append(Dividend(symbol=symbol, day=day, cash=cash))
    return tuple(splits), tuple(dividends)


def _ratio(ratio: float) -> tuple[float, float]:
    """New for old shares in the terms it was announced in: 3 for 2, 1 for 10; an odd one as it is, for 1."""
    near = Fraction(ratio).limit_denominator(100)
    if near.numerator and float(near) == ratio:
        return float(near.numerator), float(near.denominator)
    return ratio, 1.0


def _moved(calendar: Calendar, panel: Panel, shift: int, minutes: dict[str, np.ndarray]) -> dict[int, Bars]:
    """Stored minutes by the session they move to; those beyond the end of a shorter one are left out."""
    sessions = panel.sessions.astype("datetime64[D]").astype(np.int64)
    found: dict[int, Bars] = {}
    for day in np.unique(minutes["day"]):
        row = int(np.searchsorted(sessions, day))
        number = row + shift
        if row == len(sessions) or sessions[row] != day or number < 0:
            continue
        session = calendar.sessions[number]
        length = int((session.close_at - session.open_at).total_seconds()) // bridge.MINUTE_S
        mine = (minutes["day"] == day) & (minutes["minute"] < length)
        if mine.any():
            found[number] = _bars(calendar, number, {name: column[mine] for name, column in minutes.items()})
    return found


def _bars(calendar: Calendar, number: int, columns: dict[str, np.ndarray]) -> Bars:
    high, low, close = (columns[name].astype(float) for name in ("high", "low", "close"))
    return Bars(
        start=calendar.opens[number] + columns["minute"].astype(np.int64) * bridge.MINUTE_S,
        open=columns["open"].astype(float),
        high=high,
        low=low,
        close=close,
        volume=columns["volume"].astype(float),
        vwap=bridge.vwap(high, low, close),
        trades=bridge.trades(columns["volume"]),
    )
