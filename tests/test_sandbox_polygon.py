"""The sandbox as Polygon: the vendor's own SDK is content with it, and its odd corners are as the vendor's."""

import asyncio
import json
import select
import socket
import struct
from datetime import UTC, date, datetime
from typing import Any

import polygon
import pytest
import urllib3
import websockets
from polygon.exceptions import AuthError, BadResponse
from sandboxes import START, Running, Small, calendar, sandbox
from websockets.exceptions import ConnectionClosed

from marketagent.sandbox.market import Asset
from marketagent.sandbox.synthetic import Synthetic

MIDNIGHT = 4 * 3600 * 1000  # UTC hours of midnight in New York, in summer


@pytest.fixture(scope="module")
def one():
    with sandbox() as running:
        yield running


@pytest.fixture(scope="module")
def made_up():
    with sandbox(Synthetic(calendar().sessions, START, 7, ("ABCD",))) as running:
        yield running


@pytest.fixture
def client(one):
    return polygon.RESTClient("sandbox-advanced", base=one.url, retries=0)


def ask(one: Running, path: str, key: str | None = "sandbox-advanced") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    answer = urllib3.request("GET", one.url + path, headers=headers, retries=False)
    return answer.status, answer.json() if answer.headers["content-type"] == "application/json" else answer.data


# The SDK over REST


def test_the_sdk_pages_through_minutes_and_finds_each_once(client, one):
    found = list(client.list_aggs("MSFT", 1, "minute", "2026-11-19", "2026-11-20", limit=100))
    assert len(found) == 780
    times = [bar.timestamp for bar in found]
    assert times == sorted(set(times))
    day = next(iter(client.list_aggs("MSFT", 1, "day", "2026-11-19", "2026-11-19")))
    first = found[:390]
    assert (day.open, day.close) == (first[0].open, first[-1].close)
    assert (day.high, day.low) == (max(bar.high for bar in first), min(bar.low for bar in first))
    assert day.volume == sum(bar.volume for bar in first)


def test_the_sdk_goes_back_in_time_as_well(client):
    up = [bar.timestamp for bar in client.list_aggs("MSFT", 5, "minute", "2026-11-19", "2026-11-20", limit=70)]
    down = [
        bar.timestamp
        for bar in client.list_aggs("MSFT", 5, "minute", "2026-11-19", "2026-11-20", limit=70, sort="desc")
    ]
    assert down == up[::-1]
    assert len(up) == 156


@pytest.mark.parametrize(
    ("count", "unit", "bars"),
    [(30, "minute", 13 * 5), (1, "hour", 7 * 5), (1, "week", 1), (1, "month", 1), (2, "day", 3)],
)
def test_wider_bars_are_put_together_from_the_same_days(client, count, unit, bars):
    found = list(client.list_aggs("IBM", count, unit, "2026-11-16", "2026-11-20", limit=50000))
    days = list(client.list_aggs("IBM", 1, "day", "2026-11-16", "2026-11-20"))
    assert len(found) == bars
    assert sum(bar.volume for bar in found) == sum(bar.volume for bar in days)
    assert max(bar.high for bar in found) == max(bar.high for bar in days)
    assert found[-1].close == days[-1].close


def test_prices_are_adjusted_for_splits_unless_asked_not_to(client):
    raw = list(client.list_aggs("AAPL", 1, "day", "2026-05-28", "2026-06-02", adjusted=False))
    adjusted = list(client.list_aggs("AAPL", 1, "day", "2026-05-28", "2026-06-02"))
    assert [bar.close / other.close for bar, other in zip(raw, adjusted, strict=True)] == pytest.approx([4, 4, 1, 1])
    assert raw[0].volume * 4 == adjusted[0].volume


def test_the_sdk_reads_the_whole_market_and_single_days(client):
    grouped = client.get_grouped_daily_aggs("2026-11-20")
    assert [bar.ticker for bar in grouped] == ["AAPL", "IBM", "MSFT"]
    previous = client.get_previous_close_agg("IBM")[0]
    assert (previous.ticker, previous.timestamp) == (
        "IBM",
        int(datetime(2026, 11, 23, 21, tzinfo=UTC).timestamp()) * 1000,
    )
    day = client.get_daily_open_close_agg("IBM", "2026-11-20")
    assert day.close == next(bar.close for bar in grouped if bar.ticker == "IBM")


