"""The physical lines of a text file: where each row of a CSV begins, and what no CSV may hold.

DuckDB's reader says nothing of a last line longer than its limit (it drops it, 1.5.6), and counts rows, not lines. So
the bytes are looked at first: the numbers found here name the line of a refused row, and their count is how many rows
the reader must find.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from marketagent.errors import BadData

MAX_LINE = 1 << 20
_CHUNK = 1 << 24
_LF, _CR, _QUOTE = 10, 13, 34


def row_lines(path: Path, name: str) -> NDArray[np.int64]:
    """The number of the line that each row begins on, the header's first; blank lines are no rows.

    A row goes on over the line's end inside quotes. Raises BadData for a NUL byte, a line of more than MAX_LINE
    bytes, and for line ends of both kinds in one file.
    """
    found = _Found()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.add(np.frombuffer(chunk, dtype=np.uint8), name)
    return found.rows(name)


@dataclass
class _Found:
    """What is known up to `size` bytes: where lines end (the latest at `newest`), inside quotes or not, and after a CR."""

    size: int = 0
    quotes: int = 0
    before: int = 0
    count: int = 0
    newest: int = -1
    ends: list[NDArray[np.int64]] = field(default_factory=list)
    inside: list[NDArray[np.bool_]] = field(default_factory=list)
    returns: list[NDArray[np.bool_]] = field(default_factory=list)

    def add(self, data: NDArray[np.uint8], name: str) -> None:
        at = np.flatnonzero(data == _LF)
        nul = np.flatnonzero(data == 0)
        if len(nul):
            line = self.count + int(np.searchsorted(at, nul[0])) + 1
            raise BadData(f"{name}: line {line} holds a NUL byte; this is not a text file")
        # The bytes after the last line end count as well: a file without one need not be read to its end.
        marks = np.concatenate([[self.newest], at + self.size, [self.size + len(data)]])
        long = np.flatnonzero(np.diff(marks) > MAX_LINE + 1)
        if len(long):
            raise BadData(f"{name}: line {self.count + int(long[0]) + 1} is longer than {MAX_LINE:,} bytes")
        quotes = np.flatnonzero(data == _QUOTE)
        self.inside.append((self.quotes + np.searchsorted(quotes, at)) % 2 == 1)
        self.returns.append(np.concatenate([[self.before], data])[at] == _CR)
        self.ends.append(at + self.size)
        self.quotes += len(quotes)
        self.count += len(at)
        self.newest = int(marks[-2])
        self.before = int(data[-1])
        self.size += len(data)

    def rows(self, name: str) -> NDArray[np.int64]:
        ends, inside, returns = np.concatenate(self.ends), np.concatenate(self.inside), np.concatenate(self.returns)
        _refuse_both_line_ends(returns, ~inside, name)
        starts = np.concatenate([[0], ends + 1])
        begins = np.concatenate([[True], ~inside])  # a line begins a row if the one before it ended one
        length = np.concatenate([ends - returns, [self.size]]) - starts
        return np.flatnonzero(begins & (length > 0)) + 1


def _refuse_both_line_ends(returns: NDArray[np.bool_], ends_row: NDArray[np.bool_], name: str) -> None:
    kinds = returns[ends_row]
    if len(kinds) and (odd := np.flatnonzero(kinds != kinds[0])).size:
        line = int(np.flatnonzero(ends_row)[odd[0]]) + 1
        here, before = ("CRLF", "LF") if kinds[odd[0]] else ("LF", "CRLF")
        raise BadData(f"{name}: line {line} ends with {here}, those before it with {before}")
