"""Password files in the htpasswd format with bcrypt hashes, as `htpasswd -B` writes them.

This module needs bcrypt: `pip install "dockhand-core[htpasswd]"`.
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
from dockhand_core.server.file_state import FileState

__all__ = ["PasswordFile"]

_HASH = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
# bcrypt uses the first 72 bytes of a password, up to the first NUL. So a longer password would be
# accepted with any other end.
_MAX_PASSWORD = 72
_MAX_VERIFIED = 1024
_log = logging.getLogger("dockhand.htpasswd")


class PasswordFile:
    """The users of an htpasswd file, and the check of their passwords.

    bcrypt is slow by design, and every request carries the password again. Therefore a verified
    password is remembered for a minute, as a keyed hash.
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
            path: file with lines of the form `user:hash`; empty lines and lines that start with
                `#` are skipped.
            remember: time in seconds for which a verified password is remembered.
            clock: returns seconds from any starting point, such as `time.monotonic`.

        Raises:
            ConfigError: the file cannot be read, or a line has another form.
        """
        self._path = Path(path)
        self._remember, self._clock = remember, clock
        self._key = secrets.token_bytes(32)
        self._verified: OrderedDict[bytes, float] = OrderedDict()  # keyed hash to expiry time
        self._lock = threading.Lock()
        self._file_state: FileState | None = None
        self._users: dict[str, bytes] = {}
        self._changes = 0  # how often the users changed
        self._dummy_hash = b""
        try:
            self._load()
        except (OSError, ValueError) as error:
            raise ConfigError(f"htpasswd: {self._path}: {error}") from error

    def _load(self) -> None:
        with self._path.open("rb") as file:
            state = FileState.of(os.fstat(file.fileno()))
            text = file.read().decode()
        users = _parse(text)
        costs = [int(value.split(b"$")[2]) for value in users.values()]
        with self._lock:
            self._file_state = state
            if users == self._users and self._dummy_hash:
                return  # the verified passwords are still right
            self._users = users
            self._changes += 1
            # Unknown users are checked against this hash, which no password matches, so that the
            # check takes as long as for known users.
            self._dummy_hash = bcrypt.gensalt(max(costs, default=10)) + b"." * 31
            self._verified.clear()

    def reload(self) -> None:
        """Read the file again if it changed; on failure, log an error and keep the old users."""
        try:
            if not FileState.of(self._path.stat()).shows_no_change_since(self._file_state):
                self._load()
        except (OSError, ValueError) as error:
            _log.error("htpasswd: %s: %s; keeping the users read before", self._path, error)

    def entry(self, user: str) -> bytes | None:
        """Return the bcrypt hash of a user, or None if the file does not list the user."""
        with self._lock:
            return self._users.get(user)

    def _keyed_hash(self, user: str, password: bytes) -> bytes:
        data = len(user).to_bytes(4, "big") + user.encode() + password
        return hmac.digest(self._key, data, hashlib.sha256)

    def remembers(self, user: str, password: bytes) -> bool:
        """Whether this password was verified recently; fast, because no bcrypt hash is computed."""
        # The duration of a dictionary lookup depends on the keyed hash only, and therefore reveals
        # nothing about the password.
        key = self._keyed_hash(user, password)
        with self._lock:
            until = self._verified.get(key)
            if until is not None and until <= self._clock():
                del self._verified[key]
                until = None
        return until is not None

    def verify(self, user: str, password: bytes) -> bool:
        """Whether the file lists the user with this password.

        Unless the password is remembered, a bcrypt hash is computed, even for users that the file
        does not list. That takes many milliseconds: do not call this in an event loop. A password
        of more than 72 bytes, or with a NUL byte, is wrong for every user, because bcrypt would
        compare only its beginning.
        """
        if len(password) > _MAX_PASSWORD or b"\0" in password:
            _log.info("htpasswd: a password of more than %d bytes, or with NUL", _MAX_PASSWORD)
            return False
        # The caller has asked `remembers` before, but a concurrent request may have verified the
        # same password since then.
        if self.remembers(user, password):
            return True
        with self._lock:
            changes, listed = self._changes, self._users.get(user)
            expected = listed or self._dummy_hash
        if not bcrypt.checkpw(password, expected) or listed is None:
            return False
        with self._lock:
            # If the users changed in the meantime, the user may have been removed.
            if self._changes == changes:
                self._verified[self._keyed_hash(user, password)] = self._clock() + self._remember
                while len(self._verified) > _MAX_VERIFIED:
                    self._verified.popitem(last=False)
        return True


def _parse(text: str) -> dict[str, bytes]:
    """Parse the text of a password file into a dict of user name to bcrypt hash."""
    users: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        user, colon, value = entry.partition(":")
        match = _HASH.fullmatch(value)
        # bcrypt's cost is from 4 to 31
        if not (user and colon and match and 4 <= int(match[1]) <= 31):
            raise ValueError(f"line {number} is not user:bcrypt-hash, as `htpasswd -B` writes it")
        if user in users:
            raise ValueError(f"line {number} lists a user a second time")
        users[user] = value.encode()
    return users
