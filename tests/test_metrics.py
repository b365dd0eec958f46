"""The metrics against empyrical, by hand where it has none, and round trips against a second way to count."""

import math
import time
from collections.abc import Callable
from fractions import Fraction

import empyrical
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketagent import metrics
from marketagent.luck import moments
from marketagent.metrics import Array, Event, round_trips

RISK_FREE = 0.03
DAILY = RISK_FREE / 252  # empyrical takes the rate of one session

ALONE: dict[str, tuple[Callable[[Array], float | None], Callable[[Array], float]]] = {
    "total_return": (metrics.total_return, empyrical.cum_returns_final),
    "cagr": (metrics.cagr, empyrical.annual_return),
    "volatility": (metrics.volatility, empyrical.annual_volatility),
    "sharpe": (metrics.sharpe, empyrical.sharpe_ratio),
    "sharpe over cash": (lambda r: metrics.sharpe(r, RISK_FREE), lambda r: empyrical.sharpe_ratio(r, DAILY)),
    "sortino": (metrics.sortino, empyrical.sortino_ratio),
    "sortino over cash": (lambda r: metrics.sortino(r, RISK_FREE), lambda r: empyrical.sortino_ratio(r, DAILY)),
    "calmar": (metrics.calmar, empyrical.calmar_ratio),
    "max_drawdown": (metrics.max_drawdown, empyrical.max_drawdown),
}
AGAINST: dict[str, tuple[Callable[[Array, Array], float | None], Callable[[Array, Array], float]]] = {
    "beta": (metrics.beta, empyrical.beta),
    "alpha": (metrics.alpha, empyrical.alpha),
    "alpha over cash": (
        lambda r, b: metrics.alpha(r, b, RISK_FREE),
        lambda r, b: empyrical.alpha(r, b, risk_free=DAILY),
    ),
    "information_ratio": (metrics.information_ratio, empyrical.excess_sharpe),
}


@pytest.mark.parametrize("growth", [1.001, 1 + 1e-9, 0.9997, 1.03, 2.0])
@pytest.mark.parametrize("positions", [1, 7, 500])
def test_what_grows_by_the_same_but_for_rounding_has_no_deviation_to_divide_by(growth: float, positions: int) -> None:
    rng = np.random.default_rng(positions)
    held, bars = rng.uniform(0.1, 900, positions), 300
    equity = np.array([(held * growth**t).sum() for t in range(bars + 1)])
    returns = metrics.session_returns(equity[1:], float(equity[0]))
    assert len(set(returns.tolist())) > 1 or growth == 2.0
    assert metrics.volatility(returns) == 0.0
    assert metrics.sharpe(returns) is None
    assert metrics.sharpe(returns, 0.02) is None
    assert metrics.information_ratio(returns, np.full(bars, growth - 1)) is None
    assert metrics.sortino(returns, (growth - 1) * 252) is None
    assert moments(returns).sharpe == 0.0


def test_the_smallest_move_of_a_large_account_is_more_than_rounding() -> None:
    equity = np.full(100, 1e8)
    equity[50] += 0.01  # a cent of a hundred million
    returns = metrics.session_returns(equity, 1e8)
    assert metrics.sharpe(returns) == pytest.approx(empyrical.sharpe_ratio(returns), rel=1e-6, abs=1e-3)


def series() -> dict[str, Array]:
    rng = np.random.default_rng(5)
    return {
        "ten years": rng.normal(0.0004, 0.012, 2520),
        "a month": rng.normal(0.0, 0.02, 21),
        "bad": rng.normal(-0.002, 0.03, 500),
        "all losses": -np.abs(rng.normal(0.01, 0.01, 60)),
        "all gains": np.abs(rng.normal(0.001, 0.001, 60)),
        "at rest": np.zeros(30),
        "the same each day": np.full(30, 0.001),
        "two": np.array([0.01, -0.02]),
        "one": np.array([0.01]),
        "one loss": np.array([-0.01]),
        "one explosion": np.array([99.0]),  # 100 to the power of 252 is beyond a float
        "ruin": np.array([0.1, -1.0, 0.0]),
        "worse than ruin": np.array([0.1, -1.5, 0.2]),
        "none": np.array([]),
    }


def assert_same(found: float | None, expected: float) -> None:
    if not math.isfinite(expected):
        assert found is None
    else:
        assert type(found) is float
        assert found == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.filterwarnings("ignore::RuntimeWarning:empyrical")  # empyrical warns where the answer is None
