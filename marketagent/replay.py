"""A panel made ready for the compiled simulation, and one combination of parameters played on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from threading import local

import numpy as np
from numpy.typing import NDArray

from marketagent import kernel, weighing
from marketagent.compiled import address
from marketagent.costs import Costs
from marketagent.indicators import volatility
from marketagent.liquidity import liquidity
from marketagent.metrics import SESSIONS
from marketagent.orders import WHOLE
from marketagent.panel import Array, Panel
from marketagent.sessions import due
from marketagent.simulate import FILLS, silent_from
from marketagent.sizing import METHODS, VOLATILITY_WINDOW
from marketagent.strategy import Strategy
from marketagent.timeframes import bars_a_session

Played = dict[str, float | None]


@dataclass(frozen=True)
class Spoken:
    """One signal as the kernel takes it: `value` (T, N) and `confidence`, of the same shape or one number for all."""

    value: Array
    confidence: Array | float
    weight: float


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
        self, strategy: Strategy, signals: Mapping[str, Spoken], watch: Callable[[Array], None] | None = None
    ) -> Played | None:
        """The metrics of `strategy`, as kernel.RESULTS names them, and its last `equity`; None if a signal leaves its
        range: whoever decides on such a one is told so by ``decide``. `watch` gets the equity (T - start,)."""
        spoken = list(signals.values())
        arrays = [
            (address(each.value), 0 if isinstance(each.confidence, float) else address(each.confidence))
            for each in spoken
        ]
        sure = [each.confidence if isinstance(each.confidence, float) else np.nan for each in spoken]
        targets, due_rows = self._targets(), self._due(strategy.rebalance)
        fine = weighing.weigh(
            address(targets), np.array(arrays, dtype=np.int64), np.array(sure), np.array([s.weight for s in spoken]),
            _rule(strategy), due_rows, *self._looked_at, *targets.shape,
        )  # fmt: skip
        if not fine:
            return None
        equity, played = self._run(targets, strategy.band, due_rows)
        if watch is not None:
            watch(equity)
        return played

    def replay(self, targets: Array, band: float) -> tuple[Array, Played]:
        """Equity (T - start,) and metrics of given `targets` (T, N), as ``simulate`` trades them."""
        if targets.shape != self.panel.shape:
            raise ValueError(f"targets are {targets.shape}, the panel is {self.panel.shape}")
        return self._run(np.ascontiguousarray(targets, dtype=np.float64), band, self._due("bar"))

    def _run(self, targets: Array, band: float, due_rows: NDArray[np.int64]) -> tuple[Array, Played]:
        equity, results = np.empty(len(self.panel.sessions)), np.empty(len(kernel.RESULTS))
        kernel.run(
            address(targets), band, due_rows, self._prices, self._happens, self._months, self._closes_on, self._bill,
            self._terms, equity, results,
        )  # fmt: skip
        played: Played = {"equity": float(equity[-1])}
        for name, value in zip(kernel.RESULTS, results.tolist(), strict=True):
            played[name] = value if isfinite(value) else None
        return equity[self.start :], played

    def _targets(self) -> Array:
        """Room (T, N), of each thread its own, again and again: the system takes longer to give memory than to fill it."""
        room = self._room  # once: of two threads that come first, each may get one of its own
        if not hasattr(room, "targets"):
            room.targets = np.empty(self.panel.shape)
        targets: Array = room.targets
        return targets

    @cached_property
    def _room(self) -> local:
        return local()

    @cached_property
    def _terms(self) -> Array:
        a_year = SESSIONS * bars_a_session(self.panel.timeframe)
        return np.array([self.cash, self.start, FILLS.index(self.fill), self.steps, a_year], dtype=np.float64)

    @cached_property
    def _bill(self) -> Array:
        return kernel.bill_of(self.costs)

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
    def _looked_at(self) -> tuple[int, int]:
        """Where the bars and the volatility are."""
        return address(self._bars), address(self._usual)

    @cached_property
    def _prices(self) -> NDArray[np.int64]:
        liquid = [0 if values is None else address(values) for values in self._liquid]
        return np.array([*(address(values) for values in self._arrays), *liquid])

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
    def _happens(self) -> NDArray[np.int8]:
        panel = self.panel
        ends = np.isin(np.arange(len(panel.sessions)), self._closes_on)
        splits, pays = (panel.split != 1.0).any(axis=1), (panel.dividend > 0).any(axis=1)
        nights = (
            np.diff(panel.session_number, prepend=panel.session_number[:1]) > 0 if self.costs.lends else ends & False
        )
        happens = splits * kernel.SPLITS + pays * kernel.PAYS + ends * kernel.ENDS + nights * kernel.NIGHT
        return np.asarray(happens, dtype=np.int8)

    @cached_property
    def _schedules(self) -> dict[str, NDArray[np.int64]]:
        return {}

    def _due(self, schedule: str) -> NDArray[np.int64]:
        if schedule not in self._schedules:
            self._schedules[schedule] = np.flatnonzero(due(self.panel.sessions, schedule))
        return self._schedules[schedule]


def _rule(strategy: Strategy) -> Array:
    return np.array(
        [
            METHODS.index(strategy.sizing),
            strategy.top_k,
            strategy.gross,
            strategy.max_weight,
            strategy.long_only,
            strategy.threshold,
            strategy.min_confidence,
            strategy.warmup,
        ],
        dtype=np.float64,
    )
