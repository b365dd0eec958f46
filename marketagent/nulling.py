"""A run against random entries: the same account, as many times as asked for, on all cores."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np

from marketagent import sweeping
from marketagent.backtest import Backtest, Terms
from marketagent.luck import Chance
from marketagent.robustness.chance import entries, share_as_good
from marketagent.scoring import SEED


def tested(home: Path, result: Backtest, terms: Terms, runs: int, *, start: int) -> Chance | None:
    """How `result` did among so many `runs` of random entries; None where its own Sharpe ratio is not defined.

    From the same run always the same. A random run that has no Sharpe ratio has not traded: it counts as 0.
    """
    own = result.metrics["sharpe"]
    if own is None:
        return None
    decisions = result.decisions
    ground = sweeping.ground(home, decisions.panel, terms, start)
    _ = ground.facts  # made here, once: of what two threads make at the same time one would be freed

    def sharpe(number: int) -> float:
        rng = np.random.default_rng([SEED, number])
        targets = entries(decisions.targets, decisions.panel, start, rng)
        return ground.replay(targets, decisions.strategy.band)[1]["sharpe"] or 0.0

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = list(pool.map(sharpe, range(runs)))
    return Chance(runs, median(found), share_as_good(own, found))
