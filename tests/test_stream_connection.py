"""One connection kept up, against a real server that plays each trick; waits and dice are the test's.

RELIABILITY, E8, case 15: drops, half-open connections, garbage and huge frames, duplicates, acknowledgements in any order.
"""

import json
import logging
import random
import socket as sockets
import threading
import time
from datetime import timedelta

import anyio
import pytest
from faulty import reply, serving
from vendors import CONNECTED, KEY, OPEN, Vendor, minute_bar, playing, polygon_welcome, status, streaming

from marketagent.config import Secret
from marketagent.errors import Busy, MarketAgentError, NotPermitted, Refused, Unavailable
from marketagent.streams.alpaca import Alpaca
from marketagent.streams.connection import Connection, Pace
from marketagent.streams.events import Bar, Status, Wanted
from marketagent.streams.polygon import Polygon
from marketagent.streams.watch import Watch
from marketagent.world import World

QUICK = Pace(connect_s=1.0, answer_s=0.3, close_s=0.1, look_s=0.02, first_s=2.0)
CALENDAR = [(OPEN, OPEN + timedelta(hours=6.5))]
WANTED = Wanted(symbols=("AAPL", "MSFT"))


class Run:
    """A connection to `url` until `enough` events have come, something final happens, or `seconds` are over."""

    def __init__(
        self, url, *, enough=10**6, seconds=1.5, wire=None, pace=QUICK, now=lambda: OPEN, wanted=WANTED, wait=True
    ):
        self.events, self.said, self.slept, self.error = [], [], [], None
        self.watch = Watch(now, CALENDAR)
        self._enough = enough

        async def sleep(seconds):
            self.slept.append(seconds)
            await anyio.sleep(min(seconds, 0.02))

        world = World(sleep=sleep, random=random.Random(7))
        wire = wire or Polygon(url, Secret(KEY))
        self.connection = Connection(wire, wanted, self._put, self.watch, world=world, pace=pace, tell=self.said.append)
        if wait:
            anyio.run(self.main, seconds)

    async def main(self, seconds):
        with anyio.move_on_after(seconds) as self.scope:
            try:
                await self.connection.run()
            except MarketAgentError as error:
                self.error = error

    def _put(self, event):
        self.events.append(event)
        if isinstance(event, Bar):
            self.watch.heard()
        if len(self.bars) >= self._enough:
            self.scope.cancel()

    @property
    def bars(self):
        return [event for event in self.events if isinstance(event, Bar)]

    @property
    def words(self):
        return [event.word for event in self.events if isinstance(event, Status)]


# In good order


def test_bars_come_after_key_and_subscription_and_the_key_is_sent_once():
    with streaming(playing([minute_bar()], [minute_bar("MSFT")])) as vendor:
        run = Run(vendor.url, enough=2)
    assert [bar.symbol for bar in run.bars] == ["AAPL", "MSFT"]
    assert vendor.paths == ["/stocks"]
    assert vendor.heard == [
        {"action": "auth", "params": KEY},
        {"action": "subscribe", "params": "AM.AAPL,AM.MSFT"},
    ]
    assert (run.words, run.said, run.connection.reconnects) == (["subscribed"], [], 0)


def test_alpaca_is_greeted_in_its_own_words():
    async def script(socket):
        await socket.send({"T": "success", "msg": "connected"})
        await socket.hear()
        await socket.send({"T": "success", "msg": "authenticated"})
        asked = await socket.hear()
        await socket.send(
            {"T": "subscription", **{name: asked.get(name, []) for name in ("bars", "updatedBars", "trades")}}
        )
        row = {"T": "b", "S": "AAPL", "o": 1, "h": 1, "l": 1, "c": 1, "v": 1, "t": "2026-11-20T14:30:00Z"}
        await socket.text(json.dumps([row]).encode())  # bytes that hold JSON
        await socket.stay()

    with streaming(script) as vendor:
        run = Run(vendor.url, enough=1, wire=Alpaca(vendor.url, Secret("k3y-id"), Secret(KEY), "iex", "iex"))
    assert [bar.feed for bar in run.bars] == ["iex"]
    assert vendor.paths == ["/v2/iex"]


