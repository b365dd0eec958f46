"""``ma``: the one entry point. Finds a subcommand by its file's name and imports it only when it is called.

The help list is made from the first line of each file, unread beyond it: that is what keeps ``ma --help``
as quick as an empty application. Errors end here as one line and the exit code of ``errors.Exit``.
"""

import os
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from marketagent import commands
from marketagent.errors import Exit, MarketAgentError


class Commands(TyperGroup):
    """The files of ``commands/`` as subcommands."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(module.name for module in pkgutil.iter_modules(commands.__path__))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A stand-in with the name and the help line only: enough for the list and for near-name advice."""
        if cmd_name not in self.list_commands(ctx):
            return None
        return TyperCommand(cmd_name, help=summary(cmd_name))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, found, rest = super().resolve_command(ctx, args)
        return name, found and load(name or ""), rest


def summary(name: str) -> str:
    """The help line of a command: what stands after the colon in the first line of its file."""
    for folder in commands.__path__:
        file = Path(folder, f"{name}.py")
        if file.exists():
            with file.open(encoding="utf-8") as lines:
                return lines.readline().strip().strip('"').partition(": ")[2].rstrip(".")
    return ""


def load(name: str) -> Any:
    """The real command: a module's ``app`` if it has subcommands of its own, else its ``run``."""
    module = import_module(f"marketagent.commands.{name}")
    app = getattr(module, "app", None)
    if app is None:
        app = typer.Typer(add_completion=False)
        app.command(name)(module.run)
    command = typer.main.get_command(app)
    command.name = name
    return command


app = typer.Typer(
    name="ma",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(help="Small commands for one person's systematic trading of US equities.")
def _root() -> None:
    """Market Agent."""


def main(args: Sequence[str] | None = None) -> None:
    """Run ``ma``; every way out goes through here."""
    sys.exit(run(list(sys.argv[1:] if args is None else args)))
