"""The simulation against a second one that is slow and obvious, and its rules one by one by hand."""

from typing import Any

import numpy as np
import pytest
from markets import barely_dearer, halted_at_the_end, panel_of, random_market, random_targets
from numpy.testing import assert_array_equal
from reference import Reference, reference

from marketagent.costs import Costs, parse
from marketagent.events import CLOSED, DIVIDEND, FILL, FRACTION, KINDS, SPLIT
from marketagent.orders import FRACTIONAL, WHOLE
from marketagent.panel import Panel
from marketagent.simulate import FILLS, Simulation, _Alone, _Run, simulate

NONE = parse("none")
DEAR = parse("ibkr-fixed", slippage_bps=20)
COSTS = [NONE, DEAR, parse("bps:30", slippage_bps=5)]
NAN = np.nan


def fills_of(run: Simulation) -> list[tuple[int, int, int, float]]:
    events = run.events
    rows = np.flatnonzero(events.kind == FILL)
    return [
        (int(events.row[k]), int(events.decided[k]), int(events.column[k]), float(events.quantity[k])) for k in rows
    ]


def agree(run: Simulation, expected: Reference, steps: float) -> None:
    """Whole shares are the same; of millionths the last may differ, where a float rounds the other way."""
    assert [row[:3] for row in fills_of(run)] == [row[:3] for row in expected.fills]
    near, cents = (0.0, 1e-6) if steps == WHOLE else (1e-9, 0.005)
    done, expected_done = [row[3] for row in fills_of(run)], [row[3] for row in expected.fills]
    np.testing.assert_allclose(done, expected_done, rtol=near, atol=near * 1e5)
    np.testing.assert_allclose(run.shares, [float(held) for held in expected.held[-1]], rtol=near, atol=near * 1e5)
    np.testing.assert_allclose(run.equity, [float(value) for value in expected.equity], rtol=1e-14, atol=cents)


