"""The DuckDB files of a home: opened behind the turnstile for one read or one write, and closed again.

Why so short: DuckDB lets one process write or many read, never both, so whoever keeps a file open stops the next
command of the pipe. A write is one transaction; it counts the file's generation up and reads it back, because DuckDB
takes the COMMIT of a failed transaction without a word, and drops the tail of a damaged write-ahead log likewise. The
last generation is also kept beside the file (``<file>.gen``): a file behind it has lost commits, and is refused.

Nothing here makes a file but `create`: DuckDB itself would put an empty database where a lost one was.
"""

import os
import random
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from marketagent.errors import BadData, Busy, MarketAgentError, NoData
from marketagent.home import disk_error, sync_folder
from marketagent.store import faults
from marketagent.store.connection import Connection
from marketagent.store.turnstile import TIMEOUT_S, held

KINDS = ("market", "opinions", "runs")

_MIGRATIONS = Path(__file__).parent / "migrations"
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
}
_CLOSED = {"enable_external_access": False, "python_enable_replacements": False}


@dataclass(frozen=True)
class _Meta:
    """What a file says of itself: what it holds, by which migration, and how often it was written."""

    kind: str
    schema: int
    generation: int


def create(path: Path) -> bool:
    """Make the database that `path` names (``market.duckdb``: market) if it is not there; True if it was made.

    It appears whole, at once, under its name. Raises BadData when an earlier one was lost.
    """
    kind = _kind(path)
    if path.exists():
        return False
    with held(path.resolve()), faults.translated(path, opening=True):
        if path.exists():
            return False
        _refuse_lost(path)
        try:
            _build(path, kind)
        except OSError as error:
            raise disk_error(error, path) from error
    return True


@contextmanager
def opened(
    path: Path, *, write: bool = False, external_access: bool = True, timeout_s: float = TIMEOUT_S
) -> Iterator[Connection]:
    """The database, for as short as one read or one write; the lock is held until the block ends.

    A write commits when the block ends and rolls back on any exception. A file of an older schema is brought up to date
    first, by readers too. `external_access` off is for SQL that a user typed: no file but this one, no Python variable.
    Keep no cursor or relation beyond the block: it would keep the file open.

    Raises NoData, Busy, BadData, DiskError or NotPermitted; errors in the caller's own SQL stay duckdb's.
    """
    _require(path)
    deadline = time.monotonic() + timeout_s
    with held(path.resolve(), timeout_s):
        _require(path)  # again: it may have been moved away while we waited
        connect = partial(_connect, path, deadline=deadline, timeout_s=timeout_s)
        with faults.translated(path, opening=True):
            connection = _ready(path, connect, write=write, external_access=external_access)
        try:
            with faults.translated(path, opening=False):
                if write:
                    with _transaction(connection, path):
                        yield Connection(connection)
                else:
                    yield Connection(connection)
        finally:
            connection.close()


def generation_file(path: Path) -> Path:
    """Where the last known generation of `path` is kept."""
    return path.with_name(path.name + ".gen")


def _kind(path: Path) -> str:
    if path.stem not in KINDS or path.suffix != ".duckdb":
        raise ValueError(f"{path.name} names no database of Market Agent: {', '.join(KINDS)}")
    return path.stem


def _require(path: Path) -> None:
    """Refuse what is not a file before DuckDB tries it: it would make one, or wait for ever at a pipe."""
    try:
        status = path.stat()
    except FileNotFoundError:
        _refuse_lost(path)
        raise NoData(f"no data in {path.parent} yet; run: ma fetch SYMBOL, or ma init") from None
    except OSError as error:
        raise disk_error(error, path) from error
    if not stat.S_ISREG(status.st_mode):
        raise BadData(f"{path} is not a file; it was not touched")


def _refuse_lost(path: Path) -> None:
    left = [file for file in (generation_file(path), _log(path)) if file.exists()]
    if left:
        rest = " ".join(str(file) for file in left)
        raise BadData(
            f"{path} was written before and is gone; restore it, or give it up with: rm {rest}; then: ma init"
        )


def _log(path: Path) -> Path:
    """DuckDB's write-ahead log of `path`."""
    return path.with_name(path.name + ".wal")


def _build(path: Path, kind: str) -> None:
    draft = path.with_name(f"{path.name}.new")
    for rest in (draft, _log(draft)):
        rest.unlink(missing_ok=True)  # of an attempt that was killed
    connection = duckdb.connect(str(draft), config=_CONFIG)
    try:
        connection.execute("BEGIN")
        connection.execute(
            "CREATE TABLE ma_meta (kind VARCHAR NOT NULL, schema INTEGER NOT NULL, generation BIGINT NOT NULL)"
        )
        steps = _steps(kind)
        for step in steps:
            connection.execute(step)
        connection.execute(f"INSERT INTO ma_meta VALUES ('{kind}', {len(steps)}, 0)")
        connection.execute("COMMIT")
        connection.execute("CHECKPOINT")  # all in the one file that is about to get its name
    finally:
        connection.close()
    draft.chmod(0o600)
    draft.rename(path)
    sync_folder(path.parent)


def _steps(kind: str) -> list[str]:
    """The SQL of each migration, in order: file 001 makes schema 1."""
    return [file.read_text(encoding="utf-8") for file in sorted((_MIGRATIONS / kind).glob("[0-9][0-9][0-9]_*.sql"))]


