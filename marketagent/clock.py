"""What time it is on the market: the system's time, or that of a rehearsal against ``ma sandbox``.

A rehearsal lives at another date and may run faster, so that a cron line can be tried at any hour. Its clock is a
line through one point, carried in the environment as ``MA_CLOCK``, so that every process of a pipe reads the same
time without asking anyone. Only market time bends: limits, deadlines and back-off are the system's.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from marketagent.errors import BadConfig

_NUMBER = r"\d+(\.\d+)?(e[+-]?\d{1,3})?"  # as repr writes a float
_FORM = re.compile(rf"(?P<market>\S+)@(?P<system>{_NUMBER})\*(?P<speed>{_NUMBER})", re.ASCII)


@dataclass(frozen=True)
class Clock:
    """`market` time was at `system` (Unix seconds) and runs `speed` times as fast; the system's own without them.

    >>> clock = Clock(datetime(2026, 11, 23, 15, 0, tzinfo=UTC), 1000.0, 60.0, lambda: 1002.0)
    >>> clock().isoformat(), clock.text
    ('2026-11-23T15:02:00+00:00', '2026-11-23T15:00:00Z@1000.0*60.0')
    >>> clock.until(datetime(2026, 11, 23, 15, 3, tzinfo=UTC))
    1.0
    """

    market: datetime | None = None
    system: float = 0.0
    speed: float = 1.0
    seconds: Callable[[], float] = time.time

    def __call__(self) -> datetime:
        if self.market is None:
            return datetime.fromtimestamp(self.seconds(), UTC)
        return self.market + timedelta(seconds=(self.seconds() - self.system) * self.speed)

    def until(self, moment: datetime) -> float:
        """System seconds from now until market time reaches `moment`; negative once it has."""
        return (moment - self()).total_seconds() / self.speed

    @property
    def is_rehearsal(self) -> bool:
        return self.market is not None

    @property
    def text(self) -> str:
        """What ``MA_CLOCK`` says for it; empty for the system's."""
        if self.market is None:
            return ""
        return f"{self.market.astimezone(UTC).isoformat().replace('+00:00', 'Z')}@{self.system!r}*{self.speed!r}"


def clock(text: str) -> Clock:
    """The clock of ``MA_CLOCK``; raises BadConfig for a text that is none."""
    if not text:
        return Clock()
    found = _FORM.fullmatch(text)
    try:
        market = datetime.fromisoformat(found["market"]) if found else None
    except ValueError:
        market = None
    numbers = [float(found[name]) for name in ("system", "speed")] if found else []
    if market is None or market.tzinfo is None or not all(0 < number < 1e12 for number in numbers):
        raise BadConfig(f"MA_CLOCK is {text[:80]!a}; take it as `ma sandbox env` prints it, or unset it")
    return Clock(market, numbers[0], numbers[1])
