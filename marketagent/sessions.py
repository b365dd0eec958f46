"""Trading days as arrays: which row opens a day, a week or a month. The calendar itself is in the store."""

import numpy as np
from numpy.typing import NDArray

from marketagent.panel import Sessions

SCHEDULES = ("bar", "daily", "weekly", "monthly")


def due(sessions: Sessions, schedule: str) -> NDArray[np.bool_]:
    """(T,): whether a strategy of this schedule decides on each row: every one, or the first of its day, week or month.

    `sessions` are the rows of a panel: of days, ``bar`` and ``daily`` are the same; of minutes, ``daily`` is the first
    one of each session. The first row counts as the first of its period. A row is known to be the first when it
    closes; that it is the last could only be known from the calendar of days to come.

    >>> days = np.array(["2013-02-27", "2013-02-28", "2013-03-01", "2013-03-04"], dtype="datetime64[D]")
    >>> due(days, "monthly").tolist()
    [True, False, True, False]
    >>> due(days, "weekly").tolist()
    [True, False, False, True]
    >>> due(np.array(["2013-02-27T20:59", "2013-02-28T14:30", "2013-02-28T14:31"], dtype="datetime64[s]"), "daily").tolist()
    [True, True, False]
    """
    days = sessions.astype("datetime64[D]").astype(np.int64)
    if schedule == "bar":
        return np.ones(len(sessions), dtype=bool)
    if schedule == "daily":
        period = days
    elif schedule == "monthly":
        period = sessions.astype("datetime64[M]").astype(np.int64)
    elif schedule == "weekly":
        period = (days + 3) // 7  # 1970-01-01 was a Thursday
    else:
        raise ValueError(f"schedule {schedule!r} is none of {', '.join(SCHEDULES)}")
    return np.concatenate([[True], period[1:] != period[:-1]]) if len(sessions) else np.zeros(0, dtype=bool)
