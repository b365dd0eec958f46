"""What ``ma`` computes beside what others compute, on cases that anyone can recompute; and why it differs where it does.

    make bench-peers                                   # installs the others into .venv-peers, then runs this, too
    python benchmarks/correctness.py
    python benchmarks/correctness.py --lean Data/equity/usa     # adjusted prices, too: a folder of LEAN's own repository

The prices are Google's, as backtesting.py ships them for its tests, and a seeded market of 500. Each line is one figure:
theirs, ours, and what is left between them once the reason at the end of the line is taken into account, which is
computed, not claimed. Ends with 1 if more is left than the line allows: half a cent of money, 1e-9 of a ratio.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs from a bare checkout
sys.path.insert(0, str(Path(__file__).resolve().parent / "sides"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import lean
import numpy as np
import recorded
from peers import IBKR, PEERS, Side, run, weekly, write
from recorded import crossings
from with_ma import costs_of, crossing, panel_of

from marketagent import metrics
from marketagent.costs import Costs, parse
from marketagent.decision import decide
from marketagent.events import FILL
from marketagent.orders import FRACTIONAL, WHOLE
from marketagent.panel import Array, Panel, Raw
from marketagent.simulate import Simulation, simulate

CENT, RATIO = 0.005, 1e-9
TERMS = {"fast": 10, "slow": 30, "gross": 0.9, "fee": 0.002, "slippage": 0.0, "cash": 10_000.0}


@dataclass(frozen=True)
class Row:
    """One figure of a peer's and ours; `explained` is the part of ours less theirs that `why` accounts for."""

    peer: str
    case: str
    theirs: float
    ours: float
    why: str = ""
    explained: float = 0.0
    allowed: float = CENT

    @property
    def left(self) -> float:
        return self.ours - self.theirs - self.explained


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare figures of ma with those of other backtesters.")
    parser.add_argument("--lean", type=Path, help="LEAN's Data/equity/usa, with daily/ and factor_files/")
    asked = parser.parse_args()
    if not PEERS.exists():
        print(f"the peers are not installed: make bench-peers (no {PEERS.parent.parent.name})")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        stale = outdated(Path(folder))
        rows = [*of_goog(Path(folder)), *of_fees(), *of_slippage()]
    rows += of_factors(asked.lean) if asked.lean else []
    print("| whose | what | theirs | ours | left | why they differ |\n|---|---|---:|---:|---:|---|")
    for row in rows:
        print(line(row))
    wrong = [row for row in rows if not abs(row.left) <= row.allowed]
    for row in wrong:
        print(f"{row.peer}: {row.case}: {row.left!r} is left; allowed is {row.allowed:g}", file=sys.stderr)
    print(
        f"\nof the {len(recorded.RECORDED)} figures recorded for the tests, out of date: {', '.join(stale) or 'none'}"
    )
    return 1 if wrong or stale else 0


def line(row: Row) -> str:
    shown = (lambda value: f"{value:,.2f}") if row.allowed == CENT else (lambda value: f"{value:.6f}")
    left = "0" if abs(row.left) <= row.allowed else f"{row.left:.1e}"
    return f"| {row.peer} | {row.case} | {shown(row.theirs)} | {shown(row.ours)} | {left} | {row.why} |"


