"""Where a backtest's money came from: its gain by symbol, and by signal. Both add up to the gain before lending.

By signal is a convention, for no position is held for one signal alone. The gain of a position on a session, its costs
included, is divided among the signals that spoke for it at the newest decision before that session, in proportion to
what each of them added to the score; those that spoke against it have no part in it, neither of a gain nor of a loss.
A decision that leaves a position alone, or ends it, changes nothing of that.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marketagent.backtest import Backtest
from marketagent.decision import Decisions
from marketagent.events import DIVIDEND, SPLIT
from marketagent.panel import Array

NOBODY = "no signal"  # of a target that no signal speaks for
_CENT = 0.01


@dataclass(frozen=True)
class Gains:
    """USD gained up to each session, (T, M), by each of the M symbols that were ever held: `columns` of the panel."""

    columns: NDArray[np.int64]
    so_far: Array

    @property
    def by_symbol(self) -> Array:
        """(M,): what each gained in all."""
        return np.asarray(self.so_far[-1])

    @property
    def total(self) -> float:
        return float(self.by_symbol.sum())


def gains(result: Backtest) -> Gains:
    """What each symbol gained: the cash it has paid out so far, less what was paid for it, and what is held of it."""
    run, panel = result.simulation, result.decisions.panel
    events, first = run.events, len(panel.sessions) - len(run.equity)
    columns, place = np.unique(events.column, return_inverse=True)
    row = events.row - first
    factor = panel.split_factor[first:, columns]
    traded = (events.kind != SPLIT) & (events.kind != DIVIDEND)
    value = events.quantity * events.price
    paid = np.where(traded, -value - events.commission, np.where(events.kind == DIVIDEND, value, 0.0))
    # Counted in shares of the first bar's kind, a split changes nothing.
    bought = np.where(traded, events.quantity / factor[row, place], 0.0)
    worth = _so_far(row, place, bought, factor.shape) * factor * panel.mark[first:, columns]
    return Gains(columns, worth + _so_far(row, place, paid, factor.shape))


def profit_by_symbol(result: Backtest) -> Array:
    """(N,) USD that each symbol made: what came in for it less what went out, and what is still held at its last price.

    Adds up to the account's profit, but for what lending cost.
    """
    run, panel = result.simulation, result.decisions.panel
    events = run.events
    value = events.quantity * events.price
    cash = np.select([events.kind == SPLIT, events.kind == DIVIDEND], [0.0, value], -value - events.commission)
    earned = np.bincount(events.column, weights=cash, minlength=panel.shape[1])
    return np.asarray(earned + run.shares * panel.mark[-1])


def _so_far(row: NDArray[np.int64], place: NDArray[np.int64], values: Array, shape: tuple[int, ...]) -> Array:
    """(T, M): the sum of `values`, each of a session and a symbol, up to each session."""
    added = np.bincount(row * shape[1] + place, weights=values, minlength=shape[0] * shape[1]).reshape(shape)
    return np.cumsum(added, axis=0).astype(np.float64, copy=False)


def by_signal(decisions: Decisions, gained: Gains) -> dict[str, float]:
    """USD by the name of the signal, and of NOBODY where there is something left; see the module."""
    first = len(decisions.panel.sessions) - len(gained.so_far)
    targets = decisions.targets[first:, gained.columns]
    column, row = np.nonzero((np.isfinite(targets) & (targets != 0)).T)  # the decisions to hold, of a symbol together
    gain = _gain_of_each(column, row, gained.so_far)
    side, cell = np.sign(targets[row, column]), (first + row, gained.columns[column])
    spoke = {name: _part(decisions, name, cell, side) for name in decisions.signals}
    whole = sum(spoke.values(), np.zeros(len(row)))
    each = np.divide(gain, whole, out=np.zeros_like(gain), where=whole > 0)
    found = {name: float((each * part).sum()) for name, part in spoke.items()}
    rest = gained.total - sum(found.values())
    return {**found, NOBODY: rest} if abs(rest) >= _CENT else found


def _gain_of_each(column: NDArray[np.int64], row: NDArray[np.int64], so_far: Array) -> Array:
    """(K,): what a symbol gained from the session after each decision up to that of its next one.

    What it gained up to the session of its first one, which is the cost of a fill at the same close, goes to the first.
    """
    ends = np.append(column[1:] != column[:-1], True)
    until = np.where(ends, len(so_far) - 1, np.append(row[1:], 0))
    starts = np.insert(ends[:-1], 0, True) if len(ends) else ends
    before = np.where(starts, 0.0, so_far[row, column])
    return np.asarray(so_far[until, column] - before)


def _part(decisions: Decisions, name: str, cell: tuple[NDArray[np.int64], NDArray[np.int64]], side: Array) -> Array:
    """(K,): what the signal adds to the score on the `side` of the target, 0 if it abstains or is against it."""
    value = np.nan_to_num(decisions.signals[name].value[cell])
    return np.asarray(np.maximum(value * decisions.strategy.weights.get(name, 1.0) * side, 0.0))
