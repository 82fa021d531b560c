"""Access policy: the scopes that a request requires, and the result of authentication.

The registry itself has no access control; a server applies it before the registry gets a request.
An `Authenticate` function gets a request's headers and required scopes, and returns the user or a
rejection. To support another authentication scheme, write such a function.

Follows: Distribution's "Token Scope Documentation"; RFC 9110, "HTTP Authentication".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from dockhand_core import ConfigError, Scope
from dockhand_embedded.protocol.messages import (
    Headers,
    RegistryReply,
    RegistryRequest,
    RequestRejectedError,
)
from dockhand_embedded.protocol.names import is_name
from dockhand_embedded.protocol.registry import parse_path

_READ_METHODS = frozenset({"GET", "HEAD"})


def _allow_everything(_: Scope) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class AuthenticatedUser:
    """The user of a request that is allowed.

    Attributes:
        name: the user's name, for notifications; empty for an anonymous client.
        allows: returns whether the user has a scope. It is called for optional permissions only: to
            read the repository that a blob is mounted from.
    """

    name: str
    allows: Callable[[Scope], bool] = _allow_everything


@dataclass(frozen=True, slots=True)
class AccessRejection:
    """The rejection of a request: 401 with a challenge, 403, or 429.

    Attributes:
        www_authenticate: the header `WWW-Authenticate` of a 401 UNAUTHORIZED. None means 403
            DENIED, which is for cases in which other credentials would not help.
        message, detail: fields of the error in the reply's body.
        retry_after: seconds after which the client may try again, for a 429 TOOMANYREQUESTS.
    """

    www_authenticate: str | None
    message: str = "authentication is required"
    detail: object = None
    retry_after: int | None = None

    def reply(self) -> RegistryReply:
        """The HTTP reply that rejects the request."""
        if self.retry_after is not None:
            wait = [("Retry-After", str(self.retry_after))]
            return RequestRejectedError(
                429, "TOOMANYREQUESTS", self.message, self.detail, wait
            ).reply()
        if self.www_authenticate is None:
            return RequestRejectedError(403, "DENIED", self.message, self.detail).reply()
        headers = [("WWW-Authenticate", self.www_authenticate)]
        return RequestRejectedError(401, "UNAUTHORIZED", self.message, self.detail, headers).reply()


AuthResult: TypeAlias = AuthenticatedUser | AccessRejection
# A function that gets the headers of a request and the scopes that the request requires: none if
# any authenticated client may send it. It may be a coroutine function; a plain function must not
# block. If the function has a true attribute `wants_mount_source`, the scopes of a mount include
# the one for reading the source, which is optional. With a true attribute `wants_client`, it is
# called with the client's address and port as a third argument, such as `127.0.0.1:40123`.
Authenticate: TypeAlias = (
    Callable[[Headers, Sequence[Scope]], AuthResult | Awaitable[AuthResult]]
    | Callable[[Headers, Sequence[Scope], str], AuthResult | Awaitable[AuthResult]]
)


def required_scopes(
    request: RegistryRequest, *, include_mount_source: bool = False
) -> tuple[Scope, ...]:
    """The scopes that a request requires; none for the version check and for unknown paths.

    Args:
        request: the request.
        include_mount_source: include the scope for reading the repository that a blob is mounted
            from.
    """
    kind, name, _ = parse_path(request.path)
    if kind == "catalog":
        return (Scope.catalog(),)
    if not is_name(name):
        return ()  # the registry rejects the invalid name, which a scope could not contain
    source = request.param("from") if include_mount_source and kind == "uploads" else None
    if source is not None and request.param("mount") and is_name(source):
        return (Scope.write(name), Scope.read(source))
    if request.method in _READ_METHODS:
        return (Scope.read(name),)
    if request.method == "DELETE":
        return (Scope.repository(name, "delete"),)
    return (Scope.write(name),)


def bearer_from_settings(settings: Any) -> Authenticate | None:
    """Create a `Bearer` from the token settings; return None if none of them is set.

    Args:
        settings: an object with the attributes `token_realm`, `token_service`, `token_issuer`,
            `token_certificate` and `token_jwks`, each of which may be None.

    Raises:
        ConfigError: a required setting is missing, or keys cannot be read.
    """
    names = {name: getattr(settings, f"token_{name}") for name in ("realm", "service", "issuer")}
    keys = {name: getattr(settings, f"token_{name}") for name in ("certificate", "jwks")}
    if not any([*names.values(), *keys.values()]):
        return None
    for name, value in names.items():
        if not value:
            raise ConfigError(f"token_{name} is needed to verify tokens")
    try:
        from dockhand_embedded.access.bearer import Bearer
    except ImportError:
        raise ConfigError(
            "tokens cannot be verified without dockhand-auth-jwt: "
            'pip install "dockhand-embedded[tokens]"'
        ) from None
    return Bearer(**names, **keys)


def authenticate_request(
    authenticate: Authenticate, request: RegistryRequest
) -> AuthResult | Awaitable[AuthResult]:
    """Call an `Authenticate` with the headers and the required scopes of a request."""
    include_mount_source = bool(getattr(authenticate, "wants_mount_source", False))
    arguments: list[Any] = [
        Headers(request.headers.items()),
        required_scopes(request, include_mount_source=include_mount_source),
    ]
    if getattr(authenticate, "wants_client", False):
        arguments.append(request.client)
    return authenticate(*arguments)


def apply_auth_result(
    request: RegistryRequest, result: AuthResult
) -> RegistryRequest | RegistryReply:
    """Add the user and permissions to a request, or return the reply that rejects it."""
    if isinstance(result, AuthenticatedUser):
        return replace(request, may_read=_can_read(result), user=result.name)
    reply = result.reply()
    if request.method == "HEAD":
        reply.body = b""
    return reply


def _can_read(user: AuthenticatedUser) -> Callable[[str], bool]:
    """The function `may_read` of a user's requests: whether the user may read a repository."""
    return lambda name: is_name(name) and user.allows(Scope.read(name))
