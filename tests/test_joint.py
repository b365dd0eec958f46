"""Several markets swept with one trace of each combination: what comes out is what each comes to alone."""

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any, ClassVar

import numpy as np
import pytest
from markets import panel_of, random_market

from marketagent import catalog, indicators
from marketagent.costs import parse
from marketagent.decision import BadStrategy
from marketagent.formula import is_formula
from marketagent.grid import axes
from marketagent.indicators import ema, sma
from marketagent.joint import Joint, NoFormula
from marketagent.names import Parameter, named
from marketagent.panel import Array, Panel
from marketagent.replay import Ground
from marketagent.signals import Signal
from marketagent.strategy import Opinions, Strategy, param
from marketagent.sweep import Sweep, plan

COSTS = parse("ibkr-fixed", slippage_bps=5)
SWEPT: dict[str, dict[str, str]] = {
    "buy_and_hold": {"gross": "0.5:1:0.1"},
    "ensemble": {"fast": "3,5", "slow": "10", "lookback": "20", "window": "6,8"},
    "mean_reversion": {"trend": "12,20", "low": "30,40", "high": "60"},
    "momentum": {"lookback": "20,25", "skip": "2,3", "threshold": "0"},
    "sma_cross": {"fast": "2:6:1", "slow": "7:16:3"},
}


def markets(seed: int) -> list[Panel]:
    """Of one symbol and of several, long and short, with everything that happens to prices."""
    return [random_market(seed + k, sessions=60 + 17 * k, symbols=(1, 1, 3)[k % 3]) for k in range(5)]


def sweeps(panels: list[Panel], watch: Any = None) -> list[Sweep]:
    grounds = [Ground(panel, COSTS, 50_000.0, start=k % 3) for k, panel in enumerate(panels)]
    return [Sweep(ground, None, None if watch is None else watch(k)) for k, ground in enumerate(grounds)]


def alike(strategies: Any, seed: int = 0) -> Sweep:
    """Play the `strategies` together and alone, and hold the two equal; returns the first of those played together."""
    panels = markets(seed)
    together, alone = sweeps(panels), sweeps(panels)
    together[0].run(strategies, workers=2, beside=together[1:])
    for one, other in zip(together, alone, strict=True):
        other.run(strategies, workers=2)
        assert len(one.done) == len(strategies)
        assert dict(one.done) == dict(other.done)  # to the bit
    return together[0]


@pytest.mark.parametrize("name", SWEPT)
def test_every_built_in_strategy_comes_to_what_it_comes_to_alone(name: str) -> None:
    kind = catalog.load(name, Path("/nonexistent")).kind
    strategies = plan(kind, axes(kind, SWEPT[name])).strategies
    for seed in range(3):
        swept = alike(strategies, 10 * seed)
        assert (swept._joint is not None) == (name in ("mean_reversion", "sma_cross"))  # the others look at values


