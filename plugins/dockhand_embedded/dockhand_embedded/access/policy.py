"""Who may do what: the door that a server puts before the registry.

The registry itself asks nobody. An `Authenticate` callable is given what a request needs, and
says who asks, or what the client has to do first. It is the only thing to write for another way
to prove who one is (bearer tokens, say).

Follows: Distribution's "Token Scope Documentation"; RFC 9110, "HTTP Authentication".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from dockhand_core import ConfigError, Scope
from dockhand_embedded.protocol.messages import Headers, Refused, Reply, Request
from dockhand_embedded.protocol.names import is_name
from dockhand_embedded.protocol.registry import endpoint

_READ = frozenset({"GET", "HEAD"})


def _everything(_: Scope) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Identity:
    """Whoever asks, let in.

    Attributes:
        name: for the log.
        allows: whether they may do what a scope says. It is asked about what a request can do
            without: reading the repository that a blob is mounted from.
    """

    name: str
    allows: Callable[[Scope], bool] = _everything


@dataclass(frozen=True, slots=True)
class Challenge:
    """The client has to prove who it is, or may not do this.

    Attributes:
        authenticate: the header `WWW-Authenticate`; None where proving more would not help, which
            is answered with 403 DENIED instead of 401 UNAUTHORIZED.
        message, detail: for the error's body.
    """

    authenticate: str | None
    message: str = "authentication is required"
    detail: object = None

    def reply(self) -> Reply:
        """The refusal."""
        if self.authenticate is None:
            return Refused(403, "DENIED", self.message, self.detail).reply()
        headers = [("WWW-Authenticate", self.authenticate)]
        return Refused(401, "UNAUTHORIZED", self.message, self.detail, headers).reply()


Verdict: TypeAlias = Identity | Challenge
# Given the headers of a request and the scopes without which it cannot be answered (none where
# knowing the client is enough). May be a coroutine function; a plain one must not wait. One whose
# attribute `wants_sources` is true is asked about a mount's source too, which can be done without.
Authenticate: TypeAlias = Callable[[Headers, Sequence[Scope]], Verdict | Awaitable[Verdict]]


def needed(request: Request, *, sources: bool = False) -> tuple[Scope, ...]:
    """The scopes that a request needs; none for the version check and for what does not exist.

    Args:
        request: what is asked.
        sources: name what a blob is mounted from, too.
    """
    kind, name, _ = endpoint(request.path)
    if kind == "catalog":
        return (Scope.catalog(),)
    if not is_name(name):
        return ()  # nothing is there, and a scope could not carry the name
    source = request.param("from") if sources and kind == "uploads" else None
    if source is not None and request.param("mount") and is_name(source):
        return (Scope.write(name), Scope.read(source))
    if request.method in _READ:
        return (Scope.read(name),)
    if request.method == "DELETE":
        return (Scope.repository(name, "delete"),)
    return (Scope.write(name),)


def bearer(settings: Any) -> Authenticate | None:
    """The door that settings for tokens ask for; None where there are none.

    Args:
        settings: `token_realm`, `token_service`, `token_issuer`, `token_certificate` and
            `token_jwks`, each of which may be None.

    Raises:
        ConfigError: some are missing, or keys cannot be read.
    """
    names = {name: getattr(settings, f"token_{name}") for name in ("realm", "service", "issuer")}
    keys = {name: getattr(settings, f"token_{name}") for name in ("certificate", "jwks")}
    if not any([*names.values(), *keys.values()]):
        return None
    for name, value in names.items():
        if not value:
            raise ConfigError(f"token_{name} is needed where tokens are verified")
    try:
        from dockhand_embedded.access.bearer import Bearer
    except ImportError:
        raise ConfigError(
            'tokens cannot be verified: pip install "dockhand-embedded[tokens]"'
        ) from None
    return Bearer(**names, **keys)


def ask(authenticate: Authenticate, request: Request) -> Verdict | Awaitable[Verdict]:
    """What the door says to a request."""
    sources = bool(getattr(authenticate, "wants_sources", False))
    return authenticate(Headers(request.headers.items()), needed(request, sources=sources))


def admitted(request: Request, verdict: Verdict) -> Request | Reply:
    """The request as it may be answered, or the refusal."""
    if isinstance(verdict, Identity):
        return replace(request, readable=_readable(verdict), user=verdict.name)
    reply = verdict.reply()
    if request.method == "HEAD":
        reply.body = b""
    return reply


def _readable(identity: Identity) -> Callable[[str], bool]:
    """Whether a repository is one that this client may read."""
    return lambda name: is_name(name) and identity.allows(Scope.read(name))
