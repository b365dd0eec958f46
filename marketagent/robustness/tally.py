"""What is kept of the returns of every combination of a sweep: sums of their powers, block by block.

From them come the moments of a combination, its Sharpe ratio over any union of blocks (the training windows of a
walk-forward, the halves of a cross-validation), and its return of each block, which a bootstrap draws from. The returns
themselves are not kept: a sweep of 10,000 combinations over 5,000 bars would have 400 MB of them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from marketagent.compiled import Array, Whole, compiled
from marketagent.luck import Moments
from marketagent.luckiest import BLOCKS, Blocks, cut

_CUTS = 16  # of which the number of blocks is a multiple: what a cross-validation cuts into
_CELLS = 8_000_000  # of each matrix: 64 MB
_EVEN = 1e-12  # share of the mean square below which a variance is rounding


class Tally:
    """Sums over blocks (B) for each of the combinations (M): `sums` and `squares` of its returns, both (M, B).

    `edges` (B + 1) are the bars at which blocks begin, the first 0, the last how many bars there are; `numbers` those
    of the combinations in the grid, ascending, the order of the rows. A row is there once its equity has been watched.
    """

    def __init__(self, numbers: Sequence[int] | NDArray[np.int64], edges: NDArray[np.int64], cash: float) -> None:
        self.edges, self._cash = edges, float(cash)
        self.numbers = np.asarray(numbers, dtype=np.int64)
        self.sums, self.squares = (np.zeros((len(numbers), len(edges) - 1)) for _ in range(2))
        self._tails = np.zeros((len(numbers), 2))  # sums of the third and fourth powers over all blocks

    def watch(self, number: int, equity: Array) -> None:
        """Take the `equity` (T,) of one combination; several threads may."""
        sums = np.empty((len(self.edges) - 1, 4))
        power_sums(equity, self._cash, self.edges, sums)
        row = self._row(number)
        self.sums[row], self.squares[row] = sums[:, 0], sums[:, 1]
        self._tails[row] = sums[:, 2:].sum(axis=0)

    @property
    def counts(self) -> Array:
        """(B,): how many returns each block has."""
        return np.diff(self.edges).astype(np.float64)

    def moments(self, number: int) -> Moments:
        """Those of all returns of a combination, as ``luck.moments`` has them."""
        row, count = self._row(number), int(self.edges[-1])
        if count < 2:
            return Moments(count, float(self.sums[row].sum()), 0.0, 0.0, 3.0)
        first, second = self.sums[row].sum() / count, self.squares[row].sum() / count
        third, fourth = self._tails[row] / count
        variance = second - first**2
        if variance <= _EVEN * second:
            return Moments(count, float(first), 0.0, 0.0, 3.0)
        skew = (third - 3 * first * second + 2 * first**3) / variance**1.5
        kurtosis = (fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4) / variance**2
        return Moments(
            count, float(first), float(np.sqrt(variance * count / (count - 1))), float(skew), float(kurtosis)
        )

    def blocks(self, number: int) -> Blocks:
        """The returns of a combination, block by block."""
        return Blocks(self.sums[self._row(number)], self.counts)

    def rows(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """(M,): where the combinations with these `numbers` are."""
        return np.searchsorted(self.numbers, numbers)

    def _row(self, number: int) -> int:
        return int(np.searchsorted(self.numbers, number))

    def sharpes(self, blocks: NDArray[np.bool_]) -> Array:
        """(M,): Sharpe ratios a bar over the `blocks` (B,) that are true; 0 where returns never differ."""
        chosen = blocks.astype(np.float64)
        return sharpes(self.counts @ chosen, self.sums @ chosen, self.squares @ chosen)


def sharpes(count: Array | float, sums: Array, squares: Array) -> Array:
    """Sharpe ratios a bar from sums and sums of squares of `count` returns; 0 where they never differ.

    >>> sharpes(4, np.array([4.0, 4.0]), np.array([4.0, 10.0])).round(6).tolist()
    [0.0, 0.707107]
    """
    mean = sums / count
    variance = squares / count - mean**2
    moves = variance > _EVEN * squares / count
    scale = np.sqrt(np.where(moves, variance, 1.0) * (count / np.maximum(np.subtract(count, 1), 1)))
    return np.where(moves, mean / scale, 0.0)


def even_edges(bars: int, combinations: int) -> NDArray[np.int64]:
    """The edges of equal blocks of `bars`: as many as fit the memory that so many `combinations` may have."""
    most = min(BLOCKS, bars, _CELLS // max(combinations, 1))
    return cut(bars, max(most - most % _CUTS, _CUTS))


@compiled
def power_sums(equity: Array, cash: float, edges: Whole, sums: Array) -> None:
    """Into `sums` (B, 4): of the returns from each of `edges` to the next, the sums of their first four powers.

    Returns are those of ``metrics.session_returns``: an account that reaches 0 is lost.
    """
    before, lost = cash, False
    for block in range(len(edges) - 1):
        one = two = three = four = 0.0
        for t in range(edges[block], edges[block + 1]):
            lost = lost or equity[t] <= 0
            worth = 0.0 if lost else equity[t]
            change = worth / before - 1 if before > 0 else 0.0
            before = worth
            square = change * change
            one += change
            two += square
            three += square * change
            four += square * square
        sums[block, 0], sums[block, 1], sums[block, 2], sums[block, 3] = one, two, three, four
