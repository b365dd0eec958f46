"""backtesting.py's side: its strategies may order whole shares of their own count, so that it can do the fills of ``ma``."""

from types import SimpleNamespace
from typing import Any

import pandas as pd
from backtesting import Backtest, Strategy
from backtesting.test import SMA
from harness import serve


def one_asset(data: SimpleNamespace) -> dict[str, Any]:
    backtest = Backtest(framed(data), crossing(data), cash=data.cash, commission=data.fee)
    stats = backtest.run(fast=data.fast, slow=data.slow)
    return {"equity": stats["Equity Final [$]"], "trades": stats["# Trades"], "sharpe": stats["Sharpe Ratio"]}


def crossing(data: SimpleNamespace) -> type[Strategy]:
    class Crossing(Strategy):
        """In while the fast average is above the slow one: whole shares of a part of the equity, at its close."""

        fast, slow = data.fast, data.slow

        def init(self) -> None:
            # Without NaN: the first row of an indicator that has some is never acted on.
            self.above = self.I(is_above, self.data.Close, self.fast, self.slow, plot=False)

        def next(self) -> None:
            above = self.above[-1] > 0
            if above and not self.position:
                self.buy(size=int(data.gross * self.equity / self.data.Close[-1] + 1e-9))
            elif not above and self.position:
                self.position.close()

    return Crossing


def is_above(close: Any, fast: int, slow: int) -> Any:
    return (SMA(close, fast) > SMA(close, slow)).to_numpy().astype(float)


def framed(data: SimpleNamespace) -> pd.DataFrame:
    columns = {"Open": data.open, "High": data.high, "Low": data.low, "Close": data.close, "Volume": data.volume}
    return pd.DataFrame(columns, pd.DatetimeIndex(data.sessions))


if __name__ == "__main__":
    serve("backtesting", {"one_asset": one_asset})
