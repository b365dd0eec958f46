import csv
import hashlib
import io
import json
import random
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from streams import AT, MA, decision, environment, shell, stdout, written

from marketagent import pipe
from marketagent.errors import BadData, Exit, Refused, UsageError
from marketagent.pipe.lines import MAX_LINE
from marketagent.process import Terminated
from marketagent.records import Failure, Row

TWO = (decision("AAPL"), decision("MSFT", score=None, weight=None))


def read(data, **options):
    return pipe.read(io.BytesIO(data), **options)


def resealed(*lines, **changes):
    """A stream of raw `lines` between a begin and an end that fits them, but for `changes`."""
    begin = b'{"kind":"begin","run":"r","cmd":"score","at":"2026-11-20T21:05:00Z","v":1,"live":false}\n'
    body = begin + b"".join(lines)
    digest = hashlib.sha256(body).hexdigest()
    end = {"kind": "end", "run": "r", "cmd": "score", "n": len(lines), "sha256": digest, "status": "ok"}
    return body + json.dumps(end | changes).encode() + b"\n"


def record(i=0, **changes):
    (first,) = read(written(decision())).records
    return json.dumps(first | {"i": i} | changes).encode() + b"\n"


# --- writing


def test_a_stream_is_begin_records_end_with_the_hash_of_all_lines_before_the_end():
    lines = written(*TWO).splitlines(keepends=True)
    begin, first, _, end = (json.loads(line) for line in lines)
    assert begin == {
        "kind": "begin",
        "run": "run-1",
        "cmd": "score",
        "at": "2026-11-20T21:05:00Z",
        "v": 1,
        "live": False,
    }
    assert (first["kind"], first["i"], first["symbol"]) == ("decision", 0, "AAPL")
    assert (end["n"], end["status"], end["failed"]) == (2, "ok", [])
    assert end["sha256"] == hashlib.sha256(b"".join(lines[:-1])).hexdigest()


def test_what_is_written_is_read_back_the_same():
    sealed = read(written(*TWO), kinds={"decision"})
    assert [(r["i"], r["symbol"], r["score"]) for r in sealed.records] == [(0, "AAPL", 0.41), (1, "MSFT", None)]
    assert sealed.proven
    assert sealed.dropped == 0


def test_a_stream_without_records_is_whole():
    sealed = read(written())
    assert sealed.records == []
    pipe.check(sealed, now=AT, max_age_s=900)


def test_a_failed_symbol_is_named_on_stderr_and_in_the_end_and_makes_it_partial(capsys):
    outs = []
    data = written(*TWO, then=lambda out: (out.fail("TSLA", UsageError("unknown symbol")), outs.append(out)))
    assert capsys.readouterr().err == "ma: TSLA: unknown symbol\n"
    end = read(data).end
    assert (end.status, end.failed) == ("partial", [Failure(symbol="TSLA", error="unknown symbol")])
    assert outs[0].exit_code == Exit.PARTIAL


@pytest.mark.parametrize("form", ["ndjson", "table", "csv"])
def test_a_failure_is_one_line_on_stderr_in_every_format(form, capsys):
    written(decision(), format=form, then=lambda out: [out.fail("TSLA", "no bars") for _ in range(2)])
    assert capsys.readouterr().err == "ma: TSLA: no bars\n"


@pytest.mark.parametrize("status", ["partial", "error"])
def test_a_stage_cannot_be_ok_when_its_upstream_was_not(status):
    up = read(resealed(status=status)).end
    end = read(written(*TWO, then=lambda out: setattr(out, "up", up))).end
    assert end.status == "partial"
    assert end.up["status"] == status


def test_a_stage_with_incomplete_input_is_partial_and_says_why():
    end = read(written(*TWO, then=lambda out: setattr(out, "incomplete", "cut"))).end
    assert (end.status, end.error) == ("partial", "cut")


