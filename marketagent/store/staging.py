"""A file of prices, read, checked and sorted out before the store is touched: a file goes in whole or not at all.

    prices.csv[.gz] | .parquet   ->   bars.parquet, actions.parquet, bad.parquet   (in a folder of its own)

Everything runs in a DuckDB of its own in memory, so that no lock is held while a large file is parsed. Every
column comes in as text and is cast here: a ticker ``NA``, ``TRUE`` or ``00700`` stays one. Rows that cannot be a
bar go to ``bad`` with a reason; a file that cannot be read as a table is refused as a whole.
"""

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np

from marketagent.actions import infer, simple_ratio
from marketagent.errors import BadData, UsageError
from marketagent.store.connection import Connection
from marketagent.store.staged import Options, Staged, written
from marketagent.store.tables import Table, opened_table, reading
from marketagent.symbols import SQL_PATTERN
from marketagent.timeframes import TIMEFRAMES

STAMPS = ("auto", "start", "end")
NEW_YORK = "America/New_York"


def stage(path: Path, options: Options, calendar: Path, folder: Path, now: datetime) -> Staged:
    """Read `path` by `options` against the Parquet `calendar` (session, open_at, close_at) into `folder`.

    A row of a bar that has not begun by `now` is none. Raises BadData where the file is no table, lacks a column, or
    holds no row that is a bar, NoData where none is in the range asked for, UsageError where an option names a column
    that is not there.
    """
    with opened_table(path, options.columns, folder) as table:
        con = table.con
        con.execute("CREATE TABLE calendar AS FROM read_parquet(?)", [str(calendar)])
        if "symbol" not in table.columns and options.symbol is None:
            raise BadData(f"{table.name} has no column for symbol; name one with --map symbol=COLUMN, or give --symbol")
        if "symbol" in table.columns and options.symbol is not None:
            raise UsageError(
                f"{table.name} has a column for symbol; --symbol {options.symbol} is for a file without one"
            )
        with reading(table.name):
            _take(table, options.symbol)
        _tell_times(con)
        timeframe = options.timeframe or _timeframe(con, table.name)
        _place(con, timeframe, options.stamp)
        judge(con, now)
        set_repeats_apart(con)
        set_jumps_apart(con)
        keep_range(con, options)
        actions, notes = _actions(con, table)
        return written(table, folder, timeframe, actions, options, notes)


def _take(table: Table, symbol: str | None) -> None:
    """The table ``raw``: one row a line, symbol and time as text, numbers cast, nothing judged yet."""
    name = "$symbol"
    if symbol is None:
        text = f"trim(CAST({table.columns['symbol']} AS VARCHAR))"
        # Only ASCII is put in upper case: a dotless i would become a plain I and pass for a ticker.
        name = f"CASE WHEN regexp_full_match({text}, '[ -~]*') THEN upper({text}) ELSE {text} END"
    numbers = []
    for column in ("open", "high", "low", "close", "volume", "adj_close", "dividend", "split"):
        if column in table.columns:
            text = f"trim(CAST({table.columns[column]} AS VARCHAR))"
            numbers += [f"{text} AS {column}_text", f"TRY_CAST({text} AS DOUBLE) AS {column}"]
        else:
            numbers += [f"NULL::VARCHAR AS {column}_text", f"NULL::DOUBLE AS {column}"]
    table.con.execute(
        f"""
        CREATE TABLE raw AS
        SELECT line, {name} AS symbol, trim(CAST({table.columns["date"]} AS VARCHAR)) AS time_text,
               {", ".join(numbers)}, NULL::VARCHAR AS reason
        FROM source
        """,
        {"symbol": symbol} if symbol is not None else None,
    )
    table.con.execute("DROP VIEW source; DROP TABLE IF EXISTS source_rows")


