"""``ma score`` on a live stream: when a round is made, that it is the backtest's row, and what comes out of the pipe."""

import io
import json
import os
import subprocess
import time
from dataclasses import asdict
from datetime import UTC, date, datetime

import numpy as np
import pytest
from minutes import Feed, act, minutes, store, stream, with_action
from prices import new_home
from streams import MA, environment

from marketagent import catalog, live, pipe, scoring
from marketagent.config import Settings
from marketagent.decision import decide
from marketagent.errors import Exit, NoData, UsageError
from marketagent.panel import Panel
from marketagent.rounds import Round, Rounds
from marketagent.scoring import View
from marketagent.store.database import opened
from marketagent.timeframes import bar_of, bar_text

SMA = ("sma_cross", {"fast": "3", "slow": "8"})


def scorer(home, strategy=SMA[0], values=SMA[1], **view):
    loaded = catalog.load(strategy, home)
    settings = Settings(home=home, now=datetime(2014, 7, 3, 14, tzinfo=UTC))
    return live.Scorer(
        settings, loaded, loaded.configured(values), View(**{"timeframe": "1m", **view}), "ndjson", False
    )


def members(capfd):
    data = capfd.readouterr().out.encode()
    return list(pipe.series(pipe.Incoming(io.BytesIO(data)), kinds=("decision",)))


def rows_of(panel: Panel, decisions, t, symbols):
    """What the backtest decided on row `t`, by symbol: score, confidence, weight, action."""
    found = {}
    for symbol in symbols:
        n = panel.symbols.index(symbol)
        values = (decisions.score[t, n], decisions.confidence[t, n], decisions.targets[t, n], decisions.action[t, n])
        found[symbol] = tuple(None if np.isnan(value) else float(value) for value in values)
    return found


def told(sealed):
    return {
        one["symbol"]: (one["score"], one["confidence"], one["weight"], {"buy": 1.0, "hold": 0.0, "sell": -1.0}[one["action"]])
        for one in sealed.records
    }  # fmt: skip


# --- parity