@pytest.mark.parametrize("error", [ValueError("a\nb"), KeyboardInterrupt(), Terminated("terminated"), SystemExit(1)])
def test_an_exception_seals_the_stream_as_an_error_and_goes_on(error):
    text = stdout()
    out = pipe.sealed("score", "ndjson", run="r", at=AT, stdout=text)
    with pytest.raises(type(error)), out as stream:  # noqa: PT012 - what happens inside is what is tested
        stream.write(decision())
        raise error
    end = read(text.buffer.getvalue()).end
    assert (end.n, end.status) == (1, "error")
    assert end.error == (" ".join(str(error).split()) or type(error).__name__)


def test_a_number_that_is_none_never_reaches_a_stream():
    text = stdout()
    with pytest.raises(ValueError, match="JSON"), pipe.sealed("score", "ndjson", run="r", at=AT, stdout=text) as out:
        out.write(decision(close=float("nan")))
    assert read(text.buffer.getvalue()).end.status == "error"


def test_a_record_too_long_to_be_read_is_not_written():
    with pytest.raises(ValueError, match="at most"):
        written(decision(reasoning="x" * MAX_LINE))


def test_half_an_emoji_is_written_as_a_replacement_and_the_rest_kept():
    (found,) = read(written(decision(reasoning="up \ud83d, \U0001f600 \\ud83d", score=0.1 + 0.2))).records
    assert found["reasoning"] == "up \ufffd, \U0001f600 \\ud83d"
    assert found["score"] == 0.1 + 0.2


def test_long_streams_are_written_in_pieces_and_read_back_whole():
    many = [decision(f"S{i}", reasoning="x" * 1000) for i in range(3000)]
    assert [r["symbol"] for r in read(written(*many)).records] == [d.symbol for d in many]


class Slow(io.RawIOBase):
    """A bare descriptor, as with PYTHONUNBUFFERED: takes a part of each write, and is interrupted at `stop`."""

    def __init__(self, stop=None):
        self.taken, self.stop = b"", stop

    def writable(self):
        return True

    def write(self, data):
        if self.stop is not None and len(self.taken) >= self.stop:
            self.stop = None
            raise Terminated("terminated")
        self.taken += bytes(data[:70_000])
        return min(len(data), 70_000)


def test_a_stdout_that_takes_only_parts_gets_the_whole_stream():
    raw = Slow()
    text = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    with pipe.sealed("score", "ndjson", run="r", at=AT, stdout=text) as out:
        for i in range(300):
            out.write(decision(f"S{i}", reasoning="x" * 1000))
    assert len(read(raw.taken).records) == 300


def test_a_stream_interrupted_while_it_is_printed_gets_no_end():
    raw = Slow(stop=140_000)
    text = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    stream = pipe.sealed("score", "ndjson", run="r", at=AT, stdout=text)
    with pytest.raises(Terminated), stream as out:  # noqa: PT012 - the writing is what is interrupted
        for i in range(2000):
            out.write(decision(f"S{i}", reasoning="x" * 1000))
    assert len(raw.taken) == 140_000


def test_run_ids_sort_by_time():
    ids = [pipe.new_run_id(AT + timedelta(milliseconds=ms), b"\xff" if ms % 2 else b"\0") for ms in (0, 1, 999, 60_000)]
    assert ids == sorted(ids)
    assert pipe.new_run_id(AT, b"\1") != pipe.new_run_id(AT, b"\2")


def test_auto_is_a_table_on_a_terminal_and_ndjson_elsewhere():
    class Terminal(io.TextIOWrapper):
        def isatty(self):
            return True

    text = Terminal(io.BytesIO(), encoding="utf-8")
    with pipe.sealed("score", "auto", run="r", at=AT, stdout=text) as out:
        out.write(decision())
    assert b"symbol" in text.buffer.getvalue()
    assert b"{" not in text.buffer.getvalue()
    assert written(decision(), format="auto").startswith(b'{"kind":"begin"')


