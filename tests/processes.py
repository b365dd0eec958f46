"""Real child processes for the tests of locks, crashes and permissions."""

import os
import subprocess
import sys
from pathlib import Path

import marketagent

# The children import the same checkout as the tests, wherever they are started.
ENVIRON = {**os.environ, "PYTHONPATH": str(Path(marketagent.__file__).parents[1])}


def start(code: str, *words: object) -> subprocess.Popen:
    """Python with `code` and `words` as its arguments; its stdout can be read, its stdin written, line by line."""
    command = [sys.executable, "-c", code, *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=ENVIRON, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def output(code: str, *words: object) -> str:
    """What such a child prints; its own failure fails the test."""
    with start(code, *words) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out
