"""Each bar once into the store and once out, in order, under duplicates, drops, gaps and kills; the store is real."""

import os
import signal
import subprocess
import sys
import time
from datetime import date, timedelta

import anyio
import pytest
from prices import ask, new_home
from streams import ROOT, environment
from vendors import OPEN

from marketagent.errors import Busy, DiskError, Unavailable
from marketagent.store.live import Row, write_bars
from marketagent.streams import keeper as keeper_module
from marketagent.streams.events import MINUTE, Bar, Status
from marketagent.streams.keeper import Keeper
from marketagent.streams.watch import Watch


def bar(k=0, symbol="AAPL", close=10.5, **more):
    return Bar(symbol=symbol, start=OPEN + k * MINUTE, open=10, high=11, low=9, close=close, volume=100, **more)


NUMBERS = ("open", "high", "low", "close", "volume")
UP, DOWN, BROKEN = Status(word="subscribed"), Status(word="ended"), Status(word="broken")


class Rest:
    """A vendor's REST interface that has `bars`; `after` are its answers' delay, `error` is what it fails with."""

    def __init__(self, *bars, after=0.0, error=None):
        self.bars, self.after, self.error = bars, after, error
        self.asked = []

    async def missing(self, symbol, first, last):
        self.asked.append((symbol, int((first - OPEN) / MINUTE), int((last - OPEN) / MINUTE)))
        await anyio.sleep(self.after)
        if self.error:
            raise self.error
        return [each for each in self.bars if each.symbol == symbol and first <= each.start <= last]


class Kept:
    """A keeper on `home` at minute `at` of the session, fed by `feed(keeper, wait)`."""

    def __init__(
        self,
        home,
        feed,
        *,
        rest=None,
        at=30.0,
        known=-1,
        symbols=("AAPL", "MSFT"),
        write=None,
        printed=None,
        hurry=False,
    ):
        self.out, self.said, self.at, self.rest = [], [], at, rest or Rest()
        self.home, self._feed, self._hurry = home, feed, hurry
        self.watch = Watch(self.now, [(OPEN, OPEN + timedelta(hours=6.5))])
        known = dict.fromkeys(symbols, OPEN + known * MINUTE)
        self.keeper = Keeper(
            write=write or self.write,
            gaps=self.rest,
            out=self.out.append,
            watch=self.watch,
            now=self.now,
            until=lambda moment: 0.0,
            known=known,
            printed=printed or {},
            tell=self.said.append,
        )
        anyio.run(self.main)

    def now(self):
        return OPEN + timedelta(minutes=self.at)

    def write(self, bars):
        rows = [
            Row(symbol=b.symbol, start=b.start, session=date(2026, 11, 20), **dict(zip(NUMBERS, b.values, strict=True)))
            for b in bars
        ]
        return write_bars(self.home, rows, source="polygon", feed="", now=OPEN + timedelta(hours=6), timeout_s=10)

    async def main(self):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.keeper.run)
            await self._feed(self.keeper, self)
            self.keeper.finish(hurry=self._hurry)

    @property
    def minutes(self):
        return [(each.symbol, int((each.start - OPEN) / MINUTE)) for each in self.out]

    @property
    def stored(self):
        rows = ask(self.home, "SELECT symbol, ts, close FROM bars ORDER BY symbol, ts")
        return [(symbol, int((ts - OPEN.replace(tzinfo=None)) / MINUTE), close) for symbol, ts, close in rows]


@pytest.fixture
def home(tmp_path):
    return new_home(tmp_path)


def feeding(*events, pause=0.0):
    async def feed(keeper, kept):
        for event in events:
            keeper.heed(event) if isinstance(event, Status) else keeper.take(event)
            await anyio.sleep(pause)

    return feed


# Once


