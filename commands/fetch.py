"""``ma fetch``: fill the gaps in stored prices."""

from typing import Annotated

import typer

from marketagent import comparing, fetching, intake, options, pipe, progress, setup, show, sources
from marketagent.config import Settings
from marketagent.errors import UsageError
from marketagent.keeping import Task
from marketagent.pipe import Input
from marketagent.store import staged, staging
from marketagent.store.compare import Compared
from marketagent.symbols import checked


def run(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Tickers, @watchlist, @file.txt; with --source csv: files, folders or '-'.", show_default=False
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--source", help="polygon, alpaca, yahoo, csv or sample; without it the chain of the config."),
    ] = None,
    since: Annotated[str | None, typer.Option("--from", help="First session to store.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Last session to store.")] = None,
    timeframe: Annotated[
        str | None, typer.Option("--timeframe", help="1d, 1h, 30m, 15m, 5m or 1m; of a file it is found out.")
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Ask for stored bars again; what differs is kept.")
    ] = False,
    whole_market: Annotated[
        str | None, typer.Option("--whole-market", metavar="DATE", help="Every US stock on one day, from polygon.")
    ] = None,
    compare: Annotated[
        str | None, typer.Option("--compare", metavar="A,B", help="Fetch from two sources; say where they disagree.")
    ] = None,
    tolerance_bps: Annotated[float, typer.Option("--tolerance-bps", help="compare: what counts as different.")] = 1.0,
    concurrency: options.Concurrency = None,
    max_wait: options.MaxWait = None,
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
    stamp: Annotated[
        str, typer.Option("--stamp", help="csv: whether an intraday time is the start or the end of its bar.")
    ] = "auto",
    format: options.Format = "auto",
) -> int:
    """Store the prices of SYMBOLS, or of the symbols on stdin; what is stored already is not fetched again.

    Example: ma fetch AAPL MSFT --source polygon --from 2024-01-01
    """
    settings = Settings.load()
    first, last = options.span(since, until)
    day = options.day(whole_market, "--whole-market")
    pair = comparing.pair(compare) if compare else None
    if day and (names or compare or timeframe not in (None, "1d") or source not in (None, "polygon")):
        raise UsageError(
            "--whole-market is every symbol's daily bar from polygon: it takes no symbols, --source or --timeframe"
        )
    if pair and source:
        raise UsageError(f"--compare names its two sources; --source {source} is one too many")
    chain = [source] if source else fetching.configured_chain(settings)
    takes = sources.load(chain[0]).TAKES if source else "symbols"
    given = Input(symbols=tuple(names or ())) if takes == "files" or day else options.symbols_or_all(names, settings)
    reading = staged.Options(
        columns=options.pairs(rename, "--map"),
        symbol=symbol and checked(symbol),
        timeframe=timeframe,
        stamp=stamp,
        first=first.isoformat() if first else None,
        last=last.isoformat() if last else None,
    )
    staging.check_options(reading)
    task = Task(
        symbols=given.symbols,
        timeframe=timeframe or "1d",
        first=first,
        last=last,
        refresh=refresh,
        concurrency=options.in_flight(concurrency, settings),
        max_wait_s=options.at_least_0(settings.max_wait_s if max_wait is None else max_wait, "--max-wait"),
    )
    if made := setup.ready(settings.home, settings.now, timeout_s=settings.busy_timeout_s):
        show.say(f"made {', '.join(made)}" + ("" if str(settings.home) in made else f" in {settings.home}"))
    compared: list[Compared] = []
    with progress.bar("fetch") as tell:
        if day:
            taken = fetching.whole_market(settings, day, task)
        elif pair:
            compared, taken = comparing.compare(settings, pair, task, tolerance_bps=tolerance_bps, progress=tell)
        elif takes == "files":
            taken = intake.take_all(
                settings.home, sources.load(chain[0]), names or (), reading, settings.now, settings.busy_timeout_s
            )
        else:
            taken = fetching.fetch(settings, chain, task, progress=tell)
    differences = comparing.told(compared, pair, task.timeframe) if pair else []  # once the bar is gone
    with pipe.sealed("fetch", format, run=options.new_run(settings), at=settings.now) as out:
        out.follow(given)
        for record in differences or taken.fetched.values():
            out.write(record)
        out.fail_all(taken.failed)
    return out.exit_code
