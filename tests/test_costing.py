"""The break-even cost and the capacity of a run: by hand, and as what they say they are."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markets import panel_of, random_market, random_targets
from test_backtest import run_of

from marketagent.costing import NEAR, NEAR_BPS, break_even_bps
from marketagent.costs import parse
from marketagent.simulate import simulate

NAN = np.nan


def test_the_break_even_of_one_round_trip_by_hand() -> None:
    # 50 shares bought at 10 and sold at 11 gain 50; 500 and 550 were traded: 50 / 1,050 is 476.19 bps
    result = run_of(panel_of([10, 10, 11, 11, 11]), [0.5, NAN, -1, NAN, NAN], parse("ibkr-fixed"))
    assert result.metrics["break_even_bps"] == pytest.approx(476.19, rel=NEAR)
    result = run_of(panel_of([[10, 1]] * 2 + [[11, 1]] * 3), np.full((5, 2), NAN), parse("ibkr-fixed"))
    assert result.metrics["break_even_bps"] is None  # nothing was traded
    run = simulate(
        np.array([[0.5], [NAN], [0.0], [NAN], [NAN]]), panel_of([10, 10, 11, 11, 11]), parse("bps:476.1904"), 1000.0
    )
    assert run.equity[-1] == pytest.approx(1000.0, abs=0.001)
    assert break_even_bps(lambda bps: 50 - 1050 * bps / 10_000, 450.0, 1050.0) == pytest.approx(476.190476, rel=NEAR)


def test_what_loses_without_costs_has_a_break_even_of_0() -> None:
    result = run_of(panel_of([10, 10, 9, 9, 9]), [1, NAN, -1, NAN, NAN])
    assert result.metrics["break_even_bps"] == 0.0


def test_what_no_cost_takes_away_has_none() -> None:
    result = run_of(panel_of([10, 10, 90, 90, 90]), [1, NAN, -1, NAN, NAN])
    assert result.metrics["break_even_bps"] is None


def test_with_a_benchmark_the_edge_is_what_is_left_over_it() -> None:
    panel, ours = panel_of([10, 10, 12, 12]), [1, NAN, NAN, NAN]
    alone = run_of(panel, ours).metrics["break_even_bps"]
    beside = run_of(panel, ours, benchmark=np.array([10.0, 10, 11.5, 11.5])).metrics["break_even_bps"]
    beaten = run_of(panel, ours, benchmark=np.array([10.0, 10, 13, 13])).metrics["break_even_bps"]
    assert alone is None  # 20 % in one trade: more than a tenth of its value
    assert beside is not None
    # 1,000 / (1 + bps) buys what is worth 1.2 times that; 1,150 are left at 1.2 / 1.15 - 1, less what whole shares lose
    assert beside == pytest.approx((1.2 / 1.15 - 1) * 10_000, abs=70)
    assert beaten == 0.0


def test_trading_at_the_break_even_leaves_next_to_nothing() -> None:
    checked = 0
    for seed in range(20):
        panel = random_market(seed)
        targets = random_targets(seed, panel)

        def excess(bps: float, panel=panel, targets=targets) -> float:  # type: ignore[no-untyped-def]
            return float(simulate(targets, panel, parse(f"bps:{bps!r}"), 1e7).equity[-1]) - 1e7

        guess = 20.0 * (seed + 1)
        found = break_even_bps(excess, guess, 1e8)
        if found:
            assert abs(excess(found)) <= 1e8 * NEAR * guess / 10_000
            checked += 1
    assert checked > 3


@given(edge=st.floats(0.001, 1e6), slope=st.floats(0.01, 1e5), bend=st.floats(0, 1), guess=st.floats(0, 2000))
def test_a_root_is_found_wherever_it_is_and_whatever_was_guessed(
    edge: float, slope: float, bend: float, guess: float
) -> None:
    def excess(bps: float) -> float:
        asked.append(bps)
        return edge - slope * (bps + bend * bps**2)

    asked: list[float] = []
    found = break_even_bps(excess, guess, slope * 10_000)
    assert len(asked) < 40
    if found is None:
        assert excess(1000.0) > 0
    else:
        assert abs(excess(found)) <= slope * max(NEAR_BPS, NEAR * guess) or found == 0.0
        assert found > 0 or edge <= 0


def ma(home: Path, *arguments: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "marketagent", *arguments],
        env={"MA_HOME": str(home), "PATH": "/usr/bin:/bin"},
        cwd=Path(__file__).parents[1],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[1]) if "\n" in done.stdout else {}
    return found


def test_the_command_charges_shows_and_stores_what_was_asked_for(tmp_path: Path) -> None:
    home = tmp_path / "home"
    ma(home, "init")
    ma(home, "fetch", "--source", "sample", "AAPL", "IBM")
    (home / "config.toml").write_text('slippage = "spread:1"\n[fees.mine]\nper_share = 0.01\n', encoding="utf-8")
    run = ma(
        home, "backtest", "--strategy", "sma_cross", "--costs", "mine", "--slippage", "sqrt:0.3,volume:0.01",
        "--margin-rate", "0.06", "--capacity",
    )  # fmt: skip
    assert (run["costs"], run["slippage"], run["margin_rate"]) == ("mine", "sqrt:0.3,volume:0.01", 0.06)
    sizes = run["capacity"]
    assert isinstance(sizes, list)
    assert [size["cash"] for size in sizes] == [1e5, 1e6, 1e7, 1e8]
    assert sizes[0]["equity"] == run["equity"]
    assert len({size["total_return"] for size in sizes}) == 4
    stored = ma(home, "sql", "SELECT record FROM backtests", "--format", "ndjson")
    values = stored["values"]
    assert isinstance(values, dict)
    assert json.loads(values["record"])["capacity"] == sizes
    assert "break_even_bps" in json.loads(values["record"])["metrics"]
    plain = ma(home, "backtest", "--strategy", "sma_cross")
    assert (plain["slippage"], plain["slippage_bps"], plain["capacity"]) == ("spread:1", 1.0, [])
