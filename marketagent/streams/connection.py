"""One connection to a vendor's stream, kept up: log in, subscribe, listen, and the same again when it ends.

Whatever ends a connection is either final, an error for the user (key, plan, connection limit), or a reason to try
again after an exponentially growing, fully random wait, up to a cap. A close in good order (1000) is no exception: a
stream has no end. So is a connection that answers pings and sends nothing (`watch`).

Only the first connection may fail for good because nobody answers: later there are bars to be had once the vendor is
back, and what was missed comes over REST.
"""

import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from marketagent.errors import Busy, NotPermitted, Unavailable
from marketagent.places import is_loopback
from marketagent.show import one_line, say
from marketagent.streams.events import Event, Status, Wanted
from marketagent.streams.frames import Frame, Wire
from marketagent.streams.watch import Watch
from marketagent.world import World

# The library's own logger shows every frame, and the first one holds the key.
_SILENT = logging.getLogger("marketagent.streams.silent")
_SILENT.disabled = True


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long is waited for what, in seconds of the system; `most_bytes` for one frame, unpacked."""

    connect_s: float = 10.0
    answer_s: float = 10.0
    ping_s: float = 22.0
    pong_s: float = 20.0
    close_s: float = 1.0
    look_s: float = 0.25
    first_s: float = 30.0  # until the first connection is up
    backoff_s: float = 1.0
    longest_s: float = 30.0
    stable_s: float = 30.0  # a connection that was up so long begins the back-off anew
    ghost_s: float = 90.0  # a vendor may count a broken connection of ours for so long
    most_bytes: int = 4 << 20


class _Over(Exception):
    """A connection has ended, and another may be tried."""


class _Ghost(_Over):
    """The vendor counts one connection too many: it may be the one of ours that broke."""


@dataclass
class _Heard:
    """What one connection has said of itself so far."""

    words: set[str] = field(default_factory=set)
    topics: set[str] = field(default_factory=set)


class _NoRedirects(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc  # where a redirect leads, the key would go, too


class Connection:
    """``await Connection(...).run()`` hands every event to `put` until it is cancelled or something final happens.

    What has arrived when it is cancelled goes to `put` before it returns.
    `put` gets a Status ``subscribed`` whenever a connection is up, and one ``ended`` when it is down again.
    """

    def __init__(
        self,
        wire: Wire,
        wanted: Wanted,
        put: Callable[[Event], None],
        watch: Watch,
        *,
        world: World | None = None,
        pace: Pace | None = None,
        tell: Callable[[object], None] = say,
    ) -> None:
        self._wire, self._wanted, self._put, self._watch = wire, wanted, put, watch
        self._world = world or World()
        self._pace = pace or Pace()
        self._tell = tell
        self._down_since: float | None = None
        self._up_at = 0.0
        self.ups = 0

    @property
    def reconnects(self) -> int:
        return max(0, self.ups - 1)

    async def run(self) -> None:
        """Never returns. Raises NotPermitted, Busy, Refused or Unavailable when another try would be in vain."""
        began, failures = self._world.now(), 0
        while True:
            ups = self.ups
            try:
                await self._attend()
            except _Over as over:
                reason, is_ghost = one_line(over), isinstance(over, _Ghost)
            up_s = self._world.now() - self._up_at if self.ups > ups else 0.0
            if self.ups > ups:
                self._down_since = self._down_since if is_ghost else self._world.now()
                self._put(Status(word="ended", text=reason))
            elif self.ups == 0 and self._world.now() - began >= self._pace.first_s:
                raise Unavailable(f"the stream of {self._wire.name} cannot be had: {reason}")
            failures = 0 if up_s >= self._pace.stable_s else failures + 1
            wait_s = self._world.jitter(min(self._pace.longest_s, self._pace.backoff_s * 2.0 ** min(failures, 16)))
            self._tell(f"{self._wire.name}: {reason}; connecting again in {wait_s:.1f} s")
            await self._world.sleep(wait_s)

    async def _attend(self) -> None:
        """One connection from its opening to its end; always raises."""
        socket = await self._opened()
        heard = _Heard()
        try:
            await self._greeted(socket, heard)
            self.ups += 1
            self._up_at = self._world.now()
            self._watch.started()
            self._put(Status(word="subscribed", topics=frozenset(heard.topics)))
            while True:
                await self._listen(socket, heard)
        finally:
            with anyio.CancelScope(shield=True):  # a socket is closed when cancelled, too
                await self._closed(socket)

    async def _closed(self, socket: ClientConnection) -> None:
        """Close `socket`, and hand on what it still holds: a bar may have arrived behind quotes nobody has taken yet.

        To read on is also what makes a close short: the vendor's farewell comes after all that it has sent.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(socket.close)
            with suppress(_Over):
                while True:
                    for event in self._wire.read(await self._received(socket)):
                        if not isinstance(event, Status):  # it is over, whatever the vendor says of it
                            self._put(event)

    async def _opened(self) -> ClientConnection:
        try:
            with anyio.fail_after(self._pace.connect_s):
                return await _NoRedirects(
                    self._wire.url,
                    open_timeout=None,  # counted here, from the look-up of the name to the end of the handshake
                    ping_interval=self._pace.ping_s,
                    ping_timeout=self._pace.pong_s,
                    close_timeout=self._pace.close_s,
                    max_size=self._pace.most_bytes,
                    proxy=None if is_loopback(self._wire.url) else True,
                    user_agent_header="market-agent",
                    logger=_SILENT,
                )
        except TimeoutError:
            raise _Over(f"no connection within {self._pace.connect_s:g} s") from None
        except InvalidStatus as error:
            raise self._rejected(error.response.status_code) from error
        except ssl.SSLCertVerificationError as error:
            raise Unavailable(f"{self._wire.name} cannot prove who it is ({error.verify_message})") from error
        except (OSError, WebSocketException) as error:
            raise _Over(f"cannot be reached ({one_line(error) or type(error).__name__})") from error

    def _rejected(self, status: int) -> Exception:
        if status in {401, 403}:
            return NotPermitted(f"{self._wire.name} does not let the key in ({status}); look at: ma config")
        return _Over(f"the server answers with {status} instead of a stream")

    async def _greeted(self, socket: ClientConnection, heard: _Heard) -> None:
        """Log in and subscribe, each with a deadline; events that come meanwhile are not lost."""
        await self._answered(socket, heard, lambda: "connected" in heard.words, "a greeting")
        await self._send(socket, self._wire.login())
        await self._answered(socket, heard, lambda: "authenticated" in heard.words, "an answer to the key")
        frames, topics = self._wire.subscription(self._wanted)
        for frame in frames:
            await self._send(socket, frame)
        try:
            await self._answered(socket, heard, lambda: topics <= heard.topics, "an answer to the subscription")
        except _Over:
            missing = sorted(topics - heard.topics)
            if len(missing) == len(topics):
                raise
            self._tell(f"{self._wire.name} does not confirm {', '.join(missing[:5])}{', …' * (len(missing) > 5)}")

    async def _answered(self, socket: ClientConnection, heard: _Heard, enough: Callable[[], bool], what: str) -> None:
        with anyio.move_on_after(self._pace.answer_s):
            while not enough():
                self._take(await self._received(socket), heard)
            return
        raise _Over(f"no {what.removeprefix('a ').removeprefix('an ')} within {self._pace.answer_s:g} s")

    async def _listen(self, socket: ClientConnection, heard: _Heard) -> None:
        """Take one frame, or find out that there is none for too long."""
        with anyio.move_on_after(self._pace.look_s):
            self._take(await self._received(socket), heard)
        if self._watch.is_mute():
            minutes = self._watch.silence().total_seconds() / 60
            raise _Over(f"connected, but no bar of any symbol for {minutes:.0f} minutes of the session")

    def _take(self, frame: Frame, heard: _Heard) -> None:
        for event in self._wire.read(frame):
            if isinstance(event, Status):
                heard.words.add(event.word)
                heard.topics |= event.topics
                if event.word == "ended":
                    raise self._end(event)
                if event.word in {"connected", "authenticated", "subscribed"}:
                    continue
            self._put(event)

    def _end(self, status: Status) -> Exception:
        """Why the vendor ends it. Its limit of connections may count one of ours that broke a moment ago."""
        if status.final is None:
            return _Over(status.text)
        broke_s = self._world.now() - self._down_since if self._down_since is not None else self._pace.ghost_s
        if isinstance(status.final, Busy) and broke_s < self._pace.ghost_s:
            return _Ghost(f"{status.text} (it may still count the connection that broke)")
        return status.final

    async def _send(self, socket: ClientConnection, frame: str) -> None:
        try:
            await socket.send(frame)
        except ConnectionClosed as error:
            raise _Over(_goodbye(error)) from None

    async def _received(self, socket: ClientConnection) -> Frame:
        try:
            data: Any = await socket.recv()
        except ConnectionClosed as error:
            raise _Over(_goodbye(error)) from None
        return data if isinstance(data, str) else bytes(data)


def _goodbye(error: ConnectionClosed) -> str:
    """How a connection ended, for a person."""
    if error.rcvd is not None:
        reason = f": {error.rcvd.reason}" if error.rcvd.reason else ""
        return f"the server closed the stream ({error.rcvd.code}{reason})"
    if error.sent is not None:
        return f"the stream was given up ({error.sent.code}{f': {error.sent.reason}' if error.sent.reason else ''})"
    return "the connection broke off"
