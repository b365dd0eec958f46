"""What the store knows of prices: the calendar, and the panel of some symbols."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from marketagent.errors import NoData
from marketagent.panel import Array, Panel, empty
from marketagent.store.connection import Connection
from marketagent.store.database import opened

MARKET = "market.duckdb"
FIELDS = ("open", "high", "low", "close", "volume")
FIRST_SESSION = "1990-01-01"
YEARS_AHEAD = 2


@dataclass(frozen=True)
class Held:
    """What is stored of one symbol by one source."""

    symbol: str
    source: str
    first: date
    last: date
    bars: int


def write_calendar(con: Connection, today: date) -> None:
    """Take the NYSE sessions from exchange_calendars into the table ``sessions``, 1990 to two years ahead."""
    import exchange_calendars  # 1 s of import, paid once a year

    last = date(today.year + YEARS_AHEAD, 12, 31)
    calendar = exchange_calendars.get_calendar("XNYS", start=FIRST_SESSION, end=last.isoformat())
    schedule, early = calendar.schedule, {session.date() for session in calendar.early_closes}
    days = [session.date() for session in schedule.index]
    con.execute("DELETE FROM sessions")
    con.insert(
        "sessions",
        {
            "session": ("DATE", days),
            "open_at": ("TIMESTAMP", [_utc(moment) for moment in schedule["open"]]),
            "close_at": ("TIMESTAMP", [_utc(moment) for moment in schedule["close"]]),
            "early": ("BOOLEAN", [day in early for day in days]),
        },
    )


def _utc(stamp: Any) -> datetime:
    moment: datetime = stamp.to_pydatetime()
    return moment.astimezone(UTC).replace(tzinfo=None)


def calendar_end(con: Connection) -> date | None:
    """The last session the store's calendar has, None if it is still empty."""
    row = con.execute("SELECT max(session) FROM sessions").fetchone()
    return row[0] if row else None


def copy_calendar(con: Connection, path: Path) -> None:
    """The calendar as a Parquet file at `path`, for whoever needs it while the store is closed."""
    text = str(path).replace("'", "''")
    con.execute(f"COPY (SELECT session, open_at, close_at FROM sessions ORDER BY session) TO '{text}'")


def stored(con: Connection, symbols: Sequence[str] | None = None, known_at: datetime | None = None) -> list[Held]:
    """What is stored of daily bars, by symbol and source, or was by `known_at`; of all symbols if `symbols` is None."""
    _known_bars(con, known_at)
    rows = con.execute(
        """
        SELECT symbol, source, min(session), max(session), count(*) FROM known_bars
        WHERE $1::VARCHAR[] IS NULL OR symbol IN (SELECT unnest($1::VARCHAR[]))
        GROUP BY symbol, source ORDER BY symbol, source
        """,
        [None if symbols is None else list(symbols)],
    ).fetchall()
    return [Held(*row) for row in rows]


def _known_bars(con: Connection, known_at: datetime | None) -> None:
    """The view ``known_bars``: the daily bars as they are, or as they were at an instant."""
    columns = "symbol, source, session, open, high, low, close, volume"
    known = f"SELECT {columns} FROM bars WHERE timeframe = '1d'"
    if known_at is not None:
        at = f"TIMESTAMP '{_text(known_at)}'"
        known += f""" AND known_at <= {at} UNION ALL SELECT {columns} FROM superseded_bars
                      WHERE timeframe = '1d' AND known_at <= {at} AND superseded_at > {at}"""
    con.execute(f"CREATE OR REPLACE TEMP VIEW known_bars AS {known}")


