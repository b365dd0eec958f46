"""diskcache without pickle: a row that somebody planted in the cache is never turned into code.

diskcache unpickles what a row says is pickled (CVE-2025-69872), and its own JSONDisk does so before it looks for
JSON (RELIABILITY, E3). Here a value is ``j`` and a text, in the row or in a file with a name that diskcache gives,
and everything else is refused: pickles, keys that are not texts, files outside the folder.
"""

import os
import re
from pathlib import Path
from typing import Any

from diskcache import UNKNOWN, Disk
from diskcache.core import MODE_RAW, MODE_TEXT

_MARK = "j"
_NAME = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val", re.ASCII)


class Planted(Exception):
    """A row that this program cannot have written."""


class SafeDisk(Disk):  # type: ignore[misc]  # diskcache ships no types
    """Text keys, text values, and no pickle in either direction."""

    def put(self, key: Any) -> tuple[str, bool]:
        if type(key) is not str:
            raise TypeError(f"a key of the cache is a text, not {key!r}")
        return key, True

    def get(self, key: Any, raw: bool) -> str:
        if not raw or type(key) is not str:
            raise Planted("a key that is not a text")
        return key

    def store(self, value: Any, read: bool, key: Any = UNKNOWN) -> Any:
        if read or type(value) is not str:
            raise TypeError(f"a value of the cache is a text, not {value!r}")
        return super().store(_MARK + value, False, key=key)

    def fetch(self, mode: Any, filename: Any, value: Any, read: bool) -> str:
        if mode == MODE_RAW and filename is None:
            text = value
        elif mode == MODE_TEXT and value is None and _is_ours(filename):
            text = self._file(filename)
        else:
            raise Planted(f"a value of mode {mode!r}")
        if type(text) is not str or not text.startswith(_MARK):
            raise Planted("a value without our mark")
        return text[len(_MARK) :]

    def remove(self, file_path: Any) -> None:
        if _is_ours(file_path):
            super().remove(file_path)

    def _file(self, filename: str) -> str:
        handle = os.open(Path(self._directory, filename), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with os.fdopen(handle, encoding="utf-8", newline="") as file:
            try:
                return file.read()
            except UnicodeDecodeError:
                raise Planted("a file that is not UTF-8") from None


def _is_ours(filename: Any) -> bool:
    return isinstance(filename, str) and _NAME.fullmatch(filename) is not None
