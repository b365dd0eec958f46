"""Every record that travels on a stream, as a frozen dataclass; ``ma schema KIND`` prints its JSON Schema.

A schema only grows: a field may be added with a default, none is renamed or removed, and ``VERSION``
rises when a reader must know. Sessions are New York dates (``YYYY-MM-DD``), instants UTC RFC 3339, rates
fractions. ``None`` stands for "there is none", never NaN.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

VERSION = 1
CASH = "$USD"  # stands for cash among positions; no ticker looks like it

Status = Literal["ok", "partial", "error"]
Action = Literal["buy", "hold", "sell"]
Unit = Annotated[float, Ge(-1), Le(1)]
Share = Annotated[float, Ge(0), Le(1)]


@dataclass(frozen=True, kw_only=True)
class Begin:
    """First line of a stream: which run of which command writes it, and since when.

    A `live` stream sends each record as it happens, and its end may be hours away or never come; `symbols` are those
    that it was asked for, so that whoever decides on it knows them before they come.
    """

    run: str
    cmd: str
    at: str
    v: int = VERSION
    live: bool = False
    symbols: list[str] = field(default_factory=list)
    kind: Literal["begin"] = "begin"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One symbol (or file) that a stage could not serve, and why."""

    symbol: str
    error: str


@dataclass(frozen=True, kw_only=True)
class End:
    """Last line of a stream: how many records there were, their hash, and whether that is all of them.

    `sha256` covers the raw bytes of every line before this one. `up` is the end of the stream this
    stage read, if it read one.
    """

    run: str
    cmd: str
    n: int
    sha256: str
    status: Status
    failed: list[Failure] = field(default_factory=list)
    error: str | None = None
    up: dict[str, Any] | None = None
    kind: Literal["end"] = "end"


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What ``ma fetch`` did for one symbol: bars stored now, and what this run changed."""

    symbol: str
    source: str
    timeframe: str
    first: str | None
    last: str | None
    bars: int
    added: int
    corrected: int
    quarantined: int
    actions: int
    kind: Literal["fetched"] = "fetched"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One price, or the bar as such, that two sources have otherwise; `difference` is the left by the right, less 1.

    `ts` is the start of a bar within a day. For ``bar``, 1 says that the source has it, None that it has not.
    """

    symbol: str
    session: str
    field: str
    left_source: str
    left: float | None
    right_source: str
    right: float | None
    difference: float | None = None
    ts: str | None = None
    timeframe: str = "1d"
    kind: Literal["difference"] = "difference"


@dataclass(frozen=True, kw_only=True)
class Opinion:
    """One signal's part in a decision; `value` and `confidence` are None where it abstained."""

    value: Unit | None
    confidence: Share | None
    weight: Annotated[float, Ge(0)]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a strategy wants of one symbol on the close of one session, or of the bar within it that starts at `ts`.

    `weight` is the wanted share of the account's equity; None means leave the position alone.
    """

    symbol: str
    session: str
    action: Action
    score: Unit | None
    confidence: Share
    weight: Unit | None
    close: float | None
    strategy: str
    strategy_hash: str
    params: dict[str, Any]
    band: Share
    timeframe: str
    source: str
    reasoning: str
    signals: dict[str, Opinion]
    ts: str | None = None
    kind: Literal["decision"] = "decision"


@dataclass(frozen=True, kw_only=True)
class Order:
    """One order of ``ma trade``: planned, waiting, or settled. Money in USD, `quantity` in shares.

    `ts` and `fill_ts` are the bars within the sessions that it was decided on and filled at, if it was by such bars.
    """

    cid: str
    account: str
    strategy: str
    session: str
    symbol: str
    side: Literal["buy", "sell"]
    quantity: float
    state: str
    filled_quantity: float = 0.0
    fill_price: float | None = None
    commission: float = 0.0
    fill_session: str | None = None
    reason: str = ""
    ts: str | None = None
    fill_ts: str | None = None
    kind: Literal["order"] = "order"


@dataclass(frozen=True, kw_only=True)
class Position:
    """One holding of an account at its last settled session; the row of cash has the symbol ``$USD``."""

    account: str
    symbol: str
    quantity: float
    price: float
    value: float
    weight: float | None
    session: str | None
    ts: str | None = None
    kind: Literal["position"] = "position"


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
    """How much of a backtest's Sharpe ratio may be luck, in sample: its `trials` are all that were run of its family.

    `best_by_luck` is the annual Sharpe ratio that the best of so many would have without any skill. The probabilities are
    that the true ratio is above 0, and above that. Intervals (95 %, stationary bootstrap) are there if they were asked for.
    """

    trials: int
    best_by_luck: float
    probabilistic_sharpe: Share | None
    deflated_sharpe: Share | None
    samples: int = 0
    sharpe_low: float | None = None
    sharpe_high: float | None = None
    cagr_low: float | None = None
    cagr_high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """One simulated run: what was run, on what, and how it did. Metrics without a value are None; `bars` within the
    `sessions` are counted where `timeframe` is not 1d.

    Of the metrics, `break_even_bps` is the flat cost, in basis points of every traded value, at which the run's gain over
    its cash, or over the benchmark if there is one, is gone; 0 where there is none without any cost. `slippage_bps` is
    what is fixed of the `slippage`, rates are a year's. `capacity` is the run at other account sizes, if it was asked for.
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
    kind: Literal["backtest"] = "backtest"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One combination of a sweep and how it did on the very sessions it is chosen by; `rank` 1 has the best Sharpe.

    `swept` names the parameters that vary. `plateau` is the median Sharpe of its neighbours in the grid over its own:
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
    kind: Literal["trial"] = "trial"


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


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One closed bar of ``ma stream``, stored before it is written; `ts` is its start. Prices in USD, as traded."""

    symbol: str
    session: str
    ts: str
    timeframe: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    source: str
    feed: str
    kind: Literal["bar"] = "bar"


@dataclass(frozen=True, kw_only=True)
class Trade:
    """One trade of ``ma stream``, at `ts`; `size` in shares. Trades are not stored."""

    symbol: str
    ts: str
    price: float
    size: float
    exchange: str
    source: str
    feed: str
    kind: Literal["trade"] = "trade"


@dataclass(frozen=True, kw_only=True)
class Quote:
    """The best bid and offer of ``ma stream``, since `ts`; sizes as the vendor counts them. Quotes are not stored."""

    symbol: str
    ts: str
    bid: float
    bid_size: float
    ask: float
    ask_size: float
    source: str
    feed: str
    kind: Literal["quote"] = "quote"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One effective setting and where it comes from; the value of a secret is never shown."""

    name: str
    value: Any
    origin: str
    kind: Literal["setting"] = "setting"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of ``ma sql``: the columns the query names."""

    values: dict[str, Any]
    kind: Literal["row"] = "row"


KINDS: dict[str, type] = {
    "begin": Begin,
    "end": End,
    "fetched": Fetched,
    "difference": Difference,
    "decision": Decision,
    "order": Order,
    "position": Position,
    "backtest": Backtest,
    "trial": Trial,
    "leak": Leak,
    "warmup": Warmup,
    "strategy": StrategyInfo,
    "bar": Bar,
    "trade": Trade,
    "quote": Quote,
    "setting": Setting,
    "row": Row,
}
