"""The home of what a trade costs beside its price: commission, fees, slippage, and what is lent overnight.

Costs are a few numbers in one formula, not code, so that the plain simulation and the compiled one of a sweep
charge the same; where the numbers come from is ``fees``. A simulation of another make asks `Costs.unknown_to` whether
it knows all the numbers that act. Slippage is a fraction of the price, against the trader.

    move       = slippage_bps / 10,000 + min(impact * volatility * sqrt(shares / volume), 1/2)
    commission = min(max(per share, minimum), ceiling * value), per share at the margin of the month's tiers
    fees       = on_commission * commission + shares * exchange + min(shares * clearing, clearing_ceiling * value)
    regulators = shares * cat; of a sale also value * sec and min(shares * taf, taf_maximum)

`volatility` and `volume` are those of a bar, over the bars before (see ``liquidity``). The square-root law is the same at
every length of bar: a minute has a 390th of the day's volume and the square root of that of its volatility.
Torre, BARRA Market Impact Model Handbook (1997); Almgren et al., Direct Estimation of Equity Market Impact (2005).
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt

from marketagent import fees
from marketagent.errors import UsageError, did_you_mean

Array = npt.NDArray[np.float64]

KNOWN = ("none", "bps:X", *fees.SCHEDULES)
SLIPPAGE = ("fixed:BPS", "spread:BPS", "volume:SHARE", "sqrt:COEF")
_EXAMPLES = {"fixed": "fixed:5", "spread": "spread:10", "volume": "volume:0.1", "sqrt": "sqrt:1"}
LARGEST_BPS = 1_000.0  # a tenth of the traded value a side; more is a typing error
LARGEST_IMPACT = 0.5  # of the price: beyond it the law is out of its depth, and a sale must still fetch something
LARGEST_RATE = 1.0  # a year, for what is borrowed
CENT_HAIR = 1e-9  # of a cent: 12.000000000000002 cents are 12


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What one order costs; `name` and `slippage` are the texts that `parse` reads back.

    The commission in USD is `bps` of the traded value, and `per_share` USD a share, or that of the month's `tiers`
    (shares from which, USD a share), of at least `minimum` USD but at most the fraction `ceiling` of the traded value.
    `participation` is the share of a bar's volume that one order may be (0: no limit), `impact` the coefficient of
    the square-root law, `borrow_rate` and `margin_rate` a year on short positions and on negative cash.
    """

    name: str
    slippage_bps: float = 0.0
    bps: float = 0.0
    per_share: float = 0.0
    minimum: float = 0.0
    ceiling: float = 0.0
    tiers: tuple[tuple[float, float], ...] = ()
    on_commission: float = 0.0
    exchange_per_share: float = 0.0
    clearing_per_share: float = 0.0
    clearing_ceiling: float = 0.0
    sec_rate: float = 0.0
    taf_per_share: float = 0.0
    taf_maximum: float = 0.0
    cat_per_share: float = 0.0
    whole_cents: bool = False
    slippage: str = ""
    participation: float = 0.0
    impact: float = 0.0
    borrow_rate: float = 0.0
    margin_rate: float = 0.0

    def commission(self, quantity: npt.ArrayLike, price: npt.ArrayLike, traded: float = 0.0) -> Array:
        """Commission and fees in USD of one order a symbol: signed shares and price in, both (N,) or alike.

        `traded` are the shares of the month before; orders of one instant all start from there. At least 0, 0 where
        nothing is traded (then the price may be NaN), and never less for more shares.

        >>> parse("ibkr-fixed@2025-06-01").commission([0, 100, -1000], [np.nan, 50.0, 50.0]).tolist()
        [0.0, 1.0, 5.166]
        """
        signed = np.asarray(quantity, dtype=np.float64)
        shares = np.abs(signed)
        value = shares * np.asarray(price, dtype=np.float64)
        due, by_share = self.bps / 10_000 * value, np.zeros(())
        if self.ceiling:  # without one nothing is charged by the share
            each = self._by_tiers(shares, traded) if self.tiers else self.per_share * shares
            by_share = np.minimum(np.maximum(each, self.minimum), self.ceiling * value)
            due = due + by_share
        if self._passes_on:
            due = due + self._passed_on(shares, value, by_share)
        if self._is_levied:
            due = due + self._levied(signed, shares, value)
        return np.where(shares, due, 0.0)

    def commission_of(self, quantity: float, price: float, traded: float = 0.0) -> float:
        """``commission`` of one order, in numbers instead of arrays: the same to the bit, in a tenth of the time."""
        if quantity == 0:
            return 0.0
        shares = abs(quantity)
        value = shares * price
        each = self._one_by_tiers(shares, traded) if self.tiers else self.per_share * shares
        by_share = min(max(each, self.minimum), self.ceiling * value)
        due = self.bps / 10_000 * value + by_share
        if self._passes_on:
            clearing = min(self.clearing_per_share * shares, self.clearing_ceiling * value)
            due += self.on_commission * by_share + self.exchange_per_share * shares + clearing
        if self._is_levied:
            levied = self.cat_per_share * shares
            if quantity < 0:
                levied += self.sec_rate * value + min(self.taf_per_share * shares, self.taf_maximum)
            due += math.ceil(levied * 100 - CENT_HAIR) / 100 if self.whole_cents else levied
        return due

    def fill_price(self, price: npt.ArrayLike, quantity: npt.ArrayLike, pressure: npt.ArrayLike | None = None) -> Array:
        """The price after slippage: a buy (positive quantity, or side) pays more, a sale gets less.

        `pressure` (N,) is the impact of one share, where the law is in force: it grows with the root of the shares.

        >>> parse("none", slippage_bps=10).fill_price([100.0, 100.0, 100.0], [5, -5, 0]).tolist()
        [100.1, 99.9, 100.0]
        """
        price = np.asarray(price, dtype=np.float64)
        if not self.slippage_bps and pressure is None:
            return price
        move: Any = self.slippage_bps / 10_000
        if pressure is not None:
            shares = np.abs(np.asarray(quantity, dtype=np.float64))
            move = move + np.minimum(np.asarray(pressure) * np.sqrt(shares), LARGEST_IMPACT)
        return np.asarray(price + price * np.sign(quantity) * move)

    def fill_price_of(self, price: float, quantity: float, pressure: float | None = None) -> float:
        """``fill_price`` of one order, in numbers: the same to the bit."""
        move = self.slippage_bps / 10_000
        if pressure is not None:
            move += min(pressure * math.sqrt(abs(quantity)), LARGEST_IMPACT)
        return price + price * ((quantity > 0) - (quantity < 0)) * move

    def flat(self, bps: float) -> "Costs":
        """The same market at one flat cost: `bps` of the traded value instead of commission, fees, slippage and impact.

        What limits or lends stays: the share of the volume, the rates of borrowing.
        """
        return Costs(
            name=f"bps:{bps!r}",
            bps=bps,
            participation=self.participation,
            borrow_rate=self.borrow_rate,
            margin_rate=self.margin_rate,
        )

    def unknown_to(self, known: Collection[str]) -> list[str]:
        """The fields that act here and are not in `known`: what a simulation that knows only those must refuse."""
        texts = ("name", "slippage")
        return [f.name for f in fields(self) if f.name not in (*texts, *known) and getattr(self, f.name)]

    @property
    def lends(self) -> bool:
        """Whether holding a short position, or owing cash, costs anything overnight."""
        return bool(self.borrow_rate or self.margin_rate)

    @property
    def _passes_on(self) -> bool:
        return bool(self.on_commission or self.exchange_per_share or self.clearing_per_share)

    @property
    def _is_levied(self) -> bool:
        return bool(self.sec_rate or self.taf_per_share or self.cat_per_share)

    def _by_tiers(self, shares: Array, traded: float) -> Array:
        """USD for `shares` after `traded` ones: each part at the rate of the tier it falls into."""
        due = np.zeros_like(shares)
        for k, (since, rate) in enumerate(self.tiers):
            until = self.tiers[k + 1][0] if k + 1 < len(self.tiers) else np.inf
            if until > traded:
                due = due + rate * np.clip(traded + shares - max(since, traded), 0.0, until - max(since, traded))
        return due

    def _one_by_tiers(self, shares: float, traded: float) -> float:
        """``_by_tiers`` of one order."""
        due = 0.0
        for k, (since, rate) in enumerate(self.tiers):
            until = self.tiers[k + 1][0] if k + 1 < len(self.tiers) else math.inf
            if until > traded:
                first = max(since, traded)
                due += rate * min(max(traded + shares - first, 0.0), until - first)
        return due

    def _passed_on(self, shares: Array, value: Array, commission: Array) -> Array:
        clearing = np.minimum(self.clearing_per_share * shares, self.clearing_ceiling * value)
        return np.asarray(self.on_commission * commission + self.exchange_per_share * shares + clearing)

    def _levied(self, signed: Array, shares: Array, value: Array) -> Array:
        due, sold = self.cat_per_share * shares, signed < 0
        if sold.any():
            sale = self.sec_rate * value + np.minimum(self.taf_per_share * shares, self.taf_maximum)
            due = due + np.where(sold, sale, 0.0)
        return np.ceil(due * 100 - CENT_HAIR) / 100 if self.whole_cents else np.asarray(due)


