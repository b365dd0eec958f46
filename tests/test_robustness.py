"""Overfitting and superiority of a sweep: by hand, against arch and against the definition, on noise and on an edge."""

from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from markets import panel_of

from marketagent import catalog, luck, luckiest, metrics
from marketagent.costs import Costs
from marketagent.grid import axes
from marketagent.luckiest import Family, cut
from marketagent.panel import Array
from marketagent.replay import Ground
from marketagent.robustness import superiority as superior
from marketagent.robustness.overfitting import overfitting
from marketagent.robustness.superiority import superiority
from marketagent.robustness.tally import Tally, even_edges
from marketagent.sweep import Sweep, plan


def tallied(returns: Array, edges: Array | None = None, cash: float = 100.0) -> Tally:
    """As a sweep would have it, of `returns` (M, T)."""
    made = Tally(range(len(returns)), even_edges(returns.shape[1], len(returns)) if edges is None else edges, cash)
    for number, path in enumerate(returns):
        made.watch(number, cash * np.cumprod(1 + path))
    return made


def noise(seed: int, combined: int = 40, bars: int = 1000, *, edge: float = 0.0) -> Array:
    """Returns (M, T) of combinations that have half of what they do in common, as those of a grid; the first has `edge`."""
    rng = np.random.default_rng(seed)
    returns = rng.normal(0, 0.01, (combined, bars)) + rng.normal(0, 0.01, bars)
    returns[0] += edge * 0.014
    return returns


def of(returns: Array) -> tuple[Array, Array, Array]:
    made = tallied(returns)
    return made.counts, made.sums, made.squares


# The tally ------------------------------------------------------------------------------------------------------------


def test_moments_and_sharpe_ratios_of_any_blocks_are_those_of_the_returns() -> None:
    rng = np.random.default_rng(1)
    returns = rng.standard_t(4, (5, 333)) * 0.01 + 0.0004
    edges = np.array([0, 10, 11, 200, 333])
    made = tallied(returns, edges)
    for number, path in enumerate(returns):
        found, expected = made.moments(number), luck.moments(path)
        assert found.count == 333
        assert vars(found) == pytest.approx(vars(expected), rel=1e-9)
    blocks = np.array([True, False, True, False])
    some = np.concatenate([returns[:, :10], returns[:, 11:200]], axis=1)
    np.testing.assert_allclose(made.sharpes(blocks), some.mean(axis=1) / some.std(axis=1, ddof=1), rtol=1e-9)


def test_a_lost_account_and_one_that_does_nothing_are_what_they_are_elsewhere() -> None:
    equity = np.array([[100.0, 90.0, 0.0, 50.0, 60.0], [100.0] * 5])
    made = Tally([3, 7], np.array([0, 2, 5]), 100.0)
    made.watch(3, equity[0])
    made.watch(7, equity[1])
    assert vars(made.moments(3)) == pytest.approx(vars(luck.moments(metrics.session_returns(equity[0], 100.0))))
    assert made.moments(7) == luck.Moments(5, 0.0, 0.0, 0.0, 3.0)
    assert made.sharpes(np.array([False, True])).tolist()[1] == 0.0


def test_the_blocks_of_a_sweep_are_equal_and_fewer_where_it_has_very_many_combinations() -> None:
    assert len(even_edges(5000, 2500)) == 257
    assert len(even_edges(100, 10)) == 97
    assert (np.diff(even_edges(1000, 1_000_000)) >= 62).all()
    assert len(even_edges(1000, 1_000_000)) == 17
    assert len(even_edges(3, 5)) == 17  # of which some are empty


# Overfitting ----------------------------------------------------------------------------------------------------------


def test_pbo_is_what_its_definition_counts() -> None:
    returns = noise(3, combined=7, bars=160, edge=0.1)
    found = overfitting(*of(returns))
    edges, below, lost = cut(160, 16), 0.0, 0
    blocks = [returns[:, first:last] for first, last in pairwise(edges.tolist())]
    splits = list(combinations(range(16), 8))
    for half in splits:
        inside = np.concatenate([blocks[b] for b in half], axis=1)
        outside = np.concatenate([blocks[b] for b in range(16) if b not in half], axis=1)
        best = (inside.mean(axis=1) / inside.std(axis=1)).argmax()
        judged = outside.mean(axis=1) / outside.std(axis=1)
        place = 1 + (judged < judged[best]).sum()  # of 7: 4 is the middle
        below += 1 if place < 4 else 0.5 if place == 4 else 0
        lost += judged[best] < 0
    assert found is not None
    assert (found.pbo, found.loss, found.splits) == (below / 12870, lost / 12870, 12870)


