"""The auth driver `token`, which gets tokens from the authority that the registry names."""

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
from dockhand_core import (
    Denied,
    RegistryError,
    Scope,
    ScopeInvalid,
    TooManyRequests,
    Unauthorized,
)
from dockhand_core.auth import AuthDriver, Request, Response
from dockhand_core.http.headers import Challenge, parse_challenges, retry_after
from dockhand_core.http.urls import origin_of, redacted_url

__all__ = ["TokenAuth"]

_CLIENT_ID = "dockhand"
# seconds; limits on the lifetime of a token, and the default that the specification gives for a
# reply without `expires_in`
_MIN_LIFETIME, _DEFAULT_LIFETIME, _MAX_LIFETIME = 1, 60, 86_400
_MAX_REQUESTS = 3  # requests for one token: the first one, and two redirects
_MAX_TOKEN_LENGTH = 64 << 10  # characters
_MAX_REFRESH_TOKENS = 100  # one for each realm and identity token


class TokenAuth(AuthDriver):
    """Answers the registry's challenge with a token, or with a user name and password (Basic).

    The driver gets tokens from the authority that the challenge names. It caches each token by
    realm, service and scopes until shortly before the token expires. Concurrent requests that need
    the same token share one request to the authority. If no credentials are configured, the driver
    uses the credentials that docker and podman store. If there are none, it gets anonymous tokens.

    Follows: Distribution's "Token Authentication Specification" and "Docker Registry v2
    authentication using OAuth2".
    """

    class Settings(AuthDriver.Settings):
        """The settings in the connection's `auth` table.

        Args:
            username: the user name; requires `password`.
            password: the password. Alternatively, `password_file` names a file that
                contains the password.
            config: a file in the format of docker's `config.json`. Credentials are read from this
                file instead of the default files of docker and podman.
            realms: the origins of the token endpoints that may receive the credentials, such as
                `["https://auth.example.com"]`; all other origins are refused. By default, the
                address of the endpoint decides; see `check_realm`.
            helper_timeout: the time that a credential helper may take, in seconds.
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
        # Whether the authority refuses a request for a token without a scope.
        self._scope_required = False
        # The registry's last challenge. With it, later requests send credentials at once, without
        # causing a 401 first.
        self._challenge: Challenge | None = None
        # The newest refresh token, by realm and identity token. Some token endpoints return a new
        # one at each use, and no longer accept the old one.
        self._refresh_tokens: dict[tuple[str, str], SecretStr] = {}

    def auth_flow(self, request: Request) -> Generator[Any, Any, None]:
        """Send the request with the credentials that the last known challenge asks for.

        If the response is a 401, answer the challenge in it and send the request once more.
        """
        scopes = self.scopes(request)
        sent = None
        if self._challenge is not None and (scopes or not self._scope_required):
            try:
                sent = yield from self._set_authorization(request, self._challenge, scopes)
            except (RegistryError, TokenEndpointFailed):
                if scopes:
                    raise
                self._scope_required = True  # the registry's challenge may name one
        response = yield request
        if response.status_code != 401:
            return
        challenge = _preferred_challenge(response) or (
            self._challenge if sent is not None else None
        )
        if challenge is None:
            return
        # The scope of a challenge concerns this request only, so it is not kept for later ones.
        parameters = {
            name: value for name, value in challenge.parameters.items() if name != "scope"
        }
        self._challenge = Challenge(challenge.scheme, parameters)
        try:
            renewed = yield from self._set_authorization(request, challenge, scopes, refused=sent)
        except (RegistryError, TokenEndpointFailed) as error:
            # For a request that needs no scope, the registry's own 401 is the answer if the
            # authority gives no token without a scope. A wrong password is reported as such.
            if scopes or challenge.parameters.get("scope") or not _is_refusal(error):
                raise
            self._scope_required = True
            return
        if renewed is not None and renewed != sent:
            yield request

    def _set_authorization(
        self,
        request: Request,
        challenge: Challenge,
        scopes: tuple[Scope, ...],
        refused: str | None = None,
    ) -> Generator[Any, Any, str | None]:
        """Set the header `Authorization` and return its value, or None if there is no value."""
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
        """Find the credentials in the settings, or else in files and credential helpers.

        Files and helpers are slow, so this is called once for each cached token, not for each
        request.
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
        """Return the value to send after `Basic`, or an empty string if no password is known."""

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
        """Return a cached or new token for the scopes of the request and of the challenge."""
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
        """Request a token from the authority; return the token and its lifetime in seconds."""
        if credentials.identity_token is not None:
            reply = yield from self._use_refresh_token(
                credentials.identity_token, realm, registry, service, scopes
            )
            # Endpoints that do not support POST accept the identity token as a password in a GET.
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

    def _use_refresh_token(
        self,
        identity_token: SecretStr,
        realm: str,
        registry: str,
        service: str,
        scopes: tuple[str, ...],
    ) -> Generator[Any, Any, Response]:
        """Request a token with a refresh token; if the reply has a new refresh token, keep it.

        The new one is kept only in memory, because docker's files belong to docker. If it is
        refused, the identity token of the files is used again.
        """
        key = (realm, identity_token.get_secret_value())
        while True:
            refresh_token = self._refresh_tokens.get(key, identity_token)
            form = {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": _CLIENT_ID,
                "scope": " ".join(scopes),
                "refresh_token": refresh_token.get_secret_value(),
            }
            reply = yield from self._send_if_allowed("POST", realm, registry, data=form)
            is_refused = reply.status_code in {400, 401, 403}
            if not is_refused or self._refresh_tokens.pop(key, None) is None:
                break
        new = _parse_json_object(reply).get("refresh_token") if reply.status_code == 200 else None
        if isinstance(new, str) and 0 < len(new) <= _MAX_TOKEN_LENGTH:
            if len(self._refresh_tokens) >= _MAX_REFRESH_TOKENS:
                self._refresh_tokens.clear()
            self._refresh_tokens[key] = SecretStr(new)
        return reply

    def _send_if_allowed(
        self, method: str, realm: str, registry: str, **options: Any
    ) -> Generator[Any, Any, Response]:
        """Send a request to a realm and follow redirects; check each URL with `check_realm`."""
        url = realm
        for _ in range(_MAX_REQUESTS):
            rule = check_realm(url, registry, self.settings.realms)
            reply: Response = yield from self.fetch(method, url, addresses=rule, **options)
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
                # Another origin must not get the credentials, which a POST has in its body.
                if method == "POST":
                    return reply
                options["headers"] = {}
            options.pop("params", None)  # `params` would replace the query in the redirect's URL
            url = following
        raise TokenEndpointFailed(f"token endpoint {redacted_url(realm)}: too many redirects")


