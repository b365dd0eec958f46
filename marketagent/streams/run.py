"""``ma stream`` as a whole: a vendor's connection, the bus, the keeper and the printer, from the start to the end.

    socket -> events -> bus -> keeper -> store -> printer -> stdout
                          \\-> printer (trades and quotes)

One process a vendor and home may do this at a time: most plans allow one connection. Whatever ends it (the time is over,
a signal, a reader that has gone, an error of the vendor), what has arrived is stored and printed first.
"""

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import anyio

from marketagent import process, records
from marketagent.config import Settings
from marketagent.errors import MarketAgentError
from marketagent.pipe import Out, instant_text
from marketagent.show import say
from marketagent.store import live
from marketagent.store.turnstile import held
from marketagent.streams import vendors
from marketagent.streams.bus import Bus
from marketagent.streams.connection import Connection, Pace
from marketagent.streams.events import MINUTE, Bar, Event, Quote, Status, Trade, Wanted, minute, ticker
from marketagent.streams.keeper import Keeper
from marketagent.streams.printer import Printer
from marketagent.streams.watch import Watch
from marketagent.web.client import Client

NEW_YORK = ZoneInfo("America/New_York")
_LOOK_S = 0.5  # how often a reader that has gone is looked for
_PARTING_S = 2.0  # for a reader that does not read, after a signal or an error
_DAYS = 14  # of the calendar, on both sides
_MOST_SAID = 100


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What ``ma stream`` was asked for; `lasts` in market time, None: until a signal."""

    vendor: str
    wanted: Wanted
    lasts: timedelta | None = None


@dataclass(kw_only=True)
class Report:
    """What a stream did. `signal` is the one that ended it, if one did; `failed` names symbols with an unfilled gap."""

    counts: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    connected: bool = False
    reconnects: int = 0
    signal: int | None = None

    def __str__(self) -> str:
        told = {
            "bars stored": self.counts.get("added", 0),
            "corrected": self.counts.get("corrected", 0),
            "filled from gaps": self.counts.get("filled", 0),
            "set aside": self.counts.get("refused", 0),
            "late and not printed": self.counts.get("late", 0),
            "trades dropped": self.counts.get("trades", 0),
            "quotes dropped": self.counts.get("quotes", 0),
            "reconnects": self.reconnects,
        }
        always = ("bars stored", "corrected", "filled from gaps", "quotes dropped", "reconnects")
        return ", ".join(f"{count:,} {name}" for name, count in told.items() if count or name in always)


def stream(settings: Settings, asked: Asked, out: Out, *, pace: Pace | None = None) -> Report:
    """Stream what was `asked` into the store and `out`; returns when its time is over or a signal came.

    Raises what the connection, the store or the reader ended with. What was done is told on stderr in any case.
    """
    with held(settings.home / f"{asked.vendor}.stream", 0.0):
        running = _Running(settings, asked, out, pace or Pace())
        running.printer.start()
        try:
            with _signals_restored():
                anyio.run(running.main)
        finally:
            running.printer.finish(
                give_up=lambda: setattr(out, "gives_up", True), wait_s=_PARTING_S if running.in_a_hurry else None
            )
            report = running.report()
            if report.connected:
                say(f"{asked.vendor}: {report}")
        if error := running.printer.error or running.error:
            raise error
        return report


@contextmanager
def _signals_restored() -> Iterator[None]:
    """The event loop takes the signals over, and leaves the system's defaults behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


