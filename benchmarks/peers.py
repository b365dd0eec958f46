"""How fast ``ma`` is beside vectorbt, backtesting.py, bt, pybroker and raptorbt: the same work, the same fills.

    make bench-peers                                   # installs them into .venv-peers, then runs this
    python benchmarks/peers.py                         # all works; a few minutes, most of them vectorbt's
    python benchmarks/peers.py --quick                 # the sweeps with 100 pairs instead of 2,500
    python benchmarks/peers.py --work portfolio

Every side is a process of its own (see ``sides``), the peers' in their environment, one after another on the same
arrays. What they trade is one thing: whole shares, sized at the close, filled at the next open, at the same costs; each
is told so in its own terms, and the final equities must agree to `SAME`. bt cannot: it fills at the price it sizes at, here
the open, and its equity is shown for what it is. ``first`` is a process's first call, with what it compiles; ``warm`` the
best of the rest, and ``ratio`` how many times ours the peer takes. Ours is compiled once an installation, before.
Ends with 1 if an equity differs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs from a bare checkout

import exchange_calendars
import numpy as np
from backtest import ma
from startup import run as timed

HERE = Path(__file__).resolve().parent
PEERS = Path(os.environ.get("PEERS_PYTHON", HERE.parent / ".venv-peers" / "bin" / "python"))
SAME = 1e-9  # relative, of a final equity
SESSIONS, FAST, SLOW = 5_000, range(5, 104, 2), range(105, 204, 2)
TERMS = {"fast": 20, "slow": 50, "gross": 0.9, "each": 0.05, "fee": 0.001, "slippage": 0.0005, "cash": 1e6}
IBKR = {"per_share": 0.005, "minimum": 1.0, "ceiling": 0.01}
IMPORTS = ("raptorbt", "backtesting", "pybroker", "bt", "vectorbt")


@dataclass(frozen=True)
class Side:
    """One line of a table: `name`, the file and work that do it, and how often; `goal` as a ratio to ours.

    `loose` says why its equity differs from ours, where it must.
    """

    name: str
    file: str
    work: str
    rounds: int = 3
    goal: float | None = None
    loose: str = ""


ONE_ASSET = (
    Side("ma, as a sweep does it", "ma", "one_asset_kernel", 20),
    Side("ma, with break-even costs", "ma", "one_asset", 5),
    Side("raptorbt", "raptorbt", "one_asset", 20),
    Side("backtesting.py", "backtesting", "one_asset", 5),
    Side("vectorbt", "vectorbt", "one_asset", 5),
    Side("pybroker", "pybroker", "one_asset", 5),
    Side("bt", "bt", "one_asset", 5, loose="sized at the open"),
)
SWEEP = (
    Side("ma", "ma", "sweep"),
    Side("raptorbt", "raptorbt", "sweep", 2),
    Side("vectorbt", "vectorbt", "sweep", 2),
)
SHARED = (
    Side("ma", "ma", "sweep_shared"),
    Side("vectorbt", "vectorbt", "sweep_shared", 2, goal=150.0),
)
PORTFOLIO = (
    Side("ma, the NumPy engine", "ma", "portfolio", 5),
    Side("ma, the kernel", "ma", "portfolio_kernel", 5),
    Side("vectorbt", "vectorbt", "portfolio", 3, goal=8.0),
    Side("bt", "bt", "portfolio", 1, loose="sized at the open"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure ma beside other backtesters.")
    parser.add_argument("--quick", action="store_true", help="sweep 100 pairs instead of 2,500")
    parser.add_argument("--work", choices=("one-asset", "sweep", "portfolio", "process"), help="only this one")
    asked = parser.parse_args()
    if not PEERS.exists():
        print(f"the peers are not installed: make bench-peers (no {PEERS.parent.parent.name})")
        return 0
    agreed = True
    with tempfile.TemporaryDirectory() as folder:
        for work, title, path, sides in works(Path(folder), asked.quick, asked.work):
            print(f"\n{title}")
            agreed &= table(path, sides) if work != "process" else processes(path)
    return 0 if agreed else 1


def works(folder: Path, quick: bool, only: str | None) -> Iterator[tuple[str, str, Path, tuple[Side, ...]]]:
    """Each work that was asked for: its name, its title, the file with its data, and who does it."""
    pairs = np.array([(fast, slow) for fast in FAST for slow in SLOW])[:: 25 if quick else 1]
    market = walk(SESSIONS, 10)
    one = {name: values[:, 0] for name, values in market.items() if name != "sessions"}
    single = write(folder / "one.npz", {**one, "sessions": market["sessions"]}, {**TERMS, "slippage": 0.0})
    if only in (None, "one-asset"):
        yield "one-asset", "one asset, 5,000 sessions, averages of 20 and 50, 10 bps, with metrics", single, ONE_ASSET
    if only in (None, "sweep"):
        path = write(folder / "sweep.npz", {**market, "pairs": pairs}, {**TERMS, "chunk": 100})
        size = f"{len(pairs):,} pairs x 10 assets x 5,000 sessions, 10 bps and 5 of slippage, trades, Sharpe, drawdown"
        yield "sweep", f"{size}: an account for each pair and asset", path, SWEEP
        yield "sweep", f"{size}: an account for each pair, of all assets", path, SHARED
    if only in (None, "portfolio"):
        path = write(folder / "portfolio.npz", *weekly())
        yield "portfolio", "500 assets x 2,520 sessions, weekly, whole shares, IBKR commissions", path, PORTFOLIO
    if only in (None, "process"):
        yield (
            "process",
            "whole processes, in CPU seconds: the import alone, and the one asset from data to metrics",
            single,
            (),
        )


def walk(sessions: int, assets: int) -> dict[str, Any]:
    """A seeded market without an event, as it trades: (T, N) each, and the sessions."""
    rng = np.random.default_rng(1)
    shape = (sessions, assets)
    close = 100 * np.exp(np.cumsum(rng.normal(0.0003, 0.018, shape), axis=0))
    opened = close * np.exp(rng.normal(0, 0.004, shape))
    calendar = exchange_calendars.get_calendar("XNYS", start="2001-01-02", end="2020-12-31")
    days = calendar.sessions[:sessions].to_numpy().astype("datetime64[D]")
    prices = {"open": opened, "high": np.maximum(opened, close), "low": np.minimum(opened, close), "close": close}
    return {**prices, "volume": np.full(shape, 1e6), "sessions": days}


def weekly() -> tuple[dict[str, Any], dict[str, Any]]:
    """Prices of 500 assets, and weekly targets: the fifty that gained most in a hundred sessions, each the same part."""
    market = walk(2_520, 500)
    close, days = market["close"], market["sessions"]
    monday = np.flatnonzero(np.diff(days.astype("datetime64[W]").astype(int), prepend=0) > 0)
    targets = np.full(close.shape, np.nan)
    for t in monday[monday > 100]:
        best = np.argsort(close[t] / close[t - 100])[-50:]
        targets[t] = 0.0
        targets[t, best] = TERMS["gross"] / 50
    orders = int(np.isfinite(targets).sum())
    return {**market, "targets": targets}, {**TERMS, **IBKR, "max_orders": orders}


def write(path: Path, arrays: dict[str, Any], options: dict[str, Any]) -> Path:
    np.savez(path, options=json.dumps(options), **arrays)
    return path


def table(path: Path, sides: tuple[Side, ...]) -> bool:
    """Run and print every side; the first is ours, and what the others' ratios and equities are against."""
    print(f"{'':<27}{'first':>11}{'warm':>11}{'ratio':>9}{'goal':>7}{'peak':>10}{'equity':>18}  agrees to")
    agreed, ours = True, None
    for side in sides:
        found = run(side, path)
        warm = found["warm_s"] or found["first_s"]
        ours = ours or {"warm": warm, "equity": found["result"]["equity"]}
        apart = difference(found["result"]["equity"], ours["equity"])
        agreed &= bool(side.loose) or apart <= SAME
        print(
            f"{side.name:<27}{duration(found['first_s']):>11}{duration(warm):>11}{warm / ours['warm']:>9.2f}"
            f"{'' if side.goal is None else format(side.goal, 'g'):>7}{found['peak_mb']:>7.0f} MB"
            f"{np.mean(found['result']['equity']):>18,.6f}  {apart:.0e}{side.loose and ' ' + side.loose}"
            f"{'' if side.loose or apart <= SAME else '  DIFFERS'}"
        )
    return agreed


