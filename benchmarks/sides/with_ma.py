"""Our side, started by the Python of the project: the same works, on the same arrays.

``one_asset`` is what ``ma backtest`` computes on a panel: decisions, simulation, metrics and the break-even cost, which
is one to three more simulations. ``one_asset_kernel`` is the same decisions, simulation and metrics as a sweep does them.
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also runs from a bare checkout

import numpy as np
from harness import serve

from marketagent import catalog
from marketagent.backtest import backtest
from marketagent.costs import Costs, parse
from marketagent.decision import decide
from marketagent.events import FILL
from marketagent.metrics import session_returns, sharpe
from marketagent.panel import Array, Panel, Raw
from marketagent.replay import Ground
from marketagent.simulate import simulate
from marketagent.strategy import Strategy
from marketagent.sweep import Sweep, warm

SMA_CROSS = catalog.load("sma_cross", Path("/nonexistent")).kind


def one_asset(data: SimpleNamespace) -> dict[str, Any]:
    result = backtest(decide(crossing(data), panel_of(data)), costs_of(data), data.cash)
    return {
        "equity": float(result.simulation.equity[-1]),
        "trades": result.metrics["trades"],
        "sharpe": result.metrics["sharpe"],
    }


def one_asset_kernel(data: SimpleNamespace) -> dict[str, Any]:
    found = Sweep(Ground(panel_of(data), costs_of(data), data.cash)).metrics(crossing(data))
    return {"equity": found["equity"], "trades": found["trades"], "sharpe": found["sharpe"]}


def sweep(data: SimpleNamespace) -> dict[str, Any]:
    """Every pair on every asset, an account each: what ``ma backtest --each`` plays."""
    panel, plan = panel_of(data), crossings(data)
    works = [Sweep(Ground(panel.only([symbol]), costs_of(data), data.cash)) for symbol in panel.symbols]
    works[0].run(plan, workers=len(os.sched_getaffinity(0)), beside=works[1:])
    return {name: _by_pair(works, name) for name in ("equity", "trades")}


def sweep_shared(data: SimpleNamespace) -> dict[str, Any]:
    """Every pair on one account that holds all assets: what ``ma backtest --set fast=5:103:2`` does."""
    plan = crossings(data, band=1.0, max_weight=data.each)
    work = Sweep(Ground(panel_of(data), costs_of(data), data.cash))
    work.run(plan, workers=len(os.sched_getaffinity(0)))
    return {"equity": _by_pair([work], "equity")}


def _by_pair(works: list[Sweep], name: str) -> list[float]:
    """One figure of each pair on each of the `works`, pair by pair."""
    found: list[float] = np.stack([work.done.figures(name).array for work in works], axis=1).ravel().tolist()
    return found


def portfolio(data: SimpleNamespace) -> dict[str, Any]:
    run = simulate(data.targets, panel_of(data), ibkr(data), data.cash)
    orders = int((run.events.kind == FILL).sum())
    return {"equity": float(run.equity[-1]), "sharpe": sharpe(session_returns(run.equity, data.cash)), "orders": orders}


def portfolio_kernel(data: SimpleNamespace) -> dict[str, Any]:
    equity, found = Ground(panel_of(data), ibkr(data), data.cash).replay(data.targets, 0.0)
    return {"equity": float(equity[-1]), "sharpe": found["sharpe"]}


def crossing(data: SimpleNamespace, **more: Any) -> Strategy:
    values = {"fast": data.fast, "slow": data.slow, "gross": data.gross} | more
    return SMA_CROSS(**values)


def crossings(data: SimpleNamespace, **more: Any) -> list[tuple[int, Strategy]]:
    pairs = data.pairs.tolist()
    return [(k, crossing(data, fast=fast, slow=slow, **more)) for k, (fast, slow) in enumerate(pairs)]


def costs_of(data: SimpleNamespace) -> Costs:
    return parse(f"bps:{data.fee * 1e4:g}", slippage_bps=data.slippage * 1e4)


def ibkr(data: SimpleNamespace) -> Costs:
    """The commission alone: regulators' fees are what the peers are not told of."""
    return Costs(name="ibkr", per_share=data.per_share, minimum=data.minimum, ceiling=data.ceiling)


def panel_of(data: SimpleNamespace) -> Panel:
    """A fresh panel: nothing computed on it by a call before."""
    fields = (two(getattr(data, name)) for name in ("open", "high", "low", "close", "volume"))
    raw = Raw(*fields)
    shape = raw.close.shape
    return Panel(data.sessions, tuple(f"S{n:03}" for n in range(shape[1])), raw, np.ones(shape), np.zeros(shape))


def two(values: Array) -> Array:
    return values.reshape(len(values), -1)


if __name__ == "__main__":
    warm()  # compiled once for an installation, not once for a run
    works = (one_asset, one_asset_kernel, sweep, sweep_shared, portfolio, portfolio_kernel)
    serve("market-agent", {work.__name__: work for work in works})
