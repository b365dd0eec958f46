"""What the combinations of a grid came to, by number: in arrays, which take a twentieth of what dicts of floats do."""

from collections.abc import Iterator, Mapping, Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray

Metrics = dict[str, float | None]
Numbers = NDArray[np.int64]
Array = NDArray[np.float64]
_FIRST_ROOM = 1024


class Figures(Mapping[int, float | None]):
    """One figure of each combination; None where it has none.

    `numbers` (M,) are ascending, `values` (M,) are NaN for None.
    """

    def __init__(self, numbers: Numbers, values: Array) -> None:
        self.numbers, self.array = numbers, values

    @classmethod
    def of(cls, known: Mapping[int, float | None]) -> "Figures":
        """`known` as arrays."""
        if isinstance(known, Figures):
            return known
        numbers = sorted(known)
        values = [np.nan if (value := known[number]) is None else value for number in numbers]
        return cls(np.array(numbers, dtype=np.int64), np.array(values, dtype=np.float64))

    def __getitem__(self, number: int) -> float | None:
        row = int(np.searchsorted(self.numbers, number))
        if row == len(self.numbers) or self.numbers[row] != number:
            raise KeyError(number)
        return _none(float(self.array[row]))

    def __iter__(self) -> Iterator[int]:
        return map(int, self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


class Outcomes(Mapping[int, Metrics]):
    """The metrics of each combination that is done, the lowest number first; all of them have the same names.

    Several threads may `put`; whoever looks meanwhile sees what was put before.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._there, self._table = (
            np.zeros(0, dtype=np.bool_),
            np.empty((0, len(names))),
        )  # by number: nothing is sorted
        self._count, self._lock = 0, Lock()

    def put(self, number: int, values: Array) -> None:
        """Note the `values` of a combination, in the order of the names; NaN for None."""
        with self._lock:
            self._make_room(number)
            self._table[number] = values
            self._count += not self._there[number]
            self._there[number] = True

    @property
    def numbers(self) -> Numbers:
        """(M,): the numbers of what is done, ascending."""
        return np.flatnonzero(self._there)

    def figures(self, name: str) -> Figures:
        """One of the metrics of all that is done."""
        numbers = self.numbers
        return Figures(numbers, self._table[numbers, self._names.index(name)])

    def __getitem__(self, number: int) -> Metrics:
        if number not in self:
            raise KeyError(number)
        return dict(zip(self._names, map(_none, self._table[number].tolist()), strict=True))

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and 0 <= number < len(self._there) and bool(self._there[number])

    def __iter__(self) -> Iterator[int]:
        return map(int, self.numbers)

    def __len__(self) -> int:
        return self._count

    def _make_room(self, number: int) -> None:
        room = len(self._there)
        if number < room:
            return
        more = max(number + 1, 2 * room, _FIRST_ROOM)
        there, table = np.zeros(more, dtype=np.bool_), np.zeros((more, len(self._names)))
        there[:room], table[:room] = self._there, self._table
        self._table, self._there = table, there


def _none(value: float) -> float | None:
    return None if value != value else value  # NaN is the one number that is not itself
