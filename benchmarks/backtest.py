"""How long a backtest takes, in this process and as a whole one, against the shortest loops that trade the same.

    python benchmarks/backtest.py             # 5 rounds
    python benchmarks/backtest.py 9

The market is made up from a seed: 500 symbols over 2,520 sessions, with splits and dividends. It goes into a store of its
own by ``ma fetch``; the cross-sectional momentum strategy is traded monthly and weekly at the costs ``ibkr-fixed``.

``engine`` is ``simulate``, against the shortest NumPy loop that trades the same targets; ``kernel`` is what a sweep runs,
with its metrics, against the same loop in numba. Both floors charge what ours charge, and know no splits, dividends,
closings or record of what happened; without splits and dividends the kernel must end with the equity of its floor, or this
ends with 1. ``one asset`` crosses two averages over 5,000 bars: decided, simulated and measured, against NumPy with a plain
loop over the crossings, with equal equity at the end. ``ma backtest`` is the whole process, in seconds of processor time.
Figures are medians but for the least times of what takes milliseconds; a ratio is the median of the rounds' ratios.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs from a bare checkout

import duckdb
import exchange_calendars
import numpy as np
from numba import njit

from marketagent import catalog
from marketagent.backtest import _measured, backtest
from marketagent.costs import Costs, parse
from marketagent.decision import Decisions, decide
from marketagent.panel import Array, Panel, Raw
from marketagent.replay import Ground
from marketagent.simulate import simulate
from marketagent.store.market import read_panel
from marketagent.strategy import Strategy

SYMBOLS, SESSIONS, BARS = 500, 2_520, 5_000
CASH = 1_000_000.0
FAST, SLOW = 20, 50
GOALS = {"engine": 3.0, "kernel": 2.0}  # times the floor
ONE_MS = 3.0  # one asset
CPU_S = {"500": 1.6, "1": 0.9}  # ma backtest, by the number of symbols
RATES = ("per_share", "minimum", "ceiling", "cat_per_share", "sec_rate", "taf_per_share", "taf_maximum")
FIRST = "2013-01-02"


Pair = tuple[float, float]


class Run(NamedTuple):
    """One whole process: seconds elapsed and of processor time."""

    wall_s: float
    cpu_s: float


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure backtests against the shortest loops that trade the same.")
    parser.add_argument("rounds", nargs="?", type=int, default=5, help="how often each part is run (5)")
    rounds = parser.parse_args().rounds
    if rounds < 1:
        parser.error(f"rounds is {rounds}; it must be at least 1")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        prices = home / "prices.parquet"
        write_market(prices)
        fetched = ma(home, "fetch", "--source", "csv", str(prices))
        print(f"{SYMBOLS} symbols x {SESSIONS} sessions; stored by ma fetch in {fetched.wall_s:.1f} s")
        print(f"{'':<18}{'floor':>10}{'ours':>10}{'ratio':>8}{'goal':>7}")
        apart = [in_process(home, schedule, rounds) for schedule in ("monthly", "weekly")]
        apart.append(one_asset(home, rounds))
        whole(home, rounds)
    print(f"final equities apart from their floors by at most {max(apart):.0e}")
    return 0 if max(apart) < 1e-9 else 1


def in_process(home: Path, schedule: str, rounds: int) -> float:
    """The engine and the kernel on one schedule; returns how far the kernel is from its floor in the end."""
    strategy = catalog.load("momentum", home).configured({"rebalance": schedule})
    costs = parse("ibkr-fixed")
    rounds_of = [measured(home, strategy, costs) for _ in range(rounds + 1)][1:]  # the first may have to compile
    for name, times in zip(GOALS, zip(*(pairs for _, *pairs in rounds_of), strict=True), strict=True):
        line(f"{name} {schedule}", list(times), f"{GOALS[name]:g}")
    print(f"{'decide ' + schedule:<18}{'':>10}{median(decided for decided, *_ in rounds_of) * 1e3:>7.0f} ms")
    decisions = decide(strategy, read_panel(home / "store", None))
    targets, panel = decisions.targets, decisions.panel
    bare = replace(panel, split=np.ones(panel.shape), dividend=np.zeros(panel.shape))
    _, played = Ground(bare, costs, CASH).replay(targets, strategy.band)
    equity = played["equity"]
    assert equity is not None
    return abs(equity / loop_of(targets, bare, costs)[-1] - 1)


def measured(home: Path, strategy: Strategy, costs: Costs) -> tuple[float, Pair, Pair]:
    """Seconds to decide on a fresh panel; then of the floor and ours: of the engine, and of the kernel."""
    panel = read_panel(home / "store", None)
    began = time.perf_counter()
    decisions = decide(strategy, panel)
    decided = time.perf_counter() - began
    targets, panel = decisions.targets, decisions.panel
    engine = seconds(lambda: floor(targets, panel, costs)), seconds(lambda: simulate(targets, panel, costs, CASH))
    ground = Ground(panel, costs, CASH)
    kernel = least(lambda: loop_of(targets, panel, costs)), least(lambda: ground.replay(targets, strategy.band))
    return decided, engine, kernel


def one_asset(home: Path, rounds: int) -> float:
    """Two averages crossing on one asset; returns how far we are from the floor in the end."""
    strategy = crossing(home)
    panel, costs = walk(), parse("ibkr-fixed")

    def ours() -> float:
        decisions = decide(strategy, replace(panel))
        run = simulate(decisions.targets, decisions.panel, costs, CASH, band=strategy.band)
        found = _measured(run, costs, decisions.panel, "next-open", CASH, None, 252)
        assert found["sharpe"] is not None
        return float(run.equity[-1])

    times = [(least(lambda: crossed(panel, costs)), least(ours)) for _ in range(rounds)]
    line("one asset", times, f"{ONE_MS:g} ms")
    decisions: Decisions = decide(strategy, panel)
    even = [least(lambda: backtest(decisions, costs, CASH)) for _ in range(rounds)]
    print(f"{'  with break-even':<18}{'':>10}{median(even) * 1e3:>7.1f} ms")
    return abs(ours() / crossed(panel, costs) - 1)


def whole(home: Path, rounds: int) -> None:
    asked = {
        "500 weekly": ("--strategy", "momentum", "--set", "rebalance=weekly", "--costs", "ibkr-fixed"),
        "500 monthly": ("--strategy", "momentum", "--set", "rebalance=monthly", "--costs", "ibkr-fixed"),
        "1 daily": ("S000", "--strategy", "sma_cross", "--costs", "ibkr-fixed"),
    }
    print(f"{'ma backtest':<18}{'wall':>10}{'cpu':>10}{'least':>8}{'goal':>7}")
    runs: dict[str, list[Run]] = {name: [] for name in asked}
    for counted in [False] + [True] * rounds:
        for name, arguments in asked.items():
            run = ma(home, "backtest", *arguments)
            if counted:
                runs[name].append(run)
    for name, each in runs.items():
        wall_s, cpu_s = (median(values) for values in zip(*each, strict=True))
        print(
            f"  {name:<16}{wall_s:>8.2f} s{cpu_s:>8.2f} s{min(run.cpu_s for run in each):>6.2f} s"
            f"{CPU_S[name.split()[0]]:>5g} s"
        )


def line(name: str, times: list[tuple[float, float]], goal: str) -> None:
    ratio = median(ours / floored for floored, ours in times)
    floored, ours = (median(values) * 1e3 for values in zip(*times, strict=True))
    print(f"{name:<18}{floored:>7.1f} ms{ours:>7.1f} ms{ratio:>8.2f}{goal:>7}")


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def least(work: Callable[[], object], times: int = 5) -> float:
    return min(seconds(work) for _ in range(times))


def floor(targets: Array, panel: Panel, costs: Costs) -> Array:
    """Equity (T,): fill at the open what was sized at the close before, in whole shares; nothing else."""
    opens, closes = panel.raw.open, panel.raw.close
    due = np.isfinite(targets).any(axis=1)
    cash, shares, waiting = CASH, np.zeros(len(targets[0])), None
    equity = np.empty(len(targets))
    for t in range(len(targets)):
        if waiting is not None:
            price = opens[t]
            sells = np.minimum(waiting, 0.0)
            cash -= (sells * price).sum() + costs.commission(sells, price).sum()
            buys = np.maximum(waiting, 0.0)
            while (spent := (buys * price).sum() + costs.commission(buys, price).sum()) > cash:
                buys = np.trunc(buys * (cash / spent))
            cash -= spent
            shares = shares + sells + buys
            waiting = None
        equity[t] = cash + (shares * closes[t]).sum()
        if due[t]:
            wanted = np.trunc(targets[t] * equity[t] / closes[t])
            waiting = np.where(np.isnan(wanted), 0.0, wanted - shares)
    return equity


def loop_of(targets: Array, panel: Panel, costs: Costs) -> Array:
    """Equity (T,) by the loop that is compiled."""
    assert not costs.unknown_to(RATES)
    rates = np.array([getattr(costs, name) for name in RATES])
    return loop(targets, np.isfinite(targets).any(axis=1), panel.raw.open, panel.raw.close, rates)


@njit(cache=True, error_model="numpy")
def loop(targets: Array, due: Array, opens: Array, closes: Array, rates: Array) -> Array:
    """Equity (T,): fill at the open what was sized at the close before, in whole shares; nothing else."""
    cash, shares, orders = CASH, np.zeros(closes.shape[1]), np.zeros(closes.shape[1])
    equity, waits = np.empty(len(closes)), False
    for t in range(len(closes)):
        if waits:
            for n in range(len(orders)):
                if orders[n] < 0:
                    cash -= orders[n] * opens[t, n] + fee(orders[n], opens[t, n], rates)
                    shares[n] += orders[n]
            share, spent = 1.0, bought(orders, opens[t], rates, 1.0)
            while spent > cash and spent != 0:
                share *= max(cash, 0.0) / spent * (1 - 1e-12)
                spent = bought(orders, opens[t], rates, share)
            cash -= spent
            for n in range(len(orders)):
                if orders[n] > 0:
                    shares[n] += np.trunc(orders[n] * share + 1e-9)
            waits = False
        worth = cash
        for n in range(len(shares)):
            worth += shares[n] * closes[t, n]
        equity[t] = worth
        if due[t]:
            for n in range(len(orders)):
                wanted = np.trunc(targets[t, n] * worth / closes[t, n] + 1e-9)
                orders[n] = 0.0 if np.isnan(wanted) else wanted - shares[n]
                waits = waits or orders[n] != 0
    return equity


@njit(cache=True, error_model="numpy")
def bought(orders: Array, price: Array, rates: Array, share: float) -> float:
    """What a share of the buys costs."""
    spent = 0.0
    for n in range(len(orders)):
        if orders[n] > 0:
            quantity = np.trunc(orders[n] * share + 1e-9)
            spent += quantity * price[n] + fee(quantity, price[n], rates)
    return spent


@njit(cache=True, error_model="numpy")
def fee(quantity: float, price: float, rates: Array) -> float:
    """The commission, and the regulators' fees, by the `rates` of RATES."""
    shares = abs(quantity)
    value = shares * price
    due = min(max(rates[0] * shares, rates[1]), rates[2] * value) + rates[3] * shares
    return due + (rates[4] * value + min(rates[5] * shares, rates[6]) if quantity < 0 else 0.0)


