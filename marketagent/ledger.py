"""The journal as the network's counters use it: opened at the first question, opened again after a failure.

Commits here are not synced to the disk one by one (``synchronous=NORMAL``): they survive every death of a process,
which is what a rate window needs, and a power cut costs at most the last of them. A commit of `ma trade` syncs the
log as a whole (sqlite.org/wal.html), so nothing of an order depends on it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from marketagent import journal
from marketagent.errors import Busy, MarketAgentError
from marketagent.journal import Journal
from marketagent.world import sane

TIMEOUT_S = 5.0  # transactions here take microseconds; who waits longer has a sick disk before it


class Ledger:
    """One connection of one thread; `close` it. Reading and writing raise what `journal.opened` raises."""

    def __init__(self, home: Path, now: Callable[[], float], *, timeout_s: float = TIMEOUT_S) -> None:
        self._home = home
        self._now = now
        self._timeout_s = timeout_s
        self._stack = ExitStack()
        self._book: Journal | None = None

    @contextmanager
    def transaction(self) -> Iterator[tuple[Journal, float]]:
        """The journal alone among writers, and the time: read inside, for who waits for the lock grows older."""
        with self._careful() as book, book.transaction():
            yield book, sane(self._now())

    @contextmanager
    def reading(self) -> Iterator[tuple[Journal, float]]:
        """The journal for a look, and the time."""
        with self._careful() as book:
            yield book, sane(self._now())

    def close(self) -> None:
        self._book = None
        self._stack.close()

    @contextmanager
    def _careful(self) -> Iterator[Journal]:
        try:
            yield self._opened()
        except Busy:
            raise  # nothing is wrong with the file
        except MarketAgentError:
            self.close()  # the file may be another one the next time: replaced, repaired, freed
            raise

    def _opened(self) -> Journal:
        if self._book is None:
            book = self._stack.enter_context(journal.opened(self._home, timeout_s=self._timeout_s))
            book.execute("PRAGMA synchronous = NORMAL")
            self._book = book
        return self._book
