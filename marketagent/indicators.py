"""The home of the indicators: what a strategy computes from prices before it has an opinion.

Arrays are (T, N) in and out: row a session, oldest first, column a symbol, NaN where there is no bar. Three
promises hold for every function here, to the last bit, and everything else in this file serves them:

- A row depends on itself and on earlier rows only, and never on how many follow: ``f(x[:k]) == f(x)[:k]``.
- A column never depends on its neighbours: ``f(x)[:, [j]] == f(x[:, [j]])``.
- A column is computed over its own bars. A row without one is skipped, as if it were not there, so a halt of
  a day does not wipe out an average of 200; the result is NaN on that row and nowhere else because of it.

Why not ``np.mean`` or a convolution: the order in which they add depends on the shape and the layout of the
array, so the last bits of a score would depend on how much history was read. Why not a running sum: it keeps
the rounding error of the largest value it ever saw. Windows are joined here from blocks of 1, 2, 4, ... rows
instead: about 2 log2(window) element-wise steps, no drift, and exact where a price does not move.

Where TA-Lib has the function, the values are TA-Lib's, and NaN stands where TA-Lib has none yet.
"""

from collections.abc import Callable
from functools import reduce
from importlib import import_module
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from marketagent.deferred import deferrable
from marketagent.errors import UsageError, did_you_mean

Array = npt.NDArray[np.float64]
Parts = tuple[Array, ...]

LARGEST = 1e100  # beyond any price or volume; squares of what is below it fit in a float
FEW_COLUMNS = 12  # up to here a loop over Python floats is quicker than one over rows of an array


class Macd(NamedTuple):
    """The MACD line, its signal line and their difference; each (T, N), in price units."""

    macd: Array
    signal: Array
    histogram: Array


class Bands(NamedTuple):
    """Bollinger's bands; each (T, N), in price units."""

    upper: Array
    middle: Array
    lower: Array


@deferrable
def sma(x: Array, window: int) -> Array:
    """Simple moving average: the mean of the last `window` bars, in the unit of `x`.

    NaN for the first `window` - 1 bars of a column. Where `x` does not move it is `x`, exactly.

    >>> sma(np.array([[1.0], [np.nan], [3.0], [8.0]]), 2)[:, 0].tolist()
    [nan, nan, 2.0, 5.5]
    """
    _check_window(window)
    return _over_own_bars(lambda x: (_mean(x, window),), x)[0]


@deferrable
def ema(x: Array, window: int) -> Array:
    """Exponential moving average with the weight 2/(window + 1), in the unit of `x`.

    NaN for the first `window` - 1 bars of a column; it starts from their simple average, as TA-Lib's does.

    >>> ema(np.array([[1.0], [3.0], [8.0]]), 2)[:, 0].tolist()
    [nan, 2.0, 6.0]
    """
    _check_window(window)
    return _over_own_bars(lambda x: (_ema(x, window, first=0),), x)[0]


@deferrable
def rsi(close: Array, window: int = 14) -> Array:
    """Relative strength index, 0 to 100: the share of the gains in all moves.

    NaN for the first `window` bars of a column; 0 where nothing has moved yet, as in TA-Lib.
    Wilder, New Concepts in Technical Trading Systems (1978): smoothing 1/window.

    >>> rsi(np.array([[1.0], [2.0], [1.0], [4.0]]), window=2)[:, 0].tolist()
    [nan, nan, 50.0, 87.5]
    """
    _check_window(window, at_least=2)

    def compute(close: Array) -> Parts:
        move = np.full_like(close, np.nan)
        np.subtract(close[1:], close[:-1], out=move[1:])
        # Not np.maximum: NumPy leaves open which zero it returns for 0.0 and -0.0, and bits must not vary.
        gain = _wilder(np.where(move > 0, move, 0.0), window)
        loss = _wilder(np.where(move < 0, -move, 0.0), window)
        total = gain + loss
        share = np.divide(gain, total, out=np.zeros_like(total), where=total != 0)
        share[:window] = np.nan
        return (100.0 * share,)

    return _over_own_bars(compute, close)[0]