def crossing(home: Path) -> Strategy:
    """``sma_cross`` that holds what it has bought until it sells all of it, as the floor does."""
    kind = catalog.load("sma_cross", home).kind
    return type("Crossing", (kind,), {"band": 1.0})(fast=FAST, slow=SLOW)  # type: ignore[no-any-return]


def crossed(panel: Panel, costs: Costs) -> float:
    """The final equity of the crossing on one asset: whole arrays, and a plain loop over the crossings."""
    opens, closes = panel.raw.open[:, 0], panel.raw.close[:, 0]
    sums = np.concatenate([[0.0], np.cumsum(closes)])
    fast = (sums[SLOW:] - sums[SLOW - FAST : -FAST]) / FAST
    slow = (sums[SLOW:] - sums[:-SLOW]) / SLOW
    above = np.concatenate([np.zeros(SLOW - 1, dtype=bool), fast > slow])
    turns = np.flatnonzero(np.diff(above, prepend=False))
    rates = [getattr(costs, name) for name in RATES]
    cash, shares = CASH, 0.0
    rows, moneys, holdings = [0], [cash], [shares]
    for t in turns[turns < BARS - 1].tolist():
        price = float(opens[t + 1])
        if shares:
            cash += shares * price - charged(-shares, price, rates)
            shares = 0.0
        else:
            wanted = cash / float(closes[t]) + 1e-9
            share, shares = 1.0, float(int(wanted))
            while (spent := shares * price + charged(shares, price, rates)) > cash:
                share *= cash / spent * (1 - 1e-12)
                shares = float(int(int(wanted) * share + 1e-9))
            cash -= spent
        rows.append(t + 1)
        moneys.append(cash)
        holdings.append(shares)
    lengths = np.diff(rows, append=BARS)
    equity = np.repeat(moneys, lengths) + np.repeat(holdings, lengths) * closes
    returns = np.diff(equity, prepend=CASH) / np.concatenate([[CASH], equity[:-1]])
    peak = np.maximum.accumulate(np.maximum(equity, CASH))
    assert np.isfinite([returns.mean() / returns.std(ddof=1) * np.sqrt(252), (equity / peak - 1).min()]).all()
    return float(equity[-1])


