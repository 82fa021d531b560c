"""Arguments that name an image of a registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dockhand_cli.exit_codes import UsageError

if TYPE_CHECKING:
    from dockhand_cli.session import Session
    from dockhand_core import RegistryClient

__all__ = ["ImagePlace", "digest_place", "image_place"]


@dataclass(frozen=True)
class ImagePlace:
    """An image of a registry, as an argument names it.

    Attributes:
        client: the client of the registry.
        repository: the repository's name at the registry.
        name: the repository as the argument writes it, such as `@staging/app`.
        tag: the tag that the argument states, or None.
        digest: the digest that the argument states, or None.
    """

    client: RegistryClient
    repository: str
    name: str
    tag: str | None
    digest: str | None

    @property
    def reference(self) -> str:
        """The digest, else the tag, else `latest`."""
        return self.digest or self.tag or "latest"

    @property
    def named_tag(self) -> str | None:
        """The tag, which is `latest` by default; None if only a digest is stated."""
        return self.tag or (None if self.digest else "latest")

    def __str__(self) -> str:
        return _text(self.name, self.named_tag, self.digest)

    def with_reference(self, tag: str | None, digest: str | None = None) -> str:
        """Write a tag and a digest of the same repository as an argument."""
        return _text(self.name, tag, digest)


def _text(name: str, tag: str | None, digest: str | None) -> str:
    return name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


def image_place(session: Session, text: str) -> ImagePlace:
    """Parse an argument that is an image.

    Raises:
        UsageError: it is a file.
        ReferenceInvalid: it is malformed.
        ConfigError: there is no such connection.
    """
    place = session.place(text)
    folder, slash, last = text.rpartition("/")
    last, _, digest = last.partition("@")
    last, _, tag = last.partition(":")
    return ImagePlace(
        place.client, place.repository, f"{folder}{slash}{last}", tag or None, digest or None
    )


def digest_place(session: Session, text: str) -> ImagePlace:
    """Parse an argument `REPOSITORY@DIGEST`.

    Raises:
        UsageError: it has no digest.
        ReferenceInvalid: it is malformed.
        ConfigError: there is no such connection.
    """
    place = image_place(session, text)
    if place.digest is None:
        raise UsageError(f"{text}: a digest is expected here, such as {place.name}@sha256:…")
    return place
