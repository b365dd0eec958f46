"""Orders and their fills: orders.order_quantities, execution.execute, costs.Costs and the round trips of metrics."""

import numpy as np

from marketagent.compiled import Array, Whole, compiled, inlined
from marketagent.costs import CENT_HAIR, LARGEST_IMPACT
from marketagent.execution import ROUNDS
from marketagent.kernel.terms import (
    BUYS,
    CASH,
    CAT,
    CEILING,
    CLEARING,
    CLEARING_CEILING,
    EXCHANGE,
    MINIMUM,
    MONTH,
    MONTHLY,
    ON_COMMISSION,
    PER_SHARE,
    RATE,
    SEC,
    SELLS,
    SLIPPAGE,
    TAF,
    TAF_MAXIMUM,
    TIERS,
    TRADED,
    TRADES,
    WHOLE_CENTS,
    Book,
    Market,
)  # fmt: skip
from marketagent.metrics import FLAT
from marketagent.orders import HAIR


@inlined
def is_apart(target: float, shares: float, close: float, equity: float, band: float) -> bool:
    """Whether a position is so far from its target that it may have to trade; NaN, no target or no bar, is not."""
    wanted_value = target * equity
    away = abs(wanted_value - shares * close)
    return (away >= band * abs(wanted_value)) & ((shares != 0) | (wanted_value != 0))


@inlined
def order(book: Book, target: Array, close: Array, equity: float, band: float, steps: float) -> None:
    """Note what each symbol is to buy or sell. `equity` is above 0."""
    waiting, shares = book.waiting, book.shares
    for n in range(len(target)):  # without a branch, as the processor could only guess
        wanted_value = target[n] * equity
        wanted = _cut(wanted_value / close[n], steps)
        near = abs(wanted_value - shares[n] * close[n]) < band * abs(wanted_value)
        near |= (band >= 1) & (shares[n] * target[n] > 0)
        alone = near | (target[n] != target[n]) | (close[n] != close[n])
        waiting[n] = 0.0 if alone else _stepped(np.rint((wanted - shares[n]) * steps), steps)
    sells = buys = 0
    for n in range(len(target)):
        book.sells[sells], book.buys[buys] = n, n
        sells += waiting[n] < 0
        buys += waiting[n] > 0
    book.account[SELLS], book.account[BUYS] = sells, buys


@compiled
def _cut(quantity: float, steps: float) -> float:
    return _stepped(np.trunc(quantity * steps + np.copysign(HAIR, quantity)), steps)


@compiled
def _stepped(whole: float, steps: float) -> float:
    """So many whole steps as shares; of whole shares without the division, the dearest part of it all."""
    return whole if steps == 1.0 else whole / steps


@compiled
def _limit(waiting: Array, limit: Array, steps: float) -> None:
    for n in range(len(waiting)):
        if abs(waiting[n]) > limit[n]:
            waiting[n] = np.copysign(_cut(limit[n], steps), waiting[n])


@compiled
def _moved(price: float, quantity: float, pressure: float, is_moved: bool, bill: Array) -> float:
    """The price after slippage and, where the law of impact is in force, after what the order moves it by."""
    move = bill[SLIPPAGE]
    if is_moved:
        move += min(pressure * np.sqrt(abs(quantity)), LARGEST_IMPACT)
    return price + price * np.sign(quantity) * move  # type: ignore[no-any-return]


@compiled
def _by_tiers(shares: float, traded: float, bill: Array) -> float:
    due = 0.0
    for k in range(TIERS, len(bill), 3):
        since, until, rate = bill[k], bill[k + 1], bill[k + 2]
        if until > traded:
            first = max(since, traded)
            due += rate * min(max(traded + shares - first, 0.0), until - first)
    return due


@compiled
def _commission(quantity: float, price: float, traded: float, bill: Array) -> float:
    if quantity == 0:
        return 0.0
    shares = abs(quantity)
    value = shares * price
    each = _by_tiers(shares, traded, bill) if len(bill) > TIERS else bill[PER_SHARE] * shares
    by_share = min(max(each, bill[MINIMUM]), bill[CEILING] * value)
    clearing = min(bill[CLEARING] * shares, bill[CLEARING_CEILING] * value)
    passed_on = bill[ON_COMMISSION] * by_share + bill[EXCHANGE] * shares + clearing
    levied = bill[CAT] * shares
    if quantity < 0:
        levied += bill[SEC] * value + min(bill[TAF] * shares, bill[TAF_MAXIMUM])
    if bill[WHOLE_CENTS]:
        levied = np.ceil(levied * 100 - CENT_HAIR) / 100
    return bill[RATE] * value + by_share + passed_on + levied  # type: ignore[no-any-return]


