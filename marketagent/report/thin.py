"""Long series made short enough for a page, without hiding a high or a low."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from marketagent.panel import Array

MOST = 1_500  # points of a chart; a wide screen has as many columns


def thinned(series: Sequence[Array], most: int = MOST) -> NDArray[np.int64]:
    """The rows of `series` (each (T,)) to draw, at most about so many: of each stretch the highest and the lowest point
    of each series, and always the first and the last row.

    >>> thinned([np.array([0.0, 9.0, 1.0, 2.0, -5.0, 3.0, 4.0, 8.0])], most=6).tolist()
    [0, 1, 3, 4, 5, 7]
    """
    length = len(series[0])
    if length <= most:
        return np.arange(length)
    stretches = max(most // (2 * len(series)), 1)
    edges = np.linspace(0, length, stretches + 1).astype(np.int64)
    kept = {0, length - 1}
    for values in series:
        low, high = np.where(np.isnan(values), np.inf, values), np.where(np.isnan(values), -np.inf, values)
        for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            kept |= {start + int(low[start:stop].argmin()), start + int(high[start:stop].argmax())}
    return np.array(sorted(kept))
