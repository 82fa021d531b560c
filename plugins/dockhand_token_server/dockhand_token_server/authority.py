"""The authority: who asks, what they may do, and the token that says so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dockhand_auth_jwt import Token

from dockhand_core import Identity, PluginConflict, PluginError, PluginNotFound, Plugins, Scope
from dockhand_core.config import did_you_mean
from dockhand_core.server.htpasswd import PasswordFile
from dockhand_token_server.keys import KeyRing
from dockhand_token_server.limits import FailureLimit, network_of
from dockhand_token_server.login import Login, Proof, ask
from dockhand_token_server.refresh import RefreshTokens
from dockhand_token_server.requests import Refused, TokenRequest
from dockhand_token_server.rules import Rules, narrowed
from dockhand_token_server.settings import Settings

__all__ = ["Authority", "Grant"]

_RULES = "rules"
_log = logging.getLogger("dockhand.token_server")
Implementations = dict[str, Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class Grant:
    """A token, and what there is to know of it.

    Attributes:
        token: the JWT.
        scopes: what it grants.
        issued: when.
        lifetime: seconds.
        refresh_token: where one was wanted, and they are given.
    """

    token: str
    scopes: tuple[Scope, ...]
    issued: datetime
    lifetime: int
    refresh_token: str | None = None


class Authority:
    """Answers requests for tokens.

    Args:
        settings: what it is told.
        plugins: whose hooks are asked.

    Raises:
        ConfigError: a file cannot be read, or does not hold what it should.
        PluginError: the backend is not there, or two plugins have one name.
    """

    def __init__(self, settings: Settings, plugins: Plugins) -> None:
        self._settings = settings
        self._rules = Rules(settings.rules, settings.groups)
        self._authorizers = _implementations(plugins, "dockhand_authorize")
        self._backend = self._take_backend(plugins)
        limit = settings.login_limit
        users = PasswordFile(settings.users) if settings.users is not None else None
        self._login = Login(
            users,
            _implementations(plugins, "dockhand_authenticate"),
            FailureLimit(limit.failures, limit.seconds),
        )
        self.keys = KeyRing(settings)
        self._refresh = (
            RefreshTokens(settings.refresh_tokens, settings.refresh_token_lifetime)
            if settings.refresh_tokens
            else None
        )

    def _take_backend(self, plugins: Plugins) -> Callable[..., Any] | None:
        name = self._settings.backend
        if name == _RULES:
            return None
        if name not in self._authorizers:
            there = sorted(self._authorizers)
            broken = "; ".join(str(info) for info in plugins if info.error)
            raise PluginNotFound(
                f"backend: no plugin {name!r} implements dockhand_authorize; those that do: "
                f"{', '.join(there) or 'none'}{did_you_mean(name, there)}"
                + (f"; not loaded: {broken}" if broken else "")
            )
        return self._authorizers.pop(name)

    async def answer(self, request: TokenRequest, address: str) -> Grant:
        """The token that a request gets; with less than it asked for, where it may not have that.

        Args:
            request: who asks for what.
            address: where from.

        Raises:
            Refused: it gets none.
        """
        service = self._service(request)
        proof = await self._who(request, service, address)
        identity = self._rules.member(proof.identity)
        scopes = await self._what(identity, request.scopes, service)
        lifetime = self._settings.token_lifetime
        # The registry compares whole seconds; what is shown is what the token says.
        issued = datetime.now(UTC).replace(microsecond=0)
        token = await self._sign(identity, scopes, service)
        refresh_token = None
        if request.offline and self._refresh is not None and not identity.anonymous:
            refresh_token = await asyncio.to_thread(
                self._refresh.issue,
                proof.identity,
                source=proof.source,
                stamp=proof.stamp,
                service=service,
                client=request.client,
            )
        _log.info(
            "token for %r from %s: %s: %s", identity.name, address, service,
            " ".join(map(str, scopes)) or "nothing",
        )  # fmt: skip
        return Grant(token, scopes, issued, lifetime, refresh_token)

    def _service(self, request: TokenRequest) -> str:
        services = self._settings.services
        if request.service is None and len(services) == 1:
            return services[0]
        if request.service is None:
            raise Refused(400, "UNSUPPORTED", "service says for which registry the token is to be")
        if request.service not in services:
            raise Refused(
                403, "DENIED", f"this authority signs no tokens for {request.service!r}",
                "invalid_target",
            )  # fmt: skip
        return request.service

    async def _who(self, request: TokenRequest, service: str, address: str) -> Proof:
        if request.refresh_token is not None:
            return await self._refreshed(request.refresh_token.get_secret_value(), service, address)
        if request.username is None:
            return Proof(Identity(""), "")
        return await self._login(
            request.username, request.password, service=service, address=address
        )

    async def _refreshed(self, token: str, service: str, address: str) -> Proof:
        network = network_of(address)
        self._login.check(network)
        if self._refresh is not None:
            held = await asyncio.to_thread(self._refresh.find, token, service)
            if held and self._login.still(held.source, held.identity, held.stamp):
                return Proof(held.identity, held.source, held.stamp)
        self._login.failed(network)
        _log.warning("a refresh token from %s is not valid", address)
        raise Refused(
            401, "UNAUTHORIZED", "the refresh token is unknown, expired or revoked; log in again",
            "invalid_grant",
        )  # fmt: skip

    async def _what(
        self, identity: Identity, scopes: tuple[Scope, ...], service: str
    ) -> tuple[Scope, ...]:
        if self._backend is None:
            granted = self._rules.grant(identity, scopes)
        else:
            name = self._settings.backend
            answer = await _decision(name, self._backend, identity, scopes, service)
            granted = answer if answer is not None else ()
        for name, function in self._authorizers.items():
            answer = await _decision(name, function, identity, granted, service)
            granted = answer if answer is not None else granted
        return granted

    async def _sign(self, identity: Identity, scopes: tuple[Scope, ...], service: str) -> str:
        key = await self.keys.current()
        token = (
            Token.issued_by(self._settings.issuer)
            .permitted_for(service)
            .expires_in(seconds=self._settings.token_lifetime)
        )
        if not identity.anonymous:
            token = token.related_to(identity.name)
        for scope in scopes:
            token = token.with_scope(scope)
        if key.algorithm.startswith("RS"):  # milliseconds, which others would wait for
            return await asyncio.to_thread(token.sign, key)
        return token.sign(key)


async def _decision(
    plugin: str,
    function: Callable[..., Any],
    identity: Identity,
    scopes: tuple[Scope, ...],
    service: str,
) -> tuple[Scope, ...] | None:
    """What of these scopes a plugin grants; None where it has no say, nothing where it fails."""
    if not scopes:
        return None
    arguments: Mapping[str, Any] = {"identity": identity, "scopes": scopes, "service": service}
    try:
        answer = await ask(function, arguments)
        if answer is None:
            return None
        allowed = tuple(answer)
        if not all(isinstance(scope, Scope) for scope in allowed):
            raise TypeError("dockhand_authorize returns scopes")
    except Exception as error:  # a plugin may raise anything
        _log.error("plugin %s denies everything: %s", plugin, type(error).__name__, exc_info=True)
        return ()
    return narrowed(scopes, allowed)


def _implementations(plugins: Plugins, hook: str) -> Implementations:
    found: Implementations = {}
    for name, function in plugins.implementations(hook):
        if name in found:
            raise PluginConflict(
                f"two plugins named {name!r} implement {hook}; uninstall one of them, or name its "
                "package in DOCKHAND_DISABLE_PLUGINS"
            )
        found[name] = function
    if _RULES in found:
        raise PluginError(f"a plugin that implements {hook} cannot be called {_RULES!r}")
    return found
