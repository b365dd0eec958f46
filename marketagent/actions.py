"""Splits and dividends read back from an adjusted close, for files that give nothing else.

The rule. adjusted / as-traded close is a staircase: flat between actions, one step on each ex-date, where
step = split * (1 + dividend / close). Every printed adjusted close stands for an interval (half a unit of its
last digit to either side); a tread is as long as all its intervals have a point in common, and a step is the
ratio of the middles of two treads. Of each step:

1.  Smaller than 5 in 100,000 or than its own uncertainty: rounding, dropped. More steps than one in ten bars: the
    column is not an adjusted close; nothing is inferred and the symbol is named.
2.  Within 1 in 10,000 of a simple ratio (2, 3, 3/2, 1/8 ...) and at least 10 % from 1: a split of exactly that ratio.
3.  Below 1: a split of the step itself (a consolidation with an odd ratio; no payment lowers the staircase).
4.  A little above (up to 5 %) a whole ratio or 3/2: that split, and a dividend for the rest.
5.  Else a dividend: close * (step - 1), or, where that gives rounder sums over the whole column, the rule of
    Yahoo, previous close * (1 - 1 / step), for steps of up to 10 %: a larger one may hold a split that rule 4
    does not know, and only the first rule keeps the total return then. Sums within 0.00002 of a hundredth of a cent
    are taken as that.

A spin-off comes out as a dividend or as a split, as the vendor booked it; either way the total return is the
vendor's. Checked on files that have both: tests/test_actions.py.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from marketagent.panel import Array

_NOISE = 5e-5
_LARGE = 1.1
_RATIOS = np.array(
    sorted(
        {float(n) for n in range(2, 51)}
        | {1.0 / n for n in range(2, 101)}
        | {
            n / d
            for n, d in (
                (3, 2),
                (4, 3),
                (5, 4),
                (5, 3),
                (5, 2),
                (6, 5),
                (7, 5),
                (7, 4),
                (8, 5),
                (2, 3),
                (3, 4),
                (4, 5),
                (2, 5),
            )
        }
    )
)
_WITH_DIVIDEND = np.array([1.5, *range(2, 21)])


@dataclass(frozen=True)
class Inferred:
    """K actions in row order: `row` of the bars, `split` ratio (1: none), `dividend` in USD a share (0: none)."""

    row: NDArray[np.int64]
    split: Array
    dividend: Array
    noisy: bool


def infer(close: Array, adjusted: Array) -> Inferred:
    """The actions of one symbol from its (T,) closes as traded and adjusted, oldest first, by the rule above.

    >>> found = infer(np.array([100.0, 102.0, 51.5]), np.array([50.0, 51.0, 51.5]))
    >>> found.row.tolist(), found.split.tolist(), found.dividend.tolist()
    ([2], [2.0], [0.0])
    """
    row, step, slack = _steps(close, adjusted)
    real = np.abs(step - 1) > np.maximum(_NOISE, slack)
    row, step = row[real], step[real]
    if len(row) > max(3, len(close) / 10):
        return Inferred(row[:0], step[:0], step[:0], noisy=True)
    split = _splits(step, np.maximum(slack[real], 1e-4))
    rest = np.where(split == 1.0, step, step / split)
    return Inferred(row, split, _dividends(rest, close[row], close[row - 1] / split), noisy=False)


def simple_ratio(split: float) -> float:
    """A vendor's split coefficient as the ratio it stands for: 7.000007 is 7, 0.333333 is 1/3, 0.955 stays.

    >>> simple_ratio(7.000007), simple_ratio(1.499999), simple_ratio(0.955)
    (7.0, 1.5, 0.955)
    """
    near = Fraction(split).limit_denominator(50)
    if near and abs(split / float(near) - 1) < 5e-6 and min(near.numerator, near.denominator) <= 10:
        return float(near)
    return split


def _steps(close: Array, adjusted: Array) -> tuple[NDArray[np.int64], Array, Array]:
    """Where the staircase steps, by how much, and how unsure that is (a fraction)."""
    unit = _half_unit(adjusted)
    low, high = (adjusted - unit) / close, (adjusted + unit) / close
    starts, middles, widths = [0], [], []
    while starts[-1] < len(close):
        end, bottom, top = _tread(low, high, starts[-1])
        middles.append((bottom + top) / 2)
        widths.append((top - bottom) / 2 / middles[-1])
        starts.append(end)
    middle, width = np.array(middles), np.array(widths)
    return np.array(starts[1:-1], dtype=np.int64), middle[1:] / middle[:-1], width[1:] + width[:-1]


def _tread(low: Array, high: Array, start: int) -> tuple[int, float, float]:
    """The end (exclusive) of the tread that begins at `start`, and the interval all its bars share."""
    bottom, top = -np.inf, np.inf
    for begin in range(start, len(low), 256):
        bottoms = np.maximum(np.maximum.accumulate(low[begin : begin + 256]), bottom)
        tops = np.minimum(np.minimum.accumulate(high[begin : begin + 256]), top)
        broken = np.flatnonzero(bottoms > tops)
        if len(broken):
            k = int(broken[0])
            return (begin + k, float(bottoms[k - 1]), float(tops[k - 1])) if k else (begin, float(bottom), float(top))
        bottom, top = float(bottoms[-1]), float(tops[-1])
    return len(low), bottom, top


def _half_unit(values: Array) -> Array:
    """Half a unit of the last digit each value was printed with: by decimals or by significant digits, the coarser."""
    some = values[:: max(1, len(values) // 200)]  # 200 values show how a column was printed
    decimals = next((k for k in range(15) if np.allclose(np.round(some, k), some, rtol=1e-14, atol=0)), 15)
    digits = next((g for g in range(1, 15) if _has_digits(some, g)), 15)
    magnitude = np.floor(np.log10(values)) + 1
    return np.maximum(0.5 * 10.0**-decimals, 0.5 * 10.0 ** (magnitude - digits)) * 1.01 + 1e-13 * values


def _has_digits(values: Array, digits: int) -> bool:
    scale = 10.0 ** (digits - np.floor(np.log10(values)) - 1)
    return bool(np.allclose(np.round(values * scale) / scale, values, rtol=1e-14, atol=0))


def _splits(step: Array, slack: Array) -> Array:
    nearest = _RATIOS[np.argmin(np.abs(_RATIOS[None, :] / step[:, None] - 1), axis=1)] if len(step) else step
    exact = (np.abs(step / nearest - 1) <= slack) & (np.abs(step - 1) > 0.1)
    over = step[:, None] / _WITH_DIVIDEND[None, :] - 1
    fits = (over > 0) & (over <= 0.05)
    whole = np.where(fits.any(axis=1), _WITH_DIVIDEND[fits.argmax(axis=1)], 1.0)
    return np.where(exact, nearest, np.where(step < 1, step, whole))


def _dividends(rest: Array, close: Array, previous: Array) -> Array:
    """USD a share for what is left of each step when its split is taken out, by whichever rule gives rounder sums."""
    paid = rest > 1 + _NOISE
    on_close = np.where(paid, close * (rest - 1), 0.0)
    on_previous = np.where(paid, previous * (1 - 1 / rest), 0.0)
    yahoo = paid.sum() >= 3 and _odd(on_previous[paid]) < min(0.1, 0.5 * _odd(on_close[paid]))
    best = np.where(yahoo & (rest <= _LARGE), on_previous, on_close)
    cents = np.round(best, 4)
    return np.where(np.abs(best - cents) < 2e-5, cents, np.round(best, 6))


def _odd(amounts: Array) -> float:
    """How far sums are from hundredths of a cent on average, 0 (round) to 0.5."""
    units = amounts * 1e4
    return float(np.mean(np.abs(units - np.round(units)))) if len(amounts) else 0.0
