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
from marketagent.store import faults
from marketagent.store.connection import Connection
from marketagent.store.lines import MAX_LINE, row_lines

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
    """An open file: the view ``source`` in `con`, and for each canonical name the column that holds it there."""

    con: Connection
    name: str
    columns: dict[str, str]


@contextmanager
def opened_table(path: Path, renamed: Mapping[str, str], folder: Path) -> Iterator[Table]:
    """The file at `path` as a Table; `renamed` names columns by hand, `folder` takes what does not fit in memory.

    Raises BadData for what is no table or lacks a column, UsageError for a `renamed` that does not fit, DiskError.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "temp_directory": str(folder / "spilled"),  # else DuckDB makes one in the user's current folder
    }
    with duckdb.connect(config=config) as con, faults.translated(folder, opening=False):
        con.execute("SET TimeZone = 'UTC'")
        yield _opened(Connection(con), path, renamed, folder)


@contextmanager
def reading(name: str) -> Iterator[None]:
    """DuckDB's errors while it reads the file `name` as BadData; a full disk stays what it is."""
    try:
        yield
    except duckdb.Error as error:
        if faults.is_disk(error):
            raise
        raise BadData(f"{name}: {_one_line(error)}") from error


def _opened(con: Connection, path: Path, renamed: Mapping[str, str], folder: Path) -> Table:
    # Under a name of our own: DuckDB would take the brackets of prices[1].csv for a pattern.
    plain = folder / "source"
    magic = _magic(path)
    if magic.startswith(b"\x1f\x8b"):
        _unpack(path, plain)
    else:
        plain.symlink_to(path.resolve())
    names = (_read_parquet if magic.startswith(b"PAR1") else _read_csv)(con, plain, path.name, renamed)
    found = _found(names, renamed, path.name)
    return Table(con, path.name, {canonical: _column(names.index(name)) for canonical, name in found.items()})


def _column(place: int) -> str:
    """What a column is called in ``source``: names that a file gives may repeat each other in another case."""
    return f"c{place}"


def _read_parquet(con: Connection, plain: Path, name: str, renamed: Mapping[str, str]) -> list[str]:
    with reading(name):
        rows = con.execute(f"DESCRIBE SELECT * FROM read_parquet({_literal(plain)})").fetchall()
    names = [row[0] for row in rows]
    columns = ", ".join(f"{quoted(each)} AS {_column(place)}" for place, each in enumerate(names))
    with reading(name):
        con.execute(
            f"CREATE VIEW source AS SELECT {columns}, file_row_number + 1 AS line"
            f" FROM read_parquet({_literal(plain)}, file_row_number = true)"
        )
        (rows,) = con.execute(f"SELECT count(*) FROM read_parquet({_literal(plain)})").fetchone() or (0,)
    if rows == 0:
        raise BadData(f"{name} has no row")
    return names


def _read_csv(con: Connection, plain: Path, name: str, renamed: Mapping[str, str]) -> list[str]:
    names, delimiter = _header(plain, name, renamed)
    _found(names, renamed, name)  # before a large file is read for nothing
    lines = row_lines(plain, name)[1:]
    with reading(name):
        con.execute(
            f"""
            CREATE TABLE source_rows AS SELECT * FROM read_csv({_literal(plain)}, auto_detect = false, header = true,
                delim = {_literal(delimiter)}, quote = '"', escape = '"', strict_mode = true, max_line_size = {MAX_LINE},
                compression = 'none',
                columns = {{{", ".join(f"{_column(place)}: 'VARCHAR'" for place in range(len(names)))}}})
            """
        )
    (rows,) = con.execute("SELECT count(*) FROM source_rows").fetchone() or (0,)
    if rows != len(lines):
        raise BadData(f"{name}: {len(lines)} rows became {rows}; a quote or a line end is out of place")
    if rows == 0:
        raise BadData(f"{name} has no row below its header")
    con.raw.register("line_numbers", {"line": lines})
    con.execute("CREATE VIEW source AS SELECT * FROM source_rows POSITIONAL JOIN line_numbers")
    return names


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


def _unpack(path: Path, plain: Path) -> None:
    """A gzip file as text at `plain`; unpacked here because a cut one must not pass for a short one."""
    try:
        with gzip.open(path, "rb") as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadData(f"{path.name} is a damaged or cut gzip file: {error}") from error
    if not plain.stat().st_size:
        raise BadData(f"{path.name} is empty")


def _header(path: Path, name: str, renamed: Mapping[str, str]) -> tuple[list[str], str]:
    """The names in the first line and the delimiter between them: of the usual four, the one that finds most names."""
    with path.open("rb") as file:
        line = file.readline(MAX_LINE + 2)
    if len(line.rstrip(b"\r\n")) > MAX_LINE:
        raise BadData(f"{name}: line 1 is longer than {MAX_LINE:,} bytes")
    if b"\0" in line:
        raise BadData(f"{name}: line 1 holds a NUL byte; this is not a text file")
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise BadData(f"{name}: line 1 is not UTF-8 (byte {error.start + 1})") from error
    split = {delimiter: next(csv.reader([text], delimiter=delimiter), []) for delimiter in ",;\t|"}

    def fit(delimiter: str) -> tuple[int, int]:
        words = split[delimiter]
        return sum(_plain(word) in _KNOWN or word in renamed.values() for word in words), len(words)

    delimiter = max(split, key=fit)
    return split[delimiter], delimiter


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
        if names.count(column) > 1:
            raise BadData(f"{file}: the column {column!r} stands {names.count(column)} times in line 1")
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
    lines = [part.strip().rstrip(".") for part in str(error).splitlines() if part.strip()]
    at = next((k for k, part in enumerate(lines) if "CSV Error on Line: " in part), None)
    if at is not None:
        rest = [part for part in lines[at + 1 :] if not part.startswith("Original Line")]
        what = rest[0] if rest else "it does not fit the header"
        return f"line {lines[at].rpartition(' ')[2]}: {_told(what)}"
    # The file has a name of ours while it is read, which tells its user nothing.
    text = re.sub(r" ?(file )?['\"][^'\"]*/source['\"]", "", lines[0]) if lines else type(error).__name__
    return text.removeprefix("Invalid Input Error: ").removesuffix(" at end of")[:200]


def _told(what: str) -> str:
    columns = re.fullmatch(r"Expected Number of Columns: (\d+) Found: (\d+)", what)
    if columns:
        return f"{columns[2]} fields, the header has {columns[1]}"
    if what.startswith("Invalid unicode"):
        return "is not UTF-8"
    return what[:160]
