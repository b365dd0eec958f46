"""The probability that choosing the best of a sweep is overfitting (PBO), by combinatorially symmetric cross-validation.

The history is cut into 16 blocks; for each of the 12,870 ways to take half of them, the combination with the best Sharpe
ratio in that half is looked up in the other one. Where choosing finds skill, it stands high there; where there is none
to find, it stands anywhere, and below the middle half of the time.

Bailey, Borwein, Lopez de Prado and Zhu, The Probability of Backtest Overfitting, Journal of Computational Finance 20(4),
2017. Sums and sums of squares of a block's returns give the Sharpe ratio of any union of blocks exactly, so nothing else
is needed of the returns.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from marketagent.compiled import Array, Whole, compiled
from marketagent.luckiest import cut

BLOCKS = 16
_LEAST = 5  # returns a block, below which its Sharpe ratio says nothing
_EVEN = 1e-12  # as in ``tally``: share of the mean square below which a variance is rounding


@dataclass(frozen=True)
class Overfitting:
    """`pbo`: in what share of the `splits` the best of one half is below the middle of all in the other; a place in the
    very middle counts half. `loss`: in what share it loses there (a Sharpe ratio below 0)."""

    pbo: float
    loss: float
    splits: int


def overfitting(counts: Array, sums: Array, squares: Array) -> Overfitting | None:
    """Of combinations (M) with `sums` and `squares` (M, B) of the returns of blocks (B) that have `counts` of them.

    None of fewer than two combinations that ever gained or lost, or of fewer than 16 blocks of five returns.
    """
    blocks, moving = sums.shape[1], int(np.count_nonzero(squares.any(axis=1)))
    if moving < 2 or blocks < BLOCKS or counts.sum() < BLOCKS * _LEAST:
        return None
    begins = cut(blocks, BLOCKS)[:-1]
    count, total, square = (np.add.reduceat(part, begins, axis=-1) for part in (counts, sums, squares))
    below, lost = judge(_halves(), count, np.ascontiguousarray(total.T), np.ascontiguousarray(square.T))
    splits = 2 * len(_halves())
    return Overfitting(below / splits, lost / splits, splits)


def _halves() -> NDArray[np.int64]:
    """(6435, 8): all halves of the blocks that have the first one; the others are what they leave."""
    return np.array([(0, *rest) for rest in combinations(range(1, BLOCKS), BLOCKS // 2 - 1)])


@compiled
def judge(halves: Whole, count: Array, sums: Array, squares: Array) -> tuple[float, float]:
    """Of all `halves` and what they leave: how often the best of one is below the middle in the other, and loses there.

    `count` is (K,), `sums` and `squares` are (K, M).
    """
    blocks, combined = sums.shape
    total, square = np.zeros(combined), np.zeros(combined)
    for block in range(blocks):
        total += sums[block]
        square += squares[block]
    below = lost = 0.0
    one_sum, one_square = np.empty(combined), np.empty(combined)
    one, other = np.empty(combined), np.empty(combined)
    for half in halves:
        number = 0.0
        one_sum[:] = 0.0
        one_square[:] = 0.0
        for block in half:
            number += count[block]
            one_sum += sums[block]
            one_square += squares[block]
        rest = count.sum() - number
        for m in range(combined):
            one[m] = _sharpe(number, one_sum[m], one_square[m])
            other[m] = _sharpe(rest, total[m] - one_sum[m], square[m] - one_square[m])
        for turn in range(2):
            chosen_in, judged_in = (one, other) if turn == 0 else (other, one)
            best = judged_in[chosen_in.argmax()]
            worse = better = 0
            for m in range(combined):
                worse += judged_in[m] < best
                better += judged_in[m] > best
            below += 1.0 if worse < better else 0.5 if worse == better else 0.0
            lost += best < 0
    return below, lost


@compiled
def _sharpe(count: float, total: float, squares: float) -> float:
    """A bar, with the deviation of the population: the same for all that are compared."""
    mean, square = total / count, squares / count
    variance = square - mean * mean
    return mean / np.sqrt(variance) if variance > _EVEN * square else 0.0
