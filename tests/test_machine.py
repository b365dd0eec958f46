"""Machine code of a program gives what the program gives, to the bit."""

import threading

import numpy as np
import pytest

from marketagent.cells import BLOCK, compute
from marketagent.compiled import address
from marketagent.deferred import WHERE
from marketagent.machine import SOON, Form, Machine, Machines
from marketagent.panel import Array

LEAVES, OPERATIONS = 3, range(16)
ODD = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 5e-324]


def random_form(rng: np.random.Generator, steps: int) -> tuple[Form, Array]:
    """A program of any operations, of leaves, two constants and of what was computed before; and its constants."""
    codes: list[int] = []
    for step in range(steps):
        operands = rng.integers(-LEAVES, 2 + step, 3).tolist()
        codes += [int(rng.choice(OPERATIONS)) if step else WHERE, 2 + step, *operands]
    outputs = sorted({steps + 1, int(rng.integers(2, steps + 2))})
    constants = np.array([(0, rng.choice(ODD)), (1, rng.normal())])
    return Form(tuple(codes), (0, 1), tuple(outputs)), constants


def odd_leaves(rng: np.random.Generator, cells: int) -> list[Array]:
    leaves = [rng.normal(0, 2, cells).round(1) for _ in range(LEAVES)]
    for leaf in leaves:
        some = rng.random(cells) < 0.2
        leaf[some] = rng.choice(ODD, some.sum())
    return leaves


def run(machine: int, form: Form, constants: Array, leaves: list[Array]) -> list[Array]:
    made = [np.full(len(leaves[0]), 77.0) for _ in form.outputs]
    outputs = [(place, address(array)) for place, array in zip(form.outputs, made, strict=True)]
    codes = np.array(form.codes, dtype=np.int64).reshape(-1, 5)
    room = np.empty((2 + len(codes)) * BLOCK)
    addresses = np.array([address(leaf) for leaf in leaves], dtype=np.int64)
    compute(machine, codes, addresses, constants, room, np.array(outputs, dtype=np.int64), len(leaves[0]))
    return made


@pytest.mark.parametrize("seed", range(60))
def test_every_operation_gives_the_same_bits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    form, constants = random_form(rng, int(rng.integers(1, 40)))
    machine = Machine(form)
    for cells in (1, 7, 8, 21, BLOCK, 2 * BLOCK + 13):
        leaves = odd_leaves(rng, cells)
        for found, expected in zip(
            run(machine.address, form, constants, leaves), run(0, form, constants, leaves), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
            numbers = expected == expected  # the sign of a NaN means nothing
            np.testing.assert_array_equal(np.signbit(found[numbers]), np.signbit(expected[numbers]))


def test_every_operation_was_among_them() -> None:
    forms = [random_form(rng, int(rng.integers(1, 40)))[0] for rng in map(np.random.default_rng, range(60))]
    assert {op for form in forms for op in form.codes[::5]} == set(OPERATIONS)


def test_a_form_is_compiled_when_it_has_been_run_enough_and_once() -> None:
    machines = Machines()
    form, other = (random_form(np.random.default_rng(seed), 5)[0] for seed in (1, 2))
    assert machines.address(form, SOON - 1) == 0
    assert machines.address(other, SOON - 1) == 0
    found = machines.address(form, 1)
    assert found != 0
    assert machines.address(form, 1) == found
    again = random_form(np.random.default_rng(1), 5)[0]
    assert machines.address(again, 1) == found


def test_while_one_thread_compiles_the_others_go_on_without() -> None:
    machines, form = Machines(), random_form(np.random.default_rng(3), 30)[0]
    start, found = threading.Barrier(8), list[int]()

    def ask() -> None:
        start.wait()
        for _ in range(200):
            found.append(machines.address(form, SOON // 20))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found) - {0}) == 1
    assert machines.address(form, 1) in found
