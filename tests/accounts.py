"""What the tests of the paper account share: random markets, homes that hold them, journals in memory, sealed streams."""

import csv
import functools
import io
import json
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np

from marketagent import catalog, intake, journal, pipe, scoring, setup, sources, trading
from marketagent.decision import decide
from marketagent.journal import Journal
from marketagent.panel import Panel, empty
from marketagent.records import Decision
from marketagent.store.market import Market
from marketagent.store.staged import Options

NOW = datetime(2026, 11, 20, 21, 5, tzinfo=UTC)
NOWHERE = Path("/nonexistent")  # no home: the built-in strategies
SPLITS = (2.0, 3.0, 1.5, 0.1, 7.0)


def sessions(count: int, first: str = "2011-01-03") -> np.ndarray:
    return np.busday_offset(first, np.arange(count), roll="forward").astype("datetime64[D]")


def random_panel(seed: int, width: int = 6, length: int = 130, days: np.ndarray | None = None) -> Panel:
    """Prices with all that can happen: splits, dividends, days and stretches without a bar, one early end, one late start."""
    rng = np.random.default_rng(seed)
    days = sessions(length) if days is None else days
    panel = empty(days, [f"S{n}" for n in range(width)], ["csv"] * width)
    shape = panel.shape
    growth = np.exp(np.cumsum(rng.normal(0.0005, 0.02, shape), axis=0))
    gap = np.exp(rng.normal(0, 0.01, shape))
    for n in range(width):
        for t in rng.integers(1, len(days), 2 if n % 2 else 1):
            panel.split[t, n] = rng.choice(SPLITS)
        panel.dividend[rng.integers(1, len(days), 3), n] = np.round(rng.uniform(0.05, 1.5, 3), 2)
    base = rng.uniform(8, 300, width) * growth / np.cumprod(panel.split, axis=0)
    panel.raw.close[:] = np.maximum(np.round(base, 2), 0.01)
    panel.raw.open[:] = np.maximum(np.round(base * gap, 2), 0.01)
    panel.raw.high[:] = np.maximum(panel.raw.open, panel.raw.close)
    panel.raw.low[:] = np.minimum(panel.raw.open, panel.raw.close)
    panel.raw.volume[:] = 1e6
    missing = rng.random(shape) < 0.03
    start = int(rng.integers(10, len(days) - 20))
    missing[start : start + 7, 1] = True  # a stretch longer than the patience of the simulation
    missing[int(len(days) * 0.6) :, 2] = True  # delisted
    missing[: int(len(days) * 0.3), 3] = True  # listed later
    missing[[0, -1], 0] = False  # the panel has the market's span
    for name in ("open", "high", "low", "close", "volume"):
        getattr(panel.raw, name)[missing] = np.nan
    return panel


def market_of(panel: Panel) -> Market:
    span = (panel.days[0].astype(date), panel.days[-1].astype(date))
    return Market(panel, {symbol: [span] for symbol in panel.symbols})


def csv_text(panel: Panel, rows: Iterable[int] | None = None) -> str:
    """The panel as a file with its splits and dividends; an action on a day without a bar cannot be told so."""
    out = io.StringIO()
    write = csv.writer(out).writerow
    write(["symbol", "date", "open", "high", "low", "close", "volume", "dividend", "split"])
    raw = panel.raw
    for t in range(len(panel.sessions)) if rows is None else rows:
        for n in np.flatnonzero(panel.has_bar[t]):
            prices = [float(array[t, n]) for array in (raw.open, raw.high, raw.low, raw.close, raw.volume)]
            write([panel.symbols[n], panel.sessions[t], *prices, panel.dividend[t, n], panel.split[t, n]])
    return out.getvalue()


@functools.cache
def _empty_home() -> Path:
    home = Path(tempfile.mkdtemp(prefix="ma-test-")) / "home"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exchange_calendars and a pandas newer than it
        setup.ready(home, NOW, timeout_s=60)  # with the calendar, which takes a second: once a test process
    return home


def new_home(folder: Path) -> Path:
    home = folder / "home"
    shutil.copytree(_empty_home(), home)
    home.chmod(0o700)
    return home


def store(home: Path, text: str, name: str = "prices.csv", now: datetime = NOW) -> None:
    file = home.parent / name
    file.write_text(text)
    intake.take_all(home, sources.load("csv"), [str(file)], Options(), now, 60)


@functools.cache
def _empty_journal() -> sqlite3.Connection:
    home = Path(tempfile.mkdtemp(prefix="ma-test-"))
    home.chmod(0o700)
    journal.create(home)
    return sqlite3.connect(home / journal.FILE)


