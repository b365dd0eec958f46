"""The turnstile with real processes, real threads and real signals."""

import json
import os
import signal
import stat
import subprocess
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from processes import output, start

from marketagent.errors import Busy
from marketagent.store.turnstile import gate_file, held, lock_file

HOLD = """
import sys, time
from pathlib import Path
from marketagent.store.turnstile import held
path = Path(sys.argv[1])
sys.argv = ["ma", "fetch", "AAPL"]
with held(path):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(path: Path) -> subprocess.Popen:
    process = start(HOLD, path)
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def path(tmp_path):
    return tmp_path / "market.duckdb"


@pytest.fixture
def busy(path):
    with holder(path) as process:
        yield process
        process.kill()


def test_busy_names_the_holder_and_how_long_was_waited(path, busy):
    start = time.monotonic()
    with pytest.raises(Busy) as caught, held(path, 0.3):
        pass
    waited = time.monotonic() - start
    assert 0.3 <= waited < 3
    text = str(caught.value)
    assert text.startswith(f"busy: market.duckdb is held by pid {busy.pid} (ma fetch) since 2")
    assert text.endswith("Z; waited 0.3 s; nothing was changed")


def test_no_time_to_wait_is_busy_at_once_and_free_is_free(path, busy):
    start = time.monotonic()
    with pytest.raises(Busy), held(path, 0):
        pass
    assert time.monotonic() - start < 1
    busy.kill()
    busy.wait()
    time.sleep(0.1)  # the place in the queue that was given up is given back
    with held(path, 0):
        pass


def test_a_killed_holder_frees_it_at_once(path, busy):
    freed = threading.Timer(0.2, busy.kill)
    freed.start()
    start = time.monotonic()
    with held(path, 30):
        waited = time.monotonic() - start
    assert 0.1 < waited < 2


def test_who_gave_up_keeps_nobody_out(path):
    with held(path):
        for _ in range(5):
            with pytest.raises(Busy), held(path, 0.02):
                pass
    with held(path, 5):
        pass
    with held(path, 5):
        pass


def test_an_interrupted_wait_gives_its_place_back(path):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with held(path):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(KeyboardInterrupt), held(path, 30):
                pass
        with held(path, 5):
            pass
    finally:
        signal.signal(signal.SIGALRM, before)


def test_threads_of_one_process_exclude_each_other(path):
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with held(path, 30):
                inside += 1
                most = max(most, inside)
                time.sleep(0.001)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_nobody_starves_and_the_queue_moves_in_order(path):
    """Two that come back at once, and one that comes thirty times: between its turns each other has few."""
    turns: list[int] = []
    stop = threading.Event()

    def greedy(number: int) -> None:
        while not stop.is_set():
            with held(path, 30):
                turns.append(number)
                time.sleep(0.003)

    others = [threading.Thread(target=greedy, args=(number,)) for number in (1, 2, 3)]
    for thread in others:
        thread.start()
    for _ in range(30):
        with held(path, 30):
            turns.append(0)
            time.sleep(0.003)
    stop.set()
    for thread in others:
        thread.join()
    mine = [place for place, number in enumerate(turns) if number == 0]
    between = sorted(b - a - 1 for a, b in pairwise(mine))
    assert len(mine) == 30
    assert between[len(between) // 2] <= 4  # three others: three turns of theirs between two of ours
    assert between[-1] <= 12


def test_a_lock_file_that_was_deleted_locks_nobody_out_and_nobody_in(path):
    entered = threading.Event()
    leave = threading.Event()
    other = threading.Event()

    def first() -> None:
        with held(path, 5):
            entered.set()
            leave.wait(10)

    def second() -> None:
        with held(path, 10):
            other.set()

    one = threading.Thread(target=first)
    one.start()
    assert entered.wait(5)
    two = threading.Thread(target=second)
    two.start()
    time.sleep(0.1)  # it waits on the file that is now deleted
    lock_file(path).unlink()
    leave.set()
    assert other.wait(5)
    one.join()
    two.join()
    assert lock_file(path).exists()
    with held(path, 0), pytest.raises(Busy), held(path, 0.05):
        pass


def test_the_files_stay_and_are_private(path):
    with held(path):
        name = json.loads(lock_file(path).read_text())
    assert name["pid"] == os.getpid()
    for file in (lock_file(path), gate_file(path)):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_child_does_not_inherit_the_lock(path):
    with held(path):
        child = subprocess.Popen(["sleep", "30"])
    try:
        with held(path, 0.5):
            pass
    finally:
        child.kill()
        child.wait()


def test_a_lock_file_that_is_a_link_is_not_followed(path, tmp_path):
    lock_file(path).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Exception, match=r"market\.duckdb\.lock"), held(path, 0.1):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_an_unreadable_name_still_says_busy(path):
    with held(path):
        lock_file(path).write_bytes(b"\xff\x00garbage")
        with pytest.raises(Busy, match="held by another process; waited"), held(path, 0.05):
            pass


def test_a_name_cannot_write_to_the_terminal(path):
    with held(path):
        text = {"pid": 1, "host": os.uname().nodename, "command": "ma \x1b]52;c;eA==\x07\n", "since": "now"}
        lock_file(path).write_text(json.dumps(text))
        with pytest.raises(Busy) as caught, held(path, 0.05):
            pass
    assert str(caught.value).isprintable()


NOBODY = """
import os, sys
from pathlib import Path
from marketagent.errors import NotPermitted
from marketagent.store.turnstile import held
if os.geteuid() == 0:
    os.setuid(65534)
try:
    with held(Path(sys.argv[1])):
        print("got in")
except NotPermitted as error:
    print("not permitted:", error)
"""


def test_a_folder_that_cannot_be_written_is_not_permitted():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        said = output(NOBODY, Path(folder, "market.duckdb"))
    assert said.startswith(f"not permitted: permission denied at {folder}")
