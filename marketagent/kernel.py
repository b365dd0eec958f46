"""The compiled simulation of a sweep: from target weights to equity and metrics.

``run`` does what ``simulate`` does, in its words and its order of operations, one session and one symbol at a time, and
measures what comes out as ``metrics`` does; tests hold them equal, the equity to the bit.

Arrays of the panel come as addresses, each of a C-ordered float64 (T, N) array that the caller keeps alive.
"""

import numpy as np
from numpy.typing import NDArray

from marketagent.compiled import Array, Whole, compiled, matrix_at
from marketagent.costs import CENT_HAIR, LARGEST_IMPACT, Costs
from marketagent.execution import NIGHTS, ROUNDS, SPLIT_HAIR
from marketagent.metrics import FLAT
from marketagent.orders import HAIR

OPEN, CLOSE, MARK, SPLIT, DIVIDEND, LIMIT, PRESSURE = range(7)  # of `prices`; the last two may be 0: there are none
SPLITS, PAYS, ENDS, NIGHT = (
    1,
    2,
    4,
    8,
)  # of `happens`: a row has a split, a dividend, a symbol to be closed, a night before
NEXT_OPEN, NEXT_CLOSE, SAME_CLOSE = range(3)  # as simulate.FILLS
START_CASH, START, FILL, STEPS, PERIODS = range(5)  # of `terms`
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
CASH, TRADED, TRADES, MONTHLY, MONTH = range(5)  # of `account`; MONTHLY: the shares traded in the calendar month MONTH
RESULTS = ("total_return", "cagr", "sharpe", "max_drawdown", "trades", "turnover")  # NaN where a metric is None


def bill_of(costs: Costs) -> Array:
    """The numbers of `costs`, in the order the kernel reads them; each tier is where it begins, where it ends, its rate."""
    ends = [since for since, _ in costs.tiers[1:]] + [np.inf]
    tiers = [number for (since, rate), end in zip(costs.tiers, ends, strict=False) for number in (since, end, rate)]
    bill = np.array([*(float(getattr(costs, name)) for name in CHARGED), *tiers])
    bill[[SLIPPAGE, RATE]] /= 10_000
    bill[[BORROW, MARGIN]] /= NIGHTS
    return bill


@compiled
def run(
    targets: int,
    band: float,
    due: Whole,
    prices: Whole,
    happens: NDArray[np.int8],
    months: Whole,
    closes_on: Whole,
    bill: Array,
    terms: Array,
    equity: Array,
    results: Array,
) -> None:
    """Trade `targets` into `equity` (T,), from row `start` on, and its `results`, as RESULTS names them.

    `due` are the rows that may decide: no other targets are looked at. `months` (T,) are calendar months.
    """
    length, width = len(equity), len(closes_on)
    opens, closes = matrix_at(prices[OPEN], length, width), matrix_at(prices[CLOSE], length, width)
    marks, splits = matrix_at(prices[MARK], length, width), matrix_at(prices[SPLIT], length, width)
    dividends, wanted = matrix_at(prices[DIVIDEND], length, width), matrix_at(targets, length, width)
    start, fill, steps = int(terms[START]), int(terms[FILL]), terms[STEPS]
    limits, pressures = matrix_at(prices[LIMIT], length, width), matrix_at(prices[PRESSURE], length, width)
    is_limited, is_moved = prices[LIMIT] != 0, prices[PRESSURE] != 0
    account = np.array([terms[START_CASH], 0.0, 0.0, 0.0, -1.0])
    shares, waiting, owed, paid = np.zeros(width), np.zeros(width), np.zeros(width), np.zeros(width)
    position, largest, queue = np.zeros(width), np.zeros(width), np.zeros(width, np.int64)
    waits, owes = False, False
    turn = np.searchsorted(due, start)
    for t in range(start, length):
        mark = marks[t]
        if happens[t] & NIGHT:
            account[CASH] -= _lending(shares, marks[t - 1], account[CASH], bill)
        if happens[t] & SPLITS:
            owes = _before_open(account, shares, waiting, owed, position, largest, splits[t], dividends[t], steps)
        elif happens[t] & PAYS:
            account[CASH] += _dividends(shares, dividends[t])
        if waits:
            price = opens[t] if fill == NEXT_OPEN else closes[t]
            _begin_month(account, months[t])
            _limit(waiting, limits[t], is_limited, steps)
            _execute(
                account, shares, waiting, paid, queue, price, pressures[t], is_moved, bill, steps, position, largest
            )
            waits = False
        if owes:
            _pay(account, owed, mark, position, largest)
            owes = False
        if happens[t] & ENDS:
            _close_silent(account, shares, closes_on, t, mark, position, largest)
        worth = account[CASH] + _value(shares, mark)
        if turn < len(due) and due[turn] == t:
            turn += 1
            if worth > 0 and _wants(wanted[t], shares, closes[t], worth, band):
                waits = _orders(waiting, wanted[t], shares, closes[t], worth, band, steps)
            if waits and fill == SAME_CLOSE:
                _begin_month(account, months[t])
                _limit(waiting, limits[t], is_limited, steps)
                _execute(
                    account,
                    shares,
                    waiting,
                    paid,
                    queue,
                    closes[t],
                    pressures[t],
                    is_moved,
                    bill,
                    steps,
                    position,
                    largest,
                )
                waits = False
                worth = account[CASH] + _value(shares, mark)
        equity[t] = worth
    _measure(equity[start:], terms, account, results)


