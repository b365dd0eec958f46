"""What is stored otherwise today than it was on the evening it was decided on.

A backtest reads the newest version of every fact. Where the store held another one at the time of a decision, and a
correction came later, that decision was not made of what was known; this file puts the earlier facts back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from marketagent.panel import Panel, Raw
from marketagent.store.database import opened
from marketagent.store.intraday import FIELDS
from marketagent.store.market import MARKET, read_closes
from marketagent.timeframes import DAY, TIMEFRAMES

NIGHT = np.timedelta64(12, "h")  # after the close: what a fetch of the evening stores is known for the next open


@dataclass(frozen=True)
class Superseded:
    """One fact of a panel's place that was known from `since` to before `until`: fields of a bar, or an action."""

    row: int
    column: int
    values: dict[str, float]
    since: np.datetime64
    until: np.datetime64


@dataclass(frozen=True)
class Corrections:
    """The superseded facts of a panel, and when each of its rows was decided on at the latest (T,)."""

    panel: Panel
    facts: Sequence[Superseded]
    decided_at: np.ndarray

    def rows(self, most: int) -> list[int]:
        """Rows (`most` of them, spread) at whose decision a fact was known otherwise than it is now; the last is none."""
        touched = np.zeros(len(self.decided_at), dtype=bool)
        for fact in self.facts:
            touched |= (self.decided_at >= fact.since) & (self.decided_at < fact.until) & self._follows(fact)
        found = np.flatnonzero(touched[:-1])
        return sorted({int(found[k]) for k in np.linspace(0, len(found) - 1, most).astype(int)}) if len(found) else []

    def undone(self, row: int) -> Panel:
        """The panel with every fact up to `row` as it was known when that was decided on."""
        now = self.decided_at[row]
        raw = {name: getattr(self.panel.raw, name).copy() for name in FIELDS}
        arrays = {**raw, "split": self.panel.split.copy(), "dividend": self.panel.dividend.copy()}
        for fact in self.facts:
            if fact.row <= row and fact.since <= now < fact.until:
                for name, value in fact.values.items():
                    arrays[name][fact.row, fact.column] = value
        return replace(
            self.panel,
            raw=Raw(**{name: arrays[name] for name in FIELDS}),
            split=arrays["split"],
            dividend=arrays["dividend"],
        )

    def _follows(self, fact: Superseded) -> np.ndarray:
        return np.arange(len(self.decided_at)) >= fact.row


def read_corrections(home: Path, panel: Panel, *, timeout_s: float) -> Corrections:
    """Every superseded bar of the timeframe of `panel`, and every superseded action, of its symbols and sources."""
    closes = read_closes(home, panel, timeout_s=timeout_s)
    length = NIGHT if panel.timeframe == DAY else np.timedelta64(TIMEFRAMES[panel.timeframe], "s")
    names = {"symbols": list(panel.symbols), "sources": list(panel.sources)}
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        bars = con.execute(
            f"""SELECT symbol, {"session" if panel.timeframe == DAY else "ts"}, {", ".join(FIELDS)}, known_at, superseded_at
            FROM superseded_bars {_OF_THE_PANEL} WHERE timeframe = $timeframe""",
            {**names, "timeframe": panel.timeframe},
        ).fetchall()
        actions = con.execute(
            f"SELECT symbol, session, kind, value, known_at, superseded_at FROM superseded_actions {_OF_THE_PANEL}",
            names,
        ).fetchall()
    facts = [
        _fact(panel, panel.sessions, symbol, at, dict(zip(FIELDS, values, strict=True)), known, gone)
        for symbol, at, *values, known, gone in bars
    ]
    facts += [
        _fact(panel, panel.days, symbol, day, {kind: value}, known, gone)
        for symbol, day, kind, value, known, gone in actions
    ]
    return Corrections(panel, [fact for fact in facts if fact is not None], closes + length)


def _fact(
    panel: Panel, rows: np.ndarray, symbol: str, at: Any, values: dict[str, float], known: Any, gone: Any
) -> Superseded | None:
    """The fact at its place, None where the panel has no such row."""
    when = np.datetime64(at).astype(rows.dtype)
    row = int(np.searchsorted(rows, when))
    if row >= len(rows) or rows[row] != when:
        return None
    return Superseded(row, panel.symbols.index(symbol), values, np.datetime64(known, "us"), np.datetime64(gone, "us"))


_OF_THE_PANEL = """JOIN (SELECT unnest($symbols::VARCHAR[]) AS symbol, unnest($sources::VARCHAR[]) AS source) p
    USING (symbol, source)"""
