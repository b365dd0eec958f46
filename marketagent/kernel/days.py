"""What happens to a holder without an order: nights, splits, dividends, and the end of a symbol that fell silent.

As execution.overnight and before_open, and simulate's own steps before and after the fills.
"""

import numpy as np

from marketagent.compiled import Array, compiled, inlined
from marketagent.execution import SPLIT_HAIR
from marketagent.kernel.fills import trade
from marketagent.kernel.terms import BORROW, CASH, MARGIN, Book, Market


@inlined
def value_of(shares: Array, mark: Array) -> float:
    """What so many shares are worth, added in the order of the symbols."""
    value = 0.0
    for n in range(len(shares)):
        value += shares[n] * mark[n]
    return value


@inlined
def pay_for_night(book: Book, mark: Array, bill: Array) -> None:
    """What is borrowed over the night costs interest, at the `mark` of the evening; the rates of the `bill` are a night's."""
    short = 0.0
    for n in range(len(mark)):
        short += max(-book.shares[n] * mark[n], 0.0)
    book.account[CASH] -= bill[BORROW] * short + bill[MARGIN] * max(-book.account[CASH], 0.0)


@inlined
def before_open(book: Book, split: Array, dividend: Array, steps: float) -> bool:
    """Split shares and orders, pay dividends; what is left in fractions is owed. True if anything is."""
    cash, owes, shares = 0.0, False, book.shares
    for n in range(len(shares)):
        grown = shares[n] * split[n]
        if dividend[n] > 0:
            cash += grown * dividend[n]
        book.owed[n] = 0.0
        if split[n] != 1.0:
            if shares[n] != 0:
                book.position[n] *= split[n]
                book.largest[n] *= split[n]
            book.waiting[n] = _after_split(book.waiting[n], split[n], steps)
            shares[n] = _after_split(shares[n], split[n], steps)
            if abs(grown) > abs(shares[n]):
                book.owed[n] = grown - shares[n]
                owes = owes or book.owed[n] != 0
    book.account[CASH] += cash
    return owes


@compiled
def _after_split(quantity: float, split: float, steps: float) -> float:
    grown = quantity * split
    return np.trunc(grown * steps + np.copysign(SPLIT_HAIR, grown)) / steps  # type: ignore[no-any-return]


@inlined
def pay_dividends(book: Book, dividend: Array) -> None:
    """Dividends of a row without a split."""
    cash = 0.0
    for n in range(len(dividend)):
        if dividend[n] > 0:
            cash += book.shares[n] * dividend[n]
    book.account[CASH] += cash


@inlined
def pay_owed(book: Book, mark: Array) -> None:
    """Pay the fractions that a split left."""
    book.account[CASH] += value_of(book.owed, mark)
    for n in range(len(mark)):
        if book.owed[n] != 0:
            trade(book, n, -book.owed[n])


@inlined
def close_silent(book: Book, market: Market, t: int) -> None:
    """Close what has had no bar for long, at its last price."""
    cash, mark = 0.0, market.marks[t]
    for n in range(len(mark)):
        if market.closes_on[n] == t and book.shares[n] != 0:
            cash += book.shares[n] * mark[n]
            trade(book, n, -book.shares[n])
            book.shares[n] = 0.0
    book.account[CASH] += cash
