"""``ma trade`` by bars within a day: the account is the backtest's; a series is traded member by member, or not at all."""

import io
import json
import shutil
import subprocess
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from accounts import NOWHERE, assert_sound, ledger, market_of, memory_journal, sealed_bytes, state
from minutes import act, minutes, store, stream, with_action
from prices import new_home
from streams import MA, environment
from test_trade_model import Killed, Mortal

from marketagent import catalog, cli, costs, journal, paper, pipe, scoring, trading
from marketagent.backtest import backtest
from marketagent.decision import decide
from marketagent.errors import Refused, Stopped
from marketagent.events import FILL
from marketagent.orders import FRACTIONAL, WHOLE
from marketagent.scoring import View
from marketagent.simulate import simulate
from marketagent.store.database import opened
from marketagent.timeframes import bar_text
from marketagent.trading import Terms

TERMS = Terms("minutes", 100_000.0, costs.parse("ibkr-fixed", slippage_bps=2))
SMA = {"fast": "3", "slow": "8"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Two sessions of minutes (the second a half day), with a split, a dividend and gaps; in a home, and as a panel."""
    home = new_home(tmp_path_factory.mktemp("base"))
    panel = with_action(minutes(home, 3, last=date(2014, 7, 3), whole=range(370, 390)), 390, 1, split=1.5)
    panel = with_action(panel, 390, 0, dividend=0.37)
    panel.split[390, 1] = 1.5
    rise = 1 + 0.004 * np.arange(20)[:, None]  # into the evening, so that all are held over the night
    for name in ("open", "high", "low", "close"):
        getattr(panel.raw, name)[370:390] = np.round(getattr(panel.raw, name)[370] * rise, 2)
    panel.raw.high[370:390] += 0.5
    for name in ("open", "high", "low", "close"):
        getattr(panel.raw, name)[390:, 1] = np.round(getattr(panel.raw, name)[390:, 1] / 1.5, 2)
    store(home, panel)
    act(home, "S01", date(2014, 7, 3), "split", 1.5)
    act(home, "S00", date(2014, 7, 3), "dividend", 0.37)
    return home, panel


@pytest.fixture
def home(base, tmp_path):
    return shutil.copytree(base[0], tmp_path / "home")


def decided(panel, t, values=SMA, **changes):
    """What ``ma score --timeframe 1m`` decides on row `t`."""
    loaded = catalog.load("sma_cross", NOWHERE)
    chosen = loaded.configured(values)
    decisions = decide(chosen, panel.head(t + 1))
    return [replace(record, **changes) for record in scoring.records(decisions, loaded, chosen.params())]


def simulated(panel, start, terms, values=SMA):
    chosen = catalog.load("sma_cross", NOWHERE).configured(values)
    steps = FRACTIONAL if terms.fractional else WHOLE
    return backtest(decide(chosen, panel), terms.costs, terms.cash, start=start, steps=steps).simulation


def fills_of(panel, run):
    events, rows = run.events, []
    for k in np.flatnonzero(events.kind == FILL):
        bar, filled = (bar_text(panel.sessions[row[k]].astype(date)) for row in (events.decided, events.row))
        rows.append((bar, panel.symbols[events.column[k]], float(events.quantity[k]), float(events.price[k]),
                     float(events.commission[k]), filled))  # fmt: skip
    return sorted(rows)


def fills_in(book):
    sign = {"buy": 1, "sell": -1}
    return sorted(
        (row["session"], row["symbol"], sign[row["side"]] * row["filled_quantity"], row["fill_price"],
         row["commission"], row["fill_session"])
        for row in book.rows("SELECT * FROM orders WHERE state = 'FILLED'")
    )  # fmt: skip


def assert_the_same(book, panel, run):
    assert_sound(book, "minutes")
    held = {symbol: n for symbol, n in zip(panel.symbols, run.shares.tolist(), strict=True) if n}
    assert state(book, "minutes") == (float(run.cash[-1]), held)
    assert fills_in(book) == fills_of(panel, run)


# --- parity


@pytest.mark.parametrize("fractional", [False, True], ids=["whole", "fractional"])
def test_an_account_stepped_minute_by_minute_ends_where_the_backtest_ends_with_every_fill_the_same(base, fractional):
    _, panel = base
    terms, book, rows = replace(TERMS, fractional=fractional), memory_journal(), range(300, 480)
    for t in rows:
        stream_ = trading.one_session(f"run-{t}", decided(panel, t), allow_short=False)
        trading.trade(book, stream_, market_of(panel.head(t + 1)), terms, datetime(2014, 7, 3, tzinfo=UTC))
    run = simulated(panel.head(rows[-1] + 1), rows[0], terms)
    assert_the_same(book, panel, run)
    assert len(fills_in(book)) > 30
    assert {"split", "dividend"} <= {row["kind"] for row in book.rows("SELECT kind FROM events")}


def test_minutes_nobody_traded_on_are_lived_through_the_same(base):
    _, panel = base
    book, rows = memory_journal(), [300, 301, 350, 380, 391, 470]
    wanted = np.full(panel.shape, np.nan)
    for t in rows:
        records = decided(panel, t)
        for record in records:
            wanted[t, panel.symbols.index(record.symbol)] = np.nan if record.weight is None else record.weight
        stream_ = trading.one_session(f"run-{t}", records, allow_short=False)
        trading.trade(book, stream_, market_of(panel.head(t + 1)), TERMS, datetime(2014, 7, 3, tzinfo=UTC))
    run = simulate(wanted[:471], panel.head(471), TERMS.costs, TERMS.cash, start=300, band=records[0].band)
    assert_the_same(book, panel, run)
    assert len(book.rows("SELECT * FROM events WHERE kind = 'dividend'")) == 1


def test_an_account_on_a_real_store_ends_where_the_backtest_of_the_command_ends(tmp_path):
    """``ma score --timeframe 5m | ma trade`` after each bar, on a store that grows, without the processes."""
    home = new_home(tmp_path)
    panel = minutes(home, 2, last=date(2014, 7, 2), gaps=0.05)
    loaded = catalog.load("sma_cross", home)
    chosen, view = loaded.configured(SMA), View(timeframe="5m")
    store(home, panel, range(100))
    for t in range(104, 160, 5):
        store(home, panel, range(t - 4, t + 1))
        decisions = scoring.decided(home, loaded, chosen, None, view, timeout_s=10)
        records = list(scoring.records(decisions, loaded, chosen.params()))
        read = pipe.read(io.BytesIO(sealed_bytes(records, f"run-{t}")))
        paper.trade_live(home, read, TERMS, datetime(2014, 7, 2, 16, t % 60, tzinfo=UTC), timeout_s=10)
    whole = scoring.decided(home, loaded, chosen, None, view, timeout_s=10)
    run = backtest(whole, TERMS.costs, TERMS.cash, start=20).simulation
    with journal.opened(home) as book:
        assert_the_same(book, whole.panel, run)
        assert len(fills_in(book)) > 2
    with opened(home / "runs.duckdb") as con:
        assert con.execute("SELECT count(*) FROM orders").fetchone() == (0,)  # trade_live leaves that to copy_round


# --- orders and accounts by bars


def test_an_order_waits_for_the_next_round_and_is_told_with_its_bars(home, base):
    _, panel = base
    first, second = (pipe.read(io.BytesIO(sealed_bytes(
        decided(panel, t, weight=0.3, band=0.0), f"run-{t}"))) for t in (400, 401))  # fmt: skip
    now = datetime(2014, 7, 3, 15, tzinfo=UTC)
    (one, *_) = paper.trade_live(home, first, TERMS, now, timeout_s=10)
    assert (one.state, one.session, one.ts, one.fill_ts) == ("OPEN", "2014-07-03", "2014-07-03T13:40:00Z", None)
    again = paper.trade_live(home, second, TERMS, now + timedelta(minutes=1), timeout_s=10)
    filled = next(order for order in again if order.cid == one.cid)
    assert (filled.state, filled.fill_session, filled.fill_ts) == ("FILLED", "2014-07-03", "2014-07-03T13:41:00Z")
    assert filled.fill_price == pytest.approx(panel.raw.open[401, 0], rel=1e-3)
    paper.copy_round(home, "minutes", now + timedelta(minutes=1), timeout_s=10)
    with opened(home / "runs.duckdb") as con:
        row = con.execute("SELECT session, ts, fill_ts FROM orders WHERE cid = ?", [one.cid]).fetchone()
    assert row == (date(2014, 7, 3), panel.sessions[400].astype(date), panel.sessions[401].astype(date))
    assert {(p.session, p.ts) for p in paper.positions(home, "minutes", timeout_s=10)} == {
        ("2014-07-03", "2014-07-03T13:41:00Z")
    }


def test_the_id_of_an_order_names_its_bar(base):
    _, panel = base
    streams = [trading.one_session("run", decided(panel, t), allow_short=False) for t in (100, 101)]
    ids = [trading.order_id("a", stream_, "S00", 1.0) for stream_ in streams]
    assert ids == [trading.order_id("a", replace(stream_, run="other"), "S00", 5.0) for stream_ in streams]
    assert len(set(ids)) == 2


def test_an_account_lives_by_one_timeframe(home, base):
    _, panel = base
    minute = pipe.read(io.BytesIO(sealed_bytes(decided(panel, 100), "run-1")))
    daily = pipe.read(io.BytesIO(sealed_bytes(decided(panel, 101, timeframe="1d", ts=None), "run-2")))
    five = pipe.read(io.BytesIO(sealed_bytes(decided(panel, 105, timeframe="5m"), "run-3")))
    now = datetime(2014, 7, 2, 16, tzinfo=UTC)
    paper.trade(home, minute, TERMS, now, timeout_s=10)
    with journal.opened(home) as book:
        before = ledger(book)
    for other, name in ((daily, "1d"), (five, "5m")):
        for act_ in (lambda other: paper.trade(home, other, TERMS, now, timeout_s=10),
                     lambda other: paper.plan(home, other, TERMS, timeout_s=10)):  # fmt: skip
            with pytest.raises(
                Stopped, match=f"trades decisions on 1m bars, these are on {name} bars; .*--account minutes-{name}"
            ):
                act_(other)
    with journal.opened(home) as book:
        assert ledger(book) == before


@pytest.mark.parametrize(("changes", "text"), [
    ({"ts": None}, "a decision on 1m bars with ts None"),
    ({"timeframe": "1d"}, "a decision on 1d bars with ts 2014-07-02T15:10:00Z"),
    ({"timeframe": "7m"}, "a decision on '7m' bars; there are 1m, 5m"),
    ({"ts": "2014-07-02T15:10:00+00:00"}, "is not an instant such as"),
    ({"ts": "yesterday"}, "'yesterday' is not an instant such as"),
    ({"session": "2014-07-03"}, "the bar of 2014-07-02T15:10:00Z is not one of session 2014-07-03"),
])  # fmt: skip
def test_a_decision_that_names_no_bar_is_refused(base, changes, text):
    with pytest.raises(Refused, match=text.replace("+", r"\+")):
        trading.one_session("run", decided(base[1], 100, **changes), allow_short=False)
    with pytest.raises(Refused, match="in one stream; trade them one by one"):
        trading.one_session("run", [*decided(base[1], 100), *decided(base[1], 101)], allow_short=False)


def test_a_journal_of_before_lives_by_days(home, base, tmp_path):
    with journal.opened(home) as book:
        book.execute(
            "INSERT INTO accounts (account, cash, settled_through, created_at) VALUES ('old', 1, '2014-07-01', '')"
        )
        assert book.rows("SELECT timeframe FROM accounts")[0][0] == "1d"


def test_a_round_killed_at_any_statement_leaves_a_ledger_that_the_next_round_goes_on_from(base):
    _, panel = base
    before = memory_journal(Mortal)

    def round_of(book, t):
        records = decided(panel, t, weight=0.1 + t % 3 / 10, band=0.0)
        stream_ = trading.one_session(f"run-{t}", records, allow_short=False)
        trading.trade(book, stream_, market_of(panel.head(t + 1)), TERMS, datetime(2014, 7, 3, tzinfo=UTC))

    round_of(before, 389)  # the next one comes after a split and a dividend
    for step in range(1000):
        book = before.copy()
        book.left = step
        try:
            round_of(book, 390)
        except Killed:
            book.left = None
            assert_sound(book, "minutes")
            round_of(book, 391)
            assert_sound(book, "minutes")
            assert not book.rows("SELECT 1 FROM orders WHERE state = 'PENDING'")
            continue
        break
    assert step > 30


# --- a series


class Series:
    """``ma trade`` in this process on a series put together by hand; the market's time is just after the last bar."""

    def __init__(self, home, monkeypatch, capfd):
        self.home, self._patch, self._capfd = home, monkeypatch, capfd
        monkeypatch.setenv("MA_HOME", str(home))

    def member(self, panel, t, *, run=None, live=True, fail=(), at=None, **changes):
        records = decided(panel, t, **{"weight": 0.2, "band": 0.0, **changes})
        at = at or datetime.now(UTC)
        text = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        with pipe.sealed("score", "ndjson", run=run or f"run-{t}", at=at, stdout=text, series=live) as out:
            for record in records:
                out.write(record)
            for symbol in fail:
                out.fail(symbol, "no bar")
        return text.buffer.getvalue()

    def trade(self, data, *args):
        self._capfd.readouterr()
        self._patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        age = [] if "in time" in args else ["--max-age", "inf"]
        code = cli.run(["trade", "--account", "minutes", *age, *(arg for arg in args if arg != "in time")])
        out, err = self._capfd.readouterr()
        self.out = out
        return code, [json.loads(line) for line in out.splitlines()], err

    def runs(self):
        with journal.opened(self.home) as book:
            return [row["run"] for row in book.rows("SELECT run FROM streams ORDER BY rowid")]


@pytest.fixture
def live(home, monkeypatch, capfd):
    return Series(home, monkeypatch, capfd)


def kinds(records):
    return "".join({"begin": "(", "order": "o", "end": ")"}[record["kind"]] for record in records)


def test_each_member_is_traded_and_answered_by_a_sealed_stream(live, base):
    _, panel = base
    data = b"".join(live.member(panel, t, weight=0.1 + t % 2 / 10) for t in (100, 101, 102))
    code, records, err = live.trade(data)
    assert (code, err) == (0, "")
    assert kinds(records) == "(ooo)(oooooo)(oooooo)"
    for sealed in pipe.series(pipe.Incoming(io.BytesIO(live.out.encode())), kinds=("order",)):
        assert (sealed.begin.live, sealed.begin.cmd, sealed.end.status, sealed.end.up["status"]) == (
            True,
            "trade",
            "ok",
            "ok",
        )
    assert live.runs() == ["run-100", "run-101", "run-102"]
    with opened(live.home / "runs.duckdb") as con:
        assert con.execute("SELECT count(*), count(fill_ts) FROM orders").fetchone() == (9, 6)


CUT = {
    "in a line": (lambda m: m[:-30], "is cut off"),
    "without its end": (lambda m: m[: m.rindex(b'{"kind":"end"')], "has no end: it did not finish"),
    "with a record changed": (lambda m: m.replace(b'"weight":0.2', b'"weight":0.9', 1), "their hash differs"),
    "with a record gone": (lambda m: b"".join(m.splitlines(True)[:1] + m.splitlines(True)[2:]), "are missing"),
    "with another one in it": (lambda m: m[: m.rindex(b'{"kind":"end"')] + m, "is a second begin"),
    "with a line of something else": (lambda m: m.replace(b'{"kind":"end"', b'{"kind":"end', 1), "is not JSON"),
}


@pytest.mark.parametrize("case", CUT)
def test_a_member_that_is_cut_or_changed_ends_the_series_and_only_whole_ones_were_traded(live, base, case):
    _, panel = base
    spoil, reason = CUT[case]
    data = live.member(panel, 100) + spoil(live.member(panel, 101)) + live.member(panel, 102)
    if case in ("in a line", "without its end"):
        data = live.member(panel, 100) + spoil(live.member(panel, 101))
    code, records, err = live.trade(data)
    assert (code, kinds(records)) == (4, "(ooo)")
    assert reason in err
    assert err.count("\n") == 1
    assert live.runs() == ["run-100"]


@pytest.mark.parametrize(("change", "reason"), [
    ({"fail": ["S09"]}, "was done only in part (failed: S09)"),
    ({"run": "run-100"}, "run run-100 was traded already"),
    ({"close": 1.0}, "was decided on at a close of 1.0"),
    ({"weight": -0.1}, "a short position of -0.10 is asked for"),
    ({"ts": "2014-07-02T15:12:30Z"}, "no bars are stored for 2014-07-02T15:12:30Z, the 1m bar decided on"),
])  # fmt: skip
def test_a_member_that_must_not_be_traded_is_passed_over_with_a_line_and_the_next_one_is_traded(
    live, base, change, reason
):
    _, panel = base
    data = live.member(panel, 100) + live.member(panel, 101, **change) + live.member(panel, 102)
    code, records, err = live.trade(data)
    assert code == 3
    assert kinds(records).startswith("(ooo)()(ooo")
    assert reason in err
    assert err.count("\n") == 1
    assert [one["status"] for one in records if one["kind"] == "end"] == ["ok", "partial", "ok"]
    assert live.runs() == ["run-100", "run-102"]


def test_partial_members_are_traded_where_that_is_allowed(live, base):
    _, panel = base
    data = live.member(panel, 100, fail=["S09"]) + live.member(panel, 101)
    code, records, err = live.trade(data, "--allow-partial")
    assert (code, err) == (3, "")
    assert kinds(records).startswith("(ooo)(ooo")


def test_a_bar_that_closed_too_long_ago_is_not_traded(live, base):
    _, panel = base
    code, records, err = live.trade(live.member(panel, 100) + live.member(panel, 101), "--max-age", "900")
    assert (code, kinds(records)) == (3, "()()")
    assert err.count("s ago; at most 900 s are allowed") == 2  # a stream of now, about minutes of 2014
    assert live.runs() == []


def test_a_decision_that_comes_after_the_bar_it_would_fill_in_is_not_traded(live, base):
    _, panel = base
    code, records, err = live.trade(live.member(panel, 100), "in time")
    assert (code, kinds(records)) == (3, "()")
    assert "s ago; at most 60 s are allowed" in err
    assert live.runs() == []


def test_a_bar_that_has_not_closed_is_not_traded(live, base, monkeypatch):
    _, panel = base
    places = ("POLYGON_BASE_URL", "APCA_API_BASE_URL", "APCA_API_DATA_URL", "BULLAWARE_BASE_URL")
    for name in places:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("POLYGON_STREAM_URL", "APCA_API_STREAM_URL"):
        monkeypatch.setenv(name, "ws://127.0.0.1:9")
    monkeypatch.setenv("MA_CLOCK", f"2014-07-02T15:00:00Z@{time.time()}*1")
    early = live.member(panel, 100, at=datetime(2014, 7, 2, 15, tzinfo=UTC))  # of 15:10
    code, records, err = live.trade(early)
    assert (code, kinds(records), live.runs()) == (3, "()", [])
    assert "the bar of 2014-07-02T15:10:00Z has not closed yet; check the clock" in err


def failed_member(live, panel):
    text = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with (
        pytest.raises(RuntimeError),
        pipe.sealed("score", "ndjson", run="r", at=datetime.now(UTC), stdout=text, series=True),
    ):
        raise RuntimeError("the strategy stumbled")
    return text.buffer.getvalue()


def test_a_stage_that_failed_a_halt_and_a_wrong_account_end_the_series(live, base):
    _, panel = base
    rest = live.member(panel, 102)
    code, records, err = live.trade(live.member(panel, 100) + failed_member(live, panel) + rest)
    assert (code, kinds(records), live.runs()) == (4, "(ooo)()", ["run-100"])
    assert err == "ma: ma score failed: the strategy stumbled\n"
    five = live.member(panel, 105, timeframe="5m")
    code, records, err = live.trade(five + rest)
    assert (code, kinds(records), live.runs()) == (4, "()", ["run-100"])
    assert records[-1]["status"] == "error"
    (live.home / "HALT").touch()
    code, records, err = live.trade(rest + live.member(panel, 103))
    assert (code, err.count("all trading is stopped"), live.runs()) == (4, 1, ["run-100"])


def test_a_member_that_is_not_live_does_not_belong_into_a_series(live, base):
    _, panel = base
    code, _, err = live.trade(live.member(panel, 100) + live.member(panel, 101, live=False))
    assert (code, live.runs()) == (4, ["run-100"])
    assert "a stream that is not live came after live ones" in err
    code, _, err = live.trade(live.member(panel, 101, live=False) + live.member(panel, 102, live=False))
    assert (code, live.runs()) == (4, ["run-100"])
    assert "comes after the end, from a second stream" in err


def test_a_plan_of_a_series_changes_nothing(live, base):
    _, panel = base
    code, records, _ = live.trade(live.member(panel, 100) + live.member(panel, 101), "--plan")
    assert (code, kinds(records), live.runs()) == (0, "(ooo)(ooo)", [])
    assert {one["state"] for one in records if one["kind"] == "order"} == {"PLANNED"}


# --- the pipe


def test_a_stream_scored_and_traded_minute_by_minute_ends_where_the_backtest_ends(tmp_path):
    home = new_home(tmp_path)
    panel = minutes(home, 2, last=date(2014, 7, 2), gaps=0)
    rows = range(60, 76)
    store(home, panel, range(rows[-1] + 1))
    data = b"".join(line for _, line in stream(panel, rows))
    script = (
        "$MA score --strategy sma_cross --set fast=3 --set slow=8 --timeframe 1m"
        " | $MA trade --account minutes --max-age inf"
    )
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], env=environment(home, MA=" ".join(MA)), input=data,
        capture_output=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b'{"kind":"end"') == len(rows)
    run = simulated(panel.head(rows[-1] + 1), rows[0], replace(TERMS, costs=costs.parse("ibkr-fixed")))
    with journal.opened(home) as book:
        assert_the_same(book, panel, run)


def test_a_score_that_is_killed_in_a_member_stops_the_trade_with_nothing_of_it_done(live, base):
    _, panel = base
    whole, cut = live.member(panel, 100), live.member(panel, 101)
    for k in range(1, len(cut), 997):
        code, _, err = live.trade(whole + cut[:k])
        assert code == (4 if live.runs() == ["run-100"] else 0)
        assert err.count("\n") >= 1
    assert live.runs() == ["run-100"]
