"""Momentum: hold last year's winners, leaving out the latest month, judged against each other once a month.

Source: Jegadeesh and Titman, Returns to Buying Winners and Selling Losers, Journal of Finance 48(1), 1993.
"""

import numpy as np
from numpy.typing import NDArray

from marketagent import indicators
from marketagent.panel import Array, Panel
from marketagent.signals import Signal
from marketagent.strategy import Opinions, Strategy, param


class Momentum(Strategy):
    """Hold the winners of the last twelve months without the latest, monthly."""

    lookback: int = param(252, 20, 1000, "sessions back to the start of the measured return")
    skip: int = param(21, 0, 250, "latest sessions left out: they tend to reverse")
    rebalance = "monthly"
    cross_sectional = True
    threshold = 0.3  # above the 65th of 100: a little more than the best third

    @property
    def warmup(self) -> int:
        return self.lookback + 1

    def check(self) -> None:
        if self.skip >= self.lookback:
            raise ValueError(f"skip is {self.skip}; it must be below lookback, {self.lookback}")

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        past = indicators.momentum(panel.close, self.lookback, self.skip)
        return {"momentum": Signal(rank(past))}


def rank(values: Array) -> Array:
    """(T, N): place among the symbols of each row, from -1 (lowest) to 1; equal values share their mean place.

    NaN stays NaN, and a row with fewer than two values has no places.
    """
    present = np.isfinite(values)
    count = present.sum(axis=1, keepdims=True)
    filled = np.where(present, values, np.inf)
    order = np.argsort(filled, axis=1)  # whichever of equal values comes first: they share their place
    ordered = np.take_along_axis(filled, order, axis=1)
    place = np.empty(values.shape)
    np.put_along_axis(place, order, _middle_equal(ordered), axis=1)
    usable = present & (count >= 2)
    return np.where(usable, 2 * place / np.maximum(count - 1, 1) - 1, np.nan)


def _middle_equal(ordered: Array) -> Array:
    """(T, N): of each value in its ordered row, the middle of the columns of the values equal to it."""
    equal = (ordered[:, 1:] == ordered[:, :-1]) & np.isfinite(ordered[:, 1:])
    if not equal.any():  # as a rule, and the rest takes long
        return np.broadcast_to(np.arange(ordered.shape[1], dtype=np.float64), ordered.shape)
    return np.asarray((_first_equal(ordered) + _last_equal(ordered)) / 2)


def _first_equal(ordered: Array) -> NDArray[np.int64]:
    """(T, N): of each value in its ordered row, the column where the values equal to it begin."""
    columns = np.arange(ordered.shape[1])
    begins = np.ones(ordered.shape, dtype=bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first: NDArray[np.int64] = np.maximum.accumulate(np.where(begins, columns, 0), axis=1)
    return first


def _last_equal(ordered: Array) -> NDArray[np.int64]:
    """(T, N): of each value in its ordered row, the column where the values equal to it end."""
    return np.asarray(ordered.shape[1] - 1 - _first_equal(ordered[:, ::-1])[:, ::-1])
