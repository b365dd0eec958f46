"""``ma schema``: print the JSON Schema of a record."""

import json
import os
from typing import Annotated

import typer

from marketagent import pipe, process
from marketagent.config import Settings
from marketagent.errors import UsageError, did_you_mean
from marketagent.records import KINDS, Row


def run(
    kind: Annotated[str | None, typer.Argument(help="A kind of record; without it, the list of kinds.")] = None,
    form: Annotated[pipe.Format, typer.Option("--format", help="How to print the list.")] = "auto",
) -> int:
    """Print the JSON Schema of KIND, or the list of kinds.

    Example: ma schema decision
    """
    if kind is None:
        return _listed(form)
    if kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}{did_you_mean(kind, KINDS)} (ma schema)")
    from pydantic import TypeAdapter  # 0.2 s, and the list does not need it

    document = TypeAdapter(KINDS[kind]).json_schema()
    process.emit(json.dumps(document, indent=2).encode() + b"\n")
    return 0


def _listed(form: pipe.Format) -> int:
    now = Settings.load().now
    with pipe.sealed("schema", form, run=pipe.new_run_id(now, os.urandom(4)), at=now) as out:
        for kind, record in KINDS.items():
            meaning = (record.__doc__ or "").partition("\n")[0].rstrip(".")
            out.write(Row(values={"kind": kind, "meaning": meaning}))
    return out.exit_code
