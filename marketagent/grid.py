"""The grid of a sweep: ``--set fast=5:50:5`` and ``--set rebalance=weekly,monthly`` as axes, and who is whose neighbour."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import product
from math import prod
from typing import Any

import numpy as np

from marketagent.errors import UsageError
from marketagent.outcomes import Array, Figures, Numbers
from marketagent.strategy import Strategy

MOST = 1_000_000  # combinations; more is a typing error
SHOWN = 10  # of the best combinations, without --top
FEW = 64  # combinations of a grid that nobody has asked for
_CELLS = 1_000_000  # of neighbours that are looked at at once: 8 MB
_SIZES = (1, 2, 3, 5, 7)  # how many values a parameter of such a grid can have


@dataclass(frozen=True)
class Axis:
    """The values of one parameter, each once, in the order they were given."""

    name: str
    values: tuple[Any, ...]

    @property
    def has_neighbours(self) -> bool:
        """Whether a value is nearer to one than to another: of numbers, not of names."""
        return not any(isinstance(value, bool | str) for value in self.values)


def axes(kind: type[Strategy], texts: Mapping[str, str]) -> list[Axis]:
    """The axes that ``--set`` spells, also those of one value: ``start:stop:step`` (with its stop) or ``a,b,c``.

    Raises UsageError for a value that the strategy's parameter cannot have, and for more than MOST combinations.
    """
    found = [Axis(name, _values(kind, name, text)) for name, text in texts.items()]
    count = prod(len(axis.values) for axis in found)
    if count > MOST:
        raise UsageError(f"--set makes {count:,} combinations; the most are {MOST:,}")
    return found


def most(asked: int | None, *, is_sweep: bool) -> int:
    """How many of the best combinations are to be shown; raises UsageError where it was `asked` for and is no sweep."""
    if asked is not None and not is_sweep:
        raise UsageError(
            f"--top {asked} is of a sweep, and this is none: no --set has several values, or --walk-forward is given"
        )
    return SHOWN if asked is None else asked


def texts_of(found: Sequence[Axis]) -> dict[str, str]:
    """The one value of each of the axes as ``--set`` spells it, also where a range or a list had no more.

    >>> texts_of([Axis("fast", (5,)), Axis("long_only", (True,))])
    {'fast': '5', 'long_only': 'True'}
    """
    return {axis.name: str(axis.values[0]) for axis in found}


def declared(kind: type[Strategy], fixed: Collection[str]) -> list[Axis]:
    """A grid of the strategy's own parameters that are not `fixed`, from what it says of them: at most FEW combinations.

    Around each default, on the way to both ends of its range: by equal ratios where the range is above 0 (20 of 1 .. 500
    goes to 4 and 100), else by equal steps. The more parameters, the fewer values each has; texts without choices have
    their default only. The same strategy has the same grid always.
    """
    described = kind.described()
    names = [name for name in kind.own() if name not in fixed]
    sizes = dict.fromkeys(names, 0)
    raised = True
    while raised:
        raised = False
        for name in names:
            more = {**sizes, name: sizes[name] + 1}
            if more[name] < len(_SIZES) and prod(len(_around(described[n], _SIZES[more[n]])) for n in names) <= FEW:
                sizes, raised = more, True
    return [Axis(name, _around(described[name], _SIZES[sizes[name]])) for name in names]


def _around(item: Mapping[str, Any], count: int) -> tuple[Any, ...]:
    """Up to `count` values of a parameter, its default among them, in order."""
    default, choices = item["default"], item.get("choices", ())
    if isinstance(default, bool | str):
        many = (False, True) if isinstance(default, bool) else tuple(choices)
        return many if 0 < len(many) <= count else (default,)
    low, high = item.get("low", default), item.get("high", default)
    if count == 2:
        ways = [(high if high > default else low, 0.5)]
    else:
        steps = [k / (count // 2 + 1) for k in range(1, count // 2 + 1)]
        ways = [(end, step) for end in (low, high) for step in steps]
    return tuple(sorted({default, *(_between(default, end, step) for end, step in ways)}))


def _between(default: Any, end: float, step: float) -> Any:
    """A round value a part of the way from `default` to `end`, of the default's kind."""
    ratio = min(default, end) > 0
    value = default * (end / default) ** step if ratio else default + (end - default) * step
    value = float(f"{value:.2g}")
    value = min(max(value, min(default, end)), max(default, end))
    return round(value) if isinstance(default, int) else float(value)


