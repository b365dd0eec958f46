"""A sweep from the store to the store: the panel, the grid, the work with its progress, and the best of it."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import cached_property
from importlib import import_module
from math import prod
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from marketagent import grid, luck, progress, show
from marketagent.backtest import Terms
from marketagent.benchmark import compared
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
from marketagent.scoring import Benchmark, View, start_row
from marketagent.store.market import data_hash
from marketagent.store.sweeps import Swept
from marketagent.strategy import Opinions
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

    `against` is what to compare with (None: cash), `benchmark` its symbol and its returns by blocks of the tally, NaN of those
    in which one is not known.
    """

    loaded: Loaded
    axes: Sequence[Axis]
    view: View
    plan: "Plan"
    sweep: "Sweep"
    tally: "Tally"
    benchmark: tuple[str, Array] | None = None
    against: Benchmark | None = None

    def work(self, stops: Stops | None = None) -> BaseException | None:
        """Play all combinations on all cores, as ``work_all`` does."""
        return work_all([self], stops)

    def play(
        self,
        beside: "Sequence[Sweeping]",
        *,
        symbols: int | None,
        kept: bool,
        tell: Callable[[int, int], None] | None,
    ) -> None:
        """Play what is not played yet, and along with it those `beside`; see ``work_all``."""
        strategies, workers = self.plan.strategies, len(os.sched_getaffinity(0))
        along, total = [one.sweep for one in beside], (1 + len(beside)) * len(strategies)
        if symbols is not None:
            self.sweep.run(strategies[:1], workers=1, beside=along)
            tried = strategies[: 1 + 2 * workers]
            began = time.monotonic()
            self.sweep.run(tried, workers=workers, beside=along)
            each_s = (time.monotonic() - began) / max(len(tried) - 1, 1) / (1 + len(beside))
            self._announce(each_s * (symbols * len(strategies) - len(tried)), symbols, kept=kept)
        told = None if tell is None else lambda done: tell((1 + len(beside)) * done, total)
        self.sweep.run(strategies, workers=workers, tell=told, beside=along)

    def _announce(self, seconds: float, symbols: int, *, kept: bool) -> None:
        if seconds > _LONG_S:
            planned = len(self.plan.strategies)
            told = f"{counted(symbols * planned, 'combination')} take about {_duration(seconds)}"
            told += f", {planned:,} on each of {counted(symbols, 'symbol')}" if symbols > 1 else ""
            show.say(told + ("; Ctrl-C keeps what is done" if kept else ""))

    def named(self, failure: MarketAgentError, number: int) -> MarketAgentError:
        """`failure` with the combination that it is of."""
        if self.swept:
            values = self.varied(self.plan.strategies.strategy(number).params())
            failure.args = (f"{failure} (with {' '.join(f'{name}={value}' for name, value in values.items())})",)
        return failure

    def rows(self, sheet: SweepRecord) -> tuple[Swept, Iterator[tuple[int, dict[str, Any]]]]:
        """The sweep as the store takes it, with every trial that is done."""
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
        return row, self._rows()

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
                symbol=sheet.symbol,
                **{**metrics, "trades": int(metrics["trades"])},
            )

    @property
    def summary(self) -> str:
        """What was tried, in a line."""
        symbols = counted(len(self.sweep.ground.panel.symbols), "symbol")
        return summary(len(self.sweep.done), self.plan, f"on {symbols}")

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


def summary(done: int, plan: "Plan", where: str, symbols: int = 1) -> str:
    """What was tried of `plan`, in a line: `done` combinations, on each of so many `symbols`."""
    planned = symbols * len(plan.strategies)
    tried = "" if done == planned else f"{done:,} of "
    refused = f", {plan.refused:,} more do not go together" if plan.refused else ""
    return f"{tried}{counted(planned, 'combination')} tried {where}{refused}; all are kept: ma sql 'from sweep_rows'"


def work_all(
    sweepings: Sequence[Sweeping], stops: Stops | None = None, *, symbols: int | None = 1
) -> BaseException | None:
    """Play all combinations of one plan on each on all cores; returns what has ended it too early, if anything: what is done
    so far is there, of all of them the same.

    That is an interruption, or the error of a combination, which names it. `stops` are held from then on, for what is
    done to be kept. Says on stderr how long it will take on so many `symbols` (None: it has been said), if it takes long.
    Raises what is wrong with the strategy if nothing is done.
    """
    ended: BaseException | None = None
    try:
        try:
            _play_all(sweepings, symbols, kept=stops is not None)
        finally:
            if stops is not None:
                stops.hold()
    except (KeyboardInterrupt, Terminated) as stopped:  # raised again by who has kept what is done
        ended = stopped
    except MarketAgentError as failure:
        ended = next((one.named(failure, fail[0]) for one in sweepings if (fail := one.sweep.failed)), failure)
        if not any(one.sweep.done for one in sweepings):
            raise
    if any(one.sweep.given_up for one in sweepings):
        abandon("a strategy does not come to its end")
    return ended


def _play_all(sweepings: Sequence[Sweeping], symbols: int | None, *, kept: bool) -> None:
    """All sweeps at once: each combination is traced once for all of them."""
    for one in sweepings[:1]:
        with blame(one.loaded.file, one.loaded.kind), progress.bar("sweep") as tell:
            one.play(sweepings[1:], symbols=symbols, kept=kept, tell=tell)


def planned(home: Path, loaded: Loaded, axes: Sequence[Axis]) -> "Plan":
    """The combinations of `axes` that the strategy takes; raises UsageError if there are none."""
    sweeps, _, _ = _compiled(home)
    with blame(loaded.file, loaded.kind):
        plan: Plan = sweeps.plan(loaded.kind, axes)
    return plan


def prepared(
    home: Path,
    loaded: Loaded,
    axes: Sequence[Axis],
    plan: "Plan",
    panel: Panel,
    opinions: Opinions,
    view: View,
    terms: Terms,
    *,
    first: date | None,
    against: Benchmark | None = None,
    edges: NDArray[np.int64] | None = None,
) -> Sweeping:
    """A sweep of `axes`, as `plan` has them, on `panel`, that is ready to go; raises NoData.

    Its tally has blocks of equal length, or those between `edges`, counted from the first row that decides.
    """
    start = start_row(panel, first)
    sweeps, replay, tallies = _compiled(home)
    played_on = replay.Ground(panel, terms.costs, terms.cash, start, terms.fill, terms.steps)
    numbers, bars = plan.strategies.numbers, len(panel.sessions) - start
    tally = tallies.Tally(numbers, tallies.even_edges(bars, len(numbers)) if edges is None else edges, terms.cash)
    beside = None
    if against is not None:
        returns = compared(against.close_on(panel, start), panel, start).returns
        beside = (against.symbol, np.add.reduceat(returns, tally.edges[:-1]))
    sweep = sweeps.Sweep(played_on, opinions, tally.watch, loaded.kind)
    return Sweeping(loaded, axes, view, plan, sweep, tally, beside, against)


def ground(home: Path, panel: Panel, terms: Terms, start: int) -> "Ground":
    """What the compiled simulation plays any targets on; what it needs is compiled when it is new here."""
    _, replay, _ = _compiled(home)
    made: Ground = replay.Ground(panel, terms.costs, terms.cash, start, terms.fill, terms.steps)
    return made


def _compiled(home: Path) -> tuple[Any, Any, Any]:
    """The modules of the compiled simulation, which take a second to import, and several when they are new here."""
    notice = Timer(_COMPILING_S, show.say, ["compiling the simulation; once on this machine, for about 25 s"])
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