def test_csv_guards_texts_a_spreadsheet_would_run_and_leaves_numbers_alone():
    texts = ["=1+1", "+1", "-0.5", "@x", "\tx", "\rx", "a=b"]
    rows = [Row(values={"=head": text, "n": -0.5, "none": None, "flag": True, "more": {"a": [1]}}) for text in texts]
    header, *found = csv.reader(io.StringIO(written(*rows, format="csv").decode(), newline=""))
    assert header == ["'=head", "n", "none", "flag", "more"]
    assert [row[0] for row in found] == ["'=1+1", "'+1", "'-0.5", "'@x", "'\tx", "'\rx", "a=b"]
    assert found[0][1:] == ["-0.5", "", "true", '{"a": [1]}']


def test_raw_csv_is_what_was_stored():
    text = stdout()
    with pipe.sealed("sql", "csv", run="r", at=AT, stdout=text, raw=True) as out:
        out.write(Row(values={"a": "=1+1"}))
    assert text.buffer.getvalue() == b"a\n=1+1\n"


def test_csv_of_a_record_has_its_fields_and_no_kind():
    header, row = written(decision(), format="csv").decode().splitlines()
    assert header.startswith("symbol,session,action,score,")
    assert row.startswith("AAPL,2026-11-20,buy,0.41,")


# --- reading strictly

