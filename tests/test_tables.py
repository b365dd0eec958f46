"""Which files are tables: names, delimiters, line ends, packing; and what is refused, with the line at fault."""

import gzip
import os

import duckdb
import numpy as np
import pytest
from prices import HEAD, ask, contents, fetch, new_home, write

from marketagent.errors import BadData, NoData, UsageError
from marketagent.store.faults import is_disk
from marketagent.store.lines import MAX_LINE, row_lines

ROWS = "AAPL,2014-01-02,10,11,9,10,100\nAAPL,2014-01-03,10,11,9,10,100\n"
GOOD = HEAD + ROWS
THIRD = "AAPL,2014-01-06,10,11,9,10,100"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return new_home(tmp_path_factory.mktemp("shared"))


# --- read


def variant(text, symbol):
    return text.replace("AAPL", symbol)


READ = {
    "CRLF": GOOD.replace("\n", "\r\n"),
    "BOM": "\ufeff" + GOOD,
    "NONL": GOOD.rstrip("\n"),
    "BLANK": GOOD + "\n\n\n",
    "SEMI": GOOD.replace(",", ";"),
    "TAB": GOOD.replace(",", "\t"),
    "PIPE": GOOD.replace(",", "|"),
    "QUOTED": "".join('"' + line.replace(",", '","') + '"\n' for line in GOOD.splitlines()),
    "NAMES": "Ticker,TIMESTAMP,Open,HIGH,low,Close,Volume,Adj Close\n" + ROWS.replace(",100\n", ",100,10\n"),
    "DASHES": "ticker,Date,open,high,low,close,volume,Stock-Splits, Dividends\n" + ROWS.replace(",100\n", ",100,0,0\n"),
    "MORE": "note," + HEAD.strip() + ",x,x,\n" + "".join(f'"a ""b"", c",{line},1,2,3\n' for line in ROWS.splitlines()),
    "LINES": "note," + HEAD + "".join(f'"a\nb",{line}\n' for line in ROWS.splitlines()),
}


@pytest.mark.parametrize("name", READ)
def test_a_table_is_read_however_it_is_written(tmp_path, shared, name):
    taken = fetch(shared, write(tmp_path / "p.csv", variant(READ[name], name)))
    assert (taken.fetched[name].bars, taken.fetched[name].quarantined) == (2, 0)


def test_names_with_brackets_and_quotes_are_names_and_no_patterns(tmp_path, shared):
    write(tmp_path / "p1.csv", variant(GOOD, "WRONG"))
    for n, name in enumerate(["p[1].csv", "p*.csv", "o'clock.csv", "a b.csv", "-x.csv", "p.csv.gz"]):
        assert list(fetch(shared, write(tmp_path / name, variant(GOOD, f"N{n}"))).fetched) == [f"N{n}"]


def test_a_folder_is_read_file_by_file(tmp_path, shared):
    write(tmp_path / "d.csv", variant(GOOD, "F1"))
    write(tmp_path / "e.CSV.GZ", gzip.compress(variant(GOOD, "F2").encode()))
    write(tmp_path / "f.txt", "no prices")
    write(tmp_path / "g.csv", "no prices")
    taken = fetch(shared, tmp_path)
    assert (list(taken.fetched), list(taken.failed)) == (["F1", "F2"], [str(tmp_path / "g.csv")])


def test_columns_are_named_by_hand_where_they_must_be(tmp_path, shared):
    text = "k;v;a;b;c;d;e\n" + variant(ROWS, "MAP").replace(",", ";")
    names = dict(zip(["symbol", "date", "open", "high", "low", "close", "volume"], "kvabcde", strict=True))
    path = write(tmp_path / "p.csv", text)
    assert fetch(shared, path, columns=names).fetched["MAP"].bars == 2
    with pytest.raises(UsageError, match=r"p.csv has no column 'z'"):
        fetch(shared, path, columns=names | {"date": "z"})
    with pytest.raises(UsageError, match="no column is called clsoe; did you mean close"):
        fetch(shared, path, columns=names | {"clsoe": "a"})


