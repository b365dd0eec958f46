"""Grounds on which combinations are played together: one market after the other, each with all of the combinations."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from threading import local
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from marketagent.compiled import address
from marketagent.deferred import Deferred
from marketagent.indicators import volatility
from marketagent.kernel.measure import FIGURES
from marketagent.kernel.terms import USUAL
from marketagent.lines import in_lines, room
from marketagent.machine import Form, Machines
from marketagent.names import Parameter
from marketagent.panel import Array
from marketagent.play import SURE, cells_for, play
from marketagent.program import Program, leaf_of
from marketagent.replay import Ground
from marketagent.signals import Signal
from marketagent.sizing import METHODS, VOLATILITY_WINDOW
from marketagent.strategy import Strategy

# Of each leaf of a program its addresses on the grounds, and what keeps them good.
Addressed = Callable[[Sequence[Deferred | Array]], tuple[list[list[int]], Any]]
_NUMBERS = (int, float)
_NEAR = 5  # arrays of one sort that are read again and again by a batch
_rooms = local()
_machines = Machines()


class OutOfRange(Exception):
    """A signal leaves its range: whoever decides on it is told so by ``decide``."""


class Kind(NamedTuple):
    """What combinations that are played together have in common."""

    form: Form
    parts: tuple[tuple[int, int], ...]
    registers: int
    schedule: str
    weighs_volatility: bool


@dataclass(frozen=True)
class Asked:
    """A combination as ``play`` is told of it: what it has in common with others, its numbers, and of each leaf of its
    program the addresses on the grounds; `kept` keeps these good."""

    kind: Kind
    constants: list[tuple[int, float]]
    sure: list[float]
    weights: list[float]
    rule: list[float]
    band: float
    leaves: list[list[int]]
    kept: Any


class Grounds:
    """Grounds of one sort of account, costs and timeframe. `cells` says how many numbers the equity of a combination is."""

    def __init__(self, grounds: Sequence[Ground]) -> None:
        self._grounds = grounds
        self._facts = np.array([ground.facts for ground in grounds])
        self._size = sum(ground.panel.mark.size for ground in grounds)
        self._width = max(len(ground.panel.symbols) for ground in grounds)
        lengths = [len(ground.panel.sessions) for ground in grounds]
        self._ends, self._longest, self.cells = np.cumsum(lengths).tolist(), max(lengths), sum(lengths)
        self._due: dict[str, NDArray[np.int64]] = {}

    def play(self, asked: Sequence[Asked], *, paths: bool = True) -> tuple[Array, Array, NDArray[np.int64]]:
        """Of combinations of one kind: the equity (C, ...) of each, of one ground after the other, unless `paths` are not
        wanted; (C, G, F) what FIGURES names; (C,) the ground on which a signal leaves its range, -1 if none does."""
        kind, count, total = asked[0].kind, len(asked), len(self._grounds)
        facts, usual = self._with_volatility if kind.weighs_volatility else (self._facts, [])
        equity = room(count * self.cells).reshape(count, -1) if paths else room(self._longest).reshape(1, -1)
        figures, beyond = np.empty((count, total, len(FIGURES))), np.empty(count, dtype=np.int64)
        leaves = np.array([each.leaves for each in asked], dtype=np.int64).reshape(count, -1, total)
        play(
            _machines.address(kind.form, self._size * count) if kind.form.codes else 0,
            np.array(kind.form.codes, dtype=np.int64).reshape(-1, 5), np.ascontiguousarray(leaves.transpose(0, 2, 1)),
            np.array([each.constants for each in asked], dtype=np.float64).reshape(count, -1, 2),
            np.array(kind.parts, dtype=np.int64), np.array([each.sure for each in asked], dtype=np.float64),
            np.array([each.weights for each in asked], dtype=np.float64), np.array([each.rule for each in asked]),
            self._due_rows(kind.schedule), facts, np.array([each.band for each in asked], dtype=np.float64),
            self._grounds[0].bill, self._grounds[0].terms, _room(cells_for(self._width, kind.registers)), equity, figures,
            beyond,
        )  # fmt: skip
        del usual  # only now, as what is asked keeps its own: they were read
        return equity, figures, beyond

    def play_one(self, asked: Asked) -> tuple[Array, Array]:
        """The equity of one combination, of one ground after the other, and its figures (G, F). Raises OutOfRange."""
        equity, figures, beyond = self.play([asked])
        if beyond[0] >= 0:
            raise OutOfRange
        return equity[0], figures[0]

    def paths(self, equity: Array) -> Iterator[Array]:
        """Of each ground its part (T - start,) of the equity of all of them."""
        begin = 0
        for ground, end in zip(self._grounds, self._ends, strict=True):
            yield equity[begin + ground.start : end]
            begin = end

    @cached_property
    def _with_volatility(self) -> tuple[NDArray[np.int64], list[Array]]:
        """The facts with USUAL, and the arrays that it is the address of."""
        closes = (ground.panel.close for ground in self._grounds)
        usual = [in_lines(volatility(close, VOLATILITY_WINDOW)) for close in closes]
        facts = self._facts.copy()
        facts[:, USUAL] = [address(values) for values in usual]
        return facts, usual

    def _due_rows(self, schedule: str) -> NDArray[np.int64]:
        if schedule not in self._due:
            self._due[schedule] = np.array([ground.due(schedule) for ground in self._grounds], dtype=np.int64)
        return self._due[schedule]


def batches(traced: Sequence[tuple[int, Asked]], most: int) -> Iterator[list[tuple[int, Asked]]]:
    """Numbered combinations in parts of one kind and of at most so many, such that those of a part read the same arrays as
    far as may be: these stay in the processor's cache meanwhile."""
    for _, alike in groupby(traced, key=lambda each: each[1].kind):
        several = list(alike)
        read = np.array([[addresses[0] for addresses in each.leaves] for _, each in several], dtype=np.int64)
        if read.size:
            ranks = [np.unique(column, return_inverse=True)[1] for column in read.T]
            most_varied = max(ranks, key=lambda rank: int(rank.max()))
            several = [several[k] for k in np.argsort(most_varied // _NEAR, kind="stable")]
        for first in range(0, len(several), most):
            yield several[first : first + most]


def asked(strategy: Strategy, signals: Mapping[str, Signal], addressed: Addressed | None = None) -> Asked:
    """`strategy`, whose `signals` on the first ground these are, deferred or not, as it is played.

    `addressed` gives what a program reads on each ground; where there is one, by itself what the signals are made of.
    """
    traced = Traced(signals)
    leaves, kept = (addressed or _own)(traced.leaves)
    return traced.asked(strategy, leaves, kept)


class Traced:
    """Deferred or other signals as a program, of one combination or, with parameters in it, of all; `leaves` are read."""

    def __init__(self, signals: Mapping[str, Signal]) -> None:
        program, said = Program(), [(signal.value, signal.confidence) for signal in signals.values()]
        self._parts = tuple([
            (program.place(value), SURE if isinstance(sure, _NUMBERS) else program.place(sure)) for value, sure in said
        ])  # fmt: skip
        self._form = program.form([place for part in self._parts for place in part if place != SURE])
        self._sure = [float(sure) if isinstance(sure, _NUMBERS) else np.nan for _, sure in said]
        self.names, self._constants, self._registers = list(signals), program.constants, program.registers
        self.leaves = program.leaves

    def asked(self, strategy: Strategy, leaves: list[list[int]], kept: Any) -> Asked:
        """One combination, what is read on the grounds being at the addresses `leaves`, which `kept` keeps good."""
        weighs = strategy.sizing == "inverse_volatility"
        kind = Kind(self._form, self._parts, self._registers, strategy.rebalance, weighs)
        constants = [
            (register, float(getattr(strategy, number.name)) if isinstance(number, Parameter) else number)
            for register, number in self._constants
        ]
        weights = [strategy.weights.get(name, 1.0) for name in self.names]
        return Asked(kind, constants, self._sure, weights, _rule(strategy), strategy.band, leaves, kept)


def _own(leaves: Sequence[Deferred | Array]) -> tuple[list[list[int]], Any]:
    arrays = [leaf_of(leaf) for leaf in leaves]
    return [[address(array)] for array in arrays], arrays


def _rule(strategy: Strategy) -> list[float]:
    """What ``weighing`` goes by."""
    return [
        float(METHODS.index(strategy.sizing)), strategy.top_k, strategy.gross, strategy.max_weight, strategy.long_only,
        strategy.threshold, strategy.min_confidence, float(strategy.warmup),
    ]  # fmt: skip


def _room(cells: int) -> Array:
    """Room of so many cells, of each thread its own, again and again: to be given memory takes longer than to fill it."""
    mine: Array | None = getattr(_rooms, "room", None)
    if mine is None or len(mine) < cells:
        mine = _rooms.room = room(cells)
    return mine
