"""Each bar once: into the store, and then out, in order for a symbol, whatever the connection does meanwhile.

A bar is stored before it goes out. All that has arrived while the store was written goes into the next write together,
so that a burst at the turn of a minute costs two writes and not a hundred.

When a connection comes up, the minutes that may have been missed (since the last one that is known, up to the last one
that has closed) are fetched over REST; newer bars are stored meanwhile and wait for all gaps before they go out.
A frame that cannot be read may have held bars, and is treated as such a gap.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import anyio
import anyio.to_thread

from marketagent.errors import Busy, MarketAgentError
from marketagent.show import say
from marketagent.streams.events import MINUTE, Bar, Event, Status, minute
from marketagent.streams.gaps import Gaps
from marketagent.streams.order import Order
from marketagent.streams.watch import Watch

HOLD_S = 30.0  # seconds of the system that newer bars, and the end of the stream, wait for a gap to be filled
LAG_S = 5.0  # seconds of the market after which a vendor's REST interface has the minute that closed
GATHER_S = 0.02  # a write costs three times that: the bars of one turn of the minute are worth waiting for
_MOST = 5000  # rows of one write
_REMEMBERED = 2000  # minutes of a symbol

Write = Callable[[list[Bar]], list[str]]
VERDICTS = ("added", "corrected", "same")


@dataclass
class _Minute:
    bar: Bar
    arrived: float
    shown: bool = False


@dataclass(frozen=True)
class _Fill:
    """A bar of a gap."""

    bar: Bar


class _Filled:
    """The mark behind the last bar of the last gap: from here on no bar need wait."""


class Keeper:
    """Bars come in by `take` and leave by `out`; `run` does the work until `finish`.

    `write` stores bars and says what became of each: a verdict or the reason why it is none. `now` is market time as
    the feed has it, `until` the system seconds until then. `known` is, for each symbol, the last minute that need not
    be asked for. `counts` has added, corrected, filled, refused, late and repeated bars; `failed` the symbols with an
    unfilled gap, and why.
    """

    def __init__(
        self,
        *,
        write: Write,
        gaps: Gaps,
        out: Callable[[Bar], None],
        watch: Watch,
        now: Callable[[], datetime],
        until: Callable[[datetime], float],
        known: Mapping[str, datetime],
        printed: Mapping[str, datetime],
        tell: Callable[[object], None] = say,
    ) -> None:
        self._write, self._gaps, self._out, self._watch = write, gaps, out, watch
        self._now, self._until, self._tell = now, until, tell
        self._known = dict(known)
        self._order = Order(printed)
        self._seen: dict[str, dict[datetime, _Minute]] = {symbol: {} for symbol in known}
        self._inbox: list[Bar | _Fill | _Filled] = []
        self._wake = anyio.Event()
        self._scopes: dict[str, anyio.CancelScope] = {}
        self._found = False
        self._heard_at: datetime | None = None
        self._suspected: datetime | None = None
        self._goal: dict[str, datetime] = {}
        self._closing = self._hurried = self._told_of_gaps = False
        self._patient_until = 0.0
        self._started: set[str] = set()
        self._told: set[tuple[str, str]] = set()
        self.counts: Counter[str] = Counter()
        self.failed: dict[str, str] = {}

    def take(self, bar: Event) -> None:
        """A bar from the stream; one that was there before counts as repeated, unless its numbers are new."""
        if not isinstance(bar, Bar) or bar.symbol not in self._seen:
            return
        self._heard_at = self._now()
        self._arrived(bar, bar)

    def heed(self, status: Event) -> None:
        """A word of the connection: when it comes up, or was unclear, what may be missing is asked for."""
        if not isinstance(status, Status):
            return
        match status.word:
            case "subscribed":
                self._ask(self._known)
            case "ended":
                self._settle_known()
            case "broken":
                self._suspect()

    async def run(self) -> None:
        """Store, fill and hand out until `finish` was called and nothing is left to do.

        Raises what the store fails with: then nothing more goes out.
        """
        try:
            await self._work()
        except* MarketAgentError as group:
            raise group.exceptions[0] from None
        self._release(all_of_it=True)

    async def _work(self) -> None:
        async with anyio.create_task_group() as tasks:
            while True:
                for symbol in sorted(self._started):
                    self._scopes[symbol] = anyio.CancelScope()
                    tasks.start_soon(self._fill, symbol)
                self._started.clear()
                self._mind_the_time()
                if self._inbox and not self._closing:
                    await anyio.sleep(GATHER_S)
                await self._store()
                self._release()
                if self._closing and not (self._inbox or self._started or self._scopes):
                    break
                await self._pause()

    def _mind_the_time(self) -> None:
        """Once bars have waited long enough for a gap, say so; the end of the stream does not wait longer either."""
        if not self._scopes or not (self._hurried or anyio.current_time() >= self._patient_until):
            return
        if self._closing:
            for scope in self._scopes.values():
                scope.cancel()
        elif not self._told_of_gaps:
            self._told_of_gaps = True
            self._tell(f"{len(self._scopes)} gaps are not filled after {HOLD_S:.0f} s; newer bars go out before them")

    def finish(self, *, hurry: bool = False) -> None:
        """No more bars will come. `hurry`: do not wait for gaps either."""
        self._closing, self._hurried = True, self._hurried or hurry
        self._wake.set()

    # What may be missing

    def _settle_known(self) -> None:
        """How far the connection that ended has told everything: bars come within a minute of their close."""
        safe = minute(self._heard_at) - 2 * MINUTE if self._heard_at is not None else None
        for symbol, seen in self._seen.items():
            if symbol in self.failed or symbol in self._scopes:
                continue  # its older gap is still open: the next one begins there
            self._known[symbol] = max(filter(None, [self._known[symbol], max(seen, default=None), safe]))

    def _suspect(self) -> None:
        """Something was sent that could not be read; once a minute is enough to ask."""
        now = minute(self._now())
        if self._suspected != now:
            self._suspected = now
            self._settle_known()
            self._ask(self._known)

    def _ask(self, symbols: Collection[str]) -> None:
        """Fill what is missing of `symbols` up to the last closed minute; their newer bars wait for it."""
        goal = minute(self._now()) - MINUTE
        self._goal |= dict.fromkeys(symbols, goal)
        lacking = {symbol for symbol in symbols if self._lacks(symbol)}
        if lacking and not self._scopes:  # else bars wait already, and not the longer for one more drop
            self._patient_until, self._told_of_gaps = anyio.current_time() + HOLD_S, False
            self._order.hold(self._patient_until)
            self._found = False
        self._started |= lacking - set(self._scopes)
        self._wake.set()

    def _lacks(self, symbol: str) -> bool:
        """Whether a minute up to the goal may be missing; those that came by themselves meanwhile are not."""
        goal, seen = self._goal[symbol], self._seen[symbol]
        while self._known[symbol] < goal and self._known[symbol] + MINUTE in seen:
            self._known[symbol] += MINUTE
        return self._known[symbol] < goal

    async def _fill(self, symbol: str) -> None:
        try:
            with self._scopes[symbol]:
                while self._lacks(symbol):
                    goal = self._goal[symbol]
                    await anyio.sleep(max(0.0, min(HOLD_S, self._until(goal + MINUTE + LAG_S * MINUTE / 60))))
                    if self._lacks(symbol):
                        await self._fetch(symbol, self._known[symbol] + MINUTE, goal)
        finally:
            if self._lacks(symbol):
                self.failed[symbol] = _gap(self._known[symbol] + MINUTE, self._goal[symbol], "the stream ended first")
            del self._scopes[symbol]
            if not self._scopes and not self._started:
                self._inbox.append(_Filled())
                self._watch.proved(mute=self._found)
            self._wake.set()

    async def _fetch(self, symbol: str, first: datetime, last: datetime) -> None:
        try:
            bars = await self._gaps.missing(symbol, first, last)
        except MarketAgentError as error:
            self.failed[symbol] = _gap(first, last, error)
            self._tell(f"{symbol}: {self.failed[symbol]}")
            self._goal[symbol] = self._known[symbol]  # until the next connection asks again
            return
        self.failed.pop(symbol, None)
        self._known[symbol] = last
        self._found = self._found or bool(bars)
        for bar in bars:
            if bar.start not in self._seen[symbol]:
                self._arrived(bar, _Fill(bar))

    # Into the store and out

    def _arrived(self, bar: Bar, item: Bar | _Fill) -> None:
        seen = self._seen[bar.symbol]
        before = seen.get(bar.start)
        if before is None:
            seen[bar.start] = _Minute(bar, anyio.current_time())
            if len(seen) > _REMEMBERED:
                del seen[min(seen)]
        elif before.bar.values == bar.values or (before.bar.updated and not bar.updated):
            self.counts["repeated"] += 1
            return
        else:
            before.bar = bar
        self._inbox.append(item)
        self._wake.set()

    async def _store(self) -> None:
        while self._inbox:
            batch = self._batch()
            if batch:
                try:
                    verdicts = await anyio.to_thread.run_sync(self._write, [_bar(item) for item in batch])
                except Busy as error:
                    self._tell(f"{error}; {len(batch)} bars wait")
                    return  # they are still in the inbox
                for item, verdict in zip(batch, verdicts, strict=True):
                    self._stored(item, verdict)
                del self._inbox[: len(batch)]
                self._release()
            while self._inbox and isinstance(self._inbox[0], _Filled):
                if not (self._scopes or self._started):  # else there is another gap meanwhile
                    self._order.let_go()
                del self._inbox[0]

    def _batch(self) -> list[Bar | _Fill]:
        """From the head of the inbox, up to a mark or a second bar of one minute."""
        batch: list[Bar | _Fill] = []
        keys: set[tuple[str, datetime]] = set()
        for item in self._inbox[:_MOST]:
            if isinstance(item, _Filled) or (key := (_bar(item).symbol, _bar(item).start)) in keys:
                break
            keys.add(key)
            batch.append(item)
        return batch

    def _stored(self, item: Bar | _Fill, verdict: str) -> None:
        bar, is_fill = _bar(item), isinstance(item, _Fill)
        if verdict not in VERDICTS:
            self.counts["refused"] += 1
            self._seen[bar.symbol].pop(bar.start, None)  # a good one may still come
            if (bar.symbol, verdict) not in self._told:
                self._told.add((bar.symbol, verdict))
                self._tell(f"{bar.symbol}: a bar was set aside: {verdict} (ma sql 'from quarantine')")
            return
        if verdict != "same":
            self.counts[verdict] += 1
            self.counts["filled"] += is_fill
        known = self._seen[bar.symbol].get(bar.start)
        if known is not None and known.shown:
            self._order.replace(bar)
            return
        arrived = anyio.current_time()
        if known is not None:
            known.shown, arrived = True, known.arrived
        if not self._order.add(bar, arrived, settled=is_fill) and verdict == "added":
            self.counts["late"] += 1

    def _release(self, *, all_of_it: bool = False) -> None:
        coming: dict[str, datetime] = {}
        for item in self._inbox:
            if not isinstance(item, _Filled):
                bar = _bar(item)
                coming[bar.symbol] = min(bar.start, coming.get(bar.symbol, bar.start))
        for bar in self._order.due(anyio.current_time(), coming, all_of_it=all_of_it):
            self._out(bar)

    async def _pause(self) -> None:
        """Wait for something to do, or for a bar whose time has come."""
        next_at = self._order.next_at()
        if self._scopes and not self._told_of_gaps:
            next_at = min(next_at or self._patient_until, self._patient_until)
        wait_s = None if next_at is None else max(0.005, next_at - anyio.current_time())
        if self._inbox:  # the store was busy
            wait_s = 0.1
        with anyio.move_on_after(wait_s):
            await self._wake.wait()
        self._wake = anyio.Event()


def _bar(item: Bar | _Fill) -> Bar:
    return item.bar if isinstance(item, _Fill) else item


def _gap(first: datetime, last: datetime, why: object) -> str:
    return f"{first:%H:%M} to {last:%H:%M} UTC may lack bars: {why}"