def test_the_sdk_reads_splits_and_dividends(client, made_up):
    (split,) = client.list_splits(ticker="AAPL")
    assert (split.execution_date, split.split_from, split.split_to) == ("2026-06-01", 1, 4)
    paid = list(client.list_dividends(ticker="IBM", limit=2))
    assert [one.cash_amount for one in paid] == [1.25] * len(paid)
    assert [one.ex_dividend_date for one in paid] == sorted((one.ex_dividend_date for one in paid), reverse=True)
    other = polygon.RESTClient("sandbox-advanced", base=made_up.url)
    assert all(one.split_from == 5 for one in other.list_splits(ticker="ZREV", reverse_split=True))
    assert {one.dividend_type for one in other.list_dividends(ticker="ZFWD")} == {"SC"}


def test_the_sdk_reads_who_is_listed_and_who_was(client, made_up):
    assert [one.ticker for one in client.list_tickers(market="stocks", limit=2)] == ["AAPL", "IBM", "MSFT"]
    assert [one.ticker for one in client.list_tickers(market="stocks", active=False)] == ["OLD"]
    assert client.get_ticker_details("IBM").list_date == "2024-01-02"
    other = polygon.RESTClient("sandbox-advanced", base=made_up.url)
    assert other.get_ticker_details("FB", date="2021-01-04").name == other.get_ticker_details("META").name
    changes = other.get_ticker_events("META").events
    assert [one["ticker_change"]["ticker"] for one in changes] == ["META", "FB"]


def test_a_name_shows_the_company_only_while_it_had_it(made_up):
    _, before = ask(made_up, "/v2/aggs/ticker/FB/range/1/day/2022-06-01/2022-06-15")
    _, after = ask(made_up, "/v2/aggs/ticker/META/range/1/day/2022-06-01/2022-06-15")
    assert (before["resultsCount"], after["resultsCount"]) == (6, 5)
    assert before["results"][-1]["t"] < after["results"][0]["t"]


def test_the_sdk_reads_trades_quotes_news_and_the_status(client):
    trades = []
    for trade in client.list_trades("AAPL", timestamp="2026-11-20", order="asc", limit=500):
        trades.append(trade)
        if len(trades) == 1200:
            break
    assert [one.sip_timestamp for one in trades] == sorted({one.sip_timestamp for one in trades})
    quote = next(iter(client.list_quotes("AAPL", limit=10)))
    assert quote.bid_price < quote.ask_price
    assert client.get_last_trade("AAPL").price > 0
    assert client.get_last_quote("AAPL").bid_price > 0
    assert client.get_market_status().market == "open"
    assert {day.status for day in client.get_market_holidays()} == {"closed", "early-close"}
    story = next(iter(client.list_ticker_news("IBM", limit=2)))
    assert story.tickers == ["IBM"]
    assert client.get_snapshot_ticker("stocks", "IBM").day.close > 0


# Odd corners


def test_a_daily_bar_begins_at_midnight_in_new_york_and_a_grouped_one_says_when_it_ends(one):
    _, body = ask(one, "/v2/aggs/ticker/IBM/range/1/day/2026-07-01/2026-07-01")
    assert body["results"][0]["t"] == int(datetime(2026, 7, 1, tzinfo=UTC).timestamp()) * 1000 + MIDNIGHT
    _, body = ask(one, "/v2/aggs/grouped/locale/us/market/stocks/2026-07-01")
    assert body["results"][0]["t"] == int(datetime(2026, 7, 1, 20, tzinfo=UTC).timestamp()) * 1000


def test_an_empty_answer_has_no_results(one):
    status, body = ask(one, "/v2/aggs/ticker/NOPE/range/1/day/2026-07-01/2026-07-02")
    assert (status, body["resultsCount"], "results" in body) == (200, 0, False)


def test_limit_counts_what_is_behind_the_bars_and_next_url_names_milliseconds(one):
    _, body = ask(one, "/v2/aggs/ticker/IBM/range/1/hour/2026-11-19/2026-11-20?limit=120")
    assert (body["queryCount"], body["resultsCount"]) == (90, 2)  # the third hour would be torn
    assert body["next_url"].startswith(f"{one.url}/v2/aggs/ticker/IBM/range/1/hour/17951")
    assert "limit" not in body["next_url"]
    assert "sandbox-advanced" not in body["next_url"]


def test_next_url_can_name_the_host_of_the_real_one():
    with sandbox(polygon_origin="https://api.polygon.io:443") as other:
        _, body = ask(other, "/v2/aggs/ticker/IBM/range/1/day/2026-11-02/2026-11-20?limit=5")
        assert body["next_url"].startswith("https://api.polygon.io:443/v2/aggs/ticker/IBM/")


