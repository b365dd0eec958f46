"""What a process gets from the system: three descriptors, its signals, and a stdout that may fail.

Descriptors come first: with stdout closed, the next file opened would become descriptor 1, and one stray
print would overwrite the head of a database.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TextIO

from marketagent.errors import DiskError

_PATIENCE_MS = 100
_BOUNCE_S = 2.0  # a key that bounces, or is pressed in impatience, is pressed once


class Terminated(BaseException):
    """SIGTERM arrived. A BaseException, so that no ``except Exception`` on the way takes it for a failed symbol."""


class ReaderGone(BrokenPipeError):
    """Whoever read our stdout has closed it, as ``head -1`` does."""


def open_descriptors() -> None:
    """Put /dev/null wherever descriptor 0, 1 or 2 is closed, and a file object wherever ``sys`` has None."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)  # a child expects three open descriptors, too
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as the process
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - same
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115 - same


_stopped: list[int] = []  # the signals of `terminable` that came, for whoever swallows the exception they raise


def signalled(error: BaseException) -> BaseException:
    """The signal behind `error`: DuckDB answers one that comes while it computes with an error of its own."""
    if isinstance(error, RuntimeError) and "Query interrupted" in str(error):
        return Terminated("terminated") if _stopped else KeyboardInterrupt()
    return error


def resume(signum: int | None) -> None:
    """Raise what a signal that an event loop took in would have raised: Terminated, KeyboardInterrupt, or nothing."""
    if signum == signal.SIGTERM:
        raise Terminated("terminated")
    if signum is not None:
        raise KeyboardInterrupt


class Stops:
    """SIGINT and SIGTERM while something is under way of which a part can be kept (see ``stoppable``).

    One raises KeyboardInterrupt or Terminated, and those of the next two seconds are the same one: they cannot cut short
    what the first has begun. After `hold` none raises, until `release`. `came` is the first of all.
    """

    def __init__(self) -> None:
        self.came: int | None = None
        self._held, self._deaf_until = False, 0.0

    def hold(self) -> None:
        self._held = True

    def release(self) -> None:
        """Let one raise again, after two seconds: what is still to be done takes no longer, or hangs."""
        self._held, self._deaf_until = False, time.monotonic() + _BOUNCE_S

    def listen(self) -> None:
        """Let one raise again at once, for there is more to do; raises what has come meanwhile."""
        self._held = False
        self.resume()

    def resume(self) -> None:
        """Raise what has come, if anything, be it for the second time."""
        resume(self.came)

    def arrived(self, signum: int, frame: FrameType | None) -> None:
        """The handler of both."""
        if self.came is None:
            self.came = signum
        if self._held or time.monotonic() < self._deaf_until:
            return
        self._deaf_until = time.monotonic() + _BOUNCE_S
        if signum == signal.SIGTERM:
            _stopped.append(signum)
        resume(signum)


@contextmanager
def stoppable() -> Iterator[Stops]:
    """SIGINT and SIGTERM are told to the Stops for as long as this lasts; one that is ignored stays so.

    Once one has come, it is held for good: all that is left is to say so and to end.
    """
    stops = Stops()
    main_thread = threading.current_thread() is threading.main_thread()
    mine = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) is not signal.SIG_IGN]
    before = {one: signal.signal(one, stops.arrived) for one in mine if main_thread}  # as in `terminable`
    try:
        yield stops
    finally:
        stops.hold()
        if stops.came is None:
            for one, handler in before.items():
                signal.signal(one, handler)


_abandoned: list[str] = []  # why there are threads that may never end


def abandon(why: str) -> None:
    """Say that a thread is not waited for any more; what it still prints is kept off stdout."""
    _abandoned.append(why)
    sys.stdout = sys.stderr


def abandoned() -> bool:
    """Whether a thread may still be at work that nobody waits for: what it prints is not to get among records."""
    return bool(_abandoned)


def leave(code: int) -> NoReturn:
    """End the process; at once, if a thread was abandoned: the interpreter would wait for it for ever."""
    # Nothing is left to do: a second Ctrl-C now would only print a traceback of the interpreter's own exit.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:  # held: at its exit the interpreter would undo it
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if _abandoned:
        os._exit(code)
    sys.exit(code)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises Terminated inside, once: a second one does not cut the cleaning-up short."""

    def stop(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _stopped.append(signum)
        raise Terminated("terminated")

    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
        yield  # only the main thread may set a handler; and who started us ignoring SIGTERM meant it
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) in (stop, signal.SIG_IGN):  # else `stoppable` still holds it
            signal.signal(signal.SIGTERM, before)


def emit(data: bytes, stdout: TextIO | None = None) -> None:
    """Write `data` to stdout and flush it; raises ReaderGone or DiskError, and then stdout is silent."""
    stdout = sys.stdout if stdout is None else stdout
    with _failing_as_ours(stdout):
        stdout.flush()
        left = memoryview(data)
        while left:  # with PYTHONUNBUFFERED this is the bare descriptor, which may take only a part
            left = left[stdout.buffer.write(left) :]
        stdout.buffer.flush()


def emit_live(data: bytes, stdout: TextIO, *, gives_up: Callable[[], bool]) -> None:
    """Like `emit`, but a reader that does not read is waited for only until `gives_up`: then raises ReaderGone.

    Written to the descriptor itself: a thread that waits inside a file object holds its lock, and the process could
    not end without it.
    """
    try:
        descriptor = stdout.fileno()
    except (OSError, ValueError):
        emit(data, stdout)  # no descriptor below it, as in a test: nothing there can block
        return
    with _failing_as_ours(stdout):
        stdout.flush()
        ready, left = select.poll(), memoryview(data)
        ready.register(descriptor, select.POLLOUT)
        while left:
            while not ready.poll(_PATIENCE_MS):
                if gives_up():
                    raise ReaderGone("nobody reads")
            left = left[os.write(descriptor, left[: select.PIPE_BUF]) :]  # as much as a pipe that is ready must take


def flush() -> None:
    """Flush stdout while an error can still be told; raises like `emit`."""
    with _failing_as_ours(sys.stdout):
        sys.stdout.flush()


def reader_gone() -> bool:
    """Whether stdout is a pipe that nobody reads any more."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)  # errors and hang-ups are reported unasked
        return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
    except (OSError, ValueError):
        return False  # no descriptor behind it, so no pipe


def settle() -> None:
    """Leave nothing in stdout and stderr that the interpreter could fail on at its exit, after the last word."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            silence(stream)  # told already, or stderr itself: the exit code is all that is left


def silence(stream: TextIO) -> None:
    """Send what `stream` still holds to /dev/null, or the interpreter would fail on it again at its exit."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return  # no descriptor below it: nothing is left for the interpreter to flush
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


@contextmanager
def _failing_as_ours(stdout: TextIO) -> Iterator[None]:
    try:
        yield
    except ReaderGone:
        raise
    except BrokenPipeError as error:
        silence(stdout)
        raise ReaderGone(*error.args) from error
    except OSError as error:
        silence(stdout)
        raise DiskError(f"cannot write to stdout: {error.strerror}") from error
