"""The journal: what is refused, what a failed step leaves, who waits for whom."""

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from processes import output, start

from marketagent import home as homes
from marketagent import journal
from marketagent.errors import BadData, Busy, DiskError, NoData, NotPermitted

NOW = datetime(2026, 11, 20, 21, 5, tzinfo=UTC)
AT = "2026-11-20T21:05:00Z"


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    homes.create(home)
    journal.create(home)
    homes.mark(home, NOW)
    return home


def open_account(book, name="paper"):
    book.execute(
        "INSERT INTO accounts (account, cash, settled_through, created_at) VALUES (?, 1000, NULL, ?)", (name, AT)
    )


def accounts(home):
    with journal.opened(home) as book:
        return [row["account"] for row in book.rows("SELECT account FROM accounts ORDER BY account")]


def refuses(home, said, kind=BadData):
    before = (home / journal.FILE).read_bytes()
    with pytest.raises(kind, match=said), journal.opened(home, timeout_s=0.2) as book:
        open_account(book)
    assert (home / journal.FILE).read_bytes() == before


def test_every_commit_is_on_the_disk_before_it_returns(home):
    with journal.opened(home) as book:
        settings = [book.rows(f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous", "foreign_keys")]
        assert settings == ["wal", 2, 1]
        open_account(book)
        for file in home.glob("journal.sqlite3*"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_transaction_is_all_or_nothing(home):
    for end in (KeyboardInterrupt, SystemExit, ValueError):
        with pytest.raises(end):
            open_then(home, end)
    assert accounts(home) == []
    with journal.opened(home) as book:
        open_both(book, "a", "b")
        with pytest.raises(sqlite3.IntegrityError):
            open_both(book, "c", "a")
    assert accounts(home) == ["a", "b"]


def open_both(book, *names):
    with book.transaction():
        for name in names:
            open_account(book, name)


def open_then(home, end):
    with journal.opened(home) as book, book.transaction():
        open_account(book)
        raise end


ORDER = (
    "INSERT INTO orders (cid, account, strategy, session, symbol, side, quantity, state, run, created_at, updated_at) "
    "VALUES (:cid, :account, 'momentum', '2026-11-20', 'AAPL', :side, :quantity, 'planned', 'r', 'x', 'x')"
)


@pytest.mark.parametrize(
    "wrong",
    [
        {"quantity": 0},
        {"quantity": -1},
        {"quantity": float("nan")},
        {"quantity": float("inf")},
        {"quantity": "many"},
        {"side": "hold"},
        {"account": "nobody"},
        {"cid": None},
    ],
)
def test_no_order_that_is_not_one_gets_in(home, wrong):
    right = {"cid": "ma-1", "account": "paper", "side": "buy", "quantity": 1.5}
    with journal.opened(home) as book:
        open_account(book)
        book.execute(ORDER, right | {"cid": "ma-0"})
        with pytest.raises(sqlite3.IntegrityError):
            book.execute(ORDER, right | wrong)
        assert [row["cid"] for row in book.rows("SELECT cid FROM orders")] == ["ma-0"]


def test_a_decision_may_come_before_its_order_but_not_without_it(home):
    decided = "INSERT INTO decided VALUES ('paper', 'momentum', '2026-11-20', 'AAPL', 'r', ?)"
    event = "INSERT INTO events (cid, account, at, kind, detail) VALUES (?, 'paper', 'x', 'planned', ?)"
    with journal.opened(home) as book:
        open_account(book)
        with book.transaction():
            book.execute(decided, ("ma-1",))
            book.execute(event, ("ma-1", json.dumps({"quantity": 1})))
            book.execute(ORDER, {"cid": "ma-1", "account": "paper", "side": "buy", "quantity": 1})
        with pytest.raises(sqlite3.IntegrityError), book.transaction():
            book.execute(event, ("ma-2", "{}"))
        with pytest.raises(sqlite3.IntegrityError), book.transaction():
            book.execute(event, ("ma-1", "{"))
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            book.execute(decided, (None,))
        assert len(book.rows("SELECT * FROM events")) == 1


def test_a_journal_is_made_once_whole_and_never_over_another(home):
    path = home / journal.FILE
    assert sorted(file.name for file in home.glob("journal*")) == [
        path.name,
        path.name + ".lock",
        path.name + ".lock.gate",
    ]
    before = path.read_bytes()
    assert not journal.create(home)
    assert path.read_bytes() == before


def test_a_journal_that_was_lost_is_never_replaced(home):
    (home / journal.FILE).unlink()
    for attempt in (journal.create, lambda home: journal.opened(home).__enter__()):
        with pytest.raises(BadData, match=r"journal\.sqlite3 is missing from a home that had one .*restore it"):
            attempt(home)
    assert not (home / journal.FILE).exists()


def test_a_home_without_data_says_what_to_run(tmp_path):
    with pytest.raises(NoData, match="run: ma fetch SYMBOL, or ma init"), journal.opened(tmp_path / "none"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_journal_is_refused_and_not_touched(home):
    path = home / journal.FILE
    whole = path.read_bytes()
    for content in (b"", b"x", b"hello, world\n" * 1000, bytes(20_000)):
        path.write_bytes(content)
        refuses(home, "not a Market Agent journal; it was not touched|is empty; it was not touched")
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        refuses(home, "is damaged")
    path.write_bytes(whole)
    assert accounts(home) == []


def test_somebody_elses_database_is_refused(home):
    path = home / journal.FILE
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine (a)")
    connection.close()
    path.chmod(0o600)
    refuses(home, "is not a Market Agent journal; it was not touched")
    path.unlink()
    duckdb.connect(str(path)).close()
    path.chmod(0o600)
    refuses(home, "is not a Market Agent journal; it was not touched")


def test_a_newer_journal_is_refused(home):
    with journal.opened(home) as book:
        book.execute("PRAGMA user_version = 99")
    refuses(home, r"made by a newer Market Agent \(schema 99\)")


def test_a_journal_others_may_read_is_refused(home):
    (home / journal.FILE).chmod(0o640)
    refuses(home, r"run: chmod 600 .*journal\.sqlite3", NotPermitted)


def test_a_pipe_in_its_place_is_refused(home):
    (home / journal.FILE).unlink()
    os.mkfifo(home / journal.FILE)
    with pytest.raises(BadData, match="is not a file"), journal.opened(home):
        pass


def test_busy_names_the_writer_and_a_killed_one_frees_it_at_once(home):
    code = """
import sys, time
from pathlib import Path
from marketagent import journal
with journal.opened(Path(sys.argv[1])) as book, book.transaction():
    book.execute("INSERT INTO accounts (account, cash, settled_through, created_at) VALUES ('half', 1, NULL, 'x')")
    print(flush=True)
    time.sleep(60)
"""
    with start(code, home) as holder:
        holder.stdout.readline()
        began = time.monotonic()
        said = rf"^busy: journal\.sqlite3 is held by pid {holder.pid}; waited 0\.3 s; nothing was changed$"
        with journal.opened(home, timeout_s=0.3) as book:
            with pytest.raises(Busy, match=said), book.transaction():
                pass
            assert 0.2 < time.monotonic() - began < 3
            assert book.rows("SELECT * FROM accounts") == []  # reading goes on, and sees nothing half
        holder.kill()
        holder.wait()
        with journal.opened(home, timeout_s=5) as book, book.transaction():
            open_account(book)
    assert accounts(home) == ["paper"]


def migrations(folder, *scripts):
    shutil.copytree(journal._MIGRATIONS, folder)
    for number, script in enumerate(scripts, len(list(folder.iterdir())) + 1):
        (folder / f"{number:03d}_more.sql").write_text(script)


def test_an_older_journal_is_brought_up_to_date_by_who_comes_first(home, tmp_path, monkeypatch):
    migrations(
        tmp_path / "m",
        "CREATE TABLE a (b TEXT DEFAULT 'x;y') STRICT;\n-- and;\nCREATE TABLE c (d INT);",
        "DROP TABLE c",
    )
    monkeypatch.setattr(journal, "_MIGRATIONS", tmp_path / "m")
    with journal.opened(home) as book:
        tables = {row["name"] for row in book.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        assert book.rows("PRAGMA user_version")[0][0] == len(list((tmp_path / "m").iterdir()))
    assert "a" in tables
    assert "c" not in tables


def test_a_migration_that_fails_changes_nothing(home, tmp_path, monkeypatch):
    before = (home / journal.FILE).read_bytes()
    migrations(tmp_path / "m", "CREATE TABLE a (b TEXT) STRICT", "CREATE TABLE c (d INT); SELECT broken")
    monkeypatch.setattr(journal, "_MIGRATIONS", tmp_path / "m")
    with pytest.raises(sqlite3.OperationalError, match="broken"), journal.opened(home):
        pass
    assert (home / journal.FILE).read_bytes() == before


FILL = "UPDATE accounts SET settled_through = hex(randomblob(500000)) WHERE account = 'paper'"


def test_a_file_that_may_not_grow_keeps_what_it_had(home):
    """RLIMIT_FSIZE stands for a full disk: the same code path, on every Linux, for every user."""
    with journal.opened(home) as book:
        open_account(book)
    code = """
import resource, signal, sys
from pathlib import Path
from marketagent import journal
from marketagent.errors import DiskError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
with journal.opened(Path(sys.argv[1])) as book:
    try:
        with book.transaction():
            book.execute("INSERT INTO accounts (account, cash, settled_through, created_at) VALUES ('half', 1, NULL, 'x')")
            book.execute(sys.argv[2])
    except DiskError as error:
        print(error)
"""
    said = output(code, home, FILL)
    assert said.startswith(
        f"{home / journal.FILE} cannot be read or written (disk I/O error); nothing of this step was"
    )
    assert accounts(home) == ["paper"]


def open_and_fill(book):
    with book.transaction():
        open_account(book, "half")
        book.execute(FILL)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount; the test above holds for everybody")
def test_a_full_disk_keeps_what_it_had(home):
    with tempfile.TemporaryDirectory() as folder:
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", folder], capture_output=True
        ).returncode:
            pytest.skip("this container may not mount; the test above holds everywhere")
        try:
            small = Path(folder)
            for name in (journal.FILE, homes.MARKER):
                shutil.copy(home / name, small)
            with journal.opened(small) as book:
                open_account(book)
                with pytest.raises(DiskError, match="the disk is full at"):
                    open_and_fill(book)
                with book.transaction():  # the same connection goes on
                    book.execute("UPDATE accounts SET cash = 7")
            assert accounts(small) == ["paper"]
        finally:
            subprocess.run(["umount", folder], check=True)
