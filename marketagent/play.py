"""Combinations of a sweep, compiled: from indicators to signals, target weights, equity and metrics in one go.

A few hundred cells at a time go through all of it, and stay in the nearest cache meanwhile: the program of the signals
(``cells``), the weights (``weighing``), the rows of the simulation (``kernel``).
"""

from typing import NamedTuple

import numpy as np

from marketagent.cells import hold, place_of, run_block
from marketagent.compiled import Array, Whole, borrowed, cells_at, compiled, inlined, matrix_at, numbers_at
from marketagent.kernel.measure import measure
from marketagent.kernel.terms import LENGTH, START, START_CASH, WIDTH, Book, book, market, room_for
from marketagent.kernel.walk import walk
from marketagent.weighing import SHEETS, weigh

BLOCK = 512  # cells that go through together; of a wider panel a row
SURE = 1 << 40  # in the place of a signal's confidence: it is the one number given for all cells


def cells_for(width: int, registers: int) -> int:
    """How many cells of room ``play`` needs."""
    return room_for(width) + (1 + SHEETS + registers) * _in_lines(max(BLOCK, width))


@inlined
def _in_lines(cells: int) -> int:
    """So many cells, or a few more, so that what comes after them begins at a line of the processor's cache."""
    return (cells + 7) // 8 * 8


class Combination(NamedTuple):
    """What decides: the program of the signals (see ``cells``), and what is made of them.

    `parts` (S, 2) say where in the program the value and the confidence of each signal are, `sure` (S,) a confidence that
    is the same everywhere, `weights` (S,) what each counts, `rule` what ``weighing`` goes by.
    """

    machine: int
    codes: Whole
    constants: Array
    parts: Whole
    sure: Array
    weights: Array
    rule: Array
    band: float


@compiled
def play(
    machine: int, codes: Whole, leaves: Whole, constants: Array, parts: Whole, sure: Array, weights: Array, rules: Array,
    due: Whole, facts: Whole, bands: Array, bill: Array, terms: Array, room: Array, equity: Array, figures: Array,
    beyond: Whole,
) -> None:  # fmt: skip
    """Decide and trade C combinations on each of G markets, whose `facts` are (G, ...).

    `machine`, `codes` and `parts` are those of a Combination, which all have in common; `constants`, `sure`, `weights`,
    `rules`, `bands` (C, ...) are each one's, `leaves` (C, G, L) what its program reads on a market; `due` (G, 2) are the
    address and the number of the rows that decide. Into `equity` (C, ...) goes that of one market after the other, each
    (T,), from its row START on; or, if it has room for one market only, of each in the place of the one before. Into
    `figures` (C, G, ...) go the metrics, as FIGURES names them; into `beyond` (C,) the first market on which a signal
    leaves its range, or -1.
    """
    steps, places, costs, means, spots = (
        borrowed(codes),
        borrowed(parts),
        borrowed(bill),
        borrowed(terms),
        np.empty(parts.shape, np.int64),
    )
    beyond[:], first, is_kept = -1, 0, equity.shape[1] >= facts[:, LENGTH].sum()
    for g in range(len(facts)):
        known, length, width = borrowed(facts[g]), facts[g, LENGTH], facts[g, WIDTH]
        rows, sheets = numbers_at(due[g, 0], 0, due[g, 1]), room.ctypes.data + 8 * room_for(width)
        for c in range(len(rules)):
            asked = Combination(
                machine,
                steps,
                borrowed(constants[c]),
                places,
                borrowed(sure[c]),
                borrowed(weights[c]),
                borrowed(rules[c]),
                bands[c],
            )
            path = borrowed(equity[min(c, len(equity) - 1)])[first : first + length]
            account, reads = book(room.ctypes.data, means[START_CASH], width), borrowed(leaves[c, g])
            if (
                len(rows) == length or _keeps_range(asked, reads, sheets, length * width, _in_lines(max(BLOCK, width)))
            ) and _decide_and_trade(asked, reads, rows, known, costs, means, sheets, borrowed(spots), account, path):
                measure(path[known[START] :], means, account.account, borrowed(figures[c, g]))
            elif beyond[c] < 0:
                beyond[c] = g
        first += length if is_kept else 0


@compiled
def _keeps_range(asked: Combination, leaves: Whole, sheets: int, cells: int, room: int) -> bool:
    """Whether the signals are within [-1, 1], their confidences within [0, 1], also on the rows that do not decide."""
    held, beyond = sheets + 8 * (1 + SHEETS) * room, 0
    hold(asked.constants, held, room)
    for first in range(0, cells, room):
        count = min(room, cells - first)
        run_block(asked.machine, asked.codes, leaves, held, room, first, count)
        for k in range(len(asked.parts)):
            for which in range(2):
                if asked.parts[k, which] != SURE:
                    values = cells_at(place_of(asked.parts[k, which], leaves, held, room, first), 0, count)
                    for i in range(count):
                        beyond += (values[i] > 1) | (values[i] < -1 + which)
    return beyond == 0


@compiled
def _decide_and_trade(
    asked: Combination, leaves: Whole, due: Whole, facts: Whole, bill: Array, terms: Array, sheets: int, spots: Whole,
    account: Book, equity: Array,
) -> bool:  # fmt: skip
    """Of one market; `sheets` is the address of the room beside the book, `spots` (S, 2) room. False if a signal leaves its
    range."""
    length, width, t, parts = facts[LENGTH], facts[WIDTH], facts[START], asked.parts
    most = max(1, BLOCK // width)
    space = _in_lines(most * width)
    wanted, held = matrix_at(sheets, most, width), sheets + 8 * (1 + SHEETS) * space
    hold(asked.constants, held, space)
    turn, decides = 0, True
    while decides:
        decides = turn < len(due)  # after the last row that does there may be more to live through
        first, rows = due[turn] if decides else length, min(most, len(due) - turn)
        while rows > 1 and due[turn + rows - 1] - first >= rows:  # not one after the other, as they mostly are
            rows -= 1
        turn += rows
        if decides:
            run_block(asked.machine, asked.codes, leaves, held, space, first * width, rows * width)
            for k in range(len(parts)):
                spots[k, 0] = place_of(parts[k, 0], leaves, held, space, first * width)
                alike = parts[k, 1] == SURE
                spots[k, 1] = 0 if alike else place_of(parts[k, 1], leaves, held, space, first * width)
            if not weigh(wanted, sheets + 8 * space, spots, asked.sure, asked.weights, asked.rule, facts, first, rows):
                return False
        if first + rows > t:
            walk(account, market(facts), wanted, first, t, first + rows, asked.band, bill, terms, equity)
            t = first + rows
    return True