def test_some_bars_lack_their_average_and_count_and_large_volumes_have_an_exponent(one):
    path = "/v2/aggs/ticker/IBM/range/1/minute/2026-11-02/2026-11-20?limit=50000"
    answer = urllib3.request("GET", one.url + path, headers=one.bearer)
    bars = answer.json()["results"]
    assert 0 < sum("vw" not in bar for bar in bars) < len(bars) / 50
    day = urllib3.request("GET", f"{one.url}/v2/aggs/ticker/IBM/range/1/day/2026-11-02/2026-11-20", headers=one.bearer)
    assert b"e+07" in day.data


def test_nothing_of_the_future_is_shown(one):
    _, minutes = ask(one, "/v2/aggs/ticker/IBM/range/1/minute/2026-11-24/2026-12-24")
    assert minutes["resultsCount"] == 30  # of 9:30 to 10:00
    _, days = ask(one, "/v2/aggs/ticker/IBM/range/1/day/2026-11-23/2026-12-24")
    assert days["resultsCount"] == 2  # and today's is what it is so far
    assert days["results"][1]["v"] == sum(bar["v"] for bar in minutes["results"])


def test_minutes_can_hold_thin_ones_around_the_session_on_both_sides_of_midnight_utc():
    path = "/v2/aggs/ticker/IBM/range/{}/2026-11-19/2026-11-20?limit=50000"
    with sandbox(extended_hours=True) as other:
        _, minutes = ask(other, path.format("1/minute"))
        _, hours = ask(other, path.format("1/hour"))
        _, days = ask(other, path.format("1/day"))
    opens = [int(datetime(2026, 11, day, 14, 30, tzinfo=UTC).timestamp()) * 1000 for day in (19, 20)]
    regular = [bar for bar in minutes["results"] if any(0 <= bar["t"] - at < 390 * 60_000 for at in opens)]
    assert len(regular) == 780
    assert len(minutes["results"]) == 780 + 2 * 24
    assert minutes["results"][0]["t"] < opens[0]
    assert sum(bar["v"] for bar in hours["results"]) == sum(bar["v"] for bar in minutes["results"])
    assert {bar["t"] % 3_600_000 for bar in hours["results"]} == {0}  # 9:30 lies inside an hour
    assert sum(bar["v"] for bar in days["results"]) == sum(bar["v"] for bar in regular)


@pytest.mark.parametrize(
    ("path", "key", "status", "text"),
    [
        ("/v2/aggs/ticker/IBM/prev", None, 401, "API Key was not provided"),
        ("/v2/aggs/ticker/IBM/prev", "nobody", 401, "Unknown API Key"),
        ("/v2/aggs/ticker/IBM/range/1/day/2022-01-03/2022-01-05", "sandbox-basic", 403, "Your plan doesn't include"),
        ("/v3/trades/IBM", "sandbox-starter", 403, "You are not entitled to this data"),
        ("/v1/open-close/IBM/2026-11-22", "sandbox-advanced", 404, "Data not found."),
        ("/v3/reference/tickers/NOPE", "sandbox-advanced", 404, "Ticker not found."),
        ("/v2/aggs/ticker/IBM/range/0/day/2026-11-20/2026-11-20", "sandbox-advanced", 400, "multiplier"),
        ("/v2/aggs/ticker/IBM/range/1/day/2026-11-21/2026-11-20", "sandbox-advanced", 400, "before 'from'"),
        ("/stocks/v1/splits?limit=many", "sandbox-advanced", 400, "limit"),
    ],
)
def test_refusals_have_the_vendor_s_status_and_words(one, path, key, status, text):
    found, body = ask(one, path, key)
    words = {401: "ERROR", 403: "NOT_AUTHORIZED", 404: "NOT_FOUND", 400: "ERROR"}
    assert (found, body["status"]) == (status, words[status])
    assert text in body.get("error", "") + body.get("message", "")
    assert len(body["request_id"]) == 32


def test_the_free_plan_has_five_calls_a_minute_and_calls_its_answers_delayed():
    with sandbox() as other:
        answers = [ask(other, "/v2/aggs/ticker/IBM/prev", "sandbox-basic") for _ in range(6)]
        assert [status for status, _ in answers] == [200] * 5 + [429]
        assert answers[0][1]["status"] == "DELAYED"
        assert answers[5][1]["error"].startswith("You've exceeded the maximum requests per minute")
        assert ask(other, "/v2/aggs/ticker/IBM/prev")[1]["status"] == "OK"


def test_an_unknown_path_is_plain_text(one):
    assert ask(one, "/v9/nothing") == (404, b"404 page not found\n")