def parse(
    text: str,
    slippage_bps: float = 0.0,
    slippage: str = "",
    *,
    borrow_rate: float = 0.0,
    margin_rate: float = 0.0,
    own: Mapping[str, fees.Charges] | None = None,
) -> Costs:
    """The costs that `text` names: ``none``, ``bps:X`` (of the traded value, a side), or a schedule of ``fees``.

    A schedule may have a day behind it (``ibkr-tiered@2023-06-01``): regulators' fees as they were then. `slippage` is
    one or more of SLIPPAGE, with commas between; a fixed one and `slippage_bps` exclude each other. `own` are schedules
    of the user's. Raises UsageError for a name that is not known and for a number that makes no sense.

    >>> parse("bps:2.5").commission([100], [50.0]).tolist()
    [1.25]
    """
    moved = _slippage(slippage, _checked_bps(slippage_bps, "slippage_bps"))
    rates: dict[str, Any] = {
        "borrow_rate": _checked_number(borrow_rate, "borrow_rate", LARGEST_RATE),
        "margin_rate": _checked_number(margin_rate, "margin_rate", LARGEST_RATE),
    }
    plain = text.strip().lower()
    form, colon, number = plain.partition(":")
    if plain == "none":
        return Costs(name="none", **moved, **rates)
    if form == "bps" and colon:
        bps = _checked_bps(number, f"costs {text!r}:")
        return Costs(name=f"bps:{repr(bps).removesuffix('.0')}", bps=bps, **moved, **rates)
    name, at, day = plain.partition("@")
    try:
        return Costs(name=plain, **fees.charges(name, _day(text, day) if at else None, own), **moved, **rates)
    except KeyError as error:
        known = [*KNOWN, *(each for each in own or {} if each not in KNOWN)]
        raise UsageError(f"unknown costs {text!r}{did_you_mean(text, known)} (known: {', '.join(known)})") from error


