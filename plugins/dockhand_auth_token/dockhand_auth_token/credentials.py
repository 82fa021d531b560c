"""Credentials that docker, podman and their helpers keep.

Follows: docker's `config.json` (`auths`, `credHelpers`, `credsStore`), containers-auth.json(5), and
the protocol of docker-credential-helpers.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from dockhand_auth_token.errors import CredentialsInvalid

__all__ = ["Credentials", "find_credentials"]

_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FILE_LIMIT = 1 << 20
_IDENTITY = "<token>"  # the user name by which helpers say that the secret is an identity token


@dataclass(frozen=True, slots=True)
class Credentials:
    """What to show a token endpoint; nothing, for an anonymous client.

    Attributes:
        username: whose they are.
        password: theirs.
        identity_token: a refresh token, to be shown instead.
        registry_token: a token for the registry itself.
    """

    username: str = ""
    password: SecretStr | None = field(default=None)
    identity_token: SecretStr | None = field(default=None)
    registry_token: SecretStr | None = field(default=None)


def find_credentials(
    host: str,
    repository: str,
    *,
    config: Path | None,
    environ: Mapping[str, str],
    timeout: float,
) -> Credentials:
    """What the first file says that knows this registry; nothing where none does.

    Args:
        host: the registry's, with its port if it has one.
        repository: what is asked for, since podman keeps credentials for parts of a registry.
        config: the only file to read, if one is given.
        environ: where variables are read from.
        timeout: seconds that a helper may take.

    Raises:
        CredentialsInvalid: a file cannot be read, or a helper failed.
    """
    for path in [config] if config is not None else _files(environ):
        document = _read(path, wanted=config is not None)
        found = _look(document, host, repository, environ, timeout)
        if found is not None:
            return found
    return Credentials()


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    home = Path(environ.get("HOME") or Path.home())
    if environ.get("REGISTRY_AUTH_FILE"):
        yield Path(environ["REGISTRY_AUTH_FILE"])
    if environ.get("DOCKER_CONFIG"):
        yield Path(environ["DOCKER_CONFIG"]) / "config.json"
    else:
        yield home / ".docker/config.json"
    if environ.get("XDG_RUNTIME_DIR"):
        yield Path(environ["XDG_RUNTIME_DIR"]) / "containers/auth.json"
    yield home / ".config/containers/auth.json"


def _read(path: Path, *, wanted: bool) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_LIMIT + 1)
        document = json.loads(data) if len(data) <= _FILE_LIMIT else None
    except FileNotFoundError:
        if wanted:
            raise CredentialsInvalid(f"{path}: there is no such file") from None
        return {}
    except OSError as error:
        raise CredentialsInvalid(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise CredentialsInvalid(f"{path}: not JSON") from None
    if not isinstance(document, dict):
        raise CredentialsInvalid(f"{path}: not a JSON object of at most {_FILE_LIMIT} bytes")
    return document


def _look(
    document: Mapping[str, Any],
    host: str,
    repository: str,
    environ: Mapping[str, str],
    timeout: float,
) -> Credentials | None:
    names = _names(host, repository)
    helpers = _table(document, "credHelpers")
    for name in names:
        if isinstance(helpers.get(name), str):
            return _ask(helpers[name], name, environ, timeout) or Credentials()
    store = document.get("credsStore")
    if isinstance(store, str) and store:
        found = _ask(store, host, environ, timeout)
        if found is not None:
            return found
    auths = _table(document, "auths")
    for name in (*names, f"https://{host}", f"https://{host}/v1/", f"https://{host}/v2/"):
        entry = auths.get(name)
        if isinstance(entry, dict) and (found := _entry(entry, name)) is not None:
            return found
    return None


def _names(host: str, repository: str) -> Sequence[str]:
    """The most particular first: `host/team/app`, `host/team`, `host`."""
    parts = repository.split("/") if repository else []
    return ["/".join([host, *parts[:count]]) for count in range(len(parts), -1, -1)]


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _entry(entry: Mapping[str, Any], name: str) -> Credentials | None:
    """An entry of `auths`; None for one that is empty since a store has what belongs to it."""
    username, password = entry.get("username"), entry.get("password")
    if isinstance(entry.get("auth"), str) and entry["auth"]:
        try:
            decoded = base64.b64decode(entry["auth"], validate=True).decode()
        except (binascii.Error, ValueError):
            raise CredentialsInvalid(
                f"auths: {name}: auth is not base64 of user:password"
            ) from None
        username, colon, password = decoded.partition(":")
        password = password.rstrip("\0")
        if not colon:
            raise CredentialsInvalid(f"auths: {name}: auth is not base64 of user:password")
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
    """What a helper knows; what it prints is never shown."""
    if not _HELPER.fullmatch(helper):
        raise CredentialsInvalid(f"{helper[:100]!r} cannot be the name of a credential helper")
    program = f"docker-credential-{helper}"
    status, output = _run(program, server, environ, timeout)
    if status:
        if b"credentials not found" in output:
            return None
        raise CredentialsInvalid(f"{program} failed with status {status}")
    try:
        answer = json.loads(output)
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, TypeError, KeyError):
        raise CredentialsInvalid(f"{program} did not answer with a user and a secret") from None
    if not isinstance(username, str) or not isinstance(secret, str) or not secret:
        return None
    if username == _IDENTITY:
        return Credentials(identity_token=SecretStr(secret))
    return Credentials(username, SecretStr(secret))


def _run(
    program: str, server: str, environ: Mapping[str, str], timeout: float
) -> tuple[int, bytes]:
    """A helper's status and output."""
    try:
        # No shell, and the name was checked. A session of its own, so that all it started can be
        # ended with it: whoever else holds the pipe would be waited for.
        helper = subprocess.Popen(  # noqa: S603
            [program, "get"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            start_new_session=True,
        )
    except FileNotFoundError:
        raise CredentialsInvalid(f"{program} is not installed") from None
    except OSError as error:
        raise CredentialsInvalid(f"{program} cannot be run: {error.strerror}") from None
    with helper:
        try:
            output, _ = helper.communicate(server.encode(), timeout)
        except subprocess.TimeoutExpired:
            _end(helper)
            raise CredentialsInvalid(f"{program} did not answer within {timeout:g} s") from None
        except BaseException:
            _end(helper)
            raise
    return helper.returncode, output


def _end(helper: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(helper.pid, signal.SIGKILL)
    helper.kill()
