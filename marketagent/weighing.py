"""The compiled decision of a sweep: from signals to target weights.

``weigh`` does what ``decide`` does with signals, with the functions it does it with: ensemble.ensemble, ensemble.act
and sizing.target_weights. Tests hold the two equal.
"""

import numpy as np

from marketagent.compiled import Array, Whole, cells_at, compiled, matrix_at

EQUAL, SCORE, INVERSE_VOLATILITY, TOP_K = range(4)  # as sizing.METHODS
METHOD, BEST, GROSS, MAX_WEIGHT, LONG_ONLY, THRESHOLD, MIN_CONFIDENCE, WARMUP = range(8)  # of `rule`
BLOCK = 1024  # cells, which stay in the nearest cache


@compiled
def weigh(
    targets: int,
    signals: Whole,
    sure: Array,
    weights: Array,
    rule: Array,
    due: Whole,
    counted: int,
    usual: int,
    length: int,
    width: int,
) -> bool:
    """The target weights of the rows that are `due`, into `targets`.

    `signals` (S, 2) are the addresses of values and confidences; where the latter is 0, `sure` (S,) holds for all
    values. `counted` and `usual` are the addresses of how many bars a symbol had by each that it has (0 where it has
    none), and of its volatility. False, and nothing of worth, if a signal leaves its range.
    """
    bars, volatility = matrix_at(counted, length, width), matrix_at(usual, length, width)
    wanted = matrix_at(targets, length, width)
    most = max(1, BLOCK // width)
    scores = np.empty((most, width))
    sums = np.empty((3, most * width))
    turn = 0
    while turn < len(due):
        t, rows = due[turn], 1
        while rows < most and turn + rows < len(due) and due[turn + rows] == t + rows:
            rows += 1
        if not _score(scores.ravel(), sums, signals, sure, weights, bars.ravel(), rule, t * width, rows * width):
            return False
        if rule[METHOD] == EQUAL and rule[LONG_ONLY] != 0:
            _size_equally(wanted, scores, t, rows, rule)
        else:
            for row in range(rows):
                _size(wanted[t + row], scores[row], volatility[t + row], rule)
        turn += rows
    return True


@compiled
def _score(
    score: Array, sums: Array, signals: Whole, sure: Array, weights: Array, bars: Array, rule: Array, first: int,
    count: int,
) -> bool:  # fmt: skip
    """The scores of `count` cells, NaN without one; in doubt 0, which is as good as a hold. False beyond the range."""
    value, spoken, trust = sums[0], sums[1], sums[2]
    total, beyond, least = 0.0, 0, max(rule[WARMUP], 1.0)
    if len(weights) == 1 and weights[0] == 1.0 and signals[0, 1] == 0 and rule[MIN_CONFIDENCE] <= sure[0] <= 1.0:
        alone = cells_at(signals[0, 0], first, count)  # the score is the one signal
        for i in range(count):
            beyond += abs(alone[i]) > 1
            score[i] = alone[i] if bars[first + i] >= least else np.nan
        return beyond == 0
    sums[:] = 0.0
    for k in range(len(weights)):
        opinions, weight = cells_at(signals[k, 0], first, count), weights[k]
        total += weight
        if signals[k, 1]:
            confidences = cells_at(signals[k, 1], first, count)
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
        score[i] = min(max(mean, -1.0), 1.0) if (bars[first + i] >= least) & (mean == mean) else np.nan
    if rule[MIN_CONFIDENCE] > 0:
        for i in range(count):
            if score[i] == score[i] and not min(max(trust[i] / total, 0.0), 1.0) >= rule[MIN_CONFIDENCE]:
                score[i] = 0.0 if rule[METHOD] == TOP_K else np.nan
    return beyond == 0 and not (sure < 0).any() and not (sure > 1).any()


@compiled
def _size_equally(targets: Array, scores: Array, first: int, rows: int, rule: Array) -> None:
    """The usual case, many sessions at a time and without a branch: the processor could only guess at signals."""
    threshold, width = rule[THRESHOLD], scores.shape[1]
    for row in range(rows):
        count = 0
        for n in range(width):
            count += scores[row, n] > threshold
        each = min(rule[GROSS] / max(count, 1), rule[MAX_WEIGHT])
        for n in range(width):
            score = scores[row, n]
            sold = 0.0 if score < -threshold else np.nan
            targets[first + row, n] = each if score > threshold else sold


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
