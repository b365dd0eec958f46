"""How fast ``ma stream`` is: the whole process against a server on loopback that sends as fast as it is taken.

Three runs, each with a home of its own. `delay`: a burst of 50 symbols twice a second, as at the turn of a minute; from
the moment a frame is sent to the moment its line is read from the pipe, the write into the store included. `bars`:
minutes of 500 symbols without a pause, to the last line. `quotes`: the same with 100 quotes beside each bar, of which
any may be dropped, and no bar. Argument: bars in the runs without a pause (50000).
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs from a bare checkout

from websockets.asyncio.server import ServerConnection, serve

from marketagent.store.database import opened

ROOT = Path(__file__).resolve().parents[1]
OPEN = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)
NIGHT = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)  # the bars are of the session before: all of them have closed
BURSTS, BURST, PAUSE_S = 25, 50, 0.5
SYMBOLS = 500
QUOTES = 100


class Nothing(BaseHTTPRequestHandler):
    """A vendor's REST interface that has no bars: nothing is missing here."""

    def do_GET(self) -> None:
        body = b'{"status":"OK","resultsCount":0}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the table is the output."""


def bar(n: int, k: int) -> dict[str, Any]:
    start = int((OPEN + timedelta(minutes=k)).timestamp() * 1000)
    values = {"v": 100, "vw": 10.1, "o": 10.0, "c": 10.5, "h": 11.0, "l": 9.0, "a": 10.0, "z": 5, "av": 1000, "op": 10}
    return {"ev": "AM", "sym": f"S{n}", **values, "s": start, "e": start + 60_000}


def quote(n: int) -> dict[str, Any]:
    return {
        "ev": "Q",
        "sym": f"S{n}",
        "bx": 4,
        "bp": 10.0,
        "bs": 2,
        "ax": 7,
        "ap": 10.1,
        "as": 3,
        "c": 1,
        "t": 1795185000000,
    }


class Server:
    """Greets, then plays `run`; `sent` is when each (symbol, minute) went out."""

    def __init__(self, run: str, bars: int) -> None:
        self.run, self.bars = run, bars
        self.sent: dict[tuple[str, str], float] = {}
        self.quotes = 0
        self._ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True).start()
        self._ready.wait()

    async def _main(self) -> None:
        async with serve(self._play, "127.0.0.1", 0, compression=None, max_size=None) as server:
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()
            await asyncio.Event().wait()

    async def _play(self, socket: ServerConnection) -> None:
        await socket.send('[{"ev":"status","status":"connected","message":""}]')
        await socket.recv()
        await socket.send('[{"ev":"status","status":"auth_success","message":""}]')
        topics = json.loads(await socket.recv())["params"]
        await socket.send(json.dumps([{"ev": "status", "status": "success", "message": f"subscribed to: {topics}"}]))
        await asyncio.sleep(0.3)
        await (self._bursts(socket) if self.run == "delay" else self._flood(socket))
        await socket.wait_closed()

    async def _bursts(self, socket: ServerConnection) -> None:
        for k in range(BURSTS):
            for n in range(BURST):
                await self._send(socket, k, n)
            await asyncio.sleep(PAUSE_S)

    async def _flood(self, socket: ServerConnection) -> None:
        for number in range(self.bars):
            if self.run == "quotes":
                await socket.send(json.dumps([quote(number % SYMBOLS)] * QUOTES))
                self.quotes += QUOTES
            await self._send(socket, number // SYMBOLS, number % SYMBOLS)

    async def _send(self, socket: ServerConnection, k: int, n: int) -> None:
        row = bar(n, k)
        stamp = (OPEN + timedelta(minutes=k)).isoformat().replace("+00:00", "Z")
        self.sent[row["sym"], stamp] = time.perf_counter()
        await socket.send(json.dumps([row]))


@contextmanager
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="stream_"))
    env = {**os.environ, "MA_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "marketagent", "init"], env=env, check=True, capture_output=True)
    try:
        yield folder / "home"
    finally:
        shutil.rmtree(folder)


def measure(run: str, bars: int, rest: str) -> None:
    server = Server(run, bars)
    count, symbols = (BURSTS * BURST, BURST) if run == "delay" else (bars, SYMBOLS)
    with home() as folder:
        kinds = ["--bars", "--quotes"] if run == "quotes" else ["--bars"]
        words = [*(f"S{n}" for n in range(symbols)), "--source", "polygon", *kinds]
        process = subprocess.Popen(
            [sys.executable, "-m", "marketagent", "stream", *words],
            env=environment(folder, f"ws://127.0.0.1:{server.port}", rest),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        delays, quotes, last = read(process, server, count)
        process.terminate()
        process.communicate()
        stored = rows(folder)
    seconds = last - min(server.sent.values())
    report(run, count, len(delays), stored, seconds, delays, quotes, server.quotes)


def read(process: subprocess.Popen[bytes], server: Server, count: int) -> tuple[list[float], int, float]:
    """The delay of each bar's line in ms, how many quotes came, and when the last bar's line was there."""
    delays: list[float] = []
    quotes, last = 0, 0.0
    assert process.stdout is not None
    while len(delays) < count and (line := process.stdout.readline()):
        now = time.perf_counter()
        record = json.loads(line)
        if record["kind"] == "bar":
            delays.append((now - server.sent[record["symbol"], record["ts"]]) * 1000)
            last = now
        quotes += record["kind"] == "quote"
    return delays, quotes, last


def environment(folder: Path, stream: str, rest: str) -> dict[str, str]:
    urls = ["POLYGON_BASE_URL", "APCA_API_BASE_URL", "APCA_API_DATA_URL", "BULLAWARE_BASE_URL"]
    clock = f"{NIGHT.isoformat().replace('+00:00', 'Z')}@{time.time()}*1"
    return {
        **os.environ, **dict.fromkeys(urls, rest), "POLYGON_STREAM_URL": stream, "APCA_API_STREAM_URL": stream,
        "POLYGON_API_KEY": "benchmark", "MA_CLOCK": clock, "MA_HOME": str(folder), "PYTHONPATH": str(ROOT),
    }  # fmt: skip


def rows(folder: Path) -> int:
    with opened(folder / "market.duckdb") as con:
        found = con.execute("SELECT count(*) FROM (SELECT DISTINCT symbol, ts FROM bars)").fetchone()
    return int(found[0]) if found else 0


def report(
    run: str, count: int, printed: int, stored: int, seconds: float, delays: list[float], quotes: int, sent: int
) -> None:
    ordered = sorted(delays)
    p50, p99, longest = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99, 1.0))
    rate = f"{count / seconds:,.0f}" if run != "delay" else ""
    share = f"{quotes / sent:.0%} of {sent:,}" if sent else ""
    print(
        f"{run:<7} {count:>7,} {printed:>8,} {stored:>7,} {rate:>7} {p50:>8.0f} {p99:>8.0f} {longest:>8.0f}  {share:>16}",
        flush=True,
    )


def main() -> None:
    bars = int((sys.argv[1:] or ["50000"])[0])
    rest = ThreadingHTTPServer(("127.0.0.1", 0), Nothing)
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{rest.server_address[1]}"
    print("delay from a frame sent to its line read, in ms; without a pause it is the time spent waiting in line")
    print(
        f"{'run':<7} {'bars':>7} {'printed':>8} {'stored':>7} {'bars/s':>7} {'p50':>8} {'p99':>8} {'max':>8}  {'quotes printed':>16}"
    )
    measure("delay", bars, url)
    measure("bars", bars, url)
    measure("quotes", min(bars, 5000), url)


if __name__ == "__main__":
    main()
