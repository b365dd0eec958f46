import contextlib
import fcntl
import json
import os
import pty
import random
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
import typer
from streams import MA, environment, shell

from marketagent import cli, ending, process
from marketagent.errors import BadData, Busy, Exit, NoData

HEAVY = {"pandas", "numba", "numpy", "duckdb", "exchange_calendars", "alpaca", "polygon", "anthropic", "openai"}
KEYS = {"POLYGON_API_KEY": "canary-polygon", "APCA_API_SECRET_KEY": "canary-alpaca", "OPENAI_API_KEY": "canary-openai"}


@pytest.fixture
def ma(tmp_path):
    def run(*args, **more):
        env = environment(tmp_path, **more)
        return subprocess.run([*MA, *args], env=env, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.fixture
def call(monkeypatch, tmp_path, capfd):
    """Run ``ma`` in this process with `act` in the place of a command; gives (code, stdout, stderr)."""
    monkeypatch.setenv("MA_HOME", str(tmp_path))
    monkeypatch.delenv("MA_DEBUG", raising=False)

    def run(act):
        monkeypatch.setattr(cli, "_invoke", lambda args: act())
        code = cli.run([])
        return code, *capfd.readouterr()

    return run


def raising(error):
    def act():
        raise error

    return act


# --- the command line


def test_help_lists_each_command_with_its_line(ma):
    for args in ([], ["--help"], ["-h"]):
        result = ma(*args)
        assert (result.returncode, result.stderr) == (0, "")
        assert "print the JSON Schema of a record" in result.stdout


def test_version_is_one_line(ma):
    result = ma("--version")
    assert result.returncode == 0
    assert result.stdout.startswith("ma ")
    assert result.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["scheam"], "no such command: scheam; did you mean schema? (ma --help)"),
        (["zzz"], "no such command: zzz (ma --help)"),
        (["--versoin"], "no such option: --versoin; did you mean --version? (ma --help)"),
        (["schema", "--formt", "csv"], "no such option: --formt; did you mean --format? (ma schema --help)"),
        (["schema", "-z"], "no such option: -z (ma schema --help)"),
        (["schema", "--format"], "option '--format' requires an argument (ma --help)"),
        (["schema", "decisoin"], "unknown kind 'decisoin'; did you mean decision? (ma schema)"),
        (["sch\x1b[2J\u202eema"], "no such command: sch[2Jema; did you mean schema? (ma --help)"),
    ],
)
def test_a_wrong_command_line_is_one_line_with_advice_and_2(ma, args, line):
    result = ma(*args)
    assert (result.returncode, result.stdout, result.stderr) == (Exit.USAGE, "", f"ma: {line}\n")


def test_a_wrong_value_names_the_option_and_what_it_takes(ma):
    result = ma("schema", "--format", "xml")
    assert result.returncode == Exit.USAGE
    assert result.stderr.startswith("ma: invalid value for '--format'")
    assert "'ndjson'" in result.stderr
    assert result.stderr.count("\n") == 1


def test_schema_prints_a_json_schema(ma):
    document = json.loads(ma("schema", "decision").stdout)
    assert document["properties"]["score"]["anyOf"][0]["maximum"] == 1
    assert "symbol" in document["required"]


def test_schema_lists_every_kind_as_csv_too(ma):
    lines = ma("schema", "--format", "csv").stdout.splitlines()
    assert lines[0] == "kind,meaning"
    assert {line.partition(",")[0] for line in lines[1:]} >= {"begin", "end", "decision", "order", "row"}


# --- errors


@pytest.mark.parametrize("error", [NoData("no bars\nfor AAPL"), Busy("held"), BadData("x")])
def test_an_error_a_user_can_act_on_is_one_line_and_its_own_code(call, error):
    line = str(error).replace("\n", " ")
    assert call(raising(error)) == (error.exit_code, "", f"ma: {line}\n")


def test_any_other_error_is_one_line_and_shows_its_traceback_only_when_asked(call, monkeypatch):
    code, out, err = call(raising(KeyError("odd")))
    assert (code, out) == (Exit.FAILED, "")
    assert err == "ma: internal error: KeyError: 'odd' (MA_DEBUG=1 shows the traceback)\n"
    monkeypatch.setenv("MA_DEBUG", "1")
    assert "Traceback" in call(raising(KeyError("odd")))[2]


def test_what_a_command_returns_is_the_exit_code(call):
    assert call(lambda: Exit.PARTIAL)[0] == 3
    assert call(lambda: Exit.DONE)[0] == 0


@pytest.mark.parametrize(("code", "told"), [(3, 3), (None, 0), ("text", 1)])
def test_a_system_exit_is_honoured(call, code, told):
    assert call(raising(SystemExit(code)))[0] == told


