"""Whether a provider is worth calling at all, known to all processes together: a circuit breaker in the journal.

Closed: everybody calls. After `threshold` failures in a row it opens: nobody calls, for a time that doubles with
each opening. Then one process, the prober, holds a lease and makes one call: success closes the breaker, failure
opens it again. A prober that is killed loses its lease to the next. Only what says "the provider is down" counts:
no connection, no answer in time, 5xx; not 4xx, and not 429, which is the limiter's.

A closed breaker costs one read. The lease: as in AWS Powertools' breaker; pybreaker and purgatory let several
probes through (RELIABILITY, E5).
"""

import sqlite3
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from marketagent.errors import Busy, MarketAgentError, Refused
from marketagent.journal import Journal
from marketagent.ledger import Ledger

T = TypeVar("T")
LONGEST_S = 3600.0  # no opening is longer, so a longer one was written by a wrong clock


class BreakerOpen(Busy):
    """The provider failed too often; it is not called until `wait_s` has passed."""

    def __init__(self, text: str, wait_s: float) -> None:
        super().__init__(text)
        self.wait_s = wait_s


class Outcome(Enum):
    """What a call said about the provider; UNKNOWN: nothing, as when we gave the call up ourselves."""

    WELL = "well"
    DOWN = "down"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """When a breaker opens and for how long. Failures older than `memory_s` are forgotten."""

    threshold: int = 5
    open_s: float = 30.0
    longest_s: float = 900.0
    lease_s: float = 60.0
    memory_s: float = 300.0


@dataclass(frozen=True)
class Pass:
    """Leave to make one call. `probe` names a prober, whose call decides.

    With `clean` no failure was on record when it was given: a success has nothing to strike out.
    """

    probe: str | None = None
    clean: bool = field(default=False, compare=False)


class Breaker:
    """The breaker `key`. With `closed_if_unreadable`, a store that cannot be read stops the call: for orders."""

    def __init__(self, ledger: Ledger, key: str, rules: Rules | None = None, *, closed_if_unreadable: bool = False):
        self._ledger = ledger
        self._key = key
        self._rules = rules or Rules()
        self._closed_if_unreadable = closed_if_unreadable

    def check(self) -> None:
        """Raise BreakerOpen if a call would not be let through now; takes nothing."""
        self._guarded(self._look)

    def enter(self) -> Pass:
        """Leave for one call, or BreakerOpen. Whoever gets it must say what came of it: `done`."""
        state = self._guarded(self._look)
        if state:
            return Pass(clean=state == "clean")
        return self._guarded(self._lease) or Pass()

    def done(self, leave: Pass, outcome: Outcome, *, retry_after_s: float = 0.0) -> None:
        """What came of the call. A success of a call that began before the breaker opened does not close it."""
        if leave.probe:
            self._guarded(lambda: self._probed(leave, outcome, retry_after_s), ignore=True)
        elif outcome is Outcome.DOWN:
            self._guarded(lambda: self._failed(retry_after_s), ignore=True)
        elif outcome is Outcome.WELL and not leave.clean:
            self._guarded(self._went_well, ignore=True)

    def _look(self) -> str:
        """``clean`` or ``closed``, or nothing: a probe is due. Otherwise BreakerOpen."""
        with self._ledger.reading() as (book, now):
            row = self._row(book)
            if row is None:
                return "clean"
            if row["open_until"] is None:
                return "closed"
            self._refuse_if_early(row, now)
            return ""

    def _lease(self) -> Pass:
        with self._ledger.transaction() as (book, now):
            row = self._row(book)
            if row is None or row["open_until"] is None:
                return Pass()  # closed meanwhile
            self._refuse_if_early(row, now)
            leave = Pass(uuid.uuid4().hex)
            book.execute(
                "UPDATE breakers SET prober = ?, lease_until = ? WHERE key = ?",
                (leave.probe, now + self._rules.lease_s, self._key),
            )
            return leave

    def _refuse_if_early(self, row: sqlite3.Row, now: float) -> None:
        for until, why in ((row["open_until"], "not called"), (row["lease_until"], "being tried by another command")):
            if until is not None and now < until <= now + LONGEST_S:
                raise BreakerOpen(
                    f"busy: {self._key} failed {row['failures']} times in a row and is {why}; "
                    f"try again in {until - now:.0f} s",
                    until - now,
                )

    def _failed(self, retry_after_s: float) -> None:
        with self._ledger.transaction() as (book, now):
            row = self._row(book)
            if row is not None and row["open_until"] is not None:
                book.execute("UPDATE breakers SET failures = failures + 1 WHERE key = ?", (self._key,))
                return  # already open: those that were on their way do not prolong it
            recent = row is not None and abs(now - row["failed_at"]) <= self._rules.memory_s
            failures = row["failures"] + 1 if row is not None and recent else 1
            opens = failures >= self._rules.threshold
            until = now + self._open_s(1, retry_after_s) if opens else None
            self._write(book, failures, int(opens), now, until)

    def _probed(self, leave: Pass, outcome: Outcome, retry_after_s: float) -> None:
        with self._ledger.transaction() as (book, now):
            row = self._row(book)
            if row is None or row["prober"] != leave.probe:
                return  # the lease ran out and another one decides
            if outcome is Outcome.WELL:
                book.execute("DELETE FROM breakers WHERE key = ?", (self._key,))
            elif outcome is Outcome.DOWN:
                openings = row["openings"] + 1
                until = now + self._open_s(openings, retry_after_s)
                self._write(book, row["failures"] + 1, openings, now, until)
            else:
                book.execute("UPDATE breakers SET prober = NULL, lease_until = NULL WHERE key = ?", (self._key,))

    def _went_well(self) -> None:
        with self._ledger.reading() as (book, _):
            if self._row(book) is None:
                return  # the common case costs no write
        with self._ledger.transaction() as (book, _):
            book.execute("DELETE FROM breakers WHERE key = ? AND open_until IS NULL", (self._key,))

    def _open_s(self, openings: int, retry_after_s: float) -> float:
        doubled = self._rules.open_s * 2.0 ** min(openings - 1, 30)
        return min(max(min(doubled, self._rules.longest_s), retry_after_s), LONGEST_S)

    def _row(self, book: Journal) -> sqlite3.Row | None:
        rows = book.rows("SELECT * FROM breakers WHERE key = ?", (self._key,))
        return rows[0] if rows else None

    def _write(self, book: Journal, failures: int, openings: int, now: float, until: float | None) -> None:
        book.execute(
            "INSERT OR REPLACE INTO breakers (key, failures, openings, failed_at, open_until) VALUES (?, ?, ?, ?, ?)",
            (self._key, failures, openings, now, until),
        )

    def _guarded(self, step: Callable[[], T], *, ignore: bool = False) -> T | None:
        try:
            return step()
        except (BreakerOpen, Refused):
            raise
        except (MarketAgentError, sqlite3.Error) as error:
            if self._closed_if_unreadable and not ignore:
                raise Busy(f"busy: whether {self._key} may be called cannot be read ({error})") from error
            return None  # open: a lost counter must not stop a fetch; the limiter keeps it slow
