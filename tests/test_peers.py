"""The engine against what five other backtesters made of one market (see ``recorded``), to the cent and closer."""

from typing import Any

import numpy as np
import pytest
import recorded
from recorded import RECORDED, TERMS

from marketagent import catalog, metrics
from marketagent.costs import Costs, parse
from marketagent.decision import decide
from marketagent.events import FILL
from marketagent.orders import FRACTIONAL, WHOLE
from marketagent.panel import Array, Panel, Raw
from marketagent.replay import Ground
from marketagent.simulate import Simulation, simulate
from marketagent.sweep import Sweep

CASH = TERMS["cash"]
FEE = Costs(name="bps:20", bps=20.0)
IBKR = Costs(name="ibkr", per_share=0.005, minimum=1.0, ceiling=0.01)
NOTHING = Costs(name="none")


def test_the_next_open_is_that_of_four_others(tmp_path: Any) -> None:
    cross = catalog.load("sma_cross", tmp_path).kind(fast=10, slow=30, gross=0.9)
    panel = panel_of(recorded.one())
    run = simulate(decide(cross, panel).targets, panel, FEE, CASH, band=cross.band)
    assert len([name for name in RECORDED if name.endswith("the next open")]) == 4
    for name in ("backtesting.py", "vectorbt", "pybroker", "raptorbt"):
        assert run.equity[-1] == pytest.approx(RECORDED[f"{name}, the next open"], rel=1e-12)
    assert Sweep(Ground(panel, FEE, CASH)).metrics(cross)["equity"] == pytest.approx(run.equity[-1], rel=1e-12)


@pytest.mark.parametrize(
    ("name", "below", "costs", "steps"),
    [
        ("backtesting.py, long and short", -1.0, NOTHING, WHOLE),
        ("backtesting.py, long only, 0.2 %", 0.0, FEE, WHOLE),
        ("vectorbt, from_orders in whole shares", 0.0, parse("bps:20", slippage_bps=5), WHOLE),
        ("vectorbt, from_orders in fractions", 0.0, parse("bps:20", slippage_bps=5), FRACTIONAL),
    ],
)
def test_who_sizes_at_the_open_is_met_where_the_open_is_a_bar(
    name: str, below: float, costs: Costs, steps: float
) -> None:
    run = at_the_open(below, costs, steps)
    # A millionth of a share is the finest we have: of 100 USD it is a hundredth of a cent.
    assert run.equity[-1] == pytest.approx(RECORDED[name], rel=1e-12 if steps == WHOLE else 1e-8)


@pytest.mark.parametrize("name", ["sharpe", "sortino", "max_drawdown"])
def test_the_metrics_of_a_run_are_vectorbts(name: str) -> None:
    run = at_the_open(0.0, parse("bps:20", slippage_bps=5), WHOLE)
    found = getattr(metrics, name)(metrics.session_returns(run.equity[1::2], CASH))
    assert found == pytest.approx(RECORDED[f"vectorbt, from_orders in whole shares, {name}"], rel=1e-12)


def test_who_fills_at_the_close_it_decides_at_is_met_by_same_close() -> None:
    one = recorded.one()
    targets = recorded.crossings(one["close"], 0.0)[:, None]
    run = simulate(targets, panel_of(one), FEE, CASH, fill="same-close")
    assert run.equity[-1] == pytest.approx(RECORDED["bt, the close, 0.2 %"], rel=1e-12)
    run = simulate(recorded.weekly(), panel_of(recorded.market()), NOTHING, CASH, fill="same-close")
    assert run.equity[-1] == pytest.approx(RECORDED["bt, three symbols weekly at the close"], rel=1e-12)


def test_a_portfolio_at_ibkrs_commissions_is_vectorbts_in_both_engines() -> None:
    panel, targets = panel_of(recorded.market()), recorded.weekly()
    equity = simulate(targets, panel, IBKR, CASH).equity
    assert equity[-1] == pytest.approx(RECORDED["vectorbt, three symbols weekly, IBKR"], rel=1e-12)
    np.testing.assert_allclose(Ground(panel, IBKR, CASH).replay(targets, 0.0)[0], equity, rtol=1e-12)


def test_leans_fee_for_ibkr_is_ours_but_where_its_minimum_goes_above_the_cap() -> None:
    # Common/Orders/Fees/InteractiveBrokersFeeHelper.cs, CalculateEquityFee: 0.005 a share, at least 1 USD, else at
    # most 1 % of the value. By IBKR's list the cap goes above the minimum: 3 shares of 20 USD cost 0.60, there 1.00.
    shares, price = np.array([1_000.0, 100.0, 5_000.0, 3.0]), np.array([50.0, 50.0, 0.25, 20.0])
    each = 0.005 * shares
    lean = np.where(each < 1, 1.0, np.minimum(each, 0.01 * shares * price))
    np.testing.assert_allclose(lean, [5.0, 1.0, 12.5, 1.0])
    np.testing.assert_allclose(IBKR.commission(shares, price), [5.0, 1.0, 12.5, 0.6])


def test_dividends_by_leans_factor_file_grow_by_what_their_day_moved() -> None:
    # A factor file multiplies the past by 1 - dividend / close before; a panel, the future by 1 + dividend / close.
    close, dividend = np.array([100.0, 98.0, 102.0, 101.0]), np.array([0.0, 1.5, 0.0, 0.9])
    columns = [close[:, None]] * 5
    days = np.arange("2021-03-01", "2021-03-05", dtype="datetime64[D]")
    grown = Panel(days, ("SPY",), Raw(*columns), np.ones((4, 1)), dividend[:, None]).close[:, 0]
    lean = close[-1] / (close[0] * (1 - 1.5 / 100) * (1 - 0.9 / 102))
    moved = (1 + 1.5 / 98) * (1 - 1.5 / 100) * (1 + 0.9 / 101) * (1 - 0.9 / 102)
    assert grown[-1] / grown[0] == pytest.approx(lean * moved, rel=1e-12)


def panel_of(data: dict[str, Any]) -> Panel:
    raw = Raw(*(data[name].reshape(len(data[name]), -1) for name in ("open", "high", "low", "close", "volume")))
    shape = raw.close.shape
    return Panel(data["sessions"], tuple(f"S{n}" for n in range(shape[1])), raw, np.ones(shape), np.zeros(shape))


def at_the_open(below: float, costs: Costs, steps: float) -> Simulation:
    """The crossings traded at the next open and sized there: each session is two bars, its open and its close."""
    one = recorded.one()
    bars: Array = np.column_stack([one["open"], one["close"]]).reshape(-1, 1)
    stamps = np.column_stack([one["sessions"].astype("datetime64[h]") + hours for hours in (14, 21)]).ravel()
    targets = np.full(bars.shape, np.nan)
    targets[2::2, 0] = recorded.crossings(one["close"], below)[:-1]
    panel = Panel(stamps, ("S0",), Raw(bars, bars, bars, bars, bars), np.ones(bars.shape), np.zeros(bars.shape))
    run = simulate(targets, panel, costs, CASH, fill="same-close", steps=steps)
    assert (run.events.kind == FILL).sum() > 10
    return run