# The two against each other on random markets ----------------------------------------------------------------------


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("steps", [WHOLE, FRACTIONAL])
@pytest.mark.parametrize("long_only", [True, False])
def test_the_engine_and_the_reference_agree_on_every_fill_and_every_session(
    fill: str, steps: float, long_only: bool
) -> None:
    for seed in range(12):
        panel = random_market(seed)
        targets = random_targets(seed, panel, long_only=long_only)
        costs, band, start = COSTS[seed % 3], (0.0, 0.25, 1.0)[seed % 4 % 3], (0, 7)[seed % 2]
        cash = (500.0, 100_000.0, 1e7)[seed // 4]
        run = simulate(targets, panel, costs, cash, start=start, fill=fill, steps=steps, band=band)
        expected = reference(targets, panel, costs, cash, start=start, fill=fill, steps=int(steps), band=band)
        assert len(expected.fills) > 5 or cash == 500.0
        agree(run, expected, steps)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("steps", [WHOLE, FRACTIONAL])
def test_cash_never_goes_below_zero_in_a_long_only_run(fill: str, steps: float) -> None:
    for seed in range(60):
        panel = random_market(1000 + seed, sessions=40)
        run = simulate(
            random_targets(seed, panel), panel, COSTS[seed % 3], (200.0, 50_000.0)[seed % 2], fill=fill, steps=steps
        )
        assert run.cash.min() >= 0
        assert run.shares.min() >= 0


@pytest.mark.parametrize("band", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("glance", [0, 512])
def test_looking_ahead_over_idle_decisions_changes_nothing(monkeypatch: Any, band: float, glance: int) -> None:
    passed: list[int] = []
    looked = _Run._pass_idle
    for seed in range(40):
        panel = random_market(seed, sessions=120, symbols=4)
        rng = np.random.default_rng(seed)
        # Held for weeks, decided on every day, for some long and for some short.
        wanted = np.repeat(rng.choice([0.0, 0.2, 0.3, -0.2], (8, 4)), 15, axis=0)
        targets = np.where(panel.has_bar & (rng.random(panel.shape) < 0.9), wanted, NAN)
        costs = parse("ibkr-tiered", slippage="sqrt:0.1", borrow_rate=0.05, margin_rate=0.07) if seed % 2 else DEAR
        options: dict[str, Any] = {"band": band, "fill": FILLS[seed % 3]}
        monkeypatch.setattr(_Run, "_pass_idle", lambda self, t: t)
        plain = simulate(targets, panel, costs, 1e5, **options)
        monkeypatch.setattr("marketagent.simulate.GLANCE", glance)
        monkeypatch.setattr(_Run, "_pass_idle", lambda self, t: passed.append(looked(self, t) - t) or t + passed[-1])
        ahead = simulate(targets, panel, costs, 1e5, **options)
        for name in ("equity", "cash", "exposure", "shares", "lent"):
            assert_array_equal(getattr(ahead, name), getattr(plain, name))
        for name in vars(plain.events):
            assert_array_equal(getattr(ahead.events, name), getattr(plain.events, name))
        assert (ahead.unfilled, ahead.closed) == (plain.unfilled, plain.closed)
    assert max(passed) > 10 or band == 0


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("steps", [WHOLE, FRACTIONAL])
def test_a_symbol_alone_is_traded_in_numbers_as_it_is_in_arrays(monkeypatch: Any, fill: str, steps: float) -> None:
    costs = [
        NONE,
        DEAR,
        parse("ibkr-tiered", slippage="volume:0.001,sqrt:0.4"),
        parse("alpaca", borrow_rate=0.1, margin_rate=0.2),
    ]
    for seed in range(120):
        panel = random_market(3000 + seed, sessions=70, symbols=1)
        targets = random_targets(seed, panel, long_only=seed % 3 > 0)
        held = np.repeat(np.random.default_rng(seed).choice([0.0, 0.4, 1.2, -0.3, NAN], (7, 1)), 10, axis=0)
        terms: dict[str, Any] = {"fill": fill, "steps": steps, "band": (0.0, 0.25, 1.0)[seed % 3], "start": seed % 5}
        for wanted in (targets, np.where(panel.has_bar, held, NAN)):
            monkeypatch.setattr("marketagent.simulate._Alone", _Alone)
            found = simulate(wanted, panel, costs[seed % 4], (900.0, 1e6)[seed % 2], **terms)
            monkeypatch.setattr("marketagent.simulate._Alone", _Run)
            expected = simulate(wanted, panel, costs[seed % 4], (900.0, 1e6)[seed % 2], **terms)
            for name in ("equity", "cash", "exposure", "shares", "lent"):
                assert_array_equal(getattr(found, name), getattr(expected, name))
            for name in vars(expected.events):
                assert_array_equal(getattr(found.events, name), getattr(expected.events, name))
            assert (found.unfilled, found.closed) == (expected.unfilled, expected.closed)


def test_equity_is_the_cash_and_positions_that_the_events_leave() -> None:
    for seed in range(30):
        panel = random_market(2000 + seed)
        run = simulate(random_targets(seed, panel), panel, DEAR, 100_000.0, fill=FILLS[seed % 3])
        cash, shares = 100_000.0, [0.0] * len(panel.symbols)
        events = run.events
        k = 0
        for t in range(len(panel.sessions)):
            while k < len(events) and events.row[k] == t:
                n, kind, quantity, price = events.column[k], events.kind[k], events.quantity[k], events.price[k]
                if kind == SPLIT:
                    shares[n] *= quantity
                elif kind == DIVIDEND:
                    assert quantity == pytest.approx(shares[n], rel=1e-12)
                    cash += quantity * price
                else:
                    shares[n] += quantity
                    cash -= quantity * price + events.commission[k]
                k += 1
            assert run.cash[t] == pytest.approx(cash, abs=0.001)
            value = sum(held * mark for held, mark in zip(shares, panel.mark[t], strict=True))
            assert run.equity[t] == pytest.approx(cash + value, abs=0.001)
            assert run.exposure[t] == pytest.approx(value, abs=0.001)
        assert k == len(events)


def test_a_shorter_history_gives_the_same_equity_up_to_its_end() -> None:
    compared = 0
    for seed in range(25):
        panel = random_market(3000 + seed, longest_halt=7)
        targets = random_targets(seed, panel)
        for fill in FILLS:
            whole_run = simulate(targets, panel, DEAR, 50_000.0, fill=fill)
            for rows in (7, 20, 33, 59):
                if not halted_at_the_end(panel, rows):
                    short = simulate(targets[:rows], panel.head(rows), DEAR, 50_000.0, fill=fill)
                    assert_array_equal(short.equity, whole_run.equity[:rows])
                    assert_array_equal(short.cash, whole_run.cash[:rows])
                    kept = whole_run.events.row < rows
                    assert_array_equal(short.events.quantity, whole_run.events.quantity[kept])
                    assert_array_equal(short.events.price, whole_run.events.price[kept])
                    compared += 1
    assert compared > 150


# The rules, one by one, by hand -------------------------------------------------------------------------------------


def run_of(panel: Panel, targets: object, cash: float = 1000.0, costs: Costs = NONE, **options: object) -> Simulation:
    wanted = np.array(targets, dtype=np.float64)
    return simulate(wanted.reshape(panel.shape), panel, costs, cash, **options)  # type: ignore[arg-type]


def events_of(run: Simulation) -> list[tuple[str, int, int, float, float]]:
    """(kind, row, decided, quantity, price) of every event."""
    e = run.events
    columns = (e.kind, e.row, e.decided, e.quantity, e.price)
    return [(KINDS[k], t, d, q, p) for k, t, d, q, p in zip(*(c.tolist() for c in columns), strict=True)]


def test_a_decision_on_the_close_fills_at_the_next_open() -> None:
    panel = panel_of([10, 20, 40], opens=[9, 16, 30])
    run = run_of(panel, [0.5, NAN, NAN])
    # 500 of 1000 at 10 are 50 shares; they cost 50 * 16 = 800
    assert events_of(run) == [("fill", 1, 0, 50.0, 16.0)]
    assert run.cash.tolist() == [1000.0, 200.0, 200.0]
    assert run.equity.tolist() == [1000.0, 1200.0, 2200.0]
    assert run.exposure.tolist() == [0.0, 1000.0, 2000.0]


def test_a_decision_on_the_close_fills_at_the_next_close_if_asked() -> None:
    run = run_of(panel_of([10, 20, 40], opens=[9, 16, 30]), [0.5, NAN, NAN], fill="next-close")
    assert events_of(run) == [("fill", 1, 0, 50.0, 20.0)]


def test_a_decision_fills_at_its_own_close_if_asked() -> None:
    run = run_of(panel_of([10, 20], opens=[9, 16]), [0.5, NAN], fill="same-close")
    assert events_of(run) == [("fill", 0, 0, 50.0, 10.0)]
    assert run.equity.tolist() == [1000.0, 1500.0]


def test_nothing_is_filled_after_the_last_session() -> None:
    assert len(run_of(panel_of([10, 10]), [NAN, 1.0]).events) == 0


def test_without_a_bar_on_the_fill_day_the_order_is_gone() -> None:
    run = run_of(panel_of([10, NAN, 10, 10]), [1.0, NAN, NAN, NAN])
    assert len(run.events) == 0
    assert run.unfilled == 1


def test_without_a_bar_on_the_day_nothing_is_decided() -> None:
    run = run_of(panel_of([10, NAN, 10, 10]), [NAN, 1.0, NAN, NAN])
    assert (len(run.events), run.unfilled) == (0, 0)


def test_sales_pay_for_purchases_of_the_same_session() -> None:
    panel = panel_of([[10, 10]] * 4)
    run = run_of(panel, [[0, 1], [NAN, NAN], [1, 0], [NAN, NAN]])
    assert events_of(run) == [("fill", 1, 0, 100.0, 10.0), ("fill", 3, 2, 100.0, 10.0), ("fill", 3, 2, -100.0, 10.0)]
    assert run.cash.tolist() == [1000.0, 0.0, 0.0, 0.0]


def test_purchases_are_scaled_down_together_when_the_open_is_dearer() -> None:
    # 50 and 50 shares are wanted; at 20 and 20 they cost 2000, the 1000 there is buys half of each.
    run = run_of(panel_of([[10, 10], [20, 20]], opens=[[10, 10], [20, 20]]), [[0.5, 0.5], [NAN, NAN]])
    assert [event[3] for event in events_of(run)] == [25.0, 25.0]
    assert run.cash.tolist() == [1000.0, 0.0]


def test_purchases_leave_room_for_their_commissions() -> None:
    # 100 shares at 10 and a dollar cost 1001; 99.9 of them are affordable, 99 whole ones: 990 and a dollar
    run = run_of(panel_of([10, 10]), [1.0, NAN], costs=parse("ibkr-fixed@2024-01-15"))
    assert events_of(run) == [("fill", 1, 0, 99.0, 10.0)]
    assert run.events.commission.tolist() == [1.0]
    assert run.cash.tolist() == [1000.0, 9.0]


@pytest.mark.parametrize(
    ("steps", "close", "cash", "bought"), [(WHOLE, 20.0, 100.0, 4.0), (FRACTIONAL, 1e6, 5.0, 4e-6)]
)
def test_one_share_fewer_is_bought_where_next_to_nothing_is_missing(
    steps: float, close: float, cash: float, bought: float
) -> None:
    # Five steps cost a fifth of a millionth of a millionth too much, less than what cutting to whole ones forgives.
    panel = panel_of([close, close], opens=[close, close * (1 + 2e-13)])
    run = run_of(panel, [1.0, NAN], cash=cash, steps=steps)
    assert [event[3] for event in events_of(run)] == [bought]
    assert 0 < run.cash[-1] < cash - bought * close * (1 - 1e-9)


@pytest.mark.parametrize("steps", [WHOLE, FRACTIONAL])
def test_as_much_is_bought_as_the_cash_pays_for_however_little_is_missing(steps: float) -> None:
    bought = 0
    for seed in range(300):
        panel, targets, cash = barely_dearer(seed, steps)
        for costs in (NONE, parse("mine", own={"mine": {"minimum": cash / 3, "ceiling": 0.5}})):
            run = simulate(targets, panel, costs, cash, steps=steps)
            agree(
                run, reference(targets, panel, costs, cash, start=0, fill="next-open", steps=int(steps), band=0), steps
            )
            assert run.cash.min() >= 0
            one, price = np.array([1 / steps]), panel.raw.open[1]
            if len(price) == 1 and run.unfilled:  # not even one step was to be had
                assert one * price + costs.commission(one, price) > cash
            bought += len(run.events)
    assert bought > 500


def test_a_millionth_of_a_share_is_bought_where_fractions_are_allowed() -> None:
    run = run_of(panel_of([3, 3]), [1.0, NAN], steps=FRACTIONAL)
    assert events_of(run) == [("fill", 1, 0, 333.333333, 3.0)]


def test_slippage_moves_the_price_against_the_order() -> None:
    run = run_of(panel_of([10, 10, 10]), [0.5, 0.0, NAN], costs=parse("none", slippage_bps=100))
    assert events_of(run) == [("fill", 1, 0, 50.0, 10.1), ("fill", 2, 1, -50.0, 9.9)]


def test_a_split_multiplies_the_shares_and_pays_the_fraction_at_the_close() -> None:
    panel = panel_of([10, 10, 6, 6], opens=[10, 10, 7, 6], split={(2, 0): 1.5})
    run = run_of(panel, [0.33, NAN, NAN, NAN])  # 33 shares become 49.5: half a share is paid at 6, not at 7
    assert events_of(run) == [("fill", 1, 0, 33.0, 10.0), ("split", 2, -1, 1.5, 6.0), ("fraction", 2, -1, -0.5, 6.0)]
    assert run.shares.tolist() == [49.0]
    assert run.equity.tolist() == [1000.0, 1000.0, 670.0 + 49.5 * 6, 670.0 + 49.5 * 6]


@pytest.mark.parametrize(
    ("ratio", "before", "after"), [(2.0, 33, 66), (7.0, 33, 231), (0.1, 33, 3), (1 / 3, 33, 11), (1 / 3, 32, 10)]
)
def test_splits_of_all_kinds_leave_whole_shares(ratio: float, before: int, after: int) -> None:
    run = run_of(panel_of([10, 10, 10 / ratio], split={(2, 0): ratio}), [before / 100, NAN, NAN])
    assert run.shares.tolist() == [after]
    assert run.equity[-1] == pytest.approx(1000.0, abs=1e-9)


def test_a_split_owes_no_cash_where_floats_alone_leave_a_fraction() -> None:
    # 300 shares at a third with sixteen digits are 100; all cash is in the shares, so that a hair would be debt.
    run = run_of(panel_of([10, 10, 30], split={(2, 0): 0.33333333333333326}), [1.0, NAN, NAN], cash=3000.0)
    assert run.shares.tolist() == [100.0]
    assert run.cash.tolist() == [3000.0, 0.0, 0.0]


def test_a_split_in_millionths_makes_no_share_out_of_nothing() -> None:
    run = run_of(panel_of([2, 2, 1], split={(2, 0): 2.0}), [1.0, NAN, NAN], cash=3.0, steps=FRACTIONAL)
    assert run.shares.tolist() == [3.0]
    assert run.cash.tolist() == [3.0, 0.0, 0.0]


def test_a_split_multiplies_the_order_that_waits() -> None:
    run = run_of(panel_of([10, 5, 5], split={(1, 0): 2.0}), [1.0, NAN, NAN])
    assert events_of(run) == [("fill", 1, 0, 200.0, 5.0)]


def test_a_split_without_a_bar_restates_the_last_price() -> None:
    run = run_of(panel_of([10, 10, NAN, 5], split={(2, 0): 2.0}), [1.0, NAN, NAN, NAN])
    assert run.shares.tolist() == [200.0]
    assert run.equity.tolist() == [1000.0] * 4


def test_a_dividend_pays_who_held_over_the_previous_close() -> None:
    panel = panel_of([10, 10, 10, 10], dividend={(1, 0): 1.0, (2, 0): 0.5})
    run = run_of(panel, [1.0, 0.0, NAN, NAN])
    # bought at the open of the first ex-date: nothing; sold at the open of the second: paid all the same
    assert events_of(run) == [
        ("fill", 1, 0, 100.0, 10.0),
        ("dividend", 2, -1, 100.0, 0.5),
        ("fill", 2, 1, -100.0, 10.0),
    ]
    assert run.cash.tolist() == [1000.0, 0.0, 1050.0, 1050.0]


def test_a_dividend_on_the_day_of_a_split_is_paid_on_the_new_shares() -> None:
    run = run_of(panel_of([10, 10, 5], split={(2, 0): 2.0}, dividend={(2, 0): 0.25}), [1.0, NAN, NAN])
    assert events_of(run)[1:] == [("split", 2, -1, 2.0, 5.0), ("dividend", 2, -1, 200.0, 0.25)]
    assert run.cash.tolist() == [1000.0, 0.0, 50.0]


def test_a_short_position_pays_the_dividend() -> None:
    run = run_of(panel_of([10, 10, 10], dividend={(2, 0): 1.0}), [-0.5, NAN, NAN])
    assert run.cash.tolist() == [1000.0, 1500.0, 1450.0]
    assert run.equity.tolist() == [1000.0, 1000.0, 950.0]


def test_a_symbol_that_never_trades_again_is_closed_after_five_silent_sessions() -> None:
    run = run_of(panel_of([[10, 1], [12, 1], *[[NAN, 1]] * 6]), [[1, NAN], *[[NAN, NAN]] * 7], costs=DEAR)
    bought, closed = events_of(run)
    assert closed == ("closed", 6, -1, -bought[3], 12.0)  # its last bar is on row 1; row 6 is the fifth silent one
    assert run.events.commission[1] == 0.0
    assert run.closed == ("S00",)
    assert run.exposure[5] > 0
    assert run.exposure[6] == 0.0


def test_a_symbol_that_trades_again_is_kept_through_its_halt() -> None:
    run = run_of(panel_of([[10], [10], *[[NAN]] * 8, [4]]), [[1], *[[NAN]] * 10])
    assert run.closed == ()
    assert run.equity.tolist() == [1000.0] * 10 + [400.0]  # who held it has the loss


def test_orders_are_sized_by_the_equity_of_their_own_close() -> None:
    run = run_of(panel_of([10, 10, 20, 20], opens=[10, 10, 15, 20]), [1.0, NAN, 0.5, NAN])
    # 100 shares at 20 are 2000; half of it are 50 shares
    assert events_of(run)[-1] == ("fill", 3, 2, -50.0, 20.0)


def test_the_first_row_decides_and_what_is_before_it_does_not_count() -> None:
    panel = panel_of([1, 10, 10, 10])
    run = run_of(panel, [1.0, NAN, 1.0, NAN], start=1)
    assert run.sessions.tolist() == panel.sessions[1:].tolist()
    assert events_of(run) == [("fill", 3, 2, 100.0, 10.0)]
    assert run.equity.tolist() == [1000.0] * 3


def test_an_account_that_has_lost_everything_trades_nothing_more() -> None:
    run = run_of(panel_of([10, 10, 50, 50, 50]), [-1.0, NAN, 1.0, 1.0, NAN])
    assert run.equity[-1] == -3000.0
    assert len(run.events) == 1


def test_a_session_on_which_nothing_can_happen_costs_no_event() -> None:
    run = run_of(panel_of([10] * 50), [NAN] * 50)
    assert len(run.events) == 0
    assert run.equity.tolist() == [1000.0] * 50


def test_wrong_shapes_and_unknown_fills_are_refused() -> None:
    panel = panel_of([10, 10])
    with pytest.raises(ValueError, match="targets are"):
        simulate(np.zeros((3, 1)), panel, NONE, 1.0)
    with pytest.raises(ValueError, match="'yesterday' is none of next-open"):
        simulate(np.zeros((2, 1)), panel, NONE, 1.0, fill="yesterday")


def test_kinds_of_events_have_the_names_of_their_numbers() -> None:
    assert [KINDS[k] for k in (FILL, SPLIT, DIVIDEND, FRACTION, CLOSED)] == list(KINDS)
