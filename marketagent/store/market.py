"""What the store knows of prices: the calendar, and the panel of some symbols, of days or of bars within them."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from marketagent.errors import NoData
from marketagent.panel import Array, Panel, Sessions, empty
from marketagent.store import intraday
from marketagent.store.connection import Connection
from marketagent.store.database import opened
from marketagent.store.intraday import FIELDS
from marketagent.store.known import as_known, moment
from marketagent.timeframes import DAY, TIMEFRAMES, made_of, session_of

MARKET = "market.duckdb"
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
    newest: datetime


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


def stored(
    con: Connection, symbols: Sequence[str] | None = None, known_at: datetime | None = None, timeframe: str = DAY
) -> list[Held]:
    """What is stored of bars of `timeframe`, or of those it can be made of, by symbol and source, or was by `known_at`;
    of all symbols if `symbols` is None."""
    rows = con.execute(
        f"""
        SELECT symbol, source, min(session), max(session), count(*), max(ts) FROM {as_known("bars", known_at)}
        WHERE list_contains($timeframes::VARCHAR[], timeframe)
          AND ($symbols::VARCHAR[] IS NULL OR symbol IN (SELECT unnest($symbols::VARCHAR[])))
        GROUP BY symbol, source ORDER BY symbol, source
        """,
        {
            "symbols": None if symbols is None else list(symbols),
            "timeframes": list(made_of(timeframe)),
            **moment(known_at),
        },
    ).fetchall()
    return [Held(*row) for row in rows]


def chosen(held: Sequence[Held], source: str | None = None) -> dict[str, Held]:
    """One source a symbol, never two mixed: `source` if named, else the one with the newest bar, then the most bars.

    It does not depend on the sessions asked for, so that a score and a backtest of other spans read the same bars.
    """
    best: dict[str, Held] = {}
    for one in sorted(held, key=lambda each: (each.last, each.newest, each.bars, each.source)):
        if source is None or one.source == source:
            best[one.symbol] = one
    return dict(sorted(best.items()))


@dataclass(frozen=True)
class Market:
    """A panel and, for each of its symbols, the spans (first, last) of sessions that were looked at for it."""

    panel: Panel
    covered: Mapping[str, Sequence[tuple[date, date]]]

    def require(self, session: date, symbols: Collection[str]) -> None:
        """Raise NoData if what a symbol did on `session` (or a bar of it) is not known: not fetched is not the same as
        no bar."""
        session = session_of(session)
        timeframe = self.panel.timeframe
        how = "" if timeframe == DAY else f" --timeframe {timeframe}"
        for symbol in sorted(symbols):
            spans = self.covered.get(symbol)
            if not spans:
                raise NoData(f"no bars are stored of {symbol}, which the account holds; run: ma fetch {symbol}{how}")
            if not any(first <= session <= last for first, last in spans):
                known = max((last for _, last in spans if last < session), default=None)
                raise NoData(
                    f"{symbol} is stored up to {known or 'no session before'}, the account needs {session};"
                    f" run: ma fetch {symbol}{how}"
                )


def read_market(
    home: Path, symbols: Sequence[str], *, timeframe: str = DAY, since: date | None = None, timeout_s: float
) -> Market:
    """All that is stored of `symbols` (from session `since` on), for an account that lives by it."""
    panel = read_panel(home, symbols, first=since, timeframe=timeframe, timeout_s=timeout_s)
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        rows = con.execute(
            "SELECT symbol, source, first, last FROM coverage"
            " WHERE list_contains($timeframes::VARCHAR[], timeframe) AND list_contains($symbols::VARCHAR[], symbol)",
            {"timeframes": list(made_of(timeframe)), "symbols": list(panel.symbols)},
        ).fetchall()
    # A session that is under way is known as far as it went, also before anybody writes down that it was looked at.
    covered: dict[str, list[tuple[date, date]]] = {symbol: _seen(panel, n) for n, symbol in enumerate(panel.symbols)}
    source = dict(zip(panel.symbols, panel.sources, strict=True))
    for symbol, origin, first, last in rows:
        if origin == source[symbol]:
            covered[symbol].append((first, last))
    return Market(panel, covered)


def _seen(panel: Panel, n: int) -> list[tuple[date, date]]:
    if panel.timeframe == DAY:
        return []
    return [(day, day) for day in np.unique(panel.days[panel.has_bar[:, n]]).tolist()]


def read_panel(
    home: Path,
    symbols: Sequence[str] | None,
    *,
    first: date | None = None,
    last: date | None = None,
    source: str | None = None,
    known_at: datetime | None = None,
    timeframe: str = DAY,
    now: datetime | None = None,
    timeout_s: float = 60.0,
) -> Panel:
    """The panel of `symbols` (all stored if None) from their first stored bar up to session `last`.

    `known_at` leaves out what the store learned later and brings back what was superseded since. A `timeframe` within
    a day has the bars that have closed, by `now` if it is given (see ``store.intraday``). `first` leaves out sessions
    before it: adjusted prices then begin there, too. A symbol without a bar is left out: compare ``panel.symbols``.
    Raises NoData when nothing is left.
    """
    span = (first or date.min, last or date.max)
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        picked = chosen(stored(con, symbols, known_at, timeframe), source)
        if not picked:
            raise NoData(_nothing(symbols, source, known_at=known_at, timeframe=timeframe))
        _name_picked(con, picked)
        rows = _read_bars(con, *span, known_at, timeframe, now)
        if not len(rows["key"]):
            raise NoData(_nothing(symbols, source, last, known_at, timeframe, there=True))
        sessions = _grid(con, rows["key"], timeframe)
        actions = _read_actions(con, sessions, known_at)
    places = np.flatnonzero(np.bincount(rows["place"]))
    names = [list(picked)[place] for place in places]
    panel = empty(sessions, names, [picked[name].source for name in names], timeframe)
    _fill(panel, places, rows, actions)
    return panel


def read_symbols(
    home: Path,
    symbols: Sequence[str] | None,
    *,
    source: str | None = None,
    known_at: datetime | None = None,
    timeframe: str = DAY,
    timeout_s: float,
) -> list[str]:
    """Those of `symbols` (all if None, by the alphabet) of which bars are stored; raises NoData if there are none."""
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        picked = chosen(stored(con, symbols, known_at, timeframe), source)
    if not picked:
        raise NoData(_nothing(symbols, source, known_at=known_at, timeframe=timeframe))
    return list(picked) if symbols is None else [symbol for symbol in symbols if symbol in picked]


def read_session_grid(
    home: Path, session: date, timeframe: str, *, timeout_s: float
) -> tuple[Sessions, datetime | None]:
    """The start of every bar of one session's regular hours, oldest first, and when it closes; none, and None, on a day
    that is no session."""
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        row = con.execute("SELECT close_at FROM sessions WHERE session = ?", [session]).fetchone()
        return intraday.read_grid(con, session, session, timeframe), row[0] if row else None


def _nothing(
    symbols: Sequence[str] | None,
    source: str | None,
    last: date | None = None,
    known_at: datetime | None = None,
    timeframe: str = DAY,
    *,
    there: bool = False,
) -> str:
    """What there is no bar of, within what was asked, and how to get some; `there` are bars that no panel can have."""
    who = "nothing is stored" if symbols is None else f"no bars are stored of {', '.join(symbols[:5])}"
    more = f" and {len(symbols) - 5} more" if symbols and len(symbols) > 5 else ""
    where = f" from source {source}" if source else ""
    until = f" up to {last}" if last else ""
    known = f" that {'was' if symbols is None else 'were'} known at {known_at.isoformat()}" if known_at else ""
    what = " ".join(symbols[:5]) if symbols else "SYMBOL"
    if timeframe == DAY:
        return f"{who}{more}{where}{until}{known}; run: ma fetch {what}"
    # The hours of most vendors begin on the hour, and those of a session at half past nine: half-hours make both.
    kind = (
        f" in {timeframe} bars that begin with their session's grid, or in finer ones" * there
        or f" in {timeframe} bars"
    )
    wanted = made_of(timeframe)[-2:][0] if there else timeframe
    return f"{who}{more}{kind}{where}{until}{known}; run: ma fetch {what} --timeframe {wanted}"


def _name_picked(con: Connection, picked: dict[str, Held]) -> None:
    """The table ``picked``: the place of each symbol, and whose bars are read of it."""
    con.execute("CREATE TEMP TABLE picked (place INTEGER, symbol VARCHAR, source VARCHAR)")
    con.insert(
        "picked",
        {
            "place": ("INTEGER", range(len(picked))),
            "symbol": ("VARCHAR", list(picked)),
            "source": ("VARCHAR", [one.source for one in picked.values()]),
        },
    )


def _read_bars(
    con: Connection, first: date, last: date, known_at: datetime | None, timeframe: str, now: datetime | None
) -> dict[str, np.ndarray]:
    """Bars as columns: `key` in days (or seconds) since 1970, `place` of the symbol in the table ``picked``, FIELDS."""
    if timeframe != DAY:
        return intraday.read_rows(con, timeframe, first, last, known_at, now)
    found = con.execute(
        f"""
        SELECT (b.session - DATE '1970-01-01')::INTEGER AS key, p.place, {", ".join(f"b.{name}" for name in FIELDS)}
        FROM {as_known("bars", known_at)} b JOIN picked p ON p.symbol = b.symbol AND p.source = b.source
        WHERE b.timeframe = '1d' AND b.session BETWEEN $first AND $last
        """,
        {"first": first, "last": last, **moment(known_at)},
    ).fetchnumpy()
    return {name: np.asarray(column) for name, column in found.items()}


def _grid(con: Connection, keys: np.ndarray, timeframe: str) -> Sessions:
    """Every row of a panel from the first of its `keys` to the last, with or without a bar."""
    if timeframe == DAY:
        return _sessions(con, int(keys.min()), int(keys.max()))
    first, last = (np.datetime64(int(key), "s") for key in (keys.min(), keys.max()))
    grid = intraday.read_grid(
        con, first.astype("datetime64[D]").astype(date), last.astype("datetime64[D]").astype(date), timeframe
    )
    return np.asarray(grid[(grid >= first) & (grid <= last)])


def _read_actions(con: Connection, sessions: np.ndarray, known_at: datetime | None) -> dict[str, np.ndarray]:
    """Splits and dividends of the picked symbols within `sessions`, as columns."""
    found = con.execute(
        f"""
        SELECT (a.session - DATE '1970-01-01')::INTEGER AS day, p.place, a.kind = 'split' AS is_split, a.value
        FROM {as_known("actions", known_at)} a JOIN picked p ON p.symbol = a.symbol AND p.source = a.source
        WHERE a.session BETWEEN $first AND $last AND a.session IN (SELECT session FROM sessions)
        """,
        {**_first_and_last(sessions), **moment(known_at)},
    ).fetchnumpy()
    return {name: np.asarray(column) for name, column in found.items()}


def _first_and_last(sessions: Sessions) -> dict[str, date]:
    """The parameters first and last of a query about the sessions of these rows."""
    first, last = sessions[[0, -1]].astype("datetime64[D]").tolist()
    return {"first": first, "last": last}


def _sessions(con: Connection, first: int, last: int) -> np.ndarray:
    found = con.execute(
        "SELECT session FROM sessions WHERE session - DATE '1970-01-01' BETWEEN ? AND ? ORDER BY session", [first, last]
    ).fetchnumpy()
    return np.asarray(found["session"]).astype("datetime64[D]")


def _fill(panel: Panel, places: np.ndarray, bars: Mapping[str, np.ndarray], actions: Mapping[str, np.ndarray]) -> None:
    """Put bars where they belong: each key to its row, each place to its column; an action to its session's first row."""
    keys, days = panel.sessions.astype(np.int64), panel.days.astype(np.int64)
    t = _rows_of(keys, bars["key"]) if panel.timeframe == DAY else np.searchsorted(keys, bars["key"])
    cells = t * len(places) + _rows_of(places, bars["place"])
    for name in FIELDS:
        getattr(panel.raw, name).reshape(-1)[cells] = bars[name]
    kept = np.isin(actions["place"], places)
    is_split, value = actions["is_split"][kept].astype(bool), actions["value"][kept]
    t, n = np.searchsorted(days, actions["day"][kept]), np.searchsorted(places, actions["place"][kept])
    panel.split[t[is_split], n[is_split]] = value[is_split]
    panel.dividend[t[~is_split], n[~is_split]] = value[~is_split]


