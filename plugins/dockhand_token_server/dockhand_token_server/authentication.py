"""Authentication by user name and password, with an htpasswd file and plugins."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from inspect import isawaitable, iscoroutinefunction, unwrap
from typing import Any, TypeGuard

from pydantic import SecretStr

from dockhand_core import Identity
from dockhand_core.server import LoginLimiter, network_of
from dockhand_core.server.htpasswd import PasswordFile
from dockhand_token_server.token_requests import TokenRequestError

__all__ = ["HTPASSWD_SOURCE", "Authentication", "Authenticator", "call_hook"]

HTPASSWD_SOURCE = "users"
_HOOK_SECONDS = 10  # the time that one call of a hook may take
_MAX_PENDING = 256  # password checks in progress
# Separate threads for plugins: those that hang must not delay tokens that need no plugin.
_hook_threads = ThreadPoolExecutor(32, thread_name_prefix="dockhand-plugin")
_log = logging.getLogger("dockhand.token_server")


@dataclass(frozen=True, slots=True)
class Authentication:
    """An authenticated identity, and the source that confirmed it.

    Attributes:
        identity: the user.
        source: `users` for the htpasswd file, or the name of a plugin; empty for an anonymous
            client.
        entry_hash: the hash of the user's entry in the htpasswd file; empty for other sources. It
            is stored with a refresh token, which becomes invalid when the entry changes.
        login: the user name as the client sent it.
    """

    identity: Identity
    source: str
    entry_hash: bytes = b""
    login: str = ""


async def call_hook(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call a plugin's implementation of a hook. A function that is not async runs in a thread.

    Raises:
        TimeoutError: the call took longer than ten seconds.
        Exception: any exception that the implementation raised.
    """
    async with asyncio.timeout(_HOOK_SECONDS):
        if iscoroutinefunction(unwrap(function)):
            return await function(**arguments)
        call = functools.partial(contextvars.copy_context().run, function, **arguments)
        answer = await asyncio.get_running_loop().run_in_executor(_hook_threads, call)
        return await answer if isawaitable(answer) else answer


