"""From decisions to a ledger: the same account as the backtest's, each decision once, every cent explained."""

from dataclasses import replace

import numpy as np
import pytest
from accounts import (
    NOW,
    NOWHERE,
    explained,
    ledger,
    market_of,
    memory_journal,
    random_panel,
    scored,
    sealed,
    sessions,
    state,
    traded,
)
from streams import decision

from marketagent import catalog, costs, trading
from marketagent.backtest import backtest
from marketagent.decision import decide
from marketagent.errors import NoData, Refused
from marketagent.events import FILL
from marketagent.orders import FRACTIONAL, WHOLE
from marketagent.panel import empty
from marketagent.trading import Terms

COSTS = costs.parse("ibkr-fixed@2024-01-15", slippage_bps=7)
TERMS = Terms("paper", 100_000.0, COSTS)
STRATEGIES = {
    "buy_and_hold": {},
    "sma_cross": {"fast": "3", "slow": "8"},
    "momentum": {"lookback": "20", "skip": "2"},
    "mean_reversion": {"trend": "10", "low": "40"},
    "ensemble": {"fast": "3", "slow": "10", "lookback": "20", "window": "8", "rebalance": "daily"},
}


def simulated(panel, strategy, values, terms, start, fill="next-open"):
    chosen = catalog.load(strategy, NOWHERE).configured(values)
    steps = FRACTIONAL if terms.fractional else WHOLE
    return backtest(decide(chosen, panel), terms.costs, terms.cash, start=start, steps=steps, fill=fill).simulation

    return NOWHERE


def lived(panel, strategy, values, terms, start, book=None):
    book = book or memory_journal()
    for t in range(start, len(panel.sessions)):
        traded(book, panel, scored(panel, strategy, values, t), terms, f"run-{t}")
    return book


def shares_of(panel, simulation):
    return {symbol: n for symbol, n in zip(panel.symbols, simulation.shares.tolist(), strict=True) if n}


def fills_of(panel, simulation):
    events = simulation.events
    rows = []
    for k in np.flatnonzero(events.kind == FILL):
        decided, session = panel.sessions[events.decided[k]], panel.sessions[events.row[k]]
        symbol = panel.symbols[events.column[k]]
        rows.append((str(decided), symbol, float(events.quantity[k]), float(events.price[k]),
                     float(events.commission[k]), str(session)))  # fmt: skip
    return sorted(rows)


def fills_in(book):
    rows = book.rows("SELECT * FROM orders WHERE state = 'FILLED'")
    sign = {"buy": 1, "sell": -1}
    return sorted(
        (row["session"], row["symbol"], sign[row["side"]] * row["filled_quantity"], row["fill_price"],
         row["commission"], row["fill_session"])
        for row in rows
    )  # fmt: skip


# --- parity: the account is the backtest


