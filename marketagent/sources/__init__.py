"""Where prices come from: a source is a file here with a function ``batches``, found by name.

A source says which files of rows there are to read and how; reading, checking and storing them is the store's
work and the same for all. It does not know the store.
"""

import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from marketagent.errors import MarketAgentError, UsageError, did_you_mean
from marketagent.store.staged import Options


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asked a source for; `names` are symbols or files, as the source takes them."""

    names: Sequence[str]
    options: Options
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One file to store whole or not at all, and how to read it; `fingerprint` names this very content and reading."""

    path: Path
    name: str
    fingerprint: str
    source: str
    feed: str = ""
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class Unserved:
    """A symbol (or file) the source cannot serve, and why; the others go on."""

    name: str
    error: MarketAgentError


class Source(Protocol):
    """What a module of this package offers; TAKES tells whether names are ``symbols`` or ``files``."""

    TAKES: str

    def batches(self, request: Request) -> Iterator[Batch | Unserved]:
        """The files to store, or why there is none; raises a MarketAgentError when nothing can be served at all."""


def names() -> list[str]:
    """Every source there is."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Source:
    """The source called `name`; raises UsageError with the nearest one."""
    if name not in names():
        raise UsageError(f"unknown source {name!r}{did_you_mean(name, names())} (there are: {', '.join(names())})")
    return cast(Source, import_module(f"{__name__}.{name}"))
