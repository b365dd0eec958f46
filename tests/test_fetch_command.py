"""``ma fetch`` from outside: what is printed, the codes, whole or not at all, the sample's real prices."""

import json
import os
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import processes
import pytest
from prices import HEAD, ask, contents, here, ma, new_home, sessions, write
from streams import MA, environment, shell

from marketagent.errors import Exit

BAR = "2014-01-02,10,11,9,10,100"


@pytest.fixture
def home(tmp_path):
    return new_home(tmp_path)


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    home = new_home(tmp_path_factory.mktemp("sampled"))
    result = ma(home, "fetch", "--source", "sample")
    assert result.returncode == 0, result.stderr
    return home


def records(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_first_fetch_makes_the_home_and_the_second_reads_nothing(tmp_path):
    home = tmp_path / "new" / "home"
    write(tmp_path / "p.csv", HEAD + f"AAPL,{BAR}\nAAPL,2014-01-04,1,1,1,1,1\n")
    first = ma(home, "fetch", "--source", "csv", tmp_path / "p.csv")
    assert first.returncode == 0
    made, refused = first.stderr.splitlines()
    assert made.startswith("ma: made ")
    assert refused == (
        "ma: p.csv: 1 of 2 rows refused; line 3: 2014-01-04 is not a trading session (ma sql 'from quarantine')"
    )
    begin, record, end = records(first)
    assert (begin["kind"], end["status"], end["n"]) == ("begin", "ok", 1)
    wanted = {"symbol": "AAPL", "source": "csv", "timeframe": "1d", "bars": 1, "added": 1, "quarantined": 1}
    assert {name: record[name] for name in wanted} == wanted
    before = contents(home)
    second = ma(home, "fetch", "--source", "csv", tmp_path / "p.csv")
    assert (second.returncode, second.stderr) == (0, "")
    assert records(second)[1]["added"] == 0
    assert contents(home) == before
    assert list((home / "tmp").iterdir()) == []


def test_standard_input_is_a_file_too(home):
    result = ma(home, "fetch", "--source", "csv", "-", "--symbol", "nan", stdin=HEAD.removeprefix("symbol,") + BAR)
    assert (result.returncode, records(result)[1]["symbol"]) == (0, "NAN")
    assert ma(home, "fetch", "--source", "csv", "-", stdin="").stderr == "ma: stdin is empty\n"


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["--source", "csv", "none.csv"], Exit.NO_DATA, "no file none.csv"),
        (["--source", "csv"], Exit.USAGE, "source csv needs a file, a folder or '-': ma fetch --source csv prices.csv"),
        (["--source", "smaple"], Exit.USAGE,
         "unknown source 'smaple'; did you mean sample? (there are: alpaca, csv, polygon, sample, yahoo)"),
        (["--source", "csv", "/dev/null"], Exit.BAD_DATA, "/dev/null is not a file; pipe it in, and name it '-'"),
        (["AAPLX", "--source", "sample"], Exit.USAGE, "source sample has no AAPLX; did you mean AAPL? (it has AAPL, FB, GOOG, IBM, MSFT)"),
        (["AAPL", "--source", "sample", "--from", "2013-01-02", "--to", "2012-01-03"], Exit.USAGE,
         "--from 2013-01-02 is after --to 2012-01-03"),
        (["AAPL", "--source", "sample", "--from", "yesterday"], Exit.USAGE, "--from 'yesterday' is not a date such as 2024-01-31"),
        (["FB", "--source", "sample", "--to", "2010-01-04"], Exit.NO_DATA, "stocks.csv.gz has no row of FB up to 2010-01-04"),
        (["../../x", "--source", "sample"], Exit.USAGE, "symbol '../../x' is not a ticker such as AAPL, BRK.B or ^GSPC"),
        (["--source", "csv", "x.csv", "--map", "close"], Exit.USAGE, "--map 'close' is not NAME=VALUE"),
        (["--source", "csv", "x.csv", "--timeframe", "2d"], Exit.USAGE, "timeframe '2d' is none of 1m, 5m, 15m, 30m, 1h, 1d"),
        (["--source", "csv", "x.csv", "--symbol", "a b"], Exit.USAGE, "symbol 'a b' is not a ticker such as AAPL, BRK.B or ^GSPC"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_with_its_code(home, monkeypatch, capfd, words, code, line):
    before = contents(home)
    result = here(home, monkeypatch, capfd, "fetch", *words)
    assert (result.returncode, result.stderr, result.stdout) == (code, f"ma: {line}\n", "")
    assert contents(home) == before


def test_one_bad_file_of_two_is_named_and_the_other_stored(tmp_path, home):
    good, bad = write(tmp_path / "a.csv", HEAD + f"AAPL,{BAR}\n"), write(tmp_path / "b.csv", "x,y\n1,2\n")
    result = ma(home, "fetch", "--source", "csv", bad, good)
    assert result.returncode == Exit.PARTIAL
    end = records(result)[-1]
    assert (end["status"], end["n"], [each["symbol"] for each in end["failed"]]) == ("partial", 1, [str(bad)])


def test_no_symbols_from_the_stage_before_is_not_all_symbols(home):
    result = ma(home, "fetch", "--source", "sample", stdin="")
    assert result.returncode == Exit.NO_DATA
    assert contents(home)["bars"] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a moment")
def test_a_file_that_may_not_be_read_is_77(tmp_path):
    path = write(tmp_path / "p.csv", HEAD + f"AAPL,{BAR}\n")
    path.chmod(0)
    code = (
        "import os, sys; from pathlib import Path; from marketagent.sources import Request, csv;"
        "from marketagent.store.staged import Options; os.seteuid(65534);"
        "print([type(each.error).__name__ for each in csv.batches(Request(names=sys.argv[1:], options=Options(), folder=Path()))])"
    )
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        Path(folder).chmod(0o755)
        copy = path.rename(Path(folder, "p.csv"))
        run = subprocess.run([MA[0], "-c", code, copy], env=environment(tmp_path), capture_output=True, text=True)
    assert run.stdout == "['NotPermitted']\n", run.stderr


# --- the sample


def test_the_sample_has_the_splits_and_dividends_that_are_known(sampled):
    actions = ask(sampled, "SELECT symbol, session::VARCHAR, kind, value FROM actions WHERE source = 'sample'")
    known = [
        ("AAPL", "2000-06-21", "split", 2.0),
        ("AAPL", "2005-02-28", "split", 2.0),
        ("AAPL", "2012-08-09", "dividend", 2.65),
        ("AAPL", "2012-11-07", "dividend", 2.65),
        ("AAPL", "2013-02-07", "dividend", 2.65),
        ("MSFT", "2003-02-18", "split", 2.0),
        ("MSFT", "2004-11-15", "dividend", 3.08),  # the special 3.00 and the quarter's 0.08 on one day
    ]
    assert set(known) <= set(actions)
    count = {symbol: sum(each[0] == symbol for each in actions) for symbol in ("AAPL", "FB", "GOOG", "IBM", "MSFT")}
    assert count == {"AAPL": 5, "FB": 0, "GOOG": 0, "IBM": 52, "MSFT": 38}
    assert ask(sampled, "SELECT symbol, count(*) FROM bars GROUP BY 1 ORDER BY 1") == [
        ("AAPL", 3270), ("FB", 196), ("GOOG", 2148), ("IBM", 3270), ("MSFT", 3270),
    ]  # fmt: skip


def test_prices_are_stored_as_traded(sampled):
    # Apple closed at 101.12 on the day before the 2:1 split of 2000-06-21 and at 55.62 on it (Quandl WIKI, unadjusted).
    rows = "SELECT session::VARCHAR, close FROM bars WHERE symbol = 'AAPL' AND session BETWEEN '2000-06-20' AND '2000-06-21'"
    assert ask(sampled, f"{rows} ORDER BY 1") == [("2000-06-20", 101.25), ("2000-06-21", 55.63)]


def test_the_sample_again_changes_nothing(sampled):
    before = contents(sampled)
    result = ma(sampled, "fetch", "AAPL", "MSFT", "--source", "sample")
    assert [record["added"] for record in records(result)[1:-1]] == [0, 0]
    assert contents(sampled) == before


# --- whole or not at all


def large(path, symbols):
    days = sessions("2010-01-04", "2013-12-31")
    lines = [f"S{n},{day},10,11,9,10,{n}\n" for n in range(symbols) for day in days]
    write(path, HEAD + "".join(lines))
    return len(lines)


FETCH = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from marketagent import intake
from marketagent.sources import csv
from marketagent.store.staged import Options
home, path = map(Path, sys.argv[1:])
print("ready", flush=True)
intake.take_all(home, csv, [str(path)], Options(), datetime(2026, 11, 20, tzinfo=UTC), 60)
"""


def test_killed_at_any_moment_a_file_is_in_whole_or_not_at_all(tmp_path, home):
    rng, path = random.Random(11), tmp_path / "large.csv"
    rows = large(path, 6)
    fresh = (home / "market.duckdb").read_bytes()
    usual, kills, ends = 1.0, 0, set()
    for attempt in range(60):
        run = processes.start(FETCH, home, path)
        assert run.stdout.readline() == "ready\n"
        start = time.monotonic()
        if attempt:
            time.sleep(usual * rng.random())
            run.kill()
        run.communicate()
        if not attempt:
            usual = time.monotonic() - start
        kills += run.returncode == -signal.SIGKILL
        stored = ask(home, "SELECT count(*), (SELECT count(*) FROM files), (SELECT count(*) FROM coverage) FROM bars")[
            0
        ]
        ends.add(stored)
        if stored[0]:
            for left in home.glob("market.duckdb*"):
                left.unlink()
            (home / "market.duckdb").write_bytes(fresh)
        if kills == 15:
            break
    assert kills == 15
    assert ends <= {(0, 0, 0), (rows, 1, 6)}
    assert ma(home, "fetch", "--source", "csv", path).returncode == 0
    assert ask(home, "SELECT count(*), count(DISTINCT (symbol, ts)) FROM bars") == [(rows, rows)]


def test_two_at_once_store_a_file_once(tmp_path, home):
    rows = large(tmp_path / "large.csv", 20)
    command = [*MA, "fetch", "--source", "csv", str(tmp_path / "large.csv")]
    runs = [subprocess.Popen(command, env=environment(home), stdout=-1, stderr=-1, text=True) for _ in range(3)]
    ended = [run.communicate(timeout=60) for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], ended
    added = [sum(json.loads(line).get("added", 0) for line in out.splitlines()) for out, _ in ended]
    assert sorted(added) == [0, 0, rows]
    assert ask(home, "SELECT count(*), count(DISTINCT (symbol, ts)) FROM bars") == [(rows, rows)]


@pytest.mark.parametrize("kilobytes", [300, 2000])
def test_a_full_disk_is_74_and_the_store_as_it_was(tmp_path, home, kilobytes):
    """A limit on the size of files stands for the disk: first the working copies do not fit, then the store."""
    large(tmp_path / "large.csv", 25)
    before = contents(home)
    limit = kilobytes if kilobytes < 1000 else (home / "market.duckdb").stat().st_size // 1024 + 10
    result = shell(f'ulimit -f {limit}; trap "" XFSZ; $MA fetch --source csv "{tmp_path}/large.csv"; echo $?', home)
    assert result.stdout == "74\n", result.stderr
    assert result.stderr.count("\n") == 1
    assert contents(home) == before
    assert list((home / "tmp").iterdir()) == []
    assert ma(home, "fetch", "--source", "csv", tmp_path / "large.csv").returncode == 0


def test_now_is_taken_once_for_all_files(tmp_path, home):
    files = [write(tmp_path / f"{n}.csv", HEAD + f"S{n},{BAR}\n") for n in range(2)]
    assert ma(home, "fetch", "--source", "csv", *files).returncode == 0
    assert ask(home, "SELECT count(DISTINCT known_at) FROM bars") == [(1,)]
