"""What comes out of staging: how a file was read, three Parquet files, and how many rows were kept and refused."""

from dataclasses import dataclass, field
from pathlib import Path

from marketagent.errors import BadData, NoData
from marketagent.store.tables import Table


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to read a file: `columns` renames (canonical name -> the file's), the rest where the file cannot tell."""

    columns: dict[str, str] = field(default_factory=dict)
    symbol: str | None = None
    timeframe: str | None = None
    stamp: str = "auto"
    first: str | None = None
    last: str | None = None
    symbols: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Staged:
    """What a file held: three Parquet files in `folder`, and how many rows were read, kept, repeated and refused."""

    folder: Path
    timeframe: str
    actions: str
    rows: int
    bars: int
    repeated: int
    bad: int
    notes: tuple[str, ...]

    @property
    def bar_file(self) -> str:
        return str(self.folder / "bars.parquet")

    @property
    def action_file(self) -> str:
        return str(self.folder / "actions.parquet")

    @property
    def bad_file(self) -> str:
        return str(self.folder / "bad.parquet")


def written(
    table: Table,
    folder: Path,
    timeframe: str,
    actions: str,
    options: Options,
    notes: list[str],
    *,
    may_be_empty: bool = False,
) -> Staged:
    """The tables ``raw`` and ``actions`` as three Parquet files in `folder`; notes gain a line for what was refused.

    Raises NoData and BadData where no row is left, unless that is an answer (`may_be_empty`).
    """
    con, name = table.con, table.name
    texts = {"symbol": "symbol", "date": "time_text"}
    shown = ", ".join(f"coalesce({texts.get(column, f'{column}_text')}, '')" for column in table.columns)
    counts = con.execute(
        """
        SELECT count(*) FILTER (asked), count(*) FILTER (asked AND reason IS NULL AND NOT repeated),
               count(*) FILTER (asked AND repeated), count(*) FILTER (asked AND reason IS NOT NULL)
        FROM raw
        """
    ).fetchone()
    rows, bars, repeated, bad = counts or (0, 0, 0, 0)
    if not rows and not may_be_empty:
        raise NoData(f"{name} has no row{_asked(options)}")
    first = con.execute(
        "SELECT line, reason FROM raw WHERE asked AND reason IS NOT NULL ORDER BY line LIMIT 1"
    ).fetchone()
    if first and not bars and not may_be_empty:
        raise BadData(f"{name}: none of its {rows} rows is a bar; line {first[0]}: {first[1]}")
    if first:
        notes = [
            *notes,
            f"{name}: {bad} of {rows} rows refused; line {first[0]}: {first[1]} (ma sql 'from quarantine')",
        ]
    staged = Staged(
        folder=folder,
        timeframe=timeframe,
        actions=actions,
        rows=rows,
        bars=bars,
        repeated=repeated,
        bad=bad,
        notes=tuple(notes),
    )
    con.execute(
        f"""
        COPY (SELECT line, symbol, session, ts, open, high, low, close, volume,
                     CASE WHEN adj_close > 0 AND isfinite(adj_close) THEN adj_close END AS adj_close FROM raw
              WHERE asked AND reason IS NULL AND NOT repeated ORDER BY symbol, ts) TO '{quoted_text(staged.bar_file)}';
        COPY (FROM actions ORDER BY ALL) TO '{quoted_text(staged.action_file)}';
        COPY (SELECT line, left(symbol, 40) AS symbol, left(time_text, 40) AS session_text, session, reason,
                     left(concat_ws(',', {shown}), 400) AS row_text
              FROM raw WHERE asked AND reason IS NOT NULL ORDER BY line) TO '{quoted_text(staged.bad_file)}'
        """
    )
    return staged


def _asked(options: Options) -> str:
    of = f" of {', '.join(options.symbols)}" if options.symbols else ""
    since = f" from {options.first}" if options.first else ""
    return of + since + (f" up to {options.last}" if options.last else "")


def quoted_text(text: str) -> str:
    """Text for the inside of an SQL string literal: COPY takes no parameters."""
    return text.replace("'", "''")