def _tell_times(con: Connection) -> None:
    """Add `local`, the time of each row in New York; NULL where it is no time, or one that no share has seen."""
    con.execute(
        rf"""
        ALTER TABLE raw ADD COLUMN zoned BOOLEAN;
        ALTER TABLE raw ADD COLUMN local TIMESTAMP;
        UPDATE raw SET zoned = regexp_matches(time_text, '[0-9]:[0-9.:]+ ?(Z|z|UTC|[+-][0-9]{{2}}(:?[0-9]{{2}})?)$');
        UPDATE raw SET local = CASE
            WHEN zoned AND regexp_matches(time_text, '[T ]00:00(:00(\.0+)?)?[^0-9.:]') THEN TRY_CAST(left(time_text, 10) AS TIMESTAMP)
            WHEN zoned THEN timezone('{NEW_YORK}', TRY_CAST(time_text AS TIMESTAMPTZ))
            WHEN regexp_matches(time_text, '^[0-9]{{8}}$') THEN try_strptime(time_text, '%Y%m%d')
            ELSE TRY_CAST(time_text AS TIMESTAMP) END;
        UPDATE raw SET local = NULL WHERE NOT (local BETWEEN '1800-01-01' AND '2200-01-01')
        """
    )


def _timeframe(con: Connection, name: str) -> str:
    """What the spacing of the rows says: all at midnight or one a day is ``1d``, else the commonest gap in a day."""
    midnight, most_a_day = con.execute(
        """
        SELECT bool_and(local::TIME = '00:00:00'), max(n) FROM
        (SELECT local, count(DISTINCT local) OVER (PARTITION BY symbol, local::DATE) AS n FROM raw WHERE local IS NOT NULL)
        """
    ).fetchone() or (None, None)
    if most_a_day is None:
        raise BadData(f"{name}: no row has a date; the first is {_first_time(con)!r}")
    if midnight or most_a_day == 1:
        return "1d"
    gap = con.execute(
        """
        SELECT mode(gap) FROM (SELECT date_diff('second', lag(local) OVER w, local) AS gap
        FROM (SELECT DISTINCT symbol, local FROM raw) WINDOW w AS (PARTITION BY symbol, local::DATE ORDER BY local))
        WHERE gap > 0
        """
    ).fetchone()
    for timeframe, seconds in TIMEFRAMES.items():
        if gap and gap[0] == seconds:
            return timeframe
    raise BadData(f"{name}: the rows are {gap and gap[0]} s apart; give --timeframe ({', '.join(TIMEFRAMES)})")


def _first_time(con: Connection) -> str:
    row = con.execute("SELECT time_text FROM raw ORDER BY line LIMIT 1").fetchone()
    return str(row[0])[:40] if row else ""


def _place(con: Connection, timeframe: str, stamp: str) -> None:
    """Add `session` and `ts` (UTC start of the bar): a day's bar starts at the open, an intraday one where its stamp says."""
    con.execute("ALTER TABLE raw ADD COLUMN session DATE; ALTER TABLE raw ADD COLUMN ts TIMESTAMP")
    if timeframe == "1d":
        con.execute("UPDATE raw SET session = local::DATE")
        con.execute("UPDATE raw SET ts = c.open_at FROM calendar c WHERE c.session = raw.session")
        return
    if stamp == "end" or (stamp == "auto" and _stamped_at_end(con)):
        con.execute(f"UPDATE raw SET local = local - INTERVAL {TIMEFRAMES[timeframe]} SECOND")
    con.execute(f"UPDATE raw SET session = local::DATE, ts = timezone('UTC', timezone('{NEW_YORK}', local))")


def _stamped_at_end(con: Connection) -> bool:
    """Whether bars stand at the close of sessions and none at the open: 09:31 .. 16:00 instead of 09:30 .. 15:59."""
    row = con.execute(
        f"""
        SELECT count(*) FILTER (local = timezone('{NEW_YORK}', timezone('UTC', open_at))),
               count(*) FILTER (local = timezone('{NEW_YORK}', timezone('UTC', close_at)))
        FROM raw JOIN calendar c ON c.session = raw.local::DATE
        """
    ).fetchone()
    at_open, at_close = row or (0, 0)
    return bool(at_open == 0 and at_close > 0)


