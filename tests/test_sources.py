"""The wire sources and ``ma fetch`` on top of them: only what is missing, whole, as traded, from one vendor, said aloud."""

import json
from datetime import date, datetime

import numpy as np
import pytest
from prices import History, ask, here, new_home, panel_bytes, sessions, write
from wires import Book, clock_at, spoken, vendor

from marketagent.errors import Exit
from marketagent.store.market import read_panel

AFTER = clock_at("2015-01-02T02:00:00Z")  # the evening of 2015-01-01; the last session is 2014-12-31
WIRES = ("polygon", "alpaca")
YEAR = ("--from", "2014-01-02", "--to", "2014-12-31")


@pytest.fixture
def home(tmp_path):
    return new_home(tmp_path)


@pytest.fixture
def run(home, monkeypatch, capfd):
    """``ma`` in this process against a vendor's environment, at a market time."""

    def call(env, *words, at=AFTER):
        return here(home, monkeypatch, capfd, *words, **env, MA_CLOCK=at)

    return call


def records(result):
    return [json.loads(line) for line in result.stdout.splitlines()][1:-1]


def served(source, *histories):
    return vendor(getattr(Book(*histories), source)())


@pytest.mark.parametrize("source", WIRES)
def test_a_fetch_stores_bars_and_actions_as_traded(home, run, source):
    history = History()
    with served(source, history) as (_, env):
        result = run(env, "fetch", "AAPL", "--source", source, *YEAR)
    assert result.returncode == 0, result.stderr
    panel = read_panel(home, ["AAPL"])
    assert panel.sessions.tolist() == list(history.days)
    assert np.array_equal(panel.raw.close[:, 0], history.close)
    assert np.array_equal(panel.raw.volume[:, 0], history.volume)
    assert panel.split[history.days.index(date(2014, 6, 9)), 0] == 7.0
    assert {t: panel.dividend[t, 0] for t in np.flatnonzero(panel.dividend[:, 0])} == history.dividend
    assert panel.sources == (source,)
    assert ask(home, "SELECT DISTINCT feed FROM bars") == [("sandbox",)]
    assert ask(home, "SELECT min(ts) FROM bars")[0][0] == datetime(2014, 1, 2, 14, 30)  # noqa: DTZ001 - as stored


@pytest.mark.parametrize("source", WIRES)
def test_what_is_stored_is_not_asked_again(run, source):
    with served(source, History()) as (server, env):
        run(env, "fetch", "AAPL", "--source", source, *YEAR)
        asked = len(server.asked)
        again = run(env, "fetch", "AAPL", "--source", source, *YEAR)
        assert len(server.asked) == asked
    assert (again.returncode, again.stderr) == (0, "")
    assert [(one["bars"], one["added"]) for one in records(again)] == [(252, 0)]


@pytest.mark.parametrize("source", WIRES)
def test_only_the_missing_ranges_are_asked_for(home, run, source):
    with served(source, History()) as (server, env):
        run(env, "fetch", "AAPL", "--source", source, "--from", "2014-03-03", "--to", "2014-03-31")
        run(env, "fetch", "AAPL", "--source", source, "--from", "2014-05-01", "--to", "2014-05-30")
        server.asked.clear()
        run(env, "fetch", "AAPL", "--source", source, "--from", "2014-02-03", "--to", "2014-06-30")
        paths = [path for path in server.paths() if "bars" in path or "aggs" in path]
    assert len(paths) == 3, paths  # before, between, behind
    assert all("2014-03-1" not in path and "2014-05-1" not in path for path in paths)
    assert ask(home, "SELECT first, last FROM coverage") == [(date(2014, 2, 3), date(2014, 6, 30))]
    assert ask(home, "SELECT count(*), count(DISTINCT session) FROM bars") == [(103, 103)]


@pytest.mark.parametrize("source", WIRES)
def test_fetching_piece_by_piece_across_a_split_equals_fetching_at_once(tmp_path, monkeypatch, capfd, source):
    homes = [new_home(tmp_path / name) for name in "ab"]
    days = sessions("2014-01-02", "2014-12-31")
    with served(source, History()) as (_, env):
        here(homes[0], monkeypatch, capfd, "fetch", "AAPL", "--source", source, *YEAR, **env, MA_CLOCK=AFTER)
        for first in range(0, len(days), 60):
            span = ("--from", days[first], "--to", days[min(first + 59, len(days) - 1)])
            here(homes[1], monkeypatch, capfd, "fetch", "AAPL", "--source", source, *span, **env, MA_CLOCK=AFTER)
    assert panel_bytes(homes[0]) == panel_bytes(homes[1])


