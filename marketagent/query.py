"""A user's own SQL over all three databases and the journal's orders, in one place and read-only.

It stands above the store because it joins two worlds: the store's files and the journal. The query runs in a DuckDB
of its own in memory. The three files are attached read-only under their turnstiles; the journal's tables are copied
in, since SQLite's file is another program's format. Then every door to the outside is locked: a query can neither
write a file, nor read one, nor load an extension.
"""

from contextlib import ExitStack
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from marketagent import home as homes
from marketagent import journal
from marketagent.errors import UsageError
from marketagent.store.connection import Connection
from marketagent.store.database import KINDS, opened
from marketagent.store.turnstile import held

_JOURNAL = {
    "orders": "cid, account, strategy, session::DATE AS session, symbol, side, quantity, state, filled_quantity, fill_price,"
    " commission, fill_session::DATE AS fill_session, reason, run, created_at, updated_at",
    "accounts": "account, cash, settled_through::DATE AS settled_through, created_at",
    "positions": "account, symbol, quantity, price, last_session::DATE AS last_session",
    "events": "*",
}


def ask(home: Path, statement: str, *, limit: int = 0, timeout_s: float) -> list[dict[str, Any]]:
    """The rows of `statement` as dictionaries of JSON values, at most `limit` unless 0; raises UsageError for bad SQL."""
    homes.check(home)
    for kind in KINDS:
        with opened(home / f"{kind}.duckdb", timeout_s=timeout_s):
            pass  # checks the file and brings it up to date; attaching does neither
    with ExitStack() as locks, duckdb.connect(config={"autoinstall_known_extensions": "false"}) as raw:
        con = Connection(raw)
        _copy_journal(con, home, timeout_s)
        for kind in KINDS:
            locks.enter_context(held((home / f"{kind}.duckdb").resolve(), timeout_s))
        _attach(con, home)
        return _rows(con, statement, limit)


def _copy_journal(con: Connection, home: Path, timeout_s: float) -> None:
    with journal.opened(home, timeout_s=timeout_s) as book:
        for table, columns in _JOURNAL.items():
            kinds = {row["name"]: _TYPES[row["type"]] for row in book.rows(f"PRAGMA table_info({table})")}
            found = book.rows(f"SELECT * FROM {table}")
            fields = ", ".join(f'"{name}" {kind}' for name, kind in kinds.items())
            con.execute(f"CREATE TEMP TABLE copied ({fields})")
            con.insert("copied", {name: (kind, [row[name] for row in found]) for name, kind in kinds.items()})
            con.execute(f"CREATE TABLE {table} AS SELECT {columns} FROM copied; DROP TABLE copied")


_TYPES = {"TEXT": "VARCHAR", "REAL": "DOUBLE", "INTEGER": "BIGINT"}


def _attach(con: Connection, home: Path) -> None:
    """The three files under their names, a view for each of their tables, and no way out of here."""
    for kind in KINDS:
        path = str(home / f"{kind}.duckdb").replace("'", "''")
        con.execute(f"ATTACH '{path}' AS {kind} (READ_ONLY)")
        tables = con.execute(f"SELECT table_name FROM duckdb_tables() WHERE database_name = '{kind}'").fetchall()
        for (table,) in tables:
            if table not in _JOURNAL and table != "ma_meta":
                con.execute(f"CREATE VIEW {table} AS FROM {kind}.{table}")
    con.execute(
        "SET TimeZone = 'UTC'; SET python_enable_replacements = false; SET enable_external_access = false;"
        " SET lock_configuration = true"
    )


def _rows(con: Connection, statement: str, limit: int) -> list[dict[str, Any]]:
    try:
        found = con.execute(statement)
        if found.description is None:
            return []
        names = _unique([column[0] for column in found.description])
        rows = found.fetchmany(limit) if limit else found.fetchall()
    except duckdb.Error as error:
        text = str(error).strip().partition("\n\n")[0].replace("\n", " ")
        raise UsageError(f"the query failed: {text}") from error
    return [dict(zip(names, map(_plain, row), strict=True)) for row in rows]


def _unique(names: list[str]) -> list[str]:
    """Column names, a second one of a name with its place behind it: a record has each key once."""
    return [name if name not in names[:place] else f"{name}_{place + 1}" for place, name in enumerate(names)]


def _plain(value: Any) -> Any:
    """A value of DuckDB as JSON has it: instants RFC 3339, NaN and infinities none, what JSON lacks as text."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat() + "Z"
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, timedelta):
        return str(value)
    return str(value)
