"""From a closed minute to its order: ``ma score --timeframe 1m | ma trade`` on a live stream, as whole processes.

Five sessions of minutes are stored. Then, minute by minute, the bars of all symbols are stored and written to score's
stdin, as ``ma stream`` does. `decision` runs from the last of those lines to the end of score's answer, `order` on to the
end of trade's answer to it. The first round is told apart: it also starts both processes, reads all that is stored, and
waits for the grace. Arguments: minutes (60), numbers of symbols (2 100).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs from a bare checkout

import numpy as np

from marketagent import setup
from marketagent.store.database import opened
from marketagent.store.intraday import FIELDS, read_grid
from marketagent.store.market import MARKET
from marketagent.timeframes import bar_text

SESSIONS = (date(2024, 2, 26), date(2024, 3, 4))  # the sixth is the live one
MA = [sys.executable, "-m", "marketagent"]
Minute = dict[str, np.ndarray]


def walk(grid: np.ndarray, symbols: int) -> Minute:
    """Random prices: field -> (T, N)."""
    rng = np.random.default_rng(7)
    close = np.round(rng.uniform(20, 400, symbols) * np.exp(np.cumsum(rng.normal(0, 8e-4, (len(grid), symbols)), 0)), 2)
    start = np.round(close * np.exp(rng.normal(0, 3e-4, close.shape)), 2)
    volume = rng.integers(100, 100_000, close.shape).astype(float)
    return {
        "open": start,
        "high": np.maximum(start, close),
        "low": np.minimum(start, close),
        "close": close,
        "volume": volume,
    }


def store(home: Path, grid: np.ndarray, values: Minute, rows: slice) -> None:
    count, symbols = len(grid[rows]), values["close"].shape[1]
    starts = np.repeat(grid[rows], symbols)
    columns: dict[str, tuple[str, list[object]]] = {
        "symbol": ("VARCHAR", [f"S{n:03}" for n in range(symbols)] * count),
        "timeframe": ("VARCHAR", ["1m"] * len(starts)),
        "session": ("DATE", starts.astype("datetime64[D]").tolist()),
        "ts": ("TIMESTAMP", starts.tolist()),
        "source": ("VARCHAR", ["alpaca"] * len(starts)),
        "feed": ("VARCHAR", ["iex"] * len(starts)),
        "known_at": ("TIMESTAMP", starts.tolist()),
        **{name: ("DOUBLE", values[name][rows].ravel().tolist()) for name in FIELDS},
    }
    with opened(home / MARKET, write=True) as con:
        con.insert("bars", columns)


def lines(grid: np.ndarray, values: Minute, t: int) -> bytes:
    start = grid[t].astype(date)
    told = []
    for n in range(values["close"].shape[1]):
        bar = {"kind": "bar", "i": n, "symbol": f"S{n:03}", "session": start.date().isoformat(), "ts": bar_text(start),
               "timeframe": "1m", **{name: float(values[name][t, n]) for name in FIELDS}, "source": "alpaca", "feed": "iex"}  # fmt: skip
        told.append(json.dumps(bar) + "\n")
    return "".join(told).encode()


def answer(running: subprocess.Popen[bytes]) -> list[bytes]:
    """One member of a series, as soon as it is whole."""
    assert running.stdout is not None
    got: list[bytes] = []
    while not got or not got[-1].startswith(b'{"kind":"end"'):
        got.append(running.stdout.readline())
        if not got[-1]:
            raise RuntimeError("the process has ended")
    return got


def started(home: Path, *words: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, "MA_HOME": str(home), "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    return subprocess.Popen([*MA, *words], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def write(running: subprocess.Popen[bytes], data: bytes) -> None:
    assert running.stdin is not None
    running.stdin.write(data)
    running.stdin.flush()


def measure(minutes: int, symbols: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="live_"))
    try:
        home = folder / "home"
        setup.ready(home, datetime.now(UTC), timeout_s=60)
        with opened(home / MARKET) as con:
            grid = read_grid(con, *SESSIONS, "1m")
        values, first = walk(grid, symbols), len(grid) - 390
        store(home, grid, values, slice(0, first))
        score = started(home, "score", "--strategy", "sma_cross", "--timeframe", "1m")
        trade = started(home, "trade", "--account", "live", "--max-age", "inf")
        write(score, b'{"kind":"begin","run":"bench","cmd":"stream","at":"2024-03-04T14:30:00Z","v":1,"live":true}\n')
        decision, order, orders = [], [], 0
        for t in range(first, first + minutes):
            store(home, grid, values, slice(t, t + 1))
            told = lines(grid, values, t)
            begun = time.perf_counter()
            write(score, told)
            decided = answer(score)
            decision.append(time.perf_counter() - begun)
            write(trade, b"".join(decided))
            orders += len(answer(trade)) - 2
            order.append(time.perf_counter() - begun)
        write(score, b'{"kind":"end","run":"bench","cmd":"stream","n":0,"sha256":"","status":"ok"}\n')
        for running in (score, trade):
            running.communicate()
        report(symbols, decision, order, orders)
    finally:
        shutil.rmtree(folder)


def report(symbols: int, decision: list[float], order: list[float], orders: int) -> None:
    for name, delays in (("decision", decision), ("order", order)):
        later = sorted(delay * 1000 for delay in delays[1:])
        p50, p99, longest = (later[min(len(later) - 1, int(len(later) * share))] for share in (0.5, 0.99, 1.0))
        told = f"{orders:,}" if name == "order" else ""
        print(f"{symbols:>7} {name:<8} {p50:>9.1f} {p99:>9.1f} {longest:>9.1f} {delays[0] * 1000:>9.1f} {told:>8}")


def main() -> None:
    words = [int(word) for word in sys.argv[1:]]
    minutes, counts = (words or [60])[0], words[1:] or [2, 100]
    print(f"{minutes} minutes live after 5 sessions stored; ms from the last bar's line")
    print(f"{'symbols':>7} {'to the':<8} {'p50':>9} {'p99':>9} {'max':>9} {'first':>9} {'orders':>8}")
    for symbols in counts:
        measure(minutes, symbols)


if __name__ == "__main__":
    main()
