"""What it costs to say what a sweep's best is worth, against the sweep itself; and how long a walk-forward takes.

    python benchmarks/luck.py             # 3 rounds
    python benchmarks/luck.py 5
    python benchmarks/luck.py --families 400   # how many families of 500 trials without skill are significant: a quarter of an hour

The sweep is that of ``benchmarks/sweep.py``: 2,500 pairs of moving averages, 10 symbols, 5,000 sessions. ``tally`` is the
same sweep with the sums of all returns kept, less the sweep without; ``pbo``, ``spa`` and ``worlds``, what the luckiest
would reach without skill, are computed from them.
The walk-forward is ``--walk-forward 3y/1y`` of the grid that ``momentum`` declares, on 100 symbols and 10 years: every
combination played, chosen and traded out of sample. Every figure is a minimum over the rounds. Ends with 1 beyond a goal.

Goals: each at most a quarter of the sweep; the walk-forward at most 3 times the sweep of its combinations.

``--families`` draws families of 500 trials over 1,000 bars without any skill, alike in every way of ``families.py``, and
shows in what share of them the best comes out significant: by the deflated Sharpe ratio as it is published, from the number
and the spread of the trials; by ours, from what the luckiest of them is to be expected to reach in worlds without skill; and
by the verdict p. ``worth`` is how many independent trials the 500 are worth, ``edge found`` how often p finds the one trial
with a true Sharpe ratio of 3 a year. Ends with 1 where more than 5 % are significant, beyond the Monte Carlo error. Of 500
families of each kind (an error of 1.0 percentage points; and of 50 with an edge):

                            published  deflated       p    worth  edge found
    one trial                    5.0%      5.0%    4.2%      1.0        100%
    independent                  0.2%      0.4%    5.8%    460.0         94%
    1 cluster                    4.8%      4.8%    5.8%      3.3        100%
    5 clusters                   0.0%      0.6%    4.2%     19.2        100%
    20 clusters                  0.0%      0.4%    4.2%     67.9        100%
    480 copies and 20           12.8%      1.0%    5.6%     21.0        100%
    ridge                        0.0%      2.6%    4.6%      4.1        100%
    ridge of two                 0.0%      1.2%    3.8%     10.6        100%
    sma sweep                    1.0%      2.6%    5.0%      8.7
    sma sweep, long only         2.2%      4.2%    4.8%      4.2
    independent, fat tails       0.0%      0.0%    3.6%    460.8         92%
    5 clusters, fat tails        0.0%      2.2%    5.2%     20.4         94%
    ridge, fat tails             0.0%      2.0%    4.4%      4.0        100%
    independent, crashes         0.4%      1.0%    3.6%    462.4         92%
    5 clusters, crashes          0.0%      1.2%    5.4%     19.4        100%
    independent, trends          0.0%      0.6%    4.4%    460.1         86%
    5 clusters, trends           0.0%      2.2%    3.8%     19.2         98%
    ridge, trends                0.0%      4.4%    3.8%      4.1         96%
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs from a bare checkout
sys.path.insert(0, str(Path(__file__).resolve().parent))

import families
import numpy as np
from sweep import CASH, FAST, SLOW, market

from marketagent import catalog, grid, luckiest
from marketagent.costs import parse
from marketagent.decision import decide
from marketagent.panel import Panel, Raw
from marketagent.replay import Ground
from marketagent.robustness import walk
from marketagent.robustness.overfitting import overfitting
from marketagent.robustness.superiority import superiority
from marketagent.robustness.tally import Tally, even_edges
from marketagent.simulate import simulate
from marketagent.sweep import Sweep, plan

NOBODY = Path("/nonexistent")
QUARTER, TIMES = 0.25, 3.0
LEVEL, EDGE = 0.05, 0.19
SESSIONS, SYMBOLS = 2_520, 100


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what a sweep's verdicts cost.")
    parser.add_argument("rounds", nargs="?", type=int, default=3, help="how often each part is run (3)")
    parser.add_argument("--families", type=int, default=0, help="of each kind, to be judged instead of measured")
    asked = parser.parse_args()
    rounds = asked.rounds
    if rounds < 1:
        parser.error(f"rounds is {rounds}; it must be at least 1")
    if asked.families:
        return significant(asked.families)
    return max(verdicts(rounds), walk_forward(rounds))


def significant(count: int) -> int:
    """A line for each kind of families; 1 if of any more are significant than 5 % and three times its error."""
    print(
        f"{'share of families significant by':<26}{'published':>10}{'deflated':>10}{'p':>8}{'worth':>9}{'edge found':>12}"
    )
    most = LEVEL + 3 * (LEVEL * (1 - LEVEL) / count) ** 0.5
    failed = False
    for kind in families.KINDS:
        found = families.verdicts(kind, count)
        edge = "" if kind.startswith("sma") else f"{families.verdicts(kind, max(count // 10, 1), edge=EDGE).p:.0%}"
        print(
            f"{kind:<26}{found.published:>10.1%}{found.deflated:>10.1%}{found.p:>8.1%}{found.effective:>9.1f}{edge:>12}",
            flush=True,
        )
        failed = failed or max(found.deflated, found.p) > most
    print(f"of {count} families each; with up to {most:.1%}, {LEVEL:.0%} are within the Monte Carlo error")
    print(
        f"the edge is an annual Sharpe ratio of {EDGE * 252**0.5:.1f} of one trial; found in so many of {max(count // 10, 1)}"
    )
    return int(failed)


def verdicts(rounds: int) -> int:
    panel, cores = market(), len(os.sched_getaffinity(0))
    kind = catalog.load("sma_cross", NOBODY).kind
    texts = {"fast": ",".join(map(str, FAST)), "slow": ",".join(map(str, SLOW))}
    pairs = plan(kind, grid.axes(kind, texts)).strategies
    tally = Tally([number for number, _ in pairs], even_edges(len(panel.sessions), len(pairs)), CASH)
    ground = Ground(panel, parse("ibkr-fixed", slippage_bps=5), CASH)
    took = fastest(
        rounds,
        {
            "sweep": lambda: Sweep(ground).run(pairs, workers=cores),
            "with tally": lambda: Sweep(ground, watch=tally.watch).run(pairs, workers=cores),
            "pbo": lambda: overfitting(tally.counts, tally.sums, tally.squares),
            "spa": lambda: superiority(tally.sums, seed=1),
            "worlds": lambda: luckiest.reached(tally.sums, tally.counts, luckiest.shocks(panel.days, tally.edges)),
        },
    )
    took["tally"] = max(took.pop("with tally") - took["sweep"], 0.0)
    print(f"{len(pairs):,} pairs x {panel.shape[1]} symbols x {panel.shape[0]:,} sessions on {cores} cores")
    for name, seconds in took.items():
        ratio = "" if name == "sweep" else f"{seconds / took['sweep']:>8.2f} of the sweep, goal {QUARTER}"
        print(f"{name:<14}{seconds:>7.2f} s{ratio}")
    return 1 if any(took[name] > QUARTER * took["sweep"] for name in ("pbo", "spa", "worlds", "tally")) else 0


def walk_forward(rounds: int) -> int:
    panel, costs, cores = many(), parse("ibkr-fixed"), len(os.sched_getaffinity(0))
    kind = catalog.load("momentum", NOBODY).kind
    combined = plan(kind, grid.declared(kind, [])).strategies
    by_number = dict(combined)
    folds = walk.folds(panel.days, 0, walk.asked("3y/1y", 1, 0))
    edges = walk.edges_of(folds, 0, SESSIONS)

    def walked() -> None:
        tally = Tally(list(by_number), edges, CASH)
        Sweep(Ground(panel, costs, CASH), watch=tally.watch).run(combined, workers=cores)
        chosen = []
        for fold in folds:
            blocks = fold.blocks(edges, 0)
            best = walk.best_of(tally.sharpes(blocks), tally.squares @ blocks.astype(np.float64))
            chosen.append(combined[best][0])
        made = walk.stitched(panel, folds, chosen, lambda number: decide(by_number[number], panel))
        simulate(made.targets, panel, costs, CASH, start=folds[0].test[0])

    took = fastest(
        rounds,
        {
            "walk-forward": walked,
            "its sweep": lambda: Sweep(Ground(panel, costs, CASH)).run(combined, workers=cores),
        },
    )
    ratio = took["walk-forward"] / took["its sweep"]
    print(f"{len(combined)} combinations x {SYMBOLS} symbols x {SESSIONS:,} sessions, {len(folds)} windows")
    for name, seconds in took.items():
        print(f"{name:<14}{seconds:>7.2f} s")
    print(f"{'ratio':<14}{ratio:>7.2f}   goal {TIMES:g}")
    return 1 if ratio > TIMES else 0


def fastest(rounds: int, parts: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The least seconds each part takes, after a round that is not counted: it may have to compile."""
    took: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds + 1):
        for name, part in parts.items():
            began = time.perf_counter()
            part()
            took[name].append(time.perf_counter() - began)
    return {name: min(times[1:]) for name, times in took.items()}


def many() -> Panel:
    """A seeded market of 100 symbols over 10 years."""
    rng = np.random.default_rng(1)
    close = 50 * np.exp(np.cumsum(rng.normal(0.0003, 0.015, (SESSIONS, SYMBOLS)), axis=0))
    opens = np.vstack([close[:1], close[:-1]])
    days = np.busday_offset(np.datetime64("2012-01-03"), np.arange(SESSIONS), roll="forward").astype("datetime64[D]")
    raw = Raw(opens, np.maximum(opens, close), np.minimum(opens, close), close, np.full(close.shape, 1e6))
    names = tuple(f"S{n:03}" for n in range(SYMBOLS))
    return Panel(days, names, raw, np.ones(close.shape), np.zeros(close.shape))


if __name__ == "__main__":
    sys.exit(main())
