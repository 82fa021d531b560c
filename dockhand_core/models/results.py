"""What operations give back: pages, uploads, results."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from dockhand_core.models.digest import Digest

__all__ = ["ApiVersion", "ManifestHead", "Page", "PushResult", "Upload"]

T = TypeVar("T")


class _Result(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True)


class ApiVersion(_Result):
    """The registry's API.

    `header` is `Docker-Distribution-Api-Version`, or None where the registry sends none (the
    OCI specification does not ask for it).
    """

    major: int = 2
    minor: int = 0
    header: str | None = None

    def __str__(self) -> str:
        return f"registry/{self.major}.{self.minor}"


class Page(_Result, Generic[T]):
    """One page of a list; pass `next` as `after` to get the one that follows."""

    items: tuple[T, ...]
    next: str | None = None

    @property
    def has_more(self) -> bool:
        """Whether the registry announced another page (which may turn out to be empty)."""
        return self.next is not None


class ManifestHead(_Result):
    """What a registry says of a manifest without sending it; `size` in bytes."""

    digest: Digest
    size: int
    media_type: str


class PushResult(_Result):
    """What was pushed: its digest and where the registry keeps it.

    `uploaded` is False where the registry had the blob already and nothing was sent.
    """

    digest: Digest
    location: str
    uploaded: bool = True


class Upload(_Result):
    """An upload under way. It serialises to JSON, and another process can carry it on.

    Attributes:
        repository: where the blob goes.
        location: the URL that takes the next request. Whoever has it can write to the upload,
            so its query is left out of the repr.
        offset: bytes that the registry has.
        min_chunk: bytes that every chunk but the last must have, 0 where any size will do.
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
