"""The commands `dockhand events …`, for the events of an inbox and its dead letters."""

from __future__ import annotations

import typer

from dockhand_cli.argparse_commands import ProgramSource, add_program

app = typer.Typer(
    no_args_is_help=True, help="Look at the events of an inbox, and at its dead letters."
)
for _name in ("tail", "dead", "replay", "drop", "stats", "forget", "work"):
    add_program(
        app,
        f"dockhand events {_name}",
        ProgramSource("dockhand_webhook", f"EVENT_COMMANDS.{_name}", "webhook"),
    )
