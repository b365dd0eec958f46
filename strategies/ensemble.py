"""Ensemble: trend, momentum, mean reversion and a breakout vote; none of them decides alone.

Sources: Timmermann, Forecast Combinations, Handbook of Economic Forecasting 1 (2006), on why a fixed weighted mean
of weak forecasts is hard to beat; the parts: Brock et al. (1992), Jegadeesh and Titman (1993), Connors and Alvarez
(2008), Bollinger, Bollinger on Bollinger Bands (2001).
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from marketagent import indicators
from marketagent.panel import Array, Panel
from marketagent.signals import Signal
from marketagent.strategy import Opinions, Strategy, param


class Ensemble(Strategy):
    """Weigh trend, momentum, mean reversion and breakout; act when they agree well enough."""

    fast: int = param(20, 2, 250, "sessions in the fast average of the trend")
    slow: int = param(100, 5, 500, "sessions in the slow average of the trend")
    lookback: int = param(126, 20, 500, "sessions of the momentum")
    window: int = param(20, 5, 250, "sessions of the mean reversion and of the breakout")
    rebalance = "weekly"
    sizing = "score"
    threshold = 0.15
    min_confidence = 0.3
    max_weight = 0.4
    band = 0.2

    weights: ClassVar[Mapping[str, float]] = {"trend": 0.4, "momentum": 0.3, "reversion": 0.1, "breakout": 0.2}

    @property
    def warmup(self) -> int:
        return max(self.slow, self.lookback + 1, self.window)

    def check(self) -> None:
        if self.fast >= self.slow:
            raise ValueError(f"fast is {self.fast}; it must be below slow, {self.slow}")

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        close = panel.close
        fast, slow = indicators.sma(close, self.fast), indicators.sma(close, self.slow)
        daily = indicators.volatility(close, self.slow)
        trend = _scaled(fast / slow - 1, daily * np.sqrt(self.fast))
        momentum = _scaled(indicators.momentum(close, self.lookback), daily * np.sqrt(self.lookback))
        away = indicators.zscore(close, self.window)
        return {
            "trend": Signal(trend, _sure(trend)),
            "momentum": Signal(momentum, _sure(momentum)),
            "reversion": Signal(np.clip(-away / 3, -1, 1), _sure(away / 3)),
            "breakout": Signal(np.where(np.isnan(away), np.nan, np.where(np.abs(away) > 2, np.sign(away), 0.0)), 0.5),
        }


def _scaled(move: Array, usual: Array) -> Array:
    """(T, N) in [-1, 1]: a move in units of the usual one, flattened at the ends; NaN where the price stood still."""
    with np.errstate(divide="ignore", invalid="ignore"):  # no usual move: no opinion
        units = move / usual
    return np.where(np.isfinite(units), np.tanh(units), np.nan)


def _sure(value: Array) -> Array:
    """(T, N) in [0, 1]: a strong opinion is also a sure one, a weak one half so."""
    return np.clip(0.5 + np.abs(value) / 2, 0.0, 1.0)
