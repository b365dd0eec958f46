"""A market written by hand, and a clock moved by hand: what the tests of the sandbox's exchange share."""

import asyncio
import random
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np

from marketagent.clock import Clock
from marketagent.sandbox import app, run
from marketagent.sandbox.exchange import Account, Rules
from marketagent.sandbox.market import Asset, Bars, Dividend, Session, Split
from marketagent.sandbox.order import Ticket
from marketagent.sandbox.world import SandboxWorld

NEW_YORK = ZoneInfo("America/New_York")
MONDAY = date(2026, 11, 16)
EXACT = Rules(participation=(1.0, 1.0), partial_rate=0.0)
Row = tuple[float, float, float, float, int]


def at(text: str, day: date = MONDAY) -> datetime:
    """New York's wall clock on `day`, in UTC."""
    return datetime.fromisoformat(f"{day}T{text}").replace(tzinfo=NEW_YORK).astimezone(UTC)


class HandMarket:
    """Weekdays from 9:30 to 16:00; `bars` by symbol and day, (open, high, low, close, volume) a minute from 9:30 on.

    None is a minute without a trade. Days without rows trade at 100 all day. `quiet` names have no bars at all.
    """

    seed = 7

    def __init__(
        self,
        bars: dict[tuple[str, date], Sequence[Row | None]] | None = None,
        *,
        assets: Sequence[Asset] = (),
        splits: Sequence[Split] = (),
        dividends: Sequence[Dividend] = (),
        half_days: Sequence[date] = (),
    ) -> None:
        self.bars = dict(bars or {})
        names = {symbol for symbol, _ in self.bars} | {"AAPL", "MSFT"}
        known = {one.symbol: one for one in assets}
        listed = date(2026, 1, 2)
        self._assets = {n: known.get(n) or Asset(symbol=n, name=n, listed=listed) for n in sorted(names | set(known))}
        self._splits, self._dividends, self._half_days = splits, dividends, half_days

    def assets(self) -> Sequence[Asset]:
        return list(self._assets.values())

    def asset(self, symbol: str) -> Asset | None:
        return self._assets.get(symbol)

    def sessions(self, first: date, last: date) -> Sequence[Session]:
        first, last = max(first, date(2026, 10, 1)), min(last, date(2027, 3, 31))
        days = [first + timedelta(days=k) for k in range((last - first).days + 1)]
        return [
            Session(day=d, open_at=at("09:30", d), close_at=at("13:00" if d in self._half_days else "16:00", d))
            for d in days
            if d.weekday() < 5
        ]

    def minutes(self, symbol: str, day: date) -> Bars:
        asset, found = self.asset(symbol), self.sessions(day, day)
        if asset is None or not found or day < asset.listed or (asset.delisted and day > asset.delisted):
            return _bars([])
        start = int(found[0].open_at.timestamp())
        count = int((found[0].close_at.timestamp() - start) // 60)
        rows = self.bars.get((symbol, day), [(100.0, 100.0, 100.0, 100.0, 10_000)] * count)
        return _bars([(start + 60 * k, row) for k, row in enumerate(rows[:count]) if row is not None])

    def days(self, symbol: str, first: date, last: date) -> Bars:
        rows: list[tuple[int, Row]] = []
        for session in self.sessions(first, last):
            bars = self.minutes(symbol, session.day)
            if len(bars.start):
                prices = (bars.open[0], bars.high.max(), bars.low.min(), bars.close[-1])
                row = (*map(float, prices), int(bars.volume.sum()))
                rows.append((int(session.open_at.timestamp()), row))  # type: ignore[arg-type]
        return _bars(rows)

    def halts(self, symbol: str, day: date) -> Sequence[tuple[datetime, datetime]]:
        return ()

    def splits(self, symbol: str | None, first: date, last: date) -> Sequence[Split]:
        return [one for one in self._splits if symbol in (None, one.symbol) and first <= one.day <= last]

    def dividends(self, symbol: str | None, first: date, last: date) -> Sequence[Dividend]:
        return [one for one in self._dividends if symbol in (None, one.symbol) and first <= one.day <= last]


class Hand:
    """System seconds that a test sets; market time stands still between its steps."""

    def __init__(self, start: datetime) -> None:
        self.start, self.seconds = start, 0.0

    def clock(self, speed: float = 1.0) -> Clock:
        return Clock(self.start, 0.0, speed, lambda: self.seconds)

    def go(self, moment: datetime) -> None:
        self.seconds = (moment - self.start).total_seconds()


def world_of(market: HandMarket, hand: Hand, seed: int = 7) -> SandboxWorld:
    return SandboxWorld(market=market, clock=hand.clock(), seed=seed)


def dice(*key: object) -> random.Random:
    return random.Random("|".join(map(str, (7, *key))))


def account(market: HandMarket, opened: datetime | None = None, rules: Rules = EXACT) -> Account:
    return Account(market, dice, "PKSANDBOXTEST", opened or at("08:00"), rules)


def ticket(side: str = "buy", qty: object = 10, symbol: str = "AAPL", **more: object) -> Ticket:
    size = {} if "notional" in more else {"qty": Decimal(str(qty))}
    words = {"type", "time_in_force", "client_order_id", "order_class", "extended_hours"}
    rest = {name: value if name in words else Decimal(str(value)) for name, value in more.items()}
    return Ticket(symbol=symbol, side=side, **size, **rest)  # type: ignore[arg-type]


def _bars(rows: Sequence[tuple[int, Row]]) -> Bars:
    table = np.array([row for _, row in rows], dtype=np.float64).reshape(len(rows), 5)
    opened, high, low, close, volume = table.T
    return Bars(
        start=np.array([start for start, _ in rows], dtype=np.int64),
        open=opened,
        high=high,
        low=low,
        close=close,
        volume=volume,
        vwap=np.round((high + low + close) / 3, 4),
        trades=np.maximum(volume // 100, 1).astype(np.int64),
    )


@contextmanager
def served(world: SandboxWorld, *, narrow: bool = False) -> Iterator[str]:
    """`host:port` of a real sandbox on loopback for `world`; `narrow`: the system holds next to nothing of an answer."""
    sock = run.listening(0)
    if narrow:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server = run.server(app.build(world))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[sock])))
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    try:
        yield f"127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)