def outdated(folder: Path) -> list[str]:
    """The names of the figures in tests/recorded.py that the peers do not compute any more."""
    one, market, terms = recorded.one(), recorded.market(), recorded.TERMS
    targets = crossings(one["close"], 0.0)
    delayed = {**one, "targets": np.append(np.nan, targets[:-1])}
    single = write(folder / "one.npz", one, {**terms, "slippage": 0.0})
    column = {**one, "close": one["close"][:, None], "targets": targets[:, None]}
    three = {**market, "targets": recorded.weekly()}
    found = {
        "backtesting.py, long and short": asked_of("backtesting", "shipped", single)["equity"],
        "backtesting.py, long only, 0.2 %": asked_of("backtesting", "long_only", single)["equity"],
        "bt, the close, 0.2 %": asked_of("bt", "orders", write(folder / "bt.npz", column, terms))["equity"],
    }
    for peer in ("backtesting.py", "vectorbt", "pybroker", "raptorbt"):
        found[f"{peer}, the next open"] = asked_of(peer.removesuffix(".py"), "one_asset", single)["equity"]
    whole, parts = (write(folder / f"{kind}.npz", delayed, {**terms, "whole": kind}) for kind in (True, False))
    for name, value in asked_of("vectorbt", "orders", whole).items():
        more = {"equity": "", "drawdown": ", max_drawdown"}.get(name, f", {name}")
        found[f"vectorbt, from_orders in whole shares{more}"] = value
    found["vectorbt, from_orders in fractions"] = asked_of("vectorbt", "orders", parts)["equity"]
    free = write(folder / "free.npz", three, {**terms, "fee": 0.0})
    found["bt, three symbols weekly at the close"] = asked_of("bt", "orders", free)["equity"]
    paid = write(folder / "paid.npz", three, {**terms, **IBKR, "max_orders": three["targets"].size})
    found["vectorbt, three symbols weekly, IBKR"] = asked_of("vectorbt", "portfolio", paid)["equity"]
    return [name for name, value in recorded.RECORDED.items() if abs(found[name] / value - 1) > RATIO]


def of_goog(folder: Path) -> Iterator[Row]:
    """The moving averages of 10 and 30 sessions on Google, 2004 to 2013, from 10,000 USD."""
    path = write(folder / "none.npz", {}, TERMS)
    goog = {name: np.array(values) for name, values in asked_of("backtesting", "goog", path).items()}
    goog["sessions"] = goog["sessions"].astype("datetime64[D]")
    data = SimpleNamespace(**goog, **TERMS)
    path = write(folder / "goog.npz", goog, TERMS)
    yield from of_backtesting(data, path)
    yield from of_same_rule(data, path)
    yield from of_vectorbt(data, folder, goog)
    yield from of_bt(data, folder, goog)
    yield from of_empyrical(data)


def of_backtesting(data: SimpleNamespace, path: Path) -> Iterator[Row]:
    """Its own test case. It sizes at the price it fills at: the open, which is a bar of its own for us."""
    shipped = asked_of("backtesting", "shipped", path)
    run = at_the_open(data, crossings(data.close, -1.0), Costs(name="none"))
    returns = metrics.session_returns(run.equity[1::2], data.cash)
    name = "backtesting.py"
    yield Row(
        name, "GOOG, SmaCross of its test, left open at the end: final equity", shipped["equity"], float(run.equity[-1])
    )
    missed = float(run.shares[0]) * (data.close[-1] - data.open[-1])
    why = f"finalize_trades sells {run.shares[0]:.0f} shares at the last open; we hold them to the close"
    yield Row(
        name,
        "the same with finalize_trades, the figure in its test",
        shipped["finalized"],
        float(run.equity[-1]),
        why,
        missed,
    )
    drawdown = metrics.max_drawdown(returns)
    yield Row(name, "the same: maximum drawdown", shipped["drawdown"], drawdown, allowed=RATIO)
    yield Row(name, "the same: return a year", shipped["cagr"], *their_cagr(returns), allowed=RATIO)
    yield Row(name, "the same: Sharpe ratio", shipped["sharpe"], *their_sharpe(returns), allowed=RATIO)
    found = asked_of("backtesting", "long_only", path)
    run = at_the_open(data, crossings(data.close, 0.0), costs_of(data))
    yield Row(name, "GOOG, long only, 0.2 % commission: final equity", found["equity"], float(run.equity[-1]))


def their_cagr(returns: Array) -> tuple[float, str, float]:
    """Our figure, why it differs, and by how much."""
    ours, theirs = metrics.cagr(returns), metrics.cagr(returns[1:])
    assert ours is not None
    assert theirs is not None
    return ours, "they leave the first session out: 2,147 returns of 2,148", ours - theirs


