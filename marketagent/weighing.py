"""The compiled decision of a sweep: from signals to target weights.

``weigh`` does what ``decide`` does with signals, with the functions it does it with: ensemble.ensemble, ensemble.act
and sizing.target_weights. Tests hold the two equal.
"""

import numpy as np

from marketagent.compiled import Array, Whole, cells_at, compiled, in_line, matrix_at
from marketagent.kernel.terms import BARS, IS_WHOLE, LENGTH, USUAL, WIDTH

EQUAL, SCORE, INVERSE_VOLATILITY, TOP_K = range(4)  # as sizing.METHODS
METHOD, BEST, GROSS, MAX_WEIGHT, LONG_ONLY, THRESHOLD, MIN_CONFIDENCE, WARMUP = range(8)  # of `rule`
SHEETS = 4  # times the cells of a block are what ``weigh`` needs as room


@compiled
def weigh(
    wanted: Array,
    room: int,
    spots: Whole,
    sure: Array,
    weights: Array,
    rule: Array,
    facts: Whole,
    first: int,
    rows: int,
) -> bool:
    """The target weights of so many `rows` from row `first` on, into the first rows of `wanted` (most, N).

    `spots` (S, 2) are the addresses of the values and the confidences of these rows; where the latter is 0, `sure` (S,)
    holds for all values. `room` is the address of SHEETS times the cells of `wanted`. Of the `facts`, BARS is where it is
    written how many bars a symbol had by each that it has (0 where it has none), USUAL where its volatility is. False if
    a signal leaves its range.
    """
    width, most, least = facts[WIDTH], wanted.size, max(rule[WARMUP], 1.0)
    count = rows * width
    score, sums = cells_at(room, 0, count), matrix_at(room + 8 * most, 3, most)
    is_equal, is_ready = rule[METHOD] == EQUAL and rule[LONG_ONLY] != 0, facts[IS_WHOLE] and first + 1 >= least
    if width == 1 and is_equal and is_ready and _is_one_plainly(spots, sure, weights, rule):
        return _size_signal(in_line(wanted), cells_at(spots[0, 0], 0, count), rule)
    if not _score(score, sums, spots, sure, weights, rule):
        return False
    if not is_ready:
        _silence(score, cells_at(facts[BARS], first * width, count), least)
    if is_equal:
        if width == 1:
            _size_alone(in_line(wanted), score, rule)
        else:
            _size_equally(wanted, matrix_at(room, rows, width), rule)
    else:
        volatility = matrix_at(facts[USUAL], facts[LENGTH], width)
        for row in range(rows):
            _size(wanted[row], score[row * width : (row + 1) * width], volatility[first + row], rule)
    return True


@compiled
def _score(score: Array, sums: Array, spots: Whole, sure: Array, weights: Array, rule: Array) -> bool:
    """The scores of some cells, NaN without one; in doubt 0, which is as good as a hold. False beyond the range."""
    count = len(score)
    value, spoken, trust = sums[0], sums[1], sums[2]
    total, beyond = 0.0, 0
    if _is_one_plainly(spots, sure, weights, rule):
        alone = cells_at(spots[0, 0], 0, count)  # the score is the one signal
        for i in range(count):
            beyond += abs(alone[i]) > 1
            score[i] = alone[i]
        return beyond == 0
    for i in range(count):
        value[i] = spoken[i] = trust[i] = 0.0
    for k in range(len(weights)):
        opinions, weight = cells_at(spots[k, 0], 0, count), weights[k]
        total += weight
        if spots[k, 1]:
            confidences = cells_at(spots[k, 1], 0, count)
            for i in range(count):
                speaks = (opinions[i] == opinions[i]) & (confidences[i] == confidences[i])
                beyond += (abs(opinions[i]) > 1) | (confidences[i] < 0) | (confidences[i] > 1)
                value[i] += weight * opinions[i] if speaks else 0.0
                spoken[i] += weight if speaks else 0.0
                trust[i] += weight * confidences[i] if speaks else 0.0
        else:
            for i in range(count):
                beyond += abs(opinions[i]) > 1
                value[i] += weight * opinions[i] if opinions[i] == opinions[i] else 0.0
                spoken[i] += weight if opinions[i] == opinions[i] else 0.0
                trust[i] += weight * sure[k] if opinions[i] == opinions[i] else 0.0
    for i in range(count):
        mean = value[i] / spoken[i]  # NaN where all abstain
        score[i] = min(max(mean, -1.0), 1.0) if mean == mean else np.nan
    if rule[MIN_CONFIDENCE] > 0:
        for i in range(count):
            if score[i] == score[i] and not min(max(trust[i] / total, 0.0), 1.0) >= rule[MIN_CONFIDENCE]:
                score[i] = 0.0 if rule[METHOD] == TOP_K else np.nan
    return beyond == 0 and not (sure < 0).any() and not (sure > 1).any()


