"""The limiter: never over the limit, whatever the processes, the kills and the clock do."""

import json
import random
import time

import anyio
import pytest
from processes import start
from worlds import START, Clock

from marketagent import home as homes
from marketagent import journal
from marketagent.errors import Refused
from marketagent.ledger import Ledger
from marketagent.limits import LONGEST_PAUSE_S, Limit, Limiter, RateLimited

FIVE = Limit("polygon", 5, 60)


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
def limiter(home, clock):
    made = []

    def make(*limits, max_wait_s=600.0, at=home, by=clock):
        ledger = Ledger(at, by.now, timeout_s=0.2)
        made.append(ledger)
        return Limiter(ledger, "polygon", limits, by.world(), max_wait_s=max_wait_s)

    yield make
    for ledger in made:
        ledger.close()


def table(home, name):
    with journal.opened(home) as book:
        return [tuple(row) for row in book.rows(f"SELECT * FROM {name}")]


def test_the_sixth_call_of_five_a_minute_waits_for_the_first_to_leave_the_window(limiter, clock):
    gate = limiter(FIVE)
    assert [gate.take() for _ in range(5)] == [0.0] * 5
    assert gate.take() == pytest.approx(63.25)
    clock.time += 63.2
    assert gate.take() == pytest.approx(0.05)
    clock.time += 0.06
    assert [gate.take() for _ in range(5)] == [0.0] * 5
    assert gate.take() > 60


def test_two_commands_share_one_budget(limiter):
    one, other = limiter(FIVE), limiter(FIVE)
    assert [one.take(), other.take(), one.take(), other.take(), one.take()] == [0.0] * 5
    assert one.take() > 60
    assert other.take() > 60


def test_several_limits_are_passed_together_or_not_at_all(limiter, home, clock):
    gate = limiter(FIVE, Limit("polygon", 7, 86400))
    for _ in range(5):
        assert gate.take() == 0.0
    assert 0 < gate.take() <= 63.25
    assert len(table(home, "grants")) == 10  # a refused call charged neither
    clock.time += 64
    assert [gate.take() for _ in range(2)] == [0.0] * 2
    assert gate.take() == pytest.approx(86400 * 1.05 + 0.25 - 64)


def test_waiting_is_sleeping_until_there_is_room_and_replays_by_seed(limiter, clock):
    gate = limiter(Limit("x", 1, 10))
    waits = [anyio.run(gate.acquire) for _ in range(3)]
    assert waits[0] == 0.0
    assert all(10.75 <= wait <= 11.01 for wait in waits[1:])
    again = Clock(START + 1e6)
    gate = limiter(Limit("y", 1, 10), by=again)
    assert [anyio.run(gate.acquire) for _ in range(3)] == pytest.approx(waits, abs=1e-6)


def test_a_wait_longer_than_allowed_is_refused_at_once(limiter, clock):
    gate = limiter(FIVE, max_wait_s=30)
    for _ in range(5):
        gate.take()
    with pytest.raises(
        RateLimited, match=r"limit of polygon \(5 in 60 s\) is used up; a call is free in 63 s"
    ) as refused:
        anyio.run(gate.acquire)
    assert refused.value.exit_code == 75
    assert refused.value.wait_s > 63
    assert clock.slept == []


def test_the_wait_is_capped_as_a_whole(limiter, clock):
    """Every time this one wakes, somebody else was quicker."""
    gate, rival = limiter(Limit("x", 1, 10), max_wait_s=25), limiter(Limit("x", 1, 10))
    rival.take()

    async def outrun(seconds):
        await clock.sleep(seconds)
        rival.take()

    object.__setattr__(gate._world, "sleep", outrun)
    with pytest.raises(RateLimited):
        anyio.run(gate.acquire)
    assert len(clock.slept) == 2
    assert sum(clock.slept) <= 25


def test_a_pause_holds_for_every_process_and_every_window_of_the_provider(limiter, clock):
    asked, other = limiter(FIVE), limiter(FIVE, Limit("polygon", 1000, 86400))
    asked.pause(20)
    assert other.take() == pytest.approx(20)
    asked.pause(5)  # a shorter one does not end it
    assert other.take() == pytest.approx(20)
    clock.time += 20.01
    assert other.take() == 0.0


@pytest.mark.parametrize(
    ("asked", "kept"), [(-5, 0), (0, 0), (10**8, LONGEST_PAUSE_S), (float("inf"), LONGEST_PAUSE_S)]
)
def test_no_pause_is_negative_or_for_ever(limiter, asked, kept):
    gate = limiter(FIVE)
    gate.pause(asked)
    assert gate.take() == pytest.approx(kept)


def test_a_clock_that_jumped_back_does_not_close_the_gate_for_ever(limiter, clock, home):
    gate = limiter(FIVE)
    clock.time += 10 * 86400
    for _ in range(5):
        gate.take()
    gate.pause(600)
    clock.time = START
    assert gate.take() == 0.0
    assert len(table(home, "grants")) == 1


