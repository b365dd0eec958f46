"""The caches: one suite for all of them, then what only a disk can suffer."""

import json
import os
import pickle
import sqlite3
import stat
import time

import anyio
import pytest
from processes import output, start
from worlds import START, Clock

from marketagent.cache import open_cache, through
from marketagent.cache.disk import ASIDE, FILE, LOCKS, DiskCache
from marketagent.cache.memory import MemoryCache
from marketagent.errors import BadConfig, Busy, NotPermitted

VALUES = [
    None,
    True,
    0,
    -1.5,
    2**60,
    "",
    "é\u2028 x",
    [],
    [1, [2, {"a": None}]],
    {"bars": [{"c": 1.25}]},
    "x" * 100_000,
]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def said():
    return []


@pytest.fixture
def disk(tmp_path, clock, said):
    made = []

    def make(url="disk:", home=tmp_path):
        made.append(open_cache(url, home, now=clock.now, tell=said.append))
        return made[-1]

    yield make
    for cache in made:
        cache.close()


@pytest.fixture(params=["disk:", "memory:"])
def cache(request, disk):
    return disk(request.param)


# Every member -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_what_was_stored_comes_back_with_its_time(cache, clock, value):
    cache.set("k", value, 60)
    clock.time += 5
    entry = cache.get("k")
    assert entry.value == value
    assert type(entry.value) is type(value)
    assert entry.at == START


def test_that_there_is_nothing_is_worth_remembering(cache):
    assert cache.get("FB/splits") is None
    cache.set("FB/splits", None, 60)
    assert cache.get("FB/splits").value is None


def test_a_value_is_over_when_its_time_is(cache, clock):
    cache.set("k", 1, 60)
    clock.time += 59.9
    assert cache.get("k").value == 1
    clock.time += 0.1
    assert cache.get("k") is None


def test_a_value_from_the_future_is_forgotten(cache, clock):
    clock.time += 86400
    cache.set("k", 1, 600)
    clock.time = START
    assert cache.get("k") is None


def test_the_last_value_stands_and_can_be_deleted(cache):
    for value in (1, "x" * 100_000, 2):
        cache.set("k", value, 60)
    assert cache.get("k").value == 2
    cache.delete("k")
    cache.delete("k")
    assert cache.get("k") is None


def test_nobody_can_change_what_another_one_got(cache):
    bars = [1, 2]
    cache.set("k", bars, 60)
    bars.append(3)
    cache.get("k").value.append(4)
    assert cache.get("k").value == [1, 2]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), {1, 2}, b"x", object()])
def test_what_is_no_json_is_the_callers_mistake_and_changes_nothing(cache, wrong):
    cache.set("k", 1, 60)
    with pytest.raises((ValueError, TypeError)):
        cache.set("k", wrong, 60)
    assert cache.get("k").value == 1


@pytest.mark.parametrize("key", ["", "a\0b", "\ud800", None, 5])
def test_what_is_no_key_is_the_callers_mistake(cache, key):
    for use in (cache.get, cache.delete, cache.single_flight, lambda key: cache.set(key, 1, 1)):
        with pytest.raises(ValueError):
            use(key)


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf")])
def test_nothing_is_kept_for_ever(cache, ttl):
    with pytest.raises(ValueError, match="keeps things for a time"):
        cache.set("k", 1, ttl)


def test_keys_are_texts_and_nothing_else(cache):
    keys = ["../../x", "/etc/passwd", "a" * 5000, "'; drop table Cache; --", "é", "1", "NaN", "$HOME", " k "]
    for number, key in enumerate(keys):
        cache.set(key, number, 60)
    assert [cache.get(key).value for key in keys] == list(range(len(keys)))


def test_of_many_that_ask_at_once_one_fetches(cache):
    fetched = []

    async def fetch():
        fetched.append(1)
        await anyio.sleep(0.05)
        return {"n": len(fetched)}

    async def main():
        answers = []

        async def ask():
            answers.append(await through(cache, "k", fetch, lambda value: 60 if value else 5))

        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(ask)
        return answers

    assert anyio.run(main) == [{"n": 1}] * 30
    assert len(fetched) == 1


def test_a_flight_that_failed_lets_the_next_one_fly(cache):
    async def broken():
        raise OSError("no network")

    async def fine():
        return 1

    with pytest.raises(OSError, match="no network"):
        anyio.run(through, cache, "k", broken, 60)
    assert anyio.run(through, cache, "k", fine, 60) == 1


def test_a_flight_that_was_cancelled_lets_the_next_one_fly(cache):
    async def main():
        with anyio.move_on_after(0.02):
            async with cache.single_flight("k"):
                await anyio.sleep(10)
        with cache.single_flight("k", 0.1):
            return "free"

    assert anyio.run(main) == "free"


def test_waiting_for_a_flight_ends_with_busy_and_other_keys_fly(cache):
    with cache.single_flight("k"):
        with cache.single_flight("other", 0.1):
            pass
        with (
            pytest.raises(Busy, match=r"another command is fetching 'k'; waited 0\.05 s"),
            cache.single_flight("k", 0.05),
        ):
            pass


