"""Who may do what: the door that a server puts before the registry.

The registry itself asks nobody. An `Authenticate` callable is given what a request needs, and
says who asks, or what the client has to do first. It is the only thing to write for another way
to prove who one is (bearer tokens, say).

Follows: Distribution's "Token Scope Documentation"; RFC 9110, "HTTP Authentication".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from dockhand_core import Scope
from dockhand_embedded.names import is_name
from dockhand_embedded.protocol import endpoint
from dockhand_embedded.replies import Headers, Refused, Reply, Request

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
        message: for the error's body.
    """

    authenticate: str | None
    message: str = "authentication is required"

    def reply(self) -> Reply:
        """The refusal."""
        if self.authenticate is None:
            return Refused(403, "DENIED", self.message).reply()
        headers = [("WWW-Authenticate", self.authenticate)]
        return Refused(401, "UNAUTHORIZED", self.message, None, headers).reply()


Verdict: TypeAlias = Identity | Challenge
# Given the headers of a request and the scopes without which it cannot be answered (none where
# knowing the client is enough). May be a coroutine function; a plain one must not wait.
Authenticate: TypeAlias = Callable[[Headers, Sequence[Scope]], Verdict | Awaitable[Verdict]]


def needed(request: Request) -> tuple[Scope, ...]:
    """The scopes that a request needs; none for the version check and for what does not exist."""
    kind, name, _ = endpoint(request.path)
    if kind == "catalog":
        return (Scope.catalog(),)
    if not is_name(name):
        return ()  # nothing is there, and a scope could not carry the name
    if kind in {"uploads", "upload"}:
        return (Scope.write(name),)
    if request.method in _READ:
        return (Scope.read(name),)
    if request.method == "DELETE":
        return (Scope.repository(name, "delete"),)
    return (Scope.write(name),)


def readable(identity: Identity) -> Callable[[str], bool]:
    """Whether a repository is one that this client may read."""
    return lambda name: is_name(name) and identity.allows(Scope.read(name))
