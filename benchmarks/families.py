"""Families of trials without skill, alike in every way that trials are, and how many of them come out significant.

``verdicts`` is what ``python benchmarks/luck.py --families N`` shows a line of, and what a test looks at.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marketagent import catalog, grid, luck, luckiest
from marketagent.costs import Costs
from marketagent.metrics import Array
from marketagent.panel import Panel, Raw
from marketagent.replay import Ground
from marketagent.robustness.tally import Tally, even_edges
from marketagent.sweep import Sweep, plan

TRIALS, BARS, CASH = 500, 1000, 1e6
DAYS = np.busday_offset(np.datetime64("1990-01-02"), np.arange(9000), roll="forward").astype("datetime64[D]")
Draw = Callable[[np.random.Generator, tuple[int, int]], Array]


@dataclass(frozen=True)
class Found:
    """Of families: the share that is significant by the published deflated Sharpe ratio (`published`: the threshold from
    the number and the spread of the trials), by ours (`deflated`), and by the verdict `p`; and what the trials are worth
    in independent ones, on average."""

    published: float
    deflated: float
    p: float
    effective: float


def published_bar(sharpes: Array) -> float:
    """What the luckiest of trials would reach by Bailey and Lopez de Prado: by how far apart their ratios are."""
    return luck.best_by_luck(float(np.var(np.asarray(sharpes), ddof=1)), len(sharpes)) if len(sharpes) > 1 else 0.0


def verdicts(kind: str, count: int, *, edge: float = 0.0, first: int = 0) -> Found:
    """Of so many families of this `kind`, from seed `first` on; one trial has an `edge`, a Sharpe ratio a bar."""
    rows = []
    for seed in range(first, first + count):
        rng = np.random.default_rng([seed, *kind.encode()])
        days = DAYS[(start := int(rng.integers(len(DAYS) - BARS))) : start + BARS]
        tally = KINDS[kind](rng, edge)
        moments = [tally.moments(number) for number in tally.numbers.tolist()]
        best = max(range(len(moments)), key=lambda row: moments[row].sharpe)
        sharpes = [one.sharpe for one in moments if one.deviation]
        shocks = luckiest.shocks(days, tally.edges)
        family = luckiest.Family(len(sharpes), luckiest.reached(tally.sums, tally.counts, shocks))
        judged = luck.judged(moments[best], tally.blocks(int(tally.numbers[best])), family)
        published = luck.probabilistic_sharpe(moments[best], published_bar(sharpes))
        passed = [(one or 0.0) > luck.CONFIDENCE for one in (published, judged.deflated)]
        rows.append([*passed, judged.p is not None and judged.p < 1 - luck.CONFIDENCE, judged.effective])
    return Found(*np.mean(rows, axis=0).tolist())


def normal(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    return rng.standard_normal(shape)


def fat(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Student's t with three degrees of freedom: its fourth moment is infinite."""
    return rng.standard_t(3, shape)


def crashing(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Small gains and rare large losses: a skewness of -2."""
    return 1 - rng.exponential(size=shape)


def trending(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """A fifth of each return is in the next one."""
    found = rng.standard_normal((shape[1] + 50, shape[0]))
    for t in range(1, len(found)):
        found[t] += 0.2 * found[t - 1]
    return np.ascontiguousarray(found[50:].T)


def clusters(number: int, draw: Draw = normal) -> Callable[[np.random.Generator, float], Tally]:
    """So many clusters of trials that correlate at 0.92 with each other."""

    def family(rng: np.random.Generator, edge: float) -> Tally:
        common = draw(rng, (number, BARS))[np.arange(TRIALS) % number]
        return tallied(common + 0.3 * draw(rng, (TRIALS, BARS)) if number < TRIALS else common, edge)

    return family


def lopsided(rng: np.random.Generator, edge: float) -> Tally:
    """480 near copies of one, and 20 that are of their own: the copies make the spread narrow, the others the luck wide."""
    returns = normal(rng, (1, BARS)) + 0.05 * normal(rng, (TRIALS, BARS))
    returns[-20:] = normal(rng, (20, BARS))
    return tallied(returns, edge)


def ridge(parameters: int, draw: Draw = normal) -> Callable[[np.random.Generator, float], Tally]:
    """Trials along one smooth parameter, or over two: neighbours correlate at 0.99, the ends hardly."""
    sides = [np.linspace(0, 6, TRIALS)] if parameters == 1 else [np.linspace(0, 4, 25), np.linspace(0, 4, 20)]
    seats = [np.linspace(-1, side[-1] + 1, 20 if parameters == 1 else 8) for side in sides]
    places, knots = (np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, parameters) for axes in (sides, seats))
    loads = np.exp(-((places[:, None] - knots[None]) ** 2).sum(axis=-1) / 2)
    return lambda rng, edge: tallied(loads @ draw(rng, (len(knots), BARS)), edge)


def averages(long_only: str) -> Callable[[np.random.Generator, float], Tally]:
    """A sweep of 500 pairs of moving averages over a random walk; its `edge` would have to be the market's: there is none."""

    def family(rng: np.random.Generator, edge: float) -> Tally:
        if edge:
            raise ValueError(f"the edge is {edge}; a random walk has none to plant")
        close = 100 * np.cumprod(1 + rng.normal(0, 0.01, (BARS, 1)), axis=0)  # of logarithms it would gain
        opens = np.vstack([close[:1], close[:-1]])
        raw = Raw(opens, np.maximum(opens, close), np.minimum(opens, close), close, np.full(close.shape, 1e6))
        panel = Panel(DAYS[:BARS], ("AAA",), raw, np.ones(close.shape), np.zeros(close.shape))
        kind = catalog.load("sma_cross", Path("/nonexistent")).kind
        texts = {"fast": "2:26:1", "slow": "27:65:2", "long_only": long_only}
        combined = plan(kind, grid.axes(kind, texts)).strategies
        tally = Tally(combined.numbers, even_edges(BARS, len(combined)), CASH)
        Sweep(Ground(panel, Costs(name="none"), CASH), watch=tally.watch).run(combined, workers=2)
        return tally

    return family


def tallied(returns: Array, edge: float) -> Tally:
    """The tally of a sweep with such `returns` (M, T), of any scale, the first with an `edge`."""
    scaled = 0.01 * returns / returns.std()
    scaled[0] += edge * scaled[0].std()
    tally = Tally(range(len(scaled)), even_edges(BARS, len(scaled)), CASH)
    for number, path in enumerate(scaled):
        tally.watch(number, CASH * np.cumprod(np.maximum(1 + path, 1e-9)))
    return tally


KINDS: dict[str, Callable[[np.random.Generator, float], Tally]] = {
    "one trial": lambda rng, edge: tallied(normal(rng, (1, BARS)), edge),
    "independent": clusters(TRIALS),
    "1 cluster": clusters(1),
    "5 clusters": clusters(5),
    "20 clusters": clusters(20),
    "480 copies and 20": lopsided,
    "ridge": ridge(1),
    "ridge of two": ridge(2),
    "sma sweep": averages("false"),
    "sma sweep, long only": averages("true"),
    "independent, fat tails": clusters(TRIALS, fat),
    "5 clusters, fat tails": clusters(5, fat),
    "ridge, fat tails": ridge(1, fat),
    "independent, crashes": clusters(TRIALS, crashing),
    "5 clusters, crashes": clusters(5, crashing),
    "independent, trends": clusters(TRIALS, trending),
    "5 clusters, trends": clusters(5, trending),
    "ridge, trends": ridge(1, trending),
}
