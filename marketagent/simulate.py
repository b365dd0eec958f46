"""The simulation: target weights against prices as traded, with real share counts, cash and costs.

It is written as the definition of what a backtest means here. Session by session:

1.  Before the open, splits of the day multiply the shares held and the orders waiting; on the ex-date, dividends
    pay cash for the shares held over the previous close (restated for a split of the same day).
2.  Orders decided on the close of t-1 fill at the open of t (``next-open``), at its close (``next-close``), or,
    marked as not tradable, at the very close they were decided on (``same-close``). A symbol without a bar that
    day is not filled: an order lives one day. Sells come before buys. If the cash does not suffice, all buys are
    scaled down together, commissions included. Quantities are whole shares unless fractional ones are allowed.
    The price is moved against the order by the slippage.
3.  Fractions of a share left by a split are paid out at the close. Positions are valued at the close; without a
    bar, at the last one, restated for splits since.
4.  A symbol that has no later bar is closed at its last price when it has been silent for 5 sessions; no
    commission: there is no order, the holder is paid out. The result names it.
5.  Orders for the next session are sized at this close, from equity, shares and target weights.

Equity is cash plus positions at every close. In a long-only run cash never goes below zero. The same functions,
called for one session at a time, are the local paper account.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from marketagent.costs import Costs
from marketagent.orders import WHOLE, cut, order_quantities
from marketagent.panel import Array, Panel, Sessions
from marketagent.sizing import row_total

FILLS = ("next-open", "next-close", "same-close")
SILENT_SESSIONS = 5
FILL, SPLIT, DIVIDEND, FRACTION, CLOSED = range(5)
KINDS = ("fill", "split", "dividend", "fraction", "closed")
_SPLIT_HAIR = 1e-6  # of a step. Ratios such as 1/3 come with six digits: 3 old shares are one new one, not 0.999999


@dataclass
class Book:
    """Cash in USD and shares (N,) of one account; changed only by the functions of this file."""

    cash: float
    shares: Array

    def equity(self, mark: Array) -> float:
        """Cash plus every position at its `mark` (N,), added from left to right."""
        return self.cash + total(self.shares * mark)


@dataclass(frozen=True)
class Events:
    """What happened to the account, K rows in order.

    `row` and `decided` are rows of the panel (`decided` is -1 where nobody decided), `column` the symbol. `kind`
    is one of KINDS: for fill, fraction and closed `quantity` is signed shares and `price` USD; for split
    `quantity` is the ratio; for dividend `quantity` is the shares and `price` USD a share.
    """

    row: NDArray[np.int64]
    decided: NDArray[np.int64]
    column: NDArray[np.int64]
    kind: NDArray[np.int64]
    quantity: Array
    price: Array
    commission: Array

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True)
class Simulation:
    """`equity`, `cash`, `exposure` (gross, in USD) are (T - start,), from the first decision's session on."""

    sessions: Sessions
    equity: Array
    cash: Array
    exposure: Array
    shares: Array
    events: Events
    closed: tuple[str, ...]
    unfilled: int


def total(values: Array) -> float:
    """The sum of (N,) values, added from left to right: the same to the bit whatever zeros stand between."""
    return float(np.cumsum(values)[-1]) if len(values) else 0.0


def before_open(book: Book, split: Array, dividend: Array, steps: float) -> Array:
    """Apply the day's `split` (N,) and `dividend` (N,) to the holder.

    Returns the fractions (N,) of shares that the splits left, to be paid in cash at the close.
    """
    grown = book.shares * split
    book.cash += total(grown * dividend)
    if (split == 1.0).all():
        return np.zeros(len(split))
    whole = after_split(book.shares, split, steps)
    book.shares = np.where(split == 1.0, book.shares, whole)
    return np.where(split == 1.0, 0.0, grown - whole)


def after_split(quantity: Array, split: Array, steps: float) -> Array:
    """What `quantity` (N,) of shares, held or ordered alike, is after `split` (N,): whole steps towards zero.

    One rule for both: an order to sell all must still sell all.
    """
    grown = quantity * split
    whole = np.trunc(grown * steps + np.copysign(_SPLIT_HAIR, grown)) / steps
    return np.where(split == 1.0, quantity, whole)


