"""Lines to a reader that may be slow or gone: a thread of its own waits for it, so that nothing else has to.

What waits is bounded as on the bus: the oldest quotes and then trades give way, bars wait on.
"""

import threading
from collections import Counter
from collections.abc import Callable

from marketagent.streams.bus import Lanes
from marketagent.streams.events import Event


class Printer:
    """``write(event)`` happens in a thread, one event after another, until `finish`.

    When it fails, `error` is set and `failed` is called, in that thread; what comes after is dropped. After `finish`,
    every event was written or is counted in `dropped`.
    """

    def __init__(self, write: Callable[[Event], None], *, failed: Callable[[], None], most: int = 10_000) -> None:
        self._write, self._failed = write, failed
        self._lanes = Lanes(most)
        self._change = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="printer", daemon=True)
        self.error: BaseException | None = None

    @property
    def dropped(self) -> Counter[type]:
        return self._lanes.dropped

    def start(self) -> None:
        self._thread.start()

    def put(self, event: Event) -> None:
        """Take `event`; never waits."""
        with self._change:
            self._lanes.put(event)
            self._change.notify()

    def finish(self, *, give_up: Callable[[], None], wait_s: float | None = None) -> None:
        """Return when everything is written, or `wait_s` are over: then `give_up` must end the waiting for the reader."""
        with self._change:
            self._closing = True
            self._change.notify()
        try:
            self._thread.join(wait_s)
        finally:
            if self._thread.is_alive():
                give_up()
                self._thread.join()
            self._lanes.drop_all()

    def _run(self) -> None:
        while (event := self._next()) is not None:
            try:
                self._write(event)
            except BaseException as error:  # raised again where the stream ends
                self.error = error
                with self._change:
                    self._lanes.dropped[type(event)] += 1
                self._failed()
                return

    def _next(self) -> Event | None:
        with self._change:
            while not self._lanes and not self._closing:
                self._change.wait()
            return self._lanes.pop()