def test_a_symbol_by_hand_is_for_the_whole_file(tmp_path, shared):
    path = write(tmp_path / "p.csv", "date,open,high,low,close,volume\n2014-01-02,10,11,9,10,100\n")
    assert list(fetch(shared, path, symbol="NULL").fetched) == ["NULL"]
    with pytest.raises(BadData, match=r"has no column for symbol; name one with --map symbol=COLUMN, or give --symbol"):
        fetch(shared, path)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("symbol,date,open,high,low,close,volume,Close", "close and Close could both be close; choose with --map"),
        ("symbol,date,open,high,low,close,volume,close", "close and close could both be close; choose with --map"),
        ("symbol,date,session,high,low,close,volume,open", "date and session could both be date"),
        ("symbol,date,open,high,low,close,vol,x", "has no column for volume; it has symbol, date, open"),
    ],
)
def test_names_that_do_not_tell_are_refused(tmp_path, shared, head, message):
    with pytest.raises(BadData, match=message):
        fetch(shared, write(tmp_path / "p.csv", head + "\n" + THIRD + ",5\n"))


def test_two_spellings_of_a_name_are_told_apart_by_hand(tmp_path, shared):
    text = "symbol,date,open,high,low,close,volume,Close\nCASE,2014-01-02,10,11,9,10,100,10.5\n"
    fetch(shared, write(tmp_path / "p.csv", text), columns={"close": "Close"})
    assert ask(shared, "SELECT close FROM bars WHERE symbol = 'CASE'") == [(10.5,)]


def test_a_parquet_file_may_have_columns_called_like_ours(tmp_path, shared):
    path = tmp_path / "p.parquet"
    with duckdb.connect() as con:
        con.execute(
            f"COPY (SELECT 'OURS' AS symbol, DATE '2014-01-02' AS date, 10 AS open, 11 AS high, 9 AS low, 10 AS close, 1 AS volume,"
            f" 'x' AS line, 'y' AS c0) TO '{path}'"
        )
    assert list(fetch(shared, path).fetched) == ["OURS"]


# --- refused


def _parquet(tmp_path):
    path = tmp_path / "whole.parquet"
    with duckdb.connect() as con:
        con.execute(f"COPY (SELECT range AS a, 'x' AS b FROM range(1000)) TO '{path}'")
    return path.read_bytes()


