"""The compiled half of ``deferred``: a program of array operations, run over blocks of cells.

NumPy runs one operation over a whole array before the next one begins, and moves the array through the memory each
time. Here all operations run over a few hundred cells, which stay in the nearest cache, and then over the next ones.
A program is data, a row an operation: (operation, register out, operands). Of one that is run much there is machine code
beside it (see ``machine``), which writes the registers that are asked for and no others.
"""

import numpy as np

from marketagent.compiled import Array, Whole, call_at, cells_at, compiled, inlined
from marketagent.deferred import ABS, ADD, DIV, EQ, FINITE, ISNAN, LE, LT, MAX, MIN, MUL, NOT, SIGN, SQRT, SUB, WHERE

BLOCK = 512  # cells; a dozen registers of them stay in the nearest cache


@compiled
def compute(
    machine: int, codes: Whole, leaves: Whole, constants: Array, room: Array, outputs: Whole, cells: int
) -> None:
    """Run the program `codes` (K, 5) over arrays of so many `cells` each; `machine` is the address of its machine code, or 0.

    `leaves` are the addresses of what it reads, `outputs` (M, 2) registers and the addresses they are written to;
    `constants` (C, 2) are registers and what they hold throughout. `room` has a BLOCK for each register.
    """
    held = room.ctypes.data
    hold(constants, held, BLOCK)
    for first in range(0, cells, BLOCK):
        count = min(BLOCK, cells - first)
        run_block(machine, codes, leaves, held, BLOCK, first, count)
        for k in range(len(outputs)):
            made = cells_at(place_of(outputs[k, 0], leaves, held, BLOCK, first), 0, count)
            cells_at(outputs[k, 1], first, count)[:] = made


@inlined
def hold(constants: Array, held: int, room: int) -> None:
    """Write the `constants` into their registers, each of `room` cells, at the address `held`."""
    for k in range(len(constants)):
        register, number = cells_at(held, int(constants[k, 0]) * room, room), constants[k, 1]
        for i in range(room):  # an assignment to the whole takes ten times as long
            register[i] = number


@inlined
def place_of(operand: int, leaves: Whole, held: int, room: int, first: int) -> int:
    """The address of a register, or, from -1 downwards, of cell `first` of a leaf."""
    return held + 8 * operand * room if operand >= 0 else leaves[-operand - 1] + 8 * first


@compiled
def _operand(operand: int, leaves: Whole, held: int, room: int, first: int, count: int) -> Array:
    """By address: of a part of an array numba would not know that its cells lie side by side."""
    return cells_at(place_of(operand, leaves, held, room, first), 0, count)


@inlined
def run_block(machine: int, codes: Whole, leaves: Whole, held: int, room: int, first: int, count: int) -> None:
    """Every step of the program over `count` cells from cell `first` on; registers have room for so many cells or more."""
    if machine:
        call_at(machine, leaves.ctypes.data, held, room, first, count)
    else:
        _interpret(codes, leaves, held, room, first, count)


@compiled
def _interpret(codes: Whole, leaves: Whole, held: int, room: int, first: int, count: int) -> None:
    for k in range(len(codes)):
        op, out = codes[k, 0], _operand(codes[k, 1], leaves, held, room, first, count)
        a = _operand(codes[k, 2], leaves, held, room, first, count)
        b = _operand(codes[k, 3], leaves, held, room, first, count)
        if op == ADD:
            for i in range(count):
                out[i] = a[i] + b[i]
        elif op == SUB:
            for i in range(count):
                out[i] = a[i] - b[i]
        elif op == MUL:
            for i in range(count):
                out[i] = a[i] * b[i]
        elif op == DIV:
            for i in range(count):
                out[i] = a[i] / b[i]
        elif op == LT:
            for i in range(count):
                out[i] = 1.0 if a[i] < b[i] else 0.0
        elif op == LE:
            for i in range(count):
                out[i] = 1.0 if a[i] <= b[i] else 0.0
        elif op == EQ:
            for i in range(count):
                out[i] = 1.0 if a[i] == b[i] else 0.0
        elif op == WHERE:
            c = _operand(codes[k, 4], leaves, held, room, first, count)
            for i in range(count):
                then, otherwise = b[i], c[i]  # both are read at any rate: then this is done without a branch
                out[i] = then if a[i] != 0.0 else otherwise
        elif op == MIN:
            for i in range(count):
                out[i] = a[i] if a[i] <= b[i] or a[i] != a[i] else b[i]
        elif op == MAX:
            for i in range(count):
                out[i] = a[i] if a[i] >= b[i] or a[i] != a[i] else b[i]
        elif op == ABS:
            for i in range(count):
                out[i] = abs(a[i])
        elif op == SIGN:
            for i in range(count):
                out[i] = 1.0 if a[i] > 0 else -1.0 if a[i] < 0 else 0.0 if a[i] == 0 else a[i]
        elif op == NOT:
            for i in range(count):
                out[i] = 1.0 if a[i] == 0 else 0.0
        elif op == ISNAN:
            for i in range(count):
                out[i] = 1.0 if a[i] != a[i] else 0.0
        elif op == FINITE:
            for i in range(count):
                out[i] = 1.0 if np.isfinite(a[i]) else 0.0
        elif op == SQRT:
            for i in range(count):
                out[i] = np.sqrt(a[i])
