"""``ma trade`` on a live series: every member is read whole, checked, and traded before the next one is looked at.

What may pass lets the series go on: a member that was done in part, is too old, was traded before, or does not fit the
stored prices is not traded; one line says why, and the next one has decisions of its own. What will not pass ends it: a
member that was cut or changed (then what follows on this pipe is not to be trusted either), one that says its stage
failed, a HALT file, an account of another timeframe, a disk or a journal that fails.
"""

import os
from dataclasses import dataclass
from datetime import datetime, timedelta

from marketagent import paper, pipe
from marketagent.config import Settings
from marketagent.errors import Exit, NoData, Refused, Stopped
from marketagent.pipe.reader import SKEW_S
from marketagent.records import Order
from marketagent.show import one_line, say
from marketagent.timeframes import TIMEFRAMES
from marketagent.trading import Terms


@dataclass(frozen=True)
class Trader:
    """What a running trade acts by.

    With `in_time` a decision is traded only while the bar it would fill in is under way: one that comes later would be
    filled at a price of the past.
    """

    settings: Settings
    terms: Terms
    max_age_s: float
    in_time: bool
    allow_partial: bool
    allow_filtered: bool
    plan: bool
    format: pipe.Format


def trade(incoming: pipe.Incoming, trader: Trader) -> Exit:
    """Trade the series to its end; `Exit.PARTIAL` if a member was not traded. Raises what ends it."""
    code = Exit.DONE
    for sealed in pipe.series(incoming, kinds=("decision",), allow_filtered=trader.allow_filtered):
        code = max(code, _round(trader, sealed))
    return code


def _round(trader: Trader, sealed: pipe.Sealed) -> Exit:
    """Trade one member, tell its orders and those it settled, then keep them for study."""
    settings, terms, now = trader.settings, trader.terms, trader.settings.clock()
    run = pipe.new_run_id(now, os.urandom(4))
    with pipe.sealed("trade", trader.format, run=run, at=now, series=True) as out:
        out.up = sealed.end
        try:
            orders = _orders(trader, sealed, now)
        except Stopped:
            raise
        except (Refused, NoData) as error:  # nothing was done for this member, and the next one may be better
            out.incomplete = one_line(error)
            say(f"{_named(sealed)} was not traded: {error}")
            return out.exit_code
        for order in orders:
            out.write(order)
    if orders and not trader.plan:
        paper.copy_round(settings.home, terms.account, now, timeout_s=settings.busy_timeout_s)
    return out.exit_code


def _orders(trader: Trader, sealed: pipe.Sealed, now: datetime) -> list[Order]:
    if sealed.end.status == "error":
        raise Stopped(one_line(f"ma {sealed.end.cmd} failed: {sealed.end.error or 'no reason given'}"))
    pipe.check(sealed, now=now, max_age_s=trader.max_age_s, allow_partial=trader.allow_partial)
    _refuse_old(sealed, now, trader)
    wait = trader.settings.busy_timeout_s
    if trader.plan:
        return paper.plan(trader.settings.home, sealed, trader.terms, timeout_s=wait)
    return paper.trade_live(trader.settings.home, sealed, trader.terms, now, timeout_s=wait)


def _refuse_old(sealed: pipe.Sealed, now: datetime, trader: Trader) -> None:
    """Refuse decisions on a bar that closed too long ago: after a gap, `ma score` decides on what was missed, too."""
    for record in sealed.records:
        if record.get("ts") is None or record["timeframe"] not in TIMEFRAMES:
            continue  # what names no bar is refused for that where it is read as a decision
        try:
            most_s = min(trader.max_age_s, TIMEFRAMES[record["timeframe"]]) if trader.in_time else trader.max_age_s
            closed = datetime.fromisoformat(record["ts"]) + timedelta(seconds=TIMEFRAMES[record["timeframe"]])
            age_s = (now - closed).total_seconds()
        except (ValueError, TypeError) as error:
            raise Refused(f"{record['ts'][:40]!a} is no instant in UTC") from error
        if age_s < -SKEW_S:
            raise Refused(f"the bar of {record['ts']} has not closed yet; check the clock")
        if age_s > most_s:
            raise Refused(f"the bar closed {age_s:.0f} s ago; at most {most_s:.0f} s are allowed")


def _named(sealed: pipe.Sealed) -> str:
    bar = next((record.get("ts") or record["session"] for record in sealed.records), None)
    return one_line(f"run {sealed.begin.run}" if bar is None else f"the round of {bar}")
