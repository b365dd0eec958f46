"""Connected but mute: whether a stream that answers pings has stopped sending bars.

Judged by data, in regular hours of the store's calendar, over all symbols together: one that seldom trades says
nothing. How long a silence may last is learned: from what is stored of these symbols, from this run, and from what
REST says after a silence: bars that were missed prove the stream mute, none prove the market quiet.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from marketagent.streams.events import MINUTE

SHORTEST = 3 * MINUTE
LONGEST = 60 * MINUTE
_TIMES = 3  # a silence is strange when it is so many times as long as the longest one known
_FADING = 0.99

NEVER = timedelta(0)


class Watch:
    """`now` is market time as the feed has it, `calendar` the regular (open, close) of the sessions around it."""

    def __init__(
        self,
        now: Callable[[], datetime],
        calendar: Sequence[tuple[datetime, datetime]],
        *,
        usual: timedelta = NEVER,
        shortest: timedelta = SHORTEST,
    ) -> None:
        self._now = now
        self._calendar = sorted(calendar)
        self._opens = [opened for opened, _ in self._calendar]
        self._shortest = shortest
        self._usual = usual
        self._accused = NEVER
        self._since = now()
        self._last: datetime | None = None

    @property
    def patience(self) -> timedelta:
        """The silence that is still believed."""
        return min(max(self._shortest, self._usual * _TIMES), LONGEST)

    def started(self) -> None:
        """A connection is up: silence counts from now."""
        self._since = self._now()

    def heard(self) -> None:
        """Something that proves the stream alive has come."""
        now = self._now()
        if self._last is not None:
            # A silence that ended by itself, within one connection, is one that happens; slowly it is forgotten.
            self._usual = max(self._usual * _FADING, self._between(max(self._last, self._since), now))
        self._last = self._since = now

    def proved(self, *, mute: bool) -> None:
        """What REST said of a silence that was too long: if there was nothing to hear, such a one is usual."""
        if not mute:
            self._usual = max(self._usual, self._accused)
        self._accused = NEVER

    def is_open(self) -> bool:
        """Whether this is a time at which bars are to be expected."""
        return self._session(self._now()) is not None

    def silence(self) -> timedelta:
        """How long bars have been missing in regular hours."""
        return self._between(self._since, self._now())

    def is_mute(self) -> bool:
        """Whether the silence is too long; then it counts from now, and what REST says of it is to be `proved`."""
        silence = self.silence()
        if silence <= self.patience:
            return False
        self._accused = silence
        return True

    def _between(self, since: datetime, now: datetime) -> timedelta:
        """Regular hours of this session from `since` to `now`; the first bar is due a minute after the open."""
        session = self._session(now)
        if session is None:
            return NEVER
        return max(NEVER, now - max(since, session[0] + MINUTE))

    def _session(self, now: datetime) -> tuple[datetime, datetime] | None:
        place = bisect_right(self._opens, now) - 1
        if place < 0 or now >= self._calendar[place][1]:
            return None
        return self._calendar[place]