def test_a_bar_is_in_the_store_before_it_is_out(home):
    seen = []

    async def feed(keeper, kept):
        kept.keeper._out = lambda one: seen.append((one.start, kept.stored))
        keeper.take(bar(0))
        await anyio.sleep(0.3)

    Kept(home, feed)
    assert seen == [(OPEN, [("AAPL", 0, 10.5)])]


def test_duplicates_are_stored_once_and_out_once(home):
    kept = Kept(home, feeding(bar(0), bar(0), bar(0), bar(1), bar(0), bar(1), pause=0.05))
    assert kept.minutes == [("AAPL", 0), ("AAPL", 1)]
    assert [row[:2] for row in kept.stored] == [("AAPL", 0), ("AAPL", 1)]
    assert (kept.keeper.counts["added"], kept.keeper.counts["repeated"]) == (2, 4)
    assert ask(home, "SELECT * FROM superseded_bars") == []


def test_a_correction_is_stored_and_counted_and_not_out_again(home):
    late = bar(0, close=10.7, updated=True)
    kept = Kept(home, feeding(bar(0), late, bar(0), late, pause=0.2))
    assert kept.minutes == [("AAPL", 0)]
    assert kept.stored == [("AAPL", 0, 10.7)]
    assert kept.keeper.counts["corrected"] == 1
    assert ask(home, "SELECT close FROM superseded_bars") == [(10.5,)]


def test_a_correction_of_a_bar_that_was_never_seen_is_a_bar(home):
    kept = Kept(home, feeding(bar(0, updated=True)))
    assert kept.minutes == [("AAPL", 0)]


def test_a_correction_of_what_an_earlier_run_stored_is_not_out_again(home):
    Kept(home, feeding(bar(3)))
    kept = Kept(home, feeding(bar(3, close=10.8, updated=True), bar(4)), known=3, printed={"AAPL": OPEN + 3 * MINUTE})
    assert kept.minutes == [("AAPL", 4)]
    assert kept.stored == [("AAPL", 3, 10.8), ("AAPL", 4, 10.5)]
    assert (kept.keeper.counts["corrected"], kept.keeper.counts["late"]) == (1, 0)


def test_bars_that_changed_places_are_out_in_order(home):
    kept = Kept(home, feeding(bar(0), bar(2), bar(1), bar(3), pause=0.02))
    assert kept.minutes == [("AAPL", k) for k in range(4)]


def test_a_bar_that_is_too_late_is_stored_and_counted_and_not_out(home):
    kept = Kept(home, feeding(bar(0), bar(2), bar(1), pause=0.7))
    assert kept.minutes == [("AAPL", 0), ("AAPL", 2)]
    assert len(kept.stored) == 3
    assert kept.keeper.counts["late"] == 1


def test_what_is_no_bar_is_set_aside_told_once_and_the_good_one_still_comes(home):
    bad = bar(0, close=float("nan"))
    kept = Kept(home, feeding(bad, bad, bar(0), pause=0.2))
    assert kept.minutes == [("AAPL", 0)]
    assert kept.said == ["AAPL: a bar was set aside: close missing is not a number (ma sql 'from quarantine')"]
    assert len(ask(home, "SELECT * FROM quarantine")) == 1


def test_a_symbol_nobody_asked_for_is_left_out(home):
    assert Kept(home, feeding(bar(0, "EVIL"))).stored == []


# Gaps


def test_started_in_the_middle_of_a_session_it_begins_with_the_minutes_it_missed(home):
    rest = Rest(*(bar(k) for k in range(5)), bar(1, "MSFT"), after=0.3)
    kept = Kept(home, feeding(UP, bar(5), bar(5, "MSFT"), pause=0.05), rest=rest, at=5.5)
    by_minute = sorted([*((k, "AAPL") for k in range(6)), (1, "MSFT"), (5, "MSFT")])
    assert kept.minutes == [(symbol, k) for k, symbol in by_minute]  # who decides on whole minutes finds them whole
    assert sorted(rest.asked) == [("AAPL", 0, 4), ("MSFT", 0, 4)]
    assert (kept.keeper.counts["filled"], kept.keeper.counts["added"]) == (6, 8)


