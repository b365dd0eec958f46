"""The paper account with a real store: real prices for a year, a store that grows by the day, a store that lost something."""

import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from accounts import (
    NOW,
    NOWHERE,
    TABLES,
    assert_sound,
    csv_text,
    ledger,
    new_home,
    random_panel,
    scored,
    sealed,
    state,
    store,
)  # fmt: skip
from streams import environment

from marketagent import catalog, costs, intake, journal, paper, scoring, sources
from marketagent.backtest import backtest
from marketagent.errors import BadConfig, NoData
from marketagent.events import FILL
from marketagent.scoring import View
from marketagent.store.database import opened
from marketagent.store.market import MARKET, read_panel
from marketagent.store.staged import Options
from marketagent.trading import Terms

TERMS = Terms("paper", 100_000.0, costs.parse("ibkr-fixed", slippage_bps=5))


def days(home, first, count):
    with opened(home / MARKET) as con:
        query = "SELECT session FROM sessions WHERE session >= ? ORDER BY 1 LIMIT ?"
        found = con.execute(query, [date.fromisoformat(first), count]).fetchnumpy()
    return found["session"].astype("datetime64[D]")


def evening(home, strategy, values, symbols, session, terms=TERMS):
    """``ma score --as-of SESSION | ma trade`` without the processes: the same functions on the same files."""
    loaded = catalog.load(strategy, NOWHERE)
    chosen = loaded.configured(values)
    panel = read_panel(home, symbols, last=session, timeout_s=10)
    view = View(session)
    unfit = scoring.unfit(home, panel, chosen.warmup, view, timeout_s=10)
    decided = scoring.decided_on(home, loaded, chosen, panel, view, timeout_s=10)
    records = list(scoring.records(decided, loaded, chosen.params(), unfit))
    return paper.trade(home, sealed(records, f"run-{session}"), terms, NOW, timeout_s=10)


def read_state(home):
    with journal.opened(home) as book:
        assert_sound(book)
        fills = book.rows(
            "SELECT session, symbol, side, filled_quantity, fill_price, commission, fill_session FROM orders"
        )
        return state(book), sorted(tuple(row) for row in fills)


SYMBOLS, VALUES = ["AAPL", "GOOG", "IBM", "MSFT"], {"fast": "5", "slow": "20"}


@pytest.fixture
def year(tmp_path):
    """A home with real prices, and what a backtest over more than a year of them holds, owns and did."""
    home = new_home(tmp_path)
    span = Options(first="2004-06-01", last="2005-12-30")  # AAPL split in two on 2005-02-28; IBM and MSFT paid
    intake.take_all(home, sources.load("sample"), SYMBOLS, span, NOW, 60)
    loaded = catalog.load("sma_cross", NOWHERE)
    decisions = scoring.decided(home, loaded, loaded.configured(VALUES), SYMBOLS, View(), timeout_s=10)
    start = scoring.start_row(decisions.panel, date(2004, 12, 1))
    expected = backtest(decisions, TERMS.costs, TERMS.cash, start=start).simulation
    assert len(expected.sessions) > 250
    return home, decisions.panel, start, expected


def assert_the_same(home, panel, expected):
    (cash, shares), fills = read_state(home)
    assert cash == float(expected.cash[-1])
    assert shares == {symbol: n for symbol, n in zip(panel.symbols, expected.shares.tolist(), strict=True) if n}
    filled = [fill for fill in fills if fill[3]]
    assert len(filled) == int((expected.events.kind == FILL).sum()) > 20


def test_a_year_of_evenings_on_real_prices_ends_where_the_backtest_ends(year, monkeypatch):
    home, panel, start, expected = year
    market = paper.read_market(home, SYMBOLS, timeout_s=10)
    # Read once, and no copy for study: they are the same every evening, and a quarter of a second each.
    monkeypatch.setattr(paper, "read_market", lambda home, symbols, **how: market)
    monkeypatch.setattr(paper.runs, "copy_orders", lambda home, orders, *, timeout_s: None)
    for t in range(start, len(panel.sessions)):
        stream = sealed(scored(panel, "sma_cross", VALUES, t), f"run-{t}")
        paper.trade(home, stream, TERMS, NOW, timeout_s=10)
    assert_the_same(home, panel, expected)


@pytest.mark.soak
def test_a_year_of_evenings_each_with_its_own_reading_of_the_store(year):
    home, panel, start, expected = year
    for session in panel.sessions[start:]:
        evening(home, "sma_cross", VALUES, SYMBOLS, session.astype(date))
    assert_the_same(home, panel, expected)


def test_ten_evenings_of_the_real_commands_end_where_the_backtest_ends(year):
    home, panel, start, _ = year
    chosen = panel.sessions[start : start + 10]
    loaded = catalog.load("sma_cross", NOWHERE)
    decisions = scoring.decided(
        home, loaded, loaded.configured(VALUES), SYMBOLS, View(last=chosen[-1].astype(date)), timeout_s=10
    )
    expected = backtest(decisions, costs.parse("ibkr-fixed"), 100_000.0, start=start).simulation
    script = "set -e -o pipefail\n" + "".join(
        f"$MA score {' '.join(SYMBOLS)} --strategy sma_cross --set fast=5 --set slow=20 --as-of {day} | $MA trade\n"
        for day in chosen
    )
    env = environment(home, MA=f"{sys.executable} -m marketagent")
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (cash, shares), _ = read_state(home)
    assert cash == float(expected.cash[-1])
    assert shares == {symbol: n for symbol, n in zip(panel.symbols, expected.shares.tolist(), strict=True) if n}
    assert shares


