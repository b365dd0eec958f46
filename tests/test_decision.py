"""A decision: what stands between a strategy's signals and its targets."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from markets import panel_of, random_market
from numpy.testing import assert_array_equal

from marketagent.decision import decide
from marketagent.indicators import volatility
from marketagent.panel import Panel
from marketagent.signals import Signal
from marketagent.strategy import Opinions, Strategy, param

NAN = np.nan


class Told(Strategy):
    """Says what it is told by an opinion, after a warm-up."""

    bars: int = param(0, 0, 100)

    @property
    def warmup(self) -> int:
        return self.bars

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        return {"told": opinions.get("told", Signal(np.ones(panel.shape)))}


def told(value: object) -> Mapping[str, Signal]:
    return {"told": Signal(np.array(value, dtype=np.float64))}


def test_scores_above_the_threshold_become_shares_and_those_below_become_nothing() -> None:
    panel = panel_of([[10, 10, 10, 10]] * 2)
    made = decide(Told(threshold=0.3), panel, told([[0.5, 0.3, -0.5, NAN], [0.5, 0.9, 0.0, 0.0]]))
    assert made.action.tolist() == [[1, 0, -1, 0], [1, 1, 0, 0]]
    assert_array_equal(made.targets, [[1.0, NAN, 0.0, NAN], [0.5, 0.5, NAN, NAN]])


def test_sessions_that_are_not_due_decide_nothing_and_say_so() -> None:
    panel = panel_of([10] * 4, first="2013-01-03")  # Thursday, Friday, Monday, Tuesday
    made = decide(Told(rebalance="weekly"), panel)
    assert_array_equal(made.targets[:, 0], [1.0, NAN, 1.0, NAN])
    assert made.action[:, 0].tolist() == [1, 1, 1, 1]
    assert made.reasoning(1, 0).endswith("; not due, decides weekly")
    assert "not due" not in made.reasoning(2, 0)


def test_a_symbol_without_a_bar_is_not_decided_on() -> None:
    made = decide(Told(), panel_of([[10, 10], [NAN, 10]]))
    assert_array_equal(made.score, [[1, 1], [NAN, 1]])
    assert_array_equal(made.targets, [[0.5, 0.5], [NAN, 1.0]])


def test_a_symbol_with_fewer_bars_than_the_warm_up_is_not_decided_on() -> None:
    made = decide(Told(bars=2), panel_of([[10, NAN], [10, 10], [NAN, 10], [10, 10]]))
    assert_array_equal(made.action, [[0, 0], [1, 0], [0, 1], [1, 1]])


def test_weights_by_volatility_rest_on_the_returns_of_a_quarter() -> None:
    panel = random_market(5, 90, 3, longest_halt=2)
    made = decide(Told(sizing="inverse_volatility"), panel)
    pull = 1 / np.where(panel.has_bar, volatility(panel.close, 63), NAN)
    for t in range(90):
        expected = np.where(np.isnan(pull[t]), NAN, pull[t] / np.nansum(pull[t]))
        np.testing.assert_allclose(made.targets[t], expected, rtol=1e-13)


def test_a_decision_holds_what_it_was_made_of() -> None:
    panel, strategy = panel_of([10, 11]), Told()
    made = decide(strategy, panel)
    assert made.strategy is strategy
    assert_array_equal(made.panel.raw.close, panel.raw.close)
    assert not made.panel.raw.close.flags.writeable
    assert replace(made.panel, sources=("x",)).sources == ("x",)


def test_a_symbol_that_is_too_young_holds_and_says_so() -> None:
    made = decide(Told(bars=3), panel_of([10, 11]), told([[1.0], [1.0]]))
    assert made.action.tolist() == [[0], [0]]
    assert np.isnan(made.targets).all()
    assert made.confidence.tolist() == [[0.0], [0.0]]
    assert made.reasoning(1, 0) == "hold (2 bars are stored, the strategy needs 3)"
