"""``ma stream`` from outside, against a scripted vendor and against the sandbox: lines, codes, rows, signals, kills."""

import hashlib
import io
import json
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from prices import ask, here, new_home
from streams import MA, ROOT, environment
from vendors import KEY, OPEN, Aggregates, minute_bar, playing, polygon_welcome, resting, status, streaming

from marketagent import pipe
from marketagent.errors import Exit
from marketagent.records import Bar

SPEED = 240.0


class Market:
    """A rehearsal's time: `minutes` after the open when it is made, and a minute every quarter of a second."""

    def __init__(self, minutes=0.2, speed=SPEED):
        self._at, self.speed, self._since = OPEN + timedelta(minutes=minutes), speed, time.time()

    def now(self):
        return self._at + timedelta(seconds=(time.time() - self._since) * self.speed)

    @property
    def text(self):
        return f"{self._at.isoformat().replace('+00:00', 'Z')}@{self._since!r}*{self.speed!r}"

    def bars(self, *symbols, first=None, last=60):
        """A script's step: each minute's bars of `symbols` when it has closed, from `first` or the minute under way."""

        async def play(socket):
            for k in range(int((self.now() - OPEN) / timedelta(minutes=1)) if first is None else first, last + 1):
                closes = OPEN + timedelta(minutes=k + 1)
                await socket.wait(max(0.0, (closes - self.now()).total_seconds() / self.speed))
                for symbol in symbols:
                    await socket.send(minute_bar(symbol, k))

        return play


def variables(vendor, rest, market, **more):
    url, other = vendor.url, rest.url
    return {
        "POLYGON_BASE_URL": other, "POLYGON_STREAM_URL": url, "POLYGON_API_KEY": KEY, "POLYGON_CALLS_PER_MINUTE": "0",
        "APCA_API_BASE_URL": other, "APCA_API_DATA_URL": other, "APCA_API_STREAM_URL": url, "BULLAWARE_BASE_URL": other,
        "MA_CLOCK": market.text,
    } | more  # fmt: skip


