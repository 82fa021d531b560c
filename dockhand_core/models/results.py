"""Results of operations, such as pages of lists, manifest headers, pushes and uploads."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from dockhand_core.models.digest import Digest

__all__ = ["ApiVersion", "ManifestHead", "Page", "PushResult", "TagDetails", "Upload"]

T = TypeVar("T")


class _Result(BaseModel):
    """The base of all results, which are frozen and therefore hashable."""

    model_config = ConfigDict(defer_build=True, frozen=True)


class ApiVersion(_Result):
    """The version of a registry's API.

    Attributes:
        major: first number of the version.
        minor: second number of the version.
        header: the header `Docker-Distribution-Api-Version`, or None if the registry sends none;
            the OCI specification does not require it.
    """

    major: int = 2
    minor: int = 0
    header: str | None = None

    def __str__(self) -> str:
        return f"registry/{self.major}.{self.minor}"


class Page(_Result, Generic[T]):
    """One page of a list.

    Attributes:
        items: the items of the page.
        next: the argument `after` that requests the next page, or None on the last page.
    """

    items: tuple[T, ...]
    next: str | None = None

    _ahead: Page[T] | None = PrivateAttr(default=None)

    @property
    def has_more(self) -> bool:
        """Whether there is another page; if the registry announced it, it may be empty."""
        return self.next is not None

    @property
    def ahead(self) -> Page[T] | None:
        """The next page, if the driver has already fetched it; otherwise None.

        It may have more items than were asked for, such as all that remain.
        """
        return self._ahead

    def with_ahead(self, ahead: Page[T]) -> Self:
        """Set `ahead`, and return this page."""
        self._ahead = ahead
        return self

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Page):
            return NotImplemented
        return (self.items, self.next) == (other.items, other.next)

    def __hash__(self) -> int:
        return hash((self.items, self.next))


class ManifestHead(_Result):
    """The properties of a manifest that a HEAD request returns, without the manifest itself.

    Attributes:
        digest: digest of the manifest.
        size: size of the manifest in bytes.
        media_type: media type of the manifest.
    """

    digest: Digest
    size: int
    media_type: str


class PushResult(_Result):
    """The result of a push.

    Attributes:
        digest: digest of the blob or manifest.
        location: URL of the blob or manifest in the registry.
        uploaded: False if the repository already had the blob or it was mounted from another
            repository, so no content was sent.
    """

    digest: Digest
    location: str
    uploaded: bool = True


class TagDetails(_Result):
    """The properties of a tag that some registries know, beside those of a `ManifestHead`.

    Attributes:
        digest: digest of the manifest that the tag points to.
        pushed_at: time of the push, or None if the registry does not know it.
    """

    digest: Digest
    pushed_at: datetime | None = None


class Upload(_Result):
    """An unfinished upload of a blob.

    An upload can be written to JSON, and continued by another process.

    Attributes:
        repository: repository that receives the blob.
        location: URL of the next request. Its query may contain a secret that allows writing to
            the upload, so the repr omits the query.
        offset: number of bytes that the registry has received.
        min_chunk: minimum size in bytes of every chunk except the last; 0 if any size is allowed.
    """

    repository: str
    location: str
    offset: Annotated[int, Field(ge=0)] = 0
    min_chunk: Annotated[int, Field(ge=0)] = 0

    def __repr_args__(self) -> list[tuple[str | None, object]]:
        return [
            ("repository", self.repository),
            ("location", self.location.partition("?")[0]),
            ("offset", self.offset),
        ]
