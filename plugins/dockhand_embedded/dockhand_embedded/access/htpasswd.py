"""Basic authentication from an htpasswd file with bcrypt hashes, as `htpasswd -B` writes it.

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
from dockhand_embedded.access.policy import Challenge, Identity, Verdict
from dockhand_embedded.protocol.messages import Headers


class Htpasswd:
    """An `Authenticate` that lets in whom a file lists, for everything.

    The file is read again when it changes. A password that was right is remembered for a minute
    under a keyed hash, since bcrypt is slow on purpose and each request brings the password anew.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        realm: str = "dockhand",
        remember: float = 60,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the file.

        Args:
            path: lines `user:hash`; empty ones and those that begin with `#` are skipped.
            realm: what a person is shown when asked for the password.
            remember: seconds.
            clock: what they are measured with.

        Raises:
            ConfigError: the file cannot be read, or a line is not of that form.
        """
        self._users = PasswordFile(path, remember=remember, clock=clock)
        self._challenge = Challenge(f'Basic realm="{realm}"')
        # Threads of their own: whoever tries passwords holds up nobody's blobs.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="bcrypt")

    async def __call__(self, headers: Headers, scopes: Sequence[Scope]) -> Verdict:  # noqa: ARG002
        """Who the header `Authorization` proves to be there."""
        pair = basic_credentials(headers.get("authorization", ""))
        if pair is None:
            return self._challenge
        self._users.reload()
        user, password = pair
        if not self._users.remembers(user, password):
            loop = asyncio.get_running_loop()
            if not await loop.run_in_executor(self._threads, self._users.verify, user, password):
                return self._challenge
        return Identity(user)
