"""Which folders are a home, which are refused, and what is said."""

import errno
import os
import stat
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from processes import output, start

from marketagent import home as homes
from marketagent import journal
from marketagent.errors import BadConfig, BadData, DiskError, MarketAgentError, NoData, NotPermitted
from marketagent.init import init
from marketagent.setup import ready
from marketagent.store import database

NOW = datetime(2026, 11, 20, 21, 5, tzinfo=UTC)
ALL = ["journal.sqlite3", "market.duckdb", "opinions.duckdb", "runs.duckdb", "home.json"]


@pytest.fixture
def home(tmp_path):
    return tmp_path / "deep" / "er" / "home"


def test_a_new_home_is_private_whole_and_made_once(home):
    assert init(home, NOW) == [str(home), *ALL]
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in home.iterdir()} == {0o600}
    homes.check(home, write=True)
    before = {file.name: file.read_bytes() for file in home.iterdir()}
    assert init(home, NOW.replace(year=2027)) == []
    assert {file.name: file.read_bytes() for file in home.iterdir()} == before


def test_a_half_made_home_is_completed(home):
    homes.create(home)
    with pytest.raises(NoData, match="run: ma fetch SYMBOL, or ma init"):
        homes.check(home)
    journal.create(home)
    (home / "market.duckdb.new").write_bytes(b"left by a killed attempt")
    (home / "journal.sqlite3.new").write_bytes(b"left by a killed attempt")
    assert init(home, NOW) == ALL[1:]
    assert not (home / "market.duckdb.new").exists()


def test_eight_commands_that_make_a_home_at_once_make_one(home):
    code = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from marketagent.init import init
from marketagent.setup import ready
sys.stdin.readline()
print(*init(Path(sys.argv[1]), datetime.now(UTC)))
"""
    children = [start(code, home) for _ in range(8)]
    results = [child.communicate("go\n", timeout=60) for child in children]
    assert [child.returncode for child in children] == [0] * 8, results
    made = [name for out, _ in results for name in out.split() if name != "home.json"]
    assert sorted(made) == sorted([str(home), *ALL[:-1]])
    homes.check(home, write=True)


def test_a_missing_home_says_what_to_run(home):
    with pytest.raises(NoData, match=f"no data in {home} yet; run: ma fetch SYMBOL, or ma init"):
        homes.check(home)
    assert not home.parent.exists()


def test_a_home_others_may_enter_is_refused(home):
    init(home, NOW)
    for mode in (0o755, 0o710, 0o701, 0o770):
        home.chmod(mode)
        with pytest.raises(NotPermitted, match=f"run: chmod 700 {home}"):
            homes.check(home)
        with pytest.raises(NotPermitted):
            init(home, NOW)
        assert stat.S_IMODE(home.stat().st_mode) == mode


def test_a_home_that_is_a_file_or_below_one_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for home in (file, file / "home", file / "a" / "b"):
        with pytest.raises(BadConfig, match="is a file; set MA_HOME to a folder"):
            homes.create(home)
        with pytest.raises(BadConfig):
            homes.check(home)
    assert file.read_text() == "mine"


def test_a_home_of_another_user_is_refused(home, monkeypatch):
    init(home, NOW)
    monkeypatch.setattr(os, "geteuid", lambda: home.stat().st_uid + 1)
    with pytest.raises(NotPermitted, match="belongs to user id"):
        homes.check(home)


def test_a_home_that_cannot_be_written_is_refused_for_writers_only():
    code = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from marketagent import home as homes
from marketagent.init import init
from marketagent.setup import ready
from marketagent.errors import NotPermitted
home = Path(sys.argv[1], "home")
if os.geteuid() == 0:
    os.setuid(65534)
init(home, datetime.now(UTC))
home.chmod(0o500)
homes.check(home)
try:
    homes.check(home, write=True)
except NotPermitted as error:
    print(error)
home.chmod(0o700)
"""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        said = output(code, folder)
        assert said == f"{folder}/home cannot be written by you; run: chmod 700 {folder}/home\n"


