"""The critic: what makes a backtest's result doubtful, each with the number that says so.

A rule looks at one thing, and is silent where it cannot judge. None of them proves a result wrong, and a run without
any finding is not proven right: they are the first questions that somebody would ask who did not want to believe it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp, lgamma, log

import numpy as np
from numpy.typing import NDArray

from marketagent.attribution import profit_by_symbol
from marketagent.backtest import Backtest
from marketagent.events import CLOSED, DIVIDEND, FILL, SPLIT
from marketagent.metrics import LEVEL, SESSIONS
from marketagent.records import Finding
from marketagent.timeframes import DAY

LEAST_TRADES = 30  # round trips below which a mean says little
MOST_OF_A_NAME = 0.5  # of the profit
MOST_OF_A_SESSION = 0.25  # of the profit
LONGEST_FALL = 0.5  # of the sessions, without a new high
LONGEST_REST = 0.25  # of the sessions, without a position
MOST_STALE = 0.01  # of the fills
MOST_VOLUME = 0.05  # of a symbol's volume of the day
MOST_MISSING = 0.02  # of a symbol's sessions between its first bar and its last, and of a benchmark's in all of the run
LARGEST_STEP = 0.6  # of the close before, or its inverse: a split of 2 for 1 that nobody told is 0.5
LEAST_PLATEAU = 0.5  # of its own Sharpe ratio, by the median of the neighbours
LEAST_NEIGHBOURS = 3
SAME = 1e-9  # of the last equity: more apart are not two runs of the same decisions
FEWEST_NAMES = 3  # of which one can make too much
GONE_A_YEAR = 0.02  # of the listed companies at the very least: acquired, bankrupt, taken private
UNLIKELY = 0.05  # the chance that all are still there, below which somebody has chosen them afterwards


@dataclass(frozen=True)
class Scene:
    """What the critic looks at: a run of an account that began with `cash` USD, and what its prices do not show.

    `refused` are quarantined rows (symbol -> row of the panel -> reason), `contaminated` the stored opinions by name whose
    author may have known what came after, `neighbours` the Sharpe ratios a bar of trials with nearly the same parameters.
    Of a sweep's best `plateau` is what ``grid.plateaus`` found, and stands for them, and `swept` the last equity that it had
    in the sweep.
    """

    result: Backtest
    cash: float
    refused: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    contaminated: Mapping[str, int] = field(default_factory=dict)
    neighbours: Sequence[float] = ()
    plateau: float | None = None
    swept: float | None = None

    @property
    def start(self) -> int:
        """The first row of the panel that decides."""
        return len(self.result.decisions.panel.sessions) - len(self.result.returns)

    @property
    def profit(self) -> float:
        return float(self.result.simulation.equity[-1]) - self.cash

    @property
    def day_number(self) -> NDArray[np.int64]:
        """(T - start,): which session of the run each bar belongs to, counted from 0."""
        number = self.result.decisions.panel.session_number[self.start :]
        return np.asarray(number - number[0])


def findings(scene: Scene) -> list[Finding]:
    """What is to be said against a run, in the order of the rules."""
    return [found for rule in RULES for found in rule(scene)]


def few_trades(scene: Scene) -> Iterator[Finding]:
    """Fewer round trips than a mean needs."""
    ended = scene.result.metrics["trades"] or 0.0
    if ended < LEAST_TRADES:
        trips = "1 round trip ended" if ended == 1 else f"{ended:,.0f} round trips ended"
        yield Finding(
            code="few_trades",
            text=f"{trips}; fewer than {LEAST_TRADES} say little",
            number=ended,
            limit=LEAST_TRADES,
        )


def one_name(scene: Scene) -> Iterator[Finding]:
    """One symbol of several makes most of the profit."""
    run, panel = scene.result.simulation, scene.result.decisions.panel
    by_name = profit_by_symbol(scene.result)
    if scene.profit <= 0 or len(by_name) < FEWEST_NAMES:
        return
    best = int(np.argmax(by_name))
    share = float(by_name[best]) / scene.profit
    if share > MOST_OF_A_NAME:
        rest = scene.profit - by_name[best]
        traded = len(np.unique(run.events.column))
        text = f"{panel.symbols[best]} alone made {by_name[best]:,.2f} of the {scene.profit:,.2f} USD"
        yield Finding(
            code="one_name",
            text=f"{text}; the other {traded - 1:,} traded symbols {rest:,.2f}",
            number=share,
            limit=MOST_OF_A_NAME,
        )


def one_day(scene: Scene) -> Iterator[Finding]:
    """One session makes much of the profit."""
    if scene.profit <= 0:
        return
    equity = scene.result.simulation.equity
    change = np.bincount(scene.day_number, weights=np.diff(equity, prepend=scene.cash))
    best = int(np.argmax(change))
    share = float(change[best]) / scene.profit
    if share > MOST_OF_A_SESSION:
        day = np.unique(scene.result.simulation.sessions.astype("datetime64[D]"))[best]
        yield Finding(
            code="one_day",
            text=f"{day} alone made {change[best]:,.2f} of the {scene.profit:,.2f} USD",
            number=share,
            limit=MOST_OF_A_SESSION,
        )


def flat_stretch(scene: Scene) -> Iterator[Finding]:
    """No new high for most of a run that is longer than a year."""
    days = int(scene.day_number[-1]) + 1
    below = scene.result.metrics["drawdown_days"] or 0.0
    if days > SESSIONS and below / days > LONGEST_FALL:
        yield Finding(
            code="flat_stretch",
            text=f"no new high of the equity for {below:,.0f} of {days:,} sessions",
            number=below / days,
            limit=LONGEST_FALL,
        )


def idle(scene: Scene) -> Iterator[Finding]:
    """Long without any position, once it had one."""
    run = scene.result.simulation
    held = np.flatnonzero(run.exposure > LEVEL * np.abs(run.equity))
    days = scene.day_number
    if not len(held) or days[-1] < SESSIONS:
        return
    rests = np.diff(np.append(days[held], days[-1] + 1)) - 1
    longest = int(np.argmax(rests))
    share = float(rests[longest]) / float(days[-1] + 1)
    if share > LONGEST_REST:
        since = run.sessions[held[longest]].astype("datetime64[D]")
        yield Finding(
            code="idle",
            text=f"no position for {int(rests[longest]):,} of {days[-1] + 1:,} sessions after {since}",
            number=share,
            limit=LONGEST_REST,
        )


def stale_fills(scene: Scene) -> Iterator[Finding]:
    """Fills at prices at which perhaps nobody traded: no volume, a bar that only repeats the close before, a last price.

    A bar within the day that repeats it and has volume is one trade at the same price, as is usual where few trade.
    """
    events, panel = scene.result.simulation.events, scene.result.decisions.panel
    raw = panel.raw
    filled = (events.kind == FILL) | (events.kind == CLOSED)
    if not filled.any():
        return
    at = events.row[filled], events.column[filled]
    before = np.where(at[0] > 0, raw.close[at[0] - 1, at[1]], np.nan)
    repeated = (raw.high[at] == raw.low[at]) & (raw.close[at] == before)
    repeated &= (panel.timeframe == DAY) | ~(raw.volume[at] > 0)
    stale = (raw.volume[at] == 0) | repeated | (events.kind[filled] == CLOSED)
    share = float(stale.mean())
    if share > MOST_STALE:
        yield Finding(
            code="stale_fills",
            text=f"{int(stale.sum()):,} of {len(stale):,} fills at a price that nobody may have traded at: a bar without volume,"
            " one that repeats the close before, or the last price of a symbol that is gone",
            number=share,
            limit=MOST_STALE,
        )


def large_fills(scene: Scene) -> Iterator[Finding]:
    """Fills that are much of a symbol's volume of the day."""
    panel, events = scene.result.decisions.panel, scene.result.simulation.events
    filled = events.kind == FILL
    if not filled.any():
        return
    day, width = panel.session_number, panel.shape[1]
    rows = np.flatnonzero(np.isin(day, day[events.row[filled]]))  # of the sessions on which there were fills
    firsts = np.flatnonzero(np.diff(day[rows], prepend=-1))
    volume = np.add.reduceat(np.nan_to_num(panel.raw.volume[rows]), firsts)
    place = np.searchsorted(day[rows[firsts]], day[events.row[filled]]) * width + events.column[filled]
    traded = np.bincount(place, weights=np.abs(events.quantity[filled]), minlength=volume.size).reshape(volume.shape)
    share = np.divide(traded, volume, out=np.zeros_like(traded), where=volume > 0)
    worst = np.unravel_index(int(np.argmax(share)), share.shape)
    if share[worst] > MOST_VOLUME:
        name, session = panel.symbols[int(worst[1])], panel.days[rows[firsts[worst[0]]]]
        orders = int(np.count_nonzero(share > MOST_VOLUME))
        more = f"{orders:,} of {np.count_nonzero(traded):,} times more than {MOST_VOLUME:.0%} of a day's volume"
        yield Finding(
            code="large_fills",
            text=f"{more} was traded, at most {share[worst]:.1%} ({name} on {session})",
            number=float(share[worst]),
            limit=MOST_VOLUME,
        )