def test_the_sdk_is_refused_in_its_own_words(one):
    with pytest.raises(BadResponse, match="Unknown API Key"):
        polygon.RESTClient("nobody", base=one.url, retries=0).get_ticker_details("IBM")


def test_the_same_seed_and_the_same_requests_give_the_same_bytes():
    paths = [
        "/v2/aggs/ticker/AAPL/range/1/minute/2026-11-20/2026-11-24?limit=100",
        "/v2/aggs/ticker/AAPL/range/1/minute/2026-11-20/2026-11-24?limit=100",
        "/v3/reference/tickers?limit=2",
        "/v3/trades/MSFT?limit=20",
        "/v2/reference/news",
        "/stocks/v1/dividends",
    ]

    def said() -> list[bytes]:
        with sandbox() as other:
            # The port is another one: it is in next_url.
            return [
                urllib3.request("GET", other.url + path, headers=other.bearer).data.replace(other.url.encode(), b"")
                for path in paths
            ]

    first = said()
    assert first == said()
    assert first[0] != first[1]  # the request's id counts


# The stream


async def _opened(one: Running, key: str = "sandbox-advanced") -> Any:
    stream = await websockets.connect(f"{one.stream}/stocks")
    assert await _frame(stream) == [{"ev": "status", "status": "connected", "message": "Connected Successfully"}]
    await stream.send(json.dumps({"action": "auth", "params": key}))
    return stream


async def _frame(stream: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(await asyncio.wait_for(stream.recv(), 10))
    return found


async def _subscribed(one: Running, topics: str, key: str = "sandbox-advanced") -> tuple[Any, list[dict[str, Any]]]:
    stream = await _opened(one, key)
    assert (await _frame(stream))[0]["status"] == "auth_success"
    await stream.send(json.dumps({"action": "subscribe", "params": topics}))
    return stream, await _frame(stream)


def test_the_sdk_streams_minute_bars_that_rest_then_has():
    with sandbox(speed=600) as other:
        got: list[Any] = []

        async def run() -> None:
            stream = polygon.WebSocketClient(
                "sandbox-advanced",
                feed=f"127.0.0.1:{other.port}",
                market="stocks",
                secure=False,
                subscriptions=["AM.AAPL", "AM.MSFT"],
            )

            async def take(messages: list[Any]) -> None:
                got.extend(messages)
                if len(got) >= 6:
                    await stream.close()

            await asyncio.wait_for(stream.connect(take), 20)

        asyncio.run(run())
        assert {bar.symbol for bar in got} == {"AAPL", "MSFT"}
        _, body = ask(other, "/v2/aggs/ticker/AAPL/range/1/minute/2026-11-24/2026-11-24")
        stored = {bar["t"]: bar for bar in body["results"]}
        for bar in (bar for bar in got if bar.symbol == "AAPL"):
            same = stored[bar.start_timestamp]
            assert (bar.open, bar.high, bar.low, bar.close, bar.volume) == tuple(same[name] for name in "ohlcv")
            assert bar.end_timestamp - bar.start_timestamp == 60_000
            assert bar.accumulated_volume >= bar.volume


def test_trades_and_seconds_of_a_minute_are_that_minute():
    with sandbox(speed=120) as other:

        async def run() -> list[dict[str, Any]]:
            stream, _ = await _subscribed(other, "T.IBM,Q.IBM,A.IBM,AM.IBM")
            events: list[dict[str, Any]] = []
            while sum(event["ev"] == "AM" for event in events) < 3:
                events += await _frame(stream)
            await stream.close()
            return events

        events = asyncio.run(run())
        bar = [event for event in events if event["ev"] == "AM"][1]
        inside = [e for e in events if e["ev"] in ("T", "Q") and bar["s"] <= e["t"] < bar["e"]]
        trades = [event for event in inside if event["ev"] == "T"]
        assert sum(event["s"] for event in trades) == bar["v"]
        prices = [event["p"] for event in trades]
        assert (prices[0], max(prices), min(prices), prices[-1]) == (bar["o"], bar["h"], bar["l"], bar["c"])
        assert len([event for event in inside if event["ev"] == "Q"]) == len(trades)
        seconds = [e for e in events if e["ev"] == "A" and bar["s"] <= e["s"] < bar["e"]]
        assert sum(event["v"] for event in seconds) == bar["v"]
        assert {type(event["c"]) for event in events if event["ev"] == "Q"} == {int, list}


def test_topics_are_acked_each_unknown_prefixes_dropped_and_unknown_tickers_silent(one):
    async def run() -> None:
        stream, acks = await _subscribed(one, "AM.AAPL,XX.AAPL,T.NOPE")
        assert [event["message"] for event in acks] == ["subscribed to: AM.AAPL", "subscribed to: T.NOPE"]
        await stream.send(json.dumps({"action": "unsubscribe", "params": "AM.AAPL"}))
        assert (await _frame(stream))[0]["message"] == "unsubscribed to: AM.AAPL"
        await stream.close()

    asyncio.run(run())


def test_a_topic_beyond_the_plan_is_refused_before_the_others_are_acked(one):
    async def run() -> None:
        stream, refused = await _subscribed(one, "AM.AAPL,T.AAPL", "sandbox-starter")
        assert (refused[0]["status"], refused[0]["message"]) == ("error", "not authorized")
        assert [event["message"] for event in await _frame(stream)] == ["subscribed to: AM.AAPL"]
        await stream.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("key", "text"),
    [("nobody", "authentication failed"), ("sandbox-basic", "Your plan doesn't include websocket access.")],
)
def test_a_refused_key_is_told_and_cut_off_without_a_close_frame(one, key, text):
    async def run() -> None:
        stream = await _opened(one, key)
        refused = (await _frame(stream))[0]
        assert refused["status"] == "auth_failed"
        assert refused["message"].startswith(text)
        with pytest.raises(ConnectionClosed) as gone:
            await stream.recv()
        assert gone.value.rcvd is None

    asyncio.run(run())
    with pytest.raises(AuthError, match=text[:20]):
        polygon.WebSocketClient(key, feed=f"127.0.0.1:{one.port}", market="stocks", secure=False).run(print)


