"""``ma trade`` between the stream and the broker: what to order, written down before it happens, done once.

    lock the account -> live through the sessions up to the decision's -> plan -> write intents -> fill -> done

A session here is the bar that was decided on, by its name (see ``timeframes``): a date, or within a day an instant; an
account lives by bars of one timeframe.

Every arrow is one durable transaction in the journal, and each can be the last before a kill: the next run goes
on from there. A decision (account, strategy, session, symbol) leads to one order at most, whoever sends it again and
however it is sized then: its first reading counts.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path

import numpy as np

from marketagent.brokers.local import (
    BEFORE_OPEN,
    OPEN,
    PENDING,
    Account,
    Ticket,
    advance,
    busy_from,
    fill_at_close,
    steps_of,
)
from marketagent.costs import Costs
from marketagent.decided import Stream, one_session
from marketagent.errors import NoData, Refused, Stopped
from marketagent.journal import Journal
from marketagent.orders import FRACTIONAL, order_quantities, snap
from marketagent.store.market import Market
from marketagent.store.turnstile import held
from marketagent.timeframes import DAY, bar_of, bar_text

__all__ = ["FILLS", "Stream", "Terms", "one_session"]

FILLS = ("next-open", "last")


@dataclass(frozen=True)
class Terms:
    """How an account trades: its name, opening cash in USD, costs, parts of shares, shorts, and when it fills."""

    account: str
    cash: float
    costs: Costs
    fractional: bool = False
    allow_short: bool = False
    fill: str = "next-open"


@contextmanager
def locked(home: Path, account: str, timeout_s: float) -> Iterator[None]:
    """Alone with the account; Busy names who has it."""
    with held(home / f"account-{account}", timeout_s):
        yield


def refuse_done(journal: Journal, run: str, account: str) -> None:
    """Refuse a run that was traded to its end before, or that another account has begun to trade."""
    rows = journal.rows("SELECT account, state, at FROM streams WHERE run = ?", (run,))
    if rows and rows[0]["state"] == "done":
        raise Refused(f"run {run} was traded already, at {rows[0]['at']}; nothing was done")
    if rows and rows[0]["account"] != account:
        raise Refused(f"run {run} was begun on account {rows[0]['account']}; a run is traded on one account")


def refuse_mixed(journal: Journal, stream: Stream, account: str) -> None:
    """Refuse decisions on bars of another timeframe than the account lives by: it would jump between two times."""
    rows = journal.rows("SELECT timeframe FROM accounts WHERE account = ?", (account,))
    if rows and rows[0]["timeframe"] != stream.timeframe:
        raise Stopped(
            f"account {account} trades decisions on {rows[0]['timeframe']} bars, these are on {stream.timeframe} bars;"
            f" give them an account of their own: --account {account}-{stream.timeframe}"
        )


def read_account(journal: Journal, terms: Terms, session: date) -> Account:
    """The account as the journal has it; a new one starts with its cash on the close of `session`."""
    rows = journal.rows("SELECT cash, settled_through FROM accounts WHERE account = ?", (terms.account,))
    if not rows:
        return Account(terms.account, terms.cash, session)
    positions = journal.rows("SELECT symbol, quantity FROM positions WHERE account = ?", (terms.account,))
    waiting = journal.rows(
        "SELECT * FROM orders WHERE account = ? AND state IN ('PENDING', 'OPEN') ORDER BY symbol, cid", (terms.account,)
    )
    return Account(
        terms.account,
        rows[0]["cash"],
        bar_of(rows[0]["settled_through"]),
        {row["symbol"]: row["quantity"] for row in positions},
        tuple(_ticket(row) for row in waiting),
        traded=_traded(journal, terms.account, rows[0]["settled_through"][:7]),
    )


def _traded(journal: Journal, account: str, month: str) -> float:
    """The shares that `account` bought and sold in `month` (2026-11); orders crossed within it count as traded."""
    rows = journal.rows(
        "SELECT sum(filled_quantity) AS traded FROM orders WHERE account = ? AND substr(fill_session, 1, 7) = ?",
        (account, month),
    )
    return float(snap(np.array(rows[0]["traded"] or 0.0), FRACTIONAL))


def plan(stream: Stream, account: Account, market: Market, terms: Terms, decided: frozenset[str]) -> list[Ticket]:
    """The orders that bring the account to its targets, on the close of the stream's session; the account stands there."""
    panel = market.panel
    t = panel.row(np.datetime64(stream.session))
    column = {symbol: n for n, symbol in enumerate(panel.symbols)}
    targets, band = np.full(len(column), np.nan), 0.0
    for decision in stream.decisions:
        if decision.symbol not in decided and decision.weight is not None:
            targets[column[decision.symbol]] = decision.weight
            band = decision.band
    coming, free = account.vector(panel), account.vector(panel)
    for ticket in account.waiting:
        coming[column[ticket.symbol]] += ticket.quantity
        free[column[ticket.symbol]] += min(ticket.quantity, 0.0)
    close = np.where(panel.has_bar[t], panel.raw.close[t], np.nan)
    steps = steps_of(account, terms.fractional)
    quantity = order_quantities(targets, coming, close, account.equity(panel), band=band, steps=steps)
    if terms.fill == "last" and not terms.allow_short:
        # What another order is still to buy at the next open cannot be sold at this close.
        quantity = np.maximum(quantity, -np.maximum(free, 0.0))
    return [
        Ticket(order_id(account.name, stream, symbol, quantity[n]), symbol, stream.session, float(quantity[n]))
        for symbol, n in column.items()
        if quantity[n]
    ]


