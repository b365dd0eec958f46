"""What ``--set`` spells in a sweep, and who is whose neighbour."""

import pytest

from marketagent.errors import UsageError
from marketagent.grid import Axis, axes, combinations, plateaus
from marketagent.strategy import Strategy, param


class Ranged(Strategy):
    """A strategy with every kind of parameter."""

    fast: int = param(5, 1, 500)
    slow: int = param(50, 1, 500)
    share: float = param(0.5, 0.0, 1.0)
    name: str = param("a")


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("fast", "5:50:15", (5, 20, 35, 50)),
        ("fast", "5:49:15", (5, 20, 35)),
        ("fast", "3:5", (3, 4, 5)),
        ("fast", "9:1:-4", (9, 5, 1)),
        ("fast", "7:7:2", (7,)),
        ("fast", "8", (8,)),
        ("fast", "8,3,8,5", (8, 3, 5)),
        ("share", "0:0.3:0.1", (0.0, 0.1, 0.2, 0.3)),
        ("share", "0.25,1", (0.25, 1.0)),
        ("long_only", "true,false", (True, False)),
        ("rebalance", "weekly,monthly", ("weekly", "monthly")),
        ("name", "a,b:c", ("a,b:c",)),
    ],
)
def test_a_range_has_its_stop_and_a_list_its_order(name: str, text: str, values: tuple[object, ...]) -> None:
    assert axes(Ranged, {name: text}) == [Axis(name, values)]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("fast", "5:50:0", "never gets from 5 to 50 by steps of 0"),
        ("fast", "5:50:-5", "never gets from 5 to 50 by steps of -5"),
        ("fast", "5:x:1", "fast=5:x:1 is not start:stop:step"),
        ("fast", "5:", "is not start:stop:step"),
        ("fast", "1:2:3:4", "is not start:stop:step"),
        ("fast", "1:inf", "is not start:stop:step"),
        ("fast", "100:600:100", "fast is 600; it must lie in 1 .. 500"),
        ("fast", "1:2:0.5", "fast is '1.0'; it must be a whole number"),
        ("fast", "1,,2", "fast is ''; it must be a whole number"),
        ("share", "0:1:0.0000001", "makes 10,000,001 values; the most are 1,000,000"),
        ("rebalance", "weekly,yearly", "rebalance is 'yearly'; it must be one of bar, daily, weekly, monthly"),
        ("fst", "1:2", "Ranged has no parameter 'fst'; did you mean fast?"),
    ],
)
def test_what_is_no_range_is_refused(name: str, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        axes(Ranged, {name: text})


def test_a_grid_beyond_all_measure_is_refused() -> None:
    with pytest.raises(UsageError, match="makes 125,750,000 combinations"):
        axes(Ranged, {"fast": "1:500", "slow": "1:500", "share": "0:1:0.001992"})


def test_combinations_run_through_the_last_axis_first() -> None:
    grid = axes(Ranged, {"fast": "1,2", "slow": "5:7"})
    assert [tuple(each.values()) for each in combinations(grid)] == [(1, 5), (1, 6), (1, 7), (2, 5), (2, 6), (2, 7)]


def test_a_plateau_has_the_sharpe_of_its_neighbours_and_a_spike_has_not() -> None:
    grid = [Axis("fast", (1, 2, 3)), Axis("slow", (5, 6, 7))]
    #            slow 5    6    7
    flat = dict(enumerate([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
    assert plateaus(grid, flat) == dict.fromkeys(range(9), 1.0)
    spike = {**dict.fromkeys(range(9), 0.2), 4: 2.0}
    assert plateaus(grid, spike)[4] == pytest.approx(0.1)
    assert plateaus(grid, spike)[0] == pytest.approx(1.0)  # of its three neighbours two are as it is


def test_a_corner_has_three_neighbours_and_names_are_nobodys_neighbours() -> None:
    grid = [Axis("rebalance", ("weekly", "monthly")), Axis("fast", (1, 2, 3))]
    found = plateaus(grid, {0: 1.0, 1: 2.0, 2: 4.0, 3: 8.0, 4: None, 5: -1.0})
    assert found == {0: 2.0, 1: 1.25, 2: 0.5, 3: None, 4: None, 5: None}
    assert plateaus([Axis("fast", (1,))], {0: 1.0}) == {0: None}


def test_a_refused_combination_is_no_neighbour() -> None:
    assert plateaus([Axis("fast", (1, 2, 3))], {0: 1.0, 1: 1.0}) == {0: 1.0, 1: 1.0}
