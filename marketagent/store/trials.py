"""The ledger of trials in ``runs.duckdb``: which backtests of a family were tried, each once."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from marketagent.luck import Moments
from marketagent.metrics import Array
from marketagent.store.columns import batches
from marketagent.store.connection import Connection
from marketagent.store.database import opened
from marketagent.store.runs import RUNS

NEAR = 0.25  # of a parameter's value: what is within is a neighbour
LITTLE = 0.05  # of the returns: trials whose numbers differ by less are of the same time


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One backtest as the ledger counts it: what was decided by, on what and when, and the moments of its returns.

    Costs, cash and fills are not part of it: whoever charges a strategy more has not tried another one.
    """

    run: str
    strategy: str
    strategy_hash: str
    params: Mapping[str, Any]
    symbols: Sequence[str]
    timeframe: str
    first: str
    last: str
    moments: Moments

    @property
    def family(self) -> str:
        """The same for every version and every parameter of a strategy, on one universe."""
        return _family(self.strategy, tuple(self.symbols), self.timeframe)

    @property
    def key(self) -> str:
        return _digest(self.family, self.strategy_hash, dict(self.params), self.first, self.last)


def record(home: Path, tried: Iterable[Trial], now: datetime, *, timeout_s: float) -> Array:
    """Write down `tried` (of one family, at least one); returns the Sharpe ratios a bar of all the family's trials, as they
    would be over as many returns as the tried ones have: one of few returns varies more, by the root of how many they are.

    One transaction, so that of two runs at once each sees the other or is seen by it. A trial whose returns never differ
    (nothing was traded) is kept and not among the ratios. One that was tried up to several sessions, as bars came in, is
    one that has grown: its longest is among them, for many nearly equal ones would make the spread of all another one.
    """
    with opened(home / RUNS, write=True, timeout_s=timeout_s) as con:
        return _recorded(con, tried, now)


def record_one(home: Path, trial: Trial, now: datetime, *, timeout_s: float) -> tuple[Array, list[float]]:
    """`record` of `trial`, and what `nearby` says of it, in one transaction."""
    with opened(home / RUNS, write=True, timeout_s=timeout_s) as con:
        return _recorded(con, [trial], now), _nearby(con, trial)


def nearby(home: Path, trial: Trial, *, timeout_s: float) -> list[float]:
    """The Sharpe ratios a bar of trials of the same code from the same session on, whose parameters are nearly those of
    `trial`: some of its numbers are otherwise, none by more than a quarter of itself, and everything else is the same.

    They end where it does, or a little before or after: bars came in since a sweep. The longest of each counts.
    """
    with opened(home / RUNS, timeout_s=timeout_s) as con:
        return _nearby(con, trial)


def _recorded(con: Connection, tried: Iterable[Trial], now: datetime) -> Array:
    for batch in batches(tried):
        rows = {trial.key: trial for trial in batch}
        con.execute("DELETE FROM trials WHERE trial IN (SELECT unnest(?::VARCHAR[]))", [list(rows)])
        con.insert("trials", _columns(rows, now))
    trial = batch[-1]
    found = con.execute(
        """
        SELECT arg_max(sharpe * sqrt(returns), last) FROM trials WHERE family = ? AND deviation > 0
        GROUP BY strategy_hash, params, first
        """,
        [trial.family],
    ).fetchnumpy()
    [column] = found.values()
    return np.asarray(column, dtype=np.float64) / sqrt(max(trial.moments.count, 1))


def _nearby(con: Connection, trial: Trial) -> list[float]:
    returns = trial.moments.count
    found = con.execute(
        """
        SELECT params, arg_max(sharpe, last) FROM trials
        WHERE family = ? AND strategy_hash = ? AND first = ? AND deviation > 0 AND returns BETWEEN ? AND ?
        GROUP BY params ORDER BY min(trial)
        """,
        [trial.family, trial.strategy_hash, trial.first, (1 - LITTLE) * returns, (1 + LITTLE) * returns],
    ).fetchall()
    return [float(sharpe) for params, sharpe in found if _is_near(json.loads(params), trial.params)]


def _is_near(params: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    differing = [name for name in own if params.get(name) != own[name]]
    return bool(differing) and all(_is_close(params.get(name), own[name]) for name in differing)


def _is_close(value: object, own: object) -> bool:
    if isinstance(value, bool) or isinstance(own, bool):
        return False
    return isinstance(value, int | float) and isinstance(own, int | float) and abs(value - own) <= NEAR * abs(own)


def latest(
    home: Path, strategy: str, symbols: Sequence[str], timeframe: str, most: int, *, timeout_s: float
) -> tuple[list[dict[str, Any]], int]:
    """The newest trials of a family, at most so many, and how many it has: a walk-forward before what it chose from, the
    best of a sweep first."""
    family = _family(strategy, tuple(symbols), timeframe)
    names = ("run", "strategy_hash", "params", "first", "last", "tried_at", "sharpe")
    with opened(home / RUNS, timeout_s=timeout_s) as con:
        found = con.execute(
            f"""
            SELECT {", ".join(names)} FROM trials WHERE family = ?
            ORDER BY tried_at DESC, contains(params, '"walk_forward"') DESC, sharpe DESC NULLS LAST, trial LIMIT ?
            """,
            [family, most],
        ).fetchall()
        [(total,)] = con.execute("SELECT count(*) FROM trials WHERE family = ?", [family]).fetchall()
    return [dict(zip(names, row, strict=True)) for row in found], int(total)


def _columns(rows: Mapping[str, Trial], now: datetime) -> dict[str, tuple[str, list[Any]]]:
    trials = list(rows.values())
    texts = ("family", "strategy", "strategy_hash", "timeframe", "run")
    numbers = ("mean", "deviation", "skew", "kurtosis", "sharpe")
    return {
        "trial": ("VARCHAR", list(rows)),
        **{name: ("VARCHAR", [getattr(trial, name) for trial in trials]) for name in texts},
        "params": ("VARCHAR", [json.dumps(dict(trial.params)) for trial in trials]),
        "symbols": ("BIGINT", [len(trial.symbols) for trial in trials]),
        "first": ("DATE", [trial.first for trial in trials]),
        "last": ("DATE", [trial.last for trial in trials]),
        "tried_at": ("TIMESTAMP", [now.astimezone(UTC).replace(tzinfo=None)] * len(trials)),
        "returns": ("BIGINT", [trial.moments.count for trial in trials]),
        **{name: ("DOUBLE", [getattr(trial.moments, name) for trial in trials]) for name in numbers},
    }


@lru_cache(maxsize=8)
def _family(strategy: str, symbols: tuple[str, ...], timeframe: str) -> str:
    """Remembered: all trials of a sweep have the same."""
    return _digest(strategy, sorted(symbols), timeframe)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