def _preferred_challenge(response: Response) -> Challenge | None:
    """Choose the first Bearer challenge that names a realm, or else the first Basic challenge."""
    challenges = parse_challenges(", ".join(response.headers.get_list("www-authenticate")))
    lowered = [Challenge(each.scheme.lower(), each.parameters) for each in challenges]
    tokens = [each for each in lowered if each.scheme == "bearer" and each.parameters.get("realm")]
    basics = [each for each in lowered if each.scheme == "basic"]
    return next(iter([*tokens, *basics]), None)


def _is_refusal(error: RegistryError | TokenEndpointFailed) -> bool:
    """Whether the authority refused the request, for a reason other than credentials or rate."""
    return error.status is not None and 400 <= error.status < 500 and error.status not in {401, 429}


def _first_repository(scopes: tuple[Scope, ...]) -> str:
    return next((scope.name for scope in scopes if scope.type == "repository" and scope.name), "")


def _parse_scopes(text: str) -> tuple[Scope, ...]:
    try:
        return tuple(Scope.parse_many(text))
    except ScopeInvalid:
        return ()  # ignore malformed scopes: the request's own scopes are enough


def _encode_basic(credentials: Credentials) -> str:
    password = credentials.password.get_secret_value() if credentials.password is not None else ""
    return b64encode(f"{credentials.username}:{password}".encode()).decode("ascii")


def _parse_json_object(reply: Response) -> dict[str, Any]:
    try:
        document = json.loads(reply.content)
    except (ValueError, RecursionError):
        document = None
    return document if isinstance(document, dict) else {}


def _parse_token_reply(reply: Response, realm: str) -> tuple[str, float]:
    """Parse the reply of a token endpoint; return the token and its lifetime in seconds.

    Error messages do not quote the reply, which may contain the client's credentials.
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
        raise TokenEndpointFailed(f"{where}: status {status} instead of a token", status=status)
    document = _parse_json_object(reply)
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
