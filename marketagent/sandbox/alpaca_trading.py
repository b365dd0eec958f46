"""Alpaca's trading API, /v2: accounts, orders, positions, clock, calendar, assets, activities, portfolio history."""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from marketagent.sandbox.alpaca_history import portfolio_history
from marketagent.sandbox.alpaca_http import answered, guarded, moment, whole
from marketagent.sandbox.alpaca_shapes import (
    account_json,
    activity_id,
    activity_json,
    asset_id,
    asset_json,
    order_json,
    position_json,
)
from marketagent.sandbox.alpaca_ticket import changed, number, ticket
from marketagent.sandbox.book import Position
from marketagent.sandbox.checks import RULE, SHAPE
from marketagent.sandbox.exchange import Account
from marketagent.sandbox.market import Asset, Session
from marketagent.sandbox.names import company
from marketagent.sandbox.order import OPEN, SHARE_STEP, Order, Ticket
from marketagent.sandbox.refusal import Refusal
from marketagent.sandbox.tape import new_york_day
from marketagent.sandbox.world import NEW_YORK, SandboxWorld

NOT_FOUND = 40410000
_MOST_ORDERS, _MOST_ACTIVITIES = 500, 100
_FIRST_DAY, _LAST_DAY = date(1970, 1, 1), date(2029, 12, 31)


def routes(world: SandboxWorld) -> list[BaseRoute]:
    desk = Desk(world)
    table = [
        ("/v2/account", "GET", desk.account),
        ("/v2/account/configurations", "GET", desk.configurations),
        ("/v2/account/configurations", "PATCH", desk.configure),
        ("/v2/account/activities", "GET", desk.activities),
        ("/v2/account/activities/{kind}", "GET", desk.activities),
        ("/v2/account/portfolio/history", "GET", desk.history),
        ("/v2/orders", "POST", desk.submit),
        ("/v2/orders", "GET", desk.orders),
        ("/v2/orders", "DELETE", desk.cancel_all),
        ("/v2/orders:by_client_order_id", "GET", desk.order_by_client_id),
        ("/v2/orders/{order_id}", "GET", desk.order),
        ("/v2/orders/{order_id}", "PATCH", desk.replace),
        ("/v2/orders/{order_id}", "DELETE", desk.cancel),
        ("/v2/positions", "GET", desk.positions),
        ("/v2/positions", "DELETE", desk.close_all),
        ("/v2/positions/{symbol}", "GET", desk.position),
        ("/v2/positions/{symbol}", "DELETE", desk.close),
        ("/v2/clock", "GET", desk.clock),
        ("/v2/calendar", "GET", desk.calendar),
        ("/v2/assets", "GET", desk.assets),
        ("/v2/assets/{symbol:path}", "GET", desk.asset),
    ]
    return [Route(path, guarded(world, "trading", answer), methods=[method]) for path, method, answer in table]


