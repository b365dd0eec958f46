"""Alpaca's market data: bars of many symbols in one call, splits and dividends as paid.

Facts this rests on (Alpaca's OpenAPI): ``adjustment=raw`` gives prices as traded; the feed is always named, for its
default depends on the plan; ``limit`` counts bars over all symbols of a call, and a page may end inside one; a symbol
without bars is absent; a day's ``t`` is midnight in New York; both ends of a range are inclusive.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import anyio

from marketagent.asking import Asker, asking
from marketagent.bars import Action, Delivery, Rows, Span, Want, joined, midnight, rfc3339, rows
from marketagent.config import Settings
from marketagent.errors import MarketAgentError
from marketagent.web.failures import Nonsense, Rejected
from marketagent.web.known import alpaca_data
from marketagent.web.paging import Params
from marketagent.wire import Desk

TAKES = "symbols"
TIMEFRAMES = ("1m", "5m", "15m", "30m", "1h", "1d")
_NAMES_OF = {"1m": "1Min", "5m": "5Min", "15m": "15Min", "30m": "30Min", "1h": "1Hour", "1d": "1Day"}
_BARS_A_DAY = {"1m": 390, "5m": 78, "15m": 26, "30m": 13, "1h": 7, "1d": 1}
_MOST = 10_000  # bars of one page
_SYMBOLS = 50  # of one call: its address stays below a kilobyte
_NAMES = ("t", "o", "h", "l", "c", "v")
_ACTIONS_TTL_S = 6 * 3600.0
_LATE = timedelta(minutes=16)  # without a live plan the newest quarter of an hour of the tape is not to be had
_KINDS = ("forward_splits", "reverse_splits", "cash_dividends", "stock_dividends")


def feed(settings: Settings) -> str:
    place = settings.places["alpaca"]
    return "sandbox" if alpaca_data(settings).is_loopback else str(place.feed)


async def serve(desk: Desk, wants: Sequence[Want], timeframe: str) -> None:
    """Ask for groups of symbols with the same spans, as many symbols a call as fill a page."""
    async with asking(desk, alpaca_data(desk.settings)) as asker:
        waiting = list(reversed(_groups(wants, timeframe)))

        async def work() -> None:
            while waiting:
                await _group(desk, asker, waiting.pop(), timeframe)

        async with anyio.create_task_group() as tasks:
            for _ in range(min(asker.workers, len(waiting))):
                tasks.start_soon(work)


def _groups(wants: Sequence[Want], timeframe: str) -> list[list[Want]]:
    """`wants` in groups for one call each: equal spans, and bars for about a page."""
    alike: dict[tuple[Span, ...], list[Want]] = {}
    for want in wants:
        alike.setdefault(want.spans, []).append(want)
    groups = []
    for spans, same in alike.items():
        days = sum((span.last - span.first).days * 5 // 7 + 1 for span in spans)
        size = max(1, min(_SYMBOLS, _MOST // (days * _BARS_A_DAY[timeframe])))
        groups += [same[n : n + size] for n in range(0, len(same), size)]
    return groups


async def _group(desk: Desk, asker: Asker, wants: list[Want], timeframe: str) -> None:
    symbols = [want.symbol for want in wants]
    parts: dict[str, list[Rows]] = {symbol: [] for symbol in symbols}
    actions: list[Action] = []
    try:
        for span in wants[0].spans:
            async for page in _bars(desk, asker, symbols, timeframe, span):
                for symbol, items in page.items():
                    if symbol in parts:  # nobody asked for another
                        parts[symbol].append(rows(items, rfc3339, _NAMES))
            actions += await _actions(asker, symbols, span)
    except Rejected as error:
        if len(wants) == 1:
            desk.fail(wants[0].symbol, error)
            return
        for want in wants:  # one bad symbol refuses the call: each alone, to find it
            await _group(desk, asker, [want], timeframe)
        return
    except MarketAgentError as error:
        for want in wants:
            desk.fail(want.symbol, error)
        return
    for want in wants:
        mine = tuple(action for action in actions if action.symbol == want.symbol)
        await desk.deliver(Delivery(want, joined(parts[want.symbol]), mine))


async def _bars(
    desk: Desk, asker: Asker, symbols: Sequence[str], timeframe: str, span: Span
) -> AsyncIterator[dict[str, list[Any]]]:
    place, now = desk.settings.places["alpaca"], desk.settings.clock()
    end = datetime.fromtimestamp(midnight(span.last + timedelta(days=1)) - 1, UTC)
    if place.feed != "iex":
        end = min(end, now - _LATE)
    params: Params = {
        "symbols": ",".join(_ticker(symbol) for symbol in symbols),
        "timeframe": _NAMES_OF[timeframe],
        "start": _instant(datetime.fromtimestamp(midnight(span.first), UTC)),
        "end": _instant(end),
        "limit": _MOST,
        "adjustment": "raw",
        "feed": place.feed,
        "sort": "asc",
    }
    async for page in asker.pages("/v2/stocks/bars", params, _next):
        found = page.get("bars") if isinstance(page, dict) else None
        if found is None:
            continue
        if not isinstance(found, dict) or not all(isinstance(items, list) for items in found.values()):
            raise Nonsense("alpaca sent bars that are no lists by symbol")
        yield found


async def _actions(asker: Asker, symbols: Sequence[str], span: Span) -> list[Action]:
    """Splits and dividends by ex-date."""
    params: Params = {
        "symbols": ",".join(_ticker(symbol) for symbol in symbols),
        "types": "forward_split,reverse_split,cash_dividend,stock_dividend",
        "start": str(span.first),
        "end": str(span.last),
        "limit": 1000,
        "sort": "asc",
    }
    items = await asker.remembered_pages("/v1/corporate-actions", params, _next, _listed, _ACTIONS_TTL_S)
    return [_action(kind, item) for kind, item in items]


def _listed(page: Any) -> list[Any]:
    """(kind, item) of a page; as lists, which the cache gives back as it got them."""
    found = page.get("corporate_actions") if isinstance(page, dict) else None
    if not isinstance(found, dict):
        return []
    return [[kind, item] for kind in _KINDS for item in found.get(kind) or []]


def _action(kind: str, item: Any) -> Action:
    try:
        day = date.fromisoformat(item["ex_date"])
        if kind == "cash_dividends":
            value, name = float(item["rate"]), "dividend"
        elif kind == "stock_dividends":
            value, name = 1.0 + float(item["rate"]), "split"
        else:
            value, name = float(item["new_rate"]) / float(item["old_rate"]), "split"
        if not 0 < value < float("inf"):
            raise ValueError(f"{value} is no ratio and no sum")
        return Action(str(item["symbol"]), day, "split" if name == "split" else "dividend", value)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        # A split that is left out makes every later price wrong: better no answer than half of one.
        raise Nonsense(f"alpaca sent one of {kind} that cannot be read ({error}): {str(item)[:120]}") from None


def _next(page: Any) -> dict[str, str] | None:
    token = page.get("next_page_token") if isinstance(page, dict) else None
    return {"page_token": str(token)} if token else None


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _ticker(symbol: str) -> str:
    return symbol.replace("/", ".").replace("-", ".").replace("_", ".")
