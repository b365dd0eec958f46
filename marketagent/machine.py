"""A program of ``cells`` as machine code of its own, for one that is run over millions of cells.

``cells.run_block`` goes over a block of cells once for each operation. Here all operations on a few cells are done one
after the other in the processor's registers, and only what the program is asked for is written: a fifth of the time.
Every operation has the one result that IEEE 754 allows, here as there, so both give the same bits.

It is written down for LLVM, which numba compiles with, as vectors of LANES cells; nothing is left to be found out, so that
it takes some ten milliseconds and not numba's second.
"""

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, NamedTuple

from llvmlite import binding, ir

from marketagent.deferred import ABS, ADD, DIV, EQ, FINITE, ISNAN, LE, LT, MAX, MIN, MUL, NOT, SIGN, SQRT, SUB, WHERE

LANES = 8  # cells at once; LLVM takes two steps for them where the processor's registers have four
SOON = 4_000_000  # cells; with so many more it has paid to have compiled
_NAME = "program"
_WHOLE, _FLOAT, _BIT, _NONE = ir.IntType(64), ir.DoubleType(), ir.IntType(1), ir.VoidType()
_SIGNATURE = ir.FunctionType(_NONE, [_WHOLE] * 5)  # where the leaves and the registers are, room, first cell, count
_ARITHMETIC = {ADD: "fadd", SUB: "fsub", MUL: "fmul", DIV: "fdiv"}
_COMPARED = {LT: "<", LE: "<=", EQ: "=="}


class Form(NamedTuple):
    """A program but for its numbers: its operations as ``program.Program`` has them, five numbers each; the registers that
    hold a constant; those that are asked for. Programs of one form have the same machine code."""

    codes: tuple[int, ...]
    constants: tuple[int, ...]
    outputs: tuple[int, ...]


class Machines:
    """The machine code of the forms that are run much; threads may ask at the same time."""

    def __init__(self) -> None:
        self._cells: dict[Form, int] = {}
        self._made: dict[Form, Machine] = {}
        self._lock = Lock()

    def address(self, form: Form, cells: int) -> int:
        """Where the machine code of `form` is, which is about to run over so many `cells`; 0 while there is none."""
        made = self._made.get(form)
        if made is not None:
            return made.address
        with self._lock:
            before = self._cells.get(form, 0)
            self._cells[form] = before + cells
        if not before < SOON <= before + cells:  # somebody else is at it, or it is too early
            return 0
        self._made[form] = made = Machine(form)
        return made.address


class Machine:
    """The machine code of one form, good as long as this lives.

    It is called with the addresses of the addresses of the leaves and of the registers, how many cells a register has room
    for, the first cell and the number of cells, as ``cells.run_block`` is; it writes the outputs and no other register.
    """

    def __init__(self, form: Form) -> None:
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        features = binding.get_host_cpu_features().flatten()
        target = binding.Target.from_default_triple()
        host = target.create_target_machine(cpu=binding.get_host_cpu_name(), features=features, opt=3)
        self._engine = binding.create_mcjit_compiler(binding.parse_assembly(str(written(form))), host)
        self._engine.finalize_object()
        self.address = int(self._engine.get_function_address(_NAME))


def written(form: Form) -> ir.Module:
    """`form` for LLVM: a loop over LANES cells at a time, and one over those that are left."""
    module = ir.Module(_NAME)
    function = ir.Function(module, _SIGNATURE, _NAME)
    leaves, held, room, first, count = function.args
    builder = ir.IRBuilder(function.append_basic_block())

    def register(number: int) -> Any:
        return builder.add(held, builder.mul(room, _whole(8 * number)))

    def leaf(number: int) -> Any:
        address = builder.load(builder.inttoptr(builder.add(leaves, _whole(8 * number)), _WHOLE.as_pointer()))
        return builder.add(address, builder.mul(first, _whole(8)))

    steps = [form.codes[k : k + 5] for k in range(0, len(form.codes), 5)]
    places = {place for step in steps for place in step[1:]}
    at = {place: leaf(-place - 1) for place in places if place < 0} | {out: register(out) for out in form.outputs}
    numbers = {k: builder.load(builder.inttoptr(register(k), _FLOAT.as_pointer())) for k in form.constants}
    most = builder.and_(count, _whole(-LANES))
    for lanes, begin, end in ((LANES, _whole(0), most), (1, most, count)):
        _loop(builder, lanes, begin, end, lambda body: _write(body, steps, form.outputs), at, numbers)
    builder.ret_void()
    return module


def _whole(number: int) -> Any:
    return ir.Constant(_WHOLE, number)


