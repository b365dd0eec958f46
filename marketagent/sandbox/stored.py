"""What a sandbox takes from disk, once, at its start: the calendar of NYSE and the bars to be replayed.

It reads the user's own store and writes to none of it. Where nothing is stored, a store of the sample prices is made in
a temporary folder, by the same staging and merging as ``ma fetch --source sample``.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from marketagent import home as homes
from marketagent.errors import MarketAgentError, NoData
from marketagent.init import init
from marketagent.panel import Panel
from marketagent.sandbox.market import Session
from marketagent.sources import Batch, Request, sample
from marketagent.store.connection import Connection
from marketagent.store.database import opened
from marketagent.store.market import MARKET, calendar_end, copy_calendar, read_panel, write_calendar
from marketagent.store.merge import Origin, merge
from marketagent.store.staged import Options
from marketagent.store.staging import stage

_AHEAD = timedelta(days=370)  # of calendar: a sandbox lives up to a year
_WHOLE_DAY = timedelta(hours=6.5)


@dataclass(frozen=True)
class Stored:
    """The sessions there are, the daily panel to replay, and minutes as columns by symbol (see `read_minutes`)."""

    sessions: tuple[Session, ...]
    panel: Panel
    minutes: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)


def read(home: Path, now: datetime, *, timeout_s: float) -> Stored:
    """What is stored in `home`, the sample prices where it holds none."""
    with _with_calendar(home, now, timeout_s) as base:
        sessions = _sessions(base, timeout_s)
        try:
            panel = read_panel(base, None, timeout_s=timeout_s)
        except NoData:
            return Stored(sessions, _sample(sessions, now, timeout_s))
        return Stored(sessions, panel, _minutes(base, panel, timeout_s))


def newest(home: Path, *, timeout_s: float) -> datetime | None:
    """The start of the newest bar stored in `home`, None if there is none."""
    if not (home / MARKET).exists():
        return None
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        row = con.execute("SELECT max(ts) FROM bars").fetchone()
    return row[0].replace(tzinfo=UTC) if row and row[0] else None


def read_sessions(home: Path, now: datetime, *, timeout_s: float) -> tuple[Session, ...]:
    """The sessions of NYSE from 1990 to at least a year from `now`."""
    with _with_calendar(home, now, timeout_s) as base:
        return _sessions(base, timeout_s)


@contextmanager
def _with_calendar(home: Path, now: datetime, timeout_s: float) -> Iterator[Path]:
    """`home` if its calendar reaches far enough, else a temporary one that has nothing but a calendar."""
    if homes.is_marked(home):
        with opened(home / MARKET, timeout_s=timeout_s) as con:
            end = calendar_end(con)
        if end is not None and end >= (now + _AHEAD).date():
            yield home
            return
    with _temporary(now) as made:
        with opened(made / MARKET, write=True, timeout_s=timeout_s) as con:
            write_calendar(con, now.date())
        yield made


@contextmanager
def _temporary(now: datetime) -> Iterator[Path]:
    """An empty home, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="ma-sandbox-", ignore_cleanup_errors=True) as folder:
        made = Path(folder) / "home"
        init(made, now)
        yield made


def _sample(sessions: tuple[Session, ...], now: datetime, timeout_s: float) -> Panel:
    with _temporary(now) as made:
        calendar = made / "calendar.parquet"
        with opened(made / MARKET, write=True, timeout_s=timeout_s) as con:
            _keep(con, sessions)
        with opened(made / MARKET, timeout_s=timeout_s) as con:
            copy_calendar(con, calendar)
        first, *_ = sample.batches(Request(names=(), options=Options(), folder=made))
        if not isinstance(first, Batch):
            raise MarketAgentError(f"the sample prices lack {first.name}: {first.error}")
        staged = stage(first.path, Options(), calendar, made, now)  # all symbols at once: they are in one file
        with opened(made / MARKET, write=True, timeout_s=timeout_s) as con:
            merge(con, staged, Origin(first.source, first.feed, first.name, first.fingerprint), now)
        return read_panel(made, None, timeout_s=timeout_s)


def _keep(con: Connection, sessions: tuple[Session, ...]) -> None:
    """`sessions` as the calendar of an empty store."""
    con.insert(
        "sessions",
        {
            "session": ("DATE", [one.day for one in sessions]),
            "open_at": ("TIMESTAMP", [one.open_at.replace(tzinfo=None) for one in sessions]),
            "close_at": ("TIMESTAMP", [one.close_at.replace(tzinfo=None) for one in sessions]),
            "early": ("BOOLEAN", [one.close_at - one.open_at < _WHOLE_DAY for one in sessions]),
        },
    )


def _sessions(home: Path, timeout_s: float) -> tuple[Session, ...]:
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        rows = con.execute("SELECT session, open_at, close_at FROM sessions ORDER BY session").fetchall()
    return tuple(
        Session(day=day, open_at=opens.replace(tzinfo=UTC), close_at=closes.replace(tzinfo=UTC))
        for day, opens, closes in rows
    )


def _minutes(home: Path, panel: Panel, timeout_s: float) -> dict[str, dict[str, np.ndarray]]:
    """The stored minutes of regular hours of the panel's symbols, each from the panel's own source."""
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        return {
            symbol: columns
            for symbol, source in zip(panel.symbols, panel.sources, strict=True)
            if len((columns := read_minutes(con, symbol, source))["day"])
        }


def read_minutes(con: Connection, symbol: str, source: str) -> dict[str, Any]:
    """Columns `day` (since 1970), `minute` (of the session, 0 at the open), open to volume; oldest first."""
    found = con.execute(
        """
        SELECT (b.session - DATE '1970-01-01')::INTEGER AS day, (epoch(b.ts - s.open_at) / 60)::INTEGER AS minute,
               b.open, b.high, b.low, b.close, b.volume
        FROM bars b JOIN sessions s ON s.session = b.session
        WHERE b.timeframe = '1m' AND b.symbol = ? AND b.source = ? AND b.ts >= s.open_at AND b.ts < s.close_at
        ORDER BY b.ts
        """,
        [symbol, source],
    ).fetchnumpy()
    return {name: np.asarray(column) for name, column in found.items()}
