"""The local paper account: a broker that fills at stored prices, by the very functions of the simulation.

It lives session by session. `advance` takes it from the close of one session to the close of the next: splits and
dividends, then the orders decided on the session before at this one's open (an order lives one day), then
fractions in cash, then positions that have been silent too long. Nothing here reads or writes: the state goes in
and the changed state comes out, so that a plan and the real thing are one computation.
"""

from dataclasses import dataclass, field, replace
from datetime import date

import numpy as np

from marketagent.costs import Costs
from marketagent.orders import FRACTIONAL, WHOLE, cut
from marketagent.panel import Array, Panel
from marketagent.simulate import SILENT_SESSIONS, Book, before_open, execute, total

PENDING, OPEN, FILLED, EXPIRED = "PENDING", "OPEN", "FILLED", "EXPIRED"
WAITING = (PENDING, OPEN)


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
    """Cash in USD, shares by symbol and waiting orders at the close of `session`; `told` is what happened since."""

    name: str
    cash: float
    session: date
    shares: dict[str, float] = field(default_factory=dict)
    waiting: tuple[Ticket, ...] = ()
    settled: tuple[Ticket, ...] = ()
    told: tuple[tuple[str, dict[str, float | str]], ...] = ()

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


def advance(account: Account, panel: Panel, costs: Costs) -> Account:
    """The account one session on; its panel must hold that session and every symbol held or waited for."""
    t = panel.row(np.datetime64(account.session)) + 1
    steps = steps_of(account)
    book = Book(account.cash, account.vector(panel))
    told: list[tuple[str, dict[str, float | str]]] = []
    _tell_actions(told, panel, t, book.shares)
    dividend = np.where(book.shares != 0, panel.dividend[t], 0.0)
    fractions = before_open(book, panel.split[t], dividend, steps)
    settled = _fill(account, book, panel, t, panel.raw.open[t], costs, steps)
    book.cash += total(fractions * panel.mark[t])
    _close_silent(told, book, panel, t)
    return replace(
        account,
        cash=book.cash,
        session=panel.sessions[t].astype(date),
        shares=_shares(book, panel),
        waiting=(),
        settled=(*account.settled, *settled),
        told=(*account.told, *told),
    )


def fill_at_close(account: Account, panel: Panel, costs: Costs, cids: frozenset[str]) -> Account:
    """The account with the waiting orders `cids` filled at the close of its own session: ``--fill last``."""
    t = panel.row(np.datetime64(account.session))
    book = Book(account.cash, account.vector(panel))
    now = replace(account, waiting=tuple(ticket for ticket in account.waiting if ticket.cid in cids))
    settled = _fill(now, book, panel, t, panel.raw.close[t], costs, steps_of(account), split=False)
    return replace(
        account,
        cash=book.cash,
        shares=_shares(book, panel),
        waiting=tuple(ticket for ticket in account.waiting if ticket.cid not in cids),
        settled=(*account.settled, *settled),
    )


def _fill(
    account: Account, book: Book, panel: Panel, t: int, price: Array, costs: Costs, steps: float, *, split: bool = True
) -> list[Ticket]:
    """Fill what waits at `price` (N,), all of it netted by symbol, and say of each order what became of it."""
    column = {symbol: n for n, symbol in enumerate(panel.symbols)}
    wanted = np.zeros(len(column))
    for ticket in account.waiting:
        wanted[column[ticket.symbol]] += ticket.quantity
    ratio = panel.split[t] if split else np.ones(len(column))
    wanted = np.where(ratio == 1.0, wanted, cut(wanted * ratio, steps))
    filled, paid, fees = execute(book, wanted, price, costs, steps)
    session = panel.sessions[t].astype(date)
    settled = []
    for ticket in account.waiting:
        n = column[ticket.symbol]
        part = _part(account, ticket, filled[n], ratio[n])
        if part:
            share = part / filled[n]
            settled.append(
                replace(
                    ticket,
                    state=FILLED,
                    filled=abs(part),
                    price=float(paid[n]),
                    commission=float(fees[n] * share),
                    fill_session=session,
                    reason=_shortfall(part, ticket.quantity * ratio[n]),
                )
            )
        else:
            why = "no cash" if np.isfinite(price[n]) else f"no bar on {session}"
            settled.append(replace(ticket, state=EXPIRED, fill_session=None, reason=why))
    return settled


def _part(account: Account, ticket: Ticket, filled: float, ratio: float) -> float:
    """This order's part of what was filled in its symbol: all of it, unless several orders wait for one symbol."""
    same = [other for other in account.waiting if other.symbol == ticket.symbol]
    if len(same) == 1:
        return float(filled)
    wanted = sum(other.quantity for other in same)
    return float(filled * ticket.quantity / wanted) if wanted else 0.0


def _shortfall(part: float, wanted: float) -> str:
    return "cut to the cash there was" if abs(part) < abs(wanted) * (1 - 1e-9) else ""


def _tell_actions(told: list[tuple[str, dict[str, float | str]]], panel: Panel, t: int, shares: Array) -> None:
    session = str(panel.sessions[t])
    for n in np.flatnonzero((shares != 0) & (panel.split[t] != 1.0)):
        told.append(("split", {"symbol": panel.symbols[n], "session": session, "ratio": float(panel.split[t, n])}))
    for n in np.flatnonzero((shares != 0) & (panel.dividend[t] > 0)):
        cash = float(shares[n] * panel.split[t, n] * panel.dividend[t, n])
        told.append(("dividend", {"symbol": panel.symbols[n], "session": session, "cash": cash}))


def _close_silent(told: list[tuple[str, dict[str, float | str]]], book: Book, panel: Panel, t: int) -> None:
    final = panel.last_bar[-1]
    gone = (final >= 0) & (t - final >= SILENT_SESSIONS) & (book.shares != 0)
    if not gone.any():
        return
    for n in np.flatnonzero(gone):
        told.append(
            (
                "closed",
                {"symbol": panel.symbols[n], "session": str(panel.sessions[t]), "price": float(panel.mark[t, n])},
            )
        )
    book.cash += total(np.where(gone, book.shares, 0.0) * panel.mark[t])
    book.shares = np.where(gone, 0.0, book.shares)


def _shares(book: Book, panel: Panel) -> dict[str, float]:
    return {symbol: float(held) for symbol, held in zip(panel.symbols, book.shares, strict=True) if held}
