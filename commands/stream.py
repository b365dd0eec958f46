"""``ma stream``: bars, trades and quotes as they happen, stored and printed."""

from typing import Annotated

import typer

from marketagent import options, pipe, process, setup, show
from marketagent.config import Settings
from marketagent.errors import UsageError


def run(
    symbols: options.Symbols = None,
    source: Annotated[
        str | None, typer.Option("--source", help="polygon or alpaca; else the first with a key.")
    ] = None,
    bars: Annotated[bool, typer.Option("--bars", help="Minute bars; what you get if you name nothing.")] = False,
    trades: Annotated[bool, typer.Option("--trades", help="Every trade; printed, not stored.")] = False,
    quotes: Annotated[bool, typer.Option("--quotes", help="Best bid and offer; printed, not stored.")] = False,
    lasts: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="90s, 10m, 2h of market time; without it: until Ctrl-C.")
    ] = None,
    format: options.Format = "auto",
) -> int:
    """Store and print the bars of SYMBOLS, or of the symbols on stdin, one a minute, each when it has closed.

    Example: ma stream AAPL MSFT --for 10m
    """
    settings = Settings.load()
    duration = options.duration(lasts, "--for")
    given = options.symbols_or_all(symbols, settings)
    if not given.symbols:
        raise UsageError("no symbols; run: ma stream AAPL MSFT, or pipe them in")
    from marketagent.streams import run as streams  # websockets and aiohttp, which the help does not need
    from marketagent.streams import vendors
    from marketagent.streams.events import Wanted

    chosen = [kind for kind, asked in zip(vendors.KINDS, (bars, trades, quotes), strict=True) if asked]
    wanted = Wanted(symbols=given.symbols, kinds=tuple(chosen or ["bars"]))
    if format == "csv" and len(wanted.kinds) > 1:
        raise UsageError(f"--format csv has one kind of row; choose one of --{' --'.join(wanted.kinds)}")
    vendor = vendors.chosen(settings, source)
    if made := setup.ready(settings.home, settings.now, timeout_s=settings.busy_timeout_s):
        show.say(f"made {', '.join(made)} in {settings.home}")
    if source is None:
        show.say(f"the stream is {vendor}'s")
    run = options.new_run(settings)
    with pipe.sealed("stream", format, run=run, at=settings.now, live=True, symbols=given.symbols) as out:
        out.follow(given)
        report = streams.stream(settings, streams.Asked(vendor=vendor, wanted=wanted, lasts=duration), out)
        for symbol, reason in report.failed.items():
            out.fail(symbol, reason)
        if duration is not None:
            process.resume(report.signal)
    return out.exit_code
