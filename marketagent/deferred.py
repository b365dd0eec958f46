"""Arrays that remember how they were computed, and indicators that are computed once: what makes a sweep quick.

Inside ``with remembering(memo)`` a built-in indicator of one of the panel's own arrays is computed once for each
distinct window, and what it gives is a `Deferred`: it looks like an array, but arithmetic, comparisons and ``np.where``
on it are written down instead of done. A strategy does not notice; its signals come out as a program, which ``cells``
runs. Whatever else is done to a `Deferred` (``np.tanh``, ``.sum()``, an index) computes it first, with NumPy.

The two ways give the same bits: only operations are deferred that have one right result.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from threading import Lock
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from marketagent.lines import in_lines
from marketagent.names import INDICATORS, Hole, Parameter, plain

Array = NDArray[np.float64]
P = ParamSpec("P")
R = TypeVar("R")

LEAF = -1
ADD, SUB, MUL, DIV, LT, LE, EQ, WHERE, MIN, MAX, ABS, SIGN, NOT, ISNAN, FINITE, SQRT = range(16)
_TRUTHS = {LT, LE, EQ, NOT, ISNAN, FINITE}  # what is true or false; kept as 1 and 0
_ARITHMETIC: dict[Any, int] = {np.add: ADD, np.subtract: SUB, np.multiply: MUL, np.divide: DIV}
_SINGLE: dict[Any, int] = {np.absolute: ABS, np.sign: SIGN, np.sqrt: SQRT, np.isnan: ISNAN, np.isfinite: FINITE}
_COMPARED: dict[Any, int] = {np.less: LT, np.less_equal: LE, np.equal: EQ}
_TURNED: dict[Any, int] = {np.greater: LT, np.greater_equal: LE}
_EXTREME: dict[Any, int] = {np.minimum: MIN, np.maximum: MAX}
_LOGICAL: dict[Any, int] = {np.logical_and: MIN, np.bitwise_and: MIN, np.logical_or: MAX, np.bitwise_or: MAX}
DEFERRED = {np.where, np.not_equal, np.negative, np.logical_not, np.invert}.union(
    _ARITHMETIC, _SINGLE, _COMPARED, _TURNED, _EXTREME, _LOGICAL
)  # what is written down instead of done
_BOOLS = (bool, np.bool_)  # here, where they are put together once
_NUMBERS = (*_BOOLS, int, float, np.floating, np.integer)
_PLAIN = (*_NUMBERS, str)  # what an indicator can be told beside arrays and be remembered by
_BYTES = 96_000_000  # of indicators that are kept; the oldest go first


class Deferred(NDArrayOperatorsMixin):
    """An array (T, N) that is not computed yet: an operation and what it is of. `truth` says it is one of bools."""

    __slots__ = ("_array", "_shape", "args", "key", "op", "truth")

    def __init__(
        self,
        op: int,
        args: tuple["Deferred | Parameter | float", ...],
        shape: tuple[int, ...],
        *,
        truth: bool = False,
        array: Array | None = None,
        key: Any = None,
    ) -> None:
        self.op, self.args, self._shape, self.truth, self.key = op, args, shape, truth, key
        self._array: NDArray[Any] | None = array

    @property
    def array(self) -> NDArray[Any]:
        """The array itself, as whoever looks at it sees it; nobody may write to it."""
        _note_look()
        return self.values

    @property
    def values(self) -> NDArray[Any]:
        """The same for who does not look: it is handed on. It is computed when it is asked for."""
        if self._array is None:
            values = [arg.values if isinstance(arg, Deferred) else arg for arg in self.args]
            with np.errstate(all="ignore"):  # the program does not warn either
                self._array = np.asarray(_NUMPY[self.op](*values))
            self._array.flags.writeable = False
        return self._array

    @property
    def shape(self) -> tuple[int, ...]:
        _note_look()
        return self._shape

    @property
    def is_computed(self) -> bool:
        return self._array is not None

    @property
    def leaf(self) -> Array:
        """The array of a leaf as float64 in C order, as a program reads it."""
        return np.ascontiguousarray(self.values, dtype=np.float64)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.bool_ if self.truth else np.float64)

    @property
    def ndim(self) -> int:
        return len(self._shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.array, dtype=dtype) if copy or dtype not in (None, self.dtype) else self.array

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        if out is not None:
            raise TypeError("a deferred array cannot be written to")
        made = _deferred(ufunc, inputs, self._shape) if method == "__call__" and not options else None
        return getattr(ufunc, method)(*map(concrete, inputs), **options) if made is None else made

    def __array_function__(self, function: Any, kinds: Any, args: Any, options: Any) -> Any:
        if function is np.where and len(args) == 3 and not options:
            made = _where(args, self._shape)
            if made is not None:
                return made
        return function(*_all_concrete(args), **{name: concrete(value) for name, value in options.items()})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # NumPy asks for its protocols by such names
        return getattr(self.array, name)

    def __getitem__(self, key: Any) -> Any:
        return self.array[concrete(key)]

    def __len__(self) -> int:
        return self.shape[0]

    def __bool__(self) -> bool:
        return bool(self.array)

    def __repr__(self) -> str:
        return repr(self.array)

    def __str__(self) -> str:
        return str(self.array)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.array)


class Memo:
    """The indicators computed so far, of `known` arrays by name: those of the panel, which stay as they are."""

    def __init__(self, known: dict[str, Array], *, most_bytes: int = _BYTES, deferring: bool = True) -> None:
        self._named, self.deferring = known, deferring
        self._known = {id(array): (name, array) for name, array in known.items()}
        self._kept: dict[Any, Any] = {}
        self._bytes, self._most, self._lock = 0, most_bytes, Lock()
        self.computed = 0

    def plain(self) -> "Memo":
        """One that remembers too, and gives every caller an array of its own to do with as it likes."""
        return Memo(self._named, most_bytes=self._most, deferring=False)

    def of(self, function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """`function` of its arguments, computed or remembered."""
        made = self._made(function, args, options)
        return made if self.deferring else _copied(made)

    def name(self, value: Any) -> Any:
        """By what an array, or the argument of an indicator, would be found on another panel; None if by nothing."""
        if isinstance(value, Deferred):
            return value.key
        if isinstance(value, np.ndarray):
            name, array = self._known.get(id(value), (None, None))
            return name if array is value else None
        if isinstance(value, Parameter):
            return Hole(value.name)
        return plain(value) if value is None or isinstance(value, _PLAIN) else None

    def _made(self, function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        places = tuple([self.name(arg) for arg in args])
        words = tuple([(word, self.name(options[word])) for word in sorted(options)])
        if None in places or any(name is None for _, name in words):
            _note_look()  # an indicator looks at what it is given
            return _wrapped(
                function(*map(_handed_on, args), **{word: _handed_on(options[word]) for word in options}), None
            )
        key = (function.__name__, places, words)
        with self._lock:  # both threads ask for the same window at first; one computes it
            if key in self._kept:
                self._kept[key] = self._kept.pop(key)  # the newest is the last
                return self._kept[key]
            made = _wrapped(
                function(*map(_handed_on, args), **{word: _handed_on(options[word]) for word in options}), key
            )
            self.computed += 1
            self._kept[key] = made
            self._bytes += _size(made)
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= _size(self._kept.pop(next(iter(self._kept))))
            return made


_memo: ContextVar[Memo | None] = ContextVar("memo", default=None)


_looks: ContextVar[list[None] | None] = ContextVar("looks", default=None)


@contextmanager
def remembering(memo: Memo) -> Iterator[None]:
    """Inside, in this thread, the indicators are those of `memo`."""
    token = _memo.set(memo)
    try:
        yield
    finally:
        _memo.reset(token)


@contextmanager
def watching() -> Iterator[list[None]]:
    """Inside, in this thread, the list grows whenever somebody looks at the values or the shape of a deferred array: what is
    done then may depend on them."""
    looks: list[None] = []
    token = _looks.set(looks)
    try:
        yield looks
    finally:
        _looks.reset(token)


def _note_look() -> None:
    looks = _looks.get()
    if looks is not None:
        looks.append(None)


class Shown:
    """A panel of which whoever is `watching` learns what is looked at: its known arrays are deferred, all else is a look."""

    def __init__(self, panel: Any, known: Mapping[str, Array], prefix: str = "") -> None:
        self._panel, self._prefix = panel, prefix
        self._leaves = {name: Deferred(LEAF, (), array.shape, array=array, key=name) for name, array in known.items()}
        self._inner = Shown(panel.raw, known, "raw.") if not prefix else None

    def __getattr__(self, name: str) -> Any:
        if name == "raw" and self._inner is not None:
            return self._inner
        leaf = self._leaves.get(self._prefix + name)
        if leaf is not None:
            return leaf
        _note_look()
        return getattr(self._panel, name)


def deferrable(function: Callable[P, R]) -> Callable[P, R]:
    """An indicator that is remembered where somebody is remembering, and is what it was elsewhere."""
    INDICATORS[function.__name__] = function

    @wraps(function)
    def asked(*args: P.args, **options: P.kwargs) -> R:
        memo = _memo.get()
        return function(*args, **options) if memo is None else memo.of(function, args, options)

    return asked


def kept(value: Any) -> Any:
    """`value`, or, where arrays are deferred, an array (T, N) of numbers as a leaf of its own."""
    memo = _memo.get()
    if memo is None and isinstance(value, Deferred):
        return value.array  # out of a cache of the strategy's
    if memo is None or not memo.deferring or not isinstance(value, np.ndarray):
        return value
    leaf = _operand(value, value.shape) if value.ndim == 2 else None
    return value if leaf is None else leaf


def _handed_on(value: Any) -> Any:
    if isinstance(value, Parameter):
        return value.value
    return value.values if isinstance(value, Deferred) else value


def concrete(value: Any) -> Any:
    """`value` as NumPy knows it."""
    return value.array if isinstance(value, Deferred) else value


def _all_concrete(values: Any) -> Any:
    if isinstance(values, tuple | list):
        return type(values)(_all_concrete(value) for value in values)
    return concrete(values)


def _wrapped(result: Any, key: Any) -> Any:
    """What an indicator gave, each array as a leaf that nobody can write to."""
    if isinstance(result, tuple):
        leaves = [_wrapped(part, None if key is None else (key, n)) for n, part in enumerate(result)]
        return type(result)(*leaves) if hasattr(result, "_fields") else tuple(leaves)
    array = in_lines(result) if result.dtype == np.float64 else result
    array.flags.writeable = False
    return Deferred(LEAF, (), array.shape, array=array, key=key)


def _copied(made: Any) -> Any:
    if isinstance(made, tuple):
        parts = [_copied(part) for part in made]
        return type(made)(*parts) if hasattr(made, "_fields") else tuple(parts)
    return made.values.copy()


def _size(made: Any) -> int:
    return sum(map(_size, made)) if isinstance(made, tuple) else int(made.values.nbytes)


def _deferred(ufunc: Any, inputs: tuple[Any, ...], shape: tuple[int, ...]) -> Deferred | None:
    """The operation written down; None for one that has to be done now."""
    args = _operands(inputs, shape)
    if args is None:
        return None
    truths = [_is_truth(arg) for arg in args]
    if ufunc in _SINGLE and (not truths[0] or ufunc in (np.isnan, np.isfinite)):
        return _node(_SINGLE[ufunc], args, shape)
    if ufunc in _COMPARED:
        return _node(_COMPARED[ufunc], args, shape)
    if ufunc in _TURNED:
        return _node(_TURNED[ufunc], args[::-1], shape)
    if ufunc is np.not_equal:
        return _node(NOT, [_node(EQ, args, shape)], shape)
    if ufunc in _ARITHMETIC and not all(truths):
        return _node(_ARITHMETIC[ufunc], args, shape)
    if ufunc in _EXTREME and not any(truths):
        return _node(_EXTREME[ufunc], args, shape)
    if ufunc is np.negative and not truths[0]:
        return _node(MUL, [*args, -1.0], shape)
    if ufunc in _LOGICAL and all(truths):
        return _node(_LOGICAL[ufunc], args, shape, truth=True)
    if ufunc in (np.logical_not, np.invert) and all(truths):
        return _node(NOT, args, shape)
    return None


def _where(values: Any, shape: tuple[int, ...]) -> Deferred | None:
    args = _operands(values, shape)
    if args is None or not _is_truth(args[0]):
        return None
    return _node(WHERE, args, shape, truth=_is_truth(args[1]) and _is_truth(args[2]))


def _node(op: int, args: list[Any], shape: tuple[int, ...], *, truth: bool = False) -> Deferred:
    written = tuple([arg if isinstance(arg, Deferred | Parameter) else float(arg) for arg in args])
    return Deferred(op, written, shape, truth=truth or op in _TRUTHS)


def _operands(values: Any, shape: tuple[int, ...]) -> list[Any] | None:
    """All of `values` as parts of a program, or None."""
    args = []
    for value in values:
        arg = _operand(value, shape)
        if arg is None:
            return None
        args.append(arg)
    return args


def _operand(value: Any, shape: tuple[int, ...]) -> Deferred | Parameter | float | bool | None:
    """`value` as part of a program; None for what is of another shape or kind."""
    if isinstance(value, Deferred):
        return value if value._shape == shape else None
    if isinstance(value, Parameter):
        return value if isinstance(value.value, _NUMBERS) else None
    if isinstance(value, _NUMBERS):
        return bool(value) if isinstance(value, _BOOLS) else float(value)
    if isinstance(value, np.ndarray) and value.shape == shape and value.dtype in (np.float64, np.bool_):
        memo = _memo.get()
        key = None if memo is None else memo.name(value)
        # A view that cannot be written to is not enough: its base can. What is no indicator is kept as it is now.
        is_safe = key is not None or (not value.flags.writeable and value.base is None)
        return Deferred(
            LEAF, (), shape, truth=value.dtype == np.bool_, array=value if is_safe else value.copy(), key=key
        )
    return None


def _is_truth(arg: Any) -> bool:
    if isinstance(arg, Parameter):
        return isinstance(arg.value, _BOOLS)
    return arg.truth if isinstance(arg, Deferred) else isinstance(arg, bool)


_NUMPY: dict[int, Callable[..., Any]] = {
    ADD: np.add,
    SUB: np.subtract,
    MUL: np.multiply,
    DIV: np.divide,
    LT: np.less,
    LE: np.less_equal,
    EQ: np.equal,
    WHERE: np.where,
    MIN: np.minimum,
    MAX: np.maximum,
    ABS: np.absolute,
    SIGN: np.sign,
    NOT: np.logical_not,
    ISNAN: np.isnan,
    FINITE: np.isfinite,
    SQRT: np.sqrt,
}
