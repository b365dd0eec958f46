"""What was learnt of the past: backtests, the trials of a sweep, audits, and the strategies themselves."""

from dataclasses import dataclass, field
from typing import Any, Literal

from marketagent.records.units import Share


@dataclass(frozen=True, kw_only=True)
class AccountSize:
    """The same run with another starting `cash`: what it came to, and its `costs_paid` in USD."""

    cash: float
    equity: float
    total_return: float | None
    cagr: float | None
    sharpe: float | None
    costs_paid: float
    unfilled: int


@dataclass(frozen=True, kw_only=True)
class Luck:
    """How much of a backtest's Sharpe ratio may be luck: its `trials` are all that were run of its family; of a walk-forward
    that had something to choose, all walk-forwards.

    They are worth as many independent ones as `effective_trials`. `best_by_luck` is the annual Sharpe ratio that the best of
    them would have without any skill. The probabilities are that the true ratio is above 0, and above that. `luck_p` is how
    often the best of trials without skill, as alike as these, is as good: below 0.05 the run is significant. Intervals (95 %,
    stationary bootstrap) are there if they were asked for; so are `null_runs` of random entries, their median
    annual Sharpe ratio and the share that did at least as well.
    """

    trials: int
    best_by_luck: float
    probabilistic_sharpe: Share | None
    deflated_sharpe: Share | None
    effective_trials: float | None = None
    luck_p: Share | None = None
    samples: int = 0
    sharpe_low: float | None = None
    sharpe_high: float | None = None
    cagr_low: float | None = None
    cagr_high: float | None = None
    null_runs: int = 0
    null_sharpe: float | None = None
    null_p: Share | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing about a backtest that makes its result doubtful: `number` is what was measured, `limit` what it passed."""

    code: str
    text: str
    number: float
    limit: float


@dataclass(frozen=True, kw_only=True)
class WalkForward:
    """How a backtest was refitted: of `combinations` the best in each of `folds` training windows traded the test window
    after it. `lengths` are those of both, `purge` and `embargo` sessions, `grid` the values that were tried.

    `in_sample_sharpe` is the mean of what was chosen in the training windows; `efficiency` the Sharpe ratio out of sample
    over it (None where it is not above 0).
    """

    lengths: str
    purge: int
    embargo: int
    folds: int
    combinations: int
    grid: dict[str, list[Any]]
    in_sample_sharpe: float | None
    efficiency: float | None


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One window of a walk-forward: the combination (`params`, those in `swept` vary) with the best Sharpe ratio from
    `train_first` to `train_last`, and what it earned by deciding from `first` to `last`, which it was not chosen by. A
    decision earns from the session after it on, and so does a window: one that has no session after it earned nothing yet.
    """

    run: str
    fold: int
    strategy: str
    train_first: str
    train_last: str
    first: str
    last: str
    params: dict[str, Any]
    swept: list[str]
    combinations: int
    in_sample_sharpe: float | None
    sharpe: float | None
    total_return: float | None
    judged: Literal["out of sample"] = "out of sample"
    symbol: str | None = None
    kind: Literal["fold"] = "fold"


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """One simulated run: what was run, on what, and how it did. Metrics without a value are None; `bars` within the
    `sessions` are counted where `timeframe` is not 1d.

    Of the metrics, `break_even_bps` is the flat cost, in basis points of every traded value, at which the run's gain over
    its cash, or over the benchmark if there is one, is gone; 0 where there is none without any cost. `slippage_bps` is
    what is fixed of the `slippage`, rates are a year's. `capacity` is the run at other account sizes, if it was asked for.
    It is `judged` in sample, by sessions that whoever chose its parameters could have looked at, unless `walk_forward`
    says how they were chosen: `params` are then those that do not vary. `symbol` is the one that was backtested alone
    (``--each``); it is None, as in folds, trials and sweeps, where all were backtested together.
    """

    run: str
    strategy: str
    strategy_hash: str
    params: dict[str, Any]
    symbols: int
    first: str
    last: str
    sessions: int
    cash: float
    equity: float
    costs: str
    slippage_bps: float
    fill: str
    fractional: bool
    data_hash: str
    benchmark: str | None
    metrics: dict[str, float | None]
    notes: list[str] = field(default_factory=list)
    timeframe: str = "1d"
    bars: int | None = None
    slippage: str = ""
    borrow_rate: float = 0.0
    margin_rate: float = 0.0
    capacity: list[AccountSize] = field(default_factory=list)
    luck: Luck | None = None
    findings: list[Finding] = field(default_factory=list)
    judged: Literal["in sample", "out of sample"] = "in sample"
    walk_forward: WalkForward | None = None
    symbol: str | None = None
    kind: Literal["backtest"] = "backtest"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One combination of a sweep and how it did on the very sessions it is chosen by; `rank` 1 has the best Sharpe.

    `deflated_sharpe` is the probability that its true Sharpe ratio is above what the luckiest of all trials of its family
    would have. `swept` names the parameters that vary. `plateau` is the median Sharpe of its neighbours in the grid over its own:
    about 1 where the place hardly matters, far below on a spike. Metrics without a value are None.
    """

    run: str
    rank: int
    strategy: str
    strategy_hash: str
    params: dict[str, Any]
    swept: list[str]
    symbols: int
    first: str
    last: str
    equity: float | None
    total_return: float | None
    cagr: float | None
    sharpe: float | None
    max_drawdown: float | None
    trades: int
    turnover: float | None
    plateau: float | None
    judged: Literal["in sample"] = "in sample"
    timeframe: str = "1d"
    deflated_sharpe: Share | None = None
    symbol: str | None = None
    kind: Literal["trial"] = "trial"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep as a whole, and how much of its best combination (`best`, the parameters that vary) may be luck.

    `trials` are all that were tried of this strategy on this universe, in this sweep and before it; the probabilities
    are that the best one's true Sharpe ratio is above 0, and above `best_by_luck`, the annual one that the luckiest of so
    many would have; they are worth as many independent ones as `effective_trials`, and `luck_p` is how often the luckiest
    of them would be as good as this: below 0.05 it is significant. `pbo` is the probability of backtest overfitting: in
    what share of `splits` of the history the best of one half is below the middle of all in the other; `loss` in what share
    it loses there. `spa_p` is the p-value of Hansen's test that nothing in the sweep beats the `benchmark` (None: cash).
    None where there is too little to say.
    `findings` are what makes the best one doubtful.
    """

    run: str
    strategy: str
    strategy_hash: str
    params: dict[str, Any]
    swept: dict[str, list[Any]]
    combinations: int
    refused: int
    done: int
    symbols: int
    first: str
    last: str
    timeframe: str
    best: dict[str, Any]
    sharpe: float | None
    trials: int
    best_by_luck: float
    probabilistic_sharpe: Share | None
    deflated_sharpe: Share | None
    pbo: Share | None
    loss: Share | None
    splits: int
    spa_p: Share | None
    samples: int
    benchmark: str | None = None
    effective_trials: float | None = None
    luck_p: Share | None = None
    findings: list[Finding] = field(default_factory=list)
    judged: Literal["in sample"] = "in sample"
    symbol: str | None = None
    kind: Literal["sweep"] = "sweep"


@dataclass(frozen=True, kw_only=True)
class Leak:
    """A decision that ``ma audit lookahead`` saw change when only what came after it did.

    `what` is a signal or ``target``; `known` is the last session that was left alone, `how` says what was done to the rest.
    `before` and `after` are the values (None: none), `changed` is how many places of that signal changed.
    """

    strategy: str
    what: str
    symbol: str
    session: str
    known: str
    how: str
    before: float | None
    after: float | None
    changed: int
    kind: Literal["leak"] = "leak"


@dataclass(frozen=True, kw_only=True)
class Warmup:
    """How many bars a strategy says it needs, and how many its decisions were found to rest on."""

    strategy: str
    warmup: int
    needed: int
    sampled: int
    kind: Literal["warmup"] = "warmup"


@dataclass(frozen=True, kw_only=True)
class StrategyInfo:
    """A strategy that ``--strategy`` can name, with its parameters; `own` are those that not every strategy has."""

    name: str
    summary: str
    file: str
    warmup: int
    params: dict[str, Any]
    own: list[str] = field(default_factory=list)
    kind: Literal["strategy"] = "strategy"
