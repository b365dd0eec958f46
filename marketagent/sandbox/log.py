"""What the sandbox was asked, in order: a line of JSON each, without a key in it. ``/_sandbox/log`` shows it."""

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

KEPT = 100_000
_SECRET = {"apikey", "api_key", "key", "token", "secret"}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request, or one message of a socket (`method` WS). `at` is market time; `fault` what was done to it."""

    n: int
    at: str
    method: str
    path: str
    query: str = ""
    status: int = 0
    fault: str = ""
    message: str = ""


class Log:
    """The last requests; `n` counts them all."""

    def __init__(self) -> None:
        self.n = 0
        self._asked: deque[Asked] = deque(maxlen=KEPT)

    def add(self, **what: Any) -> None:
        self.n += 1
        self._asked.append(Asked(n=self.n, **what))

    def since(self, n: int = 0) -> Iterator[Asked]:
        """What was asked after number `n`."""
        return (one for one in tuple(self._asked) if one.n > n)

    def lines(self, n: int = 0) -> str:
        return "".join(json.dumps(asdict(one)) + "\n" for one in self.since(n))


def without_secrets(query: str) -> str:
    """`query` with the values of keys starred out.

    >>> without_secrets("ticker=AAPL&apiKey=abc")
    'ticker=AAPL&apiKey=***'
    """
    pairs = parse_qsl(query, keep_blank_values=True)
    return urlencode([(name, "***" if name.lower() in _SECRET else value) for name, value in pairs], safe="*,:")


def summary(text: str | None) -> str:
    """A client's message on a socket, in short; of one that may hold a key, its action only.

    >>> summary('{"action": "subscribe", "params": "AM.AAPL"}'), summary('{"action": "auth", "params": "abc"}')
    ('{"action": "subscribe", "params": "AM.AAPL"}', '{"action": "auth"}')
    """
    if text is None:
        return "(binary)"
    try:
        found = json.loads(text)
    except ValueError:
        return "(no JSON)"
    if not isinstance(found, dict):
        return "(no object)"
    if str(found.get("action", "")).startswith("auth"):
        return json.dumps({"action": found["action"]})
    return json.dumps({name: value for name, value in found.items() if name.lower() not in _SECRET})[:1000]
