"""An account at the sandbox's exchange: its orders meet a market's minute bars, one instant after the other.

Pure: no clock, no network. Whoever asks says what time it is, and the account first catches up to it: it visits every
instant at which something can happen (an order is acknowledged or canceled, a bar opens or ends, a session ends, a
new day brings a split) in the order of time. Its state is thus a function of the market, the dice and the requests
with their times, however often and late it was looked at.

1. An order works `ack_s` after it was placed, and trades from the first bar that opens after that.
2. At one instant: the bar that ends, closing auction, what expires, then the bar that opens (see `matching`).
3. A bar has room for a share of its volume; now and then an order gets a part of what it wants, as paper accounts do.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import NamedTuple
from uuid import UUID

from marketagent.sandbox import checks
from marketagent.sandbox.book import Book, Fill
from marketagent.sandbox.market import Market
from marketagent.sandbox.matching import Minute, at_open, in_bar, trailed
from marketagent.sandbox.order import WORKING, ZERO, Order, Ticket
from marketagent.sandbox.tape import Tape, new_york_day, shares
from marketagent.sandbox.world import NEW_YORK

MINUTE_S = 60
_EXTENDED_END = time(20, 0)
_GTC_DAYS = 90
_CENT = Decimal("0.01")
_TICK = timedelta(microseconds=1)

Dice = Callable[..., Random]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """`participation`: between which shares of a bar's volume one account can trade; fractions."""

    cash: Decimal = Decimal(100_000)
    multiplier: Decimal = Decimal(4)
    participation: tuple[float, float] = (0.05, 0.15)
    partial_rate: float = 0.1
    ack_s: float = 0.1
    may_short: bool = True


class Event(NamedTuple):
    """What happened to an order, with the order as it was then; the rest only for a fill."""

    at: datetime
    name: str
    order: Order
    fill: Fill | None = None
    position_qty: Decimal | None = None


