"""``opinions.duckdb``: signals that were not computed from prices, joined as of what was known.

Whoever has an opinion inserts rows into ``signals``. A row speaks of its `session` and all after it, until a newer
one of the same name and symbol; but never before the store knew it: the first session it can touch is the one whose
close comes at or after its `known_at`.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from marketagent.panel import Panel, Sessions
from marketagent.signals import Signal
from marketagent.store.database import opened
from marketagent.store.market import read_closes

OPINIONS = "opinions.duckdb"


def read_opinions(home: Path, panel: Panel, *, known_at: datetime | None = None, timeout_s: float) -> dict[str, Signal]:
    """Every stored signal by name, laid over `panel`; what a model may have read about (contaminated) is left out.

    A signal of which nothing is left abstains everywhere: a strategy that takes it finds it, here and where it trades.
    `known_at` leaves out what the store learned later.
    """
    return read_opinions_of(home, [panel], known_at=known_at, timeout_s=timeout_s)[0]


def read_opinions_of(
    home: Path, panels: Sequence[Panel], *, known_at: datetime | None = None, timeout_s: float
) -> list[dict[str, Signal]]:
    """The same for each of `panels`."""
    until = None if known_at is None else known_at.astimezone(UTC).replace(tzinfo=None)
    of: dict[str, list[int]] = {}
    for k, panel in enumerate(panels):
        for symbol in panel.symbols:
            of.setdefault(symbol, []).append(k)
    with opened(home / OPINIONS, timeout_s=timeout_s) as con:
        rows = con.execute(
            """
            SELECT name, symbol, session, known_at, value, confidence, contaminated FROM signals
            WHERE symbol IN (SELECT unnest($symbols::VARCHAR[]))
              AND ($until::TIMESTAMP IS NULL OR known_at <= $until::TIMESTAMP)
            ORDER BY name, symbol, session, known_at
            """,
            {"symbols": list(of), "until": until},
        ).fetchall()
    own: list[list[tuple[Any, ...]]] = [[] for _ in panels]
    for row in rows:
        for k in of[row[1]]:
            own[k].append(row)
    return [
        _laid_over(panel, mine, read_closes(home, panel, timeout_s=timeout_s) if mine else panel.sessions)
        for panel, mine in zip(panels, own, strict=True)
    ]


def _laid_over(panel: Panel, rows: Sequence[tuple[Any, ...]], closes: Sessions) -> dict[str, Signal]:
    """The signals of `rows` by name; a row touches nothing before the first of `closes` that it was known at."""
    column = {symbol: n for n, symbol in enumerate(panel.symbols)}
    values: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, symbol, session, known_at, value, confidence, contaminated in rows:
        value_of, sure_of = values.setdefault(name, (np.full(panel.shape, np.nan), np.full(panel.shape, np.nan)))
        if contaminated:
            continue
        first = max(
            int(np.searchsorted(panel.sessions, np.datetime64(session))),
            int(np.searchsorted(closes, np.datetime64(known_at, "us"))),
        )
        value_of[first:, column[symbol]] = np.nan if value is None else value
        sure_of[first:, column[symbol]] = np.nan if confidence is None else confidence
    return {name: Signal(value, sure) for name, (value, sure) in values.items()}


def contaminated(home: Path, panel: Panel, first: date, *, timeout_s: float) -> dict[str, int]:
    """How many contaminated opinions there are by name, of the symbols of `panel` from session `first` to its last."""
    with opened(home / OPINIONS, timeout_s=timeout_s) as con:
        rows = con.execute(
            """
            SELECT name, count(*) FROM signals
            WHERE contaminated AND symbol IN (SELECT unnest($symbols::VARCHAR[])) AND session BETWEEN $first AND $last
            GROUP BY name ORDER BY name
            """,
            {"symbols": list(panel.symbols), "first": first, "last": panel.days[-1].astype(object)},
        ).fetchall()
    return dict(rows)
