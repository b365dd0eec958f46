"""Bars on their way from a vendor into the store: what is wanted, what came as columns, and what was no bar.

Prices are as traded, times are the start of the bar.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from marketagent.panel import Array

NEW_YORK = ZoneInfo("America/New_York")
FIELDS = ("open", "high", "low", "close", "volume")
_LONGEST = 400  # characters that are kept of a row that was refused


@dataclass(frozen=True)
class Span:
    """Sessions `first` to `last`, inclusive."""

    first: date
    last: date

    def joined(self, other: "Span") -> "Span":
        return Span(min(self.first, other.first), max(self.last, other.last))


@dataclass(frozen=True)
class Want:
    """One symbol and the spans of it that are missing, oldest first."""

    symbol: str
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Action:
    """A split (`value` new shares for one old) or a dividend (`value` USD a share as traded), before the open of `day`."""

    symbol: str
    day: date
    kind: Literal["split", "dividend"]
    value: float


@dataclass(frozen=True)
class Refused:
    """A row that is no bar: its `text`, why, and its start in Unix seconds if that could be read."""

    text: str
    reason: str
    start: int | None = None


@dataclass(frozen=True)
class Rows:
    """K bars of one symbol: `start` in Unix seconds, prices and volume (K,); and what was sent that is no bar."""

    start: NDArray[np.int64]
    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array
    refused: tuple[Refused, ...] = ()

    @classmethod
    def of(cls, start: NDArray[np.int64], columns: Iterable[Array], refused: Iterable[Refused] = ()) -> "Rows":
        """Rows of five `columns` in the order of FIELDS."""
        first, high, low, last, volume = columns
        return cls(start, first, high, low, last, volume, tuple(refused))

    def __len__(self) -> int:
        return len(self.start)

    def kept(self, mask: NDArray[np.bool_]) -> "Rows":
        return Rows.of(self.start[mask], (getattr(self, name)[mask] for name in FIELDS), self.refused)


@dataclass(frozen=True)
class Delivery:
    """All that was wanted of one symbol."""

    want: Want
    rows: Rows
    actions: tuple[Action, ...] = ()


@dataclass(frozen=True)
class Load:
    """Deliveries of one source, feed and timeframe that go into the store together."""

    source: str
    feed: str
    timeframe: str
    deliveries: tuple[Delivery, ...]


Times = Callable[[Sequence[Any]], NDArray[np.int64]]


def rows(items: Iterable[Mapping[str, Any]], times: Times, names: Sequence[str]) -> Rows:
    """The bars in `items`, whose keys for time, open, high, low, close and volume are `names`.

    `times` turns the vendor's times into Unix seconds; a ValueError or TypeError of it refuses the row, and so does
    anything but a number among the others: a "1.5" is not guessed to be 1.5.

    >>> rows([{"t": 5, "o": 1, "h": 2, "l": 1, "c": 2, "v": 9}, {"t": 6, "o": "1"}], np.array, "tohlcv").refused
    (Refused(text="{'t': 6, 'o': '1'}", reason="o '1' is not a number", start=6),)
    """
    items = list(items)
    try:
        columns = [[item[name] for item in items] for name in names]
    except (KeyError, TypeError):
        return _one_by_one(items, times, names)  # some row lacks a value
    if any(not set(map(type, column)) <= {int, float} for column in columns[1:]):
        return _one_by_one(items, times, names)
    try:
        return Rows.of(times(columns[0]), [np.array(column, dtype=np.float64) for column in columns[1:]])
    except (ValueError, TypeError, OverflowError):
        return _one_by_one(items, times, names)


def _one_by_one(items: Sequence[Any], times: Times, names: Sequence[str]) -> Rows:
    good: list[tuple[int, list[float]]] = []
    refused: list[Refused] = []
    for item in items:
        start: int | None = None
        try:
            start = int(times([item[names[0]]])[0])
            good.append((start, [_number(item, name) for name in names[1:]]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
            refused.append(Refused(str(item)[:_LONGEST], reason, start))
    values = np.array([numbers for _, numbers in good], dtype=np.float64).reshape(len(good), len(names) - 1)
    start_column = np.array([at for at, _ in good], dtype=np.int64)
    return Rows.of(start_column, [values[:, n].copy() for n in range(len(names) - 1)], refused)


def _number(item: Mapping[str, Any], name: str) -> float:
    value = item[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} {str(value)[:40]!r} is not a number")  # noqa: TRY004 - told with those of `times`
    return float(value)


def joined(parts: Sequence[Rows]) -> Rows:
    """The bars of `parts` in one, in that order."""
    if not parts:
        return Rows.of(np.zeros(0, dtype=np.int64), [np.zeros(0) for _ in FIELDS])
    if len(parts) == 1:
        return parts[0]
    start = np.concatenate([part.start for part in parts])
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS]
    return Rows.of(start, columns, [row for part in parts for row in part.refused])


def unix_ms(values: Sequence[Any]) -> NDArray[np.int64]:
    """Milliseconds since 1970 as seconds; ValueError for anything but whole numbers."""
    if not set(map(type, values)) <= {int}:
        raise ValueError(f"time {str(values[0])[:40]!r} is not in milliseconds")
    return np.array(values, dtype=np.int64) // 1000


def rfc3339(values: Sequence[Any]) -> NDArray[np.int64]:
    """UTC instants such as 2024-02-01T14:30:00Z as seconds since 1970; ValueError for anything else."""
    if not all(isinstance(text, str) and text[-1:] == "Z" and text[10:11] == "T" for text in values):
        raise ValueError(f"time {str(values[0])[:40]!r} is not an instant in UTC")
    return np.array([text[:19] for text in values], dtype="datetime64[s]").astype(np.int64)


def midnight(day: date) -> int:
    """Unix seconds of midnight in New York.

    >>> midnight(date(2024, 7, 1)) - midnight(date(2024, 1, 1))
    15721200
    """
    return int(datetime(day.year, day.month, day.day, tzinfo=NEW_YORK).timestamp())


def new_york_days(start: NDArray[np.int64]) -> NDArray[np.datetime64]:
    """(K,) dates in New York of instants in Unix seconds.

    >>> new_york_days(np.array([1706763599, 1706763600])).astype(str).tolist()
    ['2024-01-31', '2024-02-01']
    """
    if not len(start):
        return np.zeros(0, dtype="datetime64[D]")
    first = datetime.fromtimestamp(int(start.min()), NEW_YORK).date()
    last = datetime.fromtimestamp(int(start.max()), NEW_YORK).date()
    days = [first + timedelta(days=n) for n in range((last - first).days + 2)]
    midnights = np.array([midnight(day) for day in days], dtype=np.int64)
    places = np.searchsorted(midnights, start, side="right") - 1
    return np.datetime64(first, "D") + places.astype("timedelta64[D]")
