"""The local paper account as a command sees it: a sealed stream in, its orders out; what it holds, what it ordered."""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from marketagent import home as homes
from marketagent import journal, trading
from marketagent.brokers.local import Account, Ticket, advance, fill_at_close
from marketagent.decided import Stream, one_session
from marketagent.errors import BadConfig, MarketAgentError, NoData, Stopped
from marketagent.journal import Journal
from marketagent.pipe import Sealed
from marketagent.records import CASH, Decision, Order, Position
from marketagent.show import say
from marketagent.store import runs
from marketagent.store.market import Market, read_market
from marketagent.timeframes import DAY, bar_of, bar_text, session_of
from marketagent.trading import Terms

HALT = "HALT"
_LOOK_BACK = timedelta(days=14)  # more than the sessions after which what does not trade is gone (simulate, rule 4)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")


def trade(home: Path, sealed: Sealed, terms: Terms, now: datetime, *, timeout_s: float) -> list[Order]:
    """Trade the decisions of `sealed`, each once; returns the orders of this run as they stand afterwards."""
    with _account(home, terms, timeout_s, write=True) as book:
        cids = _traded(home, book, sealed, terms, now, timeout_s)
        if cids is None:
            return []
        everything = _orders(book, terms.account)
        _copy(home, everything, timeout_s)
    return [order(row) for row in everything if row["cid"] in cids]


def trade_live(home: Path, sealed: Sealed, terms: Terms, now: datetime, *, timeout_s: float) -> list[Order]:
    """One round of a series: `trade`, less the copy for study (see `copy_round`). The orders that the rounds before left
    waiting are among the result as they were settled now."""
    with _account(home, terms, timeout_s, write=True) as book:
        if _traded(home, book, sealed, terms, now, timeout_s) is None:
            return []
        return [order(row) for row in _orders(book, terms.account, changed_at=now)]


def copy_round(home: Path, account: str, at: datetime, *, timeout_s: float) -> None:
    """Bring the copy for study up to date with the orders that the round of the instant `at` changed."""
    with journal.opened(home, timeout_s=timeout_s) as book:
        changed = _orders(book, account, changed_at=at)
    _copy(home, changed, timeout_s)


def _traded(
    home: Path, book: Journal, sealed: Sealed, terms: Terms, now: datetime, timeout_s: float
) -> list[str] | None:
    """The client order ids of the stream's orders, None where there was nothing to decide."""
    trading.refuse_done(book, sealed.begin.run, terms.account)
    stream = _stream(sealed, terms)
    if stream is None:
        return None
    trading.refuse_mixed(book, stream, terms.account)
    _say_decided(book, stream, terms)
    return trading.trade(book, stream, _market(home, book, stream, terms, timeout_s), terms, now)


def plan(home: Path, sealed: Sealed, terms: Terms, *, timeout_s: float) -> list[Order]:
    """What `trade` would order, by the same steps, with nothing written."""
    with _account(home, terms, timeout_s, write=False) as book:
        trading.refuse_done(book, sealed.begin.run, terms.account)
        stream = _stream(sealed, terms)
        if stream is None:
            return []
        trading.refuse_mixed(book, stream, terms.account)
        _say_decided(book, stream, terms)
        market = _market(home, book, stream, terms, timeout_s)
        account = trading.read_account(book, terms, stream.session)
        if trading.is_begun(book, stream):
            rows = book.rows("SELECT cid FROM orders WHERE run = ?", (stream.run,))
            mine = frozenset(row["cid"] for row in rows)
        else:
            decided = trading.read_decided(book, terms.account, stream)
            trading.refuse_stale(account, stream, market, decided)
            *_, account = account, *trading.caught_up(account, market, stream.session, terms)
            tickets = trading.plan(stream, account, market, terms, decided)
            account = replace(account, waiting=(*account.waiting, *tickets))
            mine = frozenset(ticket.cid for ticket in tickets)
    foreseen = _foreseen(replace(account, settled=()), mine, market, terms, stream)
    return [_planned(terms.account, stream, ticket) for ticket in sorted(foreseen, key=lambda each: each.symbol)]


