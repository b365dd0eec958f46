"""Staged files into ``market.duckdb``: what is new is added, what differs replaces the old, which is kept.

A bar is told from another by symbol, timeframe, start and source; nothing but this merge keeps that unique (a
primary key would make the file eight times as large). One file is one transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from marketagent.store.connection import Connection
from marketagent.store.joins import infer_over_seams, set_slips_apart
from marketagent.store.staged import Staged
from marketagent.symbols import is_ticker

SAME_VALUE = 1e-4  # two readings of one dividend from two printings of an adjusted close differ less than this


_NOTHING: tuple[str | None, str | None, int] = (None, None, 0)


@dataclass(frozen=True)
class Origin:
    """Where staged rows come from: the source and feed recorded with every bar, and the file, if they came in one.

    `fingerprint` is empty for what a vendor delivered: the same question may have another answer tomorrow.
    """

    source: str
    feed: str
    file: str
    fingerprint: str = ""


@dataclass(frozen=True)
class Merged:
    """What one file did to one symbol."""

    symbol: str
    first: str | None
    last: str | None
    bars: int
    added: int
    corrected: int
    quarantined: int
    actions: int


def known_fingerprint(con: Connection, fingerprint: str) -> bool:
    """Whether this very file, read with these very options, is stored already."""
    return con.execute("SELECT 1 FROM files WHERE fingerprint = ?", [fingerprint]).fetchone() is not None


def unchanged(con: Connection, origin: Origin) -> tuple[str, list[Merged]]:
    """The timeframe and the symbols of a file that is stored already, with nothing done to them."""
    rows = con.execute(
        "SELECT symbol, timeframe FROM file_symbols WHERE fingerprint = ? ORDER BY symbol", [origin.fingerprint]
    ).fetchall()
    timeframe = rows[0][1] if rows else "1d"
    con.execute("SET VARIABLE source = ?", [origin.source])
    con.execute("SET VARIABLE timeframe = ?", [timeframe])
    spans = stored_spans(con, [row[0] for row in rows])
    return timeframe, [Merged(symbol, *spans.get(symbol, _NOTHING), 0, 0, 0, 0) for symbol, _ in rows]


def merge(con: Connection, staged: Staged, origin: Origin, now: datetime) -> tuple[list[Merged], list[str]]:
    """Bring `staged` into the open transaction of `con`; returns what happened, a row a symbol in order, and notes."""
    at = now.replace(tzinfo=None)
    con.execute("SET VARIABLE source = ?", [origin.source])
    con.execute("SET VARIABLE timeframe = ?", [staged.timeframe])
    con.execute("SET VARIABLE moment = ?::TIMESTAMP", [at])
    con.execute("CREATE TEMP TABLE fresh AS FROM read_parquet(?)", [staged.bar_file])
    con.execute("CREATE TEMP TABLE acts AS FROM read_parquet(?)", [staged.action_file])
    con.execute("CREATE TEMP TABLE bad AS FROM read_parquet(?)", [staged.bad_file])
    inferred = staged.actions == "inferred"
    con.execute("SET VARIABLE inferred = ?", [inferred])
    set_slips_apart(con)
    notes = infer_over_seams(con) if inferred else []
    corrected, added = merge_bars(con, origin.feed)
    actions = _merge_actions(con, inferred=inferred, given=staged.actions == "given")
    quarantined = _merge_bad(con, origin)
    report = _report(con, added, corrected, actions, quarantined)
    if origin.fingerprint:
        _cover(con)
        _remember_file(con, staged, origin, report, at)
    con.execute("DROP TABLE fresh; DROP TABLE acts; DROP TABLE bad; DROP TABLE IF EXISTS joined")
    return report, notes


def _remember_file(con: Connection, staged: Staged, origin: Origin, report: list[Merged], at: datetime) -> None:
    con.execute("INSERT INTO files VALUES (?, ?, ?, ?)", [origin.fingerprint, origin.file, staged.rows, at])
    con.execute(
        "INSERT INTO file_symbols SELECT ?, unnest(?::VARCHAR[]), ?",
        [origin.fingerprint, [one.symbol for one in report], staged.timeframe],
    )


def _counts(con: Connection, sql: str) -> dict[str, int]:
    return dict(con.execute(sql).fetchall())


def merge_bars(con: Connection, feed: str) -> tuple[dict[str, int], dict[str, int]]:
    con.execute(
        """
        CREATE TEMP TABLE stored AS
        SELECT b.symbol, b.ts, (b.open, b.high, b.low, b.close, b.volume) IS DISTINCT FROM
               (f.open, f.high, f.low, f.close, f.volume) OR b.feed <> ? AS differs
        FROM bars b JOIN fresh f ON f.symbol = b.symbol AND f.ts = b.ts
        WHERE b.timeframe = getvariable('timeframe') AND b.source = getvariable('source')
        """,
        [feed],
    )
    con.execute(
        """
        INSERT INTO superseded_bars
        SELECT b.*, getvariable('moment') FROM bars b JOIN stored s ON s.symbol = b.symbol AND s.ts = b.ts
        WHERE s.differs AND b.timeframe = getvariable('timeframe') AND b.source = getvariable('source')
        """
    )
    con.execute(
        """
        DELETE FROM bars b USING stored s WHERE s.differs AND s.symbol = b.symbol AND s.ts = b.ts
        AND b.timeframe = getvariable('timeframe') AND b.source = getvariable('source')
        """
    )
    con.execute(
        """
        INSERT INTO bars (symbol, timeframe, session, ts, open, high, low, close, volume, adj_close, source, feed, known_at)
        SELECT f.symbol, getvariable('timeframe'), f.session, f.ts, f.open, f.high, f.low, f.close, f.volume, f.adj_close,
               getvariable('source'), ?, getvariable('moment')
        FROM fresh f LEFT JOIN stored s ON s.symbol = f.symbol AND s.ts = f.ts
        WHERE s.symbol IS NULL OR s.differs ORDER BY f.symbol, f.ts
        """,
        [feed],
    )
    corrected = _counts(con, "SELECT symbol, count(*) FROM stored WHERE differs GROUP BY symbol")
    known = _counts(con, "SELECT symbol, count(*) FROM stored GROUP BY symbol")
    fresh = _counts(con, "SELECT symbol, count(*) FROM fresh GROUP BY symbol")
    con.execute("DROP TABLE stored")
    return corrected, {symbol: count - known.get(symbol, 0) for symbol, count in fresh.items()}


def _merge_actions(con: Connection, *, inferred: bool, given: bool) -> dict[str, int]:
    """A file with columns for actions is believed on every day it has; what is inferred replaces what was inferred."""
    if inferred:
        outdated = """
            SELECT a.symbol, a.session, a.kind FROM actions a LEFT JOIN acts n USING (symbol, session, kind)
            WHERE a.source = getvariable('source') AND a.inferred AND (abs(a.value / n.value - 1) > $1
                OR (a.symbol IN (SELECT symbol FROM joined) AND a.value IS DISTINCT FROM n.value))
            """
    else:
        outdated = """
            SELECT a.symbol, a.session, a.kind FROM actions a LEFT JOIN acts n USING (symbol, session, kind)
            WHERE a.source = getvariable('source') AND $2 AND (a.value <> n.value OR (n.value IS NULL
                AND EXISTS (FROM fresh f WHERE f.symbol = a.symbol AND f.session = a.session)) OR (a.inferred AND n.value IS NOT NULL))
            """
    con.execute(f"CREATE TEMP TABLE outdated AS {outdated.replace('$1', str(SAME_VALUE)).replace('$2', str(given))}")
    con.execute(
        """
        INSERT INTO superseded_actions SELECT a.*, getvariable('moment') FROM actions a JOIN outdated USING (symbol, session, kind)
        WHERE a.source = getvariable('source');
        DELETE FROM actions a USING outdated o WHERE a.source = getvariable('source')
        AND o.symbol = a.symbol AND o.session = a.session AND o.kind = a.kind;
        DROP TABLE outdated
        """
    )
    con.execute(
        """
        CREATE TEMP TABLE new AS
        SELECT DISTINCT ON (symbol, session, kind) symbol, session, kind, value FROM acts n
        WHERE NOT EXISTS (FROM actions a WHERE a.source = getvariable('source') AND a.symbol = n.symbol
            AND a.session = n.session AND (a.kind = n.kind OR (getvariable('inferred') AND NOT a.inferred)))
        ORDER BY symbol, session, kind, value;
        INSERT INTO actions (symbol, session, kind, value, source, known_at, inferred)
        SELECT symbol, session, kind, value, getvariable('source'), getvariable('moment'), getvariable('inferred') FROM new
        """
    )
    counts = _counts(con, "SELECT symbol, count(*) FROM new GROUP BY symbol")
    con.execute("DROP TABLE new")
    return counts


def _merge_bad(con: Connection, origin: Origin) -> dict[str, int]:
    con.execute(
        """
        INSERT INTO quarantine (source, file, line, symbol, session_text, session, reason, row_text, known_at)
        SELECT getvariable('source'), $1, b.line, b.symbol, b.session_text, b.session, b.reason, b.row_text, getvariable('moment')
        FROM bad b WHERE NOT EXISTS (FROM quarantine q WHERE q.source = getvariable('source')
            AND q.file = $1 AND q.line = b.line AND q.row_text = b.row_text AND q.reason = b.reason)
        """,
        [origin.file],
    )
    counts = _counts(con, "SELECT symbol, count(*) FROM bad GROUP BY symbol")
    return {symbol: count for symbol, count in counts.items() if symbol and is_ticker(symbol)}


def _cover(con: Connection) -> None:
    """Remember what was looked at: from a symbol's first bar to the file's last, for a symbol may have ended before."""
    con.execute(
        """
        CREATE TEMP TABLE span AS SELECT symbol, min(session) AS first, (SELECT max(session) FROM fresh) AS last FROM fresh GROUP BY symbol;
        DELETE FROM coverage c USING span s WHERE c.symbol = s.symbol AND c.timeframe = getvariable('timeframe')
            AND c.source = getvariable('source') AND c.first >= s.first AND c.last <= s.last;
        INSERT INTO coverage (symbol, timeframe, source, first, last, fetched_at)
        SELECT s.symbol, getvariable('timeframe'), getvariable('source'), s.first, s.last, getvariable('moment') FROM span s
        WHERE NOT EXISTS (FROM coverage c WHERE c.symbol = s.symbol AND c.timeframe = getvariable('timeframe')
            AND c.source = getvariable('source') AND c.first <= s.first AND c.last >= s.last);
        DROP TABLE span
        """
    )


def _report(
    con: Connection,
    added: dict[str, int],
    corrected: dict[str, int],
    actions: dict[str, int],
    quarantined: dict[str, int],
) -> list[Merged]:
    stored = stored_spans(con, sorted({*added, *quarantined}))
    return [
        Merged(
            symbol,
            *stored.get(symbol, _NOTHING),
            added.get(symbol, 0),
            corrected.get(symbol, 0),
            quarantined.get(symbol, 0),
            actions.get(symbol, 0),
        )
        for symbol in sorted({*added, *quarantined})
    ]


def stored_spans(con: Connection, symbols: list[str]) -> dict[str, tuple[str | None, str | None, int]]:
    """Symbol -> (first, last, bars) of what is stored of `symbols` in the timeframe and source set on `con`."""
    rows = con.execute(
        """
        SELECT symbol, min(session)::VARCHAR, max(session)::VARCHAR, count(*) FROM bars
        WHERE timeframe = getvariable('timeframe') AND source = getvariable('source') AND symbol IN (SELECT unnest(?::VARCHAR[]))
        GROUP BY symbol ORDER BY symbol
        """,
        [symbols],
    ).fetchall()
    return {symbol: (first, last, bars) for symbol, first, last, bars in rows}


def spans_of(
    con: Connection, symbols: list[str], timeframe: str, source: str
) -> dict[str, tuple[str | None, str | None, int]]:
    """Symbol -> (first, last, bars) of what is stored of `symbols`."""
    con.execute("SET VARIABLE timeframe = ?", [timeframe])
    con.execute("SET VARIABLE source = ?", [source])
    return stored_spans(con, symbols)


def feeds_of(con: Connection, symbols: Sequence[str], timeframe: str, source: str) -> dict[str, list[str]]:
    """Symbol -> the feeds its stored bars are of."""
    rows = con.execute(
        """
        SELECT symbol, list(DISTINCT feed) FROM bars
        WHERE timeframe = ? AND source = ? AND list_contains(?::VARCHAR[], symbol) GROUP BY symbol
        """,
        [timeframe, source, list(symbols)],
    ).fetchall()
    return dict(rows)
