"""The base class of the driver's operations, and checks of the headers of replies.

Follows: OCI Distribution Specification 1.1, "Content Management"; Distribution's "Token Scope
Documentation".
"""

from __future__ import annotations

from contextlib import suppress
from typing import Literal
from urllib.parse import urlsplit

from dockhand_core import Scope
from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import (
    BlobUnknown,
    DigestInvalid,
    DigestMismatch,
    ManifestUnknown,
    RegistryError,
    ResponseInvalid,
)
from dockhand_core.flow import Flow, Reply, call
from dockhand_core.http.headers import next_link
from dockhand_core.http.urls import one_line, origin_of, redacted_url, resolve_url
from dockhand_core.models import Descriptor, Digest, PushResult


class DistributionBase(RegistryDriver):
    """The methods that the operations on blobs, manifests, lists and uploads share.

    A driver for a registry that requires other scopes overrides the four `…_scopes` methods.
    """

    def pull_scopes(self, repository: str) -> tuple[Scope, ...]:
        """The scopes that GET and HEAD in a repository require."""
        return (Scope.read(repository),)

    def push_scopes(self, repository: str, source: str | None = None) -> tuple[Scope, ...]:
        """The scopes that POST, PUT and PATCH in a repository require.

        Args:
            repository: the repository that is written to.
            source: the repository to mount a blob from; None if no blob is mounted.
        """
        return (Scope.write(repository), *((Scope.read(source),) if source else ()))

    def delete_scopes(self, repository: str) -> tuple[Scope, ...]:
        """The scopes that DELETE in a repository requires."""
        return (Scope.repository(repository, "delete"),)

    def catalog_scopes(self) -> tuple[Scope, ...]:
        """The scopes that the list of all repositories requires."""
        return (Scope.catalog(),)

    def content_url(self, repository: str, kind: Literal["blob", "manifest"], digest: str) -> str:
        """The absolute URL of a blob or manifest, below the connection's `base_uri`."""
        return f"{self._base}/{repository}/{kind}s/{digest}"

    @property
    def _base(self) -> str:
        """The absolute URL of the API: `base_uri`, with `/v2` at the end."""
        uri = self.base_uri(self.settings).strip().rstrip("/").removesuffix("/v2").rstrip("/")
        return f"{uri}/v2"

    def _is_below_base(self, url: str) -> bool:
        path = urlsplit(self._base).path
        return origin_of(url) == origin_of(self._base) and urlsplit(url).path.startswith(f"{path}/")

    def next_page_url(self, reply: Reply, path: str) -> str | None:
        """The URL of the next page of a list, or None if the reply has no `Link` to one.

        If the link leads outside this registry, the list itself is asked with the query of the
        link: a registry behind a proxy may not know its own scheme, host or path.

        Args:
            reply: the reply.
            path: the path of the list below `/v2/`.

        Raises:
            ResponseInvalid: the link is not a URL.
        """
        target = next_link(reply.headers)
        if target is None:
            return None
        url = resolve_url(reply.url, target)
        query = urlsplit(url).query
        return url if self._is_below_base(url) or not query else f"{self._base}/{path}?{query}"

    def pushed(
        self,
        repository: str,
        kind: Literal["blob", "manifest"],
        digest: Digest,
        reply: Reply | None = None,
        *,
        uploaded: bool = True,
    ) -> PushResult:
        """The result of a push, whose location is an absolute URL below `base_uri`.

        The location is the reply's `Location`. If the header is missing, is not a URL or leads
        elsewhere (a registry behind a proxy may not know its own host or path), the location is
        `content_url`.

        Args:
            repository: the repository that has the content.
            kind: the kind of the content.
            digest: the digest of the content.
            reply: the reply that confirmed the push, or None if there was none.
            uploaded: whether the content was sent.
        """
        own = self.content_url(repository, kind, digest)
        found = own
        if reply is not None:
            with suppress(ResponseInvalid):
                found = location(reply, own)
        if not self._is_below_base(found):
            found = own
        return PushResult(digest=digest, location=found, uploaded=uploaded)

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
            # If a repeated DELETE finds no content, an earlier attempt has deleted the content.
            if error.attempts == 1:
                raise


def digest_of(digest: str | Descriptor) -> Digest:
    """The digest that a caller passed as text or as a descriptor.

    Raises:
        DigestInvalid: the text is not a digest.
    """
    return Digest(digest.digest if isinstance(digest, Descriptor) else digest)


def content_length(reply: Reply) -> int | None:
    """The `Content-Length` of a reply in bytes, or None if it is missing or not a number."""
    size = reply.headers.get("content-length", "")
    return int(size) if size.isdecimal() and len(size) <= 18 else None


def refuses_head(error: RegistryError) -> bool:
    """Whether a HEAD was refused for its method, so that a GET may succeed."""
    return error.status in (400, 405, 501)


def announced_digest(reply: Reply) -> Digest | None:
    """The `Docker-Content-Digest` of a reply; None if it is missing or malformed."""
    try:
        return Digest(reply.headers.get("docker-content-digest", ""))
    except DigestInvalid:
        return None


def check_announced_digest(reply: Reply, digest: Digest, subject: str) -> None:
    """Check that the `Docker-Content-Digest` of a reply is the digest of the content.

    A missing or malformed header is ignored, and so is a digest of another algorithm, which cannot
    be compared.

    Args:
        reply: the reply.
        digest: the digest of the content.
        subject: the start of the error message, such as `repository a/b: the blob`.

    Raises:
        DigestMismatch: the two digests differ.
    """
    announced = announced_digest(reply)
    if announced and announced.algorithm == digest.algorithm and announced != digest:
        raise DigestMismatch(
            f"{subject} has the digest {digest}, but the registry reports {one_line(announced)}",
            expected=digest,
            actual=announced,
        )


def location(reply: Reply, otherwise: str | None = None) -> str:
    """The absolute URL of a reply's `Location`, which may be relative, without a fragment.

    Args:
        reply: the reply.
        otherwise: the URL to use if the header is missing.

    Raises:
        ResponseInvalid: the header is missing and `otherwise` is not given, or it is not a URL.
    """
    found = reply.headers.get("location") or otherwise
    if not found:
        raise ResponseInvalid(f"{redacted_url(reply.url)}: {reply.status} without a Location")
    # A fragment is never sent, and a query that is appended must not become a part of it.
    return resolve_url(reply.url, found).partition("#")[0]
