"""The credentials that docker, podman and credential helpers store.

Follows: docker's `config.json` (`auths`, `credHelpers`, `credsStore`); containers-auth.json(5); the
protocol of docker-credential-helpers.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from dockhand_auth_token.errors import CredentialsInvalid

__all__ = ["Credentials", "find_credentials"]

_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MAX_FILE_SIZE = 1 << 20  # bytes
_MAX_HELPER_OUTPUT = 64 << 10  # bytes
_DOCKER_HUB = "https://index.docker.io/v1/"
_DOCKER_HUB_HOSTS = {"docker.io", "index.docker.io", "registry-1.docker.io"}
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
    repository: str,
    *,
    config: Path | None,
    environ: Mapping[str, str],
    timeout: float,
) -> Credentials:
    """Find the credentials for a registry in the first file that has an entry for the registry.

    The result is `Credentials()`, for an anonymous client, if no file has an entry.

    Args:
        host: the registry's host, with the port if the URL has one.
        repository: the repository of the request, since podman can store credentials for a single
            repository or namespace; may be empty.
        config: the only file to read; None for the default files of docker and podman.
        environ: the environment variables.
        timeout: the time that a credential helper may take, in seconds.

    Raises:
        CredentialsInvalid: a file cannot be read, or a credential helper failed.
    """
    for path in [config] if config is not None else _credential_files(environ):
        document = _read_config(path, required=config is not None)
        found = _look_up(document, host, repository, environ, timeout)
        if found is not None:
            return found
    return Credentials()


def _credential_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the default credential files of docker and podman, in the order to read them."""
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


def _read_config(path: Path, *, required: bool) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_SIZE + 1)
        document = json.loads(data) if len(data) <= _MAX_FILE_SIZE else None
    except FileNotFoundError:
        if required:
            raise CredentialsInvalid(f"{path}: no such file") from None
        return {}
    except OSError as error:
        raise CredentialsInvalid(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise CredentialsInvalid(f"{path}: the file is not JSON") from None
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
    places = _places(host, repository)
    helpers = _by_place(_table(document, "credHelpers"))
    for place in places:
        for name, helper in helpers.get(place, ()):
            if isinstance(helper, str):
                server = name if "/" in place else _server(host)
                return _ask_helper(helper, server, environ, timeout) or Credentials()
    store = document.get("credsStore")
    if isinstance(store, str) and store:
        found = _ask_helper(store, _server(host), environ, timeout)
        if found is not None:
            return found
    auths = _by_place(_table(document, "auths"))
    for place in places:
        for name, entry in auths.get(place, ()):
            if isinstance(entry, dict) and (found := _parse_entry(entry, name)) is not None:
                return found
    return None


def _is_docker_hub(host: str) -> bool:
    return host in _DOCKER_HUB_HOSTS


def _server(host: str) -> str:
    """The name by which docker asks a credential helper for a registry's credentials."""
    return _DOCKER_HUB if _is_docker_hub(_place(host)) else host


def _places(host: str, repository: str) -> Sequence[str]:
    """The places of a repository's entries, most specific first: `host/a/b`, `host/a`, `host`."""
    parts = repository.split("/") if repository else []
    place = _place(host)
    return ["/".join([place, *parts[:count]]) for count in range(len(parts), -1, -1)]


def _place(key: str) -> str:
    """The place of an entry: its host, with the port if it is not that of the scheme, and its path.

    Programs write the key of a registry as a host or as a URL, with or without `/v1/` or `/v2/`.
    All names of Docker Hub give the same place.
    """
    scheme, separator, rest = key.strip().rpartition("://")
    host, _, path = rest.partition("/")
    host = host.rpartition("@")[2].lower()
    default_port = {"http": ":80", "https": ":443", "": ":443"}.get(scheme.lower(), "")
    host = host.removesuffix(default_port) if default_port else host
    path = path.strip("/")
    # Only podman stores credentials for a part of a registry, and it writes such a key without a
    # scheme. The keys of Docker Desktop's own tokens stay different from the key of the registry.
    if path in ("v1", "v2") or (separator and not path.endswith("-token")):
        path = ""
    if _is_docker_hub(host):
        host = "docker.io"
    return f"{host}/{path}" if path else host


def _by_place(table: Mapping[str, Any]) -> dict[str, list[tuple[str, Any]]]:
    """The entries of a table by place; keys that are exactly the place come first."""
    found: dict[str, list[tuple[str, Any]]] = {}
    for key, entry in sorted(table.items(), key=lambda item: _place(item[0]) != item[0]):
        found.setdefault(_place(key), []).append((key, entry))
    return found


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


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


def _ask_helper(
    helper: str, server: str, environ: Mapping[str, str], timeout: float
) -> Credentials | None:
    """Ask a credential helper for credentials; return None if the helper has none.

    Error messages never contain the helper's output, which may contain a secret.
    """
    if not _HELPER_NAME.fullmatch(helper):
        raise CredentialsInvalid(f"{helper[:100]!r} cannot be the name of a credential helper")
    program = f"docker-credential-{helper}"
    status, output = _run_helper(program, server, environ, timeout)
    if status:
        if b"credentials not found" in output:
            return None
        raise CredentialsInvalid(f"{program} failed with status {status}")
    try:
        answer = json.loads(output)
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, TypeError, KeyError):
        raise CredentialsInvalid(f"{program} did not answer with a Username and a Secret") from None
    if not isinstance(username, str) or not isinstance(secret, str) or not secret:
        return None
    if username == _IDENTITY_TOKEN_USER:
        return Credentials(identity_token=SecretStr(secret))
    return Credentials(username, SecretStr(secret))


def _run_helper(
    program: str, server: str, environ: Mapping[str, str], timeout: float
) -> tuple[int, bytes]:
    """Run a credential helper for a server, and return the helper's exit status and output."""
    try:
        # It is safe to run the program: no shell is used, and the helper's name was checked. The
        # helper runs in its own session, so that `_kill_helper` also kills its children.
        helper = subprocess.Popen(  # noqa: S603
            [program, "get"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(environ),
            start_new_session=True,
        )
    except FileNotFoundError:
        raise CredentialsInvalid(f"{program} is not installed, or not on the PATH") from None
    except OSError as error:
        raise CredentialsInvalid(f"{program} cannot be run: {error.strerror}") from None
    deadline = time.monotonic() + timeout
    output = bytearray()
    with helper, selectors.DefaultSelector() as selector:
        try:
            assert helper.stdin is not None
            assert helper.stdout is not None
            with suppress(BrokenPipeError):
                helper.stdin.write(server.encode())
                helper.stdin.close()
            selector.register(helper.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise CredentialsInvalid(f"{program} did not answer within {timeout:g} s")
                block = os.read(helper.stdout.fileno(), _MAX_HELPER_OUTPUT)
                if not block:
                    break
                output += block
                if len(output) > _MAX_HELPER_OUTPUT:
                    raise CredentialsInvalid(
                        f"{program} answered with more than {_MAX_HELPER_OUTPUT} bytes"
                    )
            # The helper may close its output and go on.
            helper.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _kill_helper(helper)
            raise CredentialsInvalid(f"{program} did not end within {timeout:g} s") from None
        except BaseException:
            _kill_helper(helper)
            raise
    return helper.returncode, bytes(output)


def _kill_helper(helper: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(helper.pid, signal.SIGKILL)
    helper.kill()
