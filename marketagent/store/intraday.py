"""Bars within a day, read for a panel: regular hours only, on the grid of their session, made from finer ones if need be.

The grid of a session begins at its open: half-hours at 9:30, 10:00, …, hours at 9:30, 10:30, …, 15:30 (half an hour).
A stored bar that starts off the grid of its timeframe, before the open or after the close stays in the store and is
not read. A bar that is not stored is made from the finest there are of its symbol and source: first open, highest high,
lowest low, last close, sum of the volume. A stored one goes before a made one.

A bar counts once it has closed. That a minute is over is seen from the newest bar of all that are read (or from the
close of its session): as long as minutes may be missing, a bar made of them would not be the one a backtest sees.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import numpy as np

from marketagent.panel import Sessions
from marketagent.store.connection import Connection
from marketagent.store.known import as_known, moment, utc
from marketagent.timeframes import TIMEFRAMES, made_of

FIELDS = ("open", "high", "low", "close", "volume")
_MADE = """arg_min(open, ts) AS open, max(high) AS high, min(low) AS low, arg_max(close, ts) AS close,
           sum(volume ORDER BY ts) AS volume"""


def read_rows(
    con: Connection, timeframe: str, first: date, last: date, known_at: datetime | None, now: datetime | None
) -> dict[str, np.ndarray]:
    """Bars of the table ``picked`` (place, symbol, source) in sessions `first` to `last`, as columns: `key` (start, in
    seconds since 1970), `place` and FIELDS. Where a key comes twice, the later row counts.

    Bars that end after `now` are left out.
    """
    values = {"first": first, "last": last, **moment(known_at)}
    closed = _closed(con, timeframe, values, known_at, now)
    parts = [
        con.execute(_sql(base, timeframe, known_at), {**values, "closed": closed}).fetchnumpy()
        for base in made_of(timeframe)
    ]
    rows = {name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in ("key", "place", *FIELDS)}
    return {**rows, "key": rows["key"].astype("datetime64[s]").astype(np.int64)}


def read_grid(con: Connection, first: date, last: date, timeframe: str) -> Sessions:
    """(T,): the start of every bar of `timeframe` in the regular hours of sessions `first` to `last`."""
    found = con.execute(
        "SELECT open_at, close_at FROM sessions WHERE session BETWEEN ? AND ? ORDER BY session", [first, last]
    ).fetchnumpy()
    opens, closes = (np.asarray(found[name]).astype("datetime64[s]") for name in ("open_at", "close_at"))
    width = np.timedelta64(TIMEFRAMES[timeframe], "s")
    starts = [np.arange(begin, end, width) for begin, end in zip(opens, closes, strict=True)]
    return np.concatenate(starts) if starts else np.zeros(0, dtype="datetime64[s]")


def _sql(base: str, timeframe: str, known_at: datetime | None) -> str:
    """The rows of `timeframe` as they are stored, or made from those of `base`."""
    width = TIMEFRAMES[timeframe]
    if base == timeframe:
        return f"""
            SELECT ts AS key, place, {", ".join(FIELDS)} FROM ({_on_grid(base, known_at)})
            WHERE least(ts + to_seconds({width}), close_at) <= $closed
            """
    return f"""
        SELECT open_at + to_seconds(date_diff('second', open_at, ts) // {width} * {width}) AS key, place, {_MADE}
        FROM ({_on_grid(base, known_at)}) GROUP BY place, open_at, close_at, key
        HAVING least(key + to_seconds({width}), close_at) <= $closed
        """


def _on_grid(base: str, known_at: datetime | None) -> str:
    return f"""
        SELECT b.ts, p.place, s.open_at, s.close_at, {", ".join(f"b.{name}" for name in FIELDS)}
        FROM {as_known("bars", known_at)} b JOIN picked p ON p.symbol = b.symbol AND p.source = b.source
        JOIN sessions s ON s.session = b.session
        WHERE b.timeframe = '{base}' AND b.session BETWEEN $first AND $last AND b.ts >= s.open_at AND b.ts < s.close_at
          AND date_diff('second', s.open_at, b.ts) % {TIMEFRAMES[base]} = 0
        """


def _closed(
    con: Connection, timeframe: str, values: Mapping[str, Any], known_at: datetime | None, now: datetime | None
) -> datetime | None:
    """Until when all bars are over: the newest end of one, or the newest close of a session, but never after `now`; None
    if there are none."""
    ends = " UNION ALL ".join(
        f"SELECT max(least(ts + to_seconds({TIMEFRAMES[base]}), close_at)) AS ended FROM ({_on_grid(base, known_at)})"
        for base in made_of(timeframe)
    )
    row = con.execute(f"SELECT max(ended) FROM ({ends})", values).fetchone()
    newest: datetime | None = row[0] if row else None
    if now is None or newest is None:
        return newest
    row = con.execute("SELECT max(close_at) FROM sessions WHERE close_at <= ?", [utc(now)]).fetchone()
    return min(max(newest, row[0]) if row and row[0] else newest, utc(now))
