"""What a report is made of. Nothing here knows how it is drawn: texts are plain, and not yet safe for any medium."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Value = float | str | None


@dataclass(frozen=True)
class Figure:
    """One value as a person reads it; `name` is the field of the record it comes from."""

    name: str
    label: str
    text: str


@dataclass(frozen=True)
class Group:
    """Figures that belong together."""

    title: str
    figures: Sequence[Figure]


@dataclass(frozen=True)
class Table:
    """Rows of texts under their `columns`; `right` are the columns that hold numbers.

    `tints` (as many as there are cells, row by row) are shares in [-1, 1] of how good a cell is, None for no colour.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[int] = ()
    note: str = ""
    tints: Sequence[Sequence[float | None]] = ()


@dataclass(frozen=True)
class Series:
    """Points of a chart. `look` is the part it plays; `told` is what is said of each point beside its value."""

    name: str
    look: Literal["main", "other", "loss", "bars", "price", "buy", "sell", "chosen", "plateau", "spike"]
    x: Sequence[Value]
    y: Sequence[Value]
    told: Sequence[str] = ()


@dataclass(frozen=True)
class Axis:
    """What lies along a side; `at` and `texts` name places of an axis of plain numbers."""

    form: Literal["date", "number", "log", "share", "category"]
    title: str = ""
    at: Sequence[float] = ()
    texts: Sequence[str] = ()


@dataclass(frozen=True)
class Chart:
    """Series over two axes; `said` is the chart in a sentence, for who does not see it. `choice` names what it is of,
    where a reader picks one of several charts."""

    title: str
    said: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    note: str = ""
    choice: str = ""
    height: int = 260


@dataclass(frozen=True)
class Heat:
    """One value for each pair of `x` and `y`: `z[row of y][column of x]`, with `marks` as points on top of it."""

    title: str
    said: str
    x: Axis
    y: Axis
    columns: Sequence[str]
    rows: Sequence[str]
    z: Sequence[Sequence[float | None]]
    told: Sequence[Sequence[str]]
    marks: Sequence[Series] = ()
    note: str = ""
    height: int = 360


@dataclass(frozen=True)
class Picker:
    """Charts of one kind, of which a reader sees the one that is picked; the first to begin with."""

    title: str
    label: str
    charts: Sequence[Chart]


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading of its own; `judged` says on what sessions its figures were judged."""

    title: str
    parts: Sequence[Table | Chart | Heat | Picker | Group] = ()
    note: str = ""
    judged: str = ""


@dataclass(frozen=True)
class Sheet:
    """A backtest in figures: what was run, how it did, and what is to be said about it."""

    title: str
    judged: str
    facts: Sequence[Figure]
    groups: Sequence[Group]
    luck: Sequence[str] = ()
    capacity: Table | None = None
    notes: Sequence[str] = ()

    @property
    def figures(self) -> list[Figure]:
        return [figure for group in self.groups for figure in group.figures]


@dataclass(frozen=True)
class Page:
    """A sheet with everything that a terminal has no room for."""

    sheet: Sheet
    sections: Sequence[Section] = field(default_factory=list)
