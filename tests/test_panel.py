"""The panel: what adjusted prices are, and that nothing which happens later reaches back into a row."""

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markets import panel_of, random_market, weekdays
from numpy.testing import assert_allclose, assert_array_equal

from marketagent.actions import infer
from marketagent.panel import Panel, Raw, empty
from marketagent.sources.sample import SYMBOLS, _file

NAN = np.nan
COMPUTED = (
    "has_bar",
    "last_bar",
    "split_factor",
    "mark",
    "factor",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "returns",
)


@pytest.fixture(scope="module")
def sample() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Closes as traded and as adjusted by the vendor, by symbol."""
    import duckdb

    sql = f"SELECT Ticker, Close, \"Adj Close\" AS adjusted FROM read_csv('{_file()}') ORDER BY Ticker, Date"
    rows = duckdb.sql(sql).fetchnumpy()
    return {s: (rows["Close"][rows["Ticker"] == s], rows["adjusted"][rows["Ticker"] == s]) for s in SYMBOLS}


def apple_2014() -> Panel:
    """AAPL around its split of seven for one on 2014-06-09, dividends of 3.29 and 0.47; made-up closes in between."""
    days = 160
    close = 553.13 + 0.4 * np.arange(days) + 5 * np.sin(np.arange(days))
    close[107:] = np.round(close[107:] / 7, 2)
    return panel_of(
        np.round(close, 2),
        split={(107, 0): 7.0},
        dividend={(24, 0): 3.05, (87, 0): 3.29, (150, 0): 0.47},
        first="2014-01-02",
    )


def test_adjusted_closes_are_the_vendors_after_inference(sample: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Measured: 7e-14 at most over the 12,154 bars of the five symbols; the vendor prints 12 digits or more."""
    for close, adjusted in sample.values():
        found = infer(close, adjusted)
        split = {(int(row), 0): ratio for row, ratio in zip(found.row, found.split, strict=True)}
        dividend = {(int(row), 0): usd for row, usd in zip(found.row, found.dividend, strict=True)}
        ours = panel_of(close, split=split, dividend=dividend).close[:, 0]
        assert_allclose(ours / ours[-1], adjusted / adjusted[-1], rtol=1e-11)


def test_an_adjusted_price_moves_as_the_holder_does() -> None:
    # Bought at 100. A split of 2 at a close of 60 makes 2 * 60 = 120; a dividend of 3 at a close of 57, 5 % more of 57.
    panel = panel_of([100, 60, 57, 57], split={(1, 0): 2.0}, dividend={(2, 0): 2.85})
    assert_allclose(panel.close[:, 0], [100, 120, 2 * 57 * 1.05, 2 * 57 * 1.05], rtol=1e-15)
    assert_allclose(panel.returns[:, 0], [NAN, 0.2, 2 * 57 * 1.05 / 120 - 1, 0.0], rtol=1e-14, atol=1e-15)
    assert panel.factor[:, 0].tolist() == [1.0, 2.0, 2.0 * 1.05, 2.0 * 1.05]
    assert panel.split_factor[:, 0].tolist() == [1.0, 2.0, 2.0, 2.0]
    assert panel.volume[:, 0].tolist() == [1000.0, 500.0, 500.0, 500.0]


def test_a_split_and_a_dividend_of_one_day_pay_the_new_shares() -> None:
    panel = panel_of([100, 50], split={(1, 0): 2.0}, dividend={(1, 0): 1.0})
    assert panel.close[:, 0].tolist() == [100.0, 2 * 1.02 * 50]


def test_actions_before_and_on_the_first_bar_touch_nobody() -> None:
    panel = panel_of([NAN, 10, 10], split={(0, 0): 2.0, (1, 0): 3.0}, dividend={(0, 0): 1.0, (1, 0): 1.0})
    assert panel.factor[:, 0].tolist() == [1.0, 1.0, 1.0]
    assert panel.mark[:, 0].tolist() == [0.0, 10.0, 10.0]
    assert panel.last_bar[:, 0].tolist() == [-1, 1, 2]


def test_actions_without_a_bar_count_at_the_last_price_restated() -> None:
    # The dividend of 0.5 falls on a day without a bar; the close of 10 stands in for it as 5 after the split.
    panel = panel_of([10, NAN, NAN, 6], split={(1, 0): 2.0}, dividend={(2, 0): 0.5})
    assert panel.mark[:, 0].tolist() == [10.0, 5.0, 5.0, 6.0]
    assert_allclose(panel.close[:, 0], [10.0, NAN, NAN, 6 * 2 * 1.1], rtol=1e-15)
    assert_allclose(panel.returns[:, 0], [NAN, NAN, NAN, 0.32], rtol=1e-14)


