"""Polygon's reference data: tickers as of a date, their names, splits and dividends, exchanges, the market's status.

What was announced by now is shown, a split or a dividend of the next days too, as the real one does; nothing later.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, TypeVar

from marketagent.sandbox.market import Asset, Dividend, Split
from marketagent.sandbox.names import history, spans
from marketagent.sandbox.names import ticker as ticker_of
from marketagent.sandbox.polygon_plan import Asked, bad, day, not_found
from marketagent.sandbox.world import NEW_YORK

DECLARED = timedelta(days=14)  # before the ex-date, dividends and splits alike
_FREQUENCY = 4
_EXCHANGES = ((12, "XNAS", "Nasdaq"), (10, "XNYS", "New York Stock Exchange"), (11, "ARCX", "NYSE Arca"))
Row = dict[str, Any]
T = TypeVar("T", Split, Dividend)


def splits(asked: Asked) -> Row:
    """``/v3/reference/splits``: newest first unless asked otherwise."""
    rows: list[Row] = [
        {
            "execution_date": one.day.isoformat(),
            "id": _id("E", one.symbol, one.day),
            "split_from": _number(one.old),
            "split_to": _number(one.new),
            "ticker": name,
        }
        for name, one in _splits(asked)
    ]
    if "reverse_split" in asked.query:
        wanted = asked.flag("reverse_split", default=False)
        rows = [row for row in rows if (row["split_from"] > row["split_to"]) == wanted]
    return _page(asked, rows, sort=("execution_date", "ticker"), order="desc", limit=(10, 1000))


def new_splits(asked: Asked) -> Row:
    """``/stocks/v1/splits``: the same with what each does to the prices before it."""
    rows = []
    for name, one in _splits(asked):
        later = asked.world.market.splits(one.symbol, one.day, asked.today + DECLARED)
        factor = 1.0
        for each in later:
            factor *= each.old / each.new
        rows.append(
            {
                "adjustment_type": "reverse_split" if one.old > one.new else "forward_split",
                "execution_date": one.day.isoformat(),
                "historical_adjustment_factor": round(factor, 6),
                "id": _id("E", one.symbol, one.day),
                "split_from": _number(one.old),
                "split_to": _number(one.new),
                "ticker": name,
            }
        )
    if wanted := asked.query.get("adjustment_type"):
        rows = [row for row in rows if row["adjustment_type"] in wanted.split(",")]
    return _page(asked, rows, sort=("execution_date", "ticker"), order="desc", limit=(100, 5000))


def dividends(asked: Asked) -> Row:
    """``/v3/reference/dividends``: cash per share as it was paid."""
    rows = [_dividend(name, one) for name, one in _dividends(asked)]
    if wanted := asked.query.get("dividend_type"):
        rows = [row for row in rows if row["dividend_type"] == wanted]
    return _page(asked, rows, sort=("ex_dividend_date", "ticker"), order="desc", limit=(10, 1000))


def new_dividends(asked: Asked) -> Row:
    """``/stocks/v1/dividends``: also in today's shares; by ticker unless asked otherwise."""
    rows = []
    for name, one in _dividends(asked):
        shares = 1.0
        for split in asked.world.market.splits(one.symbol, one.day + timedelta(days=1), asked.today):
            shares *= split.new / split.old
        row = _dividend(name, one)
        kind = row.pop("dividend_type")
        rows.append(
            row
            | {
                "distribution_type": "special" if kind == "SC" else "recurring",
                "historical_adjustment_factor": round(1 / shares, 6),
                "split_adjusted_cash_amount": round(one.cash / shares, 6),
            }
        )
    return _page(asked, rows, sort=("ticker", "ex_dividend_date"), order="asc", limit=(100, 5000))


def tickers(asked: Asked) -> Row:
    """``/v3/reference/tickers``: who is listed, on ``date`` or today; with ``active=false`` who no longer is."""
    when = day(asked.query["date"], "date") if asked.query.get("date") else asked.today
    active = asked.flag("active", default=True)
    rows = []
    for asset in asked.world.market.assets():
        if asset.listed <= min(when, asked.today) and (asset.delisted is None or when <= asset.delisted) == active:
            rows.append(_ticker(asked, asset, when))
    search = asked.query.get("search", "").lower()
    rows = [row for row in rows if search in f"{row['ticker']} {row['name']}".lower()]
    for name, field in (("ticker", "ticker"), ("type", "type"), ("market", "market"), ("exchange", "primary_exchange")):
        if wanted := asked.query.get(name):
            rows = [row for row in rows if row[field] == wanted]
    rows = _compared(asked, rows, "ticker")
    return _page(asked, rows, sort=("ticker", "name", "primary_exchange"), order="asc", limit=(100, 1000))