@contextmanager
def started(home, env, *words, **more):
    process = subprocess.Popen(
        [*MA, "stream", *words], env=environment(home, **env), cwd=ROOT, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, **more,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(home, env, *words):
    with started(home, env, *words) as process:
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err.decode()


def bars(out):
    return [record for record in map(json.loads, out.splitlines()) if record["kind"] == "bar"]


def minutes(out, symbol="AAPL"):
    return [
        int((datetime.fromisoformat(one["ts"]) - OPEN) / timedelta(minutes=1))
        for one in bars(out)
        if one["symbol"] == symbol
    ]


@pytest.fixture
def home(tmp_path):
    return new_home(tmp_path)


# In good order


def test_a_minute_a_line_stored_first_and_sealed_at_the_end(home):
    market = Market()
    with streaming(playing(market.bars("AAPL", "MSFT", first=0))) as vendor, resting(Aggregates()) as rest:
        code, out, err = run(home, variables(vendor, rest, market), "AAPL", "MSFT", "--for", "5m")
    begin, *rows, end = map(json.loads, out.splitlines())
    assert (code, begin["live"], end["status"], end["n"]) == (Exit.DONE, True, "ok", len(rows))
    assert end["sha256"] == hashlib.sha256(b"".join(out.splitlines(keepends=True)[:-1])).hexdigest()
    assert minutes(out)[0] == 0
    assert minutes(out) == minutes(out, "MSFT") == list(range(len(rows) // 2))
    assert len(rows) / 2 >= 4
    first = {name: value for name, value in rows[0].items() if name not in ("i", "kind")}
    assert set(first) == set(Bar.__dataclass_fields__) - {"kind"}
    stored = ask(home, "SELECT symbol, strftime(ts, '%Y-%m-%dT%H:%M:%SZ'), close, source, feed FROM bars ORDER BY ALL")
    assert stored == sorted((one["symbol"], one["ts"], one["close"], one["source"], one["feed"]) for one in rows)
    assert f"{len(rows)} bars stored" in err
    assert KEY not in out.decode() + err


def test_its_stream_is_read_by_the_strict_reader(home):
    market = Market()
    with streaming(playing(market.bars("AAPL", first=0))) as vendor, resting(Aggregates()) as rest:
        _, out, _ = run(home, variables(vendor, rest, market), "AAPL", "--for", "3m")
    sealed = pipe.read(io.BytesIO(out), kinds={"bar"})
    assert (sealed.proven, sealed.begin.live, len(sealed.records)) == (True, True, len(bars(out)))


def test_each_line_is_out_when_its_minute_is(home):
    market = Market()
    with (
        streaming(playing(market.bars("AAPL"))) as vendor,
        resting(Aggregates()) as rest,
        started(home, variables(vendor, rest, market), "AAPL") as process,
    ):
        assert json.loads(process.stdout.readline())["kind"] == "begin"
        for _ in range(4):
            line = json.loads(process.stdout.readline())
            closed = datetime.fromisoformat(line["ts"]) + timedelta(minutes=1)
            # It came while later minutes were still to come. How soon: benchmarks/stream.py.
            assert market.now() < closed + timedelta(minutes=60)


def test_started_in_the_middle_and_dropped_on_the_way_no_minute_is_missing(home):
    market = Market(minutes=10.2)
    have = Aggregates(AAPL=list(range(80)))
    scripts = (
        playing(market.bars("AAPL", first=10, last=11), then="cut"),
        playing(market.bars("AAPL")),
    )
    with streaming(*scripts) as vendor, resting(have) as rest:
        code, out, err = run(home, variables(vendor, rest, market), "AAPL", "--for", "12m")
    found = minutes(out)
    assert code == Exit.DONE
    assert found == list(range(len(found)))
    assert found[-1] >= 20, err
    assert "1 reconnects" in err
    assert have.asked[0][1] == 0


def test_trades_and_quotes_are_printed_and_not_stored(home):
    ms = int(OPEN.timestamp() * 1000)
    trade = {"ev": "T", "sym": "AAPL", "x": 4, "p": 10.5, "s": 100, "t": ms}
    quote = {"ev": "Q", "sym": "AAPL", "bp": 1.0, "bs": 2, "ap": 1.5, "as": 3, "t": ms}
    with streaming(playing([trade, quote])) as vendor, resting(Aggregates()) as rest:
        code, out, _ = run(home, variables(vendor, rest, Market()), "AAPL", "--trades", "--quotes", "--for", "90s")
    assert code == Exit.DONE
    assert [record["kind"] for record in map(json.loads, out.splitlines())] == ["begin", "trade", "quote", "end"]
    assert ask(home, "SELECT count(*) FROM bars") == [(0,)]


@pytest.mark.parametrize(("form", "first"), [("csv", b"symbol,session,ts,"), ("table", b"09:30:00  AAPL  ")])
def test_other_forms_are_a_line_a_bar_too(home, form, first):
    with streaming(playing([minute_bar()])) as vendor, resting(Aggregates()) as rest:
        code, out, _ = run(home, variables(vendor, rest, Market(1.2)), "AAPL", "--for", "60s", "--format", form)
    assert code == Exit.DONE
    assert out.startswith(first)
    assert len(out.splitlines()) == (2 if form == "csv" else 1)


def test_a_symbol_has_the_users_name_and_is_asked_for_by_the_vendors(home):
    with streaming(playing([minute_bar("BRK.B")])) as vendor, resting(Aggregates()) as rest:
        _, out, _ = run(home, variables(vendor, rest, Market(1.2)), "BRK-B", "--for", "60s")
    assert [one["symbol"] for one in bars(out)] == ["BRK-B"]
    assert vendor.heard[1]["params"] == "AM.BRK.B"


# Ends


@pytest.mark.parametrize(
    ("word", "code"),
    [
        (status("auth_failed", f"authentication failed for {KEY}"), Exit.NOT_PERMITTED),
        (status("auth_failed", "Your plan doesn't include websocket access."), Exit.NOT_PERMITTED),
        (status("max_connections", "Maximum number of websocket connections exceeded."), Exit.BUSY),
    ],
)
def test_what_is_final_ends_it_with_its_code_and_one_line(home, word, code):
    async def script(socket):
        await polygon_welcome(socket)
        await socket.send(word)
        await socket.cut()

    with streaming(script) as vendor, resting(Aggregates()) as rest:
        found, out, err = run(home, variables(vendor, rest, Market()), "AAPL", "--source", "polygon")
    assert (found, vendor.connections) == (code, 1)
    assert json.loads(out.splitlines()[-1])["status"] == "error"
    assert "ma: " in err.splitlines()[-1]
    assert KEY not in out.decode() + err
    assert "Traceback" not in err


def test_a_reader_that_has_enough_ends_it_quietly_and_what_came_is_stored(home):
    market = Market()
    with (
        streaming(playing(market.bars("AAPL", first=0))) as vendor,
        resting(Aggregates()) as rest,
        started(home, variables(vendor, rest, market), "AAPL") as process,
    ):
        assert [json.loads(process.stdout.readline())["kind"] for _ in range(2)] == ["begin", "bar"]
        process.stdout.close()
        code = process.wait(timeout=20)
        err = process.stderr.read().decode()
    assert code == Exit.PIPE
    assert all(line.startswith(("ma: polygon:", "ma: the stream is")) for line in err.splitlines()), err
    assert len(ask(home, "SELECT * FROM bars")) >= 1


@pytest.mark.parametrize(
    ("signum", "words", "code", "status"),
    [
        (signal.SIGINT, [], Exit.DONE, "ok"),
        (signal.SIGTERM, [], Exit.DONE, "ok"),
        (signal.SIGINT, ["--for", "2h"], Exit.INTERRUPTED, "error"),
        (signal.SIGTERM, ["--for", "2h"], Exit.TERMINATED, "error"),
    ],
)
def test_a_signal_is_the_end_of_a_stream_without_one_and_a_cut_of_another(home, signum, words, code, status):
    market = Market()
    with (
        streaming(playing(market.bars("AAPL", first=0))) as vendor,
        resting(Aggregates()) as rest,
        started(home, variables(vendor, rest, market), "AAPL", *words) as process,
    ):
        head = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signum)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, json.loads(out.splitlines()[-1])["status"]) == (code, status)
    assert len(bars(b"".join(head) + out)) == len(ask(home, "SELECT * FROM bars"))
    assert b"Traceback" not in err


def quote(bid=1.0):
    return {"ev": "Q", "sym": "AAPL", "bp": bid, "bs": 2, "ap": 1.5, "as": 3, "t": int(OPEN.timestamp() * 1000)}


def quotes(out):
    """How many whole lines of `out` are quotes."""
    return sum(b'"quote"' in line for line in out.splitlines(keepends=True) if line.endswith(b"\n"))


def dropped(err):
    return int(err.rpartition(" quotes dropped")[0].rpartition(", ")[2].replace(",", ""))


async def arrival(socket):
    """Wait until all that was sent is in the other process: its answer to a ping comes after it has read that far."""
    await (await socket.raw.ping())


def test_a_reader_that_never_reads_cannot_keep_a_signal_waiting_and_what_it_has_not_had_is_counted(home):
    arrived = threading.Event()

    async def flood(socket):
        for _ in range(400):
            await socket.send(*[quote()] * 50)
        await arrival(socket)
        arrived.set()

    with (
        streaming(playing(flood)) as vendor,
        resting(Aggregates()) as rest,
        started(home, variables(vendor, rest, Market(minutes=500)), "AAPL", "--quotes") as process,
    ):
        process.stdout.readline()
        assert arrived.wait(30)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)
        out, err = process.stdout.read(), process.stderr.read().decode()
    assert dropped(err) == 400 * 50 - quotes(out)
    assert "Fatal" not in err