@pytest.mark.parametrize("source", WIRES)
def test_pages_are_followed_to_the_end(home, run, source):
    book = Book(History())
    book.page = 50
    with vendor(getattr(book, source)()) as (server, env):
        result = run(env, "fetch", "AAPL", "--source", source, *YEAR)
        pages = [path for path in server.paths() if "bars" in path or "aggs" in path]
    assert (result.returncode, len(pages)) == (0, 6)
    assert ask(home, "SELECT count(*) FROM bars") == [(252,)]


@pytest.mark.parametrize("source", WIRES)
def test_a_symbol_nobody_knows_is_named_and_not_asked_for_twice(home, run, source):
    with served(source, History()) as (server, env):
        result = run(env, "fetch", "AAPL", "ZZZZ", "--source", source, *YEAR)
        asked = len(server.asked)
        again = run(env, "fetch", "AAPL", "ZZZZ", "--source", source, *YEAR)
        assert len(server.asked) == asked
    for one in (result, again):
        assert one.returncode == Exit.PARTIAL
        assert one.stderr == f"ma: ZZZZ: {source} has no 1d bars from 2014-01-02 to 2014-12-31\n"
        assert [record["symbol"] for record in records(one)] == ["AAPL"]
    alone = run(env, "fetch", "ZZZZ", "--source", source, *YEAR)
    assert alone.returncode == Exit.NO_DATA


def test_symbols_that_fail_for_one_reason_share_a_line(run):
    with served("polygon", History()) as (_, env):
        result = run(env, "fetch", "AAPL", *(f"ZZ{n}" for n in range(8)), "--source", "polygon", *YEAR)
    assert result.stderr == (
        "ma: ZZ0, ZZ1, ZZ2, ZZ3, ZZ4 and 3 more: polygon has no 1d bars from 2014-01-02 to 2014-12-31\n"
    )
    assert len(json.loads(result.stdout.splitlines()[-1])["failed"]) == 8


def test_a_span_of_the_future_has_no_bars_yet(run):
    with served("polygon", History()) as (server, env):
        run(env, "fetch", "AAPL", "--source", "polygon", *YEAR)
        server.asked.clear()
        result = run(env, "fetch", "AAPL", "--source", "polygon", "--from", "2016-01-04")
        assert not server.asked
    assert result.returncode == Exit.NO_DATA
    assert result.stderr == "ma: AAPL: polygon has no 1d bars in a session that has closed\n"


def test_the_failure_of_one_symbol_leaves_the_others(home, run):
    book = Book(History(), History("MSFT", 8))
    routes = book.polygon()
    bars = routes["/v2/aggs/ticker/"]
    routes["/v2/aggs/ticker/"] = lambda path, query: (
        ("403 Forbidden", {"status": "NOT_AUTHORIZED", "message": "Your plan doesn't include this data timeframe."})
        if "/MSFT/" in path
        else bars(path, query)
    )
    with vendor(routes) as (_, env):
        result = run(env, "fetch", "AAPL", "MSFT", "--source", "polygon", *YEAR)
    assert result.returncode == Exit.PARTIAL
    assert "MSFT: polygon does not give this to the key's plan or account" in result.stderr
    assert "CANARY" not in result.stderr + result.stdout
    assert ask(home, "SELECT DISTINCT symbol FROM bars") == [("AAPL",)]
    assert ask(home, "SELECT DISTINCT symbol FROM coverage") == [("AAPL",)]


def test_an_error_that_comes_with_200_is_an_error(home, run):
    said = {"status": "ERROR", "error": "Unknown API Key", "request_id": "x"}
    with vendor({"/": lambda path, query: ("200 OK", said)}) as (_, env):
        result = run(env, "fetch", "AAPL", "--source", "polygon", *YEAR)
    assert result.returncode == Exit.NOT_PERMITTED
    assert result.stderr == "ma: AAPL: polygon does not know the key (401: Unknown API Key); look at: ma config\n"
    assert ask(home, "SELECT count(*) FROM coverage") == [(0,)]


