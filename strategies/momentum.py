"""Momentum: hold last year's winners, leaving out the latest month, judged against each other once a month.

Source: Jegadeesh and Titman, Returns to Buying Winners and Selling Losers, Journal of Finance 48(1), 1993.
"""

import numpy as np

from marketagent import indicators
from marketagent.panel import Array, Panel
from marketagent.signals import Signal
from marketagent.strategy import Opinions, Strategy, param


class Momentum(Strategy):
    """Hold the winners of the last twelve months without the latest, monthly."""

    lookback: int = param(252, 20, 1000, "sessions back to the start of the measured return")
    skip: int = param(21, 0, 250, "latest sessions left out: they tend to reverse")
    rebalance = "monthly"
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
    order = np.sort(filled, axis=1)
    place = np.empty(values.shape)
    for t in range(len(values)):
        low = np.searchsorted(order[t], filled[t], side="left")
        high = np.searchsorted(order[t], filled[t], side="right") - 1
        place[t] = (low + high) / 2
    usable = present & (count >= 2)
    return np.where(usable, 2 * place / np.maximum(count - 1, 1) - 1, np.nan)
