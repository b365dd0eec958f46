"""Alpaca's protocol as the sandbox speaks it, over real HTTP: statuses, codes, words and shapes of the fact sheet."""

import re
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import httpx
import pytest
from exchanges import MONDAY, Hand, HandMarket, at, served, world_of

from marketagent.sandbox.alpaca_http import Alpaca
from marketagent.sandbox.environment import KEY_ID, SECRET
from marketagent.sandbox.exchange import Rules
from marketagent.sandbox.market import Asset

FLAT = (100.0, 100.0, 100.0, 100.0, 100_000)
TUESDAY = MONDAY + timedelta(days=1)
KEYS = {"APCA-API-KEY-ID": KEY_ID, "APCA-API-SECRET-KEY": SECRET}
NANO = re.compile(r"2026-11-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")


class Sandbox:
    """A client of one sandbox, and the hand on its clock."""

    def __init__(self, url: str, hand: Hand, world: Any) -> None:
        self.http, self.hand, self.world = httpx.Client(base_url=f"http://{url}", headers=KEYS), hand, world

    def ask(self, method: str, path: str, status: int = 200, **how: Any) -> Any:
        answer = self.http.request(method, path, **how)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def order(self, status: int = 200, **body: Any) -> Any:
        given = {"symbol": "AAPL", "side": "buy", "type": "market", "time_in_force": "day", **body}
        if "qty" not in given and "notional" not in given:
            given["qty"] = "10"
        return self.ask("POST", "/v2/orders", status, json={k: v for k, v in given.items() if v is not None})

    def go(self, text: str, day: date = MONDAY) -> None:
        self.hand.go(at(text, day))


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Hand, Any]]:
    assets = [
        Asset(symbol="WHOLE", name="Whole Shares Only", listed=date(2026, 1, 2), fractionable=False),
        Asset(symbol="META", name="Meta", exchange="XNYS", listed=date(2026, 1, 2), former=((TUESDAY, "FB"),)),
        Asset(symbol="GONE", name="Gone", listed=date(2026, 1, 2), delisted=MONDAY - timedelta(days=3)),
    ]
    market = HandMarket({("AAPL", MONDAY): [FLAT] * 390}, assets=assets, half_days=[MONDAY + timedelta(days=11)])
    hand = Hand(at("08:00"))
    world = world_of(market, hand)
    with served(world) as url:
        yield url, hand, world


@pytest.fixture
def box(server: tuple[str, Hand, Any]) -> Iterator[Sandbox]:
    """Monday, 10:00:30 in New York, a fresh account with whole fills, and no end of calls."""
    url, hand, world = server
    world.parts.clear()
    world.part(Alpaca).calls_per_minute["trading"] = 10_000
    hand.go(at("10:00:30"))
    sandbox = Sandbox(url, hand, world)
    account = world.part(Alpaca).account(KEY_ID, SECRET)
    account.rules = Rules(participation=(1.0, 1.0), partial_rate=0.0)
    with sandbox.http:
        yield sandbox


def body(no: Any) -> tuple[int, str]:
    return no["code"], no["message"]


# Keys and limits


def test_keys_that_are_none_are_told_so(box: Sandbox) -> None:
    for headers in ({"APCA-API-SECRET-KEY": "x"}, {"APCA-API-KEY-ID": "AKLIVE"}, {"APCA-API-KEY-ID": ""}):
        assert body(box.ask("GET", "/v2/account", 401, headers=headers)) == (40110000, "request is not authorized")


def test_every_pair_of_keys_is_an_account_of_its_own(box: Sandbox) -> None:
    box.order()
    box.go("10:01:01")
    other = {"APCA-API-KEY-ID": "PKSANDBOX2"}

    assert len(box.ask("GET", "/v2/positions")) == 1
    assert box.ask("GET", "/v2/positions", headers=other) == []
    ids = {box.ask("GET", "/v2/account", headers=headers)["id"] for headers in ({}, other)}
    assert len(ids) == 2


