"""The token issuer, which authenticates clients, decides their scopes, and signs tokens."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dockhand_auth_jwt import Token

from dockhand_core import (
    ConfigError,
    Identity,
    PluginConflict,
    PluginError,
    PluginNotFound,
    Plugins,
    Scope,
)
from dockhand_core.config import did_you_mean
from dockhand_core.server import FailureLimiter, LoginLimiter, network_of
from dockhand_core.server.htpasswd import PasswordFile
from dockhand_core.text import printable
from dockhand_token_server.authentication import (
    HTPASSWD_SOURCE,
    Authentication,
    Authenticator,
    call_hook,
)
from dockhand_token_server.keys import KeyRing
from dockhand_token_server.refresh_tokens import RefreshTokens
from dockhand_token_server.rules import Rules, intersection
from dockhand_token_server.settings import Settings
from dockhand_token_server.token_requests import TokenRequest, TokenRequestError

__all__ = ["IssuedToken", "TokenIssuer"]

_RULES = "rules"
# The client_id of programs that use a new refresh token until they exit, and then the stored one
# again, which would be taken for theft: crane and others of its library, regctl, and Dockhand.
_IN_MEMORY_CLIENTS = ("go-containerregistry", "regclient", "dockhand")
_STORE_ERRORS = (OSError, sqlite3.Error, ConfigError)  # of the file of refresh tokens
_log = logging.getLogger("dockhand.token_server")
Implementations = dict[str, Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A signed token, and the other values in the reply to a token request.

    Attributes:
        token: the JWT.
        scopes: the scopes that the token grants.
        issued_at: the time of signing, in whole seconds.
        lifetime: the lifetime of the token, in seconds.
        refresh_token: a new refresh token, if the client asked for one or used one, and refresh
            tokens are enabled.
    """

    token: str
    scopes: tuple[Scope, ...]
    issued_at: datetime
    lifetime: int
    refresh_token: str | None = None