@deferrable
def atr(high: Array, low: Array, close: Array, window: int = 14) -> Array:
    """Average true range, in price units.

    NaN for the first `window` bars of a column; a bar needs all three prices.
    Wilder, New Concepts in Technical Trading Systems (1978): smoothing 1/window.

    >>> two, one, half = (np.full((4, 1), x) for x in (2.0, 1.0, 1.5))
    >>> atr(two, one, half, window=2)[:, 0].tolist()
    [nan, nan, 1.0, 1.0]
    """
    _check_window(window)

    def compute(high: Array, low: Array, close: Array) -> Parts:
        before = close[:-1]
        span = high - low  # of the first bar it is unused: without a previous close there is no true range
        for gap in (np.abs(before - high[1:]), np.abs(before - low[1:])):
            np.copyto(span[1:], gap, where=gap > span[1:])
        return (_wilder(span, window),)

    return _over_own_bars(compute, high, low, close)[0]


@deferrable
def macd(close: Array, fast: int = 12, slow: int = 26, signal: int = 9) -> Macd:
    """Moving average convergence divergence: the fast EMA less the slow one, and an EMA of that.

    All three are NaN for the first `slow` + `signal` - 2 bars of a column. As in TA-Lib, both averages
    have their first value on bar `slow`: the fast one starts from the `fast` bars before it, not from the
    column's first. Appel, Technical Analysis: Power Tools for Active Investors (2005).

    >>> line, signal, histogram = macd(np.array([[1.0], [2.0], [4.0], [8.0]]), fast=1, slow=2, signal=2)
    >>> line[:, 0].round(4).tolist(), signal[:, 0].round(4).tolist()
    ([nan, nan, 0.8333, 1.6111], [nan, nan, 0.6667, 1.2963])
    """
    for window in (fast, slow, signal):
        _check_window(window)
    if fast >= slow:
        raise ValueError(f"fast is {fast} and slow is {slow}; fast must be the smaller")

    def compute(close: Array) -> Parts:
        line = _ema(close, fast, first=slow - fast) - _ema(close, slow, first=0)
        trigger = _ema(line, signal, first=slow - 1)
        line[: slow + signal - 2] = np.nan
        return line, trigger, line - trigger

    return Macd(*_over_own_bars(compute, close))


@deferrable
def bollinger(close: Array, window: int = 20, width: float = 2.0) -> Bands:
    """Bollinger bands: `width` population standard deviations around the mean of the last `window` bars.

    NaN for the first `window` - 1 bars of a column. Bollinger, Bollinger on Bollinger Bands (2001).

    >>> [band[:, 0].tolist() for band in bollinger(np.array([[1.0], [3.0], [3.0]]), window=2)]
    [[nan, 4.0, 3.0], [nan, 2.0, 3.0], [nan, 0.0, 3.0]]
    """
    _check_window(window, at_least=2)

    def compute(close: Array) -> Parts:
        middle, deviation = _mean_and_deviation(close, window)
        return middle + width * deviation, middle, middle - width * deviation

    return Bands(*_over_own_bars(compute, close))


@deferrable
def momentum(close: Array, window: int, skip: int = 0) -> Array:
    """Return over the bars from `window` ago to `skip` ago, as a fraction; `skip=0` is TA-Lib's ROCP.

    NaN for the first `window` bars of a column and where the earlier price is 0. Leaving out the last month
    (window=252, skip=21): Jegadeesh and Titman, Journal of Finance 48 (1993).

    >>> momentum(np.array([[2.0], [3.0], [6.0]]), window=2, skip=1)[:, 0].tolist()
    [nan, nan, 0.5]
    """
    _check_window(window)
    if not 0 <= skip < window:
        raise ValueError(f"skip is {skip}; it must be at least 0 and less than the window of {window}")

    def compute(close: Array) -> Parts:
        change = np.full_like(close, np.nan)
        rows = max(0, len(close) - window)
        change[window:] = _change(close[window - skip :][:rows], close[:rows])
        return (change,)

    return _over_own_bars(compute, close)[0]


