"""Made-up markets for the tests: small ones by hand, and random ones with everything that happens to real prices."""

import numpy as np

from marketagent.panel import Array, Panel, Raw

SPLITS = (2.0, 3.0, 1.5, 7.0, 0.1, 1 / 3, 0.955)


def panel_of(
    close: object,
    *,
    opens: object | None = None,
    split: dict[tuple[int, int], float] | None = None,
    dividend: dict[tuple[int, int], float] | None = None,
    first: str = "2013-01-02",
) -> Panel:
    """A panel of the closes, (T,) or (T, N); it opens where it closes unless `opens` says otherwise."""
    closes = np.array(close, dtype=np.float64)
    closes = closes[:, None] if closes.ndim == 1 else closes
    opened = closes if opens is None else np.array(opens, dtype=np.float64).reshape(closes.shape)
    splits, dividends = np.ones(closes.shape), np.zeros(closes.shape)
    for place, ratio in (split or {}).items():
        splits[place] = ratio
    for place, usd in (dividend or {}).items():
        dividends[place] = usd
    high, low = np.fmax(opened, closes), np.fmin(opened, closes)
    raw = Raw(opened.copy(), high, low, closes, np.where(np.isfinite(closes), 1000.0, np.nan))
    names = tuple(f"S{n:02}" for n in range(closes.shape[1]))
    return Panel(weekdays(len(closes), first), names, raw, splits, dividends)


def weekdays(count: int, first: str = "2013-01-02") -> np.ndarray:
    return np.busday_offset(np.datetime64(first), np.arange(count), roll="forward").astype("datetime64[D]")


def random_market(seed: int, sessions: int = 60, symbols: int = 6, *, longest_halt: int = 9) -> Panel:
    """Gaps, halts, late listings, delistings, splits and dividends, also where there is no bar; cents to thousands."""
    rng = np.random.default_rng(seed)
    shape = (sessions, symbols)
    split = np.where(rng.random(shape) < 0.02, rng.choice(SPLITS, shape), 1.0)
    start = 10.0 ** rng.uniform(-1.5, 4.5, symbols)
    walk = np.exp(np.cumsum(rng.normal(0, 0.03, shape), axis=0))
    close = np.maximum(np.round(start * walk / np.cumprod(split, axis=0), 4), 0.0001)
    opened = np.maximum(np.round(close * np.exp(rng.normal(0, 0.02, shape)), 4), 0.0001)
    dividend = np.where(rng.random(shape) < 0.03, np.round(close * rng.uniform(0.001, 0.05, shape), 4), 0.0)
    traded = rng.random(shape) > 0.04
    for n in range(symbols):
        if rng.random() < 0.5:
            begin = rng.integers(0, sessions)
            traded[begin : begin + rng.integers(2, longest_halt + 1), n] = False
        if rng.random() < 0.3:
            traded[: rng.integers(1, sessions), n] = False
        if rng.random() < 0.4:
            traded[rng.integers(sessions // 3, sessions) :, n] = False
    close[~traded] = opened[~traded] = np.nan
    high, low = np.fmax(opened, close), np.fmin(opened, close)
    volume = np.where(traded, rng.integers(1, 10**7, shape), np.nan)
    names = tuple(f"S{n:02}" for n in range(symbols))
    return Panel(weekdays(sessions), names, Raw(opened, high, low, close, volume), split, dividend)


def random_targets(seed: int, panel: Panel, *, long_only: bool = True) -> Array:
    """Target weights that ask for up to one and a half times the account, on some sessions for some symbols."""
    rng = np.random.default_rng([seed, 1])
    share = rng.dirichlet(np.ones(panel.shape[1]), panel.shape[0]) * rng.choice([0.3, 1.0, 1.5], (panel.shape[0], 1))
    targets = np.where(rng.random(panel.shape) < 0.25, 0.0, share)
    if not long_only:
        targets = targets * rng.choice([1.0, 1.0, -1.0], panel.shape)
    targets[rng.random(panel.shape) < 0.2] = np.nan
    targets[rng.random(panel.shape[0]) < 0.5] = np.nan
    return np.where(panel.has_bar, targets, np.nan)


def barely_dearer(seed: int, steps: float) -> tuple[Panel, Array, float]:
    """A small account all in on one to three symbols that open next to nothing above the close: the market, the targets,
    and the cash. What is missing is less than the hair that cutting to whole steps forgives, or not much more."""
    rng = np.random.default_rng([seed, 2])
    width = int(rng.integers(1, 4))
    close = np.round(rng.uniform(1, 50, width), 2) * steps
    closes = np.tile(close, (3, 1))
    cash = float((close * rng.integers(1, 12, width)).sum() / steps)
    opens = closes * (1 + 10.0 ** rng.uniform(-15, -7, width))
    held = np.full(closes.shape, np.nan)
    held[0] = (
        np.round(cash * rng.dirichlet(np.ones(width)) / close * steps) * close / steps / cash if width > 1 else 1.0
    )
    held[0] /= max(held[0].sum(), 1.0)
    return panel_of(closes, opens=opens), held, cash


def halted_at_the_end(panel: Panel, rows: int) -> bool:
    """Whether the first `rows` sessions end in a silence of five sessions that the whole shows to be a halt."""
    last, final = panel.last_bar[rows - 1], panel.last_bar[-1]
    return bool(((last >= 0) & (rows - 1 - last >= 5) & (final > last)).any())
