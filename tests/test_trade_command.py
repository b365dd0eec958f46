"""``ma trade`` from outside: what it refuses, that it does each thing once, what a plan says, what it lists."""

import csv
import fcntl
import hashlib
import io
import json
import os
import pty
import shutil
import subprocess
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from accounts import TABLES, csv_text, ledger, new_home, random_panel, scored, sealed_bytes, store
from streams import MA, environment

from marketagent import cli, journal, pipe
from marketagent.records import KINDS
from marketagent.store.database import opened
from marketagent.store.market import MARKET

LENGTH = 40


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A home with prices, made once; and the panel that is in it."""
    home = new_home(tmp_path_factory.mktemp("base"))
    with opened(home / MARKET) as con:
        days = con.execute("SELECT session FROM sessions WHERE session >= DATE '2011-01-03' ORDER BY 1 LIMIT 40")
        days = days.fetchnumpy()["session"].astype("datetime64[D]")
    panel = random_panel(21, length=LENGTH, days=days)
    for name in ("open", "high", "low", "close", "volume"):  # here every symbol has a bar each day
        column = getattr(panel.raw, name)
        column[:, 1:4] = column[:, [4, 5, 4]]
        column[:] = 50.0 if name != "volume" else 1e6
    panel.raw.close[:], panel.raw.high[:] = 51.0, 51.0
    panel.split[:], panel.dividend[:] = 1.0, 0.0
    store(home, csv_text(panel))
    return home, panel


@pytest.fixture
def home(base, tmp_path):
    target = tmp_path / "home"
    shutil.copytree(base[0], target)
    return target


@pytest.fixture
def panel(base):
    return base[1]


@pytest.fixture
def ma(home, monkeypatch, capfd):
    """Run ``ma trade`` in this process, `data` on its stdin; gives (code, records, stderr)."""
    monkeypatch.setenv("MA_HOME", str(home))

    def run(*args, data=b"", raw=False):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        capfd.readouterr()  # of the stage that made the stream
        code = cli.run(["trade", *args])
        out, err = capfd.readouterr()
        return code, out if raw else [json.loads(line) for line in out.splitlines()][1:-1], err

    return run


def now(seconds=0.0):
    return datetime.now(UTC) + timedelta(seconds=seconds)


def stream(panel, run="run-1", t=LENGTH - 1, weight=0.1, seconds=0.0, fail=(), **changes):
    records = [replace(each, weight=weight, **changes) for each in scored(panel, "buy_and_hold", {}, t)]
    return sealed_bytes(records, run, at=now(seconds), fail=fail)


def contents(home):
    """Every row of every table of the journal, instants included."""
    with journal.opened(home) as book:
        return {table: [tuple(row) for row in book.rows(f"SELECT * FROM {table}")] for table in TABLES}


def read_ledger(home):
    with journal.opened(home) as book:
        return ledger(book)


# --- what is refused: one line, nothing changed

REFUSED = {
    "no end": (lambda s: s[: s.rindex(b'{"kind":"end"')], [], "has no end"),
    "cut": (lambda s: s[:-40], [], "is cut off"),
    "an edited weight": (lambda s: s.replace(b'"weight":0.1', b'"weight":0.9', 1), [], "hash differs"),
    "a record gone": (lambda s: b"".join(s.splitlines(True)[:1] + s.splitlines(True)[2:]), [], "are missing"),
    "a count that is wrong": (lambda s: s.replace(b'"n":6', b'"n":7'), [], "6 records arrived and 7 were written"),
    "two streams": (lambda s: s + s, [], "comes after the end, from a second stream"),
    "NaN": (lambda s: s.replace(b'"weight":0.1', b'"weight":NaN', 1), [], "NaN"),
    "a key twice": (lambda s: s.replace(b'"band":1.0', b'"band":1.0,"band":0.5', 1), [], "the same key twice"),
    "nothing": (lambda s: b"", [], "nothing arrived on stdin"),
    "another kind": (lambda s: s.replace(b'"kind":"decision"', b'"kind":"order"'), [], "decision is wanted"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_stream_that_is_not_whole_is_refused_in_one_line_and_nothing_changes(ma, home, panel, case):
    spoil, args, reason = REFUSED[case]
    assert ma(data=stream(panel, "before", t=LENGTH - 3))[0] == 0
    before = contents(home)
    code, records, err = ma(*args, data=spoil(stream(panel)))
    assert (code, records) == (4, [])
    assert err.startswith("ma: ")
    assert err.count("\n") == 1
    assert reason in err
    assert contents(home) == before


def failed_stage(panel):
    text = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with suppress(RuntimeError), pipe.sealed("score", "ndjson", run="r", at=now(), stdout=text) as out:
        out.write(scored(panel, "buy_and_hold", {}, 5)[0])
        raise RuntimeError("stopped")
    return text.buffer.getvalue()


@pytest.mark.parametrize(
    ("make", "args", "code", "reason"),
    [
        (lambda p: stream(p, fail=["XYZ"]), [], 4, "was done only in part (failed: XYZ)"),
        (failed_stage, ["--allow-partial"], 4, "ma score failed: stopped"),
        (lambda p: stream(p, seconds=-1000), [], 4, "1000 s old; at most 900 s are allowed"),
        (lambda p: stream(p, seconds=-30), ["--max-age", "20"], 4, "at most 20 s are allowed"),
        (lambda p: stream(p, seconds=500), [], 4, "comes from the future"),
        (lambda p: stream(p, weight=-0.1), [], 4, "a short position of -0.10 is asked for; see --allow-short"),
        (lambda p: stream(p, session="2011-02-30"), [], 4, "session '2011-02-30' is not a date"),
        (lambda p: stream(p, close=1.0), [], 4, "was decided on at a close of 1.0"),
        (lambda p: stream(p, t=LENGTH - 4), [], 4, "are older than the account paper"),
        (lambda p: unknown(p), [], 66, "no bars are stored of NOSUCH"),
        (lambda p: stream(p, session="2011-01-02"), [], 66, "no bars are stored for 2011-01-02"),
        (stream, ["--max-age", "nan"], 2, "--max-age nan must be at least 0"),
        (stream, ["--max-age", "-1"], 2, "--max-age -1 must be at least 0"),
        (stream, ["--fill", "lst"], 2, "--fill 'lst' is none of next-open, last; did you mean last?"),
        (stream, ["--account", "../x"], 78, "account '../x' must be ASCII letters"),
        (stream, ["--account", "a" * 41], 78, "at most 40"),
        (stream, ["--account", "ｐaper"], 78, "must be ASCII letters"),
    ],
)
def test_what_must_not_be_traded_is_refused_in_one_line_and_nothing_changes(ma, home, panel, make, args, code, reason):
    assert ma(data=stream(panel, "before", t=LENGTH - 3))[0] == 0
    before = contents(home)
    got, records, err = ma(*args, data=make(panel))
    assert (got, records) == (code, [])
    assert err.count("\n") == 1
    assert reason in err
    assert contents(home) == before


def unknown(panel):
    first = scored(panel, "buy_and_hold", {}, LENGTH - 1)[0]
    return sealed_bytes([first, replace(first, symbol="NOSUCH")], "run-1", at=now())


def test_a_partial_stream_is_taken_where_it_is_allowed_and_ends_as_one(ma, panel):
    code, records, _ = ma("--allow-partial", data=stream(panel, fail=["XYZ"]))
    assert (code, len(records)) == (3, 6)


def test_a_halt_file_stops_trading_and_not_looking(ma, home, panel):
    (home / "HALT").touch()
    before = contents(home)
    code, records, err = ma(data=stream(panel))
    assert (code, records) == (4, [])
    assert err == f"ma: {home / 'HALT'} exists: all trading is stopped; remove the file to go on\n"
    assert contents(home) == before
    assert len(ma("--plan", data=stream(panel))[1]) == 6


def test_an_account_in_use_is_busy_and_names_who_has_it(ma, home, panel):
    (home / "config.toml").write_text("busy_timeout_s = 0.2\n")
    with (home / "account-paper.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        holder = {"pid": 4711, "host": os.uname().nodename, "command": "ma trade", "since": "now"}
        lock.write(json.dumps(holder))
        lock.flush()
        code, records, err = ma(data=stream(panel))
    assert (code, records) == (75, [])
    assert "account-paper is held by pid 4711 (ma trade) since now" in err


@pytest.mark.parametrize("stdin", ["closed", "tty", "null"])
def test_without_a_stream_on_stdin_it_is_refused(home, stdin):
    close = {"preexec_fn": lambda: os.close(0)} if stdin == "closed" else {}
    leader, follower = pty.openpty()
    source = follower if stdin == "tty" else subprocess.DEVNULL
    done = subprocess.run(
        [*MA, "trade"],
        env=environment(home),
        stdin=source,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **close,
    )
    os.close(leader)
    os.close(follower)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


# --- once


def test_the_same_stream_a_second_time_is_refused_and_changes_nothing(ma, home, panel):
    data = stream(panel, t=LENGTH - 2)
    code, records, _ = ma(data=data)
    assert (code, {each["state"] for each in records}) == (0, {"FILLED"})
    before = contents(home)
    code, records, err = ma(data=data)
    assert (code, records) == (4, [])
    assert "run run-1 was traded already, at " in err
    assert contents(home) == before


def test_the_session_scored_again_orders_nothing_and_says_so(ma, home, panel):
    assert len(ma(data=stream(panel))[1]) == 6
    before = read_ledger(home)["orders"]
    code, records, err = ma(data=stream(panel, "run-2", weight=0.16))
    assert (code, records) == (0, [])
    assert "6 of 6 decisions of buy_and_hold on 2011-03-01 were traded before and count once" in err
    assert read_ledger(home)["orders"] == before


@pytest.mark.parametrize("runs", [("same", "same"), ("one", "two")])
def test_two_at_once_do_it_once(home, panel, runs):
    started = [
        subprocess.Popen([*MA, "trade"], env=environment(home), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
        for _ in runs
    ]  # fmt: skip
    for process, run in zip(started, runs, strict=True):
        process.stdin.write(stream(panel, run, t=LENGTH - 2))
    ended = [process.communicate(timeout=60) for process in started]
    codes = sorted(process.returncode for process in started)
    assert codes == ([0, 4] if runs[0] == runs[1] else [0, 0])
    counts = sorted(out.count(b'"kind":"order"') for out, _ in ended)
    assert counts == [0, 6]
    found = read_ledger(home)
    assert len(found["orders"]) == 6
    assert len([event for event in found["events"] if event[3] == "filled"]) == 6


# --- plan


def checksum(home):
    return hashlib.sha256((home / journal.FILE).read_bytes()).hexdigest()


@pytest.mark.parametrize(("t", "args"), [(LENGTH - 2, []), (LENGTH - 1, []), (LENGTH - 2, ["--fill", "last"]),
                                         (LENGTH - 2, ["--fractional"])])  # fmt: skip
def test_a_plan_changes_nothing_and_foresees_exactly_what_the_run_does(ma, home, panel, t, args):
    assert ma(data=stream(panel, "before", t=LENGTH - 6, weight=0.05))[0] == 0
    before, data = (checksum(home), contents(home)), stream(panel, t=t, weight=0.15, band=0.0)
    code, foreseen, _ = ma("--plan", *args, data=data)
    assert (code, len(foreseen)) == (0, 6)
    assert {each.pop("state") for each in foreseen} == {"PLANNED"}
    assert (checksum(home), contents(home)) == before
    code, done, _ = ma(*args, data=data)
    assert code == 0
    assert {each.pop("state") for each in done} == ({"FILLED"} if t == LENGTH - 2 else {"OPEN"})
    assert done == foreseen


def test_the_plan_of_a_run_that_was_killed_is_what_is_left_of_it(ma, home, panel):
    data = stream(panel, t=LENGTH - 2)
    _, foreseen, _ = ma("--plan", data=data)
    assert ma(data=stream(panel, t=LENGTH - 1))[0] == 0
    with journal.opened(home) as book:  # as a kill after the intents leaves it
        book.execute("UPDATE streams SET state = 'planned'")
    _, left, _ = ma("--plan", data=stream(panel, t=LENGTH - 1))
    assert [(each["symbol"], each["quantity"]) for each in left] == [
        (each["symbol"], each["quantity"]) for each in foreseen
    ]


# --- what is listed


def test_positions_and_orders_of_an_account_that_never_traded_say_so(ma):
    for what in ("positions", "orders"):
        code, records, err = ma(what)
        assert (code, records) == (66, [])
        assert err == "ma: account paper has not traded yet; run: ma score AAPL | ma trade\n"


def test_positions_and_orders_follow_each_state(ma, home, panel):
    ma(data=stream(panel, weight=0.1))
    assert [(p["symbol"], p["value"], p["weight"]) for p in ma("positions")[1]] == [("$USD", 100_000.0, 1.0)]
    assert {(o["state"], o["quantity"], o["filled_quantity"]) for o in ma("orders")[1]} == {("OPEN", 196.0, 0.0)}

    day = "2011-03-02"
    store(home, "symbol,date,open,high,low,close,volume\n" + "".join(f"S{n},{day},50,51,50,51,1\n" for n in range(5)))
    lines = [replace(each, session=day, weight=None) for each in scored(panel, "buy_and_hold", {}, LENGTH - 1)]
    code, records, err = ma(data=sealed_bytes(lines[:5], "run-2", at=now()))
    assert (code, records) == (66, [])
    assert "S5 is stored up to 2011-03-01, the account needs 2011-03-02; run: ma fetch S5" in err

    store(home, f"symbol,date,open,high,low,close,volume\nS5,{day},50,51,50,51,1\n", "more.csv")
    assert ma(data=sealed_bytes(lines, "run-2", at=now()))[0] == 0
    assert {(o["state"], o["fill_price"], o["fill_session"]) for o in ma("orders")[1]} == {("FILLED", 50.0, day)}
    held = ma("positions")[1]
    cash = 100_000 - 6 * (196 * 50 + 1.0 + 196 * 0.0000265)  # a dollar each, and the CAT fee
    assert [(p["symbol"], p["quantity"]) for p in held[:-1]] == [(f"S{n}", 196.0) for n in range(6)]
    assert (held[-1]["symbol"], held[-1]["quantity"]) == ("$USD", pytest.approx(cash, rel=1e-12))
    assert sum(p["weight"] for p in held) == pytest.approx(1.0)
    assert {p["session"] for p in held} == {day}


def test_lists_come_in_every_format(ma, panel):
    ma(data=stream(panel, t=LENGTH - 2))
    for what, kind, count in (("positions", "position", 7), ("orders", "order", 6)):
        rows = list(csv.DictReader(io.StringIO(ma(what, "--format", "csv", raw=True)[1])))
        assert len(rows) == count
        assert set(rows[0]) == set(KINDS[kind].__dataclass_fields__) - {"kind"}
        table = ma(what, "--format", "table", raw=True)[1]
        assert "S0" in table
        assert "196" in table


def test_shorts_are_sold_where_they_are_allowed(ma, panel):
    code, records, _ = ma("--allow-short", data=stream(panel, t=LENGTH - 2, weight=-0.1))
    assert (code, {(each["side"], each["state"]) for each in records}) == (0, {("sell", "FILLED")})
    assert {p["quantity"] for p in ma("positions")[1] if p["symbol"] != "$USD"} == {-196.0}
