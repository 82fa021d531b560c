"""The base of the driver: scopes of each kind of request, deletion, headers that replies share.

Follows: OCI Distribution Specification 1.1, "Content Management"; Distribution's "Token Scope
Documentation".
"""

from __future__ import annotations

from typing import Literal

from dockhand_core import Scope
from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import BlobUnknown, DigestMismatch, ManifestUnknown, ResponseInvalid
from dockhand_core.flow import Flow, Reply, call
from dockhand_core.http.urls import one_line, redacted_url, resolve_url
from dockhand_core.models import Digest


class DistributionBase(RegistryDriver):
    """The parts that the operations on blobs, manifests, lists and uploads share.

    A driver for a registry with scopes of its own overrides the four methods for scopes.
    """

    def pull_scopes(self, repository: str) -> tuple[Scope, ...]:
        """The scopes of GET and HEAD in a repository."""
        return (Scope.read(repository),)

    def push_scopes(self, repository: str, source: str | None = None) -> tuple[Scope, ...]:
        """The scopes of POST, PUT and PATCH in a repository.

        Args:
            repository: the repository that is written to.
            source: the repository that a blob is mounted from.
        """
        return (Scope.write(repository), *((Scope.read(source),) if source else ()))

    def delete_scopes(self, repository: str) -> tuple[Scope, ...]:
        """The scopes of DELETE in a repository."""
        return (Scope.repository(repository, "delete"),)

    def catalog_scopes(self) -> tuple[Scope, ...]:
        """The scopes of the list of all repositories."""
        return (Scope.catalog(),)

    def _delete_content(
        self, repository: str, kind: Literal["blob", "manifest"], reference: str
    ) -> Flow[None]:
        try:
            yield from call(
                "DELETE",
                f"{repository}/{kind}s/{reference}",
                scopes=self.delete_scopes(repository),
                expect=frozenset({200, 202, 204}),
                kind=kind,
                repository=repository,
            )
        except (BlobUnknown, ManifestUnknown) as error:
            if error.attempts == 1:  # else an earlier attempt, whose reply was lost, deleted it
                raise


def content_length(reply: Reply) -> int | None:
    """The `Content-Length` of a reply, or None where it is missing or not a number."""
    size = reply.headers.get("content-length", "")
    return int(size) if size.isdecimal() and len(size) <= 18 else None


def check_announced_digest(reply: Reply, digest: Digest, subject: str) -> None:
    """Compare the `Docker-Content-Digest` of a reply with the digest of the content.

    A digest of another algorithm cannot be compared, and is ignored.

    Args:
        reply: the reply.
        digest: the digest of the content.
        subject: the start of the error's message.

    Raises:
        DigestMismatch: they differ.
    """
    announced = reply.headers.get("docker-content-digest")
    if announced and announced.startswith(f"{digest.algorithm}:") and announced != digest:
        raise DigestMismatch(
            f"{subject} has the digest {digest}, but the registry reports {one_line(announced)}",
            expected=digest,
            actual=announced,
        )


def location(reply: Reply, otherwise: str | None = None) -> str:
    """A reply's `Location`, absolute or relative, as a whole URL.

    Args:
        reply: the reply.
        otherwise: the URL to use where the header is missing.

    Raises:
        ResponseInvalid: the header is missing, or not a URL.
    """
    found = reply.headers.get("location") or otherwise
    if not found:
        raise ResponseInvalid(f"{redacted_url(reply.url)}: {reply.status} without a Location")
    return resolve_url(reply.url, found)
