"""Yahoo through yfinance (extra ``yahoo``): unofficial, for personal use, a fallback where no key is.

Yahoo has no price as traded: its prices are split-adjusted as of the day they are fetched, its dividends with them. So
every fetch asks for the splits up to today and undoes them: a price is multiplied by the splits after its day, the
volume divided. An outage there looks like a delisting; it is never taken for one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import numpy as np

from marketagent.config import Settings
from marketagent.delivery import FIELDS, Action, Delivery, Rows, Span, Want, joined, new_york_days
from marketagent.errors import MarketAgentError, Unavailable, UsageError
from marketagent.ledger import Ledger
from marketagent.limits import Limit, Limiter
from marketagent.panel import Array
from marketagent.web.failures import AskedToWait, Down, NotFound
from marketagent.wire import Desk

if TYPE_CHECKING:
    import pandas as pd

TAKES = "symbols"
TIMEFRAMES = ("1m", "5m", "15m", "30m", "1h", "1d")
DEPTH_DAYS = {"1m": 7, "5m": 59, "15m": 59, "30m": 59, "1h": 729}  # how far back Yahoo goes
_PAUSE_S = 900.0  # after a 429: it lasts for minutes to hours
_A_MINUTE = 60
_COLUMNS = ("Open", "High", "Low", "Close", "Volume")


def feed(settings: Settings) -> str:
    """Nothing: Yahoo says not whose prices it shows. Raises UsageError without yfinance, and in a rehearsal."""
    from importlib.util import find_spec

    if find_spec("yfinance") is None:
        raise UsageError("source yahoo needs the extra yahoo; run: pip install 'market-agent[yahoo]'")
    _refuse_rehearsal(settings)
    return ""


def _refuse_rehearsal(settings: Settings) -> None:
    if settings.clock.is_rehearsal:
        raise UsageError("yahoo has no stand-in; under the clock of a rehearsal (MA_CLOCK) it is not asked")


async def serve(desk: Desk, wants: Sequence[Want], timeframe: str) -> None:
    """One symbol after the other, one a second: yfinance has one session, and Yahoo little patience."""
    ledger = Ledger(desk.settings.home, desk.world.now)
    limiter = Limiter(ledger, "yahoo", (Limit("yahoo", _A_MINUTE, 60.0),), desk.world, max_wait_s=desk.max_wait_s)
    today = desk.settings.clock().date()
    try:
        for want in wants:
            try:
                delivery = await _one(desk, limiter, want, timeframe, today)
            except MarketAgentError as error:
                if isinstance(error, AskedToWait):
                    limiter.pause(error.wait_s)
                desk.fail(want.symbol, error)  # named in the end; nothing of this symbol is stored
            else:
                await desk.deliver(delivery)
    finally:
        ledger.close()


async def _one(desk: Desk, limiter: Limiter, want: Want, timeframe: str, today: date) -> Delivery:
    first, end = want.spans[0].first, today + timedelta(days=1)
    depth = DEPTH_DAYS.get(timeframe)
    if depth is not None and first < today - timedelta(days=depth):
        raise NotFound(
            f"yahoo has {timeframe} bars of the last {depth} days only; ask from {today - timedelta(days=depth)} on"
        )
    ask = partial(_history, want.symbol, home=str(desk.settings.home / "cache" / "yfinance"))
    await limiter.acquire()
    daily = await anyio.to_thread.run_sync(partial(ask, first, end, "1d"))
    frame = daily
    if timeframe != "1d":
        await limiter.acquire()
        last = want.spans[-1].last + timedelta(days=1)
        frame = await anyio.to_thread.run_sync(partial(ask, first, last, timeframe))
    return delivered(want, frame, daily, timeframe)


def delivered(want: Want, frame: "pd.DataFrame", daily: "pd.DataFrame", timeframe: str) -> Delivery:
    """yfinance's table of bars as traded, and its actions, which `daily` has up to the day it was fetched."""
    split_days, ratios = _column(daily, "Stock Splits")
    paid_days, sums = _column(daily, "Dividends")
    whole = Rows.of(_seconds(frame), [frame[name].to_numpy(dtype=np.float64) for name in _COLUMNS])
    days = new_york_days(whole.start)
    factor = splits_after(days, split_days, ratios)
    prices = {name: np.round(getattr(whole, name) * factor, 4) for name in FIELDS[:4]}
    traded = Rows(whole.start, **prices, volume=np.round(whole.volume / factor))
    actions = [Action(want.symbol, _date(day), "split", float(r)) for day, r in zip(split_days, ratios, strict=True)]
    undone = np.round(sums * splits_after(paid_days, split_days, ratios), 6)
    actions += [Action(want.symbol, _date(day), "dividend", float(s)) for day, s in zip(paid_days, undone, strict=True)]
    inside = [traded.kept((days >= np.datetime64(s.first)) & (days <= np.datetime64(s.last))) for s in want.spans]
    wanted = tuple(action for action in actions if any(_holds(span, action.day) for span in want.spans))
    return Delivery(want, joined(inside), wanted)


