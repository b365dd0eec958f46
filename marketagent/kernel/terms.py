"""What the compiled simulation is told: the market, the account and what trading costs; and how it keeps a book.

All arrays of the market and of the book come as addresses, and so have no owner in compiled code: one that has is counted
each time it is handed on, which costs more than most of what is done with it. The caller keeps them alive.
"""

from typing import NamedTuple

import numpy as np

from marketagent.compiled import Array, Whole, cells_at, inlined, matrix_at, numbers_at
from marketagent.costs import Costs
from marketagent.execution import NIGHTS

# Of `facts`: addresses, of which LIMIT and PRESSURE may be 0: there are none;
OPEN, CLOSE, MARK, SPLIT, DIVIDEND, LIMIT, PRESSURE, HAPPENS, CALM, MONTHS, CLOSES_ON, BARS, USUAL = range(13)
LENGTH, WIDTH, START, IS_WHOLE = range(13, 17)  # rows, symbols, the row to begin with, whether no bar is missing
SPLITS, PAYS, ENDS, NIGHT = 1, 2, 4, 8  # of `happens`: a row has a split, a dividend, a symbol to close, a night before
NEXT_OPEN, NEXT_CLOSE, SAME_CLOSE = range(3)  # as simulate.FILLS
START_CASH, FILL, STEPS, PERIODS = range(4)  # of `terms`
# Of `bill`: what ``costs.Costs`` charges, in this order, the first two as fractions; behind it the tiers of the month.
CHARGED = (
    "slippage_bps", "bps", "per_share", "minimum", "ceiling", "on_commission", "exchange_per_share", "clearing_per_share",
    "clearing_ceiling", "sec_rate", "taf_per_share", "taf_maximum", "cat_per_share", "whole_cents", "borrow_rate",
    "margin_rate",
)  # fmt: skip
SLIPPAGE, RATE, PER_SHARE, MINIMUM, CEILING, ON_COMMISSION, EXCHANGE, CLEARING = range(8)
CLEARING_CEILING, SEC, TAF, TAF_MAXIMUM, CAT, WHOLE_CENTS, BORROW, MARGIN, TIERS = range(
    8, 17
)  # TIERS: where they begin
CASH, TRADED, TRADES, MONTHLY, MONTH, SELLS, BUYS = range(7)  # of `account`; MONTHLY: the shares traded in MONTH;
_ACCOUNT = 8  # cells; SELLS and BUYS above: how many orders wait


class Market(NamedTuple):
    """A panel, each array (T, N) but the last four.

    `happens` (T,) are bits of what happens on a row, `calm` (T,) the first row from each on that something does, `months`
    (T,) calendar months, `closes_on` (N,) the rows on which who is silent is closed.
    """

    opens: Array
    closes: Array
    marks: Array
    splits: Array
    dividends: Array
    limits: Array
    pressures: Array
    is_limited: bool
    is_moved: bool
    happens: Whole
    calm: Whole
    months: Whole
    closes_on: Whole


class Book(NamedTuple):
    """An account under way: `account` in the order of CASH and the rest, and of each symbol (N,) the others.

    `waiting` are orders, the first SELLS of `sells` and BUYS of `buys` the symbols that have one; `owed` are the fractions
    that a split left, `position` and `largest` those of the round trip under way; `paid` is room for prices after slippage.
    """

    account: Array
    shares: Array
    waiting: Array
    owed: Array
    position: Array
    largest: Array
    paid: Array
    sells: Whole
    buys: Whole


def bill_of(costs: Costs) -> Array:
    """The numbers of `costs`, in the order the kernel reads them; each tier is where it begins, where it ends, its rate."""
    ends = [since for since, _ in costs.tiers[1:]] + [np.inf]
    tiers = [number for (since, rate), end in zip(costs.tiers, ends, strict=False) for number in (since, end, rate)]
    bill = np.array([*(float(getattr(costs, name)) for name in CHARGED), *tiers])
    bill[[SLIPPAGE, RATE]] /= 10_000
    bill[[BORROW, MARGIN]] /= NIGHTS
    return bill


@inlined
def room_for(width: int) -> int:
    """How many cells the book of so many symbols takes."""
    return _ACCOUNT + 8 * width


@inlined
def market(facts: Whole) -> Market:
    """The market whose addresses are `facts`."""
    length, width = facts[LENGTH], facts[WIDTH]
    return Market(
        matrix_at(facts[OPEN], length, width), matrix_at(facts[CLOSE], length, width),
        matrix_at(facts[MARK], length, width), matrix_at(facts[SPLIT], length, width),
        matrix_at(facts[DIVIDEND], length, width), matrix_at(facts[LIMIT], length, width),
        matrix_at(facts[PRESSURE], length, width), facts[LIMIT] != 0, facts[PRESSURE] != 0,
        numbers_at(facts[HAPPENS], 0, length), numbers_at(facts[CALM], 0, length), numbers_at(facts[MONTHS], 0, length),
        numbers_at(facts[CLOSES_ON], 0, width),
    )  # fmt: skip


@inlined
def book(room: int, cash: float, width: int) -> Book:
    """An account that has nothing but `cash`, kept in the cells from the address `room` on."""
    cells_at(room, 0, _ACCOUNT + 8 * width)[:] = 0.0
    account = cells_at(room, 0, _ACCOUNT)
    account[CASH], account[MONTH] = cash, -1.0
    first = _ACCOUNT
    return Book(
        account, cells_at(room, first, width), cells_at(room, first + width, width), cells_at(room, first + 2 * width, width),
        cells_at(room, first + 3 * width, width), cells_at(room, first + 4 * width, width), cells_at(room, first + 5 * width, width),
        numbers_at(room, first + 6 * width, width), numbers_at(room, first + 7 * width, width),
    )  # fmt: skip
