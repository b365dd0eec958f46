"""Strategies by name or by path: finding them, loading them, and blaming the right line when one is wrong.

``--strategy momentum`` looks in ``$MA_HOME/strategies/`` before the built-in ones; anything that ends in ``.py`` or
has a slash in it is a path. A strategy is the user's own program and runs with the user's rights. What it prints
goes to stderr: stdout belongs to records.
"""

import ast
import hashlib
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from marketagent.decision import BadStrategy
from marketagent.errors import MarketAgentError, UsageError, did_you_mean
from marketagent.strategy import Strategy


@dataclass(frozen=True)
class Loaded:
    """A strategy's class with where it comes from; `hash` is the SHA-256 of its file, whose text was `source`."""

    name: str
    file: Path
    hash: str
    summary: str
    kind: type[Strategy]
    source: bytes = field(default=b"", repr=False)

    def anew(self) -> "Loaded":
        """The same of a module of its own, which remembers nothing; a built-in one, which never does, as it is.

        Modules that the file imports are not loaded again. The new module takes the name of the earlier one in
        ``sys.modules``; what was made of that keeps its own globals.
        """
        if str(self.file.parent) in import_module("marketagent.strategies").__path__:
            return self
        return replace(self, kind=_class_in(self.file, self.source))

    def configured(self, texts: Mapping[str, str]) -> Strategy:
        """The strategy with ``--set`` values; raises UsageError for those, BadStrategy for what is wrong in its file."""
        with blame(self.file, self.kind):
            strategy = self.kind.configured(texts)
            if type(strategy.warmup) is not int or strategy.warmup < 0:
                raise BadStrategy(f"warmup is {strategy.warmup!r}; it must be a number of bars")
        return strategy

    def fresh(self, params: Mapping[str, Any]) -> Strategy:
        """A strategy that shares nothing with those made before, see ``anew``."""
        return self.anew().kind(**params)


def load(name: str, home: Path) -> Loaded:
    """The strategy called `name`, or in the file `name`; UsageError if there is none, BadStrategy if it is broken."""
    file = Path(name) if name.endswith(".py") or "/" in name else files(home).get(name)
    if file is None:
        raise UsageError(f"unknown strategy {name!r}{did_you_mean(name, files(home))} (ma backtest --list)")
    try:
        file = file.expanduser()
        source = file.read_bytes()
    except (FileNotFoundError, RuntimeError) as error:  # the latter: ~nobody, who has no home
        raise UsageError(f"no strategy file {file} (ma backtest --list)") from error
    except OSError as error:
        raise UsageError(f"strategy file {file} cannot be read: {error.strerror}") from error
    kind = _class_in(file, source)
    text = kind.__doc__ or ""
    # A dataclass without a docstring gets its signature for one, which is no help line.
    summary = "" if text.startswith(f"{kind.__name__}(") else text.strip().partition("\n")[0].rstrip(".")
    return Loaded(file.stem, file, hashlib.sha256(source).hexdigest(), summary, kind, source)


def files(home: Path) -> dict[str, Path]:
    """Every strategy that has a name, with its file; the user's own hide built-in ones of the same name."""
    found: dict[str, Path] = {}
    for folder in [*import_module("marketagent.strategies").__path__, str(home / "strategies")]:
        found |= {file.stem: file for file in sorted(Path(folder).glob("[!_]*.py"))}
    return dict(sorted(found.items()))


def _class_in(file: Path, source: bytes) -> type[Strategy]:
    with blame(file):
        module = _run(file, source)
    return _kind_in(module, file, source)


def _run(file: Path, source: bytes) -> ModuleType:
    """The module of `source`: these bytes are run, not a compiled copy beside them, for their hash is kept."""
    module = ModuleType(f"marketagent.strategies.{file.stem}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # dataclasses look their own module up
    exec(compile(source, str(file), "exec", dont_inherit=True), vars(module))  # noqa: S102 -- the user's program
    return module


def _kind_in(module: ModuleType, file: Path, source: bytes) -> type[Strategy]:
    """The one strategy of `module`."""
    kinds = {
        value: None
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Strategy) and value.__module__ == module.__name__
    }
    if len(kinds) != 1:
        line = _class_line(list(kinds)[1], source) if kinds else 1
        raise BadStrategy(f"{file}:{line}: holds {len(kinds)} subclasses of Strategy; it must hold one")
    return next(iter(kinds))


@contextmanager
def blame(file: Path, kind: type[Strategy] | None = None) -> Iterator[None]:
    """Turn whatever a strategy raises into one line that names its file and line; keep its prints off stdout."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except BadStrategy as error:
        raise BadStrategy(f"{file}:{_signals_line(file, kind)}: {error}") from error
    except MarketAgentError as error:
        line = _line(error, file)
        if line is None:
            raise  # not from the strategy's own lines: it already says what to do
        raise BadStrategy(f"{file}:{line}: {error}") from error
    except SyntaxError as error:
        nameless = error.filename in (None, "<string>", "<unknown>")  # of an eval inside the file, not of a file
        where = f"{file}:{_line(error, file) or 1}" if nameless else f"{error.filename}:{error.lineno or 1}"
        raise BadStrategy(f"{where}: {error.msg}") from error
    except (Exception, SystemExit) as error:  # a user's program may raise anything; none of it is ours to swallow
        text = " ".join(str(error).split())
        line = _line(error, file) or _signals_line(file, kind)
        raise BadStrategy(f"{file}:{line}: {type(error).__name__}{': ' if text else ''}{text}") from error


def _line(error: BaseException, file: Path) -> int | None:
    """The last line of `file` that the error came through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    return next((line for line in reversed(lines) if line), None)


def _signals_line(file: Path, kind: type[Strategy] | None) -> int:
    """Where `kind` defines its signals(); where it begins, if it does not."""
    if kind is None:
        return 1
    code = getattr(vars(kind).get("signals"), "__code__", None)
    return code.co_firstlineno if code else _class_line(kind, file.read_bytes())


def _class_line(kind: type[Strategy], source: bytes) -> int:
    found = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef))
    return next((node.lineno for node in found if node.name == kind.__name__), 1)
