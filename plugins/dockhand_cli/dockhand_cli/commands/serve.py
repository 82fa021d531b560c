"""The commands `dockhand serve registry`, `serve webhook` and `serve authority`."""

from __future__ import annotations

import typer

from dockhand_cli.argparse_commands import ProgramSource, add_program

app = typer.Typer(
    no_args_is_help=True, help="Serve a registry, a receiver of notifications, or an authority."
)
add_program(app, "dockhand serve registry", ProgramSource("dockhand_embedded", "SERVE", "embedded"))
add_program(app, "dockhand serve webhook", ProgramSource("dockhand_webhook", "SERVE", "webhook"))
add_program(
    app,
    "dockhand serve authority",
    ProgramSource("dockhand_token_server", "SERVE", "token-server"),
)