@pytest.mark.parametrize("case", series())
@pytest.mark.parametrize("name", ALONE)
def test_a_metric_of_the_returns_is_that_of_empyrical(name: str, case: str) -> None:
    ours, theirs = ALONE[name]
    assert_same(ours(series()[case]), theirs(series()[case]))


@pytest.mark.filterwarnings("ignore::RuntimeWarning:empyrical")
@pytest.mark.parametrize("case", series())
@pytest.mark.parametrize("kind", ["related", "itself", "at rest"])
@pytest.mark.parametrize("name", AGAINST)
def test_a_metric_against_a_benchmark_is_that_of_empyrical(name: str, kind: str, case: str) -> None:
    returns = series()[case]
    noise = np.random.default_rng(6).normal(0.0, 0.01, len(returns))
    benchmark = {"related": 0.7 * returns + noise, "itself": returns, "at rest": np.zeros_like(returns)}[kind]
    ours, theirs = AGAINST[name]
    assert_same(ours(returns, benchmark), theirs(returns, benchmark))


def test_what_has_no_value_is_none() -> None:
    rest, gains = np.zeros(30), np.full(30, 0.1)
    assert metrics.sharpe(rest) is metrics.sharpe(gains) is metrics.sortino(gains) is metrics.calmar(gains) is None
    assert metrics.beta(gains, rest) is metrics.alpha(gains, rest) is metrics.information_ratio(gains, rest) is None
    assert metrics.volatility(gains) == 0
    assert metrics.total_return(np.full(3000, 1.0)) is metrics.max_drawdown(np.full(3000, 1.0)) is None


def test_drawdown_days_counts_sessions_below_the_peak() -> None:
    assert metrics.drawdown_days(np.array([])) is None
    assert metrics.drawdown_days(np.array([0.1, 0.0, 0.1])) == 0
    assert metrics.drawdown_days(np.array([-0.1, 0.05, 0.0])) == 3  # the start is a peak; it never comes back
    # 1.0 | 0.5 0.75 1.5 | 1.2 1.2 1.2 1.2 | 2.4: two below the first peak, four below the second
    level = np.array([1.0, 0.5, 0.75, 1.5, 1.2, 1.2, 1.2, 1.2, 2.4])
    assert metrics.drawdown_days(level[1:] / level[:-1] - 1) == 4


def test_a_return_to_the_very_peak_ends_a_drawdown_whatever_was_rounded() -> None:
    level = np.array([100.0, 57.0, 100.0, 100.0, 100.0])
    returns = level[1:] / level[:-1] - 1
    assert np.prod(1 + returns) < 1  # rounding leaves it just below
    assert metrics.drawdown_days(returns) == 1


def test_session_returns_start_from_the_cash_and_end_with_the_account() -> None:
    found = metrics.session_returns(np.array([100.0, 150.0, 75.0]), 100.0)
    np.testing.assert_array_equal(found, [0.0, 0.5, -0.5])
    lost = metrics.session_returns(np.array([50.0, 0.0, 80.0, 90.0]), 100.0)
    np.testing.assert_array_equal(lost, [-0.5, -1.0, 0.0, 0.0])
    assert metrics.cagr(lost) == metrics.max_drawdown(lost) == -1
    with pytest.raises(ValueError, match="cash is 0"):
        metrics.session_returns(np.array([1.0]), 0)


def test_exposure_and_turnover_by_hand() -> None:
    assert metrics.exposure(np.array([0.0, 0.5, 1.0, 1.5])) == 0.75
    # 600 traded in half a year on a mean equity of 200: 3 times in half a year, 6 times a year
    traded, equity = np.zeros(126), np.full(126, 200.0)
    traded[[3, 50]] = 300.0
    assert metrics.turnover(traded, equity) == 6
    assert metrics.exposure(np.array([])) is metrics.turnover(np.array([]), np.array([])) is None
    assert metrics.turnover(np.ones(2), np.zeros(2)) is None


def test_trades_win_rate_and_profit_factor_by_hand() -> None:
    pnl = np.array([10.0, -4.0, 0.0, 2.0])
    assert (metrics.trades(pnl), metrics.win_rate(pnl), metrics.profit_factor(pnl)) == (4, 0.5, 3)
    assert metrics.profit_factor(np.array([-1.0])) == 0
    assert metrics.profit_factor(np.array([5.0, 0.0])) is metrics.profit_factor(np.array([])) is None
    assert metrics.trades(np.array([])) == 0
    assert metrics.win_rate(np.array([])) is None


