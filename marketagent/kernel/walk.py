"""The walk of an account over the rows of a market, as simulate's loop: nights, splits, fills, ends, value, decision."""

from marketagent.compiled import Array, Whole, compiled, in_line, inlined, matrix_at
from marketagent.kernel.days import before_open, close_silent, pay_dividends, pay_for_night, pay_owed, value_of
from marketagent.kernel.fills import fill, is_apart, order
from marketagent.kernel.measure import measure
from marketagent.kernel.terms import (
    BORROW,
    BUYS,
    CASH,
    ENDS,
    FILL,
    LENGTH,
    MARGIN,
    NEXT_OPEN,
    NIGHT,
    PAYS,
    SAME_CLOSE,
    SELLS,
    SPLITS,
    START,
    START_CASH,
    STEPS,
    WIDTH,
    Book,
    Market,
    book,
    market,
)  # fmt: skip

GLANCE = 64  # rows that are valued together while nothing happens


@compiled
def run(
    targets: int, band: float, facts: Whole, bill: Array, terms: Array, room: Array, equity: Array, figures: Array
) -> None:
    """Trade `targets` into `equity` (T,), from row `start` on, and its `figures`, as FIGURES names them.

    `room` are cells for the book, as many as ``room_for`` says.
    """
    length, width, start = facts[LENGTH], facts[WIDTH], facts[START]
    account = book(room.ctypes.data, terms[START_CASH], width)
    walk(account, market(facts), matrix_at(targets, length, width), 0, start, length, band, bill, terms, equity)
    measure(equity[start:], terms, account.account, figures)


@inlined
def walk(
    account: Book, facts: Market, wanted: Array, base: int, first: int, last: int, band: float, bill: Array, terms: Array,
    equity: Array,
) -> None:  # fmt: skip
    """Live through the rows from `first` to before `last`; those from row `base` on decide: `wanted` are their targets."""
    t = first
    while t < last:
        if facts.calm[t] > t and _is_still(account, bill):
            still = min(base if t < base else last, facts.calm[t])
            t = _pass_calm(account, facts, wanted, base, t, still, band, equity)
            if t == still:
                continue
            apart = True
        else:
            _live(account, facts, t, bill, terms)
            equity[t] = account.account[CASH] + value_of(account.shares, facts.marks[t])
            apart = t >= base and _is_apart(account.shares, wanted[t - base], facts.closes[t], equity[t], band)
            t += not apart
        if apart:
            order(account, wanted[t - base], facts.closes[t], equity[t], band, terms[STEPS])
            if _waits(account) and terms[FILL] == SAME_CLOSE:
                fill(account, facts, t, facts.closes[t], bill, terms[STEPS])
                equity[t] = account.account[CASH] + value_of(account.shares, facts.marks[t])
            t += 1


@compiled
def _is_apart(shares: Array, target: Array, close: Array, worth: float, band: float) -> bool:
    """Whether any symbol may have to trade: a quick look without a branch, as on most rows none has."""
    found = 0
    for n in range(len(target)):
        found += is_apart(target[n], shares[n], close[n], worth, band)
    return found > 0 and worth > 0


@compiled
def _is_still(account: Book, bill: Array) -> bool:
    """Whether shares and cash stay as they are over a row on which nothing happens to a symbol."""
    if _waits(account):
        return False
    owes = account.account[CASH] < 0
    for n in range(len(account.shares)):
        owes |= account.shares[n] < 0
    return not owes or (bill[BORROW] == 0 and bill[MARGIN] == 0)


@compiled
def _waits(account: Book) -> bool:
    return bool(account.account[SELLS] + account.account[BUYS] > 0)


@compiled
def _live(account: Book, facts: Market, t: int, bill: Array, terms: Array) -> None:
    """What comes before the close of row `t`."""
    owes, happens = False, facts.happens[t]
    if happens & NIGHT:
        pay_for_night(account, facts.marks[t - 1], bill)
    if happens & SPLITS:
        owes = before_open(account, facts.splits[t], facts.dividends[t], terms[STEPS])
    elif happens & PAYS:
        pay_dividends(account, facts.dividends[t])
    if _waits(account):
        price = facts.opens[t] if terms[FILL] == NEXT_OPEN else facts.closes[t]
        fill(account, facts, t, price, bill, terms[STEPS])
    if owes:
        pay_owed(account, facts.marks[t])
    if happens & ENDS:
        close_silent(account, facts, t)


@compiled
def _pass_calm(
    account: Book, facts: Market, wanted: Array, base: int, first: int, last: int, band: float, equity: Array
) -> int:
    """Value the rows from `first` on, on which nothing happens; returns the first that may order something, or `last`."""
    cash, shares = account.account[CASH], account.shares
    if len(shares) == 1:
        return _pass_alone(cash, shares[0], facts, wanted, base, first, last, band, equity)
    for t in range(first, last):
        worth = cash + value_of(shares, facts.marks[t])
        equity[t] = worth
        if t >= base and _is_apart(shares, wanted[t - base], facts.closes[t], worth, band):
            return t
    return last


@compiled
def _pass_alone(
    cash: float,
    shares: float,
    facts: Market,
    wanted: Array,
    base: int,
    first: int,
    last: int,
    band: float,
    equity: Array,
) -> int:
    """As ``_pass_calm``, of one symbol: many rows at a time and without a branch.

    What is valued beyond the row returned is valued again when its turn comes.
    """
    while first < last:
        count = min(last - first, GLANCE)
        mark, worth = in_line(facts.marks)[first : first + count], equity[first : first + count]
        if first >= base:
            target, close = (
                in_line(wanted)[first - base : first - base + count],
                in_line(facts.closes)[first : first + count],
            )
            row = _value_until_apart(target, shares, cash, close, mark, worth, band)
            if row < count:
                return first + row
        else:
            for i in range(count):
                worth[i] = cash + (0.0 + shares * mark[i])  # as a sum over symbols begins
        first += count
    return last


@compiled
def _value_until_apart(
    target: Array, shares: float, cash: float, close: Array, mark: Array, worth: Array, band: float
) -> int:
    """The first of some rows of one symbol on which fills._wants is true, or how many there are."""
    count = len(target)
    row = count
    for i in range(count):
        value = cash + (0.0 + shares * mark[i])
        worth[i] = value
        hit = is_apart(target[i], shares, close[i], value, band) & (value > 0)
        row = min(row, i if hit else count)
    return row
