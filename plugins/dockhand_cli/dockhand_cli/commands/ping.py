"""The command `dockhand ping`."""

from __future__ import annotations

from typing import TypedDict

import typer

from dockhand_cli.arguments import ConnectionArgument
from dockhand_cli.exit_codes import DENIED, CommandFailed
from dockhand_cli.help_texts import examples
from dockhand_cli.session import session_of

app = typer.Typer()


class PingResult(TypedDict):
    """The document of `dockhand ping --json`.

    Attributes:
        name: name of the connection, or the host.
        api_version: the version of the API, or null if the registry does not state it.
        milliseconds: time until the registry had accepted the request, with connecting and logging
            in.
    """

    name: str
    url: str
    api_version: str | None
    milliseconds: int


@app.command(epilog=examples("dockhand ping", "dockhand ping staging", "dockhand ping ghcr.io"))
def ping(
    context: typer.Context,
    connection: ConnectionArgument = None,
) -> None:
    """Check that a registry answers, and accepts the credentials.

    Exit status 4 means that it answers, but refuses the credentials or wants some; 5 that it does
    not answer.
    """
    import time

    from dockhand_cli.advice import error_text
    from dockhand_core.errors import Denied, Unauthorized
    from dockhand_core.http.urls import redacted_url

    session = session_of(context)
    client = session.client(connection)
    url = redacted_url(type(client.driver).base_uri(client.driver.settings))
    started = time.monotonic()
    try:
        client.ping()
    except (Denied, Unauthorized) as error:
        raise CommandFailed(
            f"{client.name} is reachable, but not logged in: {error_text(error)}", DENIED
        ) from error
    milliseconds = round((time.monotonic() - started) * 1000)
    version = client.api_version()
    if session.output.as_json:
        session.output.document(
            PingResult(
                name=client.name,
                url=url,
                api_version=version.header and str(version),
                milliseconds=milliseconds,
            )
        )
        return
    name = "" if url.endswith(f"//{client.name}") else f"{client.name}: "
    shown = f", {version}" if version.header else ""
    session.output.text(f"{name}{url} answers{shown}, {milliseconds} ms")
