"""The body of an order as Alpaca takes it, and what it refuses before it looks at any account."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

from marketagent.sandbox.checks import RULE, SHAPE
from marketagent.sandbox.market import Market
from marketagent.sandbox.names import company
from marketagent.sandbox.order import Order, Ticket
from marketagent.sandbox.refusal import Refusal

SIDES = ("buy", "sell")
TYPES = ("market", "limit", "stop", "stop_limit", "trailing_stop")
FORCES = ("day", "gtc", "opg", "cls", "ioc", "fok")
CLASSES = ("", "simple", "bracket", "oco", "oto")
INTENTS = ("", "buy_to_open", "buy_to_close", "sell_to_open", "sell_to_close")
_LONGEST_ID = 128
_MOST = Decimal(10**12)  # of anything: what is more would not be exact any longer
_NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,20})?([eE][+-]?\d{1,2})?", re.ASCII)


def ticket(body: Any, market: Market, day: date) -> Ticket:
    """The order that `body` asks for, its symbol turned into the company's own. Raises Refusal, 422."""
    if not isinstance(body, Mapping):
        raise Refusal(422, SHAPE, "request body format is invalid")
    if body.get("order_class") == "mleg" or body.get("legs"):
        raise Refusal(422, SHAPE, "invalid order_class: mleg is for options")
    profit, loss = _leg(body, "take_profit"), _leg(body, "stop_loss")
    order_class = _one_of(body, "order_class", CLASSES, "")
    made = Ticket(
        symbol=_symbol(body, market, day),
        side=_one_of(body, "side", SIDES),
        type=_one_of(body, "type", TYPES),
        time_in_force=_one_of(body, "time_in_force", FORCES),
        qty=number(body, "qty"),
        notional=number(body, "notional"),
        limit_price=number(body, "limit_price"),
        stop_price=number(body, "stop_price"),
        trail_price=number(body, "trail_price"),
        trail_percent=number(body, "trail_percent"),
        extended_hours=bool(body.get("extended_hours") or False),
        client_order_id=client_id(body),
        order_class="" if order_class == "simple" else order_class,
        take_profit=number(profit, "limit_price", "take_profit.limit_price"),
        stop_loss=number(loss, "stop_price", "stop_loss.stop_price"),
        stop_loss_limit=number(loss, "limit_price", "stop_loss.limit_price"),
        position_intent=_one_of(body, "position_intent", INTENTS, "") or None,
    )
    if made.order_class == "oco" and made.limit_price is None:
        made = replace(made, limit_price=made.take_profit)
    check(made)
    return made


def changed(order: Order, body: Any) -> Ticket:
    """`order` as PATCH asks for it; `qty` is what is still to trade. Raises Refusal, 422."""
    if not isinstance(body, Mapping):
        raise Refusal(422, SHAPE, "request body format is invalid")
    if order.qty is None:
        raise Refusal(422, RULE, "unable to replace order in current state")
    trail = number(body, "trail")
    by_price = order.trail_price is not None
    made = Ticket(
        symbol=order.symbol,
        side=order.side,
        type=order.type,
        time_in_force=_one_of(body, "time_in_force", FORCES, order.time_in_force),
        qty=number(body, "qty") or order.qty - order.filled_qty,
        limit_price=number(body, "limit_price") or order.limit_price,
        stop_price=number(body, "stop_price") or (None if order.type == "trailing_stop" else order.stop_price),
        trail_price=(trail or order.trail_price) if by_price else None,
        trail_percent=None if by_price else (trail or order.trail_percent),
        extended_hours=order.extended_hours,
        client_order_id=client_id(body),
        position_intent=order.position_intent,
    )
    check(made)
    return made


def check(asked: Ticket) -> None:
    """Raises Refusal for what is wrong with `asked` by itself."""
    _check_size(asked)
    _check_prices(asked)
    _check_class(asked)
    if asked.extended_hours and (asked.type, asked.time_in_force) != ("limit", "day"):
        raise Refusal(422, RULE, "extended hours order must be DAY limit orders")
    if asked.time_in_force in ("opg", "cls") and asked.type not in ("market", "limit"):
        raise Refusal(422, RULE, f"{asked.time_in_force} orders must be market or limit orders")
    if asked.time_in_force in ("ioc", "fok") and asked.type not in ("market", "limit"):
        raise Refusal(422, RULE, f"{asked.time_in_force} orders must be market or limit orders")


def number(body: Mapping[str, Any], field: str, name: str = "") -> Decimal | None:
    """A number, or a text of one, as it was written; None if it is not there. Raises Refusal."""
    value = body.get(field)
    if value is None:
        return None
    text = str(value)
    if isinstance(value, bool) or not _NUMBER.fullmatch(text):
        raise Refusal(422, SHAPE, f"invalid {name or field}: {text[:40]}")
    found = Decimal(text)
    if abs(found) > _MOST:
        raise Refusal(422, SHAPE, f"invalid {name or field}: {text[:40]}")
    if found <= 0:
        raise Refusal(422, SHAPE, f"{name or field} must be > 0")
    return found


