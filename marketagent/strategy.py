"""What a strategy is: one class in one file, with its parameters, its signals and how they become positions.

    class SmaCross(Strategy):
        fast: int = param(20, 2, 250, "sessions in the fast average")
        ...
        def signals(self, panel, opinions):
            return {"trend": Signal(...)}

A subclass becomes a frozen dataclass of its parameters. Those of the base below belong to every strategy; a
file sets its own default by plain assignment (``rebalance = "monthly"``), a run sets any with ``--set``. The
same object is scored, backtested, swept and traded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from inspect import get_annotations
from math import isfinite
from typing import Any, ClassVar, Self, dataclass_transform

from marketagent.errors import UsageError, did_you_mean
from marketagent.panel import Panel
from marketagent.sessions import SCHEDULES
from marketagent.signals import Signal
from marketagent.sizing import METHODS

Opinions = Mapping[str, Signal]
_KINDS = (bool, int, float, str)  # what a parameter can be: what --set can give


def param(
    default: Any, low: float | None = None, high: float | None = None, help: str = "", *, choices: tuple[str, ...] = ()
) -> Any:
    """A parameter of a strategy: its default, its range (both ends included) or its choices, and what it means."""
    return field(default=default, metadata={"low": low, "high": high, "help": help, "choices": choices})


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(param,))
class Strategy:
    """The base of every strategy; see the module. `weights` weighs the signals by name, 1 where it is silent.

    `cross_sectional` says that the signals judge symbols against each other: of one alone they have nothing to say.
    """

    rebalance: str = param("bar", choices=SCHEDULES, help="which bars decide: every one, or the first of each")
    sizing: str = param("equal", choices=METHODS, help="how the chosen symbols share the account")
    top_k: int = param(5, 1, 1000, "symbols held when sizing is top_k")
    gross: float = param(1.0, 0.0, 2.0, "share of equity invested when anything is chosen; longs never beyond the cash")
    max_weight: float = param(1.0, 0.0, 1.0, "largest share of equity in one symbol")
    long_only: bool = param(True, help="a sell ends a position; false: it opens a short one")
    band: float = param(0.0, 0.0, 1.0, "a position this near to its target, as a fraction of it, is left alone")
    threshold: float = param(0.0, 0.0, 1.0, "buy above this score, sell below its negative")
    min_confidence: float = param(0.0, 0.0, 1.0, "hold below this confidence")

    weights: ClassVar[Mapping[str, float]] = {}
    _fields: ClassVar[tuple[Any, ...]] = ()
    cross_sectional: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        _adopt_plain_defaults(cls)
        dataclass(frozen=True, kw_only=True)(cls)
        for item in _fields_of(cls):
            if not isinstance(item.default, _KINDS):
                raise TypeError(f"{cls.__name__}.{item.name} needs a default: a number, a text, true or false")
            _check_default(cls, item.name, item.default, item)
        cls._fields = tuple(_fields_of(cls))

    def __post_init__(self) -> None:
        for item in self._fields:
            value = getattr(self, item.name)
            if value is not item.default:  # which was checked with its class
                _check_range(item.name, value, item.default, item.metadata)
        try:
            self.check()
        except ValueError as error:
            raise UsageError(str(error)) from error

    @property
    def warmup(self) -> int:
        """How many bars a symbol needs before it can be decided on."""
        return 0

    def check(self) -> None:
        """Raise ValueError where parameters that are each in range do not go together."""

    def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
        """Each idea of the strategy by name, over the whole panel; row t may use rows up to t only."""
        raise TypeError(f"{type(self).__name__} has no signals()")

    def params(self) -> dict[str, Any]:
        """Every parameter with its value, in order."""
        return {item.name: getattr(self, item.name) for item in fields(self)}  # type: ignore[arg-type]  # as above

    @classmethod
    def described(cls) -> dict[str, dict[str, Any]]:
        """Every parameter with its default, range or choices, and meaning."""
        return {item.name: {"default": item.default, **_shown(item.metadata)} for item in fields(cls)}  # type: ignore[arg-type]  # as above

    @classmethod
    def own(cls) -> list[str]:
        """The names of the parameters that this strategy has and others have not."""
        return [name for name in cls.described() if name not in Strategy.described()]

    @classmethod
    def configured(cls, texts: Mapping[str, str]) -> Self:
        """The strategy with parameters given as text, as ``--set name=value`` does; raises UsageError."""
        return cls(**{name: _parsed(name, text, cls._field(name).default) for name, text in texts.items()})

    @classmethod
    def value_of(cls, name: str, text: str) -> Any:
        """What `text` is as a value of the parameter `name`, in its range; raises UsageError."""
        item = cls._field(name)
        value = _parsed(name, text, item.default)
        _check_range(name, value, item.default, item.metadata)
        return value

    @classmethod
    def takes_many(cls, name: str) -> bool:
        """Whether a text can list several values of the parameter: not where a comma may be part of one."""
        item = cls._field(name)
        return not isinstance(item.default, str) or bool(item.metadata.get("choices"))

    @classmethod
    def _field(cls, name: str) -> Any:
        known = {item.name: item for item in _fields_of(cls)}
        if name not in known:
            raise UsageError(f"{cls.__name__} has no parameter {name!r}{did_you_mean(name, known)}")
        return known[name]


dataclass(frozen=True, kw_only=True)(Strategy)
Strategy._fields = fields(Strategy)  # type: ignore[arg-type]  # as above


def _adopt_plain_defaults(cls: type) -> None:
    """Make ``name = value`` in a subclass the default of the inherited parameter, with the range it has."""
    inherited = {item.name: item for base in cls.__mro__[1:] if base is not object for item in _fields_of(base)}
    annotations = get_annotations(cls)
    for name, item in inherited.items():
        if name in cls.__dict__ and name not in annotations:
            cls.__annotations__ = {**get_annotations(cls), name: item.type}
            default = cls.__dict__[name]
            if isinstance(item.default, float) and type(default) is int:
                default = float(default)  # ``band = 1`` must not make a whole number of it for --set
            _check_default(cls, name, default, item)
            setattr(cls, name, field(default=default, metadata=item.metadata))


def _check_default(cls: type, name: str, default: Any, item: Any) -> None:
    try:
        _check_range(name, default, item.default, item.metadata)
    except UsageError as error:
        raise TypeError(f"{cls.__name__}: {error}") from error  # the author's slip, not the user's


def _fields_of(base: type) -> list[Any]:
    return list(fields(base)) if is_dataclass(base) else []  # class variables such as weights are none


def _shown(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metadata.items() if value not in (None, (), "")}


def _check_range(name: str, value: Any, default: Any, metadata: Mapping[str, Any]) -> None:
    if type(value) is not type(default) and not (isinstance(default, float) and type(value) is int):
        raise UsageError(f"{name} is {value!r}; it must be {_kind(default)}")
    if isinstance(value, float) and not isfinite(value):
        raise UsageError(f"{name} is {value!r}; it must be a finite number")
    choices, low, high = metadata.get("choices"), metadata.get("low"), metadata.get("high")
    if choices and value not in choices:
        raise UsageError(
            f"{name} is {value!r}; it must be one of {', '.join(choices)}{did_you_mean(str(value), choices)}"
        )
    too_low, too_high = low is not None and not value >= low, high is not None and not value <= high
    if too_low or too_high:
        raise UsageError(f"{name} is {value!r}; it must lie in {low} .. {high}")


def _parsed(name: str, text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
    elif isinstance(default, str):
        return text
    else:
        try:
            return type(default)(text)
        except ValueError:
            pass  # said below, with what was wanted
    raise UsageError(f"{name} is {text!r}; it must be {_kind(default)}")


def _kind(default: Any) -> str:
    if isinstance(default, bool):
        return "true or false"
    return {int: "a whole number", float: "a number"}.get(type(default), "text")
