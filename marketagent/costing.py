"""What costs do to a run: how dear trading may become before nothing is left, and how large the account.

Both are answered by trading the same targets again, not by arithmetic on the first run: with other costs or more cash
other quantities are affordable.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from marketagent.costs import LARGEST_BPS
from marketagent.metrics import Array

NEAR, NEAR_BPS = 0.005, 0.05  # the break-even is as good as this share of itself, or as so many bps
TIMES = (1.0, 10.0, 100.0, 1000.0)
_STEPS = 40  # of the search; two or three are the rule


@dataclass(frozen=True)
class Size:
    """One account of another size: its starting `cash` in USD, and how it did (None: undefined)."""

    cash: float
    equity: float
    total_return: float | None
    cagr: float | None
    sharpe: float | None
    costs_paid: float
    unfilled: int


def break_even_bps(
    excess: Callable[[float], float], guess: float, traded: float, about: tuple[float, float] | None = None
) -> float | None:
    """The flat cost, in bps of the traded value a side, at which the `excess` of a run at so many bps is gone.

    0 where there is none even without costs; None where nothing was `traded` (value, in the unit of the excess), or where
    no cost up to LARGEST_BPS takes it away. A run takes long: `guess` is where to look first, and `about` a cost and the
    excess it has, roughly, which says how far to go from there. The excess falls with the cost, in steps where shares are
    whole: false position, Illinois variant.

    >>> break_even_bps(lambda bps: 100.0 - 4 * bps, 20.0, 40_000.0)
    25.0
    """
    if not traded:
        return None
    bps = min(max(guess, 0.0), LARGEST_BPS)
    least = traded * max(NEAR_BPS, NEAR * bps) / 10_000
    found = excess(bps)
    step = max(bps / 20, 1.0) if about is None else _step(about, (bps, found))
    for k in range(_STEPS):
        if bps and abs(found) <= least:
            return bps
        if bps == (LARGEST_BPS if found > 0 else 0.0):
            return None if found > 0 else 0.0
        nearer = min(bps + step, LARGEST_BPS) if found > 0 else max(bps - step, 0.0)
        left = excess(nearer)
        if abs(left) > least and (left > 0) != (found > 0):
            first, last = sorted([(bps, found), (nearer, left)])
            return _between(excess, first, last, least)
        # A second line is better than the first; a third would only creep where the excess hardly falls.
        step = step * 2 if k else _step((bps, found), (nearer, left))
        bps, found = nearer, left
    raise AssertionError("the steps double, so the ends are soon met")


def _step(one: tuple[float, float], other: tuple[float, float]) -> float:
    """How far from the cost of `other` a line through both, (cost, excess), meets 0."""
    (bps, found), (there, left) = one, other
    falls = (found - left) * (there - bps)
    return max(abs(left) * (there - bps) ** 2 / falls, NEAR_BPS) if falls > 0 else max(there / 20, 1.0)


def _between(
    excess: Callable[[float], float], first: tuple[float, float], last: tuple[float, float], least: float
) -> float:
    """Where the excess is at most `least`, between a cost that leaves some and one that leaves none."""
    (low, above), (high, below), side = first, last, 0
    guess = low
    for _ in range(_STEPS):
        guess = (low * below - high * above) / (below - above)
        found = excess(guess)
        if abs(found) <= least or high - low <= NEAR_BPS / 10:
            break
        if found > 0:
            low, above, below, side = guess, found, below / 2 if side > 0 else below, 1
        else:
            high, below, above, side = guess, found, above / 2 if side < 0 else above, -1
    return guess


def guessed_bps(returns: Array, paid: Array, traded: Array, goal: float) -> float:
    """The flat cost in bps at which an account would grow to `goal` times its start, if it traded the same shares of
    itself: from `returns`, and `paid` costs and `traded` value as fractions of the account before, (T,) each a session.

    >>> round(guessed_bps(np.array([0.0, 0.1]), np.zeros(2), np.array([1.0, 1.0]), 1.0), 1)
    487.5
    """
    grown, busy = 1 + returns + paid, traded != 0
    with np.errstate(invalid="ignore", divide="ignore"):  # an account lost at that cost has grown to nothing
        idle = np.log(np.maximum(grown[~busy], 0.0)).sum() - np.log(goal)  # whatever the cost
        grown, traded = grown[busy], traded[busy]

        def left(bps: float) -> float:
            growth = np.maximum(grown - bps / 10_000 * traded, 0.0)
            return float(np.log(growth).sum() + idle)

        low, high = 0.0, LARGEST_BPS
        for _ in range(24):
            middle = (low + high) / 2
            low, high = (middle, high) if left(middle) > 0 else (low, middle)
        return low if left(0.0) > 0 else 0.0
