"""Event classes: one for each kind of event that registries send.

    RegistryBaseEvent           the fields of every event: id, time, action, repository, request
    ├── RegistryEvent           adds the fields media type, size, URL, tag and references
    │   ├── ManifestPushed, ManifestPulled, BlobPushed, BlobPulled, BlobMounted
    │   └── ImageLintFailed, ImageScanned                       (sent by zot only)
    ├── ManifestDeleted, BlobDeleted, TagDeleted, RepositoryDeleted
    └── RepositoryCreated                                       (sent by zot only)

Each class except the two base classes has a hook with its name: the hook of `ManifestPushed` is
`dockhand_manifest_pushed`.
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


# A field that may be absent: Distribution 2.8 omits its key, Distribution 3 writes "" instead.
Optional = Annotated[T | None, BeforeValidator(_empty_to_none)]
Name = Annotated[str, Field(min_length=1, max_length=1024)]


class RegistryBaseEvent(BaseModel):
    """The base of all events.

    An optional field is None if the registry omitted it or sent an empty string.

    Attributes:
        id: identifier that the registry gave to the event; the same if the event is sent again.
        timestamp: time of the event by the registry's clock, truncated to microseconds; the
            timestamp in `raw` may be more precise.
        action: the registry's name of the action. From Distribution: `push`, `pull`, `mount` or
            `delete`. From zot: the event type without `zotregistry.`, such as `image.updated`.
        digest: digest of the manifest or blob.
        repository: name of the repository.
        request_id: the registry's identifier of the request, as in the registry's log.
        request_addr: `host:port` of the client, or the address in the request's header
            `X-Forwarded-For`, which the registry does not verify.
        request_host: host in the URL that the client requested.
        request_method: HTTP method of the request. Distribution sends pull events for HEAD, too.
        request_user_agent: header `User-Agent` of the request.
        actor_name: name of the user, if the registry knows it.
        source_addr: address of the registry: `host:port` as Distribution states it, or the
            CloudEvents attribute `source` from zot.
        source_instance_id: identifier of the registry's process; it changes at each start.
        connection: name at the end of the URL that the notification was posted to, or None.
        raw: the event as the registry sent it, as JSON values.
        truncated: whether the event was too large (more than 1 MiB) or too deeply nested to keep
            its details: `raw` and `references` are empty then, and so is an optional field whose
            value was too large or too deep itself.
    """

    model_config = ConfigDict(frozen=True, defer_build=True, ser_json_inf_nan="constants")

    # The hook for events of this class only; `dockhand_event` is called with all events.
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
    truncated: bool = False

    def __hash__(self) -> int:
        return hash((type(self), self.id))


class RegistryEvent(RegistryBaseEvent):
    """The base of events with details of a manifest or blob.

    Attributes:
        media_type: media type of the manifest; for blobs always `application/octet-stream`.
        size: size of the manifest or blob in bytes.
        url: URL of the manifest or blob.
        tag: tag in the request; None if the request had a digest instead.
        references: descriptors of the blobs and manifests that the manifest references, as the
            registry wrote them. Distribution sends them only if its setting `includereferences`
            is on.
    """

    media_type: Optional[str] = None
    size: int | None = None
    url: Optional[str] = None
    tag: Optional[str] = None
    references: tuple[dict[str, Any], ...] = ()


class ManifestPushed(RegistryEvent):
    """A manifest or index was pushed.

    Distribution sends the event even if the repository already had the manifest, and before it
    writes the tag: for a moment, the tag may be missing, or that of another manifest. zot sends the
    event only if the push changed something.
    """

    hook = "dockhand_manifest_pushed"


class ManifestPulled(RegistryEvent):
    """A manifest or index was pulled, or requested with HEAD (see `request_method`)."""

    hook = "dockhand_manifest_pulled"


class BlobPushed(RegistryEvent):
    """A blob was pushed, even if the repository already had the blob."""

    hook = "dockhand_blob_pushed"


class BlobPulled(RegistryEvent):
    """A blob was requested with GET or HEAD (see `request_method`).

    The event does not show whether a GET request received the whole blob, a part of it, or nothing
    (status 304 or 416).
    """

    hook = "dockhand_blob_pulled"


class BlobMounted(RegistryEvent):
    """A blob was mounted from another repository of the same registry.

    Attributes:
        from_repository: name of the repository that the blob was mounted from.
    """

    hook = "dockhand_blob_mounted"

    from_repository: Optional[str] = None


class ManifestDeleted(RegistryBaseEvent):
    """A manifest or index was deleted by its digest.

    Distribution sends the same notification for a deleted blob. If the notification has a URL with
    `/blobs/` or the media type of blobs, Dockhand makes a `BlobDeleted`. If not, Dockhand makes a
    `ManifestDeleted`, because clients usually delete manifests. A handler can check with one
    request whether the manifest is gone.

    Distribution also sends a `TagDeleted` for each tag that pointed to the manifest, before or
    after this event. zot sends no `TagDeleted` then. zot's media type of the manifest is in `raw`.
    """

    hook = "dockhand_manifest_deleted"


class BlobDeleted(RegistryBaseEvent):
    """A blob was deleted.

    Most notifications of deleted blobs become a `ManifestDeleted` instead; that class explains why.
    """

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
    """A repository was created: zot does so at the first upload, mount or HEAD request."""

    hook = "dockhand_repository_created"


class ImageLintFailed(RegistryEvent):
    """zot refused a manifest because it lacks a mandatory annotation."""

    hook = "dockhand_image_lint_failed"


class ImageScanned(RegistryEvent):
    """zot scanned an image for vulnerabilities.

    zot scans every image again after each update of its database of vulnerabilities.

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
