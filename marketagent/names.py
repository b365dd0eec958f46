"""Names of arrays: by what an array of a panel, an indicator's array or an argument of it is found on another panel.

A name is a text, that of one of the panel's own arrays; a Plain or a Hole; (function, arguments, options) of an indicator,
whose arguments are names; or (such a name, place) of one of several arrays that an indicator gives.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
INDICATORS: dict[str, Callable[..., Any]] = {}  # by name, as they are when nobody remembers


class Plain(NamedTuple):
    """An argument that is no array, in the name of an indicator's array: 1 and 1.0 and True are different ones."""

    kind: str
    value: Any


class Hole(NamedTuple):
    """The place of a parameter's value in a name, by the name of the parameter."""

    parameter: str


class Parameter:
    """A parameter of a strategy that stands for all its values: it can be handed to an indicator and be part of a deferred
    expression. Whoever does anything else with it is refused: what comes out could depend on the value."""

    __slots__ = ("name", "value")

    def __init__(self, name: str, value: Any) -> None:
        self.name, self.value = name, value

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError(f"{self.name} stands for all its values")

    # What every object can do otherwise; a text of it would be the name of a signal, which has a weight.
    __bool__ = __eq__ = __ne__ = __hash__ = __str__ = __repr__ = __format__ = _refuse


def plain(value: Any) -> Plain:
    """The name of an argument that is no array."""
    return Plain(type(value).__name__, value)


def filled(name: Any, values: Mapping[str, Plain]) -> Any:
    """`name` with these values of parameters in the holes."""
    if isinstance(name, Hole):
        return values[name.parameter]
    if isinstance(name, str | Plain):
        return name
    if len(name) == 2:
        return filled(name[0], values), name[1]
    function, args, options = name
    return (
        function,
        tuple([filled(arg, values) for arg in args]),
        tuple([(word, filled(arg, values)) for word, arg in options]),
    )


def has_hole(name: Any, parameter: str) -> bool:
    """Whether there is a hole for this parameter anywhere in `name`."""
    if isinstance(name, str | Plain):
        return False
    return name == Hole(parameter) or any(has_hole(part, parameter) for part in name if isinstance(part, tuple))


def named(name: Any, panel: Mapping[str, Array]) -> Any:
    """What a name stands for where the arrays of `panel` have these names: an array, or several."""
    if isinstance(name, Plain):
        return name.value
    if isinstance(name, str):
        return panel[name]
    if len(name) == 2:
        return named(name[0], panel)[name[1]]
    function, args, options = name
    return INDICATORS[function](
        *(named(arg, panel) for arg in args), **{word: named(arg, panel) for word, arg in options}
    )
