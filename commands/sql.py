"""``ma sql``: ask the stored facts anything, read-only."""

import sys
from typing import Annotated

import typer

from marketagent import options, pipe, query
from marketagent.config import Settings
from marketagent.errors import UsageError
from marketagent.records import Row


def run(
    statement: Annotated[
        str | None, typer.Argument(help="The query; without it, what stdin says.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="At most so many rows; 0 for all.", min=0)] = 0,
    format: options.Format = "auto",
    raw: options.Raw = False,
) -> int:
    """Run one query over all tables: bars, actions, sessions, quarantine, decisions, backtests, orders, signals, ...

    Example: ma sql "select symbol, count(*) from bars group by 1"
    """
    settings = Settings.load()
    if statement is None and (sys.stdin is None or sys.stdin.isatty()):
        raise UsageError('no query; run: ma sql "select symbol, count(*) from bars group by 1"')
    text = statement if statement is not None else _on_stdin()
    rows = query.ask(settings.home, text, limit=limit, timeout_s=settings.busy_timeout_s)
    with pipe.sealed("sql", format, run=options.new_run(settings), at=settings.now, raw=raw) as out:
        for row in rows:
            out.write(Row(values=row))
    return out.exit_code


def _on_stdin() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UsageError("the query on stdin is not UTF-8 text") from error
