"""What the exchange refuses, with Alpaca's words: every rule looks at an account as it is and changes nothing."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING

from marketagent.sandbox.book import worth
from marketagent.sandbox.market import Asset
from marketagent.sandbox.order import ZERO, Order, Ticket
from marketagent.sandbox.refusal import Refusal
from marketagent.sandbox.tape import new_york_day
from marketagent.sandbox.world import NEW_YORK

if TYPE_CHECKING:
    from marketagent.sandbox.exchange import Account

SHAPE, RULE, FORBIDDEN = 40010001, 42210000, 40310000
_SHORT_MARK_UP = Decimal("1.03")  # a short sale is valued above the price, which may run away
_AUCTIONS = {"opg": time(9, 28), "cls": time(15, 50)}  # the last moment to enter; the next day's opens at 19:00
_NEXT_DAYS = time(19, 0)


def admit(account: "Account", ticket: Ticket, now: datetime) -> Decimal:
    """The price that values `ticket` while it waits. Raises Refusal for the first rule that it breaks."""
    unique(account, ticket.client_order_id)
    asset = tradable(account, ticket.symbol, new_york_day(now))
    price = account.tape.price(ticket.symbol, now)
    if price is None:
        raise Refusal(422, RULE, f'asset "{ticket.symbol}" is not tradable')
    _fractions(asset, ticket)
    _auction(ticket, now)
    _stops(ticket, price)
    _wash_trade(account, ticket)
    opens = _opening(account, ticket, price)
    if opens and ticket.side == "sell":
        _short(account, asset, ticket)
    reference = _reference(ticket, price, short=bool(opens) and ticket.side == "sell")
    _affordable(account, opens * reference if ticket.notional is None else opens * price, now)
    return reference


def exchangeable(account: "Account", order: Order, ticket: Ticket, now: datetime) -> Decimal:
    """The price that values `ticket` in the place of `order`; raises Refusal."""
    if order.status == "pending_new":
        raise Refusal(422, RULE, "unable to replace order, order isn't sent to exchange yet")
    if order.status not in ("new", "accepted", "partially_filled", "held"):
        raise Refusal(422, RULE, "unable to replace order in current state")
    unique(account, ticket.client_order_id)
    price = account.tape.price(ticket.symbol, now)
    if price is None:
        raise Refusal(422, RULE, "unable to replace order in current state")
    if order.parent is None and order.status != "held":
        opens = _opening(account, ticket, price, without=order)
        reference = _reference(ticket, price, short=bool(opens) and ticket.side == "sell")
        _affordable(account, opens * reference, now, without=order)
        return reference
    return _reference(ticket, price, short=False)


def cancelable(order: Order) -> None:
    if not order.is_open or order.cancels_at is not None:
        raise Refusal(422, RULE, f'order is already in "{order.status}" state')


def unique(account: "Account", client_order_id: str | None) -> None:
    """A client's id is spent for ever, also once its order is filled or canceled."""
    if client_order_id in account.by_client_id:
        raise Refusal(422, SHAPE, "client_order_id must be unique")


def tradable(account: "Account", symbol: str, day: date) -> Asset:
    asset = account.tape.asset(symbol)
    if asset is None or asset.listed > day:
        raise Refusal(422, RULE, f'asset "{symbol}" not found')
    if asset.delisted is not None and asset.delisted < day:
        raise Refusal(422, RULE, f'asset "{symbol}" is not tradable')
    return asset


def legs(ticket: Ticket) -> Iterable[Ticket]:
    """The exits that come with `ticket`: of an oco, whose own limit is the profit, only the stop."""
    exit_side = ticket.side if ticket.order_class == "oco" else "sell" if ticket.side == "buy" else "buy"
    leg = replace(ticket, side=exit_side, type="limit", limit_price=None, stop_price=None, client_order_id=None)
    leg = replace(leg, trail_price=None, trail_percent=None, extended_hours=False)
    if ticket.take_profit is not None and ticket.order_class != "oco":
        yield replace(leg, limit_price=ticket.take_profit)
    if ticket.stop_loss is not None:
        kind = "stop" if ticket.stop_loss_limit is None else "stop_limit"
        yield replace(leg, type=kind, stop_price=ticket.stop_loss, limit_price=ticket.stop_loss_limit)


def held_for_orders(account: "Account", symbol: str, *, without: Order | None = None) -> Decimal:
    """Shares of the position in `symbol` that open orders are to close; of two exits one counts."""
    side = "sell" if account.book.qty(symbol) > 0 else "buy"
    return sum(
        (
            order.remaining(order.reserve_price)
            for order in account.open_orders
            if order.symbol == symbol and order.side == side and order.status != "held" and order is not without
            if not any(other.is_open and other.seq < order.seq for other in order.siblings)
        ),
        ZERO,
    )


