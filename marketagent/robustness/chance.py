"""Random entries: what a strategy's trading would have made at other times, and in other symbols' places.

The decisions of a run are shifted along its sessions, all together and around the end, by a random number of bars; and the
symbols change places at random, those with the same history among each other. Its sessions are those from its first decision
on: that nothing was held before, while averages filled, was no choice, and must not make other times better or worse. What
is left is how much was held, for how long, in how many symbols at once, and how often it changed; what is gone is when, and
what. The best of both worlds would be to shuffle each symbol's holdings by themselves: but then several of them would want
more than the account has.

So a strategy that is always invested, in whatever, is as good as its random runs: it has no entries to be good at.
"""

from collections.abc import Sequence

import numpy as np

from marketagent.panel import Array, Panel

_ROUNDING = 1e-9  # of a ratio: the same trades in other columns add up otherwise in the last digits


def entries(targets: Array, panel: Panel, start: int, rng: np.random.Generator) -> Array:
    """(T, N): `targets` from row `start` on, shifted and in other columns; NaN before their first one, and 0 where a symbol
    has none yet."""
    start += int(np.isfinite(targets[start:]).any(axis=1).argmax())
    own = targets[start:]
    shift = int(rng.integers(1, max(len(own), 2)))
    held = _held(own)
    moved = np.roll(own, shift, axis=0)
    # Where the rows begin, and where their end meets their beginning, the account goes to what is held there.
    moved[0] = held[-shift % len(own)]
    if shift < len(own):
        moved[shift] = held[0]
    made = np.full(targets.shape, np.nan)
    made[start:] = moved[:, _places(panel, rng)]
    return made


def share_as_good(own: float, random: Sequence[float]) -> float:
    """The p-value: how many of the `random` runs, with the `own` one among them, were at least as good.

    >>> share_as_good(1.0, [0.5, 1.0, 2.0])
    0.75
    """
    least = own - _ROUNDING * abs(own)
    return (1 + sum(other >= least for other in random)) / (1 + len(random))


def _held(targets: Array) -> Array:
    """(T, N): the weights that are held by each row: the newest target, 0 before the first."""
    rows = np.arange(len(targets))[:, None]
    newest = np.maximum.accumulate(np.where(np.isfinite(targets), rows, -1), axis=0)
    return np.where(newest >= 0, np.take_along_axis(targets, np.maximum(newest, 0), axis=0), 0.0)


def _places(panel: Panel, rng: np.random.Generator) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """(N,): whose column each symbol gets; only symbols whose bars begin and end together change places."""
    begins = panel.has_bar.argmax(axis=0)
    alike: dict[tuple[int, int], list[int]] = {}
    for n, span in enumerate(zip(begins.tolist(), panel.last_bar[-1].tolist(), strict=True)):
        alike.setdefault(span, []).append(n)
    places = np.arange(panel.shape[1])
    for group in alike.values():
        places[group] = rng.permutation(group)
    return places
