"""Bars stored as they close: the rules of a file, for a few rows in one short transaction."""

import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from prices import HEAD, ask, fetch, new_home, write
from vendors import OPEN

from marketagent.store.live import Row, read_calendar, read_last_minutes, read_longest_silence, write_bars

NOW = OPEN + timedelta(minutes=30)
ROW = Row(
    symbol="AAPL", start=OPEN, session=date(2026, 11, 20), open=10, high=11, low=9, close=10.5, volume=100, text="{raw}"
)


@pytest.fixture
def home(tmp_path):
    return new_home(tmp_path)


def store(home, *rows, now=NOW, source="polygon"):
    return write_bars(home, rows, source=source, feed="sip", now=now, timeout_s=10)


def test_a_bar_is_stored_with_its_source_its_feed_and_when_it_was_known(home):
    assert store(home, ROW) == ["added"]
    assert ask(home, "SELECT symbol, timeframe, session, ts::VARCHAR, close, adj_close, source, feed, known_at::VARCHAR FROM bars") == [
        ("AAPL", "1m", date(2026, 11, 20), "2026-11-20 14:30:00", 10.5, None, "polygon", "sip", "2026-11-20 15:00:00")
    ]  # fmt: skip


def test_the_same_bar_again_changes_nothing_and_another_value_supersedes(home):
    store(home, ROW)
    later = NOW + timedelta(minutes=1)
    assert store(home, ROW, replace(ROW, symbol="MSFT"), now=later) == ["same", "added"]
    assert store(home, replace(ROW, close=10.6), now=later) == ["corrected"]
    assert ask(home, "SELECT symbol, close FROM bars ORDER BY 1") == [("AAPL", 10.6), ("MSFT", 10.5)]
    assert ask(home, "SELECT close, known_at::VARCHAR, superseded_at::VARCHAR FROM superseded_bars") == [
        (10.5, "2026-11-20 15:00:00", "2026-11-20 15:01:00")
    ]


def test_two_vendors_do_not_touch_each_other(home):
    assert store(home, ROW) == store(home, replace(ROW, close=10.6), source="alpaca") == ["added"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"close": math.nan}, "close missing is not a number"),
        ({"volume": math.inf}, "volume missing is not a number"),
        ({"open": 0.0, "low": 0.0}, "open 0 is not above 0"),
        ({"volume": -1.0}, "volume -1 is negative"),
        ({"high": 8.0}, "high 8 is below low 9"),
        ({"close": 12.0}, "close 12 is outside 9 .. 11"),
        ({"start": NOW + timedelta(minutes=1)}, "2026-11-20 has not begun yet"),
        ({"start": OPEN + timedelta(days=1), "session": date(2026, 11, 21)}, "2026-11-21 has not begun yet"),
        ({"start": OPEN - timedelta(days=5), "session": date(2026, 11, 15)}, "2026-11-15 is not a trading session"),
        ({"symbol": "../../x"}, "symbol ../../x is not a ticker"),
    ],
)
def test_what_cannot_be_a_bar_is_set_aside_by_the_rules_of_a_file_and_the_others_go_on(home, changes, reason):
    bad = replace(ROW, **changes)
    for _ in range(2):  # said twice, kept once
        assert store(home, bad, replace(ROW, symbol="MSFT"))[0] == reason
    assert ask(home, "SELECT symbol FROM bars") == [("MSFT",)]
    ((source, text, row),) = ask(home, "SELECT source, reason, row_text FROM quarantine")
    assert (source, text, row) == ("polygon", reason, "{raw}")


def test_a_stream_covers_no_session_so_that_a_fetch_still_asks(home):
    store(home, ROW)
    assert ask(home, "SELECT * FROM coverage") == []


def test_the_rules_are_those_of_a_file(home, tmp_path):
    """The same rows as a file and as a stream: the same bars, the same reasons."""
    rows = [
        ROW,
        replace(ROW, start=OPEN + timedelta(minutes=1), close=12.0),
        replace(ROW, start=OPEN + timedelta(minutes=2), volume=-3.0),
        replace(ROW, start=OPEN + timedelta(minutes=3), low=-1.0),
    ]
    verdicts = store(home, *rows)
    lines = [
        f"AAPL,{row.start:%Y-%m-%d %H:%M:%S}+00:00,{row.open:g},{row.high:g},{row.low:g},{row.close:g},{row.volume:g}"
        for row in rows
    ]
    fetch(home, write(tmp_path / "p.csv", HEAD + "\n".join(lines) + "\n"), timeframe="1m", stamp="start", now=NOW)
    for table, columns in (("bars", "ts, session, open, high, low, close, volume"), ("quarantine", "session, reason")):
        per_source = [
            ask(home, f"SELECT {columns} FROM {table} WHERE source = '{each}' ORDER BY ALL")
            for each in ("polygon", "csv")
        ]
        assert per_source[0] == per_source[1]
    assert verdicts[0] == "added"


def test_what_is_stored_of_today_is_found_again(home):
    store(home, ROW, replace(ROW, start=OPEN + timedelta(minutes=7)), replace(ROW, symbol="MSFT"))
    found = read_last_minutes(home, ["AAPL", "IBM"], source="polygon", since=OPEN, timeout_s=10)
    assert found == {"AAPL": OPEN + timedelta(minutes=7)}
    assert read_last_minutes(home, ["AAPL"], source="polygon", since=OPEN + timedelta(hours=1), timeout_s=10) == {}


def test_the_longest_silence_is_that_of_all_symbols_together(home):
    minutes = {"AAPL": (0, 1, 9), "MSFT": (0, 5)}
    rows = [
        replace(ROW, symbol=symbol, start=OPEN + timedelta(minutes=k)) for symbol, ks in minutes.items() for k in ks
    ]
    store(home, *rows)
    assert read_longest_silence(home, ["AAPL", "MSFT"], source="polygon", timeout_s=10) == timedelta(minutes=4)
    assert read_longest_silence(home, ["AAPL"], source="polygon", timeout_s=10) == timedelta(minutes=8)
    assert read_longest_silence(home, ["IBM"], source="polygon", timeout_s=10) == timedelta(0)


def test_the_calendar_has_half_days(home):
    days = read_calendar(home, date(2026, 11, 25), date(2026, 11, 29), timeout_s=10)
    assert [closed - opened for opened, closed in days] == [timedelta(hours=6.5), timedelta(hours=3.5)]
    assert days[0][0] == datetime(2026, 11, 25, 14, 30, tzinfo=UTC)
