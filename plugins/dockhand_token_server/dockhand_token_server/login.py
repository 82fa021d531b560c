"""Who logs in: users of a file, and those whom plugins know."""

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
from dockhand_core.server.htpasswd import PasswordFile
from dockhand_token_server.limits import FailureLimit, network_of
from dockhand_token_server.requests import Refused

__all__ = ["ask", "Login", "Proof"]

USERS = "users"
_SECONDS = 10
_AT_ONCE = 256
_GOOD = 10_000
_log = logging.getLogger("dockhand.token_server")


@dataclass(frozen=True, slots=True)
class Proof:
    """Who it is, and who says so.

    Attributes:
        identity: who.
        source: `users` for the file, or a plugin's name.
        stamp: changes with the user's entry in the file; a refresh token holds as long as it does.
    """

    identity: Identity
    source: str
    stamp: bytes = b""


async def ask(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """What a plugin's implementation answers, in the time that it has.

    Raises:
        TimeoutError: it took longer.
        Exception: whatever it raises.
    """
    async with asyncio.timeout(_SECONDS):
        if iscoroutinefunction(unwrap(function)):
            return await function(**arguments)
        answer = await asyncio.to_thread(function, **arguments)
        return await answer if isawaitable(answer) else answer


class Login:
    """Checks user names and passwords, and limits how often that fails.

    Args:
        users: the file, if there is one; whom it lists is checked against it alone.
        plugins: the implementations of `dockhand_authenticate`, by plugin.
        limit: counts failures for addresses and for users.
    """

    def __init__(
        self,
        users: PasswordFile | None,
        plugins: Mapping[str, Callable[..., Any]],
        limit: FailureLimit,
    ) -> None:
        self._users, self._plugins, self._limit = users, plugins, limit
        self._key = secrets.token_bytes(32)
        self._pending: dict[bytes, asyncio.Task[Proof | None]] = {}
        # From where users logged in: failures elsewhere do not shut them out.
        self._good: OrderedDict[tuple[str, str], None] = OrderedDict()
        # Threads of their own: whoever tries passwords holds up nothing else.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="bcrypt")

    async def __call__(
        self, username: str, password: SecretStr, *, service: str, address: str
    ) -> Proof:
        """Who this is.

        Raises:
            Refused: with 401 where the password is wrong, with 429 after too many such.
        """
        network = network_of(address)
        secret = password.get_secret_value().encode()
        digest = hmac.digest(
            self._key, repr((username, service, network, secret)).encode(), hashlib.sha256
        )
        # Of many requests with one password that come at once, one is checked and counted.
        task = self._pending.get(digest)
        if task is None:
            self.check(network, username)
            if self._users is not None:
                self._users.reload()
                if self._users.remembers(username, secret):
                    self._remember(network, username)
                    return self._by_file(username)
            if len(self._pending) >= _AT_ONCE:
                raise _too_many(1)
            # Counted beforehand, so that many at once are not all let through.
            for key in (f"from {network}", f"user {username}"):
                self._limit.charge(key)
            task = asyncio.create_task(self._counted(username, secret, service, network))
            self._pending[digest] = task
            task.add_done_callback(lambda _: self._pending.pop(digest, None))
        proof = await asyncio.shield(task)
        if proof is None:
            _log.warning("login refused: user %r from %s", username, address)
            raise Refused(401, "UNAUTHORIZED", "user name or password is wrong", "invalid_grant")
        return proof

    def check(self, network: str, username: str | None = None) -> None:
        """Refuse whoever failed too often."""
        wait = self._limit.wait(f"from {network}")
        if username is not None and (network, username) not in self._good:
            wait = max(wait, self._limit.wait(f"user {username}"))
        if wait:
            _log.warning("too many failed logins: from %s, user %r", network, username)
            raise _too_many(wait)

    def failed(self, network: str) -> None:
        """Count something else than a password that was wrong."""
        self._limit.charge(f"from {network}")

    def still(self, source: str, identity: Identity, stamp: bytes) -> bool:
        """Whether what was proved once can be held to be so without a password."""
        if source != USERS:
            return source in self._plugins
        if self._users is None:
            return False
        self._users.reload()
        entry = self._users.entry(identity.name)
        return entry is not None and hmac.compare_digest(_stamp(entry), stamp)

    async def _counted(
        self, username: str, secret: bytes, service: str, network: str
    ) -> Proof | None:
        proof = await self._prove(username, secret, service)
        if proof is not None:
            for key in (f"from {network}", f"user {username}"):
                self._limit.charge(key, -1)
            self._remember(network, username)
        return proof

    def _remember(self, network: str, username: str) -> None:
        self._good[network, username] = None
        self._good.move_to_end((network, username))
        while len(self._good) > _GOOD:
            self._good.popitem(last=False)

    async def _prove(self, username: str, secret: bytes, service: str) -> Proof | None:
        if self._users is not None:
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._threads, self._users.verify, username, secret)
            if self._users.entry(username) is not None:
                return self._by_file(username) if right else None
        arguments = {
            "username": username, "password": SecretStr(secret.decode()), "service": service,
        }  # fmt: skip
        for plugin, function in self._plugins.items():
            try:
                answer = await ask(function, arguments)
            except Exception as error:  # a plugin may raise anything
                _log.error("plugin %s refuses %r: %s", plugin, username, type(error).__name__)
                return None
            if answer is None:
                continue
            if not isinstance(answer, Identity) or not _is_user(answer.name):
                _log.error("plugin %s: dockhand_authenticate gave no identity with a name", plugin)
                return None
            return Proof(answer, plugin)
        return None

    def _by_file(self, username: str) -> Proof:
        entry = self._users.entry(username) if self._users is not None else None
        return Proof(Identity(username), USERS, _stamp(entry or b""))


def _stamp(entry: bytes) -> bytes:
    return hashlib.sha256(entry).digest()


def _is_user(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= 255 and name.isprintable()


def _too_many(wait: int) -> Refused:
    return Refused(
        429, "TOOMANYREQUESTS", f"too many failed logins; try again in {wait} s",
        "temporarily_unavailable", {"Retry-After": str(wait)},
    )  # fmt: skip
