"""What the compiled files share: how a function becomes machine code, and how an address becomes an array.

numba keeps what it has compiled on disk and compiles again when the *file* of a function changes. It does not notice a
change in a file that the function calls into or takes a constant from, and old machine code with new rules around it
would be neither. So what is kept here is kept under a hash of all those files, too.

Without ``fastmath``, but where it is said: a sum is added in the order it is written in.
"""

import hashlib
import re
from collections.abc import Callable
from functools import cache
from importlib.abc import SourceLoader
from importlib.util import find_spec
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import carray, njit, types  # type: ignore[attr-defined]  # numba's types leave some of it out
from numba.core.caching import FunctionCache
from numba.extending import intrinsic
from numpy.typing import NDArray

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
F = TypeVar("F", bound=Callable[..., Any])
AnyArray = TypeVar("AnyArray", Array, Whole)
_IMPORTED = r"^from {}((?:\.\w+)*) import (\([^)]*\)|.+)"


def compiled(function: F) -> F:
    """`function` as machine code, kept on disk; it lets other threads run.

    A private one becomes part of its caller, as ``inlined``.
    """
    return _machine_code(function, inline=function.__name__.startswith("_"))


def inlined(function: F) -> F:
    """`function` as machine code that becomes part of its caller: handing over ten arrays costs more than most do with them."""
    return _machine_code(function, inline=True)


def reordered(function: F) -> F:
    """As ``inlined``; its sums may be added in any order, which takes a quarter of the time and changes their last bits."""
    return _machine_code(function, inline=True, fastmath={"reassoc", "nsz"})


def _machine_code(function: F, *, inline: bool, fastmath: Any = False) -> F:
    made = njit(nogil=True, error_model="numpy", forceinline=inline, fastmath=fastmath)(function)
    if hasattr(FunctionCache, "_index_key"):  # else this numba keeps it under names we do not know: compiled every time
        made._cache = _Kept(function)  # type: ignore[attr-defined, no-untyped-call]  # as above
    return cast(F, made)


class _Kept(FunctionCache):
    """numba's cache of one function, with the hash of all its sources among what has to be the same."""

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        key = super()._index_key(sig, codegen)  # type: ignore[no-untyped-call]  # as above
        return (*key, sources(self._py_func.__module__))


@cache
def sources(module: str) -> str:
    """A hash of the source of `module` and of every module of its package that it imports, and those import."""
    package, found, left = module.partition(".")[0], {}, {module}
    while left:
        name = left.pop()
        spec = find_spec(name)
        if spec is None or not isinstance(spec.loader, SourceLoader):
            continue  # what is no module is a name in one that is read already
        found[name] = spec.loader.get_source(name) or ""
        for inner, several in re.findall(_IMPORTED.format(package), found[name], re.MULTILINE):
            under = package + inner
            left |= {under, *(f"{under}.{each}" for each in re.findall(r"\w+", several) if not inner)} - found.keys()
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()


def address(values: Array | Whole, kind: type[np.generic] = np.float64) -> int:
    """Where a C-ordered array of `kind` lies; whoever passes it on keeps the array alive."""
    if values.dtype != kind or not values.flags.c_contiguous:
        raise ValueError(f"the array is of {values.dtype} and not of {np.dtype(kind)} in C order")
    return int(values.__array_interface__["data"][0])


def _to_pointer(typing: Any, address: Any) -> Any:
    def made(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.voidptr(address), made


def _to_call(typing: Any, address: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
    def made(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        whole = ir.IntType(64)
        function = ir.FunctionType(ir.VoidType(), [whole] * 5).as_pointer()
        builder.call(builder.inttoptr(arguments[0], function), arguments[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), made


_pointer: Any = intrinsic(_to_pointer)  # an address as a pointer, which numba has no name for
call_at: Any = intrinsic(_to_call)  # the machine code at an address, with five whole numbers


@compiled
def cells_at(address: int, first: int, count: int) -> Array:
    """`count` cells of the array at `address`, from cell `first` on."""
    return carray(_pointer(address + 8 * first), (count,), np.float64)


@compiled
def numbers_at(address: int, first: int, count: int) -> Whole:
    """As ``cells_at``, of an array of int64."""
    return carray(_pointer(address + 8 * first), (count,), np.int64)


@compiled
def matrix_at(address: int, length: int, width: int) -> Array:
    """The (T, N) array at `address`."""
    return carray(_pointer(address), (length, width), np.float64)


@compiled
def in_line(values: Array) -> Array:
    """The cells of a C-ordered array one after the other; the array has to live on."""
    return cells_at(values.ctypes.data, 0, values.size)


@compiled
def borrowed(values: AnyArray) -> AnyArray:
    """A C-ordered array without an owner, which is what is quick to hand on; the array has to live on."""
    return carray(_pointer(values.ctypes.data), values.shape, values.dtype)
