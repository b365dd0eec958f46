"""What every built-in strategy must keep: nothing it decides rests on later rows, on neighbours or on luck."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markets import halted_at_the_end, random_market
from numpy.testing import assert_array_equal

from marketagent.backtest import backtest
from marketagent.catalog import files, load
from marketagent.costs import parse
from marketagent.decision import Decisions, decide
from marketagent.errors import UsageError
from marketagent.panel import Panel, Raw
from marketagent.simulate import simulate
from marketagent.strategy import Strategy

NAMES = sorted(files(Path("nowhere")))
ROWS = 130
COSTS = parse("ibkr-fixed", slippage_bps=5)


def drawn(name: str, seed: int) -> Strategy:
    """The strategy with random parameters, windows short enough to say something within the test's markets."""
    kind = load(name, Path("nowhere")).kind
    rng = np.random.default_rng([seed, *name.encode()])
    for _ in range(100):
        values: dict[str, Any] = {key: one(rng, about) for key, about in kind.described().items()}
        try:
            return kind(**values)
        except UsageError:
            continue  # parameters that do not go together: draw again
    raise AssertionError(f"no parameters of {name} go together")


def one(rng: np.random.Generator, about: dict[str, Any]) -> Any:
    default = about["default"]
    if isinstance(default, bool):
        return bool(rng.random() < 0.5)
    if isinstance(default, str):
        return str(rng.choice(about["choices"]))
    if isinstance(default, int):
        return int(rng.integers(about["low"], max(about["low"] + 1, min(about["high"], 45))))
    # Thresholds and bands at random would silence most strategies: half of the time the author's are kept.
    return default if rng.random() < 0.5 else float(rng.uniform(about["low"], about["high"]))


def same_rows(short: Decisions, whole: Decisions, rows: int) -> None:
    assert list(short.signals) == list(whole.signals)
    for name, signal in short.signals.items():
        assert_array_equal(signal.value[:rows], whole.signals[name].value[:rows])
        assert_array_equal(signal.confidence[:rows], whole.signals[name].confidence[:rows])
    for part in ("score", "confidence", "action", "targets", "due"):
        assert_array_equal(getattr(short, part)[:rows], getattr(whole, part)[:rows])


def with_other_future(panel: Panel, other: Panel, rows: int) -> Panel:
    def joined(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        return np.concatenate([one[:rows], two[rows:]])

    raw = Raw(*(joined(getattr(panel.raw, f.name), getattr(other.raw, f.name)) for f in fields(Raw)))
    return replace(
        panel, raw=raw, split=joined(panel.split, other.split), dividend=joined(panel.dividend, other.dividend)
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_row_is_the_same_bit_for_bit_whatever_follows(name: str) -> None:
    acted = 0
    for seed in range(12):
        panel, strategy = random_market(seed, ROWS, 7, longest_halt=5), drawn(name, seed)
        whole = decide(strategy, panel)
        run = simulate(whole.targets, panel, COSTS, 100_000.0, band=strategy.band)
        acted += int((whole.action != 0).sum())
        for rows in (1, 2, 40, 77, ROWS - 1):
            short = decide(strategy, panel.head(rows))
            same_rows(short, whole, rows)
            noise = decide(strategy, with_other_future(panel, random_market(900 + seed, ROWS, 7), rows))
            same_rows(noise, whole, rows)
            if not halted_at_the_end(panel, rows):
                cut = simulate(short.targets, panel.head(rows), COSTS, 100_000.0, band=strategy.band)
                assert_array_equal(cut.equity, run.equity[:rows])
    assert acted > 500


@pytest.mark.parametrize("name", NAMES)
def test_values_are_in_range_and_weights_within_the_caps(name: str) -> None:
    for seed in range(20):
        panel, strategy = random_market(seed, ROWS, 7), drawn(name, seed)
        decisions = decide(strategy, panel)
        assert set(np.unique(decisions.action)) <= {-1, 0, 1}
        assert ((decisions.confidence >= 0) & (decisions.confidence <= 1)).all()
        known = decisions.score[np.isfinite(decisions.score)]
        assert ((known >= -1) & (known <= 1)).all()
        weights = np.nan_to_num(decisions.targets)
        assert np.abs(weights).max() <= strategy.max_weight
        assert np.abs(weights).sum(axis=1).max() <= strategy.gross * (1 + 1e-12)
        assert not strategy.long_only or weights.min() >= 0
        assert np.isnan(decisions.targets[~panel.has_bar]).all()
        assert np.isnan(decisions.targets[~decisions.due]).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_symbol_is_not_decided_on_before_its_warm_up(name: str) -> None:
    panel = random_market(3, 420, 5)
    strategy = load(name, Path("nowhere")).configured({})
    decisions = decide(strategy, panel)
    bars = np.cumsum(panel.has_bar, axis=0)
    assert (decisions.action[bars < strategy.warmup] == 0).all()
    assert (decisions.action != 0).any()


@pytest.mark.parametrize("name", NAMES)
def test_extreme_markets_raise_no_warning_and_give_no_infinity(name: str) -> None:
    strategy = load(name, Path("nowhere")).configured({})
    still, wild = random_market(1, 300, 4), random_market(2, 300, 4)
    close = np.full(still.shape, 7.0)
    close[:, 1] = 0.0001
    close[:, 2] = 10.0 ** (np.arange(300) % 9 - 3)
    close[:, 3] = np.nan
    raw = replace(still.raw, open=close, high=close, low=close, close=close)
    for panel in (replace(still, raw=raw), wild.head(1), wild.only([]), wild.only(["S01"])):
        decisions = decide(strategy, panel)
        assert not np.isinf(decisions.targets).any()
        assert np.isfinite(simulate(decisions.targets, panel, COSTS, 10_000.0, band=strategy.band).equity).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_file_says_its_source_and_every_parameter_its_meaning(name: str) -> None:
    loaded = load(name, Path("nowhere"))
    assert "\nSource" in loaded.file.read_text()
    assert loaded.summary
    for about in loaded.kind.described().values():
        assert about["help"]
        assert "low" in about or "choices" in about or isinstance(about["default"], bool)


def test_buy_and_hold_buys_once_and_holds() -> None:
    panel = random_market(8, 200, 5, longest_halt=2)
    decisions = decide(load("buy_and_hold", Path("nowhere")).configured({}), panel)
    result = backtest(decisions, parse("none"), 1e7)
    events = result.simulation.events
    fills = events.column[events.kind == 0]
    assert (events.quantity[events.kind == 0] > 0).all()
    assert len(fills) == len(set(fills.tolist()))


def test_momentum_ranks_equal_returns_equally() -> None:
    from marketagent.strategies.momentum import rank

    places = rank(np.array([[1.0, 3.0, 2.0, 3.0, np.nan], [5.0, np.nan, np.nan, np.nan, np.nan], [1, 1, 1, 1, 1]]))
    nan = np.nan
    # four values stand at 0, 1, 2.5 and 2.5 of 3; -1 + 2 * place / 3
    expected = [[-1, 2 / 3, -1 / 3, 2 / 3, nan], [nan] * 5, [0.0] * 5]
    np.testing.assert_allclose(places, expected, rtol=1e-15, atol=1e-15)
