"""The compiled simulation against the one that defines it, on random markets with everything that happens to prices."""

from dataclasses import fields

import numpy as np
import pytest
from markets import barely_dearer, random_market, random_targets

from marketagent.backtest import _measured
from marketagent.costs import Costs, parse
from marketagent.kernel.measure import FIGURES, measure
from marketagent.kernel.terms import CHARGED
from marketagent.metrics import session_returns, sharpe
from marketagent.orders import FRACTIONAL, WHOLE
from marketagent.panel import Panel
from marketagent.replay import Ground
from marketagent.simulate import FILLS, Simulation, simulate

COSTS = [
    parse("none"),
    parse("ibkr-fixed", slippage_bps=20),
    parse("bps:30", slippage_bps=5),
    parse("alpaca", slippage="spread:3"),
    parse("mine", own={"mine": {"per_share": 0.01, "exchange_per_share": 0.003, "clearing_per_share": 0.0002,
                                "clearing_ceiling": 0.005, "on_commission": 0.07, "minimum": 0.35, "ceiling": 0.01}}),
    parse("ibkr-tiered", slippage_bps=1),
    parse("steps", borrow_rate=0.04, own={"steps": {"tiers": ((0, 0.02), (500, 0.01), (9000, 0.001)), "minimum": 0.2,
                                                    "ceiling": 0.05}}),
    parse("none", slippage="volume:0.0005"),
    parse("ibkr-fixed", slippage="sqrt:0.4,fixed:2", margin_rate=0.09),
    parse("alpaca", slippage="volume:0.01,sqrt:1", borrow_rate=0.3, margin_rate=0.2),
]  # fmt: skip
SCENARIOS = 850  # a part; there are six


def metrics_of(run: Simulation, costs: Costs, panel: Panel, fill: str, cash: float) -> dict[str, float | None]:
    return _measured(run, costs, panel, fill, cash, None, 252)


def same(found: dict[str, float | None], expected: dict[str, float | None]) -> None:
    for name in FIGURES[1:]:
        if expected[name] is None:
            assert found[name] is None, name
        else:
            assert found[name] == pytest.approx(expected[name], rel=1e-9, abs=1e-9), name


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("steps", [WHOLE, FRACTIONAL])
def test_equity_and_metrics_are_those_of_the_plain_engine(fill: str, steps: float) -> None:
    """With splits, dividends, gaps, halts, late listings and delistings, long and short, at all costs."""
    bits = 0
    for seed in range(SCENARIOS):
        rng = np.random.default_rng([seed, int(steps), FILLS.index(fill)])
        panel = random_market(int(rng.integers(1 << 40)), int(rng.integers(25, 60)), int(rng.integers(1, 7)))
        targets = random_targets(seed, panel, long_only=bool(rng.random() < 0.6))
        costs, band, start = COSTS[seed % 10], (0.0, 0.25, 1.0)[seed // 10 % 3], int(rng.choice([0, 0, 7]))
        cash = float(rng.choice([500.0, 100_000.0, 1e7]))
        run = simulate(targets, panel, costs, cash, start=start, fill=fill, steps=steps, band=band)
        equity, found = Ground(panel, costs, cash, start, fill, steps).replay(targets, band)
        np.testing.assert_allclose(equity, run.equity, rtol=1e-9, atol=cash * 1e-9)
        bits += bool(np.array_equal(equity, run.equity))
        same(found, metrics_of(run, costs, panel, fill, cash))
    assert bits == SCENARIOS  # so near to 1e-9 that there is no bit between them


@pytest.mark.parametrize("steps", [WHOLE, FRACTIONAL])
def test_what_is_bought_with_next_to_nothing_missing_is_the_same_to_the_bit(steps: float) -> None:
    for seed in range(300):
        panel, targets, cash = barely_dearer(seed, steps)
        for costs in (COSTS[0], COSTS[1], parse("mine", own={"mine": {"minimum": cash / 3, "ceiling": 0.5}})):
            run = simulate(targets, panel, costs, cash, steps=steps)
            equity, _ = Ground(panel, costs, cash, 0, "next-open", steps).replay(targets, 0.0)
            assert np.array_equal(equity, run.equity)


def test_owed_cash_is_charged_the_same() -> None:
    costs, owed = parse("alpaca", borrow_rate=1.0, margin_rate=1.0), 0
    for seed in range(100):
        panel, rng = random_market(seed, 50, 4), np.random.default_rng(seed)
        wanted = np.where(np.arange(4) < 2, 0.5, -2.0)
        targets = np.where(rng.random(panel.shape) < 0.05, wanted, np.nan)
        run = simulate(targets, panel, costs, 1e5)
        owed += bool((run.cash < 0).any())
        assert np.array_equal(Ground(panel, costs, 1e5).replay(targets, 0.0)[0], run.equity)
    assert owed > 3


def test_whatever_costs_can_charge_is_charged() -> None:
    assert (
        parse("alpaca", slippage="volume:0.01,sqrt:1", borrow_rate=0.3, margin_rate=0.2).unknown_to(
            {*CHARGED, "participation", "impact"}
        )
        == []
    )
    known = {*CHARGED, "tiers", "participation", "impact", "name", "slippage"}
    assert {field.name for field in fields(Costs)} == known  # a new one must be taught to the kernel


@pytest.mark.parametrize("growth", [0.9997, 1.0, 1.001, 1.5])
def test_growth_that_never_differs_but_for_rounding_has_no_sharpe_ratio(growth: float) -> None:
    equity, figures = 100.0 * growth ** np.arange(1, 600.0), np.empty(len(FIGURES))
    measure(equity, np.array([100.0, 0.0, 1.0, 252.0]), np.zeros(7), figures)
    assert np.isnan(figures[FIGURES.index("sharpe")])
    assert sharpe(session_returns(equity, 100.0)) is None
    assert figures[FIGURES.index("max_drawdown")] == pytest.approx(min(equity[-1] / 100 - 1, 0))


def test_metrics_of_a_path_that_loses_all_and_of_one_with_every_kind_of_turn_are_those_of_metrics() -> None:
    """Longer than what is looked over at once, with new heights and depths anywhere in it."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        equity = 1e6 * np.exp(np.cumsum(rng.normal(0, 0.02, int(rng.integers(2, 700)))))
        equity[rng.random(len(equity)) < 0.3] = equity[0]
        if seed % 4 == 0:
            equity[len(equity) // 2] = -3.0
        figures = np.empty(len(FIGURES))
        measure(equity, np.array([1e6, 0.0, 1.0, 252.0]), np.zeros(7), figures)
        worth = np.where(np.cumsum(equity <= 0) > 0, 0.0, equity)
        found = figures[FIGURES.index("max_drawdown")]
        assert found == pytest.approx((worth / np.maximum.accumulate(np.append(1e6, worth))[1:] - 1).min(), rel=1e-12)
        expected = sharpe(session_returns(equity, 1e6))
        assert figures[FIGURES.index("sharpe")] == pytest.approx(np.nan if expected is None else expected, nan_ok=True)
