"""The command `dockhand logout`."""

from __future__ import annotations

from typing import TypedDict

import typer

from dockhand_cli.arguments import HostArgument
from dockhand_cli.help_texts import examples
from dockhand_cli.session import session_of

app = typer.Typer()


class Logout(TypedDict):
    """The document of `dockhand logout --json`.

    Attributes:
        registry: the registry's key in docker's `config.json`.
        erased: whether there were credentials to erase.
    """

    registry: str
    erased: bool


@app.command(epilog=examples("dockhand logout localhost:5000"))
def logout(context: typer.Context, host: HostArgument) -> None:
    """Log out from a registry: erase the credentials that docker stores for it.

    They are erased from docker's config.json and from the credential helper that it names.
    """
    from dockhand_cli.registry_login import HELPER_TIMEOUT, file_in_use, host_and_key

    session = session_of(context)
    name, key = host_and_key(host)

    from dockhand_auth_token import erase_credentials

    erased = erase_credentials(key, timeout=HELPER_TIMEOUT)
    if session.output.as_json:
        session.output.document(Logout(registry=key, erased=erased))
    elif erased:
        session.output.text(f"Logged out from {name}")
    else:
        session.output.text(f"There was no login at {name}")
    used, _ = file_in_use(key)
    if used is not None and not session.options.quiet:
        session.output.warning(
            f"{used} has other credentials for {name}, which Dockhand still uses"
        )
