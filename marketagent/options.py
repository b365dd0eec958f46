"""What the options of several commands mean, so that ``--format`` or ``--set`` is one thing everywhere."""

import os
import re
import sys
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from marketagent import pipe
from marketagent.config import Settings, config_file
from marketagent.errors import BadConfig, DiskError, NoData, UsageError, did_you_mean
from marketagent.timeframes import TIMEFRAMES

if TYPE_CHECKING:
    from marketagent import costs

_LARGEST_CASH = 1e13  # USD; a double still tells its cents apart, with room for growth
_LEAST_SAMPLES = 100

Symbols = Annotated[
    list[str] | None,
    typer.Argument(
        help="Tickers, @watchlist or @file.txt; without any, those on stdin, else all that are stored.",
        show_default=False,
    ),
]
Format = Annotated[
    pipe.Format,
    typer.Option("--format", help="auto: a table on a terminal, NDJSON in a pipe.", show_choices=True),
]
Raw = Annotated[bool, typer.Option("--raw", help="CSV: leave cells alone that a spreadsheet would run as a formula.")]
Strategy = Annotated[str, typer.Option("--strategy", "-s", help="A strategy's name, or the path of your own file.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the strategy; repeatable.", show_default=False),
]
Source = Annotated[str | None, typer.Option("--source", help="Take the bars of this source only.")]
Timeframe = Annotated[str, typer.Option("--timeframe", help="1d, 1h, 30m, 15m, 5m or 1m: the bars to decide on.")]
KnownAt = Annotated[
    str | None, typer.Option("--known-at", help="Only what the store knew at this instant (UTC, RFC 3339).")
]
Costs = Annotated[
    str | None,
    typer.Option(
        "--costs",
        help="none, bps:X, ibkr-fixed, ibkr-tiered, alpaca, or a name of your own under fees; @DATE: as then.",
    ),
]
Slippage = Annotated[float | None, typer.Option("--slippage-bps", help="Price moved against each order, in bps.")]
SlippageModel = Annotated[
    str | None,
    typer.Option(
        "--slippage", help="fixed:BPS, spread:BPS (half of it), volume:SHARE, sqrt:COEF; several with commas."
    ),
]
BorrowRate = Annotated[float | None, typer.Option("--borrow-rate", help="A year, on what is sold short.")]
MarginRate = Annotated[float | None, typer.Option("--margin-rate", help="A year, on cash that is owed.")]
Concurrency = Annotated[int | None, typer.Option("--concurrency", help="Requests in flight at once.")]
MaxWait = Annotated[
    float | None, typer.Option("--max-wait", help="Give up what would wait longer than so many seconds for a limit.")
]
Fractional = Annotated[bool, typer.Option("--fractional", help="Trade parts of a share.")]


def new_run(settings: Settings) -> str:
    """A run id for this command."""
    return pipe.new_run_id(settings.now, os.urandom(4))


def symbols_or_all(names: Sequence[str] | None, settings: Settings) -> pipe.Input:
    """The symbols of the arguments or of stdin; none means all there are, unless a stage before had none to give."""
    given = pipe.symbols_in(names, sys.stdin, settings.watchlists)
    if not given.symbols and (given.up or given.incomplete):
        raise NoData(f"no symbols arrived on stdin{f': {given.incomplete}' if given.incomplete else ''}")
    return given


def pairs(texts: Sequence[str] | None, option: str) -> dict[str, str]:
    """``["fast=20"]`` as ``{"fast": "20"}``; raises UsageError for anything else, and for a name given twice."""
    found: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UsageError(f"{option} {text!r} is not NAME=VALUE")
        if name in found:
            raise UsageError(f"{option} {name} is given twice: {found[name]} and {value}")
        found[name] = value
    return found


def day(text: str | None, option: str) -> date | None:
    """A ``YYYY-MM-DD`` option; raises UsageError for another text."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is not a date such as 2024-01-31") from error


def span(first: str | None, last: str | None) -> tuple[date | None, date | None]:
    """``--from`` and ``--to``; raises UsageError when they are the wrong way round."""
    since, until = day(first, "--from"), day(last, "--to")
    if since and until and since > until:
        raise UsageError(f"--from {since} is after --to {until}")
    return since, until


def duration(text: str | None, option: str) -> timedelta | None:
    """A ``90s``, ``10m`` or ``2h`` option; raises UsageError for another text.

    >>> duration("90s", "--for")
    datetime.timedelta(seconds=90)
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smh])", text, re.ASCII)
    seconds = float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if not seconds:
        raise UsageError(f"{option} {text!r} is not a time such as 90s, 10m or 2h")
    return timedelta(seconds=seconds)


