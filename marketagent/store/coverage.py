"""What was looked at of a symbol, and so what is missing: spans of sessions by symbol, timeframe and source.

A span holds sessions without a bar, too: that nothing was there is not asked twice. The end of a span is provisional
for a while: a vendor corrects a day after its close, and may not have it at all at first. Such sessions count as
missing again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from marketagent.bars import Delivery, Span, Want, new_york_days
from marketagent.store.connection import Connection

SETTLED = timedelta(hours=3)  # after its close, what a vendor says of a session with a bar stays so
ABSENT = timedelta(hours=24)  # after its close, a session that has no bar never gets one


@dataclass(frozen=True)
class Calendar:
    """The sessions up to the newest that has begun: `days`, and their open and close (T,) in UTC."""

    days: NDArray[np.datetime64]
    open_at: NDArray[np.datetime64]
    close_at: NDArray[np.datetime64]

    def closed(self, moment: datetime, wait: timedelta = timedelta(0)) -> int:
        """How many sessions had been closed for `wait` at `moment`."""
        at = np.datetime64(moment.astimezone(UTC).replace(tzinfo=None) - wait)
        return int(np.searchsorted(self.close_at, at, side="right"))


def read_calendar(con: Connection, now: datetime) -> Calendar:
    rows = con.execute(
        "SELECT session, open_at, close_at FROM sessions WHERE open_at <= ? ORDER BY session",
        [now.astimezone(UTC).replace(tzinfo=None)],
    ).fetchnumpy()
    days, opens, closes = (np.asarray(rows[name]) for name in ("session", "open_at", "close_at"))
    return Calendar(days.astype("datetime64[D]"), opens, closes)


def read_coverage(
    con: Connection, symbols: Sequence[str], timeframe: str, source: str
) -> dict[str, list[tuple[date, date, datetime]]]:
    """Symbol -> (first, last, fetched at) of each span that was looked at."""
    rows = con.execute(
        """
        SELECT symbol, first, last, fetched_at FROM coverage
        WHERE timeframe = ? AND source = ? AND list_contains(?::VARCHAR[], symbol) ORDER BY symbol, first
        """,
        [timeframe, source, list(symbols)],
    ).fetchall()
    found: dict[str, list[tuple[date, date, datetime]]] = {symbol: [] for symbol in symbols}
    for symbol, first, last, at in rows:
        found[symbol].append((first, last, at.replace(tzinfo=UTC)))
    return found


def missing(
    calendar: Calendar,
    asked: Mapping[str, Span],
    covered: Mapping[str, Sequence[tuple[date, date, datetime]]],
) -> list[Want]:
    """What each symbol lacks of the sessions it is `asked` for; a symbol that lacks nothing is left out."""
    wants = []
    for symbol, span in asked.items():
        lacking = (calendar.days >= np.datetime64(span.first)) & (calendar.days <= np.datetime64(span.last))
        for first, last, at in covered.get(symbol, ()):
            settled = np.arange(len(calendar.days)) < calendar.closed(at, SETTLED)
            looked = (calendar.days >= np.datetime64(first)) & (calendar.days <= np.datetime64(last))
            lacking &= ~(looked & settled)
        if spans := _runs(calendar.days, lacking):
            wants.append(Want(symbol, spans))
    return wants


def _runs(days: NDArray[np.datetime64], chosen: NDArray[np.bool_]) -> tuple[Span, ...]:
    """The runs of neighbouring sessions that are `chosen`, as spans."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    starts, ends = days[edges[::2]].tolist(), days[edges[1::2] - 1].tolist()
    return tuple(Span(first, last) for first, last in zip(starts, ends, strict=True))


def looked_at(calendar: Calendar, delivery: Delivery, now: datetime) -> list[Span]:
    """The spans of `delivery` that are known now: up to the last session with a bar, or that never gets one."""
    with_bar = np.isin(calendar.days, new_york_days(delivery.rows.start))
    sure = np.arange(len(calendar.days)) < calendar.closed(now, ABSENT)
    closed = np.arange(len(calendar.days)) < calendar.closed(now)
    known = (with_bar & closed) | sure
    spans = []
    for span in delivery.want.spans:
        inside = (calendar.days >= np.datetime64(span.first)) & (calendar.days <= np.datetime64(span.last))
        rows = np.flatnonzero(inside & known)
        if len(rows):
            spans.append(Span(span.first, calendar.days[rows[-1]].astype(date)))
    return spans


def write_coverage(
    con: Connection,
    timeframe: str,
    source: str,
    looked: Mapping[str, Sequence[Span]],
    calendar: Calendar,
    now: datetime,
) -> None:
    """Add the spans of each symbol to what was looked at, as one with those they touch."""
    before = read_coverage(con, list(looked), timeframe, source)
    rows: list[tuple[str, date, date, datetime]] = []
    for symbol, spans in looked.items():
        mine = [*before[symbol], *((span.first, span.last, now.astimezone(UTC)) for span in spans)]
        rows += [(symbol, *one) for one in _joined(mine, calendar)]
    con.execute(
        "DELETE FROM coverage WHERE timeframe = ? AND source = ? AND list_contains(?::VARCHAR[], symbol)",
        [timeframe, source, list(looked)],
    )
    if rows:
        symbols, firsts, lasts, moments = zip(*rows, strict=True)
        con.insert(
            "coverage",
            {
                "symbol": ("VARCHAR", symbols),
                "timeframe": ("VARCHAR", [timeframe] * len(rows)),
                "source": ("VARCHAR", [source] * len(rows)),
                "first": ("DATE", firsts),
                "last": ("DATE", lasts),
                "fetched_at": ("TIMESTAMP", [moment.replace(tzinfo=None) for moment in moments]),
            },
        )


def _joined(spans: Sequence[tuple[date, date, datetime]], calendar: Calendar) -> list[tuple[date, date, datetime]]:
    """`spans` with those that touch made one. Its time is that of the part that ends last: the rest is settled by then."""
    found: list[tuple[date, date, datetime]] = []
    for first, last, at in sorted(spans):
        if found and _touch(found[-1][1], first, calendar):
            begun, end, earlier = found[-1]
            newest = max((end, earlier), (last, at))
            found[-1] = (begun, newest[0], newest[1])
        else:
            found.append((first, last, at))
    return found


def _touch(last: date, first: date, calendar: Calendar) -> bool:
    """Whether no session lies between `last` and `first`."""
    between = (calendar.days > np.datetime64(last)) & (calendar.days < np.datetime64(first))
    return not bool(between.any())
