"""Each command on a home that is not as it should be: one line, the right code, nothing changed. And what they import."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from prices import HEAD, ask, contents, fetch, here, ma, new_home, sessions, write
from streams import environment, shell

from marketagent.errors import Exit

READERS = [
    ["score", "AAPL", "--strategy", "sma_cross"],
    ["backtest", "--strategy", "sma_cross"],
    ["sql", "SELECT list(known_at), list(open_at) FROM bars JOIN sessions USING (session)"],
]
WRITERS = [["fetch", "--source", "csv", "p.csv"], ["init"]]
COMMANDS = [*READERS, *WRITERS]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    home = new_home(tmp_path)
    days = sessions("2013-01-02", "2013-12-31")
    fetch(home, write(tmp_path / "q.csv", HEAD + "".join(f"AAPL,{day},10,11,9,10,100\n" for day in days)))
    write(tmp_path / "p.csv", HEAD + "IBM,2014-01-02,10,11,9,10,100\n")
    return home


def files(home):
    return {path.name: path.read_bytes() for path in home.iterdir() if path.is_file() and "lock" not in path.name}


@pytest.fixture
def refused(monkeypatch, capfd):
    def check(home, words, code, *texts):
        before = files(home) if home.is_dir() else None
        result = here(home, monkeypatch, capfd, *words)
        assert (result.returncode, result.stdout) == (code, ""), (words, result)
        assert result.stderr.count("\n") == 1
        assert all(text in result.stderr for text in texts), result.stderr
        assert before is None or files(home) == before

    return check


def test_a_home_that_others_may_enter_is_refused(home, refused):
    home.chmod(0o755)
    for words in COMMANDS:
        refused(home, words, Exit.NOT_PERMITTED, f"run: chmod 700 {home}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_home_of_somebody_else_is_refused(home, refused):
    os.chown(home, 65534, 65534)
    for words in COMMANDS:
        refused(home, words, Exit.NOT_PERMITTED, "belongs to user id 65534")


def test_a_home_that_is_a_file_is_refused(tmp_path, refused):
    path = write(tmp_path / "file", "text")
    for words in COMMANDS:
        refused(path, words, Exit.BAD_CONFIG, "is a file; set MA_HOME to a folder")
    assert path.read_text() == "text"


def test_a_home_that_is_not_there_has_no_data(tmp_path, refused):
    for words in READERS:
        refused(tmp_path / "none", words, Exit.NO_DATA, "run: ma fetch SYMBOL, or ma init")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("damage", ["cut", "foreign", "empty", "text", "gone"])
def test_a_damaged_market_is_told_and_left_alone(home, damage, refused):
    path = home / "market.duckdb"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "foreign":
        shutil.copy(home / "runs.duckdb", path)
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else b"some text" * 999)
    # What is cut off is missed by whoever reads it: the calendar, at the head of the file, is still there for init.
    for words in COMMANDS[:-1] if damage == "cut" else COMMANDS:
        refused(home, words, Exit.BAD_DATA, "market.duckdb")


AS_ANOTHER = """
import os, sys
from marketagent import cli
home, *words = sys.argv[1:]
# What the other user may not read is imported first, by running commands on a home of our own.
null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
os.dup2(null[1], 1)
for warm in (["init"], ["fetch", "AAPL", "--source", "sample"], ["sql", "SELECT 1"], ["fetch", "--source", "csv", "none"]):
    cli.run(warm)
os.dup2(null[0], 1)
sys.stderr.write("then\\n")
sys.stderr.flush()
os.setuid(65534)
os.environ["MA_HOME"] = home
sys.exit(cli.run(words))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="root has to become somebody else to be refused anything")
def test_a_home_that_cannot_be_written_is_refused(home):
    """As another user, who owns the folder but may not write it."""
    warm = home
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = new_home(folder)
        write(folder / "p.csv", HEAD + "IBM,2014-01-02,10,11,9,10,100\n")
        for path in (folder, home, *home.iterdir()):
            os.chown(path, 65534, 65534)
        home.chmod(0o500)
        for words in (["init"], ["fetch", "--source", "csv", str(folder / "p.csv")], ["sql", "SELECT 1"]):
            run = subprocess.run(
                [sys.executable, "-c", AS_ANOTHER, str(home), *words], env=environment(warm), cwd="/",
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert (run.returncode, run.stdout) == (Exit.NOT_PERMITTED, ""), (words, run)
            assert run.stderr.rpartition("then\n")[2].count("\n") == 1
        home.chmod(0o700)


def test_a_full_disk_is_74_for_those_that_write(home):
    before = contents(home)
    for words in (["score", "AAPL", "--strategy", "sma_cross"], ["backtest", "--strategy", "sma_cross"]):
        result = shell(f"ulimit -f 0; trap '' XFSZ; $MA {' '.join(words)}; echo $?", home)
        assert result.stdout == "74\n", result.stderr
        assert result.stderr.count("\n") == 1
    assert contents(home) == before
    assert ma(home, "sql", "SELECT count(*) FROM decisions").stdout.count('"count_star()":0') == 1


def test_a_second_init_makes_nothing(tmp_path):
    home = new_home(tmp_path)
    before = files(home)
    result = ma(home, "init")
    assert (result.returncode, result.stderr) == (0, f"ma: {home} is complete; nothing to do\n")
    assert files(home) == before
    assert ask(home, "SELECT count(*) > 9000, min(session)::VARCHAR FROM sessions") == [(True, "1990-01-02")]


# --- what a command imports

HEAVY = {
    "pandas",
    "numba",
    "exchange_calendars",
    "alpaca",
    "polygon",
    "anthropic",
    "openai",
    "bokeh_sampledata",
    "pyarrow",
}


def test_a_command_imports_nothing_it_does_not_need(home):
    commands = [
        ["fetch", "--source", "csv", "p.csv"],
        ["fetch", "AAPL", "--source", "sample"],
        ["score", "AAPL", "--strategy", "ensemble"],
        ["backtest", "--strategy", "sma_cross", "--equity", "e.parquet", "--fills", "f.csv", "--benchmark", "AAPL"],
        ["sql", "SELECT * FROM bars"],
    ]
    for words in commands:
        script = (
            f"import sys\nfrom marketagent import cli\ncode = cli.run({words})\nprint('LOADED', code, *sys.modules)"
        )
        run = subprocess.run(
            [sys.executable, "-c", script], env=environment(home), capture_output=True, text=True, check=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        code, *loaded = run.stdout.rpartition("LOADED")[2].split()
        assert code == "0", run.stderr
        assert {name.partition(".")[0] for name in loaded} & HEAVY == set(), words