PACKED = gzip.compress(GOOD.encode() * 50)
REFUSED = {
    "missing column": (GOOD.replace(",volume", ""), r"has no column for volume"),
    "not UTF-8 in a row": (GOOD.encode() + b"A\xff,2014-01-06,10,11,9,10,100\n", r"line 4: is not UTF-8"),
    "not UTF-8 in the header": (b"symb\xff,date\n", r"line 1 is not UTF-8 \(byte 5\)"),
    "UTF-16": (GOOD.encode("utf-16"), r"line 1 "),
    "a long line": (GOOD + "A" * (100 << 20) + "\n" + THIRD, r"line 4 is longer than 1,048,576 bytes"),
    "a long last line": (GOOD + "A" * (3 << 20), r"line 4 is longer than 1,048,576 bytes"),
    "a long header": ("A" * (3 << 20), r"line 1 is longer than 1,048,576 bytes"),
    "mixed delimiters": (GOOD + THIRD.replace(",", ";") + "\n", r"line 4: 1 fields, the header has 7"),
    "too few fields": (GOOD + THIRD.rpartition(",")[0] + "\n", r"line 4: 6 fields, the header has 7"),
    "too many fields": (GOOD + THIRD + ",5\n", r"line 4: 8 fields, the header has 7"),
    "a NUL byte": (GOOD + THIRD.replace("AAPL", "AA\0PL"), r"line 4 holds a NUL byte"),
    "a NUL byte in the header": ("sym\0bol,date\n", r"line 1 holds a NUL byte"),
    "an open quote": (GOOD + '"' + THIRD + "\n", r"line 4: Value with unterminated quote"),
    "both line ends": (GOOD + THIRD + "\r\n", r"line 4 ends with CRLF, those before it with LF"),
    "a cut gzip": (PACKED[:-12], r"is a damaged or cut gzip file"),
    "a gzip of nothing": (gzip.compress(b""), r"is empty"),
    "a gzip of garbage": (gzip.compress(bytes(range(255, 0, -1)) * 9), r"line 1 is not UTF-8"),
    "a broken gzip": (b"\x1f\x8b" + b"x" * 99, r"is a damaged or cut gzip file"),
    "a cut parquet": (lambda path: _parquet(path)[:-9], r"No magic bytes found"),
    "a tiny parquet": (b"PAR1", r"too small to be a Parquet file"),
    "another parquet": (_parquet, r"has no column for date, open, high, low, close, volume; it has a, b"),
    "an empty file": ("", r"is empty"),
    "only a header": (HEAD, r"has no row below its header"),
    "only bad rows": (HEAD + "A,x,1,1,1,1,1\n", r"no row has a date"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_file_that_is_no_table_is_refused_and_leaves_no_trace(tmp_path, shared, what):
    data, message = REFUSED[what]
    path = write(tmp_path / "p.csv", data(tmp_path) if callable(data) else data)
    before = contents(shared)
    with pytest.raises(BadData, match=message) as error:
        fetch(shared, path)
    assert str(error.value).startswith("p.csv")
    assert "\n" not in str(error.value)
    assert contents(shared) == before
    assert list((shared / "tmp").iterdir()) == []


def test_what_is_no_file_is_said(tmp_path, shared):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    cases = {"fifo": BadData, "folder": NoData, "missing.csv": NoData, "x" * 300: BadData, "p.csv/x": NoData}
    write(tmp_path / "p.csv", GOOD)
    for name, kind in cases.items():
        with pytest.raises(kind, match=name[:40]):
            fetch(shared, tmp_path / name)
    with pytest.raises(BadData, match="/dev/null is not a file"):
        fetch(shared, "/dev/null")


def test_a_full_disk_while_reading_is_a_full_disk():
    error = duckdb.IOException("IO Error: Could not write file: No space left on device")
    assert is_disk(error)
    assert not is_disk(duckdb.IOException("IO Error: no such file"))


# --- lines


def reference(data):
    """Each row's first line, byte by byte."""
    found, line, quoted, begun = [], 1, False, False
    for byte in data:
        if not begun and byte not in b"\r\n":
            found.append(line)
            begun = True
        quoted ^= byte == 34
        if byte == 10:
            line += 1
            begun = begun and quoted
    return found


def test_rows_begin_where_a_slow_reading_says(tmp_path, monkeypatch):
    monkeypatch.setattr("marketagent.store.lines._CHUNK", 7)
    rng = np.random.default_rng(5)
    for case in range(300):
        end = b"\r\n" if case % 2 else b"\n"
        parts = [b"", b"a", b"bc,d", b'"x' + end + b'y",z', b'""', b'"' + end + end + b'"']
        lines = [parts[k] for k in rng.integers(0, len(parts), rng.integers(1, 9))]
        data = end.join(lines) + end * int(rng.integers(0, 3))
        if not data:
            continue
        path = write(tmp_path / "p.csv", data)
        assert row_lines(path, "p.csv").tolist() == reference(data), data


@pytest.mark.parametrize("chunk", [1 << 16, 1 << 24])
def test_a_line_may_be_as_long_as_the_limit_and_no_longer(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr("marketagent.store.lines._CHUNK", chunk)
    path = write(tmp_path / "p.csv", b"a\n" + b"x" * MAX_LINE + b"\nb\n")
    assert row_lines(path, "p.csv").tolist() == [1, 2, 3]
    for end in (b"\nb\n", b""):
        write(path, b"a\nb\n" + b"x" * (MAX_LINE + 1) + end)
        with pytest.raises(BadData, match="line 3 is longer"):
            row_lines(path, "p.csv")