def _loop(
    builder: Any, lanes: int, begin: Any, end: Any, write: "Callable[[_Body], None]", at: dict[int, Any],
    numbers: dict[int, Any],
) -> None:  # fmt: skip
    """What `write` writes, for `lanes` cells at a time from cell `begin` on, as long as there are any before `end`."""
    inside, after = builder.append_basic_block(), builder.append_basic_block()
    filled = {place: _spread(builder, number, lanes) for place, number in numbers.items()}
    before = builder.block
    builder.cbranch(builder.icmp_signed("<", begin, end), inside, after)
    builder.position_at_end(inside)
    cell = builder.phi(_WHOLE)
    cell.add_incoming(begin, before)
    write(_Body(builder, lanes, cell, at, filled))
    following = builder.add(cell, _whole(lanes))
    cell.add_incoming(following, inside)
    builder.cbranch(builder.icmp_signed("<", following, end), inside, after)
    builder.position_at_end(after)


def _spread(builder: Any, number: Any, lanes: int) -> Any:
    """A number in each lane."""
    if lanes == 1:
        return number
    nothing = ir.Constant(ir.VectorType(_FLOAT, lanes), ir.Undefined)
    which = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(
        builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0)), nothing, which
    )


def _write(body: "_Body", steps: Sequence[tuple[int, ...]], outputs: Sequence[int]) -> None:
    for op, out, *operands in steps:
        body.do(op, out, *operands)
    for out in outputs:
        body.store(out)


class _Body:
    """The operations on the cells of one turn. What is true or false stays a bit until it is asked for as a number."""

    def __init__(self, builder: Any, lanes: int, cell: Any, at: dict[int, Any], numbers: dict[int, Any]) -> None:
        self._builder, self._lanes, self._at = builder, lanes, at
        self._offset = builder.mul(cell, _whole(8))
        self._kind = _FLOAT if lanes == 1 else ir.VectorType(_FLOAT, lanes)
        self._numbers, self._bits = dict(numbers), dict[int, Any]()

    def do(self, op: int, out: int, a: int, b: int, c: int) -> None:
        """One operation, as ``cells.run_block`` does it."""
        build = self._builder
        if op in _ARITHMETIC:
            self._numbers[out] = getattr(build, _ARITHMETIC[op])(self._number(a), self._number(b))
        elif op in _COMPARED:
            self._bits[out] = build.fcmp_ordered(_COMPARED[op], self._number(a), self._number(b))
        elif op == NOT:
            self._bits[out] = build.not_(self._bit(a))
        elif op == ISNAN:
            self._bits[out] = build.fcmp_unordered("uno", self._number(a), self._number(a))
        elif op == FINITE:
            size = self._called("fabs", self._number(a))
            self._bits[out] = build.fcmp_ordered("<", size, self._constant(float("inf")))
        elif op in (MIN, MAX) and a in self._bits and b in self._bits:
            self._bits[out] = (build.and_ if op == MIN else build.or_)(self._bits[a], self._bits[b])
        else:
            self._numbers[out] = self._made(op, a, b, c)

    def store(self, out: int) -> None:
        """Write a register."""
        self._builder.store(self._number(out), self._pointer(out), align=8)

    def _made(self, op: int, a: int, b: int, c: int) -> Any:
        build, number = self._builder, self._number(a)
        if op == WHERE:
            return build.select(self._bit(a), self._number(b), self._number(c))
        if op in (MIN, MAX):
            is_first = build.fcmp_ordered("<=" if op == MIN else ">=", number, self._number(b))
            none = build.fcmp_unordered("uno", number, number)
            return build.select(build.or_(is_first, none), number, self._number(b))
        if op == SIGN:
            zero = self._constant(0.0)
            signed = build.select(build.fcmp_ordered("==", number, zero), zero, number)
            signed = build.select(build.fcmp_ordered("<", number, zero), self._constant(-1.0), signed)
            return build.select(build.fcmp_ordered(">", number, zero), self._constant(1.0), signed)
        return self._called({ABS: "fabs", SQRT: "sqrt"}[op], number)

    def _number(self, place: int) -> Any:
        if place not in self._numbers:
            if place in self._bits:
                made = self._builder.select(self._bits[place], self._constant(1.0), self._constant(0.0))
            else:
                made = self._builder.load(self._pointer(place), align=8)
            self._numbers[place] = made
        return self._numbers[place]

    def _bit(self, place: int) -> Any:
        if place not in self._bits:
            return self._builder.fcmp_unordered("!=", self._number(place), self._constant(0.0))
        return self._bits[place]

    def _pointer(self, place: int) -> Any:
        return self._builder.inttoptr(self._builder.add(self._at[place], self._offset), self._kind.as_pointer())

    def _constant(self, number: float) -> Any:
        return ir.Constant(self._kind, number if self._lanes == 1 else [number] * self._lanes)

    def _called(self, function: str, number: Any) -> Any:
        name = f"llvm.{function}.{'' if self._lanes == 1 else f'v{self._lanes}'}f64"
        module = self._builder.module
        made = module.globals.get(name) or ir.Function(module, ir.FunctionType(self._kind, [self._kind]), name)
        return self._builder.call(made, [number])
