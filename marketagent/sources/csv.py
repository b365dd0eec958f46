"""Prices from the user's own files: CSV, gzipped CSV or Parquet, a folder of them, or ``-`` for standard input."""

import hashlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from marketagent.errors import BadData, MarketAgentError, NoData, NotPermitted, UsageError
from marketagent.sources import Batch, Request, Unserved
from marketagent.store.staged import Options

TAKES = "files"
ENDINGS = (".csv", ".csv.gz", ".parquet")


def batches(request: Request) -> Iterator[Batch | Unserved]:
    """Each file of `request`, in the order given, a folder's by name."""
    if not request.names:
        raise UsageError("source csv needs a file, a folder or '-': ma fetch --source csv prices.csv")
    for name in request.names:
        if name == "-":
            yield _batch(_standard_input(request.folder), "-", request.options)
            continue
        try:
            for path in _files(Path(name)):
                yield _batch(path, str(path), request.options)
        except MarketAgentError as error:
            yield Unserved(name, error)  # the other files go on
        except OSError as error:
            yield Unserved(name, _unreadable(name, error))


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(each for each in path.iterdir() if each.name.lower().endswith(ENDINGS) and each.is_file())
        if not found:
            raise NoData(f"{path} holds no file that ends in {', '.join(ENDINGS)}")
        return found
    if not path.exists():
        raise NoData(f"no file {path}")
    if not path.is_file():
        raise BadData(f"{path} is not a file; pipe it in, and name it '-'")
    return [path]


def _standard_input(folder: Path) -> Path:
    if sys.stdin.isatty():
        raise UsageError("'-' reads standard input, which is a terminal; pipe a file in")
    path = folder / "stdin"
    with path.open("wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
    return path


def _batch(path: Path, name: str, options: Options) -> Batch:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    reading = hashlib.sha256(repr(options).encode()).hexdigest()
    return Batch(path=path, name=name, fingerprint=f"{digest}:{reading}", source="csv", options=options)


def _unreadable(name: str, error: OSError) -> MarketAgentError:
    if isinstance(error, PermissionError):
        return NotPermitted(f"{name} cannot be read: permission denied")
    return BadData(f"{name} cannot be read: {error.strerror}")
