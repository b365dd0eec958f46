"""The bus, the printer behind it and the order of what goes out: priorities, bounds, and handlers that fail."""

import threading
import time
from datetime import timedelta

import anyio
import pytest
from vendors import OPEN

from marketagent.process import ReaderGone
from marketagent.streams.bus import Bus, Lanes
from marketagent.streams.events import MINUTE, Bar, Quote, Status, Trade
from marketagent.streams.order import Order
from marketagent.streams.printer import Printer
from marketagent.streams.watch import Watch


def bar(k=0, symbol="AAPL", close=10.5, **more):
    return Bar(symbol=symbol, start=OPEN + k * MINUTE, open=10, high=11, low=9, close=close, volume=100, **more)


def trade(k=0):
    return Trade(symbol="AAPL", at=OPEN + timedelta(seconds=k), price=10.0, size=1)


def quote(k=0):
    return Quote(symbol="AAPL", at=OPEN + timedelta(seconds=k), bid=1, bid_size=1, ask=2, ask_size=1)


def handed_on(bus, *events):
    """`bus` with `events` in it, run to its end."""

    async def main():
        for event in events:
            bus.put(event)
        bus.close()
        await bus.run()

    anyio.run(main)


# The bus


def test_status_goes_before_bars_before_trades_before_quotes_and_each_in_order():
    bus, got = Bus(), []
    for kind in (Status, Bar, Trade, Quote):
        bus.on(kind, got.append)
    word = Status(word="told")
    handed_on(bus, quote(1), trade(1), bar(1), quote(2), bar(2), word, trade(2))
    assert got == [word, bar(1), bar(2), trade(1), trade(2), quote(1), quote(2)]


def test_a_full_bus_drops_the_oldest_quotes_then_the_oldest_trades_and_never_a_bar():
    lanes = Lanes(4)
    for event in (quote(1), quote(2), trade(1), trade(2), bar(1), bar(2), bar(3), bar(4), bar(5)):
        lanes.put(event)
    assert [lanes.pop() for _ in range(len(lanes))] == [bar(1), bar(2), bar(3), bar(4), bar(5)]
    assert (lanes.dropped[Quote], lanes.dropped[Trade], lanes.dropped[Bar]) == (2, 2, 0)
    for event in (bar(1), quote(1), quote(2), trade(1), quote(3), bar(2)):
        lanes.put(event)
    assert [lanes.pop() for _ in range(len(lanes))] == [bar(1), bar(2), trade(1), quote(3)]
    assert lanes.pop() is None


def test_a_handler_that_raises_is_told_once_and_counted_and_kills_nothing():
    said, got = [], []
    bus = Bus(tell=said.append)

    def clumsy(event):
        raise ZeroDivisionError("by zero")

    bus.on(Bar, clumsy)
    bus.on(Bar, got.append)
    handed_on(bus, bar(1), bar(2), bar(3))
    assert got == [bar(1), bar(2), bar(3)]
    assert sum(bus.failed.values()) == 3
    (line,) = said
    assert "clumsy failed with ZeroDivisionError: by zero" in line


def test_events_without_a_handler_are_no_trouble():
    bus = Bus()
    handed_on(bus, bar(), quote())
    assert not bus.dropped


def test_a_bus_hands_on_while_it_is_filled():
    async def main():
        bus, got = Bus(), []
        bus.on(Bar, got.append)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bus.run)
            for k in range(3):
                bus.put(bar(k))
                await anyio.sleep(0.01)
                assert len(got) == k + 1
            bus.close()

    anyio.run(main)


def test_what_nobody_takes_any_more_is_counted_as_dropped():
    async def main():
        bus = Bus()
        bus.put(quote(0))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await bus.run()
        bus.put(quote(1))
        return bus.dropped

    assert anyio.run(main) == {Quote: 2}


# The printer


def test_a_slow_reader_stops_nobody_loses_quotes_and_gets_every_bar():
    got, gate = [], threading.Event()

    def write(event):
        gate.wait(10)
        got.append(event)

    printer = Printer(write, failed=lambda: None, most=20)
    printer.start()
    start = time.monotonic()
    for k in range(1000):
        printer.put(quote(k))
        if k % 100 == 0:
            printer.put(bar(k))
    assert time.monotonic() - start < 8.0  # the writer is held for 10
    gate.set()
    printer.finish(give_up=pytest.fail)
    assert [event for event in got if isinstance(event, Bar)] == [bar(k) for k in range(0, 1000, 100)]
    assert printer.dropped[Quote] == 1000 - sum(isinstance(event, Quote) for event in got) > 900
    assert got[-1] == quote(999)


def test_a_reader_that_has_gone_is_told_to_the_stream_and_ends_the_thread():
    told = threading.Event()

    def write(event):
        raise ReaderGone("gone")

    printer = Printer(write, failed=told.set)
    printer.start()
    printer.put(bar())
    assert told.wait(5)
    printer.put(bar(1))
    printer.finish(give_up=pytest.fail)
    assert isinstance(printer.error, ReaderGone)


def test_a_reader_that_never_reads_is_given_up_when_the_time_has_come():
    given_up = threading.Event()

    def write(event):
        given_up.wait(10)

    printer = Printer(write, failed=lambda: None)
    printer.start()
    printer.put(bar())
    time.sleep(0.05)
    printer.finish(give_up=given_up.set, wait_s=0.1)
    assert given_up.is_set()


def test_what_a_reader_that_was_given_up_has_not_had_is_counted_as_dropped():
    given_up, waiting = threading.Event(), threading.Event()

    def write(event):
        if event != quote(0):
            waiting.set()
            given_up.wait(10)
            raise ReaderGone("given up")

    printer = Printer(write, failed=lambda: None)
    printer.start()
    for k in range(5):
        printer.put(quote(k))
    assert waiting.wait(5)
    printer.finish(give_up=given_up.set, wait_s=0.0)
    assert printer.dropped == {Quote: 4}


