"""``ma backtest --each``: what the commands one by one say, in one stream and one table."""

import json
import signal
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from minutes import minutes, store
from prices import HEAD, History, fetch, here, ma, new_home, sessions, write
from streams import MA, environment

from marketagent import backtesting, catalog, each
from marketagent.backtest import Terms
from marketagent.backtesting import Job
from marketagent.costs import Costs
from marketagent.process import Stops
from marketagent.scoring import View
from marketagent.store.database import opened

CROSS = ["-s", "sma_cross", "--set", "fast=3", "--set", "slow=11"]
GRID = ["-s", "sma_cross", "--set", "fast=2:8:2", "--set", "slow=4,6,20"]
MINE = """
import sys
import numpy as np
from marketagent.signals import Signal
from marketagent.strategy import Strategy, param

class Mine(Strategy):
    turn: int = param(1, 0, 5000)

    def signals(self, panel, opinions):
        {body}
        return {{"up": opinions.get("social") or Signal(np.ones(panel.shape))}}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """AAPL's 2014 with its split and dividends, BBB of other sessions and with a refused row, CCC of three sessions;
    and what somebody thought of BBB."""
    folder = tmp_path_factory.mktemp("each")
    home = new_home(folder)
    history = History()
    fetch(home, history.file(folder / "a.csv", actions="given"))
    days = sessions("2013-06-03", "2014-08-29")
    rows = [f"BBB,{day},{100 + k % 13},{103 + k % 13},{98 + k % 13},{101 + k % 13},900" for k, day in enumerate(days)]
    rows[40] = f"BBB,{days[40]},100,90,98,101,900"  # high below low
    rows += [f"CCC,{day},10,11,9,10,100" for day in sessions("2014-03-03", "2014-03-05")]
    fetch(home, write(folder / "b.csv", HEAD + "\n".join(rows) + "\n"))
    with opened(home / "opinions.duckdb", write=True) as con:
        for session, value, known_at in (("2013-07-01", 1.0, "2013-07-01 12:00"), (days[90], -1.0, "2013-10-09 12:00")):
            con.execute(
                "INSERT INTO signals VALUES ('social', 'BBB', ?, ?, 0.5, ?, 'me', false)", [session, value, known_at]
            )
    return home


def lines(done: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def plain(record: dict[str, Any]) -> dict[str, Any]:
    """`record` without what tells the one of ``--each`` from that of a command of its own."""
    return {name: value for name, value in record.items() if name not in ("run", "i", "symbol")}


def stored(home: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(home / "runs.duckdb"), read_only=True) as con:
        return con.execute(sql, list(values)).fetchall()


@pytest.mark.parametrize(
    "words",
    [
        [*CROSS, "--benchmark", "AAPL", "--bootstrap", "100", "--from", "2014-01-15", "--capacity"],
        [*CROSS, "--null", "10", "--slippage", "sqrt:0.1"],
        [*GRID, "--top", "2"],
        [*GRID, "--top", "30", "--benchmark", "BBB"],
        [*GRID, "--walk-forward", "60d/20d"],
        ["-s", "OWN"],
    ],
    ids=lambda words: " ".join(words[5:]),
)
def test_the_records_are_those_of_the_commands_one_by_one(
    home: Path, tmp_path: Path, monkeypatch: Any, capfd: Any, words: list[str]
) -> None:
    mine = write(tmp_path / "mine.py", MINE.format(body="pass"))
    words = [str(mine) if word == "OWN" else word for word in words]
    [begin, *records, end] = lines(here(home, monkeypatch, capfd, "backtest", "BBB", "AAPL", *words, "--each"))
    single = [
        {**record, "of": symbol}
        for symbol in ("BBB", "AAPL")
        for record in lines(here(home, monkeypatch, capfd, "backtest", symbol, *words))[1:-1]
    ]
    assert [plain({**record, "of": record["symbol"]}) for record in records] == [plain(one) for one in single]
    assert {record["run"] for record in records} == {f"{begin['run']}.{symbol}" for symbol in ("AAPL", "BBB")}
    assert (end["n"], end["status"]) == (len(single), "ok")
    assert {one["symbol"] for one in single} == {None}


@pytest.mark.parametrize("words", [[], ["--set", "turn=1:6"]], ids=["run", "sweep"])
@pytest.mark.parametrize(
    "body",
    [
        'hasattr(self, "_k") or object.__setattr__(self, "_k", panel.symbols[0]); on = self._k == panel.symbols[0]',
        'on = SEEN.setdefault("first", panel.symbols[0]) == panel.symbols[0]',
    ],
    ids=["object", "module"],
)
def test_what_a_strategy_remembers_of_one_symbol_is_of_no_other(
    home: Path, tmp_path: Path, monkeypatch: Any, capfd: Any, words: list[str], body: str
) -> None:
    text = MINE.format(body=body).replace("np.ones(panel.shape)", "np.full(panel.shape, 1.0 if on else -1.0)")
    mine = write(tmp_path / "remembers.py", text.replace("class Mine", "SEEN = {}\n\nclass Mine"))
    words = ["-s", str(mine), *words]
    both = lines(here(home, monkeypatch, capfd, "backtest", "AAPL", "BBB", *words, "--each"))[1:-1]
    single = [
        record
        for name in ("AAPL", "BBB")
        for record in lines(here(home, monkeypatch, capfd, "backtest", name, *words))[1:-1]
    ]
    assert [plain(record) for record in both] == [plain(record) for record in single]


@pytest.mark.parametrize("words", [CROSS, GRID, [*GRID, "--walk-forward", "60d/20d"]], ids=["run", "sweep", "walk"])
def test_the_store_has_the_same_rows_for_each(home: Path, monkeypatch: Any, capfd: Any, words: list[str]) -> None:
    tables = {
        "backtests": "symbols, first, last, equity, data_hash, metrics, params",
        "equity": "session, equity",
        "fills": "session, symbol, kind, quantity, price",
        "sweeps": "symbols, done, params, swept",
        "sweep_rows": "number, params, sharpe",
        "folds": "fold, params, sharpe",
        "trials": "trial, family, params, sharpe, returns, numbers",
    }

    def rows(run: str) -> dict[str, Any]:
        return {
            name: stored(home, f"SELECT {columns} FROM {name} WHERE run = ? ORDER BY ALL", run)
            for name, columns in tables.items()
        }

    run = lines(here(home, monkeypatch, capfd, "backtest", "AAPL", "BBB", *words, "--each"))[0]["run"]
    both = {symbol: rows(f"{run}.{symbol}") for symbol in ("AAPL", "BBB")}
    for symbol, found in both.items():
        alone = lines(here(home, monkeypatch, capfd, "backtest", symbol, *words))[0]["run"]
        assert found == rows(alone)
        assert found["trials"]
    assert stored(home, "SELECT count(*) FROM trials WHERE run = ?", run) == [(0,)]


def test_all_that_are_stored_come_by_the_alphabet_and_what_is_given_as_it_is(
    home: Path, monkeypatch: Any, capfd: Any
) -> None:
    every = lines(here(home, monkeypatch, capfd, "backtest", *CROSS, "--each"))
    assert [record["symbol"] for record in every[1:-1]] == ["AAPL", "BBB", "CCC"]
    given = lines(here(home, monkeypatch, capfd, "backtest", "CCC", "AAPL", *CROSS, "--each"))
    assert [record["symbol"] for record in given[1:-1]] == ["CCC", "AAPL"]


def test_a_symbol_with_a_fault_of_its_own_is_named_and_the_others_go_on(
    home: Path, monkeypatch: Any, capfd: Any
) -> None:
    done = here(home, monkeypatch, capfd, "backtest", "ZZZ", "AAPL", "CCC", *CROSS, "--each", "--from", "2014-06-02")
    assert done.returncode == 3
    [_, record, end] = lines(done)
    assert record["symbol"] == "AAPL"
    assert {one["symbol"]: one["error"] for one in end["failed"]} == {
        "ZZZ": "nothing is stored; run: ma fetch ZZZ",
        "CCC": "no bars are stored from 2014-06-02 on; the last session looked at is 2014-03-05",
    }
    walk = [*GRID, "--walk-forward", "60d/20d", "--each"]
    walked = here(home, monkeypatch, capfd, "backtest", "CCC", "AAPL", *walk)
    assert (walked.returncode, lines(walked)[1]["symbol"]) == (3, "AAPL")
    assert "CCC" in lines(walked)[-1]["failed"][0]["symbol"]
    late = here(home, monkeypatch, capfd, "backtest", "AAPL", "BBB", *CROSS, "--each", "--to", "2013-08-30")
    assert (late.returncode, lines(late)[-1]["failed"][0]["error"]) == (
        3, "nothing is stored up to 2013-08-30; run: ma fetch AAPL",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([*CROSS, "--equity", "e.csv"], 2, "--equity is of one run, and --each makes one of each symbol"),
        ([*CROSS, "--fills", "f.csv"], 2, "--fills is of one run, and --each makes one of each symbol"),
        ([*CROSS, "--report", "-"], 2, "--report is of one run, and --each makes one of each symbol"),
        ([*GRID, "--null", "10"], 2, "--null is of one run, and --set has several values"),
        ([*CROSS, "--benchmark", "ZZZ"], 66, "no bars are stored of ZZZ"),
        ([*CROSS, "--set", "gross=9"], 2, "gross is 9"),
    ],
)
def test_what_is_not_of_one_symbol_ends_all(
    home: Path, monkeypatch: Any, capfd: Any, words: list[str], code: int, said: str
) -> None:
    done = here(home, monkeypatch, capfd, "backtest", *words, "--each")
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_where_nothing_is_stored_of_any_it_says_so(home: Path, monkeypatch: Any, capfd: Any) -> None:
    done = here(home, monkeypatch, capfd, "backtest", "YYY", "ZZZ", *CROSS, "--each")
    assert (done.returncode, done.stdout) == (66, "")
    assert done.stderr == "ma: no bars are stored of YYY, ZZZ; run: ma fetch YYY ZZZ\n"


def test_a_strategy_that_fails_on_one_symbol_is_told_of_it_and_the_others_are_done(
    home: Path, tmp_path: Path, monkeypatch: Any, capfd: Any
) -> None:
    mine = write(tmp_path / "wrong.py", MINE.format(body='1 // ("BBB" not in panel.symbols)'))
    words = ["backtest", "-s", mine, "--each"]
    done = here(home, monkeypatch, capfd, *words, "AAPL", "BBB", "CCC")
    assert (done.returncode, lines(done)[-1]["status"]) == (3, "partial")
    assert [record["symbol"] for record in lines(done)[1:-1]] == ["AAPL", "CCC"]
    [failed] = lines(done)[-1]["failed"]
    assert "BBB" in str(failed)
    assert "ZeroDivisionError" in str(failed)
    kept = stored(home, "SELECT symbols FROM backtests WHERE strategy = ? ORDER BY run", mine.stem)
    assert kept == [(["AAPL"],), (["CCC"],)]
    first = here(home, monkeypatch, capfd, *words, "BBB", "AAPL")  # as it may on all of them
    assert (first.returncode, first.stdout) == (1, "")
    assert first.stderr.rstrip().endswith("(on BBB)")


def test_a_sweep_whose_strategy_fails_on_one_symbol_is_done_in_full_on_the_others(
    home: Path, tmp_path: Path, monkeypatch: Any, capfd: Any
) -> None:
    body = '1 // ("BBB" not in panel.symbols or self.turn != 40)'
    mine = write(tmp_path / "wrong_later.py", MINE.format(body=body))
    words = ["backtest", "-s", mine, "--each", "--top", "1"]
    done = here(home, monkeypatch, capfd, *words, "--set", "turn=1:60")
    assert (done.returncode, lines(done)[-1]["status"]) == (3, "partial")
    sheets = {record["symbol"]: record["done"] for record in lines(done) if record["kind"] == "sweep"}
    assert list(sheets) == ["AAPL", "BBB", "CCC"]
    assert (sheets["AAPL"], sheets["CCC"]) == (60, 60)
    assert 39 <= sheets["BBB"] < 60  # another core may have been at a later one
    assert "(with turn=40)" in str(lines(done)[-1]["failed"])
    assert f"{120 + sheets['BBB']} of 180 combinations tried on 3 symbols" in done.stderr
    none = here(home, monkeypatch, capfd, *words, "--set", "turn=40,41")
    assert [record["symbol"] for record in lines(none) if record["kind"] == "sweep"] == ["AAPL", "CCC"]
    assert "4 of 6 combinations tried on 2 of 3 symbols, 2 on each" in none.stderr
    first = here(home, monkeypatch, capfd, *words, "BBB", "AAPL", "--set", "turn=40,41")
    assert (first.returncode, first.stdout) == (1, "")
    assert first.stderr.rstrip().endswith("(on BBB)")


def test_where_every_symbol_fails_it_is_an_error(home: Path, monkeypatch: Any, capfd: Any) -> None:
    for words in (CROSS, GRID):
        done = here(home, monkeypatch, capfd, "backtest", *words, "--each", "--from", "2100-01-01")
        assert (done.returncode, done.stdout) == (66, "")
        assert "(and 2 more symbols failed)" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_is_done_when_a_signal_comes_is_kept_and_printed(
    home: Path, tmp_path: Path, number: int, code: int
) -> None:
    body = 'panel.symbols[0] == "BBB" and (print("at it", file=sys.stderr, flush=True), __import__("time").sleep(60))'
    mine = write(tmp_path / f"stopped_{code}.py", MINE.format(body=body))
    running = subprocess.Popen(
        [*MA, "backtest", "-s", str(mine), "--each"],
        env=environment(home), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stderr is not None
    while "at it" not in running.stderr.readline():
        pass
    running.send_signal(number)
    out, err = running.communicate(timeout=30)
    [_, record, end] = [json.loads(text) for text in out.splitlines()]
    assert (running.returncode, record["symbol"], end["status"]) == (code, "AAPL", "error")
    assert err.splitlines()[-1] == ("ma: interrupted" if code == 130 else "ma: terminated")
    assert stored(home, "SELECT run FROM backtests WHERE strategy = ?", mine.stem) == [(record["run"],)]
    assert stored(home, "SELECT run FROM trials WHERE strategy = ?", mine.stem) == [(record["run"],)]


def test_an_interrupted_sweep_keeps_what_is_done_of_all_symbols(home: Path, tmp_path: Path) -> None:
    body = 'panel.symbols[0] == "BBB" and (print("at it", file=sys.stderr, flush=True), __import__("time").sleep(0.1))'
    mine = write(tmp_path / "halved.py", MINE.format(body=body))
    running = subprocess.Popen(
        [*MA, "backtest", "-s", str(mine), "--each", "--set", "turn=1:200", "--top", "1"],
        env=environment(home), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stderr is not None
    seen = 0
    while seen < 5:
        seen += "at it" in running.stderr.readline()
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    sheets = [record for record in map(json.loads, out.splitlines()) if record["kind"] == "sweep"]
    assert [sheet["symbol"] for sheet in sheets] == ["AAPL", "BBB", "CCC"]
    [count] = {sheet["done"] for sheet in sheets}
    assert 0 < count < 200
    assert f"{3 * count} of 600 combinations tried on 3 symbols, 200 on each" in err
    kept = stored(home, "SELECT symbols, done FROM sweeps WHERE strategy = 'halved' ORDER BY run")
    assert kept == [([sheet["symbol"]], count) for sheet in sheets]


def test_on_a_terminal_each_symbol_is_a_line(home: Path, monkeypatch: Any, capfd: Any) -> None:
    done = here(home, monkeypatch, capfd, "backtest", *CROSS, "--each", "--format", "table", COLUMNS="140")
    title, head, *rows = done.stdout.partition("\n\n")[0].splitlines()
    assert title == "strategy sma_cross · judged in sample"
    assert head.split()[:7] == ["symbol", "return", "cagr", "sharpe", "drawdown", "trades", "turnover"]
    assert [row.split()[0] for row in rows] == ["AAPL", "BBB", "CCC"]
    assert "of 3 symbols gained, the middle return is" in done.stderr


@pytest.mark.parametrize("words", [CROSS, GRID, [*GRID, "--walk-forward", "60d/20d"]], ids=["run", "sweep", "walk"])
def test_a_single_symbol_is_shown_like_one_of_many(home: Path, monkeypatch: Any, capfd: Any, words: list[str]) -> None:
    words = [*words, "--each", "--format", "table"]
    wide = {"COLUMNS": "200"}
    one = here(home, monkeypatch, capfd, "backtest", "AAPL", "NOPE", *words, **wide)
    many = here(home, monkeypatch, capfd, "backtest", "AAPL", "BBB", *words, **wide)
    heads = [[line.split() for line in done.stdout.splitlines() if line.startswith("symbol")] for done in (one, many)]
    assert [line[:4] for line in heads[0]] == [line[:4] for line in heads[1]]
    assert one.stdout.count("AAPL") == many.stdout.count("AAPL")
    assert (one.returncode, many.returncode) == (3, 0)


def test_on_a_terminal_what_was_asked_for_beside_the_runs_is_shown(home: Path, monkeypatch: Any, capfd: Any) -> None:
    words = [*CROSS, "--null", "10", "--bootstrap", "100", "--benchmark", "BBB", "--capacity", "--each"]
    found = lines(here(home, monkeypatch, capfd, "backtest", *words))[1:-1]
    done = here(home, monkeypatch, capfd, "backtest", *words, "--format", "table", COLUMNS="100")
    _, beside, sizes, notes = done.stdout.split("\n\n")
    title, head, *rows = beside.splitlines()
    assert title == "null: 10 runs of random entries · 95 %: of 100 bootstrap samples · against BBB"
    assert " ".join(head.split()) == "symbol null sharpe null p sharpe 95 % cagr 95 % alpha beta information ratio"
    assert [row.split()[0] for row in rows] == ["AAPL", "BBB", "CCC"]
    luck = found[0]["luck"]
    shown = f"{luck['null_p']:.3f} {luck['sharpe_low']:.3f} .. {luck['sharpe_high']:.3f}"
    assert shown in " ".join(rows[0].split())
    assert " – " in rows[2]  # nothing can be said of three sessions
    assert sizes.splitlines()[1].split() == ["symbol", "100,000", "1,000,000", "10,000,000", "100,000,000"]
    assert sizes.splitlines()[2].split()[1] == f"{found[0]['capacity'][0]['total_return']:.1%}"
    assert notes.startswith("AAPL, BBB, CCC: larger accounts trade at the same prices here")
    assert "AAPL: the benchmark has bars on" in notes
    assert (
        len(here(home, monkeypatch, capfd, "backtest", *CROSS, "--each", "--format", "table").stdout.split("\n\n")) == 2
    )


def test_a_symbol_with_fewer_bars_than_the_strategy_needs_is_told_of(home: Path, monkeypatch: Any, capfd: Any) -> None:
    told = "fewer bars than the 11 that the strategy needs, so nothing was decided"
    *_, record, _ = lines(here(home, monkeypatch, capfd, "backtest", *CROSS, "--each"))
    assert (record["symbol"], record["notes"]) == ("CCC", [told])
    done = here(home, monkeypatch, capfd, "backtest", *CROSS, "--each", "--format", "table")
    assert done.stdout.splitlines()[-1] == f"CCC: {told}"
    [_, together, _] = lines(here(home, monkeypatch, capfd, "backtest", "BBB", "CCC", *CROSS))
    assert together["notes"] == [f"{told}: CCC"]
    swept = here(home, monkeypatch, capfd, "backtest", "BBB", "CCC", *GRID, "--each")
    assert "; CCC: fewer bars than the best combination needs, so nothing was decided\n" in swept.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-s", "momentum", "--set", "lookback=20", "--set", "skip=1"], "momentum ranks symbols against each other"),
        (["-s", "momentum", "--set", "lookback=20,21", "--set", "skip=1"], "momentum ranks symbols against each other"),
        ([*CROSS, "--set", "sizing=top_k"], "sizing=top_k chooses among symbols"),
        ([*CROSS, "--set", "sizing=equal,top_k"], "sizing=top_k chooses among symbols"),
        (CROSS, None),
    ],
    ids=lambda words: " ".join(words or []),
)
def test_a_strategy_that_chooses_among_symbols_is_told_of_once(
    home: Path, monkeypatch: Any, capfd: Any, words: list[str], told: str | None
) -> None:
    done = here(home, monkeypatch, capfd, "backtest", "AAPL", "BBB", *words, "--each")
    assert done.stderr.count(told or "one at a time") == (1 if told else 0)
    assert done.returncode == 0
    assert "one at a time" not in here(home, monkeypatch, capfd, "backtest", "AAPL", "BBB", *words).stderr


@pytest.mark.parametrize("words", [CROSS, [*CROSS, "--each"], [*GRID, "--walk-forward", "60d/20d"]])
def test_the_best_of_what_is_no_sweep_cannot_be_asked_for(
    home: Path, monkeypatch: Any, capfd: Any, words: list[str]
) -> None:
    done = here(home, monkeypatch, capfd, "backtest", "AAPL", *words, "--top", "3")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(
        "ma: --top 3 is of a sweep, and this is none: no --set has several values, or --walk-forward is given\n"
    )


def test_on_a_terminal_a_sweep_is_a_table_of_trials_and_a_line_for_each_symbol(
    home: Path, monkeypatch: Any, capfd: Any
) -> None:
    words = ["backtest", "AAPL", "BBB", *GRID, "--each", "--top", "2"]
    trials, sweeps = here(home, monkeypatch, capfd, *words, "--format", "table", COLUMNS="140").stdout.split("\n\n")
    assert [row.split()[:2] for row in trials.splitlines()[2:]] == [
        ["AAPL", "1"],
        ["AAPL", "2"],
        ["BBB", "1"],
        ["BBB", "2"],
    ]
    assert sweeps.splitlines()[1].split()[:5] == ["symbol", "fast", "slow", "done", "sharpe"]
    assert [row.split()[0] for row in sweeps.splitlines()[2:]] == ["AAPL", "BBB"]
    best = [row.split()[2:4] for row in trials.splitlines()[2::2]]
    assert [row.split()[1:3] for row in sweeps.splitlines()[2:]] == best
    csv = here(home, monkeypatch, capfd, *words, "--format", "csv").stdout.splitlines()
    assert (len(csv), csv[0].split(",")[-1]) == (5, "symbol")


def test_on_a_terminal_windows_of_several_symbols_stay_in_the_store(home: Path, monkeypatch: Any, capfd: Any) -> None:
    words = ["backtest", "AAPL", "BBB", *GRID, "--walk-forward", "60d/20d", "--each", "--format", "table"]
    done = here(home, monkeypatch, capfd, *words, COLUMNS="160")
    title, head, *rows = done.stdout.splitlines()
    assert "judged out of sample" in title
    assert ("in sample sharpe" in head, [row.split()[0] for row in rows]) == (True, ["AAPL", "BBB"])
    assert "all windows are kept: ma sql 'from folds'" in done.stderr


def test_the_next_command_takes_the_symbols_out_of_the_stream(home: Path) -> None:
    told = ma(home, "backtest", "AAPL", "BBB", *CROSS, "--each").stdout
    piped = ma(home, "backtest", *CROSS, "--each", stdin=told)
    assert [record["symbol"] for record in lines(piped)[1:-1]] == ["AAPL", "BBB"]


@pytest.mark.parametrize("words", [CROSS, GRID, [*GRID, "--walk-forward", "60d/20d"]], ids=["run", "sweep", "walk"])
def test_the_next_command_takes_the_symbols_that_were_backtested_together(home: Path, words: list[str]) -> None:
    together = ma(home, "backtest", "BBB", "AAPL", *words)
    assert lines(together)[0]["symbols"] == ["AAPL", "BBB"]
    assert {record.get("symbol") for record in lines(together)[1:-1]} == {None}
    scored = ma(home, "score", *CROSS, "--as-of", "2014-08-29", stdin=together.stdout)
    assert (scored.returncode, [record["symbol"] for record in lines(scored)[1:-1]]) == (0, ["AAPL", "BBB"])
    assert lines(scored)[-1]["up"]["cmd"] == "backtest"
    assert (
        "sma_cross decides, as --strategy and --set say here; of the backtest only the symbols are taken"
        in scored.stderr
    )


def test_a_stream_without_symbols_says_so_to_the_next_command(home: Path) -> None:
    listed = ma(home, "backtest", "--list").stdout
    done = ma(home, "score", *CROSS, stdin=listed)
    said = "ma: ma backtest names no symbols; run: ma score AAPL MSFT, or pipe them in from ma fetch\n"
    assert (done.returncode, done.stderr) == (66, said)


def test_of_bars_within_a_day_those_count_that_count_when_it_is_read_alone(tmp_path: Path) -> None:
    home = new_home(tmp_path)
    whole = minutes(home, symbols=3, gaps=0.4)
    for name in ("open", "high", "low", "close", "volume"):
        getattr(whole.raw, name)[:30, 1] = np.nan  # it begins within a session,
        getattr(whole.raw, name)[-100:, 2] = np.nan  # and that one ends within one, which is still under way
    whole.split[0, 1] = 2.0
    store(home, whole)
    now = datetime(2014, 7, 7, 18, 47, tzinfo=UTC)
    loaded = catalog.load("sma_cross", home)
    strategy = loaded.configured({"fast": "3", "slow": "11"})
    job = Job(home, loaded, None, View(timeframe="15m", now=now), None, Terms(Costs(name="none"), 1e5), now, 10.0)
    made = each.tried(replace(job, each=True), "run", strategy, Stops()).records
    for record in made:
        single = backtesting.tried(replace(job, symbols=[record.symbol]), record.run, strategy).record
        assert record == replace(single, symbol=record.symbol)
    assert [(record.symbol, record.bars) for record in made] == [("S00", 61), ("S01", 59), ("S02", 59)]
