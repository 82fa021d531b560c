"""Users and passwords in an htpasswd file with bcrypt hashes, as `htpasswd -B` writes it.

For servers that ask for a password. It needs bcrypt: `pip install "dockhand-core[htpasswd]"`.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import bcrypt

from dockhand_core.errors import ConfigError

__all__ = ["PasswordFile"]

_HASH = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
# bcrypt looks at no more, and refuses longer input; htpasswd cuts as well.
_PASSWORD_BYTES = 72
_REMEMBERED = 1024
_log = logging.getLogger("dockhand.htpasswd")


class PasswordFile:
    """Whom a file lists, and whether a password is theirs.

    A password that was right is remembered for a minute under a keyed hash, since bcrypt is slow
    on purpose and each request brings the password anew.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        remember: float = 60,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the file.

        Args:
            path: lines `user:hash`; empty ones and those that begin with `#` are skipped.
            remember: seconds.
            clock: what they are measured with.

        Raises:
            ConfigError: the file cannot be read, or a line is not of that form.
        """
        self._path = Path(path)
        self._remember, self._clock = remember, clock
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()
        self._mark: tuple[int, int, int] | None = None
        self._users: dict[str, bytes] = {}
        self._nobody = b""
        try:
            self._load()
        except (OSError, ValueError) as error:
            raise ConfigError(f"htpasswd: {self._path}: {error}") from error

    def _load(self) -> None:
        with self._path.open("rb") as file:
            status = os.fstat(file.fileno())
            text = file.read().decode()
        users = _parse(text)
        costs = [int(value.split(b"$")[2]) for value in users.values()]
        with self._lock:
            self._mark = status.st_ino, status.st_mtime_ns, status.st_size
            self._users = users
            # What unknown users are checked against: no password fits, and it takes as long.
            self._nobody = bcrypt.gensalt(max(costs, default=10)) + b"." * 31
            self._known.clear()

    def reload(self) -> None:
        """Read the file again if it changed; where that fails the users known before stay."""
        try:
            status = self._path.stat()
            if (status.st_ino, status.st_mtime_ns, status.st_size) != self._mark:
                self._load()
        except (OSError, ValueError) as error:
            _log.error("htpasswd: %s: %s; the users known before stay", self._path, error)

    def entry(self, user: str) -> bytes | None:
        """The hash that the file has for a user; None for one that it does not list."""
        with self._lock:
            return self._users.get(user)

    def _token(self, user: str, password: bytes) -> bytes:
        data = len(user).to_bytes(4, "big") + user.encode() + password
        return hmac.digest(self._key, data, hashlib.sha256)

    def remembers(self, user: str, password: bytes) -> bool:
        """Whether this password was right a short time ago; says so at once."""
        # Looking up a keyed hash tells by its time nothing of the password.
        token = self._token(user, password)
        with self._lock:
            until = self._known.get(token)
            if until is not None and until <= self._clock():
                del self._known[token]
                until = None
        return until is not None

    def verify(self, user: str, password: bytes) -> bool:
        """Whether the file lists the user with this password.

        It takes a hash's time (many milliseconds), for users that are not listed too: not for an
        event loop.
        """
        # Of many requests that came at once, the first one did the work for those behind it.
        if self.remembers(user, password):
            return True
        with self._lock:
            mark, held = self._mark, self._users.get(user)
            expected = held or self._nobody
        try:
            right = bcrypt.checkpw(password[:_PASSWORD_BYTES], expected)
        except ValueError:  # NUL in the password: no hash is of one
            right = False
        if not right or held is None:
            return False
        with self._lock:
            if self._mark == mark:  # else the user may have been removed meanwhile
                self._known[self._token(user, password)] = self._clock() + self._remember
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        return True


def _parse(text: str) -> dict[str, bytes]:
    users: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        user, colon, value = entry.partition(":")
        match = _HASH.fullmatch(value)
        if not (user and colon and match and 4 <= int(match[1]) <= 31):  # bcrypt's own bounds
            raise ValueError(f"line {number} is not user:bcrypt-hash, as `htpasswd -B` writes it")
        if user in users:
            raise ValueError(f"line {number} lists a user a second time")
        users[user] = value.encode()
    return users
