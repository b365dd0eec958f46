"""Everything a person sees: tables, equity lines, and the one line on stderr.

Texts come from news, brokers and models. Nothing of them may drive a terminal: `clean` drops every control,
format, private and unassigned character, and cells are texts, never markup. How a value is written is in ``formats``.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any, TextIO

from marketagent import beside, wording
from marketagent.formats import NONE as NONE
from marketagent.formats import SWEPT, cell, label
from marketagent.formats import clean as clean
from marketagent.redact import redacted

if TYPE_CHECKING:
    from marketagent.report.model import Figure

_LONGEST = 2000
_BLOCKS = "▁▂▃▄▅▆▇█"

# What fits 80 columns; a name with ? makes room, from the right, when the terminal is narrower than the table.
_COLUMNS = {
    "fetched": "symbol source? timeframe? first last bars added corrected quarantined actions?",
    "difference": "symbol session ts? field left_source? left right_source? right difference",
    "decision": "symbol session ts? action score confidence weight close? reasoning",
    "order": "symbol session? ts? side quantity state filled_quantity fill_price commission? reason",
    "position": "account? symbol quantity price value weight session? ts?",
    "backtest": "strategy first last symbols? equity total_return sharpe max_drawdown",
    "trial": "strategy judged first last rank total_return cagr? sharpe max_drawdown trades turnover? plateau? deflated_sharpe",
    "fold": "strategy judged fold train_first train_last? first last? in_sample_sharpe sharpe total_return",
    "setting": "name value origin",
}
# Of records that name the one symbol they are of, as ``ma backtest --each`` makes them.
_ALONE = {
    "backtest": "symbol strategy judged total_return cagr sharpe in_sample_sharpe? efficiency? max_drawdown trades turnover"
    " deflated_sharpe? findings? first? last? exposure? costs_paid?",
    "trial": "symbol strategy judged rank total_return cagr? sharpe max_drawdown trades turnover? plateau? deflated_sharpe"
    " first? last?",
    "sweep": "symbol strategy judged done? sharpe deflated_sharpe pbo? spa_p? findings? first? last?",
}
# Told once above the table when all rows agree.
_SHARED = ("account", "strategy", "session", "ts", "source", "timeframe", "judged", "first", "last")
_AFTER = {"trial": "rank", "fold": "fold", "sweep": "symbol"}  # the column behind which they come, by kind
_WITHIN_A_DAY = "ts"  # no column where nothing has one
_COLOURS = {"buy": "green", "sell": "red"}
_LOOSE = {"reasoning", "reason", "summary", "meaning", "file"}  # texts: they get the width that is left over
_LEAST = 20  # columns, before an optional column makes room
_FEW = 12  # up to so many rows a text is wrapped, beyond it is cut: one line a row


@dataclass(frozen=True)
class Screen:
    """How wide a table may be, and whether it may use colour (NO_COLOR is respected on top)."""

    width: int
    colour: bool


def terminal(stdout: TextIO) -> Screen:
    """The screen behind `stdout`; 100 columns without colour where there is none."""
    if stdout.isatty():
        return Screen(get_terminal_size((80, 24)).columns, colour=True)
    return Screen(get_terminal_size((100, 24)).columns, colour=False)


def few(names: Sequence[str], most: int = 5) -> str:
    """The first names of many.

    >>> few(["A", "B", "C"], 2)
    'A, B and 1 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def shared(errors: Mapping[str, object]) -> list[tuple[list[str], str]]:
    """(names, text) of errors by name: those of one and the same text together, in the order they came.

    >>> shared({"A": "no bars", "B": "no key", "C": "no bars"})
    [(['A', 'C'], 'no bars'), (['B'], 'no key')]
    """
    alike: dict[str, list[str]] = {}
    for name, error in errors.items():
        alike.setdefault(one_line(error), []).append(clean(name))
    return [(names, text) for text, names in alike.items()]


