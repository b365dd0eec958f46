"""From deferred arrays to a program over registers, and the program run: see ``deferred`` and ``cells``."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from marketagent.cells import BLOCK, compute
from marketagent.compiled import address
from marketagent.deferred import Array, Deferred
from marketagent.machine import Form
from marketagent.names import Parameter

Read = Callable[
    [Sequence[Deferred | Array]], Sequence[Array]
]  # what a program reads in the place of what it is made of


class Program:
    """The operations that were asked for, in an order in which each comes after what it is of, a register for each."""

    def __init__(self) -> None:
        self._codes: list[int] = []  # five numbers an operation
        self.leaves: list[Deferred | Array] = []  # what is read
        self.constants: list[tuple[int, float | Parameter]] = []  # registers, and the number that each holds throughout
        self._places: dict[int | str, int] = {}
        self.registers = 0

    def place(self, arg: Deferred | Array | Parameter | float) -> int:
        """Where `arg` is: a register, or a leaf from -1 downwards. It has to stay what it is while the program is in use."""
        key = repr(arg) if isinstance(arg, float) else id(arg)  # a text: 0.0 is -0.0 otherwise, and NaN not itself
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = self._placed(arg)
        return place

    @property
    def codes(self) -> NDArray[np.int64]:
        """(K, 5): operations, as ``cells`` reads them."""
        return np.array(self._codes, dtype=np.int64).reshape(-1, 5)

    def form(self, places: Iterable[int]) -> Form:
        """Its form, with what is at these `places` asked for."""
        held = tuple([register for register, _ in self.constants])
        outputs = {place for place in places if place >= 0} - set(held)
        return Form(tuple(self._codes), held, tuple(sorted(outputs)))

    def _placed(self, arg: Deferred | Array | Parameter | float) -> int:
        if isinstance(arg, float | Parameter):
            self.constants.append((self.registers, arg))
        elif not isinstance(arg, Deferred) or arg.is_computed:
            self.leaves.append(arg)
            return -len(self.leaves)
        else:
            operands = [self.place(each) for each in arg.args]
            self._codes += arg.op, self.registers, *operands, *operands[:1] * (3 - len(operands))
        self.registers += 1
        return self.registers - 1


def computed(
    nodes: Sequence[Deferred], leaves: Read | None = None, shape: tuple[int, ...] | None = None
) -> list[Array]:
    """The arrays of `nodes`, all of one shape, computed together; of other arrays of another `shape` where `leaves` gives
    such for those that they are of."""
    if not nodes:
        return []
    program = Program()
    places = [program.place(node) for node in nodes]
    read = [leaf_of(leaf) for leaf in program.leaves] if leaves is None else leaves(program.leaves)
    made = [np.empty(shape or nodes[0].shape) for _ in nodes]
    compute(
        0,
        program.codes,
        np.array([address(leaf) for leaf in read], dtype=np.int64),
        np.array(program.constants, dtype=np.float64).reshape(-1, 2),
        np.empty(program.registers * BLOCK),
        np.array([(place, address(array)) for place, array in zip(places, made, strict=True)], dtype=np.int64),
        made[0].size,
    )
    return made


def leaf_of(arg: Deferred | Array) -> Array:
    """As a program reads it."""
    return arg.leaf if isinstance(arg, Deferred) else np.ascontiguousarray(arg, dtype=np.float64)
