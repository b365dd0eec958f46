"""A user's own SQL over all three databases and the journal's orders, in one place and read-only.

It stands above the store because it joins two worlds: the store's files and the journal. The query runs in a DuckDB
of its own in memory. The three files are attached read-only under their turnstiles; the journal's tables are copied
in, since SQLite's file is another program's format. Then every door to the outside is locked: a query can neither
write a file, nor read one, nor load an extension. Its answer is kept as a table in memory and the files are let go
before the first row is read from it: whoever reads slowly keeps nobody waiting.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from marketagent import home as homes
from marketagent import journal
from marketagent.errors import UsageError
from marketagent.store import faults
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


def ask(home: Path, statement: str, *, limit: int = 0, timeout_s: float) -> Iterator[dict[str, Any]]:
    """The rows of `statement` as dictionaries of JSON values, at most `limit` unless 0; raises UsageError for bad SQL."""
    homes.check(home)
    for kind in KINDS:
        with opened(home / f"{kind}.duckdb", timeout_s=timeout_s):
            pass  # checks the file and brings it up to date; attaching does neither
    spilled = str(home / "tmp" / "sql")  # else DuckDB makes a folder where the user stands
    raw = duckdb.connect(config={"autoinstall_known_extensions": "false", "temp_directory": spilled})
    try:
        con = Connection(raw)
        _copy_journal(con, home, timeout_s)
        with ExitStack() as locks:
            for kind in KINDS:
                locks.enter_context(held((home / f"{kind}.duckdb").resolve(), timeout_s))
            _attach(con, home)
            found = _answered(con, home, statement, limit)
            _detach(con)
    except BaseException:
        raw.close()
        raise
    return _rows(raw, found)


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


def _detach(con: Connection) -> None:
    con.execute("USE memory; " + "; ".join(f"DETACH DATABASE IF EXISTS {kind}" for kind in KINDS))


@dataclass
class _Found:
    """The answer: rows that are here, or None for those of the table ``ma_answer``."""

    names: list[str]
    rows: list[tuple[Any, ...]] | None


def _answered(con: Connection, home: Path, statement: str, limit: int) -> _Found:
    try:
        parts = con.raw.extract_statements(statement.encode().decode())
        if not parts:
            raise UsageError('the query is empty; run: ma sql "select symbol, count(*) from bars group by 1"')
        *before, last = parts
        for each in before:
            con.raw.execute(each)
        if last.type is duckdb.StatementType.SELECT:
            most = f"LIMIT {limit}" if limit else ""
            con.execute(f"CREATE TEMP TABLE ma_answer AS FROM (\n{last.query.strip().rstrip(';')}\n) {most}")
            return _Found([row[0] for row in con.execute("DESCRIBE ma_answer").fetchall()], None)
        found = con.raw.execute(last)
        if found.description is None:
            return _Found([], [])
        return _Found(_unique([column[0] for column in found.description]), found.fetchall()[: limit or None])
    except duckdb.Error as error:
        for path in (home / f"{kind}.duckdb" for kind in KINDS):
            if str(path) in str(error) and (damage := faults.meaning(error, path, opening=False)):
                raise damage from error
        text = str(error).strip().partition("\n\n")[0].replace("\n", " ")
        raise UsageError(f"the query failed: {text}") from error
    except UnicodeError as error:
        raise UsageError("the query is not UTF-8 text") from error


def _rows(raw: duckdb.DuckDBPyConnection, found: _Found) -> Iterator[dict[str, Any]]:
    with raw:
        if found.rows is None:
            cursor = raw.execute("FROM ma_answer")
            while some := cursor.fetchmany(10_000):
                yield from (_record(found.names, row) for row in some)
            return
        yield from (_record(found.names, row) for row in found.rows)


def _record(names: list[str], row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(names, map(_plain, row), strict=True))


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
