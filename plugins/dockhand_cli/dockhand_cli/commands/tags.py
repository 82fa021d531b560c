"""The command `dockhand tags`."""

from __future__ import annotations

from typing import TypedDict

import typer

from dockhand_cli.arguments import RepositoryArgument
from dockhand_cli.help_texts import examples
from dockhand_cli.session import session_of

app = typer.Typer()


class TagLine(TypedDict):
    """A line of `dockhand tags --json`."""

    repository: str
    tag: str


@app.command(
    epilog=examples("dockhand tags localhost:5000/team/app", "dockhand tags @staging/app --json")
)
def tags(
    context: typer.Context,
    repository: RepositoryArgument,
) -> None:
    """List the tags of a repository, one a line."""
    session = session_of(context)
    client, name = session.repository(repository)
    for tag in client.tags(name):
        session.output.item(TagLine(repository=name, tag=tag), tag)
