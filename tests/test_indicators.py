"""The three promises of indicators.py, TA-Lib's answers, and exact arithmetic where TA-Lib itself rounds."""

import math
import sys
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import talib as answers
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from marketagent import indicators
from marketagent.errors import UsageError
from marketagent.indicators import (
    Array,
    atr,
    bollinger,
    ema,
    macd,
    momentum,
    rsi,
    sma,
    talib,
    volatility,
    zscore,
)

Family = dict[str, Callable[[Array, Array, Array, int], tuple[Array, ...]]]

FAMILY: Family = {  # every indicator as a function of high, low, close and a window of at least 2
    "sma": lambda high, low, close, window: (sma(close, window),),
    "ema": lambda high, low, close, window: (ema(close, window),),
    "rsi": lambda high, low, close, window: (rsi(close, window),),
    "atr": lambda high, low, close, window: (atr(high, low, close, window),),
    "macd": lambda high, low, close, window: macd(close, window, window + 3, 3),
    "bollinger": lambda high, low, close, window: bollinger(close, window),
    "momentum": lambda high, low, close, window: (momentum(close, window, skip=window - 1),),
    "volatility": lambda high, low, close, window: (volatility(close, window),),
    "zscore": lambda high, low, close, window: (zscore(close, window),),
}
every_indicator = pytest.mark.parametrize("name", FAMILY)
narrow_and_wide = pytest.mark.parametrize("symbols", [1, 3, 17])  # both sides of FEW_COLUMNS


def panel(symbols: int, sessions: int = 48, seed: int = 3) -> tuple[Array, Array, Array]:
    """High, low and close of random walks with late listings, halts and rests; each gap in one price only."""
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, (sessions, symbols)), axis=0))
    rest = rng.integers(0, sessions, symbols)
    for column, row in enumerate(rest):
        close[row : row + 9, column] = close[row, column]
    high, low = close * 1.01, close * 0.99
    for array in (high, low, close):
        array[rng.random(close.shape) < 0.03] = np.nan
    for column in range(1, symbols, 2):
        close[: rng.integers(0, 15), column] = np.nan
    return high, low, close


