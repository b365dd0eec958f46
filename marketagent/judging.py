"""What a sweep's best combination is worth: the ledger of trials, deflation, overfitting, superiority over a benchmark."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from marketagent import luck, luckiest
from marketagent.luckiest import Family
from marketagent.outcomes import Numbers
from marketagent.panel import Array
from marketagent.records import Luck, Sweep
from marketagent.scoring import SEED
from marketagent.store.trials import Trial, record_all
from marketagent.sweeping import Sweeping


def entered(
    home: Path, sweeps: Iterable[tuple[str, Sweeping, Numbers]], now: datetime, *, timeout_s: float
) -> list[Family]:
    """Write down as trials, for each run of a sweep, the combinations with these numbers; returns all of its family."""
    entries = [(_trials(*one), _reached(*one[1:])) for one in sweeps]
    return record_all(home, entries, now, timeout_s=timeout_s)


def _reached(swept: Sweeping, numbers: Numbers) -> Array:
    """What the best of the combinations with these `numbers` reaches in the worlds of ``luckiest``."""
    tally, ground = swept.tally, swept.sweep.ground
    rows = tally.rows(numbers)
    sums = tally.sums if len(rows) == len(tally.sums) else tally.sums[rows]
    return luckiest.reached(sums, tally.counts, luckiest.shocks(ground.panel.days[ground.start :], tally.edges))


def _trials(run: str, swept: Sweeping, numbers: Numbers) -> Iterator[Trial]:
    strategies, ground = swept.plan.strategies, swept.sweep.ground
    first, last = str(ground.panel.days[ground.start]), str(ground.panel.days[-1])
    for number in map(int, numbers):
        yield Trial(
            run=run,
            strategy=swept.loaded.name,
            strategy_hash=swept.loaded.hash,
            params=strategies.strategy(number).params(),
            symbols=ground.panel.symbols,
            timeframe=ground.panel.timeframe,
            first=first,
            last=last,
            moments=swept.tally.moments(number),
        )


def judged(run: str, swept: Sweeping, family: Family) -> Sweep:
    """The record of a sweep: what was tried, what was best, and what is left of that after all `family` trials."""
    ground, done = swept.sweep.ground, swept.sweep.done
    first = int(swept.ranked[0]) if done else None
    best = None if first is None else luck.judged(swept.tally.moments(first), swept.tally.blocks(first), family)
    return Sweep(
        run=run,
        strategy=swept.loaded.name,
        strategy_hash=swept.loaded.hash,
        params=swept.params,
        swept={axis.name: list(axis.values) for axis in swept.axes if axis.name in swept.swept},
        combinations=swept.combinations,
        refused=swept.plan.refused,
        done=len(done),
        symbols=len(ground.panel.symbols),
        first=str(ground.panel.days[ground.start]),
        last=str(ground.panel.days[-1]),
        timeframe=ground.panel.timeframe,
        best={} if first is None else swept.varied(swept.plan.strategies.strategy(first).params()),
        sharpe=None if first is None else done[first]["sharpe"],
        trials=family.trials,
        effective_trials=family.effective,
        best_by_luck=0.0 if best is None else best.by_luck * swept.a_year**0.5,
        probabilistic_sharpe=None if best is None else best.probabilistic,
        deflated_sharpe=None if best is None else best.deflated,
        luck_p=None if best is None else best.p,
        benchmark=None if swept.benchmark is None else swept.benchmark[0],
        **_over_all(swept),
    )


def worth(sheet: Sweep) -> Luck:
    """What the record of a sweep says of its best combination."""
    return Luck(
        trials=sheet.trials,
        effective_trials=sheet.effective_trials,
        best_by_luck=sheet.best_by_luck,
        probabilistic_sharpe=sheet.probabilistic_sharpe,
        deflated_sharpe=sheet.deflated_sharpe,
        luck_p=sheet.luck_p,
    )


def _over_all(swept: Sweeping) -> dict[str, Any]:
    """What only all combinations together can say."""
    overfitting = import_module("marketagent.robustness.overfitting").overfitting
    superiority = import_module("marketagent.robustness.superiority").superiority
    tally = swept.tally
    rows = tally.rows(swept.sweep.done.numbers)
    sums, squares = (
        (tally.sums, tally.squares) if len(rows) == len(tally.sums) else (tally.sums[rows], tally.squares[rows])
    )
    fitted = overfitting(tally.counts, sums, squares)
    better = superiority(sums, None if swept.benchmark is None else swept.benchmark[1], seed=SEED)
    return {
        "pbo": None if fitted is None else fitted.pbo,
        "loss": None if fitted is None else fitted.loss,
        "splits": 0 if fitted is None else fitted.splits,
        "spa_p": None if better is None else better.p,
        "samples": 0 if better is None else better.samples,
    }
