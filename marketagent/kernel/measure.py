"""The metrics of one equity path, as ``metrics`` defines them.

Sums are added in whatever order is quick: the last bits of a metric may not be those that ``metrics`` finds.
"""

import numpy as np

from marketagent.compiled import Array, compiled, inlined, reordered
from marketagent.kernel.terms import PERIODS, START_CASH, TRADED, TRADES

RESULTS = ("total_return", "cagr", "sharpe", "max_drawdown", "trades", "turnover")  # NaN where a metric is None
GLANCE = 64  # rows that are looked over together for a new height or depth


@inlined
def measure(equity: Array, terms: Array, account: Array, results: Array) -> None:
    """The metrics of `equity` (T,), in the order of RESULTS."""
    count, cash, mean_equity = len(equity), terms[START_CASH], _total(equity) / len(equity)
    worth = _zero_once_lost(equity) if _is_lost(equity) else equity
    returns = np.empty(count)
    _changes(worth, cash, returns)
    level, mean = worth[-1] / cash, _total(returns) / count
    square, moves = _spread(returns, mean)
    results[:] = np.nan
    results[0], results[3], results[4] = level - 1, _deepest_fall(worth, cash), account[TRADES]
    results[1] = level ** (terms[PERIODS] / count) - 1
    if moves:
        results[2] = mean / np.sqrt(square / (count - 1)) * np.sqrt(terms[PERIODS])
    if mean_equity > 0:
        results[5] = account[TRADED] / mean_equity / (count / terms[PERIODS])


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


@compiled
def _changes(worth: Array, before: float, returns: Array) -> None:
    returns[0] = worth[0] / before - 1
    for t in range(1, len(worth)):
        returns[t] = (worth[t] / worth[t - 1] if worth[t - 1] > 0 else 1.0) - 1


@reordered
def _total(values: Array) -> float:
    total = 0.0
    for t in range(len(values)):
        total += values[t]
    return total


@reordered
def _spread(values: Array, mean: float) -> tuple[float, bool]:
    """The sum of squares around the `mean`, and whether the values differ at all."""
    square, others = 0.0, 0
    for t in range(len(values)):
        square += (values[t] - mean) * (values[t] - mean)
        others += values[t] != values[0]
    return square, others > 0


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