@pytest.mark.parametrize(
    ("timeframe", "rows", "strategy"),
    [
        ("1m", range(386, 402), SMA),
        ("5m", range(380, 402), ("momentum", {"lookback": "20", "skip": "2", "rebalance": "bar"})),
    ],
)
def test_every_round_is_that_row_of_the_backtest_and_what_a_score_alone_decides(
    tmp_path, capfd, timeframe, rows, strategy
):
    """Over the end of a session, with a split in the night, gaps, and a bar that came late."""
    home = new_home(tmp_path)
    panel = with_action(minutes(home, 3, last=date(2014, 7, 3), whole=[rows[0], 390]), 390, 1, split=2.0)
    late = rows[6]  # S02's bar of that minute is stored a minute later, and never told
    store(home, panel, range(rows[0]))
    act(home, "S01", date(2014, 7, 3), "split", 2.0)
    alone: dict[str, dict] = {}
    loaded = catalog.load(strategy[0], home)
    chosen = loaded.configured(strategy[1])

    def before(t):
        if t > rows[0]:  # the store as it is when the round of the minute before is over
            decisions = scoring.decided(home, loaded, chosen, None, View(timeframe=timeframe), timeout_s=10)
            for record in scoring.records(decisions, loaded, chosen.params()):
                alone.setdefault(record.ts, {})[record.symbol] = asdict(record)
        store(home, panel if t != late else panel.only(["S00", "S01"]), [t])
        if t == late + 1:
            store(home, panel.only(["S02"]), [late])

    lines = [(t, line) for t, line in stream(panel, rows) if not (t == late and b'"S02"' in line)]
    code = live.score(pipe.Incoming(Feed(lines, before)), scorer(home, *strategy, timeframe=timeframe))
    found = members(capfd)
    assert code == Exit.DONE
    whole = scoring.decided(home, loaded, chosen, None, View(timeframe=timeframe), timeout_s=10)
    checked = []
    for sealed in found:
        assert (sealed.begin.live, sealed.end.status, sealed.begin.cmd) == (True, "ok", "score")
        bar = bar_of(sealed.records[0]["ts"])
        t = whole.panel.row(np.datetime64(bar))
        if not (timeframe == "1m" and bar == panel.sessions[late].astype(date)):
            symbols = [one["symbol"] for one in sealed.records]
            assert told(sealed) == rows_of(whole.panel, whole, t, symbols)
        checked.append(t)
    assert checked == list(range(checked[0], len(whole.panel.sessions)))  # every bar, in order, once
    assert len(checked) == (len(rows) if timeframe == "1m" else -(-(390 - rows[0]) // 5) + (rows[-1] - 389) // 5)
    assert len({sealed.begin.run for sealed in found}) == len(found)
    for sealed in found[1:-1]:
        ts = sealed.records[0]["ts"]
        if ts in alone and not (timeframe == "1m" and ts == bar_text(panel.sessions[late].astype(date))):
            assert {one["symbol"]: {**one, "i": 0} for one in sealed.records} == {
                symbol: {**json.loads(json.dumps(record)), "i": 0} for symbol, record in alone[ts].items()
            }


def test_decisions_are_kept_for_study_with_the_bar_they_were_made_on(tmp_path, capfd):
    home = new_home(tmp_path)
    panel = minutes(home, 2, last=date(2014, 7, 2), gaps=0)
    live.score(pipe.Incoming(Feed(stream(panel, range(3)), lambda t: store(home, panel, [t]))), scorer(home))
    with opened(home / "runs.duckdb") as con:
        rows = con.execute("SELECT run, session, ts, timeframe, symbol FROM decisions ORDER BY ts, symbol").fetchall()
    found = members(capfd)
    assert [row[0] for row in rows] == [sealed.begin.run for sealed in found for _ in sealed.records]
    assert rows[-1][1:] == (date(2014, 7, 2), panel.sessions[2].astype(date), "1m", "S01")


def test_a_bar_of_the_stream_that_is_not_in_the_store_ends_it_with_a_member_that_says_error(tmp_path, capfd):
    home = new_home(tmp_path)
    panel = minutes(home, 2, last=date(2014, 7, 2), gaps=0)
    store(home, panel, [0])
    with pytest.raises(
        NoData, match=r"2014-07-02T13:31:00Z that is not stored in .*; does ma stream store into the same"
    ):
        live.score(pipe.Incoming(Feed(stream(panel, range(3)), lambda t: None)), scorer(home))
    assert [sealed.end.status for sealed in members(capfd)] == ["ok", "error"]


def test_a_symbol_with_a_refused_row_makes_its_rounds_partial(tmp_path, capfd):
    home = new_home(tmp_path)
    panel = minutes(home, 2, last=date(2014, 7, 2), gaps=0)
    store(home, panel, [0])
    with opened(home / "market.duckdb", write=True) as con:
        con.execute(
            "INSERT INTO quarantine (source, symbol, session, reason, row_text, known_at)"
            " VALUES ('csv', 'S01', DATE '2014-07-02', 'high is below low', '', TIMESTAMP '2014-07-02 14:00:00')"
        )

    def before(t):
        store(home, panel if t != 3 else panel.only(["S00"]), [t] if t else [])

    lines = [(t, line) for t, line in stream(panel, range(5)) if not (t == 3 and b'"S01"' in line)]
    assert live.score(pipe.Incoming(Feed(lines, before)), scorer(home)) == Exit.PARTIAL
    found = members(capfd)
    assert [sealed.end.status for sealed in found] == ["ok", "ok", "ok", "partial", "partial"]
    assert found[-1].end.failed[0].symbol == "S01"
    assert [one["symbol"] for one in found[-1].records] == ["S00"]


@pytest.mark.parametrize(("view", "text"), [
    ({"timeframe": "1d"}, "decide on its bars, e.g. with --timeframe 1m"),
    ({"last": date(2014, 7, 2)}, "--as-of and --known-at look back"),
])  # fmt: skip
def test_a_live_stream_is_decided_on_by_its_bars_and_now(tmp_path, view, text):
    home = new_home(tmp_path)
    with pytest.raises(UsageError, match=text):
        live.score(pipe.Incoming(Feed([], lambda t: None)), scorer(home, **view))


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda lines: lines[:-1], "input is not complete: the stream has no end"),
    (lambda lines: [*lines[:-1], (-1, lines[-1][1].replace(b'"ok"', b'"partial"'))], "ma stream was done only in part"),
    (lambda lines: [*lines[:4], (1, b"not a line\n"), *lines[4:-1]], "line 5 of the input is not JSON; it was left out"),
    (lambda lines: [*lines[:-2], (2, lines[-2][1][:20])], "is cut off; it was left out"),
])  # fmt: skip
def test_a_stream_that_broke_off_or_has_a_bad_line_is_told_and_ends_as_done_in_part(tmp_path, capfd, spoil, said):
    home = new_home(tmp_path)
    panel = minutes(home, 2, last=date(2014, 7, 2), gaps=0)
    store(home, panel, range(3))
    lines = spoil(stream(panel, range(3)))
    assert live.score(pipe.Incoming(Feed(lines, lambda t: None)), scorer(home)) == Exit.PARTIAL
    out, err = capfd.readouterr()
    assert said in err
    assert out.count('"end"') >= 3