def test_sweeping_removes_what_is_over(tmp_path, said):
    for cache in (MemoryCache(time.time), DiskCache(tmp_path / "c", time.time, said.append)):
        cache.set("short", "x" * 100_000, 0.05)
        cache.set("long", 1, 60)
        time.sleep(0.06)
        assert cache.sweep() == 1
        assert cache.get("long").value == 1
        cache.close()


# Memory -----------------------------------------------------------------------------------------------------------


def test_memory_has_an_end():
    cache = MemoryCache(lambda: START, most=3)
    for number in range(5):
        cache.set(str(number), number, 60)
    assert [number for number in range(5) if cache.get(str(number))] == [2, 3, 4]


# Disk -------------------------------------------------------------------------------------------------------------


def test_the_disk_remembers_across_openings(disk, tmp_path):
    disk().set("k", "x" * 100_000, 60)
    assert disk().get("k").value == "x" * 100_000
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_a_url_that_names_no_cache_is_refused(tmp_path):
    for url in ("redis://x", "dsk:", "disk", "disk:here", "memory:x", "", "\x1b[2J:"):
        with pytest.raises(BadConfig, match="unknown cache"):
            open_cache(url, tmp_path)
    with pytest.raises(BadConfig, match="did you mean disk"):
        open_cache("dsk:", tmp_path)
    with pytest.raises(BadConfig, match="must not hold a variable"):
        open_cache(f"disk:{tmp_path}/$HOME", tmp_path)


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o750, 0o701])
def test_a_folder_that_others_may_enter_is_refused(disk, tmp_path, mode):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(mode)
    with pytest.raises(NotPermitted, match=r"others may enter .*chmod 700"):
        disk()
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_folder_of_somebody_else_or_a_link_is_refused(disk, tmp_path, monkeypatch):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "cache").symlink_to(tmp_path / "real")
    with pytest.raises(NotPermitted, match="is a link or a file"):
        disk()
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(NotPermitted, match="belongs to user id"):
        disk(f"disk:{tmp_path / 'real'}")


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def planted(folder, **columns):
    """Write a row behind the cache's back."""
    row = {"key": "k", "raw": 1, "store_time": 0, "expire_time": None, "access_time": 0, "access_count": 0}
    row |= {"tag": None, "size": 0, "mode": 1, "filename": None, "value": None} | columns
    book = sqlite3.connect(folder / FILE)
    with book:
        book.execute("DELETE FROM Cache WHERE key = ?", (row["key"],))
        book.execute(f"INSERT INTO Cache ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", [*row.values()])
    book.close()


@pytest.mark.parametrize("attack", ["row", "file", "raw key", "as binary", "as text", "no mark", "mode", "outside"])
def test_nothing_planted_is_ever_unpickled_or_read(disk, tmp_path, said, attack):
    folder, flag = tmp_path / "cache", tmp_path / "exploded"
    disk().set("other", 1, 60)
    code = pickle.dumps(Bomb(flag))
    (folder / "ab" / "cd").mkdir(parents=True)
    name = "ab/cd/" + "e" * 28 + ".val"
    (folder / name).write_bytes(code)
    secret = tmp_path / "secret.val"
    secret.write_text('j{"at": 0, "until": 9e99, "value": "stolen"}')
    planted(
        folder,
        **{
            "row": {"mode": 4, "value": code},
            "file": {"mode": 4, "filename": name},
            "raw key": {"key": pickle.dumps(Bomb(flag)), "raw": 0, "value": "j1"},
            "as binary": {"mode": 2, "filename": name},
            "as text": {"mode": 3, "filename": name},
            "no mark": {"mode": 1, "value": '{"at": 0, "until": 9e99, "value": "planted"}'},
            "mode": {"mode": "4", "value": code},
            "outside": {"mode": 3, "filename": "../secret.val"},
        }[attack],
    )
    cache = disk()
    assert cache.get("k") is None
    cache.delete("k")
    cache.set("k", 2, 60)
    cache.sweep()
    assert cache.get("k").value == 2
    assert not flag.exists()
    assert secret.exists()
    assert len(said) == (attack != "raw key"), said


def test_settings_that_were_planted_are_not_obeyed(disk, tmp_path, said):
    for name, value in (("disk_evil", 1), ("_disk", "x"), ("sqlite_cache_size", "1; drop table Cache"), ("cull", b"x")):
        disk().set("k", 1, 60)
        book = sqlite3.connect(tmp_path / "cache" / FILE)
        with book:
            book.execute("INSERT OR REPLACE INTO Settings VALUES (?, ?)", (name, value))
        book.close()
        cache = disk()
        assert cache.get("k") is None
        cache.set("k", 2, 60)
        assert cache.get("k").value == 2
    assert len(said) == 4


