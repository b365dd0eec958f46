"""A second simulation, written from the docstring of the first: slow, obvious, one symbol at a time, in fractions."""

from dataclasses import dataclass, field
from fractions import Fraction
from math import floor, isnan

from marketagent.costs import Costs
from marketagent.panel import Array, Panel


@dataclass
class Holder:
    """One symbol of the reference account."""

    shares: Fraction = Fraction(0)
    order: Fraction = Fraction(0)
    mark: Fraction = Fraction(0)
    seen: int = -1


@dataclass
class Reference:
    cash: Fraction
    equity: list[Fraction] = field(default_factory=list)
    held: list[list[Fraction]] = field(default_factory=list)
    fills: list[tuple[int, int, int, float]] = field(default_factory=list)


def whole(quantity: Fraction, steps: int) -> Fraction:
    """Towards zero to whole steps; a thousandth of a millionth below one is one."""
    size = Fraction(floor(abs(quantity) * steps + Fraction(1, 10**9)), steps)
    return size if quantity > 0 else -size


def fee(costs: Costs, shares: Fraction, price: Fraction) -> Fraction:
    if not shares:
        return Fraction(0)
    value = abs(shares) * price
    by_share = max(Fraction(costs.per_share) * abs(shares), Fraction(costs.minimum))
    regulators = Fraction(costs.cat_per_share) * abs(shares)
    if shares < 0:
        regulators += Fraction(costs.sec_rate) * value
        regulators += min(Fraction(costs.taf_per_share) * abs(shares), Fraction(costs.taf_maximum))
    return Fraction(costs.bps) / 10_000 * value + min(by_share, Fraction(costs.ceiling) * value) + regulators


def reference(
    targets: Array, panel: Panel, costs: Costs, cash: float, *, start: int, fill: str, steps: int, band: float
) -> Reference:
    holders = [Holder() for _ in panel.symbols]
    final = [
        max([t for t in range(len(panel.sessions)) if panel.has_bar[t, n]], default=-1) for n in range(len(holders))
    ]
    account = Reference(Fraction(cash))
    for t in range(len(panel.sessions)):
        owed = []
        for n, holder in enumerate(holders):
            ratio = Fraction(panel.split[t, n])
            grown = holder.shares * ratio
            account.cash += grown * Fraction(panel.dividend[t, n])
            holder.shares = whole(grown, steps) if ratio != 1 else grown
            owed.append(grown - holder.shares if abs(grown) > abs(holder.shares) else Fraction(0))
            holder.order = whole(holder.order * ratio, steps) if ratio != 1 else holder.order
            holder.mark /= ratio
            if not isnan(panel.raw.close[t, n]):
                holder.mark, holder.seen = Fraction(panel.raw.close[t, n]), t
        if fill == "next-open":
            trade(account, holders, panel.raw.open[t], costs, steps, t, t - 1)
        elif fill == "next-close":
            trade(account, holders, panel.raw.close[t], costs, steps, t, t - 1)
        for n, holder in enumerate(holders):
            account.cash += owed[n] * holder.mark
            if holder.seen == final[n] and t - holder.seen == 5:
                account.cash += holder.shares * holder.mark
                holder.shares = Fraction(0)
        if t < start:
            continue
        equity = worth(account, holders)
        for n, holder in enumerate(holders):
            holder.order = size(targets[t, n], holder, panel.raw.close[t, n], equity, steps, band)
        if fill == "same-close":
            trade(account, holders, panel.raw.close[t], costs, steps, t, t)
        account.equity.append(worth(account, holders))
        account.held.append([holder.shares for holder in holders])
    return account


def worth(account: Reference, holders: list[Holder]) -> Fraction:
    return account.cash + sum(holder.shares * holder.mark for holder in holders)


def size(target: float, holder: Holder, close: float, equity: Fraction, steps: int, band: float) -> Fraction:
    if isnan(target) or isnan(close) or equity <= 0:
        return Fraction(0)
    wanted = Fraction(target) * equity
    if abs(wanted - holder.shares * Fraction(close)) < Fraction(band) * abs(wanted):
        return Fraction(0)
    if band >= 1 and holder.shares * Fraction(target) > 0:
        return Fraction(0)
    return whole(wanted / Fraction(close), steps) - holder.shares


def trade(
    account: Reference, holders: list[Holder], prices: Array, costs: Costs, steps: int, t: int, decided: int
) -> None:
    slip = Fraction(costs.slippage_bps) / 10_000
    orders = {n: h.order for n, h in enumerate(holders) if h.order and not isnan(prices[n])}
    price = {n: Fraction(prices[n]) * (1 + slip if order > 0 else 1 - slip) for n, order in orders.items()}
    for n, order in orders.items():
        if order < 0:
            account.cash += -order * price[n] - fee(costs, order, price[n])
    buys = {n: order for n, order in orders.items() if order > 0}
    share, rounds = Fraction(1), 0
    while (cost := sum(q * price[n] + fee(costs, q, price[n]) for n, q in buys.items())) > account.cash and cost:
        rounds += 1
        if rounds <= 64:
            share *= max(account.cash, Fraction(0)) / cost * (1 - Fraction(1, 10**12))
            share = Fraction(share.numerator * 10**30 // share.denominator, 10**30)  # or it grows without end
            beyond = share
        else:
            share = largest_share({n: orders[n] for n in buys}, price, costs, steps, account.cash, beyond)
        buys = {n: whole(orders[n] * share, steps) for n in buys}
    account.cash -= cost
    for n, holder in enumerate(holders):
        done = buys.get(n, min(orders.get(n, Fraction(0)), Fraction(0)))
        holder.shares += done
        holder.order = Fraction(0)
        if done:
            account.fills.append((t, decided, n, float(done)))


def largest_share(
    orders: dict[int, Fraction], price: dict[int, Fraction], costs: Costs, steps: int, cash: Fraction, beyond: Fraction
) -> Fraction:
    """The largest share of the orders, below one that is `beyond` it, that the cash pays for."""
    fits = Fraction(0)
    for _ in range(80):
        middle = (fits + beyond) / 2
        part = {n: whole(order * middle, steps) for n, order in orders.items()}
        cost = sum(q * price[n] + fee(costs, q, price[n]) for n, q in part.items())
        fits, beyond = (middle, beyond) if cost <= cash else (fits, middle)
    return fits
