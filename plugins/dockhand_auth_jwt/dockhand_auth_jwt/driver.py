"""The auth driver `jwt`: Dockhand signs the tokens that it shows."""

from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeAlias, get_args

from pydantic import Field, PrivateAttr, SecretStr, ValidationInfo, field_validator, model_validator

from dockhand_auth_jwt.errors import KeyInvalid
from dockhand_auth_jwt.keys import KeyId, SigningKey, public_keys, read_pem
from dockhand_auth_jwt.tokens import TokenService
from dockhand_core import Scope
from dockhand_core.auth import AuthDriver, Request, Response
from dockhand_core.config import is_pem

__all__ = ["JwtAuth"]

Pem: TypeAlias = Path | SecretStr


class JwtAuth(AuthDriver):
    """Signs a token for exactly the scopes of each request, and keeps it while it is good.

    A token that is refused (401) is replaced once. Where no `key_id` is given and the registry
    says `invalid_token` from the start, the other token names the key in another way; what is
    taken is kept to.

    Follows: Distribution's "Token Authentication Implementation".
    """

    class Settings(AuthDriver.Settings):
        """The connection's `auth` table.

        Args:
            private_key: a PEM file, or the PEM itself.
            private_key_password: what the PEM is encrypted with.
            authority_name: who signs: the registry's `issuer`.
            registry_name: who the tokens are for: the registry's `service`.
            public_key: a PEM file, or the PEM itself, which must be of that key; a certificate
                is used like `certificate`.
            certificate: the registry's own (its `rootcertbundle`), or a chain that ends in it.
            key_id: how tokens name the key: `libtrust`, `rfc7638` or `x5c`.
            subject: who the registry's log and notifications shall name.
            lifetime: of each token, in seconds.
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
        def _file_or_text(cls, value: object, info: ValidationInfo) -> object:
            if isinstance(value, str):
                return SecretStr(value) if is_pem(value) else Path(value)
            absent = value is None and info.field_name != "private_key"
            if not absent and not isinstance(value, Path | SecretStr):
                raise ValueError("a PEM file, or the PEM itself, is expected")
            return value

        @model_validator(mode="after")
        def _load(self) -> JwtAuth.Settings:
            try:
                name = "private_key"
                key = SigningKey.load(self.private_key, password=self.private_key_password)
                certificate = None
                if self.public_key is not None:
                    name = "public_key"
                    pem, where = read_pem(self.public_key, "public key")
                    if key.public not in public_keys(pem, where):
                        raise KeyInvalid(f"{where} is not of this private key")
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
        self._settled = settings.key_id is not None
        ways: tuple[KeyId, ...] = (key.key_id,) if self._settled else get_args(KeyId)
        self._services: dict[KeyId, TokenService] = {
            way: TokenService(
                key if way == key.key_id else key.identified_by(way),
                issuer=settings.authority_name,
                audience=settings.registry_name,
                lifetime=timedelta(seconds=settings.lifetime),
            )
            for way in ways
        }
        # The one that is used comes first: at the start `x5c`, which every version understands.
        self._ways = sorted(ways, key=lambda way: way != "x5c")

    def auth_flow(self, request: Request) -> Generator[Any, Any, None]:
        """Sign, or take the token that is kept; once more where it is refused."""
        scopes = tuple(sorted(set(self.scopes(request)), key=str))
        way = self._ways[0]
        token = yield from self._token(scopes, way)
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        self._learn(way, response)
        if response.status_code == 401:
            way = self._ways[0]
            token = yield from self._token(scopes, way, refused=token)
            request.headers["Authorization"] = f"Bearer {token}"
            response = yield request
            self._learn(way, response)

    def _token(
        self, scopes: tuple[Scope, ...], way: KeyId, refused: str | None = None
    ) -> Generator[Any, Any, str]:
        settings = self.settings

        def obtain() -> Generator[Any, Any, tuple[str, float]]:
            service = self._services[way]
            builder = service.builder().related_to(settings.subject).with_scope(*scopes)
            return (yield from self.blocking(service.sign, builder)), settings.lifetime

        key = (settings.authority_name, settings.registry_name, scopes, settings.subject, way)
        return (yield from self.cached_token(key, obtain, refused=refused))

    def _learn(self, way: KeyId, response: Response) -> None:
        """Whether the registry knows the key by that name; if not, try another from now on."""
        if self._settled or way != self._ways[0]:
            return
        challenge = response.headers.get("www-authenticate", "")
        if response.status_code != 401 or "insufficient_scope" in challenge:
            self._settled = True
        elif "invalid_token" in challenge:
            others = self._ways[1:]
            # Distribution 2 names the charset of its refusals, and 3 does not.
            if way == "x5c" and "charset" not in response.headers.get("content-type", ""):
                others.reverse()
            self._ways = [*others, way]
