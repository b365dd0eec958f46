"""``ma fetch`` against the sandbox: what is stored is the market's own truth, from both vendors, whatever goes wrong."""

import json
from datetime import date

import numpy as np
import pytest
from prices import ask, here, new_home, panel_bytes
from sandboxes import sandbox

from marketagent.delivery import new_york_days
from marketagent.errors import Exit
from marketagent.sandbox.faults import Rule
from marketagent.store.market import read_panel

WIRES = ("polygon", "alpaca")
SPAN = ("--from", "2026-05-01", "--to", "2026-06-30")
FIRST, LAST = date(2026, 5, 1), date(2026, 6, 30)


@pytest.fixture
def home(tmp_path):
    return new_home(tmp_path)


@pytest.fixture
def run(home, monkeypatch, capfd):
    def call(one, *words):
        return here(home, monkeypatch, capfd, *words, **{k: v for k, v in one.env.items() if k != "MA_HOME"})

    return call


def assert_true_of(home, world, symbol, first=FIRST, last=LAST):
    """The stored days of `symbol` are the market's: prices, volumes, splits and payments, as traded."""
    bars = world.market.days(symbol, first, last)
    assert ask(home, f"SELECT count(*), count(DISTINCT ts) FROM bars WHERE symbol = '{symbol}'") == [
        (len(bars.start),) * 2
    ]
    panel = read_panel(home, [symbol])
    assert np.array_equal(panel.sessions.astype("datetime64[D]"), new_york_days(bars.start))
    for name in ("open", "high", "low", "close"):
        assert np.array_equal(getattr(panel.raw, name)[:, 0], getattr(bars, name)), name
    days = panel.sessions.tolist()
    splits = {one.day: one.new / one.old for one in world.market.splits(symbol, first, last)}
    paid = {one.day: one.cash for one in world.market.dividends(symbol, first, last)}
    assert {days[t]: panel.split[t, 0] for t in np.flatnonzero(panel.split[:, 0] != 1)} == splits
    assert {days[t]: panel.dividend[t, 0] for t in np.flatnonzero(panel.dividend[:, 0])} == paid


@pytest.mark.parametrize("source", WIRES)
def test_what_is_stored_is_what_the_market_was(home, run, source):
    with sandbox() as one:
        result = run(one, "fetch", "AAPL", "IBM", "MSFT", "--source", source, *SPAN)
        assert (result.returncode, result.stderr) == (0, "")
        for symbol in ("AAPL", "IBM", "MSFT"):
            assert_true_of(home, one.world, symbol)
    assert ask(home, "SELECT count(*) FROM quarantine") == [(0,)]


@pytest.mark.parametrize("source", WIRES)
@pytest.mark.parametrize(
    "kind",
    ["reset-before", "reset-after", "cut", "cut-chunked", "cut-gzip", "html", "empty", "duplicate", "reorder"],
)
def test_a_fault_on_the_way_changes_nothing_of_what_is_stored(home, run, source, kind):
    with sandbox(faults=(Rule(kind=kind, first=1),)) as one:
        result = run(one, "fetch", "AAPL", "IBM", "--source", source, *SPAN)
        assert result.returncode == 0, result.stderr
        assert_true_of(home, one.world, "AAPL")
        assert_true_of(home, one.world, "IBM")


def test_a_page_that_leads_back_to_itself_ends_the_symbol_and_stores_nothing(home, run):
    with sandbox(faults=(Rule(kind="loop"),)) as one:
        result = run(one, "fetch", "AAPL", "--source", "polygon", *SPAN)
    assert result.returncode == Exit.BAD_DATA
    assert "goes in circles" in result.stderr
    assert ask(home, "SELECT (SELECT count(*) FROM bars) + (SELECT count(*) FROM coverage)") == [(0,)]