class _Running:
    """The parts of one stream and what goes on between them. `error` is what ended it, if it was not its time."""

    def __init__(self, settings: Settings, asked: Asked, out: Out, pace: Pace) -> None:
        self._settings, self._asked, self._out, self._pace = settings, asked, out, pace
        self._wire = vendors.wire(settings, asked.vendor)
        self._delay = vendors.delay(settings, asked.vendor)
        self._calendar, self._usual, self._stored = self._looked_up()
        self._names = {ticker(symbol): symbol for symbol in asked.wanted.symbols}
        self._said: set[str] = set()
        self._signal: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._keeper: Keeper | None = None
        self._connection: Connection | None = None
        self._bus: Bus | None = None
        self.error: BaseException | None = None
        self.printer = Printer(self._print, failed=self._reader_failed)

    @property
    def in_a_hurry(self) -> bool:
        return self._signal is not None or self.error is not None

    def report(self) -> Report:
        counts = dict(self._keeper.counts) if self._keeper else {}
        dropped = self.printer.dropped + (self._bus.dropped if self._bus else Counter())
        counts |= {"trades": dropped[Trade], "quotes": dropped[Quote]}
        return Report(
            counts=counts,
            failed=dict(self._keeper.failed) if self._keeper else {},
            connected=bool(self._connection and self._connection.ups),
            reconnects=self._connection.reconnects if self._connection else 0,
            signal=self._signal,
        )

    async def main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._over, self._link, self._bus = anyio.Event(), anyio.CancelScope(), Bus()
        watch = Watch(self._feed_now, self._calendar, usual=self._usual)
        async with vendors.rest(self._settings, self._asked.vendor) as client, anyio.create_task_group() as around:
            keeper = self._keeper = self._made_keeper(watch, client)
            self._subscribe(self._bus, watch, keeper)
            connection = self._connection = Connection(
                self._wire, self._as_tickers(), self._put, watch, pace=self._pace
            )
            around.start_soon(self._take_signals, keeper, around.cancel_scope)
            around.start_soon(self._look_out)
            async with anyio.create_task_group() as inside:
                inside.start_soon(self._connected, connection, self._bus)
                inside.start_soon(self._handed_on, self._bus, keeper)
                inside.start_soon(self._kept, keeper)
                await self._over.wait()
                self._link.cancel()
            around.cancel_scope.cancel()

    async def _connected(self, connection: Connection, bus: Bus) -> None:
        with self._link:
            try:
                await connection.run()
            except MarketAgentError as error:  # raised by `stream`, once what has arrived is stored
                self.error = error
                self._over.set()
        bus.close()  # only now: a connection that is being closed still hands on what has arrived

    async def _kept(self, keeper: Keeper) -> None:
        try:
            await keeper.run()
        except MarketAgentError as error:  # raised by `stream`
            self.error = error
            self._over.set()

    async def _handed_on(self, bus: Bus, keeper: Keeper) -> None:
        await bus.run()
        keeper.finish(hurry=self.in_a_hurry)

    async def _take_signals(self, keeper: Keeper, everything: anyio.CancelScope) -> None:
        """The first signal ends the stream in order, a second one at once."""
        if threading.current_thread() is not threading.main_thread():
            return
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for signum in signals:
                if self._signal is not None:
                    everything.cancel()
                self._signal = signum
                if self._over.is_set():
                    keeper.finish(hurry=True)
                self._over.set()

    async def _look_out(self) -> None:
        """End the stream when its time is over, or when nobody reads it any more."""
        clock = self._settings.clock
        end = clock() + self._asked.lasts if self._asked.lasts is not None else None
        while not self._over.is_set():
            left_s = _LOOK_S if end is None else clock.until(end)
            if process.reader_gone():
                self.error = process.ReaderGone("nobody reads")
            if left_s <= 0 or self.error:
                self._over.set()
            await anyio.sleep(max(0.0, min(_LOOK_S, left_s)))

    def _reader_failed(self) -> None:
        """In the printer's thread: it could not write."""
        with suppress(RuntimeError):  # the loop has ended by itself
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._over.set)

    # Between the parts

    def _as_tickers(self) -> Wanted:
        return replace(self._asked.wanted, symbols=tuple(self._names))

    def _put(self, event: Event) -> None:
        """To the bus, under the user's name for the symbol: BRK-B is the vendor's BRK.B."""
        if not isinstance(event, Status):
            name = self._names.get(event.symbol, event.symbol)
            event = event if name == event.symbol else replace(event, symbol=name)
        if self._bus is not None:
            self._bus.put(event)

    def _subscribe(self, bus: Bus, watch: Watch, keeper: Keeper) -> None:
        proof = Bar if "bars" in self._asked.wanted.kinds else Trade if "trades" in self._asked.wanted.kinds else Quote
        bus.on(proof, lambda event: watch.heard())
        bus.on(Status, keeper.heed)
        bus.on(Status, self._tell_once)
        bus.on(Bar, keeper.take)
        bus.on(Trade, self.printer.put)
        bus.on(Quote, self.printer.put)

    def _tell_once(self, event: Event) -> None:
        if not isinstance(event, Status) or event.word not in {"told", "broken"} or not event.text:
            return
        if event.text not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(event.text)
            say(f"{self._asked.vendor}: {event.text}")

    def _print(self, event: Event) -> None:
        self._out.write(_record(event, self._asked.vendor))

    def _feed_now(self) -> datetime:
        """Market time as the feed shows it."""
        return self._settings.clock() - self._delay

    # The store

    def _looked_up(self) -> tuple[list[tuple[datetime, datetime]], timedelta, dict[str, datetime]]:
        """The calendar around now, the usual silence, and the newest minute of each symbol that is stored of a day."""
        home, now, wait_s = self._settings.home, self._feed_now(), self._settings.busy_timeout_s
        symbols, vendor = self._asked.wanted.symbols, self._asked.vendor
        around = timedelta(days=_DAYS)
        calendar = live.read_calendar(home, (now - around).date(), (now + around).date(), timeout_s=wait_s)
        usual = live.read_longest_silence(home, symbols, source=vendor, timeout_s=wait_s)
        since = now - timedelta(days=1)
        return calendar, usual, live.read_last_minutes(home, symbols, source=vendor, since=since, timeout_s=wait_s)

    def _made_keeper(self, watch: Watch, client: Client) -> Keeper:
        has_bars = "bars" in self._asked.wanted.kinds
        return Keeper(
            write=self._write,
            gaps=vendors.gaps(self._settings, self._asked.vendor, client),
            out=self.printer.put,
            watch=watch,
            now=self._feed_now,
            until=lambda moment: self._settings.clock.until(moment + self._delay),
            known=self._known() if has_bars else {},
            printed=self._stored,
        )

    def _known(self) -> dict[str, datetime]:
        """Up to where nothing is missing: in a session its stored minutes count from the open, else all that is past."""
        now = self._feed_now()
        opened_at = next((start for start, end in self._calendar if start <= now < end), None)
        before = minute(now) - MINUTE if opened_at is None else opened_at - MINUTE
        return {symbol: max(before, self._stored.get(symbol, before)) for symbol in self._asked.wanted.symbols}

    def _write(self, bars: list[Bar]) -> list[str]:
        rows = [
            live.Row(
                symbol=bar.symbol,
                start=bar.start,
                session=_session(bar.start),
                open=bar.open,
                high=bar.high,
                low=bar.low,
                close=bar.close,
                volume=bar.volume,
                text=bar.text,
            )
            for bar in bars
        ]
        settings = self._settings
        return live.write_bars(
            settings.home,
            rows,
            source=self._asked.vendor,
            feed=self._wire.feed,
            now=settings.clock(),
            timeout_s=settings.busy_timeout_s,
        )


def _session(at: datetime) -> date:
    return at.astimezone(NEW_YORK).date()


def _record(event: Event, source: str) -> records.Bar | records.Trade | records.Quote:
    """An event as the record that is written of it."""
    match event:
        case Bar():
            return records.Bar(
                symbol=event.symbol,
                session=_session(event.start).isoformat(),
                ts=instant_text(event.start),
                timeframe=live.TIMEFRAME,
                open=event.open,
                high=event.high,
                low=event.low,
                close=event.close,
                volume=event.volume,
                source=source,
                feed=event.feed,
            )
        case Trade():
            return records.Trade(
                symbol=event.symbol,
                ts=instant_text(event.at),
                price=event.price,
                size=event.size,
                exchange=event.exchange,
                source=source,
                feed=event.feed,
            )
        case Quote():
            return records.Quote(
                symbol=event.symbol,
                ts=instant_text(event.at),
                bid=event.bid,
                bid_size=event.bid_size,
                ask=event.ask,
                ask_size=event.ask_size,
                source=source,
                feed=event.feed,
            )
    raise TypeError(f"{type(event).__name__} is no record")
