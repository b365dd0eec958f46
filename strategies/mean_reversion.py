"""Mean reversion: buy a short dip in a long rise, sell when it has bounced.

Source: Connors and Alvarez, Short Term Trading Strategies That Work (2008), chapter 9: the 2-period RSI.
"""

import numpy as np

from marketagent.indicators import rsi, sma
from marketagent.panel import Panel
from marketagent.signals import Signal
from marketagent.strategy import Opinions, Strategy, param


class MeanReversion(Strategy):
    """Buy when the 2-day RSI is very low in an uptrend, sell when it is high again."""

    window: int = param(2, 2, 30, "sessions of the RSI")
    low: float = param(10.0, 0.0, 50.0, "buy below this RSI")
    high: float = param(70.0, 50.0, 100.0, "sell above this RSI")
    trend: int = param(200, 2, 1000, "only above the average of this many sessions")
    band = 0.25
    max_weight = 0.25

    @property
    def warmup(self) -> int:
        return max(self.trend, self.window + 1)

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        strength = rsi(panel.close, self.window)
        average = sma(panel.close, self.trend)
        rising = panel.close > average
        known = np.isfinite(strength) & np.isfinite(average)
        dip = np.where(rising & (strength < self.low), 1.0, 0.0)
        value = np.where(strength > self.high, -1.0, dip)
        return {"reversion": Signal(np.where(known, value, np.nan))}
