"""What the luckiest of a family's trials would have reached without any skill, however much alike the trials are.

The neighbours in a sweep are near copies of each other: 500 of them are worth a few independent trials, and which few
cannot be told from their Sharpe ratios. Neither can how far apart independent ones would be: what near copies have in
common moves all of them together, so that the spread of their ratios is small where the luck of the best one is not. So
nothing is estimated from the ratios. Instead the returns of every trial are played again in 1,000 worlds without skill:
each block of its history, less its mean, is multiplied by a standard normal number that belongs to the world and to those
days, the same for all trials. In such a world a trial's t-value is normal by itself, and two trials are as alike as their
returns are. The largest of all trials in each world is what the family could reach by luck there; that, 1,000 numbers, is
all that has to be remembered of however many trials, for the largest of old and new ones is the larger of two.

A world's numbers are the steps of a Brownian path over the calendar, so that trials over other spans, cut into other
blocks, meet the same world where they overlap. Half of the worlds are the mirror images of the others: one trial alone
reaches 0 on average, exactly.

Chernozhukov, Chetverikov and Kato, Gaussian approximations and multiplier bootstrap for maxima of sums of high-dimensional
random vectors, Annals of Statistics 41(6), 2013; used as White, A Reality Check for Data Snooping, Econometrica 68(5),
2000, and Romano and Wolf, Stepwise Multiple Testing as Formalized Data Snooping, Econometrica 73(4), 2005, use a bootstrap.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import log, log1p, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from marketagent.metrics import Array

WORLDS = 1000
BLOCKS = 256  # of a history, at most
_PATHS = WORLDS // 2  # each with its mirror image
_SEED = 20_261_124
_CHUNK = 512  # days whose steps are drawn together
_SLOTS = 16  # of a day, where bars are shorter
_CELLS = 2_000_000  # of each array that is worked on at once: 16 MB
_EVEN = 1e-12  # share of the mean square below which a variance is rounding
_LEAST = 64  # blocks that a variance is taken from, if there are as many: of fewer it is too uncertain
_NORMAL = NormalDist()

Days = NDArray[np.datetime64]
Edges = NDArray[np.int64]


@dataclass(frozen=True)
class Blocks:
    """The sums (B,) of a trial's returns over the blocks of its history, and the `counts` (B,) of returns they have."""

    sums: Array
    counts: Array


@dataclass(frozen=True)
class Family:
    """How many `trials` there are, and what the luckiest of them has `reached` (WORLDS,) in each world."""

    trials: int
    reached: Array

    @property
    def expected(self) -> float:
        """The t-value that the luckiest is to be expected to have without skill; of one trial exactly 0."""
        half = len(self.reached) // 2
        return float(self.reached[:half].mean() + self.reached[half:].mean()) / 2 if self.trials else 0.0

    @property
    def effective(self) -> float:
        """How many independent trials would in the middle reach as much."""
        middle = _NORMAL.cdf(float(np.median(self.reached)))
        return max(log(0.5) / log(middle), 1.0) if 0 < middle < 1 else float(self.trials)

    def share(self, value: float) -> float:
        """In what share of the worlds the luckiest reaches `value`; no less than one trial alone would.

        >>> Family(1, np.zeros(WORLDS)).share(1.6449) > 0.0499
        True
        """
        return max((1 + int((self.reached >= value).sum())) / (len(self.reached) + 1), _NORMAL.cdf(-value))


def blocks(returns: Array, marks: Edges) -> Blocks:
    """`returns` (T,) in the blocks that begin at `marks`; none of them is empty."""
    return Blocks(np.add.reduceat(returns, marks[:-1]), np.diff(marks).astype(np.float64))