def details(asked: Asked) -> Row:
    """``/v3/reference/tickers/{T}?date=``: the company that has the name on that day."""
    when = day(asked.query["date"], "date") if asked.query.get("date") else asked.today
    asset = _named(asked, asked.parts["ticker"], when)
    if asset is None:
        raise not_found("Ticker not found.")
    row = _ticker(asked, asset, when) | {
        "list_date": asset.listed.isoformat(),
        "ticker_root": asked.parts["ticker"].partition(".")[0],
        "description": f"{asset.name}, a company of the sandbox.",
        "round_lot": 100,
    }
    return {"request_id": asked.request_id, "results": row, "status": "OK"}


def events(asked: Asked) -> Row:
    """``/vX/reference/tickers/{id}/events``: the names a company has had, newest first."""
    asset = _named(asked, asked.parts["id"], asked.today)
    if asset is None:
        raise not_found("Ticker not found.")
    changes = [
        {"ticker_change": {"ticker": name}, "type": "ticker_change", "date": first.isoformat()}
        for name, first, _ in history(asset)
        if first <= asked.today
    ]
    figi = _figi(asset.symbol, "composite")
    found = {"name": asset.name, "composite_figi": figi, "cik": _cik(asset.symbol), "events": changes[::-1]}
    return {"results": found, "status": "OK", "request_id": asked.request_id}


def types(asked: Asked) -> Row:
    """``/v3/reference/tickers/types``."""
    row = {"code": "CS", "description": "Common Stock", "asset_class": "stocks", "locale": "us"}
    return {"results": [row], "status": "OK", "request_id": asked.request_id, "count": 1}


def exchanges(asked: Asked) -> Row:
    """``/v3/reference/exchanges``."""
    rows = [
        {"id": n, "type": "exchange", "asset_class": "stocks", "locale": "us", "name": name, "mic": mic}
        for n, mic, name in _EXCHANGES
    ]
    return {"results": rows, "status": "OK", "request_id": asked.request_id, "count": len(rows)}


def status(asked: Asked) -> Row:
    """``/v1/marketstatus/now``."""
    now = asked.world.now().astimezone(NEW_YORK)
    sessions = asked.world.market.sessions(now.date(), now.date())
    is_open = asked.world.session(now) is not None
    early = bool(sessions) and time(4) <= now.time() < time(9, 30)
    late = bool(sessions) and not is_open and not early and now.time() < time(20) and now.time() >= time(13)
    state = "open" if is_open else "extended-hours" if early or late else "closed"
    return {
        "afterHours": late,
        "currencies": {"crypto": "open", "fx": "closed"},
        "earlyHours": early,
        "exchanges": dict.fromkeys(("nasdaq", "nyse"), state) | {"otc": "closed"},
        "market": state,
        "serverTime": now.isoformat(timespec="seconds"),
    }


def upcoming(asked: Asked) -> list[Row]:
    """``/v1/marketstatus/upcoming``: holidays and half days of the next year; a bare array."""
    rows: list[Row] = []
    sessions = {one.day: one for one in asked.world.market.sessions(asked.today, asked.today + timedelta(days=365))}
    for ahead in range(1, 365):
        when = asked.today + timedelta(days=ahead)
        session = sessions.get(when)
        if when.weekday() >= 5 or (session and session.close_at.astimezone(NEW_YORK).hour >= 16):
            continue
        for exchange in ("NYSE", "NASDAQ"):
            row: Row = {"date": when.isoformat(), "exchange": exchange, "name": "Holiday", "status": "closed"}
            if session:
                hours = {"open": _zulu(session.open_at), "close": _zulu(session.close_at)}
                row |= {"name": "Half day", "status": "early-close", **hours}
            rows.append(row)
    return rows


def paged(
    asked: Asked,
    rows: list[Row],
    limit: tuple[int, int],
    extra: Callable[[int], Row] | None = None,
) -> Row:
    """One page of `rows`, which are in order: an envelope with where the next one begins."""
    size = asked.number("limit", *limit)
    first = int(asked.query.get("offset") or 0) if asked.query.get("offset", "0").isdecimal() else 0
    body: Row = {"results": rows[first : first + size], "status": "OK", "request_id": asked.request_id}
    if extra:
        body |= extra(len(body["results"]))
    if first + size < len(rows):
        body["next_url"] = asked.next_url(offset=str(first + size))
    return body


def _page(asked: Asked, rows: list[Row], *, sort: tuple[str, ...], order: str, limit: tuple[int, int]) -> Row:
    """`rows` sorted as asked (`sort` and `order`, or "column.direction" in one), then cut."""
    column, _, direction = asked.query.get("sort", "").partition(".")
    column = column or sort[0]
    direction = direction or asked.query.get("order", "") or order
    if column not in sort or direction not in ("asc", "desc"):
        raise bad(f"Could not parse 'sort': {column!r} {direction!r} is none of {', '.join(sort)} with asc or desc.")
    rows = sorted(rows, key=lambda row: tuple(row[name] for name in sort), reverse=False)
    rows = sorted(rows, key=lambda row: row[column], reverse=direction == "desc")
    return paged(asked, rows, limit)


