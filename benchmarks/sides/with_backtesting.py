"""backtesting.py's side: its strategies may order whole shares of their own count, so that it can do the fills of ``ma``."""

from types import SimpleNamespace
from typing import Any

import pandas as pd
from backtesting import Backtest, Strategy
from backtesting.lib import crossover
from backtesting.test import GOOG, SMA
from harness import serve


def one_asset(data: SimpleNamespace) -> dict[str, Any]:
    backtest = Backtest(framed(data), crossing(data), cash=data.cash, commission=data.fee)
    stats = backtest.run(fast=data.fast, slow=data.slow)
    return {"equity": stats["Equity Final [$]"], "trades": stats["# Trades"], "sharpe": stats["Sharpe Ratio"]}


def goog(data: SimpleNamespace) -> dict[str, Any]:
    """The prices that the package ships for its tests: Google by day, 2004 to 2013."""
    prices = {name.lower(): GOOG[name].tolist() for name in GOOG.columns}
    return {**prices, "sessions": [str(day.date()) for day in GOOG.index]}


def shipped(data: SimpleNamespace) -> dict[str, Any]:
    """SmaCross as in the package's own test: all in at the next open, long or short, and never out of the market."""
    prices = framed(data)
    stats = {final: Backtest(prices, SmaCross, cash=data.cash, finalize_trades=final).run() for final in (False, True)}
    return {
        "equity": stats[False]["Equity Final [$]"],
        "finalized": stats[True]["Equity Final [$]"],
        "drawdown": stats[False]["Max. Drawdown [%]"] / 100,
        "cagr": stats[False]["Return (Ann.) [%]"] / 100,
        "sharpe": stats[False]["Sharpe Ratio"],
        "last_size": int(stats[True]["_trades"]["Size"].iloc[-1]),
    }


def long_only(data: SimpleNamespace) -> dict[str, Any]:
    stats = Backtest(framed(data), LongOnly, cash=data.cash, commission=data.fee).run()
    return {"equity": stats["Equity Final [$]"]}


class SmaCross(Strategy):
    fast, slow = 10, 30

    def init(self) -> None:
        self.fast_ma = self.I(SMA, self.data.Close, self.fast)
        self.slow_ma = self.I(SMA, self.data.Close, self.slow)

    def next(self) -> None:
        if crossover(self.fast_ma, self.slow_ma):
            self.position.close()
            self.buy()
        elif crossover(self.slow_ma, self.fast_ma):
            self.position.close()
            self.sell()


class LongOnly(SmaCross):
    def next(self) -> None:
        if crossover(self.fast_ma, self.slow_ma):
            self.buy()
        elif crossover(self.slow_ma, self.fast_ma):
            self.position.close()


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
    serve("backtesting", {work.__name__: work for work in (one_asset, goog, shipped, long_only)})
