"""The panel: prices of N symbols over T sessions, as traded and adjusted, and the events between them.

A row is a session, or, where `timeframe` is not ``1d``, a bar within one: all of its regular hours are rows, named by
the instant (UTC) they start at. What this file says of sessions holds of such rows; splits and dividends stand at the
first row of their session.

Adjusted prices are anchored at a symbol's first bar and run forward:

    factor[t] = factor[t-1] * split[t] * (1 + dividend[t] / close[t])      factor[first bar] = 1
    adjusted  = as traded * factor

That is the return of a holder exactly: one share of yesterday is `split` shares today, each worth its close
and its dividend. (Quandl WIKI and Alpha Vantage compute their adjusted closes so, as their own split and dividend
columns show; Yahoo divides by 1 - dividend / previous close, which differs by the dividend times the day's move.)

Seen from session t they differ from "adjusted as of t" by one constant per symbol, so every ratio, return,
average or crossing is the same. But nothing that happens after t can change row t by a bit: a strategy
cannot see a later split in an earlier price, and the last row of a short history equals that row of a
longer one. A rule on the price level itself (``close > 5``) belongs on ``panel.raw``, what people paid.

The factor is computed here, at read time, from what is stored: half a history stored before a split and
half after it give the same panel as all at once.

What is computed here cannot be written to, and `locked` gives a panel whose prices cannot either: that is what a
strategy gets, so that no slip in its arithmetic changes the prices that its decisions are traded on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
Sessions = NDArray[np.datetime64]


@dataclass(frozen=True)
class Raw:
    """Prices and volume as traded, each (T, N); NaN is "no bar"."""

    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array


@dataclass(frozen=True)
class Panel:
    """N symbols over T rows, oldest first; `sessions` names the rows: dates, or instants in UTC (see ``timeframes``).

    `split` holds new shares per old one on the ex-date (1 elsewhere), `dividend` USD per share as traded on the
    ex-date (0 elsewhere), for shares held over the previous close. `sources` says whose bars each symbol's are.
    """

    sessions: Sessions
    symbols: tuple[str, ...]
    raw: Raw
    split: Array
    dividend: Array
    sources: tuple[str, ...] = ()
    timeframe: str = "1d"

    @property
    def days(self) -> Sessions:
        """(T,): the session of each row."""
        return self.sessions.astype("datetime64[D]")

    @cached_property
    def session_number(self) -> NDArray[np.int64]:
        """(T,): how many sessions there were before that of each row."""
        return _read_only(np.cumsum(self.wakes))

    @cached_property
    def wakes(self) -> NDArray[np.bool_]:
        """(T,): the first row of each session but the first of all: a night lies before it."""
        return _read_only(np.diff(self.days, prepend=self.days[:1]) > np.timedelta64(0, "D"))

    @cached_property
    def month(self) -> NDArray[np.int64]:
        """(T,): the calendar month of each row, counted since 1970."""
        return _read_only(self.sessions.astype("datetime64[M]").astype(np.int64))

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.sessions), len(self.symbols)

    @cached_property
    def has_bar(self) -> NDArray[np.bool_]:
        return _read_only(np.isfinite(self.raw.close))

    @cached_property
    def last_bar(self) -> NDArray[np.int64]:
        """(T, N): the row of the newest bar at or before each row, -1 before the first."""
        rows = np.arange(len(self.sessions))[:, None]
        return _read_only(np.maximum.accumulate(np.where(self.has_bar, rows, -1), axis=0))

    @cached_property
    def final_bar(self) -> NDArray[np.int64]:
        """(N,): the row of each symbol's last bar, -1 without any."""
        return _read_only(len(self.sessions) - 1 - _first_rows(self.has_bar[::-1]))

    @cached_property
    def split_factor(self) -> Array:
        """(T, N): shares today per share at the first bar."""
        return _read_only(np.multiply.accumulate(np.where(self._after_first, self.split, 1.0), axis=0))

    @cached_property
    def mark(self) -> Array:
        """(T, N): the price a holding is valued at: the newest close, restated for splits since; 0 before the first."""
        if self.has_bar.all():
            return _read_only(self.raw.close.view())
        t, n = _cells(~self.has_bar)
        price = self.raw.close.copy()
        price[t, n] = 0.0
        after = self._after_first[t, n]
        t, n = t[after], n[after]
        if len(t):
            newest = self.last_bar[t, n]
            price[t, n] = self.raw.close[newest, n] / (self.split_factor[t, n] / self.split_factor[newest, n])
        return _read_only(price)

    @cached_property
    def factor(self) -> Array:
        """(T, N): what turns a price as traded into the adjusted one; 1 at the first bar."""
        step = np.where(self._after_first, self.split, 1.0)
        t, n = np.nonzero((self.dividend > 0) & self._after_first)
        step[t, n] *= 1 + self.dividend[t, n] / self.mark[t, n]  # the mark is the close, or stands in for it
        return _read_only(np.multiply.accumulate(step, axis=0))

    @cached_property
    def splits(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and column of every split, by row; whoever trades the panel many times looks for them once."""
        return _cells(self.split != 1.0)

    @cached_property
    def dividends(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and column of every dividend, by row."""
        return _cells(self.dividend > 0)

    @cached_property
    def open(self) -> Array:
        return _read_only(self.raw.open * self.factor)

    @cached_property
    def high(self) -> Array:
        return _read_only(self.raw.high * self.factor)

    @cached_property
    def low(self) -> Array:
        return _read_only(self.raw.low * self.factor)

    @cached_property
    def close(self) -> Array:
        return _read_only(self.raw.close * self.factor)

    @cached_property
    def volume(self) -> Array:
        """(T, N): shares of the first bar's kind, so that price times volume stays comparable over a split."""
        return _read_only(self.raw.volume / self.split_factor)

    @cached_property
    def returns(self) -> Array:
        """(T, N): total return of each bar on the symbol's bar before it; NaN at the first and without a bar."""
        before = self._bar_before
        columns = np.arange(len(self.symbols))
        base = self.close[np.maximum(before, 0), columns]
        return _read_only(np.where(before >= 0, self.close / base - 1, np.nan))

    def head(self, rows: int) -> "Panel":
        """The first `rows` sessions, as if the rest had not happened."""
        return self._of(lambda values: values[:rows])

    def since(self, row: int) -> "Panel":
        """The sessions from `row` on, as if there had been none before: adjusted prices begin there."""
        return self._of(lambda values: values[row:])

    def extended(self, sessions: Sessions) -> "Panel":
        """The same panel with `sessions` after its own, which have no bar yet, on arrays of its own."""
        made = empty(np.concatenate([self.sessions, sessions]), self.symbols, self.sources, self.timeframe)
        rows = len(self.sessions)
        for name in Raw.__dataclass_fields__:
            getattr(made.raw, name)[:rows] = getattr(self.raw, name)
        made.split[:rows], made.dividend[:rows] = self.split, self.dividend
        return made

    def only(self, symbols: Sequence[str]) -> "Panel":
        """The same sessions with some of the symbols, in the order they have here."""
        wanted = set(symbols)
        kept = [n for n, symbol in enumerate(self.symbols) if symbol in wanted]
        return replace(
            self._of(lambda values: values if values.ndim == 1 else values[:, kept]),
            symbols=tuple(self.symbols[n] for n in kept),
            sources=tuple(self.sources[n] for n in kept) if self.sources else (),
        )

    def locked(self) -> "Panel":
        """The same panel on arrays that cannot be written to."""
        return self._of(lambda values: _read_only(values.view()))

    def row(self, session: np.datetime64) -> int:
        """The row of the newest session at or before `session`, -1 if there is none."""
        return int(np.searchsorted(self.sessions, session, side="right")) - 1

    def frame(self, field: str = "close", *, raw: bool = False) -> "pd.DataFrame":
        """One field as a pandas table: index session, a column a symbol. For notebooks and strategy authors."""
        import pandas as pd  # 0.6 s of import that no command pays for

        values = getattr(self.raw if raw else self, field)
        return pd.DataFrame(values.copy(), index=pd.DatetimeIndex(self.sessions), columns=list(self.symbols))

    @property
    def _bar_before(self) -> NDArray[np.int64]:
        """(T, N): the row of the newest bar before each row, -1 where there is none."""
        return np.vstack([np.full((1, len(self.symbols)), -1), self.last_bar])[:-1]

    @cached_property
    def _after_first(self) -> NDArray[np.bool_]:
        """(T, N): rows after a symbol's first bar: only there can an action touch a holder."""
        return _read_only(np.arange(len(self.sessions))[:, None] > _first_rows(self.has_bar))

    def _of(self, part: Callable[[Any], Any]) -> "Panel":
        """The panel with `part` taken of every array; what is computed from them is computed anew."""
        raw = Raw(**{name: part(getattr(self.raw, name)) for name in Raw.__dataclass_fields__})
        return replace(
            self, sessions=part(self.sessions), raw=raw, split=part(self.split), dividend=part(self.dividend)
        )


def _cells(chosen: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # Not np.nonzero of both dimensions: where few of a million cells are chosen it takes ten times as long.
    rows, columns = np.unravel_index(np.flatnonzero(chosen), chosen.shape)
    return _read_only(rows), _read_only(columns)


def _first_rows(marked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N,): the first row of each column that is `marked` (T, N), T where none is."""
    found = np.zeros(marked.shape[1], dtype=np.int64)
    if len(marked):
        later = np.flatnonzero(~marked[0])
        searched = marked[:, later]
        found[later] = np.where(searched.any(axis=0), searched.argmax(axis=0), len(marked))
    return found


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    values.flags.writeable = False
    return values


def empty(sessions: Sessions, symbols: Sequence[str], sources: Sequence[str] = (), timeframe: str = "1d") -> Panel:
    """A panel of that shape without a bar or an event, to be filled by whoever reads the store."""
    shape = (len(sessions), len(symbols))
    raw = Raw(*(np.full(shape, np.nan) for _ in range(5)))
    return Panel(sessions, tuple(symbols), raw, np.ones(shape), np.zeros(shape), tuple(sources), timeframe)
