"""``ma score`` on a live stream: a round of decisions for every bar that closes, each a sealed stream of its own.

    bar lines -> which bar has closed -> the panel up to it -> decide() -> begin … end, flushed

The lines say when, the store says what: ``ma stream`` stores a bar before it prints it, and the session under way is read
from the store again at each round, with what came late or was corrected. So a round decides on what ``ma score`` alone
would have read at that instant, and its decision is that bar's row of ``ma backtest``, bit for bit. What lies before the
session is read once.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np

from marketagent import pipe, scoring
from marketagent.catalog import Loaded
from marketagent.config import Settings
from marketagent.errors import Exit, Incomplete, MarketAgentError, NoData, UsageError
from marketagent.panel import Panel, Raw
from marketagent.pipe.lines import parsed, valid
from marketagent.records import Bar, Begin, Decision, End
from marketagent.rounds import Round, Rounds
from marketagent.show import one_line, say
from marketagent.store import runs
from marketagent.store.market import read_panel, read_session_grid
from marketagent.strategy import Strategy
from marketagent.symbols import checked
from marketagent.timeframes import DAY, INTRADAY, TIMEFRAMES, bar_of, bar_text, session_of


@dataclass(frozen=True)
class Scorer:
    """What a running score decides with."""

    settings: Settings
    loaded: Loaded
    strategy: Strategy
    view: scoring.View
    format: pipe.Format
    raw: bool


def score(incoming: pipe.Incoming, scorer: Scorer, *, seconds: Callable[[], float] = time.monotonic) -> Exit:
    """Decide on every bar of the live stream that closes, until it ends; says and returns how that was."""
    timeframe = scorer.view.timeframe
    if timeframe == DAY:
        raise UsageError("the stream on stdin is live: decide on its bars, e.g. with --timeframe 1m")
    if scorer.view.last or scorer.view.known_at:
        raise UsageError("--as-of and --known-at look back; the stream on stdin is live")
    prices = Prices(scorer.settings.home, scorer.view, scorer.settings.busy_timeout_s)
    bars = Bars(incoming, prices, Rounds(), seconds)
    codes = [_round(scorer, prices, due) for due in bars.rounds()]
    if bars.is_broken:
        with suppress(Incomplete):  # told like any unfinished input, below
            _seal_broken(scorer, f"input is not complete: {bars.unfinished}")
    if bars.unfinished is not None:
        say(f"input is not complete: {bars.unfinished}")
        return Exit.PARTIAL
    return Exit.PARTIAL if Exit.PARTIAL in codes else Exit.DONE


class Prices:
    """The panel of a stream's symbols: the past in memory, the session under way from the store each time."""

    def __init__(self, home: Path, view: scoring.View, timeout_s: float) -> None:
        self._home, self._timeout_s = home, timeout_s
        self._view = replace(view, now=None)  # the store tells which bars have closed, not the clock
        self._panel: Panel | None = None
        self._loaded_for: tuple[frozenset[str], date] | None = None
        self._grids: dict[date, tuple[np.ndarray, datetime | None]] = {}

    def place(self, minute: datetime, seconds: int) -> tuple[datetime, bool] | None:
        """The bar that the one starting at `minute`, so many seconds long, is a part of, and whether it is the last
        part; None outside regular hours."""
        grid, close = self._grid(session_of(minute))
        row = int(np.searchsorted(grid, np.datetime64(minute), side="right")) - 1
        if row < 0 or close is None or minute >= close:
            return None
        bar: datetime = grid[row].astype(date)
        end = min(bar + timedelta(seconds=TIMEFRAMES[self._view.timeframe]), close)
        return bar, minute + timedelta(seconds=seconds) >= end

    def until(self, due: Round) -> Panel:
        """The panel of the round's symbols up to its bar; raises NoData if the store does not have it."""
        session = session_of(due.bar)
        panel = self._panel
        same = self._loaded_for == (due.symbols, session)
        if panel is None or not same or not self._is_renewed(panel, session):
            panel = self._loaded(due.symbols, session)
        self._panel, self._loaded_for = panel, (due.symbols, session)
        t = panel.row(np.datetime64(due.bar))
        known = panel.head(t + 1)
        if t < 0 or known.sessions[t] != np.datetime64(due.bar) or not known.has_bar[t].any():
            raise NoData(
                f"the stream had a bar of {bar_text(due.bar)} that is not stored in {self._home};"
                " does ma stream store into the same MA_HOME?"
            )
        there = [symbol for n, symbol in enumerate(known.symbols) if known.has_bar[:, n].any()]
        return known if len(there) == len(known.symbols) else known.only(there)

    def _loaded(self, symbols: frozenset[str], session: date) -> Panel:
        """All that is stored, with room for the rest of the session."""
        panel = self._view.panel(self._home, sorted(symbols), timeout_s=self._timeout_s)
        grid, _ = self._grid(session)
        return panel.extended(grid[grid > panel.sessions[-1]])

    def _is_renewed(self, panel: Panel, session: date) -> bool:
        """Take the session's bars from the store into `panel`; False if they are of another source than before."""
        today = read_panel(
            self._home,
            panel.symbols,
            first=session,
            last=session,
            source=self._view.source,
            timeframe=self._view.timeframe,
            timeout_s=self._timeout_s,
        )
        columns = np.array([panel.symbols.index(symbol) for symbol in today.symbols])
        if any(panel.sources[n] != source for n, source in zip(columns, today.sources, strict=True)):
            return False
        place = np.ix_(np.searchsorted(panel.sessions, today.sessions), columns)
        for name in Raw.__dataclass_fields__:
            getattr(panel.raw, name)[place] = getattr(today.raw, name)
        return True

    def _grid(self, session: date) -> tuple[np.ndarray, datetime | None]:
        if session not in self._grids:
            self._grids = {
                session: read_session_grid(self._home, session, self._view.timeframe, timeout_s=self._timeout_s)
            }
        return self._grids[session]