def test_calls_beyond_the_limit_are_refused_until_the_minute_is_over(box: Sandbox) -> None:
    alpaca = box.world.part(Alpaca)
    alpaca.calls_per_minute["trading"] = 3
    box.hand.seconds = 60_000.0

    answers = [box.http.get("/v2/clock") for _ in range(4)]

    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert [answer.headers["X-RateLimit-Limit"] for answer in answers] == ["3"] * 4
    assert answers[3].headers["X-RateLimit-Reset"] == "60060"
    assert answers[3].status_code == 429
    assert answers[3].json() == {"code": 42910000, "message": "rate limit exceeded."}
    box.hand.seconds = 60_060.0
    assert box.http.get("/v2/clock").status_code == 200


# Orders


def test_an_order_answers_pending_and_ends_filled(box: Sandbox) -> None:
    sent = box.order(client_order_id="ma-1")

    assert (sent["status"], sent["order_class"], sent["qty"], sent["filled_qty"]) == ("pending_new", "", "10", "0")
    assert (sent["filled_avg_price"], sent["notional"], sent["legs"]) == (None, None, None)
    assert NANO.fullmatch(sent["submitted_at"])
    box.go("10:01:01")
    got = box.ask("GET", f"/v2/orders/{sent['id']}")
    assert (got["status"], got["filled_qty"], got["filled_avg_price"]) == ("filled", "10", "100")
    assert NANO.fullmatch(got["filled_at"])
    assert box.ask("GET", "/v2/orders:by_client_order_id", params={"client_order_id": "ma-1"})["id"] == sent["id"]


def test_an_order_in_dollars_keeps_no_quantity(box: Sandbox) -> None:
    sent = box.order(notional="50.5")
    box.go("10:01:01")

    got = box.ask("GET", f"/v2/orders/{sent['id']}")
    assert (got["qty"], got["notional"], got["filled_qty"], got["status"]) == (None, "50.5", "0.505", "filled")


@pytest.mark.parametrize(
    ("asked", "status", "code", "message"),
    [
        ({"qty": "0"}, 422, 40010001, "qty must be > 0"),
        ({"qty": "-1"}, 422, 40010001, "qty must be > 0"),
        ({"qty": "NaN"}, 422, 40010001, "invalid qty: NaN"),
        ({"qty": "1e99"}, 422, 40010001, "invalid qty: 1e99"),
        ({"qty": [1]}, 422, 40010001, "invalid qty: [1]"),
        ({"qty": True}, 422, 40010001, "invalid qty: True"),
        ({"symbol": 1}, 422, 40010001, "symbol is required"),
        ({"take_profit": 5}, 422, 40010001, "invalid take_profit"),
        ({"qty": "1", "notional": "5"}, 422, 40010001, "only one of qty or notional is accepted"),
        ({"notional": "0.5"}, 422, 40010001, "notional amount must be >= 1.00"),
        ({"qty": 0.30000000000000004}, 422, 40010001, "qty can have at most 9 decimal places"),
        ({"qty": "0.5", "time_in_force": "gtc"}, 422, 42210000, "fractional orders must be DAY orders"),
        ({"qty": "0.5", "symbol": "WHOLE"}, 403, 40310000, 'asset "WHOLE" is not fractionable'),
        ({"symbol": "NOPE"}, 422, 42210000, 'asset "NOPE" not found'),
        ({"symbol": "GONE"}, 422, 42210000, 'asset "GONE" is not tradable'),
        ({"side": "hold"}, 422, 40010001, "invalid side: hold"),
        ({"type": "limit"}, 422, 40010001, "limit orders require limit price"),
        ({"type": "stop_limit", "stop_price": 90}, 422, 40010001, "stop limit orders require limit price"),
        (
            {"type": "limit", "limit_price": "99.001"},
            422,
            42210000,
            "invalid limit_price 99.001. sub-penny increment does not fulfill minimum pricing criteria",
        ),
        (
            {"type": "trailing_stop"},
            422,
            40010001,
            "trailing stop orders must specify one of trail_price or trail_percent",
        ),
        ({"extended_hours": True}, 422, 42210000, "extended hours order must be DAY limit orders"),
        ({"client_order_id": "x" * 129}, 422, 40010001, "client_order_id must be no more than 128 characters"),
        ({"order_class": "bracket"}, 422, 40010001, "bracket orders require take_profit.limit_price"),
        ({"order_class": "mleg"}, 422, 40010001, "invalid order_class: mleg is for options"),
        (
            {"type": "stop", "side": "sell", "stop_price": 101},
            422,
            42210000,
            "stop price must be less than current price",
        ),
        ({"qty": "10000"}, 403, 40310000, "insufficient buying power"),
    ],
)
def test_a_bad_order_is_refused_in_alpacas_words(
    box: Sandbox, asked: dict[str, Any], status: int, code: int, message: str
) -> None:
    assert body(box.order(status, **asked)) == (code, message)
    assert box.ask("GET", "/v2/orders", params={"status": "all"}) == []


