"""What Alpaca's data stream tells about one minute, as messages with the time of each; no sockets here.

A bar comes when its minute is over. Of a few, the last trades come late: the bar lacks them, and half a minute later
an updated bar with all of them replaces it, the one that the REST side has.
"""

import math
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from marketagent.sandbox import ticks
from marketagent.sandbox.alpaca_bars import iex_share, of_feed, rows
from marketagent.sandbox.alpaca_ticks import IEX, TAPES, VENUES
from marketagent.sandbox.market import Asset
from marketagent.sandbox.names import company, ticker
from marketagent.sandbox.polygon_windows import midnight, ny_day, together
from marketagent.sandbox.ticks import NS
from marketagent.sandbox.world import MINUTE_S, SandboxWorld, cut

CHANNELS = (
    "trades",
    "quotes",
    "bars",
    "updatedBars",
    "dailyBars",
    "statuses",
    "lulds",
    "corrections",
    "cancelErrors",
)
FAKE = "FAKEPACA"
_LATE_RATE = 0.02
_LATE_S = 30
_HALTED = {"sc": "H", "sm": "Trading Halt", "rc": "T1", "rm": "Halt News Pending"}
_RESUMED = {"sc": "T", "sm": "Trading Resumption", "rc": "C11", "rm": "Trade Halt Concluded By Other Regulatory Auth"}

Message = dict[str, Any]
Timed = tuple[int, Message]


@dataclass(frozen=True)
class Instant:
    """A time in Unix nanoseconds inside a message, until its codec is known."""

    ns: int


