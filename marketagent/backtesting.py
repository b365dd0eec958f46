"""A backtest from the store to the store: decided, traded, judged, doubted and kept; of one run, a walk-forward or a sweep."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from marketagent import critic, judging, nulling, scoring, show, sweeping, walking
from marketagent.backtest import Backtest, Terms, backtest
from marketagent.catalog import Loaded, blame
from marketagent.decision import Decisions, decide
from marketagent.errors import MarketAgentError, UsageError
from marketagent.grid import Axis
from marketagent.luck import Chance, Intervals
from marketagent.luckiest import Blocks, Family
from marketagent.panel import Panel
from marketagent.process import Stops
from marketagent.records import Backtest as BacktestRecord
from marketagent.records import Fold, Sweep
from marketagent.report.place import Place
from marketagent.robustness.walk import Asked
from marketagent.scoring import Benchmark, View
from marketagent.store import runs as stored
from marketagent.store import trials
from marketagent.store.market import read_quarantined_of
from marketagent.store.sweeps import write_sweeps
from marketagent.store.trials import Trial
from marketagent.strategy import Opinions, Strategy
from marketagent.sweeping import Sweeping
from marketagent.walking import Walked

if TYPE_CHECKING:
    from marketagent.sweep import Plan

_OF_ONE_RUN = "{} is of one run, and --set has several values; leave one of them out"
_OF_ALL = "{} is of one run, and --each makes one of each symbol; leave one of them out"


@dataclass(frozen=True)
class Job:
    """What is backtested: a strategy on the facts of `view`, from session `first` on, by an account's `terms`.

    `symbols` None stands for all that are stored. `benchmark` is a symbol to compare with; `capacity` asks for accounts of
    other sizes, `samples` for so many bootstrap samples, `entries` for so many runs of random entries. With `each` a run is
    of one symbol alone, and its records name it.
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
    each: bool = False

    def check_sweep(self) -> None:
        """Raise UsageError for what only a run has."""
        only = {"--null": self.entries, "--bootstrap": self.samples, "--capacity": self.capacity}
        for option in [option for option, value in only.items() if value]:
            raise UsageError(_OF_ONE_RUN.format(option))

    def alone(self, panel: Panel) -> str | None:
        """The symbol that a record on `panel` names."""
        return panel.symbols[0] if self.each else None

    def read_benchmark(self) -> Benchmark | None:
        return scoring.read_benchmark(self.home, self.benchmark, self.view, timeout_s=self.timeout_s)

    def read_quarantined(self, panels: Sequence[Panel]) -> list[dict[str, dict[int, str]]]:
        return read_quarantined_of(self.home, panels, known_at=self.view.known_at, timeout_s=self.timeout_s)


@dataclass(frozen=True)
class Played:
    """One run that is done, and of which nothing is kept yet; `walk` is how a walk-forward came to it."""

    run: str
    result: Backtest
    intervals: Intervals | None
    chance: Chance | None
    loaded: Loaded
    walk: Walked | None = None

    @cached_property
    def trial(self) -> Trial:
        """The run as the ledger of trials counts it."""
        trial = scoring.trial_of(self.run, self.loaded, self.result)
        return trial if self.walk is None else self.walk.trial(trial)

    @cached_property
    def blocks(self) -> Blocks:
        return scoring.blocks_of(self.result)


@dataclass(frozen=True)
class Tried:
    """One run: its `record`, what it was made of, and the `folds` of a walk-forward."""

    record: BacktestRecord
    result: Backtest
    folds: Sequence[Fold] = ()


@dataclass(frozen=True)
class Judged:
    """The record of a sweep and its `best` combination as a run: None if none is done, or with the `error` that it raised when
    it was decided again."""

    sheet: Sweep
    best: Tried | None = None
    error: MarketAgentError | None = None


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

    def check(self, *, is_sweep: bool, each: bool = False) -> None:
        """Raise UsageError for two that are one file, and for one that a sweep or many runs have nothing for."""
        if self.equity is not None and self.fills is not None and self.equity.resolve() == self.fills.resolve():
            raise UsageError(f"--equity and --fills both name {self.equity}")
        for option, place in (("--equity", self.equity), ("--fills", self.fills), ("--report", self.report)):
            if each and place is not None:
                raise UsageError(_OF_ALL.format(option))
        for option, path in (("--equity", self.equity), ("--fills", self.fills)):
            if is_sweep and path is not None:
                raise UsageError(_OF_ONE_RUN.format(option))

    def put(self, job: Job, made: Tried, missing: Sequence[str]) -> None:
        """Write what was asked for; `missing` are symbols of which nothing is stored."""
        for path, columns in ((self.equity, stored.equity_columns), (self.fills, stored.event_columns)):
            if path is not None:
                stored.export(columns(made.result), path)
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
    panel, opinions = scoring.facts(job.home, job.symbols, job.view, timeout_s=job.timeout_s)
    return kept(job, [played(job, run, strategy, panel, opinions, job.read_benchmark())])[0]


