"""The credentials that docker, podman and credential helpers store.

Follows: docker's `config.json` (`auths`, `credHelpers`, `credsStore`); containers-auth.json(5); the
protocol of docker-credential-helpers.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from dockhand_auth_token.errors import CredentialsInvalid
from dockhand_auth_token.helpers import ask_helper
from dockhand_auth_token.keys import by_place, place_of, places, registry_key, server_name, table

__all__ = [
    "Credentials",
    "credentials_file",
    "docker_config",
    "find_credentials",
    "helper_of",
    "read_file",
]

_MAX_FILE_SIZE = 1 << 20  # bytes
_IDENTITY_TOKEN_USER = "<token>"  # noqa: S105  # with this user name, a secret is an identity token


@dataclass(frozen=True, slots=True)
class Credentials:
    """Credentials of a client. For an anonymous client, all attributes are empty.

    Attributes:
        username: the user name.
        password: the password.
        identity_token: a refresh token, which the token endpoint accepts instead of a password.
        registry_token: a token to send to the registry directly, without asking a token endpoint.
    """

    username: str = ""
    password: SecretStr | None = field(default=None)
    identity_token: SecretStr | None = field(default=None)
    registry_token: SecretStr | None = field(default=None)


def find_credentials(
    host: str,
    repository: str = "",
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    timeout: float = 30.0,
) -> Credentials:
    """Find the credentials for a registry in the first file that has an entry for the registry.

    The result is `Credentials()`, for an anonymous client, if no file has an entry.

    Args:
        host: the registry's host, with the port if the URL has one.
        repository: the repository of the request, since podman can store credentials for a single
            repository or namespace; may be empty.
        config: the only file to read; None for the default files of docker and podman.
        environ: the environment variables; None for those of the process.
        timeout: the time that a credential helper may take, in seconds.

    Raises:
        CredentialsInvalid: a file cannot be read, or a credential helper failed.
    """
    environ = os.environ if environ is None else environ
    for path in [config] if config is not None else _credential_files(environ):
        document = read_file(path, required=config is not None)
        found = _look_up(document, host, repository, environ, timeout)
        if found is not None:
            return found
    return Credentials()


def credentials_file(
    host: str, *, environ: Mapping[str, str] | None = None, timeout: float = 30.0
) -> Path | None:
    """The default file of docker or podman whose credentials for a registry are used; None if none.

    Args:
        host: the registry's host, with the port if it has one, or the registry's URL.
        environ: the environment variables; None for those of the process.
        timeout: the time that a credential helper may take, in seconds.

    Raises:
        ReferenceInvalid: the host is malformed.
        CredentialsInvalid: a file cannot be read, or a credential helper failed.
    """
    environ = os.environ if environ is None else environ
    host = place_of(registry_key(host))
    for path in _credential_files(environ):
        found = _look_up(read_file(path, required=False), host, "", environ, timeout)
        if found is not None:
            return path if found != Credentials() else None
    return None


def _credential_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the default credential files of docker and podman, in the order to read them."""
    if environ.get("REGISTRY_AUTH_FILE"):
        yield Path(environ["REGISTRY_AUTH_FILE"])
    yield docker_config(environ)
    if environ.get("XDG_RUNTIME_DIR"):
        yield Path(environ["XDG_RUNTIME_DIR"]) / "containers/auth.json"
    yield _home(environ) / ".config/containers/auth.json"


def docker_config(environ: Mapping[str, str]) -> Path:
    """The path of docker's `config.json`."""
    folder = environ.get("DOCKER_CONFIG")
    return (Path(folder) if folder else _home(environ) / ".docker") / "config.json"


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or Path.home())


def read_file(path: Path, *, required: bool) -> Mapping[str, Any]:
    """Read a credentials file; a file that is empty or missing gives an empty document.

    Args:
        path: the file.
        required: whether a missing file is an error.

    Raises:
        CredentialsInvalid: the file cannot be read, or is not a JSON object.
    """
    is_json = True
    document = None
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_SIZE + 1)
        if not data.strip():
            return {}  # as for docker
        document = json.loads(data) if len(data) <= _MAX_FILE_SIZE else None
    except FileNotFoundError:
        if required:
            raise CredentialsInvalid(f"{path}: no such file") from None
        return {}
    except OSError as error:
        raise CredentialsInvalid(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        is_json = False
    if not is_json:  # not raised in the `except`, whose exception has the file's content
        raise CredentialsInvalid(f"{path}: the file is not JSON")
    if not isinstance(document, dict):
        raise CredentialsInvalid(
            f"{path}: the file is not a JSON object of at most {_MAX_FILE_SIZE} bytes"
        )
    return document


def _look_up(
    document: Mapping[str, Any],
    host: str,
    repository: str,
    environ: Mapping[str, str],
    timeout: float,
) -> Credentials | None:
    """Look up the credentials for a registry in a file, or ask the helpers that the file names.

    Returns None if there are no credentials for the registry.
    """
    wanted = places(host, repository)
    helpers = by_place(table(document, "credHelpers"))
    for place in wanted:
        for name, helper in helpers.get(place, ()):
            if isinstance(helper, str) and helper:
                server = name if "/" in place else server_name(host)
                return _ask(helper, server, environ, timeout) or Credentials()
    store = helper_of(document, host)
    if store is not None:
        found = _ask(store, server_name(host), environ, timeout)
        if found is not None:
            return found
    auths = by_place(table(document, "auths"))
    for place in wanted:
        for name, entry in auths.get(place, ()):
            if isinstance(entry, dict) and (found := _parse_entry(entry, name)) is not None:
                return found
    return None


def helper_of(document: Mapping[str, Any], host: str) -> str | None:
    """The name of the credential helper for a registry; None if the file keeps its credentials."""
    helpers = by_place(table(document, "credHelpers")).get(place_of(host), [])
    names = [helper for _, helper in helpers if isinstance(helper, str)]
    # As in docker, an empty name for the registry means that `credsStore` is not used for it.
    name = max(names, key=bool) if names else document.get("credsStore")
    return name if isinstance(name, str) and name else None


def _parse_entry(entry: Mapping[str, Any], name: str) -> Credentials | None:
    """Parse an entry of `auths`; return None if the entry is empty.

    docker writes empty entries for credentials that a helper stores.
    """
    username, password = entry.get("username"), entry.get("password")
    if isinstance(entry.get("auth"), str) and entry["auth"]:
        try:
            decoded = base64.b64decode(entry["auth"], validate=True).decode()
        except (binascii.Error, ValueError):
            raise CredentialsInvalid(
                f"auths: {name}: auth is not the base64 of user:password"
            ) from None
        username, colon, password = decoded.partition(":")
        password = password.rstrip("\0")
        if not colon:
            raise CredentialsInvalid(f"auths: {name}: auth is not the base64 of user:password")
    found = Credentials(
        username if isinstance(username, str) else "",
        _secret(password),
        _secret(entry.get("identitytoken")),
        _secret(entry.get("registrytoken")),
    )
    return None if found == Credentials() else found


def _secret(value: object) -> SecretStr | None:
    return SecretStr(value) if isinstance(value, str) and value else None


def _ask(
    helper: str, server: str, environ: Mapping[str, str], timeout: float
) -> Credentials | None:
    """Ask a credential helper for credentials; return None if the helper has none."""
    answer = ask_helper(helper, server, environ, timeout)
    if answer is None:
        return None
    username, secret = answer
    if username == _IDENTITY_TOKEN_USER:
        return Credentials(identity_token=SecretStr(secret))
    return Credentials(username, SecretStr(secret))