@pytest.mark.parametrize("order", ["turned", "one frame", "with a bar before", "lower case"])
def test_acknowledgements_may_come_in_any_order_and_events_between_them_are_kept(order):
    acks = [status("success", "subscribed to: AM.MSFT"), status("success", "subscribed to: AM.AAPL")]

    async def script(socket):
        await socket.send(CONNECTED)
        await socket.hear()
        await socket.send(status("auth_success"))
        await socket.hear()
        match order:
            case "turned":
                for ack in acks:
                    await socket.send(ack)
            case "one frame":
                await socket.send(*acks, minute_bar())
            case "with a bar before":
                await socket.send(minute_bar(), acks[0])
                await socket.send(acks[1])
            case "lower case":
                await socket.send(status("success", "Subscribed To: AM.MSFT,AM.AAPL"))
        await socket.send(minute_bar(k=1))
        await socket.stay()

    with streaming(script) as vendor:
        run = Run(vendor.url, enough=1 if order in ("turned", "lower case") else 2)
    assert run.bars[-1].start == OPEN + timedelta(minutes=1)
    assert run.said == []


def test_what_is_not_confirmed_is_named_and_the_rest_streams():
    async def script(socket):
        await socket.send(CONNECTED)
        await socket.hear()
        await socket.send(status("auth_success"))
        await socket.hear()
        await socket.send(status("success", "subscribed to: AM.AAPL"))
        await socket.wait(0.4)
        await socket.send(minute_bar())
        await socket.stay()

    with streaming(script) as vendor:
        run = Run(vendor.url, enough=1)
    assert len(run.bars) == 1
    assert run.said == ["polygon does not confirm AM.MSFT"]


# Drops


@pytest.mark.parametrize("then", ["cut", "close"])
def test_whatever_way_a_connection_ends_another_one_is_made_and_subscribed(then):
    with streaming(playing([minute_bar()], then=then), playing([minute_bar(k=1)])) as vendor:
        run = Run(vendor.url, enough=2)
    assert [bar.start for bar in run.bars] == [OPEN, OPEN + timedelta(minutes=1)]
    assert run.words == ["subscribed", "ended", "subscribed"]
    assert [frame["action"] for frame in vendor.heard] == ["auth", "subscribe"] * 2
    assert run.connection.reconnects == 1
    (line,) = run.said
    assert ("broke off" if then == "cut" else "closed the stream (1000)") in line
    assert "connecting again in" in line


def test_a_close_in_the_middle_of_a_frame_is_a_drop():
    async def half(socket):
        await polygon_welcome(socket)
        socket.raw.transport.write(b"\x81\x7e\x01\x00[{")  # a frame of 256 bytes, of which two come
        await socket.wait(0.05)
        await socket.cut()

    with streaming(half, playing([minute_bar()])) as vendor:
        run = Run(vendor.url, enough=1)
    assert len(run.bars) == 1


def test_a_reconnect_storm_is_bounded():
    with streaming(playing(then="cut")) as vendor:
        run = Run(vendor.url, seconds=0.8)
    tops = [min(QUICK.longest_s, QUICK.backoff_s * 2**n) for n in range(1, len(run.slept) + 1)]
    assert len(run.slept) > 8
    assert all(0 <= slept <= top for slept, top in zip(run.slept, tops, strict=True))
    assert max(run.slept) > 10  # it does back off
    assert len(set(run.slept)) == len(run.slept)  # full jitter
    assert len(run.said) == len(run.slept)


def test_a_connection_that_was_stable_starts_the_back_off_anew():
    pace = Pace(connect_s=1.0, answer_s=0.3, close_s=0.1, look_s=0.02, stable_s=0.05)

    async def a_while(socket):
        await polygon_welcome(socket)
        await socket.wait(0.1)
        await socket.cut()

    with streaming(a_while) as vendor:
        run = Run(vendor.url, seconds=0.6, pace=pace)
    assert len(run.slept) >= 2
    assert max(run.slept) <= 1.0


# Mute


def test_connected_but_mute_in_the_session_is_a_reconnect_that_is_told():
    start = time.monotonic()

    def now():  # a market a hundred times as fast: three minutes in two seconds
        return OPEN + timedelta(minutes=10, seconds=(time.monotonic() - start) * 300)

    with streaming(playing([minute_bar()]), playing([minute_bar(k=1)])) as vendor:
        run = Run(vendor.url, enough=2, now=now, seconds=5)
    assert len(run.bars) == 2
    assert run.said[0].startswith(
        "polygon: connected, but no bar of any symbol for 3 minutes of the session; connecting"
    )


def test_mute_at_night_is_what_nights_are():
    with streaming(playing()) as vendor:
        run = Run(vendor.url, now=lambda: OPEN + timedelta(hours=9), seconds=0.5)
    assert (run.said, vendor.connections) == ([], 1)


