"""The writing end of a sealed stream: begin, records, and an end that says whether that is all of them.

A stage that is killed writes no end; a stage that fails writes one with status ``error``. So the next stage
can tell "nothing to do" from "nothing arrived". Lines are held back until the stage is done (or a megabyte is
together): nothing is printed while the store is open. A live stream has no such end to wait for: what it writes
is stored already, and each line goes out at once.
"""

import csv
import hashlib
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Literal, TextIO

from marketagent import process, show
from marketagent.errors import DiskError, Exit
from marketagent.liveline import live_line
from marketagent.pipe.given import Input
from marketagent.pipe.lines import line
from marketagent.records import Begin, End, Failure, Status

Format = Literal["auto", "table", "ndjson", "csv"]
_CHUNK = 1 << 20
_Send = Callable[[bytes, TextIO], None]
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def new_run_id(now: datetime, random: bytes) -> str:
    """A run id that sorts by time: the instant in UTC to the millisecond, then `random` in hex.

    >>> new_run_id(datetime(2026, 11, 20, 21, 5, 0, 250_000, UTC), bytes([0, 15, 255]))
    '20261120T210500.250Z-000fff'
    """
    instant = now.astimezone(UTC)
    return f"{instant:%Y%m%dT%H%M%S}.{instant.microsecond // 1000:03d}Z-{random.hex()}"


def instant_text(at: datetime) -> str:
    """An aware instant as RFC 3339 in UTC; raises ValueError for a naive one.

    >>> instant_text(datetime(2026, 11, 20, 21, 5, tzinfo=UTC))
    '2026-11-20T21:05:00Z'
    """
    if at.tzinfo is None:
        raise ValueError(f"{at} has no time zone")
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Out:
    """An open stream. Records go in through `write`, symbols that could not be served through `fail`.

    `up` is the end of the stream this stage read, `incomplete` why its input is not all there; either makes
    the status ``partial`` unless `up` is ok. `curve` is drawn as a line below a table, and is no record. Once a live
    stream `gives_up`, it waits no longer for a reader that does not read.
    """

    def __init__(self, write: Callable[[dict[str, Any]], None]) -> None:
        self.gives_up = False
        self.up: End | None = None
        self.incomplete: str | None = None
        self.failed: list[Failure] = []
        self.n = 0
        self.curve: Sequence[float] = ()
        self._write = write

    def write(self, record: Any) -> None:
        """Add one record: a frozen dataclass of ``records``."""
        if record.kind in {"begin", "end"}:
            raise ValueError(f"a record of kind {record.kind!r} is written by the stream itself")
        values = asdict(record)
        del values["kind"]
        self._write({"kind": record.kind, "i": self.n, **values})
        self.n += 1

    def fail(self, symbol: str, error: object) -> None:
        """Name one symbol that could not be served: on stderr now, in the end record later. Its first error counts."""
        self.fail_all({symbol: error})

    def fail_all(self, errors: Mapping[str, object]) -> None:
        """The same for several; those that failed for one and the same reason share a line on stderr."""
        known = {failure.symbol for failure in self.failed}
        new = {symbol: error for symbol, error in errors.items() if show.clean(symbol) not in known}
        self.failed += [Failure(symbol=show.clean(symbol), error=show.one_line(error)) for symbol, error in new.items()]
        for symbols, text in show.shared(new):
            show.say(f"{show.few(symbols)}: {text}")

    def follow(self, given: Input) -> None:
        """Take over what the input said about itself; its failed symbols fail here too, without a second line."""
        self.up, self.incomplete = given.up, given.incomplete
        known = {failure.symbol for failure in self.failed}
        self.failed += [failure for failure in given.failed if failure.symbol not in known]

    @property
    def status(self) -> Status:
        upstream_whole = self.incomplete is None and (self.up is None or self.up.status == "ok")
        return "ok" if upstream_whole and not self.failed else "partial"

    @property
    def exit_code(self) -> Exit:
        return Exit.DONE if self.status == "ok" else Exit.PARTIAL


class sealed:  # noqa: N801 - used as a function: with sealed(...) as out
    """``with sealed("score", format, run=run, at=now) as out``: a stream that is sealed on the way out.

    `format` auto is a table on a terminal and NDJSON elsewhere. Tables and CSV have no begin and no end. An
    exception inside (also SIGINT and SIGTERM) seals the stream with status ``error`` and goes on. `raw` leaves
    CSV cells alone that a spreadsheet would take for a formula. A `live` stream sends its begin now and each record
    when it is written, a line on a terminal too; one of a live `series` (see ``pipe.live``) is sealed like any other and
    goes out whole. Raises ReaderGone and DiskError.
    """

    def __init__(
        self,
        cmd: str,
        format: Format = "auto",
        *,
        run: str,
        at: datetime,
        stdout: TextIO | None = None,
        raw: bool = False,
        live: bool = False,
        series: bool = False,
        symbols: Sequence[str] = (),
    ) -> None:
        self._stdout = sys.stdout if stdout is None else stdout
        tty = self._stdout.isatty()
        chosen = format if format != "auto" else ("table" if tty else "ndjson")
        self._form: _Ndjson | _Table | _Csv
        self._out = Out(lambda values: self._form.add(values))
        send = partial(process.emit_live, gives_up=lambda: self._out.gives_up) if live else process.emit
        if chosen == "ndjson":
            begin = Begin(run=run, cmd=cmd, at=instant_text(at), live=live or series, symbols=list(symbols))
            self._form = _Ndjson(begin, self._stdout, send, at_once=live)
        elif chosen == "csv":
            self._form = (_LiveCsv if live else _Csv)(self._stdout, send, raw=raw, tty=tty)
        else:
            self._form = (_LiveTable if live else _Table)(self._stdout, send)

    def __enter__(self) -> Out:
        return self._out

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._form.close(self._out, self._out.status, self._out.incomplete)
            return
        text = show.one_line(str(error) or type(error).__name__)
        # With nobody to tell on stdout, the exception under way says more than a second one.
        with suppress(process.ReaderGone, DiskError):
            self._form.close(self._out, "error", text)


