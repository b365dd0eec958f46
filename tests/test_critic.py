"""The critic: a clean run says nothing, and each rule has a run that it alone, or it first, has something against."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from markets import panel_of, random_market
from test_costing import ma

from marketagent import critic, init
from marketagent.attribution import profit_by_symbol
from marketagent.backtest import Backtest, backtest
from marketagent.costs import Costs, parse
from marketagent.critic import Scene, findings
from marketagent.decision import decide
from marketagent.luck import Moments
from marketagent.luckiest import WORLDS
from marketagent.panel import Array, Panel
from marketagent.signals import Signal
from marketagent.store.trials import Trial, nearby, record, record_one
from marketagent.strategy import Opinions, Strategy

NAN = np.nan
NOW = datetime(2026, 11, 24, 21, 0, tzinfo=UTC)
CASH = 100_000.0
FIXED = parse("ibkr-fixed")
LENGTH, WIDTH = 600, 8


class Told(Strategy):
    """Does what the test says."""

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        return dict(opinions)


def market(seed: int = 7) -> Panel:
    """Eight symbols over 600 sessions that rise a little and swing a lot; bars with a range, and volume for everybody."""
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(rng.normal(0.0012, 0.012, (LENGTH, WIDTH)), axis=0))
    opened = close * np.exp(rng.normal(0, 0.002, close.shape))
    panel = panel_of(np.round(close, 4), opens=np.round(opened, 4))
    raw = replace(panel.raw, high=panel.raw.high * 1.001, volume=np.full(close.shape, 1e6))
    return replace(panel, raw=raw)


def rotation() -> Array:
    """Four of the eight are held at any time, and each for 40 sessions: 4 groups take turns."""
    turn = np.arange(LENGTH)[:, None] // 20
    return np.where((turn + np.arange(WIDTH)) % 4 < 2, 1.0, -1.0)


def run_of(panel: Panel, value: Array, costs: Costs | None = None, cash: float = CASH, start: int = 0) -> Backtest:
    decisions = decide(Told(), panel, {"told": Signal(value)})
    return backtest(decisions, costs or FIXED, cash, start=start)


def codes(scene: Scene) -> list[str]:
    return [found.code for found in findings(scene)]


def test_a_clean_run_has_no_findings() -> None:
    result = run_of(market(), rotation())
    assert result.metrics["trades"] is not None
    assert result.metrics["trades"] > 50
    assert result.simulation.equity[-1] > CASH
    own = float(np.mean(result.returns) / np.std(result.returns, ddof=1))
    assert findings(Scene(result, CASH, neighbours=[0.9 * own, own, 0.8 * own])) == []


def test_a_clean_run_from_later_on_has_none_either() -> None:
    assert codes(Scene(run_of(market(), rotation(), start=50), CASH)) == []


def few_trades() -> Scene:
    value = np.full((LENGTH, WIDTH), NAN)
    value[::200], value[100::200] = 1.0, -1.0
    return Scene(run_of(market(), value), CASH)


def one_name() -> Scene:
    panel = market()
    growing = panel.raw.close[:, :1] * np.exp(0.004 * np.arange(LENGTH))[:, None]
    close = np.hstack([growing, panel.raw.close[:, 1:]])
    panel = replace(
        panel, raw=replace(panel.raw, close=close, open=close * 1.001, high=close * 1.002, low=close * 0.999)
    )
    return Scene(run_of(panel, rotation()), CASH)


def one_day() -> Scene:
    panel = market(3)
    jump = np.where(np.arange(LENGTH) >= 300, 1.6, 1.0)[:, None]
    raw = replace(panel.raw, **{name: getattr(panel.raw, name) * jump for name in ("open", "high", "low", "close")})
    return Scene(run_of(replace(panel, raw=raw), rotation()), CASH)


def flat_stretch() -> Scene:
    panel = market()
    back = np.exp(np.clip(np.arange(LENGTH) - 150, 0, 40) * np.log(0.35) / 40)[:, None]
    raw = replace(panel.raw, **{name: getattr(panel.raw, name) * back for name in ("open", "high", "low", "close")})
    return Scene(run_of(replace(panel, raw=raw), rotation()), CASH)


def idle() -> Scene:
    value = rotation()
    value[200:400] = -1.0
    return Scene(run_of(market(5), value), CASH)


def stale_fills() -> Scene:
    panel = market()
    volume = panel.raw.volume.copy()
    volume[100::3] = 0
    return Scene(run_of(replace(panel, raw=replace(panel.raw, volume=volume)), rotation()), CASH)


def repeated_bars() -> Scene:
    panel, before = market(), market().raw.close
    still = np.zeros(panel.shape, dtype=bool)
    still[21::40] = True  # the session after a turn, on which it is filled
    raw = {name: np.where(still, np.roll(before, 1, axis=0), getattr(panel.raw, name)) for name in vars(panel.raw)}
    return Scene(
        run_of(replace(panel, raw=replace(panel.raw, **{**raw, "volume": panel.raw.volume})), rotation()), CASH
    )


def large_fills() -> Scene:
    return Scene(run_of(market(), rotation(), cash=200e6), 200e6)


def unrepeatable() -> Scene:
    result = run_of(market(), rotation())
    return Scene(result, CASH, swept=float(result.simulation.equity[-1]) * 1.25)


def parameter_spike() -> Scene:
    result = run_of(market(), rotation())
    own = float(np.mean(result.returns) / np.std(result.returns, ddof=1))
    return Scene(result, CASH, neighbours=[0.3 * own, -own, 0.45 * own])


def price_jumps() -> Scene:
    panel = market(5)
    half = np.where((np.arange(LENGTH) >= 30)[:, None] & (np.arange(WIDTH) == 0), 0.5, 1.0)  # a split that nobody told
    raw = replace(panel.raw, **{name: getattr(panel.raw, name) * half for name in ("open", "high", "low", "close")})
    return Scene(run_of(replace(panel, raw=raw), rotation()), CASH)


def data_gaps() -> Scene:
    panel = market()
    raw = {name: getattr(panel.raw, name).copy() for name in vars(panel.raw)}
    for values in raw.values():
        values[300:315, 2] = NAN
    return Scene(run_of(replace(panel, raw=replace(panel.raw, **raw)), rotation()), CASH)


def benchmark_gaps() -> Scene:
    panel = market()
    beside = panel.close[:, 0].copy()
    beside[:10], beside[300:303], beside[-2:] = NAN, NAN, NAN
    return Scene(backtest(decide(Told(), panel, {"told": Signal(rotation())}), FIXED, CASH, benchmark=beside), CASH)


def quarantined() -> Scene:
    return Scene(run_of(market(), rotation()), CASH, refused={"S01": {40: "low 0 is not above 0"}})


def survivorship() -> Scene:
    panel, wide = market(), 100
    raw = replace(panel.raw, **{name: np.tile(getattr(panel.raw, name), (1, wide)) for name in vars(panel.raw)})
    names = tuple(f"S{n:03}" for n in range(WIDTH * wide))
    actions = {"split": np.tile(panel.split, (1, wide)), "dividend": np.tile(panel.dividend, (1, wide))}
    many = replace(panel, symbols=names, raw=raw, **actions)
    return Scene(run_of(many, np.tile(rotation(), (1, wide)), cash=50e6), 50e6)


def contaminated() -> Scene:
    return Scene(run_of(market(), rotation()), CASH, contaminated={"told": 3, "unused": 9})


def profit(scene: Scene) -> float:
    return float(scene.result.simulation.equity[-1]) - scene.cash


def shares_of_volume(scene: Scene) -> Array:
    events, volume = scene.result.simulation.events, scene.result.decisions.panel.raw.volume
    return np.abs(events.quantity) / volume[events.row, events.column]


def closes(scene: Scene) -> Array:
    return scene.result.decisions.panel.raw.close


# The scene, what is said of it, and the number, worked out in another way than the rule does.
CASES: dict[str, tuple[Callable[[], Scene], str, Callable[[Scene], float]]] = {
    "few_trades": (few_trades, "24 round trips ended", lambda _: 3 * WIDTH),
    "one_name": (one_name, "S00 alone made", lambda s: profit_by_symbol(s.result)[0] / profit(s)),
    "one_day": (one_day, "2014-02-26 alone made", lambda s: np.diff(s.result.simulation.equity).max() / profit(s)),
    "flat_stretch": (flat_stretch, "no new high of the equity for 456 of 600", lambda _: 456 / 600),
    "idle": (idle, "no position for 200 of 600 sessions", lambda _: 200 / 600),
    "stale_fills": (
        stale_fills,
        "at a price that nobody may have traded at",
        lambda s: np.isinf(shares_of_volume(s)).mean(),
    ),
    "large_fills": (large_fills, "more than 5% of a day's volume", lambda s: shares_of_volume(s).max()),
    "unrepeatable": (unrepeatable, "when it was run again", lambda _: 0.25),
    "parameter_spike": (parameter_spike, "3 trials with parameters nearby had 30% of its sharpe", lambda _: 0.3),
    "price_jumps": (
        price_jumps,
        "1 close of a held symbol is far from the one before",
        lambda s: closes(s)[30, 0] / closes(s)[29, 0],
    ),
    "data_gaps": (
        data_gaps,
        "1 of 8 symbols lack more than 2% of their sessions; S02 lacks 15 of 600",
        lambda _: 15 / 600,
    ),
    "benchmark_gaps": (benchmark_gaps, "the benchmark has no bar on 15 of 600 sessions", lambda _: 15 / 600),
    "quarantined": (quarantined, "1 bar was refused and is missing", lambda _: 1),
    "survivorship": (
        survivorship,
        "all 800 symbols still trade after 2.4 years, where at least 38 would be gone",
        lambda _: 0.98 ** (800 * 600 / 252),
    ),
    "contaminated": (contaminated, "3 stored opinions may have known what came after", lambda _: 3),
}


@pytest.mark.parametrize("code", CASES)
def test_each_rule_has_a_run_that_it_speaks_up_on_with_its_number(code: str) -> None:
    build, text, number = CASES[code]
    scene = build()
    with np.errstate(divide="ignore"):  # a fill on no volume is infinitely much of it
        expected = number(scene)
    found = {finding.code: finding for finding in findings(scene)}
    assert list(found) == [code]
    assert text in found[code].text
    assert found[code].number == pytest.approx(expected, rel=1e-9)
    quiet = Scene(scene.result, scene.cash)
    assert code in codes(quiet) or code in ("parameter_spike", "unrepeatable", "quarantined", "contaminated")


def test_every_rule_is_tried() -> None:
    assert set(CASES) == {rule.__name__ for rule in critic.RULES}


def test_symbols_that_were_listed_lately_have_not_survived_for_long() -> None:
    panel, many = market(), 25
    young = np.arange(LENGTH)[:, None] < LENGTH - 20
    raw = {
        name: np.hstack([values, *[np.where(young, NAN, values)] * many])
        for name, values in ((name, getattr(panel.raw, name)) for name in vars(panel.raw))
    }
    wide = (1, many + 1)
    late = replace(
        panel,
        symbols=tuple(f"S{n:03}" for n in range(WIDTH * (many + 1))),
        raw=replace(panel.raw, **raw),
        split=np.tile(panel.split, wide),
        dividend=np.tile(panel.dividend, wide),
    )
    result = run_of(late, np.where(late.has_bar, np.tile(rotation(), wide), NAN), cash=10e6)
    assert "survivorship" not in codes(Scene(result, 10e6))  # 8 for two years and 200 for a month: 35 years


@pytest.mark.parametrize(("gone", "speaks"), [(2, True), (60, False)])
def test_two_of_hundreds_that_are_gone_do_not_silence_the_survivors(gone: int, speaks: bool) -> None:
    scene = survivorship()
    panel = scene.result.decisions.panel
    values = {name: getattr(panel.raw, name).copy() for name in vars(panel.raw)}
    for each in values.values():
        each[300:, :gone] = NAN
    dying = replace(panel, raw=replace(panel.raw, **values))
    value = np.where(dying.has_bar, np.tile(rotation(), (1, 100)), NAN)
    told = {found.code: found.text for found in findings(Scene(run_of(dying, value, cash=50e6), 50e6))}
    assert ("survivorship" in told) == speaks
    assert not speaks or "only 2 of 800 symbols are gone after 2.4 years, where at least 38" in told["survivorship"]


def test_a_jump_is_none_where_a_split_explains_it_or_nobody_held_the_symbol() -> None:
    scene = price_jumps()
    panel = scene.result.decisions.panel
    split = panel.split.copy()
    split[30, 0] = 2.0
    assert "price_jumps" not in codes(Scene(run_of(replace(panel, split=split), rotation()), CASH))
    alone = rotation()
    alone[:, 0] = -1.0
    assert "price_jumps" not in codes(Scene(run_of(panel, alone), CASH))


def test_a_sweeps_best_that_comes_to_the_same_again_is_not_doubted() -> None:
    result = run_of(market(), rotation())
    equity = float(result.simulation.equity[-1])
    assert codes(Scene(result, CASH, swept=equity)) == codes(Scene(result, CASH, swept=equity * (1 + 1e-10))) == []


def test_the_neighbours_of_a_sweeps_best_are_those_of_its_grid() -> None:
    result = run_of(market(), rotation())
    assert codes(Scene(result, CASH, plateau=0.4)) == ["parameter_spike"]
    assert codes(Scene(result, CASH, neighbours=[0.0, 0.0, 0.0], plateau=0.9)) == []


def test_a_fill_at_a_bar_that_repeats_the_close_before_is_stale() -> None:
    scene = repeated_bars()
    assert "stale_fills" in codes(scene)
    decisions = scene.result.decisions
    within = replace(decisions, panel=replace(decisions.panel, timeframe="1m"))  # as if its rows were minutes
    assert "stale_fills" not in codes(replace(scene, result=replace(scene.result, decisions=within)))


@pytest.mark.parametrize("seed", range(40))
def test_what_the_symbols_made_adds_up_to_the_profit(seed: int) -> None:
    panel = random_market(seed)
    rng = np.random.default_rng(seed)
    value = np.where(rng.random(panel.shape) < 0.3, rng.uniform(-1, 1, panel.shape), NAN)
    decisions = decide(Told(long_only=False), panel, {"told": Signal(value)})
    result = backtest(decisions, parse("ibkr-fixed", slippage_bps=5, borrow_rate=0.03, margin_rate=0.05), CASH)
    profit = result.simulation.equity[-1] - CASH
    assert profit_by_symbol(result).sum() - result.simulation.lent.sum() == pytest.approx(profit, rel=1e-9, abs=1e-6)


def test_nothing_can_be_said_of_a_run_without_a_trade() -> None:
    assert codes(Scene(run_of(market(), np.full((LENGTH, WIDTH), NAN)), CASH)) == ["few_trades"]


def trial(params: dict[str, object], sharpe: float, first: str = "2013-01-02") -> Trial:
    return Trial(
        run="r",
        strategy="sma_cross",
        strategy_hash="h",
        params=params,
        symbols=["AAA"],
        timeframe="1d",
        first=first,
        last="2014-12-31",
        moments=Moments(500, sharpe, 1.0, 0.0, 3.0),
    )


def test_neighbours_are_trials_on_the_same_sessions_whose_numbers_differ_by_a_quarter_at_most(tmp_path: Path) -> None:
    home, own = tmp_path, {"fast": 20, "slow": 100, "sizing": "equal", "long_only": True}
    init.init(home, NOW)
    others = [
        trial({**own, "fast": 25}, 0.01),
        trial({**own, "slow": 75, "fast": 15}, 0.02),
        trial({**own, "fast": 26}, 0.3),
        trial({**own, "sizing": "score"}, 0.4),
        trial({**own, "long_only": False}, 0.5),
        trial({**own, "fast": 21}, 0.6, first="2013-01-03"),
    ]
    record(home, others, np.zeros(WORLDS), NOW, timeout_s=5)
    family, neighbours = record_one(home, trial(own, 0.05), np.zeros(WORLDS), NOW, timeout_s=5)
    assert family.trials == 7
    assert sorted(neighbours) == sorted(nearby(home, trial(own, 0.05), timeout_s=5)) == [0.01, 0.02]
    next_week = replace(trial(own, 0.05), last="2015-01-07", moments=Moments(504, 0.05, 1.0, 0.0, 3.0))
    assert sorted(nearby(home, next_week, timeout_s=5)) == [0.01, 0.02]  # the sweep of last week is still about it
    grown = replace(trial({**own, "fast": 25}, 0.03), last="2015-01-07", moments=Moments(504, 0.03, 1.0, 0.0, 3.0))
    record(home, [grown], np.zeros(WORLDS), NOW, timeout_s=5)
    assert sorted(nearby(home, next_week, timeout_s=5)) == [0.02, 0.03]
    next_year = replace(trial(own, 0.05), last="2015-12-31", moments=Moments(750, 0.05, 1.0, 0.0, 3.0))
    assert nearby(home, next_year, timeout_s=5) == []


def test_a_backtest_prints_and_keeps_what_is_to_be_said_against_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    ma(home, "init")
    ma(home, "fetch", "--source", "sample", "AAPL")
    found = ma(home, "backtest", "--strategy", "buy_and_hold")["findings"]
    assert isinstance(found, list)
    assert found[0] == {
        "code": "few_trades",
        "text": "0 round trips ended; fewer than 30 say little",
        "number": 0.0,
        "limit": 30,
    }