def test_apple_of_2014_is_the_same_stored_in_halves_or_at_once() -> None:
    """Every cut, also the one right before, on and after the split: the part is the whole's beginning, bit for bit."""
    whole = apple_2014()
    for rows in range(1, len(whole.sessions)):
        assert_array_equal(whole.head(rows).close, whole.close[:rows])
    assert abs(whole.returns[107, 0]) < 0.03
    per_dollar = 7 * (1 + 3.05 / whole.raw.close[24, 0]) * (1 + 3.29 / whole.raw.close[87, 0])
    assert whole.factor[-1, 0] == pytest.approx(per_dollar * (1 + 0.47 / whole.raw.close[150, 0]), rel=1e-15)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(0, 60))
def test_no_row_knows_what_follows(seed: int, rows: int) -> None:
    panel = random_market(seed)
    short = panel.head(rows)
    for name in COMPUTED:
        assert_array_equal(getattr(short, name), getattr(panel, name)[:rows], err_msg=name)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), kept=st.sets(st.integers(0, 5)))
def test_no_symbol_knows_its_neighbours(seed: int, kept: set[int]) -> None:
    panel = random_market(seed)
    some = panel.only([panel.symbols[n] for n in kept])
    assert some.symbols == tuple(panel.symbols[n] for n in sorted(kept))
    for name in COMPUTED:
        assert_array_equal(getattr(some, name), getattr(panel, name)[:, sorted(kept)], err_msg=name)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_holder_of_the_adjusted_close_earns_what_a_reinvesting_holder_earns(seed: int) -> None:
    panel = random_market(seed)
    for n in range(len(panel.symbols)):
        bars = np.flatnonzero(panel.has_bar[:, n])
        shares = 1.0
        for t in range(bars[0] + 1, bars[-1] + 1) if len(bars) else []:
            shares *= panel.split[t, n]
            shares += shares * panel.dividend[t, n] / panel.mark[t, n]
        if len(bars):
            worth = shares * panel.raw.close[bars[-1], n]
            assert panel.close[bars[-1], n] == pytest.approx(worth, rel=1e-12)
            grown = np.prod(1 + panel.returns[bars[1:], n]) * panel.raw.close[bars[0], n]
            assert grown == pytest.approx(worth, rel=1e-10)


def test_what_is_computed_cannot_be_written_to() -> None:
    panel = random_market(1)
    for name in COMPUTED:
        with pytest.raises(ValueError, match="read-only"):
            getattr(panel, name)[:] = 0


def arrays(panel: Panel) -> Iterator[np.ndarray]:
    yield from (panel.sessions, panel.split, panel.dividend)
    yield from (getattr(panel.raw, field.name) for field in fields(Raw))


def test_a_locked_panel_cannot_be_written_to_and_its_original_still_can() -> None:
    panel = random_market(1)
    locked = panel.locked()
    for mine, theirs in zip(arrays(locked), arrays(panel), strict=True):
        assert np.shares_memory(mine, theirs)
        assert theirs.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            mine[0] = mine[1]
    assert_array_equal(locked.close, panel.close)


def test_a_frame_is_a_copy_by_session_and_symbol() -> None:
    panel = random_market(1)
    frame = panel.frame("close")
    assert_array_equal(frame.to_numpy(), panel.close)
    assert frame.columns.tolist() == list(panel.symbols)
    assert frame.index.to_numpy().astype("datetime64[D]").tolist() == panel.sessions.tolist()
    frame.iloc[:, :] = -1.0
    assert not (panel.close == -1.0).any()
    assert_array_equal(panel.frame("close", raw=True).to_numpy(), panel.raw.close)


def test_the_row_of_a_session_is_the_newest_at_or_before_it() -> None:
    panel = panel_of([1, 2, 3], first="2013-01-03")  # Thursday, Friday, Monday
    rows = [
        panel.row(np.datetime64(day)) for day in ("2013-01-02", "2013-01-03", "2013-01-06", "2013-01-07", "2020-01-01")
    ]
    assert rows == [-1, 0, 1, 2, 2]


def test_an_empty_panel_has_no_bar_and_no_event() -> None:
    panel = empty(weekdays(3), ["A", "B"])
    assert panel.shape == (3, 2)
    assert not panel.has_bar.any()
    assert (panel.split == 1).all()
    assert (panel.dividend == 0).all()
    assert (panel.mark == 0).all()
    assert np.isnan(panel.close).all()


def test_the_sample_is_found_where_it_is_installed() -> None:
    assert Path(_file()).is_file()
    assert replace(panel_of([1.0]), sources=("sample",)).only(["S00"]).sources == ("sample",)
