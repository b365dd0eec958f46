"""The home of the numbers that judge a backtest: returns, risk, comparison with a benchmark, trades.

`returns` is (T,), one simple return a session, oldest first and without NaN; a `benchmark` has the same shape.
A metric is a plain float, or None where it is not defined (too few sessions, nothing to divide by): never NaN
or infinity, which JSON does not have. A year has 252 sessions, and `periods` is how many returns a year has: 252 of
days, 390 times as many of minutes. Where empyrical defines a metric, its
definition is taken, so that a result can be compared with any other study that uses it.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Metric = float | None

SESSIONS = 252  # in a year
FLAT = 1e-12  # share of a trade's largest position below which what is left of it is rounding
LEVEL = 1e-12  # a fall of less than this share of the peak is rounding
# Of the growth of a bar, 1 + its return: three roundings, of two levels and their quotient, of half an epsilon each, and
# what the sum over an account's positions adds to them. What deviates by no more than that grows by the same each bar.
ROUNDING = 16 * float(np.finfo(np.float64).eps)


class Event(IntEnum):
    """What happened to a position: a fill, a split or a dividend."""

    FILL = 0
    SPLIT = 1
    DIVIDEND = 2


def summary(
    equity: Array,
    cash: float,
    *,
    gross: Array,
    traded: Array,
    pnl: Array,
    benchmark: Array | None = None,
    risk_free: float = 0.0,
    periods: int = SESSIONS,
) -> dict[str, Metric]:
    """Every metric of this file, by its name.

    `equity` (T,) in USD at each close, after starting from `cash`; `gross` exposure and `traded` value (T,) as
    `exposure` and `turnover` take them; `pnl` of the round trips; `risk_free` a fraction a year. Where a `benchmark` has no
    return (NaN) nothing is compared.
    """
    returns = session_returns(equity, cash)
    both = None if benchmark is None else np.isfinite(benchmark)
    ours, against = (returns, None) if benchmark is None else (returns[both], benchmark[both])
    growth, falls = cagr(returns, periods), _drawdowns(returns)
    fall = _deepest(falls)
    return {
        "total_return": total_return(returns),
        "cagr": growth,
        "volatility": volatility(returns, periods),
        "sharpe": sharpe(returns, risk_free, periods),
        "sortino": sortino(returns, risk_free, periods),
        "calmar": _growth_to_fall(growth, fall),
        "max_drawdown": fall,
        "drawdown_days": _longest(falls, periods),
        "alpha": None if against is None else alpha(ours, against, risk_free, periods),
        "beta": None if against is None else beta(ours, against),
        "information_ratio": None if against is None else information_ratio(ours, against),
        "exposure": exposure(gross),
        "turnover": turnover(traded, equity, periods),
        "trades": trades(pnl),
        "win_rate": win_rate(pnl),
        "profit_factor": profit_factor(pnl),
    }


def session_returns(equity: Array, cash: float) -> Array:
    """Simple returns (T,) of an account worth `equity` (T,) at each close and `cash` before the first.

    An account that reaches 0 is lost: the return is -1 there and 0 from then on.

    >>> session_returns(np.array([110.0, 99.0, -5.0, 30.0]), 100.0).round(12).tolist()
    [0.1, -0.1, -1.0, 0.0]
    """
    if not cash > 0:
        raise ValueError(f"cash is {cash!r}; an account must start with some")
    worth = np.concatenate([[cash], _checked(equity)])
    worth[np.minimum.accumulate(worth) <= 0] = 0.0
    before = worth[:-1]
    growth: Array = np.divide(worth[1:], before, out=np.ones_like(before), where=before > 0)
    return growth - 1


def total_return(returns: Array) -> Metric:
    """Growth over all sessions, as a fraction.

    >>> round(total_return(np.array([0.5, -0.5])), 12)
    -0.25
    """
    returns = _checked(returns)
    with np.errstate(over="ignore"):
        return _defined(np.prod(returns + 1) - 1) if len(returns) else None


def cagr(returns: Array, periods: int = SESSIONS) -> Metric:
    """Compound annual growth rate; None if it is beyond any float, as of a few good sessions it may be."""
    returns = _checked(returns)
    if not len(returns):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        return _defined(np.prod(returns + 1) ** (periods / len(returns)) - 1)


def deviation(returns: Array) -> float:
    """Sample standard deviation (ddof=1) of at least two returns; exactly 0 of ones that differ by rounding alone.

    >>> deviation(session_returns(100 * np.cumprod(np.full(9, 1.001)), 100.0))
    0.0
    """
    found = float(np.std(returns, ddof=1))
    return found if found > _rounding(returns) else 0.0


def volatility(returns: Array, periods: int = SESSIONS) -> Metric:
    """Annualised sample standard deviation (ddof=1), as a fraction."""
    returns = _checked(returns)
    return _defined(deviation(returns) * np.sqrt(periods)) if len(returns) > 1 else None


def sharpe(returns: Array, risk_free: float = 0.0, periods: int = SESSIONS) -> Metric:
    """Annualised mean excess return a unit of volatility; `risk_free` a year, earned in `periods` equal parts.

    Sharpe, The Sharpe ratio, Journal of Portfolio Management 21 (1994).
    """
    ratio = _mean_to_deviation(_checked(returns) - risk_free / periods)
    return None if ratio is None else ratio * float(np.sqrt(periods))


def sortino(returns: Array, risk_free: float = 0.0, periods: int = SESSIONS) -> Metric:
    """Annualised mean excess return a unit of downside deviation; None if no session was below `risk_free`.

    The deviation is from `risk_free` and over all sessions, those above it counting 0. Sortino and Price,
    Performance measurement in a downside risk framework, Journal of Investing 3 (1994).
    """
    excess = _checked(returns) - risk_free / periods
    if len(excess) < 2:
        return None
    downside = np.sqrt(np.mean(np.minimum(excess, 0.0) ** 2))
    return _ratio(np.mean(excess) * np.sqrt(periods), downside) if downside > _rounding(excess) else None


def calmar(returns: Array, periods: int = SESSIONS) -> Metric:
    """CAGR a unit of maximum drawdown; None without a drawdown. Young, Futures 20 (1991)."""
    return _growth_to_fall(cagr(returns, periods), max_drawdown(returns))


def _growth_to_fall(growth: Metric, fall: Metric) -> Metric:
    return None if growth is None or fall is None else _ratio(growth, -fall)


def max_drawdown(returns: Array) -> Metric:
    """The deepest fall from a previous peak, as a fraction of the peak: -0.25 is a quarter lost; 0 if none.

    >>> max_drawdown(np.array([0.25, -0.5, 0.5]))
    -0.5
    """
    return _deepest(_drawdowns(_checked(returns)))


def _deepest(falls: Array) -> Metric:
    return _defined(np.min(falls)) if len(falls) else None


def drawdown_days(returns: Array, periods: int = SESSIONS) -> Metric:
    """The longest stretch, in sessions, spent below a previous peak; the start is a peak.

    >>> drawdown_days(np.array([0.25, -0.5, 0.5, 1.0, -0.1]))
    2.0
    """
    return _longest(_drawdowns(_checked(returns)), periods)


def _longest(falls: Array, periods: int) -> Metric:
    if not len(falls):
        return None
    peaks = np.flatnonzero(np.concatenate([[True], falls >= -LEVEL, [True]]))
    return float((np.max(np.diff(peaks)) - 1) * SESSIONS / periods)


def beta(returns: Array, benchmark: Array) -> Metric:
    """Slope of the returns on the benchmark's; None if the benchmark does not move."""
    returns, benchmark = _checked_pair(returns, benchmark)
    if len(returns) < 2:
        return None
    deviation = benchmark - np.mean(benchmark)
    variance = np.mean(deviation**2)
    return None if variance < 1e-30 else _ratio(np.mean(deviation * returns), variance)