def positions(home: Path, account: str, *, timeout_s: float) -> list[Position]:
    """Cash and holdings of `account` at its last settled session; raises NoData for an account that never traded."""
    homes.check(home)
    with journal.opened(home, timeout_s=timeout_s) as book:
        owner = book.rows("SELECT cash, settled_through FROM accounts WHERE account = ?", (account,))
        held = book.rows("SELECT * FROM positions WHERE account = ? ORDER BY symbol", (account,))
    if not owner:
        raise _untraded(account)
    cash, (session, ts) = owner[0]["cash"], _session_and_ts(owner[0]["settled_through"])
    equity = cash + sum(row["quantity"] * row["price"] for row in held)

    def position(symbol: str, quantity: float, price: float) -> Position:
        value = quantity * price
        share = value / equity if equity > 0 else None
        return Position(
            account=account,
            symbol=symbol,
            quantity=quantity,
            price=price,
            value=value,
            weight=share,
            session=session,
            ts=ts,
        )

    return [position(row["symbol"], row["quantity"], row["price"]) for row in held] + [position(CASH, cash, 1.0)]


def orders(home: Path, account: str, *, timeout_s: float) -> list[Order]:
    """Every order of `account`, oldest session first; raises NoData for an account that never traded."""
    homes.check(home)
    with journal.opened(home, timeout_s=timeout_s) as book:
        known = book.rows("SELECT 1 FROM accounts WHERE account = ?", (account,))
        found = _orders(book, account)
    if not known:
        raise _untraded(account)
    return [order(row) for row in found]


def order(row: sqlite3.Row) -> Order:
    """A row of the journal as a record."""
    named = _named(row)
    return Order(**{field.name: named[field.name] for field in fields(Order) if field.name != "kind"})


def _named(row: sqlite3.Row) -> dict[str, Any]:
    """A row of the journal with its bars as records name them: the session, and the instant within it."""
    session, ts = _session_and_ts(row["session"])
    fill_session, fill_ts = _session_and_ts(row["fill_session"])
    return {**dict(row), "session": session, "ts": ts, "fill_session": fill_session, "fill_ts": fill_ts}


def _session_and_ts(bar: str | None) -> tuple[str | None, str | None]:
    if bar is None:
        return None, None
    session = session_of(bar_of(bar)).isoformat()
    return session, None if bar == session else bar


def _untraded(account: str) -> NoData:
    return NoData(f"account {account[:40]} has not traded yet; run: ma score AAPL | ma trade")


@contextmanager
def _account(home: Path, terms: Terms, timeout_s: float, *, write: bool) -> Iterator[Journal]:
    homes.check(home, write=write)
    if not _NAME.fullmatch(terms.account):
        raise BadConfig(f"account {terms.account[:60]!a} must be ASCII letters, digits, - and _, at most 40")
    with trading.locked(home, terms.account, timeout_s):
        # Looked for with the account locked: whoever stopped trading while we waited for it meant us, too.
        if write and (home / HALT).exists():
            raise Stopped(f"{home / HALT} exists: all trading is stopped; remove the file to go on")
        with journal.opened(home, timeout_s=timeout_s) as book:
            yield book


def _say_decided(book: Journal, stream: Stream, terms: Terms) -> None:
    """Say that decisions were traded before: whoever scores again with other parameters would wonder."""
    before = trading.read_decided(book, terms.account, stream) & {each.symbol for each in stream.decisions}
    if before and not trading.is_begun(book, stream):
        say(
            f"{len(before)} of {len(stream.decisions)} decisions of {stream.strategy} on {bar_text(stream.session)} were traded"
            " before and count once: nothing more is ordered for them"
        )


