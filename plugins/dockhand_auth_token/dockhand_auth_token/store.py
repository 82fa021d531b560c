"""Storing and erasing of credentials, in docker's `config.json` and in credential helpers.

Follows: docker's command line, version 29, whose `login` and `logout` change the same file.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from dockhand_auth_token.credentials import docker_config, helper_of, read_file
from dockhand_auth_token.errors import CredentialsInvalid
from dockhand_auth_token.helpers import ask_helper, erase_in_helper, store_in_helper
from dockhand_auth_token.keys import DOCKER_HUB, place_of, registry_key, server_name

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["StoredCredentials", "erase_credentials", "store_credentials"]

_LOCK_TIMEOUT = 10.0  # seconds; other processes hold the lock for milliseconds
# Docker Desktop keeps the tokens of a login by browser under these names.
_DOCKER_HUB_TOKENS = (f"{DOCKER_HUB}access-token", f"{DOCKER_HUB}refresh-token")


@dataclass(frozen=True, slots=True)
class StoredCredentials:
    """The place of stored credentials.

    Attributes:
        registry: the registry's key in the file, as docker writes it.
        path: the file that has an entry for the registry.
        helper: the name of the credential helper that keeps the password, such as `pass`; None if
            the file itself has the password, in base64, which is plain text.
    """

    registry: str
    path: Path
    helper: str | None


def store_credentials(
    host: str,
    username: str,
    password: str | SecretStr,
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    timeout: float = 30.0,
) -> StoredCredentials:
    """Store the credentials for a registry where docker would, and replace older ones.

    The file is docker's `config.json`. If it names a credential helper for the registry
    (`credHelpers`) or for all (`credsStore`), the helper gets the credentials, and the file an
    empty entry. All other content of the file is kept. The file is replaced atomically; a new one
    can be read by its owner only, and an existing one keeps its mode.

    The credentials are not checked with the registry.

    Args:
        host: the registry's host, with the port if it has one, or the registry's URL.
        username: the user name.
        password: the password or access token.
        config: the file; None for `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`.
        environ: the environment variables, also of the helper; None for those of the process.
        timeout: the time that a credential helper may take, in seconds.

    Raises:
        ReferenceInvalid: the host is malformed.
        CredentialsInvalid: the user name is malformed, the password is empty, the file cannot be
            read or written, or the helper failed. The file is unchanged then.
    """
    environ = os.environ if environ is None else environ
    key = registry_key(host)
    secret = password.get_secret_value() if isinstance(password, SecretStr) else password
    if not username or ":" in username:
        raise CredentialsInvalid("a user name is not empty, and has no colon (RFC 7617)")
    if not secret.strip("\0"):
        raise CredentialsInvalid("the password is empty")
    try:
        auth = base64.b64encode(f"{username}:{secret}".encode()).decode("ascii")
    except UnicodeEncodeError:
        raise CredentialsInvalid("the user name or the password is not valid text") from None
    path = docker_config(environ) if config is None else config
    helper = helper_of(read_file(path, required=False), key)
    if helper is not None:
        for name in _asked_names(key):
            store_in_helper(helper, name, username, secret, environ, timeout)
    entry = {"auth": auth} if helper is None else {}

    def add(auths: dict[str, Any]) -> None:
        # Older entries of the registry in other spellings would be found by some programs.
        for each in [key, *_keys_of(auths, place_of(key))]:
            auths[each] = dict(entry)

    _change_auths(path, add)
    return StoredCredentials(key, path, helper)


def erase_credentials(
    host: str,
    *,
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    timeout: float = 30.0,
) -> bool:
    """Erase the credentials for a registry from docker's `config.json` and the credential helper.

    All spellings of the registry's key are erased. Entries of podman for a part of a registry, such
    as `registry.example.com/team`, are kept.

    Args:
        host: the registry's host, with the port if it has one, or the registry's URL.
        config: the file; None for `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`.
        environ: the environment variables, also of the helper; None for those of the process.
        timeout: the time that a credential helper may take, in seconds, for each spelling.

    Returns:
        whether there were credentials or an empty entry.

    Raises:
        ReferenceInvalid: the host is malformed.
        CredentialsInvalid: the file cannot be read or written, or the helper failed.
    """
    environ = os.environ if environ is None else environ
    key = registry_key(host)
    place = place_of(key)
    path = docker_config(environ) if config is None else config
    document = read_file(path, required=False)
    old = _keys_of(document.get("auths"), place)
    helper = helper_of(document, key)
    was_there = bool(old)
    if helper is not None:
        names = [*_asked_names(key), place, f"https://{place}", f"http://{place}", *old]
        if key == DOCKER_HUB:
            names.extend(_DOCKER_HUB_TOKENS)
        for name in dict.fromkeys(names):
            # Some helpers fail when they have nothing to erase.
            if ask_helper(helper, name, environ, timeout) is not None:
                erase_in_helper(helper, name, environ, timeout)
                was_there = True

    def remove(auths: dict[str, Any]) -> None:
        for each in _keys_of(auths, place):
            del auths[each]

    if old:
        _change_auths(path, remove)
    return was_there


def _asked_names(key: str) -> list[str]:
    """The names by which a helper is asked: docker asks for the key, Dockhand without `:443`."""
    return list(dict.fromkeys([key, server_name(place_of(key))]))


def _keys_of(auths: object, place: str) -> list[str]:
    """The keys of a registry's entries; for Docker Hub, also those of Docker Desktop's tokens."""
    keys = auths if isinstance(auths, dict) else {}
    tokens = map(place_of, _DOCKER_HUB_TOKENS) if place == "docker.io" else ()
    wanted = {place, *tokens}
    return [key for key in keys if place_of(key) in wanted]


def _change_auths(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the table `auths` of a file, which is read again under a lock; see `_replace`."""
    target = Path(os.path.realpath(path))  # a symbolic link stays one
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(target.parent):
            document = dict(read_file(target, required=False))
            old = document.get("auths")
            if old is not None and not isinstance(old, dict):
                raise CredentialsInvalid(f"{path}: auths is not a JSON object")
            auths = dict(old or {})
            change(auths)
            if auths != old:
                _replace(target, document | {"auths": auths})
    except OSError as error:
        raise CredentialsInvalid(f"{path} cannot be written: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise CredentialsInvalid(
            f"{path} cannot be written again: it has a number or a text that JSON does not allow"
        ) from None


def _replace(target: Path, document: Mapping[str, Any]) -> None:
    """Write a file and move it into place, with the mode and owner of the old one."""
    data = json.dumps(document, indent="\t", ensure_ascii=False, allow_nan=False).encode()
    fd, name = tempfile.mkstemp(prefix=target.name, dir=target.parent)  # mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(OSError):  # there is no old file, or it belongs to another user
            old = target.stat()
            temporary.chmod(old.st_mode & 0o777)
            if hasattr(os, "chown"):
                os.chown(temporary, old.st_uid, old.st_gid)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes that use this module; docker itself has no lock."""
    if fcntl is None:
        yield
        return
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise CredentialsInvalid(
                        f"another process has locked {folder} for {_LOCK_TIMEOUT:g} s; try again"
                    ) from None
                time.sleep(0.02)
            except OSError:  # some network file systems have no locks
                break
        yield
    finally:
        os.close(fd)
