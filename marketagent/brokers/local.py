"""The local paper account: a broker that fills at stored prices, by the very functions of the simulation.

It lives session by session, or bar by bar within them: a session here is a row of its panel, a bar's name (see
``timeframes``). `advance` takes it from the close of one to the close of the next: splits and dividends, then the orders
decided on the one before at this one's open (an order lives that long), then fractions in cash, then positions that
have been silent too long. Nothing here reads or writes: the state goes in
and the changed state comes out, so that a plan and the real thing are one computation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np

from marketagent.costs import Costs
from marketagent.execution import Book, after_split, before_open, execute, overnight, total
from marketagent.liquidity import liquidity
from marketagent.orders import FRACTIONAL, WHOLE
from marketagent.panel import Array, Panel
from marketagent.simulate import silent_from
from marketagent.timeframes import bar_text

PENDING, OPEN, FILLED, EXPIRED = "PENDING", "OPEN", "FILLED", "EXPIRED"
_DUST = 1e-9  # of a share: what binary fractions leave of parts bought and sold by several orders
BEFORE_OPEN = ("lent", "split", "dividend")  # what is told of a session before its fills
Told = tuple[str, dict[str, float | str]]  # a kind of event, and what it was


@dataclass(frozen=True)
class Ticket:
    """An order as the account sees it: signed `quantity` in shares, decided on the close of `session`."""

    cid: str
    symbol: str
    session: date
    quantity: float
    state: str = PENDING
    filled: float = 0.0
    price: float | None = None
    commission: float = 0.0
    fill_session: date | None = None
    reason: str = ""


@dataclass(frozen=True)
class Account:
    """Cash in USD, shares by symbol and waiting orders at the close of `session`; `told` is what happened since.

    `traded` are the shares bought and sold in the calendar month of `session`, for commissions that fall with it.
    """

    name: str
    cash: float
    session: date
    shares: dict[str, float] = field(default_factory=dict)
    waiting: tuple[Ticket, ...] = ()
    settled: tuple[Ticket, ...] = ()
    told: tuple[Told, ...] = ()
    traded: float = 0.0

    def vector(self, panel: Panel) -> Array:
        """Shares (N,) in the order of the panel."""
        return np.array([self.shares.get(symbol, 0.0) for symbol in panel.symbols])

    def equity(self, panel: Panel) -> float:
        """Cash plus positions at the close of the account's session."""
        return Book(self.cash, self.vector(panel)).equity(panel.mark[panel.row(np.datetime64(self.session))])


def steps_of(account: Account, fractional: bool = False) -> float:
    """Whole shares, unless asked otherwise or the account already holds or waits for parts of one."""
    amounts = [*account.shares.values(), *(ticket.quantity for ticket in account.waiting)]
    return FRACTIONAL if fractional or any(amount != int(amount) for amount in amounts) else WHOLE


def advance(account: Account, panel: Panel, costs: Costs, *, fractional: bool = False) -> Account:
    """The account one session on; its panel must hold that session and every symbol held or waited for."""
    t = panel.row(np.datetime64(account.session)) + 1
    steps = steps_of(account, fractional)
    book = Book(account.cash, account.vector(panel), _traded_before(account, panel, t))
    told = _night(book, panel, t, costs) + _actions(panel, t, book.shares)
    dividend = np.where(book.shares != 0, panel.dividend[t], 0.0)
    fractions = before_open(book, panel.split[t], dividend, steps)
    settled = _fill(account.waiting, book, panel, t, panel.raw.open[t], panel.split[t], costs, steps)
    book.cash += total(fractions * panel.mark[t])
    told += _paid_out("fraction", fractions, panel, t)
    told += _paid_out("closed", _close_silent(book, panel, t), panel, t)
    return replace(
        account,
        cash=book.cash,
        session=panel.sessions[t].astype(date),
        shares=_shares(book, panel),
        traded=book.traded,
        waiting=(),
        settled=(*account.settled, *settled),
        told=(*account.told, *told),
    )


def busy_from(account: Account, panel: Panel, t: int) -> int:
    """The first row from `t` on that can change the account: with orders waiting, `t` itself; else that of a split or a
    dividend of what it holds, of its end, or, where it owes cash or shares, the first of a session; T if there is none.
    In between, only its positions' prices move."""
    if account.waiting:
        return t
    vector = account.vector(panel)
    held = vector != 0
    acts = ((panel.split[t:, held] != 1.0) | (panel.dividend[t:, held] > 0)).any(axis=1)
    ends = silent_from(panel)[held]
    if account.cash < 0 or (vector < 0).any():
        acts |= np.diff(panel.session_number[t - 1 :]) > 0  # t is at least 1: the account stands on the row before it
    rows = [*(t + np.flatnonzero(acts)[:1]), *np.maximum(ends[ends >= 0], t), len(panel.sessions)]
    return int(min(rows))


def fill_at_close(
    account: Account, panel: Panel, costs: Costs, cids: frozenset[str], *, fractional: bool = False
) -> Account:
    """The account with the waiting orders `cids` filled at the close of its own session: ``--fill last``."""
    t = panel.row(np.datetime64(account.session))
    book = Book(account.cash, account.vector(panel), account.traded)
    mine = [ticket for ticket in account.waiting if ticket.cid in cids]
    # The splits of this session are behind us: they came before its open.
    ratio = np.ones(len(panel.symbols))
    settled = _fill(mine, book, panel, t, panel.raw.close[t], ratio, costs, steps_of(account, fractional))
    return replace(
        account,
        cash=book.cash,
        shares=_shares(book, panel),
        traded=book.traded,
        waiting=tuple(ticket for ticket in account.waiting if ticket.cid not in cids),
        settled=(*account.settled, *settled),
    )


