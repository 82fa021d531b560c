"""The contract of registry drivers: each operation as a flow.

A driver is a class of a plugin, announced through the hook `dockhand_registry_drivers`. Its flows
say which requests to send, and do no I/O: see `dockhand_core.flow`. A driver for another kind of
registry usually derives from the one for the OCI specification, and overrides what differs.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, NoReturn, TypeAlias

from pydantic import BaseModel, ConfigDict

from dockhand_core.errors import Unsupported
from dockhand_core.flow import Flow, Progress, Reply, RetryPolicy
from dockhand_core.models import (
    ApiVersion,
    Descriptor,
    ImageConfig,
    ImageIndex,
    ImageManifest,
    ManifestHead,
    Page,
    PushResult,
    Upload,
)

if TYPE_CHECKING:
    import httpx

    from dockhand_core.async_client import AsyncRegistryClient
    from dockhand_core.client import RegistryClient

__all__ = ["BlobData", "ManifestData", "RegistryDriver"]

BlobData: TypeAlias = bytes | bytearray | memoryview | str | Path | BinaryIO | Iterable[bytes]
AnyBlobData: TypeAlias = BlobData | AsyncIterable[bytes]
ManifestData: TypeAlias = ImageManifest | ImageIndex | bytes | dict[str, Any]

CHUNK = 8 << 20  # bytes of an upload that are held in memory, so that they can be sent again


class RegistryDriver:
    """The contract between clients and drivers.

    Attributes:
        Settings: the keys of the connection's table beside the core's own.
        name: the driver's name, as connections give it; set when the connection is made.
        retry: the retry policy of transfers; its limit is the connection's `retries`.
        client, async_client: the classes that `connection()` gives. A driver with operations of
            its own brings subclasses of the core's, with a line for each operation.

    Arguments named `digest` are `Digest`s or their text; `repository`, `reference` and `digest`
    are checked before they reach a URL (`NameInvalid`, `TagInvalid`, `DigestInvalid`).
    """

    class Settings(BaseModel):
        """The settings of a driver for registries behind a URL."""

        model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)

        base_uri: str

    name: str = ""
    client: ClassVar[type[RegistryClient]]
    async_client: ClassVar[type[AsyncRegistryClient]]

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.retry = RetryPolicy()

    @classmethod
    def base_uri(cls, settings: Any) -> str:
        """The registry's URL, with or without `/v2/`."""
        found: str = settings.base_uri
        return found

    @classmethod
    def transport(cls, settings: Any) -> httpx.BaseTransport | None:
        """A transport of the driver's own in place of sockets, or None.

        For the async client it must be an `httpx.AsyncBaseTransport` too.
        """
        return None

    def close(self) -> Awaitable[None] | None:
        """Release resources of the driver's own; called when its client is closed.

        For the async client it may be a coroutine function.
        """
        return None

    def _cannot(self, what: str) -> NoReturn:
        raise Unsupported(f"driver {self.name!r} cannot {what}")

    def ping(self) -> Flow[None]:
        """Return if a registry answers and accepts the credentials."""
        self._cannot("ping")

    def is_online(self) -> Flow[bool]:
        """Whether a registry answers; one that refuses the credentials is online, too."""
        self._cannot("ping")

    def api_version(self) -> Flow[ApiVersion]:
        """The version of the API."""
        self._cannot("tell its version")

    def repository_page(self, *, limit: int | None, after: str | None) -> Flow[Page[str]]:
        """A page of repositories; `limit` None leaves the page's size to the registry."""
        self._cannot("list repositories")

    def tag_page(self, repository: str, *, limit: int | None, after: str | None) -> Flow[Page[str]]:
        """A page of tags; `limit` None leaves the page's size to the registry."""
        self._cannot("list tags")

    def manifest(
        self, repository: str, reference: str | Descriptor
    ) -> Flow[ImageManifest | ImageIndex]:
        """A manifest or index, checked against its digest."""
        self._cannot("read manifests")

    def manifest_head(self, repository: str, reference: str | Descriptor) -> Flow[ManifestHead]:
        """Digest, size and media type of a manifest."""
        self._cannot("read manifests")

    def put_manifest(
        self, repository: str, reference: str, manifest: ManifestData, *, media_type: str | None
    ) -> Flow[PushResult]:
        """Push a manifest, its bytes unchanged."""
        self._cannot("push manifests")

    def delete_manifest(self, repository: str, digest: str) -> Flow[None]:
        """Delete a manifest and every tag of it."""
        self._cannot("delete manifests")

    def delete_tag(self, repository: str, tag: str) -> Flow[None]:
        """Delete a tag and nothing else, or raise Unsupported with nothing changed."""
        self._cannot("delete tags")

    def referrers(
        self, repository: str, digest: str, *, artifact_type: str | None
    ) -> Flow[ImageIndex]:
        """The referrers of a manifest."""
        self._cannot("list referrers")

    def image_config(
        self, repository: str, source: ImageManifest | Descriptor
    ) -> Flow[ImageConfig]:
        """The configuration of an image."""
        self._cannot("read blobs")

    def open_blob(self, repository: str, digest: str, *, offset: int) -> Flow[Reply]:
        """A streamed reply whose body is the blob from `offset` on."""
        self._cannot("read blobs")

    def read_blob(self, repository: str, digest: str, *, max_size: int) -> Flow[bytes]:
        """A whole blob in memory, checked against its digest."""
        self._cannot("read blobs")

    def download_blob(
        self, repository: str, digest: str, path: Path, *, progress: Progress | None
    ) -> Flow[Path]:
        """A blob into a file that appears when it is whole and verified."""
        self._cannot("read blobs")

    def blob_size(self, repository: str, digest: str) -> Flow[int]:
        """A blob's size in bytes."""
        self._cannot("read blobs")

    def delete_blob(self, repository: str, digest: str) -> Flow[None]:
        """Delete a blob from a repository."""
        self._cannot("delete blobs")

    def mount_blob(self, repository: str, digest: str, source: str) -> Flow[PushResult | Upload]:
        """Mount a blob from another repository, or begin an upload of it."""
        self._cannot("mount blobs")

    def upload_blob(
        self,
        repository: str,
        data: AnyBlobData,
        *,
        digest: str | None,
        progress: Progress | None,
    ) -> Flow[PushResult]:
        """Upload a blob, in the way that suits its source."""
        self._cannot("upload blobs")

    def start_upload(self, repository: str) -> Flow[Upload]:
        """Begin an upload."""
        self._cannot("upload blobs")

    def upload_chunk(self, upload: Upload, data: bytes) -> Flow[Upload]:
        """Add bytes to an upload."""
        self._cannot("upload blobs")

    def finish_upload(self, upload: Upload, digest: str) -> Flow[PushResult]:
        """Finish an upload: the registry verifies the digest and stores the blob."""
        self._cannot("upload blobs")

    def upload_status(self, upload: Upload) -> Flow[Upload]:
        """The state of an upload, as the registry reports it."""
        self._cannot("upload blobs")

    def cancel_upload(self, upload: Upload) -> Flow[None]:
        """Cancel an upload."""
        self._cannot("upload blobs")
