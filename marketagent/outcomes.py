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


class Table:
    """Figures of each combination on each of several grounds; several threads may `put`.

    `values` (M, G, F) and `there` (M,) are by number, so that nothing is sorted, and grow. NaN stands for None.
    """

    def __init__(self, names: Sequence[str], grounds: int = 1) -> None:
        self.names = tuple(names)
        self.there, self.values = np.zeros(0, dtype=np.bool_), np.empty((0, grounds, len(names)))
        self.count, self._lock = 0, Lock()

    def put(self, number: int, figures: Array) -> None:
        """Note the `figures` (G, F) of a combination."""
        with self._lock:
            if number >= len(self.there):
                self._make_room(number)
            self.values[number] = figures
            self.count += not self.there[number]
            self.there[number] = True

    def _make_room(self, number: int) -> None:
        room = len(self.there)
        more = max(number + 1, 2 * room, _FIRST_ROOM)
        there, values = np.zeros(more, dtype=np.bool_), np.zeros((more, *self.values.shape[1:]))
        there[:room], values[:room] = self.there, self.values
        self.values, self.there = values, there


class Outcomes(Mapping[int, Metrics]):
    """The metrics of each combination that is done on one of the grounds of a `table`, the lowest number first.

    Whoever looks while others put sees what was put before.
    """

    def __init__(self, table: Table, ground: int = 0) -> None:
        self._table, self._ground = table, ground

    @property
    def numbers(self) -> Numbers:
        """(M,): the numbers of what is done, ascending."""
        return np.flatnonzero(self._table.there)

    def figures(self, name: str) -> Figures:
        """One of the metrics of all that is done."""
        numbers = self.numbers
        return Figures(numbers, self._table.values[numbers, self._ground, self._table.names.index(name)])

    def __getitem__(self, number: int) -> Metrics:
        if number not in self:
            raise KeyError(number)
        values = self._table.values[number, self._ground].tolist()
        return dict(zip(self._table.names, map(_none, values), strict=True))

    def __contains__(self, number: object) -> bool:
        there = self._table.there
        return isinstance(number, int) and 0 <= number < len(there) and bool(there[number])

    def __iter__(self) -> Iterator[int]:
        return map(int, self.numbers)

    def __len__(self) -> int:
        return self._table.count


def _none(value: float) -> float | None:
    return None if value != value else value  # NaN is the one number that is not itself