class Desk:
    """One method an endpoint; the account comes caught up to now."""

    def __init__(self, world: SandboxWorld) -> None:
        self.world = world

    async def account(self, request: Request, account: Account) -> Response:
        return answered(account_json(self.world, account))

    async def configurations(self, request: Request, account: Account) -> Response:
        return answered(
            {
                "fractional_trading": True,
                "max_margin_multiplier": str(account.rules.multiplier),
                "no_shorting": not account.may_short,
                "suspend_trade": False,
                "trade_confirm_email": "all",
                "ptp_no_exception_entry": False,
                "max_options_trading_level": None,
            }
        )

    async def configure(self, request: Request, account: Account) -> Response:
        body = await _body(request)
        if not isinstance(body, dict) or not isinstance(body.get("no_shorting", False), bool):
            raise Refusal(422, SHAPE, "request body format is invalid")
        account.may_short = not body.get("no_shorting", not account.may_short)
        return await self.configurations(request, account)

    async def activities(self, request: Request, account: Account) -> Response:
        kinds = request.path_params.get("kind") or request.query_params.get("activity_types", "FILL")
        fills = account.book.fills if "FILL" in kinds.split(",") else []
        return answered([activity_json(self.world, account, fill) for fill in _page(fills, request)])

    async def history(self, request: Request, account: Account) -> Response:
        return answered(portfolio_history(account, self.world.now(), request.query_params))

    async def submit(self, request: Request, account: Account) -> Response:
        now = self.world.now()
        asked = ticket(await _body(request), self.world.market, new_york_day(now))
        return self._order(account.submit(asked, now), nested=True)

    async def orders(self, request: Request, account: Account) -> Response:
        nested = _flag(request, "nested")
        found = _selected(self.world, list(account.orders.values()), request, nested=nested)
        return answered([order_json(self.world, order, nested=nested) for order in found])

    async def order_by_client_id(self, request: Request, account: Account) -> Response:
        order = account.by_client_id.get(request.query_params.get("client_order_id", ""))
        if order is None:
            raise Refusal(404, NOT_FOUND, "order not found")
        return self._order(order, nested=True)

    async def order(self, request: Request, account: Account) -> Response:
        return self._order(_order(account, request), nested=_flag(request, "nested"))

    async def replace(self, request: Request, account: Account) -> Response:
        order = _order(account, request)
        return self._order(account.replace(order, changed(order, await _body(request)), self.world.now()))

    async def cancel(self, request: Request, account: Account) -> Response:
        account.cancel(_order(account, request), self.world.now())
        return Response(status_code=204)

    async def cancel_all(self, request: Request, account: Account) -> Response:
        return answered(_cancel_all(account, self.world.now()), 207)

    async def positions(self, request: Request, account: Account) -> Response:
        held = [account.book.positions[symbol] for symbol in sorted(account.book.positions)]
        return answered([position_json(self.world, account, one) for one in held])

    async def position(self, request: Request, account: Account) -> Response:
        return answered(position_json(self.world, account, self._held(account, request)))

    async def close(self, request: Request, account: Account) -> Response:
        held = self._held(account, request)
        return self._order(account.submit(_closing(held, _closed_qty(held, request)), self.world.now()))

    async def close_all(self, request: Request, account: Account) -> Response:
        now = self.world.now()
        if _flag(request, "cancel_orders"):
            _cancel_all(account, now, at_once=True)
        return answered([self._closed(account, held, now) for held in list(account.book.positions.values())], 207)

    async def clock(self, request: Request, account: Account) -> Response:
        now, tape = self.world.now(), account.tape
        opens, closes = tape.next_open(now), tape.next_session(now)
        return answered(
            {
                "timestamp": _local(now),
                "is_open": tape.is_open(now),
                "next_open": _local(opens.open_at) if opens else None,
                "next_close": _local(closes.close_at) if closes else None,
            }
        )

    async def calendar(self, request: Request, account: Account) -> Response:
        first, last = (_day(request, name, default) for name, default in (("start", _FIRST_DAY), ("end", _LAST_DAY)))
        return answered([_calendar_row(session) for session in self.world.market.sessions(first, last)])

    async def assets(self, request: Request, account: Account) -> Response:
        day, asked = new_york_day(self.world.now()), request.query_params
        rows = [asset_json(self.world, one, day) for one in self.world.market.assets() if one.listed <= day]
        wanted = {"status": asked.get("status"), "class": asked.get("asset_class"), "exchange": asked.get("exchange")}
        kept = [row for row in rows if all(value in (None, "", row[name]) for name, value in wanted.items())]
        attributes = {name for name in asked.get("attributes", "").split(",") if name}
        return answered([row for row in kept if not attributes or attributes & set(row["attributes"])])

    async def asset(self, request: Request, account: Account) -> Response:
        day = new_york_day(self.world.now())
        found = self._company(request.path_params["symbol"], day)
        if found is None or found.listed > day:
            raise Refusal(404, NOT_FOUND, f"asset not found for {request.path_params['symbol'][:40]}")
        return answered(asset_json(self.world, found, day))

    def _order(self, order: Order, *, nested: bool = False) -> Response:
        return answered(order_json(self.world, order, nested=nested))

    def _company(self, name: str, day: date) -> Asset | None:
        found = company(self.world.market, name, day)
        if found is None and len(name) == 36:
            found = next((one for one in self.world.market.assets() if asset_id(self.world, one.symbol) == name), None)
        return found

    def _held(self, account: Account, request: Request) -> Position:
        found = self._company(request.path_params["symbol"], new_york_day(self.world.now()))
        held = account.book.positions.get(found.symbol) if found else None
        if held is None:
            raise Refusal(404, NOT_FOUND, "position does not exist")
        return held

    def _closed(self, account: Account, held: Position, now: datetime) -> dict[str, Any]:
        try:
            order = account.submit(_closing(held, abs(held.qty)), now)
        except Refusal as no:  # of one position: the others are closed all the same, and the answer names it
            return {"symbol": held.symbol, "status": no.status, "body": no.body}
        return {"symbol": held.symbol, "status": 200, "body": order_json(self.world, order)}


async def _body(request: Request) -> Any:
    try:
        return json.loads(await request.body() or b"null", parse_float=Decimal)
    except ValueError:
        raise Refusal(400, 40010000, "request body format is invalid") from None


def _order(account: Account, request: Request) -> Order:
    order = account.orders.get(request.path_params["order_id"])
    if order is None:
        raise Refusal(404, NOT_FOUND, f"order not found for {request.path_params['order_id'][:40]}")
    return order


