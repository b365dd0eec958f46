"""A walk-forward from the store to its record: the grid, one account a combination, what was chosen where, and the run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from marketagent import grid, luckiest, metrics, show, sweeping
from marketagent.backtest import Backtest, Terms
from marketagent.catalog import Loaded, blame
from marketagent.decision import Decisions, decide
from marketagent.errors import UsageError
from marketagent.formats import counted
from marketagent.grid import Axis
from marketagent.outcomes import Numbers
from marketagent.panel import Panel
from marketagent.records import Backtest as BacktestRecord
from marketagent.records import Fold as FoldRecord
from marketagent.records import WalkForward
from marketagent.robustness import walk
from marketagent.robustness.walk import Asked, Fold
from marketagent.scoring import View, start_row
from marketagent.store.trials import IN_SAMPLE, OUT_OF_SAMPLE, Trial
from marketagent.strategy import Opinions
from marketagent.sweeping import Sweeping

if TYPE_CHECKING:
    from marketagent.sweep import Plan

_CELLS = 30_000_000  # stretches between windows, for each combination: 500 MB
# Bars from a decision to the first return that it earns, by how it is filled: of days, what --purge is by itself.
_AHEAD = {"next-open": 1, "next-close": 2, "same-close": 1}


@dataclass(frozen=True)
class Walked:
    """What was chosen for each of the `folds`, its Sharpe ratio a bar in training, and the `decisions` of all of them.

    `swept` has the combinations; `start` is the first row that is traded.
    """

    asked: Asked
    swept: Sweeping
    folds: Sequence[Fold]
    chosen: Sequence[int]
    sharpes: Sequence[float]
    decisions: Decisions

    @property
    def start(self) -> int:
        return self.folds[0].test[0]

    @property
    def numbers(self) -> Numbers:
        """Those of all combinations."""
        return self.swept.plan.strategies.numbers

    def trial(self, trial: Trial) -> Trial:
        """`trial`, the one of the whole run, with the parameters that tell it from another walk-forward.

        With nothing to choose, it is a backtest of parameters that somebody gave it, and no more out of sample than any.
        """
        asked = {"walk_forward": self.asked.text, "purge": self.asked.purge, "embargo": self.asked.embargo}
        judged = OUT_OF_SAMPLE if self._grid else IN_SAMPLE
        return replace(trial, params={**self.swept.params, **asked, "grid": self._grid}, judged=judged)

    def labelled(self, record: BacktestRecord) -> BacktestRecord:
        """`record` as one that is judged out of sample."""
        inside = float(np.mean(self.sharpes)) * self.swept.a_year**0.5
        sharpe = record.metrics.get("sharpe")
        return replace(
            record,
            params=self.swept.params,
            judged="out of sample",
            walk_forward=WalkForward(
                lengths=self.asked.text,
                purge=self.asked.purge,
                embargo=self.asked.embargo,
                folds=len(self.folds),
                combinations=len(self.numbers),
                grid=self._grid,
                in_sample_sharpe=inside,
                efficiency=sharpe / inside if sharpe is not None and inside > 0 else None,
            ),
        )

    def records(self, run: str, result: Backtest) -> list[FoldRecord]:
        """Each window, and what its decisions earned in `result`, the backtest of all decisions."""
        days, strategies, a_year = self.decisions.panel.days, self.swept.plan.strategies, self.swept.a_year
        found = []
        for k, (fold, number) in enumerate(zip(self.folds, self.chosen, strict=True)):
            returns = result.returns[self._earned(k, fold)]
            found.append(
                FoldRecord(
                    run=run,
                    fold=k + 1,
                    strategy=self.swept.loaded.name,
                    train_first=str(days[fold.train[0][0]]),
                    train_last=str(days[fold.train[-1][1] - 1]),
                    first=str(days[fold.test[0]]),
                    last=str(days[fold.test[1] - 1]),
                    params=strategies.strategy(number).params(),
                    swept=self.swept.swept,
                    combinations=len(self.numbers),
                    in_sample_sharpe=self.sharpes[k] * a_year**0.5,
                    sharpe=metrics.sharpe(returns, periods=a_year),
                    total_return=metrics.total_return(returns),
                )
            )
        return found

    def _earned(self, k: int, fold: Fold) -> slice:
        """Which returns the decisions of window `k` earned: on its first session the account still holds what the window
        before decided, and what it decides on its last one earns in the next. The first begins with the account."""
        ahead = _AHEAD[self.swept.sweep.ground.fill]
        return slice(fold.test[0] - self.start + ahead if k else 0, fold.test[1] - self.start + ahead)

    @property
    def _grid(self) -> dict[str, list[Any]]:
        return {axis.name: list(axis.values) for axis in self.swept.axes if len(axis.values) > 1}


def asked(text: str | None, purge: int | None, embargo: int | None, fill: str) -> Asked | None:
    """What the options ask for, None without ``--walk-forward``; raises UsageError."""
    if text is None:
        for option, value in (("--purge", purge), ("--embargo", embargo)):
            if value is not None:
                raise UsageError(f"{option} is of --walk-forward, which is not there")
        return None
    return walk.asked(text, _AHEAD[fill] if purge is None else purge, embargo or 0)


def grid_of(loaded: Loaded, texts: Mapping[str, str]) -> list[Axis]:
    """The grid that ``--set`` spells, or, where it has no ranges, one of what the strategy declares, said on stderr.

    Raises UsageError for a range of ``band``, which one account has one of.
    """
    axes = grid.axes(loaded.kind, texts)
    if any(len(axis.values) > 1 for axis in axes):
        if any(axis.name == "band" and len(axis.values) > 1 for axis in axes):
            raise UsageError("--set band has several values; one account trades a walk-forward, with one band")
        return axes
    own = grid.declared(loaded.kind, texts)
    tried = [f"{axis.name}={','.join(map(str, axis.values))}" for axis in own if len(axis.values) > 1]
    show.say(f"no ranges are given; refits {' '.join(tried) or 'nothing: the strategy has no parameters of its own'}")
    return [*axes, *own]


def walked(
    home: Path,
    loaded: Loaded,
    axes: Sequence[Axis],
    plan: "Callable[[], Plan]",
    panel: Panel,
    opinions: Opinions,
    view: View,
    terms: Terms,
    asked: Asked,
    *,
    first: date | None,
    symbols: int | None = 1,
) -> Walked:
    """Play every combination once, choose for each window, and put the decisions together; `plan` makes that of `axes`,
    `symbols` are those of ``sweeping.work_all``.

    Raises NoData where the history is too short for a test window, an interruption, and what is wrong with a combination.
    """
    start = start_row(panel, first)
    folds = walk.folds(panel.days, start, asked)
    edges, tried = walk.edges_of(folds, start, len(panel.sessions)), prod(len(axis.values) for axis in axes)
    # How much alike combinations are is not told by a dozen windows: the ledger of trials wants more blocks.
    finer = np.union1d(edges, luckiest.edges(panel.days[start:]))
    edges = finer if len(finer) * tried <= _CELLS else edges
    if len(edges) * tried > _CELLS:
        raise UsageError(
            f"--walk-forward {asked.text} makes {counted(len(folds), 'window')}, too many for {counted(tried, 'combination')};"
            " take a longer test, or fewer values in --set"
        )
    swept = sweeping.prepared(home, loaded, axes, plan(), panel, opinions, view, terms, first=first, edges=edges)
    if ended := sweeping.work_all([swept], symbols=symbols):
        raise ended
    chosen, sharpes = _choices(swept, folds, start)
    strategies, sweep = swept.plan.strategies, swept.sweep
    with blame(loaded.file, loaded.kind):
        decisions = walk.stitched(
            sweep.ground.panel, folds, chosen, lambda number: decide(strategies.strategy(number), panel, sweep.opinions)
        )
    return Walked(asked, swept, folds, chosen, sharpes, decisions)


def _choices(swept: Sweeping, folds: Sequence[Fold], start: int) -> tuple[list[int], list[float]]:
    """For each fold the number of the combination that is best in training, and its Sharpe ratio a bar there."""
    tally = swept.tally
    chosen, found = [], []
    for fold in folds:
        blocks = fold.blocks(tally.edges, start)
        sharpes = tally.sharpes(blocks)
        best = walk.best_of(sharpes, tally.squares @ blocks.astype(np.float64))
        chosen.append(int(tally.numbers[best]))
        found.append(float(sharpes[best]))
    return chosen, found
