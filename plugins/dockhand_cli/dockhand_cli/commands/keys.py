"""The command `dockhand keys`."""

from __future__ import annotations

import typer

from dockhand_cli.argparse_commands import ProgramSource, add_program

app = typer.Typer()
add_program(app, "dockhand keys", ProgramSource("dockhand_auth_jwt", "KEYS", "jwt"))
