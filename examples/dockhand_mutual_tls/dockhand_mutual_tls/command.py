"""The command `dockhand check-tls`."""

from __future__ import annotations

from typing import Annotated, TypedDict

import typer
from dockhand_cli import session_of

from dockhand_mutual_tls.check import check

__all__ = ["app"]

app = typer.Typer()


class Checked(TypedDict):
    """The document of `dockhand check-tls --json`.

    Attributes:
        connection: name of the connection.
        subject: holder of the client certificate.
        issuer: the CA that issued it.
        not_after: the time until which it is valid, in RFC 3339.
        due: whether less than a third of its lifetime is left.
    """

    connection: str
    subject: str
    issuer: str
    not_after: str
    due: bool


@app.command()
def check_tls(
    context: typer.Context,
    connection: Annotated[str | None, typer.Argument(help="name of the connection")] = None,
) -> None:
    """Check a connection's client certificate, and whether the registry accepts it."""
    session = session_of(context)
    wanted = connection or session.options.connection
    name, _ = session.dockhand.config.connection(wanted and wanted.removeprefix("@"))
    found = check(session.dockhand.config, name)
    session.client(name).ping()  # credentials too, if the connection has any
    until = f"{found.not_after:%Y-%m-%dT%H:%M:%SZ}"
    document = Checked(
        connection=name, subject=found.subject, issuer=found.issuer, not_after=until, due=found.due
    )
    line = f"{name}: {found.subject}, issued by {found.issuer}, valid until {until}: accepted"
    session.output.item(document, line)
    if found.due:
        session.output.warning("less than a third of its lifetime is left: is it being renewed?")