def test_bars_outside_regular_hours_and_other_records_make_no_round(tmp_path, capfd):
    home = new_home(tmp_path)
    panel = minutes(home, 2, last=date(2014, 7, 2), gaps=0)
    store(home, panel, range(3))
    begin, *rest = stream(panel, range(3))
    early = rest[0][1].replace(b"13:30:00Z", b"13:29:00Z")
    weekend = early.replace(b"2014-07-02", b"2014-07-05")
    quote = b'{"kind":"quote","i":9,"symbol":"S00","ts":"2014-07-02T13:31:00Z"}\n'
    lines = [begin, (0, early), (0, weekend), *rest[:2], (1, quote), *rest[2:]]
    assert live.score(pipe.Incoming(Feed(lines, lambda t: None)), scorer(home)) == Exit.DONE
    assert [sealed.records[0]["ts"][11:16] for sealed in members(capfd)] == ["13:30", "13:31", "13:32"]


# --- when a round is made


def minute(n, day=2):
    return bar_of(f"2014-07-{day:02}T13:{30 + n}:00Z")


def made(rounds):
    return [(one.bar.minute - 30, "".join(sorted(one.symbols))) for one in rounds]


def test_a_round_is_made_when_every_symbol_has_come_and_the_first_one_after_the_grace():
    rounds = Rounds(grace_s=0.4)
    assert rounds.wait_s(0.0) is None
    assert rounds.take("A", minute(0), 10.0, is_last=True) == []
    assert rounds.take("B", minute(0), 10.1, is_last=True) == []
    assert rounds.wait_s(10.1) == pytest.approx(0.3)
    assert rounds.overdue(10.3) == []
    assert made(rounds.overdue(10.4)) == [(0, "AB")]
    assert rounds.wait_s(10.5) is None
    assert rounds.take("B", minute(1), 70.0, is_last=True) == []
    assert made(rounds.take("A", minute(1), 70.1, is_last=True)) == [(1, "AB")]  # at once
    assert rounds.take("A", minute(2), 130.0, is_last=True) == []
    assert made(rounds.overdue(130.5)) == [(2, "AB")]  # B did not trade


def test_a_later_bar_closes_the_one_before_and_a_late_one_makes_no_second_round():
    rounds = Rounds(grace_s=0.4)
    rounds.take("A", minute(0), 10.0, is_last=True)
    assert made(rounds.take("B", minute(1), 10.1, is_last=True)) == [(0, "A")]
    assert rounds.take("B", minute(0), 10.2, is_last=True) == []
    assert rounds.late == 1
    assert made(rounds.take("A", minute(1), 10.3, is_last=True)) == [(1, "AB")]
    assert rounds.take("A", minute(1), 10.4, is_last=True) == []
    assert rounds.end() == []


