"""Walk-forward: windows to choose parameters in, the windows after them to judge that choice in, and the decisions of all.

A strategy is refitted on each training window: of all combinations of its parameters the one with the best Sharpe ratio
there decides through the test window that follows. Windows roll by the length of a test. One account trades through all
of the test windows, so that changing parameters costs what it costs: on the first session of a window with another
combination, it moves to what that one holds.

What a combination earned in a training window is read off one account that it has traded since the first of them: with
the positions it went into the window with, and with the size it had by then. That account knows at each session what was
known then, and plays each combination once instead of once a window.

Between training and test `purge` sessions are left out: as many as pass from a decision to the first return it earns, so
that no training window is judged by what its last decisions bring in the test. What a strategy looks back at is no such
overlap: averages that reach into the past before a window were known in it. `embargo` sessions after each test window are
left out of all later training windows: a rolling training follows the tests before it.

Lopez de Prado, Advances in Financial Machine Learning (2018), chapters 7 and 12; Pardo, The Evaluation and Optimization of
Trading Strategies (2008), on rolling windows and their efficiency.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from marketagent.decision import Decisions
from marketagent.errors import NoData, UsageError
from marketagent.panel import Array, Panel, Sessions
from marketagent.signals import Signal

Rows = tuple[int, int]  # from one row to before another
_TEXT = re.compile(r"([1-9]\d{0,4})([ymd])/([1-9]\d{0,4})([ymd])", re.ASCII)
_LEAST = 2  # returns that a Sharpe ratio needs


@dataclass(frozen=True)
class Length:
    """So many sessions (``d``), months (``m``) or years (``y``)."""

    count: int
    unit: str

    def after(self, sessions: Sessions, place: int, day: np.datetime64, times: int) -> tuple[int, np.datetime64]:
        """The place among `sessions`, and the day, that is `times` this length after `place` and `day`."""
        if self.unit == "d":
            there = max(place + times * self.count, 0)
            return there, sessions[min(there, len(sessions) - 1)]
        there_day = _later(day, times * self.count * (12 if self.unit == "y" else 1))
        return int(np.searchsorted(sessions, there_day)), there_day


@dataclass(frozen=True)
class Asked:
    """What ``--walk-forward`` asks for; `text` is how it was spelt, `purge` and `embargo` are sessions."""

    text: str
    train: Length
    test: Length
    purge: int
    embargo: int


@dataclass(frozen=True)
class Fold:
    """The rows to choose in (several stretches, where an embargo lies between) and the rows to judge in."""

    train: tuple[Rows, ...]
    test: Rows

    def blocks(self, edges: NDArray[np.int64], start: int) -> NDArray[np.bool_]:
        """(B,): which blocks between `edges`, counted from row `start`, are in the training window."""
        begins = edges[:-1] + start
        inside = [(first <= begins) & (begins < last) for first, last in self.train]
        return np.asarray(np.any(inside, axis=0))


def asked(text: str, purge: int, embargo: int) -> Asked:
    """`text` as TRAIN/TEST lengths; raises UsageError for another one.

    >>> asked("3y/60d", 1, 0).test
    Length(count=60, unit='d')
    """
    found = _TEXT.fullmatch(text)
    if not found:
        raise UsageError(f"--walk-forward {text!r} is not TRAIN/TEST, e.g. 3y/1y, 6m/1m or 250d/60d (d: sessions)")
    return Asked(text, Length(int(found[1]), found[2]), Length(int(found[3]), found[4]), purge, embargo)


def folds(days: Sessions, start: int, wanted: Asked) -> list[Fold]:
    """The windows of rows whose sessions are `days` (T,), from row `start` on; the last test ends with the rows.

    Raises NoData where there is no session to test, and UsageError where purge and embargo leave nothing to train on.
    """
    sessions, row = np.unique(days[start:], return_index=True)
    rows = [*(row + start).tolist(), len(days)]
    begin, day = wanted.train.after(sessions, 0, sessions[0], 1)
    if begin >= len(sessions):
        raise NoData(
            f"--walk-forward {wanted.text} trains on all {len(sessions):,} sessions from {sessions[0]} to {sessions[-1]}"
            " and leaves none to judge; fetch more, or take shorter windows"
        )
    found: list[Fold] = []
    turns = [(begin, day)]
    while turns[-1][0] < len(sessions):
        turns.append(wanted.test.after(sessions, begin, day, len(turns)))
    # A turn without a session (of calendar lengths, in a gap) is none.
    turns = [turn for k, turn in enumerate(turns) if k == 0 or turn[0] > turns[k - 1][0]]
    free = np.ones(len(sessions), dtype=bool)
    for k, (first, on) in enumerate(turns[:-1]):
        earliest = wanted.train.after(sessions, first, on, -1)[0]
        if k:
            free[first : first + wanted.embargo] = False  # after the test that ends here
        last_place = max(first - wanted.purge, earliest)
        places = (np.flatnonzero(free[earliest:last_place]) + earliest).tolist()
        if len(places) < _LEAST:
            raise UsageError(
                f"--purge {wanted.purge} and --embargo {wanted.embargo} leave {len(places)} sessions"
                f" of the training window before {sessions[first]}; --walk-forward {wanted.text} must train on longer ones"
            )
        last = min(turns[k + 1][0], len(sessions))
        found.append(Fold(_stretches(places, rows), (rows[first], rows[last])))
    return found


def edges_of(found: Sequence[Fold], start: int, end: int) -> NDArray[np.int64]:
    """Where any window of `found` begins or ends, counted from row `start`, with both ends of all rows."""
    marks = {start, end}
    for fold in found:
        marks.update(row for rows in (*fold.train, fold.test) for row in rows)
    return np.array(sorted(marks), dtype=np.int64) - start


def best_of(sharpes: Array, squares: Array) -> int:
    """The place of the highest of `sharpes` (M,), the first of equal ones, among the combinations whose returns have any
    sum of `squares`: those that traded at all. The first of all, if none did."""
    return int(np.where(squares > 0, sharpes, -np.inf).argmax())


def stitched(
    panel: Panel, found: Sequence[Fold], chosen: Sequence[int], decided: Callable[[int], Decisions]
) -> Decisions:
    """The decisions of the combination `chosen` for each of the folds on the rows of its test, none on other rows.

    `decided` gives those of a combination; it is asked once for each. The strategy of what comes out is the last one.
    """
    shape = panel.shape
    score, targets, confidence = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape)
    action, due = np.zeros(shape, dtype=np.int8), np.zeros(shape[0], dtype=np.bool_)
    signals: dict[str, tuple[Array, Array]] = {}
    last = None
    for number in sorted(set(chosen), key=lambda number: number == chosen[-1]):
        last = decided(number)
        for k, fold in enumerate(found):
            if chosen[k] != number:
                continue
            first, end = fold.test
            rows = slice(first, end)
            score[rows], confidence[rows], action[rows] = last.score[rows], last.confidence[rows], last.action[rows]
            targets[rows], due[rows] = last.targets[rows], last.due[rows]
            _take(signals, last.signals, rows, shape)
            if k == 0 or chosen[k - 1] != number:
                targets[first], due[first] = _standing(last.targets, first), True
    if last is None:
        raise ValueError("there are no folds")
    return replace(
        last,
        panel=panel,
        signals={name: Signal(*arrays) for name, arrays in signals.items()},
        score=score,
        confidence=confidence,
        action=action,
        targets=targets,
        due=due,
    )


def _take(
    into: dict[str, tuple[Array, Array]], signals: Mapping[str, Signal], rows: slice, shape: tuple[int, int]
) -> None:
    """Copy the rows of each of `signals`; one that other combinations do not have abstains on their rows."""
    for name, signal in signals.items():
        value, confidence = into.setdefault(name, (np.full(shape, np.nan), np.zeros(shape)))
        value[rows], confidence[rows] = signal.value[rows], signal.confidence[rows]


def _standing(targets: Array, row: int) -> Array:
    """(N,): the weights that `targets` hold at the close of `row`: the newest that is no NaN, 0 where there was none."""
    known = np.isfinite(targets[: row + 1])
    newest = np.where(known.any(axis=0), row - known[::-1].argmax(axis=0), -1)
    return np.where(newest >= 0, targets[np.maximum(newest, 0), np.arange(targets.shape[1])], 0.0)


def _stretches(places: Sequence[int], rows: Sequence[int]) -> tuple[Rows, ...]:
    """Sessions by their places as stretches of rows without a gap."""
    begins = [place for k, place in enumerate(places) if k == 0 or places[k - 1] != place - 1]
    ends = [place + 1 for k, place in enumerate(places) if k == len(places) - 1 or places[k + 1] != place + 1]
    return tuple((rows[first], rows[last]) for first, last in zip(begins, ends, strict=True))


def _later(day: np.datetime64, months: int) -> np.datetime64:
    """The same day so many months later, the last of its month where that is shorter.

    >>> _later(np.datetime64("2024-02-29"), 12), _later(np.datetime64("2024-03-31"), -1)
    (np.datetime64('2025-02-28'), np.datetime64('2024-02-29'))
    """
    month = day.astype("datetime64[M]")
    there = month + months
    last = (there + 1).astype("datetime64[D]") - 1
    return min(there.astype("datetime64[D]") + (day - month.astype("datetime64[D]")), last)
