"""A made-up market with all that happens to real ones, from a seed: 2015 to a year ahead, the names of @sp100 and a few.

Returns are a market's and a company's own, each with volatility that comes in clusters (GARCH(1,1); Bollerslev 1986),
so that names move together and calm and wild weeks follow one another. Prices above and below what is usual are split
and consolidated, most companies pay each quarter. What a test or a rehearsal waits for has names of its own:

    ZFWD   splits 2:1 every year, and pays a special dividend the day after
    ZREV   falls, and is consolidated 1:5 every year
    ZNEW   was ZOLD before (and META was FB, as in truth)
    ZHALT  is halted from 11:00 to 11:30 New York every fifth session, at its open every seventh
    ZGONE  was delisted, ZIPO was listed lately

A company's path depends on the seed and its name alone, not on what was asked before.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from math import log, sqrt

import numpy as np

from marketagent.sandbox import bridge
from marketagent.sandbox.listing import Calendar, Listed, Listing
from marketagent.sandbox.market import Array, Asset, Dividend, Session, Split
from marketagent.sandbox.replay import end_of_life
from marketagent.universes import BUILT_IN

FIRST = date(2015, 1, 2)
SPECIAL = ("ZFWD", "ZREV", "ZNEW", "ZHALT", "ZGONE", "ZIPO")
_YEAR = 250  # sessions
_DEAR, _CHEAP = 700.0, 5.0  # USD: beyond them a company splits 4:1, or consolidates 1:10


class Synthetic(Listing):
    """@sp100, the special names and `symbols`; everything else is unknown."""

    def __init__(self, sessions: Sequence[Session], now: datetime, seed: int = 0, symbols: Sequence[str] = ()) -> None:
        super().__init__(seed, Calendar(sessions))
        self._begin = self.calendar.number(FIRST)
        self._end = end_of_life(self.calendar, now)
        # Half a year that ended: what befalls the special names stays where it is until the next one has.
        self._anchor = max(self._begin, self._end - 2 * _YEAR)
        self._assets = {name: self._asset(name, symbols) for name in sorted({*BUILT_IN["sp100"], *SPECIAL, *symbols})}
        self._listed: dict[str, Listed] = {}
        self._market = _garch(bridge.dice(seed, "market"), self._end - self._begin, 0.010) + 0.0003

    def assets(self) -> Sequence[Asset]:
        return list(self._assets.values())

    def asset(self, symbol: str) -> Asset | None:
        return self._assets.get(symbol)

    def listed(self, symbol: str) -> Listed | None:
        asset = self._assets.get(symbol)
        if asset is not None and symbol not in self._listed:
            self._listed[symbol] = self._life(asset)
        return self._listed.get(symbol)

    def halts(self, symbol: str, day: date) -> Sequence[tuple[datetime, datetime]]:
        number = self.calendar.number(day)
        if number == len(self.calendar.days) or self.calendar.days[number] != day:
            return ()
        session = self.calendar.sessions[number]
        if symbol == "ZHALT":
            late = session.open_at + timedelta(minutes=90)
            found = [(late, late + timedelta(minutes=30))] if number % 5 == 2 else []
            return found + ([(session.open_at, session.open_at + timedelta(minutes=10))] if number % 7 == 3 else [])
        rng = bridge.dice(self.seed, "halt", symbol, day)
        if rng.random() > 0.002:
            return ()
        first = session.open_at + timedelta(minutes=int(rng.integers(5, 150)))
        return ((first, first + timedelta(minutes=5)),)  # as after a jump beyond the price bands

    def _asset(self, symbol: str, symbols: Sequence[str]) -> Asset:
        days = self.calendar.days
        former: tuple[tuple[date, str], ...] = ()
        if symbol == "ZNEW":
            former = ((days[self._anchor - 80], "ZOLD"),)
        if symbol == "META" and "FB" not in symbols:
            former = ((date(2022, 6, 9), "FB"),)
        rng = bridge.dice(self.seed, "asset", symbol)
        return Asset(
            symbol=symbol,
            name=f"{symbol.title()} Corp. (made up)",
            exchange="XNAS" if rng.random() < 0.6 else "XNYS",
            listed=days[self._anchor - 40] if symbol == "ZIPO" else days[self._begin],
            delisted=days[self._anchor - 30] if symbol == "ZGONE" else None,
            former=former,
            shortable=symbol not in SPECIAL,
            fractionable=symbol not in ("ZREV", "ZGONE"),
        )

    def _life(self, asset: Asset) -> Listed:
        """All days of `asset`, and what befell it on them."""
        rng = bridge.dice(self.seed, "path", asset.symbol)
        t = self._end - self._begin
        numbers = np.arange(self._begin, self._end)
        days = np.array(self.calendar.days[self._begin : self._end])
        beta, usual = rng.uniform(0.7, 1.4), rng.uniform(0.005, 0.014)
        drift = {"ZFWD": log(2) / _YEAR, "ZREV": -log(5) / _YEAR}.get(asset.symbol, 0.0)
        moves = drift + beta * self._market + _garch(rng, t, usual)
        yields = _yields(asset.symbol, t, rng)
        first = float(rng.choice([30.0, 60.0, 120.0, 240.0]) * rng.uniform(0.7, 1.4))
        close, ratio = _closes(asset.symbol, first, moves + np.log1p(-yields))
        before = np.concatenate([[first], close[:-1]]) / ratio
        cash = np.where(yields > 0, np.maximum(0.01, np.round(before * yields, 2)), 0.0)
        opens, high, low = _around(np.maximum(0.02, before - cash), close, moves, rng)
        volume = np.round(rng.lognormal(15, 0.7) * np.exp(rng.normal(0, 0.35, t)) * np.cumprod(ratio))
        kept = (days >= asset.listed) & (days <= (asset.delisted or date.max))
        return Listed(
            asset=asset,
            session=numbers[kept],
            open=opens[kept],
            high=high[kept],
            low=low[kept],
            close=close[kept],
            volume=np.maximum(1, volume)[kept],
            splits=tuple(
                Split(
                    symbol=asset.symbol, day=days[k], new=max(1.0, float(ratio[k])), old=max(1.0, round(1 / ratio[k]))
                )
                for k in np.flatnonzero(kept & (ratio != 1))
            ),
            dividends=tuple(
                Dividend(symbol=asset.symbol, day=days[k], cash=float(cash[k]), special=bool(yields[k] > 0.02))
                for k in np.flatnonzero(kept & (cash > 0))
            ),
        )


def _yields(symbol: str, count: int, rng: np.random.Generator) -> Array:
    """(count,) the part of its price that a company pays on each day: once a quarter most do, ZFWD once a year."""
    found = np.zeros(count)
    pays, quarter = rng.random() < 0.65, int(rng.integers(0, 63))
    if symbol == "ZFWD":
        found[61::_YEAR] = 0.05
    elif pays and symbol not in SPECIAL:
        found[quarter::63] = 0.005
    return found


def _closes(symbol: str, first: float, moves: Array) -> tuple[Array, Array]:
    """(T,) closes as traded, in cents, and (T,) new shares for one old on each day's open."""
    level = log(first) + np.cumsum(moves)
    ratio = np.ones(len(moves))
    if symbol in ("ZFWD", "ZREV"):
        ratio[60::_YEAR] = 2.0 if symbol == "ZFWD" else 0.2
        return _cents(np.exp(level - np.cumsum(np.log(ratio)))), ratio
    day = 0
    while (out := np.flatnonzero((level[day:-1] > log(_DEAR)) | (level[day:-1] < log(_CHEAP)))).size:
        day += int(out[0]) + 1  # the morning after
        ratio[day] = 4.0 if level[day - 1] > log(_DEAR) else 0.1
        level[day:] -= log(ratio[day])
    return _cents(np.exp(level)), ratio


def _around(before: Array, close: Array, moves: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """(T,) open, high and low of days that come from `before` and end at `close`."""
    gap, up, down = rng.normal(0, 0.3, len(close)), *np.abs(rng.normal(0, 0.5, (2, len(close))))
    size = np.abs(moves) + 0.004
    opens = _cents(before * np.exp(moves * gap))
    high = np.maximum(_cents(np.maximum(opens, close) * (1 + size * up)), np.maximum(opens, close))
    low = np.minimum(_cents(np.minimum(opens, close) * (1 - np.minimum(0.5, size * down))), np.minimum(opens, close))
    return opens, high, low


def _cents(prices: Array) -> Array:
    return np.maximum(0.01, np.round(prices, 2))


def _garch(rng: np.random.Generator, count: int, usual: float) -> Array:
    """(count,) returns without drift whose volatility comes in clusters around `usual` a day."""
    a, b = 0.06, 0.92
    variance, found = usual**2, []
    for shock in rng.standard_normal(count).tolist():
        step = max(-0.2, min(0.2, sqrt(variance) * shock))
        found.append(step)
        variance = (1 - a - b) * usual**2 + a * step * step + b * variance
    return np.array(found)
