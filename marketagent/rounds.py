"""When a running stage decides: which bars have closed, told from the lines of a live stream and the time they came at.

A bar is decided on once, as soon as its last minute has come of every symbol that had a bar this session; or a short
grace after it came of the first one, for a minute without a trade has no bar; or when a later bar comes. In the first
round of a session nobody knows which symbols there will be: it waits for the grace.
"""

from dataclasses import dataclass, field
from datetime import date, datetime

GRACE_S = 0.4


@dataclass(frozen=True)
class Round:
    """One bar to decide on, by its start, and the symbols to decide on: those expected, and those that had a bar."""

    bar: datetime
    symbols: frozenset[str]


@dataclass
class Rounds:
    """Fed with what comes; every method gives the rounds that are to be made now, in order."""

    grace_s: float = GRACE_S
    late: int = 0
    expected: frozenset[str] = frozenset()
    _symbols: set[str] = field(default_factory=set)
    _session: date | None = None
    _met: bool = False
    _open: datetime | None = None
    _closed: datetime | None = None
    _here: set[str] = field(default_factory=set)
    _since: float = 0.0

    def take(self, symbol: str, bar: datetime, now: float, *, is_last: bool) -> list[Round]:
        """A minute of `bar` has come of `symbol` at the instant `now` (seconds); `is_last`: it is the last one of it."""
        if (self._closed and bar <= self._closed) or (self._open and bar < self._open):
            self.late += 1  # its round is over; the next one sees it in the store, and waits for the symbol
            if bar.date() == self._session:
                self._symbols.add(symbol)
            return []
        due = [] if self._open == bar else self._close()
        self._begin(bar)
        self._symbols.add(symbol)
        if is_last:
            self._since = self._since or now
            self._here.add(symbol)
        if self._met and self._here == self._symbols:
            due += self._close()
        return due

    def wait_s(self, now: float) -> float | None:
        """How long to wait for more before `overdue` has something to say; None: for ever."""
        return self._since + self.grace_s - now if self._here else None

    def overdue(self, now: float) -> list[Round]:
        """The bar that has waited long enough."""
        return self._close() if self._here and now >= self._since + self.grace_s else []

    def end(self) -> list[Round]:
        """The bar whose last minute has come, if the stream is over and no more will."""
        return self._close() if self._here else []

    def _begin(self, bar: datetime) -> None:
        self._open = bar
        if bar.date() != self._session:
            self._session, self._met = bar.date(), False
            self._symbols.clear()

    def _close(self) -> list[Round]:
        due = [] if self._open is None else [Round(self._open, self.expected | self._symbols)]
        self._closed, self._open, self._since, self._met = self._open or self._closed, None, 0.0, True
        self._here.clear()
        return due
