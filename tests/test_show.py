import io
import re
import sys
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streams import decision

from marketagent import show
from marketagent.records import Backtest, Fetched, Order, Position, Row
from marketagent.show import Screen

HOSTILE = "\x1b[31mred\x9b2J\x1b]52;c;aGk=\x07 \u202eevil\u2066 \x00\r[/red]\x7f\ue000\U000e0041"
WIDE = Screen(100, colour=False)

FETCHED = Fetched(
    symbol="AAPL",
    source="sample",
    timeframe="1d",
    first="2000-01-03",
    last="2026-11-20",
    bars=6712,
    added=12,
    corrected=0,
    quarantined=1,
    actions=14,
)
ORDER = Order(
    cid="ma-1",
    account="paper",
    strategy="ensemble",
    session="2026-11-20",
    symbol="AAPL",
    side="buy",
    quantity=12.0,
    state="filled",
    filled_quantity=12.0,
    fill_price=150.1,
    commission=1.0,
    reason="rebalance",
)
BACKTEST = Backtest(
    run="r",
    strategy="ensemble",
    strategy_hash="h",
    params={},
    symbols=5,
    first="2023-01-03",
    last="2026-11-20",
    sessions=900,
    cash=1e5,
    equity=131002.5,
    costs="ibkr-fixed",
    slippage_bps=1.0,
    fill="open",
    fractional=False,
    data_hash="d",
    benchmark=None,
    metrics={"total_return": 0.31, "sharpe": 1.12, "max_drawdown": -0.18},
)


def drawn(*records, screen=WIDE):
    return show.table([asdict(record) for record in records], screen)


@given(st.text())
def test_nothing_that_drives_a_terminal_is_left_in_a_clean_text(text):
    import unicodedata

    assert not any(
        unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for char in show.clean(text)
    )


def test_a_clean_text_keeps_letters_of_every_language():
    assert show.clean("Zürich 東京 +3%\tup\n") == "Zürich 東京 +3% up "


def test_a_hostile_headline_reaches_the_table_as_text():
    page = drawn(decision(reasoning=HOSTILE))
    assert "[31mred2J]52;c;aGk= evil [/red]" in " ".join(page.split())
    assert all(char == "\n" or char.isprintable() for char in page)


def test_a_decision_is_shown_with_units_and_what_all_rows_share_above():
    page = drawn(decision(weight=None), decision("TSLA", action="sell", score=-0.7, weight=0.125, close=1234.5))
    assert page.splitlines() == [
        "session 2026-11-20",
        "symbol  action   score   conf  weight     close  reasoning",
        "AAPL    buy      0.410  62.0%       –    150.25  momentum 0.5",
        "TSLA    sell    -0.700  62.0%   12.5%  1,234.50  momentum 0.5",
    ]


@pytest.mark.parametrize("width", [60, 80, 100, 120])
@pytest.mark.parametrize("count", [1, 3, 4, 30])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(width, count):
    pages = [
        drawn(*[record] * count, screen=Screen(width, colour=False))
        for record in (decision(reasoning="momentum 0.52, " * 20), FETCHED, ORDER, BACKTEST)
    ]
    assert max(len(line) for page in pages for line in page.splitlines()) <= width
    assert "62.0%" in pages[0]
    assert "6,712" in pages[1]
    assert "150.10" in pages[2]
    assert "131,002.50" in pages[3]


def test_more_than_a_dozen_rows_take_one_line_each_and_fewer_show_the_whole_text():
    long = decision(reasoning="momentum 0.52, " * 10 + "END")
    assert len(drawn(*[long] * 13).splitlines()) == 2 + 13
    assert "END" in drawn(long)
    assert "END" not in drawn(*[long] * 13)


def test_a_query_shows_its_own_columns_with_plain_numbers():
    page = drawn(Row(values={"year": 2024, "close": 1234.5, "name": None, "flag": True}))
    assert page.splitlines() == ["year   close  name  flag", "2024  1234.5  –     yes"]


def test_a_query_wider_than_the_terminal_is_not_cut():
    row = Row(values={f"column_{i}": 1234567.125 + i for i in range(12)})
    page = drawn(row, screen=Screen(40, colour=False))
    assert page.splitlines()[1].split() == [str(1234567.125 + i) for i in range(12)]


def test_the_cash_of_an_account_is_a_row_like_the_others():
    cash = Position(
        account="paper", symbol="$USD", quantity=98125.0, price=1.0, value=98125.0, weight=0.98125, session=None
    )
    assert drawn(cash).splitlines()[-1].split() == ["$USD", "98,125", "1.00", "98,125.00", "98.1%", "–"]


