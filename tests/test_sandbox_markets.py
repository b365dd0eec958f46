"""The sandbox's markets: days that are their minutes, stored bars moved to the present, made-up companies from a seed."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import prices
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sandboxes import START, Small, calendar

from marketagent.sandbox import bridge, stored, ticks
from marketagent.sandbox.market import Bars, Market
from marketagent.sandbox.names import spans
from marketagent.sandbox.replay import Replay
from marketagent.sandbox.synthetic import SPECIAL, Synthetic

FOR_EVER = (date(1990, 1, 1), date(2030, 1, 1))


def synthetic(seed: int = 1, *symbols: str) -> Synthetic:
    return Synthetic(calendar().sessions, START, seed, symbols)


def agrees(minutes: Bars, day: Bars) -> bool:
    """Whether the one day is exactly what its minutes say."""
    found = (minutes.open[0], minutes.high.max(), minutes.low.min(), minutes.close[-1], minutes.volume.sum())
    return found == tuple(float(getattr(day, name)[0]) for name in ("open", "high", "low", "close", "volume"))


def is_sound(minutes: Bars) -> bool:
    inside = (minutes.high >= np.maximum(minutes.open, minutes.close)).all()
    return bool(inside and (minutes.low <= np.minimum(minutes.open, minutes.close)).all() and (minutes.low > 0).all())


# Minutes out of a day

PRICE = st.one_of(
    st.integers(1, 10**6).map(lambda cents: cents / 100),
    st.integers(1, 10**6).map(lambda units: units / 10_000),
    st.floats(0.0001, 10_000),
)


@settings(max_examples=300, deadline=None)
@given(
    values=st.lists(PRICE, min_size=4, max_size=4),
    volume=st.one_of(st.integers(0, 10**9).map(float), st.floats(0, 10**6)),
    count=st.sampled_from([390, 210, 30, 5, 3, 1]),
    seed=st.integers(0, 2**32),
)
@example(values=[10.0, 10.0, 10.0, 10.0], volume=5.0, count=390, seed=0)
@example(values=[0.0001, 0.0001, 0.0002, 0.0001], volume=1e9, count=390, seed=0)
def test_the_minutes_of_any_day_are_that_day(values, volume, count, seed):
    first, last, *rest = values
    day = bridge.Day(open=first, high=max(values), low=min(values), close=last, volume=volume)
    minutes = bridge.minutes(day, np.arange(count) * 60, bridge.dice(seed))
    one = Bars(**{name: np.array([getattr(day, name, 0)]) for name in Bars.__dataclass_fields__})
    assert agrees(minutes, one) or abs(minutes.volume.sum() - volume) < 1e-6 * max(1, volume)
    assert is_sound(minutes)
    assert (minutes.volume > 0).all() or len(minutes.start) == 1
    assert rest is not None


def test_minutes_lie_on_cents_when_the_day_does():
    day = bridge.Day(open=101.5, high=103.25, low=100.01, close=102.0, volume=1e6)
    minutes = bridge.minutes(day, np.arange(390) * 60, bridge.dice(1))
    for column in (minutes.open, minutes.high, minutes.low, minutes.close):
        assert (np.round(column, 2) == column).all()
    assert len(minutes.start) == 390
    assert len(np.unique(minutes.close)) > 50


def test_stored_minutes_are_bent_to_their_day():
    raw = bridge.minutes(
        bridge.Day(open=10, high=11, low=9, close=10.5, volume=5000), np.arange(390) * 60, bridge.dice(1)
    )
    day = bridge.Day(open=10.1, high=11.2, low=9.5, close=10.4, volume=9000)
    fitted = bridge.fitted(raw, day)
    one = Bars(**{name: np.array([getattr(day, name, 0)]) for name in Bars.__dataclass_fields__})
    assert agrees(fitted, one)
    assert is_sound(fitted)


@pytest.mark.parametrize("market", [Small(), synthetic()], ids=["small", "synthetic"])
def test_every_day_of_a_market_is_its_minutes(market: Market):
    for symbol in ("AAPL", "IBM", "ZHALT", "ZREV"):
        for session in market.sessions(date(2026, 11, 2), date(2026, 11, 30)):
            day = market.days(symbol, session.day, session.day)
            if len(day.start):
                minutes = market.minutes(symbol, session.day)
                assert agrees(minutes, day)
                assert is_sound(minutes)
                assert minutes.start[0] >= session.open_at.timestamp()
                assert minutes.start[-1] < session.close_at.timestamp()


def test_a_half_day_is_shorter():
    minutes = Small().minutes("AAPL", date(2026, 11, 27))
    assert len(minutes.start) == 210


# Trades and quotes


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 389))
def test_the_trades_of_a_minute_are_that_minute(seed, place):
    market = Small()
    start = int(calendar().between(date(2026, 11, 20), date(2026, 11, 20))[0].open_at.timestamp()) + 60 * place
    bar = ticks.minute(market, "IBM", date(2026, 11, 20), start)
    assert bar is not None
    made = ticks.trades(seed, bar)
    found = (made[0].price, max(one.price for one in made), min(one.price for one in made), made[-1].price)
    assert found == (bar.open, bar.high, bar.low, bar.close)
    assert sum(one.size for one in made) == bar.volume
    at = [one.at for one in made]
    assert at == sorted(set(at))
    assert start * ticks.NS < at[0]
    assert at[-1] < (start + 60) * ticks.NS
    quotes = ticks.quotes(seed, bar, made)
    for quote, trade in zip(quotes, made, strict=True):
        assert quote.bid < quote.ask
        assert quote.bid <= trade.price <= quote.ask
        assert start * ticks.NS < quote.at < trade.at
    assert ticks.trades(seed, bar) == made


# Replay


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A year of AAPL as of 2014, a shorter IBM, and minutes of AAPL's last day."""
    folder = tmp_path_factory.mktemp("replay")
    home = prices.new_home(folder)
    prices.fetch(home, prices.History().file(folder / "aapl.csv", actions="given"))
    prices.fetch(home, prices.History("IBM", seed=3).file(folder / "ibm.csv", 100, 200))
    head = prices.HEAD.replace("date", "ts")
    rows = "".join(f"AAPL,2014-12-31T{9 + m // 60:02}:{m % 60:02},80,80.5,79.5,80.25,1000\n" for m in range(30, 60))
    prices.fetch(home, prices.write(folder / "minutes.csv", head + rows), timeframe="1m")
    return home


