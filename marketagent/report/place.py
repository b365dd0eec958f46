"""Where a page goes: a file that is whole or not there at all, or stdout, which then carries nothing else."""

import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from marketagent.errors import DiskError, UsageError
from marketagent.process import emit

STDOUT, ENDINGS = "-", (".html", ".htm")


@dataclass(frozen=True)
class Place:
    """The file `path`, stdout if None."""

    path: Path | None

    def put(self, page: str) -> None:
        """Write `page`; raises DiskError, and then an earlier file of that name is what it was."""
        data = page.encode("utf-8", "replace")
        if self.path is None:
            emit(data)
            return
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            _write(draft, data)
            draft.replace(self.path)
        except OSError as error:
            raise _refused(self.path, error.strerror or str(error)) from error
        finally:
            draft.unlink(missing_ok=True)  # also when a signal cuts the writing; renamed, it is not there


def place(text: str | None) -> Place | None:
    """The place that ``--report`` names, None without it; raises DiskError where no file can be written to, and UsageError
    for a name that is not a page's: it would take the place of whatever has it.

    Before the work: whoever waited for a backtest should not lose its page to a slip of the keyboard.
    """
    if text is None:
        return None
    if text == STDOUT:
        return Place(None)
    if not text:
        raise UsageError("--report '' has no name; name a file, e.g. report.html, or - for stdout")
    path = Path(text)
    folder = path.absolute().parent
    try:
        if path.is_dir() or not path.name:
            raise _refused(path, "it is a folder; name a file, e.g. report.html")
        if not folder.is_dir():
            raise _refused(path, f"there is no folder {folder}")
        if path.suffix not in ENDINGS:
            raise UsageError(f"--report {text!r} must end in .html, or be - for stdout")
        if path.exists() and not path.is_file():
            raise _refused(path, "it is no plain file")
    except OSError as error:  # a name too long, a folder that may not be entered
        raise _refused(path, error.strerror or str(error)) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _refused(path, f"you may not write to {folder}")
    return Place(path)


def records(where: Place | None) -> TextIO:
    """Where a command's records go: to stdout, or nowhere if a page is there."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8") if where is not None and where.path is None else sys.stdout


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _refused(path: Path, why: str) -> DiskError:
    return DiskError(f"--report {path}: {why}")
