"""``ma fetch --compare A,B``: the same bars from two sources, and where they disagree."""

from collections.abc import Sequence

from marketagent.config import Settings
from marketagent.errors import MarketAgentError, UsageError
from marketagent.fetching import Progress, from_source
from marketagent.intake import Taken
from marketagent.keeping import Task
from marketagent.options import one_of
from marketagent.records import Difference
from marketagent.show import say
from marketagent.sources import names
from marketagent.store.compare import Compared, read_compared

BPS = 1e-4


def pair(text: str) -> tuple[str, str]:
    """The two sources of ``polygon,alpaca``; raises UsageError for anything else."""
    parts = text.split(",")
    if len(parts) != 2 or parts[0] == parts[1]:
        raise UsageError(f"--compare {text!r} is not two sources such as polygon,alpaca")
    return one_of(parts[0], names(), "--compare"), one_of(parts[1], names(), "--compare")


def compare(
    settings: Settings, sources: tuple[str, str], task: Task, *, tolerance_bps: float, progress: Progress | None
) -> tuple[list[Compared], Taken]:
    """Fetch what is missing from both `sources`: what is stored of each symbol, and the symbols that one could not serve."""
    if not task.symbols:
        raise UsageError(f"--compare {','.join(sources)} needs symbols")
    if not tolerance_bps >= 0:
        raise UsageError(f"--tolerance-bps {tolerance_bps:g} must be at least 0")
    failed: dict[str, MarketAgentError] = {}
    for name in sources:
        for symbol, error in from_source(settings, name, task, progress).failed.items():
            failed.setdefault(symbol, error)
    good = [symbol for symbol in task.symbols if symbol not in failed]
    found = read_compared(
        settings.home,
        good,
        *sources,
        task.timeframe,
        (task.first, task.last),
        tolerance=tolerance_bps * BPS,
        timeout_s=settings.busy_timeout_s,
    )
    return found, Taken(failed=failed)


def told(found: Sequence[Compared], sources: tuple[str, str], timeframe: str) -> list[Difference]:
    """The differences that were found, after a line on stderr for each symbol: how much is alike."""
    for one in found:
        apart = len({(each.session, each.ts) for each in one.differences if each.field != "bar"})
        text = f"{one.symbol}: {one.both - apart} of {one.both} {timeframe} bars agree"
        for name, count in zip(sources, (one.only_left, one.only_right), strict=True):
            text += f", {count} only from {name}" if count else ""
        say(text)
    return [each for one in found for each in one.differences]
