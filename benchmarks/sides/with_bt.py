"""bt's side: it fills at the price it decides at, so it is given the open with the decision of the close before, and
sizes at that open; the last close is a row of its own, for the value at the end."""

from types import SimpleNamespace
from typing import Any

import bt
import numpy as np
import pandas as pd
from harness import serve


def one_asset(data: SimpleNamespace) -> dict[str, Any]:
    close = pd.Series(data.close)
    above = (close.rolling(data.fast).mean() > close.rolling(data.slow).mean()).to_numpy()
    weight = np.full(len(above), np.nan)
    entered, left = above & ~np.roll(above, 1), ~above & np.roll(above, 1)
    entered[0], left[0] = above[0], False
    weight[entered], weight[left] = data.gross, 0.0
    index = pd.DatetimeIndex(data.sessions)
    index = index.append(pd.DatetimeIndex([index[-1] + pd.Timedelta(days=1)]))
    prices = pd.DataFrame({"S0": np.append(data.open, data.close[-1])}, index)
    weights = pd.DataFrame({"S0": np.concatenate([[np.nan], weight[:-1], [np.nan]])}, index).dropna()
    result = traded(data, prices, weights, lambda shares, price: abs(shares) * price * data.fee)
    return {"equity": float(result.strategy.values.iloc[-1]), "sharpe": float(result.stats.daily_sharpe)}


def orders(data: SimpleNamespace) -> dict[str, Any]:
    """Target weights, sized and filled at the close of their row."""
    index = pd.DatetimeIndex(data.sessions)
    names = [f"S{n:03}" for n in range(data.close.shape[1])]
    due = np.isfinite(data.targets).any(axis=1)
    weights = pd.DataFrame(data.targets[due], index[due], names)
    fees = lambda shares, price: abs(shares) * price * data.fee  # noqa: E731  # as its users write it
    result = traded(data, pd.DataFrame(data.close, index, names), weights, fees)
    return {"equity": float(result.strategy.values.iloc[-1]), "sharpe": float(result.stats.daily_sharpe)}


def portfolio(data: SimpleNamespace) -> dict[str, Any]:
    index = pd.DatetimeIndex(data.sessions)
    names = [f"S{n:03}" for n in range(data.close.shape[1])]
    due = np.isfinite(data.targets).any(axis=1)
    prices = pd.DataFrame(data.open, index, names)
    weights = pd.DataFrame(data.targets[:-1][due[:-1]], index[1:][due[:-1]], names)
    result = traded(
        data,
        prices,
        weights,
        lambda shares, price: min(max(data.per_share * abs(shares), data.minimum), data.ceiling * abs(shares) * price),
    )
    return {"equity": float(result.strategy.values.iloc[-1]), "sharpe": float(result.stats.daily_sharpe)}


def traded(data: SimpleNamespace, prices: pd.DataFrame, weights: pd.DataFrame, fees: Any) -> Any:
    """The finished backtest, its statistics computed."""
    algos = [bt.algos.RunOnDate(*weights.index), bt.algos.WeighTarget(weights), bt.algos.Rebalance()]
    test = bt.Backtest(bt.Strategy("s", algos), prices, initial_capital=data.cash, commissions=fees, progress_bar=False)
    bt.run(test, progress_bar=False)
    return test


if __name__ == "__main__":
    serve("bt", {"one_asset": one_asset, "portfolio": portfolio, "orders": orders})