def their_sharpe(returns: Array) -> tuple[float, str, float]:
    ours, mean = metrics.sharpe(returns), metrics.cagr(returns[1:])
    assert ours is not None
    assert mean is not None
    square = (1 + mean) ** (2 / metrics.SESSIONS)
    deviation = np.sqrt((np.var(returns[1:], ddof=1) + square) ** metrics.SESSIONS - square**metrics.SESSIONS)
    return (
        ours,
        "theirs is compound return over the deviation of compound returns; ours, as Sharpe's, of plain ones",
        ours - mean / deviation,
    )


def of_same_rule(data: SimpleNamespace, path: Path) -> Iterator[Row]:
    """What ``ma backtest`` does, and others told to: 90 % in whole shares, sized at the close, filled at the next open."""
    ours = float(by_our_rule(data).equity[-1])
    case = "GOOG, 90 % in whole shares at the next open, 0.2 %: final equity"
    for name, file in (
        ("backtesting.py", "backtesting"),
        ("vectorbt", "vectorbt"),
        ("pybroker", "pybroker"),
        ("raptorbt", "raptorbt"),
    ):
        yield Row(name, case, asked_of(file, "one_asset", path)["equity"], ours)


def of_vectorbt(data: SimpleNamespace, folder: Path, goog: dict[str, Any]) -> Iterator[Row]:
    """`from_orders` with target percentages, which are of the equity at the price of the fill."""
    for whole, fee, slippage, case in (
        (True, 0.002, 0.0005, "whole shares, 0.2 %, 5 bps of slippage"),
        (False, 0.002, 0.0, "fractions of a share, 0.2 %"),
    ):
        terms = {**TERMS, "fee": fee, "slippage": slippage, "whole": whole}
        targets = np.append(np.nan, crossings(data.close, 0.0)[:-1])
        found = asked_of("vectorbt", "orders", write(folder / "orders.npz", {**goog, "targets": targets}, terms))
        costs = costs_of(SimpleNamespace(**terms))
        run = at_the_open(data, crossings(data.close, 0.0), costs, steps=WHOLE if whole else FRACTIONAL)
        returns = metrics.session_returns(run.equity[1::2], data.cash)
        yield Row(
            "vectorbt", f"GOOG, from_orders, all in, {case}: final equity", found["equity"], float(run.equity[-1])
        )
        if whole:
            for name in ("sharpe", "sortino"):
                yield Row(
                    "vectorbt",
                    f"the same: {name} ratio, 252 days a year",
                    found[name],
                    getattr(metrics, name)(returns),
                    allowed=RATIO,
                )
            yield Row(
                "vectorbt",
                "the same: maximum drawdown",
                found["drawdown"],
                metrics.max_drawdown(returns),
                allowed=RATIO,
            )


def of_bt(data: SimpleNamespace, folder: Path, goog: dict[str, Any]) -> Iterator[Row]:
    """It decides, sizes and fills at one close, which we call ``same-close``."""
    made, terms = weekly()
    part = {name: values[:1000, :20] if values.ndim == 2 else values[:1000] for name, values in made.items()}
    due = np.isfinite(part["targets"]).any(axis=1)
    part["targets"] = np.where(due[:, None], np.arange(20) % 4 / 40 + 0.01, np.nan)
    for market, case in (
        ({**goog, "targets": crossings(data.close, 0.0)}, "GOOG, all in at the close"),
        (part, "20 of the seeded market, four weights, weekly at the close"),
    ):
        for fee in (0.0, 0.002) if market is not part else (0.0,):
            cash = TERMS["cash"] if market is not part else terms["cash"]
            shaped = {
                name: values if name == "sessions" else values.reshape(len(values), -1)
                for name, values in market.items()
            }
            path = write(folder / "bt.npz", shaped, {**TERMS, "fee": fee, "cash": cash})
            costs = Costs(name="bps", bps=fee * 1e4)
            bars = panel_of(SimpleNamespace(**shaped))
            run = simulate(shaped["targets"], bars, costs, cash, fill="same-close")
            label = f"{case}, {fee:.1%}: final equity" if fee else f"{case}: final equity"
            yield Row("bt", label, asked_of("bt", "orders", path)["equity"], float(run.equity[-1]))