BAD_STREAMS = {
    "nothing": (b"", "nothing arrived"),
    "no begin": (record(), "no begin"),
    "record before begin": (record() + resealed(), "no begin"),
    "no end": (resealed(record()).rsplit(b"\n", 2)[0] + b"\n", "no end"),
    "two streams": (resealed() + resealed(), "second stream"),
    "second begin": (resealed().splitlines(True)[0] + resealed(), "second begin"),
    "data after the end": (resealed(record()) + record(1), "after the end"),
    "wrong count": (resealed(record(), n=2), "1 records arrived and 2"),
    "wrong hash": (resealed(record(), sha256="0" * 64), "hash"),
    "end of another run": (resealed(run="other"), "two different"),
    "end of another command": (resealed(cmd="fetch"), "two different"),
    "ok with failures": (resealed(failed=[{"symbol": "A", "error": "x"}]), "says ok"),
    "ok with upstream not ok": (resealed(up={"status": "partial"}), "says ok"),
    "NaN": (resealed(record(close=float("nan"))), "NaN"),
    "Infinity": (resealed(record(close=float("inf"))), "Infinity"),
    "1e400": (resealed(record(close=7.75).replace(b"7.75", b"1e400")), "out of range"),
    "-1e400": (resealed(record(close=7.75).replace(b"7.75", b"-1e400")), "out of range"),
    "duplicate key": (resealed(record().replace(b'"band"', b'"symbol": "TSLA", "band"')), "same key twice"),
    "duplicate key inside": (resealed(record(params={"a": 1}).replace(b'"a": 1', b'"a": 1, "a": 2')), "same key twice"),
    "long line": (resealed(record(reasoning="x" * MAX_LINE)), "longer than"),
    "not UTF-8": (resealed(record(reasoning="zz").replace(b"zz", b"\xff\xfe")), "not UTF-8"),
    "not JSON": (resealed(b"AAPL\n"), "not JSON"),
    "not a record": (resealed(b"[1]\n"), "not a record"),
    "empty line": (resealed(b"\n"), "not JSON"),
    "deep": (resealed(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"), "too deep"),
    "huge integer": (resealed(record(extra=7).replace(b'"extra": 7', b'"extra": ' + b"9" * 5000)), "line 2"),
    "newer version": (resealed().replace(b'"v":1', b'"v":2'), "version 2"),
    "older than all": (resealed().replace(b'"v":1', b'"v":0'), "version 0"),
    "other kind": (resealed(record(kind="row", values={})), "kind 'row'"),
    "kind that is no text": (resealed(record(kind=["decision"])), "kind"),
    "i too high": (resealed(record(1)), "before line 2 are missing"),
    "i repeated": (resealed(record(0), record(0)), "out of order"),
    "i is true": (resealed(record(0), record(True)), "out of order"),
    "no i": (resealed(record().replace(b'"i": 0', b'"j": 0')), "out of order"),
    "score over 1": (resealed(record(score=1.7)), "score"),
    "text for a number": (resealed(record(close="150")), "close"),
    "true for a number": (resealed(record(close=True)), "close"),
    "unknown action": (resealed(record(action="short")), "action"),
    "field missing": (resealed(record().replace(b'"weight": 0.05, "close"', b'"close"')), "weight"),
    "unknown status": (resealed(status="fine"), "status"),
    "time without a zone": (resealed().replace(b"05:00Z", b"05:00"), "UTC"),
    "time of another zone": (resealed().replace(b"05:00Z", b"05:00+01:00"), "UTC"),
    "no time": (resealed().replace(b"2026-11-20T21:05:00Z", b"yesterday"), "no instant"),
}


@pytest.mark.parametrize("name", BAD_STREAMS)
def test_the_strict_reader_refuses(name):
    data, reason = BAD_STREAMS[name]
    with pytest.raises(Refused, match=reason) as refused:
        read(data, kinds={"decision"})
    assert refused.value.exit_code == Exit.REFUSED
    assert str(refused.value).isprintable()


def test_the_stream_the_bad_ones_are_made_from_is_good():
    assert len(read(resealed(record(0), record(1)), kinds={"decision"}).records) == 2


def test_a_field_of_a_later_version_is_tolerated():
    assert read(resealed(record(added_later=1), later="x")).records[0]["added_later"] == 1


def test_a_terminal_or_nothing_at_all_is_no_stream():
    closed = io.BytesIO()
    closed.close()
    for stdin in (None, closed):
        with pytest.raises(Refused, match="no stream"):
            pipe.read(stdin)


def test_a_filtered_stream_is_accepted_only_when_asked_and_is_not_proven():
    lines = written(*(decision(s) for s in ("A", "B", "C"))).splitlines(keepends=True)
    some = b"".join([lines[0], lines[1], lines[3], lines[4]])
    with pytest.raises(Refused, match="records before line 3 are missing"):
        read(some)
    sealed = read(some, allow_filtered=True)
    assert ([r["symbol"] for r in sealed.records], sealed.dropped, sealed.proven) == (["A", "C"], 1, False)


@pytest.mark.parametrize("order", [(2, 1), (1, 1), (1, 2, 3, 3), (1, 2, 3, 1)])
def test_a_filter_may_drop_records_but_not_move_or_repeat_them(order):
    lines = written(*(decision(s) for s in ("A", "B", "C"))).splitlines(keepends=True)
    with pytest.raises(Refused, match="out of order"):
        read(b"".join([lines[0], *(lines[i] for i in order), lines[4]]), allow_filtered=True)


def test_a_filtered_stream_without_its_end_is_refused_all_the_same():
    lines = written(*TWO).splitlines(keepends=True)
    with pytest.raises(Refused, match="no end"):
        read(b"".join(lines[:2]), allow_filtered=True)
    with pytest.raises(Refused, match="only 1"):
        read(resealed(record(0), record(1), n=1), allow_filtered=True)


# --- acting on it


def test_only_a_whole_and_fresh_stream_may_be_acted_on():
    sealed = read(written(*TWO))
    pipe.check(sealed, now=AT + timedelta(seconds=900), max_age_s=900)
    with pytest.raises(Refused, match="901 s old; at most 900"):
        pipe.check(sealed, now=AT + timedelta(seconds=901), max_age_s=900)
    with pytest.raises(Refused, match="future"):
        pipe.check(sealed, now=AT - timedelta(seconds=61), max_age_s=900)
    with pytest.raises(Refused, match="acted on before"):
        pipe.check(sealed, now=AT, max_age_s=900, traded={"run-1"})


def test_a_partial_stream_may_be_acted_on_only_when_asked(capsys):
    sealed = read(written(*TWO, then=lambda out: out.fail("TSLA", "no bars")))
    with pytest.raises(Refused, match=r"in part \(failed: TSLA"):
        pipe.check(sealed, now=AT, max_age_s=900)
    pipe.check(sealed, now=AT, max_age_s=900, allow_partial=True)


def test_a_stream_that_ended_in_an_error_is_never_acted_on():
    with pytest.raises(Refused, match="score failed: disk"):
        pipe.check(read(resealed(status="error", error="disk")), now=AT, max_age_s=900, allow_partial=True)


# --- symbols in


def given(arguments=None, stdin=None, watchlists=None):
    stdin = io.BytesIO(stdin) if isinstance(stdin, bytes) else stdin
    return pipe.symbols_in(arguments, stdin, watchlists or {})


def test_arguments_are_tickers_watchlists_and_files_in_order_and_each_once(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("\ufeff# my list\nNVDA\n\n  msft # twice\r\nBRK.B\n", encoding="utf-8")
    found = given(["aapl", "@tech", f"@{file}", "AAPL"], b"IGNORED\n", {"tech": ("MSFT", "TSLA")})
    assert found.symbols == ("AAPL", "MSFT", "TSLA", "NVDA", "BRK.B")


def test_an_unknown_watchlist_is_answered_with_a_near_one():
    with pytest.raises(UsageError, match="unknown watchlist 'tehc'; did you mean tech"):
        given(["@tehc"], None, {"tech": ()})
    with pytest.raises(UsageError, match=r"no such file: ./none.txt"):
        given(["@./none.txt"])
    with pytest.raises(UsageError, match="unknown watchlist ''"):
        given(["@"])
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        given(["@/"])


def test_a_bad_line_of_a_file_is_named_with_its_number(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("AAPL\n../../x\n")
    with pytest.raises(UsageError, match=r"mine.txt, line 2: symbol '../../x' is not a ticker"):
        given([f"@{file}"])
    file.write_bytes(b"\xff\xfeA")
    with pytest.raises(BadData, match="not UTF-8"):
        given([f"@{file}"])


def test_plain_tickers_on_stdin_are_taken_one_a_line_and_stay_text():
    assert given(stdin=b"NA\nnull\n00700\n1E5\n2024-01-02\nTRUE").symbols == (
        *("NA", "NULL", "00700", "1E5", "2024-01-02", "TRUE"),
    )


def test_records_without_a_seal_are_symbols_too():
    found = given(stdin=b'{"symbol":"AAPL"}\n{"other":1}\n{"symbol":"MSFT"}\n')
    assert (found.symbols, found.up, found.incomplete) == (("AAPL", "MSFT"), None, None)


def test_a_sealed_stream_gives_symbols_and_its_end():
    found = given(stdin=written(*TWO, cmd="fetch"))
    assert (found.symbols, found.up.cmd, found.up.status, found.incomplete) == (("AAPL", "MSFT"), "fetch", "ok", None)


def test_a_stream_whose_records_have_no_symbol_gives_those_that_its_begin_names():
    begin = '{"kind":"begin","cmd":"backtest","symbols":%s}\n'

    def told(named, record):
        return given(stdin=(begin % named + record).encode())

    none, one = '{"kind":"backtest","symbol":null}\n', '{"kind":"decision","symbol":"IBM"}\n'
    assert told('["AAPL","bad one","MSFT"]', none).symbols == ("AAPL", "MSFT")
    assert told('["AAPL","MSFT"]', one).symbols == ("IBM",)
    for nothing in ("null", "7", '"AAPL"', "[]"):
        assert told(nothing, none).symbols == ()


@pytest.mark.parametrize("cut", [1, 40, 500])
def test_a_cut_stream_is_used_as_far_as_it_goes_and_said_to_be_incomplete(cut, capsys):
    found = given(stdin=written(*TWO)[:-cut])
    assert set(found.symbols) == {"AAPL", "MSFT"} if cut < 500 else {"AAPL"}
    assert found.incomplete
    assert found.incomplete in capsys.readouterr().err
    end = read(written(*TWO, then=lambda out: out.follow(found))).end
    assert (end.status, end.error) == ("partial", found.incomplete)


def test_what_failed_upstream_fails_here_too_and_is_said_once(capsys):
    data = written(*TWO, then=lambda out: out.fail("TSLA", "no bars"))
    capsys.readouterr()
    found = given(stdin=data)
    end = read(written(*TWO, then=lambda out: out.follow(found))).end
    assert end.failed == [Failure(symbol="TSLA", error="no bars")]
    assert end.status == end.up["status"] == "partial"
    assert capsys.readouterr().err == "ma: ma score was done only in part\nma: not in the input: TSLA\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (resealed(record(), status="error", error="disk"), "ma score failed: disk"),
        (resealed(record(), n=2), "1 of 2 records"),
        (resealed(record()).partition(b"\n")[2], "begin of the stream is missing"),
        (resealed(record(), sha256="0" * 64), "changed on the way"),
        (resealed(record()) + resealed(record()), "after the end"),
        (resealed(record(), record(1).replace(b"}", b"", 1)), "not JSON"),
        (resealed(record(), status=["ok"]), "is no end: status"),
        (resealed(record(), failed=[1]), "is no end: failed.0"),
        (resealed(record(), n=None), "is no end: n"),
        (resealed(record()).replace(b'"n": 1, ', b""), "is no end: n"),
    ],
)
def test_input_that_is_not_whole_keeps_its_good_lines_and_its_reason(data, reason):
    found = given(stdin=data)
    assert found.symbols == ("AAPL",)
    assert reason in found.incomplete


def test_a_bad_symbol_in_a_record_fails_and_the_others_go_on():
    found = given(stdin=b'{"symbol":"../x\\u001b"}\n{"symbol":"MSFT"}\n')
    assert found.symbols == ("MSFT",)
    assert [failure.symbol for failure in found.failed] == ["../x"]


def test_the_cash_of_an_account_is_no_symbol():
    assert given(stdin=b'{"kind":"position","symbol":"$USD"}\n{"symbol":"AAPL"}\n').symbols == ("AAPL",)


def test_an_empty_pipe_is_a_stage_that_died_and_dev_null_is_no_input():
    assert given(stdin=b"").incomplete == "nothing arrived on stdin"
    with open("/dev/null") as null:  # noqa: PTH123
        assert given(stdin=null) == pipe.Input()
    assert given(stdin=None) == pipe.Input()


# --- real processes

STAGE = """
import sys, time
from datetime import datetime, UTC
from streams import decision
from marketagent import pipe, process
with process.terminable():
    with pipe.sealed("score", "ndjson", run="r", at=datetime.now(UTC)) as out:
        print("ready", file=sys.stderr, flush=True)
        for i in range(%d):
            out.write(decision(f"S{i}", reasoning="x" * 2000))
            time.sleep(%f)
"""


def stage(tmp_path, count, sleep, **pipes):
    env = environment(tmp_path)
    env["PYTHONPATH"] += ":" + str(__file__).rpartition("/")[0]
    return subprocess.Popen(
        [sys.executable, "-c", STAGE % (count, sleep)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **pipes
    )


def test_a_stage_ended_by_sigterm_seals_what_it_has_as_an_error(tmp_path):
    with stage(tmp_path, 1000, 0.05) as running:
        assert running.stderr.readline() == b"ready\n"
        time.sleep(0.2)
        running.terminate()
        sealed = read(running.stdout.read())
    assert (sealed.end.status, sealed.end.error) == ("error", "terminated")
    assert len(sealed.records) == sealed.end.n > 0


@pytest.mark.parametrize("seed", range(4))
def test_no_stage_killed_at_a_random_time_is_ever_taken_for_whole(tmp_path, seed):
    """A fork of one warm process a kill: 25 of them a seed, each shot while it computes or writes."""
    rng = random.Random(seed)
    script = (
        "import os, sys\n"
        "from datetime import datetime, UTC\n"
        "from streams import decision\n"
        "from marketagent import pipe\n"
        "for line in sys.stdin:\n"
        "    r, w = os.pipe()\n"
        "    if (child := os.fork()) == 0:\n"
        "        os.dup2(os.open(line.strip(), os.O_WRONLY), 1)\n"
        "        with pipe.sealed('score', 'ndjson', run='r', at=datetime.now(UTC)) as out:\n"
        "            for i in range(800):\n"
        "                out.write(decision(f'S{i}', reasoning='x' * 2000))\n"
        "        os._exit(0)\n"
        "    os.close(r); os.close(w)\n"
        "    print(child, flush=True)\n"
        "    os.waitpid(child, 0)\n"
    )
    env = environment(tmp_path)
    env["PYTHONPATH"] += ":" + str(__file__).rpartition("/")[0]
    import os

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    verdicts = []
    with subprocess.Popen(
        [sys.executable, "-c", script], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        for _ in range(25):
            parent.stdin.write(f"{fifo}\n")
            parent.stdin.flush()
            child = int(parent.stdout.readline())
            with fifo.open("rb") as stream:
                data = stream.read(rng.choice([0, 1, 200_000, 1_500_000]))
                time.sleep(rng.random() * 0.03)
                os.kill(child, signal.SIGKILL)
                data += stream.read()
            try:
                verdicts.append(len(read(data).records))
            except Refused:
                verdicts.append(None)
        parent.stdin.close()
    assert set(verdicts) <= {None, 800}
    assert None in verdicts


def test_a_reader_that_leaves_ends_the_stage_quietly(tmp_path):
    result = shell('"$PY" -c "$STAGE" | head -1 >/dev/null; echo ${PIPESTATUS[0]}', tmp_path, STAGE=_piped(2000))
    assert result.stdout == "141\n"
    assert result.stderr == ""


def _piped(count):
    return (
        "import sys; from marketagent import cli, pipe; from marketagent.records import Row\n"
        "from datetime import datetime, UTC\n"
        "def invoke(args):\n"
        "    with pipe.sealed('x', 'ndjson', run='r', at=datetime.now(UTC)) as out:\n"
        f"        for i in range({count}): out.write(Row(values={{'t': 'x' * 1000}}))\n"
        "    return 0\n"
        "cli._invoke = invoke\n"
        "cli.main([])\n"
    )


def test_a_full_disk_under_stdout_is_said_and_ends_with_74(tmp_path):
    result = shell('"$PY" -c "$STAGE" >/dev/full; echo $? >&2', tmp_path, STAGE=_piped(5))
    assert result.stderr == "ma: cannot write to stdout: No space left on device\n74\n"


def test_schema_through_a_real_pipe_is_a_whole_stream(tmp_path):
    run = subprocess.run([*MA, "schema"], env=environment(tmp_path), capture_output=True, timeout=60, check=True)
    assert "decision" in [r["values"]["kind"] for r in read(run.stdout, kinds={"row"}).records]


def test_a_stream_of_full_length_with_other_records_was_changed_and_not_filtered():
    whole = written(*TWO)
    changed = whole.replace(b'"weight":0.05', b'"weight":0.95', 1)
    assert changed != whole
    with pytest.raises(Refused, match="their hash differs"):
        read(changed, allow_filtered=True)
