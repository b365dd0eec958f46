"""Actions into weights: every method by hand, then the caps that no method may break."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from marketagent.sizing import METHODS, row_total, target_weights

NAN = np.nan
SCORE = np.array([[0.5, 0.1, -0.4, 0.0, NAN, 1.0]])
ACTION = np.array([[1, 1, -1, 0, 0, 1]], dtype=np.int8)


def weights(**options: Any) -> list[float]:
    given_ = {"method": "equal", "top_k": 5, "gross": 1.0, "max_weight": 1.0, "long_only": True, **options}
    volatility = given_.pop("volatility", np.full(SCORE.shape, NAN))
    found: list[float] = target_weights(ACTION, SCORE, volatility, **given_)[0].tolist()
    return found


def check(found: list[float], expected: list[float]) -> None:
    assert_allclose(found, expected, rtol=1e-15, atol=1e-16)


def test_equal_parts_for_the_chosen_nothing_for_the_sold_and_holds_left_alone() -> None:
    check(weights(), [1 / 3, 1 / 3, 0.0, NAN, NAN, 1 / 3])


def test_parts_by_the_size_of_the_score() -> None:
    check(weights(method="score"), [0.5 / 1.6, 0.1 / 1.6, 0.0, NAN, NAN, 1.0 / 1.6])


def test_parts_by_one_over_volatility_without_those_that_have_none() -> None:
    volatility = np.array([[0.01, 0.04, 0.02, 0.01, 0.01, 0.0]])
    # 100 and 25 of 125; the last has no volatility: left alone; the sold one goes whatever its volatility
    check(weights(method="inverse_volatility", volatility=volatility), [0.8, 0.2, 0.0, NAN, NAN, NAN])


def test_the_best_two_share_and_every_other_with_a_score_is_sold() -> None:
    check(weights(method="top_k", top_k=2), [0.5, 0.0, 0.0, 0.0, NAN, 0.5])


def test_of_equal_scores_the_first_symbols_win() -> None:
    action, score = np.ones((1, 4), dtype=np.int8), np.full((1, 4), 0.5)
    found = target_weights(action, score, score, method="top_k", top_k=2, gross=1.0, max_weight=1.0, long_only=True)
    assert found.tolist() == [[0.5, 0.5, 0.0, 0.0]]


def test_gross_scales_and_the_cap_cuts_without_handing_on() -> None:
    check(weights(gross=0.6), [0.2, 0.2, 0.0, NAN, NAN, 0.2])
    check(weights(method="score", max_weight=0.4), [0.5 / 1.6, 0.1 / 1.6, 0.0, NAN, NAN, 0.4])


def test_a_sell_opens_a_short_share_if_allowed() -> None:
    check(weights(long_only=False), [0.25, 0.25, -0.25, NAN, NAN, 0.25])
    check(weights(long_only=False, method="score"), [0.25, 0.05, -0.2, NAN, NAN, 0.5])


def test_a_row_without_a_choice_has_no_weights() -> None:
    nothing = target_weights(
        np.zeros((2, 3), dtype=np.int8), np.zeros((2, 3)), np.ones((2, 3)),
        method="equal", top_k=1, gross=1.0, max_weight=1.0, long_only=True,
    )  # fmt: skip
    assert np.isnan(nothing).all()


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="'kelly' is none of equal"):
        weights(method="kelly")


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    method=st.sampled_from(METHODS),
    gross=st.one_of(st.just(0.0), st.floats(1e-6, 2)),
    cap=st.one_of(st.just(0.0), st.floats(1e-6, 1)),
    long_only=st.booleans(),
)
def test_no_weight_exceeds_the_cap_and_no_row_the_gross(
    seed: int, method: str, gross: float, cap: float, long_only: bool
) -> None:
    rng = np.random.default_rng(seed)
    score = np.where(rng.random((8, 6)) < 0.2, NAN, rng.uniform(-1, 1, (8, 6)))
    action = np.where(np.abs(np.nan_to_num(score)) > 0.2, np.sign(np.nan_to_num(score)), 0).astype(np.int8)
    volatility = np.where(rng.random((8, 6)) < 0.2, NAN, 10.0 ** rng.uniform(-6, 0, (8, 6)))
    found = target_weights(
        action, score, volatility, method=method, top_k=2, gross=gross, max_weight=cap, long_only=long_only
    )
    given_weights = np.nan_to_num(found)
    assert np.abs(given_weights).max() <= cap
    assert np.abs(given_weights).sum(axis=1).max() <= gross * (1 + 1e-14)
    assert np.isnan(found[np.isnan(score)]).all()
    assert (given_weights[action == 1] >= 0).all()
    assert (given_weights[action == -1] <= 0).all()
    if long_only:
        assert (found[action == -1] == 0).all()
    if cap >= gross and method == "equal":
        chosen = (action == 1) if long_only else (action != 0)
        assert_allclose(np.abs(given_weights).sum(axis=1), np.where(chosen.any(axis=1), gross, 0), rtol=1e-14)


def test_rows_are_added_from_left_to_right() -> None:
    values = np.array([[1e16, 1.0, 1.0, -1e16], [0.1, 0.2, 0.3, 0.0]])
    assert row_total(values).tolist() == [((1e16 + 1.0) + 1.0) - 1e16, (0.1 + 0.2) + 0.3]
    assert row_total(np.zeros((2, 0))).tolist() == [0.0, 0.0]


@given(seed=st.integers(0, 10**6))
def test_zeros_between_change_no_bit_of_a_row(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.uniform(-1e6, 1e6, (3, 7))
    spread = np.zeros((3, 40))
    spread[:, np.sort(rng.choice(40, 7, replace=False))] = values
    assert_array_equal(row_total(spread), row_total(values))