def test_a_peer_that_answers_no_ping_is_given_up():
    async def deaf(socket):
        await polygon_welcome(socket)
        socket.raw.transport.pause_reading()
        await socket.wait(0.6)
        await socket.cut()

    pace = Pace(connect_s=1.0, answer_s=0.3, close_s=0.1, look_s=0.02, ping_s=0.1, pong_s=0.1)
    with streaming(deaf, playing([minute_bar()])) as vendor:
        run = Run(vendor.url, enough=1, pace=pace)
    assert len(run.bars) == 1
    assert "keepalive ping timeout" in run.said[0]


# Final


@pytest.mark.parametrize(
    ("word", "error", "code"),
    [
        (status("auth_failed", "authentication failed"), NotPermitted, 77),
        (status("auth_failed", "Your plan doesn't include websocket access."), NotPermitted, 77),
        (status("max_connections", "Maximum number of websocket connections exceeded."), Busy, 75),
    ],
)
def test_a_refused_login_ends_it_after_one_try(word, error, code):
    async def script(socket):
        await socket.send(CONNECTED)
        await socket.hear()
        await socket.send(word)
        await socket.cut()

    with streaming(script) as vendor:
        run = Run(vendor.url)
    assert (type(run.error), run.error.exit_code, vendor.connections) == (error, code, 1)
    assert KEY not in str(run.error)


def test_the_connection_limit_may_come_after_the_acknowledgements():
    async def script(socket):
        await polygon_welcome(socket)
        await socket.send(status("max_connections", "Maximum number of websocket connections exceeded."))
        await socket.close(1008, "policy")

    with streaming(script) as vendor:
        run = Run(vendor.url)
    assert isinstance(run.error, Busy)
    assert vendor.connections == 1


def test_the_limit_may_count_our_own_connection_that_broke_a_moment_ago():
    async def full(socket):
        await polygon_welcome(socket)
        await socket.send(status("max_connections", "Maximum number of websocket connections exceeded."))
        await socket.close(1008)

    with streaming(playing([minute_bar()], then="cut"), full, full, playing([minute_bar(k=1)])) as vendor:
        run = Run(vendor.url, enough=2)
    assert (run.error, len(run.bars), vendor.connections) == (None, 2, 4)


def test_a_limit_that_stays_is_final_in_the_end():
    async def full(socket):
        await polygon_welcome(socket)
        await socket.send(status("max_connections", "exceeded"))
        await socket.close(1008)

    pace = Pace(connect_s=1.0, answer_s=0.3, close_s=0.1, look_s=0.02, ghost_s=0.3)
    with streaming(playing([minute_bar()], then="cut"), full) as vendor:
        run = Run(vendor.url, pace=pace, seconds=3)
    assert isinstance(run.error, Busy)


def test_a_topic_outside_the_plan_may_be_refused_before_the_acknowledgements():
    async def script(socket):
        await socket.send(CONNECTED)
        await socket.hear()
        await socket.send(status("auth_success"))
        await socket.hear()
        await socket.send(status("error", "not authorized"), status("success", "subscribed to: AM.AAPL"))
        await socket.stay()

    with streaming(script) as vendor:
        run = Run(vendor.url)
    assert isinstance(run.error, NotPermitted)


@pytest.mark.parametrize(
    ("code", "error"), [(402, NotPermitted), (405, NotPermitted), (406, Busy), (409, NotPermitted), (410, Refused)]
)
def test_alpaca_is_believed_when_it_says_no(code, error):
    async def script(socket):
        await socket.send({"T": "success", "msg": "connected"})
        await socket.hear()
        await socket.send({"T": "error", "code": code, "msg": "no"})
        await socket.stay()

    with streaming(script) as vendor:
        run = Run(vendor.url, wire=Alpaca(vendor.url, Secret("k3y-id"), Secret(KEY), "iex", "iex"))
    assert type(run.error) is error
    assert vendor.connections == 1


@pytest.mark.parametrize("code", [404, 407, 500])
def test_alpaca_is_asked_again_when_it_only_ends_a_connection(code):
    async def script(socket):
        await socket.send({"T": "success", "msg": "connected"}, {"T": "error", "code": code, "msg": "oh"})
        await socket.stay()

    with streaming(script) as vendor:
        run = Run(vendor.url, wire=Alpaca(vendor.url, Secret("k3y-id"), Secret(KEY), "iex", "iex"), seconds=0.2)
    assert run.error is None
    assert vendor.connections > 1
    assert f"{code}: oh" in run.said[0]


# Servers that are none


