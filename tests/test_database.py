"""The databases: what a damaged, foreign, busy or full file does, and what an interrupted write leaves."""

import contextlib
import os
import shutil
import sqlite3
import stat
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import duckdb
import pytest
from processes import output, start

from marketagent.errors import BadData, Busy, DiskError, MarketAgentError, NoData
from marketagent.store import database
from marketagent.store.database import create, generation_file, opened

INSERT = "INSERT INTO files VALUES ('print', 'name', {n}, '2026-11-20')"


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "market.duckdb"
    create(path)
    return path


@pytest.fixture
def path(template, tmp_path):
    return Path(shutil.copy(template, tmp_path / "market.duckdb"))


def add(path: Path, n: int = 1) -> None:
    with opened(path, write=True) as connection:
        connection.execute(INSERT.format(n=n))


def rows(path: Path) -> list[int]:
    with opened(path) as connection:
        return [row[0] for row in connection.execute("SELECT rows FROM files ORDER BY rows").fetchall()]


def refuses(path: Path, said: str, *, kind: type[Exception] = BadData) -> None:
    """Reading and writing are refused with `said`, and not a byte of the file changes."""
    before = path.read_bytes()
    for write in (False, True):
        with pytest.raises(kind, match=said), opened(path, write=write, timeout_s=0.2):
            pass
    assert path.read_bytes() == before


def test_a_block_is_one_transaction(path):
    add(path)
    for end in (KeyboardInterrupt, SystemExit, ValueError):
        with pytest.raises(end):
            add_then(path, end)
    assert rows(path) == [1]


def add_then(path: Path, end: type[BaseException]) -> None:
    with opened(path, write=True) as connection:
        connection.execute(INSERT.format(n=2))
        raise end


def test_a_failed_statement_that_nobody_reports_stores_nothing_and_says_so(path):
    with pytest.raises(duckdb.Error, match="aborted"):
        add_and_hide_a_mistake(path)
    assert rows(path) == []


def add_and_hide_a_mistake(path: Path) -> None:
    with opened(path, write=True) as connection:
        connection.execute(INSERT.format(n=1))
        with contextlib.suppress(duckdb.ConstraintException):
            connection.execute("INSERT INTO files VALUES (NULL, 'x', 1, now()::timestamp)")


def test_a_block_that_ends_its_own_transaction_is_told(path):
    with pytest.raises(duckdb.Error, match="no transaction is active"), opened(path, write=True) as connection:
        connection.execute("COMMIT")


def test_a_mistake_in_sql_stays_one(path):
    with pytest.raises(duckdb.BinderException), opened(path) as connection:
        connection.execute("SELECT nothing FROM files")
    with pytest.raises(duckdb.ConversionException), opened(path) as connection:
        connection.execute("SELECT CAST('No space left on device' AS INTEGER)")


def test_a_reader_cannot_write(path):
    with pytest.raises(duckdb.InvalidInputException, match="read-only"), opened(path) as connection:
        connection.execute(INSERT.format(n=1))


def test_instants_are_utc_wherever_the_machine_is(path):
    code = """
import os, sys
os.environ["TZ"] = "America/New_York"
from pathlib import Path
from marketagent.store.database import opened
with opened(Path(sys.argv[1])) as connection:
    print(*connection.execute("SELECT (TIMESTAMPTZ '2026-11-20 16:00:00-05')::TIMESTAMP::VARCHAR").fetchone())
"""
    assert output(code, path) == "2026-11-20 21:00:00\n"


def test_the_configuration_is_locked(path):
    with opened(path) as connection, pytest.raises(duckdb.InvalidInputException, match="locked"):
        connection.execute("SET TimeZone = 'America/New_York'")


