"""A sweep from the store to the store: the panel, the grid, the work with its progress, and the best of it."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from functools import cached_property
from importlib import import_module
from math import prod
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from marketagent import grid, luck, progress, show
from marketagent.backtest import Terms, benchmark_returns
from marketagent.catalog import Loaded, blame
from marketagent.errors import MarketAgentError
from marketagent.formats import counted
from marketagent.grid import Axis
from marketagent.metrics import SESSIONS
from marketagent.orders import FRACTIONAL
from marketagent.outcomes import Figures, Numbers
from marketagent.panel import Array, Panel
from marketagent.process import Stops, Terminated, abandon
from marketagent.records import Sweep as SweepRecord
from marketagent.records import Trial
from marketagent.scoring import View, read_benchmark, start_row
from marketagent.store.market import data_hash
from marketagent.store.opinions import read_opinions
from marketagent.store.sweeps import Swept, write_sweep
from marketagent.timeframes import bars_a_session

if TYPE_CHECKING:
    from marketagent.replay import Ground
    from marketagent.robustness.tally import Tally
    from marketagent.sweep import Plan, Sweep

_LONG_S = 3.0  # what takes longer is announced
_COMPILING_S = 4.0  # what is compiled already is loaded in one


@dataclass(frozen=True)
class Sweeping:
    """One sweep under way on the facts of `view`; `plan` is what is to be played, ``sweep.done`` what has been, and `tally`
    its returns.

    `benchmark` is the symbol to compare with (None: cash) and its returns by blocks of the tally.
    """

    loaded: Loaded
    axes: Sequence[Axis]
    view: View
    plan: "Plan"
    sweep: "Sweep"
    tally: "Tally"
    benchmark: tuple[str, Array] | None = None

    def work(self, stops: Stops | None = None) -> BaseException | None:
        """Play all combinations on all cores; returns what has ended it too early, if anything: what is done so far is there.

        That is an interruption, or the error of a combination, which names it. `stops` are held from then on, for what is
        done to be kept. Says on stderr how long it will take, if it takes long. Raises what is wrong with the strategy if
        nothing is done.
        """
        ended: BaseException | None = None
        try:
            try:
                self._play(kept=stops is not None)
            finally:
                if stops is not None:
                    stops.hold()
        except (KeyboardInterrupt, Terminated) as stopped:  # raised again by who has kept what is done
            ended = stopped
        except MarketAgentError as failure:
            ended = self._named(failure)
            if not self.sweep.done:
                raise
        if self.sweep.given_up:
            abandon("a strategy does not come to its end")
        return ended

    def _play(self, *, kept: bool) -> None:
        strategies, workers = self.plan.strategies, len(os.sched_getaffinity(0))
        with blame(self.loaded.file, self.loaded.kind), progress.bar("sweep") as tell:
            self.sweep.run(strategies[:1], workers=1)
            tried = strategies[: 1 + 2 * workers]
            began = time.monotonic()
            self.sweep.run(tried, workers=workers)
            each_s = (time.monotonic() - began) / max(len(tried) - 1, 1)
            self._announce(each_s * (len(strategies) - len(tried)), kept=kept)
            total = len(strategies)
            told = None if tell is None else lambda done: tell(done, total)
            self.sweep.run(strategies, workers=workers, tell=told)

    def _announce(self, seconds: float, *, kept: bool) -> None:
        if seconds > _LONG_S:
            promise = "; Ctrl-C keeps what is done" if kept else ""
            show.say(f"{counted(len(self.plan.strategies), 'combination')} take about {_duration(seconds)}{promise}")

    def _named(self, failure: MarketAgentError) -> MarketAgentError:
        """`failure` with the combination that it is of."""
        if self.sweep.failed is not None and self.swept:
            values = self.varied(self.plan.strategies.strategy(self.sweep.failed[0]).params())
            failure.args = (f"{failure} (with {' '.join(f'{name}={value}' for name, value in values.items())})",)
        return failure

    def keep(self, home: Path, sheet: SweepRecord, now: datetime, *, timeout_s: float) -> None:
        """Store the sweep with every trial that is done."""
        ground, panel = self.sweep.ground, self.sweep.ground.panel
        row = Swept(
            run=sheet.run,
            strategy=self.loaded.name,
            strategy_hash=self.loaded.hash,
            params=self.params,
            swept={axis.name: axis.values for axis in self.axes if axis.name in self.swept},
            combinations=self.combinations,
            refused=self.plan.refused,
            done=len(self.sweep.done),
            symbols=panel.symbols,
            first=str(panel.days[ground.start]),
            last=str(panel.days[-1]),
            timeframe=panel.timeframe,
            cash=ground.cash,
            costs=ground.costs.name,
            slippage_bps=ground.costs.slippage_bps,
            fill=ground.fill,
            fractional=ground.steps == FRACTIONAL,
            data_hash=data_hash(panel),
            record=asdict(sheet),
        )
        write_sweep(home, row, self._rows(), now, timeout_s=timeout_s)

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Of each combination that is done its number, swept parameters and metrics; made one by one, as they are stored."""
        plateaus = iter(self.plateaus.array.tolist())
        for (number, metrics), plateau in zip(self.sweep.done.items(), plateaus, strict=True):
            params = self.varied(self.plan.strategies.strategy(number).params())
            yield number, {"params": params, **metrics, "plateau": None if plateau != plateau else plateau}

    def best(self, sheet: SweepRecord, most: int) -> Iterator[Trial]:
        """The trials with the highest Sharpe ratios, the first of equal ones first; those without one come last."""
        strategies, panel = self.plan.strategies, self.sweep.ground.panel
        by_luck = sheet.best_by_luck / self.a_year**0.5
        for rank, number in enumerate(map(int, self.ranked[:most]), start=1):
            metrics: dict[str, Any] = dict(self.sweep.done[number])
            yield Trial(
                run=sheet.run,
                rank=rank,
                strategy=self.loaded.name,
                strategy_hash=self.loaded.hash,
                params=strategies.strategy(number).params(),
                swept=self.swept,
                symbols=len(panel.symbols),
                first=str(panel.days[self.sweep.ground.start]),
                last=str(panel.days[-1]),
                plateau=self.plateaus[number],
                timeframe=panel.timeframe,
                deflated_sharpe=luck.probabilistic_sharpe(self.tally.moments(number), by_luck),
                **{**metrics, "trades": int(metrics["trades"])},
            )

    @property
    def summary(self) -> str:
        """What was tried, in a line."""
        done, planned = len(self.sweep.done), len(self.plan.strategies)
        tried = "" if done == planned else f"{done:,} of "
        tried += f"{counted(planned, 'combination')} tried on {counted(len(self.sweep.ground.panel.symbols), 'symbol')}"
        refused = f", {self.plan.refused:,} more do not go together" if self.plan.refused else ""
        return f"{tried}{refused}; all are kept: ma sql 'from sweep_rows'"

    @property
    def swept(self) -> list[str]:
        """The parameters that vary."""
        return [axis.name for axis in self.axes if len(axis.values) > 1]

    @property
    def params(self) -> dict[str, Any]:
        """The parameters that do not vary."""
        return {name: value for name, value in self.plan.strategies[0][1].params().items() if name not in self.swept}

    @property
    def combinations(self) -> int:
        """How many the grid has, also those that do not go together."""
        return prod(len(axis.values) for axis in self.axes)

    @property
    def a_year(self) -> int:
        """How many bars a year has."""
        return SESSIONS * bars_a_session(self.sweep.ground.panel.timeframe)

    @property
    def sharpes(self) -> Figures:
        """By the number of each combination that is done."""
        return self.sweep.done.figures("sharpe")

    @cached_property
    def plateaus(self) -> Figures:
        return grid.plateaus(self.axes, self.sharpes)

    @cached_property
    def ranked(self) -> Numbers:
        """The numbers of what is done, the highest Sharpe ratio first, of equal ones the first; those without one last."""
        sharpes = self.sharpes
        return sharpes.numbers[np.argsort(-sharpes.array, kind="stable")]  # NaN comes last

    def varied(self, params: dict[str, Any]) -> dict[str, Any]:
        return {name: params[name] for name in self.swept}