def instant(text: str | None, option: str) -> datetime | None:
    """An RFC 3339 instant with its zone; raises UsageError for another text."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is not an instant such as 2026-11-20T21:05:00Z") from error
    if moment.tzinfo is None:
        raise UsageError(f"{option} {text!r} has no time zone; add Z for UTC")
    return moment


def one_of(value: str, known: Sequence[str], option: str) -> str:
    """`value` if it is one of `known`; raises UsageError with the nearest one."""
    if value not in known:
        raise UsageError(f"{option} {value!r} is none of {', '.join(known)}{did_you_mean(value, known)}")
    return value


def timeframe(text: str) -> str:
    """`text` if it is a timeframe; raises UsageError with the nearest one."""
    return one_of(text, tuple(TIMEFRAMES), "--timeframe")


def positive(value: float, option: str) -> float:
    """`value` if it is finite and above 0."""
    if not isfinite(value):
        raise UsageError(f"{option} {value:g} must be a finite number")
    if value <= 0:
        raise UsageError(f"{option} {value:g} must be above 0")
    return value


def cash(asked: float | None, settings: Settings) -> float:
    """What an account starts with: above 0, and not more than sums in cents are exact with."""
    value = settings.cash if asked is None else positive(asked, "--cash")
    if value > _LARGEST_CASH:
        error = f"{value:g} must be at most {_LARGEST_CASH:g} USD"
        raise _fault(settings, f"cash {error}") if asked is None else UsageError(f"--cash {error}")
    return value


def samples(value: int) -> int:
    """``--bootstrap``: none, or as many as an interval is made of."""
    if 0 < value < _LEAST_SAMPLES:
        raise UsageError(f"--bootstrap {value} must be at least {_LEAST_SAMPLES}, or 0 for no intervals")
    return value


def at_least_0(value: float, option: str) -> float:
    """`value` unless it is negative or not a number, which no limit is smaller than."""
    if not value >= 0:
        raise UsageError(f"{option} {value:g} must be at least 0")
    return value


def in_flight(asked: int | None, settings: Settings) -> int:
    """How many requests may be in flight: 1 to 1000."""
    value = settings.concurrency if asked is None else asked
    if not (1 <= value <= 1000 and value == int(value)):
        error = f"{value:g} must be a whole number from 1 to 1000"
        raise _fault(settings, f"concurrency {error}") if asked is None else UsageError(f"--concurrency {error}")
    return int(value)


def exportable(path: Path | None) -> Path | None:
    """`path`, if any; raises UsageError unless it has the name of results, and DiskError without its folder: before the work."""
    if path is None:
        return None
    if path.suffix not in (".parquet", ".csv"):
        raise UsageError(f"{path} must end in .parquet or .csv")
    if not path.absolute().parent.is_dir():
        raise DiskError(f"{path}: there is no folder {path.absolute().parent}")
    return path


def bill(
    settings: Settings,
    name: str | None = None,
    slippage_bps: float | None = None,
    slippage: str | None = None,
    borrow_rate: float | None = None,
    margin_rate: float | None = None,
) -> "costs.Costs":
    """The costs that were asked for, else those of the config; each wrong in its own way.

    A slippage that was asked for, as a model or in bps, replaces all of the config's.
    """
    from marketagent import costs, fees  # NumPy, which most commands do not need

    mine: dict[str, Any] = {
        "slippage_bps": settings.slippage_bps,
        "slippage": settings.slippage,
        "borrow_rate": settings.borrow_rate,
        "margin_rate": settings.margin_rate,
    }
    try:
        for own, table in settings.fees.items():
            fees.checked(own, table)
        if name is None or settings.fees:
            costs.parse(settings.costs, own=settings.fees)  # else the config's are not asked for
        costs.parse("none", **mine)  # its slippage and rates may be
    except UsageError as error:
        raise _fault(settings, str(error)) from error
    if slippage is not None or slippage_bps is not None:
        mine |= {"slippage_bps": slippage_bps or 0.0, "slippage": slippage or ""}
    asked = {"borrow_rate": borrow_rate, "margin_rate": margin_rate}
    mine |= {rate: value for rate, value in asked.items() if value is not None}
    return costs.parse(settings.costs if name is None else name, **mine, own=settings.fees)


def stored_source(name: str | None) -> str | None:
    """`name` if it is a source there is; raises UsageError with the nearest one."""
    from marketagent import sources  # DuckDB, which most commands do not need

    return None if name is None else one_of(name, sources.names(), "--source")


def _fault(settings: Settings, error: str) -> BadConfig:
    """`error` as one of the config, which it names."""
    return BadConfig(f"{config_file(settings.home)}: {error}")