def of_empyrical(data: SimpleNamespace) -> Iterator[Row]:
    """Every metric that both have, on the returns of our rule, with Google itself as the benchmark."""
    import empyrical

    returns = metrics.session_returns(by_our_rule(data).equity, data.cash)
    benchmark = np.append(0.0, data.close[1:] / data.close[:-1] - 1)
    alone = {
        "cagr": empyrical.annual_return, "volatility": empyrical.annual_volatility, "sharpe": empyrical.sharpe_ratio,
        "sortino": empyrical.sortino_ratio, "calmar": empyrical.calmar_ratio, "max_drawdown": empyrical.max_drawdown,
    }  # fmt: skip
    against = {"alpha": empyrical.alpha, "beta": empyrical.beta, "information_ratio": empyrical.excess_sharpe}
    for name, theirs in alone.items():
        yield Row(
            "empyrical",
            f"our run on GOOG: {name}",
            float(theirs(returns)),
            getattr(metrics, name)(returns),
            allowed=RATIO,
        )
    for name, other in against.items():
        found = getattr(metrics, name)(returns, benchmark)
        yield Row("empyrical", f"the same against GOOG: {name}", float(other(returns, benchmark)), found, allowed=RATIO)


def of_fees() -> Iterator[Row]:
    """LEAN's fee models, by their formulas, on the fills of our run of 500 symbols: USD of all of them together."""
    arrays, terms = weekly()
    events = simulate(
        arrays["targets"], panel_of(SimpleNamespace(**arrays)), Costs(name="ibkr", **IBKR), terms["cash"]
    ).events
    filled = events.kind == FILL
    shares, price = events.quantity[filled], events.price[filled]
    size, value, sold = np.abs(shares), np.abs(shares) * price, shares < 0
    case = f"USD on {len(shares):,} fills of the weekly 500"

    def ours(name: str) -> float:
        return float(parse(name).commission(shares, price).sum())

    taf = np.where(sold, np.minimum(0.000166 * size, 8.30), 0.0)
    sec = 27.8e-6 * value
    fixed = lean.commission(size, value, 0.005, 1.0)
    capped = np.minimum(fixed, 0.01 * value)
    more = float((capped - fixed).sum() + taf.sum() + sec[sold].sum())
    why = "regulators' fees on sales are left out there, and its minimum of 1 USD goes above IBKR's cap of 1 %"
    yield Row(
        "LEAN", f"InteractiveBrokersFeeModel, {case}", float(fixed.sum()), ours("ibkr-fixed@2025-01-02"), why, more
    )
    each = lean.commission(size, value, 0.0035, 0.35)
    tiered = each + sec + taf + 0.000048 * size + np.minimum(0.0002 * size, 0.005 * value) + 0.003 * size
    tiered = tiered + np.minimum(8.3, 0.00056 * each)
    cut = np.minimum(each, 0.01 * value)
    more = float((cut - each).sum() * (1 + 0.00056) - sec[~sold].sum() - 0.000048 * size.sum() + 0.000175 * cut.sum())
    why = "the SEC's fee is charged on buys, too, and CAT's, which began in July 2025; NYSE's pass-through is charged on NYSE only"
    yield Row(
        "LEAN",
        f"InteractiveBrokersTieredFeeModel, {case}",
        float(tiered.sum()),
        ours("ibkr-tiered@2025-01-02"),
        why,
        more,
    )
    cents = np.where(sold, np.ceil((taf + sec) * 100 - 1e-9) / 100, 0.0)
    why = "regulators' fees are left out there; Alpaca passes them on, rounded up to a cent"
    yield Row("LEAN", f"AlpacaFeeModel, {case}", 0.0, ours("alpaca@2025-01-02"), why, float(cents.sum()))