def test_a_local_file_can_be_copied_in_unless_access_is_off(path, tmp_path):
    csv = tmp_path / "files.csv"
    csv.write_text("fingerprint,name,rows,stored_at\na,b,7,2026-11-20\n")
    with opened(path, write=True) as connection:
        connection.execute(f"COPY files FROM '{csv}' (HEADER)")
    assert rows(path) == [7]
    secret = duckdb.sql("SELECT 1 AS found")  # in this frame: DuckDB would find it by its name
    with opened(path, external_access=False) as connection:
        for sql in (f"SELECT * FROM '{csv}'", f"COPY files TO '{tmp_path}/out.csv'", f"ATTACH '{tmp_path}/x.duckdb'"):
            with pytest.raises(duckdb.PermissionException):
                connection.execute(sql)
        with pytest.raises(duckdb.CatalogException):
            connection.execute("SELECT * FROM secret")
        assert connection.execute("SELECT rows FROM files").fetchall() == [(7,)]
    assert secret.fetchall() == [(1,)]


def test_no_database_is_made_by_opening_one(tmp_path):
    path = tmp_path / "market.duckdb"
    for write in (False, True):
        with pytest.raises(NoData, match="run: ma fetch"), opened(path, write=write):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_database_is_made_once_whole_private_and_without_leftovers(tmp_path):
    path = tmp_path / "runs.duckdb"
    assert create(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        path.name,
        path.name + ".lock",
        path.name + ".lock.gate",
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    assert not create(path)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match=r"wrong\.duckdb"):
        create(tmp_path / "wrong.duckdb")


@pytest.mark.parametrize("kind", database.KINDS)
def test_every_schema_has_its_tables_and_says_what_it_is(kind, tmp_path):
    path = tmp_path / f"{kind}.duckdb"
    create(path)
    with opened(path) as connection:
        tables = {row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        meta = connection.execute("SELECT kind, schema, generation FROM ma_meta").fetchall()
    wanted = {
        "market": "file_symbols sessions bars superseded_bars actions superseded_actions coverage files quarantine",
        "opinions": "signals",
        "runs": "decisions backtests equity fills folds orders sweeps sweep_rows trials family_luck",
    }
    assert tables == {"ma_meta", *wanted[kind].split()}
    assert meta == [(kind, 8 if kind == "runs" else 1, 0)]


BAR = "INSERT INTO bars VALUES ('A', '1d', '2026-11-20', '2026-11-20 14:30', {}, {}, 's', 'f', '2026-11-20')"


@pytest.mark.parametrize("price", ["0", "-1", "'nan'", "'inf'", "NULL"])
def test_no_price_that_is_not_one_gets_in(path, price):
    for place in range(4):
        prices = ["1", "1", "1", "1"]
        prices[place] = price
        with pytest.raises(duckdb.ConstraintException), opened(path, write=True) as connection:
            connection.execute(BAR.format(", ".join(prices), "0, NULL"))
    with opened(path, write=True) as connection:
        connection.execute(BAR.format("1, 1, 1, 1", "0, NULL"))


@pytest.mark.parametrize(("value", "fine"), [("0.5", True), ("NULL", True), ("1.01", False), ("'nan'", False)])
def test_an_opinion_lies_between_minus_one_and_one(tmp_path, value, fine):
    path = tmp_path / "opinions.duckdb"
    create(path)
    sql = f"INSERT INTO signals VALUES ('a', 'B', '2026-11-20', {value}, 1, '2026-11-20', 'c', false)"
    if fine:
        with opened(path, write=True) as connection:
            connection.execute(sql)
    else:
        with pytest.raises(duckdb.ConstraintException), opened(path, write=True) as connection:
            connection.execute(sql)


def test_what_is_no_database_is_refused_and_not_touched(path):
    for content in (b"", b"x", b"hello, world\n" * 1000, bytes(20_000)):
        path.write_bytes(content)
        refuses(path, "is not a Market Agent database; it was not touched|is damaged; it was not touched")


def test_a_sqlite_file_is_refused(path):
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE a (b)")
    connection.close()
    refuses(path, "is not a Market Agent database; it was not touched")


def test_somebody_elses_database_is_refused(path):
    path.unlink()
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE mine (a INTEGER)")
    refuses(path, "is not a Market Agent database; it was not touched")


def test_a_database_under_a_wrong_name_is_refused(path):
    other = path.rename(path.with_name("runs.duckdb"))
    refuses(other, "holds market, not runs")


def test_a_pipe_or_folder_in_its_place_is_refused(path):
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BadData, match="is not a file"), opened(path, timeout_s=0.2):
        pass
    path.unlink()
    path.mkdir()
    with pytest.raises(BadData, match="is not a file"), opened(path, timeout_s=0.2):
        pass