def _rows_of(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(K,): where each of `values` is in `ordered`, all of whose numbers are near together: a table is quicker than a search."""
    table = np.zeros(int(ordered[-1] - ordered[0]) + 1, dtype=np.int64)
    table[ordered - ordered[0]] = np.arange(len(ordered))
    return np.asarray(table[values - ordered[0]])


def read_closes(home: Path, panel: Panel, *, timeout_s: float) -> np.ndarray:
    """(T,) UTC instants at which the sessions, or the bars within them, of `panel` closed."""
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        rows = con.execute(
            "SELECT close_at FROM sessions WHERE session BETWEEN $first AND $last ORDER BY session",
            _first_and_last(panel.sessions),
        ).fetchnumpy()
    closes: Sessions = np.asarray(rows["close_at"]).astype("datetime64[s]")[panel.session_number]
    if panel.timeframe == DAY:
        return closes
    return np.minimum(panel.sessions + np.timedelta64(TIMEFRAMES[panel.timeframe], "s"), closes)


def read_session_before(home: Path, day: date, *, timeout_s: float) -> date | None:
    """The newest session of the calendar at or before `day`."""
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        row = con.execute("SELECT max(session) FROM sessions WHERE session <= ?", [day]).fetchone()
    return row[0] if row else None


def read_quarantined(
    home: Path, panel: Panel, *, known_at: datetime | None = None, timeout_s: float
) -> dict[str, dict[int, str]]:
    """Symbol -> row of `panel` -> reason, where a row was refused and the panel has no bar in its place.

    Only rows of the panel's own source count, and of days that are sessions: nothing is missing on another. Which bar
    within a day a refused row was to be is not kept: it may be any that its session lacks.
    """
    return read_quarantined_of(home, [panel], known_at=known_at, timeout_s=timeout_s)[0]


def read_quarantined_of(
    home: Path, panels: Sequence[Panel], *, known_at: datetime | None = None, timeout_s: float
) -> list[dict[str, dict[int, str]]]:
    """The same for each of `panels`."""
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        return [_quarantined(con, panel, known_at) for panel in panels]


def _quarantined(con: Connection, panel: Panel, known_at: datetime | None) -> dict[str, dict[int, str]]:
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
            **_first_and_last(panel.sessions),
            "at": None if known_at is None else known_at.astimezone(UTC).replace(tzinfo=None),
        },
    ).fetchall()
    found: dict[str, dict[int, str]] = {}
    for symbol, session, reason in rows:
        lacks = (panel.days == np.datetime64(session)) & ~panel.has_bar[:, panel.symbols.index(symbol)]
        for t in np.flatnonzero(lacks).tolist():
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
