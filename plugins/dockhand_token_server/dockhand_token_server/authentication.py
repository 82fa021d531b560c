"""Authentication by user name and password, with an htpasswd file and plugins."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from inspect import isawaitable, iscoroutinefunction, unwrap
from typing import Any

from pydantic import SecretStr

from dockhand_core import Identity
from dockhand_core.server import FailureLimiter, network_of
from dockhand_core.server.htpasswd import PasswordFile
from dockhand_token_server.token_requests import TokenRequestError

__all__ = ["Authentication", "Authenticator", "call_hook"]

_HTPASSWD_SOURCE = "users"
_HOOK_SECONDS = 10  # the time that one call of a hook may take
_MAX_PENDING = 256  # password checks in progress
_MAX_REMEMBERED_LOGINS = 10_000
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
    """

    identity: Identity
    source: str
    entry_hash: bytes = b""


async def call_hook(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call a plugin's implementation of a hook. A function that is not async runs in a thread.

    Raises:
        TimeoutError: the call took longer than ten seconds.
        Exception: any exception that the implementation raised.
    """
    async with asyncio.timeout(_HOOK_SECONDS):
        if iscoroutinefunction(unwrap(function)):
            return await function(**arguments)
        answer = await asyncio.to_thread(function, **arguments)
        return await answer if isawaitable(answer) else answer


class Authenticator:
    """Checks user names and passwords, within a limit on failed logins.

    Args:
        users: the htpasswd file, or None. Plugins are not called for users that the file lists.
        plugins: the implementations of `dockhand_authenticate`, by plugin name.
        limiter: counts the failed logins of each network and of each user.
    """

    def __init__(
        self,
        users: PasswordFile | None,
        plugins: Mapping[str, Callable[..., Any]],
        limiter: FailureLimiter,
    ) -> None:
        self._users, self._plugins, self._limiter = users, plugins, limiter
        self._digest_key = secrets.token_bytes(32)
        self._pending: dict[bytes, asyncio.Task[Authentication | None]] = {}
        # The pairs of network and user name of successful logins. For these pairs, the limit per
        # user does not apply, so failures from other networks cannot lock the user out.
        self._past_logins: OrderedDict[tuple[str, str], None] = OrderedDict()
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
            self.check_limit(network, username)
            if self._users is not None:
                self._users.reload()
                if self._users.remembers(username, secret):
                    self._remember_login(network, username)
                    return self._htpasswd_authentication(username)
            if len(self._pending) >= _MAX_PENDING:
                raise _too_many_failures(1)
            # A failure is counted before the check, so that concurrent guesses cannot exceed the
            # limit. If the password is right, the failure is removed.
            for key in (f"from {network}", f"user {username}"):
                self._limiter.add(key)
            task = asyncio.create_task(self._verify_and_uncount(username, secret, service, network))
            self._pending[digest] = task
            task.add_done_callback(lambda _: self._pending.pop(digest, None))
        authentication = await asyncio.shield(task)
        if authentication is None:
            _log.warning("login refused: user %r from %s", username, address)
            raise TokenRequestError(
                401, "UNAUTHORIZED", "the user name or password is wrong", "invalid_grant"
            )
        return authentication

    def check_limit(self, network: str, username: str | None = None) -> None:
        """Raise `TokenRequestError` (429) if a network or a user has too many failed logins."""
        wait = self._limiter.seconds_to_wait(f"from {network}")
        if username is not None and (network, username) not in self._past_logins:
            wait = max(wait, self._limiter.seconds_to_wait(f"user {username}"))
        if wait:
            _log.warning("too many failed logins: from %s, user %r", network, username)
            raise _too_many_failures(wait)

    def count_failure(self, network: str) -> None:
        """Count a failure without a user name, such as an invalid refresh token."""
        self._limiter.add(f"from {network}")

    def is_still_valid(self, authentication: Authentication) -> bool:
        """Whether the authentication that is stored with a refresh token is still valid.

        An authentication by the htpasswd file is valid as long as the user's entry is unchanged.
        An authentication by a plugin is valid as long as the plugin is installed.
        """
        if authentication.source != _HTPASSWD_SOURCE:
            return authentication.source in self._plugins
        if self._users is None:
            return False
        self._users.reload()
        entry = self._users.entry(authentication.identity.name)
        return entry is not None and hmac.compare_digest(
            _entry_hash(entry), authentication.entry_hash
        )

    async def _verify_and_uncount(
        self, username: str, secret: bytes, service: str, network: str
    ) -> Authentication | None:
        """Verify a password; if it is right, remove the failure that was counted in advance."""
        authentication = await self._verify(username, secret, service)
        if authentication is not None:
            for key in (f"from {network}", f"user {username}"):
                self._limiter.add(key, -1)
            self._remember_login(network, username)
        return authentication

    def _remember_login(self, network: str, username: str) -> None:
        self._past_logins[network, username] = None
        self._past_logins.move_to_end((network, username))
        while len(self._past_logins) > _MAX_REMEMBERED_LOGINS:
            self._past_logins.popitem(last=False)

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
            if not isinstance(answer, Identity) or not _is_username(answer.name):
                _log.error(
                    "plugin %s: login of %r refused, dockhand_authenticate returned no Identity "
                    "with a printable name of 1 to 255 characters",
                    plugin, username,
                )  # fmt: skip
                return None
            return Authentication(answer, plugin)
        return None

    def _htpasswd_authentication(self, username: str) -> Authentication:
        entry = self._users.entry(username) if self._users is not None else None
        return Authentication(Identity(username), _HTPASSWD_SOURCE, _entry_hash(entry or b""))


def _entry_hash(entry: bytes) -> bytes:
    return hashlib.sha256(entry).digest()


def _is_username(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= 255 and name.isprintable()


def _too_many_failures(wait: int) -> TokenRequestError:
    return TokenRequestError(
        429, "TOOMANYREQUESTS", f"too many failed logins; try again in {wait} s",
        "temporarily_unavailable", {"Retry-After": str(wait)},
    )  # fmt: skip
