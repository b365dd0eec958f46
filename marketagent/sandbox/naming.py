"""Which company a ticker meant on a day: companies change their tickers, and a market knows them by the last one."""

from datetime import date

from marketagent.sandbox.market import Asset, Market


def ticker(asset: Asset, day: date) -> str:
    """What `asset` was called on `day`."""
    return next((name for until, name in sorted(asset.former) if day < until), asset.symbol)


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