def test_a_body_that_is_no_json_is_refused(box: Sandbox) -> None:
    assert box.ask("POST", "/v2/orders", 400, content=b"{")["code"] == 40010000
    assert box.ask("POST", "/v2/orders", 422, content=b"[]")["code"] == 40010001


def test_a_duplicate_client_order_id_is_refused_also_after_the_first_was_filled(box: Sandbox) -> None:
    box.order(client_order_id="ma-1")
    assert body(box.order(422, client_order_id="ma-1")) == (40010001, "client_order_id must be unique")
    box.go("10:01:01")
    assert body(box.order(422, client_order_id="ma-1")) == (40010001, "client_order_id must be unique")


def test_what_is_not_there_is_not_found(box: Sandbox) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    assert box.ask("GET", f"/v2/orders/{unknown}", 404)["code"] == 40410000
    by_client = box.ask("GET", "/v2/orders:by_client_order_id", 404, params={"client_order_id": "no"})
    assert body(by_client) == (40410000, "order not found")
    assert body(box.ask("GET", "/v2/positions/AAPL", 404)) == (40410000, "position does not exist")
    assert box.ask("GET", "/v2/assets/NOPE", 404)["code"] == 40410000


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31T23:59:59-12:00", "yesterday", "2026-02-30"])
def test_a_time_that_cannot_be_is_refused(box: Sandbox, text: str) -> None:
    for path, name in (("/v2/orders", "after"), ("/v2/calendar", "start"), ("/v2/account/portfolio/history", "end")):
        assert body(box.ask("GET", path, 422, params={name: text})) == (40010001, f"invalid {name}: {text}")


def test_the_list_of_orders_is_open_ones_newest_first_and_can_be_told_otherwise(box: Sandbox) -> None:
    ids = []
    for second in range(5):
        box.go(f"10:00:3{second}")
        limit = {"type": "limit", "limit_price": 90 + second} if second else {}
        ids.append(box.order(symbol="MSFT" if second == 4 else "AAPL", **limit)["id"])
    box.go("10:01:01")

    def listed(**params: Any) -> list[int]:
        return [ids.index(row["id"]) for row in box.ask("GET", "/v2/orders", params=params)]

    assert listed() == [4, 3, 2, 1]
    assert listed(status="closed") == [0]
    assert listed(status="all", direction="asc", limit=2) == [0, 1]
    assert listed(symbols="MSFT,NOPE") == [4]
    assert listed(side="sell") == []
    after = box.ask("GET", f"/v2/orders/{ids[2]}")["submitted_at"]
    assert listed(after=after) == [4, 3]
    assert listed(status="all", until=after) == [1, 0]
    assert listed(after_order_id=ids[2]) == [4, 3]
    assert listed(status="all", before_order_id=ids[2]) == [1, 0]
    assert box.ask("GET", "/v2/orders", 422, params={"limit": 501})["code"] == 40010001


def test_a_cancel_is_204_then_422_and_the_order_is_canceled_a_moment_later(box: Sandbox) -> None:
    sent = box.order(type="limit", limit_price="90")
    box.go("10:00:40")

    box.ask("DELETE", f"/v2/orders/{sent['id']}", 204)
    assert box.ask("GET", f"/v2/orders/{sent['id']}")["status"] == "pending_cancel"
    box.go("10:00:41")

    assert box.ask("GET", f"/v2/orders/{sent['id']}")["status"] == "canceled"
    no = box.ask("DELETE", f"/v2/orders/{sent['id']}", 422)
    assert body(no) == (42210000, 'order is already in "canceled" state')


def test_canceling_all_answers_207_with_a_row_for_each(box: Sandbox) -> None:
    ids = [box.order(type="limit", limit_price="90")["id"] for _ in range(2)]
    box.go("10:00:40")

    rows = box.ask("DELETE", "/v2/orders", 207)

    assert rows == [{"id": one, "status": 200} for one in ids]
    box.go("10:00:41")
    assert box.ask("GET", "/v2/orders") == []


