"""The sandbox's exchange: which bar fills which order, at what price, and that nothing is ever made or lost."""

from contextlib import suppress
from datetime import timedelta
from decimal import Decimal

import pytest
from exchanges import EXACT, MONDAY, HandMarket, account, at, ticket
from hypothesis import example, given, settings
from hypothesis import strategies as st

from marketagent.sandbox.exchange import Account, Rules
from marketagent.sandbox.market import Split
from marketagent.sandbox.order import Order
from marketagent.sandbox.refusal import Refusal

TUESDAY, WEDNESDAY = MONDAY + timedelta(days=1), MONDAY + timedelta(days=2)
END = MONDAY + timedelta(days=4)
FLAT = (100.0, 100.0, 100.0, 100.0, 10_000)


def market(*rows: tuple[float, float, float, float, int] | None, **more: object) -> HandMarket:
    """AAPL's Monday: these minutes, then 100 all day."""
    return HandMarket({("AAPL", MONDAY): [*rows, *[FLAT] * (390 - len(rows))]}, **more)  # type: ignore[arg-type]


def fills(book: Account, order: Order) -> list[tuple[str, str, str]]:
    return [(f"{f.at:%H:%M:%S}", str(f.qty), f"{f.price:.2f}") for f in book.book.fills if f.order_id == order.id]


def statuses(book: Account, order: Order) -> list[str]:
    return [event.name for event in book.events if event.order.id == order.id]


# Which bar, which price


def test_a_market_order_trades_at_the_open_of_the_next_minute() -> None:
    book = account(market(FLAT, (101, 103, 99, 102, 500), (105, 106, 104, 105, 500)))

    order = book.submit(ticket(), at("09:31:10"))
    book.catch_up(at("09:31:59"))
    assert order.status == "new"
    book.catch_up(at("09:32:00"))

    assert fills(book, order) == [("14:32:00", "10", "105.00")]
    assert statuses(book, order) == ["pending_new", "new", "fill"]


def test_an_order_that_arrives_on_the_stroke_of_a_minute_waits_for_the_next() -> None:
    book = account(market(FLAT, (101, 103, 99, 102, 500), (105, 106, 104, 105, 500)))

    order = book.submit(ticket(), at("09:31"))
    book.catch_up(at("12:00"))

    assert fills(book, order) == [("14:32:00", "10", "105.00")]


def test_an_order_of_the_night_trades_at_the_open() -> None:
    book = account(market((102, 103, 101, 102, 500)), at("20:00", MONDAY - timedelta(days=3)))

    order = book.submit(ticket(), at("20:00", MONDAY - timedelta(days=3)))
    book.catch_up(at("08:00"))
    assert order.status == "accepted"
    book.catch_up(at("09:30"))

    assert fills(book, order) == [("14:30:00", "10", "102.00")]


@pytest.mark.parametrize(
    ("bar", "filled"),
    [
        ((100, 101, 99.0, 100, 500), []),  # touched: others were first
        (
            (100, 101, 98.99, 100, 500),
            [("14:33:00", "10", "99.00")],
        ),  # went through: at the limit, when the bar is over
        ((98, 101, 97, 100, 500), [("14:32:00", "10", "98.00")]),  # opened below: at the open
    ],
)
def test_a_limit_order_trades_when_the_bar_goes_through_it(
    bar: tuple[float, float, float, float, int], filled: list[object]
) -> None:
    book = account(market(FLAT, FLAT, bar))

    order = book.submit(ticket(type="limit", limit_price=99), at("09:31:10"))
    book.catch_up(at("09:34"))

    assert fills(book, order) == filled


@pytest.mark.parametrize(
    ("bar", "filled"),
    [
        ((100, 101, 95.01, 100, 500), []),
        ((100, 101, 95, 100, 500), [("14:33:00", "10", "95.00")]),
        ((94, 101, 93, 100, 500), [("14:32:00", "10", "94.00")]),  # opened beyond the stop: at the open
    ],
)
def test_a_stop_trades_at_its_price_or_at_the_open_beyond_it(
    bar: tuple[float, float, float, float, int], filled: list[object]
) -> None:
    book = account(market(FLAT, FLAT, bar))
    book.submit(ticket(), at("09:29"))
    book.catch_up(at("09:31"))

    order = book.submit(ticket("sell", type="stop", stop_price=95), at("09:31:10"))
    book.catch_up(at("09:34"))

    assert fills(book, order) == filled


