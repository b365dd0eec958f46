"""How long ``ma --help`` takes as a whole process, against an empty Typer app and a bare interpreter.

    python benchmarks/startup.py            # 20 rounds
    python benchmarks/startup.py 50

The three run in turn, round after round, so that a busy moment of the machine hits all of them; a ratio is the
median of the rounds' ratios. One round before them fills the bytecode caches and is not counted. Ends with 1
if the budget is exceeded.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

BUDGET = 1.5  # times the wall time of the empty Typer app
YARDSTICK = "empty Typer app"
EMPTY_APP = """
import typer

app = typer.Typer()


@app.command()
def nothing() -> None:
    "Do nothing."


app()
"""


class Run(NamedTuple):
    """Seconds of one process: elapsed, and of processor time."""

    wall_s: float
    cpu_s: float


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the start-up of ma.")
    parser.add_argument("rounds", nargs="?", type=int, default=20, help="how often each process is run (20)")
    rounds = parser.parse_args().rounds
    if rounds < 1:
        parser.error(f"rounds is {rounds}; it must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder, "empty.py")
        app.write_text(EMPTY_APP, encoding="utf-8")
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            YARDSTICK: [sys.executable, str(app), "--help"],
            "ma --help": [sys.executable, "-m", "marketagent", "--help"],
        }
        runs = measure(commands, rounds, {**os.environ, "MA_HOME": folder})
    print("\n".join(table(runs)))
    return verdict(ratio(runs["ma --help"], runs[YARDSTICK]))


def measure(commands: Mapping[str, Sequence[str]], rounds: int, environ: Mapping[str, str]) -> dict[str, list[Run]]:
    """`rounds` runs of each command, in turn, from the root of the checkout."""
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for counted in [False] + [True] * rounds:
        for name, command in commands.items():
            result = run(command, environ)
            if counted:
                runs[name].append(result)
    return runs


def run(command: Sequence[str], environ: Mapping[str, str]) -> Run:
    """Run one command to its end; a failure stops the benchmark, for the time of a traceback says nothing."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, env=environ, cwd=Path(__file__).parents[1], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    wall_s = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
    return Run(wall_s, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def ratio(runs: Sequence[Run], yardstick: Sequence[Run]) -> float:
    return median(one.wall_s / other.wall_s for one, other in zip(runs, yardstick, strict=True))


def table(runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """One line a command: median wall and processor time in ms, and the ratio to the empty app."""
    lines = [f"{'':<18}{'wall ms':>9}{'cpu ms':>9}{'ratio':>8}"]
    for name, results in runs.items():
        wall_s, cpu_s = (median(values) for values in zip(*results, strict=True))
        lines.append(f"{name:<18}{wall_s * 1e3:>9.1f}{cpu_s * 1e3:>9.1f}{ratio(results, runs[YARDSTICK]):>8.2f}")
    return lines


def verdict(found: float) -> int:
    word = "within" if found <= BUDGET else "over"
    print(f"{word} the budget: {found:.2f} of at most {BUDGET} times the {YARDSTICK}")
    return 0 if found <= BUDGET else 1


if __name__ == "__main__":
    sys.exit(main())
