"""Bars as they close, a few rows at a time: no file, no staging folder, one short transaction.

The rules are those of a file: `staging` judges what cannot be a bar, `merge` adds, and replaces what differs. Only
coverage is left alone: it counts whole sessions, and a stream may have seen half of one. A later ``ma fetch`` asks for
the session once more, finds the same bars, and covers it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Literal

from marketagent.store.connection import Connection
from marketagent.store.database import opened
from marketagent.store.market import MARKET
from marketagent.store.merge import merge_bars
from marketagent.store.staging import judge

TIMEFRAME = "1m"
Verdict = Literal["added", "corrected", "same"]
_NUMBERS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One minute's bar that began at `start`; a number that was none is NaN. `text` is what the vendor sent."""

    symbol: str
    start: datetime
    session: date
    open: float
    high: float
    low: float
    close: float
    volume: float
    text: str = ""


def write_bars(
    home: Path, rows: Sequence[Row], *, source: str, feed: str, now: datetime, timeout_s: float
) -> list[Verdict | str]:
    """Store `rows` at once; what became of each: a Verdict, or the reason why it cannot be a bar and was set aside.

    No two rows may be of the same symbol and start. When this returns, the rows are on the disk and the store is closed.
    """
    with opened(home / MARKET, write=True, timeout_s=timeout_s) as con:
        _stage(con, rows, now)
        con.execute("SET VARIABLE source = ?", [source])
        con.execute("SET VARIABLE timeframe = ?", [TIMEFRAME])
        con.execute("SET VARIABLE moment = ?::TIMESTAMP", [_plain(now)])
        con.execute(
            """
            CREATE TEMP TABLE before AS SELECT r.line, (b.open, b.high, b.low, b.close, b.volume) IS DISTINCT FROM
                (r.open, r.high, r.low, r.close, r.volume) OR b.feed <> ? AS differs
            FROM bars b JOIN raw r ON r.symbol = b.symbol AND r.ts = b.ts
            WHERE b.timeframe = getvariable('timeframe') AND b.source = getvariable('source')
            """,
            [feed],
        )
        merge_bars(con, feed)
        _set_aside(con)
        found = con.execute(
            """
            SELECT coalesce(reason, CASE WHEN b.line IS NULL THEN 'added' WHEN b.differs THEN 'corrected' ELSE 'same' END)
            FROM raw r LEFT JOIN before b USING (line) ORDER BY r.line
            """
        ).fetchall()
    return [verdict for (verdict,) in found]


def _stage(con: Connection, rows: Sequence[Row], now: datetime) -> None:
    """The temporary tables ``raw``, judged, and ``fresh``, as a file would have made them."""
    numbers = ", ".join(f"{name} DOUBLE, {name}_text VARCHAR" for name in _NUMBERS)
    con.execute(
        f"""
        CREATE TEMP TABLE raw (line BIGINT, symbol VARCHAR, time_text VARCHAR, local TIMESTAMP, session DATE, ts TIMESTAMP,
            {numbers}, row_text VARCHAR, reason VARCHAR);
        CREATE TEMP VIEW calendar AS SELECT session FROM sessions
        """
    )
    columns = {
        "line": ("BIGINT", range(len(rows))),
        "symbol": ("VARCHAR", [row.symbol for row in rows]),
        "time_text": ("VARCHAR", [row.start.isoformat() for row in rows]),
        "local": ("TIMESTAMP", [_plain(row.start) for row in rows]),
        "session": ("DATE", [row.session for row in rows]),
        "ts": ("TIMESTAMP", [_plain(row.start) for row in rows]),
        "row_text": ("VARCHAR", [row.text for row in rows]),
    }
    for name in _NUMBERS:
        values = [_number(getattr(row, name)) for row in rows]
        columns[name] = ("DOUBLE", values)
        columns[f"{name}_text"] = ("VARCHAR", [None if value is None else f"{value:.15g}" for value in values])
    con.insert("raw", columns)
    judge(con, now)
    con.execute(
        """
        CREATE TEMP TABLE fresh AS SELECT line, symbol, session, ts, open, high, low, close, volume, NULL::DOUBLE AS adj_close
        FROM raw WHERE reason IS NULL
        """
    )


def _set_aside(con: Connection) -> None:
    con.execute(
        """
        INSERT INTO quarantine (source, symbol, session_text, session, reason, row_text, known_at)
        SELECT getvariable('source'), left(r.symbol, 40), r.time_text, r.session, r.reason, left(r.row_text, 400), getvariable('moment')
        FROM raw r WHERE r.reason IS NOT NULL AND NOT EXISTS (FROM quarantine q WHERE q.source = getvariable('source')
            AND q.file IS NULL AND q.symbol = left(r.symbol, 40) AND q.session_text = r.time_text AND q.reason = r.reason)
        """
    )


def read_last_minutes(
    home: Path, symbols: Sequence[str], *, source: str, since: datetime, timeout_s: float
) -> dict[str, datetime]:
    """The newest stored minute of each of `symbols` from `since` on; a symbol without one is left out."""
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        rows = con.execute(
            """
            SELECT symbol, max(ts) FROM bars WHERE timeframe = ? AND source = ? AND ts >= ?
            AND list_contains(?::VARCHAR[], symbol) GROUP BY symbol
            """,
            [TIMEFRAME, source, _plain(since), list(symbols)],
        ).fetchall()
    return {symbol: last.replace(tzinfo=UTC) for symbol, last in rows}


def read_calendar(home: Path, first: date, last: date, *, timeout_s: float) -> list[tuple[datetime, datetime]]:
    """Regular open and close of each session from `first` to `last`, in UTC."""
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        rows = con.execute(
            "SELECT open_at, close_at FROM sessions WHERE session BETWEEN ? AND ? ORDER BY session", [first, last]
        ).fetchall()
    return [(opened_at.replace(tzinfo=UTC), closed_at.replace(tzinfo=UTC)) for opened_at, closed_at in rows]


def read_longest_silence(home: Path, symbols: Sequence[str], *, source: str, timeout_s: float) -> timedelta:
    """The longest time in the last stored session in which none of `symbols` had a bar; 0 if nothing is known."""
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        row = con.execute(
            """
            WITH ours AS (SELECT DISTINCT b.session, ts FROM bars b JOIN sessions s ON s.session = b.session
                WHERE timeframe = ? AND source = ? AND list_contains(?::VARCHAR[], symbol) AND ts BETWEEN s.open_at AND s.close_at),
            gaps AS (SELECT ts - lag(ts) OVER (ORDER BY ts) AS gap FROM ours WHERE session = (SELECT max(session) FROM ours))
            SELECT max(gap) FROM gaps
            """,
            [TIMEFRAME, source, list(symbols)],
        ).fetchone()
    return row[0] if row and row[0] is not None else timedelta(0)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _plain(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(tzinfo=None)
