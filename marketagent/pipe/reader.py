"""The reading end of a sealed stream, strict: all of it and as it was written, or refused.

For the stages that move money. `read` proves the stream whole; `check` judges whether it may be acted on now.
Stages that only inform read with ``pipe.given``.
"""

import hashlib
from collections.abc import Collection, Container, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TextIO

from marketagent.errors import Refused
from marketagent.pipe.lines import Lines, parsed, raw_lines, valid
from marketagent.records import KINDS, VERSION, Begin, End
from marketagent.show import one_line

_SKEW_S = 60.0  # the stages of a pipe start together, but a loaded machine starts them seconds apart
_RECORDS = frozenset(KINDS) - {"begin", "end"}


@dataclass(frozen=True, kw_only=True)
class Sealed:
    """A stream that was read to its end. `dropped` records were taken out by a filter on the way.

    With `proven` the bytes are the ones that were written. Without it (a filter, ``allow_filtered``) only this
    is: the stage before finished, each record is valid by itself, in order, and not more than were written.
    """

    begin: Begin
    records: list[dict[str, Any]]
    end: End
    dropped: int = 0
    proven: bool = True


def read(stream: TextIO | Lines | None, *, kinds: Collection[str] = _RECORDS, allow_filtered: bool = False) -> Sealed:
    """Read `stream` (stdin) to its end; raises Refused with the first reason not to trust it.

    Only records of `kinds` are taken. With `allow_filtered` some may be missing, never moved, repeated or added.
    """
    if stream is None or stream.closed or stream.isatty():
        raise Refused("no stream on stdin; run: ma score … | ma trade")
    return read_lines(raw_lines(stream), kinds=kinds, allow_filtered=allow_filtered)


def read_lines(lines: Iterable[bytes], *, kinds: Collection[str] = _RECORDS, allow_filtered: bool = False) -> Sealed:
    """The same of `lines`, which must be all there are of the stream."""
    try:
        return _Strict(kinds, allow_filtered).read(lines)
    except OSError as error:
        raise Refused(f"the stream on stdin cannot be read: {error.strerror}") from error


def check(
    sealed: Sealed,
    *,
    now: datetime,
    max_age_s: float,
    allow_partial: bool = False,
    traded: Container[str] = (),
    skew_s: float = _SKEW_S,
) -> None:
    """Raise Refused unless the stream may be acted on at `now`: complete, fresh, and not acted on before.

    The age counts from the begin of the run that wrote it. `traded` holds the run ids acted on already.
    """
    begin, end = sealed.begin, sealed.end
    if end.status == "error":
        raise Refused(one_line(f"ma {end.cmd} failed: {end.error or 'no reason given'}"))
    if end.status == "partial" and not allow_partial:
        raise Refused(one_line(f"ma {end.cmd} was done only in part ({_missing(end)})"))
    age_s = (now - _instant(begin.at)).total_seconds()
    if age_s < -skew_s:
        raise Refused(f"the stream of ma {begin.cmd} comes from the future: {begin.at}; check the clock")
    if age_s > max_age_s:
        raise Refused(f"the stream of ma {begin.cmd} is {age_s:.0f} s old; at most {max_age_s:.0f} s are allowed")
    if begin.run in traded:
        raise Refused(one_line(f"run {begin.run} was acted on before"))