def _text(moment: datetime) -> str:
    """An instant as SQL has it: a view takes no parameters."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")


def chosen(held: Sequence[Held], source: str | None = None) -> dict[str, Held]:
    """One source a symbol, never two mixed: `source` if named, else the one with the newest bar, then the most bars.

    It does not depend on the sessions asked for, so that a score and a backtest of other spans read the same bars.
    """
    best: dict[str, Held] = {}
    for one in sorted(held, key=lambda each: (each.last, each.bars, each.source)):
        if source is None or one.source == source:
            best[one.symbol] = one
    return dict(sorted(best.items()))


@dataclass(frozen=True)
class Market:
    """A panel and, for each of its symbols, the last session that was looked at when its bars were fetched."""

    panel: Panel
    covered: dict[str, date]

    def require(self, session: date, symbols: Collection[str]) -> None:
        """Raise NoData if what a symbol did on `session` is not known: not fetched is not the same as no bar."""
        for symbol in sorted(symbols):
            if symbol not in self.covered:
                raise NoData(f"no bars are stored of {symbol}, which the account holds; run: ma fetch {symbol}")
            if self.covered[symbol] < session:
                raise NoData(
                    f"{symbol} is stored up to {self.covered[symbol]}, the account needs {session};"
                    f" run: ma fetch {symbol}"
                )


def read_market(home: Path, symbols: Sequence[str], *, timeout_s: float) -> Market:
    """All that is stored of `symbols`, for an account that lives by it."""
    panel = read_panel(home, symbols, timeout_s=timeout_s)
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        rows = con.execute(
            "SELECT symbol, source, max(last) FROM coverage WHERE timeframe = '1d' GROUP BY symbol, source"
        ).fetchall()
    last = {(symbol, source): session for symbol, source, session in rows}
    final = {
        symbol: panel.sessions[row].astype(date) for symbol, row in zip(panel.symbols, panel.last_bar[-1], strict=True)
    }
    pairs = zip(panel.symbols, panel.sources, strict=True)
    return Market(panel, {symbol: last.get((symbol, source), final[symbol]) for symbol, source in pairs})


def read_panel(
    home: Path,
    symbols: Sequence[str] | None,
    *,
    last: date | None = None,
    source: str | None = None,
    known_at: datetime | None = None,
    timeout_s: float = 60.0,
) -> Panel:
    """The daily panel of `symbols` (all stored if None) from their first stored bar up to session `last`.

    `known_at` leaves out what the store learned later and brings back what was superseded since. A symbol
    without a bar is left out: compare ``panel.symbols``. Raises NoData when nothing is left.
    """
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        picked = chosen(stored(con, symbols, known_at), source)
        if not picked:
            raise NoData(_nothing(symbols, source))
        _pick_bars(con, picked, last)
        span = con.execute("SELECT min(session), max(session) FROM picked_bars").fetchone()
        if span is None or span[0] is None:
            raise NoData(f"{_nothing(symbols, source)}{f' up to {last}' if last else ''}")
        sessions = _sessions(con, *span)
        names = [row[0] for row in con.execute("SELECT DISTINCT symbol FROM picked_bars ORDER BY symbol").fetchall()]
        panel = empty(sessions, names, [picked[name].source for name in names])
        _fill_bars(con, panel)
        _fill_actions(con, panel, known_at)
    return panel


def _nothing(symbols: Sequence[str] | None, source: str | None) -> str:
    who = "nothing is stored" if symbols is None else f"no bars are stored of {', '.join(symbols[:5])}"
    more = f" and {len(symbols) - 5} more" if symbols and len(symbols) > 5 else ""
    where = f" from source {source}" if source else ""
    what = " ".join(symbols[:5]) if symbols else "SYMBOL"
    return f"{who}{more}{where}; run: ma fetch {what}"


def _pick_bars(con: Connection, picked: dict[str, Held], last: date | None) -> None:
    con.execute(
        "CREATE TEMP TABLE picked AS SELECT unnest(?::VARCHAR[]) AS symbol, unnest(?::VARCHAR[]) AS source",
        [list(picked), [one.source for one in picked.values()]],
    )
    con.execute(
        f"""
        CREATE TEMP VIEW picked_bars AS
        SELECT b.* FROM known_bars b JOIN picked p ON p.symbol = b.symbol AND p.source = b.source
        WHERE b.session <= DATE '{(last or date.max).isoformat()}'
        """
    )


def _sessions(con: Connection, first: date, last: date) -> np.ndarray:
    found = con.execute(
        "SELECT session FROM sessions WHERE session BETWEEN ? AND ? ORDER BY session", [first, last]
    ).fetchnumpy()
    return np.asarray(found["session"]).astype("datetime64[D]")


def _fill_bars(con: Connection, panel: Panel) -> None:
    rows = con.execute(
        f"SELECT (session - DATE '1970-01-01')::INTEGER AS day, list_position(?::VARCHAR[], symbol)::INTEGER AS place,"
        f" {', '.join(FIELDS)} FROM picked_bars",
        [list(panel.symbols)],
    ).fetchnumpy()
    t, n = _places(panel, rows)
    for name in FIELDS:
        getattr(panel.raw, name)[t, n] = rows[name]


def _fill_actions(con: Connection, panel: Panel, known_at: datetime | None) -> None:
    columns = "symbol, source, session, kind, value"
    known = f"SELECT {columns} FROM actions"
    if known_at is not None:
        at = f"TIMESTAMP '{_text(known_at)}'"
        known += f""" WHERE known_at <= {at} UNION ALL SELECT {columns} FROM superseded_actions
                      WHERE known_at <= {at} AND superseded_at > {at}"""
    rows = con.execute(
        f"""
        SELECT (a.session - DATE '1970-01-01')::INTEGER AS day, list_position($1::VARCHAR[], a.symbol)::INTEGER AS place,
               a.kind = 'split' AS is_split, a.value
        FROM ({known}) a JOIN picked p ON p.symbol = a.symbol AND p.source = a.source
        WHERE list_contains($1::VARCHAR[], a.symbol) AND a.session IN (SELECT session FROM sessions)
          AND a.session BETWEEN $2 AND $3
        """,
        [list(panel.symbols), panel.sessions[0].astype(date), panel.sessions[-1].astype(date)],
    ).fetchnumpy()
    t, n = _places(panel, rows)
    is_split, value = np.asarray(rows["is_split"], dtype=bool), np.asarray(rows["value"], dtype=np.float64)
    panel.split[t[is_split], n[is_split]] = value[is_split]
    panel.dividend[t[~is_split], n[~is_split]] = value[~is_split]


def _places(panel: Panel, rows: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    days = panel.sessions.astype(np.int64)
    return np.searchsorted(days, np.asarray(rows["day"])), np.asarray(rows["place"]) - 1


def read_closes(home: Path, panel: Panel, *, timeout_s: float) -> np.ndarray:
    """(T,) UTC instants at which the sessions of `panel` closed."""
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        rows = con.execute(
            "SELECT close_at FROM sessions WHERE session BETWEEN ? AND ? ORDER BY session",
            [panel.sessions[0].astype(date), panel.sessions[-1].astype(date)],
        ).fetchnumpy()
    return np.asarray(rows["close_at"]).astype("datetime64[s]")


def read_session_before(home: Path, day: date, *, timeout_s: float) -> date | None:
    """The newest session of the calendar at or before `day`."""
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        row = con.execute("SELECT max(session) FROM sessions WHERE session <= ?", [day]).fetchone()
    return row[0] if row else None


def read_quarantined(
    home: Path, panel: Panel, *, known_at: datetime | None = None, timeout_s: float
) -> dict[str, dict[int, str]]:
    """Symbol -> row of `panel` -> reason, where a row was refused and the panel has no bar in its place.

    Only rows of the panel's own source count, and of days that are sessions: nothing is missing on another.
    """
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        rows = con.execute(
            """
            SELECT q.symbol, q.session, min(q.reason) FROM quarantine q
            JOIN (SELECT unnest($symbols::VARCHAR[]) AS symbol, unnest($sources::VARCHAR[]) AS source) p
              ON p.symbol = q.symbol AND p.source = q.source
            WHERE q.session BETWEEN $first AND $last AND ($at::TIMESTAMP IS NULL OR q.known_at <= $at::TIMESTAMP)
            GROUP BY q.symbol, q.session ORDER BY q.symbol, q.session
            """,
            {
                "symbols": list(panel.symbols),
                "sources": list(panel.sources),
                "first": panel.sessions[0].astype(date),
                "last": panel.sessions[-1].astype(date),
                "at": None if known_at is None else known_at.astimezone(UTC).replace(tzinfo=None),
            },
        ).fetchall()
    place = {session.astype(date): t for t, session in enumerate(panel.sessions)}
    found: dict[str, dict[int, str]] = {}
    for symbol, session, reason in rows:
        t = place.get(session)
        if t is not None and not panel.has_bar[t, panel.symbols.index(symbol)]:
            found.setdefault(symbol, {})[t] = reason
    return found


def data_hash(panel: Panel) -> str:
    """SHA-256 over everything a backtest read: symbols, sources, sessions, prices, volumes, splits and dividends."""
    digest = hashlib.sha256("\n".join([*panel.symbols, *panel.sources]).encode())
    digest.update(np.ascontiguousarray(panel.sessions).view(np.int64).tobytes())
    parts: list[Array] = [getattr(panel.raw, name) for name in FIELDS] + [panel.split, panel.dividend]
    for part in parts:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