def _ready(
    path: Path, connect: Callable[..., DuckDBPyConnection], *, write: bool, external_access: bool
) -> DuckDBPyConnection:
    """A connection to a file that is whole, ours, of the current schema and not behind its generation."""
    connection = connect(write=write, external_access=external_access)
    try:
        behind = _checked(connection, path).schema < len(_steps(_kind(path)))
    except BaseException:
        connection.close()
        raise
    if not behind:
        return connection
    connection.close()
    _migrate(path, connect)
    return connect(write=write, external_access=external_access)


def _connect(
    path: Path, *, deadline: float, timeout_s: float, write: bool = True, external_access: bool = True
) -> DuckDBPyConnection:
    """DuckDB's own lock is waited for too: a tool that knows nothing of the turnstile may have the file open."""
    while True:
        try:
            config = _CONFIG if external_access else _CONFIG | _CLOSED
            connection = duckdb.connect(str(path), read_only=not write, config=config)
            break
        except duckdb.Error as error:
            outsider = _outsider(error)
            if outsider is None:
                raise
            if time.monotonic() >= deadline:
                text = f"busy: {path.name} is held by {outsider}; waited {timeout_s:g} s; nothing was changed"
                raise Busy(text) from error
            time.sleep(random.uniform(0.02, 0.1))  # noqa: S311  (jitter between retries)
    try:
        connection.execute("SET TimeZone = 'UTC'; SET lock_configuration = true")
    except BaseException:
        connection.close()
        raise
    return connection


def _outsider(error: duckdb.Error) -> str | None:
    """Who holds DuckDB's own lock, if that is what the error says."""
    if isinstance(error, duckdb.ConnectionException) and "different configuration" in str(error):
        return f"another connection of this process (pid {os.getpid()})"
    found = re.search(r"Conflicting lock is held in (.+) \(PID (\d+)\)", str(error))
    if found:
        return f"pid {found[2]} ({Path(found[1]).name}), which opened it without ma"
    return "another program" if "Could not set lock on file" in str(error) else None


def _checked(connection: DuckDBPyConnection, path: Path) -> _Meta:
    try:
        row = connection.execute("SELECT kind, schema, generation FROM ma_meta").fetchone()
    except (duckdb.CatalogException, duckdb.BinderException):
        row = None
    if row is None:
        raise BadData(f"{path} is not a Market Agent database; it was not touched")
    meta = _Meta(*row)
    if meta.kind != _kind(path):
        raise BadData(f"{path} holds {meta.kind}, not {_kind(path)}; it was not touched")
    if meta.schema > len(_steps(meta.kind)):
        raise BadData(f"{path} was made by a newer Market Agent (schema {meta.schema}); update this one")
    if meta.generation < (last := _remembered(path)):
        raise BadData(
            f"{path} went back in time: it was written {meta.generation} times, and {last} times before; restore it, "
            f"or accept it as it is with: rm {generation_file(path)}"
        )
    return meta


def _migrate(path: Path, connect: Callable[..., DuckDBPyConnection]) -> None:
    """Apply what is missing, a transaction each: killed in between, the next open goes on from there."""
    connection = connect(write=True)
    try:
        steps = _steps(_kind(path))
        for number in range(_checked(connection, path).schema + 1, len(steps) + 1):
            with _transaction(connection, path):
                connection.execute(steps[number - 1])
                connection.execute(f"UPDATE ma_meta SET schema = {number}")
    finally:
        connection.close()


@contextmanager
def _transaction(connection: DuckDBPyConnection, path: Path) -> Iterator[None]:
    generation = _generation(connection) + 1
    try:
        connection.execute("BEGIN")
        yield
        # Fails if a statement failed and nobody said so: the COMMIT of such a transaction would do nothing, silently.
        connection.execute(f"UPDATE ma_meta SET generation = {generation}")
        connection.execute("COMMIT")
    except BaseException:
        _roll_back(connection)
        raise
    if _generation(connection) != generation:
        raise MarketAgentError(f"{path} did not take the transaction; nothing of this run was stored; run again")
    _remember(path, generation)


def _generation(connection: DuckDBPyConnection) -> int:
    row = connection.execute("SELECT generation FROM ma_meta").fetchone()
    return int(row[0]) if row else -1


def _roll_back(connection: DuckDBPyConnection) -> None:
    try:
        connection.execute("ROLLBACK")
    except duckdb.Error:
        return  # a failed COMMIT has already ended the transaction; the error that brought us here is the one to tell


def _remembered(path: Path) -> int:
    file = generation_file(path)
    try:
        text = file.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise disk_error(error, file) from error
    if not text:
        return 0  # the power went between making it and filling it
    if not text.strip().isdecimal():
        raise BadData(f"{file} is damaged; if {path.name} is the latest you have, run: rm {file}")
    return int(text)


def _remember(path: Path, generation: int) -> None:
    """Keep the generation beside the file: one small write in place, which a kill cannot cut and a full disk not stop.

    After the commit, so that it may lag behind the file (a kill in between) but never lead it.
    """
    try:
        handle = os.open(generation_file(path), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(handle, f"{generation:020d}\n".encode(), 0)
        finally:
            os.close(handle)
    except OSError:
        return  # what was asked for is stored; a guard that lags one write is no reason to say otherwise
