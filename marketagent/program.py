"""From deferred arrays to a program over registers, and the program run: see ``deferred`` and ``cells``."""

from collections.abc import Sequence

import numpy as np

from marketagent.cells import compute
from marketagent.compiled import address
from marketagent.deferred import Array, Deferred

_RESULT = 1 << 40  # a use that never ends: of what comes out


def computed(nodes: Sequence[Deferred]) -> list[Array]:
    """The arrays of `nodes`, all of one shape, computed together; what is an array already comes out as it is."""
    made = [node.leaf if node.is_computed else np.empty(node.shape) for node in nodes]
    wanted = [(node, array) for node, array in zip(nodes, made, strict=True) if not node.is_computed]
    if wanted:
        program = _Program([node for node, _ in wanted])
        outputs = [(program.place(node), address(array)) for node, array in wanted]
        compute(
            np.array(program.codes, dtype=np.int64),
            np.array([address(leaf) for leaf in program.leaves], dtype=np.int64),
            np.array(program.constants),
            len(program.constants) + program.registers,
            np.array(outputs, dtype=np.int64),
            made[0].size,
        )
    return made


class _Program:
    """The operations of `results` in an order in which each comes after what it is of.

    A register is used again as soon as nobody reads it any more, so that few are in use and all stay in the cache.
    """

    def __init__(self, results: Sequence[Deferred]) -> None:
        self.leaves: list[Array] = []
        self.constants: list[float] = []
        self.registers = 0
        order: dict[int, Deferred] = {}
        for node in results:
            _ordered(node, order)
        operations = [node for node in order.values() if not node.is_computed]
        self._leaf = {id(node): -1 - k for k, node in enumerate(n for n in order.values() if n.is_computed)}
        self.leaves = [node.leaf for node in order.values() if node.is_computed]
        self._constant = {text: k for k, text in enumerate(_constants(operations))}
        self.constants = [float(text) for text in self._constant]
        self._uses = {id(arg): 0 for node in operations for arg in node.args if isinstance(arg, Deferred)}
        for node in operations:
            for arg in node.args:
                if isinstance(arg, Deferred):
                    self._uses[id(arg)] += 1
        for node in results:
            self._uses[id(node)] = _RESULT
        self._register: dict[int, int] = {}
        self._free: list[int] = []
        self.codes = [self._code(node) for node in operations]

    def place(self, arg: Deferred | float) -> int:
        """Where an operand is: a register, of which the first are the constants, or a leaf from -1 downwards."""
        if not isinstance(arg, Deferred):
            return self._constant[repr(arg)]
        return self._leaf[id(arg)] if arg.is_computed else len(self.constants) + self._register[id(arg)]

    def _code(self, node: Deferred) -> tuple[int, ...]:
        # The result gets its register before those of its operands are free: where the two are one, the processor
        # cannot do several cells at a time.
        if not self._free:
            self._free.append(self.registers)
            self.registers += 1
        self._register[id(node)] = self._free.pop()
        operands = [self.place(arg) for arg in node.args]
        code = (node.op, self.place(node), *operands, *[operands[0]] * (3 - len(operands)))
        for arg in node.args:
            if isinstance(arg, Deferred):
                self._uses[id(arg)] -= 1
                if not self._uses[id(arg)] and not arg.is_computed:
                    self._free.append(self._register[id(arg)])
        return code


def _ordered(node: Deferred, order: dict[int, Deferred]) -> None:
    """Add `node` to `order`, after what it is of."""
    if id(node) in order:
        return
    if not node.is_computed:
        for arg in node.args:
            if isinstance(arg, Deferred):
                _ordered(arg, order)
    order[id(node)] = node


def _constants(operations: Sequence[Deferred]) -> list[str]:
    """Every constant once, as text: of numbers, 0.0 is -0.0, and NaN is not itself."""
    return list(dict.fromkeys(repr(arg) for node in operations for arg in node.args if not isinstance(arg, Deferred)))