class Bars:
    """The lines of a live stream as rounds; `unfinished` is why its end is not a good one, once it is reached.

    A bar that had closed when the stream began is history, sent so that nothing is missing: no round is made for it.
    """

    def __init__(self, incoming: pipe.Incoming, prices: Prices, rounds: Rounds, seconds: Callable[[], float]) -> None:
        self._incoming, self._prices, self._rounds, self._seconds = incoming, prices, rounds, seconds
        self.unfinished: str | None = "the stream has no end"
        self.is_broken = True  # until an end has come, of whatever kind but an error
        self._began: datetime | None = None
        self._history = 0

    def rounds(self) -> Iterator[Round]:
        """Each round when it is due, until the stream ends."""
        number = 0
        while (raw := self._incoming.line_within(self._rounds.wait_s(self._seconds()))) != b"":
            if raw is not None:
                number += 1
                try:
                    yield from self._taken(raw)
                except ValueError as error:
                    # The store has what the line was to tell; only the round it would have closed waits a little.
                    say(one_line(f"line {number} of the input {error}; it was left out"))
            yield from self._rounds.overdue(self._seconds())
        self._tell_history()
        if self.unfinished is None:
            yield from self._rounds.end()  # no more will come; of a stream that broke off, more should have

    def _taken(self, raw: bytes) -> list[Round]:
        kind = parsed(raw).get("kind")
        if kind == "end":
            end: End = valid(raw, "end")
            self.is_broken = end.status == "error"
            self.unfinished = None if end.status == "ok" else end.error or f"ma {end.cmd} was done only in part"
        if kind == "begin":
            begin: Begin = valid(raw, "begin")
            self._began = datetime.fromisoformat(begin.at).astimezone(UTC).replace(tzinfo=None)
            self._rounds.expected = frozenset(checked(symbol) for symbol in begin.symbols)
        if kind != "bar":
            return []
        bar: Bar = valid(raw, "bar")
        minute = bar_of(bar.ts)
        if bar.timeframe not in INTRADAY or not isinstance(minute, datetime):
            raise ValueError(f"has a bar of {bar.timeframe[:20]!a}")
        if self._began and minute + timedelta(seconds=TIMEFRAMES[bar.timeframe]) <= self._began:
            self._history += 1
            return []
        self._tell_history()
        place = self._prices.place(minute, TIMEFRAMES[bar.timeframe])
        if place is None:
            return []  # before the open or after the close: stored, and no row of a panel
        return self._rounds.take(bar.symbol, place[0], self._seconds(), is_last=place[1])

    def _tell_history(self) -> None:
        if self._history:
            say(f"{self._history} bars had closed before the stream began: history, not decided on")
            self._history = 0


def _seal_broken(scorer: Scorer, text: str) -> None:
    """The last member of the series says that it broke off, or whoever trades it would take silence for no news."""
    now = scorer.settings.clock()
    with pipe.sealed("score", scorer.format, run=pipe.new_run_id(now, os.urandom(4)), at=now, series=True):
        raise Incomplete(text)


def _round(scorer: Scorer, prices: Prices, due: Round) -> Exit:
    """Decide, print, then keep for study: whoever trades does not wait for that."""
    settings, now = scorer.settings, scorer.settings.clock()
    run = pipe.new_run_id(now, os.urandom(4))
    with pipe.sealed("score", scorer.format, run=run, at=now, raw=scorer.raw, series=True) as out:
        panel = prices.until(due)
        decided, failed = _decided(scorer, panel)
        absent = due.symbols - set(panel.symbols)
        failed |= dict.fromkeys(sorted(absent), "no bar of it is stored, and none has come")
        for record in decided:
            out.write(record)
        for name, reason in failed.items():
            out.fail(name, reason)
    try:
        runs.write_decisions(settings.home, run, decided, now, timeout_s=settings.busy_timeout_s)
    except MarketAgentError as error:
        say(f"{error}; the decisions are out, only their copy for study is missing")
    return out.exit_code


def _decided(scorer: Scorer, panel: Panel) -> tuple[list[Decision], dict[str, str]]:
    """The decisions of the panel's last row, and the symbols there is none for, with the reason."""
    home, wait = scorer.settings.home, scorer.settings.busy_timeout_s
    failed = scoring.unfit(home, panel, scorer.strategy.warmup, scorer.view, timeout_s=wait)
    if not set(panel.symbols) - set(failed):
        return [], failed
    decisions = scoring.decided_on(home, scorer.loaded, scorer.strategy, panel, scorer.view, timeout_s=wait)
    return list(scoring.records(decisions, scorer.loaded, scorer.strategy.params(), failed)), failed
