"""A signal: what one idea says of each symbol on each session, and how sure it is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from marketagent.deferred import Deferred, kept
from marketagent.panel import Array

_PLAIN = (Deferred, int, float)  # what a sweep takes for a confidence as it is


@dataclass(frozen=True, init=False)
class Signal:
    """`value` in [-1, 1] (sell .. buy) and `confidence` in [0, 1], both (T, N).

    NaN in either abstains there: abstaining is not neutral, it is left out of the score and lowers the
    confidence of the whole. A confidence of one number holds for every value. Raises ValueError for a value
    out of range, infinite or of another shape than its confidence.
    """

    value: Array
    confidence: Array

    def __init__(self, value: ArrayLike | Deferred, confidence: ArrayLike | Deferred = 1.0) -> None:
        value, confidence = kept(value), kept(confidence)
        is_known = not isinstance(confidence, float) or confidence == confidence  # else it abstains everywhere
        if isinstance(value, Deferred) and isinstance(confidence, _PLAIN) and is_known:
            object.__setattr__(self, "value", value)  # in a sweep: whoever computes it looks at the range, too
            object.__setattr__(self, "confidence", confidence)
            return
        values = np.ascontiguousarray(value, dtype=np.float64)
        sure = np.asarray(confidence, dtype=np.float64)
        if sure.ndim == 0:
            sure = np.full(values.shape, sure)
        if sure.shape != values.shape:
            raise ValueError(f"confidence is {sure.shape}, value is {values.shape}; they must be of one shape")
        _within(values, -1, 1, "value")
        _within(sure, 0, 1, "confidence")
        silent = np.isnan(values) | np.isnan(sure)
        object.__setattr__(self, "value", np.where(silent, np.nan, values))
        object.__setattr__(self, "confidence", np.where(silent, np.nan, sure))


def _within(values: Array, low: float, high: float, what: str) -> None:
    bad = (values < low) | (values > high)  # false for NaN, true for infinities
    if bad.any():
        raise ValueError(f"{what} {values[bad][0]:g} is outside [{low}, {high}]")
