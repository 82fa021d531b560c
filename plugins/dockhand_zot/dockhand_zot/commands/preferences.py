"""The commands about stars and bookmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import typer
from dockhand_cli import session_of
from dockhand_cli.arguments import ConnectionArgument, RepositoryArgument
from dockhand_cli.help_texts import examples

from dockhand_zot.commands.clients import zot_client, zot_repository
from dockhand_zot.commands.forms import Repositories, repository_form, show_repositories

if TYPE_CHECKING:
    from dockhand_zot import RepositorySummary

__all__ = ["Preference", "app"]

app = typer.Typer()


class Preference(TypedDict):
    """The document of `dockhand zot star --json`, and of the three commands beside it.

    They are `dockhand zot unstar --json`, `dockhand zot bookmark --json` and
    `dockhand zot unbookmark --json`.

    Attributes:
        changed: false if the repository had this state before.
    """

    repository: str
    changed: bool


@app.command(epilog=examples("dockhand zot star @staging/team/app"))
def star(context: typer.Context, repository: RepositoryArgument) -> None:
    """Star a repository."""
    place = zot_repository(context, repository)
    _write(context, place.repository, "starred", changed=place.client.star(place.repository))


@app.command(epilog=examples("dockhand zot unstar @staging/team/app"))
def unstar(context: typer.Context, repository: RepositoryArgument) -> None:
    """Remove the star of a repository."""
    place = zot_repository(context, repository)
    _write(context, place.repository, "not starred", changed=place.client.unstar(place.repository))


@app.command(epilog=examples("dockhand zot bookmark @staging/team/app"))
def bookmark(context: typer.Context, repository: RepositoryArgument) -> None:
    """Bookmark a repository."""
    place = zot_repository(context, repository)
    _write(context, place.repository, "bookmarked", changed=place.client.bookmark(place.repository))


@app.command(epilog=examples("dockhand zot unbookmark @staging/team/app"))
def unbookmark(context: typer.Context, repository: RepositoryArgument) -> None:
    """Remove the bookmark of a repository."""
    place = zot_repository(context, repository)
    changed = place.client.unbookmark(place.repository)
    _write(context, place.repository, "not bookmarked", changed=changed)


@app.command(epilog=examples("dockhand zot starred staging"))
def starred(context: typer.Context, connection: ConnectionArgument = None) -> None:
    """List the repositories that you have starred."""
    _write_list(context, zot_client(context, connection).starred())


@app.command(epilog=examples("dockhand zot bookmarked staging"))
def bookmarked(context: typer.Context, connection: ConnectionArgument = None) -> None:
    """List the repositories that you have bookmarked."""
    _write_list(context, zot_client(context, connection).bookmarked())


def _write(context: typer.Context, repository: str, state: str, *, changed: bool) -> None:
    output = session_of(context).output
    if output.as_json:
        output.document(Preference(repository=repository, changed=changed))
    else:
        output.text(f"{repository}: {state}{' now' if changed else ' already'}")


def _write_list(context: typer.Context, found: list[RepositorySummary]) -> None:
    output = session_of(context).output
    if output.as_json:
        output.document(Repositories(repositories=list(map(repository_form, found))))
    else:
        show_repositories(output, found)
