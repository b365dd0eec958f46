"""Alpaca's two WebSockets as the sandbox speaks them: the greeting, every error, both codecs, data and order updates."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import msgpack
import pytest
from exchanges import MONDAY, Hand, HandMarket, at, served, world_of
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from marketagent.sandbox import alpaca_live, alpaca_stream
from marketagent.sandbox.environment import KEY_ID, SECRET
from marketagent.sandbox.world import SandboxWorld

KEYS = {"APCA-API-KEY-ID": KEY_ID, "APCA-API-SECRET-KEY": SECRET}
FRIDAY = MONDAY - timedelta(days=3)
AUTH = {"action": "auth", "key": KEY_ID, "secret": SECRET}
Box = tuple[str, Hand, SandboxWorld]


class Halting(HandMarket):
    """AAPL stands still from 10:05 to 10:07 of Monday."""

    def halts(self, symbol: str, day: Any) -> list[tuple[datetime, datetime]]:
        return [(at("10:05"), at("10:07"))] if symbol == "AAPL" and day == MONDAY else []


@pytest.fixture(scope="module")
def server() -> Iterator[Box]:
    rows = [(100.0 + k, 100.5 + k, 99.5 + k, 100.25 + k, 10_000) for k in range(60)]
    halted = [None if k in (35, 36) else row for k, row in enumerate(rows)]
    hand = Hand(at("09:59:30"))
    world = world_of(Halting({("AAPL", MONDAY): halted}), hand)
    with served(world) as url:
        yield url, hand, world


@pytest.fixture
def box(server: Box) -> Box:
    server[1].go(at("09:59:30"))
    return server


class Client:
    """JSON or msgpack over one connection."""

    def __init__(self, socket: ClientConnection, *, packed: bool) -> None:
        self.socket, self.packed = socket, packed

    def get(self) -> Any:
        frame = self.socket.recv(timeout=5)
        assert isinstance(frame, bytes) == self.packed
        return msgpack.unpackb(frame) if isinstance(frame, bytes) else json.loads(frame)

    def ask(self, message: Any) -> Any:
        self.socket.send(msgpack.packb(message) if self.packed else json.dumps(message))
        return self.get()

    def silent(self, seconds: float = 0.4) -> bool:
        try:
            self.socket.recv(timeout=seconds)
        except TimeoutError:
            return True
        return False


def dial(box: Box, path: str = "/v2/sip", *, packed: bool = False) -> AbstractContextManager[ClientConnection]:
    headers = {"Content-Type": "application/msgpack"} if packed else {}
    return connect(f"ws://{box[0]}{path}", additional_headers=headers)


def greeted(socket: ClientConnection, *, packed: bool = False, **auth: str) -> Client:
    client = Client(socket, packed=packed)
    assert client.get() == [{"T": "success", "msg": "connected"}]
    assert client.ask({**AUTH, **auth}) == [{"T": "success", "msg": "authenticated"}]
    return client


def error(code: int, words: str) -> list[dict[str, Any]]:
    return [{"T": "error", "code": code, "msg": words}]


def closed(client: Client) -> bool:
    with pytest.raises(ConnectionClosed):
        client.get()
    return True


# Greeting and errors


def test_a_client_is_greeted_let_in_and_told_what_it_subscribed_to(box: Box) -> None:
    with dial(box) as socket:
        client = greeted(socket)

        first = client.ask({"action": "subscribe", "bars": ["MSFT", "AAPL"], "trades": ["AAPL"]})
        then = client.ask({"action": "unsubscribe", "bars": ["MSFT"]})

    empty = {name: [] for name in ("quotes", "updatedBars", "dailyBars", "statuses", "lulds")}
    auto = {"trades": ["AAPL"], "corrections": ["AAPL"], "cancelErrors": ["AAPL"]}
    assert first == [{"T": "subscription", "bars": ["AAPL", "MSFT"], **auto, **empty}]
    assert then == [{"T": "subscription", "bars": ["AAPL"], **auto, **empty}]


def test_nothing_is_told_before_the_keys(box: Box) -> None:
    with dial(box) as socket:
        client = Client(socket, packed=False)
        client.get()
        assert client.ask({"action": "subscribe", "bars": ["AAPL"]}) == error(401, "not authenticated")
        assert client.ask({**AUTH, "secret": "wrong"}) == error(402, "auth failed")
        assert closed(client)


def test_keys_that_do_not_come_are_not_waited_for(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alpaca_stream, "AUTH_S", 0.1)
    with dial(box) as socket:
        client = Client(socket, packed=False)
        client.get()
        assert client.get() == error(404, "auth timeout")
        assert closed(client)


def test_what_cannot_be_understood_is_answered_and_survived(box: Box) -> None:
    with dial(box) as socket:
        client = greeted(socket)
        for nonsense in (
            "{",
            "[]",
            '{"action":"dance"}',
            '{"action":"subscribe","bars":"AAPL"}',
            '{"action":"subscribe","x":[]}',
        ):
            socket.send(nonsense)
            assert client.get() == error(400, "invalid syntax")
        assert client.ask(AUTH) == error(403, "already authenticated")
        assert client.ask({"action": "subscribe", "news": ["*"]}) == error(
            410, "invalid subscribe action for this feed"
        )
        assert client.ask({"action": "subscribe", "bars": ["AAPL"]})[0]["bars"] == ["AAPL"]


def test_a_second_connection_of_a_key_is_refused_until_the_first_is_gone(box: Box) -> None:
    with dial(box) as first, dial(box) as second:
        greeted(first)
        late = Client(second, packed=False)
        late.get()
        assert late.ask(AUTH) == error(406, "connection limit exceeded")
        assert closed(late)
    with dial(box) as third:
        greeted(third)


def test_the_basic_plan_has_iex_and_thirty_symbols(box: Box) -> None:
    basic = {"key": "PKSANDBOXB0000000001"}
    with dial(box) as socket:
        client = Client(socket, packed=False)
        client.get()
        assert client.ask({**AUTH, **basic}) == error(409, "insufficient subscription")
    with dial(box, "/v2/iex") as socket:
        client = greeted(socket, **basic)
        names = [f"S{k}" for k in range(30)]
        assert client.ask({"action": "subscribe", "trades": names})[0]["trades"] == sorted(names)
        assert client.ask({"action": "subscribe", "quotes": ["AAPL"]}) == error(405, "symbol limit exceeded")
        answer = client.ask({"action": "subscribe", "bars": [f"S{k}" for k in range(99)]})[0]
        assert (len(answer["bars"]), len(answer["trades"]), answer["quotes"]) == (99, 30, [])


def test_a_feed_that_does_not_exist_is_not_accepted(box: Box) -> None:
    with pytest.raises(InvalidStatus), dial(box, "/v2/nyse"):
        pass


def test_a_client_that_is_too_slow_is_told_so(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stuck(self: object) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(alpaca_stream, "QUEUE", 1)
    monkeypatch.setattr(alpaca_stream, "SLOW_S", 0.1)
    monkeypatch.setattr(alpaca_stream._Connection, "_write", stuck)
    with dial(box) as socket:
        client = greeted(socket)
        for _ in range(2):  # of two answers one fits in
            socket.send(json.dumps({"action": "subscribe", "bars": ["AAPL"]}))
        assert client.get() == error(407, "slow client")
        assert closed(client)


def test_a_client_that_does_not_read_at_all_is_cut_off(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alpaca_stream, "QUEUE", 3)
    monkeypatch.setattr(alpaca_stream, "SLOW_S", 0.2)
    with served(box[2], narrow=True) as url, dial((url, *box[1:])) as socket:
        client = greeted(socket)
        client.ask({"action": "subscribe", "quotes": ["MSFT"], "trades": ["MSFT"]})
        box[1].go(at("16:00"))
        time.sleep(1.5)
        frames = []
        with suppress(ConnectionClosed):
            while True:
                frames.append(client.get())
    last = max(one["t"] for frame in frames for one in frame if "t" in one)
    assert last < "2026-11-16T20:00"


# Data


@pytest.mark.parametrize("packed", [False, True])
def test_a_bar_comes_when_its_minute_is_over(box: Box, packed: bool) -> None:
    with dial(box, packed=packed) as socket:
        client = greeted(socket, packed=packed)
        client.ask({"action": "subscribe", "bars": ["AAPL"], "dailyBars": ["AAPL"]})
        box[1].go(at("09:59:59.9"))
        assert client.silent()
        box[1].go(at("10:00"))

        bar, day = client.get()

    start = at("09:59")
    minute: Any = msgpack.Timestamp.from_datetime(start) if packed else "2026-11-16T14:59:00Z"
    midnight: Any = msgpack.Timestamp.from_datetime(at("00:00")) if packed else "2026-11-16T05:00:00Z"
    prices = {"o": 129.0, "h": 129.5, "l": 128.5, "c": 129.25, "v": 10_000, "n": 100, "vw": 129.0833}
    assert bar == {"T": "b", "S": "AAPL", "t": minute, **prices}
    assert (day["T"], day["t"], day["o"], day["h"], day["v"]) == ("d", midnight, 100.0, 129.5, 300_000)


def test_bars_missed_by_a_clock_that_jumps_all_come_in_order(box: Box) -> None:
    with dial(box) as socket:
        client = greeted(socket)
        client.ask({"action": "subscribe", "bars": ["*"]})
        box[1].go(at("10:04"))
        got: list[Any] = []
        while len(got) < 10:
            got += client.get()

    assert [bar["t"][14:16] for bar in got if bar["S"] == "AAPL"] == ["59", "00", "01", "02", "03"]
    assert {bar["S"] for bar in got} == {"AAPL", "MSFT"}


def test_the_last_bar_of_a_day_comes_at_its_close_and_the_next_one_in_the_morning(box: Box) -> None:
    box[1].go(at("15:59:30", FRIDAY))
    with dial(box) as socket:
        client = greeted(socket)
        client.ask({"action": "subscribe", "bars": ["AAPL"]})
        box[1].go(at("16:00:30", FRIDAY))
        assert [bar["t"] for bar in client.get()] == ["2026-11-13T20:59:00Z"]
        box[1].go(at("09:31"))
        assert [bar["t"] for bar in client.get()] == ["2026-11-16T14:30:00Z"]


def test_trades_and_quotes_come_as_time_passes_them(box: Box) -> None:
    with dial(box) as socket:
        client = greeted(socket)
        client.ask({"action": "subscribe", "trades": ["AAPL"], "quotes": ["AAPL"]})
        box[1].go(at("10:00:59.999"))
        got: list[Any] = []
        while len(got) < 72:
            got += client.get()

    trades = [one for one in got if one["T"] == "t" and one["t"] >= "2026-11-16T15:00:00"]
    assert all(earlier["t"] <= later["t"] for earlier, later in pairwise(got))
    assert (trades[0]["p"], trades[-1]["p"]) == (130.0, 130.25)
    assert sum(one["s"] for one in trades) == 10_000
    assert all(one["t"] > "2026-11-16T14:59:30" for one in got)


def test_late_trades_bring_an_updated_bar_that_is_the_true_one(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alpaca_live, "_LATE_RATE", 1.0)
    with dial(box) as socket:
        client = greeted(socket)
        client.ask({"action": "subscribe", "bars": ["AAPL"], "updatedBars": ["AAPL"]})
        box[1].go(at("10:00:30"))
        early, updated = client.get()

    rest = httpx.get(
        f"http://{box[0]}/v2/stocks/AAPL/bars",
        params={"timeframe": "1Min", "start": "2026-11-16T14:59:00Z", "end": "2026-11-16T14:59:00Z"},
        headers=KEYS,
    ).json()["bars"][0]
    assert (early["T"], updated["T"]) == ("b", "u")
    assert early["v"] < updated["v"]
    assert {name: updated[name] for name in rest} == rest


def test_a_halt_and_its_end_are_told_and_no_bar_comes_between(box: Box) -> None:
    box[1].go(at("10:04:30"))
    with dial(box) as socket:
        client = greeted(socket)
        client.ask({"action": "subscribe", "statuses": ["AAPL"], "bars": ["AAPL"]})
        box[1].go(at("10:08"))
        got: list[Any] = []
        while len(got) < 4:
            got += client.get()

    assert [(one["T"], one["t"][11:16], one.get("sc")) for one in got] == [
        ("b", "15:04", None),
        ("s", "15:05", "H"),
        ("s", "15:07", "T"),
        ("b", "15:07", None),
    ]


def test_delayed_sip_is_a_quarter_of_an_hour_behind(box: Box) -> None:
    with dial(box, "/v2/delayed_sip") as socket:
        client = greeted(socket)
        client.ask({"action": "subscribe", "bars": ["AAPL"]})
        box[1].go(at("10:00"))
        assert [bar["t"] for bar in client.get()] == ["2026-11-16T14:44:00Z"]


def test_the_test_feed_trades_round_the_clock(box: Box) -> None:
    box[1].go(at("03:00:30", MONDAY + timedelta(days=5)))
    with dial(box, "/v2/test") as socket:
        client = greeted(socket)
        client.ask({"action": "subscribe", "bars": ["FAKEPACA", "AAPL"]})
        box[1].go(at("03:01", MONDAY + timedelta(days=5)))
        bars = client.get()

    assert [(bar["S"], bar["t"]) for bar in bars] == [("FAKEPACA", "2026-11-21T08:00:00Z")]


# Orders


def updates(box: Box, **credentials: str) -> tuple[ClientConnection, Callable[[Any], Any], Callable[[], Any]]:
    socket = connect(f"ws://{box[0]}/stream")

    def get() -> Any:
        frame = socket.recv(timeout=5)
        assert isinstance(frame, bytes)  # JSON, but in binary frames
        return json.loads(frame)

    def ask(message: Any) -> Any:
        socket.send(json.dumps(message))
        return get()

    return socket, ask, get


NESTED = {"action": "authenticate", "data": {"key_id": KEY_ID, "secret_key": SECRET}}
LISTEN = {"action": "listen", "data": {"streams": ["trade_updates", "weather"]}}


def send(box: Box, **more: Any) -> Any:
    body = {"symbol": "AAPL", "side": "buy", "type": "market", "time_in_force": "day", "qty": "3", **more}
    answer = httpx.post(f"http://{box[0]}/v2/orders", json=body, headers=KEYS)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_happens_to_an_order_is_told_from_listening_on(box: Box) -> None:
    box[2].parts.clear()
    before = send(box)
    socket, ask, get = updates(box)
    with socket:
        assert ask(NESTED) == {"stream": "authorization", "data": {"action": "authenticate", "status": "authorized"}}
        assert ask(LISTEN) == {"stream": "listening", "data": {"streams": ["trade_updates"]}}
        box[1].go(at("09:59:31"))
        sent = send(box, symbol="MSFT", client_order_id="mine")
        box[1].go(at("10:00:01"))
        got = []
        while len(got) < 5:
            got.append(get()["data"])

    mine = [one for one in got if one["order"]["id"] == sent["id"]]
    assert [(one["event"], one["order"]["status"]) for one in mine] == [
        ("pending_new", "pending_new"),
        ("new", "new"),
        ("fill", "filled"),
    ]
    fill = mine[-1]
    assert (fill["price"], fill["qty"], fill["position_qty"], fill["order"]["filled_qty"]) == ("100", "3", "3", "3")
    assert fill["order"]["client_order_id"] == "mine"
    assert [one["event"] for one in got if one["order"]["id"] == before["id"]] == ["new", "fill"]


def test_listening_to_nothing_ends_the_updates(box: Box) -> None:
    box[2].parts.clear()
    socket, ask, _ = updates(box)
    with socket:
        ask(NESTED)
        ask(LISTEN)
        assert ask({"action": "listen", "data": {"streams": []}}) == {"stream": "listening", "data": {"streams": []}}
        send(box)
        with pytest.raises(TimeoutError):
            socket.recv(timeout=0.3)


def test_wrong_keys_are_unauthorized_and_the_line_is_cut(box: Box) -> None:
    socket, ask, get = updates(box)
    with socket:
        no = ask({"action": "auth", "key": KEY_ID, "secret": "wrong"})
        assert no == {"stream": "authorization", "data": {"action": "auth", "status": "unauthorized"}}
        with pytest.raises(ConnectionClosed):
            get()


def test_no_key_is_in_the_log(box: Box) -> None:
    socket, ask, _ = updates(box)
    with socket:
        ask(NESTED)
    assert SECRET not in httpx.get(f"http://{box[0]}/_sandbox/log").text
