"""A running sandbox for the tests: in a thread of this process on a free port, or as ``ma sandbox`` in a process.

    with sandbox() as one:
        httpx.get(f"{one.url}/v2/aggs/...", headers=one.bearer)
        subprocess.run([*MA, "fetch", ...], env=environment(home, **one.env))

Its market is small and made up unless one is given. Its clock stands still at 10:00 New York of a Tuesday unless a
`speed` is given: then it starts there and runs.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import prices
from uvicorn import Server

from marketagent.clock import Clock
from marketagent.sandbox import app, run, stored
from marketagent.sandbox.environment import environ
from marketagent.sandbox.faults import Faults, Rule
from marketagent.sandbox.listing import Calendar, Listed, Listing
from marketagent.sandbox.market import Asset, Dividend, Market, Split
from marketagent.sandbox.world import SandboxWorld

START = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Running:
    """`url` is http://127.0.0.1:PORT, `stream` its ws:// form, `env` what ``ma sandbox env`` would set (without homes)."""

    url: str
    world: SandboxWorld
    env: dict[str, str]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def stream(self) -> str:
        return self.url.replace("http://", "ws://")

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": "Bearer sandbox-advanced"}


@contextmanager
def sandbox(
    market: Market | None = None,
    *,
    start: datetime = START,
    speed: float | None = None,
    seed: int = 7,
    faults: tuple[Rule, ...] = (),
    **more: Any,
) -> Iterator[Running]:
    """A sandbox in a thread, ended when the block is."""
    sock = run.listening(0)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    # A clock that stands still is a line with next to no slope: its system seconds go on, and limits with them.
    clock = Clock(start, time.time(), speed or 1e-9)
    world = SandboxWorld(
        market=market or Small(seed), clock=clock, seed=seed, origin=url, faults=Faults(faults, seed), **more
    )
    server = run.server(app.build(world))
    thread = threading.Thread(target=lambda: _serve(server, sock))
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        yield Running(url, world, environ(url, clock))
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)


def _serve(server: Server, sock: Any) -> None:
    import asyncio

    asyncio.run(server.serve(sockets=[sock]))


@cache
def calendar() -> Calendar:
    """NYSE's sessions, from the home that the tests share."""
    return Calendar(stored.read_sessions(prices._template(), START, timeout_s=10))


class Small(Listing):
    """AAPL, MSFT and IBM from 2024 to 2027: AAPL splits 4:1 on 2026-06-01, IBM pays each quarter, OLD went in 2025."""

    def __init__(self, seed: int = 7, calendar_: Calendar | None = None) -> None:
        super().__init__(seed, calendar_ or calendar())
        self._all = {name: self._walk(name, price) for name, price in (("AAPL", 800.0), ("IBM", 180.0), ("MSFT", 40.0))}
        self._all["OLD"] = self._walk("OLD", 9.0, last=date(2025, 3, 14))

    def listed(self, symbol: str) -> Listed | None:
        return self._all.get(symbol)

    def assets(self) -> list[Asset]:
        return [self._all[symbol].asset for symbol in sorted(self._all)]

    def _walk(self, symbol: str, price: float, last: date = date(2027, 12, 31)) -> Listed:
        numbers = np.arange(self.calendar.number(date(2024, 1, 2)), self.calendar.number(last) + 1)
        numbers = numbers[numbers < len(self.calendar.days)]
        days = [self.calendar.days[number] for number in numbers]
        rng = np.random.default_rng([self.seed, *symbol.encode()])
        level = price * np.exp(np.cumsum(rng.normal(0, 0.01, len(days))))
        splits: tuple[Split, ...] = ()
        if symbol == "AAPL":
            splits = (Split(symbol=symbol, day=date(2026, 6, 1), new=4.0, old=1.0),)
            level = np.where(np.array(days) >= date(2026, 6, 1), level / 4, level)
        close = np.round(level, 2)
        opened = np.round(close * (1 + rng.normal(0, 0.003, len(days))), 2)
        quarterly = [day for k, day in enumerate(days) if symbol == "IBM" and k % 63 == 40]
        return Listed(
            asset=Asset(
                symbol=symbol, name=f"{symbol} Inc.", listed=days[0], delisted=last if symbol == "OLD" else None
            ),
            session=numbers,
            open=opened,
            high=np.round(np.maximum(opened, close) * 1.005, 2),
            low=np.round(np.minimum(opened, close) * 0.995, 2),
            close=close,
            volume=rng.integers(10**5, 3 * 10**7, len(days)).astype(float),
            splits=splits,
            dividends=tuple(Dividend(symbol=symbol, day=day, cash=1.25) for day in quarterly),
        )


def home_of(folder: Path) -> Path:
    """A complete home for commands that talk to a sandbox."""
    return prices.new_home(folder)
