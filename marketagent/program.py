"""From deferred arrays to a program over registers, and the program run: see ``deferred`` and ``cells``."""

from collections.abc import Sequence

import numpy as np

from marketagent.cells import compute
from marketagent.compiled import address
from marketagent.deferred import Array, Deferred


def computed(nodes: Sequence[Deferred]) -> list[Array]:
    """The arrays of `nodes`, all of one shape, computed together; what is an array already comes out as it is."""
    made = [node.leaf if node.is_computed else np.empty(node.shape) for node in nodes]
    wanted = [(node, array) for node, array in zip(nodes, made, strict=True) if not node.is_computed]
    if wanted:
        program = _Program()
        outputs = [(program.place(node), address(array)) for node, array in wanted]
        compute(
            np.array(program.codes, dtype=np.int64).reshape(-1, 5),
            np.array([address(leaf) for leaf in program.leaves], dtype=np.int64),
            np.array(program.constants, dtype=np.float64).reshape(-1, 2),
            program.registers,
            np.array(outputs, dtype=np.int64),
            made[0].size,
        )
    return made


class _Program:
    """The operations that were asked for, in an order in which each comes after what it is of, a register for each."""

    def __init__(self) -> None:
        self.codes: list[int] = []  # five numbers an operation
        self.leaves: list[Array] = []
        self.constants: list[tuple[int, float]] = []
        self.registers = 0
        self._places: dict[int | str, int] = {}

    def place(self, arg: Deferred | float) -> int:
        """Where `arg` is: a register, or a leaf from -1 downwards."""
        key = id(arg) if isinstance(arg, Deferred) else repr(arg)  # a text: 0.0 is -0.0 otherwise, and NaN not itself
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = self._placed(arg)
        return place

    def _placed(self, arg: Deferred | float) -> int:
        if isinstance(arg, Deferred):
            if arg.is_computed:
                self.leaves.append(arg.leaf)
                return -len(self.leaves)
            operands = [self.place(each) for each in arg.args]
            self.codes += arg.op, self.registers, *operands, *operands[:1] * (3 - len(operands))
        else:
            self.constants.append((self.registers, arg))
        self.registers += 1
        return self.registers - 1
