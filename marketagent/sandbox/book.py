"""What an account of the sandbox owns: cash to the cent, shares to a billionth, and how both came about."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from marketagent.sandbox.order import SHARE_STEP, ZERO
from marketagent.sandbox.tape import Tape

CENT = Decimal("0.01")


@dataclass(frozen=True, kw_only=True)
class Position:
    """`qty` is negative when short; `average_price` is what opened it."""

    symbol: str
    qty: Decimal
    average_price: Decimal


@dataclass(frozen=True, kw_only=True)
class Fill:
    """One trade of one order; `leaves_qty` is what the order still asked for."""

    id: str
    at: datetime
    order_id: str
    symbol: str
    side: str
    qty: Decimal
    price: Decimal
    cum_qty: Decimal
    leaves_qty: Decimal

    @property
    def amount(self) -> Decimal:
        """What it brought in cash, to the cent; negative for a buy."""
        value = (self.qty * self.price).quantize(CENT)
        return -value if self.side == "buy" else value


class Snapshot(NamedTuple):
    """What was owned from `at` on."""

    at: datetime
    cash: Decimal
    shares: Mapping[str, Decimal]


class Book:
    """Changed by trades and splits only; `history` has a row for each change."""

    def __init__(self, cash: Decimal, at: datetime) -> None:
        self.cash = cash
        self.positions: dict[str, Position] = {}
        self.fills: list[Fill] = []
        self.history = [Snapshot(at, cash, {})]

    def qty(self, symbol: str) -> Decimal:
        held = self.positions.get(symbol)
        return held.qty if held else ZERO

    def record(self, fill: Fill) -> None:
        """Take a trade in: cash and shares change together."""
        self.fills.append(fill)
        self.cash += fill.amount
        self._put(_traded(self.positions.get(fill.symbol), fill))
        self._remember(fill.at)

    def split(self, symbol: str, ratio: Decimal, at: datetime) -> None:
        """Give `ratio` new shares for each old one; what is left of a billionth is lost."""
        held = self.positions[symbol]
        qty = (held.qty * ratio).quantize(SHARE_STEP, rounding="ROUND_DOWN")
        price = (held.average_price / ratio).quantize(SHARE_STEP)
        self._put(Position(symbol=symbol, qty=qty, average_price=price))
        self._remember(at)

    def as_of(self, at: datetime) -> Snapshot:
        """What was owned at `at`; before the account was opened, what it opened with."""
        return self.history[max(bisect_right(self.history, at, key=lambda one: one.at) - 1, 0)]

    def equity(self, tape: Tape, at: datetime) -> Decimal:
        """Cash and what the shares owned at `at` were worth then."""
        then = self.as_of(at)
        return then.cash + sum((qty * worth(tape, symbol, at) for symbol, qty in then.shares.items()), ZERO)

    def _put(self, position: Position) -> None:
        if position.qty:
            self.positions[position.symbol] = position
        else:
            self.positions.pop(position.symbol, None)

    def _remember(self, at: datetime) -> None:
        self.history.append(Snapshot(at, self.cash, {name: held.qty for name, held in self.positions.items()}))


def worth(tape: Tape, symbol: str, at: datetime) -> Decimal:
    """The last price of `symbol`; what never had one is worth nothing."""
    return tape.price(symbol, at) or ZERO


def _traded(held: Position | None, fill: Fill) -> Position:
    """The position after `fill`: what adds to it is averaged in, what reduces it leaves the average alone."""
    change = fill.qty if fill.side == "buy" else -fill.qty
    before = held.qty if held else ZERO
    after = before + change
    if held is None or before * after <= 0:
        price = fill.price
    elif abs(after) < abs(before):
        price = held.average_price
    else:
        price = (before * held.average_price + change * fill.price) / after
    return Position(symbol=fill.symbol, qty=after, average_price=price.quantize(SHARE_STEP))
