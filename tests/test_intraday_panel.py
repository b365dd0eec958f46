"""Panels of bars within a day: the grid, what is made from finer bars, what is left out; and what rests on rows of them."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from minutes import FIRST, act, minutes, store
from numpy.testing import assert_array_equal
from prices import new_home, write

from marketagent import catalog, costs, intake, scoring
from marketagent.backtest import backtest
from marketagent.decision import decide
from marketagent.errors import NoData
from marketagent.events import CLOSED
from marketagent.metrics import summary
from marketagent.scoring import View
from marketagent.sessions import due
from marketagent.simulate import simulate
from marketagent.sources import csv
from marketagent.store.database import opened
from marketagent.store.intraday import FIELDS
from marketagent.store.market import MARKET, read_closes, read_panel
from marketagent.store.staging import Options
from marketagent.timeframes import INTRADAY, TIMEFRAMES, bar_of, bars_a_session


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Three symbols over three sessions, the second one a half day, in minutes; with the panel they came from."""
    home = new_home(tmp_path_factory.mktemp("minutes"))
    panel = minutes(home)
    store(home, panel)
    return home, panel


def at(hour, minute, day=2):
    return np.datetime64(f"2014-07-{day:02}T{hour:02}:{minute:02}", "s")


def test_the_rows_are_every_minute_of_regular_hours_and_the_bars_are_what_was_stored(filled):
    home, panel = filled
    found = read_panel(home, None, timeframe="1m")
    assert found.timeframe == "1m"
    assert found.shape == (390 + 210 + 390, 3)
    assert_array_equal(found.sessions, panel.sessions)
    assert (found.sessions[0], found.sessions[389], found.sessions[390]) == (at(13, 30), at(19, 59), at(13, 30, day=3))
    for name in FIELDS:
        assert_array_equal(getattr(found.raw, name), getattr(panel.raw, name))
    assert found.session_number[[0, 389, 390, 599, 600]].tolist() == [0, 0, 1, 1, 2]


