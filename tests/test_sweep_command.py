"""``ma backtest`` with ranges in ``--set``, from outside."""

import json
import os
import signal
import subprocess
import sys
import time
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


MOODY = """
import itertools
import numpy as np
from marketagent.signals import Signal
from marketagent.strategy import Strategy, param

calls = itertools.count()

class Moody(Strategy):
    turn: int = param(1, 1, 99)

    def signals(self, panel, opinions):
        held = np.random.default_rng(next(calls)).random(panel.shape) < 0.5
        return {"mood": Signal(np.where(held, 1.0, -1.0))}
"""


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


def begun(home: Path, mine: Path, *words: str, until: str = "combinations take about") -> "subprocess.Popen[str]":
    """A sweep of the user's own strategy in a process of its own, past the line on stderr that has `until` in it."""
    running = subprocess.Popen(
        [*MA, "backtest", "-s", str(mine), *words],
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    line = ""
    while until not in line:
        line = running.stderr.readline()
        assert line, "it ended before it began"
    return running


def kept_of(home: Path, strategy: str) -> list[tuple[Any, ...]]:
    """For each sweep of `strategy` in the store: how many are done, how many it says are, how many trials there are."""
    rows, tried = (f"(SELECT count(*) FROM {table} t WHERE t.run = s.run)" for table in ("sweep_rows", "trials"))
    return stored(home, f"SELECT done, {rows}, {tried} FROM sweeps s WHERE strategy = ?", strategy)


def test_an_interrupted_sweep_is_stored_as_far_as_it_went(home: Path, tmp_path: Path) -> None:
    mine = tmp_path / "slow.py"
    mine.write_text(SLOW, encoding="utf-8")
    running = begun(home, mine, "--set", "nap=0.05", "--set", "turn=1:4000", until="4,000 combinations take about")
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    _, *trials, sheet, end = [json.loads(text) for text in out.splitlines()]
    assert (running.returncode, end["status"], len(trials)) == (130, "error", min(10, end["n"] - 1))
    assert "of 4,000 combinations tried" in err
    [(done, kept, tried)] = kept_of(home, "slow")
    assert 0 < done == kept == tried == sheet["done"] < 4000
    assert "thinking" not in out  # what a strategy prints is not a record


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_that_comes_again_and_again_is_one(home: Path, tmp_path: Path, number: int, code: int) -> None:
    mine = tmp_path / f"bounced_{code}.py"
    mine.write_text(SLOW, encoding="utf-8")
    running = begun(home, mine, "--set", "nap=0.3", "--set", "turn=1:500")  # what they are at outlasts the second one
    while running.poll() is None:  # through the wait, the judging, the keeping and the printing
        running.send_signal(number)
        time.sleep(0.1)
    out, err = running.communicate()
    _, *_, sheet, end = [json.loads(text) for text in out.splitlines()]
    assert (running.returncode, end["status"]) == (code, "error")
    assert err.splitlines()[-1] == ("ma: interrupted" if code == 130 else "ma: terminated")
    [(done, kept, tried)] = kept_of(home, mine.stem)
    assert 0 < done == kept == tried == sheet["done"] < 500


def test_a_signal_while_a_whole_sweep_is_judged_waits_until_it_is_kept_and_printed(home: Path, tmp_path: Path) -> None:
    mine = tmp_path / "judged.py"
    last = 'print("thinking" if self.turn < 4 else "the last", file=__import__("sys").stderr, flush=True)'
    mine.write_text(SLOW.replace('print("thinking")', last), encoding="utf-8")
    running = begun(home, mine, "--set", "nap=0.2", "--set", "turn=1:4", until="the last")
    time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    sheet = json.loads(out.splitlines()[-2])
    assert [(sheet["done"],) * 3] == kept_of(home, "judged")
    assert "combinations tried" in err


def test_a_strategy_that_hangs_is_given_up_when_it_is_interrupted_again(home: Path, tmp_path: Path) -> None:
    mine = tmp_path / "hanging.py"
    hang = 'while self.turn == 20: print("for ever"); time.sleep(0.01)'
    mine.write_text(SLOW.replace('print("thinking")', hang), encoding="utf-8")
    running = begun(home, mine, "--set", "nap=0.1", "--set", "turn=1:200", until="for ever")
    running.send_signal(signal.SIGINT)
    time.sleep(2.5)
    assert running.poll() is None
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert (running.returncode, out) == (130, "")
    told = [line for line in err.splitlines() if line != "for ever"]
    assert "of 200 combinations tried" in told[-2]
    assert told[-1] == "ma: interrupted"
    [(done, kept, tried)] = kept_of(home, "hanging")
    assert 0 < done == kept == tried < 200


def test_a_walk_forward_promises_to_keep_nothing_and_keeps_nothing(home: Path, tmp_path: Path) -> None:
    mine = tmp_path / "walked.py"
    mine.write_text(SLOW, encoding="utf-8")
    words = ["--set", "nap=0.1", "--set", "turn=1:400", "--walk-forward", "60d/20d"]
    running = begun(home, mine, *words, until=" take about 2")
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err.splitlines()[-1]) == (130, "", "ma: interrupted")
    assert "keeps" not in err
    assert kept_of(home, "walked") == []


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
        words = f"backtest AAA -s sma_cross --from 2013-11-15 --set fast={fast} --set slow={slow}".split()
        done = subprocess.run(
            [sys.executable, "-c", code, *words], env=environment(home), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return int(done.stderr.split("VmHWM:")[1].split()[0])

    few, many = peak_kb("1:10", "101:120"), peak_kb("1:100", "101:220")
    assert (many - few) / (12_000 - 200) < 5.0  # kB; with objects and dicts for each it was 8.6


def test_a_combination_that_raises_is_named_and_the_others_are_kept(home: Path, tmp_path: Path) -> None:
    mine = tmp_path / "wrong.py"
    mine.write_text(SLOW.replace('print("thinking")', "1 // (self.turn - 3)"), encoding="utf-8")
    done = ma(home, "backtest", "-s", str(mine), "--set", "turn=0:9")
    assert (done.returncode, lines(done)[-1]["status"]) == (1, "error")
    assert f"{mine}:14: ZeroDivisionError: integer division or modulo by zero (with turn=3)" in done.stderr
    [(tried, kept, trials)] = kept_of(home, "wrong")
    assert 3 <= tried == kept == trials < 10
    walk = ma(home, "backtest", "-s", str(mine), "--set", "turn=0:9", "--walk-forward", "60d/20d")
    assert (walk.returncode, walk.stdout) == (1, "")
    assert "(with turn=3)" in walk.stderr


def test_a_strategy_that_decides_otherwise_the_next_time_is_found_out(home: Path, tmp_path: Path) -> None:
    mine = tmp_path / "moody.py"
    mine.write_text(MOODY, encoding="utf-8")
    sheet = lines(ma(home, "backtest", "AAA", "-s", str(mine), "--set", "turn=1:9"))[-2]
    [found] = [finding for finding in sheet["findings"] if finding["code"] == "unrepeatable"]
    assert "when it was run again" in found["text"]
    steady = lines(ma(home, "backtest", "AAA", "-s", "sma_cross", "--set", "fast=3:9:2", "--set", "slow=11,15"))[-2]
    assert "unrepeatable" not in [finding["code"] for finding in steady["findings"]]


def once(folder: Path, *, only: str = "") -> Path:
    """A strategy that raises where a sweep's best is decided again (on the symbol `only`, if given): outside of its workers.

    The first combination is played there, too; it does nothing, so it is not the best.
    """
    mine = folder / "once.py"
    again = f"""
        if self.turn > 1 and threading.current_thread() is threading.main_thread() and "{only}" in panel.symbols[0]:
            raise KeyError("again")
        held = np.arange(len(panel.sessions))[:, None] >= 2 * self.turn
        return {{"mood": Signal(np.where(held & (self.turn > 1), 1.0, -1.0) * np.ones(panel.shape))}}
"""
    head, _, _ = MOODY.partition("        held")
    mine.write_text(
        head.replace("import itertools", "import threading").replace("calls = itertools.count()", "") + again
    )
    return mine


def test_a_sweep_is_kept_whose_best_raises_when_it_is_decided_again(home: Path, tmp_path: Path) -> None:
    mine = once(tmp_path)
    done = ma(home, "backtest", "AAA", "-s", str(mine), "--set", "turn=1:9", "--report", str(tmp_path / "r.html"))
    *shown, sheet, end = lines(done)[1:]
    said = "the sweep is kept, but its best combination failed when it was decided again: "
    why = f"{said}{mine}:15: KeyError: 'again' (with turn={sheet['best']['turn']})"
    assert (done.returncode, end["status"], end["error"]) == (1, "error", why)
    assert done.stderr.splitlines()[-1] == f"ma: {why}"
    assert (len(shown), sheet["done"]) == (9, 9)
    assert kept_of(home, "once") == [(9, 9, 9)]
    assert sheet["findings"] == [{"code": "unrepeatable", "text": why, "number": 1.0, "limit": 1e-9}]


def test_with_each_the_symbol_of_such_a_best_is_named_and_the_others_are_judged(home: Path, tmp_path: Path) -> None:
    done = ma(home, "backtest", "-s", str(once(tmp_path, only="BBB")), "--set", "turn=1:9", "--each", "--top", "1")
    [_, *records, end] = lines(done)
    sheets = [record for record in records if record["kind"] == "sweep"]
    assert [(sheet["symbol"], sheet["done"]) for sheet in sheets] == [("AAA", 9), ("BBB", 9)]
    assert [[one["code"] for one in sheet["findings"]].count("unrepeatable") for sheet in sheets] == [0, 1]
    assert (done.returncode, end["status"], [failure["symbol"] for failure in end["failed"]]) == (3, "partial", ["BBB"])
    assert "BBB: the sweep is kept, but its best combination failed" in done.stderr


def test_when_the_first_combination_raises_nothing_is_kept(home: Path, tmp_path: Path) -> None:
    mine = tmp_path / "never.py"
    mine.write_text(SLOW.replace('print("thinking")', "1 // 0"), encoding="utf-8")
    done = ma(home, "backtest", "-s", str(mine), "--set", "turn=7,8", "--set", "nap=0,0.001")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{mine}:14: ZeroDivisionError: integer division or modulo by zero (with turn=7 nap=0.0)" in done.stderr
    assert kept_of(home, "never") == []


@pytest.mark.parametrize("text", ["5:5:1", "5,5,5", "5:9:10", "5"])
def test_a_range_or_a_list_of_one_value_is_that_value(home: Path, text: str) -> None:
    words = ["--set", f"fast={text}", "--set", "long_only=false,false", "--set", "gross=0.10:0.1"]
    [_, run, _] = lines(ma(home, "backtest", "-s", "sma_cross", *words))
    assert (run["kind"], run["params"]["fast"], run["params"]["long_only"]) == ("backtest", 5, False)
    assert run["params"]["gross"] == 0.1


def test_one_of_a_kind_is_told_in_the_singular(home: Path) -> None:
    swept = ma(home, "backtest", "AAA", "-s", "sma_cross", "--set", "fast=2,3")
    assert "2 combinations tried on 1 symbol;" in swept.stderr
    run = ma(home, "backtest", "AAA", "-s", "sma_cross", "--from", "2013-12-31", "--format", "table").stdout
    assert "2013-12-31 .. 2013-12-31, 1 session, in sample" in run
    assert "1 symbol\n" in run
    walk = ["--walk-forward", "200d/60d", "--set", "fast=2", "--format", "table"]
    told = " ".join(ma(home, "backtest", "-s", "sma_cross", "--set", "slow=10,20", *walk).stdout.split())
    assert "embargo 0: 1 window, the best of 2 combinations (2 slow) in each" in told
    none = ma(home, "backtest", "--known-at", "2014-01-02T00:00:00Z")
    assert (none.returncode, none.stderr) == (
        66, "ma: nothing is stored that was known at 2014-01-02T00:00:00+00:00; run: ma fetch SYMBOL\n",
    )  # fmt: skip


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
