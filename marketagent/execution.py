"""The account of one session: what splits, dividends, nights and fills do to cash and shares.

The simulation and the local paper account are both made of these functions, so that one cannot drift from the other.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from marketagent.costs import Costs
from marketagent.liquidity import Liquidity
from marketagent.orders import cut, cut_one, snap, snap_one
from marketagent.panel import Array

SPLIT_HAIR = 1e-6  # of a step. Ratios such as 1/3 come with six digits: 3 old shares are one new one, not 0.999999
ROUNDS = 64  # of cutting buys down to the cash, then as many of halving what is left of the doubt
NIGHTS = 252  # a year, to accrue what is lent by: as many as sessions, whatever lies between two of them

Each = TypeVar("Each", Array, float)  # of several symbols, or of one
Buys = tuple[
    Each, Each, Each, float
]  # how many shares, at what price, at what commission, and what that costs together


@dataclass
class Book:
    """Cash in USD, shares (N,), and the shares `traded` this calendar month, of one account; changed only in this file."""

    cash: float
    shares: Array
    traded: float = 0.0

    def equity(self, mark: Array) -> float:
        """Cash plus every position at its `mark` (N,), added from left to right."""
        return self.cash + total(self.shares * mark)


def total(values: Array) -> float:
    """The sum of (N,) values, added from left to right: the same to the bit whatever zeros stand between."""
    return float(np.add.accumulate(values)[-1]) if len(values) else 0.0


def before_open(book: Book, split: Array, dividend: Array, steps: float) -> Array:
    """Apply the day's `split` (N,) and `dividend` (N,) to the holder.

    Returns the fractions (N,) of shares that the splits left, to be paid in cash at the close.
    """
    grown = book.shares * split
    book.cash += total(grown * dividend)
    if (split == 1.0).all():
        return np.zeros(len(split))
    book.shares = after_split(book.shares, split, steps)
    left = np.where(np.abs(grown) > np.abs(book.shares), grown - book.shares, 0.0)  # 3 * (1/3) owes nothing
    return np.where(split == 1.0, 0.0, left)


def after_split(quantity: Array, split: Array, steps: float) -> Array:
    """What `quantity` (N,) of shares, held or ordered alike, is after `split` (N,): whole steps towards zero.

    One rule for both: an order to sell all must still sell all.
    """
    grown = quantity * split
    whole = np.trunc(grown * steps + np.copysign(SPLIT_HAIR, grown)) / steps
    return np.where(split == 1.0, quantity, whole)


def overnight(book: Book, mark: Array, costs: Costs) -> float:
    """Charge the night for what is short, at the previous close's `mark` (N,), and for owed cash; returns it in USD."""
    short = total(np.maximum(-book.shares * mark, 0.0))
    lent = lending(short, book.cash, costs)
    book.cash -= lent
    return lent


def lending(short: float, cash: float, costs: Costs) -> float:
    return costs.borrow_rate / NIGHTS * short + costs.margin_rate / NIGHTS * max(-cash, 0.0)


def execute(
    book: Book, quantity: Array, price: Array, costs: Costs, steps: float, market: Liquidity | None = None
) -> tuple[Array, Array, Array]:
    """Fill signed `quantity` (N,) at `price` (N,), NaN where nothing trades; returns shares, prices and fees.

    The options are those of ``execute_some``. Where nothing is filled the price is that without slippage, 0 without a bar.
    """
    columns = np.flatnonzero((quantity != 0) & np.isfinite(price))
    some = execute_some(book, columns, quantity[columns], price[columns], costs, steps, market)
    filled, paid, fees = np.zeros(len(quantity)), np.where(np.isfinite(price), price, 0.0), np.zeros(len(quantity))
    filled[columns], paid[columns], fees[columns] = some
    return filled, paid, fees


