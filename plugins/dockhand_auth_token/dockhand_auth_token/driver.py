"""The auth driver `token`: answers challenges with tokens of the authority they name."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urljoin, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from dockhand_auth_token.credentials import Credentials, find_credentials
from dockhand_auth_token.errors import RealmNotAllowed, TokenEndpointFailed
from dockhand_auth_token.realm import check_realm, origin_text
from dockhand_core import Denied, Scope, ScopeInvalid, TooManyRequests, Unauthorized
from dockhand_core.auth import AuthDriver, Request, Response
from dockhand_core.http.headers import Challenge, parse_challenges, retry_after
from dockhand_core.http.urls import origin_of, redacted_url

__all__ = ["TokenAuth"]

_CLIENT_ID = "dockhand"
# Seconds that a token is valid; the specification's default for a reply without expires_in is 60.
_MIN_LIFETIME, _DEFAULT_LIFETIME, _MAX_LIFETIME = 1, 60, 86_400
_MAX_REQUESTS = 3  # for one token: the first, and two redirects
_MAX_TOKEN_LENGTH = 64 << 10


class TokenAuth(AuthDriver):
    """Sends the credentials that the registry's challenge asks for: a token, or Basic.

    The driver gets tokens from the authority that the challenge names. It caches each token by
    realm, service and scopes until shortly before it expires; concurrent requests for the same
    token wait for one request to the authority. Without configured credentials the driver uses
    those of docker and podman; without any credentials it gets anonymous tokens.

    Follows: Distribution's "Token Authentication Specification" and "Docker Registry v2
    authentication using OAuth2".
    """

    class Settings(AuthDriver.Settings):
        """The connection's `auth` table.

        Args:
            username, password: the credentials; both or none. `password_file` instead of
                `password`: a file that holds it.
            config: the only file to read credentials from, in the format of docker's
                `config.json`.
            realms: the origins of token endpoints that may receive the credentials, such as
                `["https://auth.example.com"]`; all others are refused.
            helper_timeout: seconds that a credential helper may take.
        """

        username: str | None = None
        password: SecretStr | None = None
        config: Path | None = None
        realms: tuple[str, ...] | None = None
        helper_timeout: Annotated[float, Field(gt=0)] = 30.0

        @field_validator("username")
        @classmethod
        def _no_colon(cls, value: str | None) -> str | None:
            if value is not None and (not value or ":" in value):
                raise ValueError("a user name is not empty, and has no colon (RFC 7617)")
            return value

        @field_validator("realms", mode="before")
        @classmethod
        def _check_origins(cls, value: object) -> object:
            for each in value if isinstance(value, list | tuple) else ():
                scheme, host, _ = origin_of(str(each))
                if scheme not in {"http", "https"} or not host:
                    raise ValueError("each entry is an origin, such as https://auth.example.com")
            return value

        @model_validator(mode="after")
        def _check_credentials(self) -> TokenAuth.Settings:
            if (self.username is None) != (self.password is None):
                raise ValueError("username and password must be given together")
            if self.username is not None and self.config is not None:
                raise ValueError("give either username and password, or config")
            return self

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        # The registry's last challenge: later requests answer it at once, without a 401 first.
        self._challenge: Challenge | None = None

    def auth_flow(self, request: Request) -> Generator[Any, Any, None]:
        """Answer the last known challenge; on a 401, answer its challenge and send once more."""
        scopes = self.scopes(request)
        sent = None
        if self._challenge is not None:
            sent = yield from self._set_authorization(request, self._challenge, scopes)
        response = yield request
        if response.status_code != 401:
            return
        challenge = _preferred_challenge(response) or (
            self._challenge if sent is not None else None
        )
        if challenge is None:
            return
        # The challenge is kept without its scope, which belongs to this request alone.
        parameters = {
            name: value for name, value in challenge.parameters.items() if name != "scope"
        }
        self._challenge = Challenge(challenge.scheme, parameters)
        renewed = yield from self._set_authorization(request, challenge, scopes, refused=sent)
        if renewed is not None and renewed != sent:
            yield request

    def _set_authorization(
        self,
        request: Request,
        challenge: Challenge,
        scopes: tuple[Scope, ...],
        refused: str | None = None,
    ) -> Generator[Any, Any, str | None]:
        """Set the header `Authorization`, and return its value; None without credentials."""
        old = refused.partition(" ")[2] if refused is not None else None
        scheme, steps = (
            ("Basic", self._basic_credentials(request, scopes, old))
            if challenge.scheme == "basic"
            else ("Bearer", self._token(request, challenge, scopes, old))
        )
        credentials = yield from steps
        if not credentials:
            return None
        value = f"{scheme} {credentials}"
        request.headers["Authorization"] = value
        return value

    def _credentials(
        self, request: Request, scopes: tuple[Scope, ...]
    ) -> Generator[Any, Any, Credentials]:
        """Find the credentials: from the settings, or from files and helpers, which is slow.

        Called once for each cached token, not for each request.
        """
        settings = self.settings
        if settings.username is not None:
            return Credentials(settings.username, settings.password)
        host = request.url.netloc.decode("ascii")
        credentials: Credentials = yield from self.blocking(
            lambda: find_credentials(
                host,
                _first_repository(scopes),
                config=settings.config,
                environ=os.environ,
                timeout=settings.helper_timeout,
            )
        )
        return credentials

    def _basic_credentials(
        self, request: Request, scopes: tuple[Scope, ...], refused: str | None
    ) -> Generator[Any, Any, str]:
        """The credentials of `Authorization: Basic`; empty if no password is known."""

        def obtain() -> Generator[Any, Any, tuple[str, float]]:
            credentials = yield from self._credentials(request, scopes)
            return (
                _encode_basic(credentials) if credentials.password is not None else ""
            ), _DEFAULT_LIFETIME

        key = ("basic", _first_repository(scopes))
        return (yield from self.cached_token(key, obtain, refused=refused))

    def _token(
        self,
        request: Request,
        challenge: Challenge,
        scopes: tuple[Scope, ...],
        refused: str | None,
    ) -> Generator[Any, Any, str]:
        """A token for the scopes of the request and of the challenge: cached or new."""
        realm, service = challenge.parameters["realm"], challenge.parameters.get("service", "")
        demanded = _parse_scopes(challenge.parameters.get("scope", ""))
        wanted = tuple(sorted(map(str, Scope.merged((*scopes, *demanded)))))
        registry = str(request.url)

        def obtain() -> Generator[Any, Any, tuple[str, float]]:
            credentials = yield from self._credentials(request, scopes)
            if credentials.registry_token is not None:
                return credentials.registry_token.get_secret_value(), _DEFAULT_LIFETIME
            return (yield from self._request_token(realm, registry, service, wanted, credentials))

        return (yield from self.cached_token((realm, service, wanted), obtain, refused=refused))

    def _request_token(
        self,
        realm: str,
        registry: str,
        service: str,
        scopes: tuple[str, ...],
        credentials: Credentials,
    ) -> Generator[Any, Any, tuple[str, float]]:
        """Get a token from the authority; returns the token and the seconds that it is valid."""
        if credentials.identity_token is not None:
            form = {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": _CLIENT_ID,
                "scope": " ".join(scopes),
                "refresh_token": credentials.identity_token.get_secret_value(),
            }
            reply = yield from self._send_if_allowed("POST", realm, registry, data=form)
            # Endpoints without the OAuth2 POST accept the identity token as a password.
            if reply.status_code not in {404, 405, 501}:
                return _parse_token_reply(reply, realm)
            credentials = Credentials(credentials.username or "<token>", credentials.identity_token)
        params = [("service", service)] if service else []
        params += [("scope", scope) for scope in scopes]
        params.append(("client_id", _CLIENT_ID))
        headers = {}
        if credentials.password is not None:
            params.append(("account", credentials.username))
            headers["Authorization"] = f"Basic {_encode_basic(credentials)}"
        reply = yield from self._send_if_allowed(
            "GET", realm, registry, params=params, headers=headers
        )
        return _parse_token_reply(reply, realm)

    def _send_if_allowed(
        self, method: str, realm: str, registry: str, **options: Any
    ) -> Generator[Any, Any, Response]:
        """Send a request to a realm if that is allowed, and follow redirects that are allowed."""
        url = realm
        for _ in range(_MAX_REQUESTS):
            yield from self.blocking(check_realm, url, registry, self.settings.realms)
            reply: Response = yield from self.fetch(method, url, **options)
            target = reply.headers.get("location")
            if reply.status_code not in {301, 302, 303, 307, 308} or not target:
                return reply
            if method == "POST" and reply.status_code not in {307, 308}:
                return reply
            following = urljoin(url, target)
            if urlsplit(url).scheme == "https" and urlsplit(following).scheme != "https":
                raise RealmNotAllowed(
                    f"the token endpoint {origin_text(url)} redirects to "
                    f"{redacted_url(following)}: credentials must not go from https to http",
                    realm=origin_text(following),
                )
            if origin_of(following) != origin_of(url):
                # The credentials are meant for the first origin only.
                if method == "POST":
                    return reply
                options["headers"] = {}
            options.pop("params", None)  # the target has a query of its own
            url = following
        raise TokenEndpointFailed(f"token endpoint {redacted_url(realm)}: too many redirects")


def _preferred_challenge(response: Response) -> Challenge | None:
    """The challenge to answer: the first for a token, or else the first for a password."""
    challenges = parse_challenges(", ".join(response.headers.get_list("www-authenticate")))
    lowered = [Challenge(each.scheme.lower(), each.parameters) for each in challenges]
    tokens = [each for each in lowered if each.scheme == "bearer" and each.parameters.get("realm")]
    basics = [each for each in lowered if each.scheme == "basic"]
    return next(iter([*tokens, *basics]), None)


def _first_repository(scopes: tuple[Scope, ...]) -> str:
    return next((scope.name for scope in scopes if scope.type == "repository" and scope.name), "")


def _parse_scopes(text: str) -> tuple[Scope, ...]:
    try:
        return tuple(Scope.parse_many(text))
    except ScopeInvalid:
        return ()  # the request's own scopes are enough


def _encode_basic(credentials: Credentials) -> str:
    password = credentials.password.get_secret_value() if credentials.password is not None else ""
    return b64encode(f"{credentials.username}:{password}".encode()).decode("ascii")


def _parse_token_reply(reply: Response, realm: str) -> tuple[str, float]:
    """The token of a reply, and the seconds that it is valid.

    Errors contain no text of the reply: it may repeat the credentials that it was sent.
    """
    where = f"token endpoint {redacted_url(realm.partition('?')[0])}"
    status = reply.status_code
    if status != 200:
        refusals = {401: Unauthorized, 403: Denied, 429: TooManyRequests}
        if status in refusals:
            raise refusals[status](
                f"{where}: {status}, no token for these credentials",
                status=status,
                retry_after=retry_after(reply.headers),
            )
        raise TokenEndpointFailed(f"{where}: status {status} instead of a token")
    try:
        document = json.loads(reply.content)
    except (ValueError, RecursionError):
        document = None
    document = document if isinstance(document, dict) else {}
    token = document.get("token") or document.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise TokenEndpointFailed(f"{where}: the reply holds no valid token")
    if len(token) > _MAX_TOKEN_LENGTH:
        raise TokenEndpointFailed(
            f"{where}: the token has {len(token)} characters, more than {_MAX_TOKEN_LENGTH}"
        )
    seconds = document.get("expires_in")
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        seconds = _DEFAULT_LIFETIME
    return token, float(min(max(seconds, _MIN_LIFETIME), _MAX_LIFETIME))