def parameter_spike(scene: Scene) -> Iterator[Finding]:
    """Parameters nearby did much worse."""
    plateau, who = scene.plateau, "its neighbours in the grid"
    if plateau is None:
        plateau, who = _plateau(scene), f"{len(scene.neighbours):,} trials with parameters nearby"
    if plateau is not None and plateau < LEAST_PLATEAU:
        yield Finding(
            code="parameter_spike",
            text=f"{who} had {plateau:.0%} of its sharpe in the middle",
            number=plateau,
            limit=LEAST_PLATEAU,
        )


def _plateau(scene: Scene) -> float | None:
    returns = scene.result.returns
    deviation = float(np.std(returns, ddof=1)) if len(returns) > 1 else 0.0
    own = float(np.mean(returns)) / deviation if deviation else 0.0
    return float(np.median(scene.neighbours)) / own if own > 0 and len(scene.neighbours) >= LEAST_NEIGHBOURS else None


def unrepeatable(scene: Scene) -> Iterator[Finding]:
    """A sweep's best came to something else when it was run again by itself."""
    equity = float(scene.result.simulation.equity[-1])
    if scene.swept is not None and abs(scene.swept - equity) > SAME * abs(equity):
        yield Finding(
            code="unrepeatable",
            text=f"it ended at {scene.swept:,.2f} USD in the sweep and at {equity:,.2f} when it was run again",
            number=abs(scene.swept / equity - 1) if equity else 1.0,
            limit=SAME,
        )