def alpha(returns: Array, benchmark: Array, risk_free: float = 0.0, periods: int = SESSIONS) -> Metric:
    """Annualised return left after the benchmark's part in it, compounded over the `periods` of a year.

    Jensen, The performance of mutual funds in the period 1945-1964, Journal of Finance 23 (1968).
    """
    returns, benchmark = _checked_pair(returns, benchmark)
    slope = beta(returns, benchmark)
    if slope is None:
        return None
    free = risk_free / periods
    with np.errstate(over="ignore"):
        return _defined((np.mean(returns - free - slope * (benchmark - free)) + 1) ** periods - 1)


def information_ratio(returns: Array, benchmark: Array) -> Metric:
    """Mean return above the benchmark a unit of its deviation, a period: not annualised.

    empyrical calls it excess_sharpe. Grinold and Kahn, Active Portfolio Management (1999), times sqrt(252).
    """
    returns, benchmark = _checked_pair(returns, benchmark)
    return _mean_to_deviation(returns - benchmark)


def exposure(gross: Array) -> Metric:
    """Mean share of the equity in the market, from `gross` (T,): absolute position values over equity."""
    gross = _checked(gross)
    return _defined(np.mean(gross)) if len(gross) else None


def turnover(traded: Array, equity: Array, periods: int = SESSIONS) -> Metric:
    """How often a year the account is traded: `traded` value of buys and sales (T,) over the mean equity.

    >>> turnover(np.full(252, 10.0), np.full(252, 100.0))
    25.2
    """
    traded, equity = _checked_pair(traded, equity)
    if not len(traded) or np.mean(equity) <= 0:
        return None
    return _ratio(np.sum(traded) / np.mean(equity), len(traded) / periods)


