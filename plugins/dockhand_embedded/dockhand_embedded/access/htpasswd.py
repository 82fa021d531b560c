"""Basic authentication with an htpasswd file of bcrypt hashes, as written by `htpasswd -B`.

Follows: RFC 7617, "The 'Basic' HTTP Authentication Scheme".
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ClassVar

from dockhand_core import Scope
from dockhand_core.server import FailureLimiter, LoginLimiter, basic_credentials, network_of
from dockhand_core.server.htpasswd import PasswordFile
from dockhand_embedded.access.policy import AccessRejection, AuthenticatedUser, AuthResult
from dockhand_embedded.protocol.messages import Headers

_MAX_PENDING = 64  # checks of passwords that wait or run


class Htpasswd:
    """An `Authenticate` that gives all permissions to the users in an htpasswd file.

    The file is read again when it changes. A correct password is cached for a minute under a keyed
    hash, since bcrypt is slow on purpose and each request contains the password.

    Failed logins are counted for each client address (for IPv6, each /64 network) and for each
    user; see `LoginLimiter`. Above the limit the reply is 429, even if the password is right, so
    that the reply does not reveal a right password. A cached password is accepted in any case.
    """

    wants_client: ClassVar = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        realm: str = "dockhand",
        remember: float = 60,
        failures: int = 10,
        failure_seconds: float = 60,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the htpasswd file.

        Args:
            path: the file, with lines `user:hash`. Empty lines, and lines that begin with `#`, are
                skipped.
            realm: the text that clients show when they ask for the password.
            remember: the seconds for which a correct password is cached.
            failures: failed logins after which more are refused.
            failure_seconds: the seconds in which a count of `failures` decreases to zero.
            clock: returns a monotonic time, in seconds.

        Raises:
            ConfigError: the file cannot be read, or a line is malformed.
        """
        self._users = PasswordFile(path, remember=remember, clock=clock)
        self._rejection = AccessRejection(f'Basic realm="{realm}"')
        self._limiter = LoginLimiter(FailureLimiter(failures, failure_seconds, clock))
        self._digest_key = secrets.token_bytes(32)
        self._pending: dict[bytes, Future[bool]] = {}
        self._lock = threading.Lock()
        # Separate threads, so that slow password checks do not delay work on blobs, and the checks
        # of guesses do not delay the users who logged in before.
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="bcrypt")
        self._threads_of_past_logins = ThreadPoolExecutor(1, thread_name_prefix="bcrypt")

    async def __call__(
        self,
        headers: Headers,
        scopes: Sequence[Scope],  # noqa: ARG002
        client: str = "",
    ) -> AuthResult:
        """Check the password in the header `Authorization`; return its user, or a rejection.

        Args:
            headers: the headers of the request.
            scopes: ignored, because all users may do everything.
            client: the client's address and port.
        """
        pair = basic_credentials(headers.get("authorization", ""))
        if pair is None:
            return self._rejection
        self._users.reload()
        user, password = pair
        network = network_of(client.rpartition(":")[0])
        if self._users.remembers(user, password):
            self._limiter.remember_login(network, user)
            return AuthenticatedUser(user)
        check = self._check(network, user, password)
        if isinstance(check, AccessRejection):
            return check
        # Another request may wait for the same check, so that this one must not cancel it.
        is_right = await asyncio.shield(asyncio.wrap_future(check))
        return AuthenticatedUser(user) if is_right else self._rejection

    def _check(self, network: str, user: str, password: bytes) -> Future[bool] | AccessRejection:
        """Begin to check a password, or find the same check in progress."""
        text = b"\0".join([network.encode(), user.encode(), password])
        digest = hmac.digest(self._digest_key, text, hashlib.sha256)
        with self._lock:
            # Requests of one client often come at once; they share a check and its failure.
            if digest in self._pending:
                return self._pending[digest]
            keys = self._limiter.keys(network, user)
            wait = self._limiter.seconds_to_wait(keys)
            if not wait and len(self._pending) >= _MAX_PENDING:
                wait = 1
            if wait:
                return AccessRejection(
                    None, f"too many failed logins; try again in {wait} s", retry_after=wait
                )
            # A failure is counted before the check, so that concurrent guesses cannot exceed the
            # limit. If the password is right, the failure is removed.
            self._limiter.add(keys)
            logged_in_before = self._limiter.remembers_login(network, user)
            threads = self._threads_of_past_logins if logged_in_before else self._threads
            check = self._pending[digest] = threads.submit(self._users.verify, user, password)

        def end(done: Future[bool]) -> None:
            with self._lock:
                del self._pending[digest]
            if not done.cancelled() and done.exception() is None and done.result():
                self._limiter.add(keys, -1)
                self._limiter.remember_login(network, user)

        check.add_done_callback(end)
        return check