@deferrable
def volatility(close: Array, window: int) -> Array:
    """Population standard deviation of the last `window` simple returns from bar to bar.

    A fraction a bar, not annualised. NaN for the first `window` bars of a column, and while the window holds
    a return from a price of 0. Equal to TA-Lib's STDDEV of the returns.

    >>> volatility(np.array([[1.0], [2.0], [2.0]]), window=2)[:, 0].tolist()
    [nan, nan, 0.5]
    """
    _check_window(window, at_least=2)

    def compute(close: Array) -> Parts:
        returns = np.full_like(close, np.nan)
        returns[1:] = _change(close[1:], close[:-1])
        return (_mean_and_deviation(returns, window)[1],)

    return _over_own_bars(compute, close)[0]


@deferrable
def zscore(x: Array, window: int) -> Array:
    """How many population standard deviations `x` is above the mean of its last `window` bars.

    NaN for the first `window` - 1 bars of a column and where the window does not move.

    >>> zscore(np.array([[1.0], [3.0], [3.0]]), window=2)[:, 0].tolist()
    [nan, 1.0, nan]
    """
    _check_window(window, at_least=2)

    def compute(x: Array) -> Parts:
        mean, deviation = _mean_and_deviation(x, window)
        return (np.divide(x - mean, deviation, out=np.full_like(x, np.nan), where=deviation > 0),)

    return _over_own_bars(compute, x)[0]


@deferrable
def talib(name: str, *arrays: Array, **parameters: Any) -> Array | Parts:
    """Any TA-Lib function by its name, over each column's own bars: ``talib("ADX", high, low, close)``.

    One (T, N) array, or a tuple of them where TA-Lib returns several. Raises UsageError if TA-Lib is not
    installed or does not know the name. The promises at the top of this file are then TA-Lib's to keep.
    """
    try:
        library, abstract = import_module("talib"), import_module("talib.abstract")
    except ImportError as error:
        raise UsageError(f"the indicator {name!r} needs TA-Lib; run: pip install TA-Lib") from error

    known = library.get_functions()
    if name.upper() not in known:
        near = did_you_mean(name, [function.lower() for function in known])
        raise UsageError(f"unknown TA-Lib function {name!r}{near}")
    function = getattr(library, name.upper())
    inputs = _checked(arrays)
    present = ~_missing(inputs)
    results = tuple(np.full(present.shape, np.nan) for _ in abstract.Function(name.upper()).output_names)
    for column in np.flatnonzero(present.any(axis=0)):
        rows = present[:, column]
        found = function(*(array[rows, column] for array in inputs), **parameters)
        for result, values in zip(results, found if isinstance(found, tuple) else (found,), strict=True):
            result[rows, column] = values
    return results[0] if len(results) == 1 else results


def _check_window(window: int, *, at_least: int = 1) -> None:
    if isinstance(window, bool) or not isinstance(window, int | np.integer) or window < at_least:
        raise ValueError(f"window is {window!r}; it must be a whole number of at least {at_least}")


def _checked(arrays: Parts) -> Parts:
    """The inputs as float64; raises ValueError for shapes that differ, are not (T, N), or hold an infinity."""
    arrays = tuple(np.asarray(array, dtype=np.float64) for array in arrays)
    for array in arrays:
        if array.ndim != 2 or array.shape != arrays[0].shape:
            raise ValueError(f"shapes are {[array.shape for array in arrays]}; all must be the same (T, N)")
        if (np.abs(array) > LARGEST).any():
            raise ValueError(f"an input holds {np.nanmax(np.abs(array))}; the largest allowed is {LARGEST}")
    return arrays


def _missing(arrays: Parts) -> npt.NDArray[np.bool_]:
    """Where a column has no bar: any of the inputs is NaN."""
    return reduce(np.logical_or, [np.isnan(array) for array in arrays])


def _over_own_bars(compute: Callable[..., Parts], *inputs: Array) -> Parts:
    """Apply `compute` to every column as if its rows without a bar were not there.

    The bars are moved to the top of their column and the results moved back. What is left below them
    cannot matter: no row of `compute` looks at a later one.
    """
    arrays = _checked(inputs)
    missing = _missing(arrays)
    if not missing.any():
        return compute(*arrays)
    order = np.argsort(missing, axis=0, kind="stable")
    packed = compute(*(np.take_along_axis(array, order, axis=0) for array in arrays))
    results = tuple(np.empty_like(array) for array in packed)
    for result, values in zip(results, packed, strict=True):
        np.put_along_axis(result, order, values, axis=0)
        result[missing] = np.nan
    return results


