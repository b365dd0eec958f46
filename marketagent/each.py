"""``--each``: every symbol backtested alone, as if the command had been run once for each; all in one stream.

What they need is read, and what comes of them stored, for some symbols at a time: to open a store takes longer than to
trade twenty years. A part that is stored stays; so does what is done of the next one when Ctrl-C comes or one fails.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache, partial
from math import prod
from statistics import median
from typing import TypeVar

import numpy as np

from marketagent import backtesting, luck, progress, show, sweeping
from marketagent.backtest import unready
from marketagent.backtesting import Job, Played
from marketagent.catalog import Loaded
from marketagent.decision import BadStrategy
from marketagent.errors import MarketAgentError, NoData
from marketagent.formats import cell, counted
from marketagent.grid import Axis
from marketagent.panel import Panel
from marketagent.process import Stops, Terminated, abandoned, signalled
from marketagent.records import Backtest, Fold, Sweep, Trial
from marketagent.robustness.walk import Asked
from marketagent.store.market import read_symbols
from marketagent.store.opinions import read_opinions_of
from marketagent.strategy import Opinions, Strategy
from marketagent.sweeping import Sweeping
from marketagent.timeframes import DAY

_DAYS, _BARS = 50, 5  # symbols of a part: of days, and of bars within them, of which there are a hundred times as many
_CELLS = 8_000_000  # of the tallies of a part's sweeps: 128 MB
_BLOCKS = 256  # of one, at most

Record = Backtest | Fold | Trial | Sweep
_Done = TypeVar("_Done")
_Failed = dict[str, object]  # symbol -> reason


@dataclass(frozen=True)
class Alone:
    """What one symbol is backtested on."""

    panel: Panel
    opinions: Opinions

    @property
    def symbol(self) -> str:
        return self.panel.symbols[0]


_Play = Callable[[Sequence[Alone], int | None, _Failed], Iterator[_Done]]


@dataclass
class Each:
    """What came of the `asked` symbols: `records` in their order, the reason of each that `failed`, what is `said` of all,
    and what has `ended` it too early, if anything."""

    asked: int = 0
    records: list[Record] = field(default_factory=list)
    failed: _Failed = field(default_factory=dict)
    said: str = ""
    ended: BaseException | None = None

    def checked(self) -> "Each":
        """Raises what has ended it where nothing can be printed: nothing is done, or what is left running prints, too; and
        NoData where every symbol failed."""
        if self.ended is not None and (abandoned() or not self.records):
            if self.records:
                show.say(self.said)
            raise self.ended
        if not self.records and self.failed:
            symbol, reason = next(iter(self.failed.items()))
            more = f" (and {counted(len(self.failed) - 1, 'more symbol')} failed)" if len(self.failed) > 1 else ""
            raise NoData(f"{symbol}: {reason}{more}")
        return self


def ranking(loaded: Loaded, axes: Sequence[Axis]) -> str | None:
    """What to say of a strategy that chooses among symbols, which have nobody beside them here; None of any other."""
    sizing = next(
        (axis.values for axis in axes if axis.name == "sizing"), (loaded.kind.described()["sizing"]["default"],)
    )
    if loaded.kind.cross_sectional:
        return f"{loaded.name} ranks symbols against each other, and --each shows it one at a time: there is nothing to rank"
    if "top_k" in sizing:
        return "sizing=top_k chooses among symbols, and --each shows it one at a time: there is nothing to choose"
    return None


def tried(job: Job, run: str, strategy: Strategy, stops: Stops) -> Each:
    """`strategy` traded on each symbol, as ``backtesting.tried``."""
    against = job.read_benchmark()

    def play(one: Alone, symbols: int | None) -> Played:
        own = _anew(job)
        mine = own.loaded.kind(**strategy.params())
        return backtesting.played(own, _run(run, one.panel), mine, one.panel, one.opinions, against)

    with progress.bar("backtest") as tell:
        return _told(_through(job, stops, _size(job), partial(_one_by_one, play), partial(_kept, job), tell)).checked()


def walked(job: Job, run: str, axes: Sequence[Axis], asked: Asked, stops: Stops) -> Each:
    """A walk-forward of each symbol, as ``backtesting.walked``: after each run its folds."""
    against, plan = job.read_benchmark(), cache(partial(sweeping.planned, job.home, job.loaded, axes))

    def play(one: Alone, symbols: int | None) -> Played:
        own, run_of = _anew(job), _run(run, one.panel)
        its = plan if own.loaded is job.loaded else partial(sweeping.planned, job.home, own.loaded, axes)
        return backtesting.refitted(own, run_of, axes, its, asked, one.panel, one.opinions, against, symbols=symbols)

    made = _told(_through(job, stops, _size(job), partial(_one_by_one, play), partial(_kept, job)))
    made.said += f"{'; ' if made.said else ''}all windows are kept: ma sql 'from folds'"
    return made.checked()


def swept(job: Job, run: str, axes: Sequence[Axis], top: int, stops: Stops) -> Each:
    """A sweep of each symbol, as ``backtesting.swept``: the `top` of its trials, then its sweep."""
    job.check_sweep()
    against, plan = job.read_benchmark(), sweeping.planned(job.home, job.loaded, axes)

    def prepare(one: Alone) -> Sweeping:
        return backtesting.prepared(_anew(job), axes, plan, one.panel, one.opinions, against)

    def play(part: Sequence[Alone], symbols: int | None, failed: _Failed) -> Iterator[Sweeping]:
        yield from _worked(part, prepare, stops, symbols, failed)

    def keep(done: Sequence[Sweeping]) -> Iterator[Record]:
        runs = [(_run(run, sweep.sweep.ground.panel), sweep) for sweep in done]
        for (_, sweep), one in zip(runs, backtesting.judged(job, runs) if runs else (), strict=True):
            if one.best is not None:
                young.extend(unready(one.best.result.decisions))
            if one.error is not None and one.sheet.symbol is not None:
                not_again[one.sheet.symbol] = one.error
            yield from sweep.best(one.sheet, top)
            yield one.sheet

    young, not_again = list[str](), _Failed()
    size = min(_size(job), max(_CELLS // _BLOCKS // prod(len(axis.values) for axis in axes), 1))
    made = _through(job, stops, size, play, keep)
    made.failed = not_again | made.failed  # what failed first is what is told
    sheets = [record for record in made.records if isinstance(record, Sweep)]
    where = (
        f"on {len(sheets):,} of {counted(made.asked, 'symbol')}"
        if len(sheets) < made.asked
        else (f"on {counted(len(sheets), 'symbol')}")
    )
    where += f", {len(plan.strategies):,} on each" if made.asked > 1 else ""
    made.said = sweeping.summary(sum(sheet.done for sheet in sheets), plan, where, made.asked)
    if young:
        made.said += f"; {show.few(young)}: fewer bars than the best combination needs, so nothing was decided"
    return made.checked()


def _through(
    job: Job,
    stops: Stops,
    size: int,
    play: _Play[_Done],
    keep: Callable[[Sequence[_Done]], Iterator[Record]],
    tell: Callable[[int, int], None] | None = None,
) -> Each:
    """All symbols, `size` at a time: `play` yields what is done of some, or says why one of them failed, `keep` stores
    that. `play` is told of how many symbols it may say how long they take, in the first part only.

    The `stops` are held while something is kept, and at the end.
    """
    names = _stored(job)
    each = Each(failed=_missing(job, set(job.symbols or ()) - set(names)))
    each.asked = len(names) + len(each.failed)
    for k in range(0, len(names), size):
        done: list[_Done] = []
        plays = _plays(job, names[k : k + size], play, None if k else len(names), each.failed)
        each.ended = _drained(plays, done, stops, progress.behind(tell, k, len(names)))
        try:
            for record in keep(done):
                each.records.append(record)  # one by one: those before one that fails are kept
        except MarketAgentError as error:
            each.ended = error
        if each.ended is not None:
            break
    return each


def _stored(job: Job) -> list[str]:
    """The symbols that bars are stored of, as they were asked for; raises NoData without any."""
    view = job.view
    return read_symbols(
        job.home, job.symbols, source=view.source, known_at=view.known_at, timeframe=view.timeframe,
        timeout_s=job.timeout_s,
    )  # fmt: skip


def _plays(job: Job, names: Sequence[str], play: _Play[_Done], symbols: int | None, failed: _Failed) -> Iterator[_Done]:
    part = _read(job, names)
    failed |= _missing(job, set(names) - {one.symbol for one in part})
    yield from play(part, symbols, failed)


def _drained(
    plays: Iterator[_Done], done: list[_Done], stops: Stops, tell: Callable[[int], None] | None
) -> BaseException | None:
    """Put what `plays` yields into `done`, and hold the `stops` from then on; returns what has ended it too early, if
    anything, which is raised again once what is done is kept and printed."""
    try:
        try:
            stops.listen()
            for one in plays:
                done.append(one)
                if tell is not None:
                    tell(len(done))
        finally:
            stops.hold()
    except (KeyboardInterrupt, Terminated, MarketAgentError, RuntimeError) as error:
        ended = signalled(error)
        if isinstance(ended, RuntimeError):
            raise
        return ended
    return None


def _one_by_one(
    play: Callable[[Alone, int | None], Played], part: Sequence[Alone], symbols: int | None, failed: _Failed
) -> Iterator[Played]:
    for one in part:
        try:
            made = play(one, symbols)
        except NoData as error:
            failed[one.symbol] = error
        except BadStrategy as error:
            if symbols is not None:  # the first one that is tried: it is the strategy's fault, not the symbol's
                raise _on(one.panel, error)  # noqa: B904 -- it is the same one
            failed[one.symbol] = error
        else:
            symbols = None
            yield made


def _worked(
    part: Sequence[Alone], prepare: Callable[[Alone], Sweeping], stops: Stops, symbols: int | None, failed: _Failed
) -> Iterator[Sweeping]:
    """The sweeps of which something is done; then raises what has ended them too early.

    A symbol on which the strategy fails keeps what is done, and the others are played again without it. If it is the first
    one and nothing is done, it is the strategy's fault, and ends all.
    """
    left, done = list(part), dict[str, Sweeping]()
    ended: BaseException | None = None
    while left and ended is None:
        ready = _ready(left, prepare, failed)
        ended = _ended(ready, stops, symbols)
        wrong = next((sweep for sweep in ready if sweep.sweep.failed is not None), None)
        if wrong is None or not isinstance(ended, MarketAgentError):
            done |= {symbol: sweep for sweep in ready for symbol in sweep.sweep.ground.panel.symbols}
            break
        [symbol] = wrong.sweep.ground.panel.symbols
        if symbols is not None and wrong is ready[0] and not wrong.sweep.done:
            ended = _on(wrong.sweep.ground.panel, ended)
            break
        failed[symbol], done[symbol], ended = ended, wrong, None
        left = [one for one in left if one.symbol != symbol]
        symbols = None
    yield from (done[one.symbol] for one in part if one.symbol in done and done[one.symbol].sweep.done)
    if ended is not None:
        raise ended


def _ready(part: Sequence[Alone], prepare: Callable[[Alone], Sweeping], failed: _Failed) -> list[Sweeping]:
    ready = []
    for one in part:
        try:
            ready.append(prepare(one))
        except NoData as error:
            failed[one.symbol] = error
    return ready


def _ended(ready: Sequence[Sweeping], stops: Stops, symbols: int | None) -> BaseException | None:
    try:
        stops.listen()
        return sweeping.work_all(ready, stops, symbols=symbols)
    except (KeyboardInterrupt, Terminated, MarketAgentError) as error:  # raised again once what is done is kept
        return error


def _kept(job: Job, done: Sequence[Played]) -> Iterator[Record]:
    for made in backtesting.kept(job, done) if done else ():
        yield made.record
        yield from made.folds


def _read(job: Job, names: Sequence[str]) -> list[Alone]:
    """The panels and opinions of those of `names` that have bars in the span, in their order."""
    # Which bars within a day have closed is seen from all that are read: there each symbol is read by itself.
    together = [names] if job.view.timeframe == DAY else [[name] for name in names]
    read: dict[str, Panel] = {}
    for some in together:
        try:
            panel = job.view.panel(job.home, some, timeout_s=job.timeout_s)
        except NoData:  # of none of them, each of which is named
            continue
        read |= {name: _cut(panel, n) for n, name in enumerate(panel.symbols)}
    panels = [read[name] for name in names if name in read]
    opinions = read_opinions_of(job.home, panels, known_at=job.view.known_at, timeout_s=job.timeout_s)
    return [Alone(*of) for of in zip(panels, opinions, strict=True)]


def _cut(panel: Panel, n: int) -> Panel:
    """The panel that symbol `n` has when it is read alone: from its first bar to its last, on arrays of its own."""
    rows = np.flatnonzero(panel.has_bar[:, n])
    only = panel.only([panel.symbols[n]])
    return only.head(int(rows[-1]) + 1).since(int(rows[0]))


def _missing(job: Job, names: set[str]) -> _Failed:
    until = f" up to {job.view.last}" if job.view.last else ""
    asked = job.symbols or sorted(names)
    return {name: f"nothing is stored{until}; run: ma fetch {name}" for name in asked if name in names}


def _years(run: Backtest) -> float:
    return ((date.fromisoformat(run.last) - date.fromisoformat(run.first)).days + 1) / 365.25


def _told(made: Each) -> Each:
    """Say of many runs how they did in the middle, and what the best of so many would come to without skill."""
    runs = [record for record in made.records if isinstance(record, Backtest)]
    untried = made.asked - len(runs) - len(made.failed)
    rest = f"{counted(untried, 'more symbol')} {'was' if untried == 1 else 'were'} not tried" if untried else ""
    if len(runs) < 2:
        made.said = rest
        return made
    gained = sum(run.equity > run.cash for run in runs)
    made.said = f"{gained:,} of {counted(len(runs), 'symbol')} gained"
    returns, sharpes = ([value for run in runs if (value := run.metrics.get(name)) is not None]
                        for name in ("total_return", "sharpe"))  # fmt: skip
    if returns:
        made.said += f", the middle return is {cell('total_return', median(returns))}"
    if sharpes:
        made.said += f", the middle sharpe is {cell('sharpe', median(sharpes))}"
        years = [_years(run) for run in runs if run.metrics.get("sharpe") is not None]
        best = luck.best_without_skill(years)
        made.said += f"; by luck alone the best of as many independent ones would have {cell('sharpe', best)}"
    made.said += f"; {rest}" if rest else ""
    return made


def _on(panel: Panel, error: MarketAgentError) -> MarketAgentError:
    """`error` with the symbol that it came up on."""
    error.args = (f"{error} (on {panel.symbols[0]})",)
    return error


def _anew(job: Job) -> Job:
    """`job` with a strategy of its own, for what one remembers of a symbol is of no other."""
    return replace(job, loaded=job.loaded.anew())


def _run(run: str, panel: Panel) -> str:
    """The id of one symbol's run: that of the stream with the symbol behind it."""
    return f"{run}.{panel.symbols[0]}"


def _size(job: Job) -> int:
    return _DAYS if job.view.timeframe == DAY else _BARS
