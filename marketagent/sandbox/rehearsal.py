"""The home of a rehearsal, ``$MA_HOME/sandbox``: which sandbox runs for it, and what to set to talk to that one.

``sandbox.json`` says so while it runs, under a lock that ends with the process however it dies. ``rehearsal.json``
marks the folder as a rehearsal's, and names the market whose bars are stored in it.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from marketagent import home as homes
from marketagent.errors import BadData, Busy, Unavailable
from marketagent.store.turnstile import held

FOLDER = "sandbox"
STATE = "sandbox.json"
MARK = "rehearsal.json"
_LOOK_S = 0.05
_PATIENCE_S = 2.0  # somebody may be looking at the lock just now


@dataclass(frozen=True, kw_only=True)
class State:
    """A running sandbox. `env` is what its clients set."""

    pid: int
    url: str
    market: str
    seed: int
    env: dict[str, str]


def own_home(home: Path) -> Path:
    """The user's own home, also where `home` is that of a rehearsal: a shell that is set up for one starts the next."""
    return home.parent if home.name == FOLDER and (home / MARK).exists() else home


def folder_of(home: Path) -> Path:
    return own_home(home) / FOLDER


def prepare(home: Path, market: str) -> tuple[Path, str | None]:
    """The rehearsal's folder, made and marked as one of `market`; with it, the market it had before, if another one.

    The user's own strategies are there too, by a link.
    """
    own = own_home(home)
    folder = own / FOLDER
    homes.create(own)
    homes.create(folder)
    strategies = folder / "strategies"
    if (own / "strategies").is_dir() and not strategies.exists() and not strategies.is_symlink():
        strategies.symlink_to(Path("..") / "strategies")
    before = _read(folder / MARK).get("market") if (folder / MARK).exists() else None
    _write(folder / MARK, {"market": market})
    return folder, before if before != market else None


@contextmanager
def running(folder: Path, state: State) -> Iterator[None]:
    """Say that `state` runs, for as long as the block does; raises Busy when another sandbox runs for this home."""
    path = folder / STATE
    with alone(folder):
        _write(path, asdict(state))
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """The right to be the one sandbox of `folder`; raises Busy, naming the one that is."""
    try:
        with held(folder / STATE, timeout_s=_PATIENCE_S):
            yield
    except Busy as error:
        raise Busy(
            f"a sandbox runs for {folder} already ({_running(folder)}); end it, or set another MA_HOME"
        ) from error


def current(home: Path, *, wait_s: float = 0.0) -> State:
    """The sandbox that runs for `home`, or will within `wait_s`; raises Unavailable when none does.

    One that died and left its file does not run.
    """
    path = folder_of(home) / STATE
    deadline = time.monotonic() + wait_s
    while not path.exists() or _is_stale(path):
        if time.monotonic() >= deadline:
            raise Unavailable(f"no sandbox runs for {own_home(home)}; start one: ma sandbox &")
        time.sleep(_LOOK_S)
    try:
        values = _read(path)
        return State(**{name: values[name] for name in State.__dataclass_fields__})
    except FileNotFoundError as error:
        raise Unavailable(f"the sandbox of {own_home(home)} has just ended") from error
    except KeyError as error:
        raise BadData(f"{path} is damaged: it lacks {error}; end the sandbox and start it again") from error


def _is_stale(path: Path) -> bool:
    """Whether nobody holds the lock of `path`: a process number alone may belong to another by now."""
    try:
        with held(path, timeout_s=0.0):
            path.unlink(missing_ok=True)
            return True
    except Busy:
        return False


def _running(folder: Path) -> str:
    try:
        state = _read(folder / STATE)
        return f"pid {state['pid']} at {state['url']}"
    except (OSError, BadData, KeyError):
        return "just starting"  # its file is not written yet


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadData(f"{path} is damaged; remove it") from error
    if not isinstance(found, dict):
        raise BadData(f"{path} is damaged; remove it")
    return found


def _write(path: Path, values: Mapping[str, Any]) -> None:
    """`values` at `path`, whole or not at all, for this user only."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise homes.disk_error(error, path) from error
