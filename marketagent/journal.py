"""The journal: what was promised to a broker. One SQLite file, written by many processes, never half, never lost.

Not DuckDB, because a flipped bit in its log drops transactions silently, and opening it is ten times dearer
(RELIABILITY, E2 and E1.2). Here every commit is on the disk before it returns (WAL, ``synchronous=FULL``).

A home that had a journal and has none now is refused: with an empty one, every order would be sent again.
"""

import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from marketagent import home as homes
from marketagent.errors import BadData, Busy, DiskError, MarketAgentError, NoData, NotPermitted
from marketagent.store.turnstile import TIMEOUT_S, held

FILE = "journal.sqlite3"

_MIGRATIONS = Path(__file__).parent / "journal_migrations"
_APPLICATION = 0x6D61_6A6E  # "majn" in the header: somebody else's SQLite file is told from ours
_WRITER_BYTE = 120  # of the -shm file, locked by who writes (sqlite.org/walformat.html, 2.3.1)


class Journal:
    """An open journal. Single statements stand for themselves; what belongs together goes in a `transaction`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, timeout_s: float) -> None:
        self._connection = connection
        self._path = path
        self._timeout_s = timeout_s

    def execute(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        """One statement; rows can be read by name. Constraint errors stay sqlite3's."""
        with _translated(self._path, self._timeout_s):
            return self._connection.execute(sql, values)

    def rows(self, sql: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[sqlite3.Row]:
        """Every row that answers, read while errors can still be told."""
        with _translated(self._path, self._timeout_s):
            return self._connection.execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator["Journal"]:
        """All of the block or nothing of it, alone among writers from its first line. Keep it short.

        Durable when the block has ended. Not to be nested.
        """
        self.execute("BEGIN IMMEDIATE")
        try:
            yield self
            self.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        if not self._connection.in_transaction:
            return  # a full disk makes SQLite roll back by itself
        try:
            self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            return  # closing the file does the same; the error that brought us here is the one to tell


def create(home: Path) -> bool:
    """Make the journal of a new home; True if it was not there. It appears whole, at once, under its name.

    Raises BadData when the home is marked as complete: then its journal was lost.
    """
    path = home / FILE
    if path.exists():
        return False
    with held(path), _translated(path, TIMEOUT_S):
        if path.exists():
            return False
        if homes.is_marked(home):
            raise _lost(path)
        try:
            _build(path)
        except OSError as error:
            raise homes.disk_error(error, path) from error
    return True


@contextmanager
def opened(home: Path, *, timeout_s: float = TIMEOUT_S) -> Iterator[Journal]:
    """The journal of `home`, brought up to date; other processes may have it open at the same time.

    Raises NoData, BadData, Busy, DiskError or NotPermitted.
    """
    path = home / FILE
    _require(home, path)
    with _translated(path, timeout_s):
        connection = _connect(path, timeout_s)
    try:
        journal = Journal(connection, path, timeout_s)
        _migrate(journal, path)
        yield journal
    finally:
        connection.close()


def _lost(path: Path) -> BadData:
    return BadData(
        f"{path.name} is missing from a home that had one ({path.parent}); restore it from a backup: "
        f"without it, orders could be sent twice"
    )


def _require(home: Path, path: Path) -> None:
    """Refuse what is not a file before SQLite tries it: it takes an empty file for an empty journal."""
    try:
        status = path.stat()
    except FileNotFoundError:
        if homes.is_marked(home):
            raise _lost(path) from None
        raise NoData(f"no data in {home} yet; run: ma fetch SYMBOL, or ma init") from None
    except OSError as error:
        raise homes.disk_error(error, path) from error
    if not stat.S_ISREG(status.st_mode):
        raise BadData(f"{path} is not a file; it was not touched")
    if mode := stat.S_IMODE(status.st_mode) & 0o077:
        raise NotPermitted(f"others may use {path} (mode {mode:03o} beyond yours); run: chmod 600 {path}")
    if status.st_size == 0:
        raise BadData(f"{path} is empty; it was not touched; restore it from a backup")


def _build(path: Path) -> None:
    draft = path.with_name(f"{path.name}.new")
    for end in ("", "-wal", "-shm", "-journal"):
        draft.with_name(draft.name + end).unlink(missing_ok=True)  # of an attempt that was killed
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = _connect(draft, TIMEOUT_S)
    try:
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        # Stays with the file. Never set on opening: in a file that is not ours, it would write.
        connection.execute("PRAGMA journal_mode = WAL")
        _migrate(Journal(connection, draft, TIMEOUT_S), draft)
    finally:
        connection.close()  # moves the log into the file, so that one rename moves all of it
    draft.rename(path)
    homes.sync_folder(path.parent)


def _connect(path: Path, timeout_s: float) -> sqlite3.Connection:
    # rw: SQLite must not make the file where there is none, whoever deletes it between our look and its.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=timeout_s, isolation_level=None
    )
    try:
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA checkpoint_fullfsync = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(journal: Journal, path: Path) -> None:
    """Apply what is missing in one transaction; the version is read again inside it, where nobody else writes."""
    steps = _steps()
    if _version(journal, path, len(steps)) == len(steps):
        return
    with journal.transaction():
        for number in range(_version(journal, path, len(steps)) + 1, len(steps) + 1):
            for statement in _statements(steps[number - 1]):
                journal.execute(statement)
            journal.execute(f"PRAGMA user_version = {number}")