def edges(days: Days) -> Edges:
    """Where the blocks of rows with these `days` (T,), at least one, begin, and the end.

    They have the length of the calendar that makes at most so many BLOCKS, a power of two, and begin where it says: those
    of a history that grows stay as they are.
    """
    place = _places(days.astype("datetime64[D]").astype(np.int64))[:-1]
    length = 1
    while place[-1] // length - place[0] // length >= BLOCKS:
        length *= 2
    return np.concatenate([[0], np.flatnonzero(np.diff(place // length)) + 1, [len(days)]])


def cut(bars: int, parts: int) -> Edges:
    """(parts + 1,): where each of so many equal parts of `bars` begins, and the end.

    >>> cut(10, 4).tolist()
    [0, 2, 5, 7, 10]
    """
    return np.arange(parts + 1) * bars // parts


def reached(sums: Array, counts: Array, shocks: Array) -> Array:
    """(WORLDS,): the largest t-value that any trial reaches in each world; minus infinity without one that ever moves.

    `sums` (M, B) are of the returns of blocks that have `counts` (B,) of them; `shocks` are those of the blocks.
    """
    high, low = np.full(_PATHS, -np.inf), np.full(_PATHS, np.inf)
    step = max(_CELLS // max(sums.shape[1], _PATHS), 1)
    for first in range(0, len(sums), step):
        off = _off_mean(sums[first : first + step], counts)
        length = np.sqrt((off**2).sum(axis=1))
        moves = length**2 > _EVEN * (sums[first : first + step] ** 2).sum(axis=1)
        if moves.any():
            values = (off[moves] / length[moves, None]) @ shocks
            np.maximum(high, values.max(axis=0), out=high)
            np.minimum(low, values.min(axis=0), out=low)
    return np.concatenate([high, -low])


def shocks(days: Days, edges: Edges) -> Array:
    """(B, WORLDS / 2): for the blocks of rows between `edges`, whose sessions are `days` (T,), a standard normal number in
    each world; 0 of an empty block."""
    return _shocks(days.astype("datetime64[D]").astype(np.int64).tobytes(), np.asarray(edges, np.int64).tobytes())


def independent(trials: int) -> Array:
    """(WORLDS,): what the best of so many `trials` reaches of whose returns nothing is known: as if independent."""
    shares = np.random.default_rng([_SEED, 1]).random(WORLDS) ** (1 / trials)
    return np.array([_NORMAL.inv_cdf(min(max(share, 1e-16), 1 - 1e-16)) for share in shares.tolist()])


def inflation(own: Blocks, variance: float) -> tuple[float, int]:
    """How many times the variance of the mean of returns is that of independent ones, and of how many blocks that is told.

    Sums of blocks hold what neighbours have in common, `variance` is that of single returns. What bars on both sides of a
    cut have in common is added, as if each had it with the next one only; never where neighbours are against each other,
    for the best of many trials is one in which that is overestimated.
    """
    few = _fewer(own)
    count, size = len(few.sums), few.counts.mean()
    off = _off_mean(few.sums[None], few.counts)[0]
    found = float((off**2).sum() / few.counts.sum() / variance * count / max(count - 1, 1))
    return (1 + (found - 1) * size / (size - 1) if found > 1 and size > 1 else found), count


def normal_of(t: float, freedom: int) -> float:
    """The standard normal value as probable as `t` with so many degrees of freedom.

    Wallace, Bounds on normal approximations to Student's and the chi-square distributions (1959).

    >>> round(normal_of(2.0, 1000), 2), round(normal_of(-3.169, 10), 2)  # P = 0.005 either side of the latter
    (2.0, -2.57)
    """
    size = (8 * freedom + 1) / (8 * freedom + 3) * sqrt(freedom * log1p(t * t / freedom))
    return size if t >= 0 else -size


def _fewer(own: Blocks) -> Blocks:
    """As many blocks as a variance is best taken from: the longer the history, the longer they may be, too."""
    full = own.counts > 0
    sums, counts = own.sums[full], own.counts[full]
    begins = cut(len(sums), min(len(sums), max(_LEAST, int(2 * sqrt(counts.sum())))))[:-1]
    return Blocks(np.add.reduceat(sums, begins), np.add.reduceat(counts, begins))


def _off_mean(sums: Array, counts: Array) -> Array:
    off: Array = sums - sums.sum(axis=1, keepdims=True) / counts.sum() * counts
    return off


@lru_cache(maxsize=4)
def _shocks(days: bytes, edges: bytes) -> Array:
    """Remembered: all trials of a sweep, and all symbols of one, have the same."""
    place = _places(np.frombuffer(days, np.int64))[np.frombuffer(edges, np.int64)]
    span = np.diff(place)
    steps = np.diff(_paths(place), axis=0)
    found: Array = np.where(span[:, None] > 0, steps / np.sqrt(np.maximum(span, 1))[:, None], 0.0)
    return found


def _places(days: NDArray[np.int64]) -> NDArray[np.int64]:
    """(T + 1,): when each row begins, and the end, in slots of a day; rows of one day share it evenly."""
    new = np.flatnonzero(np.concatenate([[True], np.diff(days) != 0]))
    many = np.diff(np.concatenate([new, [len(days)]]))
    within = np.arange(len(days)) - np.repeat(new, many)
    return np.concatenate([days * _SLOTS + within * _SLOTS // np.repeat(many, many), [(days[-1] + 1) * _SLOTS]])


def _paths(places: NDArray[np.int64]) -> Array:
    """(E, WORLDS / 2): how high the path of each world is at ascending `places`; a slot is a unit of time."""
    day, slot = places // _SLOTS, places % _SLOTS
    found, height = np.empty((len(places), _PATHS)), np.zeros(_PATHS)
    for chunk in range(int(day[0] // _CHUNK), int(day[-1] // _CHUNK) + 1):
        steps = sqrt(_SLOTS) * np.random.default_rng([_SEED, 2, chunk]).standard_normal((_CHUNK, _PATHS), np.float32)
        levels = np.cumsum(steps, axis=0)
        here, begin = day // _CHUNK == chunk, day == chunk * _CHUNK
        found[here] = height + levels[day[here] - chunk * _CHUNK - 1]
        found[begin] = height
        for row in np.flatnonzero(here & (slot > 0)).tolist():
            found[row] += _within(int(day[row]), int(slot[row]), steps[day[row] - chunk * _CHUNK])
        height = height + levels[-1]
    return found


def _within(day: int, slot: int, step: Array) -> Array:
    """How far the path has come after so many slots of a `day` that it takes this `step` in: a Brownian bridge."""
    parts = np.random.default_rng([_SEED, 3, day]).standard_normal((_SLOTS, _PATHS))
    return np.asarray(parts[:slot].sum(axis=0) + (step - parts.sum(axis=0)) * (slot / _SLOTS))