class TokenIssuer:
    """Answers token requests with signed tokens.

    Args:
        settings: the settings of the token endpoint.
        plugins: the plugins whose hooks are called.

    Raises:
        ConfigError: a file that the settings name cannot be read, or its content is invalid.
        PluginError: the plugin that the setting `backend` names is missing, or two plugins have
            the same name.
    """

    def __init__(self, settings: Settings, plugins: Plugins) -> None:
        self._settings = settings
        self._rules = Rules(settings.rules, settings.groups)
        self._authorizers = _hook_implementations(plugins, "dockhand_authorize")
        self._backend = self._remove_backend_from_authorizers(plugins)
        limit = settings.login_limit
        users = PasswordFile(settings.users) if settings.users is not None else None
        authenticators = _hook_implementations(plugins, "dockhand_authenticate")
        identifiers = _hook_implementations(plugins, "dockhand_identify")
        self._authenticator = Authenticator(
            users,
            authenticators,
            identifiers,
            LoginLimiter(FailureLimiter(limit.failures, limit.seconds)),
        )
        self.keys = KeyRing(settings)
        self._refresh_tokens = (
            RefreshTokens(settings.refresh_tokens, settings.refresh_token_lifetime)
            if settings.refresh_tokens
            else None
        )
        without = sorted(authenticators.keys() - identifiers.keys())
        if without and self._refresh_tokens is not None:
            _log.warning(
                "no refresh tokens for the users of plugin %s, which has no dockhand_identify",
                ", ".join(without),
            )

    def _remove_backend_from_authorizers(self, plugins: Plugins) -> Callable[..., Any] | None:
        name = self._settings.backend
        if name == _RULES:
            return None
        if name not in self._authorizers:
            available = sorted(self._authorizers)
            broken = "; ".join(str(info) for info in plugins if info.error)
            raise PluginNotFound(
                f"backend: no plugin {name!r} implements dockhand_authorize; plugins that do: "
                f"{', '.join(available) or 'none'}{did_you_mean(name, available)}"
                + (f"; plugins that failed to load: {broken}" if broken else "")
            )
        return self._authorizers.pop(name)

    async def issue(self, request: TokenRequest, address: str) -> IssuedToken:
        """Issue the token for a request.

        Of the requested scopes, the token grants those that the client may have, possibly none.

        Args:
            request: the client's request.
            address: the client's IP address, for logs and for the limit on failed logins.

        Raises:
            TokenRequestError: the request is refused, because the login failed or the service is
                unknown.
        """
        service = self._requested_service(request)
        authentication = await self._authenticate(request, service, address)
        identity = self._rules.with_groups(authentication.identity)
        scopes = await self._granted_scopes(identity, request.scopes, service)
        lifetime = self._settings.token_lifetime
        # in whole seconds, like the times in the token
        issued_at = datetime.now(UTC).replace(microsecond=0)
        token = await self._sign(identity, scopes, service)
        try:
            refresh_token = await self._new_refresh_token(request, authentication, service)
        except _STORE_ERRORS as error:  # the client can do without
            refresh_token = None
            self._log_store_error(error)
        _log.info(
            "token for %r from %s: %s: %s", identity.name, address, service,
            printable(" ".join(map(str, scopes))) or "nothing",
        )  # fmt: skip
        return IssuedToken(token, scopes, issued_at, lifetime, refresh_token)

    async def _new_refresh_token(
        self, request: TokenRequest, authentication: Authentication, service: str
    ) -> str | None:
        """Issue the refresh token that a client asked for; None if it gets none.

        A client that sent a refresh token gets a new one in exchange. If it asks for that, it
        stores the new one, and the old one is spent. Most clients, such as docker and skopeo,
        ignore the new one; their old one is valid until the new one is used.
        """
        tokens = self._refresh_tokens
        if tokens is None or (not request.offline and request.refresh_token is None):
            return None
        if request.refresh_token is not None:
            is_due = self._settings.refresh_token_rotation != "requested"  # noqa: S105
            is_due = is_due and not request.client_id.startswith(_IN_MEMORY_CLIENTS)
            if not (request.offline or is_due):
                return None
            old = request.refresh_token.get_secret_value()
            new = await asyncio.to_thread(tokens.rotate, old, service, requested=request.offline)
            if new is None:  # revoked a moment ago
                raise _invalid_refresh_token()
            return new
        if not self._authenticator.can_confirm(authentication.source):
            return None
        return await asyncio.to_thread(
            tokens.issue,
            authentication.identity,
            source=authentication.source,
            entry_hash=authentication.entry_hash,
            service=service,
            client_id=request.client_id,
            login=authentication.login,
        )

    def _log_store_error(self, error: Exception) -> None:
        _log.error("refresh_tokens: %s: %s", self._settings.refresh_tokens, error)

    def _requested_service(self, request: TokenRequest) -> str:
        services = self._settings.services
        if request.service is None and len(services) == 1:
            return services[0]
        if request.service is None:
            raise TokenRequestError(
                400, "UNSUPPORTED", "service is missing: name the registry that the token is for"
            )
        if request.service not in services:
            raise TokenRequestError(
                403, "DENIED", f"this authority issues no tokens for {request.service!r}",
                "invalid_target",
            )  # fmt: skip
        return request.service

    async def _authenticate(
        self, request: TokenRequest, service: str, address: str
    ) -> Authentication:
        if request.refresh_token is not None:
            token = request.refresh_token.get_secret_value()
            return await self._authenticate_refresh_token(token, service, address)
        if request.username is None:
            return Authentication(Identity(""), "")
        return await self._authenticator.authenticate(
            request.username, request.password, service=service, address=address
        )

    async def _authenticate_refresh_token(
        self, token: str, service: str, address: str
    ) -> Authentication:
        network = network_of(address)
        self._authenticator.check_limit(network)
        if self._refresh_tokens is not None:
            try:
                record = await asyncio.to_thread(self._refresh_tokens.find, token, service)
            except _STORE_ERRORS as error:
                self._log_store_error(error)
                raise _unavailable() from None
            if record is not None:
                stored = Authentication(
                    record.identity, record.source, record.entry_hash, record.login
                )
                confirmed = await self._authenticator.confirm(stored, service)
                if confirmed is not None:
                    self._authenticator.remember_login(network, confirmed.login)
                    return confirmed
                _log.warning("the account of a refresh token is gone: %r", record.login)
                if record.source != HTPASSWD_SOURCE:
                    # another account may get the same name later
                    try:
                        await asyncio.to_thread(self._refresh_tokens.revoke, id=record.id)
                    except _STORE_ERRORS as error:
                        self._log_store_error(error)
        self._authenticator.count_failure(network)
        _log.warning("invalid refresh token from %s", address)
        raise _invalid_refresh_token()

    async def _granted_scopes(
        self, identity: Identity, scopes: tuple[Scope, ...], service: str
    ) -> tuple[Scope, ...]:
        if self._backend is None:
            granted = self._rules.grant(identity, scopes)
        else:
            name = self._settings.backend
            answer = await _call_authorizer(name, self._backend, identity, scopes, service)
            granted = answer if answer is not None else ()
        for name, function in self._authorizers.items():
            answer = await _call_authorizer(name, function, identity, granted, service)
            granted = answer if answer is not None else granted
        return granted

    async def _sign(self, identity: Identity, scopes: tuple[Scope, ...], service: str) -> str:
        key = await self.keys.signing_key()
        token = (
            Token.issued_by(self._settings.issuer)
            .permitted_for(service)
            .expires_in(seconds=self._settings.token_lifetime)
        )
        if not identity.anonymous:
            token = token.related_to(identity.name)
        for scope in scopes:
            token = token.with_scope(scope)
        if key.algorithm.startswith("RS"):  # RSA takes milliseconds: do not block the event loop
            return await asyncio.to_thread(token.sign, key)
        return token.sign(key)