def splits_after(days: Any, split_days: Any, ratios: Array) -> Array:
    """(K,): the shares that one share of each of `days` has become since: the product of the splits after it.

    >>> days = np.array(["2024-06-07", "2024-06-10"], dtype="datetime64[D]")
    >>> splits_after(days, days[1:], np.array([10.0])).tolist()
    [10.0, 1.0]
    """
    later = np.asarray(split_days)[None, :] > np.asarray(days)[:, None]
    return np.asarray(np.where(later, ratios[None, :], 1.0).prod(axis=1))


def _column(frame: "pd.DataFrame", name: str) -> tuple[Any, Array]:
    """Days and values of a column of events, where there are any."""
    if name not in frame:
        return np.zeros(0, dtype="datetime64[D]"), np.zeros(0)
    values = frame[name].to_numpy(dtype=np.float64)
    some = np.isfinite(values) & (values > 0)
    return new_york_days(_seconds(frame))[some], values[some]


def _seconds(frame: "pd.DataFrame") -> Any:
    if not len(frame):
        return np.zeros(0, dtype=np.int64)
    index: Any = frame.index  # a DatetimeIndex, which the table's type does not know
    return index.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64)


def _date(day: Any) -> date:
    found: date = day.astype("datetime64[D]").astype(date)
    return found


def _holds(span: Span, day: date) -> bool:
    return span.first <= day <= span.last


def _history(symbol: str, first: date, end: date, timeframe: str, *, home: str) -> "pd.DataFrame":
    """yfinance's table of `symbol`; one of our errors for each of its own."""
    import logging

    import yfinance

    logging.getLogger("yfinance").setLevel(logging.CRITICAL)  # what it logs comes as an error, too
    with _translated(symbol):
        yfinance.config.debug.hide_exceptions = False
        yfinance.set_tz_cache_location(home)
        ticker = yfinance.Ticker(symbol.replace(".", "-").replace("/", "-"))
        frame: pd.DataFrame = ticker.history(
            start=first.isoformat(),
            end=end.isoformat(),
            interval=timeframe,
            auto_adjust=False,
            actions=True,
            timeout=20,
        )
        return frame


@contextmanager
def _translated(symbol: str) -> Iterator[None]:
    from yfinance import exceptions

    try:
        yield
    except exceptions.YFRateLimitError as error:
        raise AskedToWait("busy: yahoo asks to wait (429: too many requests)", _PAUSE_S) from error
    except (exceptions.YFPricesMissingError, exceptions.YFTzMissingError, exceptions.YFTickerMissingError) as error:
        raise _nothing(symbol, error) from error
    except (exceptions.YFException, ValueError, KeyError, TypeError, IndexError) as error:
        raise Down(f"yahoo sent what yfinance cannot read ({type(error).__name__}: {str(error)[:80]})") from error
    except MarketAgentError:
        raise
    except Exception as error:  # curl's and requests' own, which share no base: the network, and nothing of ours
        if getattr(getattr(error, "response", None), "status_code", None) == 404:
            raise _nothing(symbol, error) from error
        raise Unavailable(f"yahoo cannot be reached ({type(error).__name__}: {str(error)[:80]})") from error


def _nothing(symbol: str, error: Exception) -> NotFound:
    said = " ".join(str(error).split())[:120]
    return NotFound(f"yahoo has nothing for {symbol} ({said}); it may be out of order")