def test_rows_that_are_no_bars_are_set_aside_with_their_reason(home, run):
    bad = [
        {"o": "1.5"},
        {"o": None},
        {"c": 0},
        {"l": 600.0, "h": 500.0},
        {"v": -1},
        {"t": "yesterday"},
        {"h": True},
    ]
    book = Book(History())
    routes = book.polygon()

    def bars(path, query):
        status, body = book._polygon_bars(path, query)
        rows = body["results"]
        for n, change in enumerate(bad):
            rows[10 + n] |= change
        del rows[30]["v"]
        return status, body

    routes["/v2/aggs/ticker/"] = bars
    with vendor(routes) as (_, env):
        result = run(env, "fetch", "AAPL", "--source", "polygon", *YEAR)
    assert result.returncode == 0
    assert [one["quarantined"] for one in records(result)] == [8]
    reasons = [reason for (reason,) in ask(home, "SELECT reason FROM quarantine ORDER BY session NULLS LAST")]
    for part in (
        "o '1.5' is not a number",
        "o 'None'",
        "close 0.0 is not above 0",
        "high 500.0 is below low",
        "negative",
    ):
        assert any(part in reason for reason in reasons), (part, reasons)
    assert any("time 'yesterday'" in reason for reason in reasons)
    assert any("v is missing" in reason for reason in reasons)
    assert ask(home, "SELECT count(*) FROM bars") == [(244,)]


def test_a_split_that_cannot_be_read_fails_the_symbol(home, run):
    routes = Book(History()).polygon()
    broken = {"ticker": "AAPL", "execution_date": "2014-06-09", "split_from": 0, "split_to": 7}
    routes["/v3/reference/splits"] = lambda path, query: ("200 OK", {"status": "OK", "results": [broken]})
    with vendor(routes) as (_, env):
        result = run(env, "fetch", "AAPL", "--source", "polygon", *YEAR)
    assert result.returncode == Exit.BAD_DATA
    assert "polygon sent a split that cannot be read" in result.stderr
    assert ask(home, "SELECT count(*) FROM bars") == [(0,)]


@pytest.mark.parametrize("source", WIRES)
def test_a_session_that_has_not_closed_is_not_fetched_and_a_fresh_one_is_asked_again(home, run, source):
    noon, evening, night = (clock_at(f"2014-12-31T{at}:00Z") for at in ("17:00", "21:30", "23:59"))
    with served(source, History()) as (server, env):
        run(env, "fetch", "AAPL", "--source", source, "--from", "2014-12-01", at=noon)
        assert ask(home, "SELECT max(session) FROM bars") == [(date(2014, 12, 30),)]
        first = records(run(env, "fetch", "AAPL", "--source", source, at=evening))
        assert [(one["last"], one["added"]) for one in first] == [("2014-12-31", 1)]
        server.asked.clear()
        run(env, "fetch", "AAPL", "--source", source, at=night)  # half an hour after its close nothing was settled
        assert server.asked
        server.asked.clear()
        run(env, "fetch", "AAPL", "--source", source, at=AFTER)
        assert server.asked
        server.asked.clear()
        run(env, "fetch", "AAPL", "--source", source, at=AFTER)
        assert not server.asked


def test_a_correction_supersedes_and_is_counted(home, run):
    history = History()
    with served("polygon", history) as (_, env):
        run(env, "fetch", "AAPL", "--source", "polygon", *YEAR)
        history.close[100] = np.round(history.close[100] * 1.001, 2)
        history.volume[101] += 5
        result = run(env, "fetch", "AAPL", "--source", "polygon", *YEAR, "--refresh")
    assert [(one["added"], one["corrected"]) for one in records(result)] == [(0, 2)]
    assert ask(home, "SELECT count(*) FROM superseded_bars") == [(2,)]


