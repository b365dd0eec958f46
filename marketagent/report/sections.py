"""How the account did over time: equity, drawdown, months, rolling Sharpe ratio, exposure and turnover."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marketagent.backtest import Backtest
from marketagent.events import FILL
from marketagent.formats import cell
from marketagent.metrics import SESSIONS
from marketagent.panel import Array, Panel, Sessions
from marketagent.report.model import Axis, Chart, Section, Series, Table, Value
from marketagent.report.thin import thinned
from marketagent.timeframes import DAY, bars_a_session

HELD = "universe, held in equal parts"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TICKS = 6
_FEW_MONTHS = 6  # a run shorter than that shows turnover by session


@dataclass(frozen=True)
class Timeline:
    """The rows of a run as places of an axis: days as they are, bars within a day by their number, so that nights and
    weekends take no room."""

    sessions: Sessions
    timeframe: str

    @property
    def axis(self) -> Axis:
        if self.timeframe == DAY:
            return Axis("date")
        days = self.sessions.astype("datetime64[D]")
        starts = np.flatnonzero(np.diff(days, prepend=np.datetime64(0, "D")) != np.timedelta64(0, "D"))
        shown = starts[:: max(len(starts) // _TICKS, 1)]
        return Axis("number", at=shown.astype(float).tolist(), texts=days[shown].astype(str).tolist())

    def places(self, rows: NDArray[np.int64]) -> list[Value]:
        return [*self._texts(rows)] if self.timeframe == DAY else [float(row) for row in rows]

    def told(self, rows: NDArray[np.int64]) -> list[str]:
        """What a reader is told of each row beside the axis: the instant of a bar within a day."""
        return [] if self.timeframe == DAY else [f"{text.replace('T', ' ')} UTC" for text in self._texts(rows)]

    def _texts(self, rows: NDArray[np.int64]) -> list[str]:
        unit = "datetime64[D]" if self.timeframe == DAY else "datetime64[m]"
        texts: list[str] = self.sessions[rows].astype(unit).astype(str).tolist()
        return texts


def timeline(result: Backtest) -> Timeline:
    return Timeline(result.simulation.sessions, result.decisions.panel.timeframe)


def over_time(result: Backtest, cash: float, benchmark: str | None) -> list[Section]:
    """The sections of an account that began with `cash` USD; `benchmark` is the name of what it was compared with."""
    return [
        Section("Equity", [_equity(result, cash, benchmark), _drawdown(result)]),
        Section("Returns", [_monthly(result), *_rolling(result)]),
        Section("Exposure and turnover", [_exposure(result), _turnover(result)]),
    ]


def numbers(values: Array) -> list[Value]:
    """Six digits of each: what a chart can show; None for what is no number."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values.tolist()]


def held_in_equal_parts(panel: Panel, first: int) -> Array:
    """(T - first,): what 1 becomes that is split among all symbols with a bar from row `first` on, and left alone.

    Each part buys at the symbol's first close there and is cash until then; nothing is charged, dividends are put back.
    """
    inside = panel.has_bar[first:].any(axis=0)
    columns = np.flatnonzero(inside)
    newest = panel.last_bar[first:, columns]
    price = np.where(newest >= 0, panel.close[np.maximum(newest, 0), columns], np.nan)
    bought = (newest >= 0).argmax(axis=0)
    growth = price / price[bought, np.arange(len(columns))]
    return np.asarray(np.where(np.isfinite(growth), growth, 1.0).mean(axis=1))


def _equity(result: Backtest, cash: float, benchmark: str | None) -> Chart:
    run, panel, axis = result.simulation, result.decisions.panel, timeline(result)
    if result.benchmark is None:
        name, other = HELD, held_in_equal_parts(panel, len(panel.sessions) - len(run.equity))
    else:
        name, other = benchmark or "benchmark", result.benchmark.level
    rows = thinned([run.equity, other])
    x, told = axis.places(rows), axis.told(rows)
    lost = bool((run.equity <= 0).any())
    return Chart(
        "Equity in USD" + ("" if lost else ", log scale"),
        f"Equity from {cell('cash', cash)} to {cell('equity', float(run.equity[-1]))} USD;"
        f" {name} would have made {cell('equity', float(cash * other[np.isfinite(other)][-1]))}.",
        axis.axis,
        Axis("number" if lost else "log"),  # an account that was lost has no logarithm
        [
            Series("strategy", "main", x, numbers(run.equity[rows]), told),
            Series(name, "other", x, numbers(cash * other[rows]), told),
        ],
        note=f"{name[:1].upper()}{name[1:]}: no costs, dividends put back." + _thinning(rows, run.equity),
        height=320,
    )


def _drawdown(result: Backtest) -> Chart:
    axis = timeline(result)
    level = np.cumprod(1 + result.returns)
    peak = np.maximum(np.maximum.accumulate(level), 1.0)
    fall = level / peak - 1
    rows, deepest = thinned([fall]), int(fall.argmin())
    when = axis.told(np.array([deepest])) or axis.places(np.array([deepest]))
    return Chart(
        "Drawdown",
        f"The deepest fall from a peak is {cell('drawdown', float(fall[deepest]))}, on {when[0]}.",
        axis.axis,
        Axis("share"),
        [Series("drawdown", "loss", axis.places(rows), numbers(fall[rows]), axis.told(rows))],
        height=180,
    )


