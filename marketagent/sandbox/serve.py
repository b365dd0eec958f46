"""One sandbox from its options to its end: the market is made, the port taken, the environment told, then it is served."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from starlette.types import ASGIApp

from marketagent.clock import Clock
from marketagent.errors import UsageError
from marketagent.process import Terminated
from marketagent.sandbox import rehearsal, run, stored
from marketagent.sandbox.app import build
from marketagent.sandbox.environment import environ
from marketagent.sandbox.faults import Faults
from marketagent.sandbox.listing import Calendar
from marketagent.sandbox.market import Market, Session
from marketagent.sandbox.replay import Replay
from marketagent.sandbox.synthetic import Synthetic
from marketagent.sandbox.world import SandboxWorld

_STARTS = timedelta(minutes=30)  # after the open: there is a stretch of the day to look back on


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What ``ma sandbox`` was asked for. `start` None: half an hour after the newest open; `now`: the wall clock."""

    home: Path
    config: Path | None
    now: datetime
    port: int
    market: str = "replay"
    speed: float = 1.0
    start: datetime | None = None
    seed: int = 0
    symbols: tuple[str, ...] = ()
    faults: Faults = field(default_factory=Faults)
    timeout_s: float = 60.0


def sandbox(wanted: Wanted, tell: Callable[[rehearsal.State, SandboxWorld, str | None], None]) -> None:
    """Serve until a signal, which is raised then: KeyboardInterrupt or Terminated. `tell` is called once it listens.

    It is given what to set, the world that is served, and what the rehearsal's home holds that does not go with it.
    """
    sock = run.listening(wanted.port)
    with sock:
        url = f"http://{run.HOST}:{sock.getsockname()[1]}"
        market, sessions = _market(wanted)
        clock = _clock(wanted, sessions)
        name = f"{wanted.market} {wanted.seed} {' '.join(wanted.symbols)}".strip()
        folder, before = rehearsal.prepare(wanted.home, name)
        left = f"bars of another market ({before})" if before else _later(folder, clock, wanted.timeout_s)
        env = environ(url, clock, home=folder, config=wanted.config)
        state = rehearsal.State(pid=os.getpid(), url=url, market=wanted.market, seed=wanted.seed, env=env)
        world = SandboxWorld(
            market=market,
            clock=clock,
            seed=wanted.seed,
            origin=url,
            extended_hours=True,
            faults=wanted.faults,
        )
        app = build(world)
        with rehearsal.running(folder, state):
            _until_signal(app, sock, lambda: tell(state, world, left))


def _later(folder: Path, clock: Clock, timeout_s: float) -> str | None:
    """The bars in the rehearsal's home that its clock has not come to: an earlier rehearsal left them."""
    newest = stored.newest(folder, timeout_s=timeout_s)
    if newest is None or newest <= clock():
        return None
    return f"bars up to {newest:%Y-%m-%d %H:%M} UTC, which this clock has not come to: they will not come again"


def wall() -> datetime:
    """The wall clock, whatever a rehearsal's clock says."""
    return datetime.now(UTC)


def _market(wanted: Wanted) -> tuple[Market, tuple[Session, ...]]:
    home = rehearsal.own_home(wanted.home)
    if wanted.market == "synthetic":
        sessions = stored.read_sessions(home, wanted.now, timeout_s=wanted.timeout_s)
        return Synthetic(sessions, wanted.now, wanted.seed, wanted.symbols), sessions
    found = stored.read(home, wanted.now, timeout_s=wanted.timeout_s)
    return Replay(found, wanted.now, wanted.seed), found.sessions


def _clock(wanted: Wanted, sessions: tuple[Session, ...]) -> Clock:
    start = wanted.start
    if start is None:
        start = sessions[Calendar(sessions).newest(wanted.now)].open_at + _STARTS
    if not sessions[0].open_at <= start <= sessions[-1].close_at:
        raise UsageError(
            f"--start {start.isoformat()} is outside the calendar, {sessions[0].day} to {sessions[-1].day}"
        )
    return Clock(start.astimezone(UTC), time.time(), wanted.speed)


def _until_signal(app: ASGIApp, sock: socket.socket, tell: Callable[[], None]) -> None:
    came: list[int] = []

    def begun(end: Callable[[], None]) -> None:
        def on(number: int) -> None:
            came.append(number)
            end()

        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # who started us ignoring it meant it
                asyncio.get_running_loop().add_signal_handler(number, on, number)
        tell()  # from here on a signal ends it in good order

    run.serve(app, sock, begun)
    if came:
        raise KeyboardInterrupt if came[0] == signal.SIGINT else Terminated("terminated")