def memory_journal(kind: type[Journal] = Journal) -> Journal:
    """A real journal, only not on a disk: for the tests that trade thousands of sessions."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    _empty_journal().backup(connection)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    return kind(connection, Path("memory"), 1.0)


def sealed(records: Iterable[object], run: str, *, at: datetime = NOW) -> pipe.Sealed:
    """`records` through a real sealed stream and back."""
    return pipe.read(io.BytesIO(sealed_bytes(records, run, at=at)))


def sealed_bytes(records: Iterable[object], run: str, *, at: datetime = NOW, fail: Sequence[str] = ()) -> bytes:
    text = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with pipe.sealed("score", "ndjson", run=run, at=at, stdout=text) as out:
        for record in records:
            out.write(record)
        for symbol in fail:
            out.fail(symbol, "no bar")
    return text.buffer.getvalue()


def scored(panel: Panel, strategy: str, values: dict[str, str], t: int) -> list[object]:
    """What ``ma score --as-of`` decides on row `t`: from what was known then, on the symbols with a bar."""
    loaded = catalog.load(strategy, NOWHERE)
    chosen = loaded.configured(values)
    decisions = decide(chosen, panel.head(t + 1))
    found = scoring.records(decisions, loaded, chosen.params())
    return [record for record, there in zip(found, panel.has_bar[t], strict=True) if there]


def traded(book: Journal, panel: Panel, records: list[object], terms: trading.Terms, run: str) -> list[str]:
    """One run of the account: the stream read, checked and traded."""
    read = sealed(records, run)
    decisions = [Decision(**{k: v for k, v in one.items() if k not in ("i", "kind")}) for one in read.records]
    stream = trading.one_session(run, decisions, allow_short=terms.allow_short)
    return [] if stream is None else trading.trade(book, stream, market_of(panel), terms, NOW)


TABLES = ("accounts", "positions", "streams", "orders", "decided", "events")


def ledger(book: Journal) -> dict[str, list[tuple]]:
    """Everything in the journal but the instants and the run ids of repeated runs."""
    columns = {
        "accounts": "account, cash, settled_through",
        "positions": "account, symbol, quantity, price, last_session",
        "streams": "run, account, state, strategy, session",
        "orders": "cid, account, strategy, session, symbol, side, quantity, state, filled_quantity, fill_price,"
        " commission, fill_session, reason, run",
        "decided": "account, strategy, session, symbol, run, cid",
        "events": "id, cid, account, kind, detail",
    }
    return {table: [tuple(row) for row in book.rows(f"SELECT {columns[table]} FROM {table}")] for table in TABLES}


def state(book: Journal, account: str = "paper") -> tuple[float, dict[str, float]]:
    """Cash and shares by symbol."""
    cash = book.rows("SELECT cash FROM accounts WHERE account = ?", (account,))
    held = book.rows("SELECT symbol, quantity FROM positions WHERE account = ?", (account,))
    return (cash[0]["cash"] if cash else float("nan")), {row["symbol"]: row["quantity"] for row in held}


def explained(book, account="paper"):
    """Cash and shares recomputed from nothing but the journal's orders and events."""
    cash, shares = 0.0, {}
    filled = {row["cid"]: row for row in book.rows("SELECT * FROM orders WHERE account = ?", (account,))}
    for event in book.rows("SELECT * FROM events WHERE account = ? ORDER BY id", (account,)):
        detail = json.loads(event["detail"])
        symbol = detail.get("symbol")
        if event["kind"] == "opened":
            cash += detail["cash"]
        elif event["kind"] == "split":
            shares[symbol] = shares[symbol] * detail["ratio"]
        elif event["kind"] == "dividend":
            cash += detail["cash"]
        elif event["kind"] in ("fraction", "closed"):
            cash += detail["quantity"] * detail["price"]
            shares[symbol] -= detail["quantity"]
        elif event["kind"] == "filled":
            order = filled[event["cid"]]
            signed = order["filled_quantity"] * (1 if order["side"] == "buy" else -1)
            cash -= signed * order["fill_price"] + order["commission"]
            shares[order["symbol"]] = shares.get(order["symbol"], 0.0) + signed
    return cash, {
        symbol: held for symbol, held in shares.items() if abs(held) > 5e-7
    }  # half a step: less than that is no share


def assert_sound(book: Journal, account: str = "paper") -> None:
    """What holds of a ledger at every instant, also right after a kill."""
    events: dict[str, list[str]] = {}
    for row in book.rows("SELECT cid, kind FROM events WHERE cid IS NOT NULL ORDER BY id"):
        events.setdefault(row["cid"], []).append(row["kind"])
    orders = book.rows("SELECT * FROM orders")
    for row in orders:
        told = events.pop(row["cid"])
        assert told[0] == "intent"  # no order without an intent written down before
        assert len(told) == len(set(told))  # nothing happens to an order twice
        ends = {"FILLED": "filled", "EXPIRED": "expired", "OPEN": "accepted", "PENDING": "intent"}
        assert told[-1] == ends[row["state"]]
    assert events == {}
    keys = [(row["account"], row["strategy"], row["session"], row["symbol"]) for row in orders]
    assert len(keys) == len(set(keys))  # never two orders for one decision
    decided = {row["cid"] for row in book.rows("SELECT cid FROM decided WHERE cid IS NOT NULL")}
    assert decided == {row["cid"] for row in orders}
    if book.rows("SELECT 1 FROM accounts WHERE account = ?", (account,)):
        cash, shares = state(book, account)
        found_cash, found_shares = explained(book, account)
        assert abs(found_cash - cash) < 1e-6
        assert found_shares.keys() == shares.keys()
        assert all(abs(found_shares[symbol] - held) < 1e-6 for symbol, held in shares.items())
