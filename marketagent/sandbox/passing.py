"""Market time as it passes, minute by minute: what a stream has to tell, and when."""

from collections.abc import AsyncIterator
from datetime import timedelta

from marketagent.sandbox.tape import new_york_day
from marketagent.sandbox.world import MINUTE_S, SandboxWorld

_LONG_S = 3600.0


async def windows(world: SandboxWorld, *, always: bool = False, behind: timedelta = timedelta(0)) -> AsyncIterator[int]:
    """The start (Unix seconds) of each minute from now on in which something is told; the current one first.

    Those are a session's minutes and the one after its end, when its last bar is; with `always` every minute of the
    day. They are yielded ahead of time: who tells something waits until it is time, which for some is `behind` now.
    """
    start = int((world.now() - behind).timestamp()) // MINUTE_S * MINUTE_S
    while True:
        if always:
            yield start
            start += MINUTE_S
            continue
        today = new_york_day(world.now() - behind)
        sessions = world.market.sessions(today - timedelta(days=1), today + timedelta(days=10))
        coming = next((one for one in sessions if one.close_at.timestamp() >= start), None)
        if coming is None:
            await world.sleep(_LONG_S)
            continue
        for each in range(
            max(start, int(coming.open_at.timestamp())), int(coming.close_at.timestamp()) + MINUTE_S, MINUTE_S
        ):
            yield each
            start = each + MINUTE_S