def trades(pnl: Array) -> Metric:
    """How many round trips there were."""
    return float(len(_checked(pnl)))


def win_rate(pnl: Array) -> Metric:
    """Share of the round trips that gained."""
    pnl = _checked(pnl)
    return _defined(np.mean(pnl > 0)) if len(pnl) else None


def profit_factor(pnl: Array) -> Metric:
    """What the gaining round trips gained, a unit of what the losing ones lost; None if none lost."""
    pnl = _checked(pnl)
    return _ratio(np.sum(pnl[pnl > 0]), -np.sum(pnl[pnl < 0]))


def round_trips(
    symbol: npt.ArrayLike,
    quantity: npt.ArrayLike,
    price: npt.ArrayLike,
    commission: npt.ArrayLike,
    *,
    kind: npt.ArrayLike | None = None,
) -> Array:
    """Profit or loss (K,) in USD of every round trip, in the order they ended, commissions included.

    A round trip runs from flat to flat in one symbol; a fill through zero ends one and begins the next, and its
    commission is shared by shares. A position still open at the end is none. The events are (E,) columns in
    the order they happened, all of them fills without `kind`:

    - FILL: signed shares, price and commission.
    - SPLIT: `quantity` new shares for each old one. (Cash in lieu of a fraction is a fill of it.)
    - DIVIDEND: `price` USD on each share held; a short position pays it.

    >>> round_trips([7, 7], [10, -10], [5.0, 6.0], [1.0, 1.0]).tolist()
    [8.0]
    """
    columns = _events(symbol, quantity, price, commission, kind)
    held: dict[int, _Trade] = {}
    ended: list[float] = []
    for name, shares, value, cost, happened in zip(*columns, strict=True):
        trade = held.setdefault(name, _Trade())
        if happened == Event.SPLIT:
            trade.position *= shares
            trade.largest *= shares
        elif happened == Event.DIVIDEND:
            trade.cash += trade.position * value
        elif (pnl := trade.fill(shares, value, cost)) is not None:
            ended.append(pnl)
    return np.array(ended, dtype=np.float64)


