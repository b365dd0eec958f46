"""``ma sandbox`` from outside: what it prints, what it leaves, how it ends."""

import json
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import prices
import pytest
import urllib3
from streams import MA, ROOT, environment

from marketagent.clock import clock


@contextmanager
def started(home: Path, *words: object, **env: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """``ma sandbox`` on a free port, once it has printed what to set; killed if it is still there at the end."""
    process = subprocess.Popen(
        [*MA, "sandbox", "--port", "0", *map(str, words)],
        env=environment(home, **env),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = []
        while not (lines and lines[-1].startswith("export BULLAWARE_BASE_URL")):
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            lines.append(line)
        yield process, variables("".join(lines))
    finally:
        process.kill()
        process.communicate()


def variables(text: str) -> dict[str, str]:
    """What ``export`` lines set, as a shell reads them."""
    return dict(word.split("=", 1) for line in text.splitlines() for word in shlex.split(line)[1:])


def ended(process: subprocess.Popen[str], number: int) -> tuple[int, str, float]:
    begin = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    return process.returncode, err, time.monotonic() - begin


@pytest.fixture
def home(tmp_path):
    """A home with a little history, in a folder whose name a shell would take apart."""
    folder = tmp_path / "it's $HOME here"
    folder.mkdir()
    home = prices.new_home(folder)
    prices.fetch(home, prices.History().file(folder / "aapl.csv", actions="given"))
    return home


def test_it_prints_an_environment_that_a_shell_can_take(home):
    with started(home) as (_, env):
        script = f'eval "$({shlex.join(MA)} sandbox env)"; env'
        done = subprocess.run(
            ["sh", "-c", script], env=environment(home), cwd=ROOT, capture_output=True, text=True, check=True
        )
        seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        assert {name: seen[name] for name in env} == env
        assert env["MA_HOME"] == str(home / "sandbox")
        assert env["POLYGON_STREAM_URL"] == env["POLYGON_BASE_URL"].replace("http", "ws", 1)
        answer = urllib3.request(
            "GET",
            f"{env['POLYGON_BASE_URL']}/v3/reference/tickers",
            headers={"Authorization": f"Bearer {env['POLYGON_API_KEY']}"},
        )
        assert [row["ticker"] for row in answer.json()["results"]] == ["AAPL"]


def test_what_to_set_can_be_asked_for_while_it_starts(home):
    script = f'{shlex.join(MA)} sandbox --port 0 >/dev/null 2>&1 & eval "$({shlex.join(MA)} sandbox env)"; kill $!; echo "$MA_CLOCK"'
    done = subprocess.run(
        ["sh", "-c", script], env=environment(home), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert clock(done.stdout.strip()).is_rehearsal, done.stderr


def test_every_command_of_that_shell_lives_in_the_rehearsal(home):
    (home / "strategies").mkdir()
    (home / "config.toml").write_text('costs = "none"\n')
    with started(home) as (_, env):
        done = subprocess.run(
            [*MA, "config"], env=environment(home, **env), cwd=ROOT, capture_output=True, text=True, check=True
        )
        shown = {line.get("name"): line.get("value") for line in map(json.loads, done.stdout.splitlines())}
        assert shown["home"] == str(home / "sandbox")
        assert shown["costs"] == "none"
        assert (home / "sandbox" / "strategies").resolve() == (home / "strategies").resolve()
        assert (home / "sandbox").stat().st_mode & 0o777 == 0o700
        again = subprocess.run(
            [*MA, "sandbox", "env"], env=environment(home, **env), cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert variables(again.stdout) == env


def test_its_day_begins_at_ten_in_new_york_after_the_last_open(home):
    with started(home, "--speed", "30") as (_, env):
        found = clock(env["MA_CLOCK"])
        assert found.market is not None
        local = found.market.astimezone(ZoneInfo("America/New_York"))
        assert (local.hour, local.minute, found.speed) == (10, 0, 30.0)
        assert timedelta(hours=-1) < datetime.now(UTC) - found.market < timedelta(days=5)


def test_its_time_can_be_chosen_or_the_wall_clock_s(home):
    with started(home, "--start", "2026-11-27T17:59:00Z", "--market", "synthetic", "--symbols", "abc,XYZ") as (_, env):
        assert env["MA_CLOCK"].startswith("2026-11-27T17:59:00Z@")
        headers = {"Authorization": "Bearer sandbox-advanced"}
        answer = urllib3.request("GET", f"{env['POLYGON_BASE_URL']}/v3/reference/tickers/ABC", headers=headers)
        assert answer.status == 200
    with started(home, "--start", "now") as (_, env):
        found = clock(env["MA_CLOCK"])
        assert abs((found() - datetime.now(UTC)).total_seconds()) < 1


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_ends_it_at_once_with_its_code_whoever_is_connected(home, number, code, word):
    with started(home) as (process, env):
        port = int(env["POLYGON_BASE_URL"].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as idle:
            idle.sendall(b"GET /v3/reference/splits HTTP/1.1\r\nHost: x\r\n")  # half a request
            returned, err, seconds = ended(process, number)
        assert (returned, err.splitlines()[-1]) == (code, f"ma: {word}")
        assert seconds < 2
        assert not (home / "sandbox" / "sandbox.json").exists()
        assert "Traceback" not in err


def test_one_sandbox_a_home_and_one_a_port(home, tmp_path):
    with started(home) as (_, env):
        port = env["POLYGON_BASE_URL"].rpartition(":")[2]
        second = prices.ma(home, "sandbox", "--port", "0")
        assert second.returncode == 75
        assert env["POLYGON_BASE_URL"] in second.stderr
        other = prices.new_home(tmp_path)
        taken = prices.ma(other, "sandbox", "--port", port)
        assert (taken.returncode, taken.stdout) == (75, "")
        assert f"port {port} is not free" in taken.stderr
        assert len(taken.stderr.splitlines()) == 1


def test_without_one_there_is_nothing_to_set(home):
    done = prices.ma(home, "sandbox", "env", "--wait", 0)
    assert (done.returncode, done.stdout) == (69, "")
    assert "ma sandbox &" in done.stderr


def test_what_a_killed_one_left_is_not_taken_for_a_running_one(home):
    with started(home) as (process, _):
        process.kill()
        process.wait()
    state = home / "sandbox" / "sandbox.json"
    assert state.exists()
    # Its number may be somebody else's by now: the lock tells, not the number.
    state.write_text(state.read_text().replace(f'"pid": {process.pid}', f'"pid": {os.getpid()}'))
    done = prices.ma(home, "sandbox", "env", "--wait", 0)
    assert (done.returncode, done.stdout) == (69, "")
    with started(home) as (_, env):
        assert env


def test_a_home_with_bars_of_another_market_is_named(home):
    with started(home) as (process, _):
        ended(process, signal.SIGTERM)
    with started(home, "--seed", "5") as (process, _):
        _, err, _ = ended(process, signal.SIGTERM)
        assert "holds bars of another market (replay 0)" in err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--market", "bear"], 2, "--market 'bear' is none of replay, synthetic"),
        (["--speed", "0"], 2, "--speed 0 must be above 0"),
        (["--start", "noon"], 2, "--start 'noon' is not an instant"),
        (["--start", "1980-01-02T15:00:00Z"], 2, "outside the calendar"),
        (["--faults", "flakey"], 2, "did you mean flaky?"),
        (["--symbols", "../../x", "--market", "synthetic"], 2, "is not a ticker"),
        (["--symbols", "ABC"], 2, "--market synthetic"),
        (["--port", "99999"], 2, "less than or equal to 65535"),
    ],
)
def test_what_cannot_be_is_one_line(home, monkeypatch, capfd, words, code, text):
    done = prices.here(home, monkeypatch, capfd, "sandbox", "--port", "0", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_missing_extra_is_named(home, monkeypatch, capfd):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "uvicorn" else real(name, *more)
    )
    monkeypatch.delitem(__import__("sys").modules, "marketagent.commands.sandbox", raising=False)
    done = prices.here(home, monkeypatch, capfd, "sandbox", "--port", "0")
    assert done.returncode == 2
    assert "pip install 'market-agent[sandbox]'" in done.stderr


def test_asking_what_to_set_imports_no_server(home):
    code = "import sys; from marketagent.cli import run; run(['sandbox', 'env', '--wait', '0']); print(sorted(sys.modules))"
    done = subprocess.run(
        [MA[0], "-c", code], env=environment(home), cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = done.stdout.rpartition("\n['")[2] or done.stdout
    assert not {"uvicorn", "starlette", "numpy", "duckdb", "exchange_calendars"} & set(
        loaded.replace("'", "").split(", ")
    )
