"""What the tests of bars within a day share: made-up minutes of real sessions, homes that hold them, lines of a stream."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from marketagent import pipe
from marketagent.panel import Panel, empty
from marketagent.records import Bar
from marketagent.store.database import opened
from marketagent.store.intraday import FIELDS, read_grid
from marketagent.store.market import MARKET
from marketagent.timeframes import bar_text

NOW = datetime(2026, 11, 20, 21, 5, tzinfo=UTC)
FIRST = date(2014, 7, 2)  # the next session, 3 July, closes at 13:00


def minutes(
    home: Path,
    symbols: int = 3,
    *,
    first: date = FIRST,
    last: date = date(2014, 7, 7),
    seed: int = 1,
    gaps: float = 0.03,
    whole: Sequence[int] = (),
) -> Panel:
    """Every minute of some sessions, in cents and whole shares; `gaps` of them without a bar, but never all of one
    minute, and none in the rows `whole`."""
    with opened(home / MARKET) as con:
        grid = read_grid(con, first, last, "1m")
    rng, names = np.random.default_rng(seed), [f"S{n:02}" for n in range(symbols)]
    panel = empty(grid, names, ["csv"] * symbols, "1m")
    close = np.round(rng.uniform(20, 200, symbols) * np.exp(np.cumsum(rng.normal(0, 0.001, panel.shape), axis=0)), 2)
    panel.raw.close[:] = close
    panel.raw.open[:] = np.round(close * np.exp(rng.normal(0, 0.0005, panel.shape)), 2)
    panel.raw.high[:] = np.maximum(panel.raw.open, close) + 0.01
    panel.raw.low[:] = np.minimum(panel.raw.open, close) - 0.01
    panel.raw.volume[:] = rng.integers(1, 10_000, panel.shape)
    missing = rng.random(panel.shape) < gaps
    missing[:, 0] = False
    missing[list(whole)] = False
    for name in FIELDS:
        getattr(panel.raw, name)[missing] = np.nan
    return panel


def store(
    home: Path, panel: Panel, rows: Iterable[int] | None = None, *, source: str = "csv", now: datetime = NOW
) -> None:
    """The bars of some rows into the store, as a stream puts them there; with the splits and dividends of all rows."""
    t, n = np.nonzero(panel.has_bar)
    if rows is not None:
        kept = np.isin(t, list(rows))
        t, n = t[kept], n[kept]
    count = len(t)
    columns: dict[str, tuple[str, list[Any]]] = {
        "symbol": ("VARCHAR", [panel.symbols[k] for k in n]),
        "timeframe": ("VARCHAR", [panel.timeframe] * count),
        "session": ("DATE", panel.days[t].tolist()),
        "ts": ("TIMESTAMP", panel.sessions[t].tolist()),
        "source": ("VARCHAR", [source] * count),
        "feed": ("VARCHAR", [""] * count),
        "known_at": ("TIMESTAMP", [now.replace(tzinfo=None)] * count),
    }
    columns |= {name: ("DOUBLE", getattr(panel.raw, name)[t, n].tolist()) for name in FIELDS}
    with opened(home / MARKET, write=True) as con:
        con.insert("bars", columns)


def act(home: Path, symbol: str, session: date, kind: str, value: float) -> None:
    with opened(home / MARKET, write=True) as con:
        con.execute(
            "INSERT INTO actions VALUES (?, ?, ?, ?, 'csv', ?, false)",
            [symbol, session, kind, value, NOW.replace(tzinfo=None)],
        )


def bars(panel: Panel, t: int) -> Iterator[Bar]:
    """The bars of one row as a stream tells them."""
    start = panel.sessions[t].astype(date)
    for n in np.flatnonzero(panel.has_bar[t]):
        prices = {name: float(getattr(panel.raw, name)[t, n]) for name in FIELDS}
        yield Bar(
            symbol=panel.symbols[n], session=start.date().isoformat(), ts=bar_text(start), timeframe=panel.timeframe,
            source=panel.sources[n], feed="", **prices,
        )  # fmt: skip


def _opening(panel: Panel) -> datetime:
    """Before the first bar: then none of a stream's bars is history."""
    first: datetime = panel.sessions[0].astype("datetime64[s]").astype(datetime)
    return first.replace(tzinfo=UTC)


def stream(panel: Panel, rows: Iterable[int]) -> list[tuple[int, bytes]]:
    """A live stream of some rows, ended well: (row, line), -1 for its begin and its end."""
    text, found = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), [-1]
    with pipe.sealed("stream", "ndjson", run="stream-1", at=_opening(panel), stdout=text, live=True) as out:
        for t in rows:
            for bar in bars(panel, t):
                out.write(bar)
                found.append(t)
    return list(zip([*found, -1], text.buffer.getvalue().splitlines(True), strict=True))


class Feed(io.RawIOBase):
    """Stdin of a running score: each row is stored (`before` is called with it) before its first line can be read."""

    def __init__(self, lines: Iterable[tuple[int, bytes]], before: Callable[[int], None]) -> None:
        self._lines, self._before, self._row = iter(lines), before, -1

    def isatty(self) -> bool:
        return False

    def readline(self, limit: int | None = -1, /) -> bytes:
        row, line = next(self._lines, (-1, b""))
        if row > self._row:
            self._row = row
            self._before(row)
        return line


def with_action(panel: Panel, t: int, n: int, *, split: float = 1.0, dividend: float = 0.0) -> Panel:
    """The panel with a split or a dividend of one symbol at a row, its later prices as they are."""
    made = replace(panel, split=panel.split.copy(), dividend=panel.dividend.copy())
    made.split[t, n], made.dividend[t, n] = split, dividend
    return made