def test_a_summary_holds_every_metric_under_its_name() -> None:
    returns = series()["ten years"]
    equity = 1000 * np.cumprod(1 + returns)
    gross, traded, pnl = np.full(2520, 0.4), np.full(2520, 7.0), np.array([3.0, -1.0])
    market = 0.5 * returns[::-1]
    found = metrics.summary(equity, 1000.0, gross=gross, traded=traded, pnl=pnl, benchmark=market, risk_free=0.02)
    assert found["sharpe"] == pytest.approx(metrics.sharpe(returns, 0.02), rel=1e-9)
    assert found["alpha"] == pytest.approx(metrics.alpha(returns, market, 0.02), rel=1e-9)
    assert found["turnover"] == metrics.turnover(traded, equity)
    assert (found["exposure"], found["trades"], found["profit_factor"]) == (pytest.approx(0.4, rel=1e-15), 2, 3)
    assert all(type(value) is float for value in found.values())
    alone = metrics.summary(equity, 1000.0, gross=gross, traded=traded, pnl=pnl)
    assert [name for name, value in alone.items() if value is None] == ["alpha", "beta", "information_ratio"]


def test_returns_that_are_missing_or_misshapen_are_refused() -> None:
    with pytest.raises(ValueError, match="row 1 is not a finite number"):
        metrics.sharpe(np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match=r"the shape is \(2, 1\)"):
        metrics.cagr(np.zeros((2, 1)))
    with pytest.raises(ValueError, match="must be the same"):
        metrics.beta(np.zeros(3), np.zeros(2))


def test_a_trade_runs_from_flat_to_flat_in_one_symbol() -> None:
    # symbol 0: buys 10 at 5 and 10 at 7, sells 20 at 8: 160 - 120 - 3 of commission = 37
    # symbol 1: sells 4 short at 10, buys 4 at 12: -8 - 2 = -10, ended first; symbol 2 stays open
    found = round_trips(
        [0, 1, 0, 1, 2, 0], [10, -4, 10, 4, 5, -20], [5.0, 10.0, 7.0, 12.0, 1.0, 8.0], [1.0, 1.0, 1.0, 1.0, 9.0, 1.0]
    )
    np.testing.assert_array_equal(found, [-10.0, 37.0])


def test_a_sale_of_a_part_ends_nothing_but_counts_at_the_end() -> None:
    # 10 bought at 5, 4 sold at 6, 6 sold at 4: 24 + 24 - 50 = -2
    np.testing.assert_array_equal(round_trips([0, 0, 0], [10, -4, -6], [5.0, 6.0, 4.0], [0, 0, 0]), [-2.0])


def test_a_fill_through_zero_ends_one_trade_and_begins_the_next() -> None:
    # 10 bought at 5; 15 sold at 6 for 3 of commission, 2 of it for the 10 that close: 60 - 50 - 1 - 2 = 7
    # then 5 short at 6 with the other 1; bought back at 4 for 1: 30 - 20 - 1 - 1 = 8
    found = round_trips([3, 3, 3], [10, -15, 5], [5.0, 6.0, 4.0], [1.0, 3.0, 1.0])
    np.testing.assert_array_equal(found, [7.0, 8.0])


def test_a_split_multiplies_the_shares_and_a_dividend_belongs_to_the_trade() -> None:
    # 10 at 100; 4 for 1 makes 40; 0.5 a share pays 20; 40 sold at 26: 1040 - 1000 + 20 - 2 = 58
    kinds = [Event.FILL, Event.SPLIT, Event.DIVIDEND, Event.FILL]
    found = round_trips([0] * 4, [10, 4, 0, -40], [100.0, 0, 0.5, 26.0], [1.0, 0, 0, 1.0], kind=kinds)
    np.testing.assert_array_equal(found, [58.0])
    # the same short: 1000 - 20 - 1040 - 2
    found = round_trips([0] * 4, [-10, 4, 0, 40], [100.0, 0, 0.5, 26.0], [1.0, 0, 0, 1.0], kind=kinds)
    np.testing.assert_array_equal(found, [-62.0])


def test_a_split_or_dividend_without_a_position_is_nobodys() -> None:
    kinds = [Event.SPLIT, Event.DIVIDEND, Event.FILL, Event.FILL, Event.DIVIDEND]
    found = round_trips([0] * 5, [4, 0, 1, -1, 0], [0, 9.0, 5.0, 6.0, 9.0], [0.0] * 5, kind=kinds)
    np.testing.assert_array_equal(found, [1.0])


