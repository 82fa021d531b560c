"""The command `dockhand login`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from dockhand_cli.arguments import HostArgument
from dockhand_cli.exit_codes import UsageError
from dockhand_cli.help_texts import examples
from dockhand_cli.session import session_of

if TYPE_CHECKING:
    from dockhand_auth_token import StoredCredentials

app = typer.Typer()

_MAX_PASSWORD = 64 << 10  # bytes
_HELPERS = {"darwin": "osxkeychain", "win32": "wincred"}  # those of docker's own releases


class Login(TypedDict):
    """The document of `dockhand login --json`.

    Attributes:
        registry: the registry's key in `file`.
        username: the user name.
        file: path of docker's `config.json`.
        helper: name of the credential helper that keeps the password; null if `file` has it in
            plain text.
        checked: false if the registry asked for no credentials, so that they could not be checked.
    """

    registry: str
    username: str
    file: str
    helper: str | None
    checked: bool


@app.command(
    epilog=examples(
        "dockhand login localhost:5000",
        "dockhand login localhost:5000 -u alice --password-stdin < password.txt",
    )
)
def login(
    context: typer.Context,
    host: HostArgument,
    username: Annotated[
        str | None, typer.Option("--username", "-u", metavar="USER", help="the user name")
    ] = None,
    password_stdin: Annotated[
        bool,
        typer.Option(
            "--password-stdin", help="read the password from standard input, without its line end"
        ),
    ] = False,
) -> None:
    """Log in to a registry: check a user name and a password or token, and store them.

    They are stored as docker does, so docker, podman, skopeo, crane and oras use them, too: by the
    credential helper that docker's config.json names, or else in that file. The terminal asks for
    the user name and the password if they are not given.
    """
    from dockhand_cli.registry_login import HELPER_TIMEOUT, check_login, host_and_key

    session = session_of(context)
    name, key = host_and_key(host)
    username, secret = _credentials(name, username, password_stdin)

    from dockhand_auth_token import store_credentials
    from pydantic import SecretStr

    password = SecretStr(secret)
    checked = check_login(session.dockhand, name, username, password)
    stored = store_credentials(key, username, password, timeout=HELPER_TIMEOUT)
    if session.output.as_json:
        session.output.document(
            Login(
                registry=stored.registry,
                username=username,
                file=str(stored.path),
                helper=stored.helper,
                checked=checked,
            )
        )
    else:
        session.output.text(f"Login succeeded: {username} at {name}")
    if not session.options.quiet:
        for warning in _warnings(name, stored, checked):
            session.output.warning(warning)


def _credentials(host: str, username: str | None, from_stdin: bool) -> tuple[str, str]:
    """The user name and the password: given, read from standard input, or asked for."""
    if username == "":
        raise UsageError("the user name is empty")
    is_terminal = sys.stdin.isatty()
    if from_stdin and not is_terminal:
        if username is None:
            raise UsageError("--password-stdin needs the user name, too: --username USER")
        return username, _read_password()
    if not is_terminal:
        raise UsageError(
            "standard input is no terminal, so the password cannot be asked for: give --username "
            "USER and --password-stdin, and the password on standard input"
        )
    if username is None:
        username = str(typer.prompt(f"User name for {host}", err=True))
    # also with --password-stdin: a terminal would show the typed password
    return username, str(typer.prompt(f"Password of {username}", hide_input=True, err=True))


def _read_password() -> str:
    """Read the password from standard input, and remove one line end."""
    data = sys.stdin.buffer.read(_MAX_PASSWORD + 1)
    if len(data) > _MAX_PASSWORD:
        raise UsageError(f"the password on standard input has more than {_MAX_PASSWORD} bytes")
    text = data.decode(errors="replace")
    if text.encode() != data:  # no exception of `decode`, which would have the password
        raise UsageError("the password on standard input is not UTF-8")
    for end in ("\r\n", "\n", "\r"):
        if text.endswith(end):
            text = text.removesuffix(end)
            break
    if not text.strip():
        raise UsageError("the password on standard input is empty")
    return text


def _warnings(host: str, stored: StoredCredentials, checked: bool) -> Iterator[str]:
    """Yield warnings about the stored credentials."""
    from dockhand_cli.registry_login import file_in_use

    if not checked:
        yield f"{host} asked for no credentials, so these could not be checked"
    if stored.helper is None:
        helper = _HELPERS.get(sys.platform, "pass")
        yield (
            f"the password is in plain text (base64) in {stored.path}; to keep it in a credential "
            f'helper such as docker-credential-{helper}, set "credsStore": "{helper}" in that '
            "file, and log in again"
        )
        if os.name == "posix" and stored.path.stat().st_mode & 0o077:
            yield f"other users of this machine may read that file: chmod 600 {stored.path}"
    used, error = file_in_use(host)
    if error:
        yield f"this login cannot be used: {error}"
    elif used != stored.path:
        yield f"this login is not used: {used} has other credentials for {host}, and is read first"