def execute(book: Book, quantity: Array, price: Array, costs: Costs, steps: float) -> tuple[Array, Array, Array]:
    """Fill signed `quantity` (N,) at `price` (N,), NaN where nothing trades; returns shares, prices and fees.

    Sells first; then buys, scaled down together until they and their commissions fit the cash.
    """
    quantity = np.where(np.isfinite(price), quantity, 0.0)
    paid = costs.fill_price(np.where(np.isfinite(price), price, 0.0), quantity)
    sells = np.minimum(quantity, 0.0)
    fees = costs.commission(sells, paid)
    book.cash += total(-sells * paid) - total(fees)
    buys, buy_fees, spent = _affordable(np.maximum(quantity, 0.0), paid, book.cash, costs, steps)
    book.cash -= spent
    filled = sells + buys
    book.shares = book.shares + filled
    return filled, paid, fees + buy_fees


def _affordable(quantity: Array, price: Array, cash: float, costs: Costs, steps: float) -> tuple[Array, Array, float]:
    """The largest common share of the buys that `cash` pays for, their commissions and what they cost together.

    Cost over share is a line with a positive start (the minimum commissions), so each division by the excess
    comes closer from above; cutting to whole steps ends it, in two or three rounds as a rule.
    """
    share, buys = 1.0, quantity
    for _ in range(64):
        fees = costs.commission(buys, price)
        spent = total(buys * price) + total(fees)
        if spent <= cash or spent == 0.0:
            return buys, fees, spent
        share *= max(cash, 0.0) / spent * (1 - 1e-12)
        buys = cut(quantity * share, steps)
    none = np.zeros(len(quantity))
    return none, none, 0.0


def simulate(
    targets: Array,
    panel: Panel,
    costs: Costs,
    cash: float,
    *,
    start: int = 0,
    fill: str = "next-open",
    steps: float = WHOLE,
    band: float = 0.0,
) -> Simulation:
    """Trade `targets` (T, N; NaN leaves alone) on `panel` from row `start` on, beginning with `cash` USD.

    `fill` is one of FILLS, `steps` the parts a share is cut into, `band` the tolerance of
    ``orders.order_quantities``. Raises ValueError for shapes that disagree or an unknown `fill`.
    """
    if targets.shape != panel.shape:
        raise ValueError(f"targets are {targets.shape}, the panel is {panel.shape}")
    if fill not in FILLS:
        raise ValueError(f"fill {fill!r} is none of {', '.join(FILLS)}")
    return _Run(targets, panel, costs, cash, start, fill, steps, band).all()


