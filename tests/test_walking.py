"""Walk-forward: its windows by hand, what it chooses, that it never knows the future, and the command from outside."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markets import panel_of, random_market, weekdays
from prices import HEAD, fetch, ma, new_home, sessions, write

from marketagent import catalog, grid, sweeping, walking
from marketagent.backtest import Terms, backtest
from marketagent.catalog import Loaded
from marketagent.costs import Costs, parse
from marketagent.decision import decide
from marketagent.errors import NoData, UsageError
from marketagent.orders import FRACTIONAL
from marketagent.panel import Panel
from marketagent.robustness.walk import Fold, asked, edges_of, folds, stitched
from marketagent.scoring import View
from marketagent.signals import Signal
from marketagent.strategy import Opinions, Strategy, param

FREE = Costs(name="none")


class Follows(Strategy):
    """Goes with the last return (way 1) or against it (way -1); `idle` does nothing to it."""

    way: int = param(1, -1, 1)
    idle: int = param(0, 0, 3)
    long_only = False

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        return {"last": Signal(np.sign(np.nan_to_num(panel.returns)) * self.way)}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_home(tmp_path_factory.mktemp("walk"))


def walked(home: Path, kind: type[Strategy], panel: Panel, text: str, costs: Costs = FREE, **texts: str) -> Any:
    loaded = Loaded("mine", Path("mine.py"), "h", "", kind)
    axes = grid.axes(kind, texts)
    return walking.walked(
        home, loaded, axes, partial(sweeping.planned, home, loaded, axes), panel, {}, View(),
        Terms(costs, 1e5, steps=FRACTIONAL), asked(text, 1, 0), first=None,
    )  # fmt: skip


def autocorrelated(seed: int, bars: int, strength: Any) -> Panel:
    """Prices whose next return has a part of the last one in it; they open where they closed."""
    rng = np.random.default_rng(seed)
    returns, part = rng.normal(0, 0.01, bars), np.broadcast_to(strength, bars)
    for t in range(1, bars):
        returns[t] += part[t] * returns[t - 1]
    close = 100 * np.cumprod(1 + returns)
    return panel_of(close, opens=np.concatenate([[100.0], close[:-1]]))


# Windows --------------------------------------------------------------------------------------------------------------


def test_windows_in_sessions_by_hand() -> None:
    days = weekdays(14)
    found = folds(days, 2, asked("5d/3d", 1, 0))
    assert found == [
        Fold(((2, 6),), (7, 10)),  # row 6 is purged
        Fold(((5, 9),), (10, 13)),
        Fold(((8, 12),), (13, 14)),  # what is left
    ]
    assert edges_of(found, 2, 14).tolist() == [0, 3, 4, 5, 6, 7, 8, 10, 11, 12]
    blocks = found[1].blocks(edges_of(found, 2, 14), 2)
    assert blocks.tolist() == [False, True, True, True, True, False, False, False, False]


def test_an_embargo_keeps_the_sessions_after_a_test_out_of_later_training() -> None:
    found = folds(weekdays(20), 0, asked("8d/3d", 0, 1))
    # tests are 8..10, 11..13, 14..16, 17..19; row 11 follows the first, 14 the second
    assert [fold.train for fold in found] == [((0, 8),), ((3, 11),), ((6, 11), (12, 14)), ((9, 11), (12, 14), (15, 17))]


def test_windows_of_the_calendar_begin_on_the_same_day_of_the_year() -> None:
    days = np.array(sessions("2014-01-02", "2017-12-29"), dtype="datetime64[D]")
    found = folds(days, 0, asked("2y/6m", 1, 0))
    spans = [
        tuple(str(days[row]) for row in (f.train[0][0], f.train[-1][1] - 1, f.test[0], f.test[1] - 1)) for f in found
    ]
    assert spans[0] == ("2014-01-02", "2015-12-30", "2016-01-04", "2016-07-01")
    assert spans[1] == ("2014-07-02", "2016-06-30", "2016-07-05", "2016-12-30")
    assert [span[2] for span in spans] == ["2016-01-04", "2016-07-05", "2017-01-03", "2017-07-03"]
    tested = [row for fold in found for row in range(*fold.test)]
    assert tested == list(range(found[0].test[0], len(days)))  # every session once


def test_windows_of_a_panel_within_the_day_are_whole_sessions() -> None:
    days = np.repeat(weekdays(8), 3)
    assert folds(days, 0, asked("4d/3d", 1, 0)) == [Fold(((0, 9),), (12, 21)), Fold(((9, 18),), (21, 24))]


@pytest.mark.parametrize("text", ["3y", "3y/", "0y/1y", "3y/1w", "3y/1y/1y", "-3y/1y", "3 y/1y", "y/y"])
def test_what_is_no_walk_forward_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not TRAIN/TEST, e\.g\. 3y/1y"):
        asked(text, 1, 0)


def test_a_history_that_leaves_nothing_to_judge_is_no_data() -> None:
    for text in ("20d/5d", "1m/1m"):
        with pytest.raises(NoData, match="trains on all 20 sessions from 2013-01-02 to 2013-01-29"):
            folds(weekdays(20), 0, asked(text, 1, 0))
    with pytest.raises(UsageError, match="--purge 4 and --embargo 0 leave 1 sessions"):
        folds(weekdays(20), 0, asked("5d/5d", 4, 0))


# What it chooses ------------------------------------------------------------------------------------------------------


def test_what_worked_in_training_is_chosen_and_pays_in_the_test(home: Path) -> None:
    found = walked(home, Follows, autocorrelated(1, 1500, 0.3), "250d/125d", way="-1,1")
    result = backtest(found.decisions, FREE, 1e5, start=found.start, steps=1e6)
    assert len(found.folds) == 10
    assert [found.swept.plan.strategies[number][1].way for number in found.chosen] == [1] * 10
    assert result.metrics["sharpe"] is not None
    assert result.metrics["sharpe"] > 2


def test_the_choice_follows_a_market_that_turns(home: Path) -> None:
    turning = np.where(np.arange(1500) < 750, 0.4, -0.4)
    found = walked(home, Follows, autocorrelated(2, 1500, turning), "100d/50d", way="-1,1")
    ways = [found.swept.plan.strategies[number][1].way for number in found.chosen]
    first = [fold.test[0] for fold in found.folds]
    assert all(way == 1 for way, row in zip(ways, first, strict=True) if row <= 750)
    assert all(way == -1 for way, row in zip(ways, first, strict=True) if row >= 860)


def test_on_noise_what_is_best_in_training_is_worth_nothing_in_the_test(home: Path) -> None:
    inside, outside = [], []
    for seed in range(12):
        found = walked(home, Follows, autocorrelated(100 + seed, 1000, 0.0), "125d/125d", way="-1,1")
        result = backtest(found.decisions, FREE, 1e5, start=found.start, steps=1e6)
        inside.append(np.mean(found.sharpes) * 252**0.5)
        outside.append(result.metrics["sharpe"])
    assert np.mean(inside) > 0.6
    assert abs(np.mean(outside)) < 0.6


def test_training_is_measured_on_the_returns_of_an_account_that_trades_from_the_start(home: Path) -> None:
    panel = random_market(5, 120, 3)
    costs = parse("ibkr-fixed", slippage_bps=5)
    kind = catalog.load("sma_cross", Path("/nonexistent")).kind
    found = walked(home, kind, panel, "40d/20d", costs, fast="2:4", slow="6:10:2")
    for fold, number, sharpe in zip(found.folds, found.chosen, found.sharpes, strict=True):
        returns = {}
        for k, strategy in found.swept.plan.strategies:
            run = backtest(decide(strategy, panel), costs, 1e5, steps=1e6)
            [(first, last)] = fold.train
            path = run.returns[first:last]
            returns[k] = path.mean() / path.std(ddof=1) if path.std() else -np.inf
        assert sharpe == pytest.approx(returns[number], rel=1e-6)
        assert sharpe == pytest.approx(max(returns.values()), rel=1e-6)


# The decisions --------------------------------------------------------------------------------------------------------


def test_an_account_moves_to_what_the_next_combination_holds_where_it_changes(home: Path) -> None:
    panel = panel_of(np.full((10, 2), 50.0))

    def decided(number: int) -> Any:
        made = decide(Follows(), panel)
        targets = np.full(panel.shape, np.nan)
        targets[1] = [0.5, np.nan] if number == 0 else [np.nan, 0.25]
        return type(made)(**{**vars(made), "targets": targets})

    rows = [Fold(((0, 2),), (4, 6)), Fold(((0, 4),), (6, 8)), Fold(((0, 6),), (8, 10))]
    found = stitched(panel, rows, [0, 0, 1], decided)
    expected = np.full((10, 2), np.nan)
    expected[4], expected[8] = [0.5, 0.0], [0.0, 0.25]
    np.testing.assert_array_equal(found.targets, expected)
    assert found.due[[4, 8]].all()


@pytest.mark.parametrize("name", ["sma_cross", "momentum", "mean_reversion"])
def test_what_it_decides_does_not_change_when_what_comes_later_does(home: Path, name: str) -> None:
    kind = catalog.load(name, Path("/nonexistent")).kind
    texts = {"sma_cross": {"fast": "2:4", "slow": "5,9"}, "momentum": {"lookback": "20,25", "skip": "0,3"},
             "mean_reversion": {"low": "30,45", "trend": "5,12"}}[name]  # fmt: skip
    costs = parse("ibkr-tiered", slippage="sqrt:0.1")
    panel = random_market(7, 220, 5)
    whole = walked(home, kind, panel, "60d/25d", costs, **texts)
    for seed, row in enumerate((61, 85, 100, 130, 170, 209)):
        rng = np.random.default_rng(seed)
        after = panel.head(len(panel.sessions))
        raw = {field: values.copy() for field, values in vars(panel.raw).items()}
        for values in raw.values():
            values[row + 1 :] *= rng.uniform(0.5, 2.0, values[row + 1 :].shape)
        noised = type(after)(
            **{**{f: getattr(after, f) for f in after.__dataclass_fields__}, "raw": type(panel.raw)(**raw)}
        )
        found = walked(home, kind, noised, "60d/25d", costs, **texts)
        np.testing.assert_array_equal(found.decisions.targets[: row + 1], whole.decisions.targets[: row + 1])


# The grid that nobody gives -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(catalog.files(Path("/nonexistent"))))
def test_the_grid_of_a_strategy_is_small_in_range_and_has_its_defaults(name: str) -> None:
    kind = catalog.load(name, Path("/nonexistent")).kind
    axes = grid.declared(kind, [])
    assert [axis.name for axis in axes] == kind.own()
    assert np.prod([len(axis.values) for axis in axes]) <= grid.FEW
    for axis in axes:
        assert kind.described()[axis.name]["default"] in axis.values
        assert len(axis.values) > 1
        assert all(kind.value_of(axis.name, str(value)) == value for value in axis.values)
    assert axes == grid.declared(kind, [])


def test_the_values_of_such_a_grid_lie_on_the_way_to_both_ends() -> None:
    kind = catalog.load("sma_cross", Path("/nonexistent")).kind
    assert [axis.values for axis in grid.declared(kind, ["slow"])] == [(2, 4, 10, 20, 45, 100, 220)]
    assert grid.declared(kind, ["slow", "fast"]) == []


def test_a_window_is_credited_with_what_its_own_decisions_earned(home: Path) -> None:
    # It falls by a tenth on the first session of the second window: what was held over that night was decided in the first.
    panel = autocorrelated(3, 121, 0.0)
    close = panel.raw.close.copy()
    close[80:] *= 0.9
    panel = panel_of(close, opens=np.vstack([close[:1], close[:-1]]))
    walk = walked(home, Follows, panel, "40d/40d", way="-1,1", idle="0")
    result = backtest(walk.decisions, FREE, 1e5, start=walk.start, steps=FRACTIONAL)
    records = walk.records("r", result)
    assert [record.first for record in records] == [str(panel.days[row]) for row in (40, 80, 120)]
    first, second, third = (record.total_return for record in records)
    assert first == pytest.approx(np.prod(1 + result.returns[:41]) - 1)
    assert second == pytest.approx(np.prod(1 + result.returns[41:]) - 1)
    assert (third, records[2].sharpe) == (None, None)  # it decided on the last session: nothing is known of it


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("walked")
    home, rng = new_home(folder), np.random.default_rng(3)
    days = sessions("2012-01-03", "2013-12-31")
    rows = ""
    for symbol in ("AAA", "BBB"):
        closes = 100 * np.exp(np.cumsum(rng.normal(0.0003, 0.02, len(days)))).round(2)
        rows += "".join(f"{symbol},{day},{c},{c + 1},{c - 1},{c},1000\n" for day, c in zip(days, closes, strict=True))
    fetch(home, write(folder / "p.csv", HEAD + rows))
    return home


def lines(done: Any) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_walk_forward_is_a_backtest_out_of_sample_with_a_record_a_window(stocked: Path) -> None:
    words = ["backtest", "-s", "sma_cross", "--walk-forward", "6m/3m", "--set", "fast=2:8:2", "--set", "slow=9,21"]
    done = ma(stocked, *words)
    _, run, *windows, end = lines(done)
    assert (run["kind"], run["judged"], end["n"]) == ("backtest", "out of sample", 7)
    assert run["walk_forward"] | {"in_sample_sharpe": 0, "efficiency": 0} == {
        "lengths": "6m/3m", "purge": 1, "embargo": 0, "folds": 6, "combinations": 8,
        "grid": {"fast": [2, 4, 6, 8], "slow": [9, 21]}, "in_sample_sharpe": 0, "efficiency": 0,
    }  # fmt: skip
    assert "fast" not in run["params"]
    assert {window["judged"] for window in windows} == {"out of sample"}
    assert (windows[0]["first"], windows[-1]["last"]) == (run["first"], run["last"]) == ("2012-07-03", "2013-12-31")
    assert np.prod([1 + window["total_return"] for window in windows]) - 1 == pytest.approx(
        run["metrics"]["total_return"]
    )
    assert run["luck"]["trials"] == 1  # none of the eight combinations: they were chosen from before each window
    assert run["luck"]["deflated_sharpe"] == run["luck"]["probabilistic_sharpe"]
    kept = ma(stocked, "sql", "select fold, params, sharpe from folds order by fold")
    assert len(lines(kept)) == 8
    told = " ".join(ma(stocked, *words, "--format", "table").stdout.split())
    assert "6m/3m, purge 1, embargo 0: 6 windows, the best of 8 combinations (4 fast x 2 slow) in each" in told
    assert "out of sample, the only walk-forward of this strategy here; a true sharpe" in told
    assert len(ma(stocked, *words, "--format", "csv").stdout.splitlines()) == 2


def test_a_walk_forward_is_judged_among_walk_forwards_and_a_backtest_among_all_that_was_tried(stocked: Path) -> None:
    def luck(*words: str, strategy: str = "sma_cross") -> dict[str, Any]:
        run = next(
            one for one in lines(ma(stocked, "backtest", "AAA", "-s", strategy, *words)) if one["kind"] == "backtest"
        )
        return dict(run["luck"])

    swept = ["--set", "fast=2:8:2", "--set", "slow=9,21"]
    assert luck("--set", "fast=9")["trials"] == 1
    first = luck("--walk-forward", "6m/3m", *swept)
    assert first["trials"] == 1
    second = luck("--walk-forward", "6m/6m", *swept)
    assert second["trials"] == 2
    assert 1 < second["effective_trials"] < 2.1
    assert luck("--walk-forward", "6m/3m", *swept)["trials"] == 2  # again
    # a backtest of before, what the refits chose from, two walk-forwards, and itself
    assert luck("--set", "fast=10")["trials"] == 1 + 8 + 2 + 1
    # with nothing to choose, it is judged among all: its only combination from the first session on, and itself
    assert luck("--walk-forward", "6m/3m", strategy="buy_and_hold")["trials"] == 2
    told = " ".join(
        ma(
            stocked, "backtest", "AAA", "-s", "sma_cross", "--walk-forward", "6m/6m", *swept, "--format", "table"
        ).stdout.split()
    )
    assert "out of sample, one of 2 walk-forwards of this strategy here, worth" in told


def test_with_nothing_to_choose_it_is_the_backtest_from_the_first_test_on(stocked: Path) -> None:
    done = ma(stocked, "backtest", "-s", "buy_and_hold", "--walk-forward", "100d/50d", "--purge", "0")
    assert "refits nothing: the strategy has no parameters of its own" in done.stderr
    walk = lines(done)[1]
    plain = lines(ma(stocked, "backtest", "-s", "buy_and_hold", "--from", walk["first"]))[1]
    assert (walk["equity"], walk["metrics"], walk["first"]) == (plain["equity"], plain["metrics"], plain["first"])


@pytest.mark.parametrize(("words", "code", "said"), [
    (["--walk-forward", "3x/1y"], 2, "--walk-forward '3x/1y' is not TRAIN/TEST"),
    (["--walk-forward", "30y/1y"], 66, "trains on all"),
    (["--purge", "3"], 2, "--purge is of --walk-forward"),
    (["--embargo", "3"], 2, "--embargo is of --walk-forward"),
    (["--walk-forward", "100d/50d", "--purge", "-1"], 2, "--purge"),
    (["--walk-forward", "20d/1d", "--set", "fast=1:450", "--set", "slow=451:999"], 2, "windows, too many for 247,050"),
    (["--walk-forward", "100d/50d", "--set", "band=0.1,0.2"], 2, "--set band has several values"),
])  # fmt: skip
def test_what_makes_no_walk_forward_is_one_line(stocked: Path, words: list[str], code: int, said: str) -> None:
    done = ma(stocked, "backtest", "-s", "sma_cross", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