def execute_some(
    book: Book,
    columns: NDArray[np.int64],
    quantity: Array,
    price: Array,
    costs: Costs,
    steps: float,
    market: Liquidity | None = None,
) -> tuple[Array, Array, Array]:
    """Fill signed `quantity` (K,) of the symbols in `columns` (K,) at `price` (K,); returns shares, prices and fees (K,).

    Sells first; then buys, scaled down together until they and their commissions fit the cash. `market` (of all N symbols)
    says how much may trade and what it moves; None: any amount, at the slippage alone.
    """
    pressure = None if market is None or market.pressure is None else market.pressure[columns]
    if market is not None:
        limit = market.limit[columns]
        quantity = np.where(np.abs(quantity) > limit, np.copysign(cut(limit, steps), quantity), quantity)
    paid = costs.fill_price(price, quantity, pressure)
    fees = costs.commission(quantity, paid, book.traded)
    value = quantity * paid
    sells, buys = (quantity < 0.0).nonzero()[0], (quantity > 0.0).nonzero()[0]
    book.cash -= total(value[sells]) + total(fees[sells])

    def bought(share: float) -> "Buys[Array]":
        cheaper = cut(wanted * share, steps)
        at = paid[buys] if pressure is None else costs.fill_price(price[buys], cheaper, pressure[buys])
        due = costs.commission(cheaper, at, book.traded)
        return cheaper, at, due, total(cheaper * at) + total(due)

    wanted, wanted_fees = quantity[buys], fees[buys]
    whole = (wanted, paid[buys], wanted_fees, total(value[buys]) + total(wanted_fees))
    found, at, due, spent = _affordable(whole, bought, book.cash)
    book.cash -= spent
    filled = quantity
    if found is not wanted:
        filled = quantity.copy()
        filled[buys], fees[buys] = found, due
        if pressure is not None:
            paid[buys] = np.where(found > 0, at, paid[buys])
    shares = book.shares.copy()
    shares[columns] = snap(shares[columns] + filled, steps)
    book.shares = shares
    book.traded = snap_one(book.traded + total(np.abs(filled)), steps)
    return filled, paid, fees


def execute_one(
    book: Book, column: int, quantity: float, price: float, costs: Costs, steps: float, market: Liquidity | None = None
) -> tuple[float, float, float]:
    """``execute_some`` of one order that has a price, in numbers instead of arrays: the same to the bit, in a tenth of
    the time."""
    pressure = None if market is None or market.pressure is None else float(market.pressure[column])
    if market is not None and abs(quantity) > market.limit[column]:
        quantity = math.copysign(cut_one(float(market.limit[column]), steps), quantity)
    filled, paid = quantity, costs.fill_price_of(price, quantity, pressure)
    fee = costs.commission_of(quantity, paid, book.traded)
    if quantity < 0:
        book.cash += -quantity * paid - fee
    elif quantity > 0:

        def bought(share: float) -> "Buys[float]":  # as text: else it is evaluated at every order
            buys = cut_one(quantity * share, steps)
            at = paid if pressure is None else costs.fill_price_of(price, buys, pressure)
            due = costs.commission_of(buys, at, book.traded)
            return buys, at, due, buys * at + due

        filled, at, fee, spent = _affordable((quantity, paid, fee, quantity * paid + fee), bought, book.cash)
        paid = at if filled > 0 else paid
        book.cash -= spent
    shares = book.shares.copy()
    shares[column] = snap_one(float(shares[column]) + filled, steps)
    book.shares = shares
    book.traded = snap_one(book.traded + abs(filled), steps)
    return filled, paid, fee


def _affordable(whole: Buys[Each], bought: Callable[[float], Buys[Each]], cash: float) -> Buys[Each]:
    """The buys that `cash` pays for: the `whole` of them, or the largest share of it that fits, as `bought` gives it.

    While they cost too much, all are scaled by cash over cost and cut to whole steps again: the minimum commissions do
    not shrink with the order, so once is not always enough; two or three rounds are, as a rule. Where ROUNDS are not,
    because what is missing is less than the hair of a cut, or the minimum commissions are nearly all of the cash, the
    largest share that fits is searched for.
    """
    share, found = 1.0, whole
    for _ in range(ROUNDS):
        spent = found[3]
        if spent <= cash or spent == 0.0:
            return found
        share *= max(cash, 0.0) / spent * (1 - 1e-12)  # a hair less: a rounded quotient must not take a round more
        found = bought(share)
    fits, beyond = 0.0, share
    for _ in range(ROUNDS):
        middle = (fits + beyond) / 2
        fits, beyond = (middle, beyond) if bought(middle)[3] <= cash else (fits, middle)
    return bought(fits)