def one_line(text: object) -> str:
    """`text` for an error: clean, without the user's keys, blanks collapsed, and at most 2000 characters."""
    line = redacted(" ".join(clean(str(text)).split()))
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"


def say(text: object) -> None:
    """One ``ma: …`` line on stderr."""
    tell(f"ma: {one_line(text)}\n")


def tell(text: str) -> None:
    """Write `text` to stderr as it is."""
    try:
        sys.stderr.write(text.encode("utf-8", "replace").decode())
        sys.stderr.flush()
    except (OSError, ValueError):
        pass  # stderr is full or closed: there is nowhere left to say so, and the exit code still tells


def table(records: Sequence[dict[str, Any]], screen: Screen) -> str:
    """`records` (as on a stream, ``kind`` included) as a table for `screen`, one after another for each kind; the folds of
    symbols alone, which would be pages, are left out."""
    if not records:
        return "(none)\n"
    kinds = dict.fromkeys(record["kind"] for record in records if not (record["kind"] == "fold" and _is_alone(record)))
    return "\n".join(_table(kind, [r for r in records if r["kind"] == kind], screen) for kind in kinds)


def sparkline(values: Sequence[float | None], width: int = 40) -> str:
    """An equity line: `values` as blocks over `width` columns, with the lowest and the highest behind it.

    None and NaN leave a gap; more values than columns are sampled, the last one always kept.

    >>> sparkline([1.0, 2.0, None, 8.0])
    '▁▂ █  low 1.00  high 8.00'
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known or width < 1:
        return ""
    low, high = min(known), max(known)
    count = min(width, len(values))
    sampled = [values[(i + 1) * len(values) // count - 1] for i in range(count)]
    return "".join(_block(value, low, high) for value in sampled) + f"  low {low:,.2f}  high {high:,.2f}"


def curve(values: Sequence[float], screen: Screen) -> str:
    """An equity line of `values` over the width of `screen`, with a blank line before it; nothing for no values."""
    labels = sparkline(values, 1)[1:]
    line = sparkline(values, max(screen.width - len(labels) - 1, 10))
    return f"\n{line}\n" if line else ""


def _block(value: float | None, low: float, high: float) -> str:
    if value is None or not math.isfinite(value):
        return " "
    if high == low:
        return _BLOCKS[3]
    # Halved first: high - low of two huge numbers of opposite sign would be infinite.
    return _BLOCKS[round((value / 2 - low / 2) / (high / 2 - low / 2) * 7)]


def _table(kind: str, records: list[dict[str, Any]], screen: Screen) -> str:
    rows = [_flat(record) for record in records]
    if kind == "strategy":
        return _strategies(records, screen)
    alone = _is_alone(records[0])
    if kind == "backtest" and len(records) == 1 and not alone:
        return _sheet(records[0], screen)
    if kind == "sweep" and len(records) == 1 and not alone:
        return _facts(wording.sweep(records[-1]), screen) + _doubts(records[-1]["findings"])
    names, optional = _chosen(kind, rows)
    # The columns of a query are the user's: they stay where and as they were asked for.
    shared = [name for name in names if kind != "row" and name in _SHARED and _agree(name, rows)]
    title = [f"{name} {cell(name, rows[0].get(name))}" for name in shared]
    text = _plain if kind == "row" else cell
    columns = {name: [text(name, row.get(name)) for row in rows] for name in names if name not in shared}
    gone = _fitted(columns, optional, screen.width)
    right = [name for name in columns if _is_numeric([row.get(name) for row in rows])]
    below = f"no room for {', '.join(map(label, gone))}: a wider terminal or --format ndjson shows them" if gone else ""
    drawn = _drawn(columns, right, title, screen, below, label_of=clean if kind == "row" else label)
    return drawn + (_beside(records, screen) if kind == "backtest" and alone else "")


def _fitted(columns: dict[str, list[str]], optional: Sequence[str], width: int) -> list[str]:
    """Take as many of the `optional` columns out as do not fit, the last first; returns those in which there was anything."""
    gone: list[str] = []
    for name in reversed(optional):
        if name in columns and _width(columns) > width and any(text != NONE for text in columns.pop(name)):
            gone.insert(0, name)
    return gone


def _is_alone(record: Mapping[str, Any]) -> bool:
    """Whether it is of one symbol of several that were played alone."""
    return record["kind"] in ("backtest", "sweep", "fold") and record.get("symbol") is not None


def _beside(records: Sequence[dict[str, Any]], screen: Screen) -> str:
    """What was asked for beside the runs, and what is to be said about them."""
    drawn = [
        _drawn(one.columns, list(one.columns)[1:], [one.title], screen, label_of=clean) for one in beside.asked(records)
    ]
    said = [one_line(f"{few(names)}: {note}" if names else note) for note, names in beside.notes(records)]
    return "".join(f"\n{part}" for part in [*drawn, "".join(f"{line}\n" for line in said)] if part)


def _strategies(records: list[dict[str, Any]], screen: Screen) -> str:
    """Each strategy with its own parameters below it, then those that every strategy has."""
    first: list[str] = []
    second: list[str] = []
    for record in records:
        first += [clean(record["name"]), *("" for _ in record["own"])]
        second += [
            clean(record["summary"]),
            *(clean(wording.parameter(name, record["params"][name])) for name in record["own"]),
        ]
    common = [name for name in records[0]["params"] if name not in records[0]["own"]]
    first += ["", "(every one)"] + [""] * (len(common) - 1)
    second += ["", *(clean(wording.parameter(name, records[0]["params"][name], default=False)) for name in common)]
    return _drawn({"": first, " ": second}, [], [], screen, header=False)


def _sheet(record: dict[str, Any], screen: Screen) -> str:
    """One backtest: what was run in a line or two, its metrics side by side, and what is to be said about it."""
    from marketagent.report import figures  # every command imports this file, and few show a backtest

    sheet = figures.sheet(record)
    facts = {fact.label: fact.text for fact in sheet.facts}
    figures_of = _side_by_side(sheet.figures, 2)
    if _width(figures_of) > screen.width:
        figures_of = _side_by_side(sheet.figures, 1)
    parts = [_facts(facts, screen), _drawn(figures_of, list(figures_of)[1::2], [], screen, header=False)]
    parts.append("".join(f"{clean(line)}\n" for line in sheet.luck))
    if sheet.capacity is not None:
        sizes = dict(zip(sheet.capacity.columns, map(list, zip(*sheet.capacity.rows, strict=True)), strict=True))
        parts.append(_drawn(sizes, list(sizes), [], screen))
    parts.append("".join(f"{one_line(note)}\n" for note in sheet.notes))
    parts.append(_doubts(record["findings"]))
    return "\n".join(part for part in parts if part)


def _side_by_side(figures: Sequence["Figure"], beside: int) -> dict[str, list[str]]:
    """Labels and values of `figures`, read downwards, in so many pairs of columns."""
    rows = -(-len(figures) // beside)
    columns: dict[str, list[str]] = {}
    for k in range(beside):
        some = figures[k * rows : (k + 1) * rows]
        empty = [""] * (rows - len(some))
        columns[" " * (2 * k)] = [("   " if k else "") + figure.label for figure in some] + empty
        columns[" " * (2 * k + 1)] = [figure.text for figure in some] + empty
    return columns


def _facts(facts: dict[str, str], screen: Screen) -> str:
    return _drawn({"": list(facts), " ": [clean(text) for text in facts.values()]}, [], [], screen, header=False)


def _doubts(findings: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"{one_line(wording.finding(found))}\n" for found in findings)


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record, with the columns of a row, or what a backtest came to, beside them."""
    if record["kind"] == "row":
        return dict(record["values"])
    flat = {name: value for name, value in record.items() if name not in ("kind", "i", "metrics")}
    if record["kind"] in _AFTER:
        params = record["best"] if record["kind"] == "sweep" else record["params"]
        flat |= {SWEPT + name: params.get(name) for name in record["swept"]}
    if record["kind"] in ("backtest", "sweep"):
        flat["findings"] = len(record["findings"])
    if record["kind"] == "backtest":
        flat |= (record["walk_forward"] or {}) | (record["luck"] or {}) | record["metrics"]
    return flat


