"""How quickly many symbols come in from a vendor 50 ms away: against the latency alone, and the vendor's own SDK.

A server of its own process on loopback answers every request after 50 ms with the same bars; 100 requests may be in
flight. The floor is the latency times the rounds that 100 at once need: no client is below it. `bare` asks over the same
sockets and reads nothing of what comes. The SDK is polygon-api-client in 100 threads. The last rows are the whole of
``ma fetch``: bars, splits and dividends asked for, judged and stored. Medians of three runs.

Arguments: symbols (100 500), e.g. ``python benchmarks/fetch.py 100``.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs from a bare checkout

import anyio

from marketagent import fetching, setup
from marketagent.asking import asking, each
from marketagent.barpages import listed
from marketagent.cache.memory import MemoryCache
from marketagent.config import Settings
from marketagent.delivery import Delivery, Span, Want, midnight
from marketagent.keeping import Keeper, Task
from marketagent.sources import polygon
from marketagent.store.database import opened
from marketagent.web.known import polygon as vendor
from marketagent.wire import Desk
from marketagent.world import World

LATENCY_S = 0.05
IN_FLIGHT = 100
NOW = datetime(2026, 11, 21, 21, 5, tzinfo=UTC)
RUNS = 3


def main(counts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        calendar = Path(name) / "calendar"
        setup.ready(calendar, NOW, timeout_s=60)
        with opened(calendar / "market.duckdb") as con:
            days = [day for (day,) in con.execute("SELECT session FROM sessions ORDER BY 1").fetchall()]
        days = [day for day in days if day <= date(2026, 11, 20)]
        for bars in (250, 5000):
            body = _body(days[-bars:])
            with _server(Path(name), body) as url:
                for symbols in counts:
                    _compare(Path(name), url, body, symbols, bars, days)


def _compare(folder: Path, url: str, body: bytes, symbols: int, bars: int, days: list[date]) -> None:
    span = Span(days[-bars], days[-1])
    names = [f"S{n:04d}" for n in range(symbols)]
    floor = LATENCY_S * -(-symbols // IN_FLIGHT)
    settings = _settings(folder / "calendar", url)
    print(
        f"\n{symbols} symbols, {bars:,} daily bars each, {LATENCY_S * 1000:.0f} ms, {IN_FLIGHT} in flight; floor {floor:.2f} s"
    )
    print(f"{'':36}{'seconds':>9}{'of floor':>10}{'bars a second':>16}")

    def tell(name: str, act: Callable[[], None], ready: Callable[[], None] = lambda: None) -> float:
        seconds = statistics.median(_timed(act, ready) for _ in range(RUNS))
        print(f"{name:36}{seconds:9.3f}{seconds / floor:10.2f}{symbols * bars / seconds:16,.0f}")
        return seconds

    tell("bare: ask, read nothing", lambda: asyncio.run(_bare(url, symbols)))
    deliveries: list[Delivery] = []
    wants = [Want(name, (span,)) for name in names]
    ours = tell("market agent: bars", lambda: anyio.run(_ours, settings, wants, deliveries))
    assert len(deliveries) == symbols
    assert all(len(one.rows) == bars for one in deliveries)
    tell("  of it reading, on one core", lambda: _read(body, symbols))
    sdk = tell("polygon-api-client, 100 threads", lambda: _sdk(url, names, span, bars))
    print(f"{'the SDK takes':36}{sdk / ours:9.2f} times as long")
    home = _Home(folder, url)
    tell("judged and stored, nothing asked", lambda: _stored(home.settings, deliveries), home.anew)
    tell("ma fetch, whole", lambda: _fetched(home.settings, names, span, bars), home.anew)


class _Home:
    """A new home for each run, made outside the time that is taken."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url, self._count = folder, url, 0

    def anew(self) -> None:
        home = Path(tempfile.mkdtemp(dir=self._folder)) / "home"
        setup.ready(home, NOW, timeout_s=60)
        self.settings = _settings(home, self._url)


def _timed(act: Callable[[], None], ready: Callable[[], None]) -> float:
    ready()
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


