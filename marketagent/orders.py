"""From target weights to share quantities: the one place where a decision becomes an order's size."""

import math

import numpy as np
from numpy.typing import NDArray

from marketagent.panel import Array

Orders = tuple[NDArray[np.int64], Array]  # of K symbols: columns, and signed shares, none of them 0
WHOLE, FRACTIONAL = 1.0, 1e6  # steps a share is cut into; Alpaca takes up to nine decimals, six are plenty
HAIR = 1e-9  # 999.9999999999 shares are 1000: binary fractions of money must not cost a share


def cut(quantity: Array, steps: float) -> Array:
    """`quantity` towards zero to whole steps: whole shares for `WHOLE`, millionths for `FRACTIONAL`."""
    if steps == WHOLE:  # times one and divided by it: the same, in half the time
        return np.trunc(quantity + np.copysign(HAIR, quantity))
    return np.trunc(quantity * steps + np.copysign(HAIR, quantity)) / steps


def cut_one(quantity: float, steps: float) -> float:
    """``cut`` of one number, to the bit."""
    return math.trunc(quantity * steps + math.copysign(HAIR, quantity)) / steps


def snap(quantity: Array, steps: float) -> Array:
    """`quantity`, a sum or difference of whole steps, without what adding floats left on it.

    >>> float(snap(np.array(0.1 + 0.2), FRACTIONAL))
    0.3
    """
    return np.rint(quantity) if steps == WHOLE else np.rint(quantity * steps) / steps


def snap_one(quantity: float, steps: float) -> float:
    """``snap`` of one number, to the bit."""
    return round(quantity * steps) / steps


def order_quantities(targets: Array, shares: Array, close: Array, equity: float, *, band: float, steps: float) -> Array:
    """(N,) shares to buy (+) or sell (-) so that each symbol has its target share of `equity`.

    `targets` (N,): NaN leaves the position alone. `close` (N,): NaN, no bar today, leaves it alone too: what
    has no price has no size. A position within `band` of its target (a fraction of the target) is left alone,
    so that a drifting price does not pay commissions every day; entries and exits always trade. A band of 1
    leaves every position on its target's side alone, however far it ran. An account worth nothing trades nothing.

    >>> one = np.array([[0.5], [100.0], [20.0]])
    >>> order_quantities(one[0], np.array([0.0]), one[2], 10_000.0, band=0.0, steps=WHOLE).tolist()
    [250.0]
    """
    orders = np.zeros(len(targets))
    columns, quantity = orders_of(targets, shares, close, equity, band=band, steps=steps)
    orders[columns] = quantity
    return orders


def orders_of(targets: Array, shares: Array, close: Array, equity: float, *, band: float, steps: float) -> Orders:
    """``order_quantities`` without the symbols that are left alone."""
    if not equity > 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    able = np.logical_or(targets, shares).nonzero()[0]  # the others have nothing to trade
    return some(able, _sized(targets[able], shares[able], close[able], equity, band, steps))


def some(columns: NDArray[np.int64], quantity: Array) -> Orders:
    """The orders of `quantity` (K,) of the symbols in `columns` (K,), without those of no shares."""
    hit = quantity.nonzero()[0]
    return columns[hit], quantity[hit]


def order_quantity(target: float, shares: float, close: float, equity: float, *, band: float, steps: float) -> float:
    """``order_quantities`` of one symbol, in numbers instead of arrays: the same to the bit, in a tenth of the time."""
    if not equity > 0 or math.isnan(target) or math.isnan(close) or not (target or shares):
        return 0.0
    wanted_value = target * equity
    if abs(wanted_value - shares * close) < band * abs(wanted_value) or (band >= 1 and shares * target > 0):
        return 0.0
    return snap_one(cut_one(wanted_value / close, steps) - shares, steps)


def first_order(targets: Array, shares: Array, close: Array, equity: Array, *, band: float, steps: float) -> int:
    """The first of the rows of `targets` (T, N) and `close` (T, N) that orders anything, T if none does.

    The account holds the same `shares` (N,) on all of them, and is worth `equity` (T,).
    """
    trades = (_sized(targets, shares, close, equity[:, None], band, steps) != 0).any(axis=1) & (equity > 0)
    return int(trades.argmax()) if trades.any() else len(trades)


def strays(targets: Array, wanted_value: Array, shares: Array | float, close: Array, band: float) -> NDArray[np.bool_]:
    """Whether each position is off the value that its target wants by more than the `band` leaves alone; not where NaN says
    that there is no target, or no close."""
    gap = wanted_value - shares * close
    off = np.abs(gap) >= band * np.abs(wanted_value) if band else gap == gap  # False for NaN, both
    return off & ~(shares * targets > 0) if band >= 1 else off


def _sized(targets: Array, shares: Array, close: Array, equity: float | Array, band: float, steps: float) -> Array:
    wanted_value = targets * equity
    with np.errstate(invalid="ignore"):  # NaN targets and closes are left alone
        wanted = cut(wanted_value / close, steps)
        return np.where(strays(targets, wanted_value, shares, close, band), snap(wanted - shares, steps), 0.0)