def assert_same_bits(found: tuple[Array, ...], expected: tuple[Array, ...]) -> None:
    """Equal numbers, signs of zero included, and NaN in the same places."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
        there = ~np.isnan(one)
        np.testing.assert_array_equal(one[there].view(np.int64), other[there].view(np.int64))


@every_indicator
@narrow_and_wide
def test_no_row_depends_on_a_later_one(name: str, symbols: int) -> None:
    prices = panel(symbols)
    whole = FAMILY[name](*prices, 6)
    for rows in range(len(prices[0]) + 1):
        short = FAMILY[name](*(price[:rows] for price in prices), 6)
        assert_same_bits(short, tuple(values[:rows] for values in whole))


@every_indicator
def test_no_column_depends_on_its_neighbours(name: str) -> None:
    prices = panel(17)
    whole = FAMILY[name](*prices, 6)
    for width in (1, 4):
        for column in range(0, 17 - width, width):
            chosen = slice(column, column + width)
            alone = FAMILY[name](*(price[:, chosen] for price in prices), 6)
            assert_same_bits(alone, tuple(values[:, chosen] for values in whole))


@every_indicator
@narrow_and_wide
def test_a_row_without_a_bar_is_skipped_and_changes_nothing_else(name: str, symbols: int) -> None:
    prices = panel(symbols)
    whole = FAMILY[name](*prices, 6)
    for column in range(symbols):
        there = ~np.isnan(np.stack(prices)[:, :, column]).any(axis=0)
        if name not in {"atr"}:  # the others read the close only
            there = ~np.isnan(prices[2][:, column])
        own = FAMILY[name](*(price[there, column, None] for price in prices), 6)
        assert_same_bits(tuple(values[there, column, None] for values in whole), own)
        assert all(np.isnan(values[~there, column]).all() for values in whole)


@every_indicator
def test_the_layout_in_memory_changes_no_bit_and_the_input_is_left_alone(name: str) -> None:
    prices = panel(17)
    copies = tuple(price.copy() for price in prices)
    expected = FAMILY[name](*prices, 6)
    assert_same_bits(prices, copies)
    assert_same_bits(FAMILY[name](*(np.asfortranarray(price) for price in prices), 6), expected)
    assert_same_bits(FAMILY[name](*(np.repeat(price, 2, axis=1)[:, ::2] for price in prices), 6), expected)
    assert_same_bits(FAMILY[name](*(price[::-1].copy()[::-1] for price in prices), 6), expected)


@every_indicator
def test_the_loop_over_floats_and_the_loop_over_rows_give_the_same_bits(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = panel(8, sessions=200)
    monkeypatch.setattr(indicators, "FEW_COLUMNS", 0)
    rows = FAMILY[name](*prices, 5)
    monkeypatch.setattr(indicators, "FEW_COLUMNS", 100)
    assert_same_bits(FAMILY[name](*prices, 5), rows)


hard_prices = st.one_of(
    st.sampled_from([np.nan, 0.0, 0.01, 1.0, 1.0, 100.0, 1e-12, 1e12]), st.floats(0, 1e6, allow_subnormal=False)
)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), window=st.integers(2, 9), name=st.sampled_from(list(FAMILY)))
def test_the_promises_hold_on_whatever_prices_come(data: st.DataObject, window: int, name: str) -> None:
    shape = data.draw(st.tuples(st.integers(0, 24), st.sampled_from([0, 1, 2, 14])))
    close = data.draw(arrays(np.float64, shape, elements=hard_prices))
    prices = (close * 1.25, close * 0.75, close)
    whole = FAMILY[name](*prices, window)
    rows = data.draw(st.integers(0, shape[0]))
    start = data.draw(st.integers(0, shape[1]))
    part = FAMILY[name](*(price[:rows, start:] for price in prices), window)
    assert_same_bits(part, tuple(values[:rows, start:] for values in whole))
    assert all(not np.isinf(values).any() for values in whole)
    assert all(np.isnan(values[np.isnan(close)]).all() for values in whole)


def columns() -> dict[str, Array]:
    """One close a case: what markets look like, and what they rarely do."""
    rng = np.random.default_rng(7)
    walk = 100 * np.exp(np.cumsum(rng.normal(0, 0.012, 900)))
    rest, up, down = walk.copy(), walk.copy(), walk.copy()
    rest[300:600] = rest[300]
    up[450:] *= 100
    down[450:] /= 100
    return {
        "walk": walk,
        "cents": np.round(walk, 2),
        "rest": rest,
        "up": up,
        "down": down,
        "tiny": walk * 1e-6,
        "big": walk * 1e6,
        "constant": np.full(300, 0.1),
        "short": walk[:13],
        "exact": walk[:14],
        "one more": walk[:15],
    }


def ohlc(close: Array) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(11)
    up, down = np.abs(rng.normal(0, 0.01, (2, len(close))))
    return close * (1 + up), close * (1 - down), close


def assert_agrees(found: Array, expected: Array, *, scale: float = 0.0) -> None:
    """Within 1e-12 of TA-Lib's value (of `scale` for a difference of numbers of that size), NaN where it is."""
    assert found.shape == (len(expected), 1)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-12, atol=1e-14 * scale)


every_column = pytest.mark.parametrize("case", columns())


@every_column
@pytest.mark.parametrize("window", [1, 2, 14, 200])
def test_the_averages_are_those_of_talib(case: str, window: int) -> None:
    close = columns()[case]
    scale = close.max()  # TA-Lib's running sum keeps the rounding of the largest price it saw
    assert_agrees(sma(close[:, None], window), answers.SMA(close, window), scale=10 * scale)
    assert_agrees(ema(close[:, None], window), answers.EMA(close, window))
    assert_agrees(momentum(close[:, None], window), answers.ROCP(close, window))


@every_column
@pytest.mark.parametrize("window", [2, 3, 14])
def test_wilders_indicators_are_those_of_talib(case: str, window: int) -> None:
    high, low, close = ohlc(columns()[case])
    assert_agrees(rsi(close[:, None], window), answers.RSI(close, window))
    assert_agrees(atr(high[:, None], low[:, None], close[:, None], window), answers.ATR(high, low, close, window))
    assert_agrees(atr(high[:, None], low[:, None], close[:, None], 1), answers.ATR(high, low, close, 1))


