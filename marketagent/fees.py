"""The price lists: what brokers and regulators charge for US stocks, each with its source and the day it was read.

A schedule is a name and some of the numbers of ``costs.Costs``; whoever disagrees with one says so in ``[fees.NAME]`` of
the config. Regulators' fees have dates: a schedule is taken with those of today, or of a day (``ibkr-tiered@2023-06-01``),
and one run is charged one set of them from end to end, as if the list had always been so. Exchange fees depend on where
and how an order is executed; the one here is what taking liquidity costs at most exchanges.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from math import isfinite
from typing import Any

from marketagent.errors import UsageError, did_you_mean

Charges = Mapping[str, Any]

IBKR = "interactivebrokers.com/en/pricing/commissions-stocks.php, US, IBKR Pro, read 2025-07"
ALPACA = "alpaca.markets/support/regulatory-fees, read 2025-07; docs.alpaca.markets/docs/regulatory-fees: rounded up"
RATES = (
    "bps", "per_share", "minimum", "ceiling", "on_commission", "exchange_per_share", "clearing_per_share",
    "clearing_ceiling", "sec_rate", "taf_per_share", "taf_maximum", "cat_per_share",
)  # fmt: skip
SHARES_OF_ONE = ("ceiling", "on_commission", "clearing_ceiling", "sec_rate")  # fractions: more than 1 is a typing error


@dataclass(frozen=True)
class Schedule:
    """A broker's list: `charges` by the names of ``Costs``, where they are published, and when they were read."""

    source: str
    charges: Charges


@dataclass(frozen=True)
class Levy:
    """Regulators' fees from the day `since` on; `source` says by whose notice the list changed that day."""

    since: date
    source: str
    charges: Charges


SCHEDULES: dict[str, Schedule] = {
    # Per share, with a floor an order and a ceiling of 1 % of its value; the ceiling is the stronger. Orders of less than
    # a share have a floor of USD 0.01 there; here they pay the dearer one. Exchange and clearing fees are included.
    "ibkr-fixed": Schedule(IBKR, {"per_share": 0.005, "minimum": 1.0, "ceiling": 0.01}),
    # Volume tiers by the shares of the calendar month, at the margin. NYSE and FINRA pass-through (0.000175 and 0.00056)
    # are fractions of the commission; NSCC and DTC clear at 0.0002 a share, at most half a percent of the trade.
    "ibkr-tiered": Schedule(
        IBKR,
        {
            "tiers": ((0, 0.0035), (300_000, 0.002), (3_000_000, 0.0015), (20_000_000, 0.001), (100_000_000, 0.0005)),
            "minimum": 0.35,
            "ceiling": 0.01,
            "on_commission": 0.000735,
            "exchange_per_share": 0.003,
            "clearing_per_share": 0.0002,
            "clearing_ceiling": 0.005,
        },
    ),
    # No commission. Regulators' fees are rounded up to the cent: there on the day's total, here, not less, on each order.
    "alpaca": Schedule(ALPACA, {"whole_cents": True}),
}

LEVIES: tuple[Levy, ...] = (
    Levy(date(2022, 5, 14), "SEC fee rate advisory 2 for 2022", {"sec_rate": 22.90e-6}),
    Levy(date(2023, 1, 1), "FINRA by-laws, schedule A, 1(b)(2)", {"taf_per_share": 0.000145, "taf_maximum": 7.27}),
    Levy(date(2023, 2, 27), "SEC fee rate advisory 2 for 2023", {"sec_rate": 8.00e-6}),
    Levy(date(2024, 1, 1), "FINRA by-laws, schedule A, 1(b)(2)", {"taf_per_share": 0.000166, "taf_maximum": 8.30}),
    Levy(date(2024, 5, 22), "SEC fee rate advisory 2 for 2024", {"sec_rate": 27.80e-6}),
    Levy(date(2025, 5, 14), "SEC fee rate advisory 3 for 2025", {"sec_rate": 0.0}),
    Levy(date(2025, 7, 1), "CAT fee 2025-2, as Alpaca passes it on", {"cat_per_share": 0.0000265}),
    Levy(date(2026, 1, 1), "FINRA by-laws, schedule A, 1(b)(2)", {"taf_per_share": 0.000195, "taf_maximum": 9.79}),
    Levy(date(2026, 4, 4), "SEC fee rate advisory for 2026", {"sec_rate": 20.60e-6}),
)


def charges(name: str, on: date | None = None, own: Mapping[str, Charges] | None = None) -> dict[str, Any]:
    """Every charge of the schedule `name` by the names of ``Costs``, with the regulators' of the day `on`, else the newest.

    `own` are the user's schedules and changes. Raises UsageError for a charge that cannot be, and for a day before
    the list of regulators' fees begins; KeyError for a schedule that is nowhere.
    """
    changed = {each.lower(): checked(each, table) for each, table in (own or {}).items()}
    if name not in SCHEDULES and name not in changed:
        raise KeyError(name)
    if on is not None and on < LEVIES[0].since:
        raise UsageError(f"costs {name}@{on}: regulators' fees are listed from {LEVIES[0].since} on")
    found: dict[str, Any] = {}
    for levy in LEVIES:
        if on is None or levy.since <= on:
            found |= levy.charges
    found |= SCHEDULES[name].charges if name in SCHEDULES else {"ceiling": 1.0}
    return found | changed.get(name, {})


def checked(name: str, table: object) -> dict[str, Any]:
    """``[fees.NAME]`` of a config, with each charge in its type; raises UsageError with what is wrong."""
    if not isinstance(table, Mapping):
        raise UsageError(f"fees.{name} must be a table, e.g. [fees.{name}] then per_share = 0.004")
    if "@" in name or ":" in name or name in ("none", "bps"):
        raise UsageError(f"fees.{name} is no name for a schedule of your own")
    return {key: _checked(f"fees.{name}.{key}", key, value) for key, value in table.items()}


def _checked(where: str, key: str, value: object) -> Any:
    known = [*RATES, "tiers", "whole_cents"]
    if key not in known:
        raise UsageError(f"unknown charge {where}{did_you_mean(key, known)} (known: {', '.join(known)})")
    if key == "whole_cents":
        if not isinstance(value, bool):
            raise UsageError(f"{where} is {value!r}; it must be true or false")
        return value
    if key == "tiers":
        return _tiers(where, value)
    most = 1.0 if key in SHARES_OF_ONE else 1_000.0
    if not _is_number(value) or not 0 <= value <= most:  # type: ignore[operator]  # a number by the first half
        raise UsageError(f"{where} is {value!r}; it must be a number from 0 to {most:g}")
    return float(value)  # type: ignore[arg-type]  # as above


def _tiers(where: str, value: object) -> tuple[tuple[float, float], ...]:
    """Pairs (shares a month from which, USD a share), the first from 0, rising."""
    pairs = value if isinstance(value, Sequence) and not isinstance(value, str) else ()
    good = all(isinstance(pair, list | tuple) and len(pair) == 2 and all(map(_is_number, pair)) for pair in pairs)
    if pairs and good:
        found = tuple((float(since), float(rate)) for since, rate in pairs)
        starts = [since for since, _ in found]
        if starts[0] == 0 and starts == sorted(set(starts)) and all(0 <= rate <= 1_000 for _, rate in found):
            return found
    raise UsageError(
        f"{where} is {value!r}; it must be like [[0, 0.0035], [300000, 0.002]]: shares a month, USD a share"
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
