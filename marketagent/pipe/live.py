"""Stdin for stages that act before it ends: a look at its first line, waiting that ends, and a series of streams.

A stream whose begin says ``live`` has no end to wait for. A stage that must be able to trust what it acts on cannot use
it as it is; so ``ma score`` answers it with a series: sealed streams on one pipe, each whole, one after the other. The
series may not end, each of its members does.

    {"kind":"begin","live":true,"run":"…a"} … {"kind":"end","run":"…a"} {"kind":"begin","live":true,"run":"…b"} …
"""

import os
import select
from collections.abc import Collection, Iterator
from typing import TextIO, cast

from marketagent.errors import Refused
from marketagent.pipe.lines import MAX_LINE, Lines, parsed, raw_lines
from marketagent.pipe.reader import Sealed, read_lines

_CHUNK = 1 << 16


class Incoming:
    """Stdin, line by line; it stands in for stdin wherever a stream is read. Read stdin in no other way beside it."""

    def __init__(self, stream: TextIO | Lines) -> None:
        self._stream = stream
        self._data = cast("Lines", getattr(stream, "buffer", stream))
        self._held = bytearray()
        self._ended = False
        self._ready = select.poll()
        try:
            self._descriptor: int | None = stream.fileno()
            self._ready.register(self._descriptor, select.POLLIN)
        except (OSError, ValueError):
            self._descriptor = None  # a stream in memory, or a closed one: nothing to wait for

    @property
    def closed(self) -> bool:
        return self._stream.closed

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def is_live(self) -> bool:
        """Whether the stream says so in its first line, which is waited for and not used up."""
        if self.closed or self.isatty():
            return False
        try:
            begin = parsed(self.peek())
        except (ValueError, OSError):
            return False  # whoever reads it says what is wrong with it
        return begin.get("kind") == "begin" and begin.get("live") is True

    def peek(self) -> bytes:
        """The line that comes next, b"" at the end; it stays where it is."""
        while not self._line_is_here(MAX_LINE + 1) and self._take(None):
            pass
        return self._line(MAX_LINE + 1)

    def readline(self, limit: int = MAX_LINE + 1) -> bytes:
        """The next line, waited for however long; b"" at the end, at most `limit` bytes."""
        line = self.line_within(None, limit)
        return b"" if line is None else line

    def line_within(self, wait_s: float | None, limit: int = MAX_LINE + 1) -> bytes | None:
        """The next line; None if it does not begin to come within `wait_s` (None: however long), b"" at the end."""
        while not self._line_is_here(limit):
            if not self._take(wait_s):
                return None
        line = self._line(limit)
        del self._held[: len(line)]
        return line

    def _line_is_here(self, limit: int) -> bool:
        return self._ended or b"\n" in self._held or len(self._held) >= limit

    def _line(self, limit: int) -> bytes:
        end = self._held.find(b"\n") + 1
        return bytes(self._held[: min(end or len(self._held), limit)])

    def _take(self, wait_s: float | None) -> bool:
        """Take what has come; False if nothing did in time."""
        if self._descriptor is None:
            data = self._data.readline(_CHUNK)
        elif not self._ready.poll(None if wait_s is None else max(wait_s, 0) * 1000):
            return False
        else:
            data = os.read(self._descriptor, _CHUNK)  # not through its file object, which would keep lines from `poll`
        self._ended = not data
        self._held += data
        return True


def series(incoming: Incoming, *, kinds: Collection[str], allow_filtered: bool = False) -> Iterator[Sealed]:
    """Each sealed stream of a live series as soon as it is whole, read as strictly as a single one.

    Raises Refused for one that was cut or changed: what comes after it on this pipe is not to be trusted either.
    """
    while incoming.peek():
        sealed = read_lines(_member(incoming), kinds=kinds, allow_filtered=allow_filtered)
        if not sealed.begin.live:
            raise Refused("a stream that is not live came after live ones; trade it by itself")
        yield sealed


def _member(incoming: Incoming) -> Iterator[bytes]:
    """The lines up to the next end, or to the end of all."""
    for raw in raw_lines(incoming):
        yield raw
        try:
            if parsed(raw).get("kind") == "end":
                return
        except ValueError:
            return  # the strict reader has refused it already