def test_a_stop_limit_that_was_triggered_waits_at_its_limit() -> None:
    through = [(100, 101, 94, 94.5, 500), (94, 94.2, 93, 94, 500), (94, 96, 94, 95, 500)]
    book = account(market(FLAT, FLAT, *through))
    book.submit(ticket(), at("09:29"))
    book.catch_up(at("09:31"))

    order = book.submit(ticket("sell", type="stop_limit", stop_price=95, limit_price=94.5), at("09:31:10"))
    book.catch_up(at("10:00"))

    assert fills(book, order) == [("14:35:00", "10", "94.50")]


def test_a_trailing_stop_follows_the_best_price_and_never_goes_back() -> None:
    up_and_down = [(100, 110, 100, 109, 500), (109, 109, 106, 107, 500), (107, 107, 104, 104, 500)]
    book = account(market(FLAT, FLAT, *up_and_down))
    book.submit(ticket(), at("09:29"))
    book.catch_up(at("09:31"))

    order = book.submit(ticket("sell", type="trailing_stop", trail_price=5), at("09:31:10"))
    assert (order.hwm, order.stop_price) == (100, 95)
    book.catch_up(at("09:33"))
    assert (order.hwm, order.stop_price) == (110, 105)
    book.catch_up(at("10:00"))

    assert fills(book, order) == [("14:35:00", "10", "105.00")]


def test_the_opening_and_the_closing_auction_trade_at_the_days_first_and_last_price() -> None:
    rows = [(102.0, 103.0, 101.0, 102.0, 500), *[FLAT] * 388, (100.0, 104.0, 100.0, 103.5, 500)]
    book = account(HandMarket({("AAPL", MONDAY): rows}))

    opening = book.submit(ticket(time_in_force="opg"), at("09:00"))
    closing = book.submit(ticket(time_in_force="cls"), at("12:00"))
    missed = book.submit(ticket(time_in_force="cls", type="limit", limit_price=103), at("12:00"))
    book.catch_up(at("16:00"))

    assert fills(book, opening) == [("14:30:00", "10", "102.00")]
    assert fills(book, closing) == [("21:00:00", "10", "103.50")]
    assert missed.status == "expired"


def test_an_opening_order_that_the_auction_did_not_fill_is_canceled() -> None:
    book = account(market((102, 103, 90, 95, 500)))

    order = book.submit(ticket(time_in_force="opg", type="limit", limit_price=101), at("09:00"))
    book.catch_up(at("09:31"))

    assert (order.status, fills(book, order)) == ("canceled", [])


def test_ioc_takes_what_is_there_and_fok_takes_all_or_nothing() -> None:
    book = account(market(FLAT, (100, 100, 100, 100, 6)))

    ioc = book.submit(ticket(time_in_force="ioc", type="limit", limit_price=100), at("09:30:10"))
    fok = book.submit(ticket(time_in_force="fok", type="limit", limit_price=100), at("09:30:11"))
    book.catch_up(at("09:31"))

    assert (ioc.status, ioc.filled_qty) == ("canceled", 6)
    assert (fok.status, fok.filled_qty) == ("canceled", 0)


def test_fok_takes_nothing_where_there_is_not_enough() -> None:
    book = account(market(FLAT, (100, 100, 100, 100, 6)))

    fok = book.submit(ticket(time_in_force="fok", type="limit", limit_price=100), at("09:30:10"))
    book.catch_up(at("09:31"))

    assert (fok.status, fok.filled_qty, book.book.fills) == ("canceled", 0, [])


