"""One decision, three callers: what ``ma score``, ``ma backtest`` and ``ma trade`` all rest on.

    signals  = strategy.signals(panel, opinions)
    scored   = ensemble(signals, weights)
    targets  = target_weights(act(scored), ...)      on the rows the strategy is due, NaN elsewhere

``ma score`` writes the last row, ``ma backtest`` trades all rows. There is no second way to decide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marketagent.ensemble import ACTIONS, act, ensemble, explain
from marketagent.errors import MarketAgentError
from marketagent.indicators import volatility
from marketagent.panel import Array, Panel
from marketagent.sessions import due
from marketagent.signals import Signal
from marketagent.sizing import VOLATILITY_WINDOW, target_weights
from marketagent.strategy import Opinions, Strategy


class BadStrategy(MarketAgentError):
    """A strategy's signals are not what the engine can use; the text names the strategy."""


@dataclass(frozen=True)
class Decisions:
    """What a strategy wants, all (T, N): score (NaN without one), confidence, action (-1, 0, 1), target weight.

    `targets` is NaN where the position is to be left alone: on a hold, and on sessions that are not due. `stored` names
    the opinions that the strategy was given.
    """

    panel: Panel
    strategy: Strategy
    signals: Mapping[str, Signal]
    score: Array
    confidence: Array
    action: NDArray[np.int8]
    targets: Array
    due: NDArray[np.bool_]
    stored: frozenset[str] = frozenset()

    def reasoning(self, t: int, n: int) -> str:
        action = ACTIONS[int(self.action[t, n])]
        if not self.panel.has_bar[t, n]:
            return f"{action} (no bar)"
        bars = int(self.panel.has_bar[: t + 1, n].sum())
        if bars < self.strategy.warmup:
            return f"{action} ({bars} bars are stored, the strategy needs {self.strategy.warmup})"
        text = explain(self.signals, self.strategy.weights, t, n, action=action, threshold=self.strategy.threshold)
        return text if self.due[t] else f"{text}; not due, decides {self.strategy.rebalance}"


def decide(strategy: Strategy, panel: Panel, opinions: Opinions | None = None) -> Decisions:
    """Every decision of `strategy` over `panel`; row t rests on rows up to t and is the same in a longer panel.

    The strategy gets arrays it cannot write to. Raises BadStrategy when the signals have the wrong shape or are
    none, or their weights cannot weigh.
    """
    panel = panel.locked()
    signals = signals_of(strategy, panel, opinions or {})
    scored = ensemble(signals, strategy.weights)
    # A symbol without a bar on a session is not decided on: there is no close to decide at. Nor is one with fewer
    # bars than the strategy needs: some of its signals may speak already, but not all.
    ready = panel.has_bar & (np.cumsum(panel.has_bar, axis=0) >= strategy.warmup)
    score = np.where(ready, scored.score, np.nan)
    scored = type(scored)(score, np.where(ready, scored.confidence, 0.0))
    action = act(scored, threshold=strategy.threshold, min_confidence=strategy.min_confidence)
    on = due(panel.sessions, strategy.rebalance)
    rows = slice(None) if on.all() else np.flatnonzero(on)
    targets = np.full(panel.shape, np.nan)
    targets[rows] = target_weights(
        action[rows],
        score[rows],
        _volatility(strategy, panel)[rows],
        method=strategy.sizing,
        top_k=strategy.top_k,
        gross=strategy.gross,
        max_weight=strategy.max_weight,
        long_only=strategy.long_only,
    )
    return Decisions(panel, strategy, signals, score, scored.confidence, action, targets, on, frozenset(opinions or ()))


def _volatility(strategy: Strategy, panel: Panel) -> Array:
    if strategy.sizing != "inverse_volatility":
        return np.full(panel.shape, np.nan)
    return volatility(panel.close, VOLATILITY_WINDOW)


def signals_of(strategy: Strategy, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
    """The signals of `strategy` on a locked `panel`; raises BadStrategy for what cannot be used or weighed."""
    return usable(strategy, strategy.signals(panel, opinions), panel.shape)


def usable(strategy: Strategy, signals: object, shape: tuple[int, ...]) -> dict[str, Signal]:
    """What ``strategy.signals`` gave of a panel of this shape, if it can be used; raises BadStrategy."""
    name = type(strategy).__name__
    if not isinstance(signals, dict) or not signals:
        raise BadStrategy(f"{name}.signals() gave {type(signals).__name__}; it must give a dict of at least one Signal")
    for key, signal in signals.items():
        if not isinstance(signal, Signal):
            raise BadStrategy(f"{name}.signals() gave {type(signal).__name__} for {key!r}; it must be a Signal")
        if signal.value.shape != shape:
            raise BadStrategy(f"signal {key!r} of {name} is {signal.value.shape}; the panel is {shape}")
    check_weights(strategy, list(signals))
    return signals


def check_weights(strategy: Strategy, names: Sequence[str]) -> None:
    """Raise BadStrategy if signals of these `names` cannot be weighed as ``strategy.weights`` says."""
    kind, weights = type(strategy).__name__, [strategy.weights.get(name, 1.0) for name in names]
    for name, weight in zip(names, weights, strict=True):
        if not 0 <= weight < np.inf:
            raise BadStrategy(f"the weight of signal {name!r} of {kind} is {weight!r}; it must be 0 or more")
    if not any(weights):
        raise BadStrategy(f"the signals of {kind} all have the weight 0; one must have more")