def _invalid_refresh_token() -> TokenRequestError:
    return TokenRequestError(
        401, "UNAUTHORIZED", "the refresh token is unknown, expired or revoked; log in again",
        "invalid_grant",
    )  # fmt: skip


def _unavailable() -> TokenRequestError:
    return TokenRequestError(
        503, "UNAVAILABLE", "the refresh tokens cannot be read at present; try again later",
        "temporarily_unavailable", {"Retry-After": "5"},
    )  # fmt: skip


async def _call_authorizer(
    plugin: str,
    function: Callable[..., Any],
    identity: Identity,
    scopes: tuple[Scope, ...],
    service: str,
) -> tuple[Scope, ...] | None:
    """Call a plugin's `dockhand_authorize`.

    Returns:
        the scopes that the plugin grants, narrowed to `scopes`; an empty tuple if the plugin
        fails; None if the plugin abstains or `scopes` is empty.
    """
    if not scopes:
        return None
    arguments: Mapping[str, Any] = {"identity": identity, "scopes": scopes, "service": service}
    try:
        answer = await call_hook(function, arguments)
        if answer is None:
            return None
        if not isinstance(answer, Iterable):
            raise _WrongAnswer(f"an iterable of Scope objects is due, not {type(answer).__name__}")
        allowed = tuple(answer)
        wrong = next((each for each in allowed if not isinstance(each, Scope)), None)
        if wrong is not None or None in allowed:
            raise _WrongAnswer(
                f"an iterable of Scope objects is due; an item is {type(wrong).__name__}"
            )
    except _WrongAnswer as error:
        _log.error("plugin %s denies everything: dockhand_authorize: %s", plugin, error)
        return ()
    except Exception as error:  # a plugin may raise anything
        _log.error("plugin %s denies everything: %s", plugin, type(error).__name__, exc_info=True)
        return ()
    return intersection(scopes, allowed)


class _WrongAnswer(Exception):
    """A plugin returned something other than scopes."""


def _hook_implementations(plugins: Plugins, hook: str) -> Implementations:
    """Return the plugins' implementations of a hook, a mapping from plugin name to function."""
    found: Implementations = {}
    for name, function in plugins.implementations(hook):
        if name in found:
            raise PluginConflict(
                f"two plugins named {name!r} implement {hook}; uninstall one of them, or name its "
                "package in DOCKHAND_DISABLE_PLUGINS"
            )
        found[name] = function
    if _RULES in found:
        raise PluginError(
            f"a plugin that implements {hook} is called {_RULES!r}, which the setting backend "
            "reserves; rename the plugin"
        )
    return found
