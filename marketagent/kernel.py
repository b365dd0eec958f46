"""The compiled half of a sweep: from the signals of one combination of parameters to its equity and metrics.

``weigh`` does what ``decide`` does with signals, ``run`` what ``simulate`` does with targets, in their words and their
order of operations, one session and one symbol at a time; tests hold them equal. It keeps the equity of the combination
it is at and nothing else.

Arrays come as addresses, each of a C-ordered float64 (T, N) array that the caller keeps alive: how many signals there
are differs from strategy to strategy, and must not be compiled for.
"""

import numpy as np
from numpy.typing import NDArray

from marketagent.compiled import Array, Whole, cells_at, compiled, matrix_at
from marketagent.costs import Costs
from marketagent.metrics import FLAT
from marketagent.orders import HAIR
from marketagent.simulate import SPLIT_HAIR

OPEN, CLOSE, MARK, SPLIT, DIVIDEND, BARS, VOLATILITY = range(7)  # of `prices`; BARS counts them, 0 where there is none
SPLITS, PAYS, ENDS = 1, 2, 4  # of `happens`: a row has a split, a dividend, a symbol to be closed
NEXT_OPEN, NEXT_CLOSE, SAME_CLOSE = range(3)  # as simulate.FILLS
EQUAL, SCORE, INVERSE_VOLATILITY, TOP_K = range(4)  # as sizing.METHODS
METHOD, BEST, GROSS, MAX_WEIGHT, LONG_ONLY, THRESHOLD, MIN_CONFIDENCE, WARMUP = range(8)  # of `rule`
START_CASH, START, FILL, STEPS, PERIODS = range(5)  # of `terms`
SLIPPAGE, BPS, PER_SHARE, MINIMUM, CEILING = range(5)  # of `bill`
CASH, TRADED, TRADES = range(3)  # of `account`
BLOCK = 1024  # cells, which stay in the nearest cache
RESULTS = ("total_return", "cagr", "sharpe", "max_drawdown", "trades", "turnover")  # NaN where a metric is None


def bill_of(costs: Costs) -> Array:
    """The numbers of `costs`, in the order the kernel reads them."""
    return np.array([costs.slippage_bps, costs.bps, costs.per_share, costs.minimum, costs.ceiling])


@compiled
def run(
    targets: int,
    band: float,
    due: Whole,
    prices: Whole,
    happens: NDArray[np.int8],
    closes_on: Whole,
    bill: Array,
    terms: Array,
    equity: Array,
    results: Array,
) -> None:
    """Trade `targets` into `equity` (T,), from row `start` on, and its `results`, as RESULTS names them.

    `due` are the rows that may decide: the targets of all others are not looked at.
    """
    length, width = len(equity), len(closes_on)
    opens, closes = matrix_at(prices[OPEN], length, width), matrix_at(prices[CLOSE], length, width)
    marks, splits = matrix_at(prices[MARK], length, width), matrix_at(prices[SPLIT], length, width)
    dividends, wanted = matrix_at(prices[DIVIDEND], length, width), matrix_at(targets, length, width)
    start, fill, steps = int(terms[START]), int(terms[FILL]), terms[STEPS]
    account = np.array([terms[START_CASH], 0.0, 0.0])
    shares, waiting, owed, paid = np.zeros(width), np.zeros(width), np.zeros(width), np.zeros(width)
    position, largest = np.zeros(width), np.zeros(width)
    waits, owes = False, False
    turn = np.searchsorted(due, start)
    for t in range(start, length):
        mark = marks[t]
        if happens[t] & SPLITS:
            owes = _before_open(account, shares, waiting, owed, position, largest, splits[t], dividends[t], steps)
        elif happens[t] & PAYS:
            account[CASH] += _dividends(shares, dividends[t])
        if waits:
            price = opens[t] if fill == NEXT_OPEN else closes[t]
            _execute(account, shares, waiting, paid, price, bill, steps, position, largest)
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
                _execute(account, shares, waiting, paid, closes[t], bill, steps, position, largest)
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


# The day's events: simulate._before_open, before_open, _dividends, _close_silent --------------------------------------


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