def test_a_day_order_expires_at_the_close_and_a_gtc_order_lives_on() -> None:
    half = HandMarket(half_days=[MONDAY])
    book = account(half)

    day = book.submit(ticket(type="limit", limit_price=90), at("10:00"))
    gtc = book.submit(ticket(type="limit", limit_price=91, time_in_force="gtc"), at("10:00"))
    evening = book.submit(ticket(type="limit", limit_price=92, extended_hours=True), at("10:00"))
    book.catch_up(at("13:00"))

    assert (day.status, gtc.status, evening.status) == ("expired", "new", "new")
    assert day.expired_at == at("13:00")
    book.catch_up(at("20:00"))
    assert evening.status == "expired"
    book.catch_up(at("20:00", MONDAY + timedelta(days=95)))
    assert gtc.status == "expired"


def test_nothing_trades_in_a_halt() -> None:
    book = account(market(FLAT, None, None, None, (120, 120, 120, 120, 500)))

    order = book.submit(ticket(), at("09:30:10"))
    book.catch_up(at("09:34"))

    assert fills(book, order) == [("14:34:00", "10", "120.00")]


def test_a_bar_has_room_for_a_share_of_its_volume() -> None:
    book = account(market(), rules=Rules(participation=(0.1, 0.1), partial_rate=0.0))

    order = book.submit(ticket(qty=2500), at("09:30:10"))
    book.catch_up(at("09:31"))
    assert (order.status, order.filled_qty) == ("partially_filled", 1000)
    book.catch_up(at("09:40"))

    assert [qty for _, qty, _ in fills(book, order)] == ["1000", "1000", "500"]
    assert statuses(book, order) == ["pending_new", "new", "partial_fill", "partial_fill", "fill"]


def test_two_orders_share_the_room_of_a_bar() -> None:
    book = account(market(FLAT, (100, 100, 100, 100, 15)))

    first, second = (book.submit(ticket(), at(f"09:30:1{k}")) for k in range(2))
    book.catch_up(at("09:31"))

    assert (first.filled_qty, second.filled_qty) == (10, 5)


def test_an_order_gets_one_part_of_a_bar_at_most() -> None:
    deep = (100.0, 101.0, 90.0, 95.0, 10_000)
    book = account(market(FLAT, deep, deep), rules=Rules(participation=(1.0, 1.0), partial_rate=1.0))

    order = book.submit(ticket(qty=1000, type="limit", limit_price=100), at("09:30:10"))
    book.catch_up(at("09:32"))

    assert [time for time, _, _ in fills(book, order)] == ["14:31:00", "14:32:00"]
    assert 0 < order.filled_qty < 1000


def test_what_reduces_a_position_leaves_its_average_price_alone() -> None:
    book = account(market(FLAT, FLAT, (110, 110, 110, 110, 500), (120, 120, 120, 120, 500)))
    for side, qty, time in (("buy", 10, "09:30:10"), ("buy", 10, "09:31:10"), ("sell", 5, "09:32:10")):
        book.submit(ticket(side, qty), at(time))
    book.catch_up(at("09:34"))

    held = book.book.positions["AAPL"]
    assert (held.qty, held.average_price, book.book.cash) == (15, 105, 100_000 - 1000 - 1100 + 600)


def test_the_price_of_a_minute_that_goes_on_is_its_open() -> None:
    tape = account(market(FLAT, (101, 103, 99, 102, 500), None)).tape

    assert [str(tape.price("AAPL", at(time))) for time in ("09:31", "09:31:59", "09:32", "09:32:30")] == [
        "101.0000",
        "101.0000",
        "102.0000",
        "102.0000",
    ]
    assert tape.price("AAPL", at("09:29")) == 100  # Friday's close


def test_dollars_buy_a_fraction_of_a_share_for_exactly_these_dollars() -> None:
    book = account(market(FLAT, (97, 97, 97, 97, 500)))

    order = book.submit(ticket(notional=1000), at("09:30:10"))
    book.catch_up(at("09:31"))

    assert (order.status, order.qty, order.filled_qty) == ("filled", None, Decimal("10.309278350"))
    assert book.book.cash == 99_000


# Cancel, replace, groups


