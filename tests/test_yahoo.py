"""Yahoo through yfinance, answers made by hand after recorded ones, over yfinance's own session: splits are undone."""

import json
import re
from datetime import date, datetime
from functools import partial
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from prices import ask, here, new_home, sessions
from wires import vendor

from marketagent.errors import Exit
from marketagent.store.market import read_panel

requests = pytest.importorskip("requests")
yfinance = pytest.importorskip("yfinance")

NEW_YORK = ZoneInfo("America/New_York")
DAYS = sessions("2024-05-01", "2024-06-28")
SPLIT = date(2024, 6, 10)
TRADED = {day: round((1000.0 if day < SPLIT else 100.0) + n, 2) for n, day in enumerate(DAYS)}
NOW = "2024-06-29T02:00:00Z@1795000000*0.000000001"


def opening(day):
    return int(datetime(day.year, day.month, day.day, 9, 30, tzinfo=NEW_YORK).timestamp())


def chart(first, end):
    """The chart of NVDA between two instants, as of after the split: prices and payments divided by ten before it."""
    days = [day for day in DAYS if first <= opening(day) < end]
    ratio = {day: 10.0 if day < SPLIT else 1.0 for day in days}
    close = [TRADED[day] / ratio[day] for day in days]
    quote = {
        "open": close,
        "high": [price * 1.01 for price in close],
        "low": [price * 0.99 for price in close],
        "close": close,
        "volume": [int(1_000_000 * ratio[day]) for day in days],
    }
    events = {"dividends": {}, "splits": {}}
    paid = date(2024, 5, 15)
    if paid in days:
        events["dividends"][str(opening(paid))] = {"amount": 0.004, "date": opening(paid)}
    if SPLIT in days:
        events["splits"][str(opening(SPLIT))] = {
            "date": opening(SPLIT), "numerator": 10, "denominator": 1, "splitRatio": "10:1",
        }  # fmt: skip
    meta = {
        "currency": "USD", "symbol": "NVDA", "instrumentType": "EQUITY", "exchangeTimezoneName": "America/New_York",
        "timezone": "EDT", "gmtoffset": -14400, "dataGranularity": "1d", "validRanges": ["1d", "max"],
        "regularMarketTime": opening(DAYS[-1]) + 23400, "firstTradeDate": 0, "priceHint": 2,
        "currentTradingPeriod": {
            "regular": {"start": opening(DAYS[-1]), "end": opening(DAYS[-1]) + 23400, "timezone": "EDT", "gmtoffset": -14400},
        },
    }  # fmt: skip
    result = {
        "meta": meta,
        "timestamp": [opening(day) for day in days],
        "events": events,
        "indicators": {"quote": [quote], "adjclose": [{"adjclose": close}]},
    }
    return {"chart": {"result": [result], "error": None}}


class Yahoo(requests.adapters.BaseAdapter):
    """Yahoo's hosts, without a network."""

    def __init__(self):
        super().__init__()
        self.asked = []
        self.refusal = None

    def send(self, request, **options):
        self.asked.append(request.url)
        status, body = 200, b"crumb"
        if "/v8/finance/chart/" in request.url:
            if self.refusal:
                status, body = self.refusal
            elif "/NVDA?" in request.url:
                edge = {name: int(value) for name, value in re.findall(r"(period[12])=(\d+)", request.url)}
                body = json.dumps(chart(edge.get("period1", 0), edge.get("period2", 1 << 40))).encode()
            else:
                said = {"code": "Not Found", "description": "No data found, symbol may be delisted"}
                status, body = 404, json.dumps({"chart": {"result": None, "error": said}}).encode()
        elif "/quoteSummary/" in request.url:
            said = {"code": "Not Found", "description": "Quote not found for symbol: GONE"}
            status, body = 404, json.dumps({"quoteSummary": {"result": None, "error": said}}).encode()
        response = requests.Response()
        response.status_code, response._content, response.url, response.request = status, body, request.url, request
        response.headers["Content-Type"] = "application/json" if body[:1] == b"{" else "text/html"
        return response

    def close(self):
        pass


@pytest.fixture
def yahoo(monkeypatch):
    adapter = Yahoo()
    session = requests.Session()
    session.mount("https://", adapter)
    # The adapter is the stand-in that Yahoo has nowhere else.
    monkeypatch.setattr("marketagent.sources.yahoo._refuse_rehearsal", lambda settings: None)
    monkeypatch.setattr(yfinance, "Ticker", partial(yfinance.Ticker, session=session))
    return adapter


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    home = new_home(tmp_path)

    def call(*words):
        with vendor({}) as (_, env):
            return here(home, monkeypatch, capfd, "fetch", *words, "--source", "yahoo", **env, MA_CLOCK=NOW)

    call.home = home
    return call


pytestmark = pytest.mark.filterwarnings("ignore::Warning")  # yfinance uses what pandas is about to drop


def test_prices_volumes_and_payments_are_as_they_were_traded(run, yahoo):
    result = run("NVDA", "--from", "2024-05-01", "--to", "2024-06-28")
    assert (result.returncode, result.stderr) == (0, "")
    panel = read_panel(run.home, ["NVDA"])
    assert panel.raw.close[:, 0].tolist() == [TRADED[day] for day in DAYS]
    assert panel.raw.volume[:, 0].tolist() == [1_000_000.0] * len(DAYS)
    assert panel.split[DAYS.index(SPLIT), 0] == 10.0
    assert panel.dividend[DAYS.index(date(2024, 5, 15)), 0] == 0.04
    assert panel.sources == ("yahoo",)


def test_a_range_before_a_split_is_undone_by_it(run, yahoo):
    run("NVDA", "--from", "2024-05-01", "--to", "2024-05-31")
    early = read_panel(run.home, ["NVDA"]).raw.close[:, 0]
    assert early.tolist() == [TRADED[day] for day in DAYS if day <= date(2024, 5, 31)]
    run("NVDA", "--from", "2024-06-03", "--to", "2024-06-28")
    assert np.array_equal(read_panel(run.home, ["NVDA"]).raw.close[:, 0], list(TRADED.values()))
    asked = len(yahoo.asked)
    assert run("NVDA", "--from", "2024-05-01", "--to", "2024-06-28").returncode == 0
    assert len(yahoo.asked) == asked


def test_an_outage_is_not_taken_for_a_delisting(run, yahoo):
    result = run("GONE", "--from", "2024-05-01")
    assert result.returncode == Exit.NO_DATA
    assert "yahoo has nothing for GONE" in result.stderr
    assert ask(run.home, "SELECT count(*) FROM coverage") == [(0,)]


def test_too_many_requests_pause_everybody(run, yahoo):
    yahoo.refusal = (429, b"Edge: Too Many Requests")
    result = run("AMD", "--from", "2024-05-01")
    assert result.returncode == Exit.BUSY
    assert "yahoo asks to wait" in result.stderr
    asked = len(yahoo.asked)
    yahoo.refusal = None
    again = run("NVDA", "--from", "2024-05-01", "--max-wait", "5")
    assert (again.returncode, len(yahoo.asked)) == (Exit.BUSY, asked)


def test_minutes_further_back_than_yahoo_has_are_refused_before_asking(run, yahoo):
    result = run("NVDA", "--timeframe", "1m", "--from", "2024-05-01")
    assert result.returncode == Exit.NO_DATA
    assert "yahoo has 1m bars of the last 7 days only; ask from 2024-06-22 on" in result.stderr
    assert not yahoo.asked
