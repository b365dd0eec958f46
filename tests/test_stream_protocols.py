"""Frames of both vendors by hand, for each row of the fact sheets' tables of the streams; no socket."""

import json
import math
from datetime import UTC, datetime

import pytest
from vendors import KEY, minute_bar, status

from marketagent.config import Secret
from marketagent.errors import Busy, NotPermitted, Refused
from marketagent.streams.alpaca import Alpaca
from marketagent.streams.events import Bar, Quote, Status, Trade, Wanted
from marketagent.streams.polygon import Polygon

POLYGON = Polygon("ws://127.0.0.1:1", Secret(KEY))
ALPACA = Alpaca("ws://127.0.0.1:1", Secret("k3y-id"), Secret(KEY), "iex", "iex")
AT = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
BAR = {"T": "b", "S": "AAPL", "o": 10, "h": 11, "l": 9, "c": 10.5, "v": 100, "t": "2026-11-20T14:30:00Z"}


def read(wire, *events):
    return wire.read(json.dumps(list(events)))


def word(wire, event):
    (found,) = read(wire, event)
    assert isinstance(found, Status)
    return found


# Both


@pytest.mark.parametrize("wire", [POLYGON, ALPACA])
@pytest.mark.parametrize(
    "frame",
    [
        "",
        "hello",
        "[",
        '[{"ev":"AM","o":NaN}]',
        '[{"a":1,"a":2}]',
        "[1e400]",
        "7",
        b"\xff\xfe",
        "[" * 5000,
        '"x"',
        "\ud800",
    ],
)
def test_what_cannot_be_read_is_a_word_and_never_an_exception(wire, frame):
    (found,) = wire.read(frame)
    assert (found.word, found.final) == ("broken", None)
    assert len(found.text) < 300


@pytest.mark.parametrize("wire", [POLYGON, ALPACA])
def test_what_is_not_known_is_left_out_and_the_rest_is_read(wire):
    good = minute_bar() if wire is POLYGON else BAR
    found = read(wire, {"ev": "FMV", "T": "l"}, good, 5, {})
    assert [type(event) for event in found] == [Bar, Status]
    assert found[1].word == "broken"
    assert wire.read(b"[]") == wire.read("{}") == []


@pytest.mark.parametrize("wire", [POLYGON, ALPACA])
def test_text_and_bytes_say_the_same_and_one_object_is_a_frame_too(wire):
    row = minute_bar() if wire is POLYGON else BAR
    assert wire.read(json.dumps(row)) == wire.read(json.dumps([row]).encode()) == read(wire, row)


# Polygon: what is sent


def test_polygon_is_asked_with_one_object_a_step():
    assert POLYGON.url == "ws://127.0.0.1:1/stocks"
    assert json.loads(POLYGON.login()) == {"action": "auth", "params": KEY}
    frames, topics = POLYGON.subscription(Wanted(symbols=("AAPL", "BRK.B"), kinds=("bars", "quotes")))
    assert [json.loads(frame) for frame in frames] == [
        {"action": "subscribe", "params": "AM.AAPL,AM.BRK.B,Q.AAPL,Q.BRK.B"}
    ]
    assert topics == {"AM.AAPL", "AM.BRK.B", "Q.AAPL", "Q.BRK.B"}


# Polygon: status


def test_polygon_says_how_far_a_connection_is():
    assert word(POLYGON, status("connected", "Connected Successfully")).word == "connected"
    assert word(POLYGON, status("auth_success", "authenticated")).word == "authenticated"
    acked = word(POLYGON, status("success", "subscribed to: AM.AAPL"))
    assert (acked.word, acked.topics) == ("subscribed", {"AM.AAPL"})
    assert word(POLYGON, status("success", "unsubscribed to: AM.AAPL")).topics == frozenset()


@pytest.mark.parametrize(
    ("row", "error", "says"),
    [
        (status("auth_failed", "authentication failed"), NotPermitted, "does not take the key"),
        (status("auth_failed", "Your plan doesn't include websocket access. Visit x"), NotPermitted, "the key's plan"),
        (status("max_connections", "Maximum number of websocket connections exceeded."), Busy, "no further connection"),
        (status("error", "not authorized"), NotPermitted, "the key's plan"),
    ],
)
def test_polygon_ends_for_good(row, error, says):
    found = word(POLYGON, row)
    assert (found.word, type(found.final)) == ("ended", error)
    assert says in str(found.final)
    assert row["message"] in str(found.final)


