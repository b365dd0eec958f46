"""What can go wrong with a request: each an error a user can act on, and what the client may do about it.

    Failure
    ├─ Down            69  no connection, no whole answer in time, a cut body, 5xx: tried again, counted by the breaker
    ├─ AskedToWait     75  429: tried again after the pause the provider asked for
    ├─ Nonsense        65  HTML, nothing, no JSON, a redirect: tried once more where that may help
    ├─ NotFound        66  404
    ├─ BadKey          77  401: the key is unknown
    ├─ NotEntitled     77  402, 403: the key is known, its plan does not include this
    └─ Rejected         4  any other 4xx: the request itself is wrong

With them come `limits.RateLimited` and `breaker.BreakerOpen` (75), for calls that were not made.
"""

from typing import ClassVar

from marketagent.breaker import Outcome
from marketagent.errors import BadData, MarketAgentError, NoData, NotPermitted, Refused, Unavailable
from marketagent.limits import RateLimited

ALWAYS = 1_000_000


class Failure(MarketAgentError):
    """One try that failed. `tries`: how many the client may make in all; `wait_s`: what to wait for at least."""

    tries: int = 1
    wait_s: float = 0.0
    status: int | None = None
    outcome: ClassVar[Outcome] = Outcome.WELL


class Down(Failure, Unavailable):
    tries = ALWAYS
    outcome = Outcome.DOWN


class AskedToWait(Failure, RateLimited):
    tries = ALWAYS

    def __init__(self, text: str, wait_s: float) -> None:
        RateLimited.__init__(self, text, wait_s)


class Nonsense(Failure, BadData):
    def __init__(self, text: str, *, tries: int = 1) -> None:
        super().__init__(text)
        self.tries = tries


class NotFound(Failure, NoData):
    pass


class BadKey(Failure, NotPermitted):
    pass


class NotEntitled(Failure, NotPermitted):
    pass


class Rejected(Failure, Refused):
    pass
