"""Decisions as an account takes them: those of one strategy, on one bar, each symbol once; anything else is refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from marketagent.errors import Refused
from marketagent.records import Decision
from marketagent.symbols import is_ticker
from marketagent.timeframes import DAY, TIMEFRAMES, bar_of, session_of


@dataclass(frozen=True)
class Stream:
    """Decisions of one strategy on one session, or one bar within it, as one run of ``ma score`` sent them."""

    run: str
    strategy: str
    session: date
    decisions: tuple[Decision, ...]
    timeframe: str = DAY


def one_session(run: str, decisions: Sequence[Decision], *, allow_short: bool) -> Stream | None:
    """The decisions as a Stream, None if there are none; Refused if they are not of one strategy and one bar."""
    if not decisions:
        return None
    first = decisions[0]
    session = _session(first)
    for decision in decisions:
        if not is_ticker(decision.symbol):
            raise Refused(f"{decision.symbol[:40]!a} is not a ticker")
        if _of(decision) != _of(first):
            raise Refused(f"decisions of {_told(first)} and of {_told(decision)} in one stream; trade them one by one")
        if decision.weight is not None and decision.weight < 0 and not allow_short:
            raise Refused(
                f"{decision.symbol}: a short position of {decision.weight:.2f} is asked for; see --allow-short"
            )
    symbols = [decision.symbol for decision in decisions]
    if len(set(symbols)) < len(symbols):
        twice = next(symbol for symbol in symbols if symbols.count(symbol) > 1)
        raise Refused(f"{twice} is decided on twice in one stream")
    return Stream(run, first.strategy, session, tuple(decisions), first.timeframe)


def _of(decision: Decision) -> tuple[str | None, ...]:
    return decision.strategy, decision.session, decision.ts, decision.timeframe


def _told(decision: Decision) -> str:
    bar = decision.session if decision.ts is None else f"{decision.ts} ({decision.timeframe})"
    return f"{decision.strategy} on {bar}"


def _session(decision: Decision) -> date:
    """The bar that was decided on."""
    if decision.timeframe not in TIMEFRAMES:
        raise Refused(
            f"{decision.symbol}: a decision on {decision.timeframe[:20]!a} bars; there are {', '.join(TIMEFRAMES)}"
        )
    try:
        session = date.fromisoformat(decision.session)
    except ValueError as error:
        raise Refused(f"{decision.symbol}: session {decision.session[:40]!a} is not a date") from error
    if (decision.ts is None) != (decision.timeframe == DAY):
        raise Refused(f"{decision.symbol}: a decision on {decision.timeframe} bars with ts {str(decision.ts)[:40]}")
    if decision.ts is None:
        return session
    try:
        bar = bar_of(decision.ts)
    except ValueError as error:
        raise Refused(
            f"{decision.symbol}: {decision.ts[:40]!a} is not an instant such as 2026-11-20T14:31:00Z"
        ) from error
    if session_of(bar) != session:
        raise Refused(f"{decision.symbol}: the bar of {decision.ts} is not one of session {session}")
    return bar