def order_id(account: str, stream: Stream, symbol: str, quantity: float) -> str:
    """The client order id of a decision: the same whenever, however often and at whatever size it is computed."""
    side = "buy" if quantity > 0 else "sell"
    key = "|".join([account, stream.strategy, bar_text(stream.session), symbol, side, "1"])
    return "ma-" + hashlib.sha256(key.encode()).hexdigest()[:28]


def caught_up(account: Account, market: Market, through: date, terms: Terms) -> Iterator[Account]:
    """The account at the close of each session up to `through`, one after the other; within one, at the bars on which
    anything happens to it."""
    panel, number = market.panel, market.panel.session_number
    before, last = panel.row(np.datetime64(account.session)), panel.row(np.datetime64(through))
    while before < last:
        session_end = int(np.searchsorted(number, number[before + 1], side="right")) - 1
        t = min(busy_from(account, panel, before + 1), session_end, last)
        market.require(panel.days[t].astype(date), {*account.shares, *(ticket.symbol for ticket in account.waiting)})
        account = replace(account, settled=(), told=(), session=panel.sessions[t - 1].astype(date))
        account = advance(account, panel, terms.costs, fractional=terms.fractional)
        yield account
        before = t


def next_session(account: Account, market: Market) -> date | None:
    """The session after the account's, if all it holds or waits for is known of that day; None if it is not yet.

    Within a day it never is: of the next minute some bars may be stored and others still on their way. Orders wait
    there for the next decisions, which are made when all have come.
    """
    if market.panel.timeframe != DAY:
        return None
    later = market.panel.sessions[market.panel.sessions > np.datetime64(account.session)]
    if not len(later):
        return None
    session: date = later[0].astype(date)
    try:
        market.require(session, {*account.shares, *(ticket.symbol for ticket in account.waiting)})
    except NoData:
        return None  # not fetched yet: the orders wait, and the next run looks again
    return session


def trade(journal: Journal, stream: Stream, market: Market, terms: Terms, now: datetime) -> list[str]:
    """Bring the stream's decisions to the account, each once; returns the client order ids of the stream's orders.

    Call it with the account locked. Raises Refused for decisions older than the account or not made on the stored
    prices, with nothing changed; NoData where prices for what is held are missing, which leaves nothing half done.
    """
    refuse_mixed(journal, stream, terms.account)
    account = read_account(journal, terms, stream.session)
    if not is_begun(journal, stream):
        decided = read_decided(journal, terms.account, stream)
        refuse_stale(account, stream, market, decided)
        account = _live_to(journal, account, market, stream.session, terms, now)
        orders = plan(stream, account, market, terms, decided)
        _write_intents(journal, stream, account, orders, decided, now)
    _accept(journal, terms.account, now)
    _fill(journal, stream, market, terms, now)
    with journal.transaction():
        journal.execute("UPDATE streams SET state = 'done', at = ? WHERE run = ?", (instant(now), stream.run))
    return [row["cid"] for row in journal.rows("SELECT cid FROM orders WHERE run = ? ORDER BY symbol", (stream.run,))]


