"""The house as a whole: what is packaged, what is pinned, what is imported when, how long a file may be."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from streams import environment

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HEAVY = (
    "pandas",
    "numba",
    "exchange_calendars",
    "alpaca",
    "polygon",
    "anthropic",
    "openai",
    "talib",
    "scipy",
    "aiohttp",
    "anyio",
    "tenacity",
    "diskcache",
    "plotly",
    "marketagent.reporting",
)


def test_every_package_is_named_for_the_wheel():
    inside = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for path in (ROOT / "marketagent").rglob("__init__.py")
    }
    beside = {"marketagent.commands", "marketagent.strategies"}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == inside | beside


def test_every_file_that_is_no_python_is_packaged():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    packaged = {
        file
        for name, globs in patterns.items()
        for glob in globs
        for file in (ROOT / name.replace(".", "/")).glob(glob)
    }
    others = {file for ending in ("sql", "css", "js") for file in (ROOT / "marketagent").rglob(f"*.{ending}")}
    assert len(others) > 2
    assert others <= packaged


def test_every_dependency_is_pinned():
    pinned = {
        re.split("[=<>]", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    }
    wanted = PROJECT["project"]["dependencies"] + [
        name for extra in PROJECT["project"]["optional-dependencies"].values() for name in extra
    ]
    names = {re.split(r"[\[=<>]", name)[0].lower().replace("_", "-") for name in wanted} - {"market-agent"}
    assert names <= pinned


def test_no_file_holds_two_ideas():
    files = [file for folder in ("marketagent", "commands", "strategies") for file in (ROOT / folder).rglob("*.py")]
    assert {file.name: n for file in files if (n := len(file.read_text(encoding="utf-8").splitlines())) > 420} == {}


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "config",
        "schema",
        "fetch AAPL MSFT --source sample",
        "score AAPL MSFT --strategy ensemble",
        "backtest --strategy sma_cross",
        "sql 'select count(*) from bars'",
        "trade positions",
    ],
)
def test_no_command_pays_for_what_it_does_not_use(command, ready_home):
    """pandas alone is 0.6 s; DuckDB would import it at the first parameter (store/connection.py)."""
    code = (
        "import sys, shlex; from marketagent.cli import run; run(shlex.split(sys.argv[1]));"
        f"print('loaded:', *(name for name in {HEAVY} if sys.modules.get(name)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, command],
        env=environment(ready_home),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "loaded:"


@pytest.fixture(scope="module")
def ready_home(tmp_path_factory):
    home = tmp_path_factory.mktemp("house") / "home"
    subprocess.run(
        [sys.executable, "-m", "marketagent", "fetch", "AAPL", "MSFT", "--source", "sample"],
        env=environment(home),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        check=True,
        capture_output=True,
    )
    return home