@every_column
@pytest.mark.parametrize("windows", [(12, 26, 9), (3, 10, 1), (2, 3, 2)])
def test_macd_is_that_of_talib(case: str, windows: tuple[int, int, int]) -> None:
    close = columns()[case]
    expected = answers.MACD(close, *windows)
    for found, wanted in zip(macd(close[:, None], *windows), expected, strict=True):
        assert_agrees(found, wanted, scale=close.max())


@every_column
@pytest.mark.parametrize("window", [5, 14, 63])
def test_the_deviations_are_those_of_talib_within_its_rounding(case: str, window: int) -> None:
    close = columns()[case]
    for found, wanted in zip(bollinger(close[:, None], window), answers.BBANDS(close, window, 2.0, 2.0), strict=True):
        np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-9, atol=1e-12 * close.max())
    returns = close[1:] / close[:-1] - 1
    expected = np.concatenate([[np.nan], answers.STDDEV(returns, window)])
    np.testing.assert_allclose(volatility(close[:, None], window)[:, 0], expected, rtol=1e-9, atol=1e-11)


def exact_mean_and_deviation(values: Array) -> tuple[float, float]:
    numbers = [Fraction(value) for value in values.tolist()]
    mean = sum(numbers) / len(numbers)
    return float(mean), math.sqrt(sum((number - mean) ** 2 for number in numbers) / len(numbers))


@every_column
@pytest.mark.parametrize("window", [2, 7, 14, 200])
def test_mean_and_deviation_are_those_of_exact_arithmetic(case: str, window: int) -> None:
    close = columns()[case]
    _, middle, _ = bollinger(close[:, None], window)
    spread = volatility(close[:, None], window)[:, 0]
    mean = sma(close[:, None], window)[:, 0]
    returns = (close[1:] - close[:-1]) / close[:-1]
    for row in range(window, len(close), 17):
        exact, _ = exact_mean_and_deviation(close[row - window + 1 : row + 1])
        assert mean[row] == pytest.approx(exact, rel=1e-15, abs=0)
        assert middle[row, 0] == mean[row]
        _, exact = exact_mean_and_deviation(returns[row - window : row])
        assert spread[row] == pytest.approx(exact, rel=1e-12, abs=0)


def test_a_price_long_gone_leaves_no_trace() -> None:
    # A running sum, as TA-Lib 0.8.1 keeps it, answers 0.68 where the window holds nothing but 0.001.
    close = np.concatenate([1e16 * np.random.default_rng(0).random(50), np.full(50, 0.001)])[:, None]
    assert sma(close, 20)[-1, 0] == 0.001
    assert bollinger(close, 20).upper[-1, 0] == 0.001


@pytest.mark.parametrize("price", [0.1, 1 / 3, 187.37, 1e-7])
def test_a_price_at_rest_has_itself_as_mean_no_deviation_and_no_zscore(price: float) -> None:
    close = np.full((300, 2), price)
    assert (sma(close, 199)[198:] == price).all()
    assert all((band[198:] == price).all() for band in bollinger(close, 199))
    assert (volatility(close, 63)[63:] == 0).all()
    assert np.isnan(zscore(close, 20)).all()
    assert (rsi(close)[14:] == 0).all()
    assert (momentum(close, 5)[5:] == 0).all()


def test_deviation_survives_a_large_price_with_a_small_spread() -> None:
    close = 1e9 + np.tile([0.0, 0.25], 20)[:, None]  # every number here is a float exactly
    assert (bollinger(close, 8, width=1.0).upper[7:] - bollinger(close, 8).middle[7:] == 0.125).all()
    assert (np.abs(zscore(close, 8)[7:]) == 1).all()


def test_zscore_counts_deviations_from_the_mean() -> None:
    # mean 2.5, squared deviations 2.25 .25 .25 2.25, deviation sqrt(5/4): (4 - 2.5) / 1.1180... = 1.3416...
    found = zscore(np.array([[1.0], [2.0], [3.0], [4.0]]), 4)
    assert found[3, 0] == pytest.approx(1.5 / math.sqrt(1.25), rel=1e-15)
    assert np.isnan(found[:3]).all()


def test_momentum_leaves_out_the_skipped_bars() -> None:
    close = np.array([[1.0], [2.0], [4.0], [16.0]])
    np.testing.assert_array_equal(momentum(close, 2, skip=1)[:, 0], [np.nan, np.nan, 1.0, 1.0])
    np.testing.assert_array_equal(momentum(close, 2)[:, 0], [np.nan, np.nan, 3.0, 7.0])


