"""Target weights into share quantities: by hand, then by the rules every order obeys."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from marketagent.orders import FRACTIONAL, WHOLE, cut, order_quantities, order_quantity, snap

NAN = np.nan


def one(
    target: float, shares: float, close: float, equity: float = 10_000.0, band: float = 0.0, steps: float = WHOLE
) -> float:
    found = order_quantities(np.array([target]), np.array([shares]), np.array([close]), equity, band=band, steps=steps)
    return float(found[0])


@pytest.mark.parametrize(
    ("target", "shares", "close", "expected"),
    [
        (0.5, 0, 20.0, 250),  # 5000 at 20
        (0.5, 0, 20.01, 249),  # 249.87 is cut
        (0.5, 300, 20.0, -50),
        (0.0, 300, 20.0, -300),
        (NAN, 300, 20.0, 0),  # left alone
        (0.5, 300, NAN, 0),  # no bar, no size
        (0.0, 300, NAN, 0),
        (-0.5, 0, 20.01, -249),  # a short position is cut towards zero too
        (-0.5, 100, 20.0, -350),
        (0.29, 0, 0.29, 10_000),  # 2900 / 0.29 is 9999.999999999998 in floats
        (1.0, 0, 20_000.0, 0),  # less than one share
    ],
)
def test_an_order_brings_the_position_to_its_share_of_the_account(
    target: float, shares: float, close: float, expected: float
) -> None:
    assert one(target, shares, close) == expected


@pytest.mark.parametrize(
    ("band", "shares", "expected"),
    [
        (0.0, 249, 1),
        (0.25, 249, 0),
        (0.25, 188, 0),  # 188 of 250 are 24.8 % away
        (0.25, 187, 63),  # 25.2 %
        (0.25, 312, 0),
        (0.25, 313, -63),
        (0.25, 0, 250),  # an entry
        (0.25, -10, 260),  # the other side
        (1.0, 1, 0),  # anything held is near
        (1.0, 100_000, 0),  # however far it ran
        (1.0, 0, 250),
        (1.0, -10, 260),
    ],
)
def test_a_position_within_the_band_is_left_alone(band: float, shares: float, expected: float) -> None:
    assert one(0.5, shares, 20.0, band=band) == expected


@pytest.mark.parametrize("band", [0.0, 0.25, 1.0])
def test_an_exit_always_trades(band: float) -> None:
    assert one(0.0, 1, 20.0, band=band) == -1
    assert one(0.0, -1, 20.0, band=band) == 1


@pytest.mark.parametrize("equity", [0.0, -5.0, NAN])
def test_an_account_worth_nothing_trades_nothing(equity: float) -> None:
    assert one(0.0, 300, 20.0, equity=equity) == 0
    assert one(0.5, 0, 20.0, equity=equity) == 0


shares_held = st.one_of(st.just(0.0), st.integers(-(10**6), 10**6).map(float), st.floats(-1e6, 1e6))


@pytest.mark.parametrize("steps", [WHOLE, FRACTIONAL])
@given(
    target=st.one_of(st.just(NAN), st.just(0.0), st.floats(-2, 2)),
    shares=shares_held,
    close=st.one_of(st.just(NAN), st.floats(0.0001, 1e6)),
    equity=st.one_of(st.floats(-1e6, 1e9), st.just(NAN)),
    band=st.sampled_from([0.0, 0.25, 1.0]),
)
def test_one_order_in_numbers_is_what_it_is_in_arrays_to_the_bit(
    steps: float, target: float, shares: float, close: float, equity: float, band: float
) -> None:
    found = order_quantity(target, shares, close, equity, band=band, steps=steps)
    assert found == one(target, shares, close, equity, band, steps)


def test_fractions_are_millionths() -> None:
    assert one(1.0, 0, 3.0, equity=1.0, steps=FRACTIONAL) == 0.333333
    assert one(1.0, 0.333333, 3.0, equity=1.0, steps=FRACTIONAL) == 0.0


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 10**6), steps=st.sampled_from([WHOLE, FRACTIONAL]))
def test_a_filled_order_leaves_nothing_to_order(seed: int, steps: float) -> None:
    rng = np.random.default_rng(seed)
    close, targets = 10.0 ** rng.uniform(-3, 4, 20), rng.uniform(-1, 1, 20)
    shares = snap(rng.uniform(-1000, 1000, 20), steps)
    order = order_quantities(targets, shares, close, 1e5, band=0.0, steps=steps)
    after = snap(shares + order, steps)
    assert_array_equal(order_quantities(targets, after, close, 1e5, band=0.0, steps=steps), np.zeros(20))
    assert (np.abs(after * close) <= np.abs(targets) * 1e5 * (1 + 1e-12) + close * 1e-8).all()
    gone = snap(after + order_quantities(targets * 0, after, close, 1e5, band=0.0, steps=steps), steps)
    assert_array_equal(gone, np.zeros(20))


@given(st.floats(-1e9, 1e9), st.sampled_from([WHOLE, FRACTIONAL]))
def test_a_quantity_is_cut_towards_zero_to_whole_steps(quantity: float, steps: float) -> None:
    found = float(cut(np.array(quantity), steps))
    assert abs(found) <= abs(quantity) + 2e-9 / steps + abs(quantity) * 1e-15
    assert abs(quantity - found) * steps < 1 + abs(quantity) * steps * 1e-15
    assert found == float(snap(np.array(found), steps))