def test_a_symbol_that_first_comes_after_the_round_is_waited_for_from_then_on():
    rounds = Rounds(grace_s=0.4)
    rounds.take("A", minute(0), 1.0, is_last=True)
    rounds.overdue(2.0)
    assert made(rounds.take("A", minute(1), 61.0, is_last=True)) == [(1, "A")]
    assert rounds.take("B", minute(1), 61.1, is_last=True) == []
    assert rounds.take("A", minute(2), 121.0, is_last=True) == []
    assert made(rounds.take("B", minute(2), 121.1, is_last=True)) == [(2, "AB")]


def test_the_symbols_of_yesterday_are_not_waited_for():
    rounds = Rounds(grace_s=0.4)
    rounds.take("A", minute(0), 1.0, is_last=True)
    rounds.take("B", minute(0), 1.0, is_last=True)
    rounds.overdue(2.0)
    assert rounds.take("A", minute(0, day=3), 3.0, is_last=True) == []
    assert rounds.overdue(3.4) == [Round(minute(0, day=3), frozenset("A"))]


def test_a_coarser_bar_is_due_with_its_last_minute_or_with_the_next_bar():
    rounds, bar = Rounds(grace_s=0.4), minute(0)
    assert rounds.take("A", bar, 10.0, is_last=False) == []
    assert rounds.take("B", bar, 70.0, is_last=False) == []
    assert (rounds.wait_s(70.0), rounds.overdue(500.0), rounds.end()) == (None, [], [])
    rounds.take("A", bar, 300.0, is_last=True)
    assert made(rounds.overdue(300.4)) == [(0, "AB")]
    rounds.take("A", minute(5), 360.0, is_last=False)
    assert made(rounds.take("A", minute(10), 600.0, is_last=False)) == [(5, "AB")]  # its last minute had no bar


# --- the process


