"""``--report``: the page of a run, or of a sweep's best combination, from what was computed and what is stored."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from marketagent import scoring
from marketagent.backtest import Backtest, Terms, backtest
from marketagent.catalog import blame
from marketagent.decision import decide
from marketagent.metrics import SESSIONS
from marketagent.records import Backtest as BacktestRecord
from marketagent.records import Fold, Luck, Sweep
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
    missing: Sequence[str],
    now: datetime,
    *,
    timeout_s: float,
) -> None:
    """Write the page of the best combination, traded by the plain engine, with the surface of all; nothing without a
    combination that is done."""
    if not sweep.sweep.done:
        return
    ground, loaded = sweep.sweep.ground, sweep.loaded
    ranked = list(sweep.best(sheet, BEST))
    strategy = loaded.kind(**ranked[0].params)
    with blame(loaded.file, loaded.kind):
        decisions = decide(strategy, ground.panel, sweep.sweep.opinions)
    symbol = None if sweep.benchmark is None else sweep.benchmark[0]
    against = scoring.read_benchmark(home, ground.panel, symbol, sweep.view, timeout_s=timeout_s)
    terms = Terms(ground.costs, ground.cash, ground.fill, ground.steps)
    result = backtest(
        decisions, terms.costs, terms.cash, start=ground.start, fill=terms.fill, steps=terms.steps, benchmark=against
    )
    trial = scoring.trial_of(sheet.run, loaded, result)
    doubts = scoring.criticised(home, trial, result, terms.cash, sweep.view, timeout_s=timeout_s)
    record = scoring.backtest_record(sheet.run, loaded, result, terms, symbol, worth=_worth(sheet), findings=doubts)
    shown = {**asdict(record), "judged": _CHOSEN}
    grid = surface.Grid(sweep.axes, sweep.sharpes, sweep.plateaus, sweep.ranked[0])
    made = _page(home, shown, result, missing, now, timeout_s=timeout_s)
    where.put(page(replace(made, sections=[surface.sweep(grid, ranked, study.verdict(asdict(sheet))), *made.sections])))


def _worth(sheet: Sweep) -> Luck:
    """What the sweep's record says of its best combination."""
    return Luck(
        trials=sheet.trials,
        best_by_luck=sheet.best_by_luck,
        probabilistic_sharpe=sheet.probabilistic_sharpe,
        deflated_sharpe=sheet.deflated_sharpe,
    )


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
