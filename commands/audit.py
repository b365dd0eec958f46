"""``ma audit``: does a strategy look ahead, and how much history does it need?"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer

from marketagent import audit, catalog, options, pipe, scoring, show
from marketagent import home as homes
from marketagent.config import Settings
from marketagent.errors import NoData
from marketagent.formats import counted
from marketagent.panel import Panel
from marketagent.records import Leak, Warmup
from marketagent.store.corrections import read_corrections
from marketagent.strategy import Opinions, Strategy
from marketagent.timeframes import DAY

app = typer.Typer(add_completion=False, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})

Samples = Annotated[int, typer.Option("--samples", min=1, max=1000, help="Sessions to try, spread over the history.")]
SEED = 11


@app.callback()
def run() -> None:
    """Try a strategy on the stored prices, before its backtests are believed."""


@app.command()
def lookahead(
    symbols: options.Symbols = None,
    strategy: options.Strategy = "ensemble",
    values: options.Set = None,
    samples: Samples = 8,
    timeframe: options.Timeframe = DAY,
    format: options.Format = "auto",
) -> int:
    """Replace everything after sampled sessions by noise: no decision up to them may change by a bit.

    Every leak is a line, and ends the command with 1; without any there are none. Decisions that rest on a correction the
    store learned only later are lines, too: those are the data's, and no failure of the strategy.

    Example: ma audit lookahead --strategy ./mine.py
    """
    settings, given, tried = _tried(symbols, strategy, values, samples, timeframe)
    loaded, panel = tried.loaded, tried.panel
    corrections = read_corrections(settings.home, panel, timeout_s=settings.busy_timeout_s)
    earlier = ((row, corrections.undone(row)) for row in corrections.rows(samples))
    with catalog.blame(loaded.file, loaded.kind):
        leaks = audit.lookahead(tried.fresh, panel, tried.opinions, tried.rows, SEED)
        corrected = audit.corrected(tried.fresh, panel, tried.opinions, earlier)
    found = "nothing looks ahead" if not leaks else "it looks ahead"
    show.say(f"{counted(len(tried.rows), 'session')} of {counted(len(panel.symbols), 'symbol')} tried: {found}")
    with pipe.sealed("audit lookahead", format, run=options.new_run(settings), at=settings.now) as out:
        out.follow(given)
        for leak in [*leaks, *corrected]:
            out.write(
                Leak(
                    strategy=loaded.name,
                    what=leak.what,
                    symbol=panel.symbols[leak.column],
                    session=str(panel.days[leak.row]),
                    known=str(panel.days[leak.known]),
                    how=leak.how,
                    before=leak.before if np.isfinite(leak.before) else None,
                    after=leak.after if np.isfinite(leak.after) else None,
                    changed=leak.changed,
                )
            )
    return 1 if leaks else out.exit_code


@app.command()
def warmup(
    symbols: options.Symbols = None,
    strategy: options.Strategy = "ensemble",
    values: options.Set = None,
    samples: Samples = 4,
    timeframe: options.Timeframe = DAY,
    format: options.Format = "auto",
) -> int:
    """How many bars until a decision no longer depends on where history began, beside what the strategy says it needs.

    Ends with 1 if it needs more than it says.

    Example: ma audit warmup --strategy momentum
    """
    settings, given, tried = _tried(symbols, strategy, values, samples, timeframe)
    loaded = tried.loaded
    with catalog.blame(loaded.file, loaded.kind):
        needed = audit.history_needed(tried.fresh, tried.panel, tried.opinions, tried.rows)
    with pipe.sealed("audit warmup", format, run=options.new_run(settings), at=settings.now) as out:
        out.follow(given)
        out.write(Warmup(strategy=loaded.name, warmup=tried.strategy.warmup, needed=needed, sampled=len(tried.rows)))
    return 1 if needed > max(tried.strategy.warmup, 1) else out.exit_code  # its own bar is always one


@dataclass(frozen=True)
class _Tried:
    """A strategy, the facts it is tried on, and the rows of them."""

    loaded: catalog.Loaded
    strategy: Strategy
    panel: Panel
    opinions: Opinions
    rows: list[int]

    def fresh(self) -> Strategy:
        """The same strategy, remembering nothing."""
        return self.loaded.fresh(self.strategy.params())


def _tried(
    symbols: list[str] | None, strategy: str, values: list[str] | None, samples: int, timeframe: str
) -> tuple[Settings, pipe.Input, _Tried]:
    """What both audits begin with: settings, input, facts."""
    settings = Settings.load()
    homes.check(settings.home)
    loaded = catalog.load(strategy, settings.home)
    chosen = loaded.configured(options.pairs(values, "--set"))
    given = options.symbols_or_all(symbols, settings)
    view = scoring.View(timeframe=options.timeframe(timeframe), now=settings.now)
    panel, opinions = scoring.facts(settings.home, given.symbols or None, view, timeout_s=settings.busy_timeout_s)
    return settings, given, _Tried(loaded, chosen, panel, opinions, _sampled(panel, samples, chosen.warmup))


def _sampled(panel: Panel, samples: int, warmup: int) -> list[int]:
    """Rows to try, spread from the warm-up on; the last row has nothing after it."""
    last = len(panel.sessions) - 2
    if last < warmup:
        raise NoData(f"{len(panel.sessions)} sessions are stored, and the strategy needs {warmup} to decide on one")
    return sorted({int(row) for row in np.linspace(warmup, last, samples)})