# Orders and fills: orders.order_quantities, simulate.execute, costs.Costs, metrics.round_trips ------------------------


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
    waits = False
    for n in range(len(target)):
        waiting[n] = 0.0
        wanted_value = target[n] * equity
        if np.isnan(target[n]) or np.isnan(close[n]):
            continue
        if abs(wanted_value - shares[n] * close[n]) < band * abs(wanted_value):
            continue
        if band >= 1 and shares[n] * target[n] > 0:
            continue
        wanted = _cut(wanted_value / close[n], steps)
        waiting[n] = np.rint((wanted - shares[n]) * steps) / steps
        waits = waits or waiting[n] != 0
    return waits


@compiled
def _cut(quantity: float, steps: float) -> float:
    return np.trunc(quantity * steps + np.copysign(HAIR, quantity)) / steps  # type: ignore[no-any-return]


@compiled
def _commission(shares: float, price: float, bill: Array) -> float:
    value = shares * price
    by_share = min(max(bill[PER_SHARE] * shares, bill[MINIMUM]), bill[CEILING] * value)
    return 0.0 if shares == 0 else bill[BPS] / 10_000 * value + by_share


@compiled
def _execute(
    account: Array, shares: Array, waiting: Array, paid: Array, price: Array, bill: Array, steps: float,
    position: Array, largest: Array,
) -> None:  # fmt: skip
    """Fill the orders that have a price: sells first, then as much of the buys as the cash pays for."""
    sold = sell_fees = cost = fees = 0.0
    slip = bill[SLIPPAGE] / 10_000
    for n in range(len(waiting)):
        quantity = waiting[n]
        if quantity == 0:
            continue
        if not np.isfinite(price[n]):
            waiting[n] = 0.0
        elif quantity < 0:
            paid[n] = price[n] - price[n] * slip
            sold += -quantity * paid[n]
            sell_fees += _commission(-quantity, paid[n], bill)
        else:
            paid[n] = price[n] + price[n] * slip
            cost += quantity * paid[n]
            fees += _commission(quantity, paid[n], bill)
    account[CASH] += sold - sell_fees
    share, spent, rounds = 1.0, cost + fees, 0
    while spent > account[CASH] and spent != 0.0:
        rounds += 1
        share = 0.0 if rounds == 64 else share * (max(account[CASH], 0.0) / spent * (1 - 1e-12))
        cost = fees = 0.0
        for n in range(len(waiting)):
            if waiting[n] > 0:
                quantity = _cut(waiting[n] * share, steps)
                cost += quantity * paid[n]
                fees += _commission(quantity, paid[n], bill)
        spent = cost + fees
    account[CASH] -= spent
    for n in range(len(waiting)):
        quantity = waiting[n]
        if quantity > 0 and rounds:
            quantity = _cut(quantity * share, steps)
        if quantity != 0:
            shares[n] = np.rint((shares[n] + quantity) * steps) / steps
            account[TRADED] += abs(quantity) * paid[n]
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


# The decision: ensemble.ensemble, act, sizing.target_weights ----------------------------------------------------------


