"""The fair lock in front of a database file: who waits longest is next, and a dead holder frees it at once.

Two lock files, both ``flock``: ``<file>.lock`` is the lock, ``<file>.lock.gate`` the turnstile before it. One
waiter passes the gate, waits for the lock and only then lets the next one into the gate; the others stand in the
kernel's queue. With the lock alone, readers that overlap kept a writer out for 10 s of 10 (RELIABILITY, E1.3).

A wait has a deadline, ``flock`` has none: the waiting is done by a thread, which gives back what it gets when
nobody wants it any more. Polling would need no thread, but lets whoever comes at the right moment go first.

The files stay for ever: a lock on a deleted file keeps nobody out. They hold the name of the holder.
"""

import fcntl
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from marketagent.errors import Busy
from marketagent.home import disk_error

TIMEOUT_S = 60.0


@contextmanager
def held(path: Path, timeout_s: float = TIMEOUT_S) -> Iterator[None]:
    """Be the only one, in this process or another, who is past the turnstile of `path`.

    Raises Busy with the holder's name after `timeout_s`. Not re-entrant: a second `held` on the same file
    waits for the first.
    """
    lock = _acquired(path, timeout_s)
    try:
        _sign(lock)
        yield
    finally:
        os.close(lock)  # the kernel does the same when the process dies


def lock_file(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def gate_file(path: Path) -> Path:
    return path.with_name(path.name + ".lock.gate")


def _acquired(path: Path, timeout_s: float) -> int:
    start = time.monotonic()
    lock = _try_now(path)
    if lock is not None:
        return lock
    waiter = _Waiter(path)
    lock = waiter.result(timeout_s - (time.monotonic() - start))
    if lock is None:
        raise Busy(f"busy: {path.name} is held by {_holder(path)}; waited {timeout_s:g} s; nothing was changed")
    return lock


def _try_now(path: Path) -> int | None:
    """The lock if nobody holds it and nobody waits, without the price of a thread."""
    try:
        gate = _locked(gate_file(path), fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            return _locked(lock_file(path), fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(gate)
    except BlockingIOError:
        return None


class _Waiter:
    """A place in the queue of `path`, held by a thread that can be walked away from."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()  # between handing over and walking away
        self._done = threading.Event()
        self._wanted = True
        self._lock: int | None = None
        self._error: Exception | None = None
        # A daemon: a command that gave up must be able to end while the kernel still holds its place.
        threading.Thread(target=self._wait, name=f"turnstile {path.name}", daemon=True).start()

    def result(self, timeout_s: float) -> int | None:
        """The locked file, or None once `timeout_s` is over; the lock is never lost in between."""
        try:
            self._done.wait(max(0.0, timeout_s))
            with self._guard:
                self._wanted = False
                if self._error is None:
                    return self._lock
        except BaseException:  # an interrupt: nobody else will close what the thread gets
            self._walk_away()
            raise
        raise self._error

    def _walk_away(self) -> None:
        with self._guard:
            self._wanted = False
            if self._lock is not None:
                os.close(self._lock)

    def _wait(self) -> None:
        try:
            gate = _locked(gate_file(self._path), fcntl.LOCK_EX)
            try:
                self._hand_over(_locked(lock_file(self._path), fcntl.LOCK_EX) if self._wanted else None)
            finally:
                os.close(gate)
        except Exception as error:  # raised again where the caller waits
            self._error = error
        self._done.set()

    def _hand_over(self, lock: int | None) -> None:
        with self._guard:
            if self._wanted:
                self._lock = lock
            elif lock is not None:
                os.close(lock)


def _locked(file: Path, how: int) -> int:
    """`file` opened and locked, and still the file that bears that name; BlockingIOError if `how` may not wait."""
    while True:
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise disk_error(error, file) from error
        try:
            fcntl.flock(handle, how)
            if _is_current(handle, file):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # deleted while we waited: the next command would lock another file


def _is_current(handle: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), file.stat())
    except FileNotFoundError:
        return False


def _sign(lock: int) -> None:
    """Leave the holder's name in the lock file, for whoever has to report that it waited in vain."""
    name = {"pid": os.getpid(), "host": os.uname().nodename, "command": _command()}
    since = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    text = json.dumps({**name, "since": since}).encode()
    try:
        os.pwrite(lock, text.ljust(_LINE) + b"\n", 0)
    except OSError:
        return  # a full disk: the lock holds without a name, and the write behind it says what is wrong


_LINE = 400


def _command() -> str:
    """What runs, as its user typed it, without options or symbols: ``ma fetch``."""
    program = Path(sys.argv[0] if sys.argv else "python").name[:60]
    word = next((word for word in sys.argv[1:2] if word.isalnum()), "")
    return f"{program} {word[:60]}".strip()


def _holder(path: Path) -> str:
    try:
        holder = json.loads(lock_file(path).read_text(encoding="utf-8"))
        place = "" if holder["host"] == os.uname().nodename else f" on {holder['host']}"
        text = f"pid {holder['pid']} ({holder['command']}){place} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # it could not write its name; that it is busy is still true
    return "".join(sign for sign in text if sign.isprintable())