def test_fractional_shares_come_back_to_flat_in_spite_of_rounding() -> None:
    assert 0.1 + 0.2 - 0.3 != 0
    np.testing.assert_allclose(round_trips([0] * 3, [0.1, 0.2, -0.3], [10.0, 10.0, 20.0], [0] * 3), [3.0], rtol=1e-14)
    # a reverse split of 1 for 3 leaves thirds: 0.1 / 3 shares bought again and all sold
    found = round_trips([0] * 3, [0.1, 1 / 3, -0.1 / 3], [10.0, 0, 60.0], [0] * 3, kind=[0, 1, 0])
    np.testing.assert_allclose(found, [1.0], rtol=1e-14)


def test_an_order_of_no_shares_is_no_trade() -> None:
    assert round_trips([0], [0.0], [5.0], [1.0]).tolist() == []
    assert round_trips([], [], [], []).tolist() == []
    assert round_trips([0, 0, 0], [0, 1, -1], [5.0, 5.0, 6.0], [9.0, 0, 0]).tolist() == [1.0]


def test_what_counts_as_rounding_follows_the_size_of_the_trade_at_hand() -> None:
    huge = 1e13
    found = round_trips([0] * 4, [huge, -huge, 1, -1], [1.0, 1.0, 5.0, 6.0], [0] * 4)
    np.testing.assert_array_equal(found, [0.0, 1.0])
    # one share is left of the many after a reverse split; half of it is sold, then the other half
    kinds = [Event.FILL, Event.SPLIT, Event.FILL, Event.FILL]
    found = round_trips([0] * 4, [huge, 1 / huge, -0.5, -0.5], [1.0, 0, 2 * huge, 4 * huge], [0] * 4, kind=kinds)
    np.testing.assert_array_equal(found, [2 * huge])


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(-9, 9), st.integers(1, 50), st.integers(0, 3), st.sampled_from(Event))
    )
)
def test_the_trades_share_out_every_cent_that_moved(rows: list[tuple[int, int, int, int, Event]]) -> None:
    """Cash flows in exact arithmetic, an entirely different way to count, with everything sold at the end."""
    position, cash = [Fraction(0)] * 3, Fraction(0)
    events: list[tuple[int, float, float, float, int]] = []

    def fill(symbol: int, quantity: Fraction, price: int, fee: int) -> None:
        nonlocal cash
        if quantity or position[symbol]:
            cash -= quantity * price + fee
        position[symbol] += quantity
        events.append((symbol, float(quantity), price, fee, Event.FILL))

    for symbol, number, price, fee, kind in rows:
        if kind == Event.FILL:
            fill(symbol, Fraction(number), price, fee)
        elif kind == Event.SPLIT:
            position[symbol] *= 2
            events.append((symbol, 2.0, 0.0, 0.0, kind))
        else:
            cash += position[symbol] * price
            events.append((symbol, 0.0, price, 0.0, kind))
    for symbol in range(3):
        if position[symbol]:
            fill(symbol, -position[symbol], 7, 1)
    columns = [list(column) for column in zip(*events, strict=True)] or [[]] * 5
    pnl = round_trips(*columns[:4], kind=columns[4])
    assert float(pnl.sum()) == pytest.approx(float(cash), rel=1e-12, abs=1e-9)


def test_events_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        round_trips([0, 0], [1], [1.0], [0])
    with pytest.raises(ValueError, match=r"the kinds of the events are \[0, 5\]"):
        round_trips([0, 0], [1, 1], [1.0, 1.0], [0, 0], kind=[0, 5])
    with pytest.raises(ValueError, match="a split must give more than 0"):
        round_trips([0], [0], [0], [0], kind=[Event.SPLIT])
    with pytest.raises(ValueError, match="row 0 is not a finite number"):
        round_trips([0], [np.nan], [1.0], [0])


def test_a_hundred_thousand_fills_take_less_than_a_second() -> None:
    rng = np.random.default_rng(1)
    count = 100_000
    symbol, quantity = rng.integers(0, 500, count), rng.integers(-5, 6, count)
    began = time.process_time()
    pnl = round_trips(symbol, quantity, rng.random(count) + 1, np.ones(count))
    assert time.process_time() - began < 1
    assert len(pnl) > 4_000
