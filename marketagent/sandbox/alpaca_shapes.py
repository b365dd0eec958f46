"""Orders, positions, accounts and assets as Alpaca spells them: amounts are texts, times have nanoseconds."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from marketagent.sandbox.alpaca_http import stamp
from marketagent.sandbox.book import CENT, Fill, Position, worth
from marketagent.sandbox.checks import buying_power, held_for_orders, plain
from marketagent.sandbox.exchange import Account
from marketagent.sandbox.market import Asset
from marketagent.sandbox.names import called, ticker
from marketagent.sandbox.order import ZERO, Order
from marketagent.sandbox.tape import new_york_day
from marketagent.sandbox.world import NEW_YORK, SandboxWorld

EXCHANGES = {"XNAS": "NASDAQ", "XNYS": "NYSE", "ARCX": "ARCA", "XASE": "AMEX", "BATS": "BATS"}
Json = dict[str, Any]
_TWO = Decimal(2)


def order_json(world: SandboxWorld, order: Order, *, nested: bool = False) -> Json:
    """An order. `order_class` of a simple one is "", `qty` of one in dollars stays null."""
    legs = [order_json(world, leg) for leg in order.legs] if nested and order.legs else None
    return {
        "id": order.id,
        "client_order_id": order.client_order_id,
        "created_at": stamp(order.submitted_at),
        "updated_at": stamp(order.updated_at),
        "submitted_at": stamp(order.submitted_at),
        "filled_at": _stamp(order.filled_at),
        "expired_at": _stamp(order.expired_at),
        "expires_at": _stamp(order.expires_at),
        "canceled_at": _stamp(order.canceled_at),
        "failed_at": None,
        "replaced_at": _stamp(order.replaced_at),
        "replaced_by": order.replaced_by,
        "replaces": order.replaces,
        "asset_id": asset_id(world, order.symbol),
        "symbol": called(world.market, order.symbol, new_york_day(world.now())),
        "asset_class": "us_equity",
        "notional": _text(order.notional),
        "qty": _text(order.qty),
        "filled_qty": plain(order.filled_qty),
        "filled_avg_price": _text(order.average_price),
        "order_class": order.order_class,
        "order_type": order.type,
        "type": order.type,
        "side": order.side,
        "position_intent": order.position_intent or _intent(order),
        "time_in_force": order.time_in_force,
        "limit_price": _text(order.limit_price),
        "stop_price": _text(order.stop_price),
        "status": order.status,
        "extended_hours": order.extended_hours,
        "legs": legs,
        "trail_percent": _text(order.trail_percent),
        "trail_price": _text(order.trail_price),
        "hwm": _text(order.hwm),
        "subtag": None,
        "source": None,
    }


def position_json(world: SandboxWorld, account: Account, held: Position) -> Json:
    now, asset = world.now(), world.market.asset(held.symbol)
    price = worth(account.tape, held.symbol, now)
    value, cost = held.qty * price, held.qty * held.average_price
    before = account.tape.close_before(held.symbol, new_york_day(now)) or price
    today = _gain_today(account, held, price, before, now)
    return {
        "asset_id": asset_id(world, held.symbol),
        "symbol": called(world.market, held.symbol, new_york_day(now)),
        "exchange": EXCHANGES.get(asset.exchange if asset else "", "NASDAQ"),
        "asset_class": "us_equity",
        "asset_marginable": True,
        "qty": plain(held.qty),
        "avg_entry_price": plain(held.average_price),
        "side": "long" if held.qty > 0 else "short",
        "market_value": plain(value, 6),
        "cost_basis": plain(cost, 6),
        "unrealized_pl": plain(value - cost, 6),
        "unrealized_plpc": _share(value - cost, abs(cost)),
        "unrealized_intraday_pl": plain(today, 6),
        "unrealized_intraday_plpc": _share(today, abs(held.qty * before)),
        "current_price": plain(price),
        "lastday_price": plain(before),
        "change_today": _share(price - before, before),
        "qty_available": plain(abs(held.qty) - held_for_orders(account, held.symbol)),
    }


def account_json(world: SandboxWorld, account: Account) -> Json:
    """The account since the day-trade fields went away (2026-07-06)."""
    now, book, tape = world.now(), account.book, account.tape
    values = [held.qty * worth(tape, symbol, now) for symbol, held in book.positions.items()]
    longs, shorts = sum((v for v in values if v > 0), ZERO), sum((v for v in values if v < 0), ZERO)
    equity, gross = book.cash + longs + shorts, longs - shorts
    closed = tape.last_closed(now)
    last_equity = book.equity(tape, closed.close_at) if closed else account.rules.cash
    power = buying_power(account, now, account.rules.multiplier)
    amounts = {
        "buying_power": power,
        "effective_buying_power": power,
        "regt_buying_power": buying_power(account, now, _TWO),
        "non_marginable_buying_power": min(max(book.cash, ZERO), buying_power(account, now, Decimal(1))),
        "options_buying_power": min(max(book.cash, ZERO), buying_power(account, now, Decimal(1))),
        "cash": book.cash,
        "accrued_fees": ZERO,
        "pending_reg_taf_fees": ZERO,
        "portfolio_value": equity,
        "equity": equity,
        "last_equity": last_equity,
        "long_market_value": longs,
        "short_market_value": shorts,
        "position_market_value": gross,
        "initial_margin": gross / 2,
        "maintenance_margin": longs * Decimal("0.25") - shorts * Decimal("0.3"),
        "last_maintenance_margin": ZERO,
        "sma": max(last_equity, ZERO),
        "intraday_adjustments": ZERO,
    }
    return {
        "id": account_id(world, account),
        "admin_configurations": {},
        "user_configurations": None,
        "account_number": f"PA{world.random('alpaca-number', account.key).randrange(36**8):010d}"[:12],
        "status": "ACTIVE",
        "crypto_status": "INACTIVE",
        "options_approved_level": 0,
        "options_trading_level": 0,
        "currency": "USD",
        **{name: plain(amount.quantize(CENT)) for name, amount in amounts.items()},
        "trading_blocked": False,
        "transfers_blocked": False,
        "account_blocked": False,
        "created_at": stamp(account.opened_at),
        "trade_suspended_by_user": False,
        "multiplier": plain(account.rules.multiplier),
        "shorting_enabled": account.may_short,
        "balance_asof": str(closed.day if closed else new_york_day(now)),
    }


def asset_json(world: SandboxWorld, asset: Asset, day: date) -> Json:
    gone = asset.delisted is not None and asset.delisted < day
    return {
        "id": asset_id(world, asset.symbol),
        "class": "us_equity",
        "exchange": EXCHANGES.get(asset.exchange, "NASDAQ"),
        "symbol": ticker(asset, day),
        "name": asset.name,
        "status": "inactive" if gone else "active",
        "tradable": not gone,
        "marginable": not gone,
        "maintenance_margin_requirement": 30,
        "margin_requirement_long": "30",
        "margin_requirement_short": "30",
        "shortable": asset.shortable and not gone,
        "easy_to_borrow": asset.shortable and not gone,
        "fractionable": asset.fractionable,
        "attributes": ["fractional_eh_enabled"] if asset.fractionable else [],
    }


def activity_json(world: SandboxWorld, account: Account, fill: Fill) -> Json:
    """A fill; the id begins with New York's wall clock and so sorts by time."""
    done = fill.leaves_qty == 0
    return {
        "id": activity_id(fill),
        "account_id": account_id(world, account),
        "activity_type": "FILL",
        "transaction_time": stamp(fill.at),
        "type": "fill" if done else "partial_fill",
        "price": plain(fill.price),
        "qty": plain(fill.qty),
        "side": fill.side,
        "symbol": called(world.market, fill.symbol, new_york_day(fill.at)),
        "leaves_qty": plain(fill.leaves_qty),
        "order_id": fill.order_id,
        "cum_qty": plain(fill.cum_qty),
        "order_status": "filled" if done else "partially_filled",
    }