def _copy(home: Path, rows: Sequence[sqlite3.Row], timeout_s: float) -> None:
    try:
        runs.copy_orders(home, [_named(row) for row in rows], timeout_s=timeout_s)
    except MarketAgentError as error:
        # The orders are placed and in the journal: that their copy for study failed must not read as if they were not.
        say(f"{error}; the orders are in the journal, the copy for study follows with the next ma trade")


def _stream(sealed: Sealed, terms: Terms) -> Stream | None:
    known = {field.name for field in fields(Decision)}
    decisions = [Decision(**{k: v for k, v in record.items() if k in known}) for record in sealed.records]
    return one_session(sealed.begin.run, decisions, allow_short=terms.allow_short)


def _market(home: Path, book: Journal, stream: Stream, terms: Terms, timeout_s: float) -> Market:
    """The prices of all that is decided on, held or waited for; the stream's session must be one of them."""
    account = trading.read_account(book, terms, stream.session)
    held = {*account.shares, *(ticket.symbol for ticket in account.waiting)}
    symbols = {decision.symbol for decision in stream.decisions} | held
    # Of minutes only those the account has still to live through, and the newest prices before: years of them are many.
    since = None if stream.timeframe == DAY else session_of(account.session) - _LOOK_BACK
    market = read_market(home, sorted(symbols), timeframe=stream.timeframe, since=since, timeout_s=timeout_s)
    # A store made anew may lack what the account holds: it would be valued, or written down, without it.
    market.require(account.session, held)
    missing = sorted({decision.symbol for decision in stream.decisions} - set(market.panel.symbols))
    if missing:
        raise NoData(f"no bars are stored of {', '.join(missing)}; run: ma fetch {' '.join(missing)}")
    row = market.panel.row(np.datetime64(stream.session))
    if row < 0 or market.panel.sessions[row].astype(date) != stream.session:
        what = "session" if stream.timeframe == DAY else f"{stream.timeframe} bar"
        raise NoData(f"no bars are stored for {bar_text(stream.session)}, the {what} decided on")
    return market


def _foreseen(account: Account, mine: frozenset[str], market: Market, terms: Terms, stream: Stream) -> list[Ticket]:
    """The orders `mine` of those that wait, with their fills where the prices for them are stored already."""
    waiting = [ticket for ticket in account.waiting if ticket.cid in mine]
    if not waiting or account.session != stream.session:
        return waiting
    if terms.fill == "last":
        after = fill_at_close(account, market.panel, terms.costs, mine, fractional=terms.fractional)
    elif trading.next_session(account, market):
        after = advance(account, market.panel, terms.costs, fractional=terms.fractional)
    else:
        return waiting
    return [ticket for ticket in after.settled if ticket.cid in mine]


def _planned(account: str, stream: Stream, ticket: Ticket) -> Order:
    session, ts = _session_and_ts(bar_text(stream.session))
    fill_session, fill_ts = _session_and_ts(bar_text(ticket.fill_session) if ticket.fill_session else None)
    return Order(
        cid=ticket.cid,
        account=account,
        strategy=stream.strategy,
        session=session or "",
        symbol=ticket.symbol,
        side="buy" if ticket.quantity > 0 else "sell",
        quantity=abs(ticket.quantity),
        state="PLANNED",
        filled_quantity=ticket.filled,
        fill_price=ticket.price,
        commission=ticket.commission,
        fill_session=fill_session,
        reason=ticket.reason,
        ts=ts,
        fill_ts=fill_ts,
    )


def _orders(book: Journal, account: str, *, changed_at: datetime | None = None) -> list[sqlite3.Row]:
    """The orders of `account`, or those that the run of this instant was the last to change."""
    at = None if changed_at is None else trading.instant(changed_at)
    return book.rows(
        "SELECT * FROM orders WHERE account = ? AND updated_at = coalesce(?, updated_at) ORDER BY session, symbol, cid",
        (account, at),
    )
