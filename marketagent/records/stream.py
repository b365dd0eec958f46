"""What seals a stream: its first line, its last, and who could not be served."""

from dataclasses import dataclass, field
from typing import Any, Literal

from marketagent.records.units import VERSION, Status


@dataclass(frozen=True, kw_only=True)
class Begin:
    """First line of a stream: which run of which command writes it, and since when.

    A `live` stream sends each record as it happens, and its end may be hours away or never come; `symbols` are those
    that it was asked for, so that whoever decides on it knows them before they come. A stream whose records are of many
    symbols at once names them likewise.
    """

    run: str
    cmd: str
    at: str
    v: int = VERSION
    live: bool = False
    symbols: list[str] = field(default_factory=list)
    kind: Literal["begin"] = "begin"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One symbol (or file) that a stage could not serve, and why."""

    symbol: str
    error: str


@dataclass(frozen=True, kw_only=True)
class End:
    """Last line of a stream: how many records there were, their hash, and whether that is all of them.

    `sha256` covers the raw bytes of every line before this one. `up` is the end of the stream this
    stage read, if it read one.
    """

    run: str
    cmd: str
    n: int
    sha256: str
    status: Status
    failed: list[Failure] = field(default_factory=list)
    error: str | None = None
    up: dict[str, Any] | None = None
    kind: Literal["end"] = "end"