def test_a_comparison_counts_only_what_was_looked_at_in_both(run):
    with sandbox() as one:
        run(one, "fetch", "AAPL", "--source", "polygon", "--from", "2024-03-01")
        result = run(one, "fetch", "AAPL", "--compare", "polygon,alpaca")
    assert result.returncode == 0
    assert result.stderr.endswith(" 1d bars agree\n")
    assert "only from" not in result.stderr


def test_the_vendors_agree_on_days_and_minutes(run):
    with sandbox() as one:
        days = run(one, "fetch", "AAPL", "IBM", "--compare", "polygon,alpaca", *SPAN)
        span = ("--from", "2026-06-01", "--to", "2026-06-02")
        minutes = run(one, "fetch", "AAPL", "--compare", "polygon,alpaca", "--timeframe", "1m", *span)
    assert (days.returncode, minutes.returncode) == (0, 0)
    assert days.stderr == "ma: AAPL: 41 of 41 1d bars agree\nma: IBM: 41 of 41 1d bars agree\n"
    assert minutes.stderr.startswith("ma: AAPL: ")
    assert [one for one in map(json.loads, minutes.stdout.splitlines()) if one.get("field") not in (None, "bar")] == []


@pytest.mark.parametrize("source", WIRES)
@pytest.mark.parametrize("timeframe", ["5m", "15m", "30m"])
def test_what_is_made_of_minutes_equals_what_the_vendor_makes_of_them(tmp_path, monkeypatch, capfd, source, timeframe):
    made, served = new_home(tmp_path / "made"), new_home(tmp_path / "served")
    span = ("--source", source, "--from", "2026-05-29", "--to", "2026-06-02")
    with sandbox() as one:
        env = {name: value for name, value in one.env.items() if name != "MA_HOME"}
        here(made, monkeypatch, capfd, "fetch", "AAPL", "IBM", "--timeframe", "1m", *span, **env)
        here(served, monkeypatch, capfd, "fetch", "AAPL", "IBM", "--timeframe", timeframe, *span, **env)
    one, other = (read_panel(home, ["AAPL", "IBM"], timeframe=timeframe) for home in (made, served))
    assert len(one.sessions) == 3 * {"5m": 78, "15m": 26, "30m": 13}[timeframe]
    assert panel_bytes(made, timeframe=timeframe) == panel_bytes(served, timeframe=timeframe)
    assert one.split.max() == other.split.max() == 4.0


def test_the_whole_market_of_a_day_is_the_market(home, run):
    with sandbox() as one:
        result = run(one, "fetch", "--whole-market", "2026-06-01")
        assert result.returncode == 0, result.stderr
        for symbol in ("AAPL", "IBM", "MSFT"):
            assert_true_of(home, one.world, symbol, date(2026, 6, 1), date(2026, 6, 1))
        asked = len(ask(home, "SELECT DISTINCT symbol FROM coverage"))
    assert asked == 3


def test_a_plan_that_does_not_go_back_so_far_is_said_by_symbol(run):
    with sandbox() as one:
        env = one.env | {"POLYGON_API_KEY": "sandbox-basic"}
        one = type(one)(one.url, one.world, env)
        result = run(one, "fetch", "AAPL", "--source", "polygon", "--from", "2024-01-02", "--to", "2024-03-01")
    assert result.returncode == Exit.NOT_PERMITTED
    assert "AAPL: polygon does not give this to the key's plan" in result.stderr


@pytest.mark.parametrize("name", ["POLYGON_API_KEY", "APCA_API_SECRET_KEY"])
def test_a_key_is_in_no_line_log_or_file(home, run, name):
    canary = "k3y-CANARY-0815"
    source = "polygon" if name.startswith("POLYGON") else "alpaca"
    with sandbox() as one:
        one = type(one)(one.url, one.world, one.env | {name: canary})
        result = run(one, "fetch", "AAPL", "--source", source, *SPAN)
    assert result.returncode == Exit.NOT_PERMITTED
    assert canary not in result.stdout + result.stderr
    assert not [path for path in home.rglob("*") if path.is_file() and canary.encode() in path.read_bytes()]
