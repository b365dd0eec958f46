"""The store's side of a fetch: what is missing there, and what was delivered put into it, some 200,000 bars at a time.

A batch is one transaction with its coverage: killed in between, the next run asks for the rest. It is stored in a
thread, while the next one is on its way.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from marketagent.config import Settings
from marketagent.delivery import Delivery, Load, Span, Want
from marketagent.errors import MarketAgentError, Refused
from marketagent.intake import working_folder
from marketagent.records import Fetched
from marketagent.show import say
from marketagent.store.arrivals import stage_load
from marketagent.store.coverage import looked_at, missing, read_calendar, read_coverage, write_coverage
from marketagent.store.database import opened
from marketagent.store.market import MARKET, copy_calendar
from marketagent.store.merge import Merged, Origin, feeds_of, merge, spans_of

if TYPE_CHECKING:
    import anyio

BATCH = 200_000  # bars that are stored together
EVERY_S = 5.0  # and no longer than this do delivered bars wait: a fetch within a tight limit may run for an hour
LOOKBACK_DAYS = {"1d": 730, "1h": 180, "30m": 60, "15m": 60, "5m": 30, "1m": 7}  # where nothing is stored or asked for


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to fetch: `first` None means from what is stored on, else LOOKBACK_DAYS; `refresh` asks for stored bars, too."""

    symbols: tuple[str, ...]
    timeframe: str = "1d"
    first: date | None = None
    last: date | None = None
    refresh: bool = False
    concurrency: int = 100
    max_wait_s: float = 120.0


@dataclass
class Keeper:
    """What came of `task` at one source. `done` hears how many symbols are through, of those that were missing something."""

    settings: Settings
    source: str
    feed: str
    task: Task
    done: Callable[[int], None] = lambda count: None
    failed: dict[str, MarketAgentError] = field(default_factory=dict)
    merged: dict[str, Merged] = field(default_factory=dict)
    asked: dict[str, Span] = field(default_factory=dict)
    _waiting: list[Delivery] = field(default_factory=list)
    _bars: int = 0
    _through: int = 0
    _flushed: float = field(default_factory=time.monotonic)
    _lock: "anyio.Lock | None" = None

    def missing(self) -> list[Want]:
        """What each symbol lacks; fails the symbols whose stored bars are of another feed."""
        task, now = self.task, self.settings.clock()
        with opened(self.settings.home / MARKET, timeout_s=self.settings.busy_timeout_s) as con:
            self.calendar = read_calendar(con, now)
            covered = read_coverage(con, task.symbols, task.timeframe, self.source)
            feeds = feeds_of(con, task.symbols, task.timeframe, self.source)
        newest = self.calendar.closed(now) if task.timeframe == "1d" else len(self.calendar.days)
        if not newest:
            return []
        end = min(filter(None, (task.last, self.calendar.days[newest - 1].astype(date))))
        for symbol in task.symbols:
            begin = task.first or self._begin(symbol, covered[symbol], end)
            if task.refresh and covered[symbol]:
                begin = min(begin, covered[symbol][0][0])
            if begin <= end:
                self.asked[symbol] = Span(begin, end)
        wants = missing(self.calendar, self.asked, {} if task.refresh else covered)
        return [want for want in wants if task.refresh or self._is_one_feed(want.symbol, feeds.get(want.symbol, ()))]

    def _begin(self, symbol: str, covered: Sequence[tuple[date, date, object]], end: date) -> date:
        return covered[0][0] if covered else end - timedelta(days=LOOKBACK_DAYS[self.task.timeframe])

    def _is_one_feed(self, symbol: str, stored: Sequence[str]) -> bool:
        others = [name for name in stored if name != self.feed]
        if others:
            self.failed[symbol] = Refused(
                f"the {self.task.timeframe} bars stored from {self.source} are of its feed {others[0] or 'without a name'};"
                f" {self.feed or 'one without a name'} would mix with them (--refresh fetches all of them anew)"
            )
        return not others

    async def deliver(self, delivery: Delivery) -> None:
        """Take what came of one symbol; stores when enough is together."""
        self._waiting.append(delivery)
        self._bars += len(delivery.rows)
        self._step()
        if self._bars >= BATCH or time.monotonic() - self._flushed > EVERY_S:
            await self.flush()

    def fail(self, symbol: str, error: MarketAgentError) -> None:
        self.failed[symbol] = error
        self._step()

    async def flush(self) -> None:
        """Store what waits. One at a time: the store takes one writer."""
        import anyio  # 0.1 s, and who lacks nothing asks nobody

        self._lock = self._lock or anyio.Lock()
        async with self._lock:
            batch, self._waiting, self._bars, self._flushed = tuple(self._waiting), [], 0, time.monotonic()
            if batch:
                await anyio.to_thread.run_sync(partial(self._store, batch))

    def _step(self) -> None:
        self._through += 1
        self.done(self._through)

    def _store(self, batch: tuple[Delivery, ...]) -> None:
        home, now, wait = self.settings.home, self.settings.clock(), self.settings.busy_timeout_s
        timeframe = self.task.timeframe
        with working_folder(home) as folder:
            calendar = folder / "calendar.parquet"
            with opened(home / MARKET, timeout_s=wait) as con:
                copy_calendar(con, calendar)
            staged = stage_load(Load(self.source, self.feed, timeframe, batch), calendar, folder, now)
            looked = {one.want.symbol: looked_at(self.calendar, one, now) for one in batch}
            with opened(home / MARKET, write=True, timeout_s=wait) as con:
                merged, notes = merge(con, staged, Origin(self.source, self.feed, f"{self.source} {timeframe}"), now)
                write_coverage(con, timeframe, self.source, looked, self.calendar, now)
        self.merged |= {one.symbol: one for one in merged}
        for note in [*staged.notes, *notes]:
            say(note)

    def records(self, symbols: Sequence[str]) -> dict[str, Fetched]:
        """A record of each of `symbols` that has bars stored now."""
        with opened(self.settings.home / MARKET, timeout_s=self.settings.busy_timeout_s) as con:
            spans = spans_of(con, list(symbols), self.task.timeframe, self.source)
        return {
            symbol: Fetched(
                symbol=symbol,
                source=self.source,
                timeframe=self.task.timeframe,
                first=spans[symbol][0],
                last=spans[symbol][1],
                bars=spans[symbol][2],
                added=done.added if (done := self.merged.get(symbol)) else 0,
                corrected=done.corrected if done else 0,
                quarantined=done.quarantined if done else 0,
                actions=done.actions if done else 0,
            )
            for symbol in symbols
            if symbol in spans
        }

    def asked_text(self, symbol: str) -> str:
        """The span `symbol` was asked for, as a sentence ends with it."""
        span = self.asked.get(symbol)
        return f"from {span.first} to {span.last}" if span else "in a session that has closed"

    def is_session(self, day: date) -> bool:
        return bool((self.calendar.days == np.datetime64(day)).any())