def test_the_command_answers_each_minute_within_a_second_and_ends_with_the_stream(tmp_path):
    home = new_home(tmp_path)
    panel = minutes(home, 2, last=date(2014, 7, 2), gaps=0)
    store(home, panel, range(100))
    lines = dict.fromkeys(range(-1, 110), b"")
    for t, line in stream(panel, range(100, 106)):
        lines[t] += line
    begin, end = lines[-1].splitlines(True)
    words = [*MA, "score", "--strategy", "sma_cross", "--timeframe", "1m"]
    with subprocess.Popen(
        words, env=environment(home), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        running.stdin.write(begin)
        running.stdin.flush()
        delays = []
        for t in range(100, 106):
            store(home, panel, [t])
            os.write(running.stdin.fileno(), lines[t])
            started, got = time.monotonic(), []
            while not got or got[-1]["kind"] != "end":
                got.append(json.loads(running.stdout.readline()))
            delays.append(time.monotonic() - started)
            assert [one["kind"] for one in got] == ["begin", "decision", "decision", "end"]
            assert got[0]["live"] is True
        running.stdin.write(end)
        out, err = running.communicate(timeout=20)
    assert (running.returncode, out, err) == (0, b"", b"")
    assert sorted(delays)[len(delays) // 2] < 1.0, delays  # of the order of 0.1 s: benchmarks/live.py


@pytest.mark.parametrize("cut", [True, False])
def test_a_signal_or_a_closed_stream_between_rounds_leaves_only_whole_members(tmp_path, cut):
    home = new_home(tmp_path)
    panel = minutes(home, 1, last=date(2014, 7, 2), gaps=0)
    store(home, panel, range(5))
    data = b"".join(line for _, line in stream(panel, range(3)))
    running = subprocess.Popen(
        [*MA, "score", "--strategy", "sma_cross", "--timeframe", "1m"],
        env=environment(home), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    running.stdin.write(data[: data.rindex(b'{"kind":"end"')])
    running.stdin.flush()
    found = [running.stdout.readline() for _ in range(9)]  # the rounds of three minutes
    if not cut:
        running.terminate()
    out, err = running.communicate(timeout=20)
    assert running.returncode == (Exit.PARTIAL if cut else Exit.TERMINATED)
    assert err.decode() == ("ma: input is not complete: the stream has no end\n" if cut else "ma: terminated\n")
    read = list(pipe.series(pipe.Incoming(io.BytesIO(b"".join(found) + out)), kinds=("decision",)))
    # Of a stream that broke off a last member says so: silence would read like no news.
    assert [one.end.status for one in read] == ["ok"] * 3 + (["error"] if cut else [])


def test_what_had_closed_when_the_stream_began_is_history_and_makes_no_round(tmp_path, capfd):
    home = new_home(tmp_path)
    panel = minutes(home, 2, last=date(2014, 7, 2), gaps=0)
    store(home, panel, range(6))
    (_, begin), *rest = stream(panel, range(6))
    began = json.loads(begin) | {"at": str(panel.sessions[4]) + "Z"}  # when the fifth minute opened, four had closed
    lines = [(-1, json.dumps(began).encode() + b"\n"), *rest]
    live.score(pipe.Incoming(Feed(lines, lambda t: None)), scorer(home))
    out, err = capfd.readouterr()
    assert "8 bars had closed before the stream began: history, not decided on" in err
    made = [one for one in map(json.loads, out.splitlines()) if one["kind"] == "decision"]
    assert sorted({one["ts"] for one in made}) == [f"{panel.sessions[t]}Z" for t in (4, 5)]


def test_a_round_decides_on_all_that_the_stream_was_asked_for(tmp_path, capfd):
    home = new_home(tmp_path)
    panel = minutes(home, 2, last=date(2014, 7, 2), gaps=0)
    store(home, panel, range(6))
    (_, begin), *rest = stream(panel, range(6))
    asked = json.dumps(json.loads(begin) | {"symbols": ["S00", "S01"]}).encode() + b"\n"
    only = [
        (t, line) for t, line in rest if b'"symbol":"S01"' not in line
    ]  # its bars are stored, and not printed again
    live.score(pipe.Incoming(Feed([(-1, asked), *only], lambda t: None)), scorer(home))
    made = [one for one in map(json.loads, capfd.readouterr().out.splitlines()) if one["kind"] == "decision"]
    assert {one["symbol"] for one in made} == {"S00", "S01"}
    assert len(made) == 12


def test_a_stream_that_is_not_live_is_read_as_ever(tmp_path):
    home = new_home(tmp_path)
    panel = minutes(home, 2, last=date(2014, 7, 2), gaps=0)
    store(home, panel, range(20))
    data = b"".join(line for _, line in stream(panel, range(3))).replace(b'"live":true', b'"live":false')
    done = subprocess.run(
        [*MA, "score", "--strategy", "sma_cross", "--timeframe", "1m"], env=environment(home), input=data,
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    kinds = [json.loads(line)["kind"] for line in done.stdout.splitlines()]
    assert kinds == ["begin", "decision", "decision", "end"]
    assert done.returncode == Exit.PARTIAL  # its hash is of another begin


def test_decisions_of_a_panel_that_grows_are_those_of_the_whole(tmp_path):
    """What live rounds rest on: a head of the panel decides its last row as the whole panel does."""
    home = new_home(tmp_path)
    panel = minutes(home, 3, last=date(2014, 7, 3))
    strategy = catalog.load(SMA[0], home).configured(SMA[1])
    whole = decide(strategy, panel)
    for t in (5, 20, 389, 390, 450):
        head = decide(strategy, panel.head(t + 1))
        for name in ("score", "confidence", "targets", "action"):
            np.testing.assert_array_equal(getattr(head, name)[-1], getattr(whole, name)[t])
