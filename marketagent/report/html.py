"""The page: one file of HTML with its own style and scripts, which asks no network for anything.

Whatever the model says is text and is escaped here, in the markup and in the JSON that the charts are drawn from. The
page forbids itself the network and every script but its own two, by their hashes (Content-Security-Policy).
"""

import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

from marketagent.formats import clean
from marketagent.report.model import Chart, Figure, Group, Heat, Page, Picker, Section, Table

_HEADLINE = ("total_return", "cagr", "sharpe", "max_drawdown", "volatility", "turnover")
_WORD = 26  # characters of a cell that is not broken
_SHORT = 30  # rows of a table that is not torn apart in print
_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:;"
    " base-uri 'none'; form-action 'none'"
)


def page(report: Page) -> str:
    """`report` as HTML."""
    scripts = [(files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8"), _own("page.js")]
    policy = _POLICY.format(scripts=" ".join(f"'sha256-{_digest(text)}'" for text in scripts))
    charts: list[dict[str, Any]] = []
    body = "".join([*_head(report), *(_section(section, charts) for section in report.sections)])
    data = json.dumps(charts, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    title = f"{_text(report.sheet.title)}: backtest"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f'<link rel="icon" href="data:,">\n<title>{title}</title>\n<style>\n{_own("page.css")}</style>\n</head>\n'
        f'<body>\n<main>\n{body}</main>\n<script type="application/json" id="charts">{data}</script>\n'
        + "".join(f"<script>{text}</script>\n" for text in scripts)
        + "</body>\n</html>\n"
    )


def _own(name: str) -> str:
    return (files("marketagent.report") / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()


def _text(text: str) -> str:
    return escape(clean(text))


def _head(report: Page) -> Iterator[str]:
    sheet = report.sheet
    facts = {fact.name: fact for fact in sheet.facts}
    yield f"<header>\n<h1>{_text(sheet.title)}{_judged(sheet.judged)}</h1>\n"
    yield f"<dl class=facts>{''.join(_pair(fact) for fact in facts.values())}</dl>\n</header>\n"
    figures = {figure.name: figure for figure in sheet.figures}
    headline = [figures[name] for name in _HEADLINE if name in figures]
    yield f"<section aria-label=Summary>\n<dl class=headline>{''.join(map(_pair, headline))}</dl>\n"
    yield f"<div class=groups>{''.join(map(_group, sheet.groups))}</div>\n</section>\n"


def _judged(judged: str) -> str:
    return f" <span class=judged>{_text(judged)}</span>" if judged else ""


def _pair(figure: Figure) -> str:
    return f"<div><dt>{_text(figure.label)}</dt><dd>{_text(figure.text)}</dd></div>"


def _group(group: Group) -> str:
    return f"<div class=group><h3>{_text(group.title)}</h3><dl>{''.join(map(_pair, group.figures))}</dl></div>"


def _section(section: Section, charts: list[dict[str, Any]]) -> str:
    note = f"<p>{_text(section.note)}</p>\n" if section.note else ""
    parts = "".join(_part(part, section.title, charts) for part in section.parts)
    return f"<section>\n<h2>{_text(section.title)}{_judged(section.judged)}</h2>\n{note}{parts}</section>\n"


def _part(part: Table | Chart | Heat | Picker | Group, heading: str, charts: list[dict[str, Any]]) -> str:
    match part:
        case Table():
            return _table(part, heading)
        case Group():
            return _group(part)
        case Picker():
            return _picker(part, charts)
        case _:
            return _figure([part], charts)


def _figure(choices: Sequence[Chart | Heat], charts: list[dict[str, Any]], control: str = "") -> str:
    """The place of a chart, and in `charts` what the script draws there: the first of the `choices`."""
    first, number = choices[0], len(charts)
    charts.append({"id": f"chart{number}", "choices": [_drawable(choice) for choice in choices]})
    return (
        f'<figure>{control}<figcaption id="title{number}">{_text(first.title)}</figcaption>\n'
        f'<div class=chart id="chart{number}" role=img aria-label="{_text(first.said)}"'
        f' style="height:{first.height}px"></div>\n<p class=note id="note{number}">{_text(first.note)}</p></figure>\n'
    )


def _drawable(chart: Chart | Heat) -> dict[str, Any]:
    return {"form": "heat" if isinstance(chart, Heat) else "lines", **asdict(chart)}


def _picker(picker: Picker, charts: list[dict[str, Any]]) -> str:
    number = len(charts)
    options = "".join(f"<option value={k}>{_text(chart.choice)}</option>" for k, chart in enumerate(picker.charts))
    label = _text(picker.label)
    return _figure(
        picker.charts,
        charts,
        f'<label class=pick>{label} <select data-chart="chart{number}">{options}</select></label>',
    )


def _table(table: Table, heading: str) -> str:
    """A table under its title, unless the `heading` says the same; a short one stays on one page of paper."""
    right = set(table.right)
    head = "".join(f"<th scope=col{_side(k in right)}>{_text(name)}</th>" for k, name in enumerate(table.columns))
    rows = "".join(f"<tr>{''.join(_cells(table, k, right))}</tr>\n" for k in range(len(table.rows)))
    note = f"<p class=note>{_text(table.note)}</p>" if table.note else ""
    title = _text(table.title)
    caption = "" if table.title == heading else f"<caption>{title}</caption>\n"
    short = " short" if len(table.rows) <= _SHORT else ""
    return (
        f'<div class="scroll{short}" role=region tabindex=0 aria-label="{title}"><table>\n{caption}'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>{note}\n"
    )


def _cells(table: Table, row: int, right: set[int]) -> Iterator[str]:
    tints = table.tints[row] if table.tints else [None] * len(table.columns)
    for k, (text, tint) in enumerate(zip(table.rows[row], tints, strict=True)):
        tag, scope = ("th", " scope=row") if k == 0 else ("td", "")
        yield f"<{tag}{scope}{_side(k in right, len(text) <= _WORD)}{_tint(tint)}>{_text(text)}</{tag}>"


def _side(right: bool, word: bool = False) -> str:
    return " class=n" if right else " class=w" if word else ""


def _tint(share: float | None) -> str:
    if share is None:
        return ""
    return f' style="background:rgba({"34,139,87" if share > 0 else "200,60,60"},{0.5 * abs(share):.2f})"'
