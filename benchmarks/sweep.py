"""How long a sweep of 2,500 pairs of moving averages takes on 10 symbols and 5,000 sessions, against two small kernels.

    python benchmarks/sweep.py            # 5 rounds
    python benchmarks/sweep.py 9

All three trade the same account: whole shares, ibkr-fixed commissions and fees, 5 bps of slippage, equal weights, fills at the
next open; and measure return, Sharpe, drawdown, trades and turnover of each pair. ``fused`` is written for this one
case: it compares averages where it needs them, and knows nothing of splits, dividends, halts, other sizes or signals.
``signals`` takes any signals that are computed already, -1 to 1, and has the rest in common with ``fused``. Both are
compiled and use all cores, as the sweep does. Our side is measured twice: a strategy of built-in indicators, and one
that hands over signals it has made by itself, as any NumPy code may. Every figure is a median, every ratio the median
of the rounds' ratios; what is compiled is compiled before. Ends with 1 if a final equity differs.

Goals: at most 3 times ``fused``, at most 1.5 times ``signals``, under 250 MB.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs from a bare checkout

import numpy as np
from numba import njit, prange, set_num_threads

from marketagent import catalog
from marketagent.costs import Costs, parse
from marketagent.grid import axes
from marketagent.indicators import sma
from marketagent.panel import Array, Panel, Raw
from marketagent.replay import Ground
from marketagent.signals import Signal
from marketagent.strategy import Opinions, Strategy, param
from marketagent.sweep import Sweep, plan

SESSIONS, SYMBOLS = 5_000, 10
FAST, SLOW = range(5, 104, 2), range(105, 204, 2)
PAIRS = len(FAST) * len(SLOW)
CASH, BAND = 1_000_000.0, 0.25
SLIP = 5 / 10_000
RATES = ("per_share", "minimum", "ceiling", "cat_per_share", "sec_rate", "taf_per_share", "taf_maximum")
FLAT = 1e-9  # averages nearer than this are equal, as in the strategy
MADE = 25  # signals that the strategy of its own has made; they are handed over again and again
GOALS = {"fused": 3.0, "signals": 1.5}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure a sweep of 2,500 pairs of moving averages.")
    parser.add_argument("rounds", nargs="?", type=int, default=5, help="how often each part is run (5)")
    parser.add_argument("--alone", action="store_true", help="only the sweep, once; prints its peak memory in MB")
    asked = parser.parse_args()
    rounds, cores, panel = asked.rounds, len(os.sched_getaffinity(0)), market()
    if rounds < 1:
        parser.error(f"rounds is {rounds}; it must be at least 1")
    crossed = catalog.load("sma_cross", Path("/nonexistent")).kind
    texts = {"fast": ",".join(map(str, FAST)), "slow": ",".join(map(str, SLOW))}
    pairs = plan(crossed, axes(crossed, texts)).strategies
    if asked.alone:
        Sweep(Ground(panel, costs(), CASH)).run(pairs, workers=cores)
        print(peak_mb())
        return 0
    # Before this process has grown: a child begins with its parent's peak. The first may have to compile.
    alone = [sys.executable, __file__, "--alone"]
    _, peak = (float(subprocess.run(alone, capture_output=True, text=True, check=True).stdout) for _ in range(2))
    set_num_threads(cores)
    Given.made = [made(panel, fast, slow) for fast, slow in zip(FAST[:MADE], SLOW[:MADE], strict=True)]
    given = [(k, Given(number=k)) for k in range(PAIRS)]
    print(f"{PAIRS:,} pairs x {SYMBOLS} symbols x {SESSIONS:,} sessions on {cores} cores")
    print(f"{'':<12}{'floor':>10}{'sweep':>10}{'ratio':>8}{'goal':>7}")
    took: dict[str, list[tuple[float, float]]] = {"fused": [], "signals": []}
    different = 0
    for counted in [False] + [True] * rounds:
        for name, strategies, floor in (("fused", pairs, run_fused), ("signals", given, run_signals)):
            began = time.perf_counter()
            lowest = floor(panel)
            floored = time.perf_counter()
            sweep = Sweep(Ground(panel, costs(), CASH))
            sweep.run(strategies, workers=cores)
            ended = time.perf_counter()
            if counted:
                took[name].append((floored - began, ended - floored))
            equity = np.array([sweep.done[number]["equity"] for number, _ in strategies], dtype=np.float64)
            different += int((np.abs(equity / lowest[:, 0] - 1) > 1e-9).sum())
    for name, times in took.items():
        ratio = median(ours / least for least, ours in times)
        print(
            f"{name:<12}{median(least for least, _ in times):>8.2f} s{median(ours for _, ours in times):>8.2f} s"
            f"{ratio:>8.2f}{GOALS[name]:>7g}"
        )
    print(f"the sweep alone, as a process: at most {peak:.0f} MB; final equities that differ: {different}")
    return 1 if different else 0


def peak_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


class Given(Strategy):
    """Signals made before, as a strategy of any other kind comes to them."""

    number: int = param(0, 0, PAIRS)
    band = BAND

    made: ClassVar[list[Array]] = []  # set once, by main

    @property
    def warmup(self) -> int:
        return max(SLOW)

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        return {"made": Signal(self.made[self.number % MADE])}


def market() -> Panel:
    """A seeded market without an event: the floors know none."""
    rng = np.random.default_rng(1)
    shape = (SESSIONS, SYMBOLS)
    close = 100 * np.exp(np.cumsum(rng.normal(0.0003, 0.018, shape), axis=0))
    opened = close * np.exp(rng.normal(0, 0.004, shape))
    days = np.busday_offset(np.datetime64("1990-01-01"), np.arange(SESSIONS), roll="forward").astype("datetime64[D]")
    raw = Raw(opened, np.maximum(opened, close), np.minimum(opened, close), close, np.full(shape, 1e6))
    return Panel(days, tuple(f"S{n}" for n in range(SYMBOLS)), raw, np.ones(shape), np.zeros(shape))


def costs() -> Costs:
    return parse("ibkr-fixed", slippage_bps=5)


def rates_of(bill: Costs) -> Array:
    """The numbers that the floors charge; they know no others."""
    assert not bill.unknown_to(("slippage_bps", *RATES))
    return np.array([getattr(bill, name) for name in RATES])


def made(panel: Panel, fast: int, slow: int) -> Array:
    return np.sign(sma(panel.close, fast) - sma(panel.close, slow))


def run_fused(panel: Panel) -> Array:
    """(P, 6) of every pair: final equity, return, Sharpe, drawdown, trades and turnover; averages included."""
    windows = np.array([*FAST, *SLOW])
    pairs = np.array([(f, len(FAST) + s) for f in range(len(FAST)) for s in range(len(SLOW))])
    results = np.empty((PAIRS, 6))
    fused(panel.raw.open, panel.raw.close, windows, pairs, rates_of(costs()), results)
    return results


def run_signals(panel: Panel) -> Array:
    results = np.empty((PAIRS, 6))
    over_signals(panel.raw.open, panel.raw.close, np.array(Given.made), max(SLOW), rates_of(costs()), results)
    return results


@njit(cache=True, parallel=True, error_model="numpy")
def fused(opens: Array, closes: Array, windows: Any, pairs: Any, rates: Array, results: Array) -> None:
    averages = np.empty((len(windows), *closes.shape))
    for w in prange(len(windows)):
        for n in range(closes.shape[1]):
            total = 0.0
            for t in range(len(closes)):
                total += closes[t, n] - (closes[t - windows[w], n] if t >= windows[w] else 0.0)
                averages[w, t, n] = total / windows[w]
    for p in prange(len(pairs)):
        fast, slow = averages[pairs[p, 0]], averages[pairs[p, 1]]
        first = windows[pairs[p, 1]] - 1
        state, shares, orders = np.array([CASH, 0.0, 0.0]), np.zeros(closes.shape[1]), np.zeros(closes.shape[1])
        equity = np.empty(len(closes))
        waits = False
        for t in range(len(closes)):
            if waits:
                trade(state, shares, orders, opens[t], rates)
                waits = False
            worth = state[0]
            for n in range(closes.shape[1]):
                worth += shares[n] * closes[t, n]
            equity[t] = worth
            if t >= first:
                count = 0
                for n in range(closes.shape[1]):
                    count += fast[t, n] - slow[t, n] > FLAT * slow[t, n]
                waits = size(orders, shares, closes[t], fast[t], slow[t], worth / max(count, 1))
        measure(equity, state, results[p])


@njit(cache=True, parallel=True, error_model="numpy")
def over_signals(opens: Array, closes: Array, signals: Array, warmup: int, rates: Array, results: Array) -> None:
    none = np.zeros(closes.shape[1])
    for p in prange(len(results)):
        signal = signals[p % len(signals)]
        state, shares, orders = np.array([CASH, 0.0, 0.0]), np.zeros(closes.shape[1]), np.zeros(closes.shape[1])
        equity = np.empty(len(closes))
        waits = False
        for t in range(len(closes)):
            if waits:
                trade(state, shares, orders, opens[t], rates)
                waits = False
            worth = state[0]
            for n in range(closes.shape[1]):
                worth += shares[n] * closes[t, n]
            equity[t] = worth
            if t >= warmup - 1:
                count = 0
                for n in range(closes.shape[1]):
                    count += signal[t, n] > 0
                waits = size(orders, shares, closes[t], signal[t], none, worth / max(count, 1))
        measure(equity, state, results[p])


@njit(cache=True, error_model="numpy")
def size(orders: Array, shares: Array, close: Array, above: Array, below: Array, each: float) -> bool:
    """Orders that bring what is above to `each` USD and sell what is below; True if there are any."""
    waits = False
    for n in range(len(orders)):
        orders[n] = 0.0
        if above[n] - below[n] > FLAT * below[n]:
            if abs(each - shares[n] * close[n]) >= BAND * each:
                orders[n] = np.trunc(each / close[n] + 1e-9) - shares[n]
        elif above[n] - below[n] < -FLAT * below[n]:
            orders[n] = -shares[n]
        waits = waits or orders[n] != 0
    return waits


@njit(cache=True, error_model="numpy")
def trade(state: Array, shares: Array, orders: Array, price: Array, rates: Array) -> None:
    """Sells first, then the buys that the cash pays for; cash, traded value and trades in `state`."""
    for n in range(len(orders)):
        if orders[n] < 0:
            paid = price[n] - price[n] * SLIP
            state[0] -= orders[n] * paid + fee(orders[n], paid, rates)
            state[1] -= orders[n] * paid
            shares[n] += orders[n]
            state[2] += shares[n] == 0
    share, spent, beyond = 1.0, cost(orders, price, rates, 1.0), 0.0
    rounds = 0
    while rounds < 64 and spent > state[0] and spent != 0:
        share *= max(state[0], 0.0) / spent * (1 - 1e-12)
        spent = cost(orders, price, rates, share)
        rounds += 1
    if rounds == 64:  # as the plain engine: then the largest share that fits
        share, beyond = 0.0, share
        for _ in range(64):
            middle = (share + beyond) / 2
            if cost(orders, price, rates, middle) <= state[0]:
                share = middle
            else:
                beyond = middle
        spent = cost(orders, price, rates, share)
    state[0] -= spent
    for n in range(len(orders)):
        if orders[n] > 0:
            quantity = np.trunc(orders[n] * share + 1e-9)
            shares[n] += quantity
            state[1] += quantity * (price[n] + price[n] * SLIP)


@njit(cache=True, error_model="numpy")
def cost(orders: Array, price: Array, rates: Array, share: float) -> float:
    """What a share of the buys costs."""
    spent = 0.0
    for n in range(len(orders)):
        if orders[n] > 0:
            quantity, paid = np.trunc(orders[n] * share + 1e-9), price[n] + price[n] * SLIP
            spent += quantity * paid + fee(quantity, paid, rates)
    return spent


@njit(cache=True, error_model="numpy")
def fee(quantity: float, price: float, rates: Array) -> float:
    """The commission, and the regulators' fees as they are now, by the `rates` of RATES."""
    shares = abs(quantity)
    value = shares * price
    due = min(max(rates[0] * shares, rates[1]), rates[2] * value) + rates[3] * shares
    return due + (rates[4] * value + min(rates[5] * shares, rates[6]) if quantity < 0 else 0.0)


@njit(cache=True, error_model="numpy")
def measure(equity: Array, state: Array, result: Array) -> None:
    before, peak, fall, total, square, mean_equity = CASH, CASH, 0.0, 0.0, 0.0, 0.0
    for t in range(len(equity)):
        change = equity[t] / before - 1
        before = equity[t]
        peak = max(peak, equity[t])
        fall = min(fall, equity[t] / peak - 1)
        total += change
        square += change * change
        mean_equity += equity[t]
    mean = total / len(equity)
    deviation = np.sqrt((square - total * mean) / (len(equity) - 1))
    result[0], result[1], result[2] = equity[-1], equity[-1] / CASH - 1, mean / deviation * np.sqrt(252)
    result[3], result[4], result[5] = fall, state[2], state[1] / mean_equity * 252


if __name__ == "__main__":
    sys.exit(main())