@dataclass(slots=True)
class _Trade:
    """The open round trip of one symbol: shares held, the most of them it ever held, cash in less cash out."""

    position: float = 0.0
    largest: float = 0.0
    cash: float = 0.0

    def fill(self, quantity: float, price: float, commission: float) -> float | None:
        """Take a fill; returns the pnl of the round trip that it ends, if it ends one."""
        before, after = self.position, self.position + quantity
        if abs(after) <= FLAT * self.largest:
            after = 0.0
        if not before or before * after > 0:
            if after:  # else an order of no shares in an account without them: no trade to charge
                self._add(after, quantity, price, commission)
            return None
        closing = -before / quantity if after else 1.0
        pnl = self.cash + before * price - commission * closing
        self.position = self.largest = self.cash = 0.0
        if after:
            self._add(after, after, price, commission * (1 - closing))
        return pnl

    def _add(self, after: float, quantity: float, price: float, commission: float) -> None:
        self.position = after
        self.largest = max(self.largest, abs(after))
        self.cash -= quantity * price + commission


def _events(
    symbol: npt.ArrayLike,
    quantity: npt.ArrayLike,
    price: npt.ArrayLike,
    commission: npt.ArrayLike,
    kind: npt.ArrayLike | None,
) -> tuple[list[int], list[float], list[float], list[float], list[int]]:
    """The events as lists, which a loop reads much faster than arrays; raises ValueError for what is no event."""
    names = np.asarray(symbol, dtype=np.int64)
    numbers = [_checked(column) for column in (quantity, price, commission)]
    kinds = np.zeros_like(names) if kind is None else np.asarray(kind, dtype=np.int64)
    shapes = [column.shape for column in (names, *numbers, kinds)]
    if len(set(shapes)) > 1:
        raise ValueError(f"the columns of the events have different shapes: {shapes}")
    if not np.isin(kinds, list(Event)).all():
        raise ValueError(f"the kinds of the events are {sorted(set(kinds.tolist()))}; known are 0, 1 and 2")
    if (numbers[0][kinds == Event.SPLIT] <= 0).any():
        raise ValueError("a split must give more than 0 new shares for each old one")
    return names.tolist(), numbers[0].tolist(), numbers[1].tolist(), numbers[2].tolist(), kinds.tolist()


def _checked(values: npt.ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"the shape is {array.shape}; it must be (T,)")
    if not np.isfinite(array).all():
        raise ValueError(f"row {np.flatnonzero(~np.isfinite(array))[0]} is not a finite number")
    return array


def _checked_pair(one: npt.ArrayLike, other: npt.ArrayLike) -> tuple[Array, Array]:
    first, second = _checked(one), _checked(other)
    if first.shape != second.shape:
        raise ValueError(f"the shapes are {first.shape} and {second.shape}; they must be the same")
    return first, second


def _drawdowns(returns: Array) -> Array:
    """The fall below the highest level so far, a session; the level before the first counts."""
    with np.errstate(over="ignore", invalid="ignore"):  # growth beyond any float has no drawdown: NaN
        level = np.cumprod(returns + 1)
        peak = np.maximum(np.maximum.accumulate(level), 1.0)
        return np.asarray((level - peak) / peak)


def _mean_to_deviation(values: Array) -> Metric:
    return _ratio(np.mean(values), deviation(values)) if len(values) > 1 else None


def _rounding(values: Array) -> float:
    """Up to where a deviation of returns is that of their rounding."""
    return ROUNDING * (1 + abs(float(np.mean(values))))


def _ratio(numerator: float | np.floating, denominator: float | np.floating) -> Metric:
    return _defined(float(numerator) / float(denominator)) if denominator else None


def _defined(value: float | np.floating) -> Metric:
    return float(value) if np.isfinite(value) else None