def by_hand(panel, timeframe):
    """Bars of `timeframe` the slow way: start -> column -> the five numbers."""
    made, width = {}, TIMEFRAMES[timeframe]
    for day in np.unique(panel.days):
        rows = np.flatnonzero(panel.days == day)
        begin = panel.sessions[rows[0]]
        for t in rows:
            start = begin + np.timedelta64(int((panel.sessions[t] - begin).astype(int)) // width * width, "s")
            for n in np.flatnonzero(panel.has_bar[t]):
                o, h, low, c, v = (float(getattr(panel.raw, name)[t, n]) for name in FIELDS)
                old = made.setdefault(start, {}).get(n)
                made[start][n] = (o, h, low, c, v) if old is None else (
                    old[0], max(old[1], h), min(old[2], low), c, old[4] + v)  # fmt: skip
    return made


@pytest.mark.parametrize("timeframe", [name for name in INTRADAY if name != "1m"])
def test_a_timeframe_that_is_not_stored_is_made_from_minutes_from_the_open_on(filled, timeframe):
    home, panel = filled
    found, expected = read_panel(home, None, timeframe=timeframe), by_hand(panel, timeframe)
    assert found.sessions.tolist() == [start.astype(object) for start in sorted(expected)]
    for t, start in enumerate(found.sessions):
        for n in range(3):
            values = [float(getattr(found.raw, name)[t, n]) for name in FIELDS]
            assert values == list(expected[start].get(n, [np.nan] * 5)) or np.isnan(values).all()
    assert len(found.sessions) == 2 * bars_a_session(timeframe) + -(-210 * 60 // TIMEFRAMES[timeframe])


def test_a_bar_made_from_minutes_is_the_vendors_bar_of_the_same_minutes(filled, tmp_path):
    home, _ = filled
    other = new_home(tmp_path)
    vendors = read_panel(home, None, timeframe="15m")
    store(other, vendors)
    stored = read_panel(other, None, timeframe="15m")
    for name in FIELDS:
        assert_array_equal(getattr(stored.raw, name), getattr(vendors.raw, name))
    hours, hours_of_minutes = (read_panel(each, None, timeframe="1h") for each in (other, home))
    for name in FIELDS:  # over 15 minutes or at once
        assert_array_equal(getattr(hours.raw, name), getattr(hours_of_minutes.raw, name))


def test_stored_bars_go_before_made_ones_and_made_ones_go_on_where_they_end(tmp_path):
    home = new_home(tmp_path)
    panel = minutes(home, 1, last=FIRST, gaps=0)
    store(home, panel)
    made = read_panel(home, None, timeframe="5m")
    for name in FIELDS:
        getattr(made.raw, name)[:] *= 2
    store(home, made, range(10))
    found = read_panel(home, None, timeframe="5m")
    assert_array_equal(found.raw.close[:10], made.raw.close[:10])
    assert_array_equal(found.raw.close[10:], made.raw.close[10:] / 2)


def test_a_made_bar_counts_once_its_last_minute_is_over(tmp_path):
    home = new_home(tmp_path)
    panel = minutes(home, 2, last=FIRST, gaps=0)
    panel.raw.close[9, 1] = np.nan  # S01 did not trade in the last minute of the second bar
    store(home, panel, range(9))
    assert len(read_panel(home, None, timeframe="5m").sessions) == 1
    store(home, panel, [9])
    assert len(read_panel(home, None, timeframe="5m").sessions) == 2
    assert read_panel(home, ["S01"], timeframe="5m").shape == (1, 1)  # alone, nobody says that the minute is over
    late = datetime(2014, 7, 2, 20, 0, tzinfo=UTC)
    assert read_panel(home, ["S01"], timeframe="5m", now=late).shape == (2, 1)


def test_a_bar_that_has_not_closed_by_now_is_left_out(filled):
    home, _ = filled
    now = datetime(2014, 7, 2, 15, 0, 30, tzinfo=UTC)
    for timeframe, last in (("1m", at(14, 59)), ("15m", at(14, 45)), ("1h", at(13, 30))):
        assert read_panel(home, None, timeframe=timeframe, now=now).sessions[-1] == last
    assert read_panel(home, None, timeframe="1h", last=date(2014, 7, 3)).sessions[-1] == at(16, 30, day=3)


def test_what_lies_outside_regular_hours_or_off_the_grid_stays_in_the_store(tmp_path):
    home = new_home(tmp_path)
    lines = ["symbol,date,open,high,low,close,volume"]
    for clock in ("09:00", "09:29", "09:30", "09:31", "13:00", "15:59", "16:00", "18:30"):
        lines.append(f"AAA,2014-07-03 {clock},1,2,1,2,5")
    taken = intake.take_all(
        home, csv, [str(write(tmp_path / "a.csv", "\n".join(lines)))], Options(timeframe="1m"),
        datetime(2026, 11, 20, tzinfo=UTC), 60,
    )  # fmt: skip
    assert taken.fetched["AAA"].bars == 8
    found = read_panel(home, None, timeframe="1m")  # of 3 July, which ends at 13:00
    assert list(found.sessions[found.has_bar[:, 0]]) == [at(13, 30, day=3), at(13, 31, day=3)]
    hours = "symbol,date,open,high,low,close,volume\nBBB,2014-07-02 10:00,1,2,1,2,5\n"
    intake.take_all(
        home,
        csv,
        [str(write(tmp_path / "b.csv", hours))],
        Options(timeframe="1h"),
        datetime(2026, 11, 20, tzinfo=UTC),
        60,
    )
    with pytest.raises(
        NoData,
        match="of BBB in 1h bars that begin with their session's grid, or in finer ones; run: ma fetch BBB --timeframe 30m",
    ):
        read_panel(home, ["BBB"], timeframe="1h")


def test_one_source_a_symbol_the_one_with_the_newest_bar_of_the_timeframe_asked_for(tmp_path):
    home = new_home(tmp_path)
    panel = minutes(home, 1, last=FIRST, gaps=0)
    store(home, panel, range(200), source="one")
    store(home, panel, range(100, 201), source="two")
    found = read_panel(home, None, timeframe="1m")
    assert (found.sources, found.shape) == (("two",), (101, 1))
    assert read_panel(home, None, timeframe="1m", source="one").shape == (200, 1)
    with opened(home / MARKET, write=True) as con:  # a newer day of a third one changes nothing about minutes
        con.execute("INSERT INTO bars SELECT * REPLACE ('1d' AS timeframe, 'three' AS source) FROM bars LIMIT 1")
    assert read_panel(home, None, timeframe="1m").sources == ("two",)
    assert read_panel(home, None).sources == ("three",)


def test_the_past_is_read_as_it_was_known(tmp_path):
    home = new_home(tmp_path)
    panel = minutes(home, 1, last=FIRST, gaps=0)
    noon = datetime(2014, 7, 2, 16, tzinfo=UTC)
    store(home, panel, range(60), now=noon)
    store(home, panel, range(60, 120), now=noon + timedelta(hours=1))
    assert read_panel(home, None, timeframe="5m", known_at=noon).shape == (12, 1)
    assert read_panel(home, None, timeframe="5m").shape == (24, 1)


def test_splits_and_dividends_stand_at_the_first_row_of_their_session(tmp_path):
    home = new_home(tmp_path)
    panel = minutes(home, 2, gaps=0)
    panel.raw.close[390, 1] = np.nan  # not even where the symbol has no bar there
    store(home, panel)
    act(home, "S00", date(2014, 7, 3), "split", 2.0)
    act(home, "S01", date(2014, 7, 3), "dividend", 0.5)
    for timeframe, row in (("1m", 390), ("1h", 7)):
        found = read_panel(home, None, timeframe=timeframe)
        assert np.argwhere(found.split != 1).tolist() == [[row, 0]]
        assert np.argwhere(found.dividend > 0).tolist() == [[row, 1]]
        assert found.split_factor[[row - 1, row, -1], 0].tolist() == [1.0, 2.0, 2.0]


def test_a_bar_closes_when_the_next_one_begins_or_its_session_ends(filled):
    home, _ = filled
    hours = read_panel(home, None, timeframe="1h")
    closes = read_closes(home, hours, timeout_s=10)
    assert list(closes[[0, 6, 10]]) == [at(14, 30), at(20, 0), at(17, 0, day=3)]


# --- what rests on rows


def test_daily_weekly_and_monthly_are_the_first_bar_of_their_period(filled):
    home, _ = filled
    sessions = read_panel(home, None, timeframe="1m").sessions
    assert due(sessions, "bar").all()
    assert np.flatnonzero(due(sessions, "daily")).tolist() == [0, 390, 600]
    assert np.flatnonzero(due(sessions, "weekly")).tolist() == [0, 600]  # 7 July was a Monday
    assert np.flatnonzero(due(sessions, "monthly")).tolist() == [0]


def test_a_silent_symbol_is_gone_after_five_sessions_and_not_after_five_bars(tmp_path):
    home = new_home(tmp_path)
    panel = minutes(home, 2, last=date(2014, 7, 11), gaps=0)  # 2, 3, 7, 8, 9, 10 and 11 July
    for name in FIELDS:
        getattr(panel.raw, name)[50:, 1] = np.nan
    targets = np.full(panel.shape, np.nan)
    targets[10] = 0.5
    run = simulate(targets, panel, costs.parse("none"), 10_000.0)
    (row,) = run.events.row[run.events.kind == CLOSED].tolist()
    assert panel.sessions[row] == at(13, 30, day=10)  # the fifth session after 2 July
    assert run.closed == ("S01",)
    assert not simulate(targets[:1000], panel.head(1000), costs.parse("none"), 10_000.0).closed


def test_metrics_are_annualised_by_bars(filled):
    home, _ = filled
    strategy = catalog.load("buy_and_hold", home).configured({})
    measured = backtest(decide(strategy, read_panel(home, None, timeframe="1m")), costs.parse("none"), 10_000.0)
    returns = measured.returns
    a_year = 252 * 390
    assert measured.metrics["volatility"] == pytest.approx(np.std(returns, ddof=1) * np.sqrt(a_year), rel=1e-12)
    assert measured.metrics["cagr"] == pytest.approx(np.prod(1 + returns) ** (a_year / len(returns)) - 1, rel=1e-9)
    below = measured.metrics["drawdown_days"]
    assert 0 < below < 3  # in sessions, whatever the bars
    flat = summary(
        np.full(780, 100.0), 100.0, gross=np.zeros(780), traded=np.ones(780), pnl=np.zeros(0), periods=a_year
    )
    assert flat["turnover"] == pytest.approx(780 / 100 / (780 / a_year))


@pytest.mark.parametrize("timeframe", ["1m", "5m", "1h"])
@pytest.mark.parametrize(("name", "values"), [("sma_cross", {"fast": "3", "slow": "8"}), ("ensemble", {
    "fast": "2", "slow": "5", "lookback": "20", "window": "5", "rebalance": "daily"})])  # fmt: skip
def test_the_last_row_of_a_score_is_that_row_of_the_backtest_bit_for_bit(filled, timeframe, name, values):
    home, _ = filled
    loaded = catalog.load(name, home)
    strategy = loaded.configured(values)
    whole = scoring.decided(home, loaded, strategy, None, View(timeframe=timeframe), timeout_s=10)
    for last in (date(2014, 7, 3), date(2014, 7, 7)):
        view = View(last=last, timeframe=timeframe)
        scored = scoring.decided(home, loaded, strategy, None, view, timeout_s=10)
        t = len(scored.panel.sessions) - 1
        assert whole.panel.days[t] == np.datetime64(last)
        for record in scoring.records(scored, loaded, {}):
            n = whole.panel.symbols.index(record.symbol)
            assert bar_of(record.ts) == whole.panel.sessions[t].astype(date)
            assert (record.session, record.timeframe) == (last.isoformat(), timeframe)
            for value, array in (("score", whole.score), ("weight", whole.targets), ("confidence", whole.confidence)):
                kept = getattr(record, value)
                assert_array_equal(np.nan if kept is None else kept, array[t, n])


def test_a_symbol_that_did_not_trade_in_the_last_minute_holds_and_one_of_yesterday_is_named(tmp_path):
    home = new_home(tmp_path)
    panel = minutes(home, 3, gaps=0)
    for name in FIELDS:
        getattr(panel.raw, name)[-1, 1] = np.nan
        getattr(panel.raw, name)[600:, 2] = np.nan
    store(home, panel)
    loaded, view = catalog.load("buy_and_hold", home), View(timeframe="1m")
    read = view.panel(home, None, timeout_s=10)
    unfit = scoring.unfit(home, read, 0, view, timeout_s=10)
    assert unfit == {"S02": "no bar on 2014-07-07; its last is 2014-07-03; run: ma fetch S02 --timeframe 1m"}
    decisions = scoring.decided_on(home, loaded, loaded.configured({}), read, view, timeout_s=10)
    one, two = scoring.records(decisions, loaded, {}, unfit)
    assert (one.symbol, one.action, one.weight) == ("S00", "buy", 1.0)
    assert (two.symbol, two.action, two.weight, two.close, two.reasoning) == (
        "S01",
        "hold",
        None,
        None,
        "hold (no bar)",
    )
