"""Polygon (Massive): bars, splits and dividends over REST, and the whole market of one day in a single call.

Facts this rests on (Polygon's OpenAPI and what was measured of it): ``t`` is the start of the window in milliseconds,
a day's at midnight in New York; ``adjusted=false`` gives prices as traded; an answer without bars has no ``results``;
``limit`` counts minutes behind hours, so it is always at its most; the grouped day's ``t`` is its end.
"""

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from functools import partial
from typing import Any

from marketagent.asking import Asker, asking, each, together
from marketagent.config import Settings
from marketagent.delivery import Action, Delivery, Rows, Span, Want, joined, midnight, rows, unix_ms
from marketagent.errors import MarketAgentError
from marketagent.symbols import is_ticker
from marketagent.web.failures import Nonsense
from marketagent.web.known import polygon
from marketagent.wire import Desk

TAKES = "symbols"
TIMEFRAMES = ("1m", "5m", "15m", "30m", "1h", "1d")
_WINDOWS = {"1m": "1/minute", "5m": "5/minute", "15m": "15/minute", "30m": "30/minute", "1h": "1/hour", "1d": "1/day"}
_MOST = 50_000  # base aggregates of one page
_PART_DAYS = 50  # so many days of minutes fit one page, nights included: 50 * 960
_ACTIONS_TTL_S = 6 * 3600.0
_FEW = 2  # so many symbols a day must be wanted before a day's whole market is the cheaper question
_NAMES = ("t", "o", "h", "l", "c", "v")


def feed(settings: Settings) -> str:
    return "sandbox" if polygon(settings).is_loopback else "sip"


async def serve(desk: Desk, wants: Sequence[Want], timeframe: str) -> None:
    """Three calls a symbol and span: bars, splits, dividends. Few days of many symbols: three calls a day for all.

    The free plan has five calls a minute: the evening's fetch of a hundred symbols takes one minute so, not an hour.
    """
    days = sorted({day for want in wants for span in want.spans for day in _weekdays(span)})
    async with asking(desk, polygon(desk.settings)) as asker:
        if timeframe == "1d" and len(days) * _FEW <= len(wants):
            await _by_day(desk, asker, wants, days)
        else:
            await each(desk, asker, wants, partial(_one, asker, timeframe), calls=3)


async def whole_market(desk: Desk, day: date) -> tuple[list[Delivery], int]:
    """Every symbol that traded on `day`, and how many tickers there were that are no symbols here. Three calls."""
    async with asking(desk, polygon(desk.settings)) as asker:
        bars, odd = await _grouped(asker, day)
        actions = await _actions(asker, None, Span(day, day))
    span = (Span(day, day),)
    return [
        Delivery(Want(symbol, span), one, tuple(action for action in actions if action.symbol == symbol))
        for symbol, one in bars.items()
    ], odd


async def _by_day(desk: Desk, asker: Asker, wants: Sequence[Want], days: Sequence[date]) -> None:
    """Everybody's bars day by day, then to each want its own."""
    whole = Span(days[0], days[-1])
    try:
        grouped = [(await _grouped(asker, day))[0] for day in days]
        actions = await _actions(asker, None, whole)
    except MarketAgentError as error:
        for want in wants:
            desk.fail(want.symbol, error)  # one answer for all: it fails them all
        return
    for want in wants:
        mine = [
            bars[want.symbol]
            for day, bars in zip(days, grouped, strict=True)
            if want.symbol in bars and any(span.first <= day <= span.last for span in want.spans)
        ]
        due = tuple(action for action in actions if action.symbol == want.symbol)
        await desk.deliver(Delivery(want, joined(mine), due))


async def _grouped(asker: Asker, day: date) -> tuple[dict[str, Rows], int]:
    """The bar of every symbol on `day`, and how many tickers are no symbols here (preferred shares, units)."""
    page = await asker.get(f"/v2/aggs/grouped/locale/us/market/stocks/{day}", {"adjusted": False})
    found: dict[str, Rows] = {}
    odd = 0
    for item in _results(page):
        symbol = item.get("T") if isinstance(item, dict) else None
        if isinstance(symbol, str) and is_ticker(symbol):
            # `t` is the end of the day here; the day was asked for by name.
            found[symbol] = rows([item | {"t": midnight(day) * 1000}], unix_ms, _NAMES)
        else:
            odd += 1
    return found, odd


