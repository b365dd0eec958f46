"""What every peer's file is started with, by the Python of the peers' own environment: times, memory and results out.

    python with_NAME.py WORK DATA.npz ROUNDS

DATA.npz holds the arrays of the work by name, and its numbers as JSON under ``options``. One line of JSON comes out:
seconds of the first call and of the others (what compiles does so in the first), peak memory, versions, the result.
"""

import argparse
import json
import logging
import resource
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

Work = Callable[[SimpleNamespace], dict[str, Any]]


def serve(package: str, works: dict[str, Work]) -> None:
    """Run the work that argv names and print what came of it; a peer's warnings and progress bars are left out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=works)
    parser.add_argument("data")
    parser.add_argument("rounds", type=int)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    data = loaded(asked.data)
    times, result = [], {}
    for _ in range(asked.rounds):
        began = time.perf_counter()
        result = works[asked.work](data)
        times.append(time.perf_counter() - began)
    line = {
        "version": version(package),
        "first_s": times[0],
        "warm_s": min(times[1:], default=None),
        "peak_mb": peak_mb(),
        "result": result,
    }
    json.dump(line, sys.stdout, default=float)


def loaded(path: str) -> SimpleNamespace:
    """Every array of the file, and every option, as an attribute."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if name != "options"}
        return SimpleNamespace(**arrays, **json.loads(str(file["options"])))


def peak_mb() -> float:
    """The most memory this process held. A child's ``ru_maxrss`` begins with its parent's: taken only where no /proc is."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
