"""A backtest from the store to the store: decided, traded, judged, doubted and kept; of one run, a walk-forward or a sweep."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path

from marketagent import judging, nulling, scoring, show, sweeping, walking
from marketagent.backtest import Backtest, Terms, backtest
from marketagent.catalog import Loaded, blame
from marketagent.decision import Decisions, decide
from marketagent.errors import UsageError
from marketagent.grid import Axis
from marketagent.process import Stops
from marketagent.records import Backtest as BacktestRecord
from marketagent.records import Fold, Sweep
from marketagent.report.place import Place
from marketagent.robustness.walk import Asked
from marketagent.scoring import View
from marketagent.store import runs, trials
from marketagent.strategy import Strategy
from marketagent.sweeping import Sweeping
from marketagent.walking import Walked

_OF_ONE_RUN = "{} is of one run, and --set has several values; leave one of them out"


@dataclass(frozen=True)
class Job:
    """What is backtested: a strategy on the facts of `view`, from session `first` on, by an account's `terms`.

    `symbols` None stands for all that are stored. `benchmark` is a symbol to compare with; `capacity` asks for accounts of
    other sizes, `samples` for so many bootstrap samples, `entries` for so many runs of random entries.
    """

    home: Path
    loaded: Loaded
    symbols: Sequence[str] | None
    view: View
    first: date | None
    terms: Terms
    now: datetime
    timeout_s: float
    benchmark: str | None = None
    capacity: bool = False
    samples: int = 0
    entries: int = 0


@dataclass(frozen=True)
class Tried:
    """One run: its `record`, what it was made of, and the `folds` of a walk-forward."""

    record: BacktestRecord
    result: Backtest
    folds: Sequence[Fold] = ()


@dataclass(frozen=True)
class Swept:
    """A sweep, its record, and its `best` combination as a run, None if none is done; what `ended` it too early, if anything."""

    sweep: Sweeping
    sheet: Sweep
    best: Tried | None
    ended: BaseException | None


@dataclass(frozen=True)
class Places:
    """Where else a run goes: `equity` and `fills` to files, a page to `report`."""

    equity: Path | None = None
    fills: Path | None = None
    report: Place | None = None

    def check(self, *, is_sweep: bool) -> None:
        """Raise UsageError for two that are one file, and for one that a sweep, which is no one run, has nothing for."""
        if self.equity is not None and self.fills is not None and self.equity.resolve() == self.fills.resolve():
            raise UsageError(f"--equity and --fills both name {self.equity}")
        for option, path in (("--equity", self.equity), ("--fills", self.fills)):
            if is_sweep and path is not None:
                raise UsageError(_OF_ONE_RUN.format(option))

    def put(self, job: Job, made: Tried, missing: Sequence[str]) -> None:
        """Write what was asked for; `missing` are symbols of which nothing is stored."""
        for path, columns in ((self.equity, runs.equity_columns), (self.fills, runs.event_columns)):
            if path is not None:
                runs.export(columns(made.result), path)
        if self.report is not None:
            from marketagent import reporting  # a run without a page does not pay for it

            reporting.of_run(
                job.home, self.report, made.record, made.result, made.folds, missing, job.now, timeout_s=job.timeout_s
            )

    def put_sweep(self, job: Job, made: Swept, missing: Sequence[str]) -> None:
        """Write the page of a sweep, if it was asked for and there is a best combination."""
        if self.report is not None and made.best is not None:
            from marketagent import reporting  # as above

            reporting.of_sweep(
                job.home, self.report, made.sweep, made.sheet, made.best.record, made.best.result, missing, job.now,
                timeout_s=job.timeout_s,
            )  # fmt: skip


def tried(job: Job, run: str, strategy: Strategy) -> Tried:
    """`strategy` traded over the past, kept in the store with what is to be said of it."""
    decisions = scoring.decided(job.home, job.loaded, strategy, job.symbols, job.view, timeout_s=job.timeout_s)
    start = scoring.start_row(decisions.panel, job.first)
    result = _traded(job, decisions, start)
    return _kept(job, _judged(job, run, result, start), result)


def walked(job: Job, run: str, axes: Sequence[Axis], asked: Asked) -> Tried:
    """A strategy refitted on each window and traded on the one after it, kept likewise."""
    panel = job.view.panel(job.home, job.symbols, timeout_s=job.timeout_s)
    walk = walking.walked(
        job.home, job.loaded, axes, panel, job.view, job.terms, asked, first=job.first, timeout_s=job.timeout_s
    )
    result = _traded(job, walk.decisions, walk.start)
    judging.entered(job.home, run, walk.swept, walk.numbers, job.now, timeout_s=job.timeout_s)
    record = _judged(job, run, result, walk.start, walk)
    folds = walk.records(run, result)
    runs.write_folds(job.home, folds, timeout_s=job.timeout_s)
    return _kept(job, record, result, folds)


def swept(job: Job, run: str, axes: Sequence[Axis], stops: Stops) -> Swept:
    """Every combination played, kept and judged; `stops` are held once they are played.

    Raises UsageError for what only a run has, and, kept or not, an interruption that left a strategy running which has
    not come to its end: what that one prints would be among the records.
    """
    only = {"--null": job.entries, "--bootstrap": job.samples, "--capacity": job.capacity}
    for option in [option for option, value in only.items() if value]:
        raise UsageError(_OF_ONE_RUN.format(option))
    panel = job.view.panel(job.home, job.symbols, timeout_s=job.timeout_s)
    sweep = sweeping.prepared(
        job.home, job.loaded, axes, panel, job.view, job.terms,
        first=job.first, benchmark=job.benchmark, timeout_s=job.timeout_s,
    )  # fmt: skip
    ended = sweep.work(stops)
    family = judging.entered(job.home, run, sweep, sweep.sweep.done.numbers, job.now, timeout_s=job.timeout_s)
    sheet = judging.judged(run, sweep, family)
    best = _best(job, sweep, sheet) if sweep.sweep.done else None
    if best is not None:
        sheet = replace(sheet, findings=best.record.findings)
    sweep.keep(job.home, sheet, job.now, timeout_s=job.timeout_s)
    if ended is not None and sweep.sweep.given_up:
        show.say(sweep.summary)
        raise ended
    return Swept(sweep, sheet, best, ended)


def _best(job: Job, sweep: Sweeping, sheet: Sweep) -> Tried:
    """The combination with the highest Sharpe ratio, traded by the plain engine and doubted; it is not kept once more."""
    ground, strategy = sweep.sweep.ground, sweep.plan.strategies.strategy(int(sweep.ranked[0]))
    with blame(job.loaded.file, job.loaded.kind):
        decisions = decide(strategy, ground.panel, sweep.sweep.opinions)
    result = _traded(job, decisions, ground.start)
    trial = scoring.trial_of(sheet.run, job.loaded, result)
    neighbours = trials.nearby(job.home, trial, timeout_s=job.timeout_s)
    doubts = scoring.criticised(
        job.home, neighbours, result, job.terms.cash, job.view,
        timeout_s=job.timeout_s, plateau=sweep.plateaus[sweep.ranked[0]],
    )  # fmt: skip
    record = scoring.backtest_record(
        sheet.run, job.loaded, result, job.terms, job.benchmark, worth=judging.worth(sheet), findings=doubts
    )
    return Tried(record, result)


def _traded(job: Job, decisions: Decisions, start: int) -> Backtest:
    terms = job.terms
    against = scoring.read_benchmark(job.home, decisions.panel, job.benchmark, job.view, timeout_s=job.timeout_s)
    return backtest(
        decisions,
        terms.costs,
        terms.cash,
        start=start,
        fill=terms.fill,
        steps=terms.steps,
        benchmark=against,
        capacity=job.capacity,
    )


def _judged(job: Job, run: str, result: Backtest, start: int, walk: Walked | None = None) -> BacktestRecord:
    """The record of `result`, which enters the ledger of trials as the one of `walk`, if it is that."""
    trial = scoring.trial_of(run, job.loaded, result)
    if walk is not None:
        trial = walk.trial(trial)
    chance = nulling.tested(job.home, result, job.terms, job.entries, start=start) if job.entries else None
    family, neighbours = trials.record_one(job.home, trial, job.now, timeout_s=job.timeout_s)
    worth = scoring.judged_luck(trial, family, result, job.samples, chance)
    doubts = scoring.criticised(job.home, neighbours, result, job.terms.cash, job.view, timeout_s=job.timeout_s)
    record = scoring.backtest_record(run, job.loaded, result, job.terms, job.benchmark, worth=worth, findings=doubts)
    return record if walk is None else walk.labelled(record)


def _kept(job: Job, record: BacktestRecord, result: Backtest, folds: Sequence[Fold] = ()) -> Tried:
    symbols = result.decisions.panel.symbols
    runs.write_backtest(job.home, record, result, symbols, job.now, timeout_s=job.timeout_s)
    return Tried(record, result, folds)
