"""``ma score``: decide on symbols as of their last stored session."""

import sys
from typing import Annotated

import typer

from marketagent import catalog, live, options, pipe, scoring, show
from marketagent import home as homes
from marketagent.config import Settings
from marketagent.errors import NoData
from marketagent.store import runs
from marketagent.timeframes import DAY


def run(
    symbols: options.Symbols = None,
    strategy: options.Strategy = "ensemble",
    values: options.Set = None,
    as_of: Annotated[str | None, typer.Option("--as-of", help="Decide as on the close of this session.")] = None,
    known_at: options.KnownAt = None,
    timeframe: options.Timeframe = DAY,
    source: options.Source = None,
    format: options.Format = "auto",
    raw: options.Raw = False,
) -> int:
    """Decide on SYMBOLS, or on the symbols on stdin, as of their last stored session (or bar, with --timeframe).

    On the stream of ma stream it keeps running: each bar that closes is decided on, in a sealed stream of its own.

    Example: ma score AAPL MSFT --strategy momentum
    """
    settings = Settings.load()
    incoming = pipe.Incoming(sys.stdin)
    is_live = not symbols and incoming.is_live  # waits for its begin: a ma stream before us may be making the home
    homes.check(settings.home, write=True)  # before a strategy of its folder is run
    loaded = catalog.load(strategy, settings.home)
    chosen = loaded.configured(options.pairs(values, "--set"))
    view = scoring.View(
        options.day(as_of, "--as-of"),
        options.stored_source(source),
        options.instant(known_at, "--known-at"),
        options.timeframe(timeframe),
        settings.now,
    )
    if is_live:
        return live.score(incoming, live.Scorer(settings, loaded, chosen, view, format, raw))
    given = pipe.symbols_in(symbols, incoming, settings.watchlists)
    if not given.symbols:
        none = f"ma {given.up.cmd} names no symbols" if given.up else "no symbols"
        raise NoData(f"{none}; run: ma score AAPL MSFT, or pipe them in from ma fetch")
    if given.up and given.up.cmd == "backtest":
        show.say(f"{loaded.name} decides, as --strategy and --set say here; of the backtest only the symbols are taken")
    wait = settings.busy_timeout_s
    panel = view.panel(settings.home, given.symbols, timeout_s=wait)
    scoring.require_session(settings.home, panel, view.last, timeout_s=wait)
    failed = {name: f"nothing is stored; run: ma fetch {name}" for name in given.symbols if name not in panel.symbols}
    failed |= scoring.unfit(settings.home, panel, chosen.warmup, view, timeout_s=wait)
    decided = []
    if set(panel.symbols) - set(failed):
        decisions = scoring.decided_on(settings.home, loaded, chosen, panel, view, timeout_s=wait)
        decided = list(scoring.records(decisions, loaded, chosen.params(), failed))
    run = options.new_run(settings)
    runs.write_decisions(settings.home, run, decided, settings.now, timeout_s=wait)
    with pipe.sealed("score", format, run=run, at=settings.now, raw=raw) as out:
        out.follow(given)
        for record in decided:
            out.write(record)
        for name, reason in failed.items():
            out.fail(name, reason)
    return out.exit_code
