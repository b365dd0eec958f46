"""vectorbt's side. Its orders can be sized at one price and filled at another, so that it can do the fills of ``ma``:
sized at the close, in whole shares, filled at the next open."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import vectorbt as vbt
from harness import serve
from numba import njit
from vectorbt.portfolio import nb
from vectorbt.portfolio.enums import Direction, SizeType


def one_asset(data: SimpleNamespace) -> dict[str, Any]:
    index = pd.DatetimeIndex(data.sessions)
    close, opened = pd.Series(data.close, index), pd.Series(data.open, index)
    above = vbt.MA.run(close, data.fast).ma > vbt.MA.run(close, data.slow).ma
    pf = traded(data, close, opened, above)
    stats = pf.stats()
    return {"equity": float(pf.value().iloc[-1]), "trades": int(pf.trades.count()), "sharpe": stats["Sharpe Ratio"]}


def sweep(data: SimpleNamespace) -> dict[str, Any]:
    """Every pair on every asset, an account each, `chunk` pairs at a time: all at once does not fit into memory."""
    index = pd.DatetimeIndex(data.sessions)
    close, opened = pd.DataFrame(data.close, index), pd.DataFrame(data.open, index)
    found = []
    for first in range(0, len(data.pairs), data.chunk):
        fast, slow = data.pairs[first : first + data.chunk].T.tolist()
        fast_ma = vbt.MA.run(close, fast, short_name="fast")
        slow_ma = vbt.MA.run(close, slow, short_name="slow")
        above = pd.DataFrame(fast_ma.ma.to_numpy() > slow_ma.ma.to_numpy(), index)
        tiled = (pd.DataFrame(np.tile(values, len(fast)), index) for values in (data.close, data.open))
        pf = traded(data, *tiled, above)
        measured = (pf.final_value(), pf.total_return(), pf.sharpe_ratio(), pf.max_drawdown(), pf.trades.count())
        found.append(np.column_stack([each.to_numpy() for each in measured]))
    values = np.vstack(found)
    assert len(opened.columns) * len(data.pairs) == len(values)
    return {"equity": values[:, 0].tolist(), "trades": values[:, 4].tolist()}


def sweep_shared(data: SimpleNamespace) -> dict[str, Any]:
    """Every pair on one account that holds all assets, which what is entered gets the same part of."""
    index, width = pd.DatetimeIndex(data.sessions), data.close.shape[1]
    close = pd.DataFrame(data.close, index)
    found = []
    for first in range(0, len(data.pairs), data.chunk):
        fast, slow = data.pairs[first : first + data.chunk].T.tolist()
        fast_ma = vbt.MA.run(close, fast, short_name="fast")
        slow_ma = vbt.MA.run(close, slow, short_name="slow")
        above = pd.DataFrame(fast_ma.ma.to_numpy() > slow_ma.ma.to_numpy(), index)
        tiled = (pd.DataFrame(np.tile(values, len(fast)), index) for values in (data.close, data.open))
        accounts = {"group_by": np.repeat(np.arange(len(fast)), width), "cash_sharing": True, "call_seq": "auto"}
        pf = traded(data, *tiled, above, data.each, **accounts)
        measured = (pf.final_value(), pf.total_return(), pf.sharpe_ratio(), pf.max_drawdown(), pf.trades.count())
        found.append(np.column_stack([each.to_numpy() for each in measured]))
    return {"equity": np.vstack(found)[:, 0].tolist()}


def orders(data: SimpleNamespace) -> dict[str, Any]:
    """`from_orders` by its plainest rule: target percentages, sized and filled at the price of the row."""
    index = pd.DatetimeIndex(data.sessions)
    pf = vbt.Portfolio.from_orders(
        pd.Series(data.close, index),
        size=data.targets,
        size_type="targetpercent",
        price=data.open,
        size_granularity=1 if data.whole else None,
        fees=data.fee,
        slippage=data.slippage,
        init_cash=data.cash,
        freq="1D",
    )
    year = {"year_freq": "252 days"}
    return {
        "equity": float(pf.value().iloc[-1]),
        "drawdown": float(pf.max_drawdown()),
        "sharpe": float(pf.sharpe_ratio(**year)),
        "sortino": float(pf.sortino_ratio(**year)),
    }


def traded(data: SimpleNamespace, close: Any, opened: Any, above: Any, part: float | None = None, **more: Any) -> Any:
    """In from the first close above, out at the next one below; each filled at the open of the session after."""
    before = above.shift(1, fill_value=False)
    size = np.where(above & ~before, part or data.gross, np.where(~above & before, 0.0, np.nan))
    delayed = np.vstack([np.full_like(size.reshape(len(size), -1)[:1], np.nan), size.reshape(len(size), -1)[:-1]])
    return vbt.Portfolio.from_orders(
        close,
        size=delayed.reshape(size.shape),
        size_type="targetpercent",
        price=opened,
        val_price=close.shift(1),
        size_granularity=1,
        fees=data.fee,
        slippage=data.slippage,
        init_cash=data.cash,
        freq="1D",
        **more,
    )


@njit(cache=True)
def sells_first(c, close, targets, wanted):  # type: ignore[no-untyped-def]  # numba's
    """Orders (N,) of this row into `wanted`, sized at the close before; what sells comes first."""
    wanted[:] = 0.0
    if c.i == 0:
        return (wanted,)
    before = close[c.i - 1]
    equity = c.last_cash[c.group]
    for col in range(c.from_col, c.to_col):
        equity += c.last_position[col] * before[col]
    for col in range(c.from_col, c.to_col):
        if not np.isnan(targets[c.i - 1, col]):
            wanted[col] = np.trunc(targets[c.i - 1, col] * equity / before[col] + 1e-9) - c.last_position[col]
    low, high = 0, c.group_len - 1
    for col in range(c.group_len):
        if wanted[c.from_col + col] < 0:
            c.call_seq_now[low] = col
            low += 1
        else:
            c.call_seq_now[high] = col
            high -= 1
    return (wanted,)


@njit(cache=True)
def ibkr(c, wanted, opened, per_share, minimum, ceiling):  # type: ignore[no-untyped-def]  # numba's
    size, price = wanted[c.col], opened[c.i, c.col]
    if size == 0.0:
        return nb.order_nothing_nb()
    shares = abs(size)
    fee = min(max(per_share * shares, minimum), ceiling * shares * price)
    return nb.order_nb(
        size=size, price=price, size_type=SizeType.Amount, direction=Direction.LongOnly, fees=0.0, fixed_fees=fee
    )


def portfolio(data: SimpleNamespace) -> dict[str, Any]:
    pf = vbt.Portfolio.from_order_func(
        pd.DataFrame(data.close, pd.DatetimeIndex(data.sessions)),
        ibkr,
        data.open,
        data.per_share,
        data.minimum,
        data.ceiling,
        pre_segment_func_nb=sells_first,
        pre_segment_args=(data.close, data.targets, np.zeros(data.close.shape[1])),
        group_by=True,
        cash_sharing=True,
        init_cash=data.cash,
        update_value=False,
        max_orders=int(data.max_orders),
        freq="1D",
    )
    value = pf.value()
    return {"equity": float(value.iloc[-1]), "sharpe": float(pf.sharpe_ratio()), "orders": int(pf.orders.count())}


if __name__ == "__main__":
    serve(
        "vectorbt",
        {
            "one_asset": one_asset,
            "sweep": sweep,
            "sweep_shared": sweep_shared,
            "portfolio": portfolio,
            "orders": orders,
        },
    )
