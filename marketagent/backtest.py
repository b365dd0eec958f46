"""A backtest: a strategy's decisions of every session, traded on what came after, and measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from marketagent import metrics
from marketagent.benchmark import Compared, compared
from marketagent.costing import TIMES, Size, break_even_bps, guessed_bps
from marketagent.costs import Costs
from marketagent.decision import Decisions
from marketagent.events import FILL
from marketagent.orders import WHOLE
from marketagent.panel import Array, Panel
from marketagent.simulate import SILENT_SESSIONS, Simulation, simulate
from marketagent.timeframes import DAY, bars_a_session

if TYPE_CHECKING:
    import pandas as pd

_LOST = 1e-6  # of the goal: an account worth less, or in debt, has nothing to take the logarithm of
NAMES = 10  # symbols that a note names before it only counts


@dataclass(frozen=True)
class Terms:
    """How an account trades: what it is charged, the `cash` in USD it begins with, how its orders are filled and cut."""

    costs: Costs
    cash: float
    fill: str = "next-open"
    steps: float = WHOLE


@dataclass(frozen=True)
class Backtest:
    """One run: `returns` (T,) per session, the first against the starting cash; `metrics` by name (None: undefined).

    `sizes` are the accounts of other sizes that were asked for, `benchmark` is what it is compared with.
    """

    decisions: Decisions
    simulation: Simulation
    returns: Array
    metrics: dict[str, float | None]
    notes: tuple[str, ...]
    sizes: tuple[Size, ...] = ()
    benchmark: Compared | None = None

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
    capacity: bool = False,
) -> Backtest:
    """Trade `decisions` from row `start` on with `cash` USD; `benchmark` (T,) is an adjusted close to compare with, of which
    there is one from there on.

    `capacity` trades accounts of other sizes, too: TIMES the cash.
    """
    panel = decisions.panel

    def traded(bill: Costs, money: float) -> Simulation:
        return simulate(
            decisions.targets, panel, bill, money, start=start, fill=fill, steps=steps, band=decisions.strategy.band
        )

    run = traded(costs, cash)
    against = None if benchmark is None else compared(benchmark, panel, start)
    a_year = metrics.SESSIONS * bars_a_session(panel.timeframe)
    measured = _measured(run, costs, panel, fill, cash, against, a_year)
    returns = metrics.session_returns(run.equity, cash)
    measured["break_even_bps"] = _break_even(run, returns, traded, costs, panel, fill, cash, against)
    sizes = [(cash * times, run if times == 1 else traded(costs, cash * times)) for times in TIMES] if capacity else []
    return Backtest(
        decisions,
        run,
        returns,
        measured,
        tuple(_notes(run, costs, fill, decisions, against, capacity=capacity)),
        tuple(_size(other, _paid(other, panel, fill), money, a_year) for money, other in sizes),
        against,
    )


def _measured(
    run: Simulation, costs: Costs, panel: Panel, fill: str, cash: float, against: Compared | None, a_year: int
) -> dict[str, float | None]:
    """Every metric, with so many bars `a_year`; `costs_paid` is commissions, slippage and what was lent by, in USD."""
    events, traded = run.events, _by_row(run, panel, _values(run))
    pnl = metrics.round_trips(events.column, events.quantity, events.price, events.commission, kind=_EVENT[events.kind])
    beside = None if against is None else against.returns
    with np.errstate(divide="ignore", invalid="ignore"):  # a lost account has no exposure to speak of
        gross = np.where(run.equity > 0, run.exposure / run.equity, 0.0)
    measured = metrics.summary(run.equity, cash, gross=gross, traded=traded, pnl=pnl, benchmark=beside, periods=a_year)
    return {
        **measured,
        "costs_paid": _paid(run, panel, fill),
        "lending_paid": float(run.lent.sum()) if costs.lends else None,
    }


def _break_even(
    run: Simulation,
    returns: Array,
    simulated: Callable[[Costs, float], Simulation],
    costs: Costs,
    panel: Panel,
    fill: str,
    cash: float,
    against: Compared | None,
) -> float | None:
    # What the account had to be worth in the end: what it began with, or what the benchmark made of it.
    goal = 1.0 if against is None else float(np.prod(1 + against.returns[against.known]))
    before = np.concatenate([[cash], run.equity[:-1]])
    usable = np.where(before > 0, before, np.inf)  # a lost account trades nothing
    traded, paid = _by_row(run, panel, _values(run)), _by_row(run, panel, _event_costs(run, panel, fill))
    beside = np.ones(len(returns), dtype=bool) if against is None else against.known
    guess = guessed_bps(returns[beside], (paid / usable)[beside], (traded / usable)[beside], goal)

    def growth(other: Simulation) -> float:  # over the goal, in logs: next to a straight line over the costs
        grown = float(other.equity[-1]) / cash
        if not beside.all():
            grown = float(np.prod(1 + metrics.session_returns(other.equity, cash)[beside]))
        return float(np.log(max(grown / goal, _LOST)))

    total = float(traded[beside].sum())
    about = (float(paid[beside].sum()) / total * 10_000, growth(run)) if total else None
    return break_even_bps(lambda bps: growth(simulated(costs.flat(bps), cash)), guess, total / (cash * goal), about)


def _by_row(run: Simulation, panel: Panel, values: Array) -> Array:
    """(T,): `values` (K,) of the events, added up by session."""
    first = len(panel.sessions) - len(run.equity)
    return np.bincount(run.events.row - first, weights=values, minlength=len(run.equity)).astype(np.float64)


def _values(run: Simulation) -> Array:
    """(K,) traded value of each event in USD, 0 for what is no fill."""
    events = run.events
    return np.where(events.kind == FILL, np.abs(events.quantity) * events.price, 0.0)


def _event_costs(run: Simulation, panel: Panel, fill: str) -> Array:
    """(K,): commissions and fees of each event, and how far its price was moved, in USD."""
    events = run.events
    untouched = (panel.raw.open if fill == "next-open" else panel.raw.close)[events.row, events.column]
    moved = np.where(events.kind == FILL, np.abs(events.quantity) * np.abs(events.price - untouched), 0.0)
    return np.asarray(events.commission + moved)


def _paid(run: Simulation, panel: Panel, fill: str) -> float:
    """What trading and lending cost in USD."""
    return float(_event_costs(run, panel, fill).sum() + run.lent.sum())


def _size(run: Simulation, paid: float, cash: float, a_year: int) -> Size:
    returns = metrics.session_returns(run.equity, cash)
    return Size(
        cash,
        float(run.equity[-1]),
        metrics.total_return(returns),
        metrics.cagr(returns, a_year),
        metrics.sharpe(returns, periods=a_year),
        paid,
        run.unfilled,
    )


# What each kind of simulated event is to a round trip: shares paid out in cash are sold like any other.
_EVENT = np.array(
    [metrics.Event.FILL, metrics.Event.SPLIT, metrics.Event.DIVIDEND, metrics.Event.FILL, metrics.Event.FILL]
)


def _notes(
    run: Simulation, costs: Costs, fill: str, decisions: Decisions, against: Compared | None, *, capacity: bool
) -> list[str]:
    notes = [against.note] if against is not None and against.note is not None else []
    if young := unready(decisions):
        needs = f"fewer bars than the {decisions.strategy.warmup:,} that the strategy needs, so nothing was decided"
        notes.append(needs if len(decisions.panel.symbols) == 1 else f"{needs}: {_named(young)}")
    if decisions.strategy.gross > 1 and decisions.strategy.long_only:
        notes.append(
            f"gross {decisions.strategy.gross:g}: longs are bought with the cash there is, nothing is borrowed for more"
        )
    if capacity and not (costs.participation or costs.impact):
        notes.append(
            "larger accounts trade at the same prices here, whatever the volume: --slippage volume:0.05,sqrt:0.1"
        )
    if not costs.margin_rate and (run.cash < 0).any():
        notes.append("cash was owed and nothing was charged for it: --margin-rate")
    # Where all is long, exposure is what equity has beside cash, but for what large floats lose.
    short = run.exposure - (run.equity - run.cash) > 1e-9 * np.abs(run.equity)
    if not costs.borrow_rate and short.any():
        notes.append("shares were sold short and nothing was charged for borrowing them: --borrow-rate")
    if fill == "same-close":
        notes.append("fills at the close they were decided on: not tradable, for comparison only")
    if run.closed:
        notes.append(f"closed at the last price after {SILENT_SESSIONS} sessions without a bar: {_named(run.closed)}")
    if run.unfilled:
        orders = "1 order was" if run.unfilled == 1 else f"{run.unfilled} orders were"
        when = "that day" if decisions.panel.timeframe == DAY else "at the time"
        volume = ", or no volume known" if costs.participation or costs.impact else ""
        notes.append(f"{orders} not filled: no bar {when}, or no cash{volume}")
    return notes


def unready(decisions: Decisions) -> list[str]:
    """The symbols that were never decided on because they have fewer bars than the strategy needs."""
    short = decisions.panel.has_bar.sum(axis=0) < decisions.strategy.warmup
    silent = short & ~np.isfinite(decisions.score).any(axis=0)  # a walk-forward's other strategies may need fewer
    return [decisions.panel.symbols[n] for n in np.flatnonzero(silent)]


def _named(symbols: Sequence[str]) -> str:
    more = f" and {len(symbols) - NAMES} more" if len(symbols) > NAMES else ""
    return ", ".join(symbols[:NAMES]) + more