def _version(journal: Journal, path: Path, latest: int) -> int:
    if journal.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
        raise BadData(f"{path} is not a Market Agent journal; it was not touched")
    version = int(journal.execute("PRAGMA user_version").fetchone()[0])
    if version > latest:
        raise BadData(f"{path} was made by a newer Market Agent (schema {version}); update this one")
    return version


def _steps() -> list[str]:
    """The SQL of each migration, in order: file 001 makes version 1."""
    return [file.read_text(encoding="utf-8") for file in sorted(_MIGRATIONS.glob("[0-9][0-9][0-9]_*.sql"))]


def _statements(script: str) -> Iterator[str]:
    """The statements of a script. `executescript` would do, but it commits the transaction it is called in."""
    statement = ""
    for part in script.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):  # not inside a text, a comment or a trigger
            yield statement
            statement = ""


@contextmanager
def _translated(path: Path, timeout_s: float) -> Iterator[None]:
    """SQLite's errors about the file as ours; an error in a statement passes unchanged."""
    try:
        yield
    except sqlite3.Error as error:
        found = _meaning(error, path, timeout_s)
        if found is None:
            raise
        raise found from error


def _meaning(error: sqlite3.Error, path: Path, timeout_s: float) -> MarketAgentError | None:
    """Our error for SQLite's result code (sqlite.org/rescode.html), None when it is about a statement."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return Busy(f"busy: {path.name} is held by {_writer(path)}; waited {timeout_s:g} s; nothing was changed")
    if code == sqlite3.SQLITE_FULL:
        return DiskError(f"the disk is full at {path}; nothing of this step was stored; free space and run again")
    if code == sqlite3.SQLITE_IOERR:
        return DiskError(
            f"{path} cannot be read or written ({error}); nothing of this step was stored; "
            f"look at the disk's space and quota, and run again"
        )
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH}:
        return NotPermitted(f"{path} cannot be written ({error}); give yourself write access to it and its folder")
    if code == sqlite3.SQLITE_NOTADB:
        return BadData(f"{path} is not a Market Agent journal; it was not touched")
    if code == sqlite3.SQLITE_CORRUPT:
        return BadData(f"{path} is damaged ({error}); it was not touched; restore it from a backup")
    return None


def _writer(path: Path) -> str:
    """The process that holds the write lock, where the kernel tells (Linux, proc(5): /proc/locks)."""
    try:
        inode = path.with_name(path.name + "-shm").stat().st_ino
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        return "another process"  # it is busy all the same
    for line in locks.splitlines():
        words = line.split()
        if words[1:2] == ["POSIX"] and words[3] == "WRITE" and words[5].endswith(f":{inode}"):
            first, last = int(words[6]), words[7]
            if first <= _WRITER_BYTE and (last == "EOF" or int(last) >= _WRITER_BYTE):
                return f"pid {words[4]}"
    return "another process"