@pytest.mark.parametrize("share", [0.001, 0.01, 0.02, 0.5])
def test_a_cut_database_is_refused(path, share):
    add(path)
    os.truncate(path, int(path.stat().st_size * share))
    refuses(path, "is damaged; it was not touched; restore it")


def test_damage_in_a_block_is_told_when_it_is_read(path):
    with opened(path, write=True) as connection:
        connection.execute("INSERT INTO files SELECT md5(range::VARCHAR), 'x', range, '2026-11-20' FROM range(50_000)")
    with path.open("r+b") as file:
        for offset in range(3 * 4096 + 1000, path.stat().st_size, 4096):
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes([byte[0] ^ 0xFF]))
    with pytest.raises(BadData, match="is damaged"), opened(path) as connection:
        connection.execute("SELECT max(fingerprint) FROM files").fetchall()


def test_a_database_of_a_newer_duckdb_is_told_from_a_damaged_one(path):
    header = bytearray(path.read_bytes()[:4096])
    struct.pack_into("<Q", header, 12, 2**40)
    struct.pack_into("<Q", header, 0, checksum(header[8:]))
    with path.open("r+b") as file:
        file.write(header)
    refuses(path, "was made by a newer DuckDB")


def checksum(block: bytes) -> int:
    """DuckDB's, of 8-byte words (duckdb/src/common/checksum.cpp)."""
    result = 5381
    for (word,) in struct.iter_unpack("<Q", block):
        result ^= word * 0xBF58476D1CE4E5B9 % 2**64
    return result


def test_a_lost_or_foreign_log_is_refused(path, tmp_path):
    """A crash leaves commits in the log; without it, or with another's, the file is behind its generation."""
    add(path)
    code = """
import os, sys
from pathlib import Path
from marketagent.store import database
with database.opened(Path(sys.argv[1]), write=True) as connection:
    connection.execute("INSERT INTO files VALUES ('print', 'name', 2, '2026-11-20')")
    connection.execute("UPDATE ma_meta SET generation = 2")
    connection.execute("COMMIT")
    database._remember(Path(sys.argv[1]), 2)
    os._exit(0)
"""
    output(code, path)
    log = Path(f"{path}.wal")
    kept = log.read_bytes()
    log.unlink()
    refuses(path, "went back in time: it was written 1 times, and 2 times before")
    log.write_bytes(kept)
    assert rows(path) == [1, 2]


def test_a_restored_backup_is_accepted_on_purpose_only(path, tmp_path):
    add(path, 1)
    backup = shutil.copy(path, tmp_path / "backup")
    add(path, 2)
    shutil.copy(backup, path)
    refuses(path, rf"restore it, or accept it as it is with: rm {generation_file(path)}")
    generation_file(path).unlink()
    add(path, 3)
    assert rows(path) == [1, 3]


def test_a_guard_that_lags_or_is_empty_stops_nobody_and_a_damaged_one_is_told(path):
    add(path, 1)
    for text in ("", "0", "00000000000000000000\n"):
        generation_file(path).write_text(text)
        assert rows(path) == [1]
    generation_file(path).write_text("twelve\n")
    refuses(path, r"\.gen is damaged")


def test_a_lost_database_is_told(path):
    add(path)
    path.unlink()
    for write in (False, True):
        with pytest.raises(BadData, match="was written before and is gone; restore it"), opened(path, write=write):
            pass
    with pytest.raises(BadData, match="give it up with: rm"):
        create(path)


def test_who_opened_it_without_ma_is_waited_for_and_named(path):
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.readline(); c.close()"
    with start(code, path) as foreign:
        foreign.stdout.readline()
        began = time.monotonic()
        with pytest.raises(Busy, match=rf"pid {foreign.pid} \(python.*opened it without ma; waited 0.3 s"):
            add_within(path, 0.3)
        assert 0.3 <= time.monotonic() - began < 3
        closing = threading.Timer(0.3, foreign.communicate, ["close\n"])
        closing.start()
        add_within(path, 20)
        closing.join()
    assert rows(path) == [1]