@pytest.mark.parametrize(("answer", "error"), [("401 Unauthorized", NotPermitted), ("403 Forbidden", NotPermitted)])
def test_a_handshake_that_refuses_the_key_is_final(answer, error):
    with serving(reply(status=answer)) as server:
        run = Run(server.url.replace("http", "ws"))
    assert type(run.error) is error
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "answer", [reply(), reply(status="429 Too Many Requests"), reply(status="503 x"), b"SSH-2.0\r\n\r\n"]
)
def test_a_server_that_speaks_no_websocket_is_tried_for_a_while_and_then_unavailable(answer):
    pace = Pace(connect_s=0.5, close_s=0.1, first_s=0.3)
    with serving(answer) as server:
        run = Run(server.url.replace("http", "ws"), pace=pace)
    assert (type(run.error), run.error.exit_code) == (Unavailable, 69)
    assert len(server.asked) > 1


def test_a_redirect_is_not_followed_with_the_key():
    with serving(reply(status="302 Found", Location="ws://127.0.0.1:1/stocks")) as server:
        run = Run(server.url.replace("http", "ws"), pace=Pace(connect_s=0.5, first_s=0.1))
    assert isinstance(run.error, Unavailable)
    assert "302" in str(run.error)


def test_nobody_at_all_is_unavailable():
    with sockets.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    run = Run(f"ws://127.0.0.1:{port}", pace=Pace(connect_s=0.5, first_s=0.1))
    assert isinstance(run.error, Unavailable)


@pytest.mark.parametrize("step", ["handshake", "greeting", "key", "subscription"])
def test_every_step_has_a_deadline(step):
    async def script(socket):
        if step != "greeting":
            await socket.send(CONNECTED)
            await socket.hear()
        if step == "subscription":
            await socket.send(status("auth_success"))
            await socket.hear()
        await socket.stay()

    pace = Pace(connect_s=0.3, answer_s=0.2, close_s=0.1, first_s=0.5)
    start = time.monotonic()
    if step == "handshake":
        with sockets.create_server(("127.0.0.1", 0)) as listener:
            run = Run(f"ws://127.0.0.1:{listener.getsockname()[1]}", pace=pace, seconds=5)
    else:
        with streaming(script) as vendor:
            run = Run(vendor.url, pace=pace, seconds=5)
    assert isinstance(run.error, Unavailable)
    assert "within" in str(run.error)
    assert time.monotonic() - start < 4


# Frames


def test_garbage_is_a_word_and_the_connection_lives():
    async def noise(socket):
        for frame in ("garbage", b"\x00\xff", "[{]", '[{"ev":"AM","sym":"AAPL","o":NaN}]', "[]", "null"):
            await socket.text(frame)

    with streaming(playing(noise, [minute_bar()])) as vendor:
        run = Run(vendor.url, enough=1)
    assert run.words.count("broken") == 5
    assert (len(run.bars), vendor.connections) == (1, 1)


def test_a_huge_frame_ends_the_connection_and_not_the_memory():
    async def huge(socket):
        await socket.text("[" + " " * (5 << 20) + "]")
        await socket.stay()

    with streaming(playing(huge), playing([minute_bar()])) as vendor:
        run = Run(vendor.url, enough=1, seconds=4)
    assert len(run.bars) == 1
    assert "1009" in run.said[0]


def test_duplicates_are_handed_on_for_the_keeper_to_judge():
    with streaming(playing([minute_bar()], [minute_bar()], [minute_bar(), minute_bar()])) as vendor:
        run = Run(vendor.url, enough=4)
    assert len(run.bars) == 4


# The key


def test_no_log_holds_the_key_whatever_its_level():
    lines = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    root, keep = logging.getLogger(), Keep()
    level = root.level
    root.addHandler(keep)
    root.setLevel(logging.DEBUG)
    for name in ("websockets", "websockets.client"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    try:
        with streaming(playing([minute_bar()])) as vendor:
            logging.getLogger("websockets.server").setLevel(logging.WARNING)
            Run(vendor.url, enough=1)
    finally:
        root.removeHandler(keep)
        root.setLevel(level)
    assert KEY not in "\n".join(lines)


def test_what_has_arrived_when_it_is_cancelled_is_handed_on_first():
    sent = threading.Event()

    async def many(socket):
        for k in range(60):  # more than is read at a time
            await socket.send(minute_bar(k=k, more="x" * 10_000))
        sent.set()

    class Slow(Run):
        def _put(self, event):
            sent.wait(5)
            super()._put(event)

    with streaming(playing(many)) as vendor:
        run = Slow(vendor.url, enough=1, pace=Pace())
    assert [bar.start for bar in run.bars] == [OPEN + timedelta(minutes=k) for k in range(60)]


def test_a_stream_that_is_cancelled_leaves_no_socket_open():
    with streaming(playing([minute_bar()])) as vendor:
        Run(vendor.url, enough=1)
        assert isinstance(vendor, Vendor)
    # an unclosed transport would be a warning, and warnings are errors here
