"""Does a strategy know what it cannot know, and how much history does it need? Asked of it by experiment.

A decision of session t may rest on what was known on the close of t. So everything after it is replaced by noise (prices,
volumes, gaps, splits, dividends, opinions), or cut off, and the decisions up to t are made again: not one may differ by a
bit. A leak is a proof; silence is none, but every look ahead that touches a sampled session shows.

Each decision is made by a strategy of its own: one that kept what it saw of the future would not show it a second time.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from marketagent.decision import Decisions, decide
from marketagent.panel import Array, Panel, Raw
from marketagent.signals import Signal
from marketagent.strategy import Opinions, Strategy

NOISE, CUT, AGAIN, UNDONE = "replaced by noise", "cut off", "left as it was", "corrections undone"
Make = Callable[[], Strategy]  # a strategy that remembers nothing of those made before, its module included
NEAR = 1e-9  # scores that differ less have forgotten where history began; adjusted prices round otherwise there


@dataclass(frozen=True)
class Leak:
    """A decision that changed with what came after it.

    `what` is the signal's name, or ``target``; `row` and `column` the latest place that changed, `known` the last row that
    was left alone, `how` what was done to the rest; `changed` counts the places.
    """

    what: str
    row: int
    column: int
    known: int
    how: str
    before: float
    after: float
    changed: int


def lookahead(make: Make, panel: Panel, opinions: Opinions, rows: Sequence[int], seed: int) -> list[Leak]:
    """The leaks of the strategy that `make` makes, one for each of its signals and the target, over the sampled `rows` of `panel`.

    A strategy that decides otherwise on the same facts is reported first, and alone: nothing could be said of it.
    """
    whole = decide(make(), panel, opinions)
    last = len(panel.sessions) - 1
    if found := list(_differences(whole, decide(make(), panel, opinions), last, AGAIN)):
        return found
    leaks: dict[str, Leak] = {}
    for t in rows:
        rng = np.random.default_rng([seed, t])
        futures = (
            (_noised(panel, t, rng), _noised_opinions(opinions, t, rng), NOISE),
            (*_cut(panel, opinions, t), CUT),
        )
        for other, told, how in futures:
            for leak in _differences(whole, decide(make(), other, told), t, how):
                leaks.setdefault(leak.what, leak)
    return list(leaks.values())


def corrected(make: Make, panel: Panel, opinions: Opinions, earlier: Iterable[tuple[int, Panel]]) -> list[Leak]:
    """Where decisions rest on corrections that came after them: `earlier` are rows, each with the panel as it was known
    then. Not the strategy's doing, but the backtest is not what was traded there. One for each signal and the target."""
    whole = decide(make(), panel, opinions)
    found: dict[str, Leak] = {}
    for t, known in earlier:
        for leak in _differences(whole, decide(make(), known, opinions), t, UNDONE, since=t):
            found.setdefault(leak.what, leak)
    return list(found.values())


def history_needed(make: Make, panel: Panel, opinions: Opinions, rows: Sequence[int]) -> int:
    """How many rows, its own among them, a decision rests on: with so many, none of those of `rows` differs from what all
    of history decides."""
    whole = decide(make(), panel, opinions)
    return max(_needed(make, panel, opinions, whole, t) for t in rows)


def _needed(make: Make, panel: Panel, opinions: Opinions, whole: Decisions, t: int) -> int:
    """The fewest rows that decide row `t` as all do: found by halving, as more history is not expected to hurt."""

    def same(count: int) -> bool:
        first = t + 1 - count
        told = {name: Signal(s.value[first : t + 1], s.confidence[first : t + 1]) for name, s in opinions.items()}
        short = decide(make(), panel.head(t + 1).since(first), told)
        return bool(
            np.allclose(short.score[-1], whole.score[t], rtol=0, atol=NEAR, equal_nan=True)
            and np.array_equal(short.action[-1], whole.action[t])
        )

    few, enough = 0, t + 1
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if same(middle) else (middle, enough)
    return enough


def _differences(whole: Decisions, other: Decisions, t: int, how: str, since: int = 0) -> Iterator[Leak]:
    """What is otherwise in the rows from `since` to `t`."""
    for what, before, after in _compared(whole, other):
        old, new = before[since : t + 1], after[since : t + 1]
        differ = ~((old == new) | (np.isnan(old) & np.isnan(new)))
        if differ.any():
            row, column = (int(place[-1]) for place in np.nonzero(differ))
            values = float(old[row, column]), float(new[row, column])
            yield Leak(what, since + row, column, t, how, *values, int(differ.sum()))


def _compared(whole: Decisions, other: Decisions) -> Iterator[tuple[str, Array, Array]]:
    for name, signal in whole.signals.items():
        found = other.signals.get(name)
        gone = np.full_like(signal.value, np.inf)  # a signal that is not there any more differs everywhere
        yield name, signal.value, gone if found is None else found.value
        yield name, signal.confidence, gone if found is None else found.confidence
    yield "target", whole.targets, other.targets


def _cut(panel: Panel, opinions: Opinions, t: int) -> tuple[Panel, Opinions]:
    told = {name: Signal(signal.value[: t + 1], signal.confidence[: t + 1]) for name, signal in opinions.items()}
    return panel.head(t + 1), told


def _noised(panel: Panel, t: int, rng: np.random.Generator) -> Panel:
    """The panel with a made-up market after row `t`: other prices, gaps, splits and dividends, from the same closes on."""
    rows, width = len(panel.sessions) - t - 1, panel.shape[1]
    shape = (rows, width)
    close = np.where(panel.mark[t] > 0, panel.mark[t], 50.0) * np.exp(np.cumsum(rng.normal(0, 0.05, shape), axis=0))
    opened = close * np.exp(rng.normal(0, 0.02, shape))
    high, low = np.maximum(opened, close) * 1.01, np.minimum(opened, close) * 0.99
    made = [opened, high, low, close, rng.integers(1, 10**8, shape).astype(np.float64)]
    gap = rng.random(shape) < 0.1
    fields = [np.where(gap, np.nan, values) for values in made]
    raw = Raw(
        *(
            np.vstack([getattr(panel.raw, name)[: t + 1], values])
            for name, values in zip(Raw.__dataclass_fields__, fields, strict=True)
        )
    )
    split = np.where(rng.random(shape) < 0.05, rng.choice([2.0, 3.0, 0.1], shape), 1.0)
    dividend = np.where(rng.random(shape) < 0.05, close * 0.02, 0.0)
    return Panel(
        panel.sessions,
        panel.symbols,
        raw,
        np.vstack([panel.split[: t + 1], split]),
        np.vstack([panel.dividend[: t + 1], dividend]),
        panel.sources,
        panel.timeframe,
    )


def _noised_opinions(opinions: Opinions, t: int, rng: np.random.Generator) -> dict[str, Signal]:
    told = {}
    for name, signal in opinions.items():
        value, confidence = signal.value.copy(), signal.confidence.copy()
        shape = value[t + 1 :].shape
        value[t + 1 :] = np.where(rng.random(shape) < 0.3, np.nan, rng.uniform(-1, 1, shape))
        confidence[t + 1 :] = rng.random(shape)
        told[name] = Signal(value, confidence)
    return told
