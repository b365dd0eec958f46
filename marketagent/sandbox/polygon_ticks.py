"""Polygon's trades, quotes, last ones, snapshots and news: what the stream would have sent, asked for afterwards."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import numpy as np

from marketagent.sandbox import bridge, ticks
from marketagent.sandbox.names import spans
from marketagent.sandbox.polygon_plan import NOT_ENTITLED, Asked, bad, forbidden, not_found
from marketagent.sandbox.polygon_reference import Row, paged
from marketagent.sandbox.polygon_windows import midnight, ny_day, together
from marketagent.sandbox.world import MINUTE_S, NEW_YORK

_WORDS = ("upgrade", "new product", "quarterly figures", "supplier", "analyst day", "lawsuit")
_FEELINGS = ("positive", "neutral", "negative")


def trades(asked: Asked) -> Row:
    """``/v3/trades/{T}``."""
    _entitled(asked, "trades")
    return _ticked(asked, "trades")


def quotes(asked: Asked) -> Row:
    """``/v3/quotes/{T}``."""
    _entitled(asked, "quotes")
    return _ticked(asked, "quotes")


def last_trade(asked: Asked) -> Row:
    """``/v2/last/trade/{T}``, in letters."""
    _entitled(asked, "trades")
    one = _last(asked, "trades")
    found = {"T": asked.parts["ticker"], "i": one["id"], "p": one["price"], "s": one["size"], "x": one["exchange"]}
    found |= {
        "q": one["sequence_number"],
        "t": one["sip_timestamp"],
        "y": one["participant_timestamp"],
        "z": one["tape"],
    }
    return {"request_id": asked.request_id, "results": found, "status": asked.status}


def last_quote(asked: Asked) -> Row:
    """``/v2/last/nbbo/{T}``, in letters."""
    _entitled(asked, "quotes")
    one = _last(asked, "quotes")
    found = {"T": asked.parts["ticker"], "p": one["bid_price"], "s": one["bid_size"], "x": one["bid_exchange"]}
    found |= {"P": one["ask_price"], "S": one["ask_size"], "X": one["ask_exchange"], "q": one["sequence_number"]}
    found |= {"t": one["sip_timestamp"], "y": one["participant_timestamp"], "z": one["tape"]}
    return {"request_id": asked.request_id, "results": found, "status": asked.status}


def snapshot(asked: Asked) -> Row:
    """``/v2/snapshot/locale/us/markets/stocks/tickers/{T}``."""
    _require_snapshots(asked)
    found = _snapshot(asked, asked.parts["ticker"])
    if found is None:
        raise not_found("Ticker not found.")
    return {"request_id": asked.request_id, "status": asked.status, "ticker": found}


def snapshots(asked: Asked) -> Row:
    """The same of all tickers, or of ``tickers``."""
    _require_snapshots(asked)
    chosen = [name for name in asked.query.get("tickers", "").split(",") if name]
    names = chosen or [asset.symbol for asset in asked.world.market.assets()]
    rows = [row for name in names if (row := _snapshot(asked, name))]
    return {"request_id": asked.request_id, "status": asked.status, "count": len(rows), "tickers": rows}


def news(asked: Asked) -> Row:
    """``/v2/reference/news``: a few made-up articles of the last year, newest first unless asked otherwise."""
    first, last = asked.span("published_utc")
    wanted = asked.query.get("ticker")
    names = [wanted] if wanted else [asset.symbol for asset in asked.world.market.assets()]
    begin = max(first, asked.today - timedelta(days=365))
    rows = [row for name in names for row in _articles(asked, name, begin, min(last, asked.today))]
    order = asked.choice("order", ("desc", "asc")) if asked.query.get("order") else "desc"
    rows.sort(key=lambda row: (row["published_utc"], row["id"]), reverse=order == "desc")
    return paged(asked, rows, (10, 1000), lambda count: {"count": count})


def _entitled(asked: Asked, kind: str) -> None:
    if kind not in asked.plan.ticks:
        raise forbidden(NOT_ENTITLED)


def _require_snapshots(asked: Asked) -> None:
    if not asked.plan.snapshots:
        raise forbidden(NOT_ENTITLED)


def _ticked(asked: Asked, kind: str) -> Row:
    """A page of ticks within the ``timestamp`` filters, newest first unless asked otherwise; by default all of today."""
    limit = asked.number("limit", 1000, 50_000)
    first, last = _span(asked)
    falling = asked.choice("order", ("desc", "asc")) == "desc"
    rows: list[Row] = []
    for row in _rows(asked, kind, first, last, falling=falling):
        if len(rows) == limit:
            edge = str(row["sip_timestamp"])
            changes = {"timestamp.lte": edge} if falling else {"timestamp.gte": edge}
            return _envelope(asked, rows) | {"next_url": asked.next_url(**changes)}
        rows.append(row)
    return _envelope(asked, rows)


def _envelope(asked: Asked, rows: list[Row]) -> Row:
    return {"results": rows, "status": asked.status, "request_id": asked.request_id}


def _span(asked: Asked) -> tuple[int, int]:
    """The first and the last nanosecond asked for."""
    now = int(asked.world.now().timestamp() * ticks.NS)
    first, last = 0, now
    for suffix, sign in (("", 0), (".gte", 0), (".gt", 1), (".lte", 0), (".lt", -1)):
        text = asked.query.get(f"timestamp{suffix}")
        if not text:
            continue
        begin, end = _instants(text)
        if suffix in ("", ".gte", ".gt"):
            first = max(first, end + 1 if sign else begin)
        if suffix in ("", ".lte", ".lt"):
            last = min(last, begin - 1 if sign else end)
    if not any(name.startswith("timestamp") for name in asked.query):
        first = int(midnight(asked.today)) * ticks.NS
    return first, last


def _instants(text: str) -> tuple[int, int]:
    """The first and the last nanosecond of a date, an RFC 3339 instant or a count of nanoseconds."""
    if text.isdecimal() and len(text) > 8:
        return int(text), int(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise bad(f"Could not parse 'timestamp': {text!r} is not a date or nanoseconds.") from error
    if len(text) == 10:
        begin = int(midnight(found.date())) * ticks.NS
        return begin, int(midnight(found.date() + timedelta(days=1))) * ticks.NS - 1
    at = int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1e6) * 1000
    return at, at


def _rows(asked: Asked, kind: str, first: int, last: int, *, falling: bool) -> Iterator[Row]:
    """Ticks between two instants, in order of time or against it, made minute by minute as they are taken."""
    world, step = asked.world, -1 if falling else 1
    begin, end = ny_day(max(0, first) / ticks.NS), min(asked.today, ny_day(last / ticks.NS))
    pieces = spans(world.market, asked.parts["ticker"])[::step]
    for session in world.market.sessions(begin, end)[::step]:
        for symbol, since, until in pieces:
            if not since <= session.day <= until:
                continue
            for start in world.market.minutes(symbol, session.day).start[::step].tolist():
                if (start + MINUTE_S) * ticks.NS <= first or start * ticks.NS > last:
                    continue
                bar = ticks.minute(world.market, symbol, session.day, start)
                made = _made(world.seed, kind, bar) if bar else []
                yield from (row for row in made[::step] if first <= row["sip_timestamp"] <= last)


def _made(seed: int, kind: str, bar: ticks.Minute) -> list[Row]:
    made = ticks.trades(seed, bar)
    if kind == "trades":
        return [_trade(one) for one in made]
    return [_quote(one) for one in ticks.quotes(seed, bar, made)]


def _trade(one: ticks.Trade) -> Row:
    return {
        "conditions": [],
        "exchange": one.exchange,
        "id": str(one.number),
        "participant_timestamp": one.at - 250_000,
        "price": one.price,
        "sequence_number": one.number,
        "sip_timestamp": one.at,
        "size": one.size,
        "tape": 3,
    }


def _quote(one: ticks.Quote) -> Row:
    return {
        "ask_exchange": one.ask_exchange,
        "ask_price": one.ask,
        "ask_size": one.ask_size,
        "bid_exchange": one.bid_exchange,
        "bid_price": one.bid,
        "bid_size": one.bid_size,
        "conditions": [1],
        "participant_timestamp": one.at - 250_000,
        "sequence_number": one.number,
        "sip_timestamp": one.at,
        "tape": 3,
    }


def _last(asked: Asked, kind: str) -> Row:
    first = int(midnight(asked.today - timedelta(days=7))) * ticks.NS
    now = int(asked.world.now().timestamp() * ticks.NS)
    found = next(_rows(asked, kind, first, now, falling=True), None)
    if found is None:
        raise not_found("Ticker not found.")
    return found


def _snapshot(asked: Asked, name: str) -> Row | None:
    """The day so far, its last minute and the day before."""
    world = asked.world
    symbol = next((symbol for symbol, first, last in spans(world.market, name) if first <= asked.today <= last), None)
    if symbol is None:
        return None
    before = world.days(symbol, asked.today - timedelta(days=10), asked.today - timedelta(days=1))
    minutes = world.minutes(symbol, asked.today)
    row: Row = {"ticker": name, "updated": int(world.now().timestamp()) * ticks.NS}
    if len(before.start):
        row["prevDay"] = {letter: float(getattr(before, field)[-1]) for letter, field in _LETTERS.items()}
    if len(minutes.start):
        so_far = together(minutes, np.zeros(len(minutes.start), dtype=np.int64))
        row["day"] = {letter: float(getattr(so_far, field)[0]) for letter, field in _LETTERS.items()}
        row["min"] = {letter: float(getattr(minutes, field)[-1]) for letter, field in _LETTERS.items()}
        row["min"] |= {"t": int(minutes.start[-1]) * 1000, "n": int(minutes.trades[-1]), "av": row["day"]["v"]}
        if len(before.start):
            change = row["day"]["c"] - row["prevDay"]["c"]
            row |= {"todaysChange": round(change, 4), "todaysChangePerc": round(100 * change / row["prevDay"]["c"], 4)}
    return row


_LETTERS = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "vw": "vwap"}


def _articles(asked: Asked, name: str, first: date, last: date) -> Iterator[Row]:
    """About two articles a month on a company, published at midday or later, only those of the past."""
    for session in asked.world.market.sessions(first, last) if first <= last else ():
        rng = bridge.dice(asked.world.seed, "news", name, session.day)
        if rng.random() > 0.1:
            continue
        at = session.open_at + timedelta(minutes=int(rng.integers(0, 600)))
        if at <= asked.world.now():
            yield _article(name, at, int(rng.integers(0, len(_WORDS))), int(rng.integers(0, 3)))


def _article(name: str, at: datetime, word: int, feeling: int) -> Row:
    number = f"{name}-{at:%Y%m%d%H%M}"
    local = at.astimezone(NEW_YORK)
    return {
        "id": number,
        "publisher": {
            "name": "Sandbox Wire",
            "homepage_url": "https://sandbox.example/",
            "logo_url": "https://sandbox.example/logo.svg",
            "favicon_url": "https://sandbox.example/favicon.ico",
        },
        "title": f"{name}: {_WORDS[word]}",
        "author": "The Sandbox",
        "published_utc": at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "article_url": f"https://sandbox.example/{number}",
        "tickers": [name],
        "description": f"Made up on {local:%A}, {local:%d} {local:%B}: {_WORDS[word]} at {name}.",
        "keywords": [_WORDS[word]],
        "insights": [
            {
                "ticker": name,
                "sentiment": _FEELINGS[feeling],
                "sentiment_reasoning": f"The dice said {_FEELINGS[feeling]}.",
            }
        ],
    }
