"""README is run: every ``$`` line of its console blocks, in order, in a fresh home, on a real terminal.

``python tests/test_readme.py`` writes the outputs into README; the test compares them with what comes out now.
"""

import fcntl
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
from contextlib import suppress
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
SHOWN_PORT = "8777"
SHOWN_HOME = "/home/you/.local/share/market-agent"
WIDTH = 100
_BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
# What is said by the first sweep on a machine only, and what only a slow or busy one says: how long it takes, and a bar.
_SLOW = re.compile(
    r"^ma: (?:compiling the simulation|[\d,]+ combinations take about)[^\n]*\n|\x1b\[\?25l.*?\x1b\[\?25h\s*(?:\x1b\[1A\x1b\[2K)?",
    re.MULTILINE | re.DOTALL,
)
_VOLATILE = [  # what differs from run to run, and what stands for it when two outputs are compared
    (re.compile(r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{8}"), "RUN"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "INSTANT"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "SHA"),
    (re.compile(r"strategy [0-9a-f]{12}"), "strategy SHA"),
    (re.compile(r" {2,}"), "  "),  # a longer path makes a wider column
]


def commands(text: str) -> list[str]:
    return [line[2:] for block in _BLOCK.findall(text) for line in block.splitlines() if line.startswith("$ ")]


def transcript(text: str, folder: Path) -> list[str]:
    """What each command prints, run one after the other in `folder`; what one sets in its environment, the next has.

    Commands that go on in the background are ended with the last one.
    """
    mine = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    (folder / "mine.py").write_text(mine[1] if mine else "", encoding="utf-8")
    home = folder / "home".ljust(len(SHOWN_HOME) - len(str(folder)) - 1, "_")  # as long as it is shown, if it can be
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    ma = bin_folder / "ma"
    ma.write_text(f'#!/bin/sh\nexec {sys.executable} -m marketagent "$@"\n', encoding="utf-8")
    ma.chmod(0o755)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MA_")},
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "PYTHONPATH": str(README.parent),
        "MA_HOME": str(home),
        "NO_COLOR": "1",
        "COLUMNS": str(WIDTH),
    }
    port, groups, shown = str(_free_port()), [], []
    try:
        for command in commands(text):
            printed, group = on_terminal(command.replace(SHOWN_PORT, port), folder, environment)
            groups.append(group)
            printed = _SLOW.sub("", printed)
            shown.append(printed.replace(str(home), SHOWN_HOME).replace(port, SHOWN_PORT))
    finally:
        for group in groups:
            with suppress(ProcessLookupError):  # most have ended long ago
                os.killpg(group, signal.SIGTERM)
    return shown


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def on_terminal(command: str, folder: Path, environment: dict[str, str]) -> tuple[str, int]:
    """What `command` shows a person, run by sh with a terminal for stdin, stdout and stderr; and its process group.

    What it exported is taken into `environment`.
    """
    exported = folder / "exported"
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, WIDTH, 0, 0))
    child = subprocess.Popen(
        ["sh", "-c", f"{command}\nenv -0 > {exported}"],
        cwd=folder,
        env=environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    shown = bytearray()
    try:
        while chunk := os.read(master, 65536):
            shown += chunk
    except OSError:
        pass  # Linux says so when the last writer has closed the terminal
    finally:
        os.close(master)
        child.wait(timeout=60)
    pairs = (line.partition("=") for line in exported.read_text(encoding="utf-8").split("\0") if line)
    environment |= {name: value for name, _, value in pairs if name not in ("PWD", "OLDPWD", "SHLVL", "_")}
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode().replace("\r\n", "\n")), child.pid


def steady(text: str) -> str:
    for pattern, name in _VOLATILE:
        text = pattern.sub(name, text)
    return text


def rewritten(text: str, outputs: list[str]) -> str:
    """README with `outputs` under its commands."""
    left = iter(outputs)

    def block(match: re.Match[str]) -> str:
        lines = [line for line in match[1].splitlines() if line.startswith("$ ")]
        return "```console\n" + "\n".join(f"{line}\n{next(left)}" for line in lines).rstrip("\n") + "\n```"

    return _BLOCK.sub(block, text)


def test_readme_shows_what_the_commands_print(tmp_path):
    text = README.read_text(encoding="utf-8")
    assert steady(rewritten(text, transcript(text, tmp_path))).splitlines() == steady(text).splitlines()


def test_readme_names_every_command_and_every_exit_code():
    from marketagent.errors import Exit

    text = README.read_text(encoding="utf-8")
    for file in (README.parent / "commands").glob("[a-z]*.py"):
        assert f"ma {file.stem}" in text, file.stem
    table = {int(code) for row in re.findall(r"^\| ([\d, ]+) \|", text, re.MULTILINE) for code in row.split(",")}
    assert table == {int(code) for code in Exit}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        now = README.read_text(encoding="utf-8")
        README.write_text(rewritten(now, transcript(now, Path(work))), encoding="utf-8")
