"""The ledger of trials in ``runs.duckdb``: which backtests of a family were tried, each once.

A backtest is chosen from all trials of its family. A walk-forward is not: in each window it trades what was best before it,
and what else was tried there, and how that did, it never saw. Its path out of sample is one trial, and what it is judged by
are the walk-forwards of the family, for whoever runs several may take the best. The other way round it is not the same:
what the refits chose from are trials, in sample, of whoever runs one of them by itself afterwards, and a walk-forward is one
more. What the ledger cannot know is whether a grid was drawn around what a sweep of the same sessions had found.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from marketagent.luck import Moments
from marketagent.luckiest import WORLDS, Family, independent
from marketagent.metrics import Array
from marketagent.store.columns import batches
from marketagent.store.connection import Connection
from marketagent.store.database import opened
from marketagent.store.runs import RUNS

NEAR = 0.25  # of a parameter's value: what is within is a neighbour
_MOST = 1e300  # of a whole number, which may be larger than a float
_ROUNDING = 1e-9
LITTLE = 0.05  # of the returns: trials whose numbers differ by less are of the same time


IN_SAMPLE, OUT_OF_SAMPLE = "in sample", "out of sample"
Reached = Array  # (WORLDS,): what the best of some trials reaches in the worlds of ``luckiest``


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
    judged: str = IN_SAMPLE

    @property
    def family(self) -> str:
        """The same for every version and every parameter of a strategy, on one universe."""
        return _family(self.strategy, tuple(self.symbols), self.timeframe)

    @property
    def key(self) -> str:
        return _digest(self.family, self.strategy_hash, dict(self.params), self.first, self.last)

    @property
    def series(self) -> int:
        """The same for what this one grows into as bars come in; as migration 006 computes it."""
        text = f"{self.strategy_hash} {json.dumps(dict(self.params))} {self.first}"
        return int(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:15], 16)


def record(home: Path, tried: Iterable[Trial], reached: Reached, now: datetime, *, timeout_s: float) -> Family:
    """Write down `tried`, of one family, of which the best has `reached` so much by luck; returns the whole family.

    One transaction, so that of two runs at once each sees the other or is seen by it. A trial whose returns never differ
    (nothing was traded) is kept and does not count. One that was tried up to several sessions, as bars came in, is one
    that has grown and counts once.
    """
    return record_all(home, [(tried, reached)], now, timeout_s=timeout_s)[0]


def record_all(
    home: Path, families: Iterable[tuple[Iterable[Trial], Reached]], now: datetime, *, timeout_s: float
) -> list[Family]:
    """The same of each of `families`, one after another, in one transaction; nothing of one without a trial."""
    with opened(home / RUNS, write=True, timeout_s=timeout_s) as con:
        return [_recorded(con, tried, reached, now) for tried, reached in families]


def record_one(
    home: Path, trial: Trial, reached: Reached, now: datetime, *, timeout_s: float
) -> tuple[Family, list[float]]:
    """`record` of `trial`, and what `nearby` says of it, in one transaction."""
    return record_each(home, [(trial, reached)], now, timeout_s=timeout_s)[0]


def record_each(
    home: Path, tried: Iterable[tuple[Trial, Reached]], now: datetime, *, timeout_s: float
) -> list[tuple[Family, list[float]]]:
    """The same for each of `tried`, which may be of different families, in one transaction."""
    with opened(home / RUNS, write=True, timeout_s=timeout_s) as con:
        return [(_recorded(con, [trial], reached, now), _nearby(con, trial)) for trial, reached in tried]


def nearby(home: Path, trial: Trial, *, timeout_s: float) -> list[float]:
    """The Sharpe ratios a bar of trials of the same code from the same session on, whose parameters are nearly those of
    `trial`: some of its numbers are otherwise, none by more than a quarter of itself, and everything else is the same.

    They end where it does, or a little before or after: bars came in since a sweep. The longest of each counts.
    """
    return nearby_each(home, [trial], timeout_s=timeout_s)[0]


def nearby_each(home: Path, tried: Iterable[Trial], *, timeout_s: float) -> list[list[float]]:
    """The same for each of `tried`."""
    with opened(home / RUNS, timeout_s=timeout_s) as con:
        return [_nearby(con, trial) for trial in tried]


def _recorded(con: Connection, tried: Iterable[Trial], reached: Reached, now: datetime) -> Family:
    """What is judged out of sample counts among its like, and as one more of all."""
    family, before = "", {IN_SAMPLE: np.full(WORLDS, -np.inf)}
    for batch in batches(tried):
        if not family:
            family = batch[0].family
            before = {judged: _reached(con, family, judged) for judged in dict.fromkeys((batch[0].judged, IN_SAMPLE))}
        rows = {trial.key: trial for trial in batch}
        con.execute("DELETE FROM trials WHERE trial IN (SELECT unnest(?::VARCHAR[]))", [list(rows)])
        con.insert("trials", _columns(rows, now))
    best = {judged: np.maximum(old, reached.astype(np.float32)) for judged, old in before.items()}
    for judged in [judged for judged, old in before.items() if family and (best[judged] > old).any()]:
        con.execute("DELETE FROM family_luck WHERE family = ? AND judged = ?", [family, judged])
        values = [family, judged, best[judged].astype(np.float32).tobytes()]
        con.execute("INSERT INTO family_luck (family, judged, reached) VALUES (?, ?, ?)", values)
    own = next(iter(before))
    return Family(_counted(con, family, own), best[own])


def _reached(con: Connection, family: str, judged: str) -> Reached:
    """What a family has reached so far. Trials of before there was a note of it count as independent ones."""
    query = "SELECT reached FROM family_luck WHERE family = ? AND judged = ?"
    noted = con.execute(query, [family, judged]).fetchone()
    if noted:
        return np.frombuffer(noted[0], np.float32).astype(np.float64)
    count = _counted(con, family, judged)
    return independent(count) if count else np.full(WORLDS, -np.inf)


def _counted(con: Connection, family: str, judged: str) -> int:
    """How many trials a family has, or of those that are judged out of sample; one that has grown is one."""
    [(count,)] = con.execute(
        "SELECT count(DISTINCT series) FROM trials WHERE family = $1 AND deviation > 0 AND ($2 = $3 OR judged = $2)",
        [family, judged, IN_SAMPLE],
    ).fetchall()
    return int(count)


def _nearby(con: Connection, trial: Trial) -> list[float]:
    """In two steps: what can be near by its numbers alone, which is little, and of that what is."""
    returns, numbers = trial.moments.count, _numbers(trial.params)
    near = "".join(f" AND numbers[{place}] BETWEEN ? AND ?" for place in range(1, len(numbers) + 1))
    found = con.execute(
        f"""
        SELECT params, arg_max(sharpe, last) FROM trials
        WHERE family = ? AND strategy_hash = ? AND first = ? AND deviation > 0 AND returns BETWEEN ? AND ?{near}
        GROUP BY params ORDER BY min(trial)
        """,
        [
            trial.family, trial.strategy_hash, trial.first, (1 - LITTLE) * returns, (1 + LITTLE) * returns,
            *(edge for number in numbers for edge in _edges(number)),
        ],
    ).fetchall()  # fmt: skip
    return [float(sharpe) for params, sharpe in found if _is_near(json.loads(params), trial.params)]


def _edges(number: float) -> tuple[float, float]:
    """Beyond which a number is not near: a little too far, for ``_is_close`` decides."""
    reach = (NEAR + _ROUNDING) * abs(number)
    return number - reach, number + reach


def _numbers(params: Mapping[str, Any]) -> list[float]:
    """The parameters that are numbers, in their order, as migration 006 reads them."""
    found = [value for value in params.values() if isinstance(value, int | float) and not isinstance(value, bool)]
    return [float(min(max(value, -_MOST), _MOST)) for value in found]


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
    texts = ("family", "strategy", "strategy_hash", "timeframe", "run", "judged")
    numbers = ("mean", "deviation", "skew", "kurtosis", "sharpe")
    return {
        "trial": ("VARCHAR", list(rows)),
        **{name: ("VARCHAR", [getattr(trial, name) for trial in trials]) for name in texts},
        "params": ("VARCHAR", [json.dumps(dict(trial.params)) for trial in trials]),
        "symbols": ("BIGINT", [len(trial.symbols) for trial in trials]),
        "first": ("DATE", [trial.first for trial in trials]),
        "last": ("DATE", [trial.last for trial in trials]),
        "tried_at": ("TIMESTAMP", [now.astimezone(UTC).replace(tzinfo=None)] * len(trials)),
        "series": ("BIGINT", [trial.series for trial in trials]),
        "numbers": ("DOUBLE[]", [_numbers(trial.params) for trial in trials]),
        "returns": ("BIGINT", [trial.moments.count for trial in trials]),
        **{name: ("DOUBLE", [getattr(trial.moments, name) for trial in trials]) for name in numbers},
    }


@lru_cache(maxsize=8)
def _family(strategy: str, symbols: tuple[str, ...], timeframe: str) -> str:
    """Remembered: all trials of a sweep have the same."""
    return _digest(strategy, sorted(symbols), timeframe)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
