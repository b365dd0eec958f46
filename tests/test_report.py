"""What a report says, by hand: where the money came from, how the months went, and where the page may be written."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from markets import panel_of, random_market, random_targets
from numpy.testing import assert_allclose
from prices import HEAD, fetch, ma, new_home, sessions, write
from test_backtest import NONE, run_of

from marketagent import metrics
from marketagent.attribution import NOBODY, by_signal, gains
from marketagent.backtest import Backtest, backtest
from marketagent.costs import Costs, parse
from marketagent.decision import Decisions, decide
from marketagent.errors import DiskError, UsageError
from marketagent.grid import Axis, plateaus
from marketagent.panel import Array, Panel
from marketagent.records import Fold
from marketagent.report import money, sections, study, surface
from marketagent.report.figures import sheet
from marketagent.report.model import Chart, Heat, Table
from marketagent.report.place import Place, place
from marketagent.report.thin import thinned
from marketagent.signals import Signal
from marketagent.strategy import Opinions, Strategy

NAN = np.nan
RECORD = {
    "run": "r", "strategy": "mine", "strategy_hash": "h" * 64, "params": {"fast": 5}, "symbols": 2, "first": "2013-01-02",
    "last": "2013-01-09", "sessions": 6, "bars": None, "timeframe": "1d", "cash": 1000.0, "equity": 1100.0, "costs": "none",
    "slippage": "", "slippage_bps": 0.0, "borrow_rate": 0.0, "margin_rate": 0.0, "fill": "next-open", "fractional": False,
    "data_hash": "d" * 64, "benchmark": None, "notes": [], "capacity": [], "luck": None,
    "metrics": {"total_return": 0.1, "sharpe": None, "trades": 1.0, "new_metric": 7.0},
}  # fmt: skip


class Two(Strategy):
    """Two signals as the test says, the second with twice the weight."""

    long_only = False
    weights = {"one": 1.0, "two": 2.0}  # noqa: RUF012 - a class variable of every strategy

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        return dict(opinions)


def told(panel: Panel, one: object, two: object) -> Decisions:
    values = {"one": one, "two": two}
    shaped = {name: Signal(np.array(each, dtype=np.float64).reshape(panel.shape)) for name, each in values.items()}
    return decide(Two(), panel, shaped)


def traded(decisions: Decisions, costs: Costs = NONE, **how: object) -> Backtest:
    return backtest(decisions, costs, 1000.0, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("fill", ["next-open", "next-close", "same-close"])
@pytest.mark.parametrize("seed", range(12))
def test_gains_by_symbol_and_by_signal_add_up_to_the_gain_of_the_account(seed: int, fill: str) -> None:
    panel, rng = random_market(seed), np.random.default_rng(seed)
    one, two = (Signal(np.where(rng.random(panel.shape) < 0.2, NAN, rng.uniform(-1, 1, panel.shape))) for _ in range(2))
    decisions = replace(
        decide(Two(), panel, {"one": one, "two": two}), targets=random_targets(seed, panel, long_only=False)
    )
    costs = parse("ibkr-fixed", slippage_bps=3, borrow_rate=0.03, margin_rate=0.05)
    result = backtest(decisions, costs, 1e6, start=7, fill=fill)
    gained = gains(result)
    whole = float(result.simulation.equity[-1]) - 1e6 + float(result.simulation.lent.sum())
    assert gained.total == pytest.approx(whole, rel=1e-9, abs=1e-4)
    assert sum(by_signal(decisions, gained).values()) == pytest.approx(whole, rel=1e-9, abs=1e-3)


def test_a_gain_belongs_to_the_signals_that_spoke_for_it() -> None:
    # Bought at 10 on one 0.5 and two 0.5 (so 1 to 2), held at 12 through a decision that only `one` is for: 100 shares
    # gain 200 up to that session, 300 after it. `two`, then against it, has no part in those.
    panel = panel_of([10, 10, 12, 15, 15])
    decisions = told(panel, [0.5, NAN, 1.0, NAN, NAN], [0.5, NAN, -0.2, NAN, NAN])
    found = by_signal(decisions, gains(traded(decisions)))
    assert found == pytest.approx({"one": 200 / 3 + 300, "two": 400 / 3})


def test_what_no_signal_speaks_for_is_nobodys() -> None:
    panel = panel_of([10, 10, 12])
    decisions = told(panel, [1, NAN, NAN], [1, NAN, NAN])
    silent = replace(decisions, signals={name: Signal(np.full(panel.shape, NAN)) for name in decisions.signals})
    result = traded(decisions)
    assert by_signal(silent, gains(result)) == pytest.approx({"one": 0.0, "two": 0.0, NOBODY: 200.0})


def test_the_money_of_a_run_that_trades_nothing() -> None:
    result = run_of(panel_of([10, 11, 12]), [NAN, NAN, NAN])
    assert money.contributions(result).note == "Nothing was traded."
    assert money.on_prices(result).note == "Nothing was filled."
    costs = money.costs(result, sheet(RECORD), RECORD).parts[0]
    assert isinstance(costs, Table)
    assert costs.rows[-1] == ["all", "0.00", "0.00%", ""]


def test_months_and_years_compound_to_the_whole() -> None:
    rng = np.random.default_rng(3)
    result = run_of(panel_of(100 * np.exp(np.cumsum(rng.normal(0, 0.02, 600))), first="2013-11-20"), [1, *[NAN] * 599])
    table = sections.over_time(result, 1000.0, None)[1].parts[0]
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["2013", "2014", "2015", "2016"]
    assert table.rows[0][1:11] == [""] * 10
    months = result.simulation.sessions.astype("datetime64[M]")
    march = np.prod(1 + result.returns[months == np.datetime64("2014-03")]) - 1
    assert table.rows[1][3] == f"{march:.1%}"
    years = [
        np.prod(1 + result.returns[months.astype("datetime64[Y]") == np.datetime64(row[0])]) - 1 for row in table.rows
    ]
    assert [row[-1] for row in table.rows] == [f"{value:.1%}" for value in years]


def test_the_rolling_ratio_is_that_of_each_window() -> None:
    returns = np.random.default_rng(1).normal(0.001, 0.01, 300)
    returns[100:140] = 0.0
    found = sections.rolling_sharpe(returns, 30, 252)
    for row in (29, 75, 299):
        assert found[row] == pytest.approx(metrics.sharpe(returns[row - 29 : row + 1]), rel=1e-9)
    assert np.isnan(found[:29]).all()
    assert np.isnan(found[135])  # thirty returns that never differ


def test_the_universe_held_buys_each_symbol_when_it_comes_and_leaves_it_alone() -> None:
    # Half in S00, which doubles; the other half waits two sessions for S01, which falls by a quarter; S02 never comes.
    panel = panel_of([[10, NAN, NAN], [15, NAN, NAN], [20, 8, NAN], [20, 6, NAN]])
    assert sections.held_in_equal_parts(panel, 0).tolist() == [1.0, 1.25, 1.5, 1.375]
    assert_allclose(sections.held_in_equal_parts(panel, 1), [1.0, (20 / 15 + 1) / 2, (20 / 15 + 0.75) / 2])


def test_a_long_line_keeps_its_highs_and_lows_and_both_ends() -> None:
    values = np.random.default_rng(5).normal(size=50_000)
    values[[12_345, 40_001]] = 99, -99
    values[20_000:21_000] = NAN
    rows = thinned([values, -values])
    assert len(rows) <= 1_502
    assert {0, 12_345, 40_001, 49_999} <= set(rows.tolist())
    assert (np.diff(rows) > 0).all()


def test_a_lost_account_has_no_logarithm_and_no_division_by_zero() -> None:
    panel = panel_of([10, 10, 10, 50, 50])
    result = traded(told(panel, [-1, NAN, NAN, NAN, NAN], [-1, NAN, NAN, NAN, NAN]))
    assert result.simulation.equity[-1] < 0
    equity = sections.over_time(result, 1000.0, None)[0].parts[0]
    assert isinstance(equity, Chart)
    assert equity.y.form == "number"


def test_bars_within_a_day_lie_side_by_side_and_say_when_they_were() -> None:
    instants = np.array(["2026-11-20T20:59", "2026-11-23T14:30"], dtype="datetime64[us]")
    line = sections.Timeline(instants, "1m")
    assert (line.places(np.array([0, 1])), line.axis.texts) == ([0.0, 1.0], ["2026-11-20", "2026-11-23"])
    assert line.told(np.array([1])) == ["2026-11-23 14:30 UTC"]


def test_fills_stand_on_prices_as_they_are_after_the_last_split() -> None:
    result = run_of(panel_of([10, 10, 5, 6], split={(2, 0): 2.0}), [1, NAN, NAN, NAN])
    picker = money.on_prices(result).parts[0]
    price, buys, sells = picker.charts[0].series  # type: ignore[union-attr]
    assert (price.y, buys.y, sells.y) == ([5.0, 5.0, 5.0, 6.0], [5.0], [])
    assert buys.told == ["2013-01-03 buy 200 at 5.00"]


def swept(*axes: Axis, sharpes: Array) -> surface.Grid:
    known = {number: float(value) for number, value in enumerate(sharpes.ravel()) if np.isfinite(value)}
    return surface.Grid(axes, known, plateaus(axes, known), max(known, key=known.__getitem__))


def test_a_surface_tells_the_spike_it_chose_from_a_plateau() -> None:
    ratios = np.full((4, 10), 0.1)
    ratios[3, 8] = 2.0
    ratios[1, 1:5] = ratios[2, 1:5] = 1.0
    ratios[0, 0] = NAN
    grid = swept(Axis("fast", (1, 2, 3, 4)), Axis("slow", tuple(range(10))), sharpes=ratios)
    section = surface.sweep(grid, [])
    heat = section.parts[0]
    assert isinstance(heat, Heat)
    assert (heat.z[0][0], heat.z[8][3], heat.told[0][0]) == (None, 2.0, "not tried")
    chosen = {mark.name: list(zip(mark.x, mark.y, strict=True)) for mark in heat.marks}
    assert chosen["chosen"] == [("4", "8")]
    assert ("2", "2") in chosen["plateau"]
    assert "fast=4, slow=8, with the highest Sharpe ratio, 2.000; its neighbours have 5% of it: a spike" in section.note
    assert "39 of 40 combinations" in section.note


def test_a_sweep_in_which_nothing_was_traded_has_a_surface_of_nothing() -> None:
    axes = (Axis("a", (1, 2)), Axis("b", (1, 2)))
    section = surface.sweep(surface.Grid(axes, dict.fromkeys(range(4)), dict.fromkeys(range(4)), 0), [])
    assert section.parts[0].z == [[None, None], [None, None]]  # type: ignore[union-attr]


def test_one_parameter_is_a_line_and_three_are_a_slice_for_each_pair() -> None:
    line = surface.sweep(swept(Axis("fast", (1, 2, 3)), sharpes=np.array([0.1, 0.5, 0.2])), []).parts[0]
    assert isinstance(line, Chart)
    assert line.series[0].y == [0.1, 0.5, 0.2]
    assert (line.series[-1].x, line.series[-1].y) == (["2"], [0.5])
    ratios = np.arange(24.0).reshape(2, 3, 4)
    axes = (Axis("a", (1, 2)), Axis("b", (1, 2, 3)), Axis("c", ("w", "x", "y", "z")))
    heats = surface.sweep(swept(*axes, sharpes=ratios), []).parts[:-1]
    assert [heat.title for heat in heats] == [  # type: ignore[union-attr]
        "Sharpe ratio by a and b, with c=z",
        "Sharpe ratio by a and c, with b=3",
        "Sharpe ratio by b and c, with a=2",
    ]
    assert heats[1].z == [[8.0, 20.0], [9.0, 21.0], [10.0, 22.0], [11.0, 23.0]]  # type: ignore[union-attr]


def test_a_sheet_takes_a_metric_it_does_not_know_and_a_record_of_before() -> None:
    made = sheet(RECORD)
    assert [(figure.label, figure.text) for figure in made.figures] == [
        ("return", "10.0%"), ("trades", "1"), ("new metric", "7"),
    ]  # fmt: skip
    assert (made.judged, sheet({**RECORD, "judged": "out of sample"}).judged) == ("in sample", "out of sample")
    assert made.facts[1].text == "2013-01-02 .. 2013-01-09, 6 sessions, in sample"


def test_findings_stand_in_the_page_with_their_numbers() -> None:
    found = {"code": "few-trades", "text": "too few trades to tell", "number": 3.0, "limit": 30.0}
    table = study.findings({**RECORD, "findings": [found]}).parts[0]
    assert isinstance(table, Table)
    assert table.rows == [["few-trades", "3", "30", "too few trades to tell"]]
    assert study.findings(RECORD).note == "none"


def test_the_windows_of_a_walk_forward_are_out_of_sample() -> None:
    fold = Fold(
        run="r", fold=1, strategy="mine", train_first="2010-01-04", train_last="2012-12-28", first="2013-01-02",
        last="2013-12-31", params={"fast": 5, "slow": 50}, swept=["fast"], combinations=4, in_sample_sharpe=1.5, sharpe=None,
        total_return=-0.125,
    )  # fmt: skip
    section = study.folds([fold])
    table = section.parts[0]
    assert isinstance(table, Table)
    assert section.judged == "out of sample"
    assert table.rows == [["1", "2010-01-04 .. 2012-12-28", "2013-01-02 .. 2013-12-31", "5", "1.500", "–", "-12.5%"]]


def test_a_walk_forward_is_this_run_among_the_combinations_it_chose_from() -> None:
    when = datetime(2026, 11, 24, 13, 2, tzinfo=UTC)
    shared = {"run": "r", "tried_at": when, "first": "2013-01-02", "last": "2013-12-31", "strategy_hash": "h"}
    rows = [
        {
            **shared,
            "sharpe": 0.01,
            "params": json.dumps({"band": 0.0, "walk_forward": "6m/3m", "grid": {"fast": [5, 8]}}),
        },
        {**shared, "sharpe": 0.02, "params": json.dumps({"band": 0.0, "fast": 5})},
        {**shared, "sharpe": 0.03, "params": json.dumps({"band": 0.0, "fast": 8})},
    ]
    record = {"run": "r", "params": {"band": 0.0}, "walk_forward": {"lengths": "6m/3m"}}
    (table,) = study.trials(rows, 3, record, 252).parts
    assert isinstance(table, Table)
    assert [(row[1], row[5]) for row in table.rows] == [
        ("walk_forward=6m/3m", "this run"),
        ("fast=5", ""),
        ("fast=8", ""),
    ]
    plain = {"run": "r", "params": {"band": 0.0, "fast": 8}, "walk_forward": None}
    (table,) = study.trials(rows, 3, plain, 252).parts
    assert isinstance(table, Table)
    assert [(row[1], row[5]) for row in table.rows] == [
        ("walk_forward=6m/3m", ""), ("fast=5", ""), ("fast=8", "this run"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "it is a folder"),
        ("gone/report.html", "there is no folder"),
        ("file/report.html", "there is no folder"),
        ("x" * 300 + ".html", "File name too long"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match=said):
        place(f"{tmp_path}/{name}")


def test_a_page_that_cannot_be_written_whole_leaves_the_one_of_before(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("before", encoding="utf-8")
    code = (
        "import resource, sys; from pathlib import Path; from marketagent.report.place import Place\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "Place(Path(sys.argv[1])).put('x' * 100_000)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert f"DiskError: --report {path}: File too large" in done.stderr
    assert (path.read_text(encoding="utf-8"), names_in(tmp_path)) == ("before", ["report.html"])
    Place(path).put("after")
    assert (path.read_text(encoding="utf-8"), names_in(tmp_path)) == ("after", ["report.html"])


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    home = new_home(folder)
    days = sessions("2013-01-02", "2013-12-31")
    rows = (
        f"AAA,{day},{price},{price + 2},{price - 2},{price + 1},100\n"
        for k, day in enumerate(days)
        for price in [100 + k % 9]
    )
    fetch(home, write(folder / "p.csv", HEAD + "".join(rows)))
    return home


def test_the_page_on_stdout_is_all_there_is_on_stdout(home: Path) -> None:
    done = ma(home, "backtest", "AAA", "ZZZ", "-s", "buy_and_hold", "--report", "-")
    assert done.returncode == 3  # ZZZ is not stored
    assert done.stdout.startswith("<!DOCTYPE html>")
    assert done.stdout.endswith("</html>\n")
    assert "nothing is stored of ZZZ" in done.stdout
    assert '"kind":' not in done.stdout.split("<script>")[0]
    assert "ZZZ: nothing is stored" in done.stderr


def test_a_page_in_a_file_leaves_the_records_where_they_were(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    ma(home, "backtest", "-s", "buy_and_hold")
    done = ma(home, "backtest", "-s", "buy_and_hold", "--set", "gross=0.5", "--report", path)
    record = json.loads(done.stdout.splitlines()[1])
    text = path.read_text(encoding="utf-8")
    assert (done.returncode, record["kind"]) == (0, "backtest")
    assert text.count(record["run"]) == 2  # among the facts, and in the provenance
    assert "gross=1.0" in text  # the trial before it, where it differs
    [charts] = re.findall(r'<script type="application/json" id="charts">(.*?)</script>', text)
    assert len(json.loads(charts)) == 6


def test_no_file_of_another_kind_is_written_over() -> None:
    with pytest.raises(UsageError, match=r"'mine.py' must end in .html, or be - for stdout"):
        place("mine.py")


@pytest.mark.parametrize("more", [[], ["--set", "fast=2,3"]])
def test_a_place_that_is_a_folder_is_one_clear_line_and_no_run(home: Path, tmp_path: Path, more: list[str]) -> None:
    done = ma(home, "backtest", "-s", "sma_cross", *more, "--report", tmp_path)
    assert (done.returncode, done.stdout) == (74, "")
    assert done.stderr == f"ma: --report {tmp_path}: it is a folder; name a file, e.g. report.html\n"
