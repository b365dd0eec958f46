"""``--report``: the page of a run, or of a sweep's best combination, from what was computed and what is stored."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from marketagent.backtest import Backtest
from marketagent.metrics import SESSIONS
from marketagent.records import Backtest as BacktestRecord
from marketagent.records import Fold, Sweep
from marketagent.report import figures, money, sections, study, surface
from marketagent.report.html import page
from marketagent.report.model import Page
from marketagent.report.place import Place
from marketagent.store import trials
from marketagent.sweeping import Sweeping
from marketagent.timeframes import bars_a_session

LATEST = 50  # trials of the family on a page
BEST = 10  # combinations of a sweep
_CHOSEN = "in sample: chosen on these very sessions"
_PACKAGES = ("market-agent", "numpy", "numba", "duckdb", "plotly")


def of_run(
    home: Path,
    where: Place,
    record: BacktestRecord,
    result: Backtest,
    folds: Sequence[Fold],
    missing: Sequence[str],
    now: datetime,
    *,
    timeout_s: float,
) -> None:
    """Write the page of one run, with the `folds` of a walk-forward; `missing` are symbols of which nothing is stored."""
    made = _page(home, asdict(record), result, missing, now, timeout_s=timeout_s)
    first = [study.folds(folds)] if folds else []
    where.put(page(replace(made, sections=[*first, *made.sections])))


def of_sweep(
    home: Path,
    where: Place,
    sweep: Sweeping,
    sheet: Sweep,
    best: BacktestRecord,
    result: Backtest,
    missing: Sequence[str],
    now: datetime,
    *,
    timeout_s: float,
) -> None:
    """Write the page of the best combination, whose run came to `result`, with the surface of all."""
    shown = {**asdict(best), "judged": _CHOSEN}
    grid = surface.Grid(sweep.axes, sweep.sharpes, sweep.plateaus, int(sweep.ranked[0]))
    made = _page(home, shown, result, missing, now, timeout_s=timeout_s)
    first = surface.sweep(grid, list(sweep.best(sheet, BEST)), study.verdict(asdict(sheet)))
    where.put(page(replace(made, sections=[first, *made.sections])))


def _page(
    home: Path,
    record: Mapping[str, Any],
    result: Backtest,
    missing: Sequence[str],
    now: datetime,
    *,
    timeout_s: float,
) -> Page:
    sheet, panel = figures.sheet(record), result.decisions.panel
    tried, total = trials.latest(home, record["strategy"], panel.symbols, panel.timeframe, LATEST, timeout_s=timeout_s)
    a_year = SESSIONS * bars_a_session(panel.timeframe)
    measured = [
        *sections.over_time(result, record["cash"], record["benchmark"]),
        money.contributions(result),
        money.on_prices(result),
        money.costs(result, sheet, record),
        study.luck(sheet, record),
    ]
    return Page(
        sheet,
        [
            study.findings(record),
            *(replace(section, judged=sheet.judged) for section in measured),
            study.trials(tried, total, record, a_year),
            study.notes(sheet, missing),
            study.provenance(record, _made(now, panel.sources), panel.symbols),
        ],
    )


def _made(now: datetime, sources: Sequence[str]) -> dict[str, str]:
    """When the page was made, and with what."""
    return {
        "made": f"{now:%Y-%m-%d %H:%M} UTC",
        "prices": ", ".join(dict.fromkeys(sources)),
        "versions": ", ".join(
            [f"Python {platform.python_version()}", *(f"{name} {_version(name)}" for name in _PACKAGES)]
        ),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"  # the program from a bare checkout
