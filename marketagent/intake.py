"""From a source's file to stored bars: look whether it is known, stage it, merge it. One file, one transaction."""

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from marketagent.errors import BadData, MarketAgentError, NoData
from marketagent.home import disk_error
from marketagent.records import Fetched
from marketagent.show import say
from marketagent.sources import Batch, Request, Source, Unserved
from marketagent.store.database import opened
from marketagent.store.market import MARKET, copy_calendar
from marketagent.store.merge import Merged, Origin, known_fingerprint, merge, unchanged
from marketagent.store.staged import Options
from marketagent.store.staging import stage

_OLD_S = 86_400  # a working folder a day old belongs to a run that was killed


@dataclass
class Taken:
    """What a fetch did: a record a symbol, and the error of each symbol or file that could not be stored."""

    fetched: dict[str, Fetched] = field(default_factory=dict)
    failed: dict[str, MarketAgentError] = field(default_factory=dict)


def take_all(
    home: Path, source: Source, names: Sequence[str], options: Options, now: datetime, timeout_s: float
) -> Taken:
    """Store every batch of `source`; one that is no table of bars is named and the rest goes on.

    Raises the first such error when nothing at all could be stored.
    """
    taken = Taken()
    with working_folder(home) as folder:
        for batch in source.batches(Request(names=names, options=options, folder=folder)):
            if isinstance(batch, Unserved):
                taken.failed[batch.name] = batch.error
                continue
            try:
                timeframe, merged, notes = take(home, batch, now, timeout_s=timeout_s)
            except (BadData, NoData) as error:
                taken.failed[batch.name] = error  # of this file alone; anything else would meet the next one too
                continue
            for note in notes:
                say(note)
            for one in merged:
                before = taken.fetched.get(one.symbol)
                # Days and minutes of one symbol are two records: their bars do not add up to anything.
                key = one.symbol if before is None or before.timeframe == timeframe else f"{one.symbol} {timeframe}"
                taken.fetched[key] = _joined(taken.fetched.get(key), one, batch.source, timeframe)
    if taken.failed and not taken.fetched:
        *others, last = taken.failed.values()
        for other in others:
            say(other)
        raise last
    return taken


def _joined(before: Fetched | None, one: Merged, source: str, timeframe: str) -> Fetched:
    """What several files of one run did to a symbol together."""
    added, corrected, bad, actions = one.added, one.corrected, one.quarantined, one.actions
    if before is not None:
        added, corrected = added + before.added, corrected + before.corrected
        bad, actions = bad + before.quarantined, actions + before.actions
    return Fetched(
        symbol=one.symbol,
        source=source,
        timeframe=timeframe,
        first=one.first,
        last=one.last,
        bars=one.bars,
        added=added,
        corrected=corrected,
        quarantined=bad,
        actions=actions,
    )


def take(home: Path, batch: Batch, now: datetime, *, timeout_s: float) -> tuple[str, list[Merged], list[str]]:
    """Store `batch`: its timeframe, what it did to each symbol, and notes. What is stored already is not read again.

    Raises BadData when the file is no table of bars: then nothing of it is stored.
    """
    origin = Origin(batch.source, batch.feed, batch.name, batch.fingerprint)
    with working_folder(home) as folder:
        calendar = folder / "calendar.parquet"
        with opened(home / MARKET, timeout_s=timeout_s) as con:
            if known_fingerprint(con, batch.fingerprint):
                return *unchanged(con, origin), []
            copy_calendar(con, calendar)
        staged = stage(batch.path, batch.options, calendar, folder, now)
        with opened(home / MARKET, write=True, timeout_s=timeout_s) as con:
            # Two runs may have read the same file at once: the first to get here has stored it.
            if known_fingerprint(con, batch.fingerprint):
                return *unchanged(con, origin), []
            merged, notes = merge(con, staged, origin, now)
            return staged.timeframe, merged, [*staged.notes, *notes]


@contextmanager
def working_folder(home: Path) -> Iterator[Path]:
    """A folder for one run under ``tmp/``, gone when the run ends; what killed runs left a day ago goes too."""
    parent = home / "tmp"
    try:
        parent.mkdir(mode=0o700, exist_ok=True)
        _sweep(parent)
        with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    except OSError as error:
        raise disk_error(error, parent) from error


def _sweep(parent: Path) -> None:
    for left in parent.iterdir():
        try:
            age = time.time() - left.stat().st_mtime
        except FileNotFoundError:
            continue  # another run has ended meanwhile and taken its folder with it
        if age > _OLD_S:
            shutil.rmtree(left, ignore_errors=True)