def of_slippage() -> Iterator[Row]:
    """LEAN's slippage by volume beside the square-root law, each by its formula, on the fills of the weekly 500."""
    arrays, terms = weekly()
    data = SimpleNamespace(**arrays)
    events = simulate(data.targets, panel_of(data), parse("none", slippage="sqrt:0.1"), terms["cash"]).events
    row, column, size = events.row, events.column, np.abs(events.quantity)
    opened, volume = data.open[row, column], data.volume[row, column]
    ours = float((size * np.abs(events.price - opened)).sum())
    theirs = 0.1 * np.minimum(size / volume, 0.025) ** 2 * opened * size
    change = data.close[1:] / data.close[:-1] - 1  # of row 1 on: the 20 before row t are from t - 21 to t - 2
    deviation = np.array([np.std(change[t - 21 : t - 1, n], ddof=1) for t, n in zip(row, column, strict=True)])
    law = float((0.1 * deviation * np.sqrt(size / volume) * opened * size).sum())
    why = "another law: theirs is a tenth of the squared share of the volume, ours sqrt:0.1, volatility times its root"
    case = f"VolumeShareSlippageModel, USD on {len(row):,} fills of the weekly 500"
    yield Row("LEAN", case, float(theirs.sum()), ours, why, law - float(theirs.sum()))


def of_factors(folder: Path) -> Iterator[Row]:
    """Growth since 1998 by LEAN's factor files, against the adjusted close of a panel with the same dividends and splits."""
    for symbol in ("spy", "ibm"):
        sessions, close = lean.closes(folder / "daily" / f"{symbol}.zip")
        until, price_factor, split_factor, reference = lean.factors(folder / "factor_files" / f"{symbol}.csv")
        row = np.minimum(np.searchsorted(until, sessions), len(until) - 1)
        theirs = close * price_factor[row] * split_factor[row]
        split, dividend = np.ones(len(close)), np.zeros(len(close))
        for k, day in enumerate(until[:-1]):
            ex = int(np.searchsorted(sessions, day, side="right"))
            if 0 < ex < len(close):
                split[ex] = split_factor[k + 1] / split_factor[k]
                dividend[ex] = reference[k] * (1 - price_factor[k] / price_factor[k + 1])
        raw = Raw(*(two(close) for _ in range(4)), two(np.full(len(close), np.nan)))
        ours = Panel(sessions, (symbol.upper(),), raw, two(split), two(dividend)).close[:, 0]
        step = np.where(dividend > 0, (1 + dividend / close) * (1 - dividend / np.append(np.nan, close[:-1])), 1.0)
        grown = float(theirs[-1] / theirs[0])
        found = float(ours[-1] / ours[0])
        why = "a dividend is reinvested at the close of its ex-date; theirs at the close before"
        case = f"{symbol.upper()} by its factor file, {sessions[0]} to {sessions[-1]}: growth"
        yield Row("LEAN", case, grown, found, why, grown * (float(np.prod(step)) - 1), RATIO)


def at_the_open(data: SimpleNamespace, targets: Array, costs: Costs, steps: float = WHOLE) -> Simulation:
    """Targets of one close traded at the next open, and sized there: each session is two bars, its open and its close."""
    bars = np.column_stack([data.open, data.close]).ravel()
    stamps = np.column_stack([data.sessions.astype("datetime64[h]") + hours for hours in (14, 21)]).ravel()
    wanted = np.full(len(bars), np.nan)
    wanted[2::2] = targets[:-1]
    raw = Raw(*(two(bars) for _ in range(4)), two(np.full(len(bars), np.nan)))
    panel = Panel(stamps, ("GOOG",), raw, np.ones((len(bars), 1)), np.zeros((len(bars), 1)))
    return simulate(two(wanted), panel, costs, data.cash, fill="same-close", steps=steps)


def by_our_rule(data: SimpleNamespace) -> Simulation:
    """``ma backtest --strategy sma_cross --set fast=10 --set slow=30 --set gross=0.9 --costs bps:20 --cash 10000``."""
    strategy = crossing(data)
    return simulate(
        decide(strategy, panel_of(data)).targets, panel_of(data), costs_of(data), data.cash, band=strategy.band
    )


def two(values: Array) -> Array:
    return values.reshape(len(values), -1)


def asked_of(file: str, work: str, path: Path) -> dict[str, Any]:
    result: dict[str, Any] = run(Side(file, file, work, 1), path)["result"]
    return result


if __name__ == "__main__":
    sys.exit(main())
