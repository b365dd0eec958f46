"""A sweep against the same combinations decided and backtested one by one; arrays that are computed later."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markets import random_market

from marketagent import catalog, indicators
from marketagent.backtest import backtest
from marketagent.costs import parse
from marketagent.decision import BadStrategy, decide
from marketagent.deferred import Deferred, Memo, remembering
from marketagent.grid import axes
from marketagent.indicators import sma
from marketagent.kernel.measure import FIGURES
from marketagent.panel import Panel
from marketagent.program import computed
from marketagent.replay import Ground
from marketagent.sessions import due
from marketagent.signals import Signal
from marketagent.strategy import Opinions, Strategy, param
from marketagent.sweep import Sweep, plan

COSTS = parse("ibkr-fixed", slippage_bps=5)
NAN = np.nan


def agrees(strategy: Strategy, panel: Panel, sweep: Sweep) -> None:
    """What the sweep says of `strategy` is what ``backtest`` says."""
    result = backtest(decide(strategy, panel), sweep.ground.costs, sweep.ground.cash, start=sweep.ground.start)
    found = sweep.metrics(strategy)
    assert found["equity"] == result.simulation.equity[-1]  # to the bit: every share that was traded is the same
    for name in FIGURES[1:]:
        expected = result.metrics[name]
        assert found[name] == (None if expected is None else pytest.approx(expected, rel=1e-9, abs=1e-9)), name


def built_in(name: str) -> type[Strategy]:
    return catalog.load(name, Path("/nonexistent")).kind


SHORT: dict[str, dict[str, Any]] = {
    "buy_and_hold": {},
    "ensemble": {"fast": 3, "slow": 10, "lookback": 20, "window": 6},
    "mean_reversion": {"trend": 12, "low": 40.0, "high": 60.0},
    "momentum": {"lookback": 20, "skip": 2, "threshold": 0.0},
    "sma_cross": {"fast": 3, "slow": 9},
}


@pytest.mark.parametrize("name", SHORT)
def test_every_built_in_strategy_is_swept_as_it_is_backtested(name: str) -> None:
    """In every way to size and to rebalance, long and short, in doubt and without."""
    ways = [
        {"sizing": sizing, "long_only": long_only, "rebalance": rebalance, **more}
        for sizing in ("equal", "score", "inverse_volatility", "top_k")
        for long_only in (True, False)
        for rebalance in ("bar", "weekly")
        for more in ({}, {"min_confidence": 0.7, "top_k": 2, "max_weight": 0.3, "gross": 1.3, "threshold": 0.1})
    ]
    for seed, way in enumerate(ways):
        panel = random_market(seed, sessions=120, symbols=1 + seed % 6)
        sweep = Sweep(Ground(panel, COSTS, 50_000.0, start=5 * (seed % 2)))
        agrees(built_in(name)(**{**SHORT[name], **way}), panel, sweep)


def test_the_file_of_every_built_in_strategy_is_tried_here() -> None:
    assert set(SHORT) == set(catalog.files(Path("/nonexistent")))


def test_an_indicator_is_computed_once_for_each_window() -> None:
    kind = built_in("sma_cross")
    sweep = Sweep(Ground(random_market(3), COSTS, 50_000.0))
    sweep.run(plan(kind, axes(kind, {"fast": "2:6:1", "slow": "7:16:1"})).strategies, workers=2)
    assert len(sweep.done) == 50
    assert sweep._memo.computed == 5 + 10


# Strategies that are at odds with arrays that are not computed yet ----------------------------------------------------


class Writes(Strategy):
    """Works in place, where a deferred array refuses."""

    window: int = param(5, 1, 50)

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        gap = sma(panel.close, self.window)
        gap -= panel.close
        gap[np.isnan(gap)] = 0.0
        return {"gap": Signal(np.sign(gap), 0.5)}


class Looks(Strategy):
    """Asks for the values, branches on them, and uses functions that nobody defers."""

    window: int = param(5, 2, 50)

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        bands = indicators.bollinger(panel.close, self.window)
        line = indicators.ema(indicators.sma(panel.close, 3), self.window)
        if np.nanmax(line) > 0 and bands.upper.shape == line.shape and not isinstance(line, int):
            away = np.tanh((panel.close - bands.middle) / (bands.upper - bands.lower + 1.0))
            odd = (away > 0.1) | ~(line >= panel.close)
            return {
                "away": Signal(np.clip(away, -1, 1), np.where(odd, 0.4, 0.9)),
                "line": Signal(np.where(np.isfinite(line), np.sign(panel.close - line) * odd, np.nan), 0.8),
            }
        return {"none": Signal(np.zeros(panel.shape))}


class IsPicky(Strategy):
    """Wants a real array and says so."""

    window: int = param(5, 1, 50)

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        average = sma(panel.close, self.window)
        if not isinstance(average, np.ndarray):
            return {"gap": Signal(np.full(panel.shape, 1.0))}
        return {"gap": Signal(np.sign(panel.close - average))}


@pytest.mark.parametrize("kind", [Writes, Looks, IsPicky])
def test_a_strategy_that_works_on_real_arrays_gets_them(kind: Any) -> None:
    for seed in range(8):
        panel = random_market(100 + seed, sessions=80, symbols=4)
        sweep = Sweep(Ground(panel, COSTS, 50_000.0))
        strategies = [(k, kind(window=k + 2)) for k in range(4)]
        sweep.run(strategies, workers=2)
        for number, strategy in strategies:
            result = backtest(decide(strategy, panel), COSTS, 50_000.0)
            assert sweep.done[number]["equity"] == result.simulation.equity[-1]


class Wrong(Strategy):
    """Leaves the range for one value of its parameter, raises for another."""

    size: int = param(1, 1, 3)

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        if self.size == 3:
            raise RuntimeError("three")
        return {"up": Signal(np.sign(sma(panel.close, 2)) * self.size)}


@pytest.mark.parametrize(("size", "said"), [(2, r"value 2 is outside \[-1, 1\]"), (3, "three")])
def test_what_a_strategy_does_wrong_is_said_as_anywhere(size: int, said: str) -> None:
    panel = random_market(1)
    sweep = Sweep(Ground(panel, COSTS, 1000.0))
    with pytest.raises((ValueError, RuntimeError, BadStrategy), match=said):
        sweep.run([(1, Wrong(size=1)), (2, Wrong(size=size))], workers=2)


def test_an_interrupted_sweep_keeps_what_is_done() -> None:
    kind = built_in("sma_cross")
    sweep = Sweep(Ground(random_market(3), COSTS, 50_000.0))
    strategies = plan(kind, axes(kind, {"fast": "2:30:1", "slow": "31:300:1"})).strategies

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep.run([*strategies] * 3, workers=2, tell=interrupt)
    kept = dict(sweep.done)
    assert kept
    assert threading.active_count() == 1
    sweep.run(strategies[: len(kept)], workers=2)
    assert all(sweep.done[number] == metrics for number, metrics in kept.items())


class Silent(Strategy):
    """Not sure of anything, but for its first combination."""

    sure: bool = param(True)

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        line = sma(panel.close, 3)
        away = np.where(np.isnan(line), np.nan, np.sign(line - panel.close))
        return {"away": Signal(away, 1.0 if self.sure else float("nan")), "line": Signal(-away, 0.5)}


class Frames(Strategy):
    """Asks indicators of what is no array."""

    window: int = param(3, 1, 50)

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        line = sma(np.asarray(sma(panel.raw.close.tolist(), self.window)), 2)  # type: ignore[arg-type]
        return {"line": Signal(np.where(np.isnan(line), np.nan, np.sign(line - panel.close)))}


class Endless(Strategy):
    """An expression of more steps than Python can go down."""

    window: int = param(3, 1, 5000)

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        total = panel.close * 0.0
        for _ in range(self.window):
            total = total + sma(panel.close, 2) * 0.01
        return {"up": Signal(np.where(np.isnan(total), np.nan, np.sign(total - panel.close)))}


KEPT: dict[Any, Any] = {}


class Keeps(Strategy):
    """Has a memory of its own."""

    window: int = param(3, 1, 50)

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        line = KEPT.setdefault((panel.symbols, len(panel.sessions), self.window), sma(panel.close, self.window))
        return {
            "line": Signal(line * 0.0 + 1.0),
            "kept": Signal(KEPT[panel.symbols, len(panel.sessions), self.window] * 0),
        }


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        (Silent, [{"sure": True}, {"sure": False}]),
        (Frames, [{"window": 3}, {"window": 5}]),
        (Endless, [{"window": 5}, {"window": 1200}, {"window": 6}]),
        (Keeps, [{"window": 3}, {"window": 4}]),
    ],
)
def test_odd_strategies_come_to_what_they_come_to_alone(kind: Any, params: list[dict[str, Any]]) -> None:
    panel = random_market(5, sessions=80, symbols=4)
    sweep = Sweep(Ground(panel, COSTS, 50_000.0))
    strategies = [(k, kind(**values)) for k, values in enumerate(params)]
    sweep.run(strategies, workers=2)
    for number, strategy in strategies:
        result = backtest(decide(strategy, panel), COSTS, 50_000.0)
        assert sweep.done[number]["equity"] == result.simulation.equity[-1]


class Monthly(Strategy):
    """Out of range on days on which nothing is decided, but for its first combination."""

    size: float = param(1.0, 0.0, 3.0)
    rebalance = "monthly"

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        decides = np.repeat(due(panel.sessions, "monthly")[:, None], len(panel.symbols), axis=1)
        return {"up": Signal(np.where(~decides & (sma(panel.returns, 1) > 0.03), self.size, 0.5))}


def test_a_signal_out_of_range_is_found_on_rows_too_that_do_not_decide() -> None:
    sweep = Sweep(Ground(random_market(5, sessions=80, symbols=4), COSTS, 50_000.0))
    with pytest.raises(ValueError, match=r"value 2 is outside \[-1, 1\]"):
        sweep.run([(0, Monthly()), (1, Monthly(size=2.0))], workers=1)
    assert list(sweep.done) == [0]


def test_a_panel_of_any_layout_is_played_and_one_without_a_row_is_refused() -> None:
    panel = random_market(0, 60, 6).only(["S01", "S03", "S04"])
    assert not panel.raw.close.flags.c_contiguous
    Ground(panel, COSTS, 10_000.0).replay(np.full(panel.shape, 0.2), 0.0)
    with pytest.raises(ValueError, match="start is 60, and the panel has 60 rows"):
        Ground(panel, COSTS, 10_000.0, start=60)


# Deferred arrays ------------------------------------------------------------------------------------------------------

OPERATIONS = {
    "add": lambda x, y: x + y,
    "with a number": lambda x, y: 3 - x * 2.5 / (y + 1),
    "negative": lambda x, y: -x + +1.0,
    "divide by zero": lambda x, y: x / (y - y),
    "compare": lambda x, y: np.where((x < y) | (x >= 4) & (y != x), x, -y),
    "turned": lambda x, y: np.where(2.0 - x > 0, 1, np.where(x == y, 0, -1)),
    "not": lambda x, y: np.where(~(x <= y), np.nan, 7.0),
    "logical": lambda x, y: np.where(np.logical_or(np.logical_not(x > 1), np.logical_and(x > 0, y > 0)), x, y),
    "extremes": lambda x, y: np.minimum(x, 2.0) + np.maximum(y, x) * np.abs(x),
    "sign": lambda x, y: np.sign(x) + np.sqrt(np.abs(y)) * np.where(np.isnan(x), 0.0, np.where(np.isfinite(y), 1, 2)),
    "zeros of both signs": lambda x, y: 1 / (x * 0.0) + 1 / (x * -0.0),
    "truths as numbers": lambda x, y: (x > y) * x + 1.0,
    "many": lambda x, y: sum((x - k) * (y + k) for k in range(12)),
    "functions": lambda x, y: np.clip(np.tanh(x), -0.5, 0.5) + np.cumsum(np.nan_to_num(y), axis=0) + x.sum() * 0,
    "an index": lambda x, y: x - x[0] + y[:, [0]] + len(x),
    "power": lambda x, y: np.abs(x) ** 0.5 + (x > 0).astype(float) + x.copy(),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_deferred_is_what_numpy_computes(name: str) -> None:
    rng = np.random.default_rng(5)
    for shape in ((40, 3), (700, 5)):
        one, other = rng.normal(0, 3, shape).round(1), rng.normal(0, 3, shape).round(1)
        one[rng.random(shape) < 0.1], other[rng.random(shape) < 0.1], one[3, 0] = NAN, 0.0, np.inf
        memo = Memo({"one": one, "other": other})
        identity = indicators.sma
        one[3, 0] = 5.0
        with remembering(memo):
            x, y = identity(one, 1), identity(other, 1)
            found: Any = OPERATIONS[name](x, y)
        expected = OPERATIONS[name](identity(one, 1), identity(other, 1))
        later = found.array if isinstance(found, Deferred) else found
        np.testing.assert_array_equal(later, expected)
        with remembering(memo):
            again: Any = OPERATIONS[name](identity(one, 1), identity(other, 1))
        if isinstance(again, Deferred):
            np.testing.assert_array_equal(computed([again])[0], expected)
            assert not again.is_computed


def test_a_deferred_array_shows_its_kind_and_cannot_be_written_to() -> None:
    one = np.arange(6.0).reshape(3, 2)
    with remembering(Memo({"one": one})):
        x: Any = sma(one, 1)
    assert (x.shape, x.ndim, x.dtype, len(x)) == ((3, 2), 2, np.float64, 3)
    assert ((x > 1).dtype, bool((x > -1).all()), [row.sum() for row in x]) == (np.bool_, True, [1.0, 5.0, 9.0])
    with pytest.raises(TypeError, match="cannot be written to"):
        x += 1
    with pytest.raises(TypeError, match="item assignment"):
        x[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(x)[0] = 1


def test_an_array_that_is_changed_after_its_use_was_used_as_it_was() -> None:
    one, mine = np.ones((3, 2)), np.full((3, 2), 5.0)
    with remembering(Memo({"one": one})):
        found: Any = sma(one, 1) + mine
    mine[:] = 0.0
    np.testing.assert_array_equal(computed([found])[0], np.full((3, 2), 6.0))


def test_what_nobody_has_a_name_for_is_never_taken_for_another() -> None:
    """Its address may be that of an array that is gone."""
    with remembering(Memo({"one": np.ones((3, 2))})):
        for value in range(50):
            found: Any = sma(np.full((3, 2), float(value)), 1)
            assert found[0, 0] == value


def test_the_memory_of_indicators_is_bounded() -> None:
    one = np.ones((100, 10))
    memo = Memo({"one": one}, most_bytes=5 * one.nbytes)
    with remembering(memo):
        for window in [1, 2, 3, 4, 5, 6, 7, 8, 1, 8]:
            sma(one, window)
    assert memo.computed == 9  # the first had made room; the eighth is still there
    assert len(memo._kept) == 5


def test_outside_of_a_sweep_an_indicator_is_an_array() -> None:
    assert type(sma(np.ones((3, 1)), 1)) is np.ndarray
