"""``ma trade`` killed at every statement of the journal, at random times, and on a full disk: a rerun ends in one place.

SIGKILL stands for a crash of the process. After each one the ledger is sound (``accounts.assert_sound``), and the
run that follows brings it, but for instants, to the state of a run that was never disturbed.
"""

import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from accounts import assert_sound, csv_text, ledger, new_home, random_panel, scored, sealed_bytes, store
from streams import environment

from marketagent import journal
from marketagent.records import Decision

FORKS = Path(__file__).with_name("forks.py")
SPLIT_ON = 66  # between the first stream and the second one
KILLED, DONE, DISK = -9, 0, 74


class Crashes:
    """A home with an account that has traded once, and a second stream to be traded over four sessions."""

    def __init__(self, folder):
        self.home = new_home(folder)
        days = trading_days(self.home)
        panel = random_panel(8, length=70, days=days)
        panel.split[SPLIT_ON, 4], panel.dividend[SPLIT_ON + 1, 5] = 1.5, 0.4
        store(self.home, csv_text(panel))
        self.panel, self.folder = panel, folder
        self.process = subprocess.Popen(
            [sys.executable, str(FORKS), str(self.home)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment(self.home, PYTHONPATH=f"{FORKS.parent}:{FORKS.parent.parent}"),
        )  # fmt: skip
        self.first = self.stream("first", "buy_and_hold", 63, 0.12)
        self.second = self.stream("second", "other", 67, None)
        self.last_day = self.stream("today", "other", 69, None)
        self.ask("learn", 0, ",".join(panel.symbols), self.first)
        assert self.run("step", 10**9, self.first) == DONE
        self.clean = folder / "clean.sqlite3"
        shutil.copy(self.home / journal.FILE, self.clean)

    def stream(self, run, strategy, t, weight):
        rng, records = random.Random(t), []
        for record in scored(self.panel, "buy_and_hold", {}, t):
            new = weight if weight is not None else rng.choice([0.0, 0.05, 0.2, 0.3, None])
            records.append(Decision(**{**vars(record), "weight": new, "band": 0.0, "strategy": strategy}))
        file = self.folder / f"{run}.ndjson"
        file.write_bytes(sealed_bytes(records, run))
        return file

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def run(self, what, amount, file, fill="next-open"):
        return int(self.ask(what, amount, fill, file))

    def reset(self):
        for end in ("-wal", "-shm"):
            (self.home / (journal.FILE + end)).unlink(missing_ok=True)
        shutil.copy(self.clean, self.home / journal.FILE)

    def ledger(self):
        with journal.opened(self.home) as book:
            book.execute("PRAGMA synchronous = OFF")
            assert_sound(book)
            return ledger(book)

    def undisturbed(self, file, fill):
        self.reset()
        assert self.run("step", 10**9, file, fill) == DONE
        return self.ledger()


def trading_days(home):
    from marketagent.store.database import opened
    from marketagent.store.market import MARKET

    with opened(home / MARKET) as con:
        rows = con.execute("SELECT session FROM sessions WHERE session >= DATE '2011-01-03' ORDER BY 1 LIMIT 70")
        return rows.fetchnumpy()["session"].astype("datetime64[D]")


@pytest.fixture(scope="module")
def crashes(tmp_path_factory):
    crashes = Crashes(tmp_path_factory.mktemp("crashes"))
    with crashes.process:
        yield crashes
    assert crashes.process.returncode == 0


@pytest.mark.parametrize(("stream", "fill"), [("second", "next-open"), ("second", "last"), ("last_day", "next-open")])
def test_a_kill_before_any_statement_of_the_journal_is_made_good_by_a_rerun(crashes, stream, fill):
    file = getattr(crashes, stream)
    expected, before = crashes.undisturbed(file, fill), set()
    for step in range(1, 1000):
        crashes.reset()
        if crashes.run("step", step, file, fill) == DONE:
            break
        left = crashes.ledger()
        before.add(str(left))
        assert crashes.run("step", 10**9, file, fill) == DONE, f"the rerun after a kill at statement {step}"
        assert crashes.ledger() == expected, f"killed at statement {step}"
    assert step > 60
    assert len(before) >= 4  # the kills did fall between the transactions, not only into the first


def test_a_second_and_a_third_kill_on_the_way_change_nothing(crashes):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng, expected = random.Random(seed), crashes.undisturbed(crashes.second, "next-open")
    for _ in range(25):
        crashes.reset()
        for _ in range(3):
            if crashes.run("step", rng.randint(1, 110), crashes.second) == DONE:
                break
            crashes.ledger()
        crashes.run("step", 10**9, crashes.second)
        assert crashes.ledger() == expected


def killed_at_random(crashes, count):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng, expected, killed = random.Random(seed), crashes.undisturbed(crashes.second, "next-open"), 0
    for _ in range(count):
        crashes.reset()
        killed += crashes.run("time", rng.uniform(0.01, 0.35), crashes.second) == KILLED
        crashes.ledger()
        assert crashes.run("size", -1, crashes.second) in (DONE, 4)  # 4: the kill came after all was done
        assert crashes.ledger() == expected
    return killed


def test_the_command_killed_at_random_times_is_made_good_by_a_rerun(crashes):
    assert killed_at_random(crashes, 16) > 0


@pytest.mark.soak
def test_the_command_killed_at_random_times_for_minutes(crashes):
    assert killed_at_random(crashes, 600) > 100


def test_without_room_for_the_ledger_nothing_is_ordered_and_a_rerun_completes(crashes):
    expected = crashes.undisturbed(crashes.second, "next-open")
    crashes.reset()
    before, codes = crashes.ledger(), set()
    for limit in (0, 4096, 8192, 30_000, 60_000, 100_000, 150_000, 2_000_000):
        crashes.reset()
        code = crashes.run("size", limit, crashes.second)
        codes.add(code)
        assert code in (DISK, DONE), f"with files of at most {limit} bytes"
        left = crashes.ledger()
        if limit <= 8192:
            assert (code, left) == (DISK, before)
        assert (left == expected) == (code == DONE)
        assert crashes.run("size", -1, crashes.second) == (DONE if code == DISK else 4)
        assert crashes.ledger() == expected
    assert codes == {DISK, DONE}