def reserved(account: "Account", *, without: Order | None = None) -> Decimal:
    """USD of exposure that open orders would add."""
    closable = {symbol: held.qty for symbol, held in account.book.positions.items()}
    total = ZERO
    for order in account.open_orders:
        if order.parent is not None or order is without:
            continue
        qty, sign = order.remaining(order.reserve_price), Decimal(1 if order.is_buy else -1)
        closes = min(qty, max(-sign * closable.get(order.symbol, ZERO), ZERO))
        closable[order.symbol] = closable.get(order.symbol, ZERO) + sign * closes
        total += (qty - closes) * order.reserve_price
    return total


def buying_power(account: "Account", at: datetime, multiplier: Decimal, *, without: Order | None = None) -> Decimal:
    """USD that orders may still add: `multiplier` times the equity, less what is held and asked for."""
    gross = sum(
        (abs(held.qty) * worth(account.tape, symbol, at) for symbol, held in account.book.positions.items()), ZERO
    )
    equity = account.book.equity(account.tape, at)
    return max(multiplier * equity - gross - reserved(account, without=without), ZERO)


def _fractions(asset: Asset, ticket: Ticket) -> None:
    if ticket.is_fractional and not asset.fractionable:
        raise Refusal(403, FORBIDDEN, f'asset "{ticket.symbol}" is not fractionable')


def _auction(ticket: Ticket, now: datetime) -> None:
    last = _AUCTIONS.get(ticket.time_in_force)
    if last is not None and last <= now.astimezone(NEW_YORK).time() < _NEXT_DAYS:
        words = f"{ticket.time_in_force} orders are not accepted between {last:%H:%M} and {_NEXT_DAYS:%H:%M} ET"
        raise Refusal(422, RULE, words)


def _stops(ticket: Ticket, price: Decimal) -> None:
    stop = ticket.stop_price if ticket.stop_price is not None else ticket.stop_loss
    if stop is None:
        return
    exits = "sell" if ticket.stop_price is not None or ticket.order_class == "oco" else "buy"
    below = ticket.side == exits  # a stop that sells lies below the price
    if below and stop >= price:
        raise Refusal(
            422, RULE, "stop price must be less than current price", market_price=str(price), stop_price=str(stop)
        )
    if not below and stop <= price:
        raise Refusal(
            422, RULE, "stop price must be greater than current price", market_price=str(price), stop_price=str(stop)
        )


def _wash_trade(account: "Account", ticket: Ticket) -> None:
    if ticket.order_class:
        return
    for order in account.open_orders:
        if order.symbol != ticket.symbol or order.side == ticket.side or order.order_class or order.parent:
            continue
        limits = order.type == ticket.type == "limit"
        buy, sell = (order, ticket) if order.is_buy else (ticket, order)
        if (
            limits
            and buy.limit_price is not None
            and sell.limit_price is not None
            and buy.limit_price < sell.limit_price
        ):
            continue
        raise Refusal(
            403,
            FORBIDDEN,
            "potential wash trade detected. use complex orders",
            reject_reason=f"opposite side {'limit' if limits else 'market/stop'} order exists",
            existing_order_id=order.id,
        )


def _opening(account: "Account", ticket: Ticket, price: Decimal, *, without: Order | None = None) -> Decimal:
    """Shares by which `ticket` would add to exposure: all or none, as one order cannot turn a position over."""
    wanted = ticket.qty if ticket.qty is not None else (ticket.notional or ZERO) / price
    existing = account.book.qty(ticket.symbol)
    if existing == 0 or (existing > 0) == (ticket.side == "buy"):
        return wanted
    held = held_for_orders(account, ticket.symbol, without=without)
    available = max(abs(existing) - held, ZERO)
    if wanted > available:
        raise Refusal(
            403,
            FORBIDDEN,
            f"insufficient qty available for order (requested: {plain(wanted)}, available: {plain(available)})",
            available=plain(available),
            existing_qty=plain(abs(existing)),
            held_for_orders=plain(held),
            symbol=ticket.symbol,
        )
    return ZERO


def _short(account: "Account", asset: Asset, ticket: Ticket) -> None:
    if not account.may_short:
        raise Refusal(403, FORBIDDEN, "account is not allowed to short")
    if ticket.is_fractional:
        raise Refusal(422, RULE, "fractional orders cannot be sold short")
    if not asset.shortable:
        raise Refusal(422, RULE, f'asset "{ticket.symbol}" cannot be sold short')


def _reference(ticket: Ticket, price: Decimal, *, short: bool) -> Decimal:
    if short:
        return max(price * _SHORT_MARK_UP, ticket.limit_price or ZERO)
    return ticket.limit_price or ticket.stop_price or price


def _affordable(account: "Account", cost: Decimal, now: datetime, *, without: Order | None = None) -> None:
    power = buying_power(account, now, account.rules.multiplier, without=without)
    if cost > power:
        raise Refusal(
            403, FORBIDDEN, "insufficient buying power", buying_power=plain(power, 2), cost_basis=plain(cost, 2)
        )


def plain(number: Decimal, places: int = 9) -> str:
    """Without exponent and trailing zeros.

    >>> plain(Decimal("100.500")), plain(Decimal("1E+3")), plain(Decimal("-0.0"))
    ('100.5', '1000', '0')
    """
    text = f"{number.quantize(Decimal(1).scaleb(-places)):f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text