def prepared(
    home: Path,
    loaded: Loaded,
    axes: Sequence[Axis],
    panel: Panel,
    view: View,
    terms: Terms,
    *,
    first: date | None,
    timeout_s: float,
    benchmark: str | None = None,
    edges: NDArray[np.int64] | None = None,
) -> Sweeping:
    """A sweep of `axes` that is ready to go; raises UsageError if the strategy takes no combination, and NoData.

    Its tally has blocks of equal length, or those between `edges`, counted from the first row that decides.
    """
    opinions = read_opinions(home, panel, known_at=view.known_at, timeout_s=timeout_s)
    start = start_row(panel, first)
    sweeps, replay, tallies = _compiled(home)
    with blame(loaded.file, loaded.kind):
        plan = sweeps.plan(loaded.kind, axes)
    played_on = replay.Ground(panel, terms.costs, terms.cash, start, terms.fill, terms.steps)
    numbers, bars = plan.strategies.numbers, len(panel.sessions) - start
    tally = tallies.Tally(numbers, tallies.even_edges(bars, len(numbers)) if edges is None else edges, terms.cash)
    close = read_benchmark(home, panel, benchmark, view, timeout_s=timeout_s)
    compared = None
    if benchmark is not None and close is not None:
        compared = benchmark, np.add.reduceat(benchmark_returns(close, start), tally.edges[:-1])
    return Sweeping(loaded, axes, view, plan, sweeps.Sweep(played_on, opinions, tally.watch), tally, compared)


def ground(home: Path, panel: Panel, terms: Terms, start: int) -> "Ground":
    """What the compiled simulation plays any targets on; what it needs is compiled when it is new here."""
    _, replay, _ = _compiled(home)
    made: Ground = replay.Ground(panel, terms.costs, terms.cash, start, terms.fill, terms.steps)
    return made


def _compiled(home: Path) -> tuple[Any, Any, Any]:
    """The modules of the compiled simulation, which take a second to import, and several when they are new here."""
    notice = Timer(_COMPILING_S, show.say, ["compiling the simulation; once on this machine, for about 20 s"])
    notice.daemon = True
    notice.start()
    try:
        try:
            sweeps = import_module("marketagent.sweep")
        except RuntimeError as error:
            if "cannot cache function" not in str(error):
                raise
            # Neither the program's own folder nor the user's cache can be written to; the home can.
            import_module("numba").config.CACHE_DIR = str(home / "cache" / "numba")
            sweeps = import_module("marketagent.sweep")
        sweeps.warm()
    finally:
        notice.cancel()
    return sweeps, import_module("marketagent.replay"), import_module("marketagent.robustness.tally")


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} minutes"
        if seconds < 5400
        else f"{seconds / 3600:.1f} hours"
    )