def test_splits_and_payments_are_remembered_until_asked_anew(home, run):
    history = History()
    with served("polygon", history) as (server, env):
        run(env, "fetch", "AAPL", "--source", "polygon", *YEAR)
        ask_write(home, "DELETE FROM coverage")
        history.dividend[24] = 4.0
        server.asked.clear()
        run(env, "fetch", "AAPL", "--source", "polygon", *YEAR)
        assert not [path for path in server.paths() if "dividends" in path]
        run(env, "fetch", "AAPL", "--source", "polygon", *YEAR, "--refresh")
    assert read_panel(home, ["AAPL"]).dividend[24, 0] == 4.0
    assert ask(home, "SELECT value FROM superseded_actions") == [(3.05,)]


def test_few_days_of_many_symbols_cost_three_calls_a_day(home, run):
    names = ["AAPL", "MSFT", "IBM", "KO", "PEP", "GE", "MMM", "T"]
    histories = [History(name, n) for n, name in enumerate(names)]
    with served("polygon", *histories) as (server, env):
        run(env, "fetch", *names, "--source", "polygon", "--from", "2014-06-05", "--to", "2014-06-06")
        server.asked.clear()
        result = run(env, "fetch", *names, "NONE", "--source", "polygon", "--from", "2014-06-05", "--to", "2014-06-09")
        grouped = [path for path in server.paths() if "grouped" in path]
    assert result.returncode == Exit.PARTIAL
    assert len(grouped) == 3  # NONE lacks all three days
    assert len(server.asked) == 5
    panel = read_panel(home, names)
    for history in histories:
        n = panel.symbols.index(history.symbol)
        rows = [history.days.index(date(2014, 6, day)) for day in (5, 6, 9)]
        assert panel.raw.close[:, n].tolist() == history.close[rows].tolist()
    assert panel.split[2].tolist() == [7.0] * len(names)


def test_the_whole_market_of_a_day_is_three_calls(home, run):
    histories = [History("AAPL", 1), History("BRK.B", 2)]
    with served("polygon", *histories) as (server, env):
        result = run(env, "fetch", "--whole-market", "2014-06-09")
        assert len(server.asked) == 3
        closed = run(env, "fetch", "--whole-market", "2014-06-08")
    assert result.returncode == 0
    assert [(one["symbol"], one["added"], one["actions"]) for one in records(result)] == [
        ("AAPL", 1, 1),
        ("BRK.B", 1, 1),
    ]
    assert result.stderr == "ma: 1 tickers are no symbols here (preferred shares, units) and were left out\n"
    assert (closed.returncode, closed.stderr) == (
        Exit.NO_DATA,
        "ma: 2014-06-08 is no trading session, or has not begun\n",
    )
    assert read_panel(home, ["AAPL"]).split[0, 0] == 7.0


def test_bars_of_two_feeds_do_not_mix(home, run):
    with served("polygon", History()) as (_, env):
        run(env, "fetch", "AAPL", "--source", "polygon", "--from", "2014-01-02", "--to", "2014-03-31")
        ask_write(home, "UPDATE bars SET feed = 'sip'")
        result = run(env, "fetch", "AAPL", "--source", "polygon", *YEAR)
        assert result.returncode == Exit.REFUSED
        assert "are of its feed sip; sandbox would mix with them" in result.stderr
        anew = run(env, "fetch", "AAPL", "--source", "polygon", *YEAR, "--refresh")
    assert anew.returncode == 0
    assert ask(home, "SELECT DISTINCT feed FROM bars") == [("sandbox",)]


def ask_write(home, sql):
    from marketagent.store.database import opened

    with opened(home / "market.duckdb", write=True) as con:
        con.execute(sql)


# The chain ----------------------------------------------------------------------------------------------------------


def test_the_chain_is_asked_in_order_and_says_who_served(home, run):
    book = Book(History())
    with vendor(book.polygon() | book.alpaca()) as (_, env):
        result = run(env | {"POLYGON_API_KEY": ""}, "fetch", "AAPL", *YEAR)
    assert result.returncode == 0
    assert result.stderr.startswith("ma: no key for polygon: set POLYGON_API_KEY")
    assert result.stderr.endswith("; asking alpaca\n")
    assert {one["source"] for one in records(result)} == {"alpaca"}