def test_a_cancel_comes_a_moment_later_and_may_lose_to_a_trade() -> None:
    book = account(market())
    lost = book.submit(ticket(), at("09:30:10"))
    book.cancel(lost, at("09:30:59.95"))
    won = book.submit(ticket(type="limit", limit_price=90), at("09:30:59.96"))
    book.cancel(won, at("09:31:10"))
    assert won.status == "pending_cancel"

    book.catch_up(at("09:31:11"))

    assert (lost.status, won.status) == ("filled", "canceled")
    with pytest.raises(Refusal, match='order is already in "filled" state'):
        book.cancel(lost, at("09:32"))


def test_a_replaced_order_has_a_new_id_and_the_old_one_says_so() -> None:
    book = account(market(FLAT, FLAT, (98, 98, 98, 98, 500)))
    old = book.submit(ticket(type="limit", limit_price=90), at("09:30:10"))
    book.catch_up(at("09:30:20"))

    new = book.replace(old, ticket(qty=7, type="limit", limit_price=99), at("09:31:10"))
    book.catch_up(at("09:33"))

    assert (old.status, old.replaced_by, new.replaces) == ("replaced", new.id, old.id)
    assert fills(book, new) == [("14:32:00", "7", "98.00")]
    with pytest.raises(Refusal, match="unable to replace order in current state"):
        book.replace(old, ticket(), at("09:34"))


def bracket(**more: object) -> dict[str, object]:
    return {"order_class": "bracket", "take_profit": 110, "stop_loss": 95, **more}


def test_the_exits_of_a_bracket_wait_for_its_entry_and_only_one_fills() -> None:
    book = account(market(FLAT, FLAT, (100, 111, 100, 108, 500)))
    entry = book.submit(ticket(**bracket()), at("09:30:10"))
    profit, loss = entry.legs
    assert (profit.status, loss.status) == ("held", "held")

    book.catch_up(at("09:31"))
    assert (entry.status, profit.status, loss.status) == ("filled", "new", "new")
    book.catch_up(at("09:33"))

    assert (profit.status, loss.status, book.book.positions) == ("filled", "canceled", {})


def test_the_exits_of_an_entry_that_was_replaced_are_as_large_as_it() -> None:
    book = account(market(FLAT, (89, 89, 89, 89, 500)))
    old = book.submit(ticket(type="limit", limit_price=90, **bracket(stop_loss=85)), at("09:30:10"))
    book.catch_up(at("09:30:20"))

    new = book.replace(old, ticket(qty=4, type="limit", limit_price=90), at("09:30:30"))
    book.catch_up(at("09:31"))

    assert (new.status, new.legs) == ("filled", old.legs)
    assert [(leg.status, leg.qty) for leg in new.legs] == [("new", 4), ("new", 4)]


def test_an_exit_does_not_trade_in_the_bar_of_its_entry() -> None:
    book = account(market(FLAT, (100, 120, 80, 100, 500), FLAT))
    entry = book.submit(ticket(**bracket()), at("09:30:10"))

    book.catch_up(at("09:33"))

    assert [order.status for order in (entry, *entry.legs)] == ["filled", "new", "new"]


def test_of_two_exits_that_one_bar_met_the_loss_is_assumed() -> None:
    book = account(market(FLAT, FLAT, (100, 111, 90, 100, 500)))
    entry = book.submit(ticket(**bracket()), at("09:30:10"))
    book.catch_up(at("09:33"))

    assert [leg.status for leg in entry.legs] == ["canceled", "filled"]


def test_the_exits_of_an_entry_that_was_canceled_are_canceled() -> None:
    book = account(market())
    entry = book.submit(ticket(type="limit", limit_price=90, **bracket(stop_loss=85, take_profit=95)), at("09:30:10"))
    book.cancel(entry, at("09:35"))
    book.catch_up(at("09:36"))

    assert [order.status for order in (entry, *entry.legs)] == ["canceled"] * 3
    assert book.open_orders == []


