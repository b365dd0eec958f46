"""A sweep as a surface: the Sharpe ratio over the parameters that vary, with the chosen place and what lies around it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import prod
from typing import Any

import numpy as np

from marketagent.formats import cell
from marketagent.grid import Axis as Swept
from marketagent.records import Trial
from marketagent.report.model import Axis, Chart, Heat, Section, Series, Table

PLATEAU, SPIKE = 0.75, 0.5  # of the own Sharpe ratio, what the neighbours have at least on one, at most on the other
PAIRS = 6  # of parameters, each a surface
SIDE = 100  # values of a parameter that are drawn
_TOP = 0.9  # quantile of the ratios from which on a place is worth telling a plateau from a spike
_JUDGED = "in sample"  # all were tried on the sessions that the best is chosen by
_MARKED = (
    "Marked are the chosen place, and of the best tenth those on a plateau and those on a spike: the neighbours of a"
    f" plateau have at least {PLATEAU:.0%} of its ratio, those of a spike at most {SPIKE:.0%}."
)


@dataclass(frozen=True)
class Grid:
    """All combinations that were tried: Sharpe ratio and plateau (see ``grid.plateaus``) by number, and the `best`."""

    axes: Sequence[Swept]
    sharpes: Mapping[int, float | None]
    plateaus: Mapping[int, float | None]
    best: int

    def number(self, places: Sequence[int]) -> int:
        number = 0
        for axis, place in zip(self.axes, places, strict=True):
            number = number * len(axis.values) + place
        return number

    @property
    def chosen(self) -> list[int]:
        """The place of the best on each axis."""
        places, number = [], self.best
        for axis in reversed(self.axes):
            number, place = divmod(number, len(axis.values))
            places.append(place)
        return places[::-1]

    @property
    def good(self) -> float:
        """What the best tenth has at least."""
        known = [value for value in self.sharpes.values() if value is not None]
        return float(np.quantile(known, _TOP)) if known else 0.0


def sweep(grid: Grid, trials: Sequence[Trial], *more: Table) -> Section:
    """The surfaces of `grid`, its best `trials` as a table, and what `more` is to be told of it."""
    varied = [k for k, axis in enumerate(grid.axes) if len(axis.values) > 1]
    pairs = list(combinations(varied, 2))
    drawn: list[Chart | Heat] = [_heat(grid, across, up) for across, up in pairs[:PAIRS]]
    tried = f"{len(grid.sharpes):,} of {prod(len(axis.values) for axis in grid.axes):,} combinations were tried."
    left_out = f" {len(pairs) - PAIRS} more pairs of parameters are not drawn." if len(pairs) > PAIRS else ""
    return Section(
        "Sweep",
        [*(drawn or [_line(grid, varied[0])]), _best(trials), *more],
        f"{tried} {_verdict(grid)}{left_out}",
        _JUDGED,
    )


def kind(plateau: float | None) -> str:
    """What a place in the grid is, by what its neighbours have of its Sharpe ratio.

    >>> [kind(value) for value in (0.9, 0.6, 0.1, None)]
    ['plateau', 'slope', 'spike', '']
    """
    if plateau is None:
        return ""
    return "plateau" if plateau >= PLATEAU else "slope" if plateau > SPIKE else "spike"


def _verdict(grid: Grid) -> str:
    plateau = grid.plateaus[grid.best]
    places = zip(grid.axes, grid.chosen, strict=True)
    named = ", ".join(_set(axis, place) for axis, place in places if len(axis.values) > 1)
    words = f"Chosen: {named}, with the highest Sharpe ratio, {cell('sharpe', grid.sharpes[grid.best])}"
    if plateau is None:
        return f"{words}."
    return f"{words}; its neighbours have {plateau:.0%} of it: a {kind(plateau)}."


def _set(axis: Swept, place: int) -> str:
    return f"{axis.name}={axis.values[place]}"


def _heat(grid: Grid, across: int, up: int) -> Heat:
    x, y = grid.axes[across], grid.axes[up]
    columns, rows = _shown(x, grid.chosen[across]), _shown(y, grid.chosen[up])
    numbers = [[_moved(grid, {across: column, up: row}) for column in columns] for row in rows]
    others = [_set(axis, grid.chosen[k]) for k, axis in enumerate(grid.axes) if k not in (across, up)]
    fixed = [
        text
        for text, axis in zip(others, (a for a in grid.axes if a not in (x, y)), strict=True)
        if len(axis.values) > 1
    ]
    at = f", with {', '.join(fixed)}" if fixed else ""
    thin = "" if (len(columns), len(rows)) == (len(x.values), len(y.values)) else " Not every value is drawn."
    return Heat(
        f"Sharpe ratio by {x.name} and {y.name}{at}",
        f"Sharpe ratios of {len(columns)} values of {x.name} and {len(rows)} of {y.name}. {_verdict(grid)}",
        Axis("category", x.name),
        Axis("category", y.name),
        [str(x.values[place]) for place in columns],
        [str(y.values[place]) for place in rows],
        [[_rounded(grid.sharpes.get(number)) for number in row] for row in numbers],
        [[_told(grid, number) for number in row] for row in numbers],
        _marks(grid, numbers, [str(x.values[p]) for p in columns], [str(y.values[p]) for p in rows]),
        note=_MARKED + thin,
    )


def _marks(grid: Grid, numbers: Sequence[Sequence[int]], columns: Sequence[str], rows: Sequence[str]) -> list[Series]:
    found: dict[str, list[tuple[str, str]]] = {"plateau": [], "spike": [], "chosen": []}
    good = grid.good
    for row, line in zip(rows, numbers, strict=True):
        for column, number in zip(columns, line, strict=True):
            sharpe = grid.sharpes.get(number)
            what = kind(grid.plateaus.get(number))
            if number == grid.best:
                found["chosen"].append((column, row))
            elif sharpe is not None and sharpe >= good and what in found:
                found[what].append((column, row))
    return [
        Series("plateau", "plateau", *_sides(found["plateau"])),
        Series("spike", "spike", *_sides(found["spike"])),
        Series("chosen", "chosen", *_sides(found["chosen"])),
    ]


def _sides(points: Sequence[tuple[str, str]]) -> tuple[list[Any], list[Any]]:
    return [x for x, _ in points], [y for _, y in points]


def _line(grid: Grid, axis: int) -> Chart:
    swept, chosen = grid.axes[axis], grid.chosen[axis]
    places = _shown(swept, chosen)
    numbers = [_moved(grid, {axis: place}) for place in places]
    x = [str(swept.values[place]) for place in places]
    sharpes = [_rounded(grid.sharpes.get(number)) for number in numbers]
    marks = _marks(grid, [numbers], x, [""])
    heights = dict(zip(x, sharpes, strict=True))
    return Chart(
        f"Sharpe ratio by {swept.name}",
        f"Sharpe ratios of {len(x)} values of {swept.name}. {_verdict(grid)}",
        Axis("category", swept.name),
        Axis("number"),
        [
            Series("sharpe", "main", x, sharpes, [_told(grid, number) for number in numbers]),
            *(replace(mark, y=[heights[str(place)] for place in mark.x]) for mark in marks),
        ],
        note=_MARKED,
    )


def _best(trials: Sequence[Trial]) -> Table:
    names = ("total_return", "cagr", "sharpe", "max_drawdown", "trades", "plateau")
    swept = trials[0].swept if trials else []
    return Table(
        f"The best {len(trials)}",
        ["rank", *swept, "return", "cagr", "sharpe", "drawdown", "trades", "plateau", ""],
        [
            [
                str(trial.rank),
                *(str(trial.params[name]) for name in swept),
                *(cell(name, getattr(trial, name)) for name in names),
                kind(trial.plateau),
            ]
            for trial in trials
        ],
        right=range(len(swept) + 7),
        note="plateau: the median Sharpe ratio of the neighbours over the row's own.",
    )


def _told(grid: Grid, number: int) -> str:
    plateau = grid.plateaus.get(number)
    if number not in grid.sharpes:
        return "not tried"
    return f"sharpe {cell('sharpe', grid.sharpes[number])}" + (
        f", neighbours {plateau:.0%}: {kind(plateau)}" if plateau is not None else ""
    )


def _moved(grid: Grid, places: Mapping[int, int]) -> int:
    """The number of the best combination's place with another one on some axes."""
    return grid.number([places.get(k, place) for k, place in enumerate(grid.chosen)])


def _shown(axis: Swept, chosen: int) -> list[int]:
    """The places of an axis that are drawn: all of them, or SIDE evenly, and the chosen one always."""
    count = len(axis.values)
    if count <= SIDE:
        return list(range(count))
    return sorted({chosen, *np.linspace(0, count - 1, SIDE).astype(int).tolist()})


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
