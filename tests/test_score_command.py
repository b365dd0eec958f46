"""``ma score`` and ``ma backtest``: one decision, made from what was known, and refused where a bar is missing."""

import json
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from prices import HEAD, NOW, ask, fetch, here, ma, new_home, sessions, write

from marketagent import catalog, scoring
from marketagent.errors import Exit, NoData
from marketagent.scoring import View
from marketagent.store.database import opened
from marketagent.store.market import read_panel
from marketagent.store.opinions import read_opinions

DAYS = sessions("2013-01-02", "2014-12-31")
SYMBOLS = ("AAA", "BBB", "CCC", "DDD")


def history(symbols=SYMBOLS, days=DAYS, seed=3):
    rng = np.random.default_rng(seed)
    lines = [HEAD]
    for symbol in symbols:
        close = np.round(50 * np.exp(np.cumsum(rng.normal(0.0003, 0.02, len(days)))), 2)
        lines += [f"{symbol},{day},{c},{c + 1},{c - 1},{c},1000\n" for day, c in zip(days, close.tolist(), strict=True)]
    return "".join(lines)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Four symbols over two years; CCC began late, DDD ended early."""
    folder = tmp_path_factory.mktemp("filled")
    home = new_home(folder)
    fetch(home, write(folder / "1.csv", history(SYMBOLS[:2])))
    fetch(home, write(folder / "2.csv", history(SYMBOLS[2:3], DAYS[420:], 5)))
    fetch(home, write(folder / "3.csv", history(SYMBOLS[3:], DAYS[:460], 6)))
    return home


def records(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("name", ["momentum", "ensemble", "sma_cross", "mean_reversion", "buy_and_hold"])
@pytest.mark.parametrize("row", [300, 459, len(DAYS) - 1])
def test_a_score_is_the_row_of_the_backtest_bit_for_bit(filled, name, row):
    loaded = catalog.load(name, filled)
    strategy = loaded.configured({})
    whole = scoring.decided(filled, loaded, strategy, None, View(), timeout_s=60)
    view = View(last=DAYS[row])
    panel = read_panel(filled, None, last=view.last)
    scoring.require_session(filled, panel, view.last, timeout_s=60)
    unfit = scoring.unfit(filled, panel, strategy.warmup, view, timeout_s=60)
    scored = scoring.decided_on(filled, loaded, strategy, panel, view, timeout_s=60)
    assert scored.panel.sessions[-1] == whole.panel.sessions[row]
    found = {each.symbol: each for each in scoring.records(scored, loaded, {}, unfit)}
    assert set(found) | set(unfit) == set(panel.symbols)
    assert found
    for symbol, record in found.items():
        n = whole.panel.symbols.index(symbol)
        for value, array in (("score", whole.score), ("weight", whole.targets), ("confidence", whole.confidence)):
            kept = getattr(record, value)
            assert (np.nan if kept is None else kept) == array[row, n] or (kept is None and np.isnan(array[row, n]))
        assert record.action == ("sell", "hold", "buy")[int(whole.action[row, n]) + 1]


def test_those_that_cannot_be_decided_on_are_named_with_the_reason(filled):
    result = ma(filled, "score", *SYMBOLS, "EEE", "--strategy", "momentum")
    assert result.returncode == Exit.PARTIAL
    *_, end = records(result)
    assert [record["symbol"] for record in records(result)[1:-1]] == ["AAA", "BBB", "CCC"]
    young = records(result)[3]
    assert (young["action"], young["weight"]) == ("hold", None)
    assert young["reasoning"].startswith(f"hold ({len(DAYS) - 420} bars are stored, the strategy needs 253)")
    assert {each["symbol"]: each["error"] for each in end["failed"]} == {
        "EEE": "nothing is stored; run: ma fetch EEE",
        "DDD": f"no bar on {DAYS[-1]}; its last is {DAYS[459]}; run: ma fetch DDD",
    }


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["score", "AAA", "--as-of", "2014-01-04"], 66,
         "2014-01-04 is not a trading session; the last one before it is 2014-01-03"),
        (["score", "AAA", "--as-of", "2015-01-05"], 66,
         "no bars are stored for 2015-01-05; the last session stored before it is 2014-12-31"),
        (["score", "AAA", "--as-of", "2012-01-05"], 66, "no bars are stored of AAA up to 2012-01-05; run: ma fetch AAA"),
        (["score", "ZZZ"], 66, "no bars are stored of ZZZ; run: ma fetch ZZZ"),
        (["score"], 66, "no symbols; run: ma score AAPL MSFT, or pipe them in from ma fetch"),
        (["score", "AAA", "--strategy", "momentun"], 2, "unknown strategy 'momentun'; did you mean momentum? (ma backtest --list)"),
        (["score", "AAA", "--set", "lookbak=5", "--strategy", "momentum"], 2,
         "Momentum has no parameter 'lookbak'; did you mean lookback?"),
        (["score", "AAA", "--source", "sample"], 66, "no bars are stored of AAA from source sample; run: ma fetch AAA"),
        (["score", "AAA", "--source", "sampel"], 2,
         "--source 'sampel' is none of alpaca, csv, polygon, sample, yahoo; did you mean sample?"),
        (["score", "AAA", "--known-at", "2014-01-02"], 2, "--known-at '2014-01-02' has no time zone; add Z for UTC"),
        (["score", "AAA", "--known-at", "2014-01-02T00:00:00Z"], 66,
         "no bars are stored of AAA that were known at 2014-01-02T00:00:00+00:00; run: ma fetch AAA"),
        (["backtest", "--from", "2014-01-02", "--to", "2013-01-02"], 2, "--from 2014-01-02 is after --to 2013-01-02"),
        (["backtest", "--from", "2015-01-02"], 66, "no bars are stored from 2015-01-02 on; the last session looked at is 2014-12-31"),
        (["backtest", "--to", "2012-01-03"], 66, "nothing is stored up to 2012-01-03; run: ma fetch SYMBOL"),
        (["backtest", "--benchmark", "ZZZ"], 66, "no bars are stored of ZZZ; run: ma fetch ZZZ"),
        (["backtest", "--cash", "-5"], 2, "--cash -5 must be above 0"),
        (["backtest", "--cash", "inf"], 2, "--cash inf must be a finite number"),
        (["backtest", "--cash", "nan"], 2, "--cash nan must be a finite number"),
        (["backtest", "--cash", "1e300"], 2, "--cash 1e+300 must be at most 1e+13 USD"),
        (["backtest", "--slippage", "fixed"], 2, "slippage 'fixed' lacks its number, e.g. fixed:5"),
        (["backtest", "--bootstrap", "1"], 2, "--bootstrap 1 must be at least 100, or 0 for no intervals"),
        (["backtest", "--report", ""], 2, "--report '' has no name; name a file, e.g. report.html, or - for stdout"),
        (["backtest", "--report", "/nope/x.html"], 74, "--report /nope/x.html: there is no folder /nope"),
        (["backtest", "--equity", "/nope/e.csv"], 74, "/nope/e.csv: there is no folder /nope"),
        (["backtest", "--equity", "/nope/e.txt"], 2, "/nope/e.txt must end in .parquet or .csv"),
        (["backtest", "--fill", "next-oppen"], 2,
         "--fill 'next-oppen' is none of next-open, next-close, same-close; did you mean next-open?"),
        (["backtest", "--equity", "x.csv", "--fills", "./x.csv"], 2, "--equity and --fills both name x.csv"),
        (["backtest", "--equity", "x.txt"], 2, "x.txt must end in .parquet or .csv"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_with_its_code(filled, monkeypatch, capfd, words, code, line):
    result = here(filled, monkeypatch, capfd, *words)
    assert (result.returncode, result.stderr, result.stdout) == (code, f"ma: {line}\n", "")


def test_a_backtest_of_what_an_empty_pipe_named_is_none(filled):
    assert ma(filled, "backtest", "--strategy", "sma_cross", stdin="").returncode == Exit.NO_DATA
    result = ma(filled, "backtest", "--strategy", "sma_cross", "--from", "2014-01-04")
    assert result.returncode == 0
    assert (records(result)[1]["symbols"], records(result)[1]["first"]) == (4, "2014-01-06")


# --- refused rows


def bars(symbol, days, bad=None):
    lines = [f"{symbol},{day},10,11,9,{'x' if day == bad else 10},100\n" for day in days]
    return HEAD + "".join(lines)


def test_a_refused_row_within_the_warm_up_stops_the_score_until_a_good_one_comes(tmp_path, monkeypatch, capfd):
    def ma(*words):
        return here(*words[:1], monkeypatch, capfd, *words[1:])

    home, days = new_home(tmp_path), DAYS[:60]
    bad = days[20]
    fetch(home, write(tmp_path / "1.csv", bars("AAA", days, bad)))
    words = ["score", "AAA", "--strategy", "sma_cross", "--set", "fast=5", "--set"]
    # 39 good bars came after it: with 40 the strategy looks past the hole.
    assert ma(home, *words, "slow=39").returncode == 0
    refused = ma(home, *words, "slow=40")
    assert (refused.returncode, len(records(refused))) == (Exit.PARTIAL, 2)
    assert records(refused)[-1]["failed"] == [
        {"symbol": "AAA", "error": f"its row of {bad} was refused, within the 40 bars the strategy needs: close x is not a number"
         " (ma sql 'from quarantine')"}
    ]  # fmt: skip
    fetch(home, write(tmp_path / "2.csv", bars("AAA", [bad])), now=NOW + timedelta(hours=1))
    assert ma(home, *words, "slow=40").returncode == 0
    then = ma(home, *words, "slow=40", "--known-at", NOW.isoformat())
    assert (then.returncode, then.stdout.count("decision")) == (Exit.PARTIAL, 0)


def test_only_rows_that_leave_a_hole_stop_a_score(tmp_path):
    home, days = new_home(tmp_path), DAYS[:60]
    text = bars("AAA", days) + "AAA,2013-03-16,10,11,9,10,100\n" + f"AAA,{days[30]} 12:00,1,2,3,4,5\n"
    fetch(home, write(tmp_path / "1.csv", text), timeframe="1d")
    assert ask(home, "SELECT count(*) FROM quarantine") == [(2,)]
    assert ma(home, "score", "AAA", "--strategy", "sma_cross").returncode == 0


def test_bars_within_a_day_do_not_disturb_those_of_days(tmp_path):
    home = new_home(tmp_path)
    fetch(home, write(tmp_path / "1.csv", bars("AAA", DAYS[:60])))
    before = read_panel(home, None)
    times = [f"AAA,{DAYS[70]} {9 + n // 60:02}:{n % 60:02},1,2,1,1,5\n" for n in range(30, 90)]
    taken = fetch(home, write(tmp_path / "2.csv", HEAD + "".join(times)), now=NOW + timedelta(hours=1))
    assert taken.fetched["AAA"].timeframe == "1m"
    after = read_panel(home, None)
    assert after.sessions.tolist() == before.sessions.tolist()
    assert after.raw.close.tobytes() == before.raw.close.tobytes()
    assert len(read_panel(home, None, known_at=NOW + timedelta(hours=2)).sessions) == 60


def test_a_score_of_the_past_is_printed_as_it_was(tmp_path, monkeypatch, capfd):
    def ma(*words):
        return here(*words[:1], monkeypatch, capfd, *words[1:])

    home = new_home(tmp_path)
    fetch(home, write(tmp_path / "1.csv", history()))
    words = ["AAA", "BBB", "CCC", "--strategy", "ensemble"]
    before = records(ma(home, "score", *words))[1:-1]
    tested = records(ma(home, "backtest", *words))[1]
    fetch(home, write(tmp_path / "2.csv", history(seed=4)), now=NOW + timedelta(hours=1))
    assert records(ma(home, "score", *words))[1:-1] != before
    assert records(ma(home, "score", *words, "--known-at", NOW.isoformat()))[1:-1] == before
    again = records(ma(home, "backtest", *words, "--known-at", NOW.isoformat()))[1]
    assert {**again, "run": ""} == {**tested, "run": ""}


# --- opinions


def at(*parts):
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)


def test_an_opinion_counts_from_the_first_close_after_it_was_known(filled):
    panel = read_panel(filled, ["AAA"])
    half_day = date(2014, 7, 3)  # closed at 13:00 in New York, 17:00 UTC
    t = panel.sessions.tolist().index(half_day)
    rows = [
        ("before", half_day, 0.5, at(2014, 7, 3, 17, 0), False),
        ("after", half_day, 0.5, at(2014, 7, 3, 17, 0, 0, 1), False),
        ("evening", half_day, 0.5, at(2014, 7, 3, 20, 30), False),
        ("late", date(2014, 7, 1), 0.5, at(2014, 7, 8, 15, 0), False),
        ("tainted", half_day, 0.5, at(2014, 7, 3, 15, 0), True),
        ("taken back", half_day, 0.5, at(2014, 7, 3, 15, 0), False),
        ("taken back", date(2014, 7, 8), None, at(2014, 7, 8, 15, 0), False),
        ("newer", date(2014, 7, 7), -0.5, at(2014, 7, 7, 15, 0), False),
        ("newer", half_day, 0.5, at(2014, 7, 9, 15, 0), False),
    ]
    with opened(filled / "opinions.duckdb", write=True) as con:
        con.execute("DELETE FROM signals")
        for name, session, value, known_at, contaminated in rows:
            con.execute(
                "INSERT INTO signals VALUES (?, 'AAA', ?, ?, 1, ?, 'me', ?)",
                [name, session, value, known_at, contaminated],
            )
    found = read_opinions(filled, panel, timeout_s=60)
    assert not np.isfinite(found.pop("tainted").value).any()  # its name is there, and it abstains
    first = {name: int(np.flatnonzero(np.isfinite(signal.value[:, 0]))[0]) - t for name, signal in found.items()}
    # 4 July was a holiday and 5 and 6 a weekend: the next sessions are the 7th, 8th and 9th.
    assert first == {"before": 0, "after": 1, "evening": 1, "late": 2, "taken back": 0, "newer": 1}
    assert np.isfinite(found["taken back"].value[:, 0]).sum() == 2
    assert set(found["newer"].value[t + 1 :, 0]) == {-0.5}
    early = read_opinions(filled, panel, known_at=datetime(2014, 7, 3, 16, 0, tzinfo=UTC), timeout_s=60)
    assert set(early) == {"taken back", "tainted"}


def test_one_source_a_symbol_is_read_and_never_two(filled):
    with pytest.raises(NoData, match="from source sample"):
        read_panel(filled, None, source="sample")
    assert read_panel(filled, None, source="csv").sources == ("csv",) * 4
