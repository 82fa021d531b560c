"""The command `dockhand token`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import typer

from dockhand_cli.exit_codes import UsageError
from dockhand_cli.help_texts import examples
from dockhand_cli.session import Session, session_of
from dockhand_cli.values import moment_text

if TYPE_CHECKING:
    from dockhand_auth_jwt import JwtAuth

app = typer.Typer()


class SignedToken(TypedDict):
    """The document of `dockhand token --json`.

    Attributes:
        token: the token, which is a secret.
        issuer: name of the authority.
        audience: name of the registry.
        subject: name of the user, or null.
        scopes: the scopes that are granted.
        issued_at: time from which the token is valid.
        expires_at: time at which it expires.
    """

    token: str
    issuer: str
    audience: str
    subject: str | None
    scopes: list[str]
    issued_at: str
    expires_at: str


@app.command(
    epilog=examples(
        "dockhand token -c main --scope repository:library/nginx:pull",
        "dockhand token --private-key keys/private.pem --issuer my_auth --audience my_registry "
        "--scope repository:app:pull,push --lifetime 3600",
    )
)
def token(
    context: typer.Context,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE",
            help="a scope to grant, such as repository:app:pull,push; can be repeated; without "
            "one, the token is good for a login only",
        ),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(metavar="USER", help="name of the user, for the registry's log"),
    ] = None,
    lifetime: Annotated[
        int | None,
        typer.Option(
            metavar="SECONDS",
            min=1,
            help="time until the token expires; by default that of the connection, or 300",
            show_default=False,
        ),
    ] = None,
    key_id: Annotated[
        str | None,
        typer.Option(
            metavar="x5c|libtrust|rfc7638",
            help="how the token identifies the key; by default by a certificate (x5c)",
        ),
    ] = None,
    private_key: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="the private key of the authority, a PEM file, instead of a connection",
        ),
    ] = None,
    issuer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="with --private-key: the registry's setting `issuer`"),
    ] = None,
    audience: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="with --private-key: the registry's setting `service`"),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="with --private-key: the certificate that the registry trusts"
        ),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="with --private-key: a file with the password of the key"
        ),
    ] = None,
) -> None:
    """Sign a token with the private key of a registry's authority, and print it.

    The key, the names and the lifetime are those of a connection with the auth driver jwt: of the
    one that -c names, or of the default connection. With --private-key, no connection is needed.

    The token is a secret: it grants its scopes to everyone who has it, until it expires.
    """
    session = session_of(context)
    of_key = {
        "authority_name": issuer,
        "registry_name": audience,
        "certificate": certificate,
        "private_key_password_file": password_file,
    }
    if private_key is None:
        if any(value is not None for value in of_key.values()):
            raise UsageError(
                "--issuer, --audience, --certificate and --password-file belong to --private-key"
            )
        where, base, settings = _connection_settings(session)
    else:
        _check_key_options(session, private_key, issuer, audience)
        where, base = "dockhand token", Path.cwd()
        settings = {"private_key": private_key, **_given(of_key)}
    settings |= _given({"key_id": key_id, "subject": subject, "lifetime": lifetime})
    driver = _jwt_driver(where, base, settings)
    service = driver.service
    builder = service.builder().related_to(driver.settings.subject).with_scope(*scope or ())
    signed = service.sign(builder)
    if not session.output.as_json:
        session.output.text(signed)
        return
    claims = service.validate(signed)
    session.output.document(
        SignedToken(
            token=signed,
            issuer=service.issuer,
            audience=service.audience,
            subject=claims.subject or None,
            scopes=[str(each) for each in claims.scopes],
            issued_at=moment_text(datetime.fromtimestamp(claims["iat"], UTC)),
            expires_at=moment_text(datetime.fromtimestamp(claims["exp"], UTC)),
        )
    )


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given; paths as texts, as in a configuration file."""
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in options.items()
        if value is not None
    }


def _check_key_options(
    session: Session, private_key: str, issuer: str | None, audience: str | None
) -> None:
    if "-----BEGIN" in private_key:
        raise UsageError(
            "--private-key is the path of a file: a key on the command line could be seen by "
            "everyone on this machine"
        )
    if session.options.connection is not None:
        raise UsageError("--private-key and --connection cannot be given together")
    for option, value in (("--issuer", issuer), ("--audience", audience)):
        if not value:
            raise UsageError(f"{option} NAME is missing, which --private-key needs")


def _connection_settings(session: Session) -> tuple[str, Path, dict[str, Any]]:
    """The `auth` settings of the connection, their place for messages, and their folder."""
    config = session.dockhand.config
    wanted = session.options.connection
    if wanted is None and not config.connections:
        raise UsageError(
            "no connection is configured: give --private-key, --issuer and --audience, or a "
            "dockhand.toml that has a connection with the auth driver jwt"
        )
    name, table = config.connection(wanted and wanted.removeprefix("@"))
    if table.auth.driver != "jwt":
        raise UsageError(
            f"connection {name!r} has the auth driver {table.auth.driver!r}, which signs no "
            "tokens: name a connection with the auth driver jwt (-c NAME), or give --private-key, "
            "--issuer and --audience"
        )
    return f"connection {name!r}: auth", config.base, table.auth.options


def _jwt_driver(where: str, base: Path, settings: dict[str, Any]) -> JwtAuth:
    """Make the auth driver jwt, which signs the tokens.

    Args:
        where: start of error messages.
        base: folder that relative paths in the settings start at.
        settings: the settings of the driver.
    """
    from dockhand_core.config import validate_table

    try:
        from dockhand_auth_jwt import JwtAuth
    except ImportError as error:
        raise UsageError(
            f'tokens are signed by the package dockhand-auth-jwt: pip install "dockhand-core[jwt]" '
            f"({error})"
        ) from None
    table = validate_table(JwtAuth.Settings, settings, where=where, base=base, also=["driver"])
    return JwtAuth(table)
