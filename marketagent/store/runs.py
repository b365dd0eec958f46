"""``runs.duckdb``: decisions, backtests and orders kept for study. The journal is the truth about orders."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from marketagent.backtest import Backtest
from marketagent.records import Backtest as BacktestRecord
from marketagent.records import Decision
from marketagent.simulate import KINDS, Events
from marketagent.store.database import opened

RUNS = "runs.duckdb"


def write_decisions(home: Path, run: str, decisions: Sequence[Decision], now: datetime, *, timeout_s: float) -> None:
    """Keep what ``ma score`` decided."""
    rows = [
        (
            run, "score", _utc(now), d.symbol, d.session, d.action, d.score, d.confidence, d.weight, d.close, d.strategy,
            d.strategy_hash, json.dumps(d.params), d.timeframe, d.source, d.reasoning,
        )
        for d in decisions
    ]  # fmt: skip
    if not rows:
        return
    with opened(home / RUNS, write=True, timeout_s=timeout_s) as con:
        con.executemany(f"INSERT INTO decisions VALUES ({', '.join('?' * 16)})", rows)


def write_backtest(
    home: Path, record: BacktestRecord, result: Backtest, symbols: Sequence[str], now: datetime, *, timeout_s: float
) -> None:
    """Keep a backtest: its record, its equity of each session and its events."""
    with opened(home / RUNS, write=True, timeout_s=timeout_s) as con:
        con.execute(
            f"INSERT INTO backtests VALUES ({', '.join('?' * 20)})",
            [
                record.run, _utc(now), record.strategy, record.strategy_hash, json.dumps(record.params), list(symbols),
                record.first, record.last, record.sessions, record.cash, record.equity, record.costs, record.slippage_bps,
                record.fill, record.fractional, record.data_hash, record.benchmark, json.dumps(record.metrics),
                json.dumps(record.notes), json.dumps(asdict(record)),
            ],
        )  # fmt: skip
        equity = equity_columns(result)
        con.register("equity_columns", equity)
        con.execute("INSERT INTO equity SELECT ?, session, equity FROM equity_columns", [record.run])
        if len(result.simulation.events):
            con.register("event_columns", event_columns(result))
            con.execute(
                "INSERT INTO fills SELECT ?, session, decided, symbol, quantity, price, commission, kind FROM event_columns",
                [record.run],
            )


def equity_columns(result: Backtest) -> dict[str, Any]:
    """Equity, cash, exposure and returns by session, as columns."""
    run = result.simulation
    return {
        "session": run.sessions.astype("datetime64[s]"),
        "equity": run.equity,
        "cash": run.cash,
        "exposure": run.exposure,
        "returns": result.returns,
    }


def event_columns(result: Backtest) -> dict[str, Any]:
    """Every event as columns: session, the session it was decided on, symbol, kind, quantity, price, commission."""
    events: Events = result.simulation.events
    panel = result.decisions.panel
    sessions = panel.sessions.astype("datetime64[s]")
    decided = np.where(events.decided >= 0, sessions[np.maximum(events.decided, 0)], np.datetime64("NaT"))
    return {
        "session": sessions[events.row],
        "decided": decided,
        "symbol": np.array(panel.symbols, dtype=object)[events.column],
        "kind": np.array(KINDS, dtype=object)[events.kind],
        "quantity": events.quantity,
        "price": events.price,
        "commission": events.commission,
    }


def export(columns: dict[str, Any], path: Path) -> None:
    """Write columns to `path`, as Parquet or CSV by its ending."""
    import duckdb

    text = str(path).replace("'", "''")
    with duckdb.connect() as con:
        con.register("columns", columns)
        con.execute(f"COPY (SELECT * FROM columns) TO '{text}'")


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
