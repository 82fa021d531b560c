"""The command `dockhand connections`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import typer

from dockhand_cli.help_texts import examples
from dockhand_cli.session import session_of

if TYPE_CHECKING:
    from dockhand_core import Dockhand
    from dockhand_core.config import ConnectionConfig

app = typer.Typer()


class ConnectionLine(TypedDict):
    """A configured connection.

    Attributes:
        driver: name of the driver; null if the settings cannot be read.
        url: URL without credentials, or null. Of a driver without a URL, the value of its first
            setting, such as the folder of an embedded registry.
        auth: name of the auth driver, which is the text `null` if no credentials are sent; null if
            the settings cannot be read.
        default: whether this is the default connection.
        error: the error in the settings, or null.
    """

    name: str
    driver: str | None
    url: str | None
    auth: str | None
    default: bool
    error: str | None


class Connections(TypedDict):
    """The document of `dockhand connections --json`."""

    connections: list[ConnectionLine]


@app.command(epilog=examples("dockhand connections", "dockhand connections --json"))
def connections(context: typer.Context) -> None:
    """Show the configured connections, without connecting to them.

    A connection whose settings are wrong is shown with its error.
    """
    from dockhand_core import Dockhand
    from dockhand_core.config import load_tables

    session = session_of(context)
    config, errors, names = load_tables(session.options.config)
    with Dockhand(config) as dockhand:
        lines = [
            _wrong_line(name, name == config.default, errors[name])
            if name in errors
            else _line(dockhand, name, config.connections[name])
            for name in names
        ]
    if session.output.as_json:
        session.output.document(Connections(connections=lines))
        return
    if not lines:
        session.output.message(
            "no connection is configured; write a dockhand.toml with a [connections.<name>] "
            "table, set DOCKHAND_BASE_URI, or begin images with their registry's host"
        )
        return
    columns = ["NAME", "DRIVER", "URL", "AUTH", "DEFAULT", "ERROR"]
    rows = [
        (line["name"], line["driver"], line["url"], line["auth"], line["default"], line["error"])
        for line in lines
    ]
    if session.output.is_terminal and not any(line["error"] for line in lines):
        columns, rows = columns[:-1], [row[:-1] for row in rows]  # type: ignore[misc]
    session.output.table(columns, rows)


def _line(dockhand: Dockhand, name: str, table: ConnectionConfig) -> ConnectionLine:
    """Describe a connection, with its error if its settings are wrong."""
    from dockhand_core import DockhandError

    error = None
    try:
        dockhand.check_connection(name)
    except DockhandError as raised:
        error = str(raised)
    return ConnectionLine(
        name=name,
        driver=table.driver,
        url=_place(dockhand, table),
        auth=table.auth.driver,
        default=name == dockhand.config.default,
        error=error,
    )


def _wrong_line(name: str, default: bool, error: Exception) -> ConnectionLine:
    """Describe a connection whose settings cannot be read."""
    return ConnectionLine(
        name=name, driver=None, url=None, auth=None, default=default, error=str(error)
    )


def _place(dockhand: Dockhand, table: ConnectionConfig) -> str | None:
    """The URL of a connection without credentials, or the first setting of its driver."""
    from dockhand_core import DockhandError
    from dockhand_core.http.urls import redacted_url

    url = table.options.get("base_uri")
    if url is None:
        try:
            fields = dockhand.plugins.driver("registry", table.driver).Settings.model_fields
        except DockhandError:
            return None
        first = next(iter(fields), "")
        url = table.options.get(first)
        if not isinstance(url, str) or "Secret" in str(fields[first].annotation):
            return None
        return redacted_url(url)
    # text that is no URL may be a secret; the error describes the form of a URL
    return redacted_url(url) if isinstance(url, str) and "://" in url else None