def test_a_second_connection_is_acked_and_then_closed(one):
    async def run() -> None:
        first, _ = await _subscribed(one, "AM.AAPL")
        second, acks = await _subscribed(one, "AM.MSFT")
        assert acks[0]["message"] == "subscribed to: AM.MSFT"
        assert (await _frame(second))[0]["status"] == "max_connections"
        with pytest.raises(ConnectionClosed) as gone:
            await second.recv()
        assert gone.value.rcvd is not None
        assert gone.value.rcvd.code == 1008
        await first.close()
        third, _ = await _subscribed(one, "AM.MSFT")  # the place is free at once
        await third.close()

    asyncio.run(run())


def test_who_does_not_authenticate_is_told_and_closed(one, monkeypatch):
    monkeypatch.setattr("marketagent.sandbox.polygon_stream.AUTH_S", 0.1)

    async def run() -> None:
        stream = await websockets.connect(f"{one.stream}/stocks")
        assert (await _frame(stream))[0]["status"] == "connected"
        assert (await _frame(stream))[0]["status"] == "auth_timeout"
        with pytest.raises(ConnectionClosed):
            await stream.recv()

    asyncio.run(run())


def test_a_client_that_does_not_read_is_a_slow_consumer(monkeypatch):
    monkeypatch.setattr("marketagent.sandbox.polygon_stream.QUEUE", 20)
    with sandbox(speed=60_000) as other, socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", other.port))
        raw.settimeout(20)
        raw.sendall(
            b"GET /stocks HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert b"101" in raw.recv(4096)
        raw.sendall(_masked({"action": "auth", "params": "sandbox-advanced"}))
        raw.sendall(_masked({"action": "subscribe", "params": "T.*,Q.*,AM.*"}))
        broken = select.poll()
        broken.register(raw, 0)  # only errors and hang-ups: nothing is read
        assert broken.poll(20_000)
        # The place is free again: nobody waits for the one that did not read.
        asyncio.run(_free(other))


async def _free(other: Running) -> None:
    stream, acks = await _subscribed(other, "AM.NOPE")
    assert acks[0]["status"] == "success"
    await stream.close()


def _masked(message: dict[str, str]) -> bytes:
    """A text frame as a client sends it, under a mask of zeros."""
    data = json.dumps(message).encode()
    return struct.pack("!BB4s", 0x81, 0x80 | len(data), b"\0\0\0\0") + data


def test_a_listing_of_tomorrow_is_not_known_today():
    market = Small()
    market._all["NEXT"] = market._walk("NEXT", 20.0)
    late = market._all["NEXT"]
    object.__setattr__(late, "asset", Asset(symbol="NEXT", name="Next Inc.", listed=date(2026, 12, 1)))
    with sandbox(market) as other:
        _, body = ask(other, "/v3/reference/tickers")
        assert "NEXT" not in [row["ticker"] for row in body["results"]]
        assert ask(other, "/v3/reference/tickers/NEXT")[0] == 404
