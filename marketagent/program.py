"""From deferred arrays to a program over registers, and the program run: see ``deferred`` and ``cells``."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from marketagent.cells import BLOCK, compute
from marketagent.compiled import address
from marketagent.deferred import Array, Deferred


class Program:
    """The operations that were asked for, in an order in which each comes after what it is of, a register for each."""

    def __init__(self) -> None:
        self._codes: list[int] = []  # five numbers an operation
        self._leaves: list[Array] = []  # kept here, where their addresses are good
        self._constants: list[tuple[int, float]] = []
        self._places: dict[int | str, int] = {}
        self.registers = 0

    def place(self, arg: Deferred | Array | float) -> int:
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

    @property
    def leaves(self) -> NDArray[np.int64]:
        """(L,): the addresses of what is read."""
        return np.array([address(leaf) for leaf in self._leaves], dtype=np.int64)

    @property
    def constants(self) -> Array:
        """(C, 2): registers, and the number that each holds throughout."""
        return np.array(self._constants, dtype=np.float64).reshape(-1, 2)

    def _placed(self, arg: Deferred | Array | float) -> int:
        if isinstance(arg, float):
            self._constants.append((self.registers, arg))
        elif not isinstance(arg, Deferred) or arg.is_computed:
            self._leaves.append(arg.leaf if isinstance(arg, Deferred) else np.ascontiguousarray(arg, dtype=np.float64))
            return -len(self._leaves)
        else:
            operands = [self.place(each) for each in arg.args]
            self._codes += arg.op, self.registers, *operands, *operands[:1] * (3 - len(operands))
        self.registers += 1
        return self.registers - 1


def computed(nodes: Sequence[Deferred]) -> list[Array]:
    """The arrays of `nodes`, all of one shape, computed together; what is an array already comes out as it is."""
    made = [node.leaf if node.is_computed else np.empty(node.shape) for node in nodes]
    wanted = [(node, array) for node, array in zip(nodes, made, strict=True) if not node.is_computed]
    if wanted:
        program = Program()
        outputs = [(program.place(node), address(array)) for node, array in wanted]
        room = np.empty(program.registers * BLOCK)
        compute(program.codes, program.leaves, program.constants, room, np.array(outputs, dtype=np.int64), made[0].size)
    return made