def test_a_group_of_errors_is_told_by_the_one_a_user_can_act_on(call):
    group = ExceptionGroup("many", [KeyError("x"), ExceptionGroup("inner", [Busy("held")])])
    assert call(raising(group)) == (Exit.BUSY, "", "ma: held\n")
    both = BaseExceptionGroup("many", [Busy("held"), KeyboardInterrupt()])
    assert call(raising(both))[0] == Exit.INTERRUPTED


def test_a_full_disk_elsewhere_is_74_with_the_file(call):
    error = OSError(28, "No space left on device", "bars.duckdb")
    assert call(raising(error)) == (Exit.DISK, "", "ma: bars.duckdb: No space left on device\n")


def test_a_pipe_broken_elsewhere_is_not_taken_for_our_reader(call):
    assert call(raising(BrokenPipeError(32, "Broken pipe")))[0] == Exit.FAILED


@pytest.mark.parametrize("debug", ["0", "1"])
def test_no_key_is_in_any_error(call, monkeypatch, tmp_path, debug):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MA_DEBUG", debug)
    config = tmp_path / "config.toml"
    config.write_text("[keys]\nbullaware = 'canary-in-config'\n")
    config.chmod(0o600)
    text = " ".join([*KEYS.values(), "canary-in-config"])
    for error in (ValueError(text), NoData(text), ExceptionGroup(text, [OSError(5, text, text)]), SystemExit(text)):
        _, out, err = call(raising(error))
        assert "canary" not in out + err
        assert err.count("***") >= 4


def test_told_never_needs_a_configuration(call, tmp_path):
    (tmp_path / "config.toml").write_text("not toml")
    assert call(raising(NoData("no bars")))[2] == "ma: no bars\n"


# --- descriptors


@pytest.mark.parametrize("args", ["", "--help", "schema", "schema decision"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_is_quiet(tmp_path, args, unbuffered):
    """The reader is gone before the first byte, so that every write of ours meets a closed pipe."""
    script = f"{{ sleep 0.05; $MA {args}; echo $? >&2; }} | true; wait"
    result = shell(f"set +o pipefail; {script}", tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert result.stderr == "141\n"


@pytest.mark.parametrize("args", ["--help", "schema", "schema decision", "--version"])
def test_a_full_stdout_is_one_line_and_74(tmp_path, args):
    result = shell(f"$MA {args} >/dev/full; echo $?", tmp_path)
    assert result.stdout == "74\n"
    assert result.stderr == "ma: cannot write to stdout: No space left on device\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_descriptors_change_nothing_but_what_is_seen(tmp_path, closed):
    result = shell(f"$MA schema {closed}; echo $? >&2; $MA scheam {closed}; echo $? >&2", tmp_path)
    assert result.stderr.replace("ma: no such command: scheam; did you mean schema? (ma --help)\n", "") == "0\n2\n"


def test_a_file_opened_with_stdout_closed_is_not_stdout(tmp_path):
    act = (
        "import os, sys\n"
        "from marketagent import cli\n"
        "def act(args):\n"
        "    fd = os.open('db', os.O_RDWR | os.O_CREAT); print('stray', flush=True)\n"
        "    os.write(fd, b'header'); os.close(fd); return 0 if fd > 2 else 1\n"
        "cli._invoke = act\n"
        "cli.main([])\n"
    )
    result = shell('cd "$MA_HOME"; "$PY" -c "$ACT" <&- >&- 2>&-; echo $?', tmp_path, ACT=act)
    assert result.stdout == "0\n"
    assert (tmp_path / "db").read_bytes() == b"header"


def test_children_get_three_open_descriptors_even_when_we_did_not(tmp_path):
    act = (
        "import subprocess, sys\n"
        "from marketagent import cli\n"
        "child = [sys.executable, '-c', 'import sys; sys.exit(sys.stdin is None)']\n"
        "cli._invoke = lambda args: subprocess.run(child).returncode\n"
        "cli.main([])\n"
    )
    assert shell('"$PY" -c "$ACT" <&-; echo $?', tmp_path, ACT=act).stdout == "0\n"


@pytest.mark.parametrize("target", ["2>/dev/full", "2>&-", "2>/dev/full >/dev/full"])
def test_a_stderr_that_takes_nothing_does_not_change_the_code(tmp_path, target):
    result = shell(f'$MA scheam {target}; echo "$?" >"$MA_HOME/code"', tmp_path)
    assert (tmp_path / "code").read_text() == "2\n"
    assert "Traceback" not in result.stderr + result.stdout


# --- signals

SLEEPER = """
import sys, time
from marketagent import cli
def act(args):
    try:
        print("ready", flush=True)
        time.sleep(30)
    finally:
        print("tidied", flush=True)
cli._invoke = act
cli.main([])
"""


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGTERM, 143, "ma: terminated\n"), (signal.SIGINT, 130, "ma: interrupted\n")],
)
def test_a_signal_cleans_up_and_ends_with_its_code(tmp_path, number, code, line):
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPER], env=environment(tmp_path), stdout=-1, stderr=-1, text=True
    ) as sleeper:
        assert sleeper.stdout.readline() == "ready\n"
        sleeper.send_signal(number)
        out, err = sleeper.communicate(timeout=30)
    assert (sleeper.returncode, out, err) == (code, "tidied\n", line)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_any_moment_after_the_start_leaves_no_traceback(tmp_path, number):
    rng = random.Random(3)
    busy = SLEEPER.replace("time.sleep(30)", "[print('x' * 100) for _ in range(100_000)]")
    for _ in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", busy], env=environment(tmp_path), stdout=-1, stderr=-1, text=True
        ) as running:
            assert running.stdout.readline() == "ready\n"
            time.sleep(rng.random() * 0.02)
            running.send_signal(number)
            _, err = running.communicate(timeout=30)
        assert running.returncode in (0, 128 + number)
        assert "Traceback" not in err
        assert "ignored" not in err


