"""How much of a Sharpe ratio may be luck: of one run, and of the best of all that were tried.

A run is a trial. Its probabilistic Sharpe ratio is the probability that the true one is above a threshold, given how
many returns there are and how skewed and fat-tailed they are. Its deflated one takes for the threshold what the best
of all trials of its family would reach if none of them had any skill. Sharpe ratios are per bar in here, not annual.

Bailey and Lopez de Prado, The Sharpe Ratio Efficient Frontier, Journal of Risk 15 (2012); The Deflated Sharpe Ratio,
Journal of Portfolio Management 40 (2014). Their threshold is that of independent trials, from how many there are and how
far their Sharpe ratios are apart, which the trials of a sweep tell neither of: see ``luckiest``, where it is taken from
their returns instead. The deflated ratio asks for 95 % above what is expected of the luckiest, which is more than that
only one family in twenty without skill should pass; that is what the verdict `p` is: how often the luckiest of trials as
alike as these is as good. Who chooses among strategies, or among universes, has tried more than any one family knows of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import e, expm1, sqrt
from statistics import NormalDist, fmean

import numpy as np

from marketagent.luckiest import Blocks, Family, inflation, normal_of
from marketagent.metrics import Array, deviation

CONFIDENCE = 0.95
_EULER = 0.5772156649015329
_MOST_LOGS = 709.0  # of growth, which a float holds
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Moments:
    """Of `count` returns: their mean, sample deviation, skewness and kurtosis (3 of a normal), per bar."""

    count: int
    mean: float
    deviation: float
    skew: float
    kurtosis: float

    @property
    def sharpe(self) -> float:
        """Per bar; of returns that never differ, 0."""
        return self.mean / self.deviation if self.deviation else 0.0


@dataclass(frozen=True)
class Judged:
    """A run among the `trials` of its family, itself included; they are worth as many independent ones as `effective`.

    `by_luck` is the Sharpe ratio a bar that the best of them would have without skill; `probabilistic` the probability
    that this run's true one is above 0, `deflated` that it is above `by_luck`. `p` is how often the best of trials without
    skill, as alike as these are, would be as good as this run: below 1 - CONFIDENCE it is significant. None where there
    is too little to say.
    """

    trials: int
    effective: float
    by_luck: float
    probabilistic: float | None
    deflated: float | None
    p: float | None


@dataclass(frozen=True)
class Intervals:
    """The middle 95 % of the annual Sharpe ratio and of the CAGR, of so many `samples` in blocks of `block` returns on
    average. A growth that no float holds, as of a few bars within a day over a year, is None."""

    samples: int
    block: int
    sharpe_low: float
    sharpe_high: float
    cagr_low: float | None
    cagr_high: float | None


@dataclass(frozen=True)
class Chance:
    """Of so many `runs` of random entries: the middle annual Sharpe ratio, and `p`, the share of them and the run
    itself that did at least as well."""

    runs: int
    sharpe: float
    p: float


def moments(returns: Array) -> Moments:
    """The moments of `returns` (T,); zeros where they differ by rounding at most, or where there are fewer than two."""
    if len(returns) < 2 or deviation(returns) == 0:
        return Moments(len(returns), float(returns.mean()) if len(returns) else 0.0, 0.0, 0.0, 3.0)
    off = returns - returns.mean()
    spread = float(np.sqrt(np.mean(off**2)))
    return Moments(
        len(returns),
        float(returns.mean()),
        deviation(returns),
        float(np.mean(off**3)) / spread**3,
        float(np.mean(off**4)) / spread**4,
    )


def judged(run: Moments, own: Blocks, family: Family) -> Judged:
    """`run`, whose returns are `own` block by block, among all trials of its family, of which it is one."""
    probabilistic = probabilistic_sharpe(run, 0.0)
    if probabilistic is None:
        return Judged(family.trials, family.effective, 0.0, None, None, None)
    times, blocks = inflation(own, run.deviation**2)
    by_luck = max(family.expected, 0.0) * sqrt(times / (run.count - 1))
    value = normal_of(run.sharpe * sqrt((run.count - 1) / times / max(_error(run), 1.0)), max(blocks - 1, 1))
    deflated = probabilistic_sharpe(run, by_luck)
    return Judged(family.trials, family.effective, by_luck, probabilistic, deflated, family.share(value))


def best_without_skill(years: Sequence[float]) -> float:
    """What the best yearly Sharpe ratio of independent runs without skill, each of so many `years`, is expected to be.

    The ratio of a run that has none is off by one over the root of its years.

    >>> round(best_without_skill([8.0] * 60), 2)
    0.83
    """
    return best_by_luck(fmean(1 / each for each in years), len(years)) if years else 0.0


def probabilistic_sharpe(run: Moments, threshold: float) -> float | None:
    """The probability that the true Sharpe ratio a bar is above `threshold`; None of fewer than three returns, of ones
    that never differ, or where the moments allow no estimate.

    >>> round(probabilistic_sharpe(Moments(24, 0.458, 1.0, -2.448, 10.164), 0.0), 3)
    0.913
    """
    error = _error(run)
    if run.count < 3 or not run.deviation or error <= 0:
        return None
    return _NORMAL.cdf((run.sharpe - threshold) * sqrt(run.count - 1) / sqrt(error))


def _error(run: Moments) -> float:
    """The variance of the Sharpe ratio, in units of that of normal returns without any; what it takes off counts for the
    published ratio, but not for a verdict: of many trials those with a lucky outlier have it."""
    return 1 - run.skew * run.sharpe + (run.kurtosis - 1) / 4 * run.sharpe**2


def best_by_luck(spread: float, trials: int) -> float:
    """The largest Sharpe ratio to be expected of so many independent `trials` without skill, whose Sharpe ratios have
    the variance `spread`; 0 of one.

    >>> round(best_by_luck(1.0, 10), 2)
    1.57
    """
    if trials < 2 or not spread > 0:
        return 0.0
    first, second = _NORMAL.inv_cdf(1 - 1 / trials), _NORMAL.inv_cdf(1 - 1 / (trials * e))
    return sqrt(spread) * ((1 - _EULER) * first + _EULER * second)


def bootstrapped(returns: Array, samples: int, periods: int, seed: int) -> Intervals | None:
    """Intervals from so many stationary bootstrap `samples` of `returns` (T,), `periods` of which are a year.

    Blocks of a random length keep what returns have to do with each other; their mean length is that of Politis and
    White, Automatic block-length selection (2004). None of fewer than 20 returns, or of ones that never differ.
    """
    if len(returns) < 20 or deviation(returns) == 0:
        return None
    from arch.bootstrap import StationaryBootstrap, optimal_block_length  # scipy and statsmodels: 1.5 s

    block = max(round(float(optimal_block_length(returns)["stationary"].iloc[0])), 1)

    def measured(sample: Array) -> Array:
        spread = np.std(sample, ddof=1)
        sharpe = np.mean(sample) / spread * np.sqrt(periods) if spread else 0.0
        return np.array([sharpe, np.log1p(np.maximum(sample, -1 + 1e-12)).mean() * periods])

    found = StationaryBootstrap(block, returns, seed=seed).apply(measured, samples)
    tail = (1 - CONFIDENCE) / 2
    (sharpe_low, low), (sharpe_high, high) = np.quantile(found, [tail, 1 - tail], axis=0).tolist()
    return Intervals(samples, block, sharpe_low, sharpe_high, _grown(low), _grown(high))


def _grown(logs: float) -> float | None:
    return expm1(logs) if logs < _MOST_LOGS else None
