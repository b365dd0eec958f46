"""What the sandbox's exchange refuses, in Alpaca's words, and what an account can still buy."""

from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest
from exchanges import MONDAY, HandMarket, account, at, ticket

from marketagent.sandbox.checks import buying_power
from marketagent.sandbox.exchange import Account
from marketagent.sandbox.market import Asset
from marketagent.sandbox.refusal import Refusal

TUESDAY = MONDAY + timedelta(days=1)


def refusal(book: Account, *words: object, now: datetime | None = None, **more: object) -> Refusal:
    with pytest.raises(Refusal) as caught:
        book.submit(ticket(*words, **more), now or at("10:00"))  # type: ignore[arg-type]
    return caught.value


def test_a_clients_id_is_spent_for_ever() -> None:
    book = account(HandMarket())
    filled = book.submit(ticket(client_order_id="a"), at("09:30:10"))
    resting = book.submit(ticket(type="limit", limit_price=90, client_order_id="b"), at("09:30:11"))
    book.cancel(resting, at("09:32"))
    book.catch_up(at("09:33"))
    assert (filled.status, resting.status) == ("filled", "canceled")

    for used in ("a", "b"):
        no = refusal(book, client_order_id=used)
        assert no.status == 422
        assert no.body == {"code": 40010001, "message": "client_order_id must be unique"}


def test_buying_power_is_four_times_the_equity_less_what_is_held_and_asked_for() -> None:
    book = account(HandMarket())
    book.submit(ticket(qty=1000), at("09:30:10"))
    book.catch_up(at("09:31"))
    book.submit(ticket(qty=2000, type="limit", limit_price=90), at("09:35"))

    no = refusal(book, qty=1201)

    assert no.body == {
        "code": 40310000,
        "message": "insufficient buying power",
        "buying_power": "120000",
        "cost_basis": "120100",
    }
    book.submit(ticket(qty=1200), at("10:00"))


def test_what_is_not_there_cannot_be_sold_twice() -> None:
    book = account(HandMarket())
    book.submit(ticket(), at("09:30:10"))
    book.catch_up(at("09:31"))
    book.submit(ticket("sell", 6, type="limit", limit_price=120), at("09:35"))

    no = refusal(book, "sell", 5)

    assert no.status == 403
    assert no.body == {
        "code": 40310000,
        "message": "insufficient qty available for order (requested: 5, available: 4)",
        "available": "4",
        "existing_qty": "10",
        "held_for_orders": "6",
        "symbol": "AAPL",
    }


def test_two_exits_of_which_one_is_to_fill_hold_the_shares_once() -> None:
    book = account(HandMarket())
    book.submit(ticket(order_class="bracket", take_profit=110, stop_loss=95), at("09:30:10"))
    book.catch_up(at("09:31"))
    book.submit(ticket("buy", 5), at("09:31:10"))
    book.catch_up(at("09:32"))

    assert buying_power(book, at("09:33"), Decimal(4)) == 400_000 - 1500
    assert refusal(book, "sell", 6, now=at("09:33")).more["held_for_orders"] == "10"
    assert book.submit(ticket("sell", 5), at("09:33")).is_open


@pytest.mark.parametrize(
    ("resting", "new", "refused"),
    [
        ({"type": "limit", "limit_price": 90}, {"type": "limit", "limit_price": 90}, True),
        ({"type": "limit", "limit_price": 90}, {"type": "limit", "limit_price": 91}, False),
        ({"type": "limit", "limit_price": 90}, {}, True),
        ({"type": "limit", "limit_price": 90}, {"type": "stop", "stop_price": 80}, True),
        ({"type": "stop", "stop_price": 120}, {"type": "limit", "limit_price": 130}, True),
    ],
)
def test_an_order_that_could_meet_ones_own_is_refused(resting: dict, new: dict, refused: bool) -> None:
    book = account(HandMarket())
    book.submit(ticket(), at("09:29"))
    book.catch_up(at("09:31"))
    first = book.submit(ticket("buy", **resting), at("09:32"))

    if not refused:
        book.submit(ticket("sell", **new), at("09:33"))
        return
    no = refusal(book, "sell", now=at("09:33"), **new)
    assert (no.status, no.code) == (403, 40310000)
    assert no.body["message"] == "potential wash trade detected. use complex orders"
    assert no.body["existing_order_id"] == first.id


def test_going_short_needs_an_asset_and_an_account_that_may_and_whole_shares() -> None:
    assets = [Asset(symbol="HARD", name="Hard", listed=date(2026, 1, 2), shortable=False)]
    book = account(HandMarket(assets=assets))

    assert refusal(book, "sell", symbol="HARD").message == 'asset "HARD" cannot be sold short'
    assert refusal(book, "sell", 0.5).message == "fractional orders cannot be sold short"
    book.may_short = False
    assert refusal(book, "sell").message == "account is not allowed to short"
    book.may_short = True
    order = book.submit(ticket("sell"), at("10:00"))
    book.catch_up(at("10:01"))
    assert (order.status, book.book.qty("AAPL"), book.book.cash) == ("filled", -10, 101_000)


def test_a_stop_on_the_wrong_side_of_the_price_is_refused() -> None:
    no = refusal(account(HandMarket()), "buy", order_class="bracket", take_profit=110, stop_loss=100)

    assert no.body == {
        "code": 42210000,
        "message": "stop price must be less than current price",
        "market_price": "100.0000",
        "stop_price": "100",
    }


def test_what_is_not_listed_any_more_does_not_trade() -> None:
    gone = Asset(symbol="GONE", name="Gone", listed=date(2026, 1, 2), delisted=MONDAY)
    book = account(HandMarket(assets=[gone]))
    resting = book.submit(ticket(symbol="GONE", type="limit", limit_price=90, time_in_force="gtc"), at("10:00"))
    book.catch_up(at("10:00", TUESDAY))

    assert resting.status == "canceled"
    no = refusal(book, symbol="GONE", now=at("10:00", TUESDAY))
    assert (no.code, no.message) == (42210000, 'asset "GONE" is not tradable')


@pytest.mark.parametrize(
    ("force", "time", "refused"),
    [("opg", "09:27", False), ("opg", "09:28", True), ("opg", "19:00", False), ("cls", "15:50", True)],
)
def test_an_auction_has_a_last_moment_to_enter(force: str, time: str, refused: bool) -> None:
    book = account(HandMarket())
    if refused:
        assert refusal(book, time_in_force=force, now=at(time)).status == 422
    else:
        assert book.submit(ticket(time_in_force=force), at(time)).is_open
