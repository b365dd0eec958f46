"""Everything a new home holds, made once: the folder, the journal, the databases and, last, the marker."""

from datetime import datetime
from pathlib import Path

from marketagent import home as homes
from marketagent import journal
from marketagent.store import database


def init(home: Path, now: datetime) -> list[str]:
    """Make what is missing in `home`; the names of what was made. Nothing that exists is changed.

    Killed at any point, or run twice at once, the next run completes it. The marker comes last: from then on a
    missing journal is a lost one (BadData), not one to be made.
    """
    made = [str(home)] if homes.create(home) else []
    if journal.create(home):
        made.append(journal.FILE)
    for kind in database.KINDS:
        path = home / f"{kind}.duckdb"
        if database.create(path):
            made.append(path.name)
    if homes.mark(home, now):
        made.append(homes.MARKER)
    return made
