"""What becomes of the rows of a file: symbols stay text, bad rows are refused one by one, with reason and line."""

from datetime import date, datetime

import duckdb
import pytest
from prices import HEAD, NOW, ask, contents, fetch, new_home, sessions, write

from marketagent.errors import BadData, NoData, UsageError
from marketagent.sources import csv
from marketagent.store import staged, staging

TICKERS = (  # noqa: SIM905  (a list of them reads worse)
    "NA NULL NONE TRUE FALSE NAN INF ON 00700 1E5 2024-01-02 BRK.B BF/B BTC-USD ^GSPC BRK_A 0 1_000 12345678.5"
).split()
NOT_TICKERS = {
    "../../x": "../../X", "/etc/passwd": "/ETC/PASSWD", ";drop table bars": ";DROP TABLE BARS", "A" * 300: "A" * 40,
    "\uff21\uff21\uff30\uff2c": "\uff21\uff21\uff30\uff2c", "=1+1": "=1+1", "-rf": "-RF", "A B": "A B", "A'B": "A'B",
    "\u0131bm": "\u0131bm", "stra\u00dfe": "stra\u00dfe",
}  # fmt: skip
BAR = "2014-01-02,10,11,9,10,100"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One home for the tests that look at their own symbols only."""
    return new_home(tmp_path_factory.mktemp("shared"))


@pytest.fixture
def home(tmp_path):
    return new_home(tmp_path)


# --- symbols


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_a_symbol_is_text_whatever_it_looks_like(tmp_path, home, kind):
    path = tmp_path / f"prices.{kind}"
    rows = ", ".join(f"('{symbol}')" for symbol in TICKERS)
    with duckdb.connect() as con:
        con.execute(
            f"COPY (SELECT symbol, '2014-01-02' AS date, 10 AS open, 11 AS high, 9 AS low, 10 AS close, 5 AS volume"
            f" FROM (VALUES {rows}) t(symbol)) TO '{path}'"
        )
    taken = fetch(home, path)
    assert sorted(taken.fetched) == sorted(TICKERS)
    assert [row[0] for row in ask(home, "SELECT symbol FROM bars ORDER BY 1")] == sorted(TICKERS)


def test_a_number_for_a_symbol_keeps_its_digits(tmp_path, shared):
    path = tmp_path / "prices.parquet"
    with duckdb.connect() as con:
        con.execute(
            f"COPY (SELECT 700 AS ticker, DATE '2014-01-02' AS d, 1.5::FLOAT AS open, 1.5::DECIMAL(9, 2) AS high, 1.5 AS low,"
            f" 1.5 AS close, 5::HUGEINT AS volume) TO '{path}'"
        )
    assert set(fetch(shared, path, columns={"date": "d"}).fetched) == {"700"}
    assert ask(shared, "SELECT open, high FROM bars WHERE symbol = '700'") == [(1.5, 1.5)]


def test_what_is_no_ticker_is_refused_and_touches_nothing(tmp_path, home):
    text = HEAD + f"GOOD,{BAR}\n" + "".join(f'"{symbol}",{BAR}\n' for symbol in NOT_TICKERS) + f",{BAR}\n"
    taken = fetch(home, write(tmp_path / "prices.csv", text))
    assert set(taken.fetched) == {"GOOD"}
    assert ask(home, "SELECT DISTINCT symbol FROM bars") == [("GOOD",)]
    found = ask(home, "SELECT line, symbol, reason FROM quarantine ORDER BY line")
    expected = [(n, shown, f"symbol {shown} is not a ticker") for n, shown in enumerate(NOT_TICKERS.values(), 3)]
    assert found[:-1] == expected
    assert (found[-1][0], found[-1][2]) == (len(NOT_TICKERS) + 3, "no symbol")
    assert ask(home, "SELECT count(*) FROM sessions")[0][0] > 9000
    assert {path.name for path in tmp_path.iterdir()} == {"home", "prices.csv"}


def test_a_bad_symbol_brings_no_split_or_dividend_either(tmp_path, home):
    text = HEAD.strip() + f",split,dividend\nGOOD,{BAR},1,0\n../x,{BAR},2,0.5\n"
    fetch(home, write(tmp_path / "prices.csv", text))
    assert ask(home, "FROM actions") == []


def test_an_action_on_a_day_without_a_session_is_none(tmp_path, home):
    text = HEAD.strip() + f",split\nA,{BAR},1\nA,2014-01-04,10,11,9,10,100,2\nA,2014-01-06,10,11,9,10,100,1\n"
    fetch(home, write(tmp_path / "prices.csv", text))
    assert ask(home, "FROM actions") == []


# --- rows


BAD = {
    "NaN,11,9,10,100": "open is NaN",
    "10,nan,9,10,100": "high is nan",
    "10,11,Infinity,10,100": "low is Infinity",
    "10,11,9,-inf,100": "close is -inf",
    "10,1e400,9,10,100": "high is 1e400",
    "10,11,9,N/A,100": "close N/A is not a number",
    "10,11,9,10,": "volume missing is not a number",
    ",11,9,10,100": "open missing is not a number",
    "0,11,0,10,100": "open 0 is not above 0",
    "10,11,9,-10,100": "close -10 is not above 0",
    "10,9,11,10,100": "high 9 is below low 11",
    "12,11,9,10,100": "open 12 is outside 9 .. 11",
    "10,11,9,8,100": "close 8 is outside 9 .. 11",
    "10,11,9,10,-1": "volume -1 is negative",
    '"1,000",11,9,10,100': "open 1,000 is not a number",
    "true,11,9,10,100": "open true is not a number",
}


def test_each_bad_row_is_refused_with_its_reason_its_line_and_its_file(tmp_path, home):
    days = sessions("2014-01-02", "2014-12-31")
    rows = [f"A,{day},{row}" for day, row in zip(days[1:], BAD, strict=False)]
    path = write(tmp_path / "prices.csv", HEAD + "\n".join([f"A,{BAR}", *rows]) + "\n")
    taken = fetch(home, path)
    assert (taken.fetched["A"].bars, taken.fetched["A"].quarantined) == (1, len(BAD))
    found = ask(home, "SELECT line, session, reason, file, source, known_at FROM quarantine ORDER BY line")
    told = (str(path), "csv", NOW.replace(tzinfo=None))
    assert found == [
        (n, day, reason, *told) for n, (day, reason) in enumerate(zip(days[1:], BAD.values(), strict=False), 3)
    ]


DAYS = [
    ("2014-01-04", date(2014, 1, 4), "2014-01-04 is not a trading session"),
    ("2014-01-01", date(2014, 1, 1), "2014-01-01 is not a trading session"),
    ("2001-09-12", date(2001, 9, 12), "2001-09-12 is not a trading session"),
    ("1985-01-02", date(1985, 1, 2), "1985-01-02 is before the calendar, which begins 1990-01-02"),
    ("2026-11-23", date(2026, 11, 23), "2026-11-23 has not begun yet"),
    ("2199-01-02", date(2199, 1, 2), "2199-01-02 has not begun yet"),
    ("01/02/2014", None, "date 01/02/2014 is not a date"),
    ("2014-13-01", None, "date 2014-13-01 is not a date"),
    ("infinity", None, "date infinity is not a date"),
    ("290000-01-01", None, "date 290000-01-01 is not a date"),
    ("", None, "no date"),
    ("1388620800", None, "date 1388620800 is not a date"),
]


def test_a_day_that_can_have_no_bar_is_refused(tmp_path, home):
    rows = "".join(f"B,{when},10,11,9,10,100\n" for when, _, _ in DAYS)
    fetch(home, write(tmp_path / "prices.csv", HEAD + f"B,{BAR}\n" + rows))
    found = ask(home, "SELECT line, session_text, session, reason FROM quarantine ORDER BY line")
    assert found == [(line, when or None, session, reason) for line, (when, session, reason) in enumerate(DAYS, 3)]


def test_the_session_under_way_is_stored(tmp_path, home):
    taken = fetch(home, write(tmp_path / "prices.csv", HEAD + "A,2026-11-20,10,11,9,10,100\n"))
    assert taken.fetched["A"].last == "2026-11-20"


def test_equal_rows_count_once_and_rows_that_disagree_not_at_all(tmp_path, home):
    text = (
        HEAD
        + f"A,{BAR}\nA,{BAR}\nA,2014-01-02,10.0,11.0,9.0,10.0,100\nB,{BAR}\nB,2014-01-02,10,11,9,10.5,100\nB,{BAR}\n"
    )
    taken = fetch(home, write(tmp_path / "prices.csv", text))
    assert (taken.fetched["A"].bars, taken.fetched["A"].quarantined) == (1, 0)
    assert (taken.fetched["B"].bars, taken.fetched["B"].quarantined) == (0, 3)
    assert ask(home, "SELECT line, reason FROM quarantine ORDER BY 1") == [
        (line, "3 rows for this bar disagree") for line in (5, 6, 7)
    ]


def test_rows_that_disagree_on_the_dividend_disagree(tmp_path, home):
    text = HEAD.strip() + f",dividend\nA,{BAR},0.5\nA,{BAR},0\nB,{BAR},\nB,{BAR},0\n"
    taken = fetch(home, write(tmp_path / "prices.csv", text))
    assert (taken.fetched["A"].bars, taken.fetched["B"].bars) == (0, 1)
    assert ask(home, "FROM actions") == []


def test_a_price_a_thousand_times_off_is_refused_wherever_it_stands(tmp_path, home):
    days = sessions("2014-01-02", "2014-01-08")
    prices = [[15000 if row == slip else 10 for row in range(5)] for slip in range(5)]
    text = HEAD + "".join(
        f"S{slip},{day},{p},{p},{p},{p},100\n" for slip in range(5) for day, p in zip(days, prices[slip], strict=True)
    )
    taken = fetch(home, write(tmp_path / "prices.csv", text))
    assert [(one.bars, one.quarantined) for one in taken.fetched.values()] == [(4, 1)] * 5
    assert ask(home, "SELECT symbol, line FROM quarantine ORDER BY 1") == [(f"S{n}", 2 + 6 * n) for n in range(5)]


def test_a_slipped_last_price_leaves_no_split_behind(tmp_path, home):
    text = HEAD.strip() + ",adj_close\n"
    text += "".join(f"A,{day},10,11,9,10,100,5\n" for day in sessions("2014-01-02", "2014-01-08"))
    text += "A,2014-01-09,15000,15000,15000,15000,100,5\n"
    assert fetch(home, write(tmp_path / "prices.csv", text)).fetched["A"].bars == 5
    assert ask(home, "FROM actions") == []


def test_a_file_of_bad_rows_only_is_refused_as_a_whole(tmp_path, home):
    before = contents(home)
    with pytest.raises(BadData, match=r"none of its 2 rows is a bar; line 2: 2014-01-04 is not a trading session"):
        fetch(home, write(tmp_path / "p.csv", HEAD + "A,2014-01-04,1,1,1,1,1\nA,2014-01-02,x,1,1,1,1\n"))
    assert contents(home) == before


# --- options


def test_from_and_to_cut_the_file_and_keep_the_splits_within(tmp_path, home):
    text = (
        HEAD.strip()
        + ",split\n"
        + "".join(f"A,{day},10,11,9,10,100,2\n" for day in sessions("2014-01-02", "2014-01-08"))
    )
    fetch(home, write(tmp_path / "p.csv", text), first="2014-01-03", last="2014-01-07")
    assert ask(home, "SELECT min(session), max(session), count(*) FROM bars") == [
        (date(2014, 1, 3), date(2014, 1, 7), 3)
    ]
    assert ask(home, "SELECT count(*) FROM actions") == [(3,)]


def test_a_range_without_a_row_is_no_data(tmp_path, home):
    path = write(tmp_path / "p.csv", HEAD + f"A,{BAR}\n")
    before = contents(home)
    with pytest.raises(NoData, match=r"p.csv has no row from 2015-01-01 up to 2015-02-01"):
        fetch(home, path, first="2015-01-01", last="2015-02-01")
    assert contents(home) == before


@pytest.mark.parametrize(("how", "text"), [({"timeframe": "2d"}, "2d"), ({"stamp": "middle"}, "middle")])
def test_an_option_that_does_not_exist_is_named(how, text):
    with pytest.raises(UsageError, match=text):
        staging.check_options(staged.Options(**how))


# --- times


def _starts(home, symbol):
    return ask(home, f"SELECT session, ts FROM bars WHERE symbol = '{symbol}' ORDER BY ts")


def _minutes(symbol, *times):
    return HEAD + "".join(f"{symbol},{time},10,11,9,10,100\n" for time in times)


SUMMER, WINTER = date(2014, 7, 1), date(2014, 1, 2)


@pytest.mark.parametrize(
    ("name", "times", "how", "timeframe", "starts"),
    [
        ("M1", ["2014-01-02 09:31", "2014-01-02 09:32", "2014-01-02 16:00"], {}, "1m",
          [(WINTER, "14:30"), (WINTER, "14:31"), (WINTER, "20:59")]),
        ("M2", ["2014-07-01 09:30", "2014-07-01 09:31", "2014-07-01 15:59"], {}, "1m",
          [(SUMMER, "13:30"), (SUMMER, "13:31"), (SUMMER, "19:59")]),
        ("H1", ["2014-07-01 09:00", "2014-07-01 10:00", "2014-07-01 15:00"], {}, "1h",
          [(SUMMER, "13:00"), (SUMMER, "14:00"), (SUMMER, "19:00")]),
        ("H2", ["2014-07-01 10:30", "2014-07-01 11:30"], {"stamp": "end"}, "1h", [(SUMMER, "13:30"), (SUMMER, "14:30")]),
        ("Z1", ["2014-01-02T14:30:00Z", "2014-01-02T14:35:00Z"], {}, "5m", [(WINTER, "14:30"), (WINTER, "14:35")]),
        ("Z2", ["2014-07-01T13:30:00+00:00", "2014-07-01T13:45:00+00:00"], {}, "15m", [(SUMMER, "13:30"), (SUMMER, "13:45")]),
        ("Z3", ["2014-07-01 09:30:00-04:00", "2014-07-01 10:00:00-04:00"], {}, "30m", [(SUMMER, "13:30"), (SUMMER, "14:00")]),
        ("Z4", ["2014-01-02 14:30:00 UTC"], {"timeframe": "1m"}, "1m", [(WINTER, "14:30")]),
        ("D1", ["2014-01-02T00:00:00Z", "2014-07-01T00:00:00+00:00"], {}, "1d", [(WINTER, "14:30"), (SUMMER, "13:30")]),
        ("D2", ["2014-01-02T05:00:00Z", "2014-07-01T04:00:00Z"], {}, "1d", [(WINTER, "14:30"), (SUMMER, "13:30")]),
        ("D3", ["2014-01-02 16:00", "2014-07-01 16:00"], {}, "1d", [(WINTER, "14:30"), (SUMMER, "13:30")]),
        ("D4", ["20140102", "20140701"], {}, "1d", [(WINTER, "14:30"), (SUMMER, "13:30")]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_bar_starts_when_its_stamp_says(tmp_path, shared, name, times, how, timeframe, starts):
    taken = fetch(shared, write(tmp_path / "p.csv", _minutes(name, *times)), **how)
    assert taken.fetched[name].timeframe == timeframe
    assert taken.fetched[name].quarantined == 0
    assert _starts(shared, name) == [(day, datetime.fromisoformat(f"{day} {clock}")) for day, clock in starts]


def test_a_spacing_that_is_no_timeframe_is_asked_for(tmp_path, home):
    path = write(tmp_path / "p.csv", _minutes("A", "2014-01-02 09:30", "2014-01-02 09:37"))
    with pytest.raises(BadData, match="420 s apart; give --timeframe"):
        fetch(home, path)
    assert fetch(home, path, timeframe="5m").fetched["A"].timeframe == "5m"


def test_a_file_without_a_date_says_so(tmp_path, home):
    with pytest.raises(BadData, match="no row has a date; the first is 'yesterday'"):
        fetch(home, write(tmp_path / "p.csv", _minutes("A", "yesterday")))


def test_sources_csv_needs_a_name():
    from marketagent.sources import Request

    with pytest.raises(UsageError, match="needs a file"):
        list(csv.batches(Request(names=(), options=staged.Options(), folder=None)))


def test_a_symbol_by_hand_does_not_rename_a_file_that_has_its_own(tmp_path, home):
    two = write(tmp_path / "two.csv", HEAD + "P1,2013-02-27,10,11,9.5,10.5,1\nP2,2013-02-28,50,51,49,50,1\n")
    with pytest.raises(UsageError, match=r"two\.csv has a column for symbol; --symbol MIX is for a file without one"):
        fetch(home, two, symbol="MIX")
    assert ask(home, "SELECT count(*) FROM bars WHERE symbol = 'MIX'") == [(0,)]


def test_days_and_minutes_of_a_symbol_are_two_records(tmp_path, home):
    days = write(tmp_path / "d.csv", HEAD + "TWO,2013-02-27,10,11,9.5,10.5,1\n")
    rows = [f"TWO,2013-02-28 09:3{n}:00,10,11,9.5,10.5,1" for n in range(3)]
    minutes = write(tmp_path / "m.csv", HEAD + "\n".join(rows) + "\n")
    found = fetch(home, days, minutes).fetched
    assert {name: (one.timeframe, one.added) for name, one in found.items()} == {"TWO": ("1d", 1), "TWO 1m": ("1m", 3)}
