"""Moving-average crossover: long while the fast average of the close is above the slow one.

Source: Brock, Lakonishok, LeBaron, Simple Technical Trading Rules and the Stochastic Properties of Stock
Returns, Journal of Finance 47(5), 1992.
"""

import numpy as np

from marketagent.indicators import sma
from marketagent.panel import Panel
from marketagent.signals import Signal
from marketagent.strategy import Opinions, Strategy, param

_FLAT = 1e-9  # averages nearer than this are equal: a price that stood still has not crossed anything


class SmaCross(Strategy):
    """Long while the fast moving average is above the slow one."""

    fast: int = param(20, 1, 500, "sessions in the fast average")
    slow: int = param(50, 2, 1000, "sessions in the slow average")
    band = 0.25

    @property
    def warmup(self) -> int:
        return self.slow

    def check(self) -> None:
        if self.fast >= self.slow:
            raise ValueError(f"fast is {self.fast}; it must be below slow, {self.slow}")

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        fast, slow = sma(panel.close, self.fast), sma(panel.close, self.slow)
        gap = fast - slow
        trend = np.where(np.abs(gap) <= _FLAT * slow, 0.0, np.sign(gap))
        return {"trend": Signal(np.where(np.isnan(gap), np.nan, trend))}
