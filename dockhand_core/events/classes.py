"""What registries tell of: a class for each thing that can have happened.

    RegistryBaseEvent           what it was about is gone, or is no more than a name
    ├── RegistryEvent           what it was about exists: media type, size, URL, tag, references
    │   ├── ManifestPushed, ManifestPulled, BlobPushed, BlobPulled, BlobMounted
    │   └── ImageLintFailed, ImageScanned                       zot
    ├── ManifestDeleted, BlobDeleted, TagDeleted, RepositoryDeleted
    └── RepositoryCreated                                       zot

Each class has a hook of its name in snake case: `ManifestPushed`, `dockhand_manifest_pushed`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from dockhand_core.models.digest import Digest

__all__ = [
    "EVENTS",
    "BlobDeleted",
    "BlobMounted",
    "BlobPulled",
    "BlobPushed",
    "ImageLintFailed",
    "ImageScanned",
    "ManifestDeleted",
    "ManifestPulled",
    "ManifestPushed",
    "RegistryBaseEvent",
    "RegistryEvent",
    "RepositoryCreated",
    "RepositoryDeleted",
    "TagDeleted",
]

T = TypeVar("T")


def _empty_is_absent(value: object) -> object:
    return None if value == "" else value


# Distribution 3 writes "" where 2.8 leaves the key out
Optional = Annotated[T | None, BeforeValidator(_empty_is_absent)]
Name = Annotated[str, Field(min_length=1, max_length=1024)]


class RegistryBaseEvent(BaseModel):
    """Something that happened in a registry.

    What the registry left out, or sent as an empty text, is None.

    Attributes:
        id: the registry's name of this event; the same each time that it is sent again.
        timestamp: when it happened, by the registry's clock; finer than microseconds only in `raw`.
        action: the registry's own word: Distribution's `push`, `pull`, `mount`, `delete`; of zot
            what its event type has behind `zotregistry.`, such as `image.updated`.
        digest: what it was about.
        repository: the repository's name.
        request_id: what the registry calls the request in its own log.
        request_addr: `host:port` of the client, or what it claims in `X-Forwarded-For`.
        request_host: the host that the client asked for.
        request_method: the request's method; a HEAD is a pull, too.
        request_user_agent: what the client calls itself.
        actor_name: who asked, where the registry knows.
        source_addr: `host:port` of the registry, as it sees itself; zot's event source.
        source_instance_id: changes when the registry is started anew.
        connection: the last part of the route by which it arrived, or None.
        raw: the event as the registry sent it, as JSON values.
    """

    model_config = ConfigDict(frozen=True, defer_build=True, ser_json_inf_nan="constants")

    # the hook that is called with it, beside `dockhand_event`
    hook: ClassVar[str | None] = None

    id: Name
    timestamp: AwareDatetime
    action: Name
    repository: Name
    digest: Optional[Digest] = None
    request_id: Optional[str] = None
    request_addr: Optional[str] = None
    request_host: Optional[str] = None
    request_method: Optional[str] = None
    request_user_agent: Optional[str] = None
    actor_name: Optional[str] = None
    source_addr: Optional[str] = None
    source_instance_id: Optional[str] = None
    connection: Optional[str] = None
    raw: dict[str, Any] = Field(default_factory=dict, repr=False)

    def __hash__(self) -> int:
        return hash((type(self), self.id))


class RegistryEvent(RegistryBaseEvent):
    """Something that happened to a manifest or blob that the registry has.

    Attributes:
        media_type: the manifest's; of blobs always `application/octet-stream`.
        size: bytes of the manifest or blob.
        url: where it can be had.
        tag: the tag that the request named; None where it named a digest.
        references: descriptors, as the registry wrote them, of what the manifest names;
            Distribution sends them where `includereferences` is on.
    """

    media_type: Optional[str] = None
    size: int | None = None
    url: Optional[str] = None
    tag: Optional[str] = None
    references: tuple[dict[str, Any], ...] = ()


class ManifestPushed(RegistryEvent):
    """A manifest or index was pushed, new or not. zot tells only of what changed something."""

    hook = "dockhand_manifest_pushed"


class ManifestPulled(RegistryEvent):
    """A manifest or index was read, or asked for with HEAD (see `request_method`)."""

    hook = "dockhand_manifest_pulled"


class BlobPushed(RegistryEvent):
    """A blob was pushed, new or not."""

    hook = "dockhand_blob_pushed"


class BlobPulled(RegistryEvent):
    """A blob was read, in whole, in part or not at all (304, 416, HEAD: see `request_method`)."""

    hook = "dockhand_blob_pulled"


class BlobMounted(RegistryEvent):
    """A blob came from another repository of the same registry.

    Attributes:
        from_repository: where it came from.
    """

    hook = "dockhand_blob_mounted"

    from_repository: Optional[str] = None


class ManifestDeleted(RegistryBaseEvent):
    """A manifest or index was deleted by its digest.

    Distribution describes a deleted blob in the same way, and nothing in the event tells the two
    apart. An event is a `BlobDeleted` where it says so (a URL below `/blobs/`, or the media type
    of blobs), and else a `ManifestDeleted`: manifests are what clients delete, and who acts on a
    manifest that is gone finds out with one request. Each tag that pointed to it has a
    `TagDeleted` of its own, before or after; zot sends none, and has the media type in `raw`.
    """

    hook = "dockhand_manifest_deleted"


class BlobDeleted(RegistryBaseEvent):
    """A blob was deleted; see `ManifestDeleted` for what can be known of it."""

    hook = "dockhand_blob_deleted"


class TagDeleted(RegistryBaseEvent):
    """A tag was deleted, by its name or along with the manifest that it pointed to.

    Attributes:
        tag: the tag.
    """

    hook = "dockhand_tag_deleted"

    tag: Name


class RepositoryDeleted(RegistryBaseEvent):
    """A repository was deleted."""

    hook = "dockhand_repository_deleted"


class RepositoryCreated(RegistryBaseEvent):
    """A repository came into being: zot tells of it at the first upload, mount or HEAD."""

    hook = "dockhand_repository_created"


class ImageLintFailed(RegistryEvent):
    """zot refused a manifest, as it lacks an annotation that is mandatory there."""

    hook = "dockhand_image_lint_failed"


class ImageScanned(RegistryEvent):
    """zot looked for vulnerabilities in an image; again after each update of its database.

    Attributes:
        summary: what it found, as it says it: `count`, `maxSeverity`, `criticalCount` …
    """

    hook = "dockhand_image_scanned"

    summary: dict[str, Any] = Field(default_factory=dict)


EVENTS: dict[str, type[RegistryBaseEvent]] = {
    kind.__name__: kind
    for kind in (
        ManifestPushed,
        ManifestPulled,
        BlobPushed,
        BlobPulled,
        BlobMounted,
        ManifestDeleted,
        BlobDeleted,
        TagDeleted,
        RepositoryDeleted,
        RepositoryCreated,
        ImageLintFailed,
        ImageScanned,
    )
}
