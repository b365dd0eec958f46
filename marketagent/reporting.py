"""``--report``: the page of a run, or of a sweep's best combination, from what was computed and what is stored."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from marketagent import luck, scoring
from marketagent.backtest import Backtest, backtest
from marketagent.catalog import blame
from marketagent.decision import decide
from marketagent.metrics import SESSIONS
from marketagent.orders import FRACTIONAL
from marketagent.records import Backtest as BacktestRecord
from marketagent.records import Luck
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
    missing: Sequence[str],
    now: datetime,
    *,
    timeout_s: float,
) -> None:
    """Write the page of one run; `missing` are symbols of which nothing is stored."""
    where.put(page(_page(home, asdict(record), result, missing, now, timeout_s=timeout_s)))


def of_sweep(
    home: Path,
    where: Place,
    sweep: Sweeping,
    run: str,
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
    ranked = list(sweep.best(run, BEST))
    strategy = loaded.kind(**ranked[0].params)
    with blame(loaded.file, loaded.kind):
        decisions = decide(strategy, ground.panel, sweep.sweep.opinions)
    result = backtest(decisions, ground.costs, ground.cash, start=ground.start, fill=ground.fill, steps=ground.steps)
    record = scoring.backtest_record(
        run, loaded, result, ground.costs, ground.cash, ground.fill, None,
        fractional=ground.steps == FRACTIONAL, worth=_worth(result, sweep),
    )  # fmt: skip
    shown = {**asdict(record), "judged": _CHOSEN}
    grid = surface.Grid(sweep.axes, sweep.sharpes, sweep.plateaus, sweep.ranked[0])
    made = _page(home, shown, result, missing, now, timeout_s=timeout_s)
    where.put(page(replace(made, sections=[surface.sweep(grid, ranked), *made.sections])))


def _worth(result: Backtest, sweep: Sweeping) -> Luck:
    """The best combination's Sharpe ratio among those of all that were tried in the sweep."""
    a_year = SESSIONS * bars_a_session(result.decisions.panel.timeframe)
    tried = [sharpe / a_year**0.5 for sharpe in sweep.sharpes.values() if sharpe is not None]
    verdict = luck.judged(luck.moments(result.returns), tried)
    return Luck(
        trials=verdict.trials,
        best_by_luck=verdict.by_luck * a_year**0.5,
        probabilistic_sharpe=verdict.probabilistic,
        deflated_sharpe=verdict.deflated,
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
            study.findings(sheet),
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