@compiled
def _value(shares: Array, mark: Array) -> float:
    value = 0.0
    for n in range(len(shares)):
        value += shares[n] * mark[n]
    return value


# Nights and days: execution.overnight, simulate._before_open, before_open, _dividends, _close_silent --------------------------------------


@compiled
def _lending(shares: Array, mark: Array, cash: float, bill: Array) -> float:
    """What the night costs; the rates of the `bill` are a night's."""
    short = 0.0
    for n in range(len(shares)):
        short += max(-shares[n] * mark[n], 0.0)
    return bill[BORROW] * short + bill[MARGIN] * max(-cash, 0.0)  # type: ignore[no-any-return]


@compiled
def _begin_month(account: Array, month: int) -> None:
    if account[MONTH] != month:
        account[MONTH], account[MONTHLY] = month, 0.0


@compiled
def _before_open(
    account: Array, shares: Array, waiting: Array, owed: Array, position: Array, largest: Array,
    split: Array, dividend: Array, steps: float,
) -> bool:  # fmt: skip
    """Split shares and orders, pay dividends; `owed` are the fractions left. True if there are any."""
    cash, owes = 0.0, False
    for n in range(len(shares)):
        grown = shares[n] * split[n]
        if dividend[n] > 0:
            cash += grown * dividend[n]
        owed[n] = 0.0
        if split[n] != 1.0:
            if shares[n] != 0:
                position[n] *= split[n]
                largest[n] *= split[n]
            waiting[n] = _after_split(waiting[n], split[n], steps)
            shares[n] = _after_split(shares[n], split[n], steps)
            if abs(grown) > abs(shares[n]):
                owed[n] = grown - shares[n]
                owes = owes or owed[n] != 0
    account[CASH] += cash
    return owes


@compiled
def _after_split(quantity: float, split: float, steps: float) -> float:
    grown = quantity * split
    return np.trunc(grown * steps + np.copysign(SPLIT_HAIR, grown)) / steps  # type: ignore[no-any-return]


@compiled
def _dividends(shares: Array, dividend: Array) -> float:
    cash = 0.0
    for n in range(len(shares)):
        if dividend[n] > 0:
            cash += shares[n] * dividend[n]
    return cash


@compiled
def _pay(account: Array, owed: Array, mark: Array, position: Array, largest: Array) -> None:
    account[CASH] += _value(owed, mark)
    for n in range(len(owed)):
        if owed[n] != 0:
            _trade(account, position, largest, n, -owed[n])


@compiled
def _close_silent(
    account: Array, shares: Array, closes_on: Whole, t: int, mark: Array, position: Array, largest: Array
) -> None:
    cash = 0.0
    for n in range(len(shares)):
        if closes_on[n] == t and shares[n] != 0:
            cash += shares[n] * mark[n]
            _trade(account, position, largest, n, -shares[n])
            shares[n] = 0.0
    account[CASH] += cash


# Orders and fills: orders.order_quantities, execution.execute, costs.Costs, metrics.round_trips ------------------------


@compiled
def _wants(target: Array, shares: Array, close: Array, equity: float, band: float) -> bool:
    """Whether any symbol may have to trade: a quick look without a branch, as on most rows none has."""
    apart = 0
    for n in range(len(target)):
        wanted_value = target[n] * equity
        away = abs(wanted_value - shares[n] * close[n])  # NaN, without a target or a bar, is not apart
        apart += (away >= band * abs(wanted_value)) & ((shares[n] != 0) | (wanted_value != 0))
    return apart > 0


