"""The command `dockhand ls`."""

from __future__ import annotations

from typing import TypedDict

import typer

from dockhand_cli.arguments import ConnectionArgument
from dockhand_cli.exit_codes import CommandFailed, exit_code_of
from dockhand_cli.help_texts import examples
from dockhand_cli.session import session_of

app = typer.Typer()


class RepositoryLine(TypedDict):
    """A line of `dockhand ls --json`."""

    repository: str


@app.command(epilog=examples("dockhand ls", "dockhand ls staging", "dockhand ls localhost:5000"))
def ls(
    context: typer.Context,
    connection: ConnectionArgument = None,
) -> None:
    """List the repositories of a registry, one a line."""
    from dockhand_cli.advice import error_text
    from dockhand_core.errors import Denied, NotFound, Unauthorized, Unsupported

    session = session_of(context)
    client = session.client(connection)
    try:
        for repository in client.repositories():
            session.output.item(RepositoryLine(repository=repository), repository)
    except (Denied, NotFound, Unauthorized, Unsupported) as error:
        raise CommandFailed(
            f"{client.name} gave no list of its repositories: {error_text(error)}. If the "
            "credentials are right, it perhaps lists them to administrators only, or not at all, "
            "as many registries do; `dockhand tags` with a repository's name lists its tags",
            exit_code_of(error),
        ) from error