def test_without_a_listed_reason_the_next_source_is_not_asked(home, run):
    book = Book(History())
    refused = {"/v2/aggs": lambda path, query: ("403 x", {"status": "NOT_AUTHORIZED", "message": "not entitled"})}
    with vendor(refused | book.polygon() | book.alpaca()) as (_, env):
        result = run(env, "fetch", "AAPL", *YEAR)
        assert result.returncode == Exit.NOT_PERMITTED
        write(home / "config.toml", "fallback_on = ['no-key', 'not-entitled']\n")
        second = run(env, "fetch", "AAPL", *YEAR)
    assert second.returncode == 0
    assert "polygon does not serve AAPL" in second.stderr
    assert second.stderr.endswith("; asking alpaca\n")
    assert {one["source"] for one in records(second)} == {"alpaca"}


def test_no_key_at_all_says_which_to_set(run):
    result = run({}, "fetch", "AAPL", at="")
    assert result.returncode == Exit.NOT_PERMITTED
    assert "no key for alpaca: set APCA_API_KEY_ID and APCA_API_SECRET_KEY" in result.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--source", "polygon", "--timeframe", "2h"], Exit.USAGE, "timeframe '2h' is none of"),
        (["AAPL", "--concurrency", "0"], Exit.USAGE, "--concurrency 0 must be a whole number from 1 to 1000"),
        (["AAPL", "--max-wait", "-1"], Exit.USAGE, "--max-wait -1 must be at least 0"),
        (["--source", "polygon"], Exit.USAGE, "no symbols; run: ma fetch AAPL MSFT, or ma fetch @sp100"),
        (["AAPL", "--compare", "polygon"], Exit.USAGE, "--compare 'polygon' is not two sources"),
        (["AAPL", "--compare", "polygon,alpace"], Exit.USAGE, "did you mean alpaca?"),
        (["--compare", "polygon,alpaca"], Exit.USAGE, "--compare polygon,alpaca needs symbols"),
        (
            ["--whole-market", "2014-06-09", "--timeframe", "1m"],
            Exit.USAGE,
            "it takes no symbols, --source or --timeframe",
        ),
        (["AAPL", "--whole-market", "2014-06-09"], Exit.USAGE, "it takes no symbols, --source or --timeframe"),
        (["AAPL", "--compare", "polygon,alpaca", "--source", "yahoo"], Exit.USAGE, "--source yahoo is one too many"),
        (["--whole-market", "tomorrow"], Exit.USAGE, "--whole-market 'tomorrow' is not a date"),
    ],
)
def test_a_wrong_command_line_is_one_line(run, words, code, said):
    with served("polygon", History()) as (server, env):
        result = run(env, "fetch", *words)
        assert not server.asked
    assert result.returncode == code
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_chain_with_a_source_that_takes_files_is_the_configuration_s_fault(home, run):
    write(home / "config.toml", "sources = ['csv']\n")
    result = run({}, "fetch", "AAPL", at="")
    assert (result.returncode, "source csv takes files" in result.stderr) == (Exit.BAD_CONFIG, True)


# Two vendors --------------------------------------------------------------------------------------------------------


def test_two_vendors_are_compared_bar_by_bar(home, run):
    one, other = History(), History()
    other.close[7] = np.round(other.close[7] * 1.01, 2)
    other.high[7] = other.close[7] * 1.1
    other.days = other.days[:-1]
    with vendor(Book(one).polygon() | Book(other).alpaca()) as (_, env):
        result = run(env, "fetch", "AAPL", "--compare", "polygon,alpaca", *YEAR)
    assert result.returncode == 0
    assert result.stderr == "ma: AAPL: 250 of 251 1d bars agree, 1 only from polygon\n"
    found = [(each["session"], each["field"]) for each in records(result)]
    assert found == [(str(one.days[7]), "high"), (str(one.days[7]), "close"), ("2014-12-31", "bar")]
    close = records(result)[1]
    assert close["difference"] == pytest.approx(one.close[7] / other.close[7] - 1)


def test_an_answer_that_is_no_json_stores_nothing(home, run):
    with vendor({"/": lambda path, query: spoken("200 OK", b"<html>maintenance</html>")}) as (_, env):
        result = run(env, "fetch", "AAPL", "--source", "polygon", *YEAR)
    assert result.returncode == Exit.BAD_DATA
    assert "polygon sent HTML, not JSON" in result.stderr
    assert ask(home, "SELECT (SELECT count(*) FROM bars) + (SELECT count(*) FROM coverage)") == [(0,)]