def test_after_a_drop_the_missing_minutes_come_before_the_newer_ones(home):
    rest = Rest(*(bar(k) for k in range(20)), after=0.2)

    async def feed(keeper, kept):
        for kept.at, event in (
            (5.1, UP), (6.1, bar(5)), (6.5, DOWN), (11.5, UP), (11.6, bar(10)), (12.1, bar(11)), (13.1, bar(12)),
        ):  # fmt: skip
            keeper.heed(event) if isinstance(event, Status) else keeper.take(event)
            await anyio.sleep(0.02)
        await anyio.sleep(0.4)

    kept = Kept(home, feed, rest=rest, known=4, symbols=("AAPL",))
    assert kept.minutes == [("AAPL", k) for k in range(5, 13)]
    assert rest.asked == [("AAPL", 6, 10)]  # up to the last minute that had closed
    assert kept.keeper.counts["filled"] == 4  # the tenth came by itself


def test_a_symbol_that_does_not_trade_is_not_asked_for_the_whole_day_at_each_drop(home):
    async def feed(keeper, kept):
        for kept.at, event in (
            (60.1, UP),
            (61.1, bar(60)),
            (61.5, DOWN),
            (61.6, UP),
            (90.1, bar(89)),
            (90.2, DOWN),
            (90.3, UP),
        ):
            keeper.heed(event) if isinstance(event, Status) else keeper.take(event)
            await anyio.sleep(0.1)

    kept = Kept(home, feed, known=59)
    assert ("MSFT", 60, 60) in kept.rest.asked
    assert max(last - first for _, first, last in kept.rest.asked) <= 2


def test_a_gap_that_cannot_be_had_holds_nobody_and_is_named_until_it_is_filled(home):
    rest = Rest(*(bar(k) for k in range(9)), error=Unavailable("polygon is out of order"))

    async def feed(keeper, kept):
        keeper.heed(UP)
        keeper.take(bar(5))
        await anyio.sleep(0.2)
        assert kept.minutes == [("AAPL", 5)]
        assert "polygon is out of order" in keeper.failed["AAPL"]
        rest.error = None
        keeper.heed(DOWN)
        keeper.heed(UP)
        await anyio.sleep(0.2)

    kept = Kept(home, feed, rest=rest, at=5.5, symbols=("AAPL",))
    assert kept.keeper.failed == {}
    assert [row[1] for row in kept.stored] == list(range(6))
    assert kept.minutes == [("AAPL", 5)]  # in order: what came too late for its reader is in the store
    assert kept.keeper.counts["late"] == 5


def test_a_frame_that_cannot_be_read_is_a_gap(home):
    rest = Rest(bar(9), bar(10))

    async def feed(keeper, kept):
        for kept.at, event in ((9.5, UP), (10.1, bar(9)), (11.1, BROKEN), (11.2, BROKEN), (12.1, bar(11))):
            keeper.heed(event) if isinstance(event, Status) else keeper.take(event)
            await anyio.sleep(0.1)

    kept = Kept(home, feed, rest=rest, known=8, symbols=("AAPL",))
    assert kept.minutes == [("AAPL", 9), ("AAPL", 10), ("AAPL", 11)]
    assert rest.asked == [("AAPL", 10, 10)]


def test_what_rest_says_of_a_silence_teaches_the_watch(home):
    for rest, patience in ((Rest(), 12), (Rest(bar(28)), 3)):

        async def feed(keeper, kept):
            kept.at = 26
            kept.watch.started()
            kept.at = 30
            assert kept.watch.is_mute()
            keeper.heed(UP)
            await anyio.sleep(0.1)

        kept = Kept(home, feed, rest=rest, known=25, symbols=("AAPL",))
        assert kept.watch.patience == patience * MINUTE


