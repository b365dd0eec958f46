"""All that a seed and a recording do not determine: the clock, the waiting and the dice.

Whatever talks to a network is given a `World`, so that a test replays a failure with a clock that jumps.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random

from marketagent.errors import Refused

EARLIEST = datetime(2024, 1, 1, tzinfo=UTC).timestamp()


async def sleep(seconds: float) -> None:
    """Wait, and let others work meanwhile."""
    import anyio  # 0.2 s, and a command that asks nobody does not wait

    await anyio.sleep(seconds)


@dataclass(frozen=True, kw_only=True)
class World:
    """`now` in Unix seconds, an async `sleep` in seconds, and a source of random numbers."""

    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = sleep
    random: Random = field(default_factory=Random)

    def jitter(self, most: float) -> float:
        """Anything from 0 to `most`, so that those who failed together do not come back together."""
        return self.random.uniform(0.0, most)


def sane(now: float) -> float:
    """`now`, unless it is from before this program: by such a clock, everything remembered lies in the future.

    >>> sane(0.0)
    Traceback (most recent call last):
    marketagent.errors.Refused: the system clock says 1970-01-01; set it
    """
    if not now >= EARLIEST:
        raise Refused(f"the system clock says {datetime.fromtimestamp(max(now, 0.0), UTC):%Y-%m-%d}; set it")
    return now
