"""The commands about the zot server itself."""

from __future__ import annotations

from typing import TypedDict

import typer
from dockhand_cli import session_of
from dockhand_cli.arguments import ConnectionArgument
from dockhand_cli.help_texts import examples

from dockhand_zot.commands.clients import zot_client

__all__ = ["Extension", "Extensions", "Server", "app"]

app = typer.Typer()


class Extension(TypedDict):
    """An extension of a zot.

    Attributes:
        description: the description.
        endpoints: paths of the endpoints that are on.
    """

    name: str
    url: str
    description: str
    endpoints: list[str]


class Extensions(TypedDict):
    """The document of `dockhand zot extensions --json`.

    Attributes:
        extensions: the extensions.
    """

    extensions: list[Extension]


class Server(TypedDict):
    """The document of `dockhand zot server --json`.

    Attributes:
        version: the release.
        commit: the commit that the server was built from.
        binary_type: the kind of build.
        spec_version: the version of the Distribution specification that zot implements.
        auth: the ways to log in, such as `htpasswd` and `bearer`.
    """

    version: str
    commit: str
    binary_type: str
    spec_version: str
    auth: list[str]


@app.command(epilog=examples("dockhand zot extensions staging"))
def extensions(context: typer.Context, connection: ConnectionArgument = None) -> None:
    """List the extensions of a zot, with the endpoints that are on."""
    output = session_of(context).output
    found = zot_client(context, connection).extensions()
    if output.as_json:
        forms = [
            Extension(
                name=each.name,
                url=each.url,
                description=each.description,
                endpoints=list(each.endpoints),
            )
            for each in found
        ]
        output.document(Extensions(extensions=forms))
        return
    rows = [(each.name, endpoint) for each in found for endpoint in each.endpoints]
    output.table(("EXTENSION", "ENDPOINT"), rows)


@app.command(epilog=examples("dockhand zot server staging"))
def server(context: typer.Context, connection: ConnectionArgument = None) -> None:
    """Show the version of a zot server, and its ways to log in."""
    output = session_of(context).output
    info = zot_client(context, connection).mgmt()
    form = Server(
        version=info.version,
        commit=info.commit,
        binary_type=info.binary_type,
        spec_version=info.spec_version,
        auth=sorted(info.auth),
    )
    if output.as_json:
        output.document(form)
        return
    output.table(
        ("PROPERTY", "VALUE"),
        [
            ("version", form["version"]),
            ("commit", form["commit"]),
            ("binary type", form["binary_type"]),
            ("specification", form["spec_version"]),
            ("auth", " ".join(form["auth"])),
        ],
    )
