"""DuckDB's connection, less one surprise: a query with parameters must not cost a command the import of pandas.

To convert a parameter, DuckDB's Python client asks whether the value is pandas' NaT or NA, and imports pandas to find
out: 0.5 s for a value that cannot be either. Where pandas is not in use yet, it is kept out while a statement runs:
the client takes its absence for an answer. (Seen in duckdb 1.5.6; a stand-in module instead of its absence crashes
the client later, when a strategy does use pandas.)
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from duckdb import DuckDBPyConnection

Values = Sequence[Any] | Mapping[str, Any] | None


class Connection:
    """An open database. Values go in as parameters, never as text of the statement."""

    def __init__(self, connection: DuckDBPyConnection) -> None:
        self.raw = connection

    def execute(self, sql: str, values: Values = None) -> DuckDBPyConnection:
        """Run one statement, or several without `values`; rows are read from what it returns."""
        if values is None:
            return self.raw.execute(sql)
        with _pandas_kept_out():
            return self.raw.execute(sql, values)

    def insert(self, table: str, columns: Mapping[str, tuple[str, Sequence[Any]]]) -> None:
        """Append rows given as columns, name -> (SQL type, values); a thousand times as quick as row by row.

        A column travels as one JSON text: DuckDB asks its question about pandas for every element of a list.
        Raises ValueError for NaN and infinities, which no table of ours takes.
        """
        names = ", ".join(f'"{name}"' for name in columns)
        taken = ", ".join(
            f"unnest(from_json(${name}, '[\"{_read_as(kind)}\"]'))::{kind}" for name, (kind, _) in columns.items()
        )
        values = {name: json.dumps(list(column), allow_nan=False, default=str) for name, (_, column) in columns.items()}
        self.execute(f"INSERT INTO {table} ({names}) SELECT {taken}", values)

    @contextmanager
    def view(self, name: str, columns: Mapping[str, Any]) -> Iterator[None]:
        """For the length of the block, NumPy arrays of numbers or instants as a table `name`; of objects DuckDB would ask
        pandas what they are. After an error in the block it stays, until the connection is closed."""
        with _pandas_kept_out():
            self.raw.register(name, dict(columns))
        yield
        self.raw.unregister(name)


def _read_as(kind: str) -> str:
    """The type a JSON value is read as before it is cast to `kind`: JSON has no dates."""
    return kind if kind in ("DOUBLE", "BIGINT", "INTEGER", "BOOLEAN", "VARCHAR") else "VARCHAR"


@contextmanager
def _pandas_kept_out() -> Iterator[None]:
    if "pandas" in sys.modules:
        yield
        return
    sys.modules["pandas"] = None  # type: ignore[assignment]  # how the import system spells "there is none"
    try:
        yield
    finally:
        del sys.modules["pandas"]