class Account:
    """`submit`, `replace` and `cancel` raise Refusal, with the vendor's words; `events` only grows."""

    def __init__(self, market: Market, dice: Dice, key: str, opened_at: datetime, rules: Rules | None = None) -> None:
        self.tape, self.key, self.opened_at, self.rules = Tape(market), key, opened_at, rules or Rules()
        self.book = Book(self.rules.cash, opened_at)
        self.may_short = self.rules.may_short
        self.orders: dict[str, Order] = {}
        self.by_client_id: dict[str, Order] = {}
        self.events: list[Event] = []
        self.at = opened_at
        self._dice = dice
        self._open: dict[str, Order] = {}
        self._room: dict[str, Decimal] = {}
        self._ids = 0
        self._submitted = opened_at

    @property
    def open_orders(self) -> list[Order]:
        return list(self._open.values())

    def catch_up(self, now: datetime) -> None:
        """Let everything happen up to and at `now`; a time that was already reached changes nothing."""
        while (instant := self.next_instant()) is not None and instant <= now:
            self._visit(instant)
            self.at = instant
        self.at = max(self.at, now)

    def next_instant(self) -> datetime | None:
        """When something can happen next; None while there is neither order nor position."""
        soon = [
            moment
            for order in self._open.values()
            for moment in (order.works_from if order.status == "pending_new" else None, order.cancels_at)
            if moment is not None
        ]
        soon += [order.expires_at for order in self._open.values() if order.expires_at is not None]
        if self._open or self.book.positions:
            soon.append(_midnight_after(self.at))
        if any(order.is_working for order in self._open.values()):
            soon += self._next_minute()
        return min((moment for moment in soon if moment > self.at), default=None)

    def submit(self, ticket: Ticket, now: datetime) -> Order:
        """Place an order; it is `pending_new` until it is acknowledged."""
        self.catch_up(now)
        reference = checks.admit(self, ticket, now)
        order = self._enter(ticket, reference, now)
        for leg in checks.legs(ticket):
            self._attach(order, leg, now)
        self._tell("pending_new", order, now)
        return order

    def replace(self, order: Order, ticket: Ticket, now: datetime) -> Order:
        """Put `ticket` in the place of `order`, under a new id; what `order` had traded stays its own."""
        self.catch_up(now)
        reference = checks.exchangeable(self, order, ticket, now)
        new = self._enter(ticket, reference, now)
        new.replaces, order.replaced_by = order.id, new.id
        new.parent, new.order_class, new.legs = order.parent, order.order_class, order.legs
        for leg in new.legs:
            leg.parent = new
            if leg.status == "held" and new.qty is not None:
                leg.qty = order.filled_qty + new.qty
        if order.parent is not None:
            order.parent.legs = [new if leg is order else leg for leg in order.parent.legs]
        if order.status == "held":
            new.status = "held"
        order.status, order.replaced_at, order.updated_at = "replaced", now, now
        del self._open[order.id]
        self._tell("replaced", order, now)
        self._tell("pending_new", new, now)
        return new

    def cancel(self, order: Order, now: datetime) -> None:
        """Ask for the end of `order`: it comes a moment later, if no trade was faster."""
        self.catch_up(now)
        checks.cancelable(order)
        if order.status == "held":
            self._finish(order, "canceled", now)
            return
        order.status, order.updated_at = "pending_cancel", now
        order.cancels_at = now + timedelta(seconds=self.rules.ack_s)
        self._tell("pending_cancel", order, now)

    def end_canceled(self, now: datetime) -> None:
        """Carry out every cancel that was asked for, at once."""
        for order in self.open_orders:
            if order.cancels_at is not None and order.is_open:
                self._finish(order, "canceled", now)

    def new_id(self) -> str:
        self._ids += 1
        dice = self._dice("alpaca", self.key, self._ids)
        return str(UUID(int=dice.getrandbits(128), version=4))

    def _enter(self, ticket: Ticket, reference: Decimal, now: datetime, parent: Order | None = None) -> Order:
        now = max(now, self._submitted + _TICK)  # no two at one time: lists are paged by it
        self._submitted = now
        order = Order(
            id=self.new_id(),
            client_order_id=ticket.client_order_id or self.new_id(),
            seq=len(self.orders),
            symbol=ticket.symbol,
            side=ticket.side,
            type=ticket.type,
            time_in_force=ticket.time_in_force,
            qty=ticket.qty,
            notional=ticket.notional,
            limit_price=ticket.limit_price,
            stop_price=ticket.stop_price,
            trail_price=ticket.trail_price,
            trail_percent=ticket.trail_percent,
            extended_hours=ticket.extended_hours,
            order_class=ticket.order_class,
            position_intent=ticket.position_intent,
            reserve_price=reference,
            submitted_at=now,
            updated_at=now,
            works_from=now + timedelta(seconds=self.rules.ack_s),
            expires_at=self._expiry(ticket, now),
            parent=parent,
        )
        if order.type == "trailing_stop":
            order.hwm = self.tape.price(ticket.symbol, now) or reference
            order.stop_price = trailed(order, order.hwm)
        self.orders[order.id] = self.by_client_id[order.client_order_id] = self._open[order.id] = order
        return order

    def _attach(self, order: Order, ticket: Ticket, now: datetime) -> None:
        leg = self._enter(ticket, order.reserve_price, now, order)
        order.legs.append(leg)
        if order.order_class != "oco":
            leg.status = "held"

    def _expiry(self, ticket: Ticket, now: datetime) -> datetime | None:
        if ticket.time_in_force == "gtc":
            now += timedelta(days=_GTC_DAYS)
        session = self.tape.next_session(now)
        if session is None or not ticket.extended_hours:
            return session.close_at if session else None
        return datetime.combine(session.day, _EXTENDED_END, NEW_YORK).astimezone(now.tzinfo)

    def _next_minute(self) -> list[datetime]:
        session = self.tape.next_session(self.at)
        if session is None:
            return []
        if self.at < session.open_at:
            return [session.open_at]
        stamp = (int(self.at.timestamp()) // MINUTE_S + 1) * MINUTE_S
        return [min(datetime.fromtimestamp(stamp, session.close_at.tzinfo), session.close_at)]

    def _visit(self, at: datetime) -> None:
        if at == _midnight_after(at - _TICK):
            self._new_day(at)
        self._acknowledge(at)
        session, stamp = self.tape.session(new_york_day(at)), at.timestamp()
        on_the_minute = session is not None and stamp % MINUTE_S == 0 and session.open_at <= at <= session.close_at
        if on_the_minute:
            self._bar_ends(at)
        if session is not None and at == session.close_at:
            self._closing_auction(at)
        for order in self.open_orders:
            if order.is_open and order.expires_at is not None and order.expires_at <= at:
                self._finish(order, "expired", at)
        if on_the_minute and session is not None and at < session.close_at:
            self._bar_opens(at, first=at == session.open_at)

    def _new_day(self, at: datetime) -> None:
        day = new_york_day(at)
        names = {*self.book.positions, *(order.symbol for order in self._open.values())}
        for symbol in sorted(names):
            for split in self.tape.splits(symbol, day, day):
                self._split(symbol, shares(split), at)
            asset = self.tape.asset(symbol)
            if asset is not None and asset.delisted is not None and asset.delisted < day:
                self._end_all(symbol, at)

    def _split(self, symbol: str, ratio: Decimal, at: datetime) -> None:
        """Orders follow a forward split; a reverse split ends them, as FINRA's rule 5330 has it."""
        if symbol in self.book.positions:
            self.book.split(symbol, ratio, at)
        if ratio < 1:
            self._end_all(symbol, at)
        for order in self.open_orders:
            if order.symbol == symbol:
                _adjust(order, ratio)

    def _end_all(self, symbol: str, at: datetime) -> None:
        for order in self.open_orders:
            if order.symbol == symbol and order.is_open:
                self._finish(order, "canceled", at)

    def _acknowledge(self, at: datetime) -> None:
        for order in self.open_orders:
            if order.cancels_at is not None and order.cancels_at <= at and order.is_open:
                self._finish(order, "canceled", at)
            elif order.status == "pending_new" and order.works_from <= at:
                order.status = "new" if self.tape.is_open(at) else "accepted"
                order.updated_at = at
                self._tell(order.status, order, at)

    def _working(self, at: datetime) -> list[Order]:
        return [order for order in self._open.values() if order.status in WORKING and order.works_from <= at]

    def _bar_ends(self, at: datetime) -> None:
        start = int(at.timestamp()) - MINUTE_S
        began = at - timedelta(seconds=MINUTE_S)
        continuous = [order for order in self._working(began) if order.time_in_force in ("day", "gtc")]
        # Of two orders of which one is to fill, the bar may have met both: assume the loss, not the gain.
        for order in sorted(continuous, key=lambda one: (one.stop_price is None, one.seq)):
            bar = self.tape.minute(order.symbol, start)
            if bar is not None and order.is_open and order.filled_in != start:
                price = in_bar(order, bar)
                if price is not None:
                    self._execute(order, price, bar, at)

    def _bar_opens(self, at: datetime, *, first: bool) -> None:
        self._room.clear()
        start = int(at.timestamp())
        for order in self._working(at):
            if not order.is_open:
                continue  # the order before it was its other half
            if first and order.status == "accepted":
                order.status, order.updated_at = "new", at
                self._tell("new", order, at)
            bar = self.tape.minute(order.symbol, start)
            if bar is not None and order.time_in_force != "cls":
                price = at_open(order, bar)
                if price is not None:
                    self._execute(order, price, bar, at)
            at_once = order.time_in_force in ("ioc", "fok") or (order.time_in_force == "opg" and bar is not None)
            if at_once and order.is_open:
                self._finish(order, "canceled", at)

    def _closing_auction(self, at: datetime) -> None:
        for order in self._working(at):
            bar = self.tape.last_minute(order.symbol, new_york_day(at))
            if bar is not None and order.time_in_force == "cls":
                auction = bar._replace(open=bar.close)
                price = at_open(order, auction)
                if price is not None:
                    self._execute(order, price, auction, at)

    def _execute(self, order: Order, price: Decimal, bar: Minute, at: datetime) -> None:
        wanted = order.remaining(price)
        qty = wanted if order.is_fractional else min(wanted, self._part(order, wanted, bar))
        if order.notional is not None and not order.is_buy:
            qty = min(qty, max(self.book.qty(order.symbol), ZERO))  # the price fell: dollars ask for more than is there
        if qty <= 0 or (order.time_in_force == "fok" and qty < wanted):
            return
        order.filled_in = bar.start
        order.filled_qty += qty
        order.filled_value += qty * price
        self._room[order.symbol] = self._room.get(order.symbol, ZERO) - qty
        done = order.qty is None or order.filled_qty >= order.qty
        fill = Fill(
            id=self.new_id(),
            at=at,
            order_id=order.id,
            symbol=order.symbol,
            side=order.side,
            qty=qty,
            price=price,
            cum_qty=order.filled_qty,
            leaves_qty=ZERO if order.qty is None else order.qty - order.filled_qty,
        )
        self.book.record(fill)
        for other in order.siblings:
            if other.is_open and other.qty is not None and order.qty is not None and not done:
                other.qty = min(other.qty, other.filled_qty + order.qty - order.filled_qty)  # what is left to close
        self._settle(order, fill, done=done)

    def _part(self, order: Order, wanted: Decimal, bar: Minute) -> Decimal:
        """Whole shares that `order` gets of `bar` at most."""
        if order.symbol not in self._room:
            share = self._dice("room", order.symbol, bar.start).uniform(*self.rules.participation)
            self._room[order.symbol] = Decimal(max(1, int(bar.volume * share)))
        dice = self._dice("part", self.key, order.seq, bar.start)
        if order.time_in_force == "fok" or wanted < 2 or dice.random() >= self.rules.partial_rate:
            return self._room[order.symbol]
        return min(self._room[order.symbol], Decimal(dice.randint(1, int(wanted) - 1)))

    def _settle(self, order: Order, fill: Fill, *, done: bool) -> None:
        order.updated_at = fill.at
        if not done:
            order.status = order.status if order.status == "pending_cancel" else "partially_filled"
            self._tell("partial_fill", order, fill.at, fill)
            return
        order.status, order.filled_at = "filled", fill.at
        del self._open[order.id]
        self._tell("fill", order, fill.at, fill)
        for leg in order.legs:
            if leg.status == "held":
                leg.status, leg.updated_at = "new", fill.at
                leg.works_from = fill.at + timedelta(seconds=self.rules.ack_s)
                self._tell("new", leg, fill.at)
        for other in order.siblings:
            if other.is_open:
                self._finish(other, "canceled", fill.at)

    def _finish(self, order: Order, status: str, at: datetime) -> None:
        order.status, order.updated_at = status, at
        if status == "expired":
            order.expired_at = at
        else:
            order.canceled_at = at
        self._open.pop(order.id, None)
        self._tell(status, order, at)
        held = [leg for leg in order.legs if leg.status == "held"]
        for other in [*held, *order.siblings]:
            if other.is_open:
                self._finish(other, status, at)

    def _tell(self, name: str, order: Order, at: datetime, fill: Fill | None = None) -> None:
        self.events.append(Event(at, name, copy(order), fill, self.book.qty(order.symbol) if fill else None))


def _adjust(order: Order, ratio: Decimal) -> None:
    """An order as FINRA's rule 5330 leaves it after a forward split: more shares, cheaper."""
    for name in ("limit_price", "stop_price", "trail_price", "hwm"):
        price = getattr(order, name)
        if price is not None:
            setattr(order, name, max((price / ratio).quantize(_CENT), _CENT))
    order.reserve_price /= ratio
    if order.qty is not None:
        whole = order.qty % 1 == 0
        order.qty = (order.qty * ratio).quantize(Decimal(1) if whole else Decimal("1e-9"), rounding="ROUND_DOWN")
        order.filled_qty = (order.filled_qty * ratio).quantize(Decimal("1e-9"), rounding="ROUND_DOWN")


def _midnight_after(at: datetime) -> datetime:
    day = new_york_day(at) + timedelta(days=1)
    return datetime.combine(day, time(0), NEW_YORK).astimezone(at.tzinfo)
