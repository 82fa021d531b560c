"""The auth driver `token`."""

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

_CLIENT = "dockhand"
_SHORTEST, _USUAL, _LONGEST = 1, 60, 86_400  # seconds; a reply without expires_in means 60
_HOPS = 3
_TOKEN_LIMIT = 64 << 10


class TokenAuth(AuthDriver):
    """Shows what the registry's challenge asks for: a token of the authority it names, or Basic.

    Tokens are kept for each realm, service, scopes and user until shortly before they expire, and
    one request at a time asks for each. Where no credentials are given they are those of docker
    and podman; where there are none, tokens are asked for as nobody.

    Follows: Distribution's "Token Authentication Specification" and "Docker Registry v2
    authentication using OAuth2".
    """

    class Settings(AuthDriver.Settings):
        """The connection's `auth` table.

        Args:
            username, password: or `password_file`; both or none.
            config: the only file to read credentials from, in the form of docker's `config.json`.
            realms: the origins that may be asked for tokens, such as
                `["https://auth.example.com"]`; any other is refused.
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
        def _are_origins(cls, value: object) -> object:
            for each in value if isinstance(value, list | tuple) else ():
                scheme, host, _ = origin_of(str(each))
                if scheme not in {"http", "https"} or not host:
                    raise ValueError("each is an origin such as https://auth.example.com")
            return value

        @model_validator(mode="after")
        def _both(self) -> TokenAuth.Settings:
            if (self.username is None) != (self.password is None):
                raise ValueError("username and password are given together")
            if self.username is not None and self.config is not None:
                raise ValueError("either username and password are given, or config")
            return self

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        # What the registry asked for last, so that most requests need no refusal first.
        self._asked: Challenge | None = None

    def auth_flow(self, request: Request) -> Generator[Any, Any, None]:
        """Send what is known to be wanted, and once more what the refusal asks for."""
        scopes = self.scopes(request)
        sent = None
        if self._asked is not None:
            sent = yield from self._authorize(request, self._asked, scopes)
        response = yield request
        if response.status_code != 401:
            return
        asked = _wanted(response) or (self._asked if sent is not None else None)
        if asked is None:
            return
        # Where the tokens are to be had; the scope is of this request alone.
        parameters = {name: value for name, value in asked.parameters.items() if name != "scope"}
        self._asked = Challenge(asked.scheme, parameters)
        again = yield from self._authorize(request, asked, scopes, refused=sent)
        if again is not None and again != sent:
            yield request

    def _authorize(
        self,
        request: Request,
        asked: Challenge,
        scopes: tuple[Scope, ...],
        refused: str | None = None,
    ) -> Generator[Any, Any, str | None]:
        """Set the header; gives its value, or None where there is nothing to send."""
        old = refused.partition(" ")[2] if refused is not None else None
        scheme, steps = (
            ("Basic", self._password(request, scopes, old))
            if asked.scheme == "basic"
            else ("Bearer", self._token(request, asked, scopes, old))
        )
        found = yield from steps
        if not found:
            return None
        value = f"{scheme} {found}"
        request.headers["Authorization"] = value
        return value

    def _credentials(
        self, request: Request, scopes: tuple[Scope, ...]
    ) -> Generator[Any, Any, Credentials]:
        """Files are read, and helpers run: for a token that is kept, not for each request."""
        settings = self.settings
        if settings.username is not None:
            return Credentials(settings.username, settings.password)
        host = request.url.netloc.decode("ascii")
        found: Credentials = yield from self.blocking(
            lambda: find_credentials(
                host,
                _repository(scopes),
                config=settings.config,
                environ=os.environ,
                timeout=settings.helper_timeout,
            )
        )
        return found

    def _password(
        self, request: Request, scopes: tuple[Scope, ...], refused: str | None
    ) -> Generator[Any, Any, str]:
        """What stands behind `Basic`; nothing where nobody knows a password."""

        def obtain() -> Generator[Any, Any, tuple[str, float]]:
            found = yield from self._credentials(request, scopes)
            return (_encoded(found) if found.password is not None else ""), _USUAL

        key = ("basic", _repository(scopes))
        return (yield from self.cached_token(key, obtain, refused=refused))

    def _token(
        self, request: Request, asked: Challenge, scopes: tuple[Scope, ...], refused: str | None
    ) -> Generator[Any, Any, str]:
        realm, service = asked.parameters["realm"], asked.parameters.get("service", "")
        besides = _parsed(asked.parameters.get("scope", ""))
        wanted = tuple(sorted(map(str, Scope.merged((*scopes, *besides)))))
        registry = str(request.url)

        def obtain() -> Generator[Any, Any, tuple[str, float]]:
            found = yield from self._credentials(request, scopes)
            if found.registry_token is not None:
                return found.registry_token.get_secret_value(), _USUAL
            return (yield from self._ask(realm, registry, service, wanted, found))

        return (yield from self.cached_token((realm, service, wanted), obtain, refused=refused))

    def _ask(
        self,
        realm: str,
        registry: str,
        service: str,
        scopes: tuple[str, ...],
        found: Credentials,
    ) -> Generator[Any, Any, tuple[str, float]]:
        if found.identity_token is not None:
            form = {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": _CLIENT,
                "scope": " ".join(scopes),
                "refresh_token": found.identity_token.get_secret_value(),
            }
            reply = yield from self._send("POST", realm, registry, data=form)
            # Endpoints that know no POST get the token as a password.
            if reply.status_code not in {404, 405, 501}:
                return _read(reply, realm)
            found = Credentials(found.username or "<token>", found.identity_token)
        params = [("service", service)] if service else []
        params += [("scope", scope) for scope in scopes]
        params.append(("client_id", _CLIENT))
        headers = {}
        if found.password is not None:
            params.append(("account", found.username))
            headers["Authorization"] = f"Basic {_encoded(found)}"
        reply = yield from self._send("GET", realm, registry, params=params, headers=headers)
        return _read(reply, realm)

    def _send(
        self, method: str, realm: str, registry: str, **options: Any
    ) -> Generator[Any, Any, Response]:
        """Ask where it is allowed, and where that leads if that is allowed, too."""
        url = realm
        for _ in range(_HOPS):
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
                    f"{origin_text(url)} leads to {redacted_url(following)}: credentials do not "
                    "go from https to http",
                    realm=origin_text(following),
                )
            if origin_of(following) != origin_of(url):
                # Whoever it is, the credentials were for another.
                if method == "POST":
                    return reply
                options["headers"] = {}
            options.pop("params", None)  # the target has a query of its own
            url = following
        raise TokenEndpointFailed(f"{redacted_url(realm)} leads on and on")


def _wanted(response: Response) -> Challenge | None:
    """Of the challenges the one to answer: a token, or else a password."""
    found = parse_challenges(", ".join(response.headers.get_list("www-authenticate")))
    named = [Challenge(each.scheme.lower(), each.parameters) for each in found]
    tokens = [each for each in named if each.scheme == "bearer" and each.parameters.get("realm")]
    basics = [each for each in named if each.scheme == "basic"]
    return next(iter([*tokens, *basics]), None)


def _repository(scopes: tuple[Scope, ...]) -> str:
    return next((scope.name for scope in scopes if scope.type == "repository" and scope.name), "")


def _parsed(text: str) -> tuple[Scope, ...]:
    try:
        return tuple(Scope.parse_many(text))
    except ScopeInvalid:
        return ()  # the request's own scopes are what counts


def _encoded(found: Credentials) -> str:
    password = found.password.get_secret_value() if found.password is not None else ""
    return b64encode(f"{found.username}:{password}".encode()).decode("ascii")


def _read(reply: Response, realm: str) -> tuple[str, float]:
    """The token of a reply, and for how many seconds it is good. What else it says is not shown:
    it may echo what it was sent."""
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
        raise TokenEndpointFailed(f"{where}: {status} instead of a token")
    try:
        document = json.loads(reply.content)
    except (ValueError, RecursionError):
        document = None
    document = document if isinstance(document, dict) else {}
    token = document.get("token") or document.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise TokenEndpointFailed(f"{where}: an answer without a token")
    if len(token) > _TOKEN_LIMIT:
        raise TokenEndpointFailed(f"{where}: a token of {len(token)} characters")
    seconds = document.get("expires_in")
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        seconds = _USUAL
    return token, float(min(max(seconds, _SHORTEST), _LONGEST))