def judge(con: Connection, now: datetime) -> None:
    """Write the first reason why a row cannot be a bar, if there is one."""
    at = now.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ")
    first, last = con.execute("SELECT min(session), max(session) FROM calendar").fetchone() or (None, None)
    numbers = ["open", "high", "low", "close", "volume"]
    cases = [
        ("symbol IS NULL OR symbol = ''", "'no symbol'"),
        (f"NOT regexp_full_match(symbol, '{SQL_PATTERN}')", "'symbol ' || left(symbol, 40) || ' is not a ticker'"),
        ("time_text IS NULL OR time_text = ''", "'no date'"),
        ("local IS NULL", "'date ' || left(time_text, 40) || ' is not a date'"),
        (f"session < '{first}'", f"session || ' is before the calendar, which begins {first}'"),
        (f"session > '{last}' OR ts > '{at}'", "session || ' has not begun yet'"),
        ("session NOT IN (SELECT session FROM calendar)", "session || ' is not a trading session'"),
    ]
    for name in numbers:
        cases += [
            (
                f"{name} IS NULL",
                f"'{name} ' || coalesce(nullif(left({name}_text, 40), ''), 'missing') || ' is not a number'",
            ),
            (f"NOT isfinite({name})", f"'{name} is ' || {name}_text"),
        ]
    cases += [(f"{name} <= 0", f"'{name} ' || {name}_text || ' is not above 0'") for name in numbers[:4]]
    cases += [
        ("volume < 0", "'volume ' || volume_text || ' is negative'"),
        ("high < low", "'high ' || high_text || ' is below low ' || low_text"),
        ("open > high OR open < low", "'open ' || open_text || ' is outside ' || low_text || ' .. ' || high_text"),
        ("close > high OR close < low", "'close ' || close_text || ' is outside ' || low_text || ' .. ' || high_text"),
    ]
    whens = " ".join(f"WHEN {test} THEN {reason}" for test, reason in cases)
    con.execute(f"UPDATE raw SET reason = CASE {whens} END")


def set_repeats_apart(con: Connection) -> None:
    """Rows for the same bar: equal ones count once, ones that disagree are all refused."""
    con.execute(
        """
        CREATE TABLE repeats AS
        WITH twice AS (SELECT symbol, ts FROM raw WHERE reason IS NULL GROUP BY symbol, ts HAVING count(*) > 1)
        SELECT symbol, ts, count(*) AS n, min(line) AS line,
               count(DISTINCT (open, high, low, close, volume, coalesce(split, 1), coalesce(dividend, 0))) AS versions
        FROM raw SEMI JOIN twice USING (symbol, ts) WHERE reason IS NULL GROUP BY symbol, ts;
        UPDATE raw SET reason = r.n || ' rows for this bar disagree' FROM repeats r
        WHERE raw.symbol = r.symbol AND raw.ts = r.ts AND r.versions > 1 AND raw.reason IS NULL;
        ALTER TABLE raw ADD COLUMN repeated BOOLEAN DEFAULT false;
        UPDATE raw SET repeated = true FROM repeats r
        WHERE raw.symbol = r.symbol AND raw.ts = r.ts AND r.versions = 1 AND raw.line > r.line AND raw.reason IS NULL
        """
    )


def set_jumps_apart(con: Connection) -> None:
    """A close a thousand times its neighbours' on both sides (or a thousandth) is a slipped digit, not a price."""
    con.execute(
        """
        UPDATE raw SET reason = 'close ' || raw.close_text || ' is over a thousand times off the bar before and after'
        FROM (
            SELECT line, close / lag(close) OVER w AS up, lead(close) OVER w / close AS down
            FROM raw WHERE reason IS NULL AND NOT repeated WINDOW w AS (PARTITION BY symbol ORDER BY ts)
        ) j
        WHERE j.line = raw.line AND ((j.up > 1000 AND j.down < 0.001) OR (j.up < 0.001 AND j.down > 1000))
        """
    )


def keep_range(con: Connection, options: Options) -> None:
    """Mark what was asked for; actions are read from the whole file first, so that a cut does not hide one."""
    con.execute("ALTER TABLE raw ADD COLUMN asked BOOLEAN DEFAULT true")
    con.execute(
        """
        UPDATE raw SET asked = false
        WHERE ($first IS NOT NULL AND session < $first::DATE) OR ($last IS NOT NULL AND session > $last::DATE)
           OR (len($symbols::VARCHAR[]) > 0 AND symbol NOT IN (SELECT unnest($symbols::VARCHAR[])))
        """,
        {"first": options.first, "last": options.last, "symbols": list(options.symbols)},
    )


