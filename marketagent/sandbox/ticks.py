"""Trades and quotes inside a minute, made from its bar: the same ones for a bar and a seed, whoever asks.

The trades give the bar again: the first at its open, one at its high, one at its low, the last at its close, and their
sizes sum to its volume; a minute of less than four shares is one trade at its close. A quote stands before each trade,
its two sides around the price that is paid.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from marketagent.sandbox.bridge import MINUTE_S, dice, grid
from marketagent.sandbox.market import Array, Market

MOST = 24  # trades a minute: enough to see, little enough to send for 100 symbols
NS = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Minute:
    """One minute of one symbol, with what the day holds up to its end."""

    symbol: str
    start: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float
    trades: int
    day_open: float
    day_volume: float
    day_vwap: float


@dataclass(frozen=True, kw_only=True)
class Trade:
    """`at` in Unix nanoseconds, `number` counts in the symbol's day, `exchange` is Polygon's number of a venue."""

    symbol: str
    at: int
    number: int
    price: float
    size: float
    exchange: int


@dataclass(frozen=True, kw_only=True)
class Quote:
    """The best bid and ask from `at` (Unix nanoseconds) on; sizes in shares."""

    symbol: str
    at: int
    number: int
    bid: float
    bid_size: int
    ask: float
    ask_size: int
    bid_exchange: int
    ask_exchange: int


VENUES = (4, 10, 11, 12, 15, 19)  # FINRA, NYSE, NYSE Arca, Nasdaq, IEX, Cboe BZX


def minute(market: Market, symbol: str, day: date, start: int) -> Minute | None:
    """The minute of `symbol` that begins at `start` (Unix seconds), None where nothing was traded in it.

    It is told whole: whoever shows it waits until it is over.
    """
    bars = market.minutes(symbol, day)
    k = int(np.searchsorted(bars.start, start))
    if k == len(bars.start) or bars.start[k] != start:
        return None
    volume = bars.volume[: k + 1]
    total = float(volume.sum())
    paid = float((volume * bars.vwap[: k + 1]).sum())
    return Minute(
        symbol=symbol,
        start=start,
        open=float(bars.open[k]),
        high=float(bars.high[k]),
        low=float(bars.low[k]),
        close=float(bars.close[k]),
        volume=float(bars.volume[k]),
        vwap=float(bars.vwap[k]),
        trades=int(bars.trades[k]),
        day_open=float(bars.open[0]),
        day_volume=total,
        day_vwap=round(paid / total, 4) if total else float(bars.vwap[k]),
    )


def trades(seed: int, bar: Minute) -> list[Trade]:
    """The trades of `bar`, oldest first: at most MOST, and as many as it has shares for."""
    rng = dice(seed, "trades", bar.symbol, bar.start)
    count = int(min(MOST, max(bar.trades, 4), max(1, bar.volume)))
    if count < 4:
        return [_only(bar)]
    prices = _prices(bar, count, rng)
    sizes = _sizes(bar.volume, count, rng)
    at = _times(bar.start, count, rng)
    venues = rng.integers(0, len(VENUES), count)
    return [
        Trade(
            symbol=bar.symbol,
            at=int(at[k]),
            number=_number(bar.start, k),
            price=float(prices[k]),
            size=float(sizes[k]),
            exchange=VENUES[venues[k]],
        )
        for k in range(count)
    ]


def quotes(seed: int, bar: Minute, made: Sequence[Trade] | None = None) -> list[Quote]:
    """A quote for each trade of `bar`, a moment before it: the trade is at its bid or at its ask."""
    rng = dice(seed, "quotes", bar.symbol, bar.start)
    found = []
    decimals = 2 if bar.low >= 1 else 4
    for trade in trades(seed, bar) if made is None else made:
        bid, ask = _around(trade.price, decimals, spread=1 + int(rng.integers(0, 3)), lifted=rng.random() < 0.5)
        sizes = rng.integers(1, 9, 2) * 100
        venues = rng.integers(0, len(VENUES), 2)
        found.append(
            Quote(
                symbol=bar.symbol,
                at=trade.at - 500,
                number=trade.number,
                bid=bid,
                bid_size=int(sizes[0]),
                ask=ask,
                ask_size=int(sizes[1]),
                bid_exchange=VENUES[venues[0]],
                ask_exchange=VENUES[venues[1]],
            )
        )
    return found


def seconds(made: Sequence[Trade]) -> Iterator[tuple[int, list[Trade]]]:
    """(Unix second, its trades), oldest first: what a bar of one second is made of."""
    second: int | None = None
    held: list[Trade] = []
    for trade in made:
        if trade.at // NS != second:
            if second is not None:
                yield second, held
            second, held = trade.at // NS, []
        held.append(trade)
    if second is not None:
        yield second, held


def _only(bar: Minute) -> Trade:
    return Trade(
        symbol=bar.symbol,
        at=bar.start * NS + 1000,
        number=_number(bar.start, 0),
        price=bar.close,
        size=bar.volume,
        exchange=VENUES[0],
    )


def _around(price: float, decimals: int, *, spread: int, lifted: bool) -> tuple[float, float]:
    """Bid and ask on the grid of quotes, `spread` steps apart, the price at one of them or between."""
    step = 10**decimals
    below, above = math.floor(round(price * step, 6)), math.ceil(round(price * step, 6))
    bid, ask = (above - spread, above) if lifted else (below, below + spread)
    return max(1, min(bid, below)) / step, max(ask, above, 2) / step


def _number(start: int, k: int) -> int:
    """A number that rises through the day: trades of later minutes have higher ones."""
    return (start // MINUTE_S % 1440) * 100 + k + 1


def _prices(bar: Minute, count: int, rng: np.random.Generator) -> Array:
    decimals = grid(bar.open, bar.high, bar.low, bar.close)
    prices = np.round(rng.uniform(bar.low, bar.high, count), decimals)
    prices = np.clip(prices, bar.low, bar.high)
    spots = rng.permutation(np.arange(1, count - 1))[:2]
    prices[spots[0]], prices[spots[1]] = bar.high, bar.low
    prices[0], prices[-1] = bar.open, bar.close
    return prices


def _sizes(volume: float, count: int, rng: np.random.Generator) -> Array:
    """(count,) sizes of at least 1 with the sum `volume`."""
    whole = int(volume)
    weight = np.cumsum(rng.gamma(0.8, 1.0, count))
    bounds = np.floor((whole - count) * weight / weight[-1])
    bounds[-1] = whole - count
    sizes: Array = np.diff(bounds, prepend=0.0) + 1
    sizes[-1] += volume - whole
    return sizes


def _times(start: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(count,) rising instants of the minute in nanoseconds, whole microseconds after its start."""
    at = np.sort(rng.integers(1, MINUTE_S * 1_000_000 - count, count)) + np.arange(count)
    return start * NS + at * 1000
