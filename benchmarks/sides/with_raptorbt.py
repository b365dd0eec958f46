"""raptorbt's side. It sizes at the open that an order fills at; asked for the part of the cash that is as many shares as
the close would have bought, and for lots of one, it does the fills of ``ma``."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import raptorbt as rb
from harness import serve


def one_asset(data: SimpleNamespace) -> dict[str, Any]:
    entries, exits = crossed(rb.sma(data.close, data.fast), rb.sma(data.close, data.slow))
    result = rb.run_single_backtest(
        *bars(data, data.open, data.close),
        entries,
        exits,
        config=config(data),
        position_sizes=part_of_cash(data, data.open, data.close),
        instrument_config=rb.InstrumentConfig(lot_size=1.0),
    )
    m = result.metrics
    return {"equity": m.end_value, "trades": m.total_trades, "sharpe": m.sharpe_ratio}


def sweep(data: SimpleNamespace) -> dict[str, Any]:
    """Every pair on every asset, an account each, one batch an asset."""
    found = np.empty((len(data.pairs), data.close.shape[1], 2))
    for n in range(data.close.shape[1]):
        opened, close = (np.ascontiguousarray(values[:, n]) for values in (data.open, data.close))
        averages = {window: rb.sma(close, window) for window in set(data.pairs.ravel().tolist())}
        sized = {
            "position_sizes": part_of_cash(data, opened, close),
            "instrument_config": rb.InstrumentConfig(lot_size=1.0),
        }
        items = [
            rb.BatchSingleItem(str(k), *crossed(averages[fast], averages[slow]), **sized)
            for k, (fast, slow) in enumerate(data.pairs.tolist())
        ]
        for k, result in rb.batch_single_backtest(*bars(data, opened, close), items, config=config(data)):
            m = result.metrics
            assert m.sharpe_ratio is not None
            assert m.max_drawdown_pct is not None
            found[int(k), n] = m.end_value, m.total_trades
    return {"equity": found[:, :, 0].ravel().tolist(), "trades": found[:, :, 1].ravel().tolist()}


def config(data: SimpleNamespace) -> Any:
    return rb.BacktestConfig(
        initial_capital=data.cash, fees=data.fee, slippage=data.slippage, fill_timing="next_bar_open"
    )


def bars(data: SimpleNamespace, opened: Any, close: Any) -> tuple[Any, ...]:
    stamps = data.sessions.astype("datetime64[ns]").astype(np.int64)
    return stamps, opened, np.maximum(opened, close), np.minimum(opened, close), close, np.full(len(close), 1e6)


def part_of_cash(data: SimpleNamespace, opened: Any, close: Any) -> Any:
    """Of the row an order is decided on: what the shares that its close buys will cost at the next open."""
    paid = np.append(opened[1:], opened[-1]) * (1 + data.slippage) * (1 + data.fee)
    return data.gross * paid / close * (1 + 1e-12)


def crossed(fast: Any, slow: Any) -> tuple[Any, Any]:
    above = fast > slow
    before = np.concatenate([[False], above[:-1]])
    return above & ~before, ~above & before


if __name__ == "__main__":
    serve("raptorbt", {"one_asset": one_asset, "sweep": sweep})
