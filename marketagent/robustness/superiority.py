"""Hansen's test for superior predictive ability: whether the best of all combinations beats the benchmark by more than the
best of as many without skill would.

All combinations take part, however many: a test of the best ones alone would take for skill what choosing them has done.
To keep that in bounds, a stationary bootstrap draws from the returns of up to 256 blocks of the history instead of from
those of single bars. The mean, which is what the test is about, is the same; what neighbouring bars have to do with each
other is within a block.

Studentised by the plain deviation of the blocks: what runs of blocks have in common is in the bootstrap. An estimate of
it for each combination is noisy, and the best of many is the one whose error is underestimated: of families of 500 without
skill, one in five was significant at 5 % that way, and one in sixteen is this way.

Why not ``arch.bootstrap.SPA``, which a test holds this one equal to, draw by draw, where all combinations vary as much:
that of arch 8.0 compares plain means, whatever its `studentize` says, so that a combination that holds a tenth of what
others do has to beat their luck: an edge of a Sharpe ratio of 3 over four years came out at p 0.001 in six of six families
here, and between 0.04 and 0.9 there. And of 2,500 combinations it takes 5 CPU seconds and 330 MB, after 3 seconds of imports,
for 0.1 seconds and 30 MB here: a sweep of them is done in one, and has 250 MB.

Hansen, A Test for Superior Predictive Ability, Journal of Business & Economic Statistics 23(4), 2005, centred by
his consistent rule, so that combinations that are clearly bad do not count.
"""

from dataclasses import dataclass

import numpy as np

from marketagent.metrics import Array

SAMPLES = 1000
RUN = 3  # blocks that are drawn together, on average: 60 bars of 5,000
_LEAST = 64  # blocks, below which there is too little to draw from
_CELLS = 1_000_000  # of each array that is worked on at once: 8 MB


@dataclass(frozen=True)
class Superiority:
    """`p`: how often the best of combinations without skill would have been as good, in so many bootstrap `samples`."""

    p: float
    samples: int


def superiority(
    sums: Array, benchmark: Array | None = None, *, samples: int = SAMPLES, seed: int
) -> Superiority | None:
    """Of combinations with `sums` (M, B) of the returns of blocks, against those of a `benchmark` (B,), or cash.

    Blocks of which the benchmark is not known (NaN) are left out. None of fewer than 64 blocks, and where no combination
    ever differs from the benchmark.
    """
    if benchmark is not None and not (known := np.isfinite(benchmark)).all():
        sums, benchmark = sums[:, known], benchmark[known]
    combined, blocks = sums.shape
    if not combined or blocks < _LEAST:
        return None
    drawn = _drawn(blocks, samples, np.random.default_rng(seed))
    most, best = np.zeros(samples), 0.0
    moved = False
    for first in range(0, combined, max(_CELLS // samples, 1)):
        excess = sums[first : first + max(_CELLS // samples, 1)]
        excess = excess if benchmark is None else excess - benchmark
        excess = excess[np.ptp(excess, axis=1) > 0]
        if len(excess):
            moved = True
            best = max(best, _compared(excess, drawn, most))
    return Superiority((1 + int((most >= best).sum())) / (samples + 1), samples) if moved else None


def _compared(excess: Array, drawn: Array, most: Array) -> float:
    """The largest studentised mean of `excess` (m, B); raises `most` (R,) to what the `drawn` samples reach."""
    blocks = excess.shape[1]
    mean = excess.mean(axis=1)
    means = drawn @ excess.T / blocks
    error = excess.std(axis=1, ddof=1) / np.sqrt(blocks)
    ratio = mean / error
    centre = np.where(ratio >= -np.sqrt(2 * np.log(np.log(blocks))), mean, 0.0)
    np.maximum(most, ((means - centre) / error).max(axis=1), out=most)
    return float(ratio.max())


def _drawn(blocks: int, samples: int, rng: np.random.Generator) -> Array:
    """(R, B): how often each block is in each sample of a stationary bootstrap (Politis and Romano 1994).

    Runs of blocks have a random length, RUN on average.
    """
    times = np.zeros((samples, blocks))
    at, row = rng.integers(blocks, size=samples), np.arange(samples)
    for _ in range(blocks):
        times[row, at] += 1
        jumps = rng.random(samples) < 1 / RUN
        at = np.where(jumps, rng.integers(blocks, size=samples), (at + 1) % blocks)
    return times
