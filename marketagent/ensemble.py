"""Several signals into one score a symbol, and the score into an action, with the reasons in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from marketagent.panel import Array
from marketagent.signals import Signal

BUY, HOLD, SELL = 1, 0, -1
ACTIONS: dict[int, Literal["buy", "hold", "sell"]] = {BUY: "buy", HOLD: "hold", SELL: "sell"}


@dataclass(frozen=True)
class Scored:
    """`score` in [-1, 1], NaN where every signal abstained; `confidence` in [0, 1]; both (T, N)."""

    score: Array
    confidence: Array


def ensemble(signals: Mapping[str, Signal], weights: Mapping[str, float]) -> Scored:
    """Weigh `signals` (at least one) into one score: the weighted mean of the values of those that do not abstain.

    The confidence is the weighted mean of all confidences, an abstainer counting 0: two signals of which one is
    silent are half as sure as one alone. A signal without an entry in `weights` weighs 1.

    >>> up, silent = Signal([[1.0]], 0.8), Signal([[np.nan]])
    >>> both = ensemble({"up": up, "silent": silent}, {})
    >>> both.score.item(), both.confidence.item()
    (1.0, 0.4)
    """
    shape = next(iter(signals.values())).value.shape
    value, spoken, sure = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    total = 0.0
    for name, signal in signals.items():
        weight = weights.get(name, 1.0)
        speaks = np.isfinite(signal.value)
        value += np.where(speaks, weight * signal.value, 0.0)
        spoken += np.where(speaks, weight, 0.0)
        sure += np.where(speaks, weight * signal.confidence, 0.0)
        total += weight
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 where all abstain is the NaN that is meant
        score = np.clip(value / spoken, -1.0, 1.0)  # clipped: a mean of ones may come out one bit above 1
    return Scored(score, np.clip(sure / total, 0.0, 1.0))


def act(scored: Scored, *, threshold: float, min_confidence: float) -> NDArray[np.int8]:
    """(T, N): buy above `threshold`, sell below its negative, hold between, in doubt or without a score."""
    sure = scored.confidence >= min_confidence
    buys = sure & (scored.score > threshold)
    sells = sure & (scored.score < -threshold)
    return (buys.astype(np.int8) - sells.astype(np.int8)).astype(np.int8)


def explain(
    signals: Mapping[str, Signal], weights: Mapping[str, float], t: int, n: int, *, action: str, threshold: float
) -> str:
    """Why the decision on row `t`, column `n` is what it is: each signal's part, in words and numbers."""
    parts = []
    spoken = sum(weights.get(name, 1.0) for name, signal in signals.items() if np.isfinite(signal.value[t, n]))
    for name, signal in signals.items():
        value, sure, weight = signal.value[t, n], signal.confidence[t, n], weights.get(name, 1.0)
        if not np.isfinite(value):
            parts.append(f"{name} abstains")
            continue
        leaning = "for" if value > 0 else "against" if value < 0 else "neutral"
        adds = value * weight / spoken if spoken else 0.0
        parts.append(f"{name} {leaning} {value:+.2f}, confidence {sure:.2f}, adds {adds:+.2f}")
    return f"{action} ({'; '.join(parts)}; threshold {threshold:.2f})"
