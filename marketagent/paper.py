"""The local paper account as a command sees it: a sealed stream in, its orders out; what it holds, what it ordered."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import date, datetime
from pathlib import Path

import numpy as np

from marketagent import home as homes
from marketagent import journal, trading
from marketagent.brokers.local import Account, Ticket, advance, fill_at_close
from marketagent.errors import BadConfig, Busy, NoData, Refused
from marketagent.journal import Journal
from marketagent.pipe import Sealed
from marketagent.records import CASH, Decision, Order, Position
from marketagent.show import say
from marketagent.store import runs
from marketagent.store.market import Market, read_market
from marketagent.trading import Stream, Terms

HALT = "HALT"


def trade(home: Path, sealed: Sealed, terms: Terms, now: datetime, *, timeout_s: float) -> list[Order]:
    """Trade the decisions of `sealed`, each once; returns the orders of this run as they stand afterwards."""
    with _account(home, terms, timeout_s, write=True) as book:
        trading.refuse_done(book, sealed.begin.run)
        stream = _stream(sealed, terms)
        if stream is None:
            return []
        cids = trading.trade(book, stream, _market(home, book, stream, terms, timeout_s), terms, now)
        orders = [order(row) for row in _orders(book, terms.account) if row["cid"] in cids]
        everything = [dict(row) for row in _orders(book, terms.account)]
    try:
        runs.copy_orders(home, everything, timeout_s=timeout_s)
    except Busy as error:
        say(f"{error}; the orders are in the journal, the copy for study follows with the next ma trade")
    return orders


def plan(home: Path, sealed: Sealed, terms: Terms, *, timeout_s: float) -> list[Order]:
    """What `trade` would order, by the same steps, with nothing written."""
    with _account(home, terms, timeout_s, write=False) as book:
        trading.refuse_done(book, sealed.begin.run)
        stream = _stream(sealed, terms)
        if stream is None:
            return []
        market = _market(home, book, stream, terms, timeout_s)
        account = trading.read_account(book, terms, stream.session)
        *_, account = account, *trading.caught_up(account, market, stream.session, terms.costs)
        decided = trading.read_decided(book, terms.account, stream)
        trading.refuse_old(account, stream, decided)
        tickets = trading.plan(stream, account, market, terms, decided)
        tickets = _foreseen(account, tickets, market, terms, stream)
    return [_planned(terms.account, stream, ticket) for ticket in tickets]


def positions(home: Path, account: str, *, timeout_s: float) -> list[Position]:
    """Cash and holdings of `account` at its last settled session; raises NoData for an account that never traded."""
    homes.check(home)
    with journal.opened(home, timeout_s=timeout_s) as book:
        owner = book.rows("SELECT cash, settled_through FROM accounts WHERE account = ?", (account,))
        held = book.rows("SELECT * FROM positions WHERE account = ? ORDER BY symbol", (account,))
    if not owner:
        raise NoData(f"account {account} has not traded yet; run: ma score AAPL | ma trade")
    cash, session = owner[0]["cash"], owner[0]["settled_through"]
    equity = cash + sum(row["quantity"] * row["price"] for row in held)

    def position(symbol: str, quantity: float, price: float) -> Position:
        value = quantity * price
        share = value / equity if equity > 0 else None
        return Position(
            account=account, symbol=symbol, quantity=quantity, price=price, value=value, weight=share, session=session
        )

    return [position(row["symbol"], row["quantity"], row["price"]) for row in held] + [position(CASH, cash, 1.0)]


def orders(home: Path, account: str, *, timeout_s: float) -> list[Order]:
    """Every order of `account`, oldest session first."""
    homes.check(home)
    with journal.opened(home, timeout_s=timeout_s) as book:
        return [order(row) for row in _orders(book, account)]


def order(row: sqlite3.Row) -> Order:
    """A row of the journal as a record."""
    return Order(**{field.name: row[field.name] for field in fields(Order) if field.name != "kind"})


@contextmanager
def _account(home: Path, terms: Terms, timeout_s: float, *, write: bool) -> Iterator[Journal]:
    homes.check(home, write=write)
    if not terms.account.replace("-", "").replace("_", "").isalnum() or len(terms.account) > 40:
        raise BadConfig(f"account {terms.account!r} must be letters, digits, - and _, at most 40")
    if write and (home / HALT).exists():
        raise Refused(f"{home / HALT} exists: all trading is stopped; remove the file to go on")
    with trading.locked(home, terms.account, timeout_s), journal.opened(home, timeout_s=timeout_s) as book:
        yield book


def _stream(sealed: Sealed, terms: Terms) -> Stream | None:
    known = {field.name for field in fields(Decision)}
    decisions = [Decision(**{k: v for k, v in record.items() if k in known}) for record in sealed.records]
    return trading.one_session(sealed.begin.run, decisions, allow_short=terms.allow_short)


def _market(home: Path, book: Journal, stream: Stream, terms: Terms, timeout_s: float) -> Market:
    """The prices of all that is decided on, held or waited for; the stream's session must be one of them."""
    account = trading.read_account(book, terms, stream.session)
    symbols = {decision.symbol for decision in stream.decisions} | set(account.shares)
    symbols |= {ticket.symbol for ticket in account.waiting}
    market = read_market(home, sorted(symbols), timeout_s=timeout_s)
    missing = sorted({decision.symbol for decision in stream.decisions} - set(market.panel.symbols))
    if missing:
        raise NoData(f"no bars are stored of {', '.join(missing)}; run: ma fetch {' '.join(missing)}")
    row = market.panel.row(np.datetime64(stream.session))
    if row < 0 or market.panel.sessions[row].astype(date) != stream.session:
        raise NoData(f"no bars are stored for {stream.session}, the session decided on")
    return market


def _foreseen(account: Account, tickets: list[Ticket], market: Market, terms: Terms, stream: Stream) -> list[Ticket]:
    """The planned orders with their fills where the prices for them are stored already."""
    waiting = replace(account, waiting=(*account.waiting, *tickets), settled=())
    mine = frozenset(ticket.cid for ticket in tickets)
    if terms.fill == "last":
        after = fill_at_close(waiting, market.panel, terms.costs, mine)
    elif tickets and account.session == stream.session and trading.next_session(waiting, market):
        after = advance(waiting, market.panel, terms.costs)
    else:
        return tickets
    return [ticket for ticket in after.settled if ticket.cid in mine]


def _planned(account: str, stream: Stream, ticket: Ticket) -> Order:
    return Order(
        cid=ticket.cid,
        account=account,
        strategy=stream.strategy,
        session=stream.session.isoformat(),
        symbol=ticket.symbol,
        side="buy" if ticket.quantity > 0 else "sell",
        quantity=abs(ticket.quantity),
        state="PLANNED",
        filled_quantity=ticket.filled,
        fill_price=ticket.price,
        commission=ticket.commission,
        fill_session=ticket.fill_session.isoformat() if ticket.fill_session else None,
        reason=ticket.reason,
    )


def _orders(book: Journal, account: str) -> list[sqlite3.Row]:
    return book.rows("SELECT * FROM orders WHERE account = ? ORDER BY session, symbol, cid", (account,))
