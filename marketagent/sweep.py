"""A sweep: one strategy with many parameters on one panel, each combination decided, simulated and measured.

What decides is the strategy itself. Its signals come out of ``Strategy.signals``, the built-in indicators in them are
computed once for each distinct window, and what is computed from those is run as one program (see ``deferred``); then
the compiled simulation plays them. All cores work, each at a combination of its own, and only its metrics are kept.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from threading import Condition, Event
from typing import Any, overload

import numpy as np

from marketagent.costs import Costs
from marketagent.decision import BadStrategy, decide, signals_of
from marketagent.deferred import Deferred, Memo, remembering
from marketagent.errors import UsageError
from marketagent.formula import is_formula
from marketagent.grid import Axis, combination, combinations
from marketagent.grounds import Asked, Grounds, OutOfRange, asked, batches
from marketagent.indicators import sma
from marketagent.joint import Joint, NoFormula
from marketagent.kernel.measure import FIGURES
from marketagent.outcomes import Metrics, Numbers, Outcomes, Table
from marketagent.panel import Array, Panel, empty
from marketagent.program import Read, computed
from marketagent.replay import Ground, played
from marketagent.signals import Signal
from marketagent.strategy import Opinions, Strategy
from marketagent.template import Template

_TAKEN = 125  # combinations that a worker takes at a time where one trace does for all grounds
_HELD = 5_000_000  # numbers of one array of each of them, all of which live until the last is played: 40 MB
_TOGETHER = 25  # of them are played together, as long as their equity is not more numbers than _CELLS
_CELLS = 1_000_000
_TURN_S = 0.2  # how often the one who waits is told how far it is
_FIELDS = ("open", "high", "low", "close", "volume", "returns")


class Combined(Sequence[tuple[int, Strategy]]):
    """Combinations of `axes` by their `numbers` in the grid (ascending), each made when it is asked for: a million made
    at once would be a gigabyte."""

    def __init__(self, kind: type[Strategy], axes: Sequence[Axis], numbers: Numbers) -> None:
        self.numbers, self._kind, self._axes = numbers, kind, axes

    def strategy(self, number: int) -> Strategy:
        """The one with this number."""
        return self._kind(**combination(self._axes, number))

    @overload
    def __getitem__(self, place: int) -> tuple[int, Strategy]: ...
    @overload
    def __getitem__(self, place: slice) -> "Combined": ...
    def __getitem__(self, place: int | slice) -> "tuple[int, Strategy] | Combined":
        if isinstance(place, slice):
            return Combined(self._kind, self._axes, self.numbers[place])
        number = int(self.numbers[place])
        return number, self.strategy(number)

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class Plan:
    """The combinations that the strategy takes, each with its number in the grid, and how many it `refused`."""

    strategies: Combined
    refused: int


def plan(kind: type[Strategy], axes: Sequence[Axis]) -> Plan:
    """Every combination of `axes`; those that do not go together (fast above slow) are left out and counted.

    Raises UsageError, the strategy's own, if none is left.
    """
    taken = array("q")
    refusal: UsageError | None = None
    total = 0
    for number, values in enumerate(combinations(axes)):
        total += 1
        try:
            kind(**values)
        except UsageError as error:  # each value is in its range (see grid.axes): they do not go together
            refusal = error
        else:
            taken.append(number)
    if refusal is not None and not taken:
        raise refusal
    return Plan(Combined(kind, axes, np.array(taken, dtype=np.int64)), total - len(taken))


class Sweep:
    """The work on a plan; `done` fills up while ``run`` goes on, and stays what it is when that is interrupted.

    `watch` gets the number and the equity (T - start,) of each combination, in the thread that has played it. With `kind`
    it is that class that decides, wherever combinations of another one are played along: what they remember stays theirs.
    """

    def __init__(
        self,
        ground: Ground,
        opinions: Opinions | None = None,
        watch: Callable[[int, Array], None] | None = None,
        kind: type[Strategy] | None = None,
    ) -> None:
        self._watch, self._kind = watch, kind
        self.ground = replace(ground, panel=ground.panel.locked())
        self.opinions = opinions or {}
        self._table = Table(FIGURES)
        self.done = Outcomes(self._table)
        self._known = _known(self.ground.panel)
        self._memo = Memo(self._known)
        self._joint: Joint | None = None
        self._template: Template | None = None
        self._settled: type[Strategy] = Strategy
        self.failed: tuple[int, BaseException] | None = (
            None  # the first combination that raised on its ground, and what
        )
        self._error: BaseException | None = None  # the first of all that are played along
        self.given_up = False  # whether a second interruption has left workers alone that may never end
        self._turn, self._playing, self._workers = Condition(), 0, 1

    def run(
        self,
        strategies: Sequence[tuple[int, Strategy]],
        *,
        workers: int,
        tell: Callable[[int], None] | None = None,
        beside: "Sequence[Sweep]" = (),
    ) -> None:
        """Play every one of `strategies` that is not done yet; `tell` hears now and then how many are.

        The sweeps `beside`, always the same ones, play each of them along on their own grounds, of the same account and
        costs. An interruption, or a strategy's own exception, ends it once the workers have finished what they are at.
        """
        if not strategies:
            return
        self._error, self._workers = None, workers
        for each in (self, *beside):
            each.failed = None
        if not self.done:
            self._settle(*strategies[0], beside)
        shared, stop = iter(range(0, len(strategies), self._at_a_time(len(strategies)))), Event()
        pool = ThreadPoolExecutor(workers)
        try:
            working = [pool.submit(self._work, strategies, beside, shared, stop) for _ in range(workers)]
            self._await(working, tell)
        finally:
            self._halt(stop)
            pool.shutdown()

    def _halt(self, stop: Event) -> None:
        """Let nobody begin any more, and wait for who is at it. The pool's own end does not do: a signal that comes while
        it starts a thread leaves one that it does not know, and what that one's strategy prints would be a record.

        Who is interrupted while waiting gives up on those that are still at it: one of them may hang."""
        try:
            with self._turn:
                stop.set()
                while self._playing:
                    self._turn.wait()
        except BaseException:  # raised again
            with self._turn:
                stop.set()
                self.given_up = self._playing > 0
            raise

    @cached_property
    def _own(self) -> Grounds:
        return Grounds([self.ground])

    def own(self, strategy: Strategy) -> Strategy:
        """`strategy` as it decides here."""
        kind = self._kind
        return strategy if kind is None or type(strategy) is kind else kind(**strategy.params())

    def metrics(self, strategy: Strategy) -> Metrics:
        """One combination, played; raises what its ``decide`` raises."""
        return played(self._alone(strategy)[1][0])

    def _alone(self, strategy: Strategy) -> tuple[Array, Array]:
        """The equity of a combination (T,), and its figures (1, F)."""
        try:
            found = self._signals(strategy, self._memo)
        except Exception:  # it may be at odds with deferred arrays: asked again with plain ones, it says what is wrong
            self._memo = self._memo.plain()
            found = self._signals(strategy, self._memo)
        try:
            try:
                equity, figures = self._own.play_one(asked(strategy, found))
            except RecursionError:  # an expression of hundreds of steps, which NumPy takes one by one
                self._memo = self._memo.plain()
                equity, figures = self._own.play_one(asked(strategy, self._signals(strategy, self._memo)))
        except OutOfRange as beyond:
            decide(strategy, self.ground.panel, self.opinions)  # says which value is out of range
            raise BadStrategy(f"a signal of {type(strategy).__name__} is outside [-1, 1]") from beyond
        return equity, figures

    def _together(self, number: int, strategy: Strategy, sweeps: "Sequence[Sweep]") -> tuple[Array, Array]:
        """The equity on the grounds of all `sweeps`, one after the other, and the figures (G, F), each asked by itself."""
        found = []
        for each in sweeps:
            with self._noting(number, each):
                found.append(each._alone(each.own(strategy)))
        return np.concatenate([equity for equity, _ in found]), np.concatenate([figures for _, figures in found])

    def _traced(self, several: Sequence[tuple[int, Strategy]], stop: Event) -> list[tuple[int, Asked]]:
        """All of `several` as one trace for all grounds has them; none if there is none, or fewer when it is to `stop`."""
        joint, made = self._joint, list[tuple[int, Asked]]()
        if joint is not None:
            with suppress(Exception):  # whatever it is, it comes again where each is asked alone, and is told as there
                made = [(number, self._asked_of_all(joint, each)) for number, each in several if not stop.is_set()]
        return made

    def _played(self, batch: Sequence[tuple[int, Asked]], *, paths: bool) -> list[tuple[int, Array, Array]]:
        """The number, the equity (if `paths` are wanted) and the figures of those that are played without a remark."""
        with suppress(Exception):  # as above
            equity, figures, beyond = self._all.play([each for _, each in batch], paths=paths)
            rows = [(c, number) for c, (number, _) in enumerate(batch) if beyond[c] < 0]
            return [(number, equity[c if paths else 0], figures[c]) for c, number in rows]
        return []

    def _asked_of_all(self, joint: Joint, strategy: Strategy) -> Asked:
        if type(strategy) is not self._settled:  # another class may be no formula
            raise NoFormula
        if self._template is not None:
            return self._template.asked(strategy)
        return asked(strategy, joint.signals(strategy), joint.addressed)

    def _settle(self, number: int, strategy: Strategy, beside: "Sequence[Sweep]") -> None:
        """Use deferred arrays, and one trace for all grounds, only if they give the very signals that there are without."""
        sweeps = (self, *beside)
        self._all, table = Grounds([each.ground for each in sweeps]), Table(FIGURES, len(sweeps))
        joint = Joint(self.ground.panel, self._memo, [each._known for each in sweeps])
        fits = len(sweeps) > 1 and not any(each.opinions for each in sweeps)
        fits = fits and is_formula(strategy, set(_FIELDS))
        for g, each in enumerate(sweeps):
            _ = each._own  # made here, once: of what two threads make at the same time one would be freed
            each._table, each.done = table, Outcomes(table, g)
            panel = each.ground.panel
            with self._noting(number, each):
                mine = each.own(strategy)
                plain = signals_of(mine, panel, each.opinions)
            if not _agree(plain, partial(each._signals, mine, each._memo), panel.shape):
                each._memo = each._memo.plain()
            fits = fits and _agree(plain, partial(joint.signals, strategy), panel.shape, joint.on(g))
        self._joint, self._template, self._settled = joint if fits else None, None, type(strategy)
        if fits:
            with suppress(Exception):  # whatever it is, each combination is asked then, and says it
                self._template = Template(joint, strategy)

    def _signals(self, strategy: Strategy, memo: Memo) -> dict[str, Signal]:
        with remembering(memo):
            return signals_of(strategy, self.ground.panel, self.opinions)

    def _work(
        self, strategies: Sequence[tuple[int, Strategy]], beside: "Sequence[Sweep]", shared: Iterator[int], stop: Event
    ) -> None:
        sweeps, size = (self, *beside), self._at_a_time(len(strategies))
        is_watched = any(each._watch for each in sweeps)
        for first in shared:  # one `next` at a time: an iterator over a range is safe between threads
            several = [each for each in strategies[first : first + size] if each[0] not in self.done]
            with self._turn:
                if stop.is_set():
                    return
                self._playing += 1
            try:
                left = dict(several)
                for batch in batches(self._traced(several, stop), max(1, min(_TOGETHER, _CELLS // self._all.cells))):
                    if stop.is_set():
                        break
                    made = self._played(batch, paths=is_watched)
                    self._keep(made, sweeps)
                    for number, *_ in made:
                        del left[number]
                for number, strategy in left.items():
                    if not stop.is_set():
                        with self._noting(number, self):
                            equity, figures = self._together(number, strategy, sweeps)
                        self._keep([(number, equity, figures)], sweeps)
            finally:
                with self._turn:
                    self._playing -= 1
                    self._turn.notify_all()

    def _keep(self, made: Sequence[tuple[int, Array, Array]], sweeps: "Sequence[Sweep]") -> None:
        """Show what combinations came to, equity and figures, to whoever watches, and note it."""
        watched = any(each._watch for each in sweeps)
        for number, equity, figures in made:
            if watched:
                for each, path in zip(sweeps, self._all.paths(equity), strict=True):
                    if each._watch is not None:
                        with self._noting(number, each):
                            each._watch(number, path)
            with self._turn:
                if not self.given_up:  # else what is done is being counted
                    self._table.put(number, figures)

    def _at_a_time(self, count: int) -> int:
        """How many of so many combinations a worker takes: enough that some read the same, few enough to share them."""
        return 1 if self._joint is None else max(1, min(_TAKEN, _HELD // self._all.cells, count // (4 * self._workers)))

    @contextmanager
    def _noting(self, number: int, on: "Sweep") -> Iterator[None]:
        """Note which combination was the first to raise, and on whose ground."""
        try:
            yield
        except BaseException as error:  # raised again: a user's program may raise anything
            with self._turn:
                if self._error is None:
                    self._error, on.failed = error, (number, error)
            raise

    def _await(self, working: Sequence["Future[None]"], tell: Callable[[int], None] | None) -> None:
        waiting = set(working)
        while waiting:
            ended, waiting = wait(waiting, timeout=_TURN_S, return_when=FIRST_EXCEPTION)
            if self._error is not None:
                raise self._error  # of several that failed the first, whichever future is looked at first
            for future in ended:
                future.result()
            if tell is not None:
                tell(len(self.done))


def warm() -> None:
    """Load what is compiled, or compile it, on the smallest of sweeps."""
    panel = empty(np.array(["2013-01-02", "2013-01-03"], dtype="datetime64[D]"), ["A"])
    for values in vars(panel.raw).values():
        values[:] = 1.0
    Sweep(Ground(panel, Costs(name="none"), 1.0)).run([(0, _Smallest())], workers=1)


class _Smallest(Strategy):
    """Deferred, and of one row: enough to need all that is compiled."""

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        return {"none": Signal(sma(panel.close, 1) * 0.0)}


def _known(panel: Panel) -> dict[str, Array]:
    """The arrays of `panel` that do not change, by name; those of ``raw`` under names of their own."""
    return {name: getattr(panel, name) for name in _FIELDS} | {
        f"raw.{name}": getattr(panel.raw, name) for name in type(panel.raw).__dataclass_fields__
    }


def _arrays(
    signals: Mapping[str, Signal], shape: tuple[int, ...], leaves: Read | None = None
) -> dict[str, tuple[Array, Array | float]]:
    """Value and confidence of each of `signals`; those that are deferred are computed together, of other `leaves` if given."""
    parts: list[Any] = [part for signal in signals.values() for part in (signal.value, signal.confidence)]
    deferred = [part for part in parts if isinstance(part, Deferred)]
    arrays = dict(zip(map(id, deferred), computed(deferred, leaves, shape), strict=True))
    made = [arrays.get(id(part), part) for part in parts]
    return dict(zip(signals, zip(made[::2], made[1::2], strict=True), strict=True))


def _agree(
    plain: Mapping[str, Signal],
    signals: Callable[[], Mapping[str, Signal]],
    shape: tuple[int, ...],
    leaves: Read | None = None,
) -> bool:
    """Whether `signals`, computed of other `leaves` if there are any, are the `plain` ones."""
    try:
        found = _arrays(signals(), shape, leaves)
        return all(_same(plain[name], *found[name]) for name in plain)
    except Exception:  # then it is done without what was tried: the plain signals are there
        return False


def _same(plain: Signal, value: Array, confidence: Array | float) -> bool:
    sure = np.where(np.isnan(plain.value), np.nan, confidence)
    value = np.where(np.isnan(sure), np.nan, value)
    return np.array_equal(plain.value, value, equal_nan=True) and np.array_equal(plain.confidence, sure, equal_nan=True)
