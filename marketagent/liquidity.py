"""How much of a symbol can be traded on a bar, and how far an order moves it: from volume and volatility.

The law's volume and volatility are those of the WINDOW rows before the bar an order fills on, computed from these rows
alone: known before the order fills, and the same to the bit however long the history is. The limit is a share of the
volume of the bar itself, which nobody knows before; it says what could have been had, and decides nothing.
"""

from dataclasses import dataclass, replace

import numpy as np

from marketagent.costs import Costs
from marketagent.panel import Array, Panel, Raw

WINDOW = 20  # rows: a month of sessions
LEAST = 5  # returns within them, before a volatility is one


@dataclass(frozen=True)
class Liquidity:
    """(N,) each: the shares that may trade (infinite without a limit), and the impact of one share, None without.

    A symbol whose volume or volatility is not known has the limit 0 where it is asked for: what cannot be measured
    is not filled.
    """

    limit: Array
    pressure: Array | None


def liquidity(panel: Panel, t: int, costs: Costs) -> Liquidity | None:
    """The liquidity of row `t` for orders at these `costs`; None where they do not ask for it."""
    if not (costs.participation or costs.impact):
        return None
    limit = np.full(panel.shape[1], np.inf)
    if costs.participation:
        limit = costs.participation * np.nan_to_num(panel.raw.volume[t])
    if not costs.impact:
        return Liquidity(limit, None)
    volume, deviation = _before(panel, t)
    known = (volume > 0) & np.isfinite(deviation)
    pressure = costs.impact * np.where(known, deviation, 0.0) / np.sqrt(np.where(known, volume, 1.0))
    return Liquidity(np.where(known, limit, 0.0), pressure)


def _before(panel: Panel, t: int) -> tuple[Array, Array]:
    """(N,) mean volume of a bar, in shares of row `t`, and sample deviation of its return, over the rows before `t`."""
    recent = _rows(panel, max(t - WINDOW - 1, 0), t)
    if not len(recent.sessions):
        return np.zeros(panel.shape[1]), np.full(panel.shape[1], np.nan)
    count = np.isfinite(recent.returns).sum(axis=0)
    bars = recent.has_bar[-WINDOW:].sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):  # without a bar 0 / 0 is the NaN that is meant
        mean = _down(recent.returns) / count
        spread = _down((recent.returns - mean) ** 2) / (count - 1)
        volume = _down(recent.volume[-WINDOW:]) / bars * (recent.split_factor[-1] * panel.split[t])
    return volume, np.where(count >= LEAST, np.sqrt(spread), np.nan)


def _down(values: Array) -> Array:
    """(N,): the sum of each column without its NaN, from the top down: the same bits whatever columns stand beside it."""
    return np.asarray(np.nan_to_num(values).cumsum(axis=0)[-1])


def _rows(panel: Panel, first: int, last: int) -> Panel:
    """The rows from `first` to before `last`, as if they were all there is: adjusted from the first of them on."""
    part = slice(first, last)
    raw = Raw(**{name: getattr(panel.raw, name)[part] for name in Raw.__dataclass_fields__})
    return replace(
        panel, sessions=panel.sessions[part], raw=raw, split=panel.split[part], dividend=panel.dividend[part]
    )