def replay(home: Path, now: datetime = START) -> tuple[Replay, stored.Stored]:
    found = stored.read(home, now, timeout_s=10)
    return Replay(found, now, 7), found


def test_stored_days_are_lived_through_again_in_order(home):
    market, found = replay(home)
    days = market.days("AAPL", *FOR_EVER)
    assert days.close.tolist() == found.panel.raw.close[:, 0].tolist()
    sessions = [one.open_at.timestamp() for one in market.sessions(*FOR_EVER)]
    places = np.searchsorted(sessions, days.start)
    assert (np.diff(places) == 1).all()  # session after session, on real ones
    assert sum(start > START.timestamp() for start in days.start) == len(days.start) // 3


def test_splits_and_dividends_move_with_their_days(home):
    market, found = replay(home)
    (split,) = market.splits("AAPL", *FOR_EVER)
    assert (split.new, split.old) == (7.0, 1.0)
    row = int(np.flatnonzero(found.panel.split[:, 0] != 1)[0])
    around = market.days("AAPL", split.day - timedelta(days=7), split.day).close
    assert around[-2:].tolist() == found.panel.raw.close[row - 1 : row + 1, 0].tolist()
    assert sorted(one.cash for one in market.dividends(None, *FOR_EVER)) == [0.47, 0.47, 3.05, 3.29]


def test_a_symbol_that_ends_before_the_others_is_gone_then(home):
    market, _ = replay(home)
    assert [one.symbol for one in market.assets()] == ["AAPL", "IBM"]
    ibm, aapl = market.asset("IBM"), market.asset("AAPL")
    assert ibm is not None
    assert aapl is not None
    assert aapl.delisted is None
    assert ibm.delisted is not None
    assert aapl.listed < ibm.listed < ibm.delisted


def test_stored_minutes_are_used_and_agree_with_their_day(home):
    market, _ = replay(home)
    last = market.calendar.sessions[
        int(np.searchsorted(market.calendar.opens, market.days("AAPL", *FOR_EVER).start[-1]))
    ]
    minutes = market.minutes("AAPL", last.day)
    assert len(minutes.start) == 30
    assert agrees(minutes, market.days("AAPL", last.day, last.day))
    assert len(market.minutes("AAPL", market.calendar.days[market.calendar.number(last.day) - 1]).start) == 390


def test_a_long_history_stays_where_it_is_for_half_a_year():
    panel_of = {when: _long(when) for when in (date(2026, 7, 10), date(2026, 12, 20), date(2027, 1, 15))}
    ends = [market.days("AAPL", *FOR_EVER).start[-1] for market in panel_of.values()]
    assert ends[0] == ends[1]
    assert ends[2] > ends[1]


def _long(when: date) -> Replay:
    from markets import weekdays

    from marketagent.panel import empty

    panel = empty(weekdays(3000, "2001-01-02"), ["AAPL"], ["sample"])
    for name in ("open", "high", "low", "close", "volume"):
        getattr(panel.raw, name)[:] = 100.0
    return Replay(stored.Stored(calendar().sessions, panel), datetime(when.year, when.month, when.day, 18, tzinfo=UTC))


