"""One combination of a sweep in one go, compiled: from indicators to signals, target weights, equity and metrics.

A few hundred cells at a time go through all of it, and stay in the nearest cache meanwhile: the program of the signals
(``cells``), the weights (``weighing``), the rows of the simulation (``kernel``).
"""

import numpy as np

from marketagent.cells import hold, place_of, run_block
from marketagent.compiled import Array, Whole, compiled, matrix_at
from marketagent.kernel.measure import measure
from marketagent.kernel.terms import LENGTH, START, START_CASH, WIDTH, book, market, room_for
from marketagent.kernel.walk import walk
from marketagent.weighing import SHEETS, weigh

BLOCK = 512  # cells that go through together; of a wider panel a row
SURE = 1 << 40  # in the place of a signal's confidence: it is the one number given for all cells


def cells_for(width: int, registers: int) -> int:
    """How many cells of room ``play`` needs."""
    return room_for(width) + (1 + SHEETS + registers) * max(BLOCK, width)


@compiled
def play(
    codes: Whole, leaves: Whole, constants: Array, parts: Whole, sure: Array, weights: Array, rule: Array, due: Whole,
    looked_at: Whole, facts: Whole, band: float, bill: Array, terms: Array, room: Array, equity: Array, results: Array,
) -> bool:  # fmt: skip
    """Decide and trade one combination into `equity` (T,), from row `start` on, and its `results`, as RESULTS names them.

    `codes`, `leaves` and `constants` are the program of the signals, see ``cells``; `parts` (S, 2) say where in it the value
    and the confidence of each are, `sure` (S,) a confidence that is the same everywhere, `weights` (S,) what each counts.
    `due` are the rows that decide, `looked_at` the addresses of what ``weighing`` looks at. False, and nothing of worth, if
    a signal leaves its range.
    """
    length, width, start = facts[LENGTH], facts[WIDTH], int(terms[START])
    most = max(1, BLOCK // width)
    account, sheets = book(room.ctypes.data, terms[START_CASH], width), room.ctypes.data + 8 * room_for(width)
    wanted, held = matrix_at(sheets, most, width), sheets + 8 * (1 + SHEETS) * most * width
    hold(constants, held, most * width)
    spots = np.empty(parts.shape, np.int64)
    t, turn, decides = start, 0, True
    while decides:
        decides = turn < len(due)
        first, rows = due[turn] if decides else length, 0
        while rows < most and turn < len(due) and due[turn] == first + rows:
            rows, turn = rows + 1, turn + 1
        if decides:
            run_block(codes, leaves, held, most * width, first * width, rows * width)
            for k in range(len(parts)):
                spots[k, 0] = place_of(parts[k, 0], leaves, held, most * width, first * width)
                alike = parts[k, 1] == SURE
                spots[k, 1] = 0 if alike else place_of(parts[k, 1], leaves, held, most * width, first * width)
            if not weigh(wanted, sheets + 8 * most * width, spots, sure, weights, rule, looked_at, first, rows, length):
                return False
        if first + rows > t:
            walk(account, market(facts), wanted, first, t, first + rows, band, bill, terms, equity)
            t = first + rows
    measure(equity[start:], terms, account.account, results)
    return True
