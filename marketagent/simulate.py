"""The simulation: target weights against prices as traded, with real share counts, cash and costs.

It is written as the definition of what a backtest means here. Session by session:

1.  Before the open, what was held over the night is paid for, where the costs say so: a 252nd of the yearly rates on
    short positions, at the previous close, and on negative cash. Splits of the day multiply the shares held and the
    orders waiting; on the ex-date, dividends pay cash for the shares held over the previous close (restated for a
    split of the same day).
2.  Orders decided on the close of t-1 fill at the open of t (``next-open``), at its close (``next-close``), or,
    marked as not tradable, at the very close they were decided on (``same-close``). A symbol without a bar that
    day is not filled: an order lives one day. Sells come before buys. If the cash does not suffice, all buys are
    scaled by cash over cost, commissions included, and cut again, until it does; if 64 rounds of that are not
    enough, by the largest share of them that fits. Quantities are whole shares unless fractional ones are allowed.
    The price is moved against the order by the slippage. Where the costs limit an order to a share of the bar's
    volume, what is beyond it is not filled, and gone like any order after its day.
3.  Fractions of a share left by a split are paid out at the close. Positions are valued at the close; without a
    bar, at the last one, restated for splits since.
4.  A symbol that has no later bar is closed at its last price when it has been silent for 5 sessions; no
    commission: there is no order, the holder is paid out. The result names it.
5.  Orders for the next session are sized at this close, from equity, shares and target weights.

Of bars within a day, all this is done bar by bar: an order lives one bar, splits and dividends come before the first
bar of their session, and rule 4 closes at the first bar of the fifth session.

Equity is cash plus positions at every close. In a long-only run cash never goes below zero, unless the fees of a
sale are more than it fetches and the cash there is. What happens on a session does not depend on later ones, with one
exception that is meant: rule 4 looks ahead whether a silent symbol trades again, so that a halt of weeks ends for the
holder at the price it reopens at, not before. The same functions, called for one session at a time, are the local
paper account.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketagent.agenda import Agenda, nexts
from marketagent.costs import Costs
from marketagent.events import CLOSED, DIVIDEND, FILL, FRACTION, SPLIT, Column, Entry, Events, events_of
from marketagent.execution import Book, after_split, before_open, execute_one, execute_some, lending, overnight, total
from marketagent.liquidity import liquidity
from marketagent.orders import WHOLE, Orders, first_order, order_quantity, orders_of, some, strays
from marketagent.panel import Array, Panel, Sessions
from marketagent.sizing import row_total

FILLS = ("next-open", "next-close", "same-close")
SILENT_SESSIONS = 5
GLANCE = 512  # cells that are looked ahead at first for the next decision that orders something
GLANCE_ALONE = 64  # the same of one symbol, whose cells cost less


@dataclass(frozen=True)
class Simulation:
    """`equity`, `cash`, `exposure` (gross, in USD) are (T - start,), from the first decision's session on.

    So is `lent`: what borrowing shares and cash over the night before cost, in USD; empty where the costs do not charge it.
    """

    sessions: Sessions
    equity: Array
    cash: Array
    exposure: Array
    shares: Array
    events: Events
    closed: tuple[str, ...]
    unfilled: int
    lent: Array = field(default_factory=lambda: np.zeros(0))


def silent_from(panel: Panel) -> NDArray[np.int64]:
    """(N,): the row on which a symbol without a bar since its last one counts as gone: the first of the fifth session
    after it; T or more where that is yet to come, -1 for a symbol without any bar."""
    final, length = panel.final_bar, len(panel.sessions)
    row = np.where(final >= 0, length, -1)
    silent = np.flatnonzero((final >= 0) & (final < length - 1))
    if len(silent):
        number = panel.session_number
        row[silent] = np.searchsorted(number, number[final[silent]] + SILENT_SESSIONS)
    return row


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
    kind = _Alone if panel.shape[1] == 1 and not costs.lends else _Run
    return kind(targets, panel, costs, cash, start, fill, steps, band).all()


class _Run:
    """One run of the loop: the account, the orders waiting, and what has been written down so far.

    A row begins with what may change the shares (`_change`) and ends with its close, at which positions are valued and
    orders decided. Few rows change anything: from one to the next decision, `_hold` values all rows at once.
    """

    def __init__(
        self, targets: Array, panel: Panel, costs: Costs, cash: float, start: int, fill: str, steps: float, band: float
    ) -> None:
        length, width = panel.shape
        self.targets, self.panel, self.costs = targets, panel, costs
        self.start, self.fill, self.steps, self.band = start, fill, steps, band
        self.price = panel.raw.open if fill == "next-open" else panel.raw.close
        self.book = Book(cash, np.zeros(width))
        self.waiting: Orders | None = None
        self.idle = False  # the last decision ordered nothing
        self.cash, self.worth = np.full(length, np.nan), np.full(length, np.nan)
        self.log: list[Entry] = []
        self.closed: list[str] = []
        self.unfilled = 0
        self.deciding: NDArray[np.bool_] = np.asarray(np.isfinite(targets).any(axis=1))
        self.decisions = nexts(self.deciding)
        self.goes_short = bool((targets < 0).any())  # else nothing can be sold that is not held, and exposure is worth
        self.exposure = np.full(length, np.nan) if self.goes_short else self.worth
        self.closes_on = silent_from(panel)
        self.agenda = Agenda(panel, self.closes_on)
        self.month: Sequence[int] = panel.month.data if costs.tiers else ()
        self.traded_in: int | None = None
        self.lent = np.zeros(length) if costs.lends else np.zeros(0)

    def all(self) -> Simulation:
        length, t = len(self.cash), self.start
        while t < length:
            if self.idle:
                t, self.idle = self._pass_idle(t), False
                continue
            changing = self.waiting is not None or self.agenda.next_change(self.book.shares, t, t + 1) == t
            if changing:
                self._change(t)
            t = self._hold(t, changing)
        kept = slice(self.start, length)
        return Simulation(
            self.panel.sessions[kept],
            self.cash[kept] + self.worth[kept],
            self.cash[kept],
            self.exposure[kept],
            self.book.shares,
            events_of(self.log),
            tuple(self.closed),
            self.unfilled,
            self.lent[kept],
        )

    def _pass_idle(self, t: int) -> int:
        """Be done with the rows from `t` on whose decisions order nothing, many at once; returns the first after them.

        Worth a look where the last decision ordered nothing either: with a band, as a rule it does not.
        """
        shares, rows = self.book.shares, max(GLANCE // len(self.book.shares), 8)
        stop = self.agenda.next_change(shares, t, len(self.cash))
        while t < stop:
            last = min(t + rows, stop)
            self._foresee(t, last)
            close, equity = self.panel.raw.close[t:last], self.cash[t:last] + self.worth[t:last]
            quiet = first_order(self.targets[t:last], shares, close, equity, band=self.band, steps=self.steps)
            if quiet:
                self._settle(t, t + quiet)
            if t + quiet < last:
                return t + quiet
            t, rows = last, rows * 2
        return t

    def _change(self, t: int) -> None:
        """All that comes before the close of row `t`, where it may change the shares."""
        panel, book = self.panel, self.book
        fractions = None
        if len(self.lent) and panel.wakes[t]:
            self.lent[t] = overnight(book, panel.mark[t - 1], self.costs)
        if self._is_splitting(t):
            fractions = self._before_open(t)
        elif self.agenda.is_paying(t, t + 1):
            _, _, shares, price = self.agenda.dividends(book.shares, t, t + 1)
            book.cash += total(shares * price)
            self._record_dividends(t, t + 1)
        if self.waiting is not None:
            self._fill(t, t - 1, self.waiting)
        if fractions is not None and fractions.any():
            book.cash += total(fractions * panel.mark[t])
            self._write(t, FRACTION, -fractions, panel.mark[t])
        if self.agenda.is_ending(t):
            self._close_silent(t, panel.mark[t])

    def _hold(self, t: int, changed: bool) -> int:
        """Be done with the rows from `t` to the next that decides, that one too, or to before the next that changes the
        shares; returns the row after them. Row `t` itself may have `changed` them."""
        turn = self.agenda.next_change(self.book.shares, t + 1, min(self.decisions[t] + 1, len(self.cash)))
        self._foresee(t, turn, changed)
        self._settle(t, turn, changed)
        if self.deciding[turn - 1]:
            self._decide(turn - 1)
        return turn

    def _decide(self, t: int) -> None:
        close, equity = self.panel.raw.close[t], self.book.cash + float(self.worth[t])
        orders = orders_of(self.targets[t], self.book.shares, close, equity, band=self.band, steps=self.steps)
        self.idle = not len(orders[0])
        if self.idle:
            return
        if self.fill == "same-close":
            self._fill(t, t, orders)
            self._foresee(t, t + 1, changed=True)
        else:
            self.waiting = orders

    def _foresee(self, t: int, turn: int, changed: bool = False) -> None:
        """Write down cash and worth of the rows from `t` to before `turn` if the shares stay as they are; where they do not,
        the rows are written again when their turn comes. Row `t` itself has nothing more to pay once it `changed`."""
        self.cash[t:turn] = self.book.cash
        first = t + changed
        if first < turn and (len(self.lent) or self.agenda.is_paying(first, turn)):
            rows, _, shares, price = self.agenda.dividends(self.book.shares, first, turn)
            paid = np.bincount(rows - first, weights=shares * price, minlength=turn - first).astype(
                np.float64, copy=False
            )
            flow = np.concatenate([[self.book.cash], paid]).cumsum()[1:]
            self.cash[first:turn] = self._nights(first, paid) if len(self.lent) else flow
        held = self.book.shares.nonzero()[0]
        value = self.book.shares[held] * self.panel.mark[t:turn].take(held, axis=1)
        self.worth[t:turn] = row_total(value)
        if self.goes_short:
            self.exposure[t:turn] = row_total(np.abs(value))

    def _settle(self, t: int, turn: int, changed: bool = False) -> None:
        """Be done with the rows from `t` to before `turn`, which are as they were foreseen."""
        self.book.cash = float(self.cash[turn - 1])
        self._record_dividends(t + changed, turn)

    def _nights(self, t: int, dividends: Array) -> Array:
        """Cash of the rows from `t` on, one by one: interest is charged on what was charged before."""
        turn, cash = t + len(dividends), self.book.cash
        held = np.flatnonzero(self.book.shares < 0)
        before = self.panel.mark[max(t - 1, 0) : turn - 1].take(held, axis=1)
        if not t:
            before = np.vstack([np.zeros((1, len(held))), before])
        short = row_total(np.maximum(-self.book.shares[held] * before, 0.0))
        found = np.empty(len(dividends))
        for k, paid in enumerate(dividends.tolist()):
            if self.panel.wakes[t + k]:
                self.lent[t + k] = lending(float(short[k]), cash, self.costs)
                cash -= self.lent[t + k]
            cash += paid
            found[k] = cash
        return found

    def _is_splitting(self, t: int) -> bool:
        """Whether a split of row `t` is of anything held or ordered."""
        columns = self.agenda.splitting(t)
        if not len(columns):
            return False
        ordered = () if self.waiting is None else self.waiting[0]
        return bool(self.book.shares[columns].any() or np.isin(columns, ordered).any())

    def _before_open(self, t: int) -> Array:
        panel, held = self.panel, self.book.shares != 0
        split, dividend = panel.split[t], np.where(held & (panel.dividend[t] > 0), panel.dividend[t], 0.0)
        self._write(t, SPLIT, np.where((split != 1.0) & held, split, 0.0), panel.mark[t])
        if self.waiting is not None:
            columns, quantity = self.waiting
            self.waiting = some(columns, after_split(quantity, split[columns], self.steps))
        self._write(t, DIVIDEND, np.where(dividend > 0, self.book.shares * split, 0.0), dividend)
        return before_open(self.book, split, dividend, self.steps)

    def _fill(self, t: int, decided: int, orders: Orders) -> None:
        self.waiting = None
        self._begin_month(t)
        market = liquidity(self.panel, t, self.costs)
        columns, quantity = orders
        price = self.price[t].take(columns)
        trading = np.isfinite(price).nonzero()[0]
        if len(trading) < len(columns):
            columns, quantity, price = columns[trading], quantity[trading], price[trading]
        filled, paid, fees = execute_some(self.book, columns, quantity, price, self.costs, self.steps, market)
        hit = filled.nonzero()[0]
        self.unfilled += len(orders[0]) - len(hit)
        self._record(t, decided, columns[hit], FILL, filled[hit], paid[hit], fees[hit])

    def _begin_month(self, t: int) -> None:
        if self.costs.tiers and self.traded_in != self.month[t]:
            self.traded_in, self.book.traded = self.month[t], 0.0

    def _close_silent(self, t: int, mark: Array) -> None:
        gone = np.where(self.closes_on == t, self.book.shares, 0.0)
        self.book.cash += total(gone * mark)
        self.book.shares = self.book.shares - gone
        self._write(t, CLOSED, -gone, mark)
        self.closed += [self.panel.symbols[n] for n in np.flatnonzero(gone)]

    def _write(self, t: int, kind: int, quantity: Array, price: Array) -> None:
        hit = quantity.nonzero()[0]
        self._record(t, -1, hit, kind, quantity[hit], price[hit])

    def _record_dividends(self, t: int, turn: int) -> None:
        """Of the rows from `t` to before `turn`; where what is held is split, they are written with the split."""
        if self.agenda.is_paying(t, turn):
            rows, columns, shares, price = self.agenda.dividends(self.book.shares, t, turn)
            self._record(rows, -1, columns, DIVIDEND, shares, price)

    def _record(
        self,
        rows: Column | int,
        decided: int,
        columns: Column,
        kind: int,
        quantity: Array,
        price: Array,
        fees: Array | None = None,
    ) -> None:
        if len(columns):
            self.log.append((rows, decided, columns, kind, quantity, price, 0.0 if fees is None else fees))


class _Alone(_Run):
    """A run of one symbol, which is calculated in numbers: with arrays of one number it takes ten times as long.

    Only what is on most rows is said again here: orders, fills and positions. Splits, dividends and closings are those of
    any run, and where nights are paid for, so is all of it.
    """

    def __init__(self, targets: Array, panel: Panel, costs: Costs, *account: Any) -> None:
        super().__init__(targets, panel, costs, *account)
        close, price, mark = (values[:, 0] for values in (panel.raw.close, self.price, panel.mark))
        self.columns = targets[:, 0], close, mark
        self.target, self.close, self.mark = (values.data for values in self.columns)
        self.paid = price.data
        self.first = np.zeros(1, dtype=np.int64)  # the column
        self.held = np.zeros(len(targets))  # shares at each close: what they are worth is found of all rows at once
        self.entries = nexts(self.deciding & (targets[:, 0] != 0))
        self.special = nexts(self.agenda.anything())

    def all(self) -> Simulation:
        run = super().all()
        value = self.held[self.start :] * self.panel.mark[self.start :, 0]
        return replace(run, equity=run.cash + value, exposure=np.abs(value) if self.goes_short else value)

    def _pass_idle(self, t: int) -> int:
        return t  # `_hold` looks ahead anyway

    def _foresee(self, t: int, turn: int, changed: bool = False) -> None:
        super()._foresee(t, turn, changed)
        self.held[t:turn] = self.book.shares[0]

    def _hold(self, t: int, changed: bool) -> int:
        """Be done with all rows to before the next with a split, a dividend or the symbol's end; orders are filled here."""
        if self.special[t] == t:
            return super()._hold(t, changed)
        last = self.special[t + 1]
        while t < last:
            row, wanted = self._next_order(t, last)
            self._rest(t, min(row + 1, last))
            t = row + 1
            if not wanted:
                return last
            if self.fill == "same-close":
                self._fill_one(row, row, wanted)
                self._rest(row, t)
            elif t < last:
                self._fill_one(t, row, wanted)
            else:
                self.waiting = self.first, np.array([wanted])
        return t

    def _rest(self, t: int, turn: int) -> None:
        """Write down the rows from `t` to before `turn`, on which nothing changes any more."""
        self.cash[t:turn], self.held[t:turn] = self.book.cash, self.book.shares[0]

    def _next_order(self, t: int, last: int) -> tuple[int, float]:
        """The first of the rows from `t` to before `last` that orders anything, and how many shares; `last` and 0 if none
        does. The shares stay as they are on all of them."""
        shares = float(self.book.shares[0])
        for row in self._suspects(t, last, shares):
            if wanted := self._order(row, shares):
                return row, wanted
        return last, 0.0

    def _suspects(self, t: int, last: int, shares: float) -> Iterator[int]:
        """The rows that may order: `t` itself, then those that enter, or on which the `shares` held are off their target."""
        yield t
        t, rows = t + 1, GLANCE_ALONE
        while not shares and (t := self.entries[t]) < last:
            yield t
            t += 1
        while t < last:
            target, close, mark = (values[t : min(t + rows, last)] for values in self.columns)
            off = strays(target, target * (self.book.cash + shares * mark), shares, close, self.band)
            yield from (off.nonzero()[0] + t).tolist()
            t, rows = t + rows, rows * 2

    def _order(self, t: int, shares: float) -> float:
        equity = self.book.cash + shares * self.mark[t]
        return order_quantity(self.target[t], shares, self.close[t], equity, band=self.band, steps=self.steps)

    def _fill_one(self, t: int, decided: int, quantity: float) -> None:
        self._begin_month(t)
        price, filled = self.paid[t], 0.0
        if math.isfinite(price):
            market = liquidity(self.panel, t, self.costs)
            filled, paid, fee = execute_one(self.book, 0, quantity, price, self.costs, self.steps, market)
        if filled:
            self.log.append((t, decided, self.first, FILL, filled, paid, fee))
        else:
            self.unfilled += 1
