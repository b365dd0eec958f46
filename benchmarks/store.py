"""How long commands wait for one database: the turnstile against a retry loop and against SQLite's WAL.

Eight processes write and four read the same table at once, each as fast as it can. Every row written is looked for at
the end. A wait runs from wanting the database to having it open. Arguments: transactions a process (50), rows in
each (20).
"""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs from a bare checkout

import duckdb

from marketagent.init import init
from marketagent.store import database

WRITERS, READERS = 8, 4
DEADLINE_S = 60.0
INSERT = "INSERT INTO written VALUES (?, ?, ?)"


@contextmanager
def turnstile(home: Path, write: bool) -> Iterator[Any]:
    with database.opened(home / "market.duckdb", write=write, timeout_s=DEADLINE_S) as connection:
        yield connection


@contextmanager
def retry_loop(home: Path, write: bool) -> Iterator[Any]:
    """What one writes first: try to open, sleep a little, try again."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            connection = duckdb.connect(str(home / "market.duckdb"), read_only=not write)
            break
        except duckdb.IOException:
            if time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0.01, 0.05))
    try:
        if write:
            connection.execute("BEGIN")
        yield connection
        if write:
            connection.execute("COMMIT")
    finally:
        connection.close()


@contextmanager
def sqlite_wal(home: Path, write: bool) -> Iterator[Any]:
    connection = sqlite3.connect(home / "market.sqlite3", timeout=DEADLINE_S, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
        yield connection
        connection.execute("COMMIT")
    finally:
        connection.close()


WAYS: dict[str, Callable[[Path, bool], AbstractContextManager[Any]]] = {
    "turnstile": turnstile,
    "retry loop": retry_loop,
    "sqlite WAL": sqlite_wal,
}


def prepare(way: str, home: Path) -> None:
    init(home, datetime.now(UTC))
    connection: Any = duckdb.connect(str(home / "market.duckdb"))
    if way == "sqlite WAL":
        connection.close()
        connection = sqlite3.connect(home / "market.sqlite3")
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE written (worker INTEGER, n INTEGER, row INTEGER)")
    connection.close()


def work(way: str, role: str, home: Path, worker: int, transactions: int, rows: int) -> None:
    """One process: prints its waits and errors."""
    waits: list[float] = []
    errors: list[str] = []
    warm_up()
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(transactions):
        start = time.perf_counter()
        try:
            with WAYS[way](home, role == "writer") as connection:
                waits.append(time.perf_counter() - start)
                if role == "writer":
                    # Row by row in all three ways, so that what differs is the waiting.
                    getattr(connection, "raw", connection).executemany(
                        INSERT, [(worker, n, row) for row in range(rows)]
                    )
                else:
                    connection.execute("SELECT count(*) FROM written").fetchone()
        except Exception as error:  # counted: an error of any kind is what is measured here
            errors.append(f"{type(error).__name__}: {error}"[:200])
    print(json.dumps({"role": role, "waits": waits, "errors": errors}))


def warm_up() -> None:
    """The first parameters a process binds make DuckDB import NumPy and pandas: half a second that is not a wait."""
    connection = duckdb.connect()
    connection.execute("CREATE TABLE written (worker INTEGER, n INTEGER, row INTEGER)")
    connection.executemany(INSERT, [(0, 0, 0)])
    connection.close()


def measure(way: str, transactions: int, rows: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="store_"))
    try:
        home = folder / "home"
        prepare(way, home)
        start, results = run_all(way, home, transactions, rows)
        with WAYS[way](home, False) as connection:
            found = connection.execute("SELECT count(*) FROM written").fetchone()[0]
        report(way, results, found, WRITERS * transactions * rows, start)
    finally:
        shutil.rmtree(folder)


def run_all(way: str, home: Path, transactions: int, rows: int) -> tuple[float, list[dict[str, Any]]]:
    roles = ["writer"] * WRITERS + ["reader"] * READERS
    processes = []
    for worker, role in enumerate(roles):
        command = [sys.executable, __file__, "work", way, role, str(home), str(worker), str(transactions), str(rows)]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    start = time.perf_counter()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [json.loads(process.communicate()[0]) for process in processes]
    return time.perf_counter() - start, results


def report(way: str, results: list[dict[str, Any]], found: int, expected: int, seconds: float) -> None:
    errors = [error for result in results for error in result["errors"]]
    for role in ("writer", "reader"):
        waits = sorted(wait * 1000 for result in results if result["role"] == role for wait in result["waits"])
        p50, p99, longest = (waits[min(len(waits) - 1, int(len(waits) * share))] for share in (0.5, 0.99, 1.0))
        rows = f"{found}/{expected}" if role == "writer" else ""
        took = f"{seconds:.1f}" if role == "writer" else ""
        print(f"{way:<11} {role} {rows:>12} {len(errors):>7} {p50:>9.1f} {p99:>9.1f} {longest:>9.1f} {took:>7}")
    for error in errors[:3]:
        print(f"  {error}")


def main() -> None:
    if sys.argv[1:2] == ["work"]:
        way, role, home, *numbers = sys.argv[2:]
        work(way, role, Path(home), *map(int, numbers))
        return
    transactions, rows = (int(word) for word in (sys.argv[1:] + ["50", "20"][len(sys.argv) - 1 :]))
    print(f"{WRITERS} writers, {READERS} readers, {transactions} transactions of {rows} rows each; waits in ms")
    print(f"{'':<11} {'role':<6} {'rows found':>12} {'errors':>7} {'p50':>9} {'p99':>9} {'max':>9} {'total s':>7}")
    for way in WAYS:
        measure(way, transactions, rows)


if __name__ == "__main__":
    main()
