"""An order at the sandbox's exchange: what was asked, and what became of it. No vendor's spelling, no clock."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

ZERO = Decimal(0)
SHARE_STEP = Decimal("1e-9")
OPEN = frozenset({"pending_new", "accepted", "new", "partially_filled", "held", "pending_cancel"})
WORKING = frozenset({"accepted", "new", "partially_filled", "pending_cancel"})


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """What a client asks for. `symbol` names the asset; exactly one of `qty` and `notional` is given.

    `take_profit` is a limit price, `stop_loss` a stop price, both of the legs of a bracket, an oco or an oto.
    """

    symbol: str
    side: str
    type: str = "market"
    time_in_force: str = "day"
    qty: Decimal | None = None
    notional: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    trail_percent: Decimal | None = None
    extended_hours: bool = False
    client_order_id: str | None = None
    order_class: str = ""
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None
    stop_loss_limit: Decimal | None = None
    position_intent: str | None = None

    @property
    def is_fractional(self) -> bool:
        return self.qty is None or self.qty % 1 != 0


@dataclass(kw_only=True, eq=False)
class Order:
    """`works_from` is when it can first trade; `reserve_price` values it before it does.

    `stop_price` of a trailing stop follows `hwm`, the best price since it was placed.
    """

    id: str
    client_order_id: str
    seq: int
    symbol: str
    side: str
    type: str
    time_in_force: str
    qty: Decimal | None
    notional: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    trail_percent: Decimal | None = None
    hwm: Decimal | None = None
    extended_hours: bool = False
    order_class: str = ""
    position_intent: str | None = None
    status: str = "pending_new"
    triggered: bool = False
    filled_qty: Decimal = ZERO
    filled_value: Decimal = ZERO
    reserve_price: Decimal = ZERO
    submitted_at: datetime
    updated_at: datetime
    works_from: datetime
    cancels_at: datetime | None = None
    expires_at: datetime | None = None
    filled_at: datetime | None = None
    expired_at: datetime | None = None
    canceled_at: datetime | None = None
    replaced_at: datetime | None = None
    replaced_by: str | None = None
    replaces: str | None = None
    parent: "Order | None" = None
    legs: list["Order"] = field(default_factory=list)
    filled_in: int = 0  # start of the last bar it traded in

    @property
    def is_buy(self) -> bool:
        return self.side == "buy"

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    @property
    def is_working(self) -> bool:
        return self.status in WORKING

    @property
    def is_fractional(self) -> bool:
        return self.qty is None or self.qty % 1 != 0

    @property
    def average_price(self) -> Decimal | None:
        return self.filled_value / self.filled_qty if self.filled_qty else None

    @property
    def siblings(self) -> list["Order"]:
        """The other orders of which only one is to fill."""
        if self.order_class == "oco" and self.parent is None:
            return self.legs
        if self.parent is None:
            return []
        others = [leg for leg in self.parent.legs if leg is not self]
        return [self.parent, *others] if self.parent.order_class == "oco" else others

    def remaining(self, price: Decimal) -> Decimal:
        """Shares still to trade, at `price` if it was asked for in dollars."""
        if self.qty is not None:
            return self.qty - self.filled_qty
        return ((self.notional or ZERO) / price).quantize(SHARE_STEP, rounding="ROUND_DOWN")
