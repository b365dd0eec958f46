"""What a source is that asks a vendor, and what it is given to work with.

A wire source (`sources.polygon`, `alpaca`, `yahoo`) asks for what is wanted and delivers it symbol by symbol; it does
not know the store.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from marketagent.cache.base import Cache
from marketagent.config import Settings
from marketagent.delivery import Delivery, Want
from marketagent.errors import MarketAgentError
from marketagent.web.vendor import Vendor
from marketagent.world import World


@dataclass(frozen=True, kw_only=True)
class Desk:
    """What a wire source works with. `deliver` and `fail` end a symbol, each once; with `refresh` nothing is remembered."""

    settings: Settings
    cache: Cache
    world: World
    concurrency: int
    max_wait_s: float
    refresh: bool = False
    deliver: Callable[[Delivery], Awaitable[None]]
    fail: Callable[[str, MarketAgentError], None]


class Wire(Protocol):
    """What a module of `sources` offers that asks a vendor. TIMEFRAMES are those the vendor has itself."""

    TAKES: str
    TIMEFRAMES: Sequence[str]

    def feed(self, settings: Settings) -> str:
        """What is recorded with every bar beside the source's name; raises NoKey if there is no key."""

    async def serve(self, desk: Desk, wants: Sequence[Want], timeframe: str) -> None:
        """Deliver or fail each of `wants`. Raises only what concerns them all, before the first delivery."""


def vendor_workers(vendor: Vendor, concurrency: int) -> int:
    """How many tasks may ask `vendor` at once: more than its limit lets through in a minute would only wait."""
    return max(1, min([concurrency, *(limit.calls for limit in vendor.limits)]))