def test_a_slow_reader_loses_quotes_and_no_bar(home):
    market = Market(minutes=500)  # after the close: no minute need be waited for, and no silence is strange
    arrived = threading.Event()

    async def flood(socket):
        for k in range(6):
            for _ in range(60):
                await socket.send(*[quote()] * 100)
            await market.bars("AAPL", first=k, last=k)(socket)
        await socket.send(quote(bid=1.25))
        await arrival(socket)
        arrived.set()

    with (
        streaming(playing(flood)) as vendor,
        resting(Aggregates()) as rest,
        started(home, variables(vendor, rest, market), "AAPL", "--bars", "--quotes") as process,
    ):
        assert arrived.wait(30)  # nobody reads
        reader = io.BufferedReader(process.stdout)
        lines = []
        for line in reader:
            lines.append(line)
            if b'"bid":1.25' in line:  # the last one sent, and so the last one printed
                break
        process.send_signal(signal.SIGINT)
        out = b"".join(lines) + reader.read()
        err = process.stderr.read().decode()
    assert process.wait(timeout=30) == Exit.DONE
    assert minutes(out) == list(range(6))
    assert json.loads(out.splitlines()[-1])["n"] == len(out.splitlines()) - 2
    assert dropped(err) == 6 * 60 * 100 + 1 - quotes(out)
    assert dropped(err) > 0