def walked(job: Job, run: str, axes: Sequence[Axis], asked: Asked) -> Tried:
    """A strategy refitted on each window and traded on the one after it, kept likewise."""
    panel, opinions = scoring.facts(job.home, job.symbols, job.view, timeout_s=job.timeout_s)
    plan = partial(sweeping.planned, job.home, job.loaded, axes)
    return kept(job, [refitted(job, run, axes, plan, asked, panel, opinions, job.read_benchmark())])[0]


def swept(job: Job, run: str, axes: Sequence[Axis], stops: Stops) -> Swept:
    """Every combination played, kept and judged; `stops` are held once they are played.

    Raises UsageError for what only a run has, and, kept or not, an interruption that left a strategy running which has
    not come to its end: what that one prints would be among the records.
    """
    job.check_sweep()
    panel, opinions = scoring.facts(job.home, job.symbols, job.view, timeout_s=job.timeout_s)
    plan = sweeping.planned(job.home, job.loaded, axes)
    sweep = prepared(job, axes, plan, panel, opinions, job.read_benchmark())
    ended = sweep.work(stops)
    [made] = judged(job, [(run, sweep)])
    if ended is not None and sweep.sweep.given_up:
        show.say(sweep.summary)
        raise ended
    return Swept(sweep, made.sheet, made.best, ended or made.error)


def played(
    job: Job, run: str, strategy: Strategy, panel: Panel, opinions: Opinions, against: Benchmark | None
) -> Played:
    """`strategy` decided and traded on `panel`; raises NoData."""
    with blame(job.loaded.file, job.loaded.kind):
        decisions = decide(strategy, panel, opinions)
    return _played(job, run, decisions, scoring.start_row(panel, job.first), against)


def refitted(
    job: Job,
    run: str,
    axes: Sequence[Axis],
    plan: "Callable[[], Plan]",
    asked: Asked,
    panel: Panel,
    opinions: Opinions,
    against: Benchmark | None,
    *,
    symbols: int | None = 1,
) -> Played:
    """A walk-forward on `panel`; raises NoData. `plan` makes that of `axes`, `symbols` are those of ``work_all``."""
    walk = walking.walked(
        job.home, job.loaded, axes, plan, panel, opinions, job.view, job.terms, asked, first=job.first, symbols=symbols
    )
    return replace(_played(job, run, walk.decisions, walk.start, against), walk=walk)


def kept(job: Job, runs: Sequence[Played]) -> list[Tried]:
    """Enter `runs` into the ledger of trials, judge and doubt each of them, and keep them all."""
    walks = [(one.run, one.walk.swept, one.walk.numbers) for one in runs if one.walk is not None]
    if walks:
        judging.entered(job.home, walks, job.now, timeout_s=job.timeout_s)
    entries = [(one.trial, scoring.reached(one.result, one.blocks)) for one in runs]
    found = trials.record_each(job.home, entries, job.now, timeout_s=job.timeout_s)
    refused = job.read_quarantined([one.result.decisions.panel for one in runs])
    made = [_judged(job, *of) for of in zip(runs, found, refused, strict=True)]
    for run in made:
        if run.folds:
            stored.write_folds(job.home, run.folds, timeout_s=job.timeout_s)
    stored.write_backtests(job.home, [(run.record, run.result) for run in made], job.now, timeout_s=job.timeout_s)
    return made


def prepared(
    job: Job, axes: Sequence[Axis], plan: "Plan", panel: Panel, opinions: Opinions, against: Benchmark | None
) -> Sweeping:
    """A sweep on `panel` that is ready to go; raises NoData."""
    return sweeping.prepared(
        job.home, job.loaded, axes, plan, panel, opinions, job.view, job.terms, first=job.first, against=against
    )


def judged(job: Job, runs: Sequence[tuple[str, Sweeping]]) -> list[Judged]:
    """What sweeps came to, kept with all of their trials, and of each its best combination as a run."""
    entries = [(run, sweep, sweep.sweep.done.numbers) for run, sweep in runs]
    families = judging.entered(job.home, entries, job.now, timeout_s=job.timeout_s)
    sheets = [
        replace(judging.judged(run, sweep, family), symbol=job.alone(sweep.sweep.ground.panel))
        for (run, sweep), family in zip(runs, families, strict=True)
    ]
    made = _with_best(job, [(sheet, sweep) for sheet, (_, sweep) in zip(sheets, runs, strict=True)])
    rows = [sweep.rows(one.sheet) for one, (_, sweep) in zip(made, runs, strict=True)]
    write_sweeps(job.home, rows, job.now, timeout_s=job.timeout_s)
    return made


