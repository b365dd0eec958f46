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
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from marketagent.costs import Costs
from marketagent.events import CLOSED, DIVIDEND, FILL, FRACTION, SPLIT, Column, Entry, Events, events_of
from marketagent.execution import Book, after_split, before_open, execute_one, execute_some, lending, overnight, total
from marketagent.liquidity import liquidity
from marketagent.orders import WHOLE, first_order, order_quantities, order_quantity
from marketagent.panel import Array, Panel, Sessions
from marketagent.sizing import row_total

FILLS = ("next-open", "next-close", "same-close")
SILENT_SESSIONS = 5
GLANCE = 512  # cells that are looked ahead at first for the next decision that orders something


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
    if not len(panel.sessions):
        return np.full(panel.shape[1], -1)
    final, number = panel.final_bar, panel.session_number
    row = np.searchsorted(number, number[np.maximum(final, 0)] + SILENT_SESSIONS)
    return np.where(final >= 0, row, -1)


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
    """One run of the loop: the account, the orders waiting, and what has been written down so far."""

    def __init__(
        self, targets: Array, panel: Panel, costs: Costs, cash: float, start: int, fill: str, steps: float, band: float
    ) -> None:
        length, width = panel.shape
        self.targets, self.panel, self.costs = targets, panel, costs
        self.start, self.fill, self.steps, self.band = start, fill, steps, band
        self.book = Book(cash, np.zeros(width))
        self.waiting: Array | None = None
        self.idle = False  # the last decision ordered nothing
        self.equity, self.cash, self.exposure = (np.full(length, np.nan) for _ in range(3))
        self.log: list[Entry] = []
        self.closed: list[str] = []
        self.unfilled = 0
        self.deciding: NDArray[np.bool_] = np.asarray(np.isfinite(targets).any(axis=1))
        self.goes_short = bool((targets < 0).any())  # else nothing can be sold that is not held
        self.closes_on = silent_from(panel)
        self.ending = np.zeros(length, dtype=bool)
        self.ending[self.closes_on[(self.closes_on >= 0) & (self.closes_on < length)]] = True
        self.turns = _nexts(self.deciding | self.ending)  # the first from a row on
        self.stops = _nexts(self.ending)
        self.split_rows, self.split_columns = panel.splits
        self.splits = _starts(self.split_rows, length)
        self.pay_rows, self.pay_columns = panel.dividends
        self.dividends, self.pays = panel.dividend[self.pay_rows, self.pay_columns], _starts(self.pay_rows, length)
        self.month: Sequence[int] = panel.sessions.astype("datetime64[M]").astype(np.int64).data
        self.traded_in: int | None = None
        self.lent = np.zeros(length) if costs.lends else np.zeros(0)
        # The first row of each session but the first of all: a night lies before it.
        self.wakes = np.diff(panel.days, prepend=panel.days[:1]) > np.timedelta64(0, "D")

    def all(self) -> Simulation:
        length, t = len(self.equity), self.start
        while t < length:
            turn = self._next_turn(t, self.turns)
            if turn == t and self.idle:
                turn = t = self._pass_idle(t)
            elif turn > t:
                self._quiet(t, turn, self._outlook(t, turn))
            if turn < length:
                self._session(turn)
            t = turn + 1
        kept = slice(self.start, length)
        return Simulation(
            self.panel.sessions[kept],
            self.equity[kept],
            self.cash[kept],
            self.exposure[kept],
            self.book.shares,
            events_of(self.log),
            tuple(self.closed),
            self.unfilled,
            self.lent[kept],
        )

    def _next_turn(self, t: int, turns: Sequence[int]) -> int:
        """The first row from `t` on that may change the shares or orders: one of `turns`, or a split of what is held."""
        if self.waiting is not None:
            return t
        turn = turns[t]
        first, last = self.splits[t], self.splits[turn]
        if first == last:
            return turn
        held = self.book.shares[self.split_columns[first:last]].nonzero()[0]
        return int(self.split_rows[first + held[0]]) if len(held) else turn

    def _pass_idle(self, t: int) -> int:
        """Be done with the rows from `t` on whose decisions order nothing, many at once; returns the first after them.

        Worth a look where the last decision ordered nothing either: with a band, as a rule it does not.
        """
        stop, rows = self._next_turn(t, self.stops), max(GLANCE // len(self.book.shares), 8)
        while t < stop:
            last = min(t + rows, stop)
            outlook = self._outlook(t, last)
            close, held = self.panel.raw.close[t:last], self.book.shares
            quiet = first_order(self.targets[t:last], held, close, outlook[1], band=self.band, steps=self.steps)
            if quiet:
                self._quiet(t, t + quiet, outlook)
            if t + quiet < last:
                return t + quiet
            t, rows = last, rows * 2
        return t

    def _quiet(self, t: int, turn: int, outlook: tuple[Array, Array, Array]) -> None:
        """Pay the dividends and value the positions of the rows from `t` to before `turn`, all at once."""
        cash, equity, exposure = (values[: turn - t] for values in outlook)
        self.cash[t:turn], self.equity[t:turn], self.exposure[t:turn] = cash, equity, exposure
        self.book.cash = float(cash[-1])
        self._record(*self._paying(t, turn))

    def _outlook(self, t: int, turn: int) -> tuple[Array, Array, Array]:
        """Cash, equity and exposure of the rows from `t` to before `turn` if the shares stay as they are: nothing is written
        down but what is lent by, and that again when the row's turn comes."""
        rows, _, _, _, shares, price = self._paying(t, turn)
        dividends: Array = np.bincount(rows - t, weights=shares * price, minlength=turn - t).astype(
            np.float64, copy=False
        )
        flow = np.concatenate([[self.book.cash], dividends]).cumsum()[1:]
        cash = self._nights(t, dividends) if len(self.lent) else flow
        held = self.book.shares.nonzero()[0]
        value = self.book.shares[held] * self.panel.mark[t:turn].take(held, axis=1)
        worth = row_total(value)
        return cash, cash + worth, row_total(np.abs(value)) if self.goes_short else worth

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
            if self.wakes[t + k]:
                self.lent[t + k] = lending(float(short[k]), cash, self.costs)
                cash -= self.lent[t + k]
            cash += paid
            found[k] = cash
        return found

    def _paying(self, t: int, turn: int) -> tuple[Column, int, Column, int, Array, Array]:
        """The dividends of the rows from `t` to before `turn` on what is held, as they are recorded; a split of the row is
        of nothing held."""
        first, last = self.pays[t], self.pays[turn]
        shares = self.book.shares[self.pay_columns[first:last]]
        hit = shares.nonzero()[0]
        columns, price = self.pay_columns[first:last][hit], self.dividends[first:last][hit]
        return self.pay_rows[first:last][hit], -1, columns, DIVIDEND, shares[hit], price

    def _session(self, t: int) -> None:
        panel, book = self.panel, self.book
        mark = panel.mark[t]
        fractions = None
        if len(self.lent) and self.wakes[t]:
            self.lent[t] = overnight(book, panel.mark[t - 1], self.costs)
        if self._is_splitting(t):
            fractions = self._before_open(t)
        elif self.pays[t] < self.pays[t + 1]:
            paying = self._paying(t, t + 1)
            book.cash += total(paying[4] * paying[5])
            self._record(*paying)
        if self.fill == "next-open":
            self._fill(t, t - 1, panel.raw.open[t])
        elif self.fill == "next-close":
            self._fill(t, t - 1, panel.raw.close[t])
        if fractions is not None and fractions.any():
            book.cash += total(fractions * mark)
            self._write(t, FRACTION, -fractions, mark)
        if self.ending[t]:
            self._close_silent(t, mark)
        value = book.shares * mark
        worth = total(value)
        if self.deciding[t]:
            close, equity = panel.raw.close[t], book.cash + worth
            wanted = order_quantities(self.targets[t], book.shares, close, equity, band=self.band, steps=self.steps)
            self.waiting = wanted if wanted.any() else None
            self.idle = self.waiting is None
            if self.fill == "same-close":
                self._fill(t, t, close)
                value = book.shares * mark
                worth = total(value)
        self.cash[t] = book.cash
        self.equity[t] = book.cash + worth
        self.exposure[t] = total(np.abs(value)) if self.goes_short else worth

    def _is_splitting(self, t: int) -> bool:
        """Whether a split of row `t` is of anything held or ordered."""
        columns = self.split_columns[self.splits[t] : self.splits[t + 1]]
        if not len(columns):
            return False
        return bool(self.book.shares[columns].any() or (self.waiting is not None and self.waiting[columns].any()))

    def _before_open(self, t: int) -> Array:
        panel, held = self.panel, self.book.shares != 0
        split, dividend = panel.split[t], np.where(held & (panel.dividend[t] > 0), panel.dividend[t], 0.0)
        self._write(t, SPLIT, np.where((split != 1.0) & held, split, 0.0), panel.mark[t])
        if self.waiting is not None:
            self.waiting = after_split(self.waiting, split, self.steps)
        self._write(t, DIVIDEND, np.where(dividend > 0, self.book.shares * split, 0.0), dividend)
        return before_open(self.book, split, dividend, self.steps)

    def _fill(self, t: int, decided: int, price: Array) -> None:
        if self.waiting is None:
            return
        self._begin_month(t)
        market = liquidity(self.panel, t, self.costs)
        ordered = self.waiting.nonzero()[0]
        columns = ordered[np.isfinite(price[ordered])]
        filled, paid, fees = execute_some(
            self.book, columns, self.waiting[columns], price[columns], self.costs, self.steps, market
        )
        hit = filled.nonzero()[0]
        self.unfilled += len(ordered) - len(hit)
        self._record(t, decided, columns[hit], FILL, filled[hit], paid[hit], fees[hit])
        self.waiting = None

    def _begin_month(self, t: int) -> None:
        if self.traded_in != self.month[t]:
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
        paid = panel.raw.open if self.fill == "next-open" else panel.raw.close
        columns = (targets, panel.raw.close, paid, panel.mark)
        self.target, self.close, self.price, self.mark = (values[:, 0].data for values in columns)
        self.first = np.zeros(1, dtype=np.int64)  # the column
        self.held = np.zeros(len(targets))  # shares at each close: what they are worth is found of all rows at once
        self.entries = _nexts(self.deciding & (targets[:, 0] != 0))
        special = self.ending.copy()
        special[self.split_rows] = special[self.pay_rows] = True
        self.special = _nexts(special)

    def all(self) -> Simulation:
        run = super().all()
        value = self.held[self.start :] * self.panel.mark[self.start :, 0]
        return replace(run, equity=run.cash + value, exposure=np.abs(value) if self.goes_short else value)

    def _pass_idle(self, t: int) -> int:
        last, shares = min(self._next_turn(t, self.stops), self.special[t]), float(self.book.shares[0])
        row = self._first_order(t, last, shares, self.book.cash) if shares else min(self.entries[t], last)
        self.cash[t:row], self.held[t:row] = self.book.cash, shares
        return row

    def _quiet(self, t: int, turn: int, outlook: tuple[Array, Array, Array]) -> None:
        super()._quiet(t, turn, outlook)
        self.held[t:turn] = self.book.shares[0]

    def _first_order(self, t: int, last: int, shares: float, cash: float) -> int:
        """The first of the rows from `t` to before `last` that orders anything, or `last`."""
        rows, band = zip(self.target[t:last], self.close[t:last], self.mark[t:last], strict=True), self.band
        for row, (target, close, mark) in enumerate(rows, start=t):
            wanted_value = target * (cash + shares * mark)
            # What is within the band, as nearly all is, needs no closer look.
            near = abs(wanted_value - shares * close) < band * abs(wanted_value)
            if not near and self._orders(row, shares, cash + shares * mark):
                return row
        return last

    def _session(self, t: int) -> None:
        if self.special[t] == t:
            super()._session(t)
            self.held[t] = self.book.shares[0]
            return
        if self.waiting is not None:
            self._fill_one(t, t - 1, self.waiting)
        shares = float(self.book.shares[0])
        if self.deciding[t]:
            wanted = self._orders(t, shares, self.book.cash + shares * self.mark[t])
            self.idle = not wanted
            self.waiting = np.array([wanted]) if wanted else None
            if self.waiting is not None and self.fill == "same-close":
                self._fill_one(t, t, self.waiting)
        self.cash[t], self.held[t] = self.book.cash, self.book.shares[0]

    def _orders(self, t: int, shares: float, equity: float) -> float:
        return order_quantity(self.target[t], shares, self.close[t], equity, band=self.band, steps=self.steps)

    def _fill_one(self, t: int, decided: int, waiting: Array) -> None:
        self._begin_month(t)
        self.waiting, price, filled = None, self.price[t], 0.0
        if math.isfinite(price):
            market = liquidity(self.panel, t, self.costs)
            filled, paid, fee = execute_one(self.book, 0, float(waiting[0]), price, self.costs, self.steps, market)
        if filled:
            self._record(t, decided, self.first, FILL, np.array([filled]), np.array([paid]), np.array([fee]))
        else:
            self.unfilled += 1


def _nexts(turns: NDArray[np.bool_]) -> Sequence[int]:
    """For each row, and for the end, the first row from it on that is one of `turns`; the end if none is."""
    found = np.append(np.flatnonzero(turns), len(turns))
    # Its memory, as all that is looked up row by row: that gives plain numbers, and sooner than an array gives its own.
    return np.repeat(found, np.diff(found, prepend=-1)).data


def _starts(rows: Column, length: int) -> Sequence[int]:
    """Where the entries of each row begin in the ordered `rows`, and at last where they end."""
    return np.searchsorted(rows, np.arange(length + 1)).data