def test_without_stored_bars_the_sample_is_replayed(tmp_path):
    found = stored.read(prices.new_home(tmp_path), START, timeout_s=10)
    market = Replay(found, START, 7)
    assert [one.symbol for one in market.assets()] == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    days = market.days("AAPL", *FOR_EVER)
    ahead = int((days.start > START.timestamp()).sum())
    assert 250 <= ahead <= 380
    assert {(one.new, one.old) for one in market.splits(None, *FOR_EVER)} == {(2.0, 1.0)}
    assert len(market.dividends("IBM", *FOR_EVER)) > 40


# Synthetic


def test_a_company_does_not_depend_on_what_was_asked_before():
    one, other = synthetic(), synthetic()
    other.days("MSFT", *FOR_EVER)
    other.minutes("KO", date(2026, 11, 20))
    for name in ("close", "volume"):
        assert (getattr(one.days("KO", *FOR_EVER), name) == getattr(other.days("KO", *FOR_EVER), name)).all()
    assert (one.minutes("KO", date(2026, 11, 23)).close == other.minutes("KO", date(2026, 11, 23)).close).all()
    assert (synthetic(2).days("KO", *FOR_EVER).close != one.days("KO", *FOR_EVER).close).any()


def test_only_names_that_were_announced_are_known():
    market = synthetic(1, "ABCD")
    assert market.asset("ABCD") is not None
    assert market.asset("NOPE") is None
    assert not len(market.days("NOPE", *FOR_EVER).start)
    assert set(SPECIAL) <= {one.symbol for one in market.assets()}
    assert len(market.assets()) == 101 + len(SPECIAL) + 1


def test_names_move_together_and_volatility_comes_in_clusters():
    market = synthetic()
    names = ("AAPL", "KO", "XOM", "JPM", "PG", "CAT")
    moves = np.array([_returns(market, name) for name in names])
    together = np.corrcoef(moves)[np.triu_indices(len(names), 1)]
    assert 0.15 < together.mean() < 0.8
    size = np.abs(moves)
    lagged = [np.corrcoef(row[1:], row[:-1])[0, 1] for row in size]
    assert np.mean(lagged) > 0.05
    assert 0.1 < moves.std() * np.sqrt(252) < 0.6


def _returns(market: Synthetic, name: str) -> np.ndarray:
    """Daily log returns without the steps of splits."""
    bars = market.days(name, *FOR_EVER)
    found = np.diff(np.log(bars.close))
    for split in market.splits(name, *FOR_EVER):
        day = int(np.searchsorted(bars.start, calendar().between(split.day, split.day)[0].open_at.timestamp()))
        if day:
            found[day - 1] += np.log(split.new / split.old)
    return found


def test_what_befalls_real_companies_befalls_the_special_ones():
    market = synthetic()
    assert {(one.new, one.old) for one in market.splits("ZFWD", *FOR_EVER)} == {(2.0, 1.0)}
    assert {(one.new, one.old) for one in market.splits("ZREV", *FOR_EVER)} == {(1.0, 5.0)}
    assert all(one.special for one in market.dividends("ZFWD", *FOR_EVER))
    assert [name for name, *_ in spans(market, "ZOLD")] == ["ZNEW"]
    gone, late = market.asset("ZGONE"), market.asset("ZIPO")
    assert gone is not None
    assert late is not None
    assert gone.delisted is not None
    assert gone.delisted < START.date()
    assert not len(market.days("ZGONE", gone.delisted + timedelta(days=1), date(2030, 1, 1)).start)
    assert date(2024, 1, 1) < late.listed < START.date()
    assert len(market.days("ZIPO", late.listed, late.listed).start) == 1


def test_a_halt_has_no_minutes():
    market = synthetic()
    halted = [
        day for day in calendar().days if date(2026, 11, 2) <= day < date(2026, 11, 25) and market.halts("ZHALT", day)
    ]
    assert len(halted) > 3
    for day in halted:
        minutes = market.minutes("ZHALT", day)
        for first, last in market.halts("ZHALT", day):
            assert not ((minutes.start >= first.timestamp()) & (minutes.start < last.timestamp())).any()


def test_a_split_day_opens_at_the_new_price():
    market = synthetic()
    for name in ("ZFWD", "ZREV"):
        for split in market.splits(name, date(2020, 1, 1), date(2027, 1, 1)):
            around = market.days(name, split.day - timedelta(days=7), split.day)
            assert around.open[-1] * split.new / split.old == pytest.approx(around.close[-2], rel=0.2)


def test_dividends_are_in_cents_and_quarterly():
    paid = synthetic().dividends("KO", *FOR_EVER) or synthetic().dividends("PG", *FOR_EVER)
    assert len(paid) > 40
    assert all(round(one.cash, 2) == one.cash and one.cash > 0 for one in paid)
