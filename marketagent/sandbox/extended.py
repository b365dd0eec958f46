"""Bars before the open and after the close, as Polygon and Alpaca mix them into their minutes: few, thin and no part of the day.

A daily bar here is that of regular hours. Before the open prices stay near the last close, after the close near that
one: nothing is given away of a session that is still to come.
"""

from datetime import timedelta

import numpy as np

from marketagent.sandbox import bridge
from marketagent.sandbox.market import Array, Bars, Market, Session
from marketagent.sandbox.world import MINUTE_S, SandboxWorld, cut, joined

_EARLY, _LATE = timedelta(hours=5, minutes=30), timedelta(hours=4)  # 4:00 to 9:30, and four hours after the close
_A_SIDE = 12  # bars


def minutes_of(world: SandboxWorld, symbol: str, session: Session) -> Bars:
    """The minutes of a session that are over, oldest first, with those around it where the world has them."""
    regular = world.minutes(symbol, session.day)
    if not world.extended_hours:
        return regular
    early, late = outside(world.market, symbol, session)
    bars = joined([early, regular, late])
    return cut(bars, bars.start + MINUTE_S <= world.now().timestamp())


def outside(market: Market, symbol: str, session: Session) -> tuple[Bars, Bars]:
    """The minutes of `symbol` before and after `session`; none on a day without a bar."""
    today = market.days(symbol, session.day, session.day)
    before = market.days(symbol, session.day - timedelta(days=10), session.day - timedelta(days=1))
    if not len(today.start):
        return joined([]), joined([])
    early, late = session.open_at - _EARLY, session.close_at
    last = before.close[-1] if len(before.start) else today.open[0]
    rng = bridge.dice(market.seed, "extended", symbol, session.day)
    return (
        _thin(float(last), int(early.timestamp()), int(_EARLY.total_seconds()), rng),
        _thin(float(today.close[0]), int(late.timestamp()), int(_LATE.total_seconds()), rng),
    )


def _thin(price: float, first: int, seconds: int, rng: np.random.Generator) -> Bars:
    """A few single prices near `price` in the stretch."""
    starts = first + MINUTE_S * np.sort(rng.choice(seconds // MINUTE_S, _A_SIDE, replace=False))
    decimals = 2 if price >= 1 else 4
    prices = np.maximum(10.0**-decimals, np.round(price * (1 + rng.normal(0, 0.001, _A_SIDE)), decimals))
    volume: Array = rng.integers(1, 20, _A_SIDE).astype(np.float64) * 100
    return Bars(
        start=starts.astype(np.int64),
        open=prices,
        high=prices,
        low=prices,
        close=prices,
        volume=volume,
        vwap=prices,
        trades=bridge.trades(volume),
    )