def charged(quantity: float, price: float, rates: list[float]) -> float:
    shares = abs(quantity)
    due = min(max(rates[0] * shares, rates[1]), rates[2] * shares * price) + rates[3] * shares
    return due + (rates[4] * shares * price + min(rates[5] * shares, rates[6]) if quantity < 0 else 0.0)


def walk() -> Panel:
    """One asset without an event."""
    rng = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(rng.normal(0.0003, 0.018, (BARS, 1)), axis=0))
    opened = close * np.exp(rng.normal(0, 0.004, close.shape))
    days = np.busday_offset(np.datetime64("1990-01-01"), np.arange(BARS), roll="forward").astype("datetime64[D]")
    raw = Raw(opened, np.maximum(opened, close), np.minimum(opened, close), close, np.full(close.shape, 1e6))
    return Panel(days, ("S",), raw, np.ones(close.shape), np.zeros(close.shape))


def write_market(path: Path) -> None:
    """A seeded market as traded, every symbol on every session, with a dividend a quarter and now and then a split."""
    rng = np.random.default_rng(11)
    calendar = exchange_calendars.get_calendar("XNYS", start=FIRST, end="2024-12-31")
    sessions = calendar.sessions[:SESSIONS].to_numpy().astype("datetime64[D]")
    shape = (SESSIONS, SYMBOLS)
    split = np.where(rng.random(shape) < 0.0002, rng.choice([2.0, 3.0, 1.5, 0.1], shape), 1.0)
    split[0] = 1.0
    walk = np.cumsum(rng.normal(0.0003, 0.018, shape) + rng.normal(0, 0.008, (SESSIONS, 1)), axis=0)
    close = np.maximum(rng.uniform(20, 300, SYMBOLS) * np.exp(walk) / np.cumprod(split, axis=0), 0.05)
    paying = (np.arange(SESSIONS)[:, None] + rng.integers(0, 63, SYMBOLS)) % 63 == 0
    dividend = np.where(paying & (rng.random(SYMBOLS) < 0.7), np.round(close * 0.005, 4), 0.0)
    opened = close * np.exp(rng.normal(0, 0.004, shape))
    columns = {
        "symbol": np.tile(np.array([f"S{n:03}" for n in range(SYMBOLS)]), SESSIONS),
        "day": np.repeat(sessions.astype("datetime64[ns]"), SYMBOLS),
        "open": opened.ravel(),
        "high": (np.maximum(opened, close) * 1.005).ravel(),
        "low": (np.minimum(opened, close) * 0.995).ravel(),
        "close": close.ravel(),
        "volume": rng.integers(10_000, 10_000_000, SESSIONS * SYMBOLS).astype(np.float64),
        "dividend": dividend.ravel(),
        "split": split.ravel(),
    }
    with duckdb.connect() as con:
        con.register("made", columns)
        con.execute(f"COPY (SELECT * EXCLUDE (day), day::DATE AS date FROM made) TO '{path}'")


def ma(home: Path, *arguments: str) -> Run:
    """Run one command of ``ma`` on the store in `home`; a failure stops the benchmark."""
    command = [sys.executable, "-m", "marketagent", *arguments]
    began = time.perf_counter()
    with (home / "out").open("w+") as out:
        process = subprocess.Popen(
            command,
            env={**os.environ, "MA_HOME": str(home / "store")},
            cwd=Path(__file__).parents[1],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        _, status, used = os.wait4(process.pid, 0)  # of this child alone
        wall_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            out.seek(0)
            sys.exit(f"{' '.join(command)}: exit {process.returncode}\n{out.read()}")
    return Run(wall_s, used.ru_utime + used.ru_stime)


if __name__ == "__main__":
    sys.exit(main())
