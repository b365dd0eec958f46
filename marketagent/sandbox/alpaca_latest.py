"""The newest of everything that Alpaca shows of a symbol: bar, trade, quote, and the snapshot of all."""

from datetime import timedelta
from typing import Any

from marketagent.sandbox.alpaca_bars import daily, of_feed, rows
from marketagent.sandbox.alpaca_query import EMBARGO, Query
from marketagent.sandbox.alpaca_ticks import ticks_of
from marketagent.sandbox.market import Asset
from marketagent.sandbox.tape import new_york_day
from marketagent.sandbox.world import MINUTE_S, SandboxWorld, cut

_BACK = timedelta(days=10)


def latest_bar(world: SandboxWorld, asset: Asset, feed: str) -> dict[str, Any] | None:
    """The last minute that is over."""
    newest = (world.now() - (EMBARGO if feed == "delayed_sip" else timedelta(0))).timestamp()
    today = new_york_day(world.now())
    for session in reversed(world.market.sessions(today - _BACK, today)):
        bars = of_feed(world, asset.symbol, world.minutes(asset.symbol, session.day), feed)
        bars = cut(bars, bars.start + MINUTE_S <= newest)
        if len(bars.start):
            return rows(cut(bars, slice(-1, None)))[0]
    return None


def latest_trade(world: SandboxWorld, asset: Asset, feed: str) -> dict[str, Any] | None:
    return _latest(world, asset, feed, "trades")


def latest_quote(world: SandboxWorld, asset: Asset, feed: str) -> dict[str, Any] | None:
    return _latest(world, asset, feed, "quotes")


def snapshot(world: SandboxWorld, asset: Asset, feed: str) -> dict[str, Any]:
    """Everything at once; `dailyBar` is today so far, or the last session's."""
    today = new_york_day(world.now())
    days = daily(world, asset.symbol, today - _BACK, today, feed)
    shown = rows(cut(days, slice(-2, None)))
    return {
        "dailyBar": shown[-1] if shown else None,
        "latestQuote": latest_quote(world, asset, feed),
        "latestTrade": latest_trade(world, asset, feed),
        "minuteBar": latest_bar(world, asset, feed),
        "prevDailyBar": shown[0] if len(shown) == 2 else None,
    }


def _latest(world: SandboxWorld, asset: Asset, feed: str, kind: str) -> dict[str, Any] | None:
    end = world.now() - (EMBARGO if feed == "delayed_sip" else timedelta(0))
    wanted = Query(
        names={asset.symbol: asset}, start=end - _BACK, end=end, feed=feed, limit=1, descending=True, after=None
    )
    return next((row for _, row in ticks_of(world, asset, wanted, kind)), None)