def test_one_backtest_is_a_sheet_of_what_was_run_and_how_it_did():
    page = drawn(BACKTEST)
    assert "131,002.50 from 100,000.00" in page
    assert re.search(r"return +31\.0%", page)
    assert re.search(r"drawdown +-18\.0%", page)
    assert "benchmark" not in page


def test_what_a_narrow_terminal_has_no_room_for_is_named():
    made = decision()
    wide, narrow = drawn(made), drawn(made, screen=Screen(50, colour=False))
    assert "close" in wide.splitlines()[1].split()
    assert "no room for" not in wide
    assert "close" not in narrow.splitlines()[1].split()
    assert " ".join(narrow.splitlines()[-2:]) == "no room for close: a wider terminal or --format ndjson shows them"
    assert "no room for" not in drawn(replace(made, close=None), screen=Screen(50, colour=False))  # nothing is lost


def test_what_is_shared_by_all_rows_is_wrapped_and_not_cut():
    page = drawn(*[replace(BACKTEST, symbol=symbol) for symbol in ("AAPL", "IBM")], screen=Screen(40, colour=False))
    title = " ".join(page.partition("symbol")[0].split())
    assert title == f"strategy {BACKTEST.strategy} · judged in sample · first {BACKTEST.first} · last {BACKTEST.last}"


def test_on_a_narrow_terminal_the_figures_of_a_sheet_stand_below_each_other():
    narrow = drawn(BACKTEST, screen=Screen(36, colour=False)).splitlines()
    assert "…" not in "".join(narrow)
    assert re.match(r"sharpe +[-.0-9]+$", next(line for line in narrow if line.startswith("sharpe")))


def test_the_columns_of_a_query_keep_their_names_and_their_place():
    page = drawn(Row(values={"strategy": "momentum", "sum_of_x": 2}))
    assert page.splitlines()[0].split() == ["strategy", "sum_of_x"]


def test_an_equity_line_stands_below_a_table_and_fits_the_screen():
    line = show.curve([100.0, 101.0, 99.0], Screen(60, colour=False)).splitlines()
    assert line[0] == ""
    assert line[1].startswith("▅█▁")
    assert len(show.curve(list(range(1, 500)), Screen(60, colour=False)).splitlines()[1]) <= 60
    assert show.curve([], Screen(60, colour=False)) == ""


def test_no_records_are_shown_as_none():
    assert show.table([], WIDE) == "(none)\n"


def test_colour_is_for_terminals_and_never_against_no_color(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[32mbuy" in drawn(decision(), screen=Screen(80, colour=True))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in drawn(decision(), screen=Screen(80, colour=True))
    assert "\x1b" not in drawn(decision())


def test_an_equity_line_has_gaps_for_what_is_missing_and_names_its_ends():
    assert show.sparkline([1.0, 2.0, None, float("nan"), 8.0]) == "▁▂  █  low 1.00  high 8.00"
    assert show.sparkline([5.0, 5.0]) == "▄▄  low 5.00  high 5.00"
    assert show.sparkline([]) == ""
    assert show.sparkline([None]) == ""


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True) | st.none()), st.integers(1, 120))
def test_an_equity_line_is_never_wider_than_asked(values, width):
    assert len(show.sparkline(values, width).partition("  low")[0]) <= min(width, max(len(values), 1))


def test_a_long_equity_line_keeps_its_last_value():
    assert show.sparkline([0.0] * 999 + [1.0], 10).startswith("▁▁▁▁▁▁▁▁▁█")


def test_say_is_one_clean_line_without_keys(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MA_HOME", str(tmp_path))
    monkeypatch.setenv("POLYGON_API_KEY", "canary+key/1")
    config = tmp_path / "config.toml"
    config.write_text("[keys]\nopenai = 'sk-canary-2'\n")
    config.chmod(0o600)
    show.say("bad\nthing\x1b[2J canary+key/1 and ?k=canary%2Bkey%2F1 and sk-canary-2")
    assert capsys.readouterr().err == "ma: bad thing[2J *** and ?k=*** and ***\n"


def test_say_survives_a_stderr_that_takes_nothing(monkeypatch):
    with open("/dev/full", "w", buffering=1) as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stderr", full)
        show.say("nobody hears this")
        monkeypatch.undo()
        null = open("/dev/null", "w")  # noqa: PTH123, SIM115
        import os

        os.dup2(null.fileno(), full.fileno())
        null.close()
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    show.say("nor this")