def add_within(path: Path, timeout_s: float) -> None:
    with opened(path, write=True, timeout_s=timeout_s) as connection:
        connection.execute(INSERT.format(n=1))


def test_a_connection_of_our_own_process_is_named(path):
    with duckdb.connect(str(path), read_only=True), pytest.raises(Busy, match="connection of this process"):
        add_within(path, 0.1)
    assert rows(path) == []


def migrations(folder: Path, *scripts: str) -> None:
    (folder / "market").mkdir(parents=True, exist_ok=True)
    shutil.copy(next((database._MIGRATIONS / "market").glob("001_*.sql")), folder / "market")
    for number, script in enumerate(scripts, 2):
        (folder / "market" / f"{number:03d}_more.sql").write_text(script)


@pytest.mark.parametrize("write", [False, True])
def test_an_older_schema_is_brought_up_to_date_by_who_comes_first(path, tmp_path, monkeypatch, write):
    add(path)
    migrations(tmp_path / "m", "ALTER TABLE files ADD COLUMN size BIGINT; CREATE TABLE a (b INTEGER)", "DROP TABLE a")
    monkeypatch.setattr(database, "_MIGRATIONS", tmp_path / "m")
    with opened(path, write=write) as connection:
        assert connection.execute("SELECT rows, size FROM files").fetchall() == [(1, None)]
        assert connection.execute("SELECT schema FROM ma_meta").fetchall() == [(3,)]


def test_a_migration_that_fails_leaves_the_step_before_it(path, tmp_path, monkeypatch):
    migrations(tmp_path / "m", "CREATE TABLE a (b INTEGER)", "CREATE TABLE c (d INTEGER); SELECT broken")
    monkeypatch.setattr(database, "_MIGRATIONS", tmp_path / "m")
    with pytest.raises(duckdb.BinderException), opened(path):
        pass
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("SELECT schema FROM ma_meta").fetchall() == [(2,)]
        tables = {row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    assert "a" in tables
    assert "c" not in tables


def test_a_newer_schema_is_refused(path):
    with opened(path, write=True) as connection:
        connection.execute("UPDATE ma_meta SET schema = 99")
    refuses(path, r"made by a newer Market Agent \(schema 99\)")


BIG = "INSERT INTO files SELECT uuid()::VARCHAR, 'x', range, '2026-11-20' FROM range(200_000)"


def test_a_file_that_may_not_grow_keeps_what_it_had(path):
    """RLIMIT_FSIZE stands for a full disk: the same code path, on every Linux, for every user."""
    add(path)
    code = """
import resource, signal, sys
from pathlib import Path
from marketagent.errors import DiskError
from marketagent.store.database import opened
path = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 300_000,) * 2)
try:
    with opened(path, write=True) as connection:
        connection.execute(sys.argv[2])
except DiskError as error:
    print(error)
"""
    said = output(code, path, BIG)
    assert (
        said
        == f"the file may not grow any further at {path}; nothing of this run was stored; free space and run again\n"
    )
    assert rows(path) == [1]
    with opened(path, write=True) as connection:
        connection.execute(BIG)
    assert len(rows(path)) == 200_001


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount; the test above holds for everybody")
def test_a_full_disk_keeps_what_it_had(template):
    with tempfile.TemporaryDirectory() as folder:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True).returncode:
            pytest.skip("this container may not mount; the test above holds everywhere")
        try:
            path = Path(shutil.copy(template, folder))
            add(path)
            for _ in range(3):
                with pytest.raises(DiskError, match="the disk is full at"), opened(path, write=True) as connection:
                    connection.execute(BIG)
                assert rows(path) == [1]
        finally:
            subprocess.run(["umount", folder], check=True)


def test_a_transaction_that_did_not_arrive_is_told(path, monkeypatch):
    counts = iter([0, 0])
    monkeypatch.setattr(database, "_generation", lambda connection: next(counts))
    with pytest.raises(MarketAgentError, match="did not take the transaction"):
        add(path)


def test_many_small_writes_do_not_make_it_grow(path):
    add(path)
    size = path.stat().st_size
    for n in range(40):
        add(path, n)
    assert path.stat().st_size <= size + 2 * 262_144
