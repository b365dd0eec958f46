"""A CSV or Parquet file as a DuckDB view ``source`` with line numbers, its columns found by name.

A CSV is read strictly: one delimiter for the whole file, as many fields on each line as in the header, UTF-8,
lines of at most 1 MiB. What breaks that is refused with its line number; nothing is skipped or guessed.
"""

import csv
import gzip
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from marketagent.errors import BadData, UsageError, did_you_mean
from marketagent.store.connection import Connection

MAX_LINE = 1 << 20
ALIASES = {  # canonical name -> what files call it, in lower case with spaces and dashes as underscores
    "symbol": ("symbol", "ticker"),
    "date": ("date", "session", "ts", "timestamp", "datetime"),
    "open": ("open",),
    "high": ("high",),
    "low": ("low",),
    "close": ("close",),
    "volume": ("volume",),
    "adj_close": ("adj_close", "adjclose", "adjusted_close"),
    "dividend": ("dividend", "dividends"),
    "split": ("split", "splits", "stock_splits", "split_ratio", "split_coefficient"),
}
NEEDED = ("date", "open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class Table:
    """An open file: the view ``source`` in `con`, and for each canonical name the file's own column."""

    con: Connection
    name: str
    columns: dict[str, str]


@contextmanager
def opened_table(path: Path, renamed: Mapping[str, str], folder: Path) -> Iterator[Table]:
    """The file at `path` as a Table; `renamed` names columns by hand, `folder` takes an unpacked copy if one is needed.

    Raises BadData for what is no table or lacks a column, UsageError for a `renamed` that does not fit.
    """
    with duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}) as con:
        try:
            yield _opened(Connection(con), path, renamed, folder)
        except duckdb.Error as error:
            raise BadData(f"{path.name}: {_one_line(error)}") from error


def _opened(con: Connection, path: Path, renamed: Mapping[str, str], folder: Path) -> Table:
    magic = _magic(path)
    if magic.startswith(b"PAR1"):
        con.execute(
            f"CREATE VIEW source AS SELECT *, file_row_number + 1 AS line FROM read_parquet({_literal(path)}, file_row_number = true)"
        )
        names = [
            row[0] for row in con.execute("DESCRIBE source").fetchall() if row[0] not in ("line", "file_row_number")
        ]
        return Table(con, path.name, _found(names, renamed, path.name))
    plain = _unpacked(path, folder) if magic.startswith(b"\x1f\x8b") else path
    names, delimiter = _header(plain, path.name)
    columns = _found(names, renamed, path.name)
    con.execute(
        f"""
        CREATE TABLE source_rows AS SELECT * FROM read_csv({_literal(plain)}, auto_detect = false, header = true,
            delim = {_literal(delimiter)}, quote = '"', escape = '"', strict_mode = true, max_line_size = {MAX_LINE},
            columns = {{{", ".join(f"{_literal(name)}: 'VARCHAR'" for name in names)}}});
        CREATE VIEW source AS SELECT *, rowid + 2 AS line FROM source_rows
        """
    )
    return Table(con, path.name, columns)


def quoted(name: str) -> str:
    """A column's name for SQL, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def _literal(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def _magic(path: Path) -> bytes:
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        raise BadData(f"{path.name} is empty")
    return start


def _unpacked(path: Path, folder: Path) -> Path:
    """A gzip file as plain text in `folder`; unpacked here because a cut one must not pass for a short one."""
    plain = folder / "plain.csv"
    try:
        with gzip.open(path, "rb") as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadData(f"{path.name} is a damaged or cut gzip file: {error}") from error
    return plain


def _header(path: Path, name: str) -> tuple[list[str], str]:
    """The names in the first line and the delimiter between them: of the usual four, the one that finds most names."""
    with path.open("rb") as file:
        line = file.readline(MAX_LINE + 1)
    if len(line) > MAX_LINE:
        raise BadData(f"{name}: line 1 is longer than {MAX_LINE:,} bytes")
    if b"\0" in line:
        raise BadData(f"{name}: line 1 holds a NUL byte; this is not a text file")
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise BadData(f"{name}: line 1 is not UTF-8 (byte {error.start + 1})") from error
    split = {delimiter: next(csv.reader([text], delimiter=delimiter), []) for delimiter in ",;\t|"}
    delimiter = max(split, key=lambda each: sum(_plain(word) in _KNOWN for word in split[each]))
    names = split[delimiter]
    if len(set(names)) < len(names):
        twice = next(word for word in names if names.count(word) > 1)
        raise BadData(f"{name}: the column {twice!r} stands twice in line 1")
    return names, delimiter


def _plain(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", name.strip().lower())


_KNOWN = {alias for aliases in ALIASES.values() for alias in aliases}


def _found(names: list[str], renamed: Mapping[str, str], file: str) -> dict[str, str]:
    """Canonical name -> the file's column, by hand or by alias; every name of NEEDED is there."""
    found: dict[str, str] = {}
    for canonical, column in renamed.items():
        if canonical not in ALIASES:
            raise UsageError(
                f"--map {canonical}={column}: no column is called {canonical}{did_you_mean(canonical, ALIASES)}"
            )
        if column not in names:
            raise UsageError(
                f"--map {canonical}={column}: {file} has no column {column!r}{did_you_mean(column, names)}"
            )
        found[canonical] = column
    for canonical, aliases in ALIASES.items():
        fitting = [name for name in names if _plain(name) in aliases]
        if canonical in found or not fitting:
            continue
        if len(fitting) > 1:
            raise BadData(
                f"{file}: {' and '.join(fitting)} could both be {canonical}; choose with --map {canonical}=COLUMN"
            )
        found[canonical] = fitting[0]
    missing = [name for name in NEEDED if name not in found]
    if missing:
        raise BadData(f"{file} has no column for {', '.join(missing)}; it has {', '.join(names)[:200]}; see --map")
    return found


def _one_line(error: duckdb.Error) -> str:
    """DuckDB's explanation without its advice: which line, and what is wrong there."""
    text = str(error)
    line = re.search(r"CSV Error on Line: (\d+)", text)
    lines = [part.strip() for part in text.splitlines() if part.strip()]
    told = [
        part
        for part in lines
        if not part.startswith(("Original Line", "Possible", "*", "Invalid Input Error", "file ="))
    ]
    if line:
        what = next((part for part in told if "CSV Error" not in part), "it does not fit the header")
        return f"line {line[1]}: {what.rstrip('.')[:160]}"
    return lines[0].rstrip(".")[:200] if lines else type(error).__name__