def test_momentum_of_a_short_column_is_missing_whatever_is_skipped() -> None:
    for rows in range(10):
        for skip in range(8):
            found = momentum(np.arange(1.0, rows + 1)[:, None], 8, skip=skip)
            assert np.isnan(found[:8]).all()
            assert (found[8:] == 8 - skip).all()  # row 8 holds 9, row 0 holds 1: (9 - skip) / 1 - 1


def test_a_return_from_a_price_of_zero_is_missing_only_while_the_window_holds_it() -> None:
    close = np.array([1.0, 0.0, 1.0, 2.0, 4.0, 8.0])[:, None]
    np.testing.assert_array_equal(momentum(close, 1)[:, 0], [np.nan, -1.0, np.nan, 1.0, 1.0, 1.0])
    np.testing.assert_array_equal(volatility(close, 2)[:, 0], [np.nan] * 4 + [0.0, 0.0])


def test_talib_by_name_runs_over_each_columns_own_bars() -> None:
    high, low, close = panel(3, sessions=80)
    close[:, 2] = np.nan
    found = talib("adx", high, low, close, timeperiod=5)
    assert isinstance(found, np.ndarray)
    for column in (0, 1):
        there = ~np.isnan(high + low + close)[:, column]
        expected = answers.ADX(high[there, column], low[there, column], close[there, column], timeperiod=5)
        np.testing.assert_array_equal(found[there, column], expected)
        assert np.isnan(found[~there, column]).all()
    assert np.isnan(found[:, 2]).all()


def test_talib_returns_a_tuple_where_the_function_has_several_results() -> None:
    _, _, close = panel(2, sessions=80)
    fast, slow = talib("STOCHRSI", close)
    assert fast.shape == slow.shape == close.shape
    pattern = talib("CDLDOJI", close, close, close, close)  # whole numbers in TA-Lib, floats here
    assert isinstance(pattern, np.ndarray)
    assert pattern.dtype == np.float64


def test_talib_says_what_to_do_when_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    close = np.ones((3, 1))
    with pytest.raises(UsageError, match=r"^unknown TA-Lib function 'stocrsi'; did you mean stochrsi\?$"):
        talib("stocrsi", close)
    monkeypatch.setitem(sys.modules, "talib", None)
    with pytest.raises(UsageError, match=r"^the indicator 'ADX' needs TA-Lib; run: pip install TA-Lib$"):
        talib("ADX", close, close, close)


@pytest.mark.parametrize("window", [0, -3, 2.0, True, "5"])
def test_a_window_that_is_no_positive_whole_number_is_refused(window: int) -> None:
    for indicator in (sma, ema, rsi, momentum, volatility, zscore, bollinger):
        with pytest.raises(ValueError, match="window is"):
            indicator(np.ones((5, 1)), window)


@pytest.mark.parametrize("indicator", [rsi, volatility, zscore, bollinger])
def test_a_window_of_one_bar_is_refused_where_one_bar_says_nothing(indicator: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="window is 1; it must be a whole number of at least 2"):
        indicator(np.ones((5, 1)), 1)


def test_wrong_shapes_and_senseless_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shapes are \[\(5,\)\]"):
        sma(np.ones(5), 2)
    with pytest.raises(ValueError, match=r"all must be the same \(T, N\)"):
        atr(np.ones((5, 2)), np.ones((5, 2)), np.ones((5, 1)))
    with pytest.raises(ValueError, match="holds inf"):
        sma(np.array([[1.0], [np.inf]]), 2)
    with pytest.raises(ValueError, match="fast is 26 and slow is 12"):
        macd(np.ones((5, 1)), 26, 12)
    with pytest.raises(ValueError, match="skip is 5"):
        momentum(np.ones((5, 1)), 5, skip=5)


@every_indicator
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (1, 2), (4, 2)])
def test_a_panel_shorter_than_the_window_has_no_values(name: str, shape: tuple[int, int]) -> None:
    for values in FAMILY[name](*(np.ones(shape) for _ in range(3)), 5):
        assert values.shape == shape
        assert np.isnan(values).all()
