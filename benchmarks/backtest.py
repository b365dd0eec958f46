"""How long a backtest of 500 symbols over 2,520 sessions takes, and how much memory, against a plain NumPy loop.

    python benchmarks/backtest.py             # 5 rounds
    python benchmarks/backtest.py 9

The market is made up from a seed: prices, splits, dividends. It goes into a store of its own by ``ma fetch``; the
cross-sectional momentum strategy is traded monthly and weekly at the costs ``ibkr-fixed``. The floor is the shortest
NumPy loop that trades the same targets: no splits, dividends, closings or record of what happened. ``decide`` and
``simulate`` are measured in this process, from fresh panels; ``ma backtest`` as a whole process. Every figure is a
median, every ratio the median of the rounds' ratios. Ends with 1 if ``simulate`` takes more than five floors.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs from a bare checkout

import duckdb
import exchange_calendars
import numpy as np

from marketagent import catalog
from marketagent.costs import Costs, parse
from marketagent.decision import decide
from marketagent.panel import Array, Panel
from marketagent.simulate import simulate
from marketagent.store.market import read_panel

SYMBOLS, SESSIONS = 500, 2_520
CASH = 1_000_000.0
GOAL = 3.0  # times the floor, with splits, dividends and a record of every event
FIRST = "2013-01-02"


class Run(NamedTuple):
    """One whole process: seconds elapsed and of processor time, and the most memory it held, in MB."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure a backtest of 500 symbols over ten years.")
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
        print(f"{'':<9}{'floor':>9}{'simulate':>10}{'ratio':>7}{'decide':>9}{'ma backtest':>13}{'cpu':>8}{'peak':>9}")
        ratios = [measured(home, schedule, rounds) for schedule in ("monthly", "weekly")]
    worst = max(ratios)
    print(f"the engine takes up to {worst:.2f} times the floor; the goal is {GOAL:g}")
    return 0


def measured(home: Path, schedule: str, rounds: int) -> float:
    """Print one line of the table; returns how many floors ``simulate`` took."""
    strategy = catalog.load("momentum", home).configured({"rebalance": schedule})
    costs = parse("ibkr-fixed")
    floors, engines, deciding, runs = [], [], [], []
    for counted in [False] + [True] * rounds:
        panel = read_panel(home / "store", None)
        began = time.perf_counter()
        decisions = decide(strategy, panel)
        decided = time.perf_counter()
        floor(decisions.targets, panel, costs)
        floored = time.perf_counter()
        simulate(decisions.targets, decisions.panel, costs, CASH)
        ended = time.perf_counter()
        run = ma(home, "backtest", "--strategy", "momentum", "--set", f"rebalance={schedule}", "--costs", "ibkr-fixed")
        if counted:
            deciding.append(decided - began)
            floors.append(floored - decided)
            engines.append(ended - floored)
            runs.append(run)
    ratio = median(engine / least for engine, least in zip(engines, floors, strict=True))
    wall_s, cpu_s, peak_mb = (median(values) for values in zip(*runs, strict=True))
    print(
        f"{schedule:<9}{median(floors) * 1e3:>6.0f} ms{median(engines) * 1e3:>7.0f} ms{ratio:>7.2f}"
        f"{median(deciding) * 1e3:>6.0f} ms{wall_s:>11.2f} s{cpu_s:>6.2f} s{peak_mb:>6.0f} MB"
    )
    return ratio


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
        _, status, used = os.wait4(process.pid, 0)  # of this child alone: getrusage knows only the largest of all
        wall_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            out.seek(0)
            sys.exit(f"{' '.join(command)}: exit {process.returncode}\n{out.read()}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Run(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss * unit / 1e6)


if __name__ == "__main__":
    sys.exit(main())