class Teller:
    """The messages of one feed."""

    def __init__(self, world: SandboxWorld, feed: str) -> None:
        self.world, self.feed = world, feed

    def window(self, start: int, channels: Mapping[str, Set[str]]) -> list[Timed]:
        """(Unix nanoseconds, message) of all that is told from `start` for a minute, oldest first."""
        found: list[Timed] = []
        for channel, told in (
            ("bars", self._bars),
            ("dailyBars", self._daily),
            ("updatedBars", self._updated),
            ("statuses", self._statuses),
            ("quotes", self._quotes),
            ("trades", self._trades),
        ):
            for name, asset in self._chosen(channels.get(channel, set()), start).items():
                found += told(name, asset, start)
        return sorted(found, key=lambda one: one[0])

    def _bars(self, name: str, asset: Asset | None, start: int) -> Iterator[Timed]:
        bar = self._minute(name, asset, start - MINUTE_S)
        if bar is not None:
            late = self._late(bar)
            shown = bar if late is None else replace(bar, volume=bar.volume - late, trades=max(bar.trades - 1, 1))
            yield start * NS, _bar("b", name, shown, bar.start)

    def _updated(self, name: str, asset: Asset | None, start: int) -> Iterator[Timed]:
        bar = self._minute(name, asset, start - MINUTE_S)
        if bar is not None and self._late(bar) is not None:
            yield (start + _LATE_S) * NS, _bar("u", name, bar, bar.start)

    def _daily(self, name: str, asset: Asset | None, start: int) -> Iterator[Timed]:
        """The day so far, after each of its minutes."""
        if asset is None or self._minute(name, asset, start - MINUTE_S) is None:
            return
        day = ny_day(start)
        bars = self.world.market.minutes(asset.symbol, day)
        bars = of_feed(self.world, asset.symbol, cut(bars, bars.start < start), self.feed)
        whole = together(bars, np.full(len(bars.start), int(midnight(day)), dtype=np.int64))
        row = rows(whole)[0]
        yield start * NS, {"T": "d", "S": name, **row, "t": Instant(int(midnight(day)) * NS)}

    def _statuses(self, name: str, asset: Asset | None, start: int) -> Iterator[Timed]:
        halts = self.world.market.halts(asset.symbol, ny_day(start)) if asset else ()
        for first, last in halts:
            for at, words in ((first, _HALTED), (last, _RESUMED)):
                if start <= at.timestamp() < start + MINUTE_S:
                    ns = int(at.timestamp()) * NS
                    yield ns, {"T": "s", "S": name, **words, "t": Instant(ns), "z": _tape(asset)}

    def _trades(self, name: str, asset: Asset | None, start: int) -> Iterator[Timed]:
        bar = self._whole(name, asset, start)
        for one in ticks.trades(self.world.seed, bar) if bar else ():
            if self.feed != "iex" or one.exchange == IEX:
                size = int(one.size) if one.size == int(one.size) else one.size
                message = {"T": "t", "S": name, "i": one.number, "x": VENUES[one.exchange], "p": one.price, "s": size}
                yield one.at, message | {"c": ["@"], "t": Instant(one.at), "z": _tape(asset)}

    def _quotes(self, name: str, asset: Asset | None, start: int) -> Iterator[Timed]:
        bar = self._whole(name, asset, start)
        for one in ticks.quotes(self.world.seed, bar) if bar else ():
            venues = (IEX, IEX) if self.feed == "iex" else (one.ask_exchange, one.bid_exchange)
            message: Message = {"T": "q", "S": name, "ax": VENUES[venues[0]], "ap": one.ask, "as": one.ask_size}
            message |= {"bx": VENUES[venues[1]], "bp": one.bid, "bs": one.bid_size, "c": ["R"]}
            yield one.at, message | {"t": Instant(one.at), "z": _tape(asset)}

    def _chosen(self, names: Set[str], start: int) -> dict[str, Asset | None]:
        """Who is meant on the day of `start`; a name that is nobody's is left out."""
        if self.feed == "test":
            return {FAKE: None} if names & {FAKE, "*"} else {}
        day = ny_day(start)
        if "*" in names:
            assets = [one for one in self.world.market.assets() if one.listed <= day]
            return {ticker(one, day): one for one in assets}
        found = {name: company(self.world.market, name, day) for name in sorted(names)}
        return {name: asset for name, asset in found.items() if asset is not None}

    def _whole(self, name: str, asset: Asset | None, start: int) -> ticks.Minute | None:
        """The minute as the whole tape has it."""
        if asset is None:
            return _fake(self.world, start) if name == FAKE else None
        return ticks.minute(self.world.market, asset.symbol, ny_day(start), start)

    def _minute(self, name: str, asset: Asset | None, start: int) -> ticks.Minute | None:
        """The minute as the feed has it; None if it saw no trade."""
        bar = self._whole(name, asset, start)
        if bar is None or self.feed != "iex" or asset is None:
            return bar
        share = iex_share(self.world, asset.symbol, ny_day(start))
        volume = math.floor(bar.volume * share)
        return replace(bar, volume=volume, trades=max(math.floor(bar.trades * share), 1)) if volume else None

    def _late(self, bar: ticks.Minute) -> int | None:
        """Shares of `bar` that are told late; None for most bars."""
        dice = self.world.random("late", bar.symbol, bar.start)
        if self.feed == "test" or bar.volume < 2 or dice.random() >= _LATE_RATE:
            return None
        return max(1, int(bar.volume * dice.uniform(0.001, 0.05)))


def _bar(kind: str, name: str, bar: ticks.Minute, start: int) -> Message:
    return {
        "T": kind,
        "S": name,
        "o": bar.open,
        "h": bar.high,
        "l": bar.low,
        "c": bar.close,
        "v": int(bar.volume),
        "t": Instant(start * NS),
        "n": bar.trades,
        "vw": bar.vwap,
    }


def _tape(asset: Asset | None) -> str:
    return TAPES.get(asset.exchange, "B") if asset else "C"


def _fake(world: SandboxWorld, start: int) -> ticks.Minute:
    """A minute of the test feed's only symbol, which trades round the clock around 130."""
    dice = world.random(FAKE, start)
    opened, close = (round(dice.uniform(129, 131), 2) for _ in range(2))
    high, low = max(opened, close) + 0.05, min(opened, close) - 0.05
    volume = float(dice.randrange(100, 2000))
    return ticks.Minute(
        symbol=FAKE,
        start=start,
        open=opened,
        high=round(high, 2),
        low=round(low, 2),
        close=close,
        volume=volume,
        vwap=round((opened + close) / 2, 4),
        trades=12,
        day_open=opened,
        day_volume=volume,
        day_vwap=round((opened + close) / 2, 4),
    )