def _slippage(text: str, fixed_bps: float) -> dict[str, Any]:
    """The fields of ``Costs`` that the parts of `text` name; half the spread is charged like any fixed slippage."""
    found: dict[str, Any] = {"slippage": text.strip().lower(), "slippage_bps": fixed_bps}
    given: set[str] = set()
    for part in found["slippage"].split(",") if found["slippage"] else ():
        form, _, number = (piece.strip() for piece in part.partition(":"))
        known = f"(known: {', '.join(SLIPPAGE)}; several with commas)"
        if not part.strip():
            raise UsageError(f"slippage {text!r} has nothing where one should be {known}")
        if form not in _EXAMPLES:
            raise UsageError(f"unknown slippage {part!r}{did_you_mean(form, _EXAMPLES)} {known}")
        if not number:
            raise UsageError(f"slippage {part!r} lacks its number, e.g. {_EXAMPLES[form]}")
        if form in given or (form == "fixed" and fixed_bps):
            other = "slippage_bps" if fixed_bps else "another"
            raise UsageError(f"slippage {text!r} says twice how much it is: {part} and {other}")
        given.add(form)
        if form in ("fixed", "spread"):
            found["slippage_bps"] += _checked_bps(number, f"slippage {part!r}:")
        elif form == "volume":
            found["participation"] = _checked_number(number, f"slippage {part!r}:", 1.0, least=1e-9)
        else:
            found["impact"] = _checked_number(number, f"slippage {part!r}:", 100.0)
    return found


def _day(text: str, day: str) -> date:
    try:
        return date.fromisoformat(day)
    except ValueError as error:
        raise UsageError(f"costs {text!r}: {day!r} is not a date such as 2024-01-31") from error


def _checked_bps(value: float | str, what: str) -> float:
    try:
        bps = float(value)
    except ValueError:
        bps = float("nan")  # not a number: refused on the next line, as the text "nan" is
    if not 0 <= bps <= LARGEST_BPS:
        raise UsageError(f"{what} {value!r} is not a number of basis points from 0 to {LARGEST_BPS:g}")
    return bps


def _checked_number(value: float | str, what: str, most: float, least: float = 0.0) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")  # as above
    if not least <= number <= most:
        raise UsageError(f"{what} {value!r} is not a number from {least:g} to {most:g}")
    return number