@dataclass
class _Run:
    """One run of the loop: the account, the orders waiting, and what has been written down so far."""

    targets: Array
    panel: Panel
    costs: Costs
    start_cash: float
    start: int
    fill: str
    steps: float
    band: float
    log: list[tuple[int, int, int, NDArray[np.int64], Array, Array, Array]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    unfilled: int = 0

    def all(self) -> Simulation:
        length, width = self.panel.shape
        self.book = Book(self.start_cash, np.zeros(width))
        self.waiting = np.zeros(width)
        self.equity, self.cash, self.exposure = (np.full(length, np.nan) for _ in range(3))
        self.final_bar = self.panel.last_bar[-1] if length else np.zeros(width, dtype=np.int64)
        busy = self._busy_rows()
        t = self.start
        while t < length:
            if busy[t] or self.waiting.any():
                self._session(t)
                t += 1
            else:
                t = self._quiet(t, busy)
        kept = slice(self.start, length)
        return Simulation(
            self.panel.sessions[kept],
            self.equity[kept],
            self.cash[kept],
            self.exposure[kept],
            self.book.shares,
            _events(self.log),
            tuple(self.closed),
            self.unfilled,
        )

    def _busy_rows(self) -> NDArray[np.bool_]:
        """(T,): rows on which something may happen; on all others only prices move."""
        panel = self.panel
        busy = (
            np.isfinite(self.targets).any(axis=1) | (panel.split != 1.0).any(axis=1) | (panel.dividend > 0).any(axis=1)
        )
        ends = self.final_bar[(self.final_bar >= 0)] + SILENT_SESSIONS
        busy[ends[ends < len(busy)]] = True
        busy[self.start : self.start + 1] = True
        return np.asarray(busy)

    def _quiet(self, t: int, busy: NDArray[np.bool_]) -> int:
        """Value the unchanged account from row `t` to the next busy row, and return that row."""
        ahead = np.flatnonzero(busy[t:])
        until = t + int(ahead[0]) if len(ahead) else len(busy)
        value = self.book.shares * self.panel.mark[t:until]
        self.cash[t:until] = self.book.cash
        self.equity[t:until] = self.book.cash + row_total(value)
        self.exposure[t:until] = row_total(np.abs(value))
        return until

    def _session(self, t: int) -> None:
        panel, book = self.panel, self.book
        fractions = self._before_open(t)
        if self.fill == "next-open":
            self._fill(t, t - 1, panel.raw.open[t])
        elif self.fill == "next-close":
            self._fill(t, t - 1, panel.raw.close[t])
        mark = panel.mark[t]
        if fractions.any():
            book.cash += total(fractions * mark)
            self._write(t, -1, FRACTION, -fractions, mark)
        self._close_silent(t, mark)
        equity = book.equity(mark)
        close = np.where(panel.has_bar[t], panel.raw.close[t], np.nan)
        self.waiting = order_quantities(self.targets[t], book.shares, close, equity, band=self.band, steps=self.steps)
        if self.fill == "same-close":
            self._fill(t, t, panel.raw.close[t])
            equity = book.equity(mark)
        self.cash[t], self.equity[t] = book.cash, equity
        self.exposure[t] = total(np.abs(book.shares * mark))

    def _before_open(self, t: int) -> Array:
        panel, book = self.panel, self.book
        held = book.shares != 0
        split, dividend = panel.split[t], np.where(held, panel.dividend[t], 0.0)
        if (split != 1.0).any():
            self._write(t, -1, SPLIT, np.where((split != 1.0) & held, split, 0.0), panel.mark[t])
            self.waiting = after_split(self.waiting, split, self.steps)
        if dividend.any():
            self._write(t, -1, DIVIDEND, np.where(dividend > 0, book.shares * split, 0.0), dividend)
        return before_open(book, split, dividend, self.steps)

    def _fill(self, t: int, decided: int, price: Array) -> None:
        if not self.waiting.any():
            return
        wanted = self.waiting
        filled, paid, fees = execute(self.book, wanted, price, self.costs, self.steps)
        self.unfilled += int(((wanted != 0) & (filled == 0)).sum())
        self._write(t, decided, FILL, filled, paid, fees)
        self.waiting = np.zeros(len(wanted))

    def _close_silent(self, t: int, mark: Array) -> None:
        gone = (self.final_bar >= 0) & (t - self.final_bar >= SILENT_SESSIONS) & (self.book.shares != 0)
        if gone.any():
            quantity = np.where(gone, self.book.shares, 0.0)
            self.book.cash += total(quantity * mark)
            self.book.shares = np.where(gone, 0.0, self.book.shares)
            self._write(t, -1, CLOSED, -quantity, mark)
            self.closed += [self.panel.symbols[n] for n in np.flatnonzero(gone)]

    def _write(self, t: int, decided: int, kind: int, quantity: Array, price: Array, fees: Array | None = None) -> None:
        hit = np.flatnonzero(quantity)
        if len(hit):
            paid = np.zeros(len(hit)) if fees is None else fees[hit]
            self.log.append((t, decided, kind, hit, quantity[hit], price[hit], paid))


def _events(log: list[tuple[int, int, int, NDArray[np.int64], Array, Array, Array]]) -> Events:
    counts = [len(entry[3]) for entry in log]

    def spread(position: int) -> NDArray[np.int64]:
        return np.repeat(np.array([entry[position] for entry in log], dtype=np.int64), counts)

    def joined(position: int) -> Array:
        return np.concatenate([entry[position] for entry in log]) if log else np.zeros(0)

    column = joined(3).astype(np.int64)
    return Events(spread(0), spread(1), column, spread(2), joined(4), joined(5), joined(6))