def not_again(error: str) -> Finding:
    """What stands for all findings of a sweep's best that raised when it was run again."""
    return Finding(code="unrepeatable", text=error, number=1.0, limit=SAME)


def price_jumps(scene: Scene) -> Iterator[Finding]:
    """A held symbol's close is so far from the one before that a split may be missing, or the price wrong."""
    panel, events = scene.result.decisions.panel, scene.result.simulation.events
    step = 1 + panel.returns[scene.start :]
    rows, columns = np.nonzero((step < LARGEST_STEP) | (step > 1 / LARGEST_STEP))  # NaN is neither
    found = []
    for t, n in zip((rows + scene.start).tolist(), columns.tolist(), strict=True):
        own = (events.column == n) & (events.row < t) & (events.kind != SPLIT) & (events.kind != DIVIDEND)
        held = np.sum(events.quantity[own] / panel.split_factor[events.row[own], n])
        if abs(held) > LEVEL:
            found.append((abs(np.log1p(panel.returns[t, n])), t, n))
    if found:
        _, t, n = max(found)
        move = float(panel.returns[t, n])
        bars = "1 close of a held symbol is" if len(found) == 1 else f"{len(found):,} closes of held symbols are"
        yield Finding(
            code="price_jumps",
            text=f"{bars} far from the one before, without a split or dividend for it: {panel.symbols[n]} {move:+.1%} on"
            f" {panel.days[t]}",
            number=1 + move,
            limit=LARGEST_STEP if move < 0 else 1 / LARGEST_STEP,
        )


def data_gaps(scene: Scene) -> Iterator[Finding]:
    """A symbol lacks sessions between its first bar and its last."""
    panel = scene.result.decisions.panel
    has, firsts = panel.has_bar[scene.start :], np.flatnonzero(np.diff(panel.session_number[scene.start :], prepend=-1))
    if len(firsts) < len(has):
        has = np.logical_or.reduceat(has, firsts)
    length = len(has)
    alive = has.any(axis=0)
    first, last = has.argmax(axis=0), length - 1 - has[::-1].argmax(axis=0)
    lives = np.where(alive, last - first + 1, 0)
    missing = lives - has.sum(axis=0)
    share = np.divide(missing, lives, out=np.zeros(len(lives)), where=lives > 0)
    worst = int(np.argmax(share))
    if share[worst] > MOST_MISSING:
        lacking = int(np.count_nonzero(share > MOST_MISSING))
        yield Finding(
            code="data_gaps",
            text=f"{lacking:,} of {len(lives):,} symbols lack more than {MOST_MISSING:.0%} of their sessions;"
            f" {panel.symbols[worst]} lacks {missing[worst]:,} of {lives[worst]:,}",
            number=float(share[worst]),
            limit=MOST_MISSING,
        )


