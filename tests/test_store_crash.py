"""Many processes at once, and processes killed at random: nothing acknowledged is lost, nothing is there by half.

A writer prints a number once its block has ended; that is what it acknowledges. SIGKILL stands for a crash of the
process, not of the machine.
"""

import random
import subprocess
import time
from pathlib import Path

import pytest
from processes import output, start

from marketagent import home as homes
from marketagent import journal
from marketagent.store.database import create, opened

ROWS = 5
WRITE_DATABASE = f"""
import sys
from pathlib import Path
from marketagent.store.database import opened
path, worker, first, count = Path(sys.argv[1]), *map(int, sys.argv[2:])
for n in range(first, first + count):
    with opened(path, write=True) as connection:
        for row in range({ROWS}):
            connection.execute(f"INSERT INTO files VALUES ('{{worker}}', '{{row}}', {{n}}, '2026-11-20')")
    print(n, flush=True)
"""
READ_DATABASE = f"""
import sys
from pathlib import Path
from marketagent.store.database import opened
for _ in range(int(sys.argv[2])):
    with opened(Path(sys.argv[1])) as connection:
        half = "SELECT count(*) FROM (SELECT 1 FROM files GROUP BY fingerprint, rows HAVING count(*) <> {ROWS})"
        print(connection.execute(half).fetchone()[0], flush=True)
"""
WRITE_JOURNAL = f"""
import sys
from pathlib import Path
from marketagent import journal
home, worker, first, count = Path(sys.argv[1]), *map(int, sys.argv[2:])
with journal.opened(home) as book:
    for n in range(first, first + count):
        with book.transaction():
            for row in range({ROWS}):
                name = f"{{worker}} {{n}} {{row}}"
                book.execute(
                    "INSERT INTO accounts (account, cash, settled_through, created_at) VALUES (?, ?, NULL, ?)",
                    (name, n, str(worker)),
                )
        print(n, flush=True)
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "market.duckdb"
    create(path)
    return path


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    homes.create(home)
    journal.create(home)
    return home


def in_database(path: Path) -> dict[tuple[int, int], int]:
    """(worker, n) -> how many of its rows are there."""
    with opened(path) as connection:
        sql = "SELECT fingerprint::INTEGER, rows, count(*) FROM files GROUP BY ALL"
        return {(worker, n): rows for worker, n, rows in connection.execute(sql).fetchall()}


def in_journal(home: Path) -> dict[tuple[int, int], int]:
    sql = "SELECT created_at AS worker, cash AS n, count(*) AS rows FROM accounts GROUP BY created_at, cash"
    with journal.opened(home) as book:
        return {(int(row["worker"]), int(row["n"])): row["rows"] for row in book.rows(sql)}


def finished(process: subprocess.Popen) -> list[int]:
    """The rest of the numbers a child prints until its end. (`communicate` would drop what `readline` read ahead.)"""
    with process:
        out, err = process.stdout.read(), process.stderr.read()
    assert err == ""
    return [int(line) for line in out.splitlines()]


def test_eight_writers_and_four_readers_lose_nothing_and_fail_nowhere(path):
    writers = [start(WRITE_DATABASE, path, worker, 0, 10) for worker in range(8)]
    readers = [start(READ_DATABASE, path, 10) for _ in range(4)]
    assert [finished(writer) for writer in writers] == [list(range(10))] * 8
    assert [finished(reader) for reader in readers] == [[0] * 10] * 4
    assert in_database(path) == {(worker, n): ROWS for worker in range(8) for n in range(10)}
    with opened(path) as connection:
        assert connection.execute("SELECT generation FROM ma_meta").fetchone() == (80,)


def test_eight_writers_of_the_journal_lose_nothing_and_fail_nowhere(home):
    writers = [start(WRITE_JOURNAL, home, worker, 0, 25) for worker in range(8)]
    assert [finished(writer) for writer in writers] == [list(range(25))] * 8
    assert in_journal(home) == {(worker, n): ROWS for worker in range(8) for n in range(25)}


def kill_writers(code: str, place: Path, kills: int) -> tuple[set[tuple[int, int]], int]:
    """Keep two writers running and kill one of them at a random time, `kills` times; what they acknowledged."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # shown when the test fails
    chance = random.Random(seed)
    acknowledged: set[tuple[int, int]] = set()
    workers = {worker: (0, start(code, place, worker, 0, 10**6)) for worker in range(2)}
    for kill in range(kills):
        worker = kill % 2
        first, process = workers[worker]
        process.stdout.readline()  # the first number: it is past its imports, and has acknowledged one
        acknowledged.add((worker, first))
        time.sleep(chance.uniform(0, 0.15))
        process.kill()
        done = finished(process)
        acknowledged |= {(worker, n) for n in done}
        # Far enough that no number is used twice: the one it was killed at may be stored or not.
        following = max([first, *done]) + 10
        workers[worker] = (following, start(code, place, worker, following, 10**6))
    for worker, (_, process) in workers.items():
        process.kill()
        acknowledged |= {(worker, n) for n in finished(process)}
    return acknowledged, kills + len(workers)


def test_killed_writers_lose_nothing_they_acknowledged_and_leave_nothing_half(path):
    acknowledged, killed = kill_writers(WRITE_DATABASE, path, 40)
    stored = in_database(path)
    assert set(stored.values()) == {ROWS}
    assert acknowledged <= set(stored)
    assert len(acknowledged) >= 40
    # Stored but not acknowledged: at most the one each was killed at.
    assert len(stored) - len(acknowledged) <= killed
    assert output(READ_DATABASE, path, 1) == "0\n"


def test_killed_writers_of_the_journal_lose_nothing_they_acknowledged_and_leave_nothing_half(home):
    acknowledged, killed = kill_writers(WRITE_JOURNAL, home, 40)
    stored = in_journal(home)
    assert set(stored.values()) == {ROWS}
    assert acknowledged <= set(stored)
    assert len(stored) - len(acknowledged) <= killed
    with journal.opened(home) as book:
        assert [row[0] for row in book.rows("PRAGMA integrity_check")] == ["ok"]


def test_a_home_killed_while_it_is_made_can_be_completed(tmp_path):
    code = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from marketagent.init import init
print(flush=True)
init(Path(sys.argv[1]), datetime.now(UTC))
"""
    chance = random.Random(7)
    for attempt in range(8):
        home = tmp_path / f"home{attempt}"
        with start(code, home) as process:
            process.stdout.readline()
            time.sleep(chance.uniform(0, 0.4))
            process.kill()
        assert output(code, home) == "\n"
        homes.check(home, write=True)
        with journal.opened(home) as book, opened(home / "runs.duckdb") as connection:
            assert book.rows("SELECT * FROM orders") == connection.execute("SELECT * FROM orders").fetchall() == []
