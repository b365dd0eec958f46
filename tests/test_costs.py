"""Commissions and slippage: worked by hand, then by the rules every schedule must obey."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketagent.costs import Costs, parse
from marketagent.errors import UsageError

SCHEDULES = ["none", "bps:0", "bps:7.5", "ibkr-fixed"]

shares = st.one_of(st.floats(0, 1e7, allow_subnormal=False), st.integers(0, 10**7).map(float))
prices = st.floats(0.0001, 1e6)
bps = st.floats(0, 1000, allow_subnormal=False)


@pytest.mark.parametrize(
    ("quantity", "price", "expected"),
    [
        (100, 25.0, 1.00),  # 0.005 * 100 = 0.50, below the floor of 1.00; the broker's own first example
        (1_000, 25.0, 5.00),  # 0.005 * 1000; its second
        (1_000, 0.25, 2.50),  # 0.005 * 1000 = 5.00, above the ceiling of 1 % of 250; its third
        (-1_000, 25.0, 5.00),  # a sale costs the same
        (200, 100.0, 1.00),  # 0.005 * 200, just the floor
        (201, 100.0, 1.005),
        (2, 25.0, 0.50),  # the ceiling of 1 % of 50 is stronger than the floor
        (0.5, 100.0, 0.50),  # half a share: 1 % of 50
        (0, 25.0, 0.0),
    ],
)
def test_ibkr_fixed_charges_what_its_price_list_says(quantity: float, price: float, expected: float) -> None:
    assert parse("ibkr-fixed").commission([quantity], [price])[0] == pytest.approx(expected, rel=1e-15, abs=0)


def test_bps_are_of_the_traded_value_on_either_side() -> None:
    # 100 * 50 = 5000; 2.5 basis points of it are 1.25
    np.testing.assert_allclose(parse("bps:2.5").commission([100, -100, 0], [50.0, 50.0, 50.0]), [1.25, 1.25, 0.0])


def test_none_is_free() -> None:
    np.testing.assert_array_equal(parse("none").commission([100, -3.5], [50.0, 1e6]), [0.0, 0.0])


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_symbol_without_a_price_costs_nothing_only_if_it_is_not_traded(name: str) -> None:
    found = parse(name).commission([0.0, -0.0, 5.0, np.nan], [np.nan, np.nan, np.nan, 10.0])
    np.testing.assert_array_equal(found, [0.0, 0.0, np.nan, np.nan])


@pytest.mark.parametrize("name", SCHEDULES)
@given(less=shares, more=shares, price=prices)
def test_more_shares_never_cost_less_and_no_commission_is_negative(
    name: str, less: float, more: float, price: float
) -> None:
    less, more = sorted((less, more))
    few, many, sold = parse(name).commission([less, more, -more], price)
    assert 0 <= few <= many
    assert many == sold


@given(low=bps, high=bps, quantity=shares, price=prices)
def test_more_basis_points_never_cost_less(low: float, high: float, quantity: float, price: float) -> None:
    low, high = sorted((low, high))
    cheap, dear = parse(f"bps:{low!r}", low), parse(f"bps:{high!r}", high)
    assert cheap.commission(quantity, price) <= dear.commission(quantity, price)
    assert price <= cheap.fill_price(price, quantity + 1) <= dear.fill_price(price, quantity + 1)
    assert price >= cheap.fill_price(price, -quantity - 1) >= dear.fill_price(price, -quantity - 1) > 0


@given(price=prices)
def test_without_slippage_or_without_a_trade_the_price_is_untouched(price: float) -> None:
    assert (parse("none").fill_price([price, price], [7, -7]) == price).all()
    assert parse("none", 25).fill_price(price, 0) == price


def test_slippage_is_against_the_trader() -> None:
    # 20 basis points of 50 are 0.10
    found = parse("ibkr-fixed", 20).fill_price([50.0, 50.0, np.nan], [300, -1, 5])
    np.testing.assert_allclose(found, [50.10, 49.90, np.nan], rtol=1e-15)


@pytest.mark.parametrize("text", ["none", "bps:2.5", "bps:10", "bps:0.1", "bps:1e-05", "ibkr-fixed"])
def test_a_name_reads_back_as_the_same_costs(text: str) -> None:
    costs = parse(text, 1.5)
    assert costs.name == text
    assert parse(costs.name, costs.slippage_bps) == costs
    assert pickle.loads(pickle.dumps(costs)) == costs


def test_case_and_surrounding_blanks_do_not_matter() -> None:
    assert parse(" IBKR-Fixed ") == parse("ibkr-fixed")
    assert parse("BPS: 5") == parse("bps:5.0") == Costs(name="bps:5", bps=5.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ibkr-fixd", "unknown costs 'ibkr-fixd'; did you mean ibkr-fixed? (known: none, bps:X, ibkr-fixed)"),
        ("tiered", "unknown costs 'tiered' (known: none, bps:X, ibkr-fixed)"),
        ("bps", "unknown costs 'bps'; did you mean bps:X? (known: none, bps:X, ibkr-fixed)"),
        ("none:3", "unknown costs 'none:3'; did you mean none? (known: none, bps:X, ibkr-fixed)"),
        ("", "unknown costs '' (known: none, bps:X, ibkr-fixed)"),
        ("bps:-1", "costs 'bps:-1': '-1' is not a number of basis points from 0 to 1000"),
        ("bps:nan", "costs 'bps:nan': 'nan' is not a number of basis points from 0 to 1000"),
        ("bps:", "costs 'bps:': '' is not a number of basis points from 0 to 1000"),
        ("bps:5%", "costs 'bps:5%': '5%' is not a number of basis points from 0 to 1000"),
        ("bps:inf", "costs 'bps:inf': 'inf' is not a number of basis points from 0 to 1000"),
        ("bps:1000.1", "costs 'bps:1000.1': '1000.1' is not a number of basis points from 0 to 1000"),
    ],
)
def test_what_cannot_be_understood_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse(text)
    assert str(refusal.value) == message


@pytest.mark.parametrize("slippage", [-0.1, float("nan"), float("inf"), 1001.0])
def test_slippage_that_makes_no_sense_is_refused(slippage: float) -> None:
    with pytest.raises(UsageError, match=r"slippage_bps .* is not a number of basis points from 0 to 1000"):
        parse("none", slippage)
