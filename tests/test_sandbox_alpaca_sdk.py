"""Alpaca's own SDK, alpaca-py, is satisfied with the sandbox: every client it has for stocks, against a real server.

The SDK takes seconds to import, so all of it is in this one file.
"""

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, date, timedelta
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from exchanges import MONDAY, Hand, HandMarket, at, served, world_of

from marketagent.sandbox.alpaca_http import Alpaca
from marketagent.sandbox.environment import KEY_ID, SECRET
from marketagent.sandbox.exchange import Rules
from marketagent.sandbox.market import Asset, Dividend, Split
from marketagent.sandbox.world import SandboxWorld

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK's streams use websockets' old client

MODULES = {
    "data_enums": "data.enums",
    "data_requests": "data.requests",
    "enums": "trading.enums",
    "requests": "trading.requests",
}
CLASSES = {
    "APIError": "common.exceptions",
    "CorporateActionsClient": "data.historical.corporate_actions",
    "NewsClient": "data.historical.news",
    "StockDataStream": "data.live.stock",
    "StockHistoricalDataClient": "data.historical.stock",
    "TimeFrame": "data.timeframe",
    "TimeFrameUnit": "data.timeframe",
    "TradingClient": "trading.client",
    "TradingStream": "trading.stream",
}
FRIDAY = MONDAY - timedelta(days=3)
Box = tuple[str, Hand, SandboxWorld]


