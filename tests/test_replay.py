"""The compiled simulation against the one that defines it, on random markets with everything that happens to prices."""

import numpy as np
import pytest
from markets import random_market, random_targets

from marketagent import kernel
from marketagent.backtest import _measured
from marketagent.costs import Costs, parse
from marketagent.orders import FRACTIONAL, WHOLE
from marketagent.replay import Ground
from marketagent.simulate import FILLS, Simulation, simulate

COSTS = [parse("none"), parse("ibkr-fixed", slippage_bps=20), parse("bps:30", slippage_bps=5)]
SCENARIOS = 850  # a part; there are six


def metrics_of(run: Simulation, costs: Costs, cash: float, start: int) -> dict[str, float | None]:
    return _measured(run, costs, cash, start, None, 252)


def same(found: dict[str, float | None], expected: dict[str, float | None]) -> None:
    for name in kernel.RESULTS:
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
        costs, band, start = COSTS[seed % 3], (0.0, 0.25, 1.0)[seed // 3 % 3], int(rng.choice([0, 0, 7]))
        cash = float(rng.choice([500.0, 100_000.0, 1e7]))
        run = simulate(targets, panel, costs, cash, start=start, fill=fill, steps=steps, band=band)
        equity, found = Ground(panel, costs, cash, start, fill, steps).replay(targets, band)
        np.testing.assert_allclose(equity, run.equity, rtol=1e-9, atol=cash * 1e-9)
        bits += bool(np.array_equal(equity, run.equity))
        same(found, metrics_of(run, costs, cash, start))
    assert bits == SCENARIOS  # so near to 1e-9 that there is no bit between them
