"""Signals into a score, an action and its reasons: worked by hand, then by the rules every ensemble obeys."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from marketagent.ensemble import Scored, act, ensemble, explain
from marketagent.signals import Signal

NAN = np.nan


def test_the_score_is_the_weighted_mean_of_those_that_speak() -> None:
    signals = {"a": Signal([[1.0, 1.0, NAN]], 0.5), "b": Signal([[-0.5, NAN, NAN]], 1.0)}
    scored = ensemble(signals, {"a": 3.0})
    # (3 * 1 - 1 * 0.5) / 4; a alone; nobody
    assert_array_equal(scored.score, [[0.625, 1.0, NAN]])
    # (3 * 0.5 + 1 * 1) / 4; an abstainer counts 0: 3 * 0.5 / 4
    assert_array_equal(scored.confidence, [[0.625, 0.375, 0.0]])


def test_a_weight_of_zero_is_as_if_the_signal_were_not_there() -> None:
    both = ensemble({"a": Signal([[0.3]], 0.5), "b": Signal([[-1.0]])}, {"b": 0.0})
    assert (both.score.item(), both.confidence.item()) == (0.3, 0.5)
    alone = ensemble({"a": Signal([[NAN]]), "b": Signal([[-1.0]])}, {"b": 0.0})
    assert np.isnan(alone.score.item())


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 5))
def test_scores_lie_between_the_values_and_nobody_is_surer_than_the_surest(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    signals, weights = {}, {}
    for k in range(count):
        value = np.where(rng.random((9, 4)) < 0.3, NAN, rng.choice([-1.0, 1.0, rng.uniform(-1, 1)], (9, 4)))
        signals[f"s{k}"], weights[f"s{k}"] = Signal(value, rng.random((9, 4))), float(rng.choice([0.1, 0.3, 7.0]))
    scored = ensemble(signals, weights)
    values = np.stack([signal.value for signal in signals.values()])
    silent = np.isnan(values).all(axis=0)
    assert_array_equal(np.isnan(scored.score), silent)
    low, high = np.where(np.isnan(values), 2, values).min(axis=0), np.where(np.isnan(values), -2, values).max(axis=0)
    assert (scored.score[~silent] >= low[~silent] - 1e-15).all()
    assert (scored.score[~silent] <= high[~silent] + 1e-15).all()
    assert (np.abs(scored.score[~silent]) <= 1).all()
    surest = np.nan_to_num(np.stack([signal.confidence for signal in signals.values()])).max(axis=0)
    assert (scored.confidence <= surest + 1e-15).all()
    assert (scored.confidence >= 0).all()


def test_actions_are_taken_beyond_the_threshold_and_only_when_sure() -> None:
    score = np.array([[0.31, 0.3, -0.3, -0.31, NAN, 1.0, -1.0, 1.0]])
    sure = np.array([[1.0, 1.0, 1.0, 1.0, 1.0, 0.49, 0.49, 0.5]])
    action = act(Scored(score, sure), threshold=0.3, min_confidence=0.5)
    assert action.tolist() == [[1, 0, 0, -1, 0, 0, 0, 1]]


def test_the_reasons_name_every_signal_and_add_up_to_the_score() -> None:
    signals = {
        "trend": Signal([[0.8]], 0.9),
        "dip": Signal([[-0.4]], 0.5),
        "flat": Signal([[0.0]]),
        "mute": Signal([[NAN]]),
    }
    weights = {"trend": 2.0}
    text = explain(signals, weights, 0, 0, action="buy", threshold=0.15)
    # of a weight of 4 that speaks: 0.8 * 2 / 4 and -0.4 / 4
    assert text == (
        "buy (trend for +0.80, confidence 0.90, adds +0.40; dip against -0.40, confidence 0.50, adds -0.10; "
        "flat neutral +0.00, confidence 1.00, adds +0.00; mute abstains; threshold 0.15)"
    )
    assert ensemble(signals, weights).score.item() == pytest.approx(0.3)


def test_the_order_of_the_signals_changes_a_score_by_no_more_than_rounding() -> None:
    rng = np.random.default_rng(5)
    signals = {name: Signal(rng.uniform(-1, 1, (20, 3))) for name in "abcd"}
    there, back = ensemble(signals, {"c": 5.0}), ensemble(dict(reversed(signals.items())), {"c": 5.0})
    assert_allclose(there.score, back.score, rtol=0, atol=1e-15)