def test_a_small_step_back_does_not_give_the_budget_twice(limiter, clock):
    gate = limiter(FIVE)
    for _ in range(5):
        gate.take()
    clock.time -= 30
    assert gate.take() == pytest.approx(93.25)


def test_a_clock_before_this_program_is_refused(limiter, clock):
    gate = limiter(FIVE)
    clock.time = 86400.0
    with pytest.raises(Refused, match="the system clock says 1970-01-02; set it"):
        gate.take()


@pytest.mark.parametrize("harm", ["garbage", "missing", "locked"])
def test_a_store_that_cannot_be_read_is_a_budget_that_is_spent(limiter, home, harm):
    gate = limiter(FIVE, max_wait_s=10)
    path = home / journal.FILE
    whole = path.read_bytes()
    if harm == "garbage":
        path.write_bytes(b"no database at all" * 100)
    elif harm == "missing":
        path.unlink()
    if harm == "locked":
        with journal.opened(home) as book, book.transaction():
            assert gate.take() == pytest.approx(63.25)
    else:
        assert gate.take() == pytest.approx(63.25)
        gate.pause(5)
        with pytest.raises(RateLimited, match="its count cannot be read"):
            anyio.run(gate.acquire)
        path.write_bytes(whole)
        path.chmod(0o600)
    assert gate.take() == 0.0  # readable again


def test_rows_that_are_over_are_swept_for_every_key(limiter, home, clock):
    limiter(Limit("a", 100, 1)).take()
    limiter(Limit("b", 100, 1)).take()
    limiter(Limit("c", 100, 1)).pause(1)
    assert len(table(home, "grants")) == 2
    clock.time += 10
    limiter(Limit("d", 100, 1)).take()
    assert [row[0] for row in table(home, "grants")] == ["d/1s"]
    limiter().pause(1)
    assert [row[0] for row in table(home, "pauses")] == ["polygon"]


def test_without_limits_only_a_pause_of_the_provider_holds(limiter, tmp_path, home, clock):
    gate = limiter()
    assert gate.take() == 0.0
    assert table(home, "grants") == []
    gate.pause(7)
    assert limiter().take() == pytest.approx(7)
    assert limiter(FIVE).take() == pytest.approx(7)
    assert limiter(at=tmp_path / "nowhere").take() == 0.0


@pytest.mark.parametrize(
    "wrong", [("", 1, 1), ("x", 0, 1), ("x", 1, 0), ("x", 1, float("inf")), ("x", 1, float("nan"))]
)
def test_a_limit_that_is_none_is_the_callers_mistake(wrong):
    with pytest.raises(ValueError, match="not a limit"):
        Limit(*wrong)


# `stamped` is the time that went into the row: what is printed does not depend on when this process was scheduled.
HUNGRY = """
import sys, time
from pathlib import Path
from marketagent.ledger import Ledger
from marketagent.limits import Limit, Limiter
from marketagent.world import World

stamped = 0.0
def now():
    global stamped
    stamped = time.time()
    return stamped

gate = Limiter(Ledger(Path(sys.argv[1]), now), "x", [Limit("x", 10, 1.0), Limit("x", 25, 3.0)], World(now=now), max_wait_s=9)
print("ready", flush=True)
end = float(sys.stdin.readline())
while time.time() < end:
    wait = gate.take()
    if wait == 0.0:
        print(stamped, flush=True)
    else:
        time.sleep(min(wait, 0.05))
"""


@pytest.mark.parametrize("kills", [0, 12])
def test_no_window_of_four_processes_is_over_the_limit(home, kills):
    dice, times, seconds = random.Random(3), [], 5.0
    hungry = [start(HUNGRY, home) for _ in range(4)]
    assert [process.stdout.readline() for process in hungry] == ["ready\n"] * 4
    end = time.time() + seconds
    for process in hungry:
        process.stdin.write(f"{end}\n")
        process.stdin.flush()
    for _ in range(kills):
        time.sleep(seconds / 2 / kills)
        victim = hungry.pop(dice.randrange(len(hungry)))
        victim.kill()
        times += collect(victim)
        hungry.append(start(HUNGRY, home))
        hungry[-1].stdin.write(f"{end}\n")
        hungry[-1].stdin.flush()
    for process in hungry:
        times += collect(process)
    times.sort()
    assert len(times) >= 35 - kills  # the budget is used: ten at once, ten each 1.3 s, and a kill wastes one at most
    for calls, span in ((10, 1.3), (25, 3.4)):
        assert all(later - sooner >= span - 1e-6 for sooner, later in zip(times, times[calls:], strict=False))


def collect(process):
    out, err = process.communicate(timeout=30)
    assert process.returncode in {0, -9}, err
    return [json.loads(line) for line in out.splitlines() if line != "ready" and line.endswith(tuple("0123456789"))]
