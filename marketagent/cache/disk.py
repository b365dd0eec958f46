"""The cache in a folder, shared by all processes: diskcache for the values, ``flock`` for the single flights.

diskcache's own locks hang for ever when their holder is killed, or are let go by whoever is late (RELIABILITY, E3).
A cache is not worth an error: a damaged one is put aside and made anew, and on a full or failing disk the work goes
on without. Only a folder that others may enter is refused, for they could plant answers in it.
"""

import fcntl
import os
import re
import sqlite3
import stat
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from diskcache import Cache as Store
from diskcache import Timeout
from diskcache.core import DEFAULT_SETTINGS, METADATA

from marketagent import home as homes
from marketagent.cache.base import Cache, Release
from marketagent.cache.safe import Planted, SafeDisk
from marketagent.errors import BadConfig, Busy, NotPermitted
from marketagent.store.turnstile import held

FILE = "cache.db"
ASIDE = "cache.db.damaged"
LOCKS = "locks"
MOST_BYTES = 1024 * 1024 * 1024
_BUSY_S = 1.0  # a cache that takes longer is slower than asking again
_LITTER_S = 3600.0  # older than any write takes
_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_FAILING = {  # the disk, not the file (sqlite.org/rescode.html); any other code says that the file is not ours or damaged
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOMEM,
}
_PLAIN = re.compile(r"[a-z-]{0,40}", re.ASCII)


