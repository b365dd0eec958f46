"""A panel made ready for the compiled simulation, and one combination of parameters played on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from threading import local

import numpy as np
from numpy.typing import NDArray

from marketagent.compiled import address
from marketagent.costs import Costs
from marketagent.indicators import volatility
from marketagent.kernel.measure import RESULTS
from marketagent.kernel.terms import ENDS, NIGHT, PAYS, SPLITS, bill_of, room_for
from marketagent.kernel.walk import run
from marketagent.liquidity import liquidity
from marketagent.metrics import SESSIONS
from marketagent.orders import WHOLE
from marketagent.panel import Array, Panel
from marketagent.play import SURE, cells_for, play
from marketagent.program import Program
from marketagent.sessions import due
from marketagent.signals import Signal
from marketagent.simulate import FILLS, silent_from
from marketagent.sizing import METHODS, VOLATILITY_WINDOW
from marketagent.strategy import Strategy
from marketagent.timeframes import bars_a_session

Played = dict[str, float | None]
_NUMBERS = (int, float)


@dataclass(frozen=True)
class Ground:
    """What all combinations of a sweep have in common: the panel, the account and what trading costs.

    The options are those of ``simulate``. Raises ValueError for an unknown `fill`.
    """

    panel: Panel
    costs: Costs
    cash: float
    start: int = 0
    fill: str = "next-open"
    steps: float = WHOLE

    def play(
        self, strategy: Strategy, signals: Mapping[str, Signal], watch: Callable[[Array], None] | None = None
    ) -> Played | None:
        """The metrics of `strategy`, as kernel.RESULTS names them, and its last `equity`; None if a signal leaves its
        range: whoever decides on such a one is told so by ``decide``. `watch` gets the equity (T - start,)."""
        program, width = Program(), len(self.panel.symbols)
        said = [(signal.value, signal.confidence, strategy.weights.get(name, 1.0)) for name, signal in signals.items()]
        parts = [
            (program.place(value), SURE if isinstance(sure, _NUMBERS) else program.place(sure))
            for value, sure, _ in said
        ]
        sure = [float(sure) if isinstance(sure, _NUMBERS) else np.nan for _, sure, _ in said]
        equity, results = self._results()
        room = self._room("play", cells_for(width, program.registers))
        fine = play(
            program.codes, program.leaves, program.constants, np.array(parts, dtype=np.int64), np.array(sure),
            np.array([weight for *_, weight in said], dtype=np.float64), self._rule(strategy), self._due(strategy.rebalance),
            self._looked_at, self._facts, strategy.band, self._bill, self._terms, room, equity, results,
        )  # fmt: skip
        if not fine:
            return None
        if watch is not None:
            watch(equity[self.start :])
        return _played(equity, results)

    def replay(self, targets: Array, band: float) -> tuple[Array, Played]:
        """Equity (T - start,) and metrics of given `targets` (T, N), as ``simulate`` trades them."""
        if targets.shape != self.panel.shape:
            raise ValueError(f"targets are {targets.shape}, the panel is {self.panel.shape}")
        wanted, room = np.ascontiguousarray(targets, dtype=np.float64), self._room("run", room_for(targets.shape[1]))
        equity, results = self._results()
        run(address(wanted), band, self._facts, self._bill, self._terms, room, equity, results)
        return equity[self.start :], _played(equity, results)

    def _results(self) -> tuple[Array, Array]:
        return np.empty(len(self.panel.sessions)), np.empty(len(RESULTS))

    def _room(self, use: str, cells: int) -> Array:
        """Room of so many cells, of each thread its own, again and again: to be given memory takes longer than to fill it."""
        room: Array | None = getattr(self._rooms, use, None)
        if room is None or len(room) < cells:
            room = np.empty(cells)
            setattr(self._rooms, use, room)
        return room

    @cached_property
    def _rooms(self) -> local:
        return local()

    @cached_property
    def _terms(self) -> Array:
        a_year = SESSIONS * bars_a_session(self.panel.timeframe)
        return np.array([self.cash, self.start, FILLS.index(self.fill), self.steps, a_year], dtype=np.float64)

    @cached_property
    def _bill(self) -> Array:
        return bill_of(self.costs)

    @cached_property
    def _arrays(self) -> list[Array]:
        """In the order of the kernel's `prices`; kept here, where their addresses are good."""
        panel = self.panel
        # Where all symbols have all bars the marks are the closes: one array less in the processor's cache.
        mark = panel.raw.close if np.array_equal(panel.mark, panel.raw.close) else panel.mark
        arrays = [panel.raw.open, panel.raw.close, mark, panel.split, panel.dividend]
        return [np.ascontiguousarray(values, dtype=np.float64) for values in arrays]

    @cached_property
    def _bars(self) -> Array:
        """(T, N): how many bars there were by each row that has one, 0 where there is none."""
        return np.where(self.panel.has_bar, np.cumsum(self.panel.has_bar, axis=0), 0).astype(np.float64)

    @cached_property
    def _usual(self) -> Array:
        return np.ascontiguousarray(volatility(self.panel.close, VOLATILITY_WINDOW))

    @cached_property
    def _looked_at(self) -> NDArray[np.int64]:
        """Where the bars and the volatility are."""
        return np.array([address(self._bars), address(self._usual)])

    @cached_property
    def _is_whole(self) -> bool:
        """Whether every symbol has a bar on every row."""
        return bool(self.panel.has_bar.all())

    @cached_property
    def _facts(self) -> NDArray[np.int64]:
        """The market as terms.Market is told of it."""
        liquid = [0 if values is None else address(values) for values in self._liquid]
        whole = [self._happens, self._calm, self._months, self._closes_on]
        return np.array(
            [*map(address, self._arrays), *liquid, *(address(values, np.int64) for values in whole), *self.panel.shape]
        )

    @cached_property
    def _liquid(self) -> tuple[Array | None, Array | None]:
        """(T, N): how many shares may trade at each row, and the impact of one; None where the costs do not ask."""
        rows = [liquidity(self.panel, t, self.costs) for t in range(len(self.panel.sessions))]
        known = [row for row in rows if row is not None]
        if not known:
            return None, None
        pressures = [row.pressure for row in known if row.pressure is not None]
        return np.array([row.limit for row in known]), np.array(pressures) if pressures else None

    @cached_property
    def _months(self) -> NDArray[np.int64]:
        return self.panel.sessions.astype("datetime64[M]").astype(np.int64)

    @cached_property
    def _closes_on(self) -> NDArray[np.int64]:
        return silent_from(self.panel)

    @cached_property
    def _happens(self) -> NDArray[np.int64]:
        panel = self.panel
        ends = np.isin(np.arange(len(panel.sessions)), self._closes_on)
        splits, pays = (panel.split != 1.0).any(axis=1), (panel.dividend > 0).any(axis=1)
        nights = (
            np.diff(panel.session_number, prepend=panel.session_number[:1]) > 0 if self.costs.lends else ends & False
        )
        happens = splits * SPLITS + pays * PAYS + ends * ENDS + nights * NIGHT
        return np.asarray(happens, dtype=np.int64)

    @cached_property
    def _calm(self) -> NDArray[np.int64]:
        """(T,): the first row from each on that something happens on beside a night; T if none does."""
        length = len(self._happens)
        turns = np.append(np.flatnonzero(self._happens & ~NIGHT), length)
        return turns[np.searchsorted(turns, np.arange(length))]

    def _rule(self, strategy: Strategy) -> Array:
        """What ``weighing`` goes by."""
        return np.array([
            METHODS.index(strategy.sizing), strategy.top_k, strategy.gross, strategy.max_weight, strategy.long_only,
            strategy.threshold, strategy.min_confidence, strategy.warmup,
            max(strategy.warmup - 1, 0) if self._is_whole else len(self.panel.sessions),
        ], dtype=np.float64)  # fmt: skip

    @cached_property
    def _schedules(self) -> dict[str, NDArray[np.int64]]:
        return {}

    def _due(self, schedule: str) -> NDArray[np.int64]:
        if schedule not in self._schedules:
            self._schedules[schedule] = np.flatnonzero(due(self.panel.sessions, schedule))
        return self._schedules[schedule]


def _played(equity: Array, results: Array) -> Played:
    values = results.tolist()
    return {
        "equity": float(equity[-1]),
        **{n: v if isfinite(v) else None for n, v in zip(RESULTS, values, strict=True)},
    }
