"""The commands about API keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer
from dockhand_cli import session_of
from dockhand_cli.arguments import ConnectionArgument
from dockhand_cli.exit_codes import UsageError
from dockhand_cli.help_texts import examples

from dockhand_zot.commands.clients import zot_client
from dockhand_zot.commands.forms import moment

if TYPE_CHECKING:
    from dockhand_zot import ApiKey

__all__ = ["Key", "Keys", "NewKey", "Revoked", "app"]

app = typer.Typer(no_args_is_help=True, help="List, create and revoke your API keys.")


class Key(TypedDict):
    """An API key without its secret.

    Attributes:
        id: the key's id, as `revoke` takes it.
        label: the label.
        scopes: the scopes.
        created_at, expires_at, last_used_at: the times, each null if zot has none.
        expired: whether the key has expired.
    """

    id: str
    label: str
    scopes: list[str]
    created_at: str | None
    expires_at: str | None
    last_used_at: str | None
    expired: bool


class Keys(TypedDict):
    """The document of `dockhand zot api-keys list --json`.

    Attributes:
        api_keys: the keys, oldest first.
    """

    api_keys: list[Key]


class NewKey(Key):
    """The document of `dockhand zot api-keys create --json`.

    Attributes:
        api_key: the key itself, a secret.
    """

    api_key: str


class Revoked(TypedDict):
    """The document of `dockhand zot api-keys revoke --json`.

    Attributes:
        revoked: id of the key.
    """

    revoked: str


@app.command("list", epilog=examples("dockhand zot api-keys list staging"))
def list_keys(context: typer.Context, connection: ConnectionArgument = None) -> None:
    """List your API keys, oldest first, without their secrets."""
    output = session_of(context).output
    keys = zot_client(context, connection).api_keys()
    if output.as_json:
        output.document(Keys(api_keys=list(map(_form, keys))))
        return
    output.table(
        ("ID", "LABEL", "CREATED", "EXPIRES", "LAST USED", "EXPIRED"),
        (
            (key.id, key.label, key.created_at, key.expires_at, key.last_used_at, key.expired)
            for key in keys
        ),
    )


@app.command(
    epilog=examples(
        "dockhand zot api-keys create ci staging",
        "dockhand zot api-keys create ci staging --expires-at 2030-01-31",
    )
)
def create(
    context: typer.Context,
    label: Annotated[str, typer.Argument(help="a description for people")],
    connection: ConnectionArgument = None,
    expires_at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="the time of expiry: 2030-01-31 or 2030-01-31T12:00:00Z"),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REPOSITORY",
            help="a repository to note for the key; zot does not enforce it; can be repeated",
        ),
    ] = None,
) -> None:
    """Create an API key, and write its secret to standard output.

    zot shows the secret only this once. Use it with the auth driver apikey, or as a password.
    """
    output = session_of(context).output
    expiry = None if expires_at is None else _time(expires_at)
    client = zot_client(context, connection)
    made = client.create_api_key(label, scopes=scope or (), expires_at=expiry)
    secret = made.api_key.get_secret_value()
    if output.as_json:
        output.document(NewKey(**_form(made), api_key=secret))
        return
    output.message(f"API key {made.id}; its secret is shown only once:")
    output.text(secret)


@app.command(
    epilog=examples("dockhand zot api-keys revoke 46a45ce7-5d92-498a-a9cb-9654b1da3da1 staging")
)
def revoke(
    context: typer.Context,
    id: Annotated[str, typer.Argument(help="the id of the API key, as list shows it")],  # noqa: A002
    connection: ConnectionArgument = None,
) -> None:
    """Revoke an API key."""
    zot_client(context, connection).revoke_api_key(id)
    output = session_of(context).output
    if output.as_json:
        output.document(Revoked(revoked=id))
    else:
        output.text(f"revoked {id}")


def _time(text: str) -> datetime:
    """Read a time, which is in UTC unless it has an offset."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--expires-at: {text!r} is not a time such as 2030-01-31 or 2030-01-31T12:00:00Z"
        ) from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _form(key: ApiKey) -> Key:
    return Key(
        id=key.id,
        label=key.label,
        scopes=list(key.scopes),
        created_at=moment(key.created_at),
        expires_at=moment(key.expires_at),
        last_used_at=moment(key.last_used_at),
        expired=key.expired,
    )
