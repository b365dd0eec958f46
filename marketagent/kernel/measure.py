"""The metrics of one equity path, as ``metrics`` defines them.

Sums are added in whatever order is quick: the last bits of a metric may not be those that ``metrics`` finds.
"""

import numpy as np

from marketagent.compiled import Array, cells_at, compiled, inlined, numbers_at, reordered
from marketagent.kernel.terms import PERIODS, START_CASH, TRADED, TRADES
from marketagent.metrics import ROUNDING

# The last equity, and metrics: NaN where one is None.
FIGURES = ("equity", "total_return", "cagr", "sharpe", "max_drawdown", "trades", "turnover")
GLANCE = 32  # rows that are looked over together for a new depth


@inlined
def measure(equity: Array, terms: Array, account: Array, figures: Array) -> None:
    """What FIGURES names, of `equity` (T,), which lies in a row."""
    count, cash = len(equity), terms[START_CASH]
    worth, first = equity, equity[0] / cash - 1
    total, square, moves, sum_of_worth, is_lost = _spread(worth, first)
    if is_lost:
        worth = _zero_once_lost(equity)
        first = worth[0] / cash - 1
        total, square, moves, _, _ = _spread(worth, first)
    level, mean, square = worth[-1] / cash, first + total / count, square - total * total / count
    figures[:] = np.nan
    figures[0], figures[1], figures[5] = equity[-1], level - 1, account[TRADES]
    figures[2] = level ** (terms[PERIODS] / count) - 1
    figures[4] = _deepest_fall(worth.ctypes.data, count, cash)
    if moves:
        deviation = np.sqrt(square / (count - 1))
        if deviation > ROUNDING * (1 + abs(mean)):
            figures[3] = mean / deviation * np.sqrt(terms[PERIODS])
    if sum_of_worth > 0:
        figures[6] = account[TRADED] / (sum_of_worth / count) / (count / terms[PERIODS])
    for k in range(len(figures)):
        if not np.isfinite(figures[k]):
            figures[k] = np.nan


@compiled
def _zero_once_lost(equity: Array) -> Array:
    """An account that has reached 0 stays there."""
    worth, lost = np.zeros(len(equity)), False
    for t in range(len(equity)):
        lost = lost or equity[t] <= 0
        worth[t] = 0.0 if lost else equity[t]
    return worth


@reordered
def _spread(worth: Array, first: float) -> tuple[float, float, bool, float, bool]:
    """How far the returns are from the `first` one: the sum, that of the squares, and whether any differs at all; the sum of
    what the account is worth, and whether that reaches 0 anywhere. In one pass: the division is what takes the time."""
    total, square, level, others, lost = 0.0, 0.0, worth[0], 0, int(worth[0] <= 0)
    for t in range(1, len(worth)):
        away = (worth[t] / worth[t - 1] if worth[t - 1] > 0 else 1.0) - 1 - first
        total += away
        square += away * away
        level += worth[t]
        others += away != 0
        lost += worth[t] <= 0
    return total, square, others > 0, level, lost > 0


@compiled
def _deepest_fall(worth: int, count: int, peak: float) -> float:
    """The maximum drawdown, a fraction of at most 0, of what is at least 0 at the address `worth`.

    Looked for only where the least of some rows would be deep below the highest up to their end. Bits of numbers that are
    not negative are in the order of the numbers, and of whole numbers the least is found many at a time.
    """
    fall = 0.0
    for first in range(0, count, GLANCE):
        size = min(GLANCE, count - first)
        bits = numbers_at(worth, first, size)
        least, most = bits[0], bits[0]
        for i in range(size):
            least, most = min(least, bits[i]), max(most, bits[i])
        top = max(peak, _number(most))
        if _number(least) - top < fall * top:
            part = cells_at(worth, first, size)
            for i in range(size):  # divided at once: whether it is deeper would be a guess
                peak = max(peak, part[i])
                fall = min(fall, (part[i] - peak) / peak)
        peak = top
    return fall


@compiled
def _number(bits: int) -> float:
    return np.int64(bits).view(np.float64)