def _weekdays(span: Span) -> list[date]:
    days = [span.first + timedelta(days=n) for n in range((span.last - span.first).days + 1)]
    return [day for day in days if day.weekday() < 5]


async def _one(asker: Asker, timeframe: str, want: Want) -> Delivery:
    parts = [part for span in want.spans for part in _parts(span, timeframe)]
    bars = {("bars", span): partial(_bars, asker, want.symbol, timeframe, span) for span in parts}
    acts = {("acts", span): partial(_actions, asker, want.symbol, span) for span in want.spans}
    found: dict[Any, Any] = await together({**bars, **acts})
    actions = tuple(action for span in want.spans for action in found["acts", span])
    return Delivery(want, joined([found["bars", span] for span in parts]), actions)


def _parts(span: Span, timeframe: str) -> list[Span]:
    """`span` in pieces that fit a page each: a day is one bar, a minute one of 960."""
    if timeframe == "1d":
        return [span]
    firsts = [span.first + timedelta(days=n) for n in range(0, (span.last - span.first).days + 1, _PART_DAYS)]
    return [Span(first, min(first + timedelta(days=_PART_DAYS - 1), span.last)) for first in firsts]


async def _bars(asker: Asker, symbol: str, timeframe: str, span: Span) -> Rows:
    path = f"/v2/aggs/ticker/{_ticker(symbol)}/range/{_WINDOWS[timeframe]}/{span.first}/{span.last}"
    from marketagent.barpages import listed  # msgspec, and who lacks nothing reads nothing

    found: list[Rows] = []
    async for page in asker.pages(path, {"adjusted": False, "sort": "asc", "limit": _MOST}, _next, listed):
        part = page.get("results") if isinstance(page, dict) else None
        if part is not None and not isinstance(part, Rows):
            raise Nonsense("polygon sent results that are no list")
        found += [part] if part is not None else []
    return joined(found)


async def _actions(asker: Asker, symbol: str | None, span: Span) -> list[Action]:
    """Splits and dividends by ex-date, of `symbol` or of all."""

    async def listed(path: str, name: str) -> list[Any]:
        params = {
            "ticker": symbol and _ticker(symbol),
            f"{name}.gte": str(span.first),
            f"{name}.lte": str(span.last),
            "limit": 1000,
        }
        return await asker.remembered_pages(path, params, _next, _results, _ACTIONS_TTL_S)

    found = await together({kind: partial(listed, path, name) for kind, (path, name, _) in _ACTIONS.items()})
    return [_action(kind, item) for kind in _ACTIONS for item in found[kind]]


def _action(kind: Any, item: Any) -> Action:
    _, name, reading = _ACTIONS[kind]
    try:
        value = reading(item)
        if not 0 < value < float("inf"):
            raise ValueError(f"{value} is no ratio and no sum")
        return Action(str(item["ticker"]), date.fromisoformat(item[name]), kind, value)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        # A split that is left out makes every later price wrong: better no answer than half of one.
        raise Nonsense(f"polygon sent a {kind} that cannot be read ({error}): {str(item)[:120]}") from None


def _split(item: Any) -> float:
    return float(item["split_to"]) / float(item["split_from"])


def _dividend(item: Any) -> float:
    if item.get("currency", "USD") not in {"USD", None}:
        raise ValueError(f"currency {item['currency']}")
    return float(item["cash_amount"])


_ACTIONS: dict[str, tuple[str, str, Callable[[Any], float]]] = {  # kind -> where, by which date, how to read it
    "split": ("/v3/reference/splits", "execution_date", _split),
    "dividend": ("/v3/reference/dividends", "ex_dividend_date", _dividend),
}


def _results(page: Any) -> list[Any]:
    found = page.get("results") if isinstance(page, dict) else None
    if found is None:
        return []
    if not isinstance(found, list):
        raise Nonsense("polygon sent results that are no list")
    return found


def _next(page: Any) -> str | None:
    link = page.get("next_url") if isinstance(page, dict) else None
    return link if link else None


def _ticker(symbol: str) -> str:
    """`symbol` as Polygon writes it: BRK.B; indices are elsewhere (I:SPX) and not stocks."""
    return symbol.replace("/", ".").replace("-", ".").replace("_", ".")