def is_begun(journal: Journal, stream: Stream) -> bool:
    """Whether the intents of this very run are written down: then it only goes on from there."""
    return bool(journal.rows("SELECT 1 FROM streams WHERE run = ?", (stream.run,)))


def refuse_stale(account: Account, stream: Stream, market: Market, decided: frozenset[str]) -> None:
    """Refuse decisions of a session the account has left behind, or on a close that is not the stored one.

    What was traded before is not asked again: it will not be traded a second time.
    """
    new = [decision for decision in stream.decisions if decision.symbol not in decided]
    if account.session > stream.session and new:
        raise Refused(
            f"decisions of {bar_text(stream.session)} are older than the account {account.name}, which has lived through"
            f" {bar_text(account.session)}; run: ma score again"
        )
    panel = market.panel
    row = panel.row(np.datetime64(stream.session))
    for decision in new:
        close = float(panel.raw.close[row, panel.symbols.index(decision.symbol)])
        if decision.weight is not None and decision.close != close:
            # A correction in between, or another source: its splits may lie on other days than the account's.
            source = panel.sources[panel.symbols.index(decision.symbol)]
            raise Refused(
                f"{decision.symbol} was decided on at a close of {decision.close} ({decision.source}), the store has"
                f" {close} ({source}) for {bar_text(stream.session)}; run: ma score again"
            )


def read_decided(journal: Journal, account: str, stream: Stream) -> frozenset[str]:
    """The symbols that this strategy's decisions of this session were already traded for."""
    rows = journal.rows(
        "SELECT symbol FROM decided WHERE account = ? AND strategy = ? AND session = ?",
        (account, stream.strategy, bar_text(stream.session)),
    )
    return frozenset(row["symbol"] for row in rows)


def _live_to(journal: Journal, account: Account, market: Market, session: date, terms: Terms, now: datetime) -> Account:
    for account in caught_up(account, market, session, terms):  # noqa: B020  (each step follows from the last)
        _write_account(journal, account, market, now)
    return account


def _fill(journal: Journal, stream: Stream, market: Market, terms: Terms, now: datetime) -> None:
    account = read_account(journal, terms, stream.session)
    if account.session != stream.session:
        return
    if terms.fill == "last":
        cids = [row["cid"] for row in journal.rows("SELECT cid FROM orders WHERE run = ?", (stream.run,))]
        mine = frozenset(cids) & {ticket.cid for ticket in account.waiting}
        if mine:
            after = fill_at_close(account, market.panel, terms.costs, mine, fractional=terms.fractional)
            _write_account(journal, after, market, now)
    elif account.waiting and next_session(account, market):
        _write_account(journal, advance(account, market.panel, terms.costs, fractional=terms.fractional), market, now)


