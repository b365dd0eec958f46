"""Who had a ticker when: names change hands, and what a vendor shows under one ends on the day it does."""

from datetime import date, timedelta

from marketagent.sandbox.market import Asset, Market


def spans(market: Market, ticker: str) -> list[tuple[str, date, date]]:
    """(symbol of the market, first day, last day) of those who were called `ticker`, oldest first.

    A company is in the market under its last name; before each change it had a former one.
    """
    found = [
        (asset.symbol, first, last)
        for asset in market.assets()
        for name, first, last in history(asset)
        if name == ticker
    ]
    return sorted(found, key=lambda one: one[1])


def history(asset: Asset) -> list[tuple[str, date, date]]:
    """(ticker, first day, last day) of one company, oldest first, from its listing to for ever."""
    found = []
    since = asset.listed
    for changed, name in sorted(asset.former):
        found.append((name, since, changed - timedelta(days=1)))
        since = changed
    return [*found, (asset.symbol, since, asset.delisted or date.max)]


def ticker(asset: Asset, day: date) -> str:
    """What `asset` is called on `day`."""
    return next((name for name, _, last in history(asset) if day <= last), asset.symbol)


def called(market: Market, symbol: str, day: date) -> str:
    """What the company that the market knows as `symbol` was called on `day`."""
    found = market.asset(symbol)
    return ticker(found, day) if found else symbol


def company(market: Market, name: str, day: date) -> Asset | None:
    """The company whose ticker on `day` was `name`; None if there was none."""
    found = market.asset(name)
    if found is not None and ticker(found, day) == name:
        return found
    return next((one for one in market.assets() if one.former and ticker(one, day) == name), None)
