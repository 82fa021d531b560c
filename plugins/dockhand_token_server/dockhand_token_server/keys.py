"""The keys of the token endpoint: loading, replacing and publishing them (JWKS)."""

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
from dockhand_core.server import FileState
from dockhand_token_server.settings import Settings

__all__ = ["KeyRing"]

_CHECK_INTERVAL = 1.0  # seconds between checks whether the key files changed
_LEEWAY = 60  # seconds; registries accept tokens this long after expiry
_log = logging.getLogger("dockhand.token_server")
FileStates = tuple[FileState, ...]


class KeyRing:
    """The keys of a token endpoint, reloaded when their files change.

    Within a second after the file of the private key changed, the new key signs all tokens. The old
    key stays in the JWKS until the tokens that were signed with it have expired.

    Args:
        settings: the settings, which name the key files and the lifetime of tokens.
        clock: returns the time, in seconds from any starting point.

    Raises:
        ConfigError: a file cannot be read, or contains no key.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        files = [("private_key", settings.private_key), ("certificate", settings.certificate)]
        files += [("other_keys", file) for file in settings.other_keys]
        self._files = [(setting, file) for setting, file in files if isinstance(file, Path)]
        self._retired: list[tuple[float, SigningKey]] = []
        self._checked_at = clock()
        try:
            self._loaded_states = self._file_states()
            self._signing_key, self._others = self._load()
        except (OSError, KeyInvalid) as error:
            raise ConfigError(_error_text(error)) from None

    def _file_states(self) -> FileStates:
        """The state of each file, which shows when the file changed."""
        states: list[FileState] = []
        for setting, file in self._files:
            try:
                states.append(FileState.of(file.stat()))
            except OSError as error:
                raise KeyInvalid(f"{setting}: {file}: {error.strerror}") from None
        return tuple(states)

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
        assert key.header  # computed and cached now, so that the first token need not wait
        return key, others

    async def signing_key(self) -> SigningKey:
        """Return the key that signs tokens, after reloading the key files if they changed.

        If a changed file cannot be loaded, an error is logged and the previous key is kept.
        """
        now = self._clock()
        if now - self._checked_at < _CHECK_INTERVAL:
            return self._signing_key
        self._checked_at = (
            now  # set first: concurrent calls use the previous key until the new one is loaded
        )
        try:
            states = self._file_states()
            pairs = zip(states, self._loaded_states, strict=True)
            if not all(new.shows_no_change_since(loaded) for new, loaded in pairs):
                key, others = await asyncio.to_thread(self._load)
                if thumbprint(key.public) != thumbprint(self._signing_key.public):
                    until = self._clock() + self._settings.token_lifetime + _LEEWAY
                    self._retired.append((until, self._signing_key))
                    _log.warning("the private key changed: key %s signs from now on", key.kid)
                self._signing_key, self._others, self._loaded_states = key, others, states
        except (OSError, KeyInvalid) as error:
            _log.error("%s; the key loaded before goes on signing", _error_text(error))
        return self._signing_key

    async def jwks(self) -> dict[str, Any]:
        """Make a JWK set of the signing key, old keys with unexpired tokens, and `other_keys`."""
        keys: list[dict[str, Any]] = list((await self.signing_key()).jwks()["keys"])
        now = self._clock()
        self._retired = [(until, key) for until, key in self._retired if until > now]
        for _, key in self._retired:
            keys += key.jwks()["keys"]
        key_name = libtrust_fingerprint if self._settings.key_id == "libtrust" else thumbprint
        keys += [
            {
                **jwk(public),
                "kid": key_name(public),
                "use": "sig",
                "alg": usable_algorithms(public)[0],
            }
            for public in self._others
        ]
        # `other_keys` may also contain the signing key: keep each `kid` only once.
        return {"keys": list({key["kid"]: key for key in reversed(keys)}.values())[::-1]}


def _error_text(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error)