def test_on_noise_choosing_is_a_coin_and_an_edge_is_chosen_again() -> None:
    found = [overfitting(*of(noise(seed))) for seed in range(40)]
    assert np.mean([one.pbo for one in found if one]) == pytest.approx(0.5, abs=0.06)
    real = [overfitting(*of(noise(seed, edge=0.3))) for seed in range(5)]
    assert all(one is not None and one.pbo < 0.02 and one.loss < 0.05 for one in real)


def test_combinations_that_are_all_the_same_are_in_the_middle() -> None:
    found = overfitting(*of(np.repeat(noise(1, combined=1), 6, axis=0)))
    assert found is not None
    assert found.pbo == 0.5


@pytest.mark.parametrize(("combined", "bars"), [(1, 1000), (5, 79), (5, 3)])
def test_too_little_to_split_says_nothing(combined: int, bars: int) -> None:
    assert overfitting(*of(noise(1, combined, bars))) is None


def test_where_at_most_one_ever_traded_there_was_nothing_to_choose() -> None:
    returns = noise(1, combined=4, bars=400)
    returns[1:] = 0.0
    assert overfitting(*of(returns)) is None
    assert overfitting(*of(0 * returns)) is None


# Superiority ----------------------------------------------------------------------------------------------------------


def p_of(returns: Array) -> float:
    found = superiority(tallied(returns).sums, samples=300, seed=5)
    assert found is not None
    return found.p


def test_on_noise_p_is_uniform_and_an_edge_is_found() -> None:
    ps = np.array([p_of(noise(seed)) for seed in range(100)])
    assert (ps < 0.05).sum() <= 9  # two standard errors above 5
    assert 0.4 < np.median(ps) < 0.6
    assert all(p_of(noise(seed, edge=0.2)) < 0.05 for seed in range(10))


def test_of_families_of_500_without_skill_about_one_in_twenty_is_superior() -> None:
    ps = np.array([p_of(np.random.default_rng(seed).normal(0, 0.01, (500, 600))) for seed in range(40)])
    assert (ps < 0.05).sum() <= 5
    assert 0.3 < np.median(ps) < 0.7


def arch_p(sums: Array, samples: int, seed: int) -> float:
    from arch.bootstrap import SPA

    theirs = SPA(np.zeros(sums.shape[1]), -sums.T, block_size=superior.RUN, reps=samples, seed=seed)
    theirs.compute()
    return float(theirs.pvalues["consistent"])


