"""What a vendor delivered, judged by the same rules as a file and sorted out before the store is touched.

The columns go into DuckDB as they are, without a detour over text; from there on it is `staging`.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from marketagent.delivery import FIELDS, Delivery, Load, new_york_days
from marketagent.panel import Array
from marketagent.store import faults
from marketagent.store.connection import Connection
from marketagent.store.staged import Options, Staged, written
from marketagent.store.staging import add_actions, judge, keep_range, set_jumps_apart, set_repeats_apart
from marketagent.store.tables import Table


def stage_load(load: Load, calendar: Path, folder: Path, now: datetime) -> Staged:
    """The bars and actions of `load` against the Parquet `calendar`, into `folder`, as ``staging.stage`` does a file.

    Unlike a file, a load may be empty: nothing was there is an answer, too.
    """
    config: dict[str, Any] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "temp_directory": str(folder / "spilled"),
    }
    with duckdb.connect(config=config) as raw, faults.translated(folder, opening=False):
        raw.execute("SET TimeZone = 'UTC'")
        con = Connection(raw)
        con.execute("CREATE TABLE calendar AS FROM read_parquet(?)", [str(calendar)])
        _take(con, load)
        judge(con, now)
        _take_refused(con, load.deliveries)
        set_repeats_apart(con)
        set_jumps_apart(con)
        # Lines told rows apart; they number nothing a user could look up, and the next fetch would number anew.
        con.execute("UPDATE raw SET line = 0 WHERE reason IS NOT NULL")
        keep_range(con, Options())
        _take_actions(con, load.deliveries)
        names = {name: name for name in ("symbol", "date", *FIELDS)}
        return written(
            Table(con, load.source, names), folder, load.timeframe, "given", Options(), [], may_be_empty=True
        )


def _take(con: Connection, load: Load) -> None:
    """The table ``raw``, a row a bar. Texts are made only where a refused row is shown."""
    texts = "".join(f", {name} DOUBLE, {name}_text AS (CAST({name} AS VARCHAR))" for name in FIELDS)
    con.execute(
        f"""
        CREATE TABLE raw (
            line BIGINT, symbol VARCHAR, local TIMESTAMP, session DATE, ts TIMESTAMP, reason VARCHAR,
            time_text AS (CAST(ts AS VARCHAR)), adj_close DOUBLE, split DOUBLE, dividend DOUBLE{texts}
        )
        """
    )
    deliveries = [one for one in load.deliveries if len(one.rows)]
    if not deliveries:
        return
    start = np.concatenate([one.rows.start for one in deliveries])
    place = np.repeat(np.arange(len(deliveries), dtype=np.int32), [len(one.rows) for one in deliveries])
    columns = {name: _column(deliveries, name) for name in FIELDS}
    days = new_york_days(start)
    arrived = {"place": place, "day": days.astype("datetime64[us]"), "start": start.astype("datetime64[s]")}
    con.raw.register("arrived", arrived | columns)
    con.execute(
        "CREATE TEMP TABLE names AS SELECT unnest(range(len($1))) AS place, unnest($1::VARCHAR[]) AS symbol",
        [[one.want.symbol for one in deliveries]],
    )
    daily = load.timeframe == "1d"
    con.execute(
        f"""
        INSERT INTO raw (line, symbol, local, session, ts, {", ".join(FIELDS)})
        SELECT row_number() OVER (), n.symbol, a.start, a.day::DATE, {"coalesce(c.open_at, a.start)" if daily else "a.start"},
               {", ".join(f"a.{name}" for name in FIELDS)}
        FROM arrived a JOIN names n USING (place) {"LEFT JOIN calendar c ON c.session = a.day::DATE" if daily else ""}
        """
    )
    con.raw.unregister("arrived")


def _column(deliveries: Sequence[Delivery], name: str) -> Array:
    return np.concatenate([getattr(one.rows, name) for one in deliveries])


def _take_refused(con: Connection, deliveries: Sequence[Delivery]) -> None:
    """Rows that never were numbers, with the reason they came with; after the judging, which would give another."""
    rows = [(one.want.symbol, refused) for one in deliveries for refused in one.rows.refused]
    if not rows:
        return
    days = [None if refused.start is None else _day(refused.start) for _, refused in rows]
    con.insert(
        "raw",
        {
            "line": ("BIGINT", range(-len(rows), 0)),
            "symbol": ("VARCHAR", [symbol for symbol, _ in rows]),
            "session": ("DATE", days),
            "reason": ("VARCHAR", [f"{refused.reason}: {refused.text}" for _, refused in rows]),
        },
    )


def _day(seconds: int) -> date | None:
    try:
        datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None  # a time of no year that has a date
    found: date = new_york_days(np.array([seconds]))[0].astype("datetime64[D]").astype(date)
    return found


def _take_actions(con: Connection, deliveries: Sequence[Delivery]) -> None:
    """The table ``actions``; one dated on a day without a session belongs to the next one that is."""
    con.execute("CREATE TABLE actions (symbol VARCHAR, session DATE, kind VARCHAR, value DOUBLE)")
    found = [(a.symbol, a.day, a.kind, a.value) for one in deliveries for a in one.actions]
    if not found:
        return
    add_actions(con, [(symbol, day, str(kind), value) for symbol, day, kind, value in found])
    con.execute(
        """
        CREATE TABLE placed AS
        SELECT symbol, (SELECT min(c.session) FROM calendar c WHERE c.session >= a.session) AS session, kind, value
        FROM actions a;
        DELETE FROM actions;
        INSERT INTO actions
        SELECT symbol, session, kind, CASE kind WHEN 'split' THEN product(value) ELSE sum(value) END
        FROM placed WHERE session IS NOT NULL GROUP BY symbol, session, kind
        """
    )