def test_a_replaced_order_goes_on_under_a_new_id(box: Sandbox) -> None:
    old = box.order(type="limit", limit_price="90", client_order_id="old")
    no = box.ask("PATCH", f"/v2/orders/{old['id']}", 422, json={"limit_price": "91"})
    assert body(no) == (42210000, "unable to replace order, order isn't sent to exchange yet")
    box.go("10:00:40")

    new = box.ask("PATCH", f"/v2/orders/{old['id']}", json={"limit_price": "91", "qty": 7, "client_order_id": "new"})

    assert (new["limit_price"], new["qty"], new["replaces"]) == ("91", "7", old["id"])
    was = box.ask("GET", "/v2/orders:by_client_order_id", params={"client_order_id": "old"})
    assert (was["status"], was["replaced_by"]) == ("replaced", new["id"])
    no = box.ask("PATCH", f"/v2/orders/{old['id']}", 422, json={"limit_price": "92"})
    assert body(no) == (42210000, "unable to replace order in current state")


def test_a_bracket_is_nested_under_its_entry(box: Sandbox) -> None:
    legs = {"take_profit": {"limit_price": "110"}, "stop_loss": {"stop_price": "90"}}
    sent = box.order(order_class="bracket", **legs)
    box.go("10:00:40")

    assert sent["order_class"] == "bracket"
    assert [(leg["type"], leg["side"], leg["status"]) for leg in sent["legs"]] == [
        ("limit", "sell", "held"),
        ("stop", "sell", "held"),
    ]
    assert len(box.ask("GET", "/v2/orders")) == 3
    nested = box.ask("GET", "/v2/orders", params={"nested": "true"})
    assert len(nested) == 1
    assert len(nested[0]["legs"]) == 2


# Positions and account


def test_a_position_shows_its_worth_and_can_be_closed_in_part(box: Sandbox) -> None:
    box.order()
    box.go("10:01:10")

    held = box.ask("GET", "/v2/positions/AAPL")
    assert (held["qty"], held["avg_entry_price"], held["market_value"], held["side"]) == ("10", "100", "1000", "long")
    assert (held["qty_available"], held["unrealized_pl"], held["exchange"]) == ("10", "0", "NASDAQ")
    closing = box.ask("DELETE", "/v2/positions/AAPL", params={"percentage": "50"})
    assert (closing["side"], closing["qty"], closing["status"]) == ("sell", "5", "pending_new")
    assert body(box.ask("DELETE", "/v2/positions/AAPL", 403))[0] == 40310000
    box.go("10:02:10")
    assert box.ask("GET", "/v2/positions/AAPL")["qty"] == "5"


def test_closing_all_answers_207_and_may_cancel_what_holds_the_shares(box: Sandbox) -> None:
    box.order()
    box.go("10:01:10")
    box.order(side="sell", type="limit", limit_price="120", qty="10")
    box.go("10:01:20")

    held = box.ask("DELETE", "/v2/positions", 207)
    assert [(row["symbol"], row["status"], row["body"]["code"]) for row in held] == [("AAPL", 403, 40310000)]
    closed = box.ask("DELETE", "/v2/positions", 207, params={"cancel_orders": "true"})
    assert [(row["symbol"], row["status"], row["body"]["side"]) for row in closed] == [("AAPL", 200, "sell")]
    box.go("10:02:10")
    assert box.ask("GET", "/v2/positions") == []


def test_the_account_is_worth_what_it_holds_and_has_no_day_trade_fields(box: Sandbox) -> None:
    before = box.ask("GET", "/v2/account")
    box.order(qty="100")
    box.go("10:01:10")
    after = box.ask("GET", "/v2/account")

    assert (before["cash"], before["buying_power"], before["multiplier"]) == ("100000", "400000", "4")
    assert (after["cash"], after["equity"], after["long_market_value"]) == ("90000", "100000", "10000")
    assert (after["buying_power"], after["regt_buying_power"]) == ("390000", "190000")
    assert all(isinstance(after[name], str) for name in ("cash", "equity", "last_equity", "buying_power"))
    assert not {"pattern_day_trader", "daytrade_count", "daytrading_buying_power"} & set(after)


