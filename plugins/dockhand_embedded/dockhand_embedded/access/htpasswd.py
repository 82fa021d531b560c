"""Basic authentication with an htpasswd file of bcrypt hashes, as written by `htpasswd -B`.

Follows: RFC 7617, "The 'Basic' HTTP Authentication Scheme".
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from dockhand_core import Scope
from dockhand_core.server import basic_credentials
from dockhand_core.server.htpasswd import PasswordFile
from dockhand_embedded.access.policy import AccessRejection, AuthenticatedUser, AuthResult
from dockhand_embedded.protocol.messages import Headers


class Htpasswd:
    """An `Authenticate` that gives all permissions to the users in an htpasswd file.

    The file is read again when it changes. A correct password is cached for a minute under a keyed
    hash, since bcrypt is slow on purpose and each request contains the password.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        realm: str = "dockhand",
        remember: float = 60,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the htpasswd file.

        Args:
            path: the file, with lines `user:hash`. Empty lines, and lines that begin with `#`, are
                skipped.
            realm: the text that clients show when they ask for the password.
            remember: the seconds for which a correct password is cached.
            clock: returns a monotonic time, in seconds.

        Raises:
            ConfigError: the file cannot be read, or a line is malformed.
        """
        self._users = PasswordFile(path, remember=remember, clock=clock)
        self._rejection = AccessRejection(f'Basic realm="{realm}"')
        # Separate threads, so that slow password checks do not delay work on blobs.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="bcrypt")

    async def __call__(self, headers: Headers, scopes: Sequence[Scope]) -> AuthResult:  # noqa: ARG002
        """Check the password in the header `Authorization`; return its user, or a rejection."""
        pair = basic_credentials(headers.get("authorization", ""))
        if pair is None:
            return self._rejection
        self._users.reload()
        user, password = pair
        if not self._users.remembers(user, password):
            loop = asyncio.get_running_loop()
            if not await loop.run_in_executor(self._threads, self._users.verify, user, password):
                return self._rejection
        return AuthenticatedUser(user)
