"""The auth driver `ecr`, which logs in to Amazon ECR with the credentials of an AWS account."""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from typing import Any, Literal, NamedTuple

from pydantic import SecretStr, field_validator, model_validator

from dockhand_core import AuthDriver, ConfigError
from dockhand_core.auth import Request, Response
from dockhand_ecr.aws import Access, get_authorization_token

__all__ = ["EcrAuth"]

# 123456789012.dkr.ecr.eu-central-1.amazonaws.com, and its forms for FIPS and IPv6, China and the
# European Sovereign Cloud; only domains of AWS, so that no misspelt host gets a token
_PRIVATE_HOST = re.compile(
    r"\d{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\."
    r"(?:amazonaws\.(?:com|com\.cn|eu)|on\.aws|on\.amazonwebservices\.com\.cn)"
)
_PUBLIC_HOSTS = ("public.ecr.aws", "ecr-public.aws.com")
_PUBLIC_REGION = "us-east-1"  # the region whose API gives tokens for the public registry
_TIMEOUT = 30.0  # seconds; for requests that are not sent by a connection


class Target(NamedTuple):
    """The API that has the tokens of a registry, and the scheme by which it takes them."""

    service: Literal["ecr", "ecr-public"]
    region: str
    scheme: Literal["Basic", "Bearer"]


class EcrAuth(AuthDriver):
    """Adds ECR's authorization token to each request, and renews it before it expires."""

    class Settings(AuthDriver.Settings):
        """The keys of the connection's `auth` table, beside `driver`. All have a default.

        Attributes:
            region: AWS region of the registry; by default that in the registry's host name.
            profile: profile of AWS's configuration files, whose credentials are used. Without it
                and without keys, botocore looks for credentials in its usual places.
            access_key_id: ID of an access key, in place of a profile.
            secret_access_key: secret of the access key.
            session_token: session token of a temporary access key.
            endpoint_url: URL of the API, such as that of an emulator; by default that of AWS.
        """

        region: str | None = None
        profile: str | None = None
        access_key_id: str | None = None
        secret_access_key: SecretStr | None = None
        session_token: SecretStr | None = None
        endpoint_url: str | None = None

        @field_validator("endpoint_url")
        @classmethod
        def _is_url(cls, value: str | None) -> str | None:
            if value is not None and not re.match(r"https?://[^/@]+(/|$)", value):
                raise ValueError("endpoint_url is an http:// or https:// URL without a password")
            return value

        @model_validator(mode="after")
        def _is_one_identity(self) -> EcrAuth.Settings:
            if (self.access_key_id is None) != (self.secret_access_key is None):
                raise ValueError("access_key_id and secret_access_key are set together")
            if self.session_token is not None and self.access_key_id is None:
                raise ValueError("session_token belongs to access_key_id and secret_access_key")
            if self.profile is not None and self.access_key_id is not None:
                raise ValueError("profile and access_key_id exclude one another")
            return self

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._newest = ("", float("inf"))  # an Authorization header, and the time that it expires

    def auth_flow(self, request: Request) -> Generator[Any, Any, None]:
        """Send the request with a token; after a 401, send it once more with a new one."""
        header = yield from self._header(request, refused=self._expired())
        request.headers["Authorization"] = header
        response: Response = yield request
        if response.status_code == 401:
            header = yield from self._header(request, refused=header)
            request.headers["Authorization"] = header
            yield request

    def _expired(self) -> str | None:
        """The newest header, if it has expired.

        The cache of tokens measures time with a clock that stands still while a computer sleeps.
        ECR answers 403 to an expired token, as to a missing permission, so it must not be sent.
        """
        header, expires = self._newest
        return header if time.time() >= expires else None

    def _header(self, request: Request, refused: str | None) -> Generator[Any, Any, str]:
        """The header `Authorization`, which is cached until shortly before the token expires."""
        target = self._target(request.url.host)
        timeout = request.extensions.get("timeout", {}).get("connect") or _TIMEOUT

        def obtain() -> Generator[Any, Any, tuple[str, float]]:
            token, expires = yield from self.blocking(self._ask, target, timeout)
            header = f"{target.scheme} {token}"
            self._newest = (header, expires)
            return header, max(expires - time.time(), 0.0)

        return (yield from self.cached_token(target, obtain, refused=refused))

    def _target(self, host: str) -> Target:
        """The API for the registry with this host name."""
        if host in _PUBLIC_HOSTS:
            return Target("ecr-public", _PUBLIC_REGION, "Bearer")
        found = _PRIVATE_HOST.fullmatch(host)
        region = self.settings.region or (found and found[1])
        if not region:
            raise ConfigError(
                f"{host} is not the host of an ECR registry, such as "
                "123456789012.dkr.ecr.eu-central-1.amazonaws.com. If it is a proxy of one, set "
                "`region` in the connection's `auth` table: the host then gets ECR's tokens"
            )
        return Target("ecr", region, "Basic")

    def _ask(self, target: Target, timeout: float) -> tuple[str, float]:
        """Request a token, which blocks."""
        own = self.settings
        keys = (own.access_key_id, *map(_plain, (own.secret_access_key, own.session_token)))
        access = Access(own.profile, keys if own.access_key_id else None, own.endpoint_url)
        return get_authorization_token(target.service, target.region, access, timeout)


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