def _selected(world: SandboxWorld, orders: list[Order], request: Request, *, nested: bool) -> list[Order]:
    """The orders that the parameters of the list ask for, in their order."""
    asked = request.query_params
    status = asked.get("status", "open")
    if status not in ("open", "closed", "all"):
        raise Refusal(422, SHAPE, f"invalid status: {status[:40]}")
    if status != "all":
        orders = [one for one in orders if (one.status in OPEN) == (status == "open")]
    if nested:
        orders = [one for one in orders if one.parent is None]
    if symbols := [name for name in asked.get("symbols", "").split(",") if name]:
        day = new_york_day(world.now())
        known = {found.symbol for name in symbols if (found := company(world.market, name, day))}
        orders = [one for one in orders if one.symbol in known]
    if side := asked.get("side"):
        orders = [one for one in orders if one.side == side]
    if asked.get("asset_class", "us_equity") not in ("us_equity", "all"):
        orders = []
    orders = _between(orders, request)
    if asked.get("direction", "desc") == "desc":
        orders = orders[::-1]
    return orders[: whole(asked.get("limit"), "limit", 50, _MOST_ORDERS)]


def _between(orders: list[Order], request: Request) -> list[Order]:
    """Bounds are exclusive, in time and by the id of an order alike."""
    asked = request.query_params
    after, until = _bound(asked, "after"), _bound(asked, "until")
    orders = [one for one in orders if after is None or one.submitted_at > after]
    orders = [one for one in orders if until is None or one.submitted_at < until]
    numbers = {one.id: one.seq for one in orders}
    for name, sign in (("after_order_id", 1), ("before_order_id", -1)):
        if (order_id := asked.get(name)) and order_id in numbers:
            orders = [one for one in orders if sign * (one.seq - numbers[order_id]) > 0]
    return orders


def _bound(asked: Mapping[str, str], name: str) -> datetime | None:
    return moment(asked[name], name) if asked.get(name) else None


def _cancel_all(account: Account, now: datetime, *, at_once: bool = False) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for order in account.open_orders:
        if not order.is_open:
            continue  # it went with another one of its group
        try:
            account.cancel(order, now)
        except Refusal as no:  # of one order: the others are canceled all the same, and the answer names it
            rows.append({"id": order.id, "status": no.status, "body": no.body})
        else:
            rows.append({"id": order.id, "status": 200})
    if at_once:
        account.end_canceled(now)
    return rows


def _closing(held: Position, qty: Decimal) -> Ticket:
    return Ticket(symbol=held.symbol, side="sell" if held.qty > 0 else "buy", qty=qty)


def _closed_qty(held: Position, request: Request) -> Decimal:
    qty, percentage = (number(request.query_params, name) for name in ("qty", "percentage"))
    if qty is not None and percentage is not None:
        raise Refusal(422, SHAPE, "only one of qty or percentage is accepted")
    if percentage is not None and percentage > 100:
        raise Refusal(422, SHAPE, "percentage must be between 0 and 100")
    if percentage is not None:
        return (abs(held.qty) * percentage / 100).quantize(SHARE_STEP, rounding="ROUND_DOWN")
    return qty if qty is not None else abs(held.qty)


def _page(fills: Sequence[Any], request: Request) -> Sequence[Any]:
    """Fills newest first, or `direction=asc`; the page after the id `page_token`."""
    asked = request.query_params
    after, until, on = (_bound(asked, name) for name in ("after", "until", "date"))
    fills = [
        fill
        for fill in fills
        if (after is None or fill.at > after) and (until is None or fill.at < until)
        if on is None or new_york_day(fill.at) == on.date()
    ]
    fills = fills if asked.get("direction", "desc") == "asc" else fills[::-1]
    if token := asked.get("page_token"):
        place = next((k for k, fill in enumerate(fills) if activity_id(fill) == token), None)
        if place is None:
            raise Refusal(422, RULE, f"invalid page_token: {token[:80]}")
        fills = fills[place + 1 :]
    return fills[: whole(asked.get("page_size"), "page_size", _MOST_ACTIVITIES, _MOST_ACTIVITIES)]


def _calendar_row(session: Session) -> dict[str, str]:
    opens, closes = (at.astimezone(NEW_YORK) for at in (session.open_at, session.close_at))
    return {
        "date": str(session.day),
        "open": f"{opens:%H:%M}",
        "close": f"{closes:%H:%M}",
        "session_open": "0400",
        "session_close": "2000",
    }


def _day(request: Request, name: str, default: date) -> date:
    text = request.query_params.get(name)
    return moment(text, name).date() if text else default


def _flag(request: Request, name: str) -> bool:
    return request.query_params.get(name, "").lower() == "true"


def _local(at: datetime) -> str:
    """RFC 3339 in New York, as the clock has it."""
    local = at.astimezone(NEW_YORK)
    fraction = f".{local.microsecond:06d}" if local.microsecond else ""
    return f"{local:%Y-%m-%dT%H:%M:%S}{fraction}{local:%z}"[:-2] + ":" + f"{local:%z}"[-2:]