def test_a_part_of_one_exit_leaves_the_other_for_the_rest() -> None:
    rules = Rules(participation=(1.0, 1.0), partial_rate=0.0)
    book = account(market(FLAT, FLAT, (100, 111, 100, 108, 4)), rules=rules)
    book.submit(ticket(), at("09:29"))
    book.catch_up(at("09:31"))
    pair = ticket("sell", type="limit", limit_price=110, order_class="oco", take_profit=110, stop_loss=95)

    profit = book.submit(pair, at("09:31:10"))
    book.catch_up(at("09:34"))

    assert (profit.filled_qty, profit.legs[0].qty, profit.legs[0].status) == (4, 6, "new")


# Splits


def test_a_split_multiplies_shares_and_divides_prices_and_leaves_the_worth_alone() -> None:
    days = {("AAPL", TUESDAY): [(25.0, 25.0, 25.0, 25.0, 1000)] * 390}
    split = HandMarket(days, splits=[Split(symbol="AAPL", day=TUESDAY, new=4, old=1)])
    book = account(split)
    book.submit(ticket(), at("09:30:10"))
    order = book.submit(ticket(qty=5, type="limit", limit_price=90, time_in_force="gtc"), at("10:00"))
    book.catch_up(at("23:00"))
    before = book.book.equity(book.tape, at("23:00"))

    book.catch_up(at("04:00", TUESDAY))

    held = book.book.positions["AAPL"]
    assert (held.qty, held.average_price) == (40, 25)
    assert (order.qty, order.limit_price) == (20, Decimal("22.50"))
    assert book.book.equity(book.tape, at("04:00", TUESDAY)) == before == 100_000


def test_a_reverse_split_ends_the_orders() -> None:
    days = {("AAPL", TUESDAY): [(1000.0, 1000.0, 1000.0, 1000.0, 1000)] * 390}
    book = account(HandMarket(days, splits=[Split(symbol="AAPL", day=TUESDAY, new=1, old=10)]))
    book.submit(ticket(), at("09:30:10"))
    order = book.submit(ticket(type="limit", limit_price=90, time_in_force="gtc"), at("10:00"))

    book.catch_up(at("04:00", TUESDAY))

    assert (order.status, book.book.qty("AAPL")) == ("canceled", 1)


# Whatever is asked


@st.composite
def requests(draw: st.DrawFn) -> list[tuple[float, str, dict[str, object]]]:
    """Orders of every kind, cancels and replaces at rising times of three days."""
    found: list[tuple[float, str, dict[str, object]]] = []
    clock = 0.0
    price = st.integers(90, 110)
    for _ in range(draw(st.integers(1, 12))):
        clock += draw(st.sampled_from([0.0, 0.05, 31.0, 60.0, 1800.0, 20_000.0]))
        verb = draw(st.sampled_from(["submit"] * 4 + ["cancel", "replace"]))
        kind = draw(st.sampled_from(["market", "limit", "stop", "stop_limit", "trailing_stop"]))
        more: dict[str, object] = {"type": kind, "side": draw(st.sampled_from(["buy", "sell"]))}
        more["qty"] = draw(st.integers(1, 3000))
        if kind in ("limit", "stop_limit"):
            more["limit_price"] = draw(price)
        if kind in ("stop", "stop_limit"):
            more["stop_price"] = draw(price)
        if kind == "trailing_stop":
            more["trail_percent"] = 2
        if kind in ("market", "limit"):
            more["time_in_force"] = draw(st.sampled_from(["day", "gtc", "ioc", "fok", "opg", "cls"]))
        if kind == "market" and draw(st.booleans()):
            more |= {"order_class": "bracket", "time_in_force": "gtc"}
            low, high = draw(st.integers(80, 99)), draw(st.integers(101, 120))
            more |= {"take_profit": high, "stop_loss": low}
        found.append((clock, verb, more))
    return found