def activity_id(fill: Fill) -> str:
    at = fill.at.astimezone(NEW_YORK)
    return f"{at:%Y%m%d%H%M%S}{at.microsecond // 1000:03d}::{fill.id}"


def asset_id(world: SandboxWorld, symbol: str) -> str:
    return _uuid(world, "alpaca-asset", symbol)


def account_id(world: SandboxWorld, account: Account) -> str:
    return _uuid(world, "alpaca-account", account.key)


def _uuid(world: SandboxWorld, *key: object) -> str:
    return str(UUID(int=world.random(*key).getrandbits(128), version=4))


def _intent(order: Order) -> str:
    closes = order.parent is not None or order.order_class == "oco"
    return f"{order.side}_to_{'close' if closes or order.side == 'sell' else 'open'}"


def _gain_today(account: Account, held: Position, price: Decimal, before: Decimal, now: datetime) -> Decimal:
    """What the position made since the last close, and its trades since then."""
    midnight = now.astimezone(NEW_YORK).replace(hour=0, minute=0, second=0, microsecond=0)
    overnight = account.book.as_of(midnight - timedelta(microseconds=1)).shares.get(held.symbol, ZERO)
    overnight *= account.tape.ratio(held.symbol, new_york_day(now), new_york_day(now))
    traded = sum(
        (fill.amount for fill in account.book.fills if fill.symbol == held.symbol and fill.at >= midnight), ZERO
    )
    return held.qty * price - overnight * before + traded


def _share(part: Decimal, whole: Decimal) -> str:
    return plain(part / whole) if whole else "0"


def _stamp(at: datetime | None) -> str | None:
    return None if at is None else stamp(at)


def _text(number: Decimal | None) -> str | None:
    return None if number is None else plain(number)