def _actions(con: Connection, table: Table) -> tuple[str, list[str]]:
    """The table ``actions``, and how it came about: ``given`` by columns, ``inferred`` from adj_close, or ``none``."""
    con.execute("CREATE TABLE actions (symbol VARCHAR, session DATE, kind VARCHAR, value DOUBLE)")
    if "split" in table.columns or "dividend" in table.columns:
        _given(con)
        return "given", []
    if "adj_close" in table.columns:
        return "inferred", _inferred(con)
    return "none", []


def _given(con: Connection) -> None:
    # An action is true even where the bar beside it is not: it must only be of a ticker and of a session.
    placed = (
        f"regexp_full_match(symbol, '{SQL_PATTERN}') AND session IN (SELECT session FROM calendar) AND NOT repeated"
        " AND (reason IS NULL OR reason NOT LIKE '%disagree')"
    )
    wrong = {
        "split": "split_text <> '' AND (split IS NULL OR NOT isfinite(split) OR split < 0)",
        "dividend": "dividend_text <> '' AND (dividend IS NULL OR NOT isfinite(dividend) OR dividend < 0)",
    }
    for kind, test in wrong.items():
        con.execute(
            f"UPDATE raw SET reason = '{kind} ' || left({kind}_text, 40) || ' cannot be' WHERE reason IS NULL AND {test}"
        )
    con.execute(
        f"INSERT INTO actions SELECT symbol, session, 'dividend', dividend FROM raw WHERE {placed} AND asked AND dividend > 0"
        " AND isfinite(dividend)"
    )
    splits = con.execute(
        f"SELECT symbol, session, split FROM raw WHERE {placed} AND asked AND split > 0 AND split <> 1 AND isfinite(split)"
    ).fetchall()
    if splits:
        add_actions(con, [(symbol, session, "split", simple_ratio(ratio)) for symbol, session, ratio in splits])


def _inferred(con: Connection) -> list[str]:
    good = "reason IS NULL AND NOT repeated AND adj_close > 0 AND isfinite(adj_close)"
    rows = con.execute(
        f"SELECT symbol, (session - DATE '1970-01-01')::INTEGER AS day, close, adj_close FROM raw WHERE {good} ORDER BY symbol, ts"
    ).fetchnumpy()
    symbols = np.asarray(rows["symbol"])
    new = np.concatenate([[True], symbols[1:] != symbols[:-1]]) if len(symbols) else np.zeros(0, dtype=bool)
    starts = np.flatnonzero(new).tolist()
    found, notes = [], []
    for start, end in zip(starts, [*starts[1:], len(symbols)], strict=True):
        actions = infer(np.asarray(rows["close"][start:end]), np.asarray(rows["adj_close"][start:end]))
        if actions.noisy:
            notes.append(
                f"{symbols[start]}: adj_close steps too often to tell its splits and dividends; none were taken"
            )
        days = np.asarray(rows["day"][start:end])[actions.row].astype("datetime64[D]").tolist()
        for day, split, dividend in zip(days, actions.split.tolist(), actions.dividend.tolist(), strict=True):
            found += [(symbols[start], day, "split", split)] if split != 1.0 else []
            found += [(symbols[start], day, "dividend", dividend)] if dividend > 0 else []
    if found:
        add_actions(con, found)
        con.execute(
            "DELETE FROM actions a WHERE NOT EXISTS (FROM raw r WHERE r.symbol = a.symbol AND r.session = a.session AND r.asked)"
        )
    return notes


def add_actions(con: Connection, rows: list[tuple[str, date, str, float]]) -> None:
    symbols, sessions, kinds, values = zip(*rows, strict=True)
    con.insert(
        "actions",
        {
            "symbol": ("VARCHAR", symbols),
            "session": ("DATE", sessions),
            "kind": ("VARCHAR", kinds),
            "value": ("DOUBLE", values),
        },
    )


def check_options(options: Options) -> None:
    """Raise UsageError for a timeframe or a stamp that does not exist."""
    if options.timeframe is not None and options.timeframe not in TIMEFRAMES:
        raise UsageError(f"timeframe {options.timeframe!r} is none of {', '.join(TIMEFRAMES)}")
    if options.stamp not in STAMPS:
        raise UsageError(f"stamp {options.stamp!r} is none of {', '.join(STAMPS)}")
