"""What a family reaches by luck: worlds that agree, families of every kind without skill, and an edge among them."""

import sys
from pathlib import Path

import numpy as np
import pytest

from marketagent.luck import best_by_luck, judged, moments
from marketagent.luckiest import (
    WORLDS,
    Blocks,
    Family,
    blocks,
    cut,
    edges,
    independent,
    inflation,
    normal_of,
    reached,
    shocks,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from families import KINDS, verdicts  # the very families of the benchmark

DAYS = np.arange("2000-01-01", "2012-01-01", dtype="datetime64[D]")


def reached_by(returns: np.ndarray, days: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    marks = edges(days)
    sums = np.add.reduceat(returns, marks[:-1], axis=1)
    return reached(sums, np.diff(marks).astype(float), shocks(days, marks))


def even(returns: np.ndarray) -> Blocks:  # type: ignore[type-arg]
    return blocks(returns, cut(len(returns), min(256, len(returns))))


def test_a_trial_alone_reaches_a_normal_value_and_0_on_average() -> None:
    found = reached_by(np.random.default_rng(1).standard_t(3, (1, 1000)), DAYS[:1000])
    assert found.shape == (WORLDS,)
    assert Family(1, found).expected == 0.0
    assert Family(1, found).effective == pytest.approx(1.0, abs=1e-9)
    assert found.std() == pytest.approx(1.0, abs=0.07)
    assert np.mean(found > 1.645) == pytest.approx(0.05, abs=0.02)


def test_independent_trials_reach_what_theory_says_and_copies_no_more_than_one() -> None:
    returns = np.random.default_rng(2).normal(0, 0.01, (500, 1000))
    family = Family(500, reached_by(returns, DAYS[:1000]))
    assert family.expected == pytest.approx(best_by_luck(1.0, 500), rel=0.06)
    assert 350 < family.effective < 650
    copies = Family(500, reached_by(np.repeat(returns[:1], 500, axis=0) * np.linspace(1, 9, 500)[:, None], DAYS[:1000]))
    assert copies.effective == pytest.approx(1.0, abs=1e-6)
    assert Family(500, independent(500)).expected == pytest.approx(best_by_luck(1.0, 500), rel=0.03)
    assert Family(1, independent(1)).effective == pytest.approx(1.0, abs=0.2)


def test_one_history_grown_by_a_week_or_two_meets_the_same_worlds() -> None:
    returns = np.random.default_rng(3).normal(0, 0.01, (1, 1500))
    whole, later = reached_by(returns, DAYS[:1500]), reached_by(returns[:, :1493], DAYS[:1493])
    assert np.corrcoef(whole, later)[0, 1] > 0.98
    elsewhere = reached_by(returns[:, :700], DAYS[2000:2700])
    assert abs(np.corrcoef(reached_by(returns[:, :700], DAYS[:700]), elsewhere)[0, 1]) < 0.15


def test_blocks_are_of_the_calendar_and_stay_where_they_are() -> None:
    assert edges(DAYS[:256]).tolist() == list(range(257))
    assert edges(DAYS[:1]).tolist() == [0, 1]
    long, longer = edges(DAYS[:1500]), edges(DAYS[:1507])
    assert long[:-1].tolist() == longer[: len(long) - 1].tolist()
    assert 128 < len(long) <= 257
    assert set(np.diff(long)[1:-1].tolist()) == {8}
    weekdays = DAYS[np.is_busday(DAYS)]
    assert (np.diff(edges(weekdays[:900])) > 0).all()
    assert 128 < len(edges(np.repeat(DAYS[:10], 390))) <= 161


def test_bars_of_a_day_have_steps_of_their_own_that_add_up_to_its_day() -> None:
    minutes, marks = np.repeat(DAYS[:4], 160), cut(640, 64)
    found = shocks(minutes, marks)
    assert found.std(axis=1) == pytest.approx(np.full(64, 1.0), abs=0.15)
    apart = np.abs(np.corrcoef(found) - np.eye(64))
    assert apart.max() < 0.25
    daily = shocks(DAYS[:4], np.arange(5))
    np.testing.assert_allclose(found.reshape(4, 16, -1).sum(axis=1) / 4, daily, atol=1e-4)


def test_what_never_moves_reaches_nothing_and_empty_blocks_count_nothing() -> None:
    flat = reached(np.full((2, 8), 0.01), np.ones(8), shocks(DAYS[:8], np.arange(9)))
    assert (flat == -np.inf).all()
    marks = np.array([0, 0, 3, 3, 8])
    assert not shocks(DAYS[:8], marks)[[0, 2]].any()
    family = Family(0, flat)
    assert (family.expected, family.effective) == (0.0, 0.0)


def test_returns_that_go_on_have_a_mean_that_varies_more() -> None:
    rng = np.random.default_rng(4)
    noise = rng.normal(0, 0.01, 20_001)
    returns = noise[1:] + 0.5 * noise[:-1]  # (1 + 0.5) ** 2 / (1 + 0.5 ** 2)
    assert inflation(even(returns), returns.var())[0] == pytest.approx(1.8, rel=0.2)
    assert inflation(even(noise), noise.var())[0] == pytest.approx(1.0, rel=0.2)
    assert inflation(even(noise[:100]), noise[:100].var())[1] == 64
    assert inflation(Blocks(np.ones(1), np.ones(1)), 1.0) == (0.0, 1)


def test_a_value_of_few_blocks_is_worth_less() -> None:
    # of Student's distribution, one in 1,000 is above 3.090 (normal), 3.227 (63 degrees of freedom), 4.144 (10)
    assert normal_of(3.227, 63) == pytest.approx(3.090, abs=0.005)
    assert normal_of(4.144, 10) == pytest.approx(3.090, abs=0.02)


def test_a_run_of_few_returns_is_judged_without_a_warning() -> None:
    for count in range(3, 40):
        returns = np.random.default_rng(count).normal(0, 0.01, count)
        found = judged(
            moments(returns), blocks(returns, edges(DAYS[:count])), Family(1, reached_by(returns[None], DAYS[:count]))
        )
        assert found.probabilistic is None or found.p is not None


@pytest.mark.parametrize("kind", ["480 copies and 20", "ridge", "independent, crashes"])
def test_of_families_without_skill_that_are_alike_at_most_one_in_twenty_is_significant(kind: str) -> None:
    found = verdicts(kind, 50)
    most = 0.05 + 2 * (0.05 * 0.95 / 50) ** 0.5
    assert found.p <= most
    assert found.deflated <= most
    if kind == "480 copies and 20":  # which do not hide how lucky the others may be
        assert found.published > most / 2
        assert 17 < found.effective < 27  # 21 and what the noise of the copies adds


@pytest.mark.parametrize("kind", ["independent", "5 clusters", "480 copies and 20", "ridge"])
def test_an_edge_of_3_a_year_among_500_trials_is_found_in_4_years(kind: str) -> None:
    assert verdicts(kind, 10, edge=0.19).p >= 0.8


def test_every_kind_of_family_is_drawn() -> None:
    for kind in KINDS:
        assert 0 <= verdicts(kind, 1).p <= 1