@compiled
def _is_one_plainly(spots: Whole, sure: Array, weights: Array, rule: Array) -> bool:
    """Whether there is one signal, that is the score as it is."""
    is_one = len(weights) == 1 and weights[0] == 1.0 and spots[0, 1] == 0
    return is_one and rule[MIN_CONFIDENCE] <= sure[0] <= 1.0


@compiled
def _silence(score: Array, bars: Array, least: float) -> None:
    """No score without a bar, or without enough of them."""
    for i in range(len(score)):
        said = score[i]
        score[i] = said if bars[i] >= least else np.nan


@compiled
def _size_alone(targets: Array, scores: Array, rule: Array) -> None:
    """As ``_size_equally`` of one symbol, whose part is always the same."""
    threshold, part = rule[THRESHOLD], min(rule[GROSS], rule[MAX_WEIGHT])
    for row in range(len(scores)):
        sold = 0.0 if scores[row] < -threshold else np.nan
        targets[row] = part if scores[row] > threshold else sold


@compiled
def _size_signal(targets: Array, signal: Array, rule: Array) -> bool:
    """``_score`` and ``_size_alone`` of one signal that is the score of a symbol alone."""
    threshold, part, beyond = rule[THRESHOLD], min(rule[GROSS], rule[MAX_WEIGHT]), 0
    for row in range(len(signal)):
        beyond += abs(signal[row]) > 1
        sold = 0.0 if signal[row] < -threshold else np.nan
        targets[row] = part if signal[row] > threshold else sold
    return beyond == 0


@compiled
def _size_equally(targets: Array, scores: Array, rule: Array) -> None:
    """The usual case, many sessions at a time and without a branch: the processor could only guess at signals."""
    threshold, (rows, width) = rule[THRESHOLD], scores.shape
    for row in range(rows):
        count = 0
        for n in range(width):
            count += scores[row, n] > threshold
        each = min(rule[GROSS] / max(count, 1), rule[MAX_WEIGHT])
        for n in range(width):
            score = scores[row, n]
            sold = 0.0 if score < -threshold else np.nan
            targets[row, n] = each if score > threshold else sold


@compiled
def _size(target: Array, score: Array, volatility: Array, rule: Array) -> None:
    """Target weights of one session, NaN where a position is left alone."""
    method, threshold, long_only = rule[METHOD], rule[THRESHOLD], rule[LONG_ONLY] != 0
    total, count = 0.0, 0
    for n in range(len(score)):  # `target` holds the pull first
        pull = 0.0
        if score[n] > threshold or (score[n] < -threshold and not long_only):
            pull = 1.0
            if method in (SCORE, TOP_K):
                pull = abs(score[n])
            elif method == INVERSE_VOLATILITY:
                pull = 1.0 / volatility[n] if volatility[n] > 0 else 0.0
            count += 1
        target[n] = pull
    if method == TOP_K:
        _best(target, min(count, int(rule[BEST])))
    for n in range(len(score)):
        total += target[n]
    for n in range(len(score)):
        sells = score[n] < -threshold
        if target[n] > 0:
            weight = min(rule[GROSS] * target[n] / total, rule[MAX_WEIGHT])
            target[n] = -weight if sells and not long_only else weight
        elif np.isnan(score[n]) if method == TOP_K else not sells:
            target[n] = np.nan


@compiled
def _best(pull: Array, count: int) -> None:
    """The `count` strongest become 1, all others 0; of equal ones the first wins."""
    for _ in range(count):
        best = -1
        for n in range(len(pull)):
            if pull[n] > 0 and (best < 0 or pull[n] > pull[best]):
                best = n
        if best >= 0:
            pull[best] = -1.0
    for n in range(len(pull)):
        pull[n] = 1.0 if pull[n] < 0 else 0.0