async def _bare(url: str, symbols: int) -> None:
    host, port = url.removeprefix("http://").split(":")

    async def ask(times: int) -> None:
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
        for _ in range(times):
            writer.write(b"GET /v2/aggs HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0]))
        writer.close()

    async with asyncio.TaskGroup() as tasks:
        for n in range(min(symbols, IN_FLIGHT)):
            tasks.create_task(ask(len(range(n, symbols, IN_FLIGHT))))


async def _ours(settings: Settings, wants: list[Want], out: list[Delivery]) -> None:
    out.clear()

    async def deliver(delivery: Delivery) -> None:
        out.append(delivery)

    desk = _desk(settings, deliver)
    async with asking(desk, vendor(settings)) as asker:

        async def one(want: Want) -> Delivery:
            return Delivery(want, await polygon._bars(asker, want.symbol, "1d", want.spans[0]))

        await each(desk, asker, wants, one)


def _desk(settings: Settings, deliver: Callable[[Delivery], Awaitable[None]]) -> Desk:
    def fail(symbol: str, error: Exception) -> None:
        raise error

    return Desk(
        settings=settings,
        cache=MemoryCache(time.time),
        world=World(),
        concurrency=IN_FLIGHT,
        max_wait_s=60.0,
        deliver=deliver,
        fail=fail,
    )


def _read(body: bytes, symbols: int) -> None:
    for _ in range(symbols):
        listed(body)


def _sdk(url: str, names: list[str], span: Span, bars: int) -> None:
    from polygon import RESTClient

    client = RESTClient(api_key="key", base=url, num_pools=IN_FLIGHT)

    def ask(name: str) -> int:
        return len(list(client.list_aggs(name, 1, "day", span.first, span.last, adjusted=False, limit=50_000)))

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        assert set(pool.map(ask, names)) == {bars}


def _stored(settings: Settings, deliveries: list[Delivery]) -> None:
    keeper = Keeper(settings, "polygon", "sandbox", Task(symbols=tuple(one.want.symbol for one in deliveries)))
    keeper.missing()

    async def run() -> None:
        for delivery in deliveries:
            await keeper.deliver(delivery)
        await keeper.flush()

    anyio.run(run)


def _fetched(settings: Settings, names: list[str], span: Span, bars: int) -> None:
    task = Task(symbols=tuple(names), first=span.first, last=span.last, concurrency=IN_FLIGHT)
    taken = fetching.from_source(settings, "polygon", task)
    assert not taken.failed
    assert {one.added for one in taken.fetched.values()} == {bars}


def _settings(home: Path, url: str) -> Settings:
    environ = {
        "MA_HOME": str(home),
        "MA_CLOCK": f"{NOW.isoformat()}@{time.time()}*1",
        "POLYGON_BASE_URL": url,
        "POLYGON_STREAM_URL": url.replace("http", "ws"),
        "POLYGON_API_KEY": "benchmark-key",
        "POLYGON_CALLS_PER_MINUTE": "0",
        "APCA_API_BASE_URL": url,
        "APCA_API_DATA_URL": url,
        "APCA_API_STREAM_URL": url.replace("http", "ws"),
        "BULLAWARE_BASE_URL": url,
    }
    return Settings.load(environ)


def _body(days: list[date]) -> bytes:
    bars = [
        {
            "v": 70790813.0 + n,
            "vw": 131.6292,
            "o": 130.465,
            "c": 130.15 + n % 7 / 100,
            "h": 133.41,
            "l": 129.89,
            "t": midnight(day) * 1000,
            "n": 645365 + n,
        }
        for n, day in enumerate(days)
    ]
    head = {"ticker": "S", "queryCount": len(bars), "resultsCount": len(bars), "adjusted": False, "status": "OK"}
    page = {**head, "results": bars, "request_id": "6a7e466379af0a71039d60cc78e72282"}
    return json.dumps(page, separators=(",", ":")).encode()


@contextmanager
def _server(folder: Path, body: bytes) -> Iterator[str]:
    """The static server in a process of its own."""
    file = folder / "body.json"
    file.write_bytes(body)
    command = [sys.executable, __file__, "--serve", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


async def _serve(body: bytes) -> None:
    bars, nothing = (_answer(each) for each in (body, b'{"status":"OK","results":[]}'))
    loop = asyncio.get_running_loop()

    class Static(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport, self.got = transport, b""

        def data_received(self, data: bytes) -> None:
            *heads, self.got = (self.got + data).split(b"\r\n\r\n")
            for head in heads:
                loop.call_later(LATENCY_S, self.transport.write, bars if b"/v2/aggs" in head else nothing)

    server = await loop.create_server(Static, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(_serve(Path(sys.argv[2]).read_bytes()))
    else:
        main([int(text) for text in sys.argv[1:]] or [100, 500])
