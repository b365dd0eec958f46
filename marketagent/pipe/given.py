"""What symbols a stage was given: arguments, watchlists, files, or whatever arrives on stdin.

Lenient, for stages that only inform: a stream that was cut is used as far as it goes, and the result says that
it was cut, so that the seal of this stage cannot say ``ok``.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from marketagent.errors import BadData, UsageError, did_you_mean
from marketagent.pipe.lines import Lines, parsed, raw_lines, valid
from marketagent.records import CASH, End, Failure
from marketagent.show import clean, one_line, say
from marketagent.symbols import checked


@dataclass(frozen=True, kw_only=True)
class Input:
    """Symbols in the order given, each once, and what is known to be missing from them.

    `up` is the end of the stream they came from, `incomplete` why it is not all there, `failed` what the stage
    before (or a bad symbol in its records) could not serve.
    """

    symbols: tuple[str, ...] = ()
    failed: tuple[Failure, ...] = ()
    up: End | None = None
    incomplete: str | None = None


def symbols_in(
    arguments: Sequence[str] | None,
    stdin: TextIO | Lines | None,
    watchlists: Mapping[str, Sequence[str]],
) -> Input:
    """The symbols of `arguments` (AAPL, @watchlist, @file.txt), or, without any, those on `stdin`.

    Nothing is read from a terminal: then, and from a closed stdin, the result is empty. Raises UsageError for
    what is not a ticker or not a watchlist, BadData for a file that is not text.
    """
    if arguments:
        return Input(symbols=_each_once(symbol for text in arguments for symbol in _named(text, watchlists)))
    if stdin is None or stdin.closed or stdin.isatty():
        return Input()
    try:
        lines = list(raw_lines(stdin))
    except OSError as error:
        raise UsageError(f"stdin cannot be read: {error.strerror}") from error
    if not lines:
        # /dev/null is no input at all; an empty pipe is a stage before us that died before its first line.
        return Input(incomplete="nothing arrived on stdin" if _is_pipe(stdin) else None)
    if any(raw.lstrip().startswith(b"{") for raw in lines):
        return _Lenient().read(lines)
    return Input(symbols=_each_once(_listed(b"".join(lines), "stdin")))


def _named(text: str, watchlists: Mapping[str, Sequence[str]]) -> Iterable[str]:
    if not text.startswith("@"):
        return [checked(text)]
    name = text[1:]
    if name in watchlists:
        return [checked(symbol) for symbol in watchlists[name]]
    if name and Path(name).exists():
        try:
            return _listed(Path(name).read_bytes(), name)
        except OSError as error:
            raise UsageError(f"{clean(name)} cannot be read: {error.strerror}") from error
    if "." in name or "/" in name:
        raise UsageError(f"no such file: {clean(name)}")
    shown = ascii(name[:40])
    raise UsageError(f"unknown watchlist {shown}{did_you_mean(name, watchlists)} ([watchlists] in config.toml)")


def _listed(data: bytes, name: str) -> Iterator[str]:
    """One ticker a line; ``#`` starts a comment."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadData(f"{clean(name)} is not UTF-8 text") from error
    for number, line in enumerate(text.split("\n"), 1):
        if symbol := line.partition("#")[0].strip():
            try:
                yield checked(symbol)
            except UsageError as error:
                raise UsageError(f"{clean(name)}, line {number}: {error}") from error


def _each_once(symbols: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(symbols))


def _is_pipe(stdin: TextIO | Lines) -> bool:
    try:
        mode = os.fstat(stdin.fileno()).st_mode
    except (OSError, ValueError):
        return True  # no descriptor: whatever it stands for, it promised records
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


class _Lenient:
    """One pass over records, sealed or not: what is good is used, the first thing wrong is remembered.

    The symbols are those of the records; of a stream in which no record has one, those that its begin names.
    """

    def __init__(self) -> None:
        self._symbols: list[str] = []
        self._named: list[object] = []
        self._failed: list[Failure] = []
        self._begun: str | None = None
        self._end: End | None = None
        self._n = 0
        self._wrong: str | None = None
        self._hash = hashlib.sha256()

    def read(self, lines: Iterable[bytes]) -> Input:
        for number, raw in enumerate(lines, 1):
            try:
                self._take(raw, parsed(raw))
            except ValueError as error:
                self._wrong = self._wrong or f"line {number} of the input {error}"
        if self._begun is not None or self._end is not None:
            self._wrong = self._wrong or self._unsealed()
        if not self._symbols:
            for symbol in self._named:
                self._add(symbol)
        if self._end is not None:
            self._failed += self._end.failed
        self._tell()
        return Input(
            symbols=_each_once(self._symbols), failed=tuple(self._failed), up=self._end, incomplete=self._wrong
        )

    def _take(self, raw: bytes, record: dict[str, Any]) -> None:
        kind = record.get("kind")
        if self._end is not None:
            raise ValueError("comes after the end of the stream")
        if kind == "end":
            end: End = valid(raw, "end")
            failed = [Failure(symbol=clean(item.symbol), error=one_line(item.error)) for item in end.failed]
            self._end = replace(end, failed=failed)
            return
        self._hash.update(raw)
        if kind == "begin":
            if self._begun is not None or self._n:
                raise ValueError("is the begin of a second stream")
            self._begun = str(record.get("cmd"))
            named = record.get("symbols")
            self._named = named if isinstance(named, list) else []
            return
        self._n += 1
        # None is no symbol, and the row of cash among positions is named like one and is none.
        if record.get("symbol") is not None and (kind, record["symbol"]) != ("position", CASH):
            self._add(record["symbol"])

    def _add(self, symbol: object) -> None:
        try:
            self._symbols.append(checked(str(symbol)))
        except UsageError as error:
            self._failed.append(Failure(symbol=clean(str(symbol))[:40], error=str(error)))

    def _unsealed(self) -> str | None:
        if self._begun is None:
            return "the begin of the stream is missing"
        if self._end is None:
            return f"ma {self._begun} did not finish: its stream has no end"
        if self._end.status == "error":
            return f"ma {self._end.cmd} failed: {self._end.error or 'no reason given'}"
        if self._end.n != self._n:
            return f"{self._n} of {self._end.n} records of ma {self._begun} arrived"
        if self._end.sha256 != self._hash.hexdigest():
            return f"the records of ma {self._begun} were changed on the way"
        return None

    def _tell(self) -> None:
        if self._wrong is not None:
            self._wrong = one_line(self._wrong)
            say(f"input is not complete: {self._wrong}")
        elif self._end is not None and self._end.status != "ok":
            say(f"ma {self._end.cmd} was done only in part")
        if self._failed:
            say("not in the input: " + ", ".join(failure.symbol for failure in self._failed))