def client_id(body: Mapping[str, Any]) -> str | None:
    found = body.get("client_order_id")
    if found is None or found == "":
        return None
    if not isinstance(found, str):
        raise Refusal(422, SHAPE, "invalid client_order_id")
    if len(found) > _LONGEST_ID:
        raise Refusal(422, SHAPE, f"client_order_id must be no more than {_LONGEST_ID} characters")
    return found


def _symbol(body: Mapping[str, Any], market: Market, day: date) -> str:
    name = body.get("symbol")
    if not isinstance(name, str) or not name:
        raise Refusal(422, SHAPE, "symbol is required")
    found = company(market, name, day)
    if found is None:
        raise Refusal(422, RULE, f'asset "{name[:40]}" not found')
    return found.symbol


def _one_of(body: Mapping[str, Any], field: str, known: tuple[str, ...], default: str | None = None) -> str:
    value = body.get(field)
    if value is None and default is not None:
        return default
    if value is None:
        raise Refusal(422, SHAPE, f"{field} is required")
    if value not in known:
        raise Refusal(422, SHAPE, f"invalid {field}: {str(value)[:40]}")
    return str(value)


def _leg(body: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    leg = body.get(field) or {}
    if not isinstance(leg, Mapping):
        raise Refusal(422, SHAPE, f"invalid {field}")
    return leg


def _check_size(asked: Ticket) -> None:
    if asked.qty is None and asked.notional is None:
        raise Refusal(422, SHAPE, "qty or notional is required")
    if asked.qty is not None and asked.notional is not None:
        raise Refusal(422, SHAPE, "only one of qty or notional is accepted")
    for name, size, places in (("qty", asked.qty, 9), ("notional", asked.notional, 2)):
        if size is not None and size != round(size, places):
            raise Refusal(422, SHAPE, f"{name} can have at most {places} decimal places")
    if asked.notional is not None and asked.notional < 1:
        raise Refusal(422, SHAPE, "notional amount must be >= 1.00")
    if asked.is_fractional and asked.time_in_force != "day":
        raise Refusal(422, RULE, "fractional orders must be DAY orders")
    if asked.is_fractional and asked.order_class:
        raise Refusal(422, RULE, "fractional orders must be simple orders")


def _check_prices(asked: Ticket) -> None:
    for name, needed in (("limit_price", "limit"), ("stop_price", "stop")):
        given = getattr(asked, name) is not None
        if needed in asked.type.split("_") and asked.type != "trailing_stop" and not given:
            raise Refusal(422, SHAPE, f"{asked.type.replace('_', ' ')} orders require {needed} price")
        if given and (needed not in asked.type.split("_") or asked.type == "trailing_stop"):
            raise Refusal(422, SHAPE, f"{asked.type.replace('_', ' ')} orders must not have a {needed} price")
    trails = (asked.trail_price is not None) + (asked.trail_percent is not None)
    if trails != (asked.type == "trailing_stop"):
        raise Refusal(422, SHAPE, "trailing stop orders must specify one of trail_price or trail_percent")
    for name in ("limit_price", "stop_price", "take_profit", "stop_loss", "stop_loss_limit"):
        price = getattr(asked, name)
        if price is not None and price != round(price, 2 if price >= 1 else 4):
            words = f"invalid {name} {price}. sub-penny increment does not fulfill minimum pricing criteria"
            raise Refusal(422, RULE, words)


def _check_class(asked: Ticket) -> None:
    kind, profit, loss = asked.order_class, asked.take_profit, asked.stop_loss
    if not kind:
        if profit is not None or loss is not None:
            raise Refusal(422, SHAPE, "simple orders must not have take_profit or stop_loss")
        return
    if asked.time_in_force not in ("day", "gtc"):
        raise Refusal(422, RULE, "complex orders must be DAY or GTC orders")
    if kind in ("bracket", "oco") and profit is None:
        raise Refusal(422, SHAPE, f"{kind} orders require take_profit.limit_price")
    if kind in ("bracket", "oco") and loss is None:
        raise Refusal(422, SHAPE, f"{kind} orders require stop_loss.stop_price")
    if kind == "oto" and (profit is None) == (loss is None):
        raise Refusal(422, SHAPE, "oto orders require either take_profit or stop_loss")
    if kind == "oco" and asked.type != "limit":
        raise Refusal(422, SHAPE, "oco orders must be limit orders")
    if profit is not None and loss is not None:
        _check_order_of_exits(asked, profit, loss)


def _check_order_of_exits(asked: Ticket, profit: Decimal, loss: Decimal) -> None:
    closes_long = (asked.side == "sell") == (asked.order_class == "oco")
    if closes_long and profit <= loss:
        raise Refusal(422, RULE, "take_profit.limit_price must be > stop_loss.stop_price")
    if not closes_long and profit >= loss:
        raise Refusal(422, RULE, "take_profit.limit_price must be < stop_loss.stop_price")