def test_activities_are_paged_by_ids_that_begin_with_new_york_time(box: Sandbox) -> None:
    for minute in range(3):
        box.go(f"10:0{minute}:30")
        box.order()
    box.go("10:05:00")

    newest = box.ask("GET", "/v2/account/activities/FILL", params={"page_size": 2})
    rest = box.ask("GET", "/v2/account/activities/FILL", params={"page_size": 2, "page_token": newest[-1]["id"]})

    ids = [row["id"] for row in newest + rest]
    assert [one.split("::")[0] for one in ids] == ["20261116100300000", "20261116100200000", "20261116100100000"]
    assert (newest[0]["type"], newest[0]["qty"], newest[0]["price"], newest[0]["leaves_qty"]) == (
        "fill",
        "10",
        "100",
        "0",
    )
    oldest = box.ask("GET", "/v2/account/activities", params={"activity_types": "FILL", "direction": "asc"})
    assert [row["id"] for row in oldest] == ids[::-1]
    assert box.ask("GET", "/v2/account/activities/DIV") == []
    assert box.ask("GET", "/v2/account/activities/FILL", 422, params={"page_size": 101})["code"] == 40010001


def test_portfolio_history_has_columns_of_one_length(box: Sandbox) -> None:
    box.order()
    box.go("10:03:10")

    found = box.ask("GET", "/v2/account/portfolio/history", params={"period": "1D", "timeframe": "1Min"})

    columns = [found[name] for name in ("timestamp", "equity", "profit_loss", "profit_loss_pct")]
    assert {len(column) for column in columns} == {34}
    assert found["timestamp"][0] == int(at("09:30").timestamp())
    assert (found["equity"][-1], found["base_value"], found["timeframe"]) == (100_000.0, 100_000.0, "1Min")


# Clock, calendar, assets


def test_the_clock_is_the_markets_in_new_york_time(box: Sandbox) -> None:
    now = box.ask("GET", "/v2/clock")
    assert now == {
        "timestamp": "2026-11-16T10:00:30-05:00",
        "is_open": True,
        "next_open": "2026-11-17T09:30:00-05:00",
        "next_close": "2026-11-16T16:00:00-05:00",
    }
    box.go("20:00")
    assert box.ask("GET", "/v2/clock")["is_open"] is False


def test_the_calendar_has_wall_times_and_half_days(box: Sandbox) -> None:
    rows = box.ask("GET", "/v2/calendar", params={"start": "2026-11-26", "end": "2026-11-30"})
    assert [(row["date"], row["open"], row["close"]) for row in rows] == [
        ("2026-11-26", "09:30", "16:00"),
        ("2026-11-27", "09:30", "13:00"),
        ("2026-11-30", "09:30", "16:00"),
    ]


def test_an_asset_is_called_what_it_is_called_today(box: Sandbox) -> None:
    monday = box.ask("GET", "/v2/assets/FB")
    assert (monday["symbol"], monday["status"], monday["exchange"]) == ("FB", "active", "NYSE")
    sent = box.order(symbol="FB")
    assert sent["symbol"] == "FB"
    box.go("10:00", TUESDAY)

    assert box.ask("GET", "/v2/assets/META")["id"] == monday["id"]
    assert box.ask("GET", f"/v2/assets/{monday['id']}")["symbol"] == "META"
    assert box.ask("GET", "/v2/positions")[0]["symbol"] == "META"
    assert box.ask("GET", "/v2/assets/FB", 404)["code"] == 40410000
    active = box.ask("GET", "/v2/assets", params={"status": "active"})
    assert [row["symbol"] for row in active] == ["AAPL", "META", "MSFT", "WHOLE"]


def test_the_same_requests_get_the_same_bytes(box: Sandbox) -> None:
    def session() -> list[bytes]:
        box.world.parts.clear()
        box.go("10:00:30")
        found = [
            box.http.post(
                "/v2/orders", json={"symbol": "AAPL", "qty": 3, "side": "buy", "type": "market", "time_in_force": "day"}
            )
        ]
        box.go("10:05:30")
        found += [box.http.get(path) for path in ("/v2/orders?status=all", "/v2/account", "/v2/account/activities")]
        return [answer.content + answer.headers["X-Request-ID"].encode() for answer in found]

    assert session() == session()
