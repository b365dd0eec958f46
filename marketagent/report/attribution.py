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
from marketagent.panel import Array
from marketagent.simulate import DIVIDEND, SPLIT

NOBODY = "no signal"  # of a target that no signal speaks for


@dataclass(frozen=True)
class Gains:
    """USD by session and symbol, (T, M), of the M symbols that were ever held: `columns` of the panel."""

    columns: NDArray[np.int64]
    by_session: Array

    @property
    def by_symbol(self) -> Array:
        """(M,), dearest loss and best gain where they stand in the panel."""
        return np.asarray(self.by_session.sum(axis=0))


def gains(result: Backtest) -> Gains:
    """What each symbol gained on each session: the change of what it is worth, and the cash it paid or took."""
    run, panel = result.simulation, result.decisions.panel
    events, first = run.events, len(panel.sessions) - len(run.equity)
    columns, place = np.unique(events.column, return_inverse=True)
    cell = (events.row - first, place)
    factor = panel.split_factor[first:, columns]
    traded = (events.kind != SPLIT) & (events.kind != DIVIDEND)
    changed, cash = np.zeros_like(factor), np.zeros_like(factor)
    # Counted in shares of the first bar's kind, a split changes nothing.
    np.add.at(changed, cell, np.where(traded, events.quantity / factor[cell], 0.0))
    value = events.quantity * events.price
    paid = np.where(traded, -value - events.commission, np.where(events.kind == DIVIDEND, value, 0.0))
    np.add.at(cash, cell, paid)
    worth = np.cumsum(changed, axis=0) * factor * panel.mark[first:, columns]
    return Gains(columns, cash + np.diff(worth, axis=0, prepend=0.0))


def by_signal(decisions: Decisions, gained: Gains) -> dict[str, float]:
    """USD by the name of the signal, and of NOBODY where there is something left; see the module."""
    columns, by_session = gained.columns, gained.by_session
    first = len(decisions.panel.sessions) - len(by_session)
    spoke = {name: _part(decisions, name, columns) for name in decisions.signals}
    whole = sum(spoke.values(), np.zeros(by_session.shape[1]))
    decided = _newest_decision(decisions, columns, first)
    column = np.arange(len(columns))
    sum_then = np.where(decided >= 0, whole[decided, column], 0.0)
    found = {}
    for name, part in spoke.items():
        share = np.divide(part[decided, column], sum_then, out=np.zeros_like(by_session), where=sum_then > 0)
        found[name] = float((by_session * share).sum())
    rest = float(by_session.sum()) - sum(found.values())
    return {**found, NOBODY: rest} if abs(rest) >= 0.005 else found


def _part(decisions: Decisions, name: str, columns: NDArray[np.int64]) -> Array:
    """(T, M): what the signal adds to the score on the side of the target, 0 if it abstains or is against it."""
    value = decisions.signals[name].value[:, columns]
    side = np.sign(np.nan_to_num(decisions.targets[:, columns]))
    return np.asarray(np.maximum(np.nan_to_num(value) * decisions.strategy.weights.get(name, 1.0) * side, 0.0))


def _newest_decision(decisions: Decisions, columns: NDArray[np.int64], first: int) -> NDArray[np.int64]:
    """(T - first, M): the row of the newest decision to hold before each row; if none, that of the row, else -1."""
    targets = decisions.targets[:, columns]
    holds = np.isfinite(targets) & (targets != 0)
    rows = np.arange(len(targets))[:, None]
    holds[:first] = False  # what was decided before the run began was not traded
    newest = np.maximum.accumulate(np.where(holds, rows, -1), axis=0)
    before = np.vstack([np.full((1, len(columns)), -1), newest[:-1]])
    return np.where(before >= 0, before, newest)[first:]