@compiled
def _orders(
    waiting: Array, target: Array, shares: Array, close: Array, equity: float, band: float, steps: float
) -> bool:
    """What each symbol is to buy or sell, into `waiting`; True if anything is. `equity` is above 0."""
    ordered = 0
    for n in range(len(target)):  # without a branch, as above
        wanted_value = target[n] * equity
        wanted = _cut(wanted_value / close[n], steps)
        near = abs(wanted_value - shares[n] * close[n]) < band * abs(wanted_value)
        near |= (band >= 1) & (shares[n] * target[n] > 0)
        alone = near | (target[n] != target[n]) | (close[n] != close[n])
        waiting[n] = 0.0 if alone else _stepped(np.rint((wanted - shares[n]) * steps), steps)
        ordered += waiting[n] != 0
    return ordered > 0


@compiled
def _cut(quantity: float, steps: float) -> float:
    return _stepped(np.trunc(quantity * steps + np.copysign(HAIR, quantity)), steps)


@compiled
def _stepped(whole: float, steps: float) -> float:
    """So many whole steps as shares; of whole shares without the division, the dearest part of it all."""
    return whole if steps == 1.0 else whole / steps


@compiled
def _limit(waiting: Array, limit: Array, is_limited: bool, steps: float) -> None:
    for n in range(len(waiting) if is_limited else 0):
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


@compiled
def _execute(
    account: Array, shares: Array, waiting: Array, paid: Array, queue: Whole, price: Array, pressure: Array, is_moved: bool,
    bill: Array, steps: float, position: Array, largest: Array,
) -> None:  # fmt: skip
    """Fill the orders that have a price: sells first, then as much of the buys as the cash pays for.

    `paid` and `queue` are room: for the prices after slippage, and for the symbols that are to be bought.
    """
    sold = sell_fees = cost = fees = filled = 0.0
    traded, buys = account[MONTHLY], 0
    for n in range(len(waiting)):
        quantity = waiting[n]
        if quantity == 0 or not np.isfinite(price[n]):
            continue
        paid[n] = _moved(price[n], quantity, pressure[n] if is_moved else 0.0, is_moved, bill)
        if quantity < 0:
            sold += -quantity * paid[n]
            sell_fees += _commission(quantity, paid[n], traded, bill)
            filled -= quantity
            _fill(account, shares, position, largest, n, quantity, paid[n], steps)
        else:
            cost += quantity * paid[n]
            fees += _commission(quantity, paid[n], traded, bill)
            queue[buys] = n
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
            _fill(account, shares, position, largest, n, quantity, paid[n], steps)
    account[MONTHLY] = _stepped(np.rint((traded + filled) * steps), steps)


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
def _fill(
    account: Array, shares: Array, position: Array, largest: Array, n: int, quantity: float, price: float, steps: float
) -> None:
    shares[n] = _stepped(np.rint((shares[n] + quantity) * steps), steps)
    account[TRADED] += abs(quantity) * price
    _trade(account, position, largest, n, quantity)


@compiled
def _trade(account: Array, position: Array, largest: Array, n: int, quantity: float) -> None:
    """Count the round trip that a fill ends, if it ends one."""
    before, after = position[n], position[n] + quantity
    if abs(after) <= FLAT * largest[n]:
        after = 0.0
    if before != 0 and not before * after > 0:
        account[TRADES] += 1
        largest[n] = 0.0
    position[n] = after
    largest[n] = max(largest[n], abs(after))


@compiled
def _measure(equity: Array, terms: Array, account: Array, results: Array) -> None:
    """The metrics of one equity path, as ``metrics`` defines them."""
    count, before, lost = len(equity), terms[START_CASH], False
    returns = np.empty(count)
    level = peak = 1.0
    fall = total = mean_equity = 0.0
    for t in range(count):
        lost = lost or equity[t] <= 0
        worth = 0.0 if lost else equity[t]
        returns[t] = (worth / before if before > 0 else 1.0) - 1
        before = worth
        level *= returns[t] + 1
        peak = max(peak, level)
        fall = min(fall, (level - peak) / peak)
        total += returns[t]
        mean_equity += equity[t]
    mean_equity /= count
    mean, square, moves = total / count, 0.0, False
    for t in range(count):
        square += (returns[t] - mean) ** 2
        moves = moves or returns[t] != returns[0]
    results[:] = np.nan
    results[0], results[3], results[4] = level - 1, fall, account[TRADES]
    results[1] = level ** (terms[PERIODS] / count) - 1
    if moves:
        results[2] = mean / np.sqrt(square / (count - 1)) * np.sqrt(terms[PERIODS])
    if mean_equity > 0:
        results[5] = account[TRADED] / mean_equity / (count / terms[PERIODS])
