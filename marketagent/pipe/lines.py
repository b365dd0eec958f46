"""One line of a stream, out and in: strict JSON, ASCII, of bounded size, and the record it must be.

Python's own JSON takes NaN, Infinity, 1e400 and duplicate keys; here each of them is an error.
"""

import json
import math
from collections.abc import Iterator
from functools import cache
from typing import Any, NoReturn, Protocol, TextIO, cast

from marketagent.records import KINDS

MAX_LINE = 1 << 20  # bytes; a line without an end must not fill the memory


class Lines(Protocol):
    """What stdin is read through, be it a file object or something that stands in for one."""

    @property
    def closed(self) -> bool: ...

    def isatty(self) -> bool: ...

    def fileno(self) -> int: ...

    def readline(self, limit: int, /) -> bytes:
        """The next line, or `limit` bytes of it; b"" at the end."""


def line(fields: dict[str, Any]) -> bytes:
    """`fields` as one line; raises ValueError for NaN, an infinity or a line over MAX_LINE.

    Floats come back bit for bit: they are written as repr writes them.
    """
    text = json.dumps(fields, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    if "\\ud" in text:
        text = _without_lone_surrogates(text)
    raw = text.encode("ascii") + b"\n"
    if len(raw) > MAX_LINE:
        raise ValueError(f"a record of {len(raw)} bytes; a line holds at most {MAX_LINE}")
    return raw


def parsed(raw: bytes) -> dict[str, Any]:
    """One line as a dict; raises ValueError that says what is wrong with it."""
    if len(raw) > MAX_LINE:
        raise ValueError(f"is longer than {MAX_LINE} bytes")
    if not raw.endswith(b"\n"):
        raise ValueError("is cut off")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8") from error
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_not_json, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise ValueError("is not JSON") from error
    except RecursionError as error:
        raise ValueError("is nested too deep") from error
    if not isinstance(found, dict):
        raise ValueError("is not a record")  # noqa: TRY004 - the caller asks one question: is this line good?
    return found


def valid(raw: bytes, kind: str) -> Any:
    """The record of `kind` in a line that `parsed` has taken; raises ValueError that names the first wrong field.

    Fields a later version added are left out.
    """
    from pydantic import ValidationError

    try:
        # From the raw line: only JSON mode is strict (no "1" for 1) and still makes dataclasses of objects.
        return _adapter(kind).validate_json(raw, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"is no {kind}: {where}: {first['msg']}") from error


def raw_lines(stream: TextIO | Lines) -> Iterator[bytes]:
    """The lines of `stream` as they are; one that is too long comes cut, one byte over MAX_LINE, and is the last."""
    data = cast("Lines", getattr(stream, "buffer", stream))
    while raw := data.readline(MAX_LINE + 1):
        yield raw
        if len(raw) > MAX_LINE:
            return


@cache
def _adapter(kind: str) -> Any:
    from pydantic import TypeAdapter  # 0.2 s, and only who reads a stream pays it

    return TypeAdapter(KINDS[kind])


def _without_lone_surrogates(text: str) -> str:
    # Half an emoji, as a model leaves it when cut: legal in a Python str, in no UTF-8 and in no other reader's JSON.
    loose = json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))
    whole = loose.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return json.dumps(json.loads(whole), ensure_ascii=True, separators=(",", ":"))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("has the same key twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"has a number out of range: {text[:20]}")
    return number


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"has {name}, which is no number")