@pytest.mark.parametrize("name", ["auth_timeout", "slow_consumer", "force_disconnect"])
def test_polygon_ends_one_connection(name):
    found = word(POLYGON, status(name, "No authentication request received."))
    assert (found.word, found.final) == ("ended", None)
    assert name in found.text


def test_another_error_of_polygon_is_told_and_ends_nothing():
    assert word(POLYGON, status("error", "something")).word == "told"
    assert word(POLYGON, status("brand_new", "something")).word == "told"


# Polygon: data


def test_a_minute_of_polygon_is_a_bar_from_its_start():
    (bar,) = read(POLYGON, minute_bar("BRK.B", 0, av=5, op=1, a=1, z=3, otc=False, dv="100"))
    assert isinstance(bar, Bar)
    assert (bar.symbol, bar.start, bar.values) == ("BRK.B", AT, (10.0, 11.0, 9.0, 10.5, 100.0))
    assert (bar.vwap, bar.updated) == (10.2, False)


def test_a_second_is_no_bar_whatever_it_is_called():
    start = minute_bar()["s"]
    assert read(POLYGON, minute_bar(e=start + 1000), minute_bar(ev="A", e=start + 1000)) == []
    assert len(read(POLYGON, minute_bar(e=start + 59_999))) == 1


def test_several_bars_of_one_frame_come_in_order():
    assert [bar.symbol for bar in read(POLYGON, minute_bar("A"), minute_bar("B"), minute_bar("C"))] == ["A", "B", "C"]


@pytest.mark.parametrize("value", [None, "10.5", True, [], {}])
def test_a_price_that_is_no_number_is_nan_and_the_text_is_kept(value):
    (bar,) = read(POLYGON, minute_bar(c=value))
    assert math.isnan(bar.close)
    assert json.loads(bar.text)["sym"] == "AAPL"


@pytest.mark.parametrize(
    "changes", [{"sym": None}, {"sym": 5}, {"s": "x"}, {"s": None}, {"s": -1}, {"s": 1e300}, {"s": True}]
)
def test_a_bar_of_nobody_or_never_is_a_broken_frame(changes):
    assert word(POLYGON, minute_bar() | changes).word == "broken"


def test_a_trade_of_polygon_with_old_and_new_sizes():
    row = {
        "ev": "T",
        "sym": "AAPL",
        "x": 4,
        "i": "1",
        "z": 3,
        "p": 10.5,
        "s": 100,
        "c": [37],
        "t": 1795185000123,
        "q": 1,
    }
    (trade,) = read(POLYGON, row)
    assert trade == Trade(symbol="AAPL", at=trade.at, price=10.5, size=100.0, exchange="4")
    assert trade.at.microsecond == 123_000
    assert [
        read(POLYGON, row | more)[0].size for more in ({"s": 0, "ds": "0.25"}, {"s": 0, "ds": 0.5}, {"s": 3, "ds": "3"})
    ] == [
        0.25,
        0.5,
        3.0,
    ]


@pytest.mark.parametrize("condition", [1, [1, 2], None])
def test_a_quote_of_polygon_with_one_condition_or_several(condition):
    row = {
        "ev": "Q",
        "sym": "A",
        "bx": 4,
        "bp": 1.0,
        "bs": 2,
        "ax": 7,
        "ap": 1.1,
        "as": 3,
        "c": condition,
        "t": 1795185000000,
    }
    (quote,) = read(POLYGON, row)
    assert isinstance(quote, Quote)
    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size) == (1.0, 2.0, 1.1, 3.0)


def test_a_trade_or_a_quote_without_its_numbers_is_told_of_and_no_line():
    assert word(POLYGON, {"ev": "T", "sym": "A", "t": 1795185000000, "s": 1}).word == "told"
    assert word(POLYGON, {"ev": "Q", "sym": "A", "t": 1795185000000}).word == "told"
    assert word(POLYGON, {"ev": "T", "sym": "A"}).word == "told"
    assert word(ALPACA, {"T": "q", "S": "A"}).word == "told"


# Alpaca: what is sent


def test_alpaca_is_asked_for_updated_bars_with_the_bars():
    assert ALPACA.url == "ws://127.0.0.1:1/v2/iex"
    assert json.loads(ALPACA.login()) == {"action": "auth", "key": "k3y-id", "secret": KEY}
    frames, topics = ALPACA.subscription(Wanted(symbols=("AAPL",), kinds=("bars", "trades")))
    assert [json.loads(frame) for frame in frames] == [
        {"action": "subscribe", "bars": ["AAPL"], "trades": ["AAPL"], "updatedBars": ["AAPL"]}
    ]
    assert topics == {"bars.AAPL", "trades.AAPL"}


