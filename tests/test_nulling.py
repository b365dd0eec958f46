"""Random entries: what they keep of a strategy's trading, uniform on noise, small on an edge."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markets import panel_of
from prices import HEAD, fetch, ma, new_home, sessions, write

from marketagent import nulling
from marketagent.backtest import Terms, backtest
from marketagent.costs import Costs, parse
from marketagent.decision import Decisions, decide
from marketagent.luck import Chance
from marketagent.orders import FRACTIONAL
from marketagent.panel import Array, Panel
from marketagent.robustness.chance import entries
from marketagent.signals import Signal
from marketagent.strategy import Opinions, Strategy


class Silent(Strategy):
    """Its decisions are put in its place."""

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        return {"none": Signal(np.zeros(panel.shape))}


class Holds(Silent):
    """The same, and never trades what it has."""

    band = 1.0


def held(targets: Array, row: int) -> Array:
    """(N,): what is held at the close of `row`."""
    found = np.zeros(targets.shape[1])
    for t in range(row + 1):
        found = np.where(np.isnan(targets[t]), found, targets[t])
    return found


def test_random_entries_hold_as_much_for_as_long_at_other_times() -> None:
    panel = panel_of(np.full((40, 3), 50.0))
    targets = np.full((40, 3), np.nan)
    for row, column, weight in ((6, 0, 0.5), (9, 0, 0.0), (12, 1, 0.25), (20, 1, 0.0), (15, 2, 0.75), (35, 2, 0.1)):
        targets[row, column] = weight
    own = np.array([held(targets, row) for row in range(6, 40)])
    shifts = set()
    for seed in range(60):
        made = entries(targets, panel, 4, np.random.default_rng(seed))
        assert np.isnan(made[:6]).all()  # it had not decided yet: no other time is there
        random = np.array([held(made, row) for row in range(6, 40)])
        # the same rows of weights, from another one on, in some order of the columns
        matches = [
            shift
            for shift in range(34)
            for order in ([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0])
            if np.array_equal(random, np.roll(own, shift, axis=0)[:, order])
        ]
        assert len(matches) == 1
        shifts.add(matches[0])
    assert 0 not in shifts
    assert len(shifts) > 20


@pytest.mark.parametrize("seed", range(8))
def test_who_buys_and_holds_has_no_entries_to_be_good_at(seed: int) -> None:
    rng = np.random.default_rng(seed)
    panel = panel_of(50 * np.exp(np.cumsum(rng.normal(0.0005, 0.015, (300, 3)), axis=0)).round(4))
    targets = np.full(panel.shape, np.nan)
    targets[40] = 1 / 3
    decisions = Decisions(**{**vars(decide(Holds(), panel)), "targets": targets})
    terms = Terms(parse("ibkr-fixed"), 1e5)
    result = backtest(decisions, terms.costs, terms.cash)
    found = nulling.tested(Path(), result, terms, 40, start=0)
    assert found is not None
    assert found.p == 1.0  # all of them do the same, and the order of a sum is no skill


def test_only_symbols_with_the_same_history_change_places() -> None:
    close = np.full((30, 3), 50.0)
    close[:10, 2] = np.nan
    targets = np.full((30, 3), np.nan)
    targets[:] = [0.1, 0.2, 0.3]
    made = [entries(targets, panel_of(close), 0, np.random.default_rng(seed))[0].tolist() for seed in range(20)]
    assert {tuple(row) for row in made} == {(0.1, 0.2, 0.3), (0.2, 0.1, 0.3)}


def chance(seed: int, *, sees: float, runs: int = 99) -> Chance | None:
    """A strategy that holds one of two symbols or none for some days, which on a share of them (`sees`) is the right one."""
    rng = np.random.default_rng(seed)
    returns = rng.normal(0.0002, 0.012, (500, 2))
    close = 100 * np.cumprod(1 + returns, axis=0)
    panel = panel_of(close, opens=np.vstack([[100.0, 100.0], close[:-1]]))
    targets = np.full(panel.shape, np.nan)
    for row in range(0, 495, 5):
        coming = returns[row + 1 : row + 6].sum(axis=0)
        right, any_of = np.where(coming > 0, 0.5, 0.0), rng.choice([0.0, 0.5], 2)
        targets[row] = right if rng.random() < sees else any_of
    made = decide(Silent(), panel)
    decisions = Decisions(**{**vars(made), "targets": targets})
    result = backtest(decisions, parse("bps:1"), 1e5, steps=1e6)
    return nulling.tested(Path(), result, Terms(parse("bps:1"), 1e5, steps=FRACTIONAL), runs, start=0)


def test_on_noise_the_share_that_does_as_well_is_uniform_and_with_an_edge_it_is_small() -> None:
    ps = [found.p for seed in range(60) if (found := chance(seed, sees=0.0))]
    assert len(ps) == 60
    assert sum(p <= 0.05 for p in ps) <= 7  # three are expected
    assert 0.38 < np.mean(ps) < 0.62
    assert min(ps) < 0.2 < 0.8 < max(ps)
    seen = [chance(seed, sees=0.5) for seed in range(6)]
    assert all(found is not None and found.p <= 0.02 for found in seen)


def test_it_is_the_same_each_time_and_nothing_without_a_sharpe_ratio() -> None:
    assert chance(1, sees=0.2) == chance(1, sees=0.2)
    panel = panel_of(np.full((30, 1), 50.0))
    result = backtest(decide(Silent(), panel), Costs(name="none"), 1e5)
    assert nulling.tested(Path(), result, Terms(Costs(name="none"), 1e5), 9, start=0) is None


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("null")
    home, rng = new_home(folder), np.random.default_rng(3)
    days = sessions("2013-01-02", "2013-12-31")
    closes = 100 * np.exp(np.cumsum(rng.normal(0.0003, 0.02, len(days)))).round(2)
    rows = "".join(f"AAA,{day},{c},{c + 1},{c - 1},{c},1000\n" for day, c in zip(days, closes, strict=True))
    fetch(home, write(folder / "p.csv", HEAD + rows))
    return home


def test_the_line_of_luck_says_how_many_random_runs_did_as_well(home: Path) -> None:
    words = ["backtest", "-s", "sma_cross", "--set", "fast=3", "--set", "slow=9", "--costs", "ibkr-tiered"]
    done = ma(home, *words, "--null", "40")
    worth: dict[str, Any] = json.loads(done.stdout.splitlines()[1])["luck"]
    assert worth["null_runs"] == 40
    assert 0 < worth["null_p"] <= 1
    assert f"against 40 runs of random entries p {worth['null_p']:.3f}: the share" in (
        ma(home, *words, "--null", "40", "--format", "table").stdout
    )
    assert json.loads(ma(home, *words).stdout.splitlines()[1])["luck"]["null_p"] is None
    refused = ma(home, "backtest", "-s", "sma_cross", "--set", "fast=3,4", "--null", "40")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--null is of one run" in refused.stderr