class DiskCache(Cache):
    """Values in ``cache.db`` and, where large, in files beside it; a lock file a key that is in flight."""

    def __init__(
        self, folder: Path, now: Callable[[], float], tell: Callable[[str], None], most_bytes: int = MOST_BYTES
    ) -> None:
        super().__init__(now)
        self._folder = folder
        self._tell = tell
        self._most_bytes = most_bytes
        self._usable = True
        self._store: Any = None
        try:
            _make_private(folder)
            self._store = self._opened()
        except (OSError, sqlite3.Error, Busy) as error:
            self._give_up(error)

    def sweep(self) -> int:
        removed = self._done(lambda store: store.expire() + store.cull()) or 0
        old = time.time() - _LITTER_S  # against the clock of the file system, which stamped the files
        return removed + self._sweep_locks(old) + self._sweep_values(old)

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _read(self, key: str) -> str | None:
        text = self._done(lambda store: store.get(key))
        return text if isinstance(text, str) else None

    def _write(self, key: str, text: str, ttl_s: float) -> None:
        self._done(lambda store: store.set(key, text, expire=ttl_s))

    def _remove(self, key: str) -> None:
        self._done(lambda store: store.delete(key))

    def _done(self, step: Callable[[Any], Any]) -> Any:
        """What `step` does with the store; None where it could not, for no failure of a cache stops a command."""
        if self._store is None:
            return None
        try:
            return step(self._store)
        except Timeout:
            return None  # somebody writes: asking the provider is the quicker way
        except Planted:
            self._renew()
        except sqlite3.Error as error:
            if _code(error) in _FAILING:
                self._give_up(error)
            elif _code(error) not in _LOCKED:
                self._renew()
        except OSError as error:
            self._give_up(error)
        return None

    def _opened(self) -> Any:
        try:
            return self._try_open()
        except _Damaged:
            with held(self._folder / FILE, _BUSY_S * 10):
                try:
                    return self._try_open()  # another process was quicker
                except _Damaged:
                    self._put_aside()
                    return self._try_open()

    def _try_open(self) -> Any:
        _check_settings(self._folder / FILE)
        try:
            return Store(
                str(self._folder),
                timeout=_BUSY_S,
                disk=SafeDisk,
                **DEFAULT_SETTINGS | {"size_limit": self._most_bytes},  # all of them: the file has no say
            )
        except sqlite3.Error as error:
            if _code(error) in _FAILING | _LOCKED:
                raise
            raise _Damaged from error

    def _renew(self) -> None:
        """Put the store aside and open a new one; without one if that fails, too."""
        self.close()
        try:
            with held(self._folder / FILE, _BUSY_S * 10):
                self._put_aside()
            self._store = self._opened()
        except (OSError, sqlite3.Error, Busy, _Damaged) as error:
            self._give_up(error)

    def _put_aside(self) -> None:
        """Keep one damaged file for who wants to look at it; its log goes with the name, or it would spoil the next."""
        for end in ("-wal", "-shm"):
            (self._folder / (FILE + end)).unlink(missing_ok=True)
        if (self._folder / FILE).exists():
            (self._folder / FILE).replace(self._folder / ASIDE)
            self._tell(
                f"the cache in {self._folder} holds what `ma` did not write; it is now {ASIDE}, and a new one is used"
            )

    def _give_up(self, error: Exception) -> None:
        self.close()
        if self._usable:
            self._usable = False
            self._tell(f"the cache in {self._folder} cannot be used ({error}); going on without it")

    def _try_lock(self, key: str) -> Release | None:
        path = self._folder / LOCKS / f"{sha256(key.encode()).hexdigest()[:40]}.lock"
        try:
            handle = _locked(path)
        except OSError as error:
            self._give_up(error)
            return lambda: None  # two may fetch the same thing; neither is wrong
        return None if handle is None else lambda: _let_go(handle, path)

    def _sweep_locks(self, old: float) -> int:
        """Remove the lock files that killed processes left; nobody holds them."""
        removed = 0
        for path in sorted((self._folder / LOCKS).glob("*.lock")):
            if _is_older(path, old) and (handle := _locked(path)) is not None:
                _let_go(handle, path)
                removed += 1
        return removed

    def _sweep_values(self, old: float) -> int:
        """Remove the value files that no row names: of writers that were killed, and of a store put aside."""
        named = self._done(lambda store: {row[0] for row in store._sql("SELECT filename FROM Cache")})
        if named is None:
            return 0
        files = sorted(self._folder.glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/*.val"))
        orphans = [
            path for path in files if path.relative_to(self._folder).as_posix() not in named and _is_older(path, old)
        ]
        for path in orphans:
            path.unlink(missing_ok=True)
        return len(orphans)


class _Damaged(Exception):
    """``cache.db`` is no cache of ours."""


def _make_private(folder: Path) -> None:
    """Make `folder` for us alone; NotPermitted if it is there and is not, BadConfig if diskcache would go elsewhere."""
    if os.path.expandvars(folder) != str(folder):
        raise BadConfig(f"the folder of the cache is {folder}; its name must not hold a variable")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise NotPermitted(f"{folder} is a link or a file, not the folder of a cache; remove it")
    if status.st_uid != os.geteuid():
        raise NotPermitted(f"{folder} belongs to user id {status.st_uid}, not to you ({os.geteuid()}); remove it")
    if mode := stat.S_IMODE(status.st_mode) & 0o077:
        raise NotPermitted(f"others may enter {folder} (mode {mode:03o} beyond yours); run: chmod 700 {folder}")
    if kind := homes.network_filesystem(folder):
        raise NotPermitted(f"{folder} is on {kind}, where locks cannot be trusted; use a local folder")
    (folder / LOCKS).mkdir(mode=0o700, exist_ok=True)


def _check_settings(path: Path) -> None:
    """Refuse settings that diskcache does not know: it would run them as a pragma or set them on itself."""
    if not path.exists():
        return
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_S)
    try:
        settings = dict(connection.execute("SELECT key, value FROM Settings").fetchall())
    except sqlite3.OperationalError as error:
        if _code(error) == sqlite3.SQLITE_ERROR:
            return  # no such table: a new file, or one that another process is just making
        raise
    except sqlite3.DatabaseError as error:
        raise _Damaged from error  # no database, or its pages make no sense
    finally:
        connection.close()
    if not settings.keys() <= {*DEFAULT_SETTINGS, *METADATA} or not all(map(_is_plain, settings.values())):
        raise _Damaged


def _locked(path: Path) -> int | None:
    """`path` opened and locked, if nobody has it and it still is the file of that name."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), path.stat()):
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass  # held, or deleted by its holder just now: look again
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)
    return None


def _let_go(handle: int, path: Path) -> None:
    path.unlink(missing_ok=True)  # while it is held: who opened it meanwhile sees that it is another file's name
    os.close(handle)


def _is_older(path: Path, than: float) -> bool:
    try:
        return path.lstat().st_mtime < than
    except FileNotFoundError:
        return False


def _is_plain(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and _PLAIN.fullmatch(value) is not None)


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