def test_what_has_arrived_when_a_signal_comes_is_stored_printed_or_counted_first(home):
    ready, stopped, sent = (threading.Event() for _ in range(3))

    async def burst(socket):
        ready.set()
        while not stopped.is_set():
            await socket.wait(0.01)
        socket.raw.transport.set_write_buffer_limits(1 << 24)  # what the system does not take waits here
        for _ in range(150):  # so much that the signal is heeded before all of it is read
            await socket.send(quote() | {"more": "x" * 16_000})
        await socket.send(minute_bar())
        sent.set()

    with (
        streaming(playing(burst)) as vendor,
        resting(Aggregates()) as rest,
        started(home, variables(vendor, rest, Market(minutes=500)), "AAPL", "--bars", "--quotes") as process,
    ):
        assert ready.wait(30)
        process.send_signal(signal.SIGSTOP)
        stopped.set()
        assert sent.wait(10)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=20)
    assert minutes(out) == [0]
    assert ask(home, "SELECT count(*) FROM bars") == [(1,)]
    assert quotes(out) + dropped(err.decode()) == 150


def test_two_of_one_vendor_and_home_are_one_too_many(home):
    with streaming(playing()) as vendor, resting(Aggregates()) as rest:
        env = variables(vendor, rest, Market(minutes=500))
        with started(home, env, "AAPL") as first:
            first.stdout.readline()
            time.sleep(0.5)
            code, _, err = run(home, env, "MSFT")
            assert code == Exit.BUSY
            assert f"held by pid {first.pid}" in err
    assert not any("MSFT" in str(frame) for frame in vendor.heard)


def test_killed_and_started_again_it_goes_on_where_it_was(home):
    market = Market()
    have = Aggregates(AAPL=list(range(60)))
    with streaming(playing(market.bars("AAPL", first=0))) as vendor, resting(have) as rest:
        env = variables(vendor, rest, market)
        with started(home, env, "AAPL") as process:
            first = b"".join(process.stdout.readline() for _ in range(4))
            process.kill()
            first += process.stdout.read()
        vendor.scripts[:] = [playing(market.bars("AAPL"))]
        code, out, _ = run(home, env, "AAPL", "--for", "10m")
    assert code == Exit.DONE
    both = minutes(first[: first.rindex(b"\n") + 1]) + minutes(out)
    assert len(both) == len(set(both))  # no line twice; one may be missing, which was stored as the kill came
    rows = ask(home, "SELECT ts, count(*) FROM bars GROUP BY ts ORDER BY ts")
    assert {count for _, count in rows} == {1}
    assert len(rows) == max(both) + 1
    assert ask(home, "SELECT * FROM superseded_bars") == []


# What cannot be