# Alpaca: control


def test_alpaca_says_how_far_a_connection_is():
    assert word(ALPACA, {"T": "success", "msg": "connected"}).word == "connected"
    assert word(ALPACA, {"T": "success", "msg": "authenticated"}).word == "authenticated"
    lists = {"trades": ["AAPL"], "quotes": [], "bars": ["AAPL", "MSFT"], "corrections": ["AAPL"], "cancelErrors": None}
    found = word(ALPACA, {"T": "subscription", **lists})
    assert (found.word, {"trades.AAPL", "bars.AAPL", "bars.MSFT"} <= found.topics) == ("subscribed", True)


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (400, "invalid syntax", Refused),
        (402, "auth failed", NotPermitted),
        (405, "symbol limit exceeded", NotPermitted),
        (406, "connection limit exceeded", Busy),
        (408, "v2 not enabled", NotPermitted),
        (409, "insufficient subscription", NotPermitted),
        (410, "invalid subscribe action for this feed", Refused),
        (411, "insufficient scope", NotPermitted),
    ],
)
def test_alpaca_ends_for_good(code, message, error):
    found = word(ALPACA, {"T": "error", "code": code, "msg": message})
    assert (found.word, type(found.final)) == ("ended", error)
    assert f"{code}: {message}" in str(found.final)


@pytest.mark.parametrize(
    ("code", "message"),
    [(401, "not authenticated"), (404, "auth timeout"), (407, "slow client"), (500, "internal error")],
)
def test_alpaca_ends_one_connection(code, message):
    found = word(ALPACA, {"T": "error", "code": code, "msg": message})
    assert (found.word, found.final, found.text) == ("ended", None, f"{code}: {message}")


def test_already_authenticated_is_as_good_as_authenticated():
    assert word(ALPACA, {"T": "error", "code": 403, "msg": "already authenticated"}).word == "authenticated"


@pytest.mark.parametrize("code", [499, None, "402", [402], {}])
def test_an_error_of_alpaca_that_nobody_knows_is_told(code):
    assert word(ALPACA, {"T": "error", "code": code, "msg": "new"}).word == "told"


# Alpaca: data


def test_a_bar_of_alpaca_with_and_without_what_may_be_missing():
    (bar,) = read(ALPACA, BAR)
    assert (bar.symbol, bar.start, bar.values, bar.feed) == ("AAPL", AT, (10.0, 11.0, 9.0, 10.5, 100.0), "iex")
    assert bar.trades is None
    (bar,) = read(ALPACA, BAR | {"n": 7, "vw": 10.25})
    assert (bar.trades, bar.vwap) == (7, 10.25)


def test_an_updated_bar_says_that_it_is_one():
    (bar,) = read(ALPACA, BAR | {"T": "u", "v": 120})
    assert (bar.updated, bar.volume) == (True, 120.0)


@pytest.mark.parametrize("kind", ["d", "s", "l", "x", "c", "n", "i", None, 5, []])
def test_other_messages_of_alpaca_are_left_out(kind):
    assert read(ALPACA, BAR | {"T": kind}) == []


@pytest.mark.parametrize(
    "changes", [{"S": None}, {"t": None}, {"t": "yesterday"}, {"t": "2026-11-20T14:30:00"}, {"t": 5}]
)
def test_a_bar_of_alpaca_without_symbol_or_time_is_a_broken_frame(changes):
    assert word(ALPACA, BAR | changes).word == "broken"


def test_trades_and_quotes_of_alpaca_have_nanoseconds():
    trade = {
        "T": "t",
        "S": "A",
        "i": 96921,
        "x": "D",
        "p": 126.55,
        "s": 1,
        "t": "2026-11-20T14:30:00.336382212Z",
        "c": ["@"],
        "z": "C",
    }
    quote = {
        "T": "q",
        "S": "A",
        "bx": "V",
        "bp": 1,
        "bs": 2,
        "ax": "V",
        "ap": 1.5,
        "as": 3,
        "t": "2026-11-20T14:30:00.1Z",
    }
    first, second = read(ALPACA, trade, quote)
    assert (first.price, first.size, first.exchange, first.at.microsecond) == (126.55, 1.0, "D", 336_382)
    assert (second.bid, second.ask) == (1.0, 1.5)


# The key


@pytest.mark.parametrize("wire", [POLYGON, ALPACA])
def test_no_key_is_shown_with_a_protocol(wire):
    assert KEY not in repr(wire) + repr(vars(wire)) + wire.url
