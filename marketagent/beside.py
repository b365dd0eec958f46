"""What the records of ``ma backtest --each`` say beside the figures of their table, as tables and lines of their own.

How they did against random entries, what they were compared with, their intervals and larger accounts: only what was
asked for, a line for each symbol. Records are as on a stream.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marketagent.formats import NONE, cell, counted, label

_MOST = 5  # notes below a table; each may be of many symbols
_Record = Mapping[str, Any]


@dataclass(frozen=True)
class Beside:
    """One table: its `columns` by label, all but the first of numbers, and what they are in the `title`."""

    title: str
    columns: dict[str, list[str]]


def asked(records: Sequence[_Record]) -> list[Beside]:
    """The tables of what was asked for beside the runs, if anything was; each record names its symbol.

    >>> one = {"symbol": "AAPL", "benchmark": "SPY", "metrics": {"alpha": 0.1, "beta": 0.5}, "luck": None, "capacity": []}
    >>> [(table.title, list(table.columns)) for table in asked([one])]
    [('against SPY', ['symbol', 'alpha', 'beta', 'information ratio'])]
    """
    return [table for table in (_compared(records), _sized(records)) if len(table.columns) > 1]


def notes(records: Sequence[_Record]) -> list[tuple[str, list[str]]]:
    """(note, symbols) of what is to be said of some of them, the most frequent first, of few."""
    found: dict[str, list[str]] = {}
    for record in records:
        for note in record["notes"]:
            found.setdefault(note, []).append(record["symbol"])
    listed = sorted(found.items(), key=lambda one: -len(one[1]))
    shown, rest = listed[:_MOST], len(listed[_MOST:])
    if rest:
        shown.append((f"{counted(rest, 'more note')} in the records (--format ndjson)", []))
    return shown


def _compared(records: Sequence[_Record]) -> Beside:
    luck = [record["luck"] or {} for record in records]
    columns, title = _symbols(records), []
    if runs := max(one.get("null_runs", 0) for one in luck):
        columns |= {label(name): [cell(name, one.get(name)) for one in luck] for name in ("null_sharpe", "null_p")}
        title.append(f"null: {counted(runs, 'run')} of random entries")
    if samples := max(one.get("samples", 0) for one in luck):
        columns |= {f"{name} 95 %": [_interval(name, one) for one in luck] for name in ("sharpe", "cagr")}
        title.append(f"95 %: of {samples:,} bootstrap samples")
    if benchmark := records[0]["benchmark"]:
        for name in ("alpha", "beta", "information_ratio"):
            columns[label(name)] = [cell(name, record["metrics"].get(name)) for record in records]
        title.append(f"against {benchmark}")
    return Beside(" · ".join(title), columns)


def _interval(name: str, luck: _Record) -> str:
    low, high = luck.get(f"{name}_low"), luck.get(f"{name}_high")
    return NONE if low is None and high is None else f"{cell(name, low)} .. {cell(name, high)}"


def _sized(records: Sequence[_Record]) -> Beside:
    """Of each symbol the return of every account size that was asked for."""
    columns = _symbols(records)
    for k, size in enumerate(records[0]["capacity"]):
        columns[cell("quantity", size["cash"])] = [
            cell("total_return", record["capacity"][k]["total_return"]) for record in records
        ]
    return Beside("return by starting cash in USD", columns)


def _symbols(records: Sequence[_Record]) -> dict[str, list[str]]:
    return {"symbol": [cell("symbol", record["symbol"]) for record in records]}
