"""A home made ready: everything ``init`` makes, and the calendar of sessions in it."""

from datetime import datetime, timedelta
from pathlib import Path

from marketagent import home as homes
from marketagent.init import init
from marketagent.store.database import opened
from marketagent.store.market import MARKET, calendar_end, write_calendar

_AHEAD = timedelta(days=365)  # with less of it left, the calendar is taken anew


def ready(home: Path, now: datetime, *, timeout_s: float, again: bool = False) -> list[str]:
    """Make what is missing in `home`, its calendar too; the names of what was made, nothing if it was ready.

    A database that is missing where there was a home once is made only if it is asked for `again`: nobody should trade on
    an empty one without having said so.
    """
    made = init(home, now) if again or not homes.is_marked(home) else []
    homes.check(home, write=True)
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        end = calendar_end(con)
    if end is None or end < (now + _AHEAD).date():
        with opened(home / MARKET, write=True, timeout_s=timeout_s) as con:
            write_calendar(con, now.date())
        made.append("calendar")
    return made
