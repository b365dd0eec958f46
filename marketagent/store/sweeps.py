"""Sweeps in runs.duckdb: what was tried, and how each combination did."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from marketagent.store.columns import batches
from marketagent.store.connection import Connection
from marketagent.store.database import opened
from marketagent.store.runs import RUNS

_METRICS = ("equity", "total_return", "cagr", "sharpe", "max_drawdown", "trades", "turnover", "plateau")


@dataclass(frozen=True, kw_only=True)
class Swept:
    """One sweep as a row; `params` are those that all its trials have."""

    run: str
    strategy: str
    strategy_hash: str
    params: Mapping[str, Any]
    swept: Mapping[str, Sequence[Any]]
    combinations: int
    refused: int
    done: int
    symbols: Sequence[str]
    first: str
    last: str
    timeframe: str
    cash: float
    costs: str
    slippage_bps: float
    fill: str
    fractional: bool
    data_hash: str
    record: Mapping[str, Any]


def write_sweeps(
    home: Path,
    sweeps: Iterable[tuple[Swept, Iterable[tuple[int, Mapping[str, Any]]]]],
    now: datetime,
    *,
    timeout_s: float,
) -> None:
    """Keep sweeps, all or none, each with its trials: number in the grid, then parameters (``params``) and metrics by name."""
    with opened(home / RUNS, write=True, timeout_s=timeout_s) as con:
        for sweep, trials in sweeps:
            _insert(con, sweep, trials, now)


def _insert(con: Connection, sweep: Swept, trials: Iterable[tuple[int, Mapping[str, Any]]], now: datetime) -> None:
    con.execute(
        f"INSERT INTO sweeps VALUES ({', '.join('?' * 20)})",
        [
            sweep.run, now.astimezone(UTC).replace(tzinfo=None), sweep.strategy, sweep.strategy_hash,
            json.dumps(dict(sweep.params)), json.dumps({name: list(values) for name, values in sweep.swept.items()}),
            sweep.combinations, sweep.refused, sweep.done, list(sweep.symbols), sweep.first, sweep.last, sweep.timeframe,
            sweep.cash, sweep.costs, sweep.slippage_bps, sweep.fill, sweep.fractional, sweep.data_hash,
            json.dumps(dict(sweep.record)),
        ],
    )  # fmt: skip
    for part in batches(trials):
        columns: dict[str, tuple[str, list[Any]]] = {
            "run": ("VARCHAR", [sweep.run] * len(part)),
            "number": ("BIGINT", [number for number, _ in part]),
            "params": ("VARCHAR", [json.dumps(trial["params"]) for _, trial in part]),
        }
        for name in _METRICS:
            columns[name] = ("BIGINT" if name == "trades" else "DOUBLE", [trial[name] for _, trial in part])
        con.insert("sweep_rows", columns)