@pytest.fixture(scope="module")
def sdk() -> SimpleNamespace:
    """Everything of the SDK that is used here, imported once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        modules = {name: import_module(f"alpaca.{path}") for name, path in MODULES.items()}
        classes = {name: getattr(import_module(f"alpaca.{path}"), name) for name, path in CLASSES.items()}
    return SimpleNamespace(**modules, **classes)


@pytest.fixture(scope="module")
def server() -> Iterator[Box]:
    market = HandMarket(
        assets=[Asset(symbol="META", name="Meta", exchange="XNYS", listed=date(2026, 1, 2), former=((MONDAY, "FB"),))],
        splits=[
            Split(symbol="AAPL", day=FRIDAY, new=4, old=1),
            Split(symbol="MSFT", day=FRIDAY, new=1, old=10),
        ],
        dividends=[Dividend(symbol="AAPL", day=FRIDAY, cash=0.24)],
    )
    hand = Hand(at("10:00:30"))
    world = world_of(market, hand)
    with served(world) as url:
        yield url, hand, world


@pytest.fixture
def box(server: Box) -> Box:
    server[1].go(at("10:00:30"))
    server[2].parts.clear()
    account = server[2].part(Alpaca).account(KEY_ID, SECRET)
    assert account is not None
    account.rules = Rules(participation=(1.0, 1.0), partial_rate=0.0)
    return server


@pytest.fixture
def trading(sdk: SimpleNamespace, box: Box) -> Any:
    return sdk.TradingClient(KEY_ID, SECRET, url_override=f"http://{box[0]}")


@pytest.fixture
def data(sdk: SimpleNamespace, box: Box) -> Any:
    return sdk.StockHistoricalDataClient(KEY_ID, SECRET, url_override=f"http://{box[0]}")


def market_order(sdk: SimpleNamespace, **more: Any) -> Any:
    given = {"symbol": "AAPL", "qty": 10, "side": sdk.enums.OrderSide.BUY, **more}
    return sdk.requests.MarketOrderRequest(time_in_force=sdk.enums.TimeInForce.DAY, **given)


def limit_order(sdk: SimpleNamespace, **more: Any) -> Any:
    given = {"symbol": "AAPL", "qty": 10, "side": sdk.enums.OrderSide.BUY, "limit_price": 90.0, **more}
    return sdk.requests.LimitOrderRequest(time_in_force=sdk.enums.TimeInForce.GTC, **given)


# Trading


def test_the_trading_client_reads_an_account_a_clock_a_calendar_and_assets(sdk: SimpleNamespace, trading: Any) -> None:
    account, clock = trading.get_account(), trading.get_clock()
    calendar = trading.get_calendar(sdk.requests.GetCalendarRequest(start=FRIDAY, end=MONDAY))
    assets = trading.get_all_assets(sdk.requests.GetAssetsRequest(status=sdk.enums.AssetStatus.ACTIVE))

    assert (account.status, account.cash, account.buying_power) == (sdk.enums.AccountStatus.ACTIVE, "100000", "400000")
    assert account.pattern_day_trader is None
    assert (clock.is_open, clock.timestamp, clock.next_close) == (True, at("10:00:30"), at("16:00"))
    assert [(day.date, day.open.hour, day.close.hour) for day in calendar] == [(FRIDAY, 9, 16), (MONDAY, 9, 16)]
    assert [asset.symbol for asset in assets] == ["AAPL", "META", "MSFT"]
    assert trading.get_asset("META").exchange == sdk.enums.AssetExchange.NYSE
    assert trading.get_account_configurations().no_shorting is False


def test_the_trading_client_sends_an_order_and_sees_it_filled(sdk: SimpleNamespace, trading: Any, box: Box) -> None:
    sent = trading.submit_order(market_order(sdk, client_order_id="ma-1"))
    box[1].go(at("10:01:01"))

    got = trading.get_order_by_client_id("ma-1")
    position = trading.get_open_position("AAPL")
    assert (sent.status, got.status) == (sdk.enums.OrderStatus.PENDING_NEW, sdk.enums.OrderStatus.FILLED)
    assert (got.id, got.filled_qty, got.filled_avg_price, got.order_class) == (sent.id, "10", "100", "simple")
    assert (position.qty, position.side, position.cost_basis) == ("10", sdk.enums.PositionSide.LONG, "1000")
    closing = trading.close_position("AAPL", sdk.requests.ClosePositionRequest(qty="4"))
    assert (closing.side, closing.qty) == (sdk.enums.OrderSide.SELL, "4")
    history = trading.get_portfolio_history(sdk.requests.GetPortfolioHistoryRequest(period="1D", timeframe="5Min"))
    assert len(history.timestamp) == len(history.equity) > 0


def test_the_trading_client_sends_every_type_of_order(sdk: SimpleNamespace, trading: Any, box: Box) -> None:
    buy, sell, day = sdk.enums.OrderSide.BUY, sdk.enums.OrderSide.SELL, sdk.enums.TimeInForce.DAY
    trading.submit_order(market_order(sdk, qty=100))
    box[1].go(at("10:01:01"))
    profit, loss = sdk.requests.TakeProfitRequest(limit_price=120), sdk.requests.StopLossRequest(stop_price=80)
    made = [
        market_order(sdk, symbol="MSFT", qty=None, notional=50.5),
        sdk.requests.LimitOrderRequest(
            symbol="MSFT", qty=1, side=buy, limit_price=90, time_in_force=day, extended_hours=True
        ),
        sdk.requests.StopOrderRequest(symbol="AAPL", qty=1, side=sell, stop_price=90, time_in_force=day),
        sdk.requests.StopLimitOrderRequest(
            symbol="AAPL", qty=1, side=sell, stop_price=90, limit_price=89, time_in_force=day
        ),
        sdk.requests.TrailingStopOrderRequest(symbol="AAPL", qty=1, side=sell, trail_percent=5, time_in_force=day),
        market_order(sdk, symbol="MSFT", qty=2, order_class="bracket", take_profit=profit, stop_loss=loss),
        sdk.requests.LimitOrderRequest(
            symbol="AAPL",
            qty=3,
            side=sell,
            limit_price=120,
            time_in_force=day,
            order_class="oco",
            take_profit=profit,
            stop_loss=loss,
        ),
    ]

    orders = [trading.submit_order(one) for one in made]

    assert orders[0].qty is None
    assert orders[0].notional == "50.5"
    assert [len(order.legs or []) for order in orders] == [0, 0, 0, 0, 0, 2, 1]
    assert orders[4].hwm == "100"
    box[1].go(at("10:01:02"))
    nested = trading.get_orders(sdk.requests.GetOrdersRequest(nested=True, limit=500))
    assert len(nested) == 7


def test_the_trading_client_replaces_and_cancels(sdk: SimpleNamespace, trading: Any, box: Box) -> None:
    old = trading.submit_order(limit_order(sdk))
    other = trading.submit_order(limit_order(sdk, symbol="MSFT"))
    box[1].go(at("10:00:40"))

    new = trading.replace_order_by_id(old.id, sdk.requests.ReplaceOrderRequest(qty=5, limit_price=91))
    box[1].go(at("10:00:41"))
    trading.cancel_order_by_id(new.id)
    rows = trading.cancel_orders()
    box[1].go(at("10:00:42"))

    assert (new.qty, new.limit_price, new.replaces) == ("5", "91", old.id)
    assert trading.get_order_by_id(old.id).replaced_by == new.id
    assert {row.id: row.status for row in rows} == {new.id: 422, other.id: 200}
    assert trading.get_orders() == []
    closed = trading.get_orders(
        sdk.requests.GetOrdersRequest(status=sdk.enums.QueryOrderStatus.CLOSED, symbols=["AAPL"], limit=5)
    )
    assert [order.status.value for order in closed] == ["canceled", "replaced"]


def test_the_trading_client_closes_everything(sdk: SimpleNamespace, trading: Any, box: Box) -> None:
    for symbol in ("AAPL", "MSFT"):
        trading.submit_order(market_order(sdk, symbol=symbol))
    box[1].go(at("10:01:01"))

    rows = trading.close_all_positions(cancel_orders=True)
    box[1].go(at("10:02:01"))

    assert {row.symbol: row.status for row in rows} == {"AAPL": 200, "MSFT": 200}
    assert trading.get_all_positions() == []


def test_the_trading_client_reads_the_errors(sdk: SimpleNamespace, trading: Any, box: Box) -> None:
    trading.submit_order(market_order(sdk, client_order_id="ma-1"))
    for wrong, code, status in (
        (market_order(sdk, client_order_id="ma-1"), 40010001, 422),
        (market_order(sdk, qty=10**6), 40310000, 403),
        (market_order(sdk, symbol="NOPE"), 42210000, 422),
    ):
        with pytest.raises(sdk.APIError) as caught:
            trading.submit_order(wrong)
        assert (caught.value.code, caught.value.status_code) == (code, status)
    stranger = sdk.TradingClient("AK", "secret", url_override=f"http://{box[0]}")
    with pytest.raises(sdk.APIError) as caught:
        stranger.get_account()
    assert (caught.value.code, caught.value.status_code) == (40110000, 401)


# Data


def test_the_data_client_reads_bars_over_pages(sdk: SimpleNamespace, data: Any) -> None:
    ask = sdk.data_requests.StockBarsRequest(
        symbol_or_symbols=["AAPL", "MSFT"],
        timeframe=sdk.TimeFrame(5, sdk.TimeFrameUnit.Minute),
        start=at("09:30", MONDAY - timedelta(days=7)),
        end=at("10:00"),
        feed=sdk.data_enums.DataFeed.IEX,
        adjustment=sdk.data_enums.Adjustment.ALL,
    )
    bars = data.get_stock_bars(ask)

    assert {symbol: len(rows) for symbol, rows in bars.data.items()} == {"AAPL": 5 * 78 + 6, "MSFT": 5 * 78 + 6}
    assert bars["AAPL"][0].timestamp == at("09:30", MONDAY - timedelta(days=7))
    limited = data.get_stock_bars(
        sdk.data_requests.StockBarsRequest(
            symbol_or_symbols="AAPL",
            timeframe=sdk.TimeFrame.Day,
            start=at("00:00", MONDAY - timedelta(days=40)),
            limit=3,
        )
    )
    assert len(limited["AAPL"]) == 3


def test_the_data_client_reads_ticks_and_the_latest_of_all(sdk: SimpleNamespace, data: Any) -> None:
    span = {"symbol_or_symbols": "AAPL", "start": at("09:59"), "end": at("10:00")}
    trades = data.get_stock_trades(sdk.data_requests.StockTradesRequest(**span))["AAPL"]
    quotes = data.get_stock_quotes(sdk.data_requests.StockQuotesRequest(**span))["AAPL"]
    latest = {"symbol_or_symbols": ["AAPL", "MSFT"]}

    assert len(trades) == len(quotes) > 3
    assert sum(trade.size for trade in trades) == 10_000
    assert trades[0].timestamp.tzinfo is not None
    assert set(data.get_stock_latest_trade(sdk.data_requests.StockLatestTradeRequest(**latest))) == {"AAPL", "MSFT"}
    assert set(data.get_stock_latest_quote(sdk.data_requests.StockLatestQuoteRequest(**latest))) == {"AAPL", "MSFT"}
    assert data.get_stock_latest_bar(sdk.data_requests.StockLatestBarRequest(**latest))["AAPL"].close == 100
    shots = data.get_stock_snapshot(sdk.data_requests.StockSnapshotRequest(symbol_or_symbols=["AAPL", "NOPE"]))
    assert (list(shots), shots["AAPL"].previous_daily_bar.close) == (["AAPL"], 100)


def test_the_clients_of_actions_and_news_read_all_of_it(sdk: SimpleNamespace, box: Box) -> None:
    where = {"url_override": f"http://{box[0]}"}
    actions = sdk.CorporateActionsClient(KEY_ID, SECRET, **where).get_corporate_actions(
        sdk.data_requests.CorporateActionsRequest(start=date(2026, 11, 1), end=MONDAY)
    )
    news = sdk.NewsClient(KEY_ID, SECRET, **where).get_news(
        sdk.data_requests.NewsRequest(start=at("09:30", date(2026, 10, 5)), symbols="AAPL,MSFT", limit=3)
    )

    assert {kind: len(rows) for kind, rows in actions.data.items()} == {
        "forward_splits": 1,
        "reverse_splits": 1,
        "cash_dividends": 1,
        "name_changes": 1,
    }
    assert actions["cash_dividends"][0].rate == 0.24
    assert len(news["news"]) == 3


# Streams


def test_the_data_stream_hands_over_bars_trades_and_quotes(sdk: SimpleNamespace, box: Box) -> None:
    box[1].go(at("10:00:59"))
    stream = sdk.StockDataStream(KEY_ID, SECRET, url_override=f"ws://{box[0]}/v2/iex")
    got: list[Any] = []

    async def keep(one: Any) -> None:
        got.append(one)

    stream.subscribe_bars(keep, "AAPL")
    stream.subscribe_daily_bars(keep, "AAPL")
    stream.subscribe_trades(keep, "MSFT")
    stream.subscribe_quotes(keep, "MSFT")
    with running(stream, lambda: box[1].go(at("10:05"))):
        until(lambda: stream._running)
        box[1].go(at("10:02"))
        until(lambda: len({type(one).__name__ for one in got}) == 3 and len(bars(got)) >= 4)

    minutes = [one for one in bars(got) if one.timestamp.hour == 15]
    assert [one.timestamp for one in minutes] == [at("10:00"), at("10:01")]
    assert 0 < minutes[0].volume < 300  # of IEX


def test_the_test_feed_serves_its_one_symbol(sdk: SimpleNamespace, box: Box) -> None:
    box[1].go(at("04:00:59"))
    stream = sdk.StockDataStream(KEY_ID, SECRET, url_override=f"ws://{box[0]}/v2/test")
    got: list[Any] = []

    async def keep(one: Any) -> None:
        got.append(one)

    stream.subscribe_bars(keep, "FAKEPACA")
    with running(stream, lambda: box[1].go(at("04:05"))):
        until(lambda: stream._running)
        box[1].go(at("04:01"))
        until(lambda: bool(got))

    assert (got[0].symbol, got[0].timestamp.astimezone(UTC)) == ("FAKEPACA", at("04:00"))


def test_the_trading_stream_tells_of_an_order(sdk: SimpleNamespace, box: Box, trading: Any) -> None:
    stream = sdk.TradingStream(KEY_ID, SECRET, url_override=f"ws://{box[0]}/stream")
    got: list[Any] = []

    async def keep(update: Any) -> None:
        got.append(update)

    stream.subscribe_trade_updates(keep)
    with running(stream, lambda: trading.submit_order(market_order(sdk))):
        until(lambda: stream._running)
        time.sleep(0.1)  # `listen` is on its way
        sent = trading.submit_order(market_order(sdk))
        box[1].go(at("10:01:01"))
        until(lambda: len(got) == 3)

    got = got[:3]
    assert [str(update.event) for update in got] == ["pending_new", "new", "fill"]
    assert {update.order.id for update in got} == {sent.id}
    assert (got[2].price, got[2].qty, got[2].position_qty) == (100.0, 10.0, 10.0)


class running:  # noqa: N801 - read as a verb, like the context manager it is
    """The SDK's stream in a thread of its own, stopped when the block ends.

    It looks at its own `stop` with the next message only, or after five seconds: `nudge` makes one come.
    """

    def __init__(self, stream: Any, nudge: Callable[[], Any]) -> None:
        self.stream, self.nudge = stream, nudge
        self.thread = threading.Thread(target=stream.run, daemon=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *error: object) -> None:
        if self.stream._loop is not None and self.thread.is_alive():
            self.stream.stop()
            self.nudge()
        self.thread.join(8)
        assert not self.thread.is_alive()


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def bars(got: list[Any]) -> list[Any]:
    return [one for one in got if type(one).__name__ == "Bar"]
