"""What requests need: a registry with rules of its own overrides these.

Follows: Distribution's "Token Scope Documentation".
"""

from __future__ import annotations

from dockhand_core import Scope
from dockhand_core.driver import RegistryDriver


class Scopes(RegistryDriver):
    """The scopes of each kind of request, for the auth driver."""

    def reading(self, repository: str) -> tuple[Scope, ...]:
        """Of GET and HEAD in a repository."""
        return (Scope.read(repository),)

    def writing(self, repository: str, source: str | None = None) -> tuple[Scope, ...]:
        """Of POST, PUT and PATCH in a repository; of a mount, with where it comes from."""
        return (Scope.write(repository), *((Scope.read(source),) if source else ()))

    def deleting(self, repository: str) -> tuple[Scope, ...]:
        """Of DELETE in a repository."""
        return (Scope.repository(repository, "delete"),)

    def listing(self) -> tuple[Scope, ...]:
        """Of the list of all repositories."""
        return (Scope.catalog(),)
