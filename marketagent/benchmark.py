"""A benchmark beside a run: what its holder earned on the sessions that it has bars on, and which of them it has not.

A session without a bar is not one on which it stood still: nothing is known of it, and a comparison that took it for a
return of 0 would be one with cash. So what compares takes the returns of a run and of its benchmark from those sessions
alone on which both have one. Within a day a bar without a trade is a price that stands.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marketagent.panel import Array, Panel, Sessions


@dataclass(frozen=True)
class Compared:
    """`returns` (T,) a bar of the run, NaN where there are none, 0 on the first; `level` (T,) is what 1 becomes that was put
    in at the first bar, NaN before it and after the last.

    `lacking` (S,) says of each session of the run, `days` (S,), whether the benchmark has no bar on it.
    """

    returns: Array
    level: Array
    days: Sessions
    lacking: NDArray[np.bool_]

    @property
    def known(self) -> NDArray[np.bool_]:
        """(T,): where there is a return to compare with."""
        return np.isfinite(self.returns)

    @property
    def missing(self) -> int:
        """How many sessions it has no bar on."""
        return int(np.count_nonzero(self.lacking))

    @property
    def note(self) -> str | None:
        """Which sessions are missing, None if none is."""
        if not self.missing:
            return None
        had = np.flatnonzero(~self.lacking)
        first, last, inside = had[0], had[-1], self.missing - had[0] - (len(self.lacking) - 1 - had[-1])
        where = [f"none before {self.days[first]}"] if first else []
        where += [f"none after {self.days[last]}"] if last < len(self.lacking) - 1 else []
        where += [f"{inside:,} missing in between"] if inside else []
        return (
            f"the benchmark has bars on {len(had):,} of {len(self.lacking):,} sessions, {', '.join(where)}: alpha, beta,"
            " information ratio and break even are of the sessions that both have"
        )


def compared(close: Array, panel: Panel, start: int) -> Compared:
    """A benchmark with adjusted closes `close` (T,) on the rows of `panel`, from row `start` on, where it must have one."""
    newest = np.maximum.accumulate(np.where(np.isfinite(close), np.arange(len(close)), -1))
    held = np.where(newest >= 0, close[np.maximum(newest, 0)], np.nan)[start:]
    has, number = np.isfinite(close[start:]), panel.session_number[start:] - panel.session_number[start]
    present = np.bincount(number, weights=has) > 0
    known = present[number]
    change = np.zeros(len(held))
    change[1:] = held[1:] / held[:-1] - 1
    change[~known | ~np.append(True, known[:-1])] = np.nan  # one after a gap spans more than its own session
    rows = np.flatnonzero(has)
    level = held / held[rows[0]]
    level[: rows[0]] = level[rows[-1] + 1 :] = np.nan
    return Compared(change, level, np.unique(panel.days[start:]), ~present)
