"""Combinations of a sweep, compiled: from indicators to signals, target weights, equity and metrics in one go.

A few hundred cells at a time go through all of it, and stay in the nearest cache meanwhile: the program of the signals
(``cells``), the weights (``weighing``), the rows of the simulation (``kernel``).
"""

import numpy as np

from marketagent.cells import hold, place_of, run_block
from marketagent.compiled import Array, Whole, cells_at, compiled, matrix_at, numbers_at
from marketagent.kernel.measure import measure
from marketagent.kernel.terms import LENGTH, START, START_CASH, WIDTH, Book, book, market, room_for
from marketagent.kernel.walk import walk
from marketagent.weighing import SHEETS, weigh

BLOCK = 512  # cells that go through together; of a wider panel a row
SURE = 1 << 40  # in the place of a signal's confidence: it is the one number given for all cells


def cells_for(width: int, registers: int) -> int:
    """How many cells of room ``play`` needs."""
    return room_for(width) + (1 + SHEETS + registers) * max(BLOCK, width)


@compiled
def play(
    machine: int, codes: Whole, leaves: Whole, constants: Array, parts: Whole, sure: Array, weights: Array, rule: Array, due: Whole,
    facts: Whole, band: float, bill: Array, terms: Array, room: Array, equity: Array, figures: Array,
) -> int:  # fmt: skip
    """Decide and trade one combination on each of several markets, whose `facts` are (G, ...).

    `machine`, `codes`, `leaves` (G, L) and `constants` are the program of the signals, see ``cells``; `parts` (S, 2) say where in it
    the value and the confidence of each are, `sure` (S,) a confidence that is the same everywhere, `weights` (S,) what each
    counts, `rule` what ``weighing`` goes by. `due` (G, 2) are the address and the number of the rows that decide. Into
    `equity` goes that of one market after the other, each (T,), from its row START on; into `figures` (G, ...) the metrics,
    as FIGURES names them. Returns the first market on which a signal leaves its range, or -1.
    """
    first = 0
    for g in range(len(facts)):
        length, width = facts[g, LENGTH], facts[g, WIDTH]
        account, path = book(room.ctypes.data, terms[START_CASH], width), equity[first : first + length]
        rows, sheets = numbers_at(due[g, 0], 0, due[g, 1]), room.ctypes.data + 8 * room_for(width)
        if len(rows) < length and not _keeps_range(
            machine, codes, leaves[g], constants, parts, sheets, length * width, max(BLOCK, width)
        ):
            return g
        if not _decide_and_trade(
            machine, codes, leaves[g], constants, parts, sure, weights, rule, rows, facts[g], band, bill, terms, sheets,
            account, path,
        ):  # fmt: skip
            return g
        measure(path[facts[g, START] :], terms, account.account, figures[g])
        first += length
    return -1


@compiled
def _keeps_range(
    machine: int, codes: Whole, leaves: Whole, constants: Array, parts: Whole, sheets: int, cells: int, room: int
) -> bool:
    """Whether the signals are within [-1, 1], their confidences within [0, 1], also on the rows that do not decide."""
    held, beyond = sheets + 8 * (1 + SHEETS) * room, 0
    hold(constants, held, room)
    for first in range(0, cells if len(codes) else 0, room):
        count = min(room, cells - first)
        run_block(machine, codes, leaves, held, room, first, count)
        for k in range(len(parts)):
            for which in range(2):
                if parts[k, which] != SURE:
                    values = cells_at(place_of(parts[k, which], leaves, held, room, first), 0, count)
                    for i in range(count):
                        beyond += (values[i] > 1) | (values[i] < -1 + which)
    return beyond == 0


@compiled
def _decide_and_trade(
    machine: int, codes: Whole, leaves: Whole, constants: Array, parts: Whole, sure: Array, weights: Array, rule: Array,
    due: Whole, facts: Whole, band: float, bill: Array, terms: Array, sheets: int, account: Book, equity: Array,
) -> bool:  # fmt: skip
    """Of one market; `sheets` is the address of the room beside the book. False if a signal leaves its range."""
    length, width, t = facts[LENGTH], facts[WIDTH], facts[START]
    most = max(1, BLOCK // width)
    wanted, held = matrix_at(sheets, most, width), sheets + 8 * (1 + SHEETS) * most * width
    hold(constants, held, most * width)
    spots = np.empty(parts.shape, np.int64)
    turn, decides = 0, True
    while decides:
        decides = turn < len(due)  # after the last row that does there may be more to live through
        first, rows = due[turn] if decides else length, min(most, len(due) - turn)
        while rows > 1 and due[turn + rows - 1] - first >= rows:  # not one after the other, as they mostly are
            rows -= 1
        turn += rows
        if decides:
            run_block(machine, codes, leaves, held, most * width, first * width, rows * width)
            for k in range(len(parts)):
                spots[k, 0] = place_of(parts[k, 0], leaves, held, most * width, first * width)
                alike = parts[k, 1] == SURE
                spots[k, 1] = 0 if alike else place_of(parts[k, 1], leaves, held, most * width, first * width)
            if not weigh(wanted, sheets + 8 * most * width, spots, sure, weights, rule, facts, first, rows):
                return False
        if first + rows > t:
            walk(account, market(facts), wanted, first, t, first + rows, band, bill, terms, equity)
            t = first + rows
    return True
