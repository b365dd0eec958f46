"""The home of what a trade costs beside its price: commission and slippage.

Costs are a few numbers in one formula, not code, so that the plain simulation and the compiled one of a sweep
charge the same. Slippage is a fraction of the price, against the trader and the same for every symbol: a
simulation that has daily bars knows nothing better.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from marketagent.errors import UsageError, did_you_mean

Array = npt.NDArray[np.float64]

KNOWN = ("none", "bps:X", "ibkr-fixed")
LARGEST_BPS = 1_000.0  # a tenth of the traded value a side; more is a typing error


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What one order costs; `name` is the text that `parse` reads back.

    The commission in USD is `bps` of the traded value, and `per_share` USD a share of at least `minimum` USD
    but at most the fraction `ceiling` of the traded value.
    """

    name: str
    slippage_bps: float = 0.0
    bps: float = 0.0
    per_share: float = 0.0
    minimum: float = 0.0
    ceiling: float = 0.0

    def commission(self, quantity: npt.ArrayLike, price: npt.ArrayLike) -> Array:
        """Commission in USD of one order a symbol: signed shares and price in, both (N,) or alike.

        At least 0, 0 where nothing is traded (then the price may be NaN), and never less for more shares.

        >>> parse("ibkr-fixed").commission([0, 100, -1000], [np.nan, 50.0, 50.0]).tolist()
        [0.0, 1.0, 5.0]
        """
        shares = np.abs(np.asarray(quantity, dtype=np.float64))
        value = shares * np.asarray(price, dtype=np.float64)
        by_share = np.minimum(np.maximum(self.per_share * shares, self.minimum), self.ceiling * value)
        return np.where(shares == 0, 0.0, self.bps / 10_000 * value + by_share)

    def fill_price(self, price: npt.ArrayLike, quantity: npt.ArrayLike) -> Array:
        """The price after slippage: a buy (positive quantity, or side) pays more, a sale gets less.

        >>> parse("none", slippage_bps=10).fill_price([100.0, 100.0, 100.0], [5, -5, 0]).tolist()
        [100.1, 99.9, 100.0]
        """
        price = np.asarray(price, dtype=np.float64)
        return np.asarray(price + price * np.sign(quantity) * (self.slippage_bps / 10_000))


def parse(text: str, slippage_bps: float = 0.0) -> Costs:
    """The costs that `text` names: ``none``, ``bps:X`` (of the traded value, a side) or ``ibkr-fixed``.

    Raises UsageError for a name that is not known and for a number that is not from 0 to 1000.

    >>> parse("bps:2.5").commission([100], [50.0]).tolist()
    [1.25]
    """
    slippage_bps = _checked_bps(slippage_bps, "slippage_bps")
    form, colon, number = text.strip().lower().partition(":")
    if form == "none" and not colon:
        return Costs(name="none", slippage_bps=slippage_bps)
    if form == "ibkr-fixed" and not colon:
        # Interactive Brokers, IBKR Pro, US stocks, fixed: www.interactivebrokers.com/en/pricing/commissions-stocks.php
        # The ceiling is stronger than the floor. Orders of less than a share have a floor of USD 0.01 there; here
        # they pay the dearer 1.00. Fees that the broker passes on from exchanges and regulators are left out.
        return Costs(name="ibkr-fixed", slippage_bps=slippage_bps, per_share=0.005, minimum=1.0, ceiling=0.01)
    if form == "bps" and colon:
        bps = _checked_bps(number, f"costs {text!r}:")
        return Costs(name=f"bps:{repr(bps).removesuffix('.0')}", slippage_bps=slippage_bps, bps=bps)
    raise UsageError(f"unknown costs {text!r}{did_you_mean(text, KNOWN)} (known: {', '.join(KNOWN)})")


def _checked_bps(value: float | str, what: str) -> float:
    try:
        bps = float(value)
    except ValueError:
        bps = float("nan")  # not a number: refused on the next line, as the text "nan" is
    if not 0 <= bps <= LARGEST_BPS:
        raise UsageError(f"{what} {value!r} is not a number of basis points from 0 to {LARGEST_BPS:g}")
    return bps