@compiled
def weigh(
    targets: int, signals: Whole, sure: Array, weights: Array, rule: Array, due: Whole, prices: Whole, length: int,
    width: int,
) -> bool:  # fmt: skip
    """The target weights of the rows that are `due`, into `targets`.

    `signals` (S, 2) are the addresses of values and confidences; where the latter is 0, `sure` (S,) holds for all
    values. False, and nothing of worth, if a signal leaves its range.
    """
    bars, volatility = matrix_at(prices[BARS], length, width), matrix_at(prices[VOLATILITY], length, width)
    wanted = matrix_at(targets, length, width)
    most = max(1, BLOCK // width)
    scores = np.empty((most, width))
    sums = np.empty((3, most * width))
    turn = 0
    while turn < len(due):
        t, rows = due[turn], 1
        while rows < most and turn + rows < len(due) and due[turn + rows] == t + rows:
            rows += 1
        if not _score(scores.ravel(), sums, signals, sure, weights, bars.ravel(), rule, t * width, rows * width):
            return False
        for row in range(rows):
            _size(wanted[t + row], scores[row], volatility[t + row], rule)
        turn += rows
    return True


@compiled
def _score(
    score: Array, sums: Array, signals: Whole, sure: Array, weights: Array, bars: Array, rule: Array, first: int,
    count: int,
) -> bool:  # fmt: skip
    """The scores of `count` cells, NaN without one; in doubt 0, which is as good as a hold. False beyond the range."""
    value, spoken, trust = sums[0], sums[1], sums[2]
    sums[:] = 0.0
    total, beyond = 0.0, 0
    for k in range(len(weights)):
        opinions, weight = cells_at(signals[k, 0], first, count), weights[k]
        total += weight
        if signals[k, 1]:
            confidences = cells_at(signals[k, 1], first, count)
            for i in range(count):
                speaks = (opinions[i] == opinions[i]) & (confidences[i] == confidences[i])
                beyond += (abs(opinions[i]) > 1) | (confidences[i] < 0) | (confidences[i] > 1)
                value[i] += weight * opinions[i] if speaks else 0.0
                spoken[i] += weight if speaks else 0.0
                trust[i] += weight * confidences[i] if speaks else 0.0
        else:
            for i in range(count):
                beyond += abs(opinions[i]) > 1
                value[i] += weight * opinions[i] if opinions[i] == opinions[i] else 0.0
                spoken[i] += weight if opinions[i] == opinions[i] else 0.0
                trust[i] += weight * sure[k] if opinions[i] == opinions[i] else 0.0
    least = max(rule[WARMUP], 1.0)
    for i in range(count):
        mean = value[i] / spoken[i]  # NaN where all abstain
        score[i] = min(max(mean, -1.0), 1.0) if (bars[first + i] >= least) & (mean == mean) else np.nan
    if rule[MIN_CONFIDENCE] > 0:
        for i in range(count):
            if score[i] == score[i] and not min(max(trust[i] / total, 0.0), 1.0) >= rule[MIN_CONFIDENCE]:
                score[i] = 0.0 if rule[METHOD] == TOP_K else np.nan
    return beyond == 0 and not (sure < 0).any() and not (sure > 1).any()


@compiled
def _size(target: Array, score: Array, volatility: Array, rule: Array) -> None:
    """Target weights of one session, NaN where a position is left alone."""
    method, threshold, long_only = rule[METHOD], rule[THRESHOLD], rule[LONG_ONLY] != 0
    total, count = 0.0, 0
    if method == EQUAL and long_only:
        for n in range(len(score)):
            count += score[n] > threshold
        weight = min(rule[GROSS] / max(count, 1), rule[MAX_WEIGHT])
        for n in range(len(score)):
            target[n] = weight if score[n] > threshold else 0.0 if score[n] < -threshold else np.nan
        return
    for n in range(len(score)):  # `target` holds the pull first
        pull = 0.0
        if score[n] > threshold or (score[n] < -threshold and not long_only):
            pull = 1.0
            if method in (SCORE, TOP_K):
                pull = abs(score[n])
            elif method == INVERSE_VOLATILITY:
                pull = 1.0 / volatility[n] if volatility[n] > 0 else 0.0
            count += 1
        target[n] = pull
    if method == TOP_K:
        _best(target, min(count, int(rule[BEST])))
    for n in range(len(score)):
        total += target[n]
    for n in range(len(score)):
        sells = score[n] < -threshold
        if target[n] > 0:
            weight = min(rule[GROSS] * target[n] / total, rule[MAX_WEIGHT])
            target[n] = -weight if sells and not long_only else weight
        elif np.isnan(score[n]) if method == TOP_K else not sells:
            target[n] = np.nan


@compiled
def _best(pull: Array, count: int) -> None:
    """The `count` strongest become 1, all others 0; of equal ones the first wins."""
    for _ in range(count):
        best = -1
        for n in range(len(pull)):
            if pull[n] > 0 and (best < 0 or pull[n] > pull[best]):
                best = n
        if best >= 0:
            pull[best] = -1.0
    for n in range(len(pull)):
        pull[n] = 1.0 if pull[n] < 0 else 0.0


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
