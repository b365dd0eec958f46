"""Strategies by name or by path: finding them, loading them, and blaming the right line when one is wrong.

``--strategy momentum`` looks in ``$MA_HOME/strategies/`` before the built-in ones; anything that ends in ``.py`` or
has a slash in it is a path. A strategy is the user's own program and runs with the user's rights. What it prints
goes to stderr: stdout belongs to records.
"""

import hashlib
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from marketagent.decision import BadStrategy
from marketagent.errors import MarketAgentError, UsageError, did_you_mean
from marketagent.strategy import Strategy


@dataclass(frozen=True)
class Loaded:
    """A strategy's class with where it comes from; `hash` is the SHA-256 of its file."""

    name: str
    file: Path
    hash: str
    summary: str
    kind: type[Strategy]

    def configured(self, texts: Mapping[str, str]) -> Strategy:
        """The strategy with ``--set`` values; raises UsageError in the name of the strategy."""
        with blame(self.file):
            return self.kind.configured(texts)


def load(name: str, home: Path) -> Loaded:
    """The strategy called `name`, or in the file `name`; UsageError if there is none, BadStrategy if it is broken."""
    file = Path(name).expanduser() if name.endswith(".py") or "/" in name else files(home).get(name)
    if file is None:
        raise UsageError(f"unknown strategy {name!r}{did_you_mean(name, files(home))} (ma backtest --list)")
    if not file.is_file():
        raise UsageError(f"no strategy file {file} (ma backtest --list)")
    try:
        source = file.read_bytes()
    except OSError as error:
        raise UsageError(f"strategy file {file} cannot be read: {error.strerror}") from error
    kind = _class_in(file)
    summary = (kind.__doc__ or "").strip().partition("\n")[0].rstrip(".")
    return Loaded(file.stem, file, hashlib.sha256(source).hexdigest(), summary, kind)


def files(home: Path) -> dict[str, Path]:
    """Every strategy that has a name, with its file; the user's own hide built-in ones of the same name."""
    found: dict[str, Path] = {}
    for folder in [*import_module("marketagent.strategies").__path__, str(home / "strategies")]:
        found |= {file.stem: file for file in sorted(Path(folder).glob("[!_]*.py"))}
    return dict(sorted(found.items()))


def _class_in(file: Path) -> type[Strategy]:
    name = f"marketagent.strategies.{file.stem}"
    spec = spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UsageError(f"{file} is not a Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their own module up
    with blame(file):
        spec.loader.exec_module(module)
    kinds = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Strategy) and value.__module__ == name
    ]
    if len(kinds) != 1:
        raise BadStrategy(f"{file}: holds {len(kinds)} subclasses of Strategy; it must hold one")
    return kinds[0]


@contextmanager
def blame(file: Path, kind: type[Strategy] | None = None) -> Iterator[None]:
    """Turn whatever a strategy raises into one line that names its file and line; keep its prints off stdout."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except BadStrategy as error:
        line = kind.signals.__code__.co_firstlineno if kind else 1
        raise BadStrategy(f"{file}:{line}: {error}") from error
    except MarketAgentError:
        raise  # already says what to do
    except SyntaxError as error:
        raise BadStrategy(f"{error.filename or file}:{error.lineno}: {error.msg}") from error
    except Exception as error:  # a user's program may raise anything; none of it is ours to swallow
        raise BadStrategy(f"{file}:{_line(error, file)}: {type(error).__name__}: {error}") from error


def _line(error: BaseException, file: Path) -> int:
    """The last line of `file` that the error came through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    return next((line for line in reversed(lines) if line), 1)
