"""``ma fetch`` from a vendor: the first source of a chain that may serve, and the next one only for a listed reason."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, cast

from marketagent import sources
from marketagent.breaker import BreakerOpen
from marketagent.cache import open_cache
from marketagent.config import CONFIG, Settings
from marketagent.errors import BadConfig, MarketAgentError, NoData, Unavailable, UsageError
from marketagent.intake import Taken, take_all
from marketagent.keeping import Keeper, Task
from marketagent.limits import RateLimited
from marketagent.show import few, say, shared
from marketagent.store.database import opened
from marketagent.store.market import MARKET, stored
from marketagent.store.staged import Options
from marketagent.web.failures import NotEntitled
from marketagent.web.known import NoKey
from marketagent.wire import Desk, Wire
from marketagent.world import World

Progress = Callable[[int, int], None]

_KINDS: dict[str, tuple[type[MarketAgentError], ...]] = {
    "no-key": (NoKey,),
    "not-entitled": (NotEntitled,),
    "unavailable": (Unavailable, BreakerOpen, RateLimited),
}


def fetch(settings: Settings, chain: Sequence[str], task: Task, *, progress: Progress | None = None) -> Taken:
    """Serve the symbols of `task` from the first source of `chain`, and from the next for a reason of the settings.

    Raises what concerns all of them; the error of one symbol is in the result.
    """
    taken, left = Taken(), task.symbols
    for place, name in enumerate(chain):
        is_last = place == len(chain) - 1
        try:
            found = from_source(settings, name, replace(task, symbols=left), progress)
        except MarketAgentError as error:
            if is_last or not may_pass(error, settings.fallback_on):
                raise
            say(f"{error}; asking {chain[place + 1]}")
            continue
        passed = [symbol for symbol, error in found.failed.items() if may_pass(error, settings.fallback_on)]
        left = () if is_last else tuple(passed)
        taken.fetched |= found.fetched
        taken.failed |= {symbol: error for symbol, error in found.failed.items() if symbol not in left}
        if not left:
            break
        say(f"{name} does not serve {few(left)} ({found.failed[left[0]]}); asking {chain[place + 1]}")
    _raise_if_nothing(taken)
    return taken


def may_pass(error: MarketAgentError, reasons: Sequence[str]) -> bool:
    """Whether the next source may be asked after `error`: only for a reason that the settings list."""
    return any(isinstance(error, _KINDS[reason]) for reason in reasons)


def configured_chain(settings: Settings) -> list[str]:
    """The sources of the settings; BadConfig for one that does not exist or takes files."""
    for name in settings.sources:
        try:
            takes = sources.load(name).TAKES
        except UsageError as error:
            raise BadConfig(f"{settings.home / CONFIG}: {error}") from error
        if takes != "symbols":
            raise BadConfig(f"{settings.home / CONFIG}: source {name} takes files; name it with --source")
    return list(settings.sources)


def from_source(settings: Settings, name: str, task: Task, progress: Progress | None = None) -> Taken:
    """Fill the gaps of the symbols of `task`, of all that are stored without any, from the source `name`."""
    source: Any = sources.load(name)
    if not hasattr(source, "serve"):
        return _from_package(settings, source, task)
    wire = cast(Wire, source)
    if task.timeframe not in wire.TIMEFRAMES:
        raise UsageError(f"{name} has no {task.timeframe} bars; it has {', '.join(wire.TIMEFRAMES)}")
    feed = wire.feed(settings)
    keeper = Keeper(settings, name, feed, task if task.symbols else replace(task, symbols=_stored(settings)))
    wants = keeper.missing()
    if progress:
        keeper.done = lambda count: progress(count, len(wants))
    if wants:
        run_at_desk(keeper, lambda desk: wire.serve(desk, wants, task.timeframe))
    return _taken(keeper)


def whole_market(settings: Settings, day: date, task: Task) -> Taken:
    """Store the bar of every symbol on `day`, in three calls; says how many tickers there were that are no symbols here."""
    from marketagent.sources import polygon

    keeper = Keeper(settings, "polygon", polygon.feed(settings), task)
    keeper.missing()
    if not keeper.is_session(day):
        raise NoData(f"{day} is no trading session, or has not begun")
    odd = 0

    async def serve(desk: Desk) -> None:
        nonlocal odd
        deliveries, odd = await polygon.whole_market(desk, day)
        for delivery in deliveries:
            await desk.deliver(delivery)

    run_at_desk(keeper, serve)
    if not keeper.merged:
        raise NoData(f"polygon has no bar of {day}; the day may not be ready yet")
    if odd:
        say(f"{odd} tickers are no symbols here (preferred shares, units) and were left out")
    return Taken(keeper.records(sorted(keeper.merged)), dict(keeper.failed))


def run_at_desk(keeper: Keeper, serve: Callable[[Desk], Awaitable[None]]) -> None:
    """Run `serve` with a cache and a clock of its own, and store what it delivered, also when it fails half-way."""
    import anyio  # 0.1 s, and who lacks nothing asks nobody

    settings, task = keeper.settings, keeper.task
    cache = open_cache(settings.cache, settings.home)

    async def run() -> None:
        desk = Desk(
            settings=settings,
            cache=cache,
            world=World(),
            concurrency=task.concurrency,
            max_wait_s=task.max_wait_s,
            refresh=task.refresh,
            deliver=keeper.deliver,
            fail=keeper.fail,
        )
        try:
            await serve(desk)
        finally:
            with anyio.CancelScope(shield=True):  # what came before a failure or a signal is kept, too
                await keeper.flush()

    try:
        anyio.run(run)
    finally:
        cache.close()


def _from_package(settings: Settings, source: Any, task: Task) -> Taken:
    """From a source that brings its own files: the sample."""
    if task.timeframe != "1d":
        raise UsageError(f"this source has daily bars only, not {task.timeframe}")
    options = Options(
        first=task.first.isoformat() if task.first else None, last=task.last.isoformat() if task.last else None
    )
    return take_all(settings.home, source, task.symbols, options, settings.now, settings.busy_timeout_s)


def _stored(settings: Settings) -> tuple[str, ...]:
    with opened(settings.home / MARKET, timeout_s=settings.busy_timeout_s) as con:
        symbols = tuple(dict.fromkeys(held.symbol for held in stored(con)))
    if not symbols:
        raise UsageError("no symbols; run: ma fetch AAPL MSFT, or ma fetch @sp100")
    return symbols


def _taken(keeper: Keeper) -> Taken:
    task = keeper.task
    served = [symbol for symbol in task.symbols if symbol not in keeper.failed]
    records = keeper.records([symbol for symbol in served if symbol in keeper.asked])
    failed = {symbol: keeper.failed[symbol] for symbol in task.symbols if symbol in keeper.failed}
    for symbol in served:
        if symbol not in records:
            text = f"{keeper.source} has no {task.timeframe} bars {keeper.asked_text(symbol)}"
            failed[symbol] = NoData(text)
    return Taken(records, failed)


def _raise_if_nothing(taken: Taken) -> None:
    if not taken.failed or taken.fetched:
        return
    *others, (symbols, text) = shared(taken.failed)
    for names, reason in others:
        say(f"{few(names)}: {reason}")
    error = taken.failed[symbols[-1]]
    error.args = (f"{few(symbols)}: {text}",)  # what is raised is told like the others
    raise error
