"""What a strategy wants and what became of it: decisions, orders, positions."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge

from marketagent.records.units import Action, Share, Unit


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """One signal's part in a decision; `value` and `confidence` are None where it abstained."""

    value: Unit | None
    confidence: Share | None
    weight: Annotated[float, Ge(0)]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a strategy wants of one symbol on the close of one session, or of the bar within it that starts at `ts`.

    `weight` is the wanted share of the account's equity; None means leave the position alone.
    """

    symbol: str
    session: str
    action: Action
    score: Unit | None
    confidence: Share
    weight: Unit | None
    close: float | None
    strategy: str
    strategy_hash: str
    params: dict[str, Any]
    band: Share
    timeframe: str
    source: str
    reasoning: str
    signals: dict[str, Opinion]
    ts: str | None = None
    kind: Literal["decision"] = "decision"


@dataclass(frozen=True, kw_only=True)
class Order:
    """One order of ``ma trade``: planned, waiting, or settled. Money in USD, `quantity` in shares.

    `ts` and `fill_ts` are the bars within the sessions that it was decided on and filled at, if it was by such bars.
    """

    cid: str
    account: str
    strategy: str
    session: str
    symbol: str
    side: Literal["buy", "sell"]
    quantity: float
    state: str
    filled_quantity: float = 0.0
    fill_price: float | None = None
    commission: float = 0.0
    fill_session: str | None = None
    reason: str = ""
    ts: str | None = None
    fill_ts: str | None = None
    kind: Literal["order"] = "order"


@dataclass(frozen=True, kw_only=True)
class Position:
    """One holding of an account at its last settled session; the row of cash has the symbol ``$USD``."""

    account: str
    symbol: str
    quantity: float
    price: float
    value: float
    weight: float | None
    session: str | None
    ts: str | None = None
    kind: Literal["position"] = "position"
