"""Event classes: one for each kind of event that registries send.

    RegistryBaseEvent           the target is gone, or is a repository
    ├── RegistryEvent           the target exists: media type, size, URL, tag, references
    │   ├── ManifestPushed, ManifestPulled, BlobPushed, BlobPulled, BlobMounted
    │   └── ImageLintFailed, ImageScanned                       zot
    ├── ManifestDeleted, BlobDeleted, TagDeleted, RepositoryDeleted
    └── RepositoryCreated                                       zot

Each class has a hook named after it: `ManifestPushed` has `dockhand_manifest_pushed`.
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


def _empty_to_none(value: object) -> object:
    return None if value == "" else value


# Distribution 3 writes "" where 2.8 leaves the key out
Optional = Annotated[T | None, BeforeValidator(_empty_to_none)]
Name = Annotated[str, Field(min_length=1, max_length=1024)]


class RegistryBaseEvent(BaseModel):
    """The base of all events.

    An optional field is None if the registry omitted it or sent an empty string.

    Attributes:
        id: identifier of the event, given by the registry; the same each time it is sent again.
        timestamp: time of the event by the registry's clock, cut to microseconds; `raw` may have a
            finer one.
        action: the registry's name of the action: Distribution's `push`, `pull`, `mount`,
            `delete`; for zot its event type without `zotregistry.`, such as `image.updated`.
        digest: digest of the target.
        repository: name of the repository.
        request_id: the registry's identifier of the request, as in its own log.
        request_addr: `host:port` of the client, or the address that it claims in
            `X-Forwarded-For`.
        request_host: host that the client requested.
        request_method: HTTP method of the request; a HEAD counts as a pull, too.
        request_user_agent: User-Agent of the client.
        actor_name: name of the user, if the registry knows it.
        source_addr: `host:port` of the registry, by its own account; for zot the event source.
        source_instance_id: identifier of the registry's process; it changes at each start.
        connection: last part of the route by which the event arrived, or None.
        raw: the event as the registry sent it, as JSON values.
    """

    model_config = ConfigDict(frozen=True, defer_build=True, ser_json_inf_nan="constants")

    # the hook that handles events of this class, beside `dockhand_event`
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
    """The base of events about a manifest or blob that the registry has.

    Attributes:
        media_type: media type of the manifest; for blobs always `application/octet-stream`.
        size: size of the manifest or blob in bytes.
        url: URL of the manifest or blob.
        tag: tag in the request; None if the request named a digest.
        references: descriptors of the content that the manifest references, as the registry
            wrote them; Distribution sends them if `includereferences` is on.
    """

    media_type: Optional[str] = None
    size: int | None = None
    url: Optional[str] = None
    tag: Optional[str] = None
    references: tuple[dict[str, Any], ...] = ()


class ManifestPushed(RegistryEvent):
    """A manifest or index was pushed, new or not; zot sends only pushes that changed something."""

    hook = "dockhand_manifest_pushed"


class ManifestPulled(RegistryEvent):
    """A manifest or index was pulled, or requested with HEAD (see `request_method`)."""

    hook = "dockhand_manifest_pulled"


class BlobPushed(RegistryEvent):
    """A blob was pushed, new or not."""

    hook = "dockhand_blob_pushed"


class BlobPulled(RegistryEvent):
    """A blob was pulled in whole, in part or not at all (304, 416, or HEAD in `request_method`)."""

    hook = "dockhand_blob_pulled"


class BlobMounted(RegistryEvent):
    """A blob was mounted from another repository of the same registry.

    Attributes:
        from_repository: name of the other repository.
    """

    hook = "dockhand_blob_mounted"

    from_repository: Optional[str] = None


class ManifestDeleted(RegistryBaseEvent):
    """A manifest or index was deleted by its digest.

    Distribution sends the same event for a deleted blob. An event is a `BlobDeleted` only if it
    has a URL below `/blobs/` or the media type of blobs. Every other one is a `ManifestDeleted`,
    because clients usually delete manifests, and a handler can check with one request whether the
    manifest is gone. Distribution sends a `TagDeleted` for each tag that pointed to the manifest,
    before or after this event. zot sends none, and has the media type in `raw`.
    """

    hook = "dockhand_manifest_deleted"


class BlobDeleted(RegistryBaseEvent):
    """A blob was deleted; most such events arrive as `ManifestDeleted`, see there."""

    hook = "dockhand_blob_deleted"


class TagDeleted(RegistryBaseEvent):
    """A tag was deleted, by its name or along with the manifest that it pointed to.

    Attributes:
        tag: name of the tag.
    """

    hook = "dockhand_tag_deleted"

    tag: Name


class RepositoryDeleted(RegistryBaseEvent):
    """A repository was deleted."""

    hook = "dockhand_repository_deleted"


class RepositoryCreated(RegistryBaseEvent):
    """A repository was created: zot sends this at the first upload, mount or HEAD."""

    hook = "dockhand_repository_created"


class ImageLintFailed(RegistryEvent):
    """zot refused a manifest because it lacks a mandatory annotation."""

    hook = "dockhand_image_lint_failed"


class ImageScanned(RegistryEvent):
    """zot scanned an image for vulnerabilities; it scans again after each update of its database.

    Attributes:
        summary: result of the scan, as zot wrote it: `count`, `maxSeverity`, `criticalCount` …
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