def test_in_a_hurry_nobody_waits_for_a_gap(home):
    start = time.monotonic()
    kept = Kept(home, feeding(UP, bar(5), pause=0.05), rest=Rest(after=20), at=5.5, hurry=True)
    assert kept.minutes == [("AAPL", 5)]
    assert time.monotonic() - start < 3
    assert "the stream ended first" in kept.keeper.failed["AAPL"]


def test_bars_and_the_end_wait_for_a_gap_for_so_long_and_no_longer(home, monkeypatch):
    monkeypatch.setattr(keeper_module, "HOLD_S", 0.4)

    async def feed(keeper, kept):
        keeper.heed(UP)
        keeper.take(bar(5))
        await anyio.sleep(0.2)
        assert kept.minutes == []
        keeper.heed(DOWN)
        keeper.heed(UP)  # one more drop begins no new wait
        await anyio.sleep(0.4)
        assert kept.minutes == [("AAPL", 5)]

    start = time.monotonic()
    kept = Kept(home, feed, rest=Rest(after=20), at=5.5, symbols=("AAPL",))
    assert time.monotonic() - start < 3
    assert kept.said == ["1 gaps are not filled after 0 s; newer bars go out before them"]
    assert "the stream ended first" in kept.keeper.failed["AAPL"]


# The store


def test_a_busy_store_is_waited_for_and_no_bar_is_lost(home):
    left = [Busy("busy: market.duckdb is held by pid 1")] * 2

    def write(bars):
        if left:
            raise left.pop()
        return kept_write(bars)

    probe = Kept(home, feeding())
    kept_write = probe.write
    kept = Kept(home, feeding(bar(0), bar(1), pause=0.05), write=write)
    assert kept.minutes == [("AAPL", 0), ("AAPL", 1)]
    assert len(kept.said) == 2
    assert "bars wait" in kept.said[0]


def test_a_full_disk_ends_the_stream_and_prints_nothing_that_is_not_stored(home):
    def write(bars):
        raise DiskError("the disk is full")

    with pytest.raises(BaseExceptionGroup) as caught:
        Kept(home, feeding(bar(0), pause=0.2), write=write)
    assert caught.group_contains(DiskError, depth=1)


def test_a_burst_of_many_symbols_is_a_few_writes(home):
    sizes = []
    probe = Kept(home, feeding())

    def write(bars):
        sizes.append(len(bars))
        return probe.write(bars)

    symbols = [f"S{n}" for n in range(200)]
    kept = Kept(home, feeding(*(bar(0, symbol) for symbol in symbols)), symbols=symbols, write=write)
    assert len(kept.out) == 200
    assert len(sizes) <= 4


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_moment_and_run_again_every_bar_is_there_once(home, seed):
    code = """
import sys, anyio; sys.path.insert(0, 'tests')
from pathlib import Path
from test_stream_keeper import Kept, bar
async def feed(keeper, kept):
    for k in range(25):
        keeper.take(bar(k)); keeper.take(bar(k)); keeper.take(bar(k, 'MSFT'))
        print(k, flush=True)
        await anyio.sleep(0.02)
Kept(Path(sys.argv[1]), feed, at=60)
"""
    runs = 0
    while True:
        child = subprocess.Popen(
            [sys.executable, "-c", code, home], env=environment(home), cwd=ROOT, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        if runs < 2:
            for _ in range(3 + (seed * 7 + runs * 11) % 15):
                child.stdout.readline()
            os.kill(child.pid, signal.SIGKILL)
        child.communicate(timeout=60)
        runs += 1
        if runs == 3:
            break
    assert child.returncode == 0
    rows = ask(home, "SELECT symbol, ts, count(*) FROM bars GROUP BY ALL")
    assert len(rows) == 50
    assert {count for _, _, count in rows} == {1}
    assert ask(home, "SELECT * FROM superseded_bars") == []