def _write_intents(
    journal: Journal,
    stream: Stream,
    account: Account,
    orders: Sequence[Ticket],
    decided: frozenset[str],
    now: datetime,
) -> None:
    """All of a stream's intents in one transaction, before anything is done about any of them."""
    at, session = instant(now), bar_text(stream.session)
    cids = {ticket.symbol: ticket.cid for ticket in orders}
    with journal.transaction():
        if not journal.rows("SELECT 1 FROM accounts WHERE account = ?", (account.name,)):
            row = (account.name, account.cash, session, at, stream.timeframe)
            journal.execute("INSERT INTO accounts VALUES (?, ?, ?, ?, ?)", row)
            _event(journal, account.name, at, "opened", {"cash": account.cash, "session": session}, None)
        journal.execute(
            "INSERT INTO streams VALUES (?, ?, 'planned', ?, ?, ?)",
            (stream.run, account.name, stream.strategy, session, at),
        )
        for ticket in orders:
            side = "buy" if ticket.quantity > 0 else "sell"
            journal.execute(
                "INSERT INTO orders (cid, account, strategy, session, symbol, side, quantity, state, run, created_at,"
                " updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    ticket.cid, account.name, stream.strategy, session, ticket.symbol, side, abs(ticket.quantity), PENDING,
                    stream.run, at, at,
                ),
            )  # fmt: skip
            _event(journal, account.name, at, "intent", {"quantity": ticket.quantity}, ticket.cid)
        for decision in stream.decisions:
            if decision.symbol not in decided:
                journal.execute(
                    "INSERT INTO decided VALUES (?, ?, ?, ?, ?, ?)",
                    (account.name, stream.strategy, session, decision.symbol, stream.run, cids.get(decision.symbol)),
                )


def _accept(journal: Journal, account: str, now: datetime) -> None:
    """The local broker takes every order that waits to be sent."""
    at = instant(now)
    with journal.transaction():
        rows = journal.rows("SELECT cid FROM orders WHERE account = ? AND state = ?", (account, PENDING))
        for row in rows:
            journal.execute("UPDATE orders SET state = ?, updated_at = ? WHERE cid = ?", (OPEN, at, row["cid"]))
            _event(journal, account, at, "accepted", {}, row["cid"])


def _write_account(journal: Journal, account: Account, market: Market, now: datetime) -> None:
    """One step of the account in one transaction: cash, positions, the orders it settled, and what happened."""
    at = instant(now)
    t = market.panel.row(np.datetime64(account.session))
    mark = dict(zip(market.panel.symbols, market.panel.mark[t].tolist(), strict=True))
    with journal.transaction():
        journal.execute(
            "UPDATE accounts SET cash = ?, settled_through = ? WHERE account = ?",
            (account.cash, bar_text(account.session), account.name),
        )
        journal.execute("DELETE FROM positions WHERE account = ?", (account.name,))
        for symbol, quantity in account.shares.items():
            journal.execute(
                "INSERT INTO positions VALUES (?, ?, ?, ?, ?)",
                (account.name, symbol, quantity, mark[symbol], bar_text(account.session)),
            )
        _tell(journal, account, at, before_open=True)
        for ticket in account.settled:
            journal.execute(
                "UPDATE orders SET state = ?, filled_quantity = ?, fill_price = ?, commission = ?, fill_session = ?,"
                " reason = ?, updated_at = ? WHERE cid = ?",
                (
                    ticket.state, ticket.filled, ticket.price, ticket.commission,
                    ticket.fill_session and bar_text(ticket.fill_session), ticket.reason, at, ticket.cid,
                ),
            )  # fmt: skip
            _event(journal, account.name, at, ticket.state.lower(), {"filled": ticket.filled}, ticket.cid)
        _tell(journal, account, at, before_open=False)


def _tell(journal: Journal, account: Account, at: str, *, before_open: bool) -> None:
    """Events in the order they happened, so that the ledger can be read from the top."""
    for kind, detail in account.told:
        if (kind in BEFORE_OPEN) == before_open:
            _event(journal, account.name, at, kind, detail, None)


def _event(journal: Journal, account: str, at: str, kind: str, detail: dict[str, float | str], cid: str | None) -> None:
    journal.execute(
        "INSERT INTO events (cid, account, at, kind, detail) VALUES (?, ?, ?, ?, ?)",
        (cid, account, at, kind, json.dumps(detail)),
    )


def _ticket(row: object) -> Ticket:
    sign = 1 if row["side"] == "buy" else -1  # type: ignore[index]  # an sqlite3.Row
    return Ticket(row["cid"], row["symbol"], bar_of(row["session"]), sign * row["quantity"], row["state"])  # type: ignore[index]  # as above


def instant(now: datetime) -> str:
    """`now` as the journal writes it."""
    return now.isoformat().replace("+00:00", "Z")