def test_a_newer_or_damaged_marker_is_refused(home):
    init(home, NOW)
    marker = home / homes.MARKER
    for text, said in (
        ('{"format": 2, "created_at": "x"}', "made by a newer Market Agent"),
        ("", "damaged"),
        ("[]", "damaged"),
        ('{"format": "1"}', "must be a whole number"),
    ):
        marker.write_text(text)
        with pytest.raises(BadData, match=said):
            homes.check(home)
        with pytest.raises(BadData):
            homes.mark(home, NOW)
        assert marker.read_text() == text


@pytest.mark.filterwarnings("ignore::Warning")  # pandas warns the library that knows the calendar
def test_a_lost_database_is_not_replaced_by_an_empty_one(home):
    init(home, NOW)
    path = home / "opinions.duckdb"
    with database.opened(path, write=True) as connection:
        connection.execute("INSERT INTO signals VALUES ('a', 'B', '2026-11-20', 0, 1, '2026-11-20', 'c', false)")
    path.unlink()
    with pytest.raises(BadData, match=rf"gone; restore it, or give it up with: rm {path}\.gen; then: ma init$"):
        init(home, NOW)
    Path(f"{path}.gen").unlink()
    assert ready(home, NOW, timeout_s=5.0) == ["calendar"]  # what any command may ask for does not make it again,
    with pytest.raises(NoData, match="ma init"), database.opened(path):
        pass
    assert ready(home, NOW, timeout_s=5.0, again=True) == ["opinions.duckdb"]  # and ma init does
    with database.opened(path):
        pass


MOUNTS = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:30 / /home rw,relatime shared:2 - nfs4 host:/export rw,vers=4.2
31 30 8:2 / /home/me/disk rw - xfs /dev/sdb1 rw
32 21 0:31 / /mnt/my\\040share rw master:1 propagate_from:2 - cifs //host/share rw
33 21 8:3 / /srv rw - ext4 /dev/sdc1 rw
34 33 0:33 / /srv rw - nfs host:/srv rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data/ma", None),
        ("/home", "nfs4"),
        ("/home/me/ma", "nfs4"),
        ("/home/me/disk/ma", None),
        ("/homestead/ma", None),
        ("/mnt/my share/ma", "cifs"),
        ("/srv/ma", "nfs"),
    ],
)
def test_a_network_file_system_is_recognised_by_its_longest_mount(path, kind):
    assert homes.network_filesystem(Path(path), MOUNTS) == kind


def test_a_home_on_a_network_file_system_is_refused(home, monkeypatch):
    init(home, NOW)
    homes.check(home)
    monkeypatch.setattr(homes, "NETWORK", frozenset({kind_of(home)}))
    with pytest.raises(BadConfig, match="where locks cannot be trusted"):
        homes.check(home)


def kind_of(path: Path) -> str:
    """The file system these tests run on, as df tells it."""
    code = "import subprocess, sys; print(subprocess.check_output(['df', '-T', sys.argv[1]], text=True).split()[9])"
    return output(code, path).strip()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, DiskError),
        (errno.EDQUOT, DiskError),
        (errno.EFBIG, DiskError),
        (errno.EIO, DiskError),
        (errno.EROFS, NotPermitted),
        (errno.EACCES, NotPermitted),
        (errno.EPERM, NotPermitted),
        (errno.ELOOP, MarketAgentError),
    ],
)
def test_each_refusal_of_the_system_has_its_class_and_names_the_path(code, kind):
    error = homes.disk_error(OSError(code, os.strerror(code)), Path("/data/x"))
    assert type(error) is kind
    assert "/data/x" in str(error)


def test_the_real_full_device_is_a_disk_error():
    with pytest.raises(OSError, match="No space left") as caught:
        os.write(os.open("/dev/full", os.O_WRONLY), b"x")
    assert isinstance(homes.disk_error(caught.value, Path("/dev/full")), DiskError)


def test_a_file_system_that_makes_no_folders_is_told_in_one_line():
    with pytest.raises(MarketAgentError, match="/proc/market-agent: "):
        homes.create(Path("/proc/market-agent"))
