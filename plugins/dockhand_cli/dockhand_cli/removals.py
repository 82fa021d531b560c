"""Deletions of tags and manifests, with everything that goes with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from dockhand_cli.exit_codes import CommandFailed, UsageError
from dockhand_cli.image_places import image_place
from dockhand_cli.tag_digests import tag_heads

if TYPE_CHECKING:
    from dockhand_cli.session import Session
    from dockhand_core import RegistryClient
    from dockhand_core.models import ManifestHead

__all__ = ["Lookup", "Removal", "delete", "parse_removal"]

Progress: TypeAlias = Callable[[int, int | None], object]


@dataclass
class Removal:
    """A tag or a manifest that is to be deleted.

    Attributes:
        text: the argument.
        client: the client of the registry.
        repository: the repository's name.
        tag: the tag that goes alone; None for a manifest with all of its tags.
        digest: the digest; of a tag, the one that it points to, or has to.
        tags: the tags that go.
        other_tags: the other tags of a tag's digest, which stay; None if they were not looked up.
        indexes: the tags of indexes that list the manifest.
        referrers: the number of referrers of the manifest, which stay.
        error: the error of the lookup or the deletion.
        deleted: whether it was deleted.
    """

    text: str
    client: RegistryClient
    repository: str
    tag: str | None
    digest: str | None
    tags: list[str] = field(default_factory=list)
    other_tags: list[str] | None = None
    indexes: list[str] = field(default_factory=list)
    referrers: int = 0
    error: Exception | None = None
    deleted: bool = False


def parse_removal(session: Session, text: str) -> Removal:
    """Find the place of an argument, which has to name a tag or a digest.

    Raises:
        UsageError: the argument names neither.
        ReferenceInvalid: it is not a reference.
        ConfigError: there is no such connection.
    """
    place = image_place(session, text)
    if not (place.tag or place.digest):
        raise UsageError(
            f"{text}: a tag or a digest has to be given, such as {text}:v1; a repository is never "
            "deleted as a whole"
        )
    return Removal(text, place.client, place.repository, place.tag, place.digest)


class Lookup:
    """Looks up the tags that go with deletions, and those that stay; a repository is read once.

    Args:
        progress: called with the number of tags that were looked at, and their number.
        relatives: of a tag, also look up the other tags of its digest, with a request each.
    """

    def __init__(self, progress: Progress, *, relatives: bool = True) -> None:
        self._progress, self._relatives = progress, relatives
        self._heads: dict[tuple[RegistryClient, str], dict[str, ManifestHead]] = {}

    def complete(self, removal: Removal) -> None:
        """Complete a deletion.

        Raises:
            NotFound: there is no such tag or manifest.
            CommandFailed: the tag points to another digest than the argument says.
        """
        from dockhand_core.errors import RegistryError

        client, repository = removal.client, removal.repository
        head = client.manifest_head(repository, removal.tag or removal.digest or "")
        if removal.digest is not None and head.digest != removal.digest:
            raise CommandFailed(
                f"{removal.text}: the tag points to {head.digest} now; it was not deleted"
            )
        removal.digest = head.digest
        if removal.tag is None:
            heads = self._heads_of(removal)
            removal.tags = [tag for tag, each in heads.items() if each.digest == head.digest]
            removal.indexes = _indexes(client, repository, heads, head.digest)
            removal.referrers = _referrers(client, repository, head.digest)
            return
        removal.tags = [removal.tag]
        if self._relatives:
            try:
                heads = self._heads_of(removal)
            except RegistryError:  # such as that these credentials may not list tags
                return
            same = [tag for tag, each in heads.items() if each.digest == head.digest]
            removal.other_tags = [tag for tag in same if tag != removal.tag]

    def _heads_of(self, removal: Removal) -> dict[str, ManifestHead]:
        key = removal.client, removal.repository
        if key not in self._heads:
            self._heads[key] = tag_heads(*key, self._progress)
        return self._heads[key]


def _referrers(client: RegistryClient, repository: str, digest: str) -> int:
    """The number of referrers of a manifest."""
    from dockhand_core.errors import NotFound, Unsupported

    try:
        return len(client.referrers(repository, digest).manifests)
    except (NotFound, Unsupported):
        return 0


def _indexes(
    client: RegistryClient, repository: str, heads: dict[str, ManifestHead], digest: str
) -> list[str]:
    """The tags of the indexes that list a manifest; each index is read once."""
    from dockhand_core import ImageIndex
    from dockhand_core.errors import NotFound
    from dockhand_core.models import media

    lists: dict[str, bool] = {}
    for head in heads.values():
        if head.media_type in media.INDEXES and head.digest not in lists:
            try:
                index = client.manifest(repository, head.digest)
            except NotFound:
                continue
            lists[head.digest] = isinstance(index, ImageIndex) and any(
                entry.digest == digest for entry in index.manifests
            )
    return [tag for tag, head in heads.items() if lists.get(head.digest)]


def delete(removal: Removal, progress: Progress, *, again: bool) -> None:
    """Delete the tag, or the manifest with the tags that were shown.

    Args:
        removal: the deletion, after `Lookup.complete`.
        progress: called with the number of tags that were looked at, and their number.
        again: look again first at the tags of a manifest, because time has passed since.

    Raises:
        Unsupported: the registry cannot delete it.
        CommandFailed: a tag has moved, or was added since.
    """
    from dockhand_core.errors import Denied, NotFound, Unsupported

    client, repository = removal.client, removal.repository
    assert removal.digest is not None
    if again or removal.tag is not None:  # of a tag, this is a single request
        _check_unchanged(removal, progress)
    if removal.tag is not None:
        try:
            client.delete_tag(repository, removal.tag)
        except Unsupported as error:
            name = removal.text.removesuffix(f"@{removal.digest}").removesuffix(f":{removal.tag}")
            raise CommandFailed(
                f"{removal.text}: this registry deletes no tag alone; the manifest and all of its "
                f"tags are deleted with: dockhand rm {name}@{removal.digest}"
            ) from error
        removal.deleted = True
        return
    try:
        client.delete_manifest(repository, removal.digest)
    except (Denied, Unsupported) as error:
        if not removal.indexes:
            raise
        # zot answers 405 with the code DENIED
        raise error.with_hint(
            "the registry may keep it for the index that lists it; first delete "
            + ", ".join(f"{repository}:{tag}" for tag in removal.indexes)
        ) from error
    removal.deleted = True
    for tag in removal.tags:
        # the registry of `crane registry serve` keeps the tags of a deleted manifest
        try:
            if client.manifest_head(repository, tag).digest == removal.digest:
                client.delete_tag(repository, tag)
        except NotFound:
            pass


def _check_unchanged(removal: Removal, progress: Progress) -> None:
    """Raise an error if other tags would go than were shown."""
    if removal.tag is not None:
        found = removal.client.manifest_head(removal.repository, removal.tag).digest
        if found != removal.digest:
            raise CommandFailed(
                f"{removal.text}: the tag points to {found} now; it was not deleted"
            )
        return
    heads = tag_heads(removal.client, removal.repository, progress)
    for tag, head in heads.items():
        if head.digest == removal.digest and tag not in removal.tags:
            raise CommandFailed(
                f"{removal.text}: the tag {tag!r} was added meanwhile; it was not deleted"
            )
