"""The metrics of one equity path, as ``metrics`` defines them.

Sums are added in whatever order is quick: the last bits of a metric may not be those that ``metrics`` finds.
"""

import numpy as np

from marketagent.compiled import Array, compiled, inlined, reordered
from marketagent.kernel.terms import PERIODS, START_CASH, TRADED, TRADES

# The last equity, and metrics: NaN where one is None.
FIGURES = ("equity", "total_return", "cagr", "sharpe", "max_drawdown", "trades", "turnover")
GLANCE = 64  # rows that are looked over together for a new height or depth


@inlined
def measure(equity: Array, terms: Array, account: Array, figures: Array) -> None:
    """What FIGURES names, of `equity` (T,)."""
    count, cash, mean_equity = len(equity), terms[START_CASH], _total(equity) / len(equity)
    worth = _zero_once_lost(equity) if _is_lost(equity) else equity
    level, first = worth[-1] / cash, worth[0] / cash - 1
    total, square, moves = _spread(worth, first)
    mean, square = first + total / count, square - total * total / count
    figures[:] = np.nan
    figures[0], figures[1], figures[4], figures[5] = equity[-1], level - 1, _deepest_fall(worth, cash), account[TRADES]
    figures[2] = level ** (terms[PERIODS] / count) - 1
    if moves:
        figures[3] = mean / np.sqrt(square / (count - 1)) * np.sqrt(terms[PERIODS])
    if mean_equity > 0:
        figures[6] = account[TRADED] / mean_equity / (count / terms[PERIODS])
    for k in range(len(figures)):
        if not np.isfinite(figures[k]):
            figures[k] = np.nan


@compiled
def _is_lost(equity: Array) -> bool:
    lost = 0
    for t in range(len(equity)):
        lost += equity[t] <= 0
    return lost > 0


@compiled
def _zero_once_lost(equity: Array) -> Array:
    """An account that has reached 0 stays there."""
    worth, lost = np.zeros(len(equity)), False
    for t in range(len(equity)):
        lost = lost or equity[t] <= 0
        worth[t] = 0.0 if lost else equity[t]
    return worth


@reordered
def _total(values: Array) -> float:
    total = 0.0
    for t in range(len(values)):
        total += values[t]
    return total


@reordered
def _spread(worth: Array, first: float) -> tuple[float, float, bool]:
    """How far the returns are from the `first` one: the sum, that of the squares, and whether any differs at all."""
    total, square, others = 0.0, 0.0, 0
    for t in range(1, len(worth)):
        away = (worth[t] / worth[t - 1] if worth[t - 1] > 0 else 1.0) - 1 - first
        total += away
        square += away * away
        others += away != 0
    return total, square, others > 0


@compiled
def _deepest_fall(worth: Array, peak: float) -> float:
    """The maximum drawdown, a fraction of at most 0."""
    fall = 0.0
    for first in range(0, len(worth), GLANCE):
        part = worth[first : first + GLANCE]
        depth, news = peak * (1 + fall), 0
        for i in range(len(part)):
            news += (part[i] > peak) | (part[i] < depth)
        for i in range(len(part) if news else 0):
            if part[i] > peak:
                peak = part[i]
            elif part[i] - peak < fall * peak:
                fall = (part[i] - peak) / peak
    return fall
