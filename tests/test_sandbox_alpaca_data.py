"""Alpaca's market data as the sandbox serves it, over real HTTP: bars in pages, feeds and plans, actions, ticks, news."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import httpx
import pytest
from exchanges import MONDAY, Hand, HandMarket, at, served, world_of

from marketagent.sandbox.environment import KEY_ID, SECRET
from marketagent.sandbox.market import Asset, Dividend, Split

TUESDAY, FRIDAY = MONDAY + timedelta(days=1), MONDAY - timedelta(days=3)
KEYS = {"APCA-API-KEY-ID": KEY_ID, "APCA-API-SECRET-KEY": SECRET}
BASIC = {"APCA-API-KEY-ID": "PKSANDBOXB0000000001"}
RECENT = "subscription does not permit querying recent SIP data"
WEEK = {"start": "2026-11-09T00:00:00Z", "end": "2026-11-13T23:59:59Z"}


def minutes(day_open: float) -> list[tuple[float, float, float, float, int]]:
    """Minutes that rise by a cent each, of 1000 shares each."""
    prices = [round(day_open + k / 100, 2) for k in range(390)]
    return [(p, round(p + 0.05, 2), round(p - 0.05, 2), p, 1000) for p in prices]


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, Hand]]:
    bars = {("AAPL", FRIDAY): minutes(400.0), ("AAPL", MONDAY): minutes(100.0)}
    market = HandMarket(
        bars,
        assets=[Asset(symbol="META", name="Meta", exchange="XNYS", listed=date(2026, 1, 2), former=((MONDAY, "FB"),))],
        splits=[
            Split(symbol="AAPL", day=MONDAY, new=4, old=1),
            Split(symbol="MSFT", day=FRIDAY, new=1, old=10),
            Split(symbol="MSFT", day=TUESDAY, new=2, old=1),
        ],
        dividends=[Dividend(symbol="AAPL", day=FRIDAY, cash=4.0), Dividend(symbol="AAPL", day=TUESDAY, cash=1.0)],
    )
    hand = Hand(at("12:00:30"))
    with served(world_of(market, hand)) as url:
        yield url, hand


@pytest.fixture
def data(server: tuple[str, Hand]) -> Iterator[Any]:
    """Ask on Monday, 12:00:30 in New York."""
    url, hand = server
    hand.go(at("12:00:30"))
    with httpx.Client(base_url=f"http://{url}", headers=KEYS) as http:

        def ask(path: str, status: int = 200, headers: dict[str, str] | None = None, **params: Any) -> Any:
            answer = http.get(path, params=params, headers=headers)
            assert answer.status_code == status, answer.text
            return answer.json()

        yield ask


def bars(data: Any, symbols: str = "AAPL", timeframe: str = "1Day", **params: Any) -> Any:
    return data("/v2/stocks/bars", symbols=symbols, timeframe=timeframe, **params)["bars"]


# Bars


def test_a_day_begins_at_midnight_in_new_york_and_both_ends_count(data: Any) -> None:
    found = bars(data, start="2026-11-12T05:00:00Z", end="2026-11-13T05:00:00Z")["AAPL"]

    assert [bar["t"] for bar in found] == ["2026-11-12T05:00:00Z", "2026-11-13T05:00:00Z"]
    assert found[1] == {
        "c": 403.89,
        "h": 403.94,
        "l": 399.95,
        "n": 3900,
        "o": 400.0,
        "t": "2026-11-13T05:00:00Z",
        "v": 390000,
        "vw": found[1]["vw"],
    }


def test_minutes_are_those_that_are_over(data: Any) -> None:
    found = bars(data, timeframe="1Min", start="2026-11-16T16:58:00Z", end="2026-11-16T23:00:00Z")["AAPL"]

    assert [bar["t"] for bar in found] == ["2026-11-16T16:58:00Z", "2026-11-16T16:59:00Z"]


@pytest.mark.parametrize(
    ("timeframe", "starts", "volume"),
    [
        ("5Min", ["14:30", "14:35"], 5000),
        ("7T", ["14:27", "14:34", "14:41"], 4000),
        ("30Min", ["14:30", "15:00"], 30000),
        ("1Hour", ["14:00", "15:00"], 30000),
        ("2H", ["13:00", "15:00"], 30000),
    ],
)
def test_longer_bars_begin_at_round_times_of_new_yorks_day(
    data: Any, timeframe: str, starts: list[str], volume: int
) -> None:
    found = bars(data, timeframe=timeframe, start="2026-11-13", end="2026-11-13")["AAPL"]

    assert [bar["t"][11:16] for bar in found[: len(starts)]] == starts
    assert found[0]["v"] == volume
    assert sum(bar["v"] for bar in found) == 390_000


def test_minutes_of_the_tape_go_on_around_the_session_where_the_world_has_them() -> None:
    hand = Hand(at("22:00", FRIDAY))
    world = replace(world_of(HandMarket(), hand), extended_hours=True)
    with served(world) as url:
        span = {"start": "2026-11-13", "end": "2026-11-13"}
        found = {
            timeframe: httpx.get(
                f"http://{url}/v2/stocks/AAPL/bars", params={"timeframe": timeframe, **span}, headers=KEYS
            ).json()["bars"]
            for timeframe in ("1Min", "1Day")
        }

    times = [bar["t"][11:16] for bar in found["1Min"]]
    assert len(times) == 12 + 390 + 12
    assert times[0] >= "09:00"
    assert times[12] == "14:30"
    assert times[-12] >= "21:00"
    assert found["1Day"][0]["v"] == 390 * 10_000


def test_a_week_begins_on_monday_and_the_one_going_on_shows_what_it_holds(data: Any) -> None:
    found = bars(data, timeframe="1Week", start="2026-11-09T00:00:00Z", adjustment="split")["AAPL"]

    assert [bar["t"] for bar in found] == ["2026-11-09T05:00:00Z", "2026-11-16T05:00:00Z"]
    assert found[1]["v"] == 150_000
    months = bars(data, timeframe="3Month", start="2026-10-01T00:00:00Z")["AAPL"]
    assert [bar["t"] for bar in months] == ["2026-10-01T04:00:00Z"]


def test_a_page_counts_over_all_symbols_and_may_end_inside_one(data: Any) -> None:
    params = {"symbols": "MSFT,AAPL,NOPE", "timeframe": "1Day", "limit": 3, **WEEK}
    pages, token = [], None
    while True:
        answer = data("/v2/stocks/bars", **params, **({"page_token": token} if token else {}))
        pages.append({name: len(rows) for name, rows in answer["bars"].items()})
        token = answer["next_page_token"]
        if token is None:
            break

    assert pages == [{"AAPL": 3}, {"AAPL": 2, "MSFT": 1}, {"MSFT": 3}, {"MSFT": 1}]
    assert bars(data, "NOPE", **WEEK) == {}


def test_the_last_page_says_so_also_when_it_is_full(data: Any) -> None:
    full = data("/v2/stocks/bars", symbols="AAPL", timeframe="1Day", limit=5, **WEEK)
    assert (len(full["bars"]["AAPL"]), full["next_page_token"]) == (5, None)


def test_pages_backwards_meet_the_same_bars(data: Any) -> None:
    forward = bars(data, timeframe="1Min", start="2026-11-13", end="2026-11-16")["AAPL"]
    back: list[Any] = []
    token = None
    while True:
        more = {"page_token": token} if token else {}
        span = {"start": "2026-11-13", "end": "2026-11-16", "sort": "desc", "limit": 171}
        answer = data("/v2/stocks/bars", symbols="AAPL", timeframe="1Min", **span, **more)
        back += answer["bars"]["AAPL"]
        token = answer["next_page_token"]
        if token is None:
            break

    assert back == forward[::-1]
    assert len(forward) == 390 + 150


def test_prices_are_as_traded_unless_an_adjustment_is_asked_for(data: Any) -> None:
    span = {"start": "2026-11-12T00:00:00Z", "end": "2026-11-16T23:00:00Z"}
    closes = {
        kind: [bar["c"] for bar in bars(data, adjustment=kind, **span)["AAPL"]]
        for kind in ("raw", "split", "dividend", "all")
    }
    split = bars(data, adjustment="split", **span)["AAPL"]

    assert closes["raw"] == [100.0, 403.89, 101.49]
    assert closes["split"] == [25.0, 100.9725, 101.49]
    assert closes["dividend"] == [96.0, 403.89, 101.49]  # Tuesday's is yet to come
    assert closes["all"] == [24.0, 100.9725, 101.49]
    assert [bar["v"] for bar in split] == [15_600_000, 1_560_000, 150_000]
    assert bars(data, adjustment="split,dividend", **span) == bars(data, adjustment="all", **span)


def test_iex_is_a_few_percent_of_the_tape(data: Any) -> None:
    sip, iex = (bars(data, feed=feed, **WEEK)["AAPL"] for feed in ("sip", "iex"))

    assert all(0.019 < few["v"] / all_["v"] <= 0.03 for few, all_ in zip(iex, sip, strict=True))
    assert [bar["c"] for bar in iex] == [bar["c"] for bar in sip]


def test_the_basic_plan_has_old_sip_and_all_of_iex(data: Any) -> None:
    recent = {"symbols": "AAPL", "timeframe": "1Min", "start": "2026-11-16T14:30:00Z"}

    no = data("/v2/stocks/bars", 403, BASIC, **recent, feed="sip", end="2026-11-16T16:59:00Z")
    assert no == {"message": RECENT}
    old = data("/v2/stocks/bars", 200, BASIC, **recent, feed="sip", end="2026-11-16T16:40:00Z")["bars"]["AAPL"]
    assert old[-1]["t"] == "2026-11-16T16:40:00Z"
    default = data("/v2/stocks/bars", 200, BASIC, **recent, feed="sip")["bars"]["AAPL"]
    assert default[-1]["t"] == "2026-11-16T16:45:00Z"
    iex = data("/v2/stocks/bars", 200, BASIC, **recent)["bars"]["AAPL"]
    assert (iex[-1]["t"], iex[-1]["v"] < 31) == ("2026-11-16T16:59:00Z", True)
    assert data("/v2/stocks/AAPL/trades/latest", 403, BASIC, feed="sip") == {"message": RECENT}
    assert data("/v2/stocks/bars", 403, BASIC, **recent, feed="otc")["message"].endswith("OTC data")


def test_one_symbol_has_a_list_of_its_own_and_null_where_there_is_nothing(data: Any) -> None:
    found = data("/v2/stocks/AAPL/bars", timeframe="1Day", **WEEK)
    assert (found["symbol"], len(found["bars"]), found["next_page_token"]) == ("AAPL", 5, None)
    assert data("/v2/stocks/NOPE/bars", timeframe="1Day", **WEEK) == {
        "bars": None,
        "symbol": "NOPE",
        "next_page_token": None,
    }


def test_a_renamed_company_is_found_under_the_name_of_the_day_asked_for(data: Any) -> None:
    assert len(bars(data, "META", **WEEK)["META"]) == 5
    assert bars(data, "FB", **WEEK) == {}
    assert len(bars(data, "FB", asof="2026-11-13", **WEEK)["FB"]) == 5


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"timeframe": "60Min"}, "invalid timeframe: 60Min"),
        ({"timeframe": "5Month"}, "invalid timeframe: 5Month"),
        ({"timeframe": ""}, "timeframe is required"),
        ({"symbols": ""}, "symbols is required"),
        ({"start": "yesterday"}, "invalid start: yesterday"),
        ({"adjustment": "raw,split"}, "invalid adjustment: raw,split"),
        ({"feed": "nyse"}, "invalid feed: nyse"),
        ({"limit": "10001"}, "invalid limit: must be between 1 and 10000"),
        ({"page_token": "%%%"}, "invalid page_token: %%%"),
        ({"sort": "up"}, "invalid sort: up"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(data: Any, params: dict[str, str], message: str) -> None:
    assert data("/v2/stocks/bars", 400, **{"symbols": "AAPL", "timeframe": "1Day", **params}) == {"message": message}


# Trades, quotes, the latest of all


def test_the_trades_of_a_minute_add_up_to_its_bar(data: Any) -> None:
    span = {"start": "2026-11-16T15:00:00Z", "end": "2026-11-16T15:00:59.999999Z"}
    bar = bars(data, timeframe="1Min", start="2026-11-16T15:00:00Z", end="2026-11-16T15:00:00Z")["AAPL"][0]

    trades: list[Any] = []
    token = None
    while True:
        more = {"page_token": token} if token else {}
        answer = data("/v2/stocks/trades", symbols="AAPL", limit=4, **span, **more)
        trades += answer["trades"]["AAPL"]
        token = answer["next_page_token"]
        if token is None:
            break

    prices = [trade["p"] for trade in trades]
    assert (prices[0], max(prices), min(prices), prices[-1]) == (bar["o"], bar["h"], bar["l"], bar["c"])
    assert sum(trade["s"] for trade in trades) == bar["v"]
    assert len({trade["i"] for trade in trades}) == len(trades)
    quotes = data("/v2/stocks/quotes", symbols="AAPL", **span)["quotes"]["AAPL"]
    assert len(quotes) == len(trades)
    assert all(quote["bp"] < quote["ap"] for quote in quotes)


def test_the_latest_of_everything_is_not_later_than_now(data: Any) -> None:
    bar = data("/v2/stocks/bars/latest", symbols="AAPL,NOPE")["bars"]
    trade = data("/v2/stocks/trades/latest", symbols="AAPL")["trades"]["AAPL"]
    quote = data("/v2/stocks/AAPL/quotes/latest")["quote"]
    shot = data("/v2/stocks/snapshots", symbols="AAPL,NOPE")

    assert list(bar) == ["AAPL"]
    assert bar["AAPL"]["t"] == "2026-11-16T16:59:00Z"
    assert "2026-11-16T16:59" < trade["t"] <= "2026-11-16T17:00:30Z"
    assert quote["t"] <= "2026-11-16T17:00:30Z"
    assert shot["NOPE"] is None
    assert shot["AAPL"]["latestTrade"] == trade
    assert (shot["AAPL"]["dailyBar"]["v"], shot["AAPL"]["prevDailyBar"]["c"]) == (150_000, 403.89)
    assert data("/v2/stocks/AAPL/snapshot")["minuteBar"] == bar["AAPL"]


# Actions and news


def test_corporate_actions_are_what_happened_by_today(data: Any) -> None:
    span = {"start": "2026-11-01", "end": "2026-12-31"}
    found = data("/v1/corporate-actions", **span)

    assert found["next_page_token"] is None
    actions = found["corporate_actions"]
    assert set(actions) == {"forward_splits", "reverse_splits", "cash_dividends", "name_changes"}
    split, dividend, name = actions["forward_splits"][0], actions["cash_dividends"][0], actions["name_changes"][0]
    assert (split["symbol"], split["new_rate"], split["old_rate"], split["ex_date"]) == ("AAPL", 4, 1, "2026-11-16")
    assert (dividend["rate"], dividend["ex_date"], dividend["special"]) == (4.0, "2026-11-13", False)
    assert (name["old_symbol"], name["new_symbol"]) == ("FB", "META")
    assert {"old_cusip", "new_cusip"} <= set(actions["reverse_splits"][0])
    assert len(actions["forward_splits"]) == len(actions["cash_dividends"]) == 1  # Tuesday's are yet to come


def test_corporate_actions_can_be_chosen_and_paged(data: Any) -> None:
    span = {"start": "2026-11-01", "end": "2026-12-31"}
    only = data("/v1/corporate-actions", symbols="AAPL", types="forward_split,cash_dividend", **span)
    assert {name: len(rows) for name, rows in only["corporate_actions"].items()} == {
        "forward_splits": 1,
        "cash_dividends": 1,
    }
    first = data("/v1/corporate-actions", limit=3, **span)
    rest = data("/v1/corporate-actions", limit=3, page_token=first["next_page_token"], **span)
    assert sum(len(rows) for page in (first, rest) for rows in page["corporate_actions"].values()) == 4
    one = only["corporate_actions"]["forward_splits"][0]
    assert data("/v1/corporate-actions", ids=one["id"])["corporate_actions"] == {"forward_splits": [one]}
    assert data("/v1/corporate-actions", 400, types="gift") == {"message": "invalid type: gift"}
    assert data("/v1/corporate-actions", **{"start": "2026-11-14", "end": "2026-11-15"})["corporate_actions"] == {}


def test_news_are_written_after_the_close_and_come_in_pages(data: Any) -> None:
    span = {"start": "2026-10-05T00:00:00Z", "limit": 5}
    first = data("/v1beta1/news", **span)
    second = data("/v1beta1/news", page_token=first["next_page_token"], **span)

    times = [article["created_at"] for page in (first, second) for article in page["news"]]
    assert len(times) == 10
    assert times == sorted(times, reverse=True)
    assert all(time[11:] >= "20:00" or time[11:] < "03:00" for time in times)
    assert all(article["symbols"] and article["content"] == "" for article in first["news"])
    only = data("/v1beta1/news", symbols="MSFT", include_content="true", **span)["news"]
    assert {tuple(article["symbols"]) for article in only} == {("MSFT",)}
    assert only[0]["content"].startswith("<p>")
