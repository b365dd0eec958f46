"""pybroker's side: sized at the close, filled at the next open, in whole shares; as ``ma`` does it."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pybroker
from harness import serve
from pybroker import ExecContext, FeeMode, PriceType, Strategy, StrategyConfig


def one_asset(data: SimpleNamespace) -> dict[str, Any]:
    frame = framed(data)
    strategy = Strategy(frame, frame["date"].iloc[0], frame["date"].iloc[-1], config(data))
    averages = [averaged("fast", data.fast), averaged("slow", data.slow)]
    strategy.add_execution(trading(data), ["S0"], indicators=averages)
    result = strategy.backtest(calc_bootstrap=False)
    value = float(result.portfolio["market_value"].iloc[-1])
    return {"equity": value, "trades": result.metrics.trade_count, "sharpe": result.metrics.sharpe}


def trading(data: SimpleNamespace) -> Any:
    def trade(ctx: ExecContext) -> None:
        above = ctx.indicator("fast")[-1] > ctx.indicator("slow")[-1]
        if above and not ctx.long_pos():
            ctx.buy_fill_price = PriceType.OPEN
            ctx.buy_shares = ctx.calc_target_shares(data.gross)
        elif not above and ctx.long_pos():
            ctx.sell_fill_price = PriceType.OPEN
            ctx.sell_all_shares()

    return trade


def averaged(name: str, window: int) -> Any:
    return pybroker.indicator(name, lambda bars: pd.Series(np.asarray(bars.close)).rolling(window).mean().to_numpy())


def config(data: SimpleNamespace) -> StrategyConfig:
    return StrategyConfig(
        initial_cash=data.cash,
        fee_mode=FeeMode.ORDER_PERCENT,
        fee_amount=data.fee * 100,
        round_fill_price=False,
        round_test_result=False,
        bars_per_year=252,
    )


def framed(data: SimpleNamespace) -> pd.DataFrame:
    columns = {"open": data.open, "high": data.high, "low": data.low, "close": data.close, "volume": data.volume}
    return pd.DataFrame({"symbol": "S0", "date": pd.DatetimeIndex(data.sessions), **columns})


if __name__ == "__main__":
    serve("lib-pybroker", {"one_asset": one_asset})