def benchmark_gaps(scene: Scene) -> Iterator[Finding]:
    """The benchmark has no bars on many sessions of the run: it is compared with on the others alone."""
    beside = scene.result.benchmark
    if beside is None:
        return
    of = len(beside.lacking)
    if beside.missing / of > MOST_MISSING:
        yield Finding(
            code="benchmark_gaps",
            text=f"the benchmark has no bar on {beside.missing:,} of {of:,} sessions; what compares with it says nothing of them",
            number=beside.missing / of,
            limit=MOST_MISSING,
        )


def quarantined(scene: Scene) -> Iterator[Finding]:
    """Refused rows within the run, where there is no bar instead."""
    rows = {name: [t for t in reasons if t >= scene.start] for name, reasons in scene.refused.items()}
    counts = {name: len(kept) for name, kept in rows.items() if kept}
    if counts:
        total, most = sum(counts.values()), max(counts, key=lambda name: counts[name])
        bars = "1 bar was refused and is" if total == 1 else f"{total:,} bars were refused and are"
        yield Finding(
            code="quarantined",
            text=f"{bars} missing, most of {most} (ma sql 'from quarantine')",
            number=float(total),
            limit=0.0,
        )


def survivorship(scene: Scene) -> Iterator[Finding]:
    """So many symbols over so long, and all or nearly all still trade: they were chosen by somebody who knew that."""
    panel = scene.result.decisions.panel
    has, number = panel.has_bar[scene.start :], panel.session_number
    seen = has.any(axis=0)
    began = number[scene.start + has.argmax(axis=0)][seen]
    ended = number[np.maximum(panel.last_bar[-1], 0)][seen]
    years = (ended + 1 - began) / SESSIONS  # that each of them was there for
    gone, symbols = int(np.count_nonzero(number[-1] - ended >= _RECENT)), len(years)
    chance = _at_most(gone, -log(1 - GONE_A_YEAR) * float(years.sum()))
    if chance < UNLIKELY:
        expected = float((1 - (1 - GONE_A_YEAR) ** years).sum())
        left = f"all {symbols:,} symbols still trade" if not gone else f"only {gone:,} of {symbols:,} symbols are gone"
        yield Finding(
            code="survivorship",
            text=f"{left} after {years.mean():.1f} years, where at least {expected:,.0f} would be gone:"
            " they were chosen afterwards",
            number=chance,
            limit=UNLIKELY,
        )


def _at_most(count: int, expected: float) -> float:
    """The chance of at most `count` of what is rare, where so many are `expected` (Poisson).

    >>> round(_at_most(1, 2.0), 3)
    0.406
    """
    if not expected > 0:
        return 1.0
    return float(sum(exp(k * log(expected) - expected - lgamma(k + 1)) for k in range(count + 1)))


def contaminated(scene: Scene) -> Iterator[Finding]:
    """Opinions that the strategy uses are left out here, and will not be where it trades."""
    used = {name: count for name, count in scene.contaminated.items() if name in scene.result.decisions.signals}
    if used:
        total, most = sum(used.values()), max(used, key=lambda name: used[name])
        opinions = f"{total:,} stored opinions" if total > 1 else "1 stored opinion"
        yield Finding(
            code="contaminated",
            text=f"{opinions} may have known what came after and are left out, most of {most}: this is not what will trade",
            number=float(total),
            limit=0.0,
        )


_RECENT = 5  # sessions: whoever has a bar in them still trades
RULES: tuple[Callable[[Scene], Iterator[Finding]], ...] = (
    few_trades,
    one_name,
    one_day,
    flat_stretch,
    idle,
    stale_fills,
    large_fills,
    parameter_spike,
    unrepeatable,
    price_jumps,
    data_gaps,
    benchmark_gaps,
    quarantined,
    survivorship,
    contaminated,
)
