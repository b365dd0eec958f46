"""Volume limits, impact, tiers of a month and the price of nights: by hand, then by the rules all costs must obey."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markets import panel_of, random_market, random_targets
from numpy.testing import assert_array_equal

from marketagent.costs import Costs, parse
from marketagent.events import FILL
from marketagent.liquidity import liquidity
from marketagent.orders import FRACTIONAL, WHOLE
from marketagent.panel import Panel
from marketagent.simulate import Simulation, simulate

NAN = np.nan


def run_of(panel: Panel, targets: object, costs: Costs, cash: float = 1000.0, **options: object) -> Simulation:
    wanted = np.array(targets, dtype=np.float64).reshape(panel.shape)
    return simulate(wanted, panel, costs, cash, **options)  # type: ignore[arg-type]


# By hand -------------------------------------------------------------------------------------------------------------


def test_an_order_is_filled_to_its_share_of_the_volume_and_the_rest_is_gone() -> None:
    # Every bar has 1,000 shares; 5 % are 50. 100 are wanted, 50 are had, and no order comes after them.
    run = run_of(panel_of([10] * 4), [1, NAN, NAN, NAN], parse("none", slippage="volume:0.05"))
    assert run.events.quantity.tolist() == [50.0]
    assert run.shares.tolist() == [50.0]


def test_a_sale_is_limited_like_a_purchase() -> None:
    run = run_of(panel_of([10] * 5), [0.8, NAN, 0, NAN, NAN], parse("none", slippage="volume:0.0304"))
    assert run.events.quantity.tolist() == [30.0, -30.0]
    run = run_of(panel_of([10] * 5), [-1.0, NAN, NAN, NAN, NAN], parse("none", slippage="volume:0.0304"))
    assert run.events.quantity.tolist() == [-30.0]


def test_a_bar_without_volume_fills_nothing() -> None:
    panel = panel_of([10] * 3)
    panel.raw.volume[1] = 0
    run = run_of(panel, [1, NAN, NAN], parse("none", slippage="volume:0.5"))
    assert (len(run.events), run.unfilled) == (0, 1)


def test_the_square_root_law_by_hand() -> None:
    # Returns of +10 % and back, six of them before the fill: the sample deviation of (.1, -1/11) three times over.
    closes = [10.0, 11, 10, 11, 10, 11, 10, 10]
    deviation = np.std([0.1, -1 / 11] * 3, ddof=1)
    run = run_of(panel_of(closes), [NAN] * 6 + [0.5, NAN], parse("none", slippage="sqrt:0.2"))
    # 50 shares against 1,000 a bar
    assert run.events.quantity.tolist() == [50.0]
    assert run.events.price[0] == pytest.approx(10 * (1 + 0.2 * deviation * np.sqrt(50 / 1000)), rel=1e-12)


def test_an_order_without_a_history_to_measure_it_by_is_not_filled() -> None:
    run = run_of(panel_of([10, 11, 10, 11]), [0.5, NAN, NAN, NAN], parse("none", slippage="sqrt:0.2"))
    assert (len(run.events), run.unfilled) == (0, 1)


def test_a_split_restates_the_volume_that_an_order_is_measured_by() -> None:
    closes = [10.0, 11, 10, 11, 10, 11, 10, 5]
    panel = panel_of(closes, split={(7, 0): 2.0})
    plain = liquidity(panel_of([*closes[:7], 10]), 7, parse("none", slippage="sqrt:1"))
    split = liquidity(panel, 7, parse("none", slippage="sqrt:1"))
    assert plain is not None
    assert split is not None
    # 2,000 of the new shares a bar: each moves the price by less, a root of two
    assert plain.pressure is not None
    assert split.pressure is not None
    assert split.pressure[0] == pytest.approx(plain.pressure[0] / np.sqrt(2))


def test_impact_is_the_same_to_the_bit_whatever_came_long_before_and_whoever_else_is_there() -> None:
    costs = parse("none", slippage="sqrt:1,volume:0.1")
    for seed in range(20):
        panel = random_market(seed)
        alone = panel.only([panel.symbols[2]])
        late = Panel(
            panel.sessions[20:],
            panel.symbols,
            type(panel.raw)(*(getattr(panel.raw, name)[20:] for name in type(panel.raw).__dataclass_fields__)),
            panel.split[20:],
            panel.dividend[20:],
        )
        whole = liquidity(panel, 50, costs)
        assert whole is not None
        for other, row, columns in ((late, 30, slice(None)), (alone, 50, slice(2, 3))):
            found = liquidity(other, row, costs)
            assert found is not None
            assert_array_equal(found.limit, whole.limit[columns])
            assert_array_equal(found.pressure, whole.pressure[columns])  # type: ignore[index]  # impact is asked for


def test_the_shares_of_a_month_make_the_rest_of_it_cheaper() -> None:
    # Rows 1 and 2 are the last two of January, row 3 the first of February. A cent a share up to 100 of them, then nothing.
    own = {"mine": {"tiers": [[0, 0.01], [100, 0.0]], "sec_rate": 0, "taf_per_share": 0, "cat_per_share": 0}}
    panel = panel_of([10] * 5, first="2013-01-29")
    run = run_of(panel, [0.8, 0.4, 0.8, 0.0, NAN], parse("mine", own=own), cash=1100.0)
    assert run.events.quantity.tolist()[:3] == [88.0, -45.0, 44.0]
    # 88 and 12 of the 45 are January's first hundred; February starts again with the fill of its first
    assert run.events.commission[:3].tolist() == pytest.approx([0.88, 0.12, 0.44])


def test_a_night_short_costs_a_252nd_of_the_rate_at_the_close_before() -> None:
    # 50 short at 10 and 12: the nights after rows 1 and 2 are paid on rows 2 and 3, that of row 0 nobody owed for.
    run = run_of(panel_of([10, 10, 12, 12]), [-0.5, NAN, NAN, NAN], parse("none", borrow_rate=0.252))
    assert run.lent.tolist() == pytest.approx([0, 0, 0.5, 0.6])
    assert run.cash.tolist() == pytest.approx([1000, 1500, 1499.5, 1498.9])


def test_a_night_in_debt_costs_interest_on_interest() -> None:
    # Covering at 40 what was sold at 10 is a buy the cash does not pay for; a dividend on a short position is owed.
    panel = panel_of([10.0] * 5, dividend={(2, 0): 40.0})
    run = run_of(panel, [-0.5, *[NAN] * 4], parse("none", margin_rate=0.252))
    # cash 1500 less 50 * 40 is -500; then 0.1 % of it a night
    assert run.cash.tolist() == pytest.approx([1000, 1500, -500, -500.5, -501.0005])


def test_a_quiet_stretch_costs_what_the_same_days_cost_one_by_one() -> None:
    costs = parse("bps:3", borrow_rate=0.5, margin_rate=0.9)
    charged = 0
    for seed in range(30):
        panel = random_market(seed)
        targets = random_targets(seed, panel, long_only=False)
        lone = simulate(targets, panel, costs, 10_000.0)
        # a target that is never far from what is held decides on every row, and trades on none but the same
        busy = np.where(np.isfinite(targets).any(axis=1)[:, None], targets, NAN)
        assert_array_equal(simulate(busy, panel, costs, 10_000.0).equity, lone.equity)
        value = lone.lent.sum()
        flows = lone.events
        paid = np.where(flows.kind == 0, -flows.quantity * flows.price - flows.commission, 0.0).sum()
        paid += np.where(flows.kind == 2, flows.quantity * flows.price, 0.0).sum()
        paid += np.where(flows.kind >= 3, -flows.quantity * flows.price, 0.0).sum()
        assert lone.cash[-1] == pytest.approx(10_000 + paid - value, abs=0.001)
        charged += value > 0
    assert charged > 10


# Rules ---------------------------------------------------------------------------------------------------------------


def in_and_out(seed: int, rows: int = 80) -> tuple[Panel, np.ndarray]:
    """One symbol on a wild price path, and a target that is all of the account or nothing of it."""
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.04, rows)))
    panel = panel_of(close, opens=close * np.exp(rng.normal(0, 0.02, rows)))
    panel.raw.volume[:] = rng.integers(1_000, 10**6, (rows, 1))
    targets = np.full((rows, 1), NAN)
    for k, t in enumerate(np.sort(rng.choice(np.arange(8, rows - 1), 12, replace=False))):
        targets[t] = (k + 1) % 2
    return panel, targets


@given(
    seed=st.integers(0, 10**6),
    low=st.floats(0, 300),
    high=st.floats(0, 300),
    kind=st.sampled_from(["bps", "slip", "sqrt"]),
)
def test_more_cost_never_raises_a_return(seed: int, low: float, high: float, kind: str) -> None:
    """Of an account that is all in or all out: one that holds a part of a falling stock may be glad to hold less of it."""
    panel, targets = in_and_out(seed)
    made = {
        "bps": lambda x: parse(f"bps:{x!r}"),
        "slip": lambda x: parse("bps:1", slippage=f"spread:{x!r}"),
        "sqrt": lambda x: parse("bps:1", slippage=f"sqrt:{x / 300!r}"),
    }[kind]
    cheap, dear = (
        simulate(targets, panel, made(x), 50_000.0, steps=FRACTIONAL, band=1.0).equity for x in sorted((low, high))
    )
    assert (dear <= cheap + 0.01).all()  # a millionth of a share may fall to either side


@given(seed=st.integers(0, 10**6), small=st.floats(3, 7), large=st.floats(3, 7), coefficient=st.floats(0, 1))
def test_more_size_never_raises_a_return_where_orders_have_an_impact(
    seed: int, small: float, large: float, coefficient: float
) -> None:
    panel, targets = in_and_out(seed)
    costs = parse("bps:2", slippage=f"sqrt:{coefficient!r}")
    few, many = (
        simulate(targets, panel, costs, 10.0**size, steps=FRACTIONAL, band=1.0).equity / 10.0**size
        for size in sorted((small, large))
    )
    assert (many <= few * (1 + 1e-6) + 1e-6).all()


@pytest.mark.parametrize("name", ["ibkr-fixed", "ibkr-tiered", "alpaca"])
@pytest.mark.parametrize("steps", [WHOLE, FRACTIONAL])
def test_cash_never_goes_below_zero_in_a_long_only_run_at_any_costs(name: str, steps: float) -> None:
    costs = parse(name, slippage="sqrt:1,volume:0.3,spread:10", margin_rate=0.1)
    filled = 0
    for seed in range(40):
        panel = random_market(500 + seed, sessions=40)
        run = simulate(random_targets(seed, panel), panel, costs, (200.0, 50_000.0, 1e8)[seed % 3], steps=steps)
        assert run.cash.min() >= 0
        assert run.shares.min() >= 0
        assert run.lent.sum() == 0
        done = run.events.kind == FILL
        volume = panel.raw.volume[run.events.row[done], run.events.column[done]]
        assert (np.abs(run.events.quantity[done]) <= 0.3 * volume).all()
        filled += int(done.sum())
    assert filled > 200


def test_a_run_of_few_rows_is_the_beginning_of_a_longer_one_at_any_costs() -> None:
    costs = parse("ibkr-tiered", slippage="sqrt:1,volume:0.3", borrow_rate=0.1, margin_rate=0.1)
    for seed in range(15):
        panel = random_market(700 + seed, longest_halt=4)
        targets = random_targets(seed, panel, long_only=False)
        whole, short = (simulate(targets[:rows], panel.head(rows), costs, 1e6) for rows in (60, 41))
        gone = panel.last_bar[40] < 37
        if not (gone & (panel.last_bar[-1] > panel.last_bar[40])).any():
            assert_array_equal(short.cash, whole.cash[:41])
            assert_array_equal(short.lent, whole.lent[:41])
