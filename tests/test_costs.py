"""Commissions and slippage: worked by hand, then by the rules every schedule must obey."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketagent.costs import Costs, parse
from marketagent.errors import UsageError

SCHEDULES = ["none", "bps:0", "bps:7.5", "ibkr-fixed", "ibkr-tiered", "alpaca"]
# Every number that can be charged acts in one of them.
EVERY = [
    *(parse(name, slippage="fixed:3") for name in SCHEDULES),
    Costs(name="all", slippage_bps=7.0, bps=1.5, minimum=0.4, ceiling=0.02, tiers=((0, 0.02), (500, 0.01), (9000, 0.001)),
          on_commission=0.07, exchange_per_share=0.003, clearing_per_share=0.0002, clearing_ceiling=0.005, sec_rate=8e-6,
          taf_per_share=0.0002, taf_maximum=7.27, cat_per_share=3e-5, whole_cents=True),
    Costs(name="cents", per_share=0.01, minimum=1.0, ceiling=0.5, sec_rate=2e-5, cat_per_share=1e-4),
]  # fmt: skip
KNOWN = "known: none, bps:X, ibkr-fixed, ibkr-tiered, alpaca"

shares = st.one_of(st.floats(0, 1e7, allow_subnormal=False), st.integers(0, 10**7).map(float))
signed = st.tuples(shares, st.sampled_from([1.0, -1.0])).map(lambda pair: pair[0] * pair[1])
prices = st.floats(0.0001, 1e6)
bps = st.floats(0, 1000, allow_subnormal=False)


@pytest.mark.parametrize(
    ("quantity", "price", "expected"),
    [
        (100, 25.0, 1.00),  # 0.005 * 100 = 0.50, below the floor of 1.00; the broker's own first example
        (1_000, 25.0, 5.00),  # 0.005 * 1000; its second
        (1_000, 0.25, 2.50),  # 0.005 * 1000 = 5.00, above the ceiling of 1 % of 250; its third
        (200, 100.0, 1.00),  # 0.005 * 200, just the floor
        (201, 100.0, 1.005),
        (2, 25.0, 0.50),  # the ceiling of 1 % of 50 is stronger than the floor
        (0.5, 100.0, 0.50),  # half a share: 1 % of 50
        (0, 25.0, 0.0),
    ],
)
def test_ibkr_fixed_charges_what_its_price_list_says(quantity: float, price: float, expected: float) -> None:
    assert parse("ibkr-fixed@2024-01-15").commission([quantity], [price])[0] == pytest.approx(
        expected, rel=1e-15, abs=0
    )


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
    assert 0 <= few <= many <= sold


@pytest.mark.parametrize("costs", EVERY, ids=lambda costs: costs.name)
@given(quantity=signed, price=prices, traded=shares, pressure=st.one_of(st.none(), st.floats(0, 1)))
def test_one_order_costs_in_numbers_what_it_costs_in_arrays_to_the_bit(
    costs: Costs, quantity: float, price: float, traded: float, pressure: float | None
) -> None:
    assert costs.commission_of(quantity, price, traded) == costs.commission(quantity, price, traded)
    paid = costs.fill_price_of(price, quantity, pressure)
    assert paid == costs.fill_price(price, quantity, pressure)
    assert isinstance(paid, float)


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


@pytest.mark.parametrize(
    "text", ["none", "bps:2.5", "bps:10", "bps:0.1", "bps:1e-05", *SCHEDULES[3:], "ibkr-tiered@2023-06-01"]
)
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
        ("ibkr-fixd", f"unknown costs 'ibkr-fixd'; did you mean ibkr-fixed? ({KNOWN})"),
        ("house", f"unknown costs 'house' ({KNOWN})"),
        ("bps", f"unknown costs 'bps'; did you mean bps:X? ({KNOWN})"),
        ("none:3", f"unknown costs 'none:3'; did you mean none? ({KNOWN})"),
        ("", f"unknown costs '' ({KNOWN})"),
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


# The published schedules, worked by hand -----------------------------------------------------------------------------

# Interactive Brokers' own comparison of its price lists (interactivebrokers.com, "Stock and ETF Fixed vs. Tiered Pricing
# Comparison Examples"), at the SEC's fee of 0.000008 and a FINRA maximum of 7.27, which were in force in June 2023.
# Sell 30,000,000 shares at 5, removing liquidity: 1,050 + 5,400 + 25,500 + 10,000 by tiers, exchange 90,000, clearing
# 6,000, SEC 1,200, FINRA 23.49, NYSE 7.34, TAF 7.27. Sell 200,000 at 5: 700 + 600 + 40 + 8 + 0.39 + 0.12 + 7.27.


@pytest.mark.parametrize(
    ("name", "shares_sold", "published"),
    [
        ("ibkr-tiered", 30_000_000, 139_188.10),
        ("ibkr-tiered", 200_000, 1_355.78),
        ("ibkr-fixed", 30_000_000, 151_207.27),
        ("ibkr-fixed", 200_000, 1_015.27),
    ],
)
def test_the_brokers_own_examples_come_out_to_the_cent(name: str, shares_sold: int, published: float) -> None:
    found = parse(f"{name}@2023-06-01").commission([-shares_sold], [5.0])[0]
    assert found == pytest.approx(published, abs=0.005)


def test_a_tiered_order_by_hand() -> None:
    # 1,000 bought at 20, today's fees: 3.50 + 0.000735 * 3.50 + 3.00 + 0.20 + CAT 0.0265; sold: SEC 0.412, TAF 0.195 more
    bought, sold = parse("ibkr-tiered").commission([1_000, -1_000], [20.0, 20.0])
    assert bought == pytest.approx(3.50 + 0.0025725 + 3.00 + 0.20 + 0.0265, rel=1e-12)
    assert sold - bought == pytest.approx(0.412 + 0.195, rel=1e-9)


def test_the_ceiling_is_stronger_than_the_floor_in_tiers_and_the_clearing_fee_has_its_own() -> None:
    # 10 at 0.02: a commission of 1 % of 0.20, clearing of half a percent of it and not 0.002; exchange 0.03, CAT 0.000265
    found = parse("ibkr-tiered").commission([10], [0.02])[0]
    assert found == pytest.approx(0.002 * 1.000735 + 0.001 + 0.03 + 0.000265, rel=1e-12)


@pytest.mark.parametrize(
    ("traded", "commission"), [(0, 700.0), (200_000, 350.0 + 200.0), (300_000, 400.0), (3e6, 300.0)]
)
def test_the_month_so_far_decides_the_tier_and_an_order_is_split_at_its_edge(traded: float, commission: float) -> None:
    tiered = parse(
        "ibkr-tiered", own={"ibkr-tiered": {"on_commission": 0, "exchange_per_share": 0, "cat_per_share": 0}}
    )
    found = tiered.commission([200_000], [5.0], traded)[0]
    assert found == pytest.approx(commission + 40.0, rel=1e-12)  # 0.0002 a share of clearing


def test_alpaca_charges_what_regulators_charge_to_the_cent_above() -> None:
    # 100 at 50 sold: SEC 0.103, TAF 0.0195, CAT 0.00265: 0.12515; bought: CAT alone, 0.00265 (docs: rounded up, 1 cent)
    sold, bought, nothing = parse("alpaca").commission([-100, 100, 0], [50.0, 50.0, 50.0])
    assert (sold, bought, nothing) == (0.13, 0.01, 0.0)


def test_the_trading_activity_fee_has_a_maximum() -> None:
    # 100,000 shares: 0.000166 each would be 16.60; SEC 27.80 a million of 100,000
    found = parse("alpaca@2024-06-03").commission([-100_000], [1.0])[0]
    assert found == pytest.approx(8.30 + 2.78, abs=1e-9)


@pytest.mark.parametrize(
    ("day", "due"), [("2022-06-01", 2.29), ("2023-01-15", 2.435), ("2025-05-14", 0.166), ("2026-04-04", 2.2815)]
)
def test_regulators_fees_are_those_of_the_day(day: str, due: float) -> None:
    # 1,000 sold at 100. 22.90 a million; then TAF 0.000145 with it; no SEC fee, TAF 0.000166; 20.60, 0.000195 and CAT
    own = {"free": {"per_share": 0}}
    assert parse(f"free@{day}", own=own).commission([-1_000], [100.0])[0] == pytest.approx(due, rel=1e-12)


def test_the_users_own_numbers_replace_the_lists_and_make_new_ones() -> None:
    mine = parse("mine", own={"mine": {"per_share": 0.004, "minimum": 0.5, "sec_rate": 0, "taf_per_share": 0}})
    assert mine.commission([1_000, -10], [10.0, 10.0]).tolist() == pytest.approx([4.0265, 0.500265])
    cheaper = parse("ibkr-fixed", own={"ibkr-fixed": {"minimum": 0.35}})
    assert cheaper.commission([10], [10.0])[0] == pytest.approx(0.35 + 0.000265)
    assert (cheaper.minimum, cheaper.per_share) == (0.35, 0.005)
    assert parse("Mine", own={"Mine": {"bps": 1}}).bps == 1.0


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"per_shar": 1}, r"unknown charge fees.x.per_shar; did you mean per_share\?"),
        ({"per_share": -1}, "fees.x.per_share is -1; it must be a number from 0 to 1000"),
        ({"sec_rate": 27.8}, "fees.x.sec_rate is 27.8; it must be a number from 0 to 1"),
        ({"minimum": True}, "fees.x.minimum is True"),
        ({"minimum": float("nan")}, "fees.x.minimum is nan"),
        ({"whole_cents": 1}, "fees.x.whole_cents is 1; it must be true or false"),
        ({"tiers": [[100, 0.1]]}, "fees.x.tiers is"),
        ({"tiers": [[0, 0.1], [0, 0.2]]}, "fees.x.tiers is"),
        (3, "fees.x must be a table"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(table: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse("x", own={"x": table})  # type: ignore[dict-item]


def test_a_day_before_the_list_and_no_day_are_refused() -> None:
    with pytest.raises(UsageError, match="regulators' fees are listed from 2022-05-14 on"):
        parse("alpaca@2020-01-01")
    with pytest.raises(UsageError, match="'june' is not a date"):
        parse("alpaca@june")


# Slippage ------------------------------------------------------------------------------------------------------------


def test_half_the_spread_is_paid_on_either_side() -> None:
    costs = parse("none", slippage="spread:4")
    assert costs.fill_price([100.0, 100.0], [1, -1]).tolist() == pytest.approx([100.04, 99.96])
    assert parse("none", slippage="fixed:1,spread:4").slippage_bps == 5.0
    assert parse("none", slippage_bps=2, slippage="spread:4").slippage_bps == 6.0


def test_the_impact_grows_with_the_root_of_the_order() -> None:
    # a share moves the price by 0.0001: 100 by 0.001, 10,000 by 0.01; a half at most
    costs = parse("none", slippage="sqrt:0.5")
    found = costs.fill_price([100.0] * 4, [100, -10_000, 1e12, -1e12], [0.0001] * 4)
    assert found.tolist() == pytest.approx([100.1, 99.0, 150.0, 50.0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sqr:1", r"unknown slippage 'sqr:1'; did you mean sqrt"),
        ("sqrt", r"slippage 'sqrt' lacks its number, e\.g\. sqrt:1"),
        ("fixed", r"slippage 'fixed' lacks its number, e\.g\. fixed:5"),
        ("volume:0.1,spread: ", r"slippage 'spread:' lacks its number, e\.g\. spread:10"),
        (",", r"slippage ',' has nothing where one should be \(known: fixed:BPS"),
        ("sqrt:1,", "slippage 'sqrt:1,' has nothing where one should be"),
        ("sqrt:-1", "is not a number from 0 to 100"),
        ("volume:0", "is not a number from 1e-09 to 1"),
        ("volume:2", "is not a number from 1e-09 to 1"),
        ("fixed:x", "is not a number of basis points"),
        ("sqrt:1,sqrt:2", "says twice"),
    ],
)
def test_slippage_that_cannot_be_understood_is_refused(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse("none", slippage=text)


def test_fixed_slippage_is_said_once() -> None:
    with pytest.raises(UsageError, match="says twice"):
        parse("none", 5, "fixed:5")


def test_a_simulation_that_knows_less_is_told_what_it_does_not_know() -> None:
    known = ("slippage_bps", "bps", "per_share", "minimum", "ceiling")
    assert parse("bps:5", 3).unknown_to(known) == []
    assert parse("ibkr-fixed@2024-01-15", slippage="volume:0.1").unknown_to(known) == [
        "sec_rate", "taf_per_share", "taf_maximum", "participation",
    ]  # fmt: skip


@given(quantity=st.floats(-1e6, 1e6), price=st.floats(0.01, 1e4), low=st.floats(0, 5), high=st.floats(0, 5))
def test_more_impact_is_never_better_and_a_sale_still_fetches_something(
    quantity: float, price: float, low: float, high: float
) -> None:
    mild, harsh = (parse("none", slippage=f"sqrt:{c!r}") for c in sorted((low, high)))
    one, other = (c.fill_price([price], [quantity], [c.impact * 0.001])[0] for c in (mild, harsh))
    assert one * quantity <= other * quantity
    assert other > 0