class Authenticator:
    """Checks user names and passwords, within a limit on failed logins.

    Args:
        users: the htpasswd file, or None. Plugins are not called for users that the file lists.
        plugins: the implementations of `dockhand_authenticate`, by plugin name.
        identifiers: the implementations of `dockhand_identify`, by plugin name.
        limiter: counts the failed logins of each network and of each user.
    """

    def __init__(
        self,
        users: PasswordFile | None,
        plugins: Mapping[str, Callable[..., Any]],
        identifiers: Mapping[str, Callable[..., Any]],
        limiter: LoginLimiter,
    ) -> None:
        self._users, self._plugins, self._limiter = users, plugins, limiter
        self._identifiers = identifiers
        self._digest_key = secrets.token_bytes(32)
        self._pending: dict[bytes, asyncio.Task[Authentication | None]] = {}
        # A separate pool, so that bcrypt does not use up the threads of asyncio.to_thread.
        self._bcrypt_threads = ThreadPoolExecutor(2, thread_name_prefix="bcrypt")

    async def authenticate(
        self, username: str, password: SecretStr, *, service: str, address: str
    ) -> Authentication:
        """Authenticate a user by password.

        Raises:
            TokenRequestError: the user name or the password is wrong (status 401), or too many
                logins failed before (status 429).
        """
        network = network_of(address)
        secret = password.get_secret_value().encode()
        digest = hmac.digest(
            self._digest_key, repr((username, service, network, secret)).encode(), hashlib.sha256
        )
        # Concurrent requests with the same password share one check, and count as one failure.
        task = self._pending.get(digest)
        if task is None:
            keys = self._limiter.keys(network, username)
            self._check_limit(keys, network, username)
            if self._users is not None:
                self._users.reload()
                if self._users.remembers(username, secret):
                    self.remember_login(network, username)
                    return self._htpasswd_authentication(username)
            if len(self._pending) >= _MAX_PENDING:
                raise _too_many_failures(1)
            # A failure is counted before the check, so that concurrent guesses cannot exceed the
            # limit. If the password is right, the failure is removed.
            self._limiter.add(keys)
            task = asyncio.create_task(
                self._verify_and_uncount(username, secret, service, network, keys)
            )
            self._pending[digest] = task
            task.add_done_callback(lambda _: self._pending.pop(digest, None))
        authentication = await asyncio.shield(task)
        if authentication is None:
            _log.warning("login refused: user %r from %s", username, address)
            raise TokenRequestError(
                401, "UNAUTHORIZED", "the user name or password is wrong", "invalid_grant"
            )
        return authentication

    def check_limit(self, network: str) -> None:
        """Raise `TokenRequestError` (429) if too many logins from a network failed.

        This is the check for a secret without a user name, such as a refresh token.
        """
        self._check_limit(self._limiter.keys(network), network, None)

    def _check_limit(self, keys: tuple[str, ...], network: str, username: str | None) -> None:
        wait = self._limiter.seconds_to_wait(keys)
        if wait:
            _log.warning("too many failed logins: from %s, user %r", network, username)
            raise _too_many_failures(wait)

    def count_failure(self, network: str) -> None:
        """Count a failure without a user name, such as an invalid refresh token."""
        self._limiter.add(self._limiter.keys(network))

    def remember_login(self, network: str, username: str) -> None:
        """Remember a login, for the limit on failures; see `LoginLimiter`."""
        self._limiter.remember_login(network, username)

    def can_confirm(self, source: str) -> bool:
        """Whether a source can be asked for its users again, as each use of a refresh token does.

        Args:
            source: see `Authentication`.
        """
        return source == HTPASSWD_SOURCE or source in self._identifiers

    async def confirm(self, authentication: Authentication, service: str) -> Authentication | None:
        """Ask the source of an authentication for the user again, without a password.

        An authentication by the htpasswd file is valid as long as the user's entry is unchanged.
        For an authentication by a plugin, the plugin's `dockhand_identify` is called.

        Returns:
            the user with the present groups; None if the account is gone.

        Raises:
            TokenRequestError: the source cannot confirm the user, because the plugin is not
                installed, does not implement `dockhand_identify`, or failed.
        """
        login, source = authentication.login, authentication.source
        if self._users is not None:
            self._users.reload()
        entry = self._users.entry(login) if self._users is not None else None
        if source == HTPASSWD_SOURCE:
            is_unchanged = entry is not None and hmac.compare_digest(
                _entry_hash(entry), authentication.entry_hash
            )
            return authentication if is_unchanged else None
        if entry is not None:  # plugins are not asked for users that the htpasswd file lists
            return None
        function = self._identifiers.get(source)
        if function is None:
            _log.warning(
                "refresh token of %r refused: plugin %s is not installed, or has no "
                "dockhand_identify that confirms the account", login, source,
            )  # fmt: skip
            raise _not_confirmed()
        arguments = {"username": login, "service": service}
        try:
            answer = await call_hook(function, arguments)
        except Exception as error:  # a plugin may raise anything
            _log.error(
                "plugin %s: refresh token of %r refused, dockhand_identify raised %s",
                source, login, type(error).__name__,
            )  # fmt: skip
            raise _not_confirmed() from None
        if answer is None:
            return None
        if not _is_user_identity(answer) or answer.name != authentication.identity.name:
            _log.error(
                "plugin %s: refresh token of %r refused, dockhand_identify did not return the "
                "Identity that dockhand_authenticate returned at the login",
                source, login,
            )  # fmt: skip
            raise _not_confirmed()
        return replace(authentication, identity=answer)

    async def _verify_and_uncount(
        self, username: str, secret: bytes, service: str, network: str, keys: tuple[str, ...]
    ) -> Authentication | None:
        """Verify a password; if it is right, remove the failure that was counted in advance."""
        authentication = await self._verify(username, secret, service)
        if authentication is not None:
            self._limiter.add(keys, -1)
            self.remember_login(network, username)
        return authentication

    async def _verify(self, username: str, secret: bytes, service: str) -> Authentication | None:
        if self._users is not None:
            loop = asyncio.get_running_loop()
            is_right = await loop.run_in_executor(
                self._bcrypt_threads, self._users.verify, username, secret
            )
            if self._users.entry(username) is not None:
                return self._htpasswd_authentication(username) if is_right else None
        arguments = {
            "username": username, "password": SecretStr(secret.decode()), "service": service,
        }  # fmt: skip
        for plugin, function in self._plugins.items():
            try:
                answer = await call_hook(function, arguments)
            except Exception as error:  # a plugin may raise anything
                _log.error(
                    "plugin %s: login of %r refused, dockhand_authenticate raised %s",
                    plugin, username, type(error).__name__,
                )  # fmt: skip
                return None
            if answer is None:
                continue
            if not _is_user_identity(answer):
                _log.error(
                    "plugin %s: login of %r refused, dockhand_authenticate returned no Identity "
                    "with a printable name of 1 to 255 characters, and groups that are texts",
                    plugin, username,
                )  # fmt: skip
                return None
            return Authentication(answer, plugin, login=username)
        return None

    def _htpasswd_authentication(self, username: str) -> Authentication:
        entry = self._users.entry(username) if self._users is not None else None
        hashed = _entry_hash(entry or b"")
        return Authentication(Identity(username), HTPASSWD_SOURCE, hashed, login=username)


def _entry_hash(entry: bytes) -> bytes:
    return hashlib.sha256(entry).digest()


def _is_user_identity(answer: object) -> TypeGuard[Identity]:
    if not isinstance(answer, Identity) or not isinstance(answer.name, str):
        return False
    has_valid_name = 0 < len(answer.name) <= 255 and answer.name.isprintable()
    return has_valid_name and all(isinstance(group, str) for group in answer.groups)


def _not_confirmed() -> TokenRequestError:
    return TokenRequestError(
        401, "UNAUTHORIZED",
        "the account cannot be confirmed; try again later, or log in again", "invalid_grant",
    )  # fmt: skip


def _too_many_failures(wait: int) -> TokenRequestError:
    return TokenRequestError(
        429, "TOOMANYREQUESTS", f"too many failed logins; try again in {wait} s",
        "temporarily_unavailable", {"Retry-After": str(wait)},
    )  # fmt: skip