def test_a_second_sigterm_does_not_cut_the_cleaning_up_short(tmp_path):
    slow = SLEEPER.replace('        print("tidied"', '        time.sleep(0.3)\n        print("tidied"')
    with subprocess.Popen(
        [sys.executable, "-c", slow], env=environment(tmp_path), stdout=-1, stderr=-1, text=True
    ) as sleeper:
        assert sleeper.stdout.readline() == "ready\n"
        sleeper.terminate()
        time.sleep(0.1)
        sleeper.terminate()
        out, _ = sleeper.communicate(timeout=30)
    assert (sleeper.returncode, out) == (143, "tidied\n")


def test_ctrl_c_while_the_interpreter_leaves_is_silent(tmp_path):
    leaving = (
        "import atexit, time; from marketagent import cli\n"
        "atexit.register(lambda: (print('leaving', flush=True), time.sleep(0.3)))\n"
        "cli._invoke = lambda args: 3\n"
        "cli.main([])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", leaving], env=environment(tmp_path), stdout=-1, stderr=-1, text=True
    ) as running:
        assert running.stdout.readline() == "leaving\n"
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=30)
    assert (running.returncode, err) == (3, "")


def test_running_ma_inside_a_program_leaves_its_signals_alone(call):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    call(lambda: 0)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


# --- start-up


def test_importing_what_every_command_imports_loads_nothing_heavy(tmp_path):
    modules = ", ".join(f"marketagent.{name}" for name in ("cli", "pipe", "show", "records", "symbols"))
    script = f"import sys, {modules}; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    assert set(run.stdout.split()) & {*HEAVY, "pydantic", "rich"} == set()


@pytest.mark.parametrize("args", [["--help"], ["schema"], ["schema", "--format", "csv"], ["scheam"]])
def test_running_a_small_command_loads_nothing_heavy(tmp_path, args):
    # pydantic is not among them: Typer converts a command's own arguments with it.
    script = f"import sys\nfrom marketagent import cli\ncli.run({args})\nprint('LOADED', *sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    loaded = run.stdout.rpartition("LOADED")[2].split()
    assert "marketagent.cli" in loaded
    assert {name.partition(".")[0] for name in loaded} & HEAVY == set()


def test_the_base_of_usage_errors_is_what_typer_raises():
    assert ending._ClickError.__name__ == "ClickException"
    assert issubclass(typer.BadParameter, ending._ClickError)


# --- a terminal


@pytest.mark.parametrize("width", [40, 80, 120])
def test_on_a_terminal_records_are_a_table_without_begin_and_end(tmp_path, width):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    env = environment(tmp_path, TERM="xterm", NO_COLOR="1")
    with subprocess.Popen([*MA, "schema"], env=env, stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        page = b""
        with contextlib.suppress(OSError):  # Linux ends a terminal with EIO
            while chunk := os.read(ours, 65536):
                page += chunk
        os.close(ours)
    lines = page.decode().splitlines()
    assert running.returncode == 0
    assert lines[0].replace("\x1b[2m", "").replace("\x1b[0m", "").split() == ["kind", "meaning"]
    assert "begin" not in lines[0]
    assert not any(line.startswith("{") for line in lines)


def test_a_signal_that_duckdb_turned_into_an_error_of_its_own_is_still_that_signal(capsys):
    interrupted = RuntimeError("Query interrupted")
    assert ending.told(interrupted) == Exit.INTERRUPTED
    with contextlib.suppress(process.Terminated), process.terminable():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)  # the handler raises here
    try:
        assert ending.told(interrupted) == Exit.TERMINATED
    finally:
        process._stopped.clear()
    assert capsys.readouterr().err == "ma: interrupted\nma: terminated\n"