class _Ndjson:
    def __init__(self, begin: Begin, stdout: TextIO, send: _Send, *, at_once: bool) -> None:
        self._begin, self._stdout, self._emit = begin, stdout, send
        self._most = 0 if at_once else _CHUNK
        self._held = bytearray()
        self._hash = hashlib.sha256()
        self._broken = False
        self.add(_kind_first(begin))

    def add(self, values: dict[str, Any]) -> None:
        raw = line(values)
        self._hash.update(raw)
        self._held += raw
        if len(self._held) >= self._most:
            self._send()

    def close(self, out: Out, status: Status, error: str | None) -> None:
        if self._broken:
            return  # part of the lines may be out: an end after a hole would only hide it
        end = End(
            run=self._begin.run,
            cmd=self._begin.cmd,
            n=out.n,
            sha256=self._hash.hexdigest(),
            status=status,
            failed=out.failed,
            error=error,
            up=None if out.up is None else asdict(out.up),
        )
        self._held += line(_kind_first(end))
        self._send()

    def _send(self) -> None:
        self._broken = True  # until the write is through: a signal may cut it anywhere
        self._emit(bytes(self._held), self._stdout)
        self._held.clear()
        self._broken = False


class _Table:
    def __init__(self, stdout: TextIO, send: _Send) -> None:
        self._stdout, self._emit = stdout, send
        self._records: list[dict[str, Any]] = []

    def add(self, values: dict[str, Any]) -> None:
        self._records.append(values)

    def close(self, out: Out, status: Status, error: str | None) -> None:
        if not self._records and status != "ok":
            return  # stderr has said why there is nothing
        screen = show.terminal(self._stdout)
        text = show.table(self._records, screen) + show.curve(out.curve, screen)
        self._send(text)

    def _send(self, text: str) -> None:
        self._emit(text.encode(self._stdout.encoding or "utf-8", "replace"), self._stdout)


class _LiveTable(_Table):
    """A line a record, as it comes: nobody waits an hour for a table."""

    def add(self, values: dict[str, Any]) -> None:
        self._send(live_line(values))

    def close(self, out: Out, status: Status, error: str | None) -> None:
        """Every line is out."""


class _Csv:
    def __init__(self, stdout: TextIO, send: _Send, *, raw: bool, tty: bool) -> None:
        self._stdout, self._emit, self._raw, self._tty = stdout, send, raw, tty
        self._rows: list[dict[str, Any]] = []

    def add(self, values: dict[str, Any]) -> None:
        plain = {name: value for name, value in values.items() if name not in ("kind", "i")}
        self._rows.append(values["values"] if values["kind"] == "row" else plain)

    def close(self, out: Out, status: Status, error: str | None) -> None:
        names = list(dict.fromkeys(name for row in self._rows for name in row))
        rows: list[list[Any]] = [[row.get(name) for name in names] for row in self._rows]
        self._send([names, *rows] if names else [])

    def _send(self, rows: list[list[Any]]) -> None:
        text = "".join(_csv_line([self._cell(value) for value in row]) for row in rows)
        self._emit(text.encode("utf-8", "replace"), self._stdout)

    def _cell(self, value: Any) -> str:
        if value is None:
            return ""
        if not isinstance(value, str):
            return json.dumps(value, allow_nan=False)
        value = show.clean(value) if self._tty else value
        # A spreadsheet runs a text that starts like a formula; a headline must not.
        return f"'{value}" if not self._raw and value.startswith(_FORMULA) else value


class _LiveCsv(_Csv):
    """A row a record, as it comes. The first one names the columns: a stream as CSV is of one kind."""

    def __init__(self, stdout: TextIO, send: _Send, *, raw: bool, tty: bool) -> None:
        super().__init__(stdout, send, raw=raw, tty=tty)
        self._names: list[str] = []

    def add(self, values: dict[str, Any]) -> None:
        super().add(values)
        row = self._rows.pop()
        header = [] if self._names else [list(row)]
        self._names = self._names or list(row)
        self._send([*header, [row.get(name) for name in self._names]])

    def close(self, out: Out, status: Status, error: str | None) -> None:
        """Every row is out."""


def _csv_line(cells: list[str]) -> str:
    # The csv module quotes a lone CR only when the line terminator has one, and readers take it for a line's end.
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue()[:-2] + "\n"


def _kind_first(record: Begin | End) -> dict[str, Any]:
    values = asdict(record)
    if not values.get("symbols", True):
        del values["symbols"]  # only one whose records do not name them has some
    return {"kind": values.pop("kind"), **values}
