"""``runs.duckdb``: decisions, backtests and orders kept for study. The journal is the truth about orders."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from marketagent.backtest import Backtest
from marketagent.errors import DiskError, UsageError
from marketagent.events import KINDS, Events
from marketagent.panel import Sessions
from marketagent.records import Backtest as BacktestRecord
from marketagent.records import Decision, Fold
from marketagent.store.columns import Coded, Columns, insert
from marketagent.store.connection import Connection
from marketagent.store.database import opened

RUNS = "runs.duckdb"


def write_decisions(home: Path, run: str, decisions: Sequence[Decision], now: datetime, *, timeout_s: float) -> None:
    """Keep what ``ma score`` decided."""
    if not decisions:
        return
    count = len(decisions)
    columns: dict[str, tuple[str, list[Any]]] = {
        "run": ("VARCHAR", [run] * count),
        "cmd": ("VARCHAR", ["score"] * count),
        "decided_at": ("TIMESTAMP", [_utc(now)] * count),
        "params": ("VARCHAR", [json.dumps(decision.params) for decision in decisions]),
    }
    kinds = {
        "session": "DATE",
        "ts": "TIMESTAMP",
        **dict.fromkeys(("score", "confidence", "weight", "close"), "DOUBLE"),
    }
    for name in (
        "symbol", "session", "action", "score", "confidence", "weight", "close", "strategy", "strategy_hash",
        "timeframe", "source", "reasoning", "ts",
    ):  # fmt: skip
        columns[name] = (kinds.get(name, "VARCHAR"), [getattr(decision, name) for decision in decisions])
    with opened(home / RUNS, write=True, timeout_s=timeout_s) as con:
        con.insert("decisions", columns)


def write_backtests(
    home: Path, made: Iterable[tuple[BacktestRecord, Backtest]], now: datetime, *, timeout_s: float
) -> None:
    """Keep backtests, all or none: of each its record, its equity of each session and its events."""
    with opened(home / RUNS, write=True, timeout_s=timeout_s) as con:
        for record, result in made:
            _insert_backtest(con, record, result, now)


def _insert_backtest(con: Connection, record: BacktestRecord, result: Backtest, now: datetime) -> None:
    symbols = result.decisions.panel.symbols
    con.execute(
        f"INSERT INTO backtests VALUES ({', '.join('?' * 21)})",
        [
            record.run, _utc(now), record.strategy, record.strategy_hash, json.dumps(record.params), list(symbols),
            record.first, record.last, record.sessions, record.cash, record.equity, record.costs, record.slippage_bps,
            record.fill, record.fractional, record.data_hash, record.benchmark, json.dumps(record.metrics),
            json.dumps(record.notes), json.dumps(asdict(record)), record.timeframe,
        ],
    )  # fmt: skip
    bars, events = len(result.returns), len(result.simulation.events)
    insert(con, "equity", {"run": _all_of(record.run, bars), **_some(result, "session", "ts", "equity")})
    if events:
        insert(con, "fills", {"run": _all_of(record.run, events), **event_columns(result)})


def write_folds(home: Path, folds: Sequence[Fold], *, timeout_s: float) -> None:
    """Keep the windows of a walk-forward."""
    kinds = dict.fromkeys(("train_first", "train_last", "first", "last"), "DATE")
    kinds |= dict.fromkeys(("fold", "combinations"), "BIGINT")
    kinds |= dict.fromkeys(("in_sample_sharpe", "sharpe", "total_return"), "DOUBLE")
    columns: dict[str, tuple[str, list[Any]]] = {
        name: (kind, [getattr(fold, name) for fold in folds]) for name, kind in kinds.items()
    }
    columns["run"] = ("VARCHAR", [fold.run for fold in folds])
    columns["params"] = ("VARCHAR", [json.dumps(fold.params) for fold in folds])
    with opened(home / RUNS, write=True, timeout_s=timeout_s) as con:
        con.insert("folds", columns)


def copy_orders(home: Path, orders: Sequence[dict[str, Any]], *, timeout_s: float) -> None:
    """Bring the copy of the journal's `orders` up to date; an order that is there already is replaced."""
    if not orders:
        return
    kinds = dict.fromkeys(("session", "fill_session"), "DATE")
    kinds |= dict.fromkeys(("ts", "fill_ts", "created_at", "updated_at"), "TIMESTAMP")
    kinds |= dict.fromkeys(("quantity", "filled_quantity", "fill_price", "commission"), "DOUBLE")
    names = [name for name in orders[0] if name != "run"]
    with opened(home / RUNS, write=True, timeout_s=timeout_s) as con:
        con.execute("DELETE FROM orders WHERE cid IN (SELECT unnest(?::VARCHAR[]))", [[row["cid"] for row in orders]])
        con.insert("orders", {name: (kinds.get(name, "VARCHAR"), [row[name] for row in orders]) for name in names})


def equity_columns(result: Backtest) -> Columns:
    """Equity, cash, exposure and returns by session, or by bar within it (`ts`)."""
    run = result.simulation
    return {
        **_bars("session", "ts", run.sessions),
        "equity": ("DOUBLE", run.equity),
        "cash": ("DOUBLE", run.cash),
        "exposure": ("DOUBLE", run.exposure),
        "returns": ("DOUBLE", result.returns),
    }


def _some(result: Backtest, *names: str) -> Columns:
    columns = equity_columns(result)
    return {name: columns[name] for name in names if name in columns}


def _all_of(text: str, rows: int) -> tuple[str, Coded]:
    """The same text on so many rows."""
    return "VARCHAR", Coded([text], np.zeros(rows, dtype=np.int64))


def _bars(session: str, ts: str, bars: Sessions) -> Columns:
    """The columns that name `bars`: the session, and for bars within one, the instant they start at."""
    days = {session: ("DATE", bars.astype("datetime64[D]"))}
    return days if bars.dtype == "datetime64[D]" else {**days, ts: ("TIMESTAMP", bars)}


def event_columns(result: Backtest) -> Columns:
    """Every event in order: the bar, the bar it was decided on, symbol, kind, quantity, price, commission."""
    events: Events = result.simulation.events
    panel = result.decisions.panel
    decided = np.where(events.decided >= 0, panel.sessions[events.decided], np.datetime64("NaT"))
    return {
        **_bars("session", "ts", panel.sessions[events.row]),
        **_bars("decided", "decided_ts", decided),
        "symbol": ("VARCHAR", Coded(panel.symbols, events.column)),
        "kind": ("VARCHAR", Coded(KINDS, events.kind)),
        "quantity": ("DOUBLE", events.quantity),
        "price": ("DOUBLE", events.price),
        "commission": ("DOUBLE", events.commission),
    }


def export(columns: Columns, path: Path) -> None:
    """Write columns to `path`, as Parquet or CSV by its ending; raises UsageError for another one."""
    if path.suffix not in (".parquet", ".csv"):
        raise UsageError(f"{path} must end in .parquet or .csv")
    import duckdb

    target = str(path).replace("'", "''")
    fields = ", ".join(f"{name} {kind}" for name, (kind, _) in columns.items())
    try:
        with duckdb.connect() as raw:
            con = Connection(raw)
            con.execute(f"CREATE TABLE exported ({fields})")
            insert(con, "exported", columns)
            con.execute(f"COPY exported TO '{target}'")
    except duckdb.IOException as error:
        raise DiskError(f"{path} cannot be written: {str(error).partition(chr(10))[0]}") from error


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