def test_an_indicator_is_computed_once_for_each_window_and_market(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = []

    def counted(name: Any, panel: Any) -> Any:
        windows.extend([name[1][1].value] if isinstance(name, tuple) else [])
        return named(name, panel)

    monkeypatch.setattr("marketagent.joint.named", counted)
    kind = catalog.load("sma_cross", Path("/nonexistent")).kind
    swept = sweeps(markets(3))
    swept[0].run(plan(kind, axes(kind, {"fast": "2:6:1", "slow": "7:16:1"})).strategies, workers=2, beside=swept[1:])
    assert sorted(windows) == sorted([*range(2, 7), *range(7, 17)] * 5)


class Nested(Strategy):
    """Indicators of indicators, named options, the prices as traded: all of it has names."""

    window: int = param(3, 2, 20)

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        line = ema(sma(panel.close, window=self.window), self.window + 1)
        dear = np.where(panel.raw.close > panel.raw.open, 0.5, -0.5)
        return {"line": Signal(np.where(np.isnan(line), np.nan, np.sign(panel.close - line))), "day": Signal(dear, 0.5)}


def test_a_formula_may_be_of_indicators_of_indicators() -> None:
    assert alike([(k, Nested(window=k + 2)) for k in range(6)])._joint is not None


class Turned(Strategy):
    """Parameters of all kinds, in indicators and in expressions."""

    window: int = param(3, 2, 20)
    edge: float = param(0.01, 0.0, 1.0)
    size: float = param(1.0, 0.0, 1.0)
    is_short: bool = param(False)
    long_only = False

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        line = sma(ema(panel.close, window=self.window), self.window)
        gap = panel.close / line - 1
        up = np.where(gap > self.edge, self.size, np.where(gap < -1 * gap * self.edge, 0.0, -0.5))
        return {
            "up": Signal(
                np.where(np.isnan(line), np.nan, np.where((gap < 0) & self.is_short, -self.size * (gap < 0), up))
            )
        }


class Plainly(Turned):
    """Without what a number cannot stand for."""

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        line = sma(ema(panel.close, window=self.window), self.window)
        gap = panel.close / line - 1
        up = np.where(gap > self.edge, self.size, np.where(gap * self.size < -0.01, 0.0, -0.5))
        return {"up": Signal(np.where(np.isnan(line), np.nan, np.where((gap < 0) & self.is_short, -1.0, up)))}


def test_a_formula_of_the_parameters_is_traced_once_for_all_combinations(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"window": "2:6", "edge": "0,0.02,1", "size": "0.5,1", "is_short": "false,true", "rebalance": "bar,weekly"}
    for kind, is_one in ((Plainly, True), (Turned, False)):
        swept = alike(plan(kind, axes(kind, texts)).strategies)
        assert swept._joint is not None
        assert (swept._template is not None) == is_one
    swept, *beside = sweeps(markets(1))
    strategies = plan(Plainly, axes(Plainly, texts)).strategies
    swept.run(strategies[:1], workers=1, beside=beside)
    monkeypatch.setattr("marketagent.joint.Joint.signals", None)  # nobody is asked once more, together or alone
    monkeypatch.setattr("marketagent.sweep.Sweep._alone", None)
    swept.run(strategies, workers=2, beside=beside)
    assert len(swept.done) == len(beside[-1].done) == len(strategies) == 120


def test_a_whole_number_given_for_another_is_that_number_where_all_combinations_are_one_formula() -> None:
    strategies = [(0, Plainly(size=1)), (1, Plainly(size=1.0)), (2, Plainly(edge=1))]
    assert alike(strategies)._template is not None


def test_strategies_of_several_classes_are_each_asked_for_what_is_their_own() -> None:
    alike([(k, (Plainly, Turned, Nested)[k % 3](window=2 + k)) for k in range(9)])


@pytest.mark.parametrize("use", [
    bool, hash, abs, float, int, lambda p: p == 3, lambda p: p != 3, lambda p: p < 3, lambda p: p + 1, lambda p: 2 * p,
    lambda p: [1, 2, 3, 4][p], lambda p: -p, lambda p: {p: 1}, lambda p: p in (1, 2), np.sign, np.sqrt, np.isnan,
    lambda p: np.maximum(p, 2), lambda p: np.where(p, 1.0, 2.0), lambda p: np.equal(p, 3), np.logical_not,
    lambda p: np.add(p, 1), lambda p: np.ones(5) * p, lambda p: np.minimum(np.ones(2), p), lambda p: np.asarray(p, float),
])  # fmt: skip
def test_a_parameter_that_stands_for_all_its_values_shows_none(use: Any) -> None:
    with pytest.raises(TypeError):
        use(Parameter("window", 3))


# Who looks gets no formula: what it does may depend on what it has seen. From the second combination on, so that nobody
# can find out by trying the first. ------------------------------------------------------------------------------------


def value(panel: Panel, average: Array) -> bool:
    return bool(average[-1, 0] > 30)


def any_value(panel: Panel, average: Array) -> bool:
    return bool(np.nanmax(average) > 500)


def a_price(panel: Panel, average: Array) -> bool:
    return bool(panel.close[-1, 0] > 30)


def a_price_as_traded(panel: Panel, average: Array) -> bool:
    return bool(panel.raw.volume[3].sum() > 3000)


def length(panel: Panel, average: Array) -> bool:
    return len(average) > 80


def shape(panel: Panel, average: Array) -> bool:
    return average.shape[1] == 1


def the_panel_s_shape(panel: Panel, average: Array) -> bool:
    return panel.shape[1] == 1


def symbols(panel: Panel, average: Array) -> bool:
    return len(panel.symbols) == 1


def sessions(panel: Panel, average: Array) -> bool:
    return len(panel.sessions) > 80


def bars(panel: Panel, average: Array) -> bool:
    return bool(panel.has_bar[0].all())


def iterated(panel: Panel, average: Array) -> bool:
    return next(iter(panel.close))[0] > 30  # type: ignore[no-any-return]


LOOKS = [
    value,
    any_value,
    a_price,
    a_price_as_traded,
    length,
    shape,
    the_panel_s_shape,
    symbols,
    sessions,
    bars,
    iterated,
]


class Looks(Strategy):
    """Goes by what it has seen, but for its first combination."""

    window: int = param(3, 2, 20)
    way: int = param(0, 0, len(LOOKS))

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        average = sma(panel.close, self.window)
        turned = -1.0 if self.window > 3 and LOOKS[self.way](panel, average) else 1.0
        gap = panel.close - average
        return {"gap": Signal(np.where(np.isnan(gap), np.nan, np.sign(gap) * turned))}


@pytest.mark.parametrize("way", range(len(LOOKS)), ids=[look.__name__ for look in LOOKS])
def test_who_looks_at_anything_is_asked_on_every_market(way: int) -> None:
    strategies = [(k, Looks(window=k + 3, way=way)) for k in range(5)]
    swept = alike(strategies, 20)
    assert swept._joint is None  # a call of who knows what is no formula, and if it were one, the look would be seen:
    joint = Joint(swept.ground.panel, swept._memo, [swept._known])
    joint.signals(strategies[0][1])
    with pytest.raises(NoFormula):
        joint.signals(strategies[1][1])


def test_the_looks_of_these_tests_differ_from_market_to_market() -> None:
    """Else the test above could not fail."""
    for look in LOOKS:
        seen = {look(panel, sma(panel.close, 4)) for panel in markets(20)}
        assert seen == {False, True}, look.__name__


AVERAGES: dict[int, Array] = {}
TIMES = 2.0


class Told(Strategy):
    """What each of the ways below does, but for its first combination, is nothing that an array could notice."""

    window: int = param(3, 2, 20)


def duck(self: Told, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
    average = sma(panel.close, self.window)
    plain = average.values if hasattr(average, "values") else average
    return gap(panel, average, turned=self.window > 3 and bool(np.nanmean(plain) > 500))


def caught(self: Told, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
    turned = False
    try:
        sma(panel.close * (1e97 if self.window > 3 else 1.0), 5)  # too much for an indicator where prices are high
    except ValueError:
        turned = self.window > 3
    return gap(panel, sma(panel.close, self.window), turned=turned)


def threaded(self: Told, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
    with ThreadPoolExecutor(1) as pool:
        dear = pool.submit(lambda: bool(panel.close[-1, 0] > 30)).result()
    return gap(panel, sma(panel.close, self.window), turned=dear and self.window > 3)


def spelled(self: Told, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
    turned = self.window > 3 and "e+0" in str(panel.close)
    return gap(panel, sma(panel.close, self.window), turned=turned)


def typed(self: Told, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
    turned = self.window > 3 and not isinstance(panel, Panel)
    return gap(panel, sma(panel.close, self.window), turned=turned)


def copied(self: Told, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
    seen = copy.deepcopy(panel.close)
    return gap(panel, sma(panel.close, self.window), turned=self.window > 3 and bool(np.asarray(seen)[-1, 0] > 30))


def gap(panel: Panel, average: Array, *, turned: bool) -> dict[str, Signal]:
    away = panel.close - average
    return {"gap": Signal(np.where(np.isnan(away), np.nan, np.sign(away) * (-1.0 if turned else 1.0)))}


@pytest.mark.parametrize("way", [duck, caught, threaded, spelled, typed, copied])
def test_who_goes_by_what_no_array_notices_is_asked_on_every_market(way: Any) -> None:
    kind = type("Sly", (Told,), {"signals": way})
    assert alike([(k, kind(window=k + 3)) for k in range(4)], 20)._joint is None


def straight(self: Told, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
    line, slow = ema(panel.close, window=self.window), sma(panel.raw.close, self.window)
    bands = indicators.bollinger(panel.close, 5, width=TIMES)
    up = np.where((abs(line - slow) > 0) & ~(bands.upper <= line), -1.0, 1.0)
    return {"up": Signal(np.where(np.isnan(line), np.nan, up), 0.5), "down": Signal(-up)}


def branches(self: Told, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
    return {"up": Signal(np.sign(panel.close) if self.window > 3 else np.sign(panel.open))}


def remembers(self: Told, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
    return {"up": Signal(np.sign(AVERAGES.setdefault(self.window, sma(panel.close, 3))))}


def indexes(self: Told, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
    return {"up": Signal(np.sign(panel.close - panel.close[0]))}


def counts(self: Told, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
    return {"up": Signal(np.sign(panel.close * len(panel.symbols)))}


def asks_opinions(self: Told, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
    return {"up": opinions.get("mood") or Signal(np.sign(panel.close))}


@pytest.mark.parametrize(
    "way", [branches, remembers, indexes, counts, asks_opinions, duck, caught, threaded, spelled, typed]
)
def test_only_one_expression_after_another_of_what_cannot_look_is_a_formula(way: Any) -> None:
    arrays = {"close", "open", "high", "low", "volume", "returns"}
    assert is_formula(type("Straight", (Told,), {"signals": straight})(), arrays)
    assert not is_formula(type("Crooked", (Told,), {"signals": way})(), arrays)


def test_a_straight_one_of_everything_that_is_allowed_comes_to_the_same() -> None:
    kind = type("Straight", (Told,), {"signals": straight})
    assert alike([(k, kind(window=k + 2)) for k in range(5)], 3)._joint is not None


class Alone(Strategy):
    """Uses an array of its own: nobody knows what it would be elsewhere."""

    window: int = param(3, 2, 20)

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        tired = np.linspace(1, 0, len(panel.sessions))[:, None] * np.ones(panel.shape)
        gap = panel.close - sma(panel.close, self.window)
        return {"gap": Signal(np.where(np.isnan(gap), np.nan, np.sign(gap) * tired))}


def test_an_array_without_a_name_makes_no_formula() -> None:
    assert alike([(k, Alone(window=k + 3)) for k in range(4)], 5)._joint is None


def test_with_opinions_every_market_is_asked() -> None:
    panels = markets(1)
    swept = [Sweep(Ground(panel, COSTS, 1e4), {"critic": Signal(np.zeros(panel.shape))} if k == 2 else None)
             for k, panel in enumerate(panels)]  # fmt: skip
    swept[0].run([(0, Nested()), (1, Nested(window=5))], workers=1, beside=swept[1:])
    assert swept[0]._joint is None
    assert all(len(each.done) == 2 for each in swept)


def test_whoever_watches_gets_the_equity_of_its_own_market() -> None:
    panels, seen = markets(7), {}

    def watch(k: int) -> Any:
        return lambda number, equity: seen.__setitem__((k, number), equity.copy())

    swept = sweeps(panels, watch)
    swept[0].run([(k, Nested(window=k + 2)) for k in range(4)], workers=2, beside=swept[1:])
    for (k, number), equity in seen.items():
        ground = swept[k].ground
        assert len(equity) == len(ground.panel.sessions) - ground.start
        assert equity[-1] == swept[k].done[number]["equity"]
    assert len(seen) == 4 * len(panels)


class Wrong(Strategy):
    """Leaves the range on dear symbols only."""

    size: int = param(1, 1, 3)

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        return {"up": Signal(np.where(panel.close > 1000, float(self.size), 0.0))}


def test_what_is_wrong_on_one_of_the_markets_is_said_as_alone() -> None:
    cheap, dear = (random_market(seed, 50, 1) for seed in (1, 2))
    cheap.raw.close[:], dear.raw.close[:] = 10.0, 2000.0
    swept = sweeps([cheap, dear])
    with pytest.raises((ValueError, BadStrategy), match=r"value 2 is outside \[-1, 1\]"):
        swept[0].run([(1, Wrong(size=1)), (7, Wrong(size=2))], workers=1, beside=swept[1:])
    assert swept[0].failed is None
    assert swept[1].failed is not None
    assert swept[1].failed[0] == 7
    assert [list(each.done) for each in swept] == [[1], [1]]


# What a trace of one combination must not decide for all of them. ----------------------------------------------------


class Spelled(Told):
    """The name of a signal says which weight it has."""

    weights: ClassVar[Any] = {"up3": 0.25, "up4": 3.0}

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        line = sma(panel.close, self.window)
        return {
            "up%s" % self.window: Signal(np.where(line != line, np.nan, np.sign(panel.close - line))),  # noqa: UP031
            "down": Signal(np.where(panel.close > panel.open, -0.6, 0.6)),
        }


def test_a_signal_named_after_a_parameter_has_its_own_weight_in_each_combination() -> None:
    assert alike([(k, Spelled(window=k + 2)) for k in range(4)])._template is None
    for use in (str, repr, format, "{}".format, "%s".__mod__):
        with pytest.raises(TypeError):
            use(Parameter("window", 3))


class Shared(Told):
    """Weights that go by a parameter."""

    share: float = param(0.5, -1.0, 1.0)

    @property
    def weights(self) -> Any:  # type: ignore[override]
        return {"up": self.share, "down": max(self.share, 0.0)}

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        line = sma(panel.close, self.window)
        return {
            "up": Signal(np.where(line != line, np.nan, np.sign(panel.close - line))),
            "down": Signal(-0.6 * (line > 3)),
        }


@pytest.mark.parametrize("share", [-0.5, 0.0])
def test_weights_that_cannot_weigh_are_refused_in_the_combination_that_has_them(share: float) -> None:
    swept, *beside = sweeps(markets(0))
    strategies = [(0, Shared()), (1, Shared(share=0.7)), (2, Shared(share=share)), (3, Shared(share=1.0))]
    with pytest.raises(BadStrategy, match="weight"):
        swept.run(strategies, workers=1, beside=beside)
    assert swept._template is not None
    assert swept.failed is not None
    assert swept.failed[0] == 2


class Sly(Told):
    """A method named as a part of an indicator's result."""

    def upper(self, panel: Panel) -> float:
        return -1.0 if self.window > 3 and not isinstance(panel, Panel) else 1.0

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        away = panel.close - sma(panel.close, self.window)
        return {"gap": Signal(np.where(away != away, np.nan, np.sign(away) * self.upper(panel)))}


def test_a_method_is_no_part_of_a_formula_whatever_it_is_named() -> None:
    assert alike([(k, Sly(window=k + 3)) for k in range(4)], 20)._joint is None


class Bare(Strategy):
    """An indicator as it is."""

    window: int = param(1, 1, 60)
    rebalance = "monthly"

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        return {"rise": Signal(indicators.momentum(panel.close, self.window))}


@pytest.mark.parametrize("count", [1, 3])
def test_an_indicator_alone_is_out_of_range_also_on_a_row_that_does_not_decide(count: int) -> None:
    closes = 100.0 + np.arange(90) % 7
    closes[30], closes[36] = 60.0, 140.0  # up by 4/3 in six sessions, in the middle of a month
    swept, *beside = [Sweep(Ground(panel_of(closes), COSTS, 1e4)) for _ in range(count)]
    with pytest.raises(ValueError, match="outside"):
        swept.run([(0, Bare(window=1)), (1, Bare(window=6)), (2, Bare(window=3))], workers=1, beside=beside)
    assert swept.failed is not None
    assert swept.failed[0] == 1


def test_a_worker_that_is_to_stop_traces_no_more_and_takes_no_more_than_it_can_hold() -> None:
    strategies = [(k, Plainly(window=k % 19 + 2)) for k in range(1000)]
    swept, *beside = sweeps(markets(1))
    swept.run(strategies[:1], workers=1, beside=beside)
    stop = Event()
    assert len(swept._traced(strategies[:5], stop)) == 5
    stop.set()
    assert not swept._traced(strategies[:5], stop)
    assert swept._at_a_time(1000) > 100
    swept._all.cells = 10_000_000  # bars within days: what so many read would be gigabytes
    assert swept._at_a_time(1000) == 1
