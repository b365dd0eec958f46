"""``ma fetch``: fill the gaps in stored prices."""

from typing import Annotated

import typer

from marketagent import intake, options, pipe, setup, show, sources
from marketagent.config import CONFIG, Settings
from marketagent.errors import BadConfig, UsageError
from marketagent.pipe import Input
from marketagent.store import staging
from marketagent.symbols import checked


def run(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Tickers, @watchlist, @file.txt; with --source csv: files, folders or '-'.", show_default=False
        ),
    ] = None,
    source: Annotated[str | None, typer.Option("--source", help="Where the prices come from: sample, csv.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="First session to store.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Last session to store.")] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="NAME=COLUMN",
            help="csv: which column is NAME (symbol, date, close, ...).",
            show_default=False,
        ),
    ] = None,
    symbol: Annotated[
        str | None, typer.Option("--symbol", help="csv: the symbol of a file that has no column for it.")
    ] = None,
    timeframe: Annotated[
        str | None, typer.Option("--timeframe", help="csv: 1d, 1h, 30m, 15m, 5m or 1m; found out if not given.")
    ] = None,
    stamp: Annotated[
        str, typer.Option("--stamp", help="csv: whether an intraday time is the start or the end of its bar.")
    ] = "auto",
    format: options.Format = "auto",
) -> int:
    """Store the prices of SYMBOLS, or of the symbols on stdin; what is stored already is not fetched again.

    Example: ma fetch AAPL MSFT --source sample
    """
    settings = Settings.load()
    first, last = options.span(since, until)
    chosen = sources.load(source) if source else _configured(settings)
    given = _given(chosen.TAKES, names, settings)
    reading = staging.Options(
        columns=options.pairs(rename, "--map"),
        symbol=symbol and checked(symbol),
        timeframe=timeframe,
        stamp=stamp,
        first=first.isoformat() if first else None,
        last=last.isoformat() if last else None,
    )
    staging.check_options(reading)
    if made := setup.ready(settings.home, settings.now, timeout_s=settings.busy_timeout_s):
        show.say(f"made {', '.join(made)}" + ("" if str(settings.home) in made else f" in {settings.home}"))
    taken = intake.take_all(settings.home, chosen, given.symbols, reading, settings.now, settings.busy_timeout_s)
    with pipe.sealed("fetch", format, run=options.new_run(settings), at=settings.now) as out:
        out.follow(given)
        for record in taken.fetched.values():
            out.write(record)
        for who, error in taken.failed.items():
            out.fail(who, error)
    return out.exit_code


def _given(takes: str, names: list[str] | None, settings: Settings) -> Input:
    """What to fetch: files as they are named, symbols from arguments or stdin."""
    if takes == "files":
        return Input(symbols=tuple(names or ()))
    return options.symbols_or_all(names, settings)


def _configured(settings: Settings) -> sources.Source:
    """The source of config.toml; a name there that is none is the configuration's fault."""
    try:
        return sources.load(settings.sources[0])
    except UsageError as error:
        raise BadConfig(f"{settings.home / CONFIG}: {error}") from error
