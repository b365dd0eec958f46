"""From the socket to whoever wants to know: events by priority, and never more of them than fit.

A word about the connection goes before bars, bars before trades, trades before quotes. When the bus is full the oldest
quotes give way, then the oldest trades; bars never do, and there are few of them: one a minute and symbol.
"""

from collections import Counter, deque
from collections.abc import Callable

import anyio

from marketagent.show import say
from marketagent.streams.events import Bar, Event, Quote, Status, Trade

ORDER = (Status, Bar, Trade, Quote)
_GIVE_WAY = (Quote, Trade)  # in this order

Handler = Callable[[Event], None]


class Lanes:
    """At most `most` events, a lane for each kind; `dropped` counts what had to go."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lanes: dict[type, deque[Event]] = {kind: deque() for kind in ORDER}
        self._n = 0
        self.dropped: Counter[type] = Counter()

    def __len__(self) -> int:
        return self._n

    def put(self, event: Event) -> None:
        """Take `event`, at the cost of the oldest one that matters least."""
        self._lanes[type(event)].append(event)
        self._n += 1
        if self._n > self._most:
            self._drop()

    def pop(self) -> Event | None:
        """The oldest event of the first lane that has one."""
        for lane in self._lanes.values():
            if lane:
                self._n -= 1
                return lane.popleft()
        return None

    def drop_all(self) -> None:
        """Nobody takes events any more: what waits is lost, and counted."""
        while (event := self.pop()) is not None:
            self.dropped[type(event)] += 1

    def _drop(self) -> None:
        for kind in _GIVE_WAY:
            if self._lanes[kind]:
                self._lanes[kind].popleft()
                self._n -= 1
                self.dropped[kind] += 1
                return


class Bus:
    """Hands each event to the handlers of its kind. A handler is quick and does not wait: it takes note and returns.

    A handler that raises is told of once and counted in `failed`; the others, and the next event, go on.
    """

    def __init__(self, most: int = 10_000, *, tell: Callable[[object], None] = say) -> None:
        self._lanes = Lanes(most)
        self._handlers: dict[type, list[Handler]] = {kind: [] for kind in ORDER}
        self._tell = tell
        self._waiting = anyio.Event()
        self._open, self._done = True, False
        self.failed: Counter[str] = Counter()

    @property
    def dropped(self) -> Counter[type]:
        return self._lanes.dropped

    def on(self, kind: type, handler: Handler) -> None:
        """From now on, `handler` hears of every event of `kind`."""
        self._handlers[kind].append(handler)

    def put(self, event: Event) -> None:
        """Take `event`; never waits. One that comes after `run` is dropped."""
        self._lanes.put(event)
        self._waiting.set()
        if self._done:
            self._lanes.drop_all()

    def close(self) -> None:
        """Let `run` return once all that is waiting has been handed on."""
        self._open = False
        self._waiting.set()

    async def run(self) -> None:
        """Hand events on until the bus is closed and empty; when cancelled, what waits is dropped."""
        try:
            while self._open or self._lanes:
                await self._waiting.wait()
                self._waiting = anyio.Event()
                while (event := self._lanes.pop()) is not None:
                    self._hand_on(event)
        finally:
            self._done = True
            self._lanes.drop_all()

    def _hand_on(self, event: Event) -> None:
        for handler in self._handlers[type(event)]:
            try:
                handler(event)
            except Exception as error:  # one reader's mistake must not cost the others their bars
                name = getattr(handler, "__qualname__", type(handler).__name__)
                if not self.failed[name]:
                    self._tell(f"{name} failed with {type(error).__name__}: {error}; the stream goes on without it")
                self.failed[name] += 1
