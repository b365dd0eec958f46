"""Minutes out of a day: a random path through its open, high, low and close whose minutes are that day again, exactly.

First open, highest high, lowest low, last close are the day's, and the volumes sum to its volume. The path walks from
the open to the two extremes, in an order the dice choose, and on to the close: between them a Brownian bridge, bent
back into the day's range. Prices lie on the day's own grid: cents, or as many decimals as its four prices need.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marketagent.sandbox.market import Array, Bars

MINUTE_S = 60
_A_TRADE = 120.0  # shares


@dataclass(frozen=True, kw_only=True)
class Day:
    """One daily bar, as traded."""

    open: float
    high: float
    low: float
    close: float
    volume: float


def dice(*key: object) -> np.random.Generator:
    """Random numbers for `key`, the same ones whatever was drawn before and in whichever process."""
    digest = hashlib.blake2b("|".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def minutes(day: Day, starts: NDArray[np.int64], rng: np.random.Generator) -> Bars:
    """Bars for the minutes that begin at `starts` (Unix seconds); a minute that nothing was traded in has none.

    A day with fewer shares than a bar here, an open, two extremes and a close can share is one bar.
    """
    n = len(starts)
    whole = int(day.volume)
    if n < 4 or whole < 4:
        return _bars(starts[:1], *(np.array([value]) for value in (day.open, day.high, day.low, day.close, day.volume)))
    top, bottom = _extremes(day, n, rng)
    path = _path(day, n, top, bottom, rng)
    opens, closes = path[:-1].copy(), path[1:].copy()
    highs, lows = _wicks(opens, closes, day, rng)
    highs[top], lows[bottom] = day.high, day.low
    key = np.unique([0, top, bottom, n - 1])
    volume = _volumes(whole, n, key, rng)
    volume[n - 1] += day.volume - whole
    kept = volume > 0
    return _bars(starts[kept], opens[kept], highs[kept], lows[kept], closes[kept], volume[kept])


def fitted(bars: Bars, day: Day) -> Bars:
    """Stored minutes bent to agree with their day: auctions and corrections are in a day's bar and in no minute."""
    if not len(bars.start):
        return bars
    opens, closes = np.clip(bars.open, day.low, day.high), np.clip(bars.close, day.low, day.high)
    opens[0], closes[-1] = day.open, day.close
    highs = np.maximum.reduce([np.clip(bars.high, day.low, day.high), opens, closes])
    lows = np.minimum.reduce([np.clip(bars.low, day.low, day.high), opens, closes])
    highs[np.argmax(highs)], lows[np.argmin(lows)] = day.high, day.low
    total = float(bars.volume.sum())
    scale = day.volume / total if total > day.volume and total > 0 else 1.0
    volume = np.floor(bars.volume * scale)
    volume[-1] += day.volume - float(volume.sum())
    return _bars(bars.start, opens, highs, lows, closes, volume)


def grid(*prices: float) -> int:
    """How many decimals these prices need: 2, or more where they have more (up to 8).

    >>> grid(12.5, 13.0), grid(0.125, 0.13), grid(101.005)
    (2, 4, 3)
    """
    least = 2 if min(prices) >= 1 else 4
    return next((k for k in range(least, 8) if all(round(price, k) == price for price in prices)), 8)


def vwap(high: Array, low: Array, close: Array) -> Array:
    """What was paid on average, as far as three prices tell."""
    return np.clip(np.round((high + low + close) / 3, 4), low, high)


def trades(volume: Array) -> NDArray[np.int64]:
    """How many trades made up so much volume: at least one."""
    return np.maximum(1, np.ceil(volume / _A_TRADE)).astype(np.int64)


def _extremes(day: Day, n: int, rng: np.random.Generator) -> tuple[int, int]:
    """The minutes of the high and of the low: mostly early or late, the first or the last where the day says so."""
    spots = np.minimum((rng.beta(0.6, 0.6, 2) * n).astype(int), n - 1)
    top, bottom = int(spots[0]), int(spots[1])
    if day.open == day.high:
        top = 0
    elif day.close == day.high:
        top = n - 1
    if day.open == day.low:
        bottom = 0
    elif day.close == day.low:
        bottom = n - 1
    return top, bottom


def _path(day: Day, n: int, top: int, bottom: int, rng: np.random.Generator) -> Array:
    """(n + 1,): the price at the beginning of each minute, and at the end of the last."""
    knots = {0: day.open, n: day.close}
    for place, price in ((top, day.high), (bottom, day.low)):
        if 0 < place < n and place not in knots:
            knots[place] = price
    places = np.array(sorted(knots))
    line = np.interp(np.arange(n + 1), places, [knots[place] for place in places])
    noise = np.concatenate([[0.0], np.cumsum(rng.standard_normal(n))])
    noise -= np.interp(np.arange(n + 1), places, noise[places])  # a bridge: no noise at the knots
    size = (day.high - day.low) / (4 * np.sqrt(n))
    path = _folded(line + size * noise, day.low, day.high)
    path = np.clip(np.round(path, grid(day.open, day.high, day.low, day.close)), day.low, day.high)
    path[0], path[n] = day.open, day.close
    return np.asarray(path)


def _folded(path: Array, low: float, high: float) -> Array:
    """`path` reflected at the ends of the range, however often it leaves it."""
    width = high - low
    if width <= 0:
        return np.full_like(path, low)
    place = np.mod(path - low, 2 * width)
    return np.asarray(low + np.where(place > width, 2 * width - place, place))


def _wicks(opens: Array, closes: Array, day: Day, rng: np.random.Generator) -> tuple[Array, Array]:
    size = (day.high - day.low) / (3 * np.sqrt(len(opens)))
    decimals = grid(day.open, day.high, day.low, day.close)
    above, below = np.round(rng.exponential(size, (2, len(opens))), decimals)
    highs = np.round(np.maximum(opens, closes) + above, decimals)
    lows = np.round(np.minimum(opens, closes) - below, decimals)
    return np.clip(highs, np.maximum(opens, closes), day.high), np.clip(lows, day.low, np.minimum(opens, closes))


def _volumes(whole: int, n: int, key: NDArray[np.int64], rng: np.random.Generator) -> Array:
    """(n,) whole numbers with the sum `whole`, at least 1 in the minutes `key`: busy at the open and at the close."""
    hour = np.linspace(-1, 1, n)
    weight = np.cumsum((0.4 + hour**2) * rng.gamma(1.5, 1.0, n))
    bounds = np.floor((whole - len(key)) * weight / weight[-1])
    bounds[-1] = whole - len(key)
    volume: Array = np.diff(bounds, prepend=0.0)
    volume[key] += 1
    return volume


def _bars(start: NDArray[np.int64], opens: Array, high: Array, low: Array, close: Array, volume: Array) -> Bars:
    return Bars(
        start=np.asarray(start, dtype=np.int64),
        open=opens,
        high=high,
        low=low,
        close=close,
        volume=volume,
        vwap=vwap(high, low, close),
        trades=trades(volume),
    )