def _chosen(kind: str, rows: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The columns of a kind in order, and those of them that may be left out; a kind without a list has all."""
    alone = kind in _ALONE and rows[0].get("symbol") is not None
    if kind not in _COLUMNS and not alone:
        return list(dict.fromkeys(name for row in rows for name in row)), []
    names = (_ALONE if alone else _COLUMNS)[kind].split()
    if alone:
        names = [
            name for name in names if any(row.get(name.rstrip("?")) is not None for row in rows) or name[-1] != "?"
        ]
    if kind in _AFTER:
        names[names.index(_AFTER[kind]) + 1 : 0] = [SWEPT + name for name in rows[0]["swept"]]
    if all(row.get(_WITHIN_A_DAY) is None for row in rows):
        names = [name for name in names if name.rstrip("?") != _WITHIN_A_DAY]
    return [name.rstrip("?") for name in names], [name.rstrip("?") for name in names if name.endswith("?")]


def _agree(name: str, rows: list[dict[str, Any]]) -> bool:
    return all(row.get(name) == rows[0].get(name) for row in rows) and rows[0].get(name) is not None


def _plain(name: str, value: Any) -> str:
    # A column of a query: a year is no quantity, and nothing is known of any unit.
    return cell(name, value) if value is None or isinstance(value, bool) else cell(name, _as_text(value))


def _as_text(value: Any) -> Any:
    return repr(value) if isinstance(value, int | float) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_numeric(values: list[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(_is_number(value) for value in known)


def _width(columns: dict[str, list[str]]) -> int:
    from rich.cells import cell_len

    widths = (
        min(max(cell_len(text) for text in [label(name), *cells]), _LEAST if name in _LOOSE else 1 << 16)
        for name, cells in columns.items()
    )
    return sum(widths) + 2 * (len(columns) - 1)


def _cut(columns: dict[str, list[str]], width: int) -> dict[str, list[str]]:
    """Texts shortened to the width that is left, so that many rows take one line each; a few may wrap."""
    loose = [name for name in columns if name in _LOOSE]
    if not loose or len(columns[loose[0]]) <= _FEW:
        return columns
    fixed = _width({name: cells for name, cells in columns.items() if name not in _LOOSE})
    room = max((width - fixed) // len(loose) - 2, _LEAST)
    short = {name: [t if len(t) <= room else t[: room - 1] + "…" for t in columns[name]] for name in loose}
    return {**columns, **short}


def _drawn(
    columns: dict[str, list[str]],
    right: list[str],
    title: list[str],
    screen: Screen,
    below: str = "",
    *,
    header: bool = True,
    label_of: Callable[[str], str] = label,
) -> str:
    from io import StringIO

    from rich.console import Console  # 60 ms, and a pipe does not pay them
    from rich.table import Table
    from rich.text import Text

    columns = _cut(columns, screen.width)
    drawn = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim", show_header=header)
    for name in columns:
        drawn.add_column(
            Text(label_of(name)),
            justify="right" if name in right else "left",
            no_wrap=header and name not in _LOOSE,
        )
    for cells in zip(*columns.values(), strict=True):
        drawn.add_row(*(Text(text, style=_COLOURS.get(text, "")) for text in cells))
    console = Console(
        file=StringIO(),
        # A number is never cut: better a line that the terminal wraps. A sheet without a header wraps by itself.
        width=max(screen.width, _width(columns)) if header else screen.width,
        force_terminal=screen.colour,
        color_system="standard" if screen.colour else None,
        highlight=False,
    )
    with console.capture() as capture:
        if title:
            console.print(Text(" · ".join(title), style="dim"))
        console.print(drawn)
        if below:
            console.print(Text(below, style="dim"))
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())