@pytest.mark.parametrize("harm", ["text", "cut", "zeros", "schema", "json", "empty"])
def test_a_damaged_cache_is_put_aside_and_made_anew(disk, tmp_path, said, harm):
    file = tmp_path / "cache" / FILE
    first = disk()
    for number in range(300):
        first.set(str(number), "x" * 200, 60)
    first.close()
    whole = file.read_bytes()
    if harm == "schema":
        book = sqlite3.connect(file)
        book.executescript("DROP TABLE Cache; CREATE TABLE Cache (x);")
        book.close()
    elif harm == "json":
        planted(file.parent, key="7", value="j{}")
    else:
        zeros = whole[:4096] + bytes(len(whole) - 4096)
        file.write_bytes(
            {"text": b"hello\n" * 1000, "cut": whole[: len(whole) // 2], "zeros": zeros, "empty": b""}[harm]
        )
    cache = disk()
    found = [cache.get(str(number)) for number in range(300)]
    cache.set("7", "new", 60)
    assert cache.get("7").value == "new"
    assert disk().get("7").value == "new"
    if harm == "json":
        assert sum(entry is None for entry in found) == 1
        assert said == []
    elif harm == "empty":
        assert said == []
    else:
        assert len(said) == 1
        assert (file.parent / ASIDE).exists()


FULL = """
import json, resource, sys
from pathlib import Path
from marketagent.cache import open_cache
said = []
cache = open_cache("disk:", Path(sys.argv[1]), tell=said.append)
cache.set("before", 1, 60)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
for number in range(200):
    cache.set(str(number), "x" * int(sys.argv[3]), 60)
with cache.single_flight("k"):
    pass
print(json.dumps([cache.get("before") is None, len(said), said[:1]]))
cache.close()
"""


@pytest.mark.parametrize(("limit", "size"), [(150_000, 20_000), (150_000, 300_000)])
def test_on_a_full_disk_the_work_goes_on_without_and_it_is_said_once(tmp_path, limit, size):
    without, times, said = json.loads(output(FULL, tmp_path, limit, size))
    assert without
    assert times == 1
    assert "cannot be used" in said[0]
    assert "going on without it" in said[0]
    cache = open_cache("disk:", tmp_path)
    assert cache.get("before").value == 1  # and with room again, it is used again
    cache.close()


def test_where_nothing_can_be_written_the_work_goes_on_without(tmp_path, said):
    cache = open_cache("disk:", tmp_path / "missing", tell=said.append)
    cache.set("k", 1, 60)
    assert cache.get("k") is None
    assert len(said) == 1

    async def fetch():
        return 5

    assert anyio.run(through, cache, "k", fetch, 60) == 5
    assert len(said) == 1


def test_what_does_not_fit_goes_oldest_first(tmp_path, said):
    cache = DiskCache(tmp_path / "c", lambda: START, said.append, most_bytes=2_000_000)
    for number in range(60):
        cache.set(str(number), "x" * 100_000, 60)
    kept = [number for number in range(60) if cache.get(str(number))]
    assert kept == list(range(60 - len(kept), 60))
    assert 5 < len(kept) < 40
    assert sum(file.stat().st_size for file in (tmp_path / "c").rglob("*.val")) < 3_000_000
    cache.close()


FETCH = """
import sys, time, os
from pathlib import Path
from marketagent.cache import open_cache
cache = open_cache("disk:", Path(sys.argv[1]))
for number in range(10):
    key = f"k{number}"
    if cache.get(key) is None:
        with cache.single_flight(key, 30):
            if cache.get(key) is None:
                print(key, flush=True)
                time.sleep(float(sys.argv[2]))
                cache.set(key, os.getpid(), 60)
cache.close()
"""


def test_of_many_processes_one_fetches_each_key(tmp_path):
    processes = [start(FETCH, tmp_path, 0.02) for _ in range(4)]
    fetched = []
    for process in processes:
        out, err = process.communicate(timeout=30)
        assert err == ""
        fetched += out.split()
    assert sorted(fetched) == [f"k{number}" for number in range(10)]
    assert list((tmp_path / "cache" / LOCKS).iterdir()) == []


def test_a_flight_that_was_killed_lets_the_next_one_fly_and_its_litter_is_swept(tmp_path, disk):
    first = start(FETCH, tmp_path, 60)
    assert first.stdout.readline() == "k0\n"
    cache = disk()
    with pytest.raises(Busy), cache.single_flight("k0", 0.05):
        pass
    lock = next((tmp_path / "cache" / LOCKS).iterdir())
    old = time.time() - 2 * 3600
    os.utime(lock, (old, old))
    assert cache.sweep() == 0
    assert lock.exists()  # old, but held
    first.kill()
    first.communicate()
    orphan = tmp_path / "cache" / "ab" / "cd" / ("e" * 28 + ".val")
    orphan.parent.mkdir(parents=True)
    orphan.write_text("half")
    assert cache.sweep() == 1  # the lock; the value may still be on its way
    os.utime(orphan, (old, old))
    assert cache.sweep() == 1
    assert not orphan.exists()
    with cache.single_flight("k0", 0.05):
        pass
