"""The auth driver `jwt`, which signs the tokens that Dockhand sends to a registry."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args

from pydantic import Field, PrivateAttr, SecretStr, ValidationInfo, field_validator, model_validator

from dockhand_auth_jwt.errors import KeyInvalid
from dockhand_auth_jwt.keys import KeyId
from dockhand_auth_jwt.pem import load_public_keys, read_pem
from dockhand_auth_jwt.signing_key import SigningKey
from dockhand_auth_jwt.tokens import TokenService
from dockhand_core import Scope
from dockhand_core.auth import AuthDriver, Request, Response
from dockhand_core.config import is_pem

__all__ = ["JwtAuth"]

Pem: TypeAlias = Path | SecretStr


class JwtAuth(AuthDriver):
    """Sends requests with tokens that the driver signs itself.

    A token grants exactly the scopes that the request needs, and is cached until shortly before it
    expires. If the registry refuses a token (401), the request is sent once more, with a new token.
    If the setting `key_id` is absent and the registry answers `invalid_token`, the new token
    identifies the key in another way. The driver keeps using the first way that the registry
    accepts.

    Follows: Distribution's "Token Authentication Implementation".
    """

    class Settings(AuthDriver.Settings):
        """The settings in the connection's `auth` table.

        Each key or certificate is given as the path of a PEM file, or as the PEM data itself.

        Args:
            private_key: the private key that signs tokens.
            private_key_password: the password of an encrypted private key.
            authority_name: the name of the authority; must equal the registry's setting `issuer`.
            registry_name: the name of the registry; must equal the registry's setting `service`.
            public_key: the public key, which must belong to the private key. If this is a
                certificate, tokens also carry it, as with the setting `certificate`.
            certificate: the certificate that tokens carry (`x5c`), or a chain of certificates that
                begins with the key's own. The registry's `rootcertbundle` must contain the
                certificate, or the last certificate of the chain.
            key_id: how tokens identify the key: `libtrust`, `rfc7638` or `x5c`; see `SigningKey`.
            subject: the name of the user, for the registry's log and notifications.
            lifetime: the lifetime of each token, in seconds.
        """

        private_key: Pem
        private_key_password: SecretStr | None = None
        authority_name: Annotated[str, Field(min_length=1)]
        registry_name: Annotated[str, Field(min_length=1)]
        public_key: Pem | None = None
        certificate: Pem | None = None
        key_id: KeyId | None = None
        subject: str = ""
        lifetime: Annotated[int, Field(ge=1)] = 300

        _key: SigningKey = PrivateAttr()

        @field_validator("private_key", "public_key", "certificate", mode="before")
        @classmethod
        def _path_or_pem(cls, value: object, info: ValidationInfo) -> object:
            if isinstance(value, str):
                return SecretStr(value) if is_pem(value) else Path(value)
            omitted = value is None and info.field_name != "private_key"
            if not omitted and not isinstance(value, Path | SecretStr):
                raise ValueError("a PEM file, or the PEM itself, is expected")
            return value

        @model_validator(mode="after")
        def _load_key(self) -> JwtAuth.Settings:
            try:
                name = "private_key"
                key = SigningKey.load(self.private_key, password=self.private_key_password)
                certificate = None
                if self.public_key is not None:
                    name = "public_key"
                    pem, where = read_pem(self.public_key, "public key")
                    if key.public not in load_public_keys(pem, where):
                        raise KeyInvalid(f"{where} does not belong to this private key")
                    if b"BEGIN CERTIFICATE" in pem and self.key_id in {None, "x5c"}:
                        certificate = pem
                if self.certificate is not None:
                    name = "certificate"
                    certificate, _ = read_pem(self.certificate, "certificate")
                self._key = key.identified_by(self.key_id or "x5c", certificate)
            except KeyInvalid as error:
                raise KeyInvalid(f"{name}: {error}") from None
            return self

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        key = settings._key
        self._key_id_known = settings.key_id is not None
        key_ids: tuple[KeyId, ...] = (key.key_id,) if self._key_id_known else get_args(KeyId)
        self._services: dict[KeyId, TokenService] = {
            key_id: TokenService(
                key if key_id == key.key_id else key.identified_by(key_id),
                issuer=settings.authority_name,
                audience=settings.registry_name,
                lifetime=timedelta(seconds=settings.lifetime),
            )
            for key_id in key_ids
        }
        # Tokens use the first key id of this list. Every version of Distribution understands
        # `x5c`, so `x5c` is the first to try.
        self._key_ids = sorted(key_ids, key=lambda key_id: key_id != "x5c")

    @property
    def service(self) -> TokenService:
        """The token authority, which signs with the driver's key and has its names and lifetime.

        Its tokens identify the key as the driver's next token does.
        """
        return self._services[self._key_ids[0]]

    def auth_flow(self, request: Request) -> Generator[Any, Any, None]:
        """Send the request with a token; after a 401, send the request again with a new token."""
        scopes = tuple(sorted(set(self.scopes(request)), key=str))
        key_id = self._key_ids[0]
        token = yield from self._token(scopes, key_id)
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        self._update_key_id(key_id, response)
        if response.status_code == 401:
            key_id = self._key_ids[0]
            token = yield from self._token(scopes, key_id, refused=token)
            request.headers["Authorization"] = f"Bearer {token}"
            response = yield request
            self._update_key_id(key_id, response)

    def _token(
        self, scopes: tuple[Scope, ...], key_id: KeyId, refused: str | None = None
    ) -> Generator[Any, Any, str]:
        """Return the cached token for scopes, or sign a new token.

        A cached token that equals `refused` is replaced.
        """
        settings = self.settings

        def sign() -> Generator[Any, Any, tuple[str, float]]:
            service = self._services[key_id]
            builder = service.builder().related_to(settings.subject).with_scope(*scopes)
            return (yield from self.blocking(service.sign, builder)), settings.lifetime

        key = (settings.authority_name, settings.registry_name, scopes, settings.subject, key_id)
        return (yield from self.cached_token(key, sign, refused=refused))

    def _update_key_id(self, key_id: KeyId, response: Response) -> None:
        """Keep a key id that the registry accepted; after `invalid_token`, switch to the next."""
        if self._key_id_known or key_id != self._key_ids[0]:
            return
        challenge = response.headers.get("www-authenticate", "")
        if response.status_code != 401 or "insufficient_scope" in challenge:
            self._key_id_known = True
        elif "invalid_token" in challenge:
            others = self._key_ids[1:]
            # Distribution 2 looks up keys by `libtrust`, and Distribution 3 by `rfc7638`. The 401
            # response shows which of these to try first: only Distribution 2 sends a charset.
            if key_id == "x5c" and "charset" not in response.headers.get("content-type", ""):
                others.reverse()
            self._key_ids = [*others, key_id]