def run(asked: list[tuple[float, str, dict[str, object]]], seed: int, *, looks: bool) -> Account:
    """An account after `asked` on a wild market; `looks`: somebody asks for its state all the time."""
    import random

    rng = random.Random(seed)
    days = {}
    for day in (MONDAY, TUESDAY, WEDNESDAY):
        rows: list[tuple[float, float, float, float, int] | None] = []
        last = 100.0
        for _ in range(390):
            opened, close = (round(last * rng.uniform(0.99, 1.01), 2) for _ in range(2))
            high, low = round(max(opened, close) * 1.005, 2), round(min(opened, close) * 0.995, 2)
            rows.append(None if rng.random() < 0.05 else (opened, high, low, close, rng.randrange(100, 20_000)))
            last = min(max(close, 80.0), 120.0)
        days["AAPL", day] = rows
    wild = HandMarket(days, splits=[Split(symbol="AAPL", day=WEDNESDAY, new=3, old=2)])
    book = account(wild, at("09:00"), Rules())
    for seconds, verb, more in asked:
        now = at("09:00") + timedelta(seconds=seconds)
        if looks:
            for k in range(1, 4):
                book.catch_up(book.at + (now - book.at) * k / 4)
        with suppress(Refusal):
            if verb == "submit":
                book.submit(ticket(**more), now)  # type: ignore[arg-type]
            elif book.orders:
                order = list(book.orders.values())[int(seconds) % len(book.orders)]
                if verb == "cancel":
                    book.cancel(order, now)
                else:
                    book.replace(order, ticket(order.side, 5, type="limit", limit_price=95), now)
    book.catch_up(at("20:00", END))
    return book


BUY = {"side": "buy", "qty": 1}
STOP, MARKET = {"type": "stop", "stop_price": 90, **BUY}, {"type": "market", "time_in_force": "day", **BUY}
LEG_REPLACED: list[tuple[float, str, dict[str, object]]] = [  # by a smaller one, while the other leg fills in parts
    (0.0, "submit", {"type": "trailing_stop", "side": "buy", "qty": 190, "trail_percent": 2}),
    (0.0, "submit", MARKET),
    (31.0, "submit", STOP),
    (20031.0, "submit", {"type": "market", "side": "sell", "qty": 190, "time_in_force": "gtc", "order_class": "bracket",
                         "take_profit": 101, "stop_loss": 83}),
    (20031.0, "submit", {**MARKET, "side": "sell"}),
    (20031.0, "submit", MARKET),
    (20031.0, "submit", STOP),
    (20031.0, "submit", {"type": "trailing_stop", "trail_percent": 2, **BUY}),
    (20031.0, "submit", MARKET),
    (20031.0, "submit", STOP),
    (20031.0, "submit", STOP),
    (20062.0, "replace", MARKET),
]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(asked=requests(), seed=st.integers(0, 50))
@example(asked=LEG_REPLACED, seed=46)
def test_cash_and_shares_are_conserved_and_no_order_gets_more_than_it_asked_for(
    asked: list[tuple[float, str, dict[str, object]]], seed: int
) -> None:
    book = run(asked, seed, looks=False)

    assert book.book.cash == EXACT.cash + sum(fill.amount for fill in book.book.fills)
    split = at("00:00", WEDNESDAY)
    signed = [(f.at, f.qty if f.side == "buy" else -f.qty) for f in book.book.fills]
    before = sum((qty for moment, qty in signed if moment < split), Decimal(0)) * Decimal("1.5")
    assert book.book.qty("AAPL") == before + sum((qty for moment, qty in signed if moment >= split), Decimal(0))
    for order in book.orders.values():
        mine = [fill for fill in book.book.fills if fill.order_id == order.id]
        assert order.qty is None or order.filled_qty <= order.qty
        assert all(fill.at > order.submitted_at for fill in mine)
        assert all(fill.qty > 0 for fill in mine)
        assert len({"fill", "canceled", "expired", "replaced"} & set(statuses(book, order))) <= 1
        assert (order.status == "filled") == (order.qty is not None and order.filled_qty == order.qty)


@settings(max_examples=30, deadline=None)
@given(asked=requests(), seed=st.integers(0, 50))
def test_the_same_requests_get_the_same_fills_however_often_one_looks(
    asked: list[tuple[float, str, dict[str, object]]], seed: int
) -> None:
    seldom, often = (run(asked, seed, looks=looks) for looks in (False, True))

    assert seldom.book.fills == often.book.fills
    assert [(e.at, e.name, e.order.id) for e in seldom.events] == [(e.at, e.name, e.order.id) for e in often.events]
