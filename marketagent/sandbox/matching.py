"""At what price an order trades against one minute bar: the whole rule book of the sandbox's fills, without state.

A bar tells its open first and the rest only when it is over. So an order meets a bar twice: at its open, where what
is marketable trades at the open, and over the rest of it, where a limit trades at its price once the bar went
*through* it (at a mere touch others were first) and a stop at its price once the bar touched it.
"""

from decimal import Decimal
from typing import NamedTuple

from marketagent.sandbox.order import Order


class Minute(NamedTuple):
    """One minute bar; `start` in Unix seconds."""

    start: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int


def at_open(order: Order, bar: Minute) -> Decimal | None:
    """The price at which `order` trades at the open of `bar`; None if it does not. Stops may be triggered."""
    _trigger(order, bar.open)
    if not _is_live(order):
        return None
    return bar.open if order.limit_price is None or _reaches(order, bar.open, order.limit_price) else None


def in_bar(order: Order, bar: Minute) -> Decimal | None:
    """The price at which `order` trades after the open of `bar`; None if it does not.

    A stop limit that is triggered here waits for the next bar: what came after the trigger is not known.
    """
    if _is_live(order):
        return _through(order, bar)
    best, worst = (bar.low, bar.high) if order.is_buy else (bar.high, bar.low)
    stop = order.stop_price
    if stop is not None and _touches(order, worst, stop):
        order.triggered = True
        return stop if order.limit_price is None else None
    if order.type == "trailing_stop":
        return _trail(order, best, bar.close)
    return None


def _is_live(order: Order) -> bool:
    return order.type in ("market", "limit") or order.triggered


def _through(order: Order, bar: Minute) -> Decimal | None:
    limit = order.limit_price
    if limit is None:
        return None  # the rest of a market order takes the next open
    return limit if (bar.low < limit if order.is_buy else bar.high > limit) else None


def _trigger(order: Order, price: Decimal) -> None:
    if order.stop_price is not None and not order.triggered:
        order.triggered = _touches(order, price, order.stop_price)
    if order.type == "trailing_stop" and not order.triggered:
        _follow(order, price)


def _trail(order: Order, best: Decimal, close: Decimal) -> Decimal | None:
    """The stop moved behind the best price of the bar may have been hit before its end."""
    _follow(order, best)
    if order.stop_price is None or not _touches(order, close, order.stop_price):
        return None
    order.triggered = True
    return order.stop_price


def _follow(order: Order, price: Decimal) -> None:
    order.hwm = price if order.hwm is None else (min if order.is_buy else max)(order.hwm, price)
    order.stop_price = trailed(order, order.hwm)


def trailed(order: Order, mark: Decimal) -> Decimal:
    """The stop price behind `mark`, in cents."""
    distance = order.trail_price if order.trail_price is not None else mark * (order.trail_percent or 0) / 100
    return max(mark + distance if order.is_buy else mark - distance, Decimal("0.01")).quantize(Decimal("0.01"))


def _reaches(order: Order, price: Decimal, limit: Decimal) -> bool:
    return price <= limit if order.is_buy else price >= limit


def _touches(order: Order, price: Decimal, stop: Decimal) -> bool:
    return price >= stop if order.is_buy else price <= stop
