"""Buy and hold: everything in equal parts on the first session, then nothing. The bar every strategy has to clear.

Source: Sharpe, The Arithmetic of Active Management, Financial Analysts Journal 47(1), 1991.
"""

import numpy as np

from marketagent.panel import Panel
from marketagent.signals import Signal
from marketagent.strategy import Opinions, Strategy


class BuyAndHold(Strategy):
    """Buy every symbol in equal parts and keep it."""

    band = 1.0  # a held position is always near enough: only a symbol that is not held yet is traded

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        return {"hold": Signal(np.where(panel.has_bar, 1.0, np.nan))}