def _with_best(job: Job, sweeps: Sequence[tuple[Sweep, Sweeping]]) -> list[Judged]:
    """Each with its combination of the highest Sharpe ratio, traded by the plain engine; that run is not kept once more."""
    played, failed = list[tuple[Sweep, Sweeping, Backtest]](), dict[str, MarketAgentError]()
    for sheet, sweep in sweeps:
        if sweep.sweep.done:
            try:
                played.append((sheet, sweep, _best(job, sweep)))
            except MarketAgentError as error:  # what was swept is kept all the same, and it is told of behind that
                failed[sheet.run] = _not_again(sweep, error)
    best = {made.record.run: made for made in (_doubted(job, played) if played else ())}
    return [_judged_sweep(sheet, best.get(sheet.run), failed.get(sheet.run)) for sheet, _ in sweeps]


def _best(job: Job, sweep: Sweeping) -> Backtest:
    ground = sweep.sweep.ground
    with blame(sweep.loaded.file, sweep.loaded.kind):
        strategy = sweep.sweep.own(sweep.plan.strategies.strategy(int(sweep.ranked[0])))
        decisions = decide(strategy, ground.panel, sweep.sweep.opinions)
    return _traded(job, decisions, ground.start, sweep.against)


def _not_again(sweep: Sweeping, error: MarketAgentError) -> MarketAgentError:
    named = sweep.named(error, int(sweep.ranked[0]))
    named.args = (f"the sweep is kept, but its best combination failed when it was decided again: {named}",)
    return named


def _doubted(job: Job, sweeps: Sequence[tuple[Sweep, Sweeping, Backtest]]) -> list[Tried]:
    """The best of each with its record, held against what the store knows beside it."""
    tried = [scoring.trial_of(sheet.run, job.loaded, result) for sheet, _, result in sweeps]
    near = trials.nearby_each(job.home, tried, timeout_s=job.timeout_s)
    refused = job.read_quarantined([sweep.sweep.ground.panel for _, sweep, _ in sweeps])
    made = []
    for (sheet, sweep, result), neighbours, rows in zip(sweeps, near, refused, strict=True):
        doubts = scoring.criticised(
            job.home, neighbours, result, job.terms.cash, rows,
            timeout_s=job.timeout_s, plateau=sweep.plateaus[sweep.ranked[0]],
            swept=sweep.sweep.done[int(sweep.ranked[0])]["equity"],
        )  # fmt: skip
        record = scoring.backtest_record(
            sheet.run, job.loaded, result, job.terms, job.benchmark, worth=judging.worth(sheet), findings=doubts
        )
        made.append(Tried(record, result))
    return made


def _judged_sweep(sheet: Sweep, best: Tried | None, error: MarketAgentError | None) -> Judged:
    findings = [] if best is None else best.record.findings
    if error is not None:
        findings = [critic.not_again(show.one_line(error))]
    return Judged(replace(sheet, findings=findings), best, error)


def _played(job: Job, run: str, decisions: Decisions, start: int, against: Benchmark | None) -> Played:
    result = _traded(job, decisions, start, against)
    chance = nulling.tested(job.home, result, job.terms, job.entries, start=start) if job.entries else None
    return Played(run, result, scoring.intervals(result, job.samples), chance, job.loaded)


def _traded(job: Job, decisions: Decisions, start: int, against: Benchmark | None) -> Backtest:
    terms = job.terms
    return backtest(
        decisions,
        terms.costs,
        terms.cash,
        start=start,
        fill=terms.fill,
        steps=terms.steps,
        benchmark=None if against is None else against.close_on(decisions.panel, start),
        capacity=job.capacity,
    )


def _judged(
    job: Job, one: Played, found: tuple[Family, list[float]], refused: Mapping[str, Mapping[int, str]]
) -> Tried:
    """`one` among its family, which `found` has, and held against what the store knows beside it."""
    result, walk, (family, neighbours) = one.result, one.walk, found
    worth = scoring.judged_luck(one.trial, one.blocks, family, one.intervals, one.chance)
    doubts = scoring.criticised(job.home, neighbours, result, job.terms.cash, refused, timeout_s=job.timeout_s)
    record = scoring.backtest_record(
        one.run, job.loaded, result, job.terms, job.benchmark, worth=worth, findings=doubts
    )
    symbol = job.alone(result.decisions.panel)
    record = replace(record if walk is None else walk.labelled(record), symbol=symbol)
    folds = () if walk is None else [replace(fold, symbol=symbol) for fold in walk.records(one.run, result)]
    return Tried(record, result, folds)