def _compared(asked: Asked, rows: list[Row], name: str) -> list[Row]:
    """Rows within `name`.gt, .gte, .lt and .lte."""
    tests: dict[str, Callable[[str, str], bool]] = {
        "gt": lambda a, b: a > b,
        "gte": lambda a, b: a >= b,
        "lt": lambda a, b: a < b,
        "lte": lambda a, b: a <= b,
    }
    for suffix, test in tests.items():
        if wanted := asked.query.get(f"{name}.{suffix}"):
            rows = [row for row in rows if test(row[name], wanted)]
    return rows


def _splits(asked: Asked) -> list[tuple[str, Split]]:
    first, last = asked.span("execution_date")
    last = min(last, asked.today + DECLARED)
    found = [one for symbol in _symbols(asked) for one in asked.world.market.splits(symbol, first, last)]
    return _by_ticker(asked, [(_called(asked, one.symbol, one.day), one) for one in found])


def _dividends(asked: Asked) -> list[tuple[str, Dividend]]:
    first, last = asked.span("ex_dividend_date")
    last = min(last, asked.today + DECLARED)
    found = [one for symbol in _symbols(asked) for one in asked.world.market.dividends(symbol, first, last)]
    return _by_ticker(asked, [(_called(asked, one.symbol, one.day), one) for one in found])


def _symbols(asked: Asked) -> Sequence[str | None]:
    """Whose actions to look at: of those who ever had the ticker, or of all at once."""
    if wanted := asked.query.get("ticker"):
        return [symbol for symbol, *_ in spans(asked.world.market, wanted)]
    return [None]


def _by_ticker(asked: Asked, found: list[tuple[str, T]]) -> list[tuple[str, T]]:
    rows = [(name, one) for name, one in found if asked.query.get("ticker", name) == name]
    if chosen := asked.query.get("ticker.any_of"):
        rows = [(name, one) for name, one in rows if name in chosen.split(",")]
    kept = {row["ticker"] for row in _compared(asked, [{"ticker": name} for name, _ in rows], "ticker")}
    return [(name, one) for name, one in rows if name in kept]


def _called(asked: Asked, symbol: str, when: date) -> str:
    asset = asked.world.market.asset(symbol)
    return ticker_of(asset, when) if asset else symbol


def _named(asked: Asked, name: str, when: date) -> Asset | None:
    """Who is called `name` on `when`, if they are listed by now."""
    for asset in asked.world.market.assets():
        if any(each == name and first <= when <= last for each, first, last in history(asset)):
            return asset if asset.listed <= asked.today else None
    return None


def _dividend(name: str, one: Dividend) -> Row:
    return {
        "cash_amount": one.cash,
        "currency": "USD",
        "declaration_date": (one.day - DECLARED).isoformat(),
        "dividend_type": "SC" if one.special else "CD",
        "ex_dividend_date": one.day.isoformat(),
        "frequency": 0 if one.special else _FREQUENCY,
        "id": _id("E", f"{one.symbol} {one.cash!r}", one.day),
        "pay_date": (one.day + timedelta(days=20)).isoformat(),
        "record_date": one.day.isoformat(),
        "ticker": name,
    }


def _ticker(asked: Asked, asset: Asset, when: date) -> Row:
    gone = asset.delisted is not None and asset.delisted < when
    updated = datetime.combine(asked.today, time(), UTC)
    row = {
        "ticker": ticker_of(asset, when),
        "name": asset.name,
        "market": "stocks",
        "locale": "us",
        "primary_exchange": asset.exchange,
        "type": "CS",
        "active": not gone,
        "currency_name": "usd",
        "cik": _cik(asset.symbol),
        "composite_figi": _figi(asset.symbol, "composite"),
        "share_class_figi": _figi(asset.symbol, "share class"),
        "last_updated_utc": f"{updated:%Y-%m-%dT%H:%M:%S}.123456789Z",
    }
    if gone and asset.delisted:
        row["delisted_utc"] = f"{asset.delisted}T04:00:00Z"
    return row


def _number(shares: float) -> int | float:
    return int(shares) if shares == int(shares) else shares


def _zulu(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _id(letter: str, *what: object) -> str:
    return letter + hashlib.blake2b("|".join(map(str, what)).encode(), digest_size=16).hexdigest()


def _cik(symbol: str) -> str:
    return f"{int(hashlib.blake2b(symbol.encode(), digest_size=4).hexdigest(), 16) % 10**7:010}"


def _figi(symbol: str, kind: str) -> str:
    return f"BBG{hashlib.blake2b(f'{kind} {symbol}'.encode(), digest_size=5).hexdigest()[:9].upper()}"