# The order


def test_bars_that_follow_each_other_go_out_at_once():
    order = Order()
    for k in range(3):
        assert order.add(bar(k), now=0.0)
        assert order.due(0.0) == [bar(k)]


def test_two_bars_that_changed_places_go_out_in_order():
    order = Order({"AAPL": OPEN}, reorder_s=0.1)
    order.add(bar(2), now=1.0)
    assert order.due(1.0) == []
    assert order.next_at() == pytest.approx(1.1)
    order.add(bar(1), now=1.01)
    assert order.due(1.01) == [bar(1), bar(2)]
    assert order.next_at() is None


def test_no_bar_goes_out_before_an_older_one_that_is_on_its_way_into_the_store():
    order = Order({"AAPL": OPEN}, reorder_s=0.1)
    order.add(bar(2), now=1.0)
    assert order.due(9.0, {"AAPL": OPEN + MINUTE, "MSFT": OPEN}) == []
    order.add(bar(1), now=1.05)
    assert order.due(9.0, {"AAPL": OPEN + 2 * MINUTE}) == [bar(1), bar(2)]


def test_a_minute_without_a_trade_delays_the_next_bar_by_a_moment_only():
    order = Order({"AAPL": OPEN}, reorder_s=0.1)
    order.add(bar(5), now=1.0)
    assert order.due(1.11) == [bar(5)]
    assert not order.add(bar(4), now=1.2)  # late: a newer one is out


def test_bars_wait_until_the_gaps_are_filled_and_then_go_out_by_minute():
    order = Order({"AAPL": OPEN, "MSFT": OPEN}, reorder_s=0.1)
    order.hold(30.0)
    order.add(bar(4), now=0.0)
    order.add(bar(4, "MSFT"), now=0.0)
    assert order.due(5.0) == []
    order.add(bar(1), now=5.0, settled=True)
    order.add(bar(3), now=5.0, settled=True)
    order.add(bar(1, "MSFT"), now=5.0, settled=True)
    order.let_go()
    assert order.due(5.0) == [bar(1), bar(1, "MSFT"), bar(3), bar(4), bar(4, "MSFT")]


def test_a_gap_that_is_not_filled_in_time_holds_nothing_any_longer():
    order = Order({"AAPL": OPEN})
    order.hold(30.0)
    order.add(bar(4), now=0.0)
    assert order.next_at() == 30.0
    assert order.due(30.0) == [bar(4)]


def test_a_correction_takes_the_place_of_a_bar_that_waits():
    order = Order({"AAPL": OPEN}, reorder_s=0.1)
    order.add(bar(2), now=0.0)
    order.replace(bar(2, close=10.7))
    order.replace(bar(9, close=10.7))
    assert order.due(0.0, all_of_it=True) == [bar(2, close=10.7)]


# The watch

CALENDAR = [
    (OPEN, OPEN + timedelta(hours=6, minutes=30)),
    (OPEN + timedelta(days=7), OPEN + timedelta(days=7, hours=3, minutes=30)),
]


class At:
    """A market's time that a test sets, in minutes after the open."""

    def __init__(self, minutes=0.0):
        self.minutes = minutes

    def __call__(self):
        return OPEN + timedelta(minutes=self.minutes)


def watched(now, **more):
    watch = Watch(now, CALENDAR, **more)
    watch.started()
    return watch


def test_three_minutes_without_any_bar_in_the_session_are_mute():
    now = At(60)
    watch = watched(now)
    for now.minutes in (61, 62, 63):
        assert not watch.is_mute()
    now.minutes = 63.1
    assert watch.is_mute()
    watch.heard()
    assert not watch.is_mute()


@pytest.mark.parametrize("minutes", [-200, -1, 390, 500, 7 * 1440 + 211, 2 * 1440])
def test_nothing_is_expected_outside_regular_hours_on_half_days_and_on_weekends(minutes):
    now = At(minutes - 100)
    watch = watched(now)
    now.minutes = minutes
    assert not watch.is_mute()
    assert not watch.is_open()


def test_a_night_is_no_silence_and_the_first_bar_is_due_a_minute_after_the_open():
    now = At(-900)
    watch = watched(now)
    now.minutes = 3.9
    assert not watch.is_mute()
    now.minutes = 4.1
    assert watch.is_mute()


def test_one_symbol_that_seldom_trades_is_believed_once_rest_has_nothing_either():
    now = At(60)
    watch = watched(now)
    now.minutes = 64
    assert watch.is_mute()
    watch.proved(mute=False)
    watch.started()
    now.minutes = 70  # six minutes, twice as long as before
    assert not watch.is_mute()
    now.minutes = 77
    assert watch.is_mute()
    watch.proved(mute=True)
    watch.started()
    assert watch.patience < timedelta(minutes=15)


def test_the_usual_silence_is_known_from_the_store_and_from_this_run_and_has_a_limit():
    assert watched(At(60), usual=timedelta(minutes=10)).patience == timedelta(minutes=30)
    assert watched(At(60), usual=timedelta(hours=3)).patience == timedelta(hours=1)
    now = At(60)
    watch = watched(now, usual=timedelta(minutes=4))
    watch.heard()
    now.minutes = 70
    watch.heard()
    assert watch.patience == timedelta(minutes=30)
    for k in range(300):  # a busy stretch: the long silence is forgotten
        now.minutes = 71 + k / 10
        watch.heard()
    assert watch.patience == timedelta(minutes=3)