# Of seed 0 one combination is clearly bad by their variance and not by ours, at the border: 3 samples of 500 are others.
@pytest.mark.parametrize("seed", range(1, 7))
def test_p_is_that_of_arch_draw_by_draw(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from arch.bootstrap import StationaryBootstrap

    def drawn(blocks: int, samples: int, rng: np.random.Generator) -> Array:
        theirs = StationaryBootstrap(superior.RUN, np.arange(blocks), seed=seed).bootstrap(samples)
        return np.array([np.bincount(at[0], minlength=blocks) for at, _ in theirs], dtype=np.float64)

    sums = tallied(noise(seed, combined=15, edge=0.04)).sums
    scaled = sums / sums.std(axis=1, ddof=1, keepdims=True)  # theirs compares means as they are
    plain = superiority(scaled, samples=500, seed=seed)
    monkeypatch.setattr(superior, "_drawn", drawn)
    found = superiority(scaled, samples=500, seed=seed)
    assert found is not None
    assert plain is not None
    assert found.p == pytest.approx((1 + 500 * arch_p(scaled, 500, seed)) / 501, abs=1e-12)
    assert plain.p == pytest.approx(found.p, abs=0.07)  # two standard errors and a half of 500 samples each


def test_an_edge_that_trades_little_is_not_drowned_by_what_always_does() -> None:
    returns = noise(4, combined=40)
    returns[0] = 0.1 * (returns[0] + 0.19 * returns[0].std())
    sums = tallied(returns).sums
    found = superiority(sums, samples=500, seed=1)
    assert found is not None
    assert found.p < 0.02
    assert arch_p(sums, 500, 1) > 0.1  # why it is not theirs: see the module


def test_the_benchmark_is_what_has_to_be_beaten() -> None:
    returns = noise(1, edge=0.15)
    made = tallied(returns)
    found = superiority(made.sums, made.sums[0], seed=1)
    assert found is not None
    assert found.p > 0.3  # nothing beats the one that has the edge
    assert found == superiority(made.sums, made.sums[0], seed=1)


def test_blocks_of_which_the_benchmark_is_not_known_are_left_out() -> None:
    sums = tallied(noise(1, edge=0.15)).sums
    beside = sums[0].copy()
    beside[:20] = np.nan
    assert superiority(sums, beside, seed=1) == superiority(sums[:, 20:], sums[0, 20:], seed=1)
    beside[63:] = np.nan
    assert superiority(sums, beside, seed=1) is None


def test_bad_combinations_do_not_hide_a_good_one() -> None:
    bad = noise(2, combined=2000) - 0.004
    alone, hidden = p_of(noise(2, combined=1, edge=0.09)), p_of(np.vstack([noise(2, combined=1, edge=0.09), bad]))
    assert hidden == pytest.approx(alone, abs=0.01)


def test_nothing_to_compare_says_nothing() -> None:
    assert superiority(tallied(np.zeros((3, 500))).sums, seed=1) is None
    assert superiority(tallied(noise(1, 3, 50)).sums, seed=1) is None


# A sweep of a strategy, from prices to verdicts ------------------------------------------------------------------------


def swept(seed: int, bars: int, texts: dict[str, str], *, edge: float = 0.0) -> tuple[Tally, luck.Judged]:
    """sma_cross on one symbol whose trend, with an `edge`, turns every 60 bars; and what the best of it is worth."""
    rng = np.random.default_rng(seed)
    trend = np.repeat(rng.choice([-1.0, 1.0], bars // 60 + 1), 60)[:bars] * edge * 0.01
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, bars) + trend))
    kind = catalog.load("sma_cross", Path("/nonexistent")).kind
    combined = plan(kind, axes(kind, texts)).strategies
    numbers = [number for number, _ in combined]
    made = Tally(numbers, even_edges(bars, len(numbers)), 1e6)
    Sweep(Ground(panel_of(close), Costs(name="none"), 1e6), watch=made.watch).run(combined, workers=2)
    moments = [made.moments(number) for number in numbers]
    best = max(range(len(numbers)), key=lambda row: moments[row].sharpe)
    days = panel_of(close).days
    reached = luckiest.reached(made.sums, made.counts, luckiest.shocks(days, made.edges))
    family = Family(sum(one.deviation > 0 for one in moments), reached)
    return made, luck.judged(moments[best], made.blocks(numbers[best]), family)


FEW = {"fast": "2:20:3", "slow": "21:61:4", "long_only": "true,false"}
MANY = {"fast": "2:26:1", "slow": "27:65:2", "long_only": "false"}  # 500


def test_of_sweeps_over_noise_hardly_one_is_significant_by_any_of_the_three_and_an_edge_is_found() -> None:
    verdicts, deflated, better, fitted = [], [], [], []
    for seed in range(20):
        made, judged = swept(seed, 600, FEW)
        fit, superior = overfitting(made.counts, made.sums, made.squares), superiority(made.sums, samples=300, seed=1)
        assert fit is not None
        assert superior is not None
        verdicts.append(judged.p)
        deflated.append(judged.deflated or 0.0)
        better.append(superior.p)
        fitted.append(fit.pbo)
    assert sum(one is not None and one < 0.05 for one in verdicts) <= 3
    assert sum(one > luck.CONFIDENCE for one in deflated) <= 1
    assert sum(p < 0.05 for p in better) <= 3
    assert 0.3 < np.mean(fitted) < 0.75
    made, judged = swept(1, 1500, FEW, edge=0.3)
    fit, superior = overfitting(made.counts, made.sums, made.squares), superiority(made.sums, samples=300, seed=1)
    assert judged.deflated is not None
    assert judged.deflated > luck.CONFIDENCE
    assert judged.p is not None
    assert judged.p < 0.01
    assert superior is not None
    assert superior.p < 0.05
    assert fit is not None
    assert fit.loss < 0.05


@pytest.mark.soak
def test_of_100_sweeps_of_500_over_noise_at_most_five_are_significant() -> None:
    verdicts = [swept(1000 + seed, 1000, MANY)[1] for seed in range(100)]
    assert {one.trials for one in verdicts} == {500}
    assert sum((one.deflated or 0.0) > luck.CONFIDENCE for one in verdicts) <= 5
    assert sum(one.p is not None and one.p < 0.05 for one in verdicts) <= 9  # two standard errors above 5
