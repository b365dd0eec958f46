"""Actions into target weights: the share of equity each symbol should have.

Sums over symbols run left to right, one addition at a time: the sum over a part of the universe then equals
the sum over all of it with the rest at zero, to the bit. That is what lets a paper account that knows six
symbols and a backtest that knows five hundred agree.
"""

import numpy as np
from numpy.typing import NDArray

from marketagent.ensemble import BUY, SELL
from marketagent.panel import Array

METHODS = ("equal", "score", "inverse_volatility", "top_k")
VOLATILITY_WINDOW = 63  # a quarter of sessions


def target_weights(
    action: NDArray[np.int8],
    score: Array,
    volatility: Array,
    *,
    method: str,
    top_k: int,
    gross: float,
    max_weight: float,
    long_only: bool,
) -> Array:
    """(T, N) target weights: a buy gets its share of `gross`, a sell 0 (or a short share), a hold NaN.

    equal: the chosen share `gross` evenly. score: by the size of the score. inverse_volatility: by one over
    `volatility` (T, N); a symbol without one is left out. top_k: the `top_k` best scores share evenly, every
    other symbol with a score goes to 0. A weight above `max_weight` is cut to it and not handed to others.
    """
    chosen = action == BUY
    if not long_only:
        chosen = chosen | (action == SELL)
    pull = _pull(chosen, score, volatility, method, top_k)
    total = row_total(pull)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):  # a row without a choice has no weights to give
        weight = np.minimum(np.where(pull > 0, gross * pull / total, 0.0), max_weight)
    weight = np.where(action == SELL, -weight, weight) if not long_only else weight
    leave = ~np.isfinite(score) if method == "top_k" else action != SELL
    return np.where(leave & (pull == 0), np.nan, weight)


def row_total(values: Array) -> Array:
    """(T,): the sum of each row, added from left to right."""
    return np.add.accumulate(values, axis=1)[:, -1] if values.shape[1] else np.zeros(len(values))


def _pull(chosen: NDArray[np.bool_], score: Array, volatility: Array, method: str, top_k: int) -> Array:
    """(T, N): how strongly each chosen symbol asks for its share, 0 where it is not chosen."""
    if method == "equal":
        return chosen.astype(np.float64)
    if method == "score":
        return np.where(chosen, np.abs(score), 0.0)
    if method == "inverse_volatility":
        usable = chosen & (volatility > 0)
        return np.where(usable, 1.0 / np.where(usable, volatility, 1.0), 0.0)
    if method == "top_k":
        strength = np.where(chosen, np.abs(score), -np.inf)
        order = np.argsort(-strength, axis=1, kind="stable")  # equal scores: the first symbol wins
        best = np.zeros(chosen.shape, dtype=bool)
        np.put_along_axis(best, order[:, :top_k], True, axis=1)
        return (best & chosen).astype(np.float64)
    raise ValueError(f"sizing {method!r} is none of {', '.join(METHODS)}")
