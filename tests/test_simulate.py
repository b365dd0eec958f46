"""The engine against a second one, written here from its docstring: slow, obvious, in exact fractions of a cent."""

from dataclasses import dataclass, field
from fractions import Fraction
from math import floor, isnan

import numpy as np
import pytest
from markets import halted_at_the_end, panel_of, random_market, random_targets
from numpy.testing import assert_array_equal

from marketagent.costs import Costs, parse
from marketagent.orders import FRACTIONAL, WHOLE
from marketagent.panel import Array, Panel
from marketagent.simulate import CLOSED, DIVIDEND, FILL, FILLS, FRACTION, KINDS, SPLIT, Simulation, simulate

NONE = parse("none")
DEAR = parse("ibkr-fixed", slippage_bps=20)
COSTS = [NONE, DEAR, parse("bps:30", slippage_bps=5)]
NAN = np.nan


# The reference -------------------------------------------------------------------------------------------------


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
    return Fraction(costs.bps) / 10_000 * value + min(by_share, Fraction(costs.ceiling) * value)


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
    share = Fraction(1)
    while (cost := sum(q * price[n] + fee(costs, q, price[n]) for n, q in buys.items())) > account.cash and cost:
        share *= max(account.cash, Fraction(0)) / cost * (1 - Fraction(1, 10**12))
        buys = {n: whole(orders[n] * share, steps) for n in buys}
    account.cash -= cost
    for n, holder in enumerate(holders):
        done = buys.get(n, min(orders.get(n, Fraction(0)), Fraction(0)))
        holder.shares += done
        holder.order = Fraction(0)
        if done:
            account.fills.append((t, decided, n, float(done)))


def fills_of(run: Simulation) -> list[tuple[int, int, int, float]]:
    events = run.events
    rows = np.flatnonzero(events.kind == FILL)
    return [
        (int(events.row[k]), int(events.decided[k]), int(events.column[k]), float(events.quantity[k])) for k in rows
    ]


def agree(run: Simulation, expected: Reference, steps: float) -> None:
    """Whole shares are the same; of millionths the last may differ, where a float rounds the other way."""
    assert [row[:3] for row in fills_of(run)] == [row[:3] for row in expected.fills]
    near, cents = (0.0, 1e-6) if steps == WHOLE else (1e-9, 0.005)
    done, expected_done = [row[3] for row in fills_of(run)], [row[3] for row in expected.fills]
    np.testing.assert_allclose(done, expected_done, rtol=near, atol=near * 1e5)
    np.testing.assert_allclose(run.shares, [float(held) for held in expected.held[-1]], rtol=near, atol=near * 1e5)
    np.testing.assert_allclose(run.equity, [float(value) for value in expected.equity], rtol=1e-14, atol=cents)


# The two against each other on random markets ----------------------------------------------------------------------


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("steps", [WHOLE, FRACTIONAL])
@pytest.mark.parametrize("long_only", [True, False])
def test_the_engine_and_the_reference_agree_on_every_fill_and_every_session(
    fill: str, steps: float, long_only: bool
) -> None:
    for seed in range(12):
        panel = random_market(seed)
        targets = random_targets(seed, panel, long_only=long_only)
        costs, band, start = COSTS[seed % 3], (0.0, 0.25, 1.0)[seed % 4 % 3], (0, 7)[seed % 2]
        cash = (500.0, 100_000.0, 1e7)[seed // 4]
        run = simulate(targets, panel, costs, cash, start=start, fill=fill, steps=steps, band=band)
        expected = reference(targets, panel, costs, cash, start=start, fill=fill, steps=int(steps), band=band)
        assert len(expected.fills) > 5 or cash == 500.0
        agree(run, expected, steps)