def _change(now: Array, before: Array) -> Array:
    """The simple return from `before` to `now`; NaN where there is none, as from a price of 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        change = (now - before) / before
        return np.where(np.abs(change) <= LARGEST, change, np.nan)


def _mean(x: Array, window: int) -> Array:
    return _from_row(window - 1, _over_windows(_join_means, (x,), window), x)[0]


def _mean_and_deviation(x: Array, window: int) -> Parts:
    """Mean and population standard deviation of every window; the deviation is exactly 0 where `x` rests."""
    mean, square = _from_row(window - 1, _over_windows(_join_moments, (x, np.zeros_like(x)), window), x)
    return mean, np.sqrt(square / window)


def _from_row(first: int, values: Parts, x: Array) -> Parts:
    """`values` as arrays of the shape of `x`, NaN above the row `first`."""
    results = tuple(np.full_like(x, np.nan) for _ in values)
    for result, value in zip(results, values, strict=True):
        result[first:] = value
    return results


def _over_windows(join: Callable[[Parts, Parts, int, int], Parts], parts: Parts, window: int) -> Parts:
    """Fold every `window` consecutive rows into one, from blocks of 1, 2, 4, ... rows.

    ``join(late, early, n, m)`` folds the last n rows with the m rows before them. A block that ends on row t
    is made from the same numbers in the same order whatever else the array holds.
    """
    rows = len(parts[0])
    if rows < window:
        return tuple(part[:0] for part in parts)
    block, size = parts, 1
    done: Parts = ()
    taken = 0
    while True:
        if window & size:
            end = rows - taken - size + 1
            done = join(_rows(done, size), _rows(block, 0, end), taken, size) if taken else block
            taken += size
            if taken == window:
                return done
        block = join(_rows(block, size), _rows(block, 0, -size), size, size)
        size *= 2


def _rows(parts: Parts, start: int, stop: int | None = None) -> Parts:
    return tuple(part[start:stop] for part in parts)


def _join_means(late: Parts, early: Parts, n: int, m: int) -> Parts:
    step = early[0] - late[0]
    step *= m / (n + m)
    step += late[0]
    return (step,)


def _join_moments(late: Parts, early: Parts, n: int, m: int) -> Parts:
    """Means, and sums of squared deviations from them, of two blocks as one.

    Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances (1979).
    """
    step = early[0] - late[0]
    square = step * step
    square *= n * m / (n + m)
    square += late[1] + early[1]
    step *= m / (n + m)
    step += late[0]
    return step, square


def _ema(x: Array, window: int, *, first: int) -> Array:
    """TA-Lib's EMA from the row `first` on: it starts from the mean of `window` rows."""
    weight = 2.0 / (window + 1)
    return _smooth(x, window, first, lambda before, now: (now - before) * weight + before)


def _wilder(x: Array, window: int) -> Array:
    """Wilder's smoothing of rows 1 and on: row 0 has no predecessor to move from."""
    return _smooth(x, window, 1, lambda before, now: (before * (window - 1) + now) / window)


def _smooth(x: Array, window: int, first: int, step: Callable[[Any, Any], Any]) -> Array:
    """A recursion over rows that starts from the plain mean of the `window` rows from `first` on.

    `step` is the same expression for floats and for rows, so both loops give the same bits.
    """
    result = np.full_like(x, np.nan)
    start = first + window - 1
    if len(x) <= start:
        return result
    # Added in order, as TA-Lib does: an average over a window, but the start of a recursion must not differ.
    result[start] = reduce(np.add, x[first : start + 1]) / window
    if x.shape[1] <= FEW_COLUMNS:
        for column, begin in enumerate(result[start].tolist()):
            result[start:, column] = list(accumulate(x[start + 1 :, column].tolist(), step, initial=begin))
        return result
    for row in range(start + 1, len(x)):
        result[row] = step(result[row - 1], x[row])
    return result
