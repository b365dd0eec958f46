"""``ma backtest`` with ranges in ``--set``, from outside."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest
from prices import HEAD, fetch, ma, new_home, sessions, write
from streams import MA, environment

SLOW = """
import time
import numpy as np
from marketagent.signals import Signal
from marketagent.strategy import Strategy, param

class Slow(Strategy):
    nap: float = param(0.0, 0.0, 10.0)
    turn: int = param(1, 0, 5000)

    def signals(self, panel, opinions):
        if self.turn:
            time.sleep(self.nap)
        print("thinking")
        return {"up": Signal(np.ones(panel.shape))}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    home = new_home(folder)
    days = sessions("2013-01-02", "2013-12-31")
    rows = "".join(
        f"{symbol},{day},{price},{price + 2},{price - 2},{price + 1},100\n"
        for symbol, pace in (("AAA", 7), ("BBB", 11))
        for k, day in enumerate(days)
        for price in [100 + 3 * (k * pace % 13) + k // 5]
    )
    fetch(home, write(folder / "p.csv", HEAD + rows))
    return home


def lines(done: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def stored(home: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(home / "runs.duckdb"), read_only=True) as con:
        return con.execute(sql, list(values)).fetchall()


def test_a_grid_is_ranked_by_sharpe_and_stored_whole(home: Path) -> None:
    done = ma(home, "backtest", "-s", "sma_cross", "--set", "fast=2:8:2", "--set", "slow=4,6,20", "--top", "3")
    assert done.returncode == 0, done.stderr
    begin, *trials, sheet, end = lines(done)
    assert (begin["cmd"], end["n"], end["status"]) == ("backtest", 4, "ok")
    assert "7 combinations tried on 2 symbols, 5 more do not go together" in done.stderr
    assert [trial["rank"] for trial in trials] == [1, 2, 3]
    assert {trial["judged"] for trial in trials} == {"in sample"}
    assert trials[0]["sharpe"] >= trials[1]["sharpe"] >= trials[2]["sharpe"]
    rows = stored(
        home, "SELECT params, sharpe, plateau FROM sweep_rows WHERE run = ? ORDER BY sharpe DESC", begin["run"]
    )
    assert len(rows) == 7
    assert [(json.loads(p), s, f) for p, s, f in rows[:3]] == [
        ({name: trial["params"][name] for name in ("fast", "slow")}, trial["sharpe"], trial["plateau"])
        for trial in trials
    ]
    [sweep] = stored(home, "SELECT combinations, refused, done, swept FROM sweeps WHERE run = ?", begin["run"])
    assert sweep[:3] == (12, 5, 7)
    assert json.loads(sweep[3]) == {"fast": [2, 4, 6, 8], "slow": [4, 6, 20]}
    assert (sheet["kind"], sheet["judged"], sheet["done"], sheet["refused"]) == ("sweep", "in sample", 7, 5)
    assert sheet["best"] == {name: trials[0]["params"][name] for name in ("fast", "slow")}
    assert sheet["deflated_sharpe"] == pytest.approx(trials[0]["deflated_sharpe"])
    assert sheet["deflated_sharpe"] < sheet["probabilistic_sharpe"]
    [(kept,)] = stored(home, "SELECT record FROM sweeps WHERE run = ?", begin["run"])
    assert {**json.loads(kept), "i": 3} == sheet


def test_every_combination_is_a_trial_of_the_ledger_with_the_moments_of_its_returns(home: Path) -> None:
    words = ["backtest", "AAA", "-s", "sma_cross", "--fractional"]
    swept = lines(ma(home, *words, "--set", "fast=3:9:2", "--set", "slow=11,15"))[-2]
    assert (swept["trials"], swept["done"]) == (8, 8)
    again = lines(ma(home, *words, "--set", "fast=3:9:2", "--set", "slow=11,15"))[-2]
    assert (again["trials"], again["deflated_sharpe"]) == (8, swept["deflated_sharpe"])
    columns = "params, returns, mean, deviation, skew, kurtosis, sharpe"
    query = f"SELECT {columns} FROM trials WHERE run = ? ORDER BY params"
    by_sweep = {row[0]: row[1:] for row in stored(home, query, again["run"])}
    single = lines(ma(home, *words, "--set", "fast=5", "--set", "slow=15"))[1]
    assert single["luck"]["trials"] == 8  # it was one of them
    [(params, *moments)] = stored(home, query, single["run"])
    assert moments == pytest.approx(by_sweep[params], rel=1e-9)


def test_a_sweep_is_compared_with_cash_or_with_a_benchmark(home: Path) -> None:
    words = [
        "backtest",
        "AAA",
        "BBB",
        "-s",
        "sma_cross",
        "--set",
        "fast=3:9:2",
        "--set",
        "slow=11,15",
    ]
    cash, other = (lines(ma(home, *words, *more))[-2] for more in ([], ["--benchmark", "BBB"]))
    assert (cash["benchmark"], other["benchmark"]) == (None, "BBB")
    assert cash["pbo"] == other["pbo"]
    assert (cash["splits"], cash["samples"]) == (12870, 1000)
    assert 0 < cash["spa_p"] <= 1
    told = ma(home, *words, "--benchmark", "BBB", "--format", "table").stdout
    assert "in sample, of 8 combinations" in told
    assert "the best of as many without skill beats BBB by as much (SPA, 1,000" in " ".join(told.split())


def test_a_trial_is_the_backtest_of_its_parameters(home: Path) -> None:
    words = [
        "backtest",
        "AAA",
        "BBB",
        "-s",
        "sma_cross",
        "--costs",
        "ibkr-fixed",
        "--slippage-bps",
        "4",
        "--fractional",
    ]
    words += ["--from", "2013-02-15", "--fill", "next-close", "--cash", "5000"]
    trial = lines(ma(home, *words, "--set", "fast=3:5", "--set", "slow=15"))[1]
    single = lines(ma(home, *words, "--set", f"fast={trial['params']['fast']}", "--set", "slow=15"))[1]
    assert (trial["swept"], trial["params"]) == (["fast"], single["params"])
    assert (trial["equity"], trial["first"], trial["last"]) == (single["equity"], single["first"], single["last"])
    for name in ("total_return", "cagr", "sharpe", "max_drawdown", "trades", "turnover"):
        assert trial[name] == pytest.approx(single["metrics"][name], rel=1e-9), name


def test_on_a_terminal_the_best_are_a_table_with_a_column_a_parameter(home: Path) -> None:
    words = ["backtest", "-s", "sma_cross", "--set", "fast=2:4", "--set", "rebalance=bar,weekly", "--set", "slow=9"]
    title, head, *rows = ma(home, *words, "--format", "table").stdout.splitlines()
    assert title.startswith("strategy sma_cross · judged in sample · first 2013-01-02 · last 2013-12-31")
    assert head.split() == [
        "rank",
        "fast",
        "rebalance",
        "return",
        "cagr",
        "sharpe",
        "drawdown",
        "trades",
        "turnover",
        "plateau",
        "deflated",
    ]
    rows, sheet = rows[:6], rows[6:]
    assert {row.split()[2] for row in rows} == {"bar", "weekly"}
    assert sheet[1].split()[0] == "best"
    csv = ma(home, *words, "--format", "csv").stdout.splitlines()
    assert (csv[0].split(",")[:3], len(csv)) == (["run", "rank", "strategy"], 7)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "fast=5:50:5", "--equity", "e.csv"], "--equity is of one run, and --set has several values"),
        (["--set", "fast=5,6", "--benchmark", "AAA,"], "AAA,"),
        (["--set", "fast=5:600:5"], "fast is 505; it must lie in 1 .. 500"),
        (["--set", "fast=50,60", "--set", "slow=20,30"], "fast is 60; it must be below slow, 30"),
        (["--set", "fast=5:1"], "never gets from 5 to 1"),
        (["--set", "fast=5,6", "--top", "0"], "'--top'"),
    ],
)
def test_what_makes_no_sweep_is_refused(home: Path, words: list[str], said: str) -> None:
    done = ma(home, "backtest", "-s", "sma_cross", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_symbol_that_is_not_there_is_named(home: Path) -> None:
    done = ma(home, "backtest", "AAA", "ZZZ", "-s", "sma_cross", "--set", "fast=2,3")
    assert done.returncode == 3
    assert lines(done)[-1]["failed"][0]["symbol"] == "ZZZ"


def test_an_interrupted_sweep_is_stored_as_far_as_it_went(home: Path, tmp_path: Path) -> None:
    mine = tmp_path / "slow.py"
    mine.write_text(SLOW, encoding="utf-8")
    words = ["backtest", "-s", str(mine), "--set", "nap=0.05", "--set", "turn=1:4000"]
    running = subprocess.Popen(
        [*MA, *words],
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    line = ""
    while "combinations take about" not in line:  # the estimate comes before the long part
        line = running.stderr.readline()
        assert line, "it ended before it began"
    assert "4,000 combinations take about" in line
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    begin, *trials, sheet, end = [json.loads(text) for text in out.splitlines()]
    assert (running.returncode, end["status"], len(trials)) == (130, "error", min(10, end["n"] - 1))
    assert "of 4,000 combinations tried" in err
    [(done, kept)] = stored(
        home,
        "SELECT done, (SELECT count(*) FROM sweep_rows t WHERE t.run = s.run) FROM sweeps s WHERE run = ?",
        begin["run"],
    )
    assert 0 < done == kept == sheet["done"] < 4000
    assert "thinking" not in out  # what a strategy prints is not a record


def test_a_combination_more_costs_little_memory(home: Path) -> None:
    """Of few bars, so that little is the tally's, which is bounded by itself: see ``robustness.tally``."""
    code = (
        "import sys; from marketagent.cli import run\n"
        "code = run(sys.argv[1:])\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(peak, file=sys.stderr)\n"
        "sys.exit(code)"
    )

    def peak_kb(fast: str, slow: str) -> int:
        words = [
            "backtest",
            "AAA",
            "-s",
            "sma_cross",
            "--from",
            "2013-11-15",
            "--set",
            f"fast={fast}",
            "--set",
            f"slow={slow}",
        ]
        done = subprocess.run(
            [sys.executable, "-c", code, *words], env=environment(home), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return int(done.stderr.split("VmHWM:")[1].split()[0])

    few, many = peak_kb("1:10", "101:120"), peak_kb("1:100", "101:220")
    assert (many - few) / (12_000 - 200) < 5.0  # kB; with objects and dicts for each it was 8.6


def test_a_strategy_that_raises_is_blamed_by_its_line(home: Path, tmp_path: Path) -> None:
    mine = tmp_path / "wrong.py"
    mine.write_text(SLOW.replace('print("thinking")', "[1][self.turn]"), encoding="utf-8")
    done = ma(home, "backtest", "-s", str(mine), "--set", "turn=0,1,2")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{mine}:14: IndexError: list index out of range" in done.stderr


@pytest.mark.soak  # all is compiled anew
def test_where_nothing_else_can_be_written_the_home_keeps_what_is_compiled(home: Path) -> None:
    code = (
        "import sys; from numba.core import caching; from marketagent.cli import run\n"
        "caching.CacheImpl._locator_classes = [caching.UserProvidedCacheLocator]\n"
        "sys.exit(run(sys.argv[1:]))"
    )
    words = ["backtest", "-s", "sma_cross", "--set", "fast=2,3"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], env=environment(home), capture_output=True, text=True, check=False
    )
    assert (done.returncode, len(lines(done))) == (0, 5), done.stderr
    assert any(name.endswith(".nbi") for _, _, files in os.walk(home / "cache" / "numba") for name in files)
