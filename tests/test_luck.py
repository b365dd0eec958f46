"""What is left of a Sharpe ratio after all that was tried: the papers' examples, then noise and a planted edge."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from test_costing import ma

from marketagent import init, luck, luckiest, wording
from marketagent.luck import Moments, best_by_luck, bootstrapped, judged, moments, probabilistic_sharpe
from marketagent.luckiest import WORLDS, Blocks, Family
from marketagent.store import trials
from marketagent.store.database import opened
from marketagent.store.trials import Trial, _is_near, record, record_one

NOW = datetime(2026, 11, 24, 21, 0, tzinfo=UTC)

# Bailey and Lopez de Prado (2014), "A Numerical Example": daily returns of five years of 250 days, an annual Sharpe ratio
# of 2.5, skewness -3, kurtosis 10; the annual ratios of the trials have a variance of 1/2.
PAPER = Moments(1250, 2.5 / sqrt(250), 1.0, -3.0, 10.0)
SPREAD = 0.5 / 250


@pytest.mark.parametrize(
    ("trials", "threshold", "deflated"),
    [(100, 0.1132, 0.9004), (46, None, 0.9505)],
)
def test_the_deflated_sharpe_ratio_of_the_papers_example(trials: int, threshold: float | None, deflated: float) -> None:
    by_luck = best_by_luck(SPREAD, trials)
    assert threshold is None or by_luck == pytest.approx(threshold, abs=5e-5)
    assert probabilistic_sharpe(PAPER, by_luck) == pytest.approx(deflated, abs=5e-5)


def test_normal_returns_would_have_allowed_88_trials_as_the_paper_says() -> None:
    normal = Moments(1250, PAPER.mean, 1.0, 0.0, 3.0)
    assert probabilistic_sharpe(normal, best_by_luck(SPREAD, 88)) == pytest.approx(0.9505, abs=5e-5)


def test_the_probabilistic_sharpe_ratio_of_the_hedge_fund_example() -> None:
    # Bailey and Lopez de Prado (2012): 24 months, 0.458 a month; 0.982 if they were normal, 0.913 as they are
    assert probabilistic_sharpe(Moments(24, 0.458, 1.0, 0.0, 3.0), 0.0) == pytest.approx(0.982, abs=5e-4)
    assert probabilistic_sharpe(Moments(24, 0.458, 1.0, -2.448, 10.164), 0.0) == pytest.approx(0.913, abs=5e-4)


def test_moments_by_hand() -> None:
    # deviations from 0.0 of -1, -1, 2: mean square 2, cube (-1 - 1 + 8) / 3 = 2, fourth power 18 / 3 = 6
    found = moments(np.array([-1.0, -1.0, 2.0]))
    assert (found.count, found.mean, found.deviation) == (3, 0.0, pytest.approx(sqrt(3)))
    assert (found.skew, found.kurtosis) == (pytest.approx(2 / 2**1.5), pytest.approx(6 / 4))


@pytest.mark.parametrize("returns", [[], [0.1], [0.1, 0.1, 0.1]])
def test_returns_that_never_differ_say_nothing(returns: list[float]) -> None:
    found = moments(np.array(returns))
    assert found.sharpe == 0.0
    alone = Family(1, np.zeros(WORLDS))
    assert judged(found, Blocks(np.zeros(1), np.ones(1)), alone) == luck.Judged(1, 1.0, 0.0, None, None, None)
    assert bootstrapped(np.array(returns * 20), 10, 252, 1) is None


def test_more_trials_and_wider_ones_raise_the_bar() -> None:
    bars = [best_by_luck(0.01, trials) for trials in (1, 2, 3, 10, 100, 10_000)]
    assert bars == sorted(bars)
    assert bars[0] == 0.0
    assert best_by_luck(0.04, 50) == pytest.approx(2 * best_by_luck(0.01, 50))


def test_the_best_without_skill_is_what_the_best_of_random_walks_is_on_average() -> None:
    """Whatever those that are looked at have come to: of years alone."""
    rng = np.random.default_rng(6)
    # Two are few for the formula of the largest of many, and years that differ are taken by their mean variance.
    for years, off in (([5.0] * 30, 0.03), ([4.0] * 500, 0.02), ([13.0, 8.5], 0.12), ([2.0, 4.0, 8.0, 20.0], 0.12)):
        best = np.max([rng.normal(0, 1 / np.sqrt(each), 20_000) for each in years], axis=0).mean()
        assert luck.best_without_skill(years) == pytest.approx(best, rel=off)
    assert luck.best_without_skill([7.0]) == luck.best_without_skill([]) == 0.0


def fortune(*seeds: int) -> np.ndarray:  # type: ignore[type-arg]
    """What the best of trials with independent returns of these seeds reaches."""
    returns = np.array([np.random.default_rng(seed).normal(0, 0.01, 256) for seed in seeds])
    days = np.arange("2020-01-02", "2020-09-14", dtype="datetime64[D]")
    return luckiest.reached(returns, np.ones(256), luckiest.shocks(days, np.arange(257)))


def trial(run: str = "r", **changed: object) -> Trial:
    fields = {
        "strategy": "mine", "strategy_hash": "h", "params": {"fast": 5}, "symbols": ("A", "B"), "timeframe": "1d",
        "first": "2020-01-02", "last": "2021-01-04", "moments": Moments(250, 0.001, 0.01, 0.0, 3.0),
    }  # fmt: skip
    return Trial(run=run, **{**fields, **changed})  # type: ignore[arg-type]


def test_a_trial_counts_once_and_a_family_is_a_strategy_on_a_universe(tmp_path: Path) -> None:
    init.init(tmp_path, NOW)

    def noted(*tried: Trial) -> int:
        return record(tmp_path, tried, fortune(1), NOW, timeout_s=10).trials

    assert noted(trial()) == 1
    assert noted(trial("again")) == 1
    assert noted(trial(params={"fast": 6})) == 2
    assert noted(trial(strategy_hash="edited")) == 3
    assert noted(trial(last="2022-01-04")) == 3  # the same, grown by a year
    assert noted(trial(first="2020-07-01")) == 4
    assert noted(trial(symbols=("B", "A"))) == 4  # in whatever order
    assert noted(trial(symbols=("A",))) == 1
    assert noted(trial(strategy="other")) == 1
    assert noted(trial(params={"fast": 7}, moments=Moments(250, 0.0, 0.0, 0.0, 3.0))) == 4  # it did not trade
    assert noted(*(trial(params={"fast": k}) for k in range(5, 105))) == 102


def test_a_family_has_reached_what_the_best_of_all_its_trials_has_however_they_came_in(tmp_path: Path) -> None:
    init.init(tmp_path, NOW)
    seeds = list(range(1, 41))
    for seed in seeds:
        apart, _ = record_one(tmp_path, trial(params={"fast": seed}), fortune(seed), NOW, timeout_s=10)
    together = record(
        tmp_path, [trial(strategy="other", params={"fast": k}) for k in seeds], fortune(*seeds), NOW, timeout_s=10
    )
    again, _ = record_one(tmp_path, trial(params={"fast": 7}), fortune(7), NOW, timeout_s=10)
    assert apart.trials == together.trials == again.trials == 40
    np.testing.assert_allclose(apart.reached, together.reached, rtol=1e-6)
    np.testing.assert_array_equal(apart.reached, again.reached)
    assert apart.effective == pytest.approx(40, rel=0.2)


def test_a_trial_of_every_evening_raises_the_bar_once(tmp_path: Path) -> None:
    init.init(tmp_path, NOW)
    rng = np.random.default_rng(2)
    returns, days = rng.normal(0, 0.01, (40, 520)), np.arange("2019-01-01", "2021-01-01", dtype="datetime64[D]")

    def tried(fast: int, bars: int) -> Family:
        marks = luckiest.edges(days[:bars])
        own, shocks = luckiest.blocks(returns[fast, :bars], marks), luckiest.shocks(days[:bars], marks)
        reached = luckiest.reached(own.sums[None], own.counts, shocks)
        one = trial(params={"fast": fast}, last=str(days[bars - 1]), moments=moments(returns[fast, :bars]))
        return record(tmp_path, [one], reached, NOW, timeout_s=10)

    before = [tried(fast, 500) for fast in range(40)][-1]
    after = [tried(0, bars) for bars in range(501, 521)][-1]
    assert (before.trials, after.trials) == (40, 40)
    assert after.effective < before.effective + 2  # and not + 20


def test_a_walk_forward_of_a_ledger_of_before_is_known_as_one(tmp_path: Path) -> None:
    init.init(tmp_path, NOW)
    asked = {"walk_forward": "3y/1y", "purge": 1, "embargo": 0}
    refitted = trial(params={**asked, "grid": {"fast": [1, 2]}}, judged="out of sample")
    fixed = trial(params={**asked, "grid": {}})
    record(tmp_path, [trial(), fixed], fortune(1), NOW, timeout_s=10)
    assert record(tmp_path, [refitted], fortune(2), NOW, timeout_s=10).trials == 1
    step = (Path(trials.__file__).parent / "migrations" / "runs" / "008_out_of_sample.sql").read_text(encoding="utf-8")
    query = "SELECT trial, judged FROM trials ORDER BY trial"
    with opened(tmp_path / "runs.duckdb", write=True, timeout_s=10) as con:
        stored = con.execute(query).fetchall()
        con.execute("ALTER TABLE trials DROP COLUMN judged; ALTER TABLE family_luck DROP COLUMN judged")
        con.execute(step)
        assert con.execute(query).fetchall() == stored
    assert sorted(judged for _, judged in stored) == ["in sample", "in sample", "out of sample"]


def test_trials_of_a_ledger_of_before_count_as_independent_ones(tmp_path: Path) -> None:
    init.init(tmp_path, NOW)
    record(tmp_path, [trial(params={"fast": k}) for k in range(50)], fortune(1), NOW, timeout_s=10)
    with opened(tmp_path / "runs.duckdb", write=True, timeout_s=10) as con:
        con.execute("DELETE FROM family_luck")
    family = record(tmp_path, [trial(params={"fast": 99})], fortune(2), NOW, timeout_s=10)
    assert family.trials == 51
    assert family.effective == pytest.approx(51, rel=0.1)


def plainly(known: list[Trial], judged_as: Trial) -> int:
    """How many trials a family has, as the definition says it."""
    return len(
        {
            (one.strategy_hash, json.dumps(dict(one.params)), one.first)
            for one in {each.key: each for each in known}.values()
            if one.family == judged_as.family and one.moments.deviation > 0
        }
    )


@pytest.mark.parametrize("seed", range(6))
def test_a_family_and_the_neighbours_in_it_are_those_of_the_plain_definition(tmp_path: Path, seed: int) -> None:
    init.init(tmp_path, NOW)
    rng = np.random.default_rng(seed)
    evenings = ["2021-01-04"] if seed < 2 else ["2021-01-04", "2021-01-05", "2021-03-01"]

    def any_trial() -> Trial:
        days, spread = int(rng.integers(230, 260)), float(rng.choice([0.01, 0.01, 0.0]))
        return trial(
            strategy=str(rng.choice(["mine", "mine", "other"])),
            strategy_hash=str(rng.choice(["h", "h", "edited"])),
            params={
                "kind": str(rng.choice(["a", "a", "5"])),
                "fast": int(rng.integers(-12, 13)),
                "up": bool(rng.integers(4)),
                "band": float(rng.choice([0.0, 0.1, 0.12, 1e-7])),
            },
            first=str(rng.choice(["2020-01-02", "2020-01-02", "2020-07-01"])),
            last=str(rng.choice(evenings)),
            moments=Moments(days, float(rng.normal(0, 0.01)) if spread else 0.0, spread, 0.0, 3.0),
        )

    tried = [any_trial() for _ in range(1500)]
    own = replace(any_trial(), strategy="mine", moments=Moments(250, 0.001, 0.01, 0.0, 3.0))
    for first in range(0, len(tried), 500):
        for strategy in ("mine", "other"):
            part = [one for one in tried[first : first + 500] if one.strategy == strategy]
            record(tmp_path, part, fortune(1), NOW, timeout_s=10)
    family, near = record_one(tmp_path, own, fortune(1), NOW, timeout_s=10)
    expected = plainly([*tried, own], own)
    assert expected > 50
    assert family.trials == expected
    same = {
        json.dumps(dict(one.params)): one
        for one in sorted({each.key: each for each in [*tried, own]}.values(), key=lambda each: each.last)
        if (one.family, one.strategy_hash, one.first) == (own.family, own.strategy_hash, own.first)
        and one.moments.deviation > 0
        and 0.95 * 250 <= one.moments.count <= 1.05 * 250
    }
    assert sorted(near) == sorted(one.moments.sharpe for one in same.values() if _is_near(one.params, own.params))


def test_a_ledger_of_before_is_searched_as_one_of_today(tmp_path: Path) -> None:
    """What migration 006 makes of the parameters is what is stored with a new trial."""
    init.init(tmp_path, NOW)
    tried = [
        trial(params={"kind": "5", "fast": k, "up": True, "band": k / 7, "grid": {"fast": [1]}}) for k in range(-9, 9)
    ]
    record(tmp_path, tried, fortune(1), NOW, timeout_s=10)
    step = (Path(trials.__file__).parent / "migrations" / "runs" / "006_near.sql").read_text(encoding="utf-8")
    query = "SELECT series, numbers FROM trials ORDER BY trial"
    with opened(tmp_path / "runs.duckdb", write=True, timeout_s=10) as con:
        stored = con.execute(query).fetchall()
        con.execute("ALTER TABLE trials DROP COLUMN series; ALTER TABLE trials DROP COLUMN numbers")
        con.execute(step)
        assert con.execute(query).fetchall() == stored
    assert len(stored) == 18


def test_a_bootstrap_is_the_same_each_time_and_holds_what_it_was_drawn_from() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(0.0008, 0.01, 1500)
    found = bootstrapped(noise, 500, 252, 1)
    assert found == bootstrapped(noise, 500, 252, 1)
    assert found is not None
    sharpe = noise.mean() / noise.std(ddof=1) * sqrt(252)
    assert found.sharpe_low < sharpe < found.sharpe_high
    # of independent returns the error of the annual ratio is near sqrt(252 / 1500): 3.92 of them wide
    assert found.sharpe_high - found.sharpe_low == pytest.approx(3.92 * sqrt(252 / 1500), rel=0.15)


def test_a_growth_beyond_any_number_is_none() -> None:
    few = np.concatenate([np.random.default_rng(1).normal(0, 0.01, 30), [0.5, 0.8]])  # a year has 98,280 minutes
    found = bootstrapped(few, 200, 98_280, 1)
    assert found is not None
    assert (found.cagr_low, found.cagr_high) == (pytest.approx(-1.0), None)


def test_returns_that_hang_together_are_drawn_in_blocks_and_have_wider_intervals() -> None:
    rng = np.random.default_rng(5)
    trend = np.convolve(rng.normal(0, 0.01, 1519), np.ones(20) / 20, "valid")
    found, mixed = bootstrapped(trend, 300, 252, 1), bootstrapped(rng.permutation(trend), 300, 252, 1)
    assert found is not None
    assert mixed is not None
    assert found.block > 5 * mixed.block
    assert found.sharpe_high - found.sharpe_low > 2 * (mixed.sharpe_high - mixed.sharpe_low)


def test_every_backtest_is_discounted_for_those_before_it_without_being_asked(tmp_path: Path) -> None:
    home = tmp_path / "home"
    ma(home, "init")
    ma(home, "fetch", "--source", "sample", "AAPL")
    first = ma(home, "backtest", "--strategy", "sma_cross")["luck"]
    again = ma(home, "backtest", "--strategy", "sma_cross", "--costs", "none")["luck"]
    other = ma(home, "backtest", "--strategy", "sma_cross", "--set", "fast=5", "--bootstrap", "100")["luck"]
    assert isinstance(first, dict)
    assert isinstance(again, dict)
    assert isinstance(other, dict)
    assert (first["trials"], again["trials"], other["trials"]) == (1, 1, 2)
    assert first["deflated_sharpe"] == first["probabilistic_sharpe"]
    assert other["best_by_luck"] > 0
    assert other["deflated_sharpe"] < other["probabilistic_sharpe"]
    assert (first["samples"], other["samples"]) == (0, 100)
    assert other["sharpe_low"] < other["sharpe_high"]


def test_the_verdict_in_words() -> None:
    judged_run = {
        "trials": 12, "effective_trials": 3.25, "luck_p": 0.204,
        "best_by_luck": 0.8, "probabilistic_sharpe": 0.97, "deflated_sharpe": 0.61, "samples": 200,
        "sharpe_low": -0.1, "sharpe_high": 1.2, "cagr_low": -0.02, "cagr_high": 0.2,
    }  # fmt: skip
    assert wording.luck(judged_run) == (
        "in sample, one of 12 trials of this strategy here, worth 3.2 independent ones; a true sharpe above 0: 97.0%"
        " probable, above the 0.80 of the luckiest: 61.0%; not significant (p 0.204: how often the luckiest of them would"
        " do as well without skill)\n"
        "95 % of 200 bootstrap samples: sharpe -0.10 .. 1.20, cagr -2.0% .. 20.0%\n"
    )
    assert "; significant (p 0.049: how" in wording.luck({**judged_run, "luck_p": 0.049})
    assert "too few returns" in wording.luck({**judged_run, "deflated_sharpe": None})


def test_no_backtest_pays_for_the_bootstrap_it_did_not_ask_for() -> None:
    code = "import sys, marketagent.luck, marketagent.scoring; print(json.dumps([m for m in ('arch', 'scipy') if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", f"import json; {code}"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
