"""What costs do to a run: how dear trading may become before nothing is left, and how large the account.

Both are answered by trading the same targets again, not by arithmetic on the first run: with other costs or more cash
other quantities are affordable.
"""

from collections.abc import Callable
from dataclasses import dataclass

from marketagent.costs import LARGEST_BPS

NEAR_BPS = 0.01  # the break-even is as good as this
TIMES = (1.0, 10.0, 100.0, 1000.0)
_STEPS = 40  # of the search; a dozen are many


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


def break_even_bps(excess: Callable[[float], float], traded: float) -> float | None:
    """The flat cost, in bps of the traded value a side, at which `excess` (USD, of a run at so many bps) is gone.

    0 where there is none even without costs; None where nothing was traded (`traded` in USD), or where no cost up to
    LARGEST_BPS takes it away. The excess falls with the cost, almost along a line: false position, Illinois variant.

    >>> break_even_bps(lambda bps: 100.0 - 4 * bps, 40_000.0)
    25.0
    """
    if not traded:
        return None
    low, above = 0.0, excess(0.0)
    if above <= 0:
        return 0.0
    high, below = _crossed(excess, above / traded * 10_000)
    if below > 0:
        return None
    side = 0
    for _ in range(_STEPS):
        if high - low <= NEAR_BPS or below == 0:
            break
        guess = (low * below - high * above) / (below - above)
        guess = min(max(guess, low + NEAR_BPS / 4), high - NEAR_BPS / 4)  # an end that hardly moves must come closer
        found = excess(guess)
        if found > 0:
            low, above, below, side = guess, found, below / 2 if side > 0 else below, 1
        else:
            high, below, above, side = guess, found, above / 2 if side < 0 else above, -1
    return high


def _crossed(excess: Callable[[float], float], guess: float) -> tuple[float, float]:
    """The first of `guess` and its doubles at which the excess is gone, with it; the largest there is if at none."""
    high = min(guess, LARGEST_BPS)
    while (left := excess(high)) > 0 and high < LARGEST_BPS:
        high = min(high * 2, LARGEST_BPS)
    return high, left