def _monthly(result: Backtest) -> Table:
    months = result.simulation.sessions.astype("datetime64[M]")
    starts = np.flatnonzero(np.diff(months, prepend=months[:1] - 1).astype(int))
    grown = np.multiply.reduceat(1 + result.returns, starts) - 1
    by_month = dict(zip(months[starts].astype(int).tolist(), grown.tolist(), strict=True))
    first, last = min(by_month) // 12, max(by_month) // 12
    values = [[by_month.get(12 * year + month) for month in range(12)] for year in range(first, last + 1)]
    totals = [float(np.prod([1 + value for value in row if value is not None]) - 1) for row in values]
    scale = max((abs(value) for value in by_month.values()), default=0.0) or 1.0
    tints = [[None, *(None if value is None else value / scale for value in row), None] for row in values]
    return Table(
        "Monthly returns",
        ["year", *_MONTHS, "total"],
        [
            [str(1970 + first + k), *("" if value is None else f"{value:.1%}" for value in row), f"{totals[k]:.1%}"]
            for k, row in enumerate(values)
        ],
        right=range(1, 14),
        tints=tints,
    )


def _rolling(result: Backtest) -> list[Chart]:
    axis = timeline(result)
    window = SESSIONS * bars_a_session(axis.timeframe)
    if len(result.returns) <= window:
        return []
    ratio = rolling_sharpe(result.returns, window, window)
    rows = window - 1 + thinned([ratio[window - 1 :]])
    return [
        Chart(
            "Rolling Sharpe ratio, one year",
            f"Between {np.nanmin(ratio):.2f} and {np.nanmax(ratio):.2f}, {ratio[-1]:.2f} in the end.",
            axis.axis,
            Axis("number"),
            [Series("sharpe", "main", axis.places(rows), numbers(ratio[rows]), axis.told(rows))],
            height=180,
        )
    ]


def rolling_sharpe(returns: Array, window: int, periods: int) -> Array:
    """(T,): the annual Sharpe ratio of each row's last `window` returns; NaN before, and where they do not differ."""
    off = returns - returns.mean()  # sums of what is near 0 keep their digits
    total, squares = (np.concatenate([[0.0], np.cumsum(values)]) for values in (off, off**2))
    mean = (total[window:] - total[:-window]) / window
    variance = (squares[window:] - squares[:-window] - window * mean**2) / (window - 1)
    usable = variance > 1e-18
    ratio = np.where(usable, (mean + returns.mean()) / np.sqrt(np.where(usable, variance, 1.0)), np.nan)
    return np.concatenate([np.full(window - 1, np.nan), ratio * np.sqrt(periods)])


def _exposure(result: Backtest) -> Chart:
    run, axis = result.simulation, timeline(result)
    gross = np.where(run.equity > 0, run.exposure / np.where(run.equity > 0, run.equity, 1.0), 0.0)
    rows = thinned([gross])
    return Chart(
        "Exposure, gross, as a share of equity",
        f"On average {gross.mean():.1%} of the equity is in the market, at most {gross.max():.1%}.",
        axis.axis,
        Axis("share"),
        [Series("exposure", "main", axis.places(rows), numbers(gross[rows]), axis.told(rows))],
        height=180,
    )


def _turnover(result: Backtest) -> Chart:
    """Bought and sold in each month over its mean equity; in each session, of a short run."""
    run, panel = result.simulation, result.decisions.panel
    days, unit = run.sessions.astype("datetime64[D]"), "month"
    spans: Sessions = run.sessions.astype("datetime64[M]")
    if len(np.unique(spans)) < _FEW_MONTHS:
        spans, unit = days, "session"
    starts = np.flatnonzero(np.diff(spans, prepend=spans[:1] - 1).astype(int))
    events, first = run.events, len(panel.sessions) - len(run.equity)
    value = np.where(events.kind == FILL, np.abs(events.quantity) * events.price, 0.0)
    traded = np.bincount(events.row - first, weights=value, minlength=len(run.equity))
    mean = np.add.reduceat(run.equity, starts) / np.diff(np.append(starts, len(days)))
    turnover = np.where(mean > 0, np.add.reduceat(traded, starts) / np.where(mean > 0, mean, 1.0), 0.0)
    return Chart(
        f"Turnover a {unit}, as a share of its mean equity",
        f"On average {turnover.mean():.1%} of the equity is traded a {unit}, at most {turnover.max():.1%}.",
        Axis("date"),
        Axis("share"),
        [Series("turnover", "bars", days[starts].astype(str).tolist(), numbers(turnover))],
        height=180,
    )


def _thinning(rows: NDArray[np.int64], whole: Array) -> str:
    if len(rows) == len(whole):
        return ""
    return f" {len(rows):,} of {len(whole):,} points are drawn, among them the high and the low of every stretch."
