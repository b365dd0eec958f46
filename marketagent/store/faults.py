"""What an error of DuckDB means to a user: DuckDB has classes and sentences, but no codes, so sentences are matched.

The sentences are those of DuckDB 1.5 and of the C library under it; the tests provoke each of them.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from marketagent.errors import BadData, DiskError, MarketAgentError, NotPermitted

_DISK = {
    "No space left on device": "the disk is full",
    "Disk quota exceeded": "the disk quota is used up",
    "File too large": "the file may not grow any further",
    "Input/output error": "the disk fails",
}
_PERMISSION = ("Permission denied", "Read-only file system", "Operation not permitted")
_DAMAGE = ("Corrupt database file", "Could not read enough bytes", "Failed to deserialize", "WAL does not match")
_NEWER = ("Trying to read a database file with version number", "newer version of DuckDB")


@contextmanager
def translated(path: Path, *, opening: bool) -> Iterator[None]:
    """DuckDB's errors about the file at `path` as ours; an error in somebody's SQL passes unchanged.

    While `opening` a file no SQL of a user runs: whatever fails then is the file.
    """
    try:
        yield
    except duckdb.Error as error:
        found = meaning(error, path, opening=opening)
        if found is None:
            raise
        raise found from error


def is_disk(error: duckdb.Error) -> bool:
    """Whether `error` says that a disk is full or fails, whichever file it is about."""
    return any(sentence in str(error) for sentence in _DISK)


def meaning(error: duckdb.Error, path: Path, *, opening: bool) -> MarketAgentError | None:
    """Our error for DuckDB's, or None when it is not about `path`."""
    text = str(error)
    if isinstance(error, duckdb.ProgrammingError):
        return None  # SQL that is wrong, or an installation that is: no file can cause it
    if not opening and not _is_about(error, text, path):
        return None
    for sentence, what in _DISK.items():
        if sentence in text:
            return DiskError(f"{what} at {path}; nothing of this run was stored; free space and run again")
    for sentence in _PERMISSION:
        if sentence in text:
            text = f"{sentence.lower()} at {path}; nothing of this run was stored; give yourself write access"
            return NotPermitted(text)
    if any(sentence in text for sentence in _NEWER):
        return BadData(f"{path} was made by a newer DuckDB; it was not touched; update Market Agent")
    if "not a valid DuckDB database file" in text or "sqlite_scanner" in text:
        return BadData(f"{path} is not a Market Agent database; it was not touched")
    if opening or any(sentence in text for sentence in _DAMAGE):
        return BadData(f"{path} is damaged; it was not touched; restore it from a backup ({_first_line(text)})")
    return None


def _is_about(error: duckdb.Error, text: str, path: Path) -> bool:
    """Whether a failed statement failed in this file: the engine's own classes, and no other file named."""
    if isinstance(error, duckdb.DataError | duckdb.IntegrityError):
        return False
    named = re.search(r'"([^"]*/[^"]*)"', text)
    return named is None or named[1].startswith(str(path.resolve())) or named[1].startswith(str(path))


def _first_line(text: str) -> str:
    return text.partition("\n")[0][:200]
