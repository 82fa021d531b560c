"""The auth driver `keyring`, which takes a password from the key store of the system."""

from __future__ import annotations

import math
import shlex
from base64 import b64encode
from collections.abc import Generator
from typing import Any

import keyring
from keyring.errors import InitError, KeyringLocked, NoKeyringError
from pydantic import field_validator

from dockhand_core import AuthDriver, DockhandError
from dockhand_core.auth import Request, Response

__all__ = [
    "KeyStoreError",
    "KeyStoreLocked",
    "KeyStoreMissing",
    "KeyringAuth",
    "PasswordNotFound",
]


class KeyStoreError(DockhandError):
    """The key store cannot be used."""


class KeyStoreLocked(KeyStoreError):
    """The key store is locked or cannot be opened, and the user did not unlock it."""


class KeyStoreMissing(KeyStoreError):
    """The library `keyring` finds no key store on this system."""


class PasswordNotFound(KeyStoreError):
    """The key store has no such password."""


class KeyringAuth(AuthDriver):
    """Logs in with a password of the key store, which is asked again after a 401."""

    class Settings(AuthDriver.Settings):
        """The keys of the connection's `auth` table, beside `driver`.

        Attributes:
            username: user name at the registry.
            service: name under which the password is stored; by default the registry's host, with
                its port if that is not the usual one.
        """

        username: str
        service: str | None = None

        @field_validator("username")
        @classmethod
        def _no_colon(cls, value: str) -> str:
            if ":" in value:
                raise ValueError("a user name with a colon cannot be sent (RFC 7617)")
            return value

    settings: Settings

    def auth_flow(self, request: Request) -> Generator[Any, Any, None]:
        """Send the request with the password; after a 401, send it again if that has changed."""
        service = self.settings.service or request.url.netloc.decode()
        header = yield from self._header(service)
        request.headers["Authorization"] = header
        response: Response = yield request
        if response.status_code == 401:
            changed = yield from self._header(service, refused=header)
            if changed != header:  # the same password once more might lock the account
                request.headers["Authorization"] = changed
                yield request

    def _header(self, service: str, refused: str | None = None) -> Generator[Any, Any, str]:
        """The header `Authorization`, from the cache or with the stored password."""

        def obtain() -> Generator[Any, Any, tuple[str, float]]:
            # In asyncio in a thread: the key store may ask the user to unlock it.
            password = yield from self.blocking(self._password, service)
            pair = f"{self.settings.username}:{password}"
            return f"Basic {b64encode(pair.encode()).decode()}", math.inf

        return (yield from self.cached_token(service, obtain, refused=refused))

    def _password(self, service: str) -> str:
        """The stored password.

        Raises:
            KeyStoreError: there is none; the message says what to do.
        """
        username = self.settings.username
        entry = f"{shlex.quote(service)} {shlex.quote(username)}"
        failure: KeyStoreError
        try:
            password: str | None = keyring.get_password(service, username)
        except NoKeyringError:
            failure = KeyStoreMissing(
                "keyring finds no key store on this system: `keyring --list-backends` shows those "
                "that are installed, and PYTHON_KEYRING_BACKEND chooses one. The driver `basic` "
                "with `password_file` needs none"
            )
        except (KeyringLocked, InitError):
            failure = KeyStoreLocked(
                "the key store is locked, or cannot be opened: unlock it, for example with "
                f"`keyring get {entry}` in a terminal"
            )
        except Exception as error:  # a key store is a plugin of its own, which may raise anything
            # Its message is left out: nobody knows that it quotes no password.
            failure = KeyStoreError(
                f"the key store failed ({type(error).__name__}): try `keyring get {entry}`"
            )
        else:
            if password:
                return password
            failure = PasswordNotFound(
                f"the key store has no password of {username} for {service}: "
                f"store it with `keyring set {entry}`"
            )
        raise failure  # not in the `except`, where the key store's exception would be its context
