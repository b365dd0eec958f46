"""A backtest's numbers, worked by hand on runs short enough for that."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from markets import panel_of
from numpy.testing import assert_allclose, assert_array_equal

from marketagent.backtest import Backtest, backtest
from marketagent.benchmark import compared
from marketagent.costs import Costs, parse
from marketagent.decision import Decisions, decide
from marketagent.errors import NoData
from marketagent.panel import Panel
from marketagent.scoring import Benchmark
from marketagent.signals import Signal
from marketagent.strategy import Opinions, Strategy

NAN = np.nan
NONE = parse("none")


class Told(Strategy):
    """Does what the test says."""

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        return dict(opinions)


def decided(panel: Panel, value: object) -> Decisions:
    opinions: Mapping[str, Signal] = {"told": Signal(np.array(value, dtype=np.float64).reshape(panel.shape))}
    return decide(Told(), panel, opinions)


def run_of(panel: Panel, value: object, costs: Costs = NONE, cash: float = 1000.0, **options: object) -> Backtest:
    return backtest(decided(panel, value), costs, cash, **options)  # type: ignore[arg-type]


def test_a_round_trip_by_hand() -> None:
    # Decided at 10, bought at 10 (100 shares), worth 1200, 900, sold at 11: 1100.
    result = run_of(panel_of([10, 10, 12, 9, 11, 11]), [1, NAN, NAN, -1, NAN, NAN])
    assert result.simulation.equity.tolist() == [1000, 1000, 1200, 900, 1100, 1100]
    assert_allclose(result.returns, [0, 0, 0.2, -0.25, 1100 / 900 - 1, 0], rtol=1e-14, atol=1e-15)
    found = result.metrics
    assert found["total_return"] == pytest.approx(0.1)
    assert found["cagr"] == pytest.approx(1.1 ** (252 / 6) - 1)
    assert found["max_drawdown"] == pytest.approx(-0.25)
    assert found["volatility"] == pytest.approx(np.std(result.returns, ddof=1) * 252**0.5)
    assert found["sharpe"] == pytest.approx(np.mean(result.returns) / np.std(result.returns, ddof=1) * 252**0.5)
    assert found["exposure"] == pytest.approx(3 / 6)  # invested at the close of three of six sessions
    assert (found["trades"], found["win_rate"], found["profit_factor"]) == (1, 1.0, None)
    assert found["costs_paid"] == 0.0
    assert (found["alpha"], found["beta"], found["information_ratio"]) == (None, None, None)
    assert result.notes == ()


def test_costs_paid_are_commissions_and_slippage() -> None:
    # Bought 98 of 1000 / 10 at 10.1 (a dollar of commission), sold at 9.9 (another, and 98 * 0.000166 to FINRA):
    # 98 * 0.1 of slippage each way.
    result = run_of(panel_of([10, 10, 10, 10]), [1, NAN, -1, NAN], parse("ibkr-fixed@2025-06-01", slippage_bps=100))
    assert result.simulation.events.quantity.tolist() == [98, -98]
    assert result.metrics["costs_paid"] == pytest.approx(2 + 98 * 0.000166 + 2 * 98 * 0.1, rel=1e-12)
    assert result.simulation.equity[-1] == pytest.approx(1000 - 2 - 98 * 0.000166 - 2 * 98 * 0.1, rel=1e-12)


def test_turnover_is_of_what_was_traded_in_the_run_alone() -> None:
    panel = panel_of([1, 10, 10, 10, 10])
    late = run_of(panel, [1, 1, NAN, -1, NAN], start=1)
    # 1000 bought and 1000 sold over four sessions of an account of 1000
    same = run_of(panel_of([10, 10, 10, 10]), [1, NAN, -1, NAN])
    assert late.metrics == same.metrics
    assert late.metrics["turnover"] is not None
    assert late.metrics["turnover"] > 0


def test_dividends_splits_and_payouts_are_part_of_the_round_trip() -> None:
    panel = panel_of([10, 10, 5, 6, *[NAN] * 6], split={(2, 0): 2.0}, dividend={(3, 0): 0.5})
    two = panel_of(np.hstack([panel.raw.close, np.full((10, 1), 1.0)]), split={(2, 0): 2.0}, dividend={(3, 0): 0.5})
    value = np.full((10, 2), NAN)
    value[0, 0] = 1
    result = run_of(two, value)
    # 100 shares become 200, which earn 0.5 each and are paid out at 6: 100 + 1200 - 1000
    assert result.simulation.equity[-1] == 1300.0
    assert (result.metrics["trades"], result.metrics["win_rate"]) == (1, 1.0)
    assert result.notes == ("closed at the last price after 5 sessions without a bar: S00",)


def test_a_benchmark_is_held_from_the_first_session_of_the_run() -> None:
    prices = np.array([8.0, 10, 10, NAN, 12, 9, 9.9])
    panel = panel_of([10, 10, 10, 10, 12, 9, 9.9])
    result = run_of(panel, [1, NAN, NAN, NAN, NAN, NAN, NAN], benchmark=prices, start=0)
    late = run_of(panel, [NAN, 1, NAN, NAN, NAN, NAN, NAN], benchmark=prices, start=1)
    assert late.metrics["beta"] == pytest.approx(1.0)
    assert late.metrics["alpha"] == pytest.approx(0.0, abs=1e-12)
    assert late.metrics["information_ratio"] is None  # it does what the benchmark does: nothing to divide by
    assert result.metrics["beta"] is not None
    assert result.metrics["beta"] < 1.0  # the account was in cash while the benchmark went from 8 to 10


def test_a_benchmark_is_compared_on_the_sessions_that_both_have() -> None:
    prices = np.array([NAN, NAN, 10, 11, 11, NAN, 22, 20, NAN])
    panel = panel_of([10, 10, 20, 22, 22, 30, 44, 40, 80])
    result = run_of(panel, [1] + [NAN] * 8, benchmark=prices)
    assert result.benchmark is not None
    # Known are the returns of the fourth, fifth and eighth session: +10 %, 0, -1/11, which are the account's, too.
    assert np.flatnonzero(result.benchmark.known).tolist() == [3, 4, 7]
    assert_allclose(result.benchmark.returns[[3, 4, 7]], [0.1, 0, 20 / 22 - 1], atol=1e-15)
    assert_allclose(result.benchmark.level, [NAN, NAN, 1, 1.1, 1.1, 1.1, 2.2, 2, NAN])
    assert result.metrics["beta"] == pytest.approx(1.0)
    assert result.metrics["alpha"] == pytest.approx(0.0, abs=1e-12)
    assert result.metrics["break_even_bps"] is None  # nothing is traded on any of them
    assert result.notes == (
        "the benchmark has bars on 5 of 9 sessions, none before 2013-01-04, none after 2013-01-11, 1 missing in between:"
        " alpha, beta, information ratio and break even are of the sessions that both have",
    )
    whole = run_of(panel, [1] + [NAN] * 8, benchmark=panel.close[:, 0])
    assert whole.notes == ()
    assert whole.benchmark is not None
    assert whole.benchmark.known.all()


def test_a_benchmark_that_has_nothing_in_common_with_a_run_gives_no_figure() -> None:
    found = run_of(panel_of([10, 10, 20, 22]), [1, NAN, NAN, NAN], benchmark=np.array([NAN, 9, NAN, 12])).metrics
    assert [found[name] for name in ("alpha", "beta", "information_ratio", "break_even_bps")] == [None] * 4


def test_a_benchmark_without_a_bar_from_the_first_session_on_is_refused() -> None:
    panel = panel_of([10, 10, 20, 22])
    old = Benchmark("OLD", panel.head(2))
    assert old.close_on(panel, 1).tolist()[:2] == [10.0, 10.0]
    with pytest.raises(
        NoData, match="benchmark OLD has no bar between 2013-01-04 and 2013-01-07; run: ma fetch OLD --from"
    ):
        old.close_on(panel, 2)


def test_within_a_session_a_benchmark_without_a_trade_stands_still() -> None:
    minutes = np.array(
        ["2013-01-02T14:30", "2013-01-02T14:31", "2013-01-03T14:30", "2013-01-03T14:31"], dtype="datetime64[s]"
    )
    panel = replace(panel_of([10, 10, 10, 10]), sessions=minutes, timeframe="1m")
    beside = compared(np.array([NAN, 10, NAN, 12]), panel, 0)
    assert_allclose(beside.returns, [0, NAN, 0, 0.2])
    assert beside.missing == 0
    assert compared(np.array([10, 10, NAN, NAN]), panel, 0).missing == 1


def test_fills_at_the_close_of_the_decision_are_marked() -> None:
    result = run_of(panel_of([10, 10]), [1, NAN], fill="same-close")
    assert result.notes == ("fills at the close they were decided on: not tradable, for comparison only",)


def test_what_is_not_borrowed_is_noted() -> None:
    panel = panel_of([10, 10, 10])
    double = decide(Told(gross=2.0), panel, {"told": Signal(np.array([[1.0], [NAN], [NAN]]))})
    result = backtest(double, NONE, 1000.0)
    assert result.simulation.shares.tolist() == [100]
    assert result.notes == ("gross 2: longs are bought with the cash there is, nothing is borrowed for more",)


def test_what_is_lent_for_nothing_is_noted() -> None:
    short = decide(Told(long_only=False), panel_of([10, 10, 10]), {"told": Signal(np.array([[-1.0], [NAN], [NAN]]))})
    said = "shares were sold short and nothing was charged for borrowing them: --borrow-rate"
    assert backtest(short, NONE, 1000.0).notes == (said,)
    assert backtest(short, parse("none", borrow_rate=0.01), 1000.0).notes == ()
    assert run_of(panel_of([0.01, 0.01, 0.01]), [1, NAN, NAN], cash=3e9).notes == ()


def test_larger_accounts_that_pay_no_more_than_a_small_one_are_noted() -> None:
    said = "larger accounts trade at the same prices here, whatever the volume: --slippage volume:0.05,sqrt:0.1"
    panel, value = panel_of(np.full(30, 10.0)), [NAN] * 21 + [1.0] + [NAN] * 8
    assert run_of(panel, value, capacity=True).notes == (said,)
    assert said not in run_of(panel, value, parse("none", slippage="sqrt:0.1"), capacity=True).notes
    assert run_of(panel, value).notes == ()


def test_a_note_names_ten_symbols_and_counts_the_rest() -> None:
    close = np.full((9, 13), NAN)
    close[:2], close[:, 12] = 10.0, 10.0
    value = np.full((9, 13), NAN)
    value[0, :12] = 1
    (note,) = run_of(panel_of(close), value, cash=1e5).notes
    assert note.endswith(": S00, S01, S02, S03, S04, S05, S06, S07, S08, S09 and 2 more")


@pytest.mark.parametrize(("symbols", "words"), [(1, "1 order was not filled"), (2, "2 orders were not filled")])
def test_orders_without_a_fill_are_counted(symbols: int, words: str) -> None:
    panel = panel_of([[10] * symbols, [NAN] * symbols, [10] * symbols])
    (note,) = run_of(panel, np.vstack([np.ones((1, symbols)), np.full((2, symbols), NAN)])).notes
    assert note == f"{words}: no bar that day, or no cash"


def test_the_frame_has_a_row_a_session() -> None:
    result = run_of(panel_of([10, 10, 12]), [1, NAN, NAN])
    frame = result.frame()
    assert frame.columns.tolist() == ["equity", "cash", "exposure", "returns"]
    assert_array_equal(frame["equity"].to_numpy(), result.simulation.equity)
    assert frame.index[0].date().isoformat() == "2013-01-02"