class _Strict:
    """One pass over the lines of one stream."""

    def __init__(self, kinds: Collection[str], allow_filtered: bool) -> None:
        self._kinds = kinds
        self._allow_filtered = allow_filtered
        self._hash = hashlib.sha256()
        self._last = -1

    def read(self, lines: Iterable[bytes]) -> Sealed:
        begin: Begin | None = None
        end: End | None = None
        records: list[dict[str, Any]] = []
        for number, raw in enumerate(lines, 1):
            fields = _parsed(raw, number)
            kind = fields.get("kind")
            if end is not None:
                raise Refused(f"line {number} comes after the end" + (", from a second stream" * (kind == "begin")))
            if (begin is None) != (kind == "begin"):
                raise Refused(f"line {number} is a second begin" if begin else "the stream has no begin")
            if kind == "end":
                end = _valid(raw, kind, number)
                continue
            self._hash.update(raw)
            if begin is None:
                begin = self._begin(raw, number)
            else:
                records.append(self._record(raw, fields, number))
        return self._sealed(begin, records, end)

    def _begin(self, raw: bytes, number: int) -> Begin:
        begin: Begin = _valid(raw, "begin", number)
        if not 1 <= begin.v <= VERSION:
            raise Refused(f"the stream has version {begin.v}; this ma reads up to {VERSION}")
        _instant(begin.at)
        return begin

    def _record(self, raw: bytes, fields: dict[str, Any], number: int) -> dict[str, Any]:
        kind = fields.get("kind")
        if not isinstance(kind, str) or kind not in self._kinds:
            wanted = " or ".join(sorted(self._kinds))
            raise Refused(one_line(f"line {number} is of kind {kind!a}; {wanted} is wanted"))
        _valid(raw, kind, number)
        i = fields.get("i")
        if type(i) is int and i > self._last + 1 and not self._allow_filtered:
            raise Refused(f"records before line {number} are missing (--allow-filtered accepts a filtered stream)")
        if not isinstance(i, int) or isinstance(i, bool) or not self._follows(i):
            raise Refused(one_line(f"line {number} has i {i!a} after {self._last}: out of order"))
        self._last = i
        return fields

    def _follows(self, i: int) -> bool:
        return i > self._last if self._allow_filtered else i == self._last + 1

    def _sealed(self, begin: Begin | None, records: list[dict[str, Any]], end: End | None) -> Sealed:
        if begin is None:
            raise Refused("nothing arrived on stdin: the stage before did not finish")
        if end is None:
            raise Refused(one_line(f"the stream of ma {begin.cmd} has no end: it did not finish"))
        if (end.run, end.cmd) != (begin.run, begin.cmd):
            raise Refused("begin and end are of two different streams")
        if _contradicts(end):
            raise Refused(one_line(f"the end of ma {end.cmd} says ok and names what failed"))
        proven = end.sha256 == self._hash.hexdigest()
        dropped = end.n - len(records)
        if self._allow_filtered and (dropped < 0 or self._last >= end.n):
            raise Refused(f"{len(records)} records up to i {self._last} arrived and only {end.n} were written")
        if not self._allow_filtered and dropped != 0:
            raise Refused(f"{len(records)} records arrived and {end.n} were written (--allow-filtered accepts fewer)")
        if dropped == 0 and not proven:  # nothing was filtered: something was changed
            raise Refused("the records are not the ones that were written: their hash differs")
        return Sealed(begin=begin, records=records, end=end, dropped=dropped, proven=proven)


def _valid(raw: bytes, kind: str, number: int) -> Any:
    try:
        return valid(raw, kind)
    except ValueError as error:
        raise Refused(one_line(f"line {number} {error}")) from error


def _parsed(raw: bytes, number: int) -> dict[str, Any]:
    try:
        return parsed(raw)
    except ValueError as error:
        raise Refused(one_line(f"line {number} of the stream {error}")) from error


def _contradicts(end: End) -> bool:
    upstream_whole = end.up is None or end.up.get("status") == "ok"
    return end.status == "ok" and (bool(end.failed) or end.error is not None or not upstream_whole)


def _missing(end: End) -> str:
    if end.failed:
        return "failed: " + ", ".join(failure.symbol for failure in end.failed[:5]) + ", …" * (len(end.failed) > 5)
    return end.error or "its own input was not complete"


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise Refused(f"the stream's time {text[:40]!a} is no instant") from error
    if instant.utcoffset() != timedelta(0):
        raise Refused(f"the stream's time {text[:40]!a} is not in UTC")
    return instant
