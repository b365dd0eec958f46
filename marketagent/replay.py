"""A panel made ready for the compiled simulation, and one combination of parameters played on it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from marketagent.compiled import address
from marketagent.costs import Costs
from marketagent.kernel.measure import FIGURES
from marketagent.kernel.terms import ENDS, NIGHT, PAYS, SPLITS, bill_of, room_for
from marketagent.kernel.walk import run
from marketagent.lines import in_lines, room
from marketagent.liquidity import liquidity
from marketagent.metrics import SESSIONS
from marketagent.orders import WHOLE
from marketagent.panel import Array, Panel
from marketagent.sessions import due
from marketagent.simulate import FILLS, silent_from
from marketagent.timeframes import bars_a_session

Played = dict[str, float | None]


@dataclass(frozen=True)
class Ground:
    """What all combinations of a sweep have in common: the panel, the account and what trading costs.

    The options are those of ``simulate``. Raises ValueError for an unknown `fill`, and where no row is left to play.
    """

    panel: Panel
    costs: Costs
    cash: float
    start: int = 0
    fill: str = "next-open"
    steps: float = WHOLE

    def __post_init__(self) -> None:
        rows = len(self.panel.sessions)
        if not 0 <= self.start < rows:
            raise ValueError(f"start is {self.start}, and the panel has {rows} rows")

    def replay(self, targets: Array, band: float) -> tuple[Array, Played]:
        """Equity (T - start,) and metrics of given `targets` (T, N), as ``simulate`` trades them."""
        if targets.shape != self.panel.shape:
            raise ValueError(f"targets are {targets.shape}, the panel is {self.panel.shape}")
        wanted, book = in_lines(targets), room(room_for(targets.shape[1]))
        equity, figures = room(len(self.panel.sessions)), np.empty(len(FIGURES))
        run(address(wanted), band, self.facts, self.bill, self.terms, book, equity, figures)
        return equity[self.start :], played(figures)

    def due(self, schedule: str) -> tuple[int, int]:
        """The address and the number of the rows that decide."""
        # Of two threads the first one's stay, the dict as well as the rows: somebody may be reading them already.
        known: dict[str, NDArray[np.int64]] = vars(self).setdefault("_schedules", {})
        rows = known.get(schedule)
        if rows is None:
            rows = known.setdefault(schedule, np.flatnonzero(due(self.panel.sessions, schedule)))
        return address(rows, np.int64), len(rows)

    @cached_property
    def terms(self) -> Array:
        a_year = SESSIONS * bars_a_session(self.panel.timeframe)
        return np.array([self.cash, FILLS.index(self.fill), self.steps, a_year], dtype=np.float64)

    @cached_property
    def bill(self) -> Array:
        return bill_of(self.costs)

    @cached_property
    def _arrays(self) -> list[Array]:
        """In the order of the kernel's `prices`; kept here, where their addresses are good."""
        panel = self.panel
        # Where all symbols have all bars the marks are the closes: one array less in the processor's cache.
        mark = panel.raw.close if np.array_equal(panel.mark, panel.raw.close) else panel.mark
        arrays = [panel.raw.open, panel.raw.close, mark, panel.split, panel.dividend]
        made = {id(values): in_lines(values) for values in arrays}
        return [made[id(values)] for values in arrays]

    @cached_property
    def _bars(self) -> Array:
        """(T, N): how many bars there were by each row that has one, 0 where there is none."""
        return np.where(self.panel.has_bar, np.cumsum(self.panel.has_bar, axis=0), 0).astype(np.float64, order="C")

    @cached_property
    def facts(self) -> NDArray[np.int64]:
        """The market as terms.Market is told of it, but for USUAL."""
        liquid = [0 if values is None else address(values) for values in self._liquid]
        whole = [self._happens, self._calm, self._months, self._closes_on]
        return np.array([
            *map(address, self._arrays), *liquid, *(address(values, np.int64) for values in whole), address(self._bars),
            0, *self.panel.shape, self.start, self.panel.has_bar.all(),
        ], dtype=np.int64)  # fmt: skip

    @cached_property
    def _liquid(self) -> tuple[Array | None, Array | None]:
        """(T, N): how many shares may trade at each row, and the impact of one; None where the costs do not ask."""
        rows = range(len(self.panel.sessions))
        if liquidity(self.panel, 0, self.costs) is None:
            return None, None
        known = [row for t in rows if (row := liquidity(self.panel, t, self.costs)) is not None]
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


def played(figures: Array) -> Played:
    """A row of figures by name; None for NaN."""
    return {name: None if value != value else value for name, value in zip(FIGURES, figures.tolist(), strict=True)}
