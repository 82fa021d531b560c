"""The command `dockhand notify-token`."""

from __future__ import annotations

import typer

from dockhand_cli.argparse_commands import ProgramSource, add_program

app = typer.Typer()
add_program(
    app, "dockhand notify-token", ProgramSource("dockhand_webhook", "NOTIFY_TOKEN", "webhook")
)
