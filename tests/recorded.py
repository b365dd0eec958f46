"""A market that anyone can make again, and what other backtesters made of it.

The prices are sums of waves, in whole cents. The figures came out of backtesting.py 0.6.6, vectorbt 1.2.0, bt 1.4.1,
pybroker 2.0.2 and raptorbt 0.13.4 on 2026-11-24; ``benchmarks/correctness.py`` asks all five again and compares.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SESSIONS, SYMBOLS = 600, 3
TERMS = {"fast": 10, "slow": 30, "gross": 0.9, "fee": 0.002, "slippage": 0.0005, "cash": 100_000.0}
RECORDED = {
    "backtesting.py, long and short": 184_684.59,
    "backtesting.py, long only, 0.2 %": 143_682.52382,
    "backtesting.py, the next open": 139_235.83048,
    "vectorbt, the next open": 139_235.83048,
    "pybroker, the next open": 139_235.83048,
    "raptorbt, the next open": 139_235.83048,
    "vectorbt, from_orders in whole shares": 142_402.0791395302,
    "vectorbt, from_orders in whole shares, sharpe": 1.0358567535631045,
    "vectorbt, from_orders in whole shares, sortino": 1.5991358054747737,
    "vectorbt, from_orders in whole shares, max_drawdown": -0.17080655252300225,
    "vectorbt, from_orders in fractions": 142_414.7496639478,
    "bt, the close, 0.2 %": 144_311.8937,
    "bt, three symbols weekly at the close": 132_953.39,
    "vectorbt, three symbols weekly, IBKR": 132_697.99,
}


def market() -> dict[str, Any]:
    """(T, N) open, high, low, close, volume, and the sessions (T,): every weekday from 2020-01-01."""
    t, n = np.arange(SESSIONS)[:, None], np.arange(SYMBOLS)
    wave = 0.0006 * t + 0.12 * np.sin(t / (17 + n) + n) + 0.05 * np.sin(t / 5.3 + n) + 0.01 * np.sin(1.7 * t + n)
    close = np.round((60 + 40 * n) * np.exp(wave), 2)
    opened = np.round(np.vstack([close[:1], close[:-1]]) * (1 + 0.004 * np.sin(2.9 * t + n)), 2)
    days = np.busday_offset(np.datetime64("2020-01-01"), np.arange(SESSIONS), roll="forward").astype("datetime64[D]")
    prices = {"open": opened, "high": np.maximum(opened, close), "low": np.minimum(opened, close), "close": close}
    return {**prices, "volume": np.full(close.shape, 1e6), "sessions": days}


def one() -> dict[str, Any]:
    """The first symbol alone, its columns (T,)."""
    return {name: values if name == "sessions" else values[:, 0] for name, values in market().items()}


def crossings(close: Array, below: float) -> Array:
    """Targets (T,) where the averages of TERMS cross: 1 upwards, `below` downwards, NaN elsewhere."""
    fast, slow = (average(close, int(TERMS[name])) for name in ("fast", "slow"))
    targets = np.full(len(close), np.nan)
    up, down = (fast > slow)[1:] & (fast < slow)[:-1], (fast < slow)[1:] & (fast > slow)[:-1]
    targets[1:][up], targets[1:][down] = 1.0, below
    return targets


def average(close: Array, window: int) -> Array:
    plain = np.convolve(close, np.ones(window) / window, "valid")
    return np.concatenate([np.full(window - 1, np.nan), plain])


def weekly() -> Array:
    """Targets (T, N) on the first session of each week: a tenth, three and five, handed on from week to week."""
    week = market()["sessions"].astype("datetime64[W]").astype(int)
    first = np.diff(week, prepend=week[:1] - 1) > 0
    turn = (np.arange(SYMBOLS) + week[:, None]) % 3
    return np.where(first[:, None], np.array([0.1, 0.3, 0.5])[turn], np.nan)