@pytest.mark.parametrize("fractional", [False, True], ids=["whole", "fractional"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_account_ends_where_the_backtest_ends_with_every_fill_the_same(strategy, fractional):
    traded_at_all = 0
    for seed in (7,) if fractional else (0, 1):
        panel, terms = random_panel(seed, length=100), replace(TERMS, fractional=fractional)
        expected = simulated(panel, strategy, STRATEGIES[strategy], terms, start=4)
        book = lived(panel, strategy, STRATEGIES[strategy], terms, start=4)
        assert fills_in(book) == fills_of(panel, expected)
        cash, shares = state(book)
        assert shares == shares_of(panel, expected)
        assert cash == float(expected.cash[-1])
        traded_at_all += len(fills_in(book))
    assert traded_at_all > 5


MODELS = {
    "tiers": costs.parse(
        "mine", own={"mine": {"tiers": [[0, 0.01], [900, 0.005], [2000, 0.001]], "whole_cents": True}}
    ),
    "limits": costs.parse("ibkr-tiered", slippage="volume:0.0004,sqrt:0.5,spread:2"),
    "nights": costs.parse("alpaca", 3, borrow_rate=0.1, margin_rate=0.2),
}


@pytest.mark.parametrize("fractional", [False, True], ids=["whole", "fractional"])
@pytest.mark.parametrize("model", MODELS)
def test_the_account_is_the_backtest_at_costs_of_every_kind(model, fractional):
    panel = random_panel(4, length=100)
    terms = replace(TERMS, costs=MODELS[model], fractional=fractional, allow_short=True)
    values = {**STRATEGIES["sma_cross"], "long_only": "false", "gross": "1.6"}
    expected = simulated(panel, "sma_cross", values, terms, start=4)
    book = lived(panel, "sma_cross", values, terms, start=4)
    assert fills_in(book) == fills_of(panel, expected)
    assert state(book) == (float(expected.cash[-1]), shares_of(panel, expected))
    reasons = {row["reason"] for row in book.rows("SELECT reason FROM orders")}
    told = {row["kind"] for row in book.rows("SELECT kind FROM events")}
    if model == "limits":
        assert "cut to the volume there was" in reasons
    if model == "nights":
        assert "lent" in told
        assert expected.lent.sum() > 0


@pytest.mark.parametrize("strategy", ["sma_cross", "momentum"])
def test_filling_at_the_last_close_is_the_backtest_that_does(strategy):
    panel = random_panel(11)
    expected = simulated(panel, strategy, STRATEGIES[strategy], TERMS, start=4, fill="same-close")
    book = lived(panel, strategy, STRATEGIES[strategy], replace(TERMS, fill="last"), start=4)
    assert fills_in(book) == fills_of(panel, expected)
    assert state(book) == (float(expected.cash[-1]), shares_of(panel, expected))


def test_whole_numbers_of_shares_do_not_turn_a_fractional_account_into_a_whole_one():
    # 100,000 buys exactly 1000 shares at the close; at the open they cost more, and parts of a share must be cut.
    panel = flat_panel(3, open=101.0, close=100.0)
    terms = Terms("paper", 100_000.0, costs.parse("none"), fractional=True)
    expected = simulated(panel, "buy_and_hold", {}, terms, start=0)
    book = lived(panel, "buy_and_hold", {}, terms, start=0)
    assert state(book)[1] == shares_of(panel, expected) == {"S0": 990.099009}


def test_a_session_nobody_traded_on_is_lived_through_the_same():
    """The run of every evening and one run after weeks of silence lead to one account, if nothing was wanted between."""
    panel = random_panel(5)
    every, seldom = memory_journal(), memory_journal()
    first, last = scored(panel, "buy_and_hold", {}, 60), scored(panel, "sma_cross", STRATEGIES["sma_cross"], 100)
    for book in (every, seldom):
        traded(book, panel, first, TERMS, "first")
    for t in range(61, 100):
        idle = [replace(each, weight=None) for each in scored(panel, "buy_and_hold", {}, t)]
        traded(every, panel, idle, TERMS, f"idle-{t}")
    for book in (every, seldom):
        traded(book, panel, last, TERMS, "last")
    assert state(every) == state(seldom)
    assert fills_in(every) == fills_in(seldom)


def flat_panel(length, width=1, open=100.0, close=100.0):

    panel = empty(sessions(length), [f"S{n}" for n in range(width)], ["csv"] * width)
    panel.raw.open[:], panel.raw.close[:], panel.raw.volume[:] = open, close, 1e6
    panel.raw.high[:], panel.raw.low[:] = max(open, close), min(open, close)
    return panel


# --- a ledger that explains itself


@pytest.mark.parametrize("fractional", [False, True], ids=["whole", "fractional"])
def test_orders_and_events_explain_every_cent_and_every_share(fractional):
    panel, terms = random_panel(3), replace(TERMS, fractional=fractional)
    book = memory_journal()
    for t in range(4, len(panel.sessions)):
        strategy = "mean_reversion" if t % 3 else "buy_and_hold"
        traded(book, panel, scored(panel, strategy, STRATEGIES[strategy], t), terms, f"run-{t}")
    cash, shares = state(book)
    assert explained(book) == (
        pytest.approx(cash, abs=1e-6),
        {s: pytest.approx(n, abs=1e-6) for s, n in shares.items()},
    )
    kinds = {row["kind"] for row in book.rows("SELECT kind FROM events")}
    assert kinds >= {"opened", "intent", "accepted", "filled", "split", "dividend", "closed"}


# --- each decision once


def test_a_run_traded_to_its_end_is_refused():
    panel, book = random_panel(1), memory_journal()
    traded(book, panel, scored(panel, "buy_and_hold", {}, 50), TERMS, "run-1")
    before = ledger(book)
    with pytest.raises(Refused, match="run run-1 was traded already"):
        trading.refuse_done(book, "run-1", "paper")
    with pytest.raises(Refused, match="traded already"):
        trading.refuse_done(book, "run-1", "other")
    assert ledger(book) == before


def test_a_run_begun_on_one_account_is_not_gone_on_with_on_another():
    panel, book = flat_panel(2), memory_journal()
    traded(book, panel, scored(panel, "buy_and_hold", {}, 0), TERMS, "run-1")
    book.execute("UPDATE streams SET state = 'planned'")  # as if it had been killed before its end
    with pytest.raises(Refused, match="run run-1 was begun on account paper"):
        trading.refuse_done(book, "run-1", "other")
    trading.refuse_done(book, "run-1", "paper")


def test_decisions_scored_again_at_other_sizes_order_nothing():
    panel, book = flat_panel(1, width=2), memory_journal()
    records = scored(panel, "buy_and_hold", {}, 0)
    assert len(traded(book, panel, records, TERMS, "run-1")) == 2
    before = state(book), ledger(book)["orders"]
    for run, weight in (("run-2", 0.1), ("run-3", 0.0), ("run-4", 1.0)):
        assert traded(book, panel, [replace(each, weight=weight) for each in records], TERMS, run) == []
    assert (state(book), ledger(book)["orders"]) == before


def test_a_second_run_of_the_evening_trades_only_the_symbols_that_are_new():
    panel, book = flat_panel(1, width=3), memory_journal()
    records = [replace(each, weight=0.25) for each in scored(panel, "buy_and_hold", {}, 0)]
    traded(book, panel, records[:2], TERMS, "run-1")
    assert len(traded(book, panel, records, TERMS, "run-2")) == 1
    assert [row["symbol"] for row in book.rows("SELECT symbol FROM orders ORDER BY symbol")] == ["S0", "S1", "S2"]


def test_the_order_id_is_the_decisions_own_and_no_other_s():
    stream = trading.Stream("run-1", "momentum", np.datetime64("2026-11-20").astype(object), ())
    first = trading.order_id("paper", stream, "AAPL", 5)
    assert first == trading.order_id("paper", replace(stream, run="run-2"), "AAPL", 7.5)
    assert len(first) == 31
    others = [
        trading.order_id("other", stream, "AAPL", 5),
        trading.order_id("paper", stream, "MSFT", 5),
        trading.order_id("paper", stream, "AAPL", -5),
        trading.order_id("paper", replace(stream, strategy="sma_cross"), "AAPL", 5),
        trading.order_id("paper", replace(stream, session=np.datetime64("2026-11-23").astype(object)), "AAPL", 5),
    ]
    assert len({first, *others}) == 6


# --- what is refused, with nothing changed


@pytest.mark.parametrize(
    ("records", "line"),
    [
        ([decision("AAPL"), decision("MSFT", strategy="other")], "of ensemble on 2026-11-20 and of other"),
        ([decision("AAPL"), decision("MSFT", session="2026-11-19")], "and of ensemble on 2026-11-19"),
        ([decision("AAPL"), decision("AAPL")], "AAPL is decided on twice"),
        ([decision("AAPL", weight=-0.25)], "AAPL: a short position of -0.25 is asked for; see --allow-short"),
        ([decision("AAPL", timeframe="1h")], "AAPL: a decision on 1h bars"),
        ([decision("AAPL", session="2026-13-45")], "AAPL: session '2026-13-45' is not a date"),
        ([decision("../../x")], "'../../x' is not a ticker"),
        ([decision("A" * 300)], "is not a ticker"),
    ],
)
def test_a_stream_that_is_not_one_session_of_one_strategy_is_refused(records, line):
    with pytest.raises(Refused) as refused:
        trading.one_session("run-1", records, allow_short=False)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_short_is_taken_where_it_is_allowed():
    assert trading.one_session("run-1", [decision("AAPL", weight=-0.25)], allow_short=True) is not None


def test_decisions_older_than_the_account_are_refused_and_nothing_changes():
    panel, book = flat_panel(5, width=2), memory_journal()
    traded(book, panel, scored(panel, "buy_and_hold", {}, 3), TERMS, "run-1")
    before = ledger(book)
    with pytest.raises(Refused, match="decisions of 2011-01-05 are older than the account paper, which has lived"):
        traded(book, panel, scored(panel, "buy_and_hold", {}, 2), TERMS, "run-2")
    assert ledger(book) == before


def test_a_price_corrected_between_the_decision_and_the_trade_is_refused_and_nothing_changes():
    panel, book = flat_panel(4), memory_journal()
    traded(book, panel, scored(panel, "buy_and_hold", {}, 0), TERMS, "run-1")
    before = ledger(book)
    late = [replace(each, weight=0.5) for each in scored(panel, "buy_and_hold", {}, 3)]
    panel.raw.close[3] = 99.0
    with pytest.raises(Refused, match=r"S0 was decided on at a close of 100.0 \(csv\), the store has 99.0 \(csv\)"):
        traded(book, panel, late, TERMS, "run-2")
    assert ledger(book) == before


def test_what_is_held_and_not_known_of_stops_the_account():
    panel, book = flat_panel(6, width=2), memory_journal()
    traded(book, panel, scored(panel, "buy_and_hold", {}, 0), TERMS, "run-1")
    days = [day.astype(object) for day in panel.sessions]
    stream = trading.Stream("run-2", "other", days[5], ())
    known = {"S0": [(days[0], days[5])], "S1": [(days[0], days[2]), (days[4], days[5])]}
    market = replace(market_of(panel), covered=known)
    with pytest.raises(NoData, match=f"S1 is stored up to {days[2]}, the account needs {days[3]}; run: ma fetch S1"):
        trading.trade(book, stream, market, TERMS, NOW)
    assert book.rows("SELECT settled_through FROM accounts")[0][0] == str(days[2])


# --- several strategies in one account


def test_two_strategies_share_an_account_and_both_their_orders_are_filled():
    panel, book = flat_panel(3), memory_journal()
    records = scored(panel.head(1), "buy_and_hold", {}, 0)
    traded(book, panel.head(1), [replace(each, weight=0.5) for each in records], TERMS, "a")
    traded(book, panel.head(1), [replace(each, weight=0.2, band=0.0, strategy="b") for each in records], TERMS, "b")
    traded(
        book,
        panel,
        [replace(each, session="2011-01-04", weight=None, strategy="c", close=100.0) for each in records],
        TERMS,
        "c",
    )
    rows = book.rows("SELECT side, quantity, filled_quantity, state, commission FROM orders ORDER BY side")
    assert [tuple(row)[:4] for row in rows] == [("buy", 500.0, 500.0, "FILLED"), ("sell", 300.0, 300.0, "FILLED")]
    assert [row["commission"] for row in rows] == [pytest.approx(1.0 * 5 / 8), pytest.approx(1.0 * 3 / 8)]
    assert state(book)[1] == {"S0": 200.0}
    cash, _ = explained(book)
    assert cash == pytest.approx(state(book)[0])


def test_last_fills_this_streams_orders_and_leaves_another_s_waiting():
    panel, book = flat_panel(1, width=2), memory_journal()
    records = [replace(each, weight=0.25) for each in scored(panel, "buy_and_hold", {}, 0)]
    traded(book, panel, records[:1], TERMS, "patient")
    traded(book, panel, records[1:], replace(TERMS, fill="last"), "hasty")
    states = {row["symbol"]: row["state"] for row in book.rows("SELECT symbol, state FROM orders")}
    assert states == {"S0": "OPEN", "S1": "FILLED"}


def test_a_stream_of_no_records_is_no_stream():
    assert sealed([], "run-1").records == []
    assert trading.one_session("run-1", [], allow_short=False) is None


def test_what_another_order_is_still_to_buy_is_not_sold_at_this_close():
    panel, book = flat_panel(2), memory_journal()
    records = scored(panel.head(1), "buy_and_hold", {}, 0)
    traded(book, panel.head(1), [replace(each, weight=0.5) for each in records], TERMS, "patient")
    hasty = [replace(each, weight=0.0, strategy="b") for each in records]
    traded(book, panel.head(1), hasty, replace(TERMS, fill="last"), "hasty")
    assert state(book)[1] == {}  # no share is held yet, so none is sold: the account is long only
    rows = book.rows("SELECT strategy, state FROM orders")
    assert [tuple(row) for row in rows] == [("buy_and_hold", "OPEN")]
