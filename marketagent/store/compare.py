"""Where two sources disagree about the same bars."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from marketagent.records import Difference
from marketagent.store.database import opened
from marketagent.store.market import MARKET

PRICES = ("open", "high", "low", "close")


@dataclass(frozen=True)
class Compared:
    """`differences` of one symbol, and of how many bars: that both have, and that only one of them has."""

    symbol: str
    both: int
    only_left: int
    only_right: int
    differences: tuple[Difference, ...]


def read_compared(
    home: Path,
    symbols: Sequence[str],
    left: str,
    right: str,
    timeframe: str,
    span: tuple[date | None, date | None],
    *,
    tolerance: float,
    timeout_s: float,
) -> list[Compared]:
    """What sources `left` and `right` have stored of each symbol, price by price.

    Only sessions count that were looked at in both. A price counts that differs by more than `tolerance`, a
    fraction, and a bar that only one of them has. Volumes are not compared: feeds count different parts of the tape.
    """
    first, last = span
    with opened(home / MARKET, timeout_s=timeout_s) as con:
        rows = con.execute(
            f"""
            WITH chosen AS (
                FROM bars WHERE timeframe = $timeframe AND list_contains($symbols::VARCHAR[], symbol)
                AND session BETWEEN coalesce($first::DATE, DATE '1800-01-01') AND coalesce($last::DATE, DATE '2200-01-01')
                AND (SELECT count(DISTINCT c.source) FROM coverage c WHERE c.source IN ($left, $right) AND c.symbol = bars.symbol
                     AND c.timeframe = $timeframe AND bars.session BETWEEN c.first AND c.last) = 2
            ), l AS (FROM chosen WHERE source = $left), r AS (FROM chosen WHERE source = $right)
            SELECT symbol, ts, coalesce(l.session, r.session), l.symbol IS NOT NULL, r.symbol IS NOT NULL,
                   {", ".join(f"l.{name}, r.{name}" for name in PRICES)}
            FROM l FULL JOIN r USING (symbol, ts) ORDER BY symbol, ts
            """,
            {
                "timeframe": timeframe,
                "symbols": list(symbols),
                "first": first,
                "last": last,
                "left": left,
                "right": right,
            },
        ).fetchall()
    found = []
    for symbol in symbols:
        mine = [row for row in rows if row[0] == symbol]
        only_left = sum(row[3] and not row[4] for row in mine)
        only_right = sum(row[4] and not row[3] for row in mine)
        pairs = (left, right)
        differences = tuple(one for row in mine for one in _differences(row, pairs, timeframe, tolerance))
        found.append(Compared(symbol, len(mine) - only_left - only_right, only_left, only_right, differences))
    return found


def _differences(row: tuple[Any, ...], pair: tuple[str, str], timeframe: str, tolerance: float) -> list[Difference]:
    symbol, ts, session, has_left, has_right, *prices = row

    def differs(name: str, left: float | None, right: float | None, by: float | None = None) -> Difference:
        return Difference(
            symbol=symbol,
            session=str(session),
            field=name,
            left_source=pair[0],
            left=left,
            right_source=pair[1],
            right=right,
            difference=by,
            ts=None if timeframe == "1d" else f"{ts.isoformat()}Z",
            timeframe=timeframe,
        )

    if not (has_left and has_right):
        return [differs("bar", 1.0 if has_left else None, 1.0 if has_right else None)]
    sides = zip(PRICES, prices[::2], prices[1::2], strict=True)
    return [differs(name, a, b, a / b - 1) for name, a, b in sides if abs(a / b - 1) > tolerance]
