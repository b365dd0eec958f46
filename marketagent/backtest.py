"""A backtest: a strategy's decisions of every session, traded on what came after, and measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from marketagent import metrics
from marketagent.costs import Costs
from marketagent.decision import Decisions
from marketagent.orders import WHOLE
from marketagent.panel import Array
from marketagent.simulate import FILL, SILENT_SESSIONS, Simulation, simulate
from marketagent.timeframes import DAY, bars_a_session

if TYPE_CHECKING:
    import pandas as pd

NAMES = 10  # symbols that a note names before it only counts


@dataclass(frozen=True)
class Backtest:
    """One run: `returns` (T,) per session, the first against the starting cash; `metrics` by name (None: undefined)."""

    decisions: Decisions
    simulation: Simulation
    returns: Array
    metrics: dict[str, float | None]
    notes: tuple[str, ...]

    def frame(self) -> "pd.DataFrame":
        """Equity, cash, exposure and returns as a pandas table by session."""
        import pandas as pd  # 0.6 s of import that no command pays for

        run = self.simulation
        columns = {"equity": run.equity, "cash": run.cash, "exposure": run.exposure, "returns": self.returns}
        return pd.DataFrame(columns, index=pd.DatetimeIndex(run.sessions))


def backtest(
    decisions: Decisions,
    costs: Costs,
    cash: float,
    *,
    start: int = 0,
    fill: str = "next-open",
    steps: float = WHOLE,
    benchmark: Array | None = None,
) -> Backtest:
    """Trade `decisions` from row `start` on with `cash` USD; `benchmark` (T,) is an adjusted close to compare with."""
    run = simulate(
        decisions.targets,
        decisions.panel,
        costs,
        cash,
        start=start,
        fill=fill,
        steps=steps,
        band=decisions.strategy.band,
    )
    against = None if benchmark is None else _returns(benchmark, start)
    returns = metrics.session_returns(run.equity, cash)
    a_year = metrics.SESSIONS * bars_a_session(decisions.panel.timeframe)
    measured = _measured(run, costs, cash, start, against, a_year)
    return Backtest(decisions, run, returns, measured, tuple(_notes(run, fill, decisions.panel.timeframe)))


def _measured(
    run: Simulation, costs: Costs, cash: float, start: int, against: Array | None, a_year: int
) -> dict[str, float | None]:
    """Every metric, with so many bars `a_year`; `costs_paid` is commissions and slippage in USD."""
    events = run.events
    filled = events.kind == FILL
    value = np.where(filled, np.abs(events.quantity) * events.price, 0.0)
    traded = np.bincount(events.row - start, weights=value, minlength=len(run.equity)).astype(np.float64)
    pnl = metrics.round_trips(events.column, events.quantity, events.price, events.commission, kind=_EVENT[events.kind])
    with np.errstate(divide="ignore", invalid="ignore"):  # a lost account has no exposure to speak of
        gross = np.where(run.equity > 0, run.exposure / run.equity, 0.0)
    measured = metrics.summary(run.equity, cash, gross=gross, traded=traded, pnl=pnl, benchmark=against, periods=a_year)
    slip = costs.slippage_bps / 10_000
    slipped = np.where(filled, value * slip / (1 + np.sign(events.quantity) * slip), 0.0)
    return {**measured, "costs_paid": float(events.commission.sum() + slipped.sum())}


# What each kind of simulated event is to a round trip: shares paid out in cash are sold like any other.
_EVENT = np.array(
    [metrics.Event.FILL, metrics.Event.SPLIT, metrics.Event.DIVIDEND, metrics.Event.FILL, metrics.Event.FILL]
)


def _returns(close: Array, start: int) -> Array:
    """Returns of a benchmark from row `start` on, 0 on the first and where it has no bar: the holder just waits."""
    newest = np.maximum.accumulate(np.where(np.isfinite(close), np.arange(len(close)), -1))
    held = np.where(newest >= 0, close[np.maximum(newest, 0)], np.nan)[start:]
    change = np.zeros(len(held))
    change[1:] = held[1:] / held[:-1] - 1
    return np.where(np.isfinite(change), change, 0.0)


def _notes(run: Simulation, fill: str, timeframe: str) -> list[str]:
    notes = []
    if fill == "same-close":
        notes.append("fills at the close they were decided on: not tradable, for comparison only")
    if run.closed:
        notes.append(f"closed at the last price after {SILENT_SESSIONS} sessions without a bar: {_named(run.closed)}")
    if run.unfilled:
        orders = "1 order was" if run.unfilled == 1 else f"{run.unfilled} orders were"
        when = "that day" if timeframe == DAY else "at the time"
        notes.append(f"{orders} not filled: no bar {when}, or no cash")
    return notes


def _named(symbols: Sequence[str]) -> str:
    more = f" and {len(symbols) - NAMES} more" if len(symbols) > NAMES else ""
    return ", ".join(symbols[:NAMES]) + more
