"""One frame of a WebSocket as a list of JSON objects, whatever the server put into it."""

from typing import Any, Protocol

from marketagent.show import one_line
from marketagent.streams.events import Event, Status, Wanted
from marketagent.web.strict import NotJson, NotStrict, parsed

Frame = str | bytes


class Wire(Protocol):
    """A vendor's protocol: what to send, and what a frame means. It holds no socket and no state of a connection."""

    name: str
    url: str
    feed: str

    def login(self) -> str:
        """The frame that carries the key."""

    def subscription(self, wanted: Wanted) -> tuple[list[str], frozenset[str]]:
        """The frames that ask for `wanted`, and the topics that are then to be confirmed."""

    def read(self, frame: Frame) -> list[Event]:
        """What a frame says, in order; what is not known is left out, what cannot be read is a Status ``broken``."""


def objects(frame: Frame) -> tuple[list[dict[str, Any]], Status | None]:
    """The objects of `frame`, one alone counting as a list of one; and what was wrong with it."""
    data = frame.encode("utf-8", "surrogatepass") if isinstance(frame, str) else frame
    try:
        found = parsed(data)
    except (NotJson, NotStrict) as error:
        start = data[:60].decode("utf-8", "replace")
        return [], Status(word="broken", text=one_line(f"a frame that cannot be read: {error} ({start})"))
    rows = found if isinstance(found, list) else [found]
    good = [row for row in rows if isinstance(row, dict)]
    if len(good) < len(rows):
        return good, Status(word="broken", text=f"a frame with {len(rows) - len(good)} values that are no events")
    return good, None
