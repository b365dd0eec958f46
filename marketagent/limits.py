"""How often a provider may be called, counted for all processes together: a sliding window in the journal.

A log of grants, not a bucket: a bucket lets twice its size through in one window (20 of 10, RELIABILITY, E4). A
window counts 5 % and a quarter of a second longer than the provider says, because the provider counts arrivals and
this file departures. The grant is written before the call, so a caller that is killed wastes one and steals none.

A store that cannot be read counts as a budget that is spent: nobody knows what the others did.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from marketagent.errors import Busy, MarketAgentError, Refused
from marketagent.journal import Journal
from marketagent.ledger import Ledger
from marketagent.world import World

LONGEST_PAUSE_S = 3600.0  # what a provider may ask for; a Retry-After of years would close it for ever
_JITTER_S = 0.25


class RateLimited(Busy):
    """No call is free soon enough. `wait_s` says when one is."""

    def __init__(self, text: str, wait_s: float) -> None:
        super().__init__(text)
        self.wait_s = wait_s


@dataclass(frozen=True)
class Limit:
    """At most `calls` in any `window_s` seconds, by everybody who uses the same `key`."""

    key: str
    calls: int
    window_s: float

    def __post_init__(self) -> None:
        if not (self.key and self.calls >= 1 and 0 < self.window_s < float("inf")):
            raise ValueError(f"not a limit: {self!r}")

    @property
    def span_s(self) -> float:
        """How long a grant counts.

        >>> Limit("polygon", 5, 60).span_s
        63.25
        """
        return self.window_s * 1.05 + 0.25

    @property
    def log(self) -> str:
        """The name of its log: a minute and a day of one provider are two logs."""
        return f"{self.key}/{self.window_s:g}s"


class Limiter:
    """The gate before each call to `provider`. `limits`, if any, are passed all together or not at all."""

    def __init__(
        self, ledger: Ledger, provider: str, limits: Sequence[Limit], world: World, *, max_wait_s: float
    ) -> None:
        self._ledger = ledger
        self._provider = provider
        self._limits = tuple(limits)
        self._paused_by = {provider, *(limit.key for limit in limits)}
        self._unread = ""  # why the store could not be read the last time
        self._world = world
        self._max_wait_s = max_wait_s

    async def acquire(self) -> float:
        """Wait for a call and take it; how long it took, in seconds.

        Raises RateLimited as soon as it is sure that the wait would be longer than `max_wait_s`.
        """
        waited = 0.0
        while (wait := self.take()) > 0:
            waited = await self.sit_out(wait, waited)
        return waited

    async def sit_out(self, wait_s: float, waited_s: float) -> float:
        """Sleep for `wait_s` and a little; what was waited in all with `waited_s`. Raises like `acquire`."""
        wait_s += self._world.jitter(_JITTER_S)
        if waited_s + wait_s > self._max_wait_s:
            raise self._busy(wait_s, waited_s)
        await self._world.sleep(wait_s)
        return waited_s + wait_s

    def take(self) -> float:
        """Take one call of every limit now and return 0, or take none and return the seconds until one may be free."""
        self._unread = ""
        try:
            if not self._limits:
                with self._ledger.reading() as (book, now):
                    return self._pause_left(book, now)
            with self._ledger.transaction() as (book, now):
                wait = max(self._pause_left(book, now), *(_wait(book, limit, now) for limit in self._limits))
                if wait <= 0:
                    for limit in self._limits:
                        book.execute("INSERT INTO grants VALUES (?, ?, ?)", (limit.log, now, now + limit.span_s))
                return max(0.0, wait)
        except Refused:
            raise  # the clock: waiting does not set it
        except (MarketAgentError, sqlite3.Error) as error:
            self._unread = f": its count cannot be read ({error})"
            return max((limit.span_s for limit in self._limits), default=0.0)  # unreadable: spent, for one window

    def pause(self, seconds: float) -> None:
        """Nobody calls for `seconds` (at most an hour): the provider said so. An earlier, longer pause stays."""
        seconds = min(max(0.0, seconds), LONGEST_PAUSE_S)
        try:
            with self._ledger.transaction() as (book, now):
                book.execute("DELETE FROM pauses WHERE until <= ? OR until > ?", (now, now + LONGEST_PAUSE_S))
                for key in self._paused_by:
                    book.execute(
                        "INSERT INTO pauses VALUES (:key, :until) ON CONFLICT (key) DO UPDATE "
                        "SET until = :until WHERE until < :until",
                        {"key": key, "until": now + seconds},
                    )
        except (MarketAgentError, sqlite3.Error):
            return  # who cannot read the store does not call either (`take`)

    def _pause_left(self, book: Journal, now: float) -> float:
        """Seconds that the provider still wants silence for. A longer pause than any was written by a wrong clock."""
        marks = ", ".join("?" * len(self._paused_by))
        rows = book.rows(
            f"SELECT max(until) AS until FROM pauses WHERE key IN ({marks}) AND until BETWEEN ? AND ?",
            (*self._paused_by, now, now + LONGEST_PAUSE_S),
        )
        return (rows[0]["until"] or now) - now

    def _busy(self, wait_s: float, waited_s: float) -> RateLimited:
        names = " and ".join(f"{limit.calls} in {limit.window_s:g} s" for limit in self._limits) or "its own pause"
        return RateLimited(
            f"busy: the limit of {self._provider} ({names}) is used up{self._unread}; a call is free in {wait_s:.0f} s, "
            f"longer than {'what is left of ' if waited_s else ''}the {self._max_wait_s:g} s to wait for it",
            wait_s,
        )


def _wait(book: Journal, limit: Limit, now: float) -> float:
    """Seconds until `limit` has room; 0 or less: now. Forgets what is over, and what a wrong clock wrote."""
    book.execute("DELETE FROM grants WHERE until <= ?", (now,))
    book.execute("DELETE FROM grants WHERE key = ? AND at > ?", (limit.log, now + limit.window_s))
    # The grant that has to end before there is room: the youngest but `calls - 1`.
    rows = book.rows(
        "SELECT until FROM grants WHERE key = ? ORDER BY at DESC LIMIT 1 OFFSET ?", (limit.log, limit.calls - 1)
    )
    return float(rows[0]["until"]) - now if rows else 0.0
