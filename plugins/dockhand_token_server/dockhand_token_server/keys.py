"""The key that signs, and those that are shown beside it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dockhand_auth_jwt import KeyInvalid, SigningKey
from dockhand_auth_jwt.keys import (
    PublicKey,
    jwk,
    libtrust_fingerprint,
    thumbprint,
    usable_algorithms,
)
from dockhand_auth_jwt.pem import load_public_keys

from dockhand_core import ConfigError
from dockhand_token_server.settings import Settings

__all__ = ["KeyRing"]

_LOOK = 1.0
_LEEWAY = 60  # by which registries let clocks differ
_log = logging.getLogger("dockhand.token_server")
Mark = tuple[tuple[int, int, int], ...]


class KeyRing:
    """The keys of an authority, loaded anew when their files change.

    A key whose file is replaced signs no more, and stays in the JWKS until the tokens that it
    signed have expired.

    Args:
        settings: which files, and how long tokens live.
        clock: seconds, from any start.

    Raises:
        ConfigError: a file cannot be read, or is not what it should be.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        files = [("private_key", settings.private_key), ("certificate", settings.certificate)]
        files += [("other_keys", file) for file in settings.other_keys]
        self._files = [(key, file) for key, file in files if isinstance(file, Path)]
        self._retired: list[tuple[float, SigningKey]] = []
        self._looked = clock()
        try:
            self._mark = self._look()
            self._key, self._others = self._load()
        except (OSError, KeyInvalid) as error:
            raise ConfigError(_said(error)) from None

    def _look(self) -> Mark:
        found = []
        for key, file in self._files:
            try:
                status = file.stat()
            except OSError as error:
                raise KeyInvalid(f"{key}: {file}: {error.strerror}") from None
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(found)

    def _load(self) -> tuple[SigningKey, list[PublicKey]]:
        settings = self._settings
        key_id = settings.key_id or "x5c"
        try:
            key = SigningKey.load(
                settings.private_key,
                password=settings.private_key_password,
                key_id=key_id,
                certificate=settings.certificate.read_bytes() if settings.certificate else None,
            )
        except KeyInvalid as error:
            raise KeyInvalid(f"private_key: {error}") from None
        others = [
            public
            for file in settings.other_keys
            for public in load_public_keys(file.read_bytes(), f"other_keys: {file}")
        ]
        assert key.header  # whose certificates are signed now, not with the first token
        return key, others

    async def current(self) -> SigningKey:
        """The key that signs."""
        now = self._clock()
        if now - self._looked < _LOOK:
            return self._key
        self._looked = now  # others that come meanwhile go on with what there is
        try:
            mark = self._look()
            if mark != self._mark:
                key, others = await asyncio.to_thread(self._load)
                if thumbprint(key.public) != thumbprint(self._key.public):
                    until = self._clock() + self._settings.token_lifetime + _LEEWAY
                    self._retired.append((until, self._key))
                    _log.warning("key %s signs from now on", key.kid)
                self._key, self._others, self._mark = key, others, mark
        except (OSError, KeyInvalid) as error:
            _log.error("%s; the key known before goes on signing", _said(error))
        return self._key

    async def jwks(self) -> dict[str, Any]:
        """A JWK set of all keys by which tokens may be signed that are still good."""
        keys: list[dict[str, Any]] = list((await self.current()).jwks()["keys"])
        now = self._clock()
        self._retired = [(until, key) for until, key in self._retired if until > now]
        for _, key in self._retired:
            keys += key.jwks()["keys"]
        name = libtrust_fingerprint if self._settings.key_id == "libtrust" else thumbprint
        keys += [
            {**jwk(public), "kid": name(public), "use": "sig", "alg": usable_algorithms(public)[0]}
            for public in self._others
        ]
        # One that was announced beforehand may sign by now.
        return {"keys": list({key["kid"]: key for key in reversed(keys)}.values())[::-1]}


def _said(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error)