@inlined
def fill(book: Book, market: Market, t: int, price: Array, bill: Array, steps: float) -> None:
    """Fill the orders that wait and have a price: sells first, then as much of the buys as the cash pays for."""
    account, waiting, paid, queue = book.account, book.waiting, book.paid, book.buys
    if account[MONTH] != market.months[t]:
        account[MONTH], account[MONTHLY] = market.months[t], 0.0
    if market.is_limited:
        _limit(waiting, market.limits[t], steps)
    is_moved, pressure = market.is_moved, market.pressures[t]
    sold = sell_fees = cost = fees = filled = 0.0
    traded, buys = account[MONTHLY], 0
    for k in range(int(account[SELLS])):
        n = book.sells[k]
        quantity = waiting[n]
        if quantity != 0 and np.isfinite(price[n]):
            paid[n] = _moved(price[n], quantity, pressure[n] if is_moved else 0.0, is_moved, bill)
            sold += -quantity * paid[n]
            sell_fees += _commission(quantity, paid[n], traded, bill)
            filled -= quantity
            _take(book, n, quantity, paid[n], steps)
    for k in range(int(account[BUYS])):
        n = book.buys[k]
        quantity = waiting[n]
        if quantity != 0 and np.isfinite(price[n]):
            paid[n] = _moved(price[n], quantity, pressure[n] if is_moved else 0.0, is_moved, bill)
            cost += quantity * paid[n]
            fees += _commission(quantity, paid[n], traded, bill)
            queue[buys] = n  # in the place of one that is done with
            buys += 1
    account[CASH] += sold - sell_fees
    share, spent, rounds, beyond = 1.0, cost + fees, 0, 0.0
    while rounds < ROUNDS and spent > account[CASH] and spent != 0.0:
        rounds += 1
        share *= max(account[CASH], 0.0) / spent * (1 - 1e-12)
        spent = _spent(waiting, queue[:buys], price, paid, pressure, is_moved, traded, bill, steps, share)
    if rounds == ROUNDS:
        share, beyond = 0.0, share
        for _ in range(ROUNDS):
            middle = (share + beyond) / 2
            cost = _spent(waiting, queue[:buys], price, paid, pressure, is_moved, traded, bill, steps, middle)
            share, beyond = (middle, beyond) if cost <= account[CASH] else (share, middle)
        spent = _spent(waiting, queue[:buys], price, paid, pressure, is_moved, traded, bill, steps, share)
    account[CASH] -= spent
    for k in range(buys):
        n = queue[k]
        quantity = _cut(waiting[n] * share, steps) if rounds else waiting[n]
        if quantity != 0:
            filled += quantity
            _take(book, n, quantity, paid[n], steps)
    account[MONTHLY] = _stepped(np.rint((traded + filled) * steps), steps)
    account[SELLS] = account[BUYS] = 0.0


@compiled
def _spent(
    waiting: Array, queue: Whole, price: Array, paid: Array, pressure: Array, is_moved: bool, traded: float, bill: Array,
    steps: float, share: float,
) -> float:  # fmt: skip
    """What the buys in the `queue` cost, cut to a `share` of them; `paid` is what each then pays a share."""
    cost = fees = 0.0
    for n in queue:
        quantity = _cut(waiting[n] * share, steps)
        if is_moved:
            paid[n] = _moved(price[n], quantity, pressure[n], is_moved, bill)
        cost += quantity * paid[n]
        fees += _commission(quantity, paid[n], traded, bill)
    return cost + fees


@compiled
def _take(book: Book, n: int, quantity: float, price: float, steps: float) -> None:
    book.shares[n] = _stepped(np.rint((book.shares[n] + quantity) * steps), steps)
    book.account[TRADED] += abs(quantity) * price
    trade(book, n, quantity)


@inlined
def trade(book: Book, n: int, quantity: float) -> None:
    """Count the round trip that a fill ends, if it ends one."""
    before, after, largest = book.position[n], book.position[n] + quantity, book.largest[n]
    after = 0.0 if abs(after) <= FLAT * largest else after
    ends = (before != 0) & (before * after <= 0)
    book.account[TRADES] += ends
    book.position[n] = after
    book.largest[n] = max(0.0 if ends else largest, abs(after))