def _fill(
    waiting: Sequence[Ticket], book: Book, panel: Panel, t: int, price: Array, ratio: Array, costs: Costs, steps: float
) -> list[Ticket]:
    """Fill what waits at `price` (N,), netted by symbol as one trade, and say of each order what became of it."""
    column = np.array([panel.symbols.index(ticket.symbol) for ticket in waiting], dtype=np.int64)
    wanted = np.array([ticket.quantity for ticket in waiting])
    wanted = after_split(wanted, ratio[column], steps)
    net = np.zeros(len(panel.symbols))
    np.add.at(net, column, wanted)
    market = liquidity(panel, t, costs)
    filled, paid, fees = execute(book, net, price, costs, steps, market)
    limited = np.zeros(len(net), dtype=bool) if market is None else np.abs(net) > market.limit
    parts = np.zeros(len(waiting))
    for n in np.unique(column[np.isfinite(price[column])]):
        parts[column == n] = _allotted(wanted[column == n], filled[n])
    moved = np.zeros(len(net))
    np.add.at(moved, column, np.abs(parts))
    session = panel.sessions[t].astype(date)
    settled = []
    for ticket, n, want, part in zip(waiting, column, wanted, parts, strict=True):
        if part:
            fee, short = float(fees[n] * (abs(part) / moved[n])), abs(part) < abs(want) * (1 - 1e-9)
            settled.append(
                replace(
                    ticket,
                    state=FILLED,
                    filled=float(abs(part)),
                    price=float(paid[n]),
                    commission=fee,
                    fill_session=session,
                    reason=f"cut to the {'volume' if limited[n] else 'cash'} there was" if short else "",
                )
            )
        else:
            why = _why_not(float(want), bool(np.isfinite(price[n])), bool(limited[n]), session)
            settled.append(replace(ticket, state=EXPIRED, reason=why))
    return settled


def _allotted(wanted: Array, filled: float) -> Array:
    """(K,): what each order of one symbol gets of the `filled` net of them all, in whole steps.

    Orders of several strategies may meet in a symbol. Those against the net are crossed in full; those with it
    are served in turn with what was filled and what was crossed.

    >>> _allotted(np.array([10.0, -4.0]), 5.0).tolist()
    [9.0, -4.0]
    """
    side = 1.0 if wanted.sum() >= 0 else -1.0
    along = np.maximum(wanted * side, 0.0)
    against = np.minimum(wanted * side, 0.0)
    there = filled * side - against.sum()
    before = np.cumsum(along) - along
    return np.asarray(side * (against + np.clip(there - before, 0.0, along)))


def _why_not(wanted: float, priced: bool, limited: bool, session: date) -> str:
    if not priced:
        return f"no bar on {bar_text(session)}"
    if limited:
        return "no volume, or none known, to trade in"
    return "no cash" if wanted else "the split left less than a share of it"


def _traded_before(account: Account, panel: Panel, t: int) -> float:
    """The shares traded so far in the month of row `t`."""
    months = panel.sessions[t - 1 : t + 1].astype("datetime64[M]")
    return account.traded if months[0] == months[-1] else 0.0


def _night(book: Book, panel: Panel, t: int, costs: Costs) -> list[Told]:
    """Charge what was lent over the night before row `t`, if one lies there."""
    session = bar_text(panel.sessions[t].astype(date))
    woke = panel.session_number[t] > panel.session_number[t - 1]
    lent = overnight(book, panel.mark[t - 1], costs) if costs.lends and woke else 0.0
    return [("lent", {"session": session, "cash": -lent})] if lent else []


def _actions(panel: Panel, t: int, shares: Array) -> list[Told]:
    session = bar_text(panel.sessions[t].astype(date))
    told: list[Told] = []
    for n in np.flatnonzero((shares != 0) & (panel.split[t] != 1.0)):
        told.append(("split", {"symbol": panel.symbols[n], "session": session, "ratio": float(panel.split[t, n])}))
    for n in np.flatnonzero((shares != 0) & (panel.dividend[t] > 0)):
        cash = float(shares[n] * panel.split[t, n] * panel.dividend[t, n])
        told.append(("dividend", {"symbol": panel.symbols[n], "session": session, "cash": cash}))
    return told


def _close_silent(book: Book, panel: Panel, t: int) -> Array:
    """Pay the holder of what will not trade any more its last price; returns the shares (N,) so closed."""
    since = silent_from(panel)
    gone = (since >= 0) & (t >= since) & (book.shares != 0)
    closed = np.where(gone, book.shares, 0.0)
    book.cash += total(closed * panel.mark[t])
    book.shares = np.where(gone, 0.0, book.shares)
    return closed


def _paid_out(kind: str, quantity: Array, panel: Panel, t: int) -> list[Told]:
    """What was paid out in cash at the mark, without an order: the journal must explain every cent."""
    return [
        (
            kind,
            {
                "symbol": panel.symbols[n],
                "session": bar_text(panel.sessions[t].astype(date)),
                "quantity": float(quantity[n]),
                "price": float(panel.mark[t, n]),
            },
        )
        for n in np.flatnonzero(quantity)
    ]


def _shares(book: Book, panel: Panel) -> dict[str, float]:
    held = zip(panel.symbols, book.shares.tolist(), strict=True)
    return {symbol: quantity for symbol, quantity in held if abs(quantity) > _DUST}
