"""The local broker, a session at a time, on prices small enough to check by hand."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from accounts import sessions

from marketagent import costs
from marketagent.brokers.local import EXPIRED, FILLED, Account, Ticket, advance, fill_at_close, steps_of
from marketagent.orders import FRACTIONAL, WHOLE
from marketagent.panel import empty

FREE = costs.parse("none")
DAY = date(2011, 1, 3)


def panel(length=2, opens=10.0, closes=10.0, symbols=("A", "B")):
    made = empty(sessions(length), symbols, ["csv"] * len(symbols))
    raw = made.raw
    raw.open[:], raw.close[:], raw.high[:], raw.low[:], raw.volume[:] = opens, closes, 20.0, 5.0, 1e6
    return made


def order(quantity, symbol="A", cid="1"):
    return Ticket(cid, symbol, DAY, quantity, "OPEN")


def account(*waiting, cash=1_000.0, **shares):
    return Account("paper", cash, DAY, shares, waiting)


def test_an_order_fills_at_the_next_open_with_its_costs():
    after = advance(account(order(50.0)), panel(opens=12.0), costs.parse("bps:100", slippage_bps=100))
    (ticket,) = after.settled
    assert (ticket.state, ticket.filled, ticket.price, ticket.fill_session) == (FILLED, 50.0, 12.12, date(2011, 1, 4))
    assert ticket.commission == pytest.approx(6.06)
    assert after.cash == pytest.approx(1_000 - 606 - 6.06)
    assert (after.shares, after.waiting, after.session) == ({"A": 50.0}, (), date(2011, 1, 4))


def test_an_order_lives_one_day_and_says_why_it_expired():
    prices = panel()
    prices.raw.open[1, 0] = prices.raw.close[1, 0] = np.nan
    after = advance(account(order(50.0), order(200.0, "B", "2")), prices, FREE)
    assert [(t.state, t.reason) for t in after.settled] == [
        (EXPIRED, "no bar on 2011-01-04"),
        (FILLED, "cut to the cash there was"),
    ]
    (broke,) = advance(account(order(5.0), cash=3.0), panel(), FREE).settled
    assert (broke.state, broke.reason) == (EXPIRED, "no cash")


def test_a_split_multiplies_holding_and_order_alike_and_pays_the_fraction():
    prices = panel(opens=4.0, closes=4.0)
    prices.split[1, 0] = 1.5
    after = advance(account(order(-5.0), cash=0.0, A=5.0), prices, FREE)
    assert after.shares == {}
    assert after.cash == 7 * 4.0 + 0.5 * 4.0
    assert after.settled[0].reason == ""
    assert [kind for kind, _ in after.told] == ["split", "fraction"]


def test_a_consolidation_printed_with_six_digits_still_sells_all():
    prices = panel(opens=30.0, closes=30.0)
    prices.split[1, 0] = 0.333333
    after = advance(account(order(-3.0), cash=0.0, A=3.0), prices, FREE)
    assert (after.shares, after.settled[0].filled) == ({}, 1.0)


def test_what_a_split_leaves_nothing_of_expires_with_that_reason():
    prices = panel()
    prices.split[1, 0] = 0.1
    (ticket,) = advance(account(order(5.0)), prices, FREE).settled
    assert (ticket.state, ticket.reason) == (EXPIRED, "the split left less than a share of it")


def test_dividends_are_paid_to_the_long_and_by_the_short():
    prices = panel()
    prices.dividend[1] = 0.5
    assert advance(account(A=10.0, B=-4.0), prices, FREE).cash == 1_000 + 5 - 2


def test_orders_of_two_strategies_are_crossed_and_share_one_commission():
    bill = costs.parse("bps:100")
    after = advance(account(order(10.0), order(-4.0, cid="2"), order(3.0, cid="3")), panel(), bill)
    assert [(t.filled, t.state) for t in after.settled] == [(10.0, FILLED), (4.0, FILLED), (3.0, FILLED)]
    assert sum(t.commission for t in after.settled) == pytest.approx(0.9)
    assert all(t.commission > 0 for t in after.settled)
    assert after.shares == {"A": 9.0}


def test_orders_that_cancel_out_are_filled_at_the_price_for_nothing():
    after = advance(account(order(10.0), order(-10.0, cid="2")), panel(), costs.parse("ibkr-fixed", slippage_bps=50))
    assert [(t.state, t.filled, t.price, t.commission) for t in after.settled] == [(FILLED, 10.0, 10.0, 0.0)] * 2
    assert (after.cash, after.shares) == (1_000.0, {})


def test_whole_shares_stay_whole_when_several_orders_are_cut_to_the_cash():
    after = advance(account(order(7.0), order(7.0, cid="2"), cash=90.0), panel(), FREE)
    assert [t.filled for t in after.settled] == [7.0, 2.0]
    assert after.cash == 0.0


def test_a_symbol_that_is_silent_for_five_sessions_is_paid_out_at_its_last_price():
    prices = panel(length=8)
    prices.raw.close[2:, 0] = np.nan
    prices.raw.close[1, 0] = 7.0
    held = account(cash=0.0, A=3.0)
    for _ in range(5):
        held = advance(replace(held, told=()), prices, FREE)
        assert held.shares == {"A": 3.0}
    held = advance(held, prices, FREE)
    assert (held.cash, held.shares) == (21.0, {})
    assert held.told[-1] == ("closed", {"symbol": "A", "session": "2011-01-11", "quantity": 3.0, "price": 7.0})


def test_last_fills_what_it_is_told_to_at_the_close_of_its_own_session():
    prices = panel(closes=11.0)
    prices.split[0] = 2.0  # of this very session: it came before the open, and touches nobody now
    after = fill_at_close(account(order(10.0), order(5.0, "B", "2")), prices, FREE, frozenset({"1"}))
    assert (after.shares, after.cash, after.session) == ({"A": 10.0}, 890.0, DAY)
    assert [ticket.cid for ticket in after.waiting] == ["2"]
    assert after.settled[0].fill_session == DAY


def test_parts_of_a_share_are_traded_on_where_there_are_some():
    assert steps_of(account(A=3.0)) == WHOLE
    assert steps_of(account(A=3.0), fractional=True) == FRACTIONAL
    assert steps_of(account(A=3.5)) == steps_of(account(order(0.25))) == FRACTIONAL


def test_an_account_changes_nothing_of_what_it_was_given():
    before = account(order(5.0), A=1.0)
    advance(before, panel(), FREE)
    assert before == account(order(5.0), A=1.0)