def run(side: Side, path: Path) -> dict[str, Any]:
    """What a side reports of its work; a failure stops the benchmark with what it said."""
    python = sys.executable if side.file == "ma" else str(PEERS)
    command = [python, str(HERE / "sides" / f"with_{side.file}.py"), side.work, str(path), str(side.rounds)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])  # a peer may print, too
    return report


def difference(theirs: Any, ours: Any) -> float:
    """The largest relative difference of the final equities: one, or one of each account."""
    return float(np.abs(np.asarray(theirs) / np.asarray(ours) - 1).max())


def processes(path: Path) -> bool:
    """Print what the peers' imports cost, and the whole one-asset job, beside ``ma backtest`` from its store."""
    print(f"{'':<27}{'import':>11}{'the job':>11}{'ratio':>9}{'goal':>13}")
    ours, equity = ma_backtest(path)
    print(f"{'ma backtest':<27}{'':>11}{ours:>9.2f} s{1:>9.2f}{'under 0.9 s':>13}  {equity:,.6f}")
    for name in IMPORTS:
        alone = cpu_s([str(PEERS), "-W", "ignore", "-c", f"import {name}"])
        job = cpu_s([str(PEERS), str(HERE / "sides" / f"with_{name}.py"), "one_asset", str(path), "1"])
        print(f"{name:<27}{alone:>9.2f} s{job:>9.2f} s{job / ours:>9.2f}")
    return True


def ma_backtest(path: Path) -> tuple[float, float]:
    """CPU seconds of the one asset by ``ma backtest``, from a store that has it; and its final equity."""
    with np.load(path) as data:
        names = ("open", "high", "low", "close", "volume")
        rows = zip(np.datetime_as_string(data["sessions"]), *(data[name].tolist() for name in names), strict=True)
        lines = [",".join(map(str, ("S000", *row))) for row in rows]
    home = path.parent
    (home / "one.csv").write_text("\n".join([f"symbol,date,{','.join(names)}", *lines]))
    ma(home, "fetch", "--source", "csv", str(home / "one.csv"))
    terms = [
        "--set",
        f"gross={TERMS['gross']}",
        "--costs",
        "bps:10",
        "--cash",
        str(TERMS["cash"]),
        "--format",
        "ndjson",
    ]
    cpu = min(ma(home, "backtest", "--strategy", "sma_cross", *terms).cpu_s for _ in range(5))
    record = json.loads((home / "out").read_text().splitlines()[1])
    return cpu, TERMS["cash"] * (1 + record["metrics"]["total_return"])


def cpu_s(command: list[str]) -> float:
    """Processor time of a whole process, the least of three: the first may read what the others find in memory."""
    return min(timed(command, os.environ).cpu_s for _ in range(3))


def duration(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds < 0.1 else f"{seconds:.2f} s"


if __name__ == "__main__":
    sys.exit(main())
