"""An account's equity over time, as Alpaca's portfolio history: columns of one length, times in epoch seconds."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from marketagent.sandbox.alpaca_http import moment
from marketagent.sandbox.checks import SHAPE
from marketagent.sandbox.exchange import Account
from marketagent.sandbox.market import Session
from marketagent.sandbox.refusal import Refusal
from marketagent.sandbox.tape import new_york_day

_FRAMES = {"1Min": 1, "5Min": 5, "15Min": 15, "1H": 60, "1D": 0}
_DAYS = {"D": 1, "W": 7, "M": 30, "A": 365}
_MOST_POINTS = 10_000


def portfolio_history(account: Account, now: datetime, asked: Mapping[str, str]) -> dict[str, Any]:
    """Equity at the end of each window, the windows of a day or of minutes in regular hours; left-labeled."""
    first, last = _span(account, now, asked)
    frame = asked.get("timeframe") or _frame(last - first)
    if frame not in _FRAMES:
        raise Refusal(422, SHAPE, f"invalid timeframe: {frame[:40]}")
    windows = [
        window
        for session in account.tape.market.sessions(new_york_day(first), new_york_day(last))
        for window in _windows(session, _FRAMES[frame])
        if window[0] <= min(last, now)
    ][-_MOST_POINTS:]
    base = account.book.equity(account.tape, windows[0][0]) if windows else account.book.cash
    equity = [account.book.equity(account.tape, min(end, now)) for _, end in windows]
    return {
        "timestamp": [int(start.timestamp()) for start, _ in windows],
        "equity": [_cents(value) for value in equity],
        "profit_loss": [_cents(value - base) for value in equity],
        "profit_loss_pct": [round(float((value - base) / base), 6) if base else None for value in equity],
        "base_value": _cents(base),
        "base_value_asof": str(new_york_day(windows[0][0] if windows else now)),
        "timeframe": frame,
        "cashflow": {},
    }


def _span(account: Account, now: datetime, asked: Mapping[str, str]) -> tuple[datetime, datetime]:
    last = moment(asked.get("end") or asked.get("date_end") or now.isoformat(), "end")
    if asked.get("date_end") and not asked.get("end"):
        last += timedelta(days=1, microseconds=-1)
    if asked.get("start"):
        return moment(asked["start"], "start"), last
    period = asked.get("period") or "1M"
    if period == "all":
        return account.opened_at, last
    found = re.fullmatch(r"(\d{1,3})([DWMA])", period, re.ASCII)
    if not found:
        raise Refusal(422, SHAPE, f"invalid period: {period[:40]}")
    return last - timedelta(days=int(found[1]) * _DAYS[found[2]]), last


def _frame(length: timedelta) -> str:
    return "1Min" if length < timedelta(days=7) else "15Min" if length < timedelta(days=30) else "1D"


def _windows(session: Session, minutes: int) -> list[tuple[datetime, datetime]]:
    if not minutes:
        return [(session.open_at, session.close_at)]
    step, found, start = timedelta(minutes=minutes), [], session.open_at
    while start < session.close_at:
        found.append((start, min(start + step, session.close_at)))
        start += step
    return found


def _cents(value: Decimal) -> float:
    return float(round(value, 2))