def combinations(found: Sequence[Axis]) -> Iterator[dict[str, Any]]:
    """Every combination as name -> value, the last axis running fastest."""
    for values in product(*(axis.values for axis in found)):
        yield dict(zip((axis.name for axis in found), values, strict=True))


def combination(found: Sequence[Axis], number: int) -> dict[str, Any]:
    """The combination with this number, as ``combinations`` counts them from 0 on."""
    values: dict[str, Any] = {}
    for axis in reversed(found):
        number, place = divmod(number, len(axis.values))
        values[axis.name] = axis.values[place]
    return {axis.name: values[axis.name] for axis in found}


def plateaus(found: Sequence[Axis], sharpes: Mapping[int, float | None]) -> Figures:
    """How much of each combination's Sharpe ratio its neighbours have: their median over its own.

    By the number of the combination. About 1: a plateau, whose best place hardly matters; far below: a spike, that is
    luck more likely than not. Neighbours are one step away along any of the axes. None without any, and where the own
    ratio is not above 0.
    """
    known = Figures.of(sharpes)
    ways = [(-1, 0, 1) if axis.has_neighbours else (0,) for axis in found]
    steps = np.array([step for step in product(*ways) if any(step)], dtype=np.int64).reshape(-1, len(found))
    ratios = np.full(len(known), np.nan)
    if len(steps):
        shape = np.array([len(axis.values) for axis in found])
        everywhere = np.full(int(shape.prod()), np.nan)
        everywhere[known.numbers] = known.array
        at_once = max(_CELLS // len(steps), 1)
        for first in range(0, len(known), at_once):
            part = slice(first, first + at_once)
            ratios[part] = _around_over_own(known.numbers[part], shape, steps, everywhere)
    return Figures(known.numbers, ratios)


def _around_over_own(numbers: Numbers, shape: Numbers, steps: Numbers, everywhere: Array) -> Array:
    """(M,): the median of what the neighbours of `numbers` (M,) have over their own; NaN where it is none."""
    sizes = np.append(np.cumprod(shape[:0:-1])[::-1], 1)
    places = numbers[:, None] // sizes % shape  # (M, K)
    around = np.full((len(steps), len(numbers)), np.nan)
    for row, step in zip(around, steps, strict=True):
        there = places + step
        inside = ((there >= 0) & (there < shape)).all(axis=1)
        row[inside] = everywhere[there[inside] @ sizes]
    around.sort(axis=0)  # NaN comes last
    count, each = np.count_nonzero(~np.isnan(around), axis=0), np.arange(len(numbers))
    own = everywhere[numbers]
    with np.errstate(all="ignore"):  # what comes of infinities, and of numbers near 0, is left out below
        ratios = (around[(count - 1) // 2, each] + around[count // 2 % len(steps), each]) / 2 / own
    return np.where((count > 0) & (own > 0) & np.isfinite(ratios), ratios, np.nan)


def _values(kind: type[Strategy], name: str, text: str) -> tuple[Any, ...]:
    texts = _texts(name, text) if kind.takes_many(name) else [text]
    return tuple(dict.fromkeys(kind.value_of(name, each) for each in texts))


def _texts(name: str, text: str) -> list[str]:
    if ":" not in text:
        return text.split(",")
    parts = text.split(":")
    try:
        start, stop, step = (Decimal(part) for part in (*parts, "1")[:3])
        if len(parts) > 3 or not all(part.is_finite() for part in (start, stop, step)):
            raise InvalidOperation
    except (InvalidOperation, ValueError) as error:
        raise UsageError(f"--set {name}={text} is not start:stop:step, e.g. {name}=5:50:5") from error
    if not step or (stop - start) / step < 0:
        raise UsageError(f"--set {name}={text} never gets from {start} to {stop} by steps of {step}")
    count = int((stop - start) / step) + 1  # decimals: 0.1 + 0.2 is 0.3 here, and the stop is met
    if count > MOST:
        raise UsageError(f"--set {name}={text} makes {count:,} values; the most are {MOST:,}")
    return [f"{start + k * step:f}" for k in range(count)]