@pytest.mark.parametrize(
    ("words", "env", "code", "line"),
    [
        (["AAPL", "--for", "soon"], {}, Exit.USAGE, "--for 'soon' is not a time such as 90s, 10m or 2h"),
        (["AAPL", "--for", "0s"], {}, Exit.USAGE, "--for '0s' is not a time such as 90s, 10m or 2h"),
        ([], {}, Exit.USAGE, "no symbols; run: ma stream AAPL MSFT, or pipe them in"),
        (["AAPL", "--source", "polygone"], {}, Exit.USAGE,
         "no stream from 'polygone'; did you mean polygon? (there are: polygon, alpaca)"),
        (["AAPL", "--format", "csv", "--bars", "--quotes"], {}, Exit.USAGE,
         "--format csv has one kind of row; choose one of --bars --quotes"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_with_its_code(home, monkeypatch, capfd, words, env, code, line):
    result = here(home, monkeypatch, capfd, "stream", *words, **env)
    assert (result.returncode, result.stderr, result.stdout) == (code, f"ma: {line}\n", "")


def test_without_a_key_nobody_is_called(home, monkeypatch, capfd):
    for name in ("POLYGON_API_KEY", "APCA_API_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    result = here(home, monkeypatch, capfd, "stream", "AAPL", "--source", "alpaca")
    assert result.returncode == Exit.NOT_PERMITTED
    assert "no key for alpaca: set APCA_API_KEY_ID and APCA_API_SECRET_KEY" in result.stderr


def test_the_first_source_with_a_key_streams(home):
    with streaming(playing()) as vendor, resting(Aggregates()) as rest:
        env = variables(
            vendor, rest, Market(), POLYGON_API_KEY="", APCA_API_KEY_ID="k3y-id-0123", APCA_API_SECRET_KEY=KEY
        )
        with started(home, env, "AAPL") as process:
            assert process.stderr.readline() == b"ma: the stream is alpaca's\n"


# The sandbox


@contextmanager
def sandbox(home, *words):
    """``ma sandbox`` of a made-up market; gives the environment that leads to it."""
    command = [
        *MA,
        "sandbox",
        "--port",
        "0",
        "--market",
        "synthetic",
        "--symbols",
        "AAPL,MSFT",
        "--speed",
        "120",
        *words,
    ]
    process = subprocess.Popen(
        command,
        env=environment(home),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stderr is not None
        while b"sandbox at" not in (line := process.stderr.readline()):
            assert line, process.stdout.read()
        shell = subprocess.run(
            [*MA, "sandbox", "env"], env=environment(home), cwd=ROOT, capture_output=True, text=True, check=True
        )
        pairs = (line.removeprefix("export ").partition("=") for line in shell.stdout.splitlines())
        yield {name: value.strip("'") for name, _, value in pairs}
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


FAULTS = """
seed = 3
[[fault]]
kind = "drop"
path = "{stream}"
first = 1
frames = 9
[[fault]]
kind = "duplicate-frames"
path = "{stream}"
chance = 0.3
[[fault]]
kind = "reorder-frames"
path = "{stream}"
chance = 0.2
[[fault]]
kind = "garbage-frames"
path = "{stream}"
chance = 0.2
[[fault]]
kind = "duplicate"
path = "{bars}"
[[fault]]
kind = "reorder"
path = "{bars}"
"""


@pytest.mark.parametrize(
    ("source", "stream", "bars"), [("polygon", "/stocks", "/v2/aggs"), ("alpaca", "/v2/iex", "/v2/stocks/bars")]
)
def test_a_faulty_sandbox_costs_no_minute_repeats_none_and_turns_none_around(home, tmp_path, source, stream, bars):
    faults = tmp_path / "faults.toml"
    faults.write_text(FAULTS.format(stream=stream, bars=bars), encoding="utf-8")
    with sandbox(home, "--faults", str(faults)) as env:
        rehearsal = env.pop("MA_HOME")
        code, out, err = run(rehearsal, env, "AAPL", "MSFT", "--source", source, "--for", "10m")
    assert code == Exit.DONE, err
    for symbol in ("AAPL", "MSFT"):
        found = [one["ts"] for one in map(json.loads, out.splitlines()) if one.get("symbol") == symbol]
        gaps = {datetime.fromisoformat(b) - datetime.fromisoformat(a) for a, b in pairwise(found)}
        assert gaps == {timedelta(minutes=1)}, err
    rows = ask(Path(rehearsal), "SELECT symbol, ts, count(*) FROM bars GROUP BY ALL")
    assert {count for _, _, count in rows} == {1}
    assert "connecting again" in err
