"""Which company a ticker means on a day, and the other way round: a market knows each by its last one."""

from datetime import date

from marketagent.sandbox.market import Asset, Market
from marketagent.sandbox.names import ticker


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