def test_a_store_that_grows_by_a_session_a_day_ends_where_a_full_one_ends(tmp_path):
    (tmp_path / "all").mkdir()
    full, values = new_home(tmp_path / "all"), {"fast": "2", "slow": "5"}
    panel = random_panel(4, length=40, days=days(full, "2011-06-20", 40))  # over the Fourth of July
    for name in ("open", "high", "low", "close", "volume"):  # a silence of weeks is an end to whoever lives through it
        getattr(panel.raw, name)[:, 1] = getattr(panel.raw, name)[:, 5]
    panel.split[:, 1], panel.dividend[:, 1] = panel.split[:, 5], panel.dividend[:, 5]
    panel.split[22, 5] = panel.split[22, 1] = 3.0  # between a decision and its fill
    (tmp_path / "daily").mkdir()
    growing = new_home(tmp_path / "daily")
    store(full, csv_text(panel))
    for t in range(18, 31):
        store(growing, csv_text(panel, range(t + 1)))  # the file as it is that evening
        for home in (full, growing):
            evening(home, "sma_cross", values, list(panel.symbols), panel.sessions[t].astype(date))
    # The full store had the last fills at once, the growing one waits for the next open.
    store(growing, csv_text(panel, range(32)))
    idle = [replace(each, weight=None) for each in scored(panel, "buy_and_hold", {}, 31)]
    for home in (full, growing):
        paper.trade(home, sealed(idle, "idle"), TERMS, NOW, timeout_s=10)
    assert read_state(growing) == read_state(full)
    assert len(read_state(full)[1]) >= 5


@pytest.fixture
def holding(tmp_path):
    """A home whose account holds S0, S4 and S5; with what it is made of."""
    home = new_home(tmp_path)
    panel = random_panel(2, length=40, days=days(home, "2011-01-03", 40))
    store(home, csv_text(panel))
    evening(home, "buy_and_hold", {}, ["S0", "S4", "S5"], panel.sessions[20].astype(date))
    return home, panel


def contents(home):
    with journal.opened(home) as book:
        return {table: [tuple(row) for row in book.rows(f"SELECT * FROM {table}")] for table in TABLES}


@pytest.mark.parametrize("fill", ["next-open", "last"])
def test_a_store_that_lost_what_the_account_holds_stops_it(holding, tmp_path, fill):
    home, panel = holding
    (tmp_path / "new").mkdir()
    other = new_home(tmp_path / "new")
    shutil.copy(home / journal.FILE, other / journal.FILE)
    kept = replace(panel, symbols=panel.symbols).only(["S0"])
    store(other, csv_text(kept))
    before = contents(other)
    with pytest.raises(NoData, match="no bars are stored of S4, which the account holds; run: ma fetch S4"):
        evening(other, "sma_cross", {"fast": "2", "slow": "5"}, ["S0"], panel.sessions[21].astype(date),
                replace(TERMS, fill=fill))  # fmt: skip
    assert contents(other) == before


def test_a_copy_for_study_that_fails_does_not_undo_what_was_ordered(holding, capsys):
    home, panel = holding
    (home / "runs.duckdb").write_bytes(b"not a database")
    orders = evening(home, "sma_cross", {"fast": "2", "slow": "5"}, ["S0", "S4"], panel.sessions[25].astype(date))
    with journal.opened(home) as book:
        assert {row["cid"] for row in ledger_orders(book)} >= {order.cid for order in orders}
    assert "the orders are in the journal" in capsys.readouterr().err


def ledger_orders(book):
    assert ledger(book)["streams"][-1][2] == "done"
    return book.rows("SELECT cid FROM orders")


def test_an_old_price_corrected_changes_the_value_and_not_what_was_paid(holding):
    home, panel = holding
    before = read_state(home)
    corrected = replace(panel, symbols=panel.symbols)
    for array in (corrected.raw.open, corrected.raw.high, corrected.raw.low, corrected.raw.close):
        array[:, 0] = np.round(array[:, 0] * 1.5, 2)
    store(home, csv_text(corrected), "corrected.csv")
    assert read_state(home) == before
    idle = [replace(each, weight=None) for each in scored(corrected, "buy_and_hold", {}, 24)]
    paper.trade(home, sealed(idle, "idle"), TERMS, NOW, timeout_s=10)
    with journal.opened(home) as book:
        price = book.rows("SELECT price FROM positions WHERE symbol = 'S0'")[0]["price"]
    assert price == corrected.mark[24, 0]


def test_an_account_has_a_plain_name(holding):
    home, panel = holding
    for name in ("", "../x", "a b", "a" * 41, "päper", "a/b", "a\n"):
        with pytest.raises(BadConfig, match="must be ASCII letters"):
            evening(home, "buy_and_hold", {}, ["S0"], panel.sessions[25].astype(date), replace(TERMS, account=name))
    evening(home, "buy_and_hold", {}, ["S0"], panel.sessions[25].astype(date), replace(TERMS, account="My_2nd-one"))
    assert paper.positions(home, "My_2nd-one", timeout_s=10)[-1].symbol == "$USD"
