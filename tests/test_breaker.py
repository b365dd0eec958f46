"""The breaker: opens once for all, lets one probe through, and never stays open or shut for ever."""

import itertools
import time

import pytest
from processes import output, start
from worlds import START, Clock

from marketagent import home as homes
from marketagent import journal
from marketagent.breaker import LONGEST_S, Breaker, BreakerOpen, Outcome, Pass, Rules
from marketagent.errors import Busy
from marketagent.ledger import Ledger

DOWN, WELL, UNKNOWN = Outcome.DOWN, Outcome.WELL, Outcome.UNKNOWN
RULES = Rules(threshold=3, open_s=30, longest_s=200, lease_s=10, memory_s=300)


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    homes.create(home)
    journal.create(home)
    return home


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(home, clock):
    made = []

    def make(rules=RULES, key="polygon", **more):
        ledger = Ledger(home, clock.now, timeout_s=0.2)
        made.append(ledger)
        return Breaker(ledger, key, rules, **more)

    yield make
    for ledger in made:
        ledger.close()


def fail(breaker, times=3):
    for _ in range(times):
        breaker.done(breaker.enter(), DOWN)


def shut(breaker):
    with pytest.raises(BreakerOpen) as refused:
        breaker.enter()
    with pytest.raises(BreakerOpen):
        breaker.check()
    assert refused.value.exit_code == 75
    return refused.value


def test_three_failures_in_a_row_stop_every_process_then_one_may_try(breaker, clock):
    one, other = breaker(), breaker()
    fail(one)
    error = shut(other)
    assert str(error) == "busy: polygon failed 3 times in a row and is not called; try again in 30 s"
    assert error.wait_s == pytest.approx(30)
    clock.time += 30.01
    other.check()
    leave = other.enter()
    assert leave.probe
    assert "being tried by another command" in str(shut(one))
    other.done(leave, WELL)
    assert one.enter() == Pass()


def test_a_success_between_starts_the_count_again(breaker):
    guard = breaker()
    for _ in range(4):
        fail(guard, 2)
        guard.done(guard.enter(), WELL)
    assert guard.enter() == Pass()


def test_old_failures_are_forgotten(breaker, clock):
    guard = breaker()
    fail(guard, 2)
    clock.time += 301
    fail(guard, 2)
    assert guard.enter() == Pass()


def test_what_says_nothing_about_the_provider_counts_nothing(breaker):
    guard = breaker()
    fail(guard, 2)
    guard.done(guard.enter(), UNKNOWN)
    fail(guard, 1)
    shut(guard)


def test_each_failed_probe_doubles_the_time_up_to_the_longest(breaker, clock):
    guard = breaker()
    fail(guard)
    for expected in (30, 60, 120, 200, 200):
        assert shut(guard).wait_s == pytest.approx(expected)
        clock.time += expected + 0.01
        guard.done(guard.enter(), DOWN)


def test_retry_after_is_honoured_up_to_an_hour(breaker, clock):
    guard = breaker(Rules(threshold=1))
    guard.done(guard.enter(), DOWN, retry_after_s=100)
    assert shut(guard).wait_s == pytest.approx(100)
    clock.time += 100.01
    guard.done(guard.enter(), DOWN, retry_after_s=1e8)
    assert shut(guard).wait_s == pytest.approx(LONGEST_S)


def test_calls_that_were_on_their_way_neither_close_nor_prolong(breaker, clock):
    guard = breaker()
    early = [guard.enter() for _ in range(6)]
    for leave in early[:3]:
        guard.done(leave, DOWN)
    clock.time += 20
    guard.done(early[3], DOWN)
    guard.done(early[4], WELL)
    assert shut(guard).wait_s == pytest.approx(10)


def test_a_prober_that_vanished_is_replaced_and_has_no_say_any_more(breaker, clock):
    guard = breaker()
    fail(guard)
    clock.time += 31
    lost = guard.enter()
    clock.time += 9
    shut(guard)
    clock.time += 1.01
    second = guard.enter()
    assert second.probe not in {None, lost.probe}
    guard.done(lost, WELL)
    shut(guard)
    guard.done(second, WELL)
    assert guard.enter() == Pass()


def test_a_prober_that_gave_up_hands_the_lease_on(breaker, clock):
    guard = breaker()
    fail(guard)
    clock.time += 31
    guard.done(guard.enter(), UNKNOWN)
    assert guard.enter().probe


def test_a_clock_that_jumped_back_does_not_keep_it_open(breaker, clock):
    guard = breaker()
    clock.time += 86400
    fail(guard)
    clock.time = START
    assert guard.enter().probe
    clock.time -= 86400
    assert guard.enter().probe  # the lease is from the future as well


def test_two_providers_have_two_breakers(breaker):
    fail(breaker())
    assert breaker(key="alpaca").enter() == Pass()


def test_a_store_that_cannot_be_read_lets_calls_through_except_where_orders_are_at_stake(breaker, home):
    guard, strict = breaker(), breaker(closed_if_unreadable=True)
    fail(guard)
    guard._ledger.close()
    (home / journal.FILE).write_bytes(b"no database at all" * 100)
    guard.check()
    leave = guard.enter()
    assert leave == Pass()
    for outcome in Outcome:
        guard.done(leave, outcome)
        strict.done(leave, outcome)
    with pytest.raises(Busy, match=r"whether polygon may be called cannot be read .*not a Market Agent journal"):
        strict.enter()
    with pytest.raises(Busy, match="cannot be read"):
        strict.check()


MAKE = """
import sys, time
from pathlib import Path
from marketagent.breaker import *
from marketagent.ledger import Ledger
guard = Breaker(Ledger(Path(sys.argv[1]), time.time), "x", Rules(threshold=20, open_s=0.3, lease_s=1.5, longest_s=0.3))
"""
FAIL = MAKE + "for _ in range(25): guard.done(Pass(), Outcome.DOWN)"
PROBE = (
    MAKE
    + """
while time.time() < float(sys.argv[2]):
    try:
        leave = guard.enter()
    except BreakerOpen:
        time.sleep(0.01)
        continue
    print(leave.probe or "through", time.time(), flush=True)
    time.sleep(60 if sys.argv[3] == "hang" else 0.1)
    guard.done(leave, Outcome.DOWN)
"""
)


def test_no_failure_of_many_processes_is_lost(home):
    for process in [start(FAIL, home) for _ in range(4)]:
        assert process.communicate(timeout=30)[1] == ""
    with journal.opened(home) as book:
        assert book.rows("SELECT failures FROM breakers")[0][0] == 100


def test_one_process_probes_at_a_time_and_a_killed_prober_is_replaced_after_its_lease(home):
    output(FAIL, home)
    time.sleep(0.35)
    hanging = start(PROBE, home, time.time() + 60, "hang")
    first = hanging.stdout.readline().split()
    end = time.time() + 4
    others = [start(PROBE, home, end, "work") for _ in range(3)]
    hanging.kill()
    hanging.communicate()
    lines = []
    for process in others:
        out, err = process.communicate(timeout=30)
        assert err == ""
        lines += [line.split() for line in out.splitlines()]
    assert "through" not in {who for who, _ in lines}
    assert len({who for who, _ in lines}) == len(lines)  # each lease was used once
    times = sorted(float(at) for _, at in lines)
    assert len(times) >= 2
    assert times[0] >= float(first[1]) + 1.3  # 1.5 s, less the time the child took to say so
    assert all(later - sooner >= 0.3 for sooner, later in itertools.pairwise(times))
