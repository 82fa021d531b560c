"""The base class of registry drivers, with one method for each operation on a registry.

A plugin provides its driver through the hook `dockhand_registry_drivers`. Each method returns a
flow, a generator that yields the requests to send and does no I/O itself (see
`dockhand_core.flow`). Most drivers derive from `DistributionDriver`, which implements the OCI
specification, and override the operations that differ.
"""

from __future__ import annotations

import importlib
import secrets
from collections.abc import AsyncIterable, Awaitable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, NoReturn, TypeAlias, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from dockhand_core.errors import DockhandError, NotFound, Unsupported
from dockhand_core.flow import LIST_LIMIT, Flow, ListBudget, Progress, Reply, RetryPolicy, Source
from dockhand_core.models import (
    ApiVersion,
    Descriptor,
    ImageConfig,
    ImageIndex,
    ImageManifest,
    ManifestHead,
    Page,
    PushResult,
    TagDetails,
    Upload,
)

if TYPE_CHECKING:
    import httpx

    from dockhand_core.async_client import AsyncRegistryClient
    from dockhand_core.client import RegistryClient

__all__ = ["BlobData", "ManifestData", "RegistryDriver"]

T = TypeVar("T")

BlobData: TypeAlias = (
    bytes | bytearray | memoryview | str | Path | BinaryIO | Source | Iterable[bytes]
)
AnyBlobData: TypeAlias = BlobData | AsyncIterable[bytes]
ManifestData: TypeAlias = ImageManifest | ImageIndex | bytes | dict[str, Any]

_OBJECTS = 32 << 20  # bytes; the least limit on a list of objects, unless `list_limit` is lower
CHUNK = 8 << 20  # bytes; default size of an upload's chunks, of which one is kept in memory


class _CoreClient:
    """A client class of the core, which is imported when it is read from a driver's class.

    The clients import this module, so that it cannot import them.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __get__(self, driver: RegistryDriver | None, kind: type | None = None) -> Any:
        return getattr(importlib.import_module(self._module), self._name)


_CLIENT: Any = _CoreClient("dockhand_core.client", "RegistryClient")
_ASYNC_CLIENT: Any = _CoreClient("dockhand_core.async_client", "AsyncRegistryClient")


class RegistryDriver:
    """The base class of registry drivers; operations that are not overridden raise `Unsupported`.

    `RegistryClient` documents the operations, with their arguments and errors. Arguments named
    `digest` are `Digest`s or strings. A driver checks `repository`, `reference` and `digest` before
    it puts them into a URL, and raises `NameInvalid`, `TagInvalid` or `DigestInvalid`.

    Attributes:
        Settings: the model of the driver's own settings, which stand in the connection's table
            beside those of `ConnectionConfig`.
        name: the driver's name in the configuration; set when the connection is made.
        retry: the retry policy, with the connection's `retries`; set when the connection is made.
        list_limit: maximum size in bytes of all replies of one list; set when the connection is
            made.
        client, async_client: the client classes that `connection()` makes: by default, the core's
            `RegistryClient` and `AsyncRegistryClient`. A driver with additional operations sets
            subclasses here, with a method for each additional operation.
    """

    class Settings(BaseModel):
        """The settings of a driver for registries that are reached by URL."""

        model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)

        base_uri: str

    name: str = ""
    list_limit: int = LIST_LIMIT
    client: ClassVar[type[RegistryClient]] = _CLIENT
    async_client: ClassVar[type[AsyncRegistryClient]] = _ASYNC_CLIENT

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.retry = RetryPolicy()
        self.chunk_size = CHUNK

    @classmethod
    def base_uri(cls, settings: Any) -> str:
        """The registry's URL, with or without `/v2/`."""
        found: str = settings.base_uri
        return found

    @classmethod
    def transport(cls, settings: Any) -> httpx.BaseTransport | None:
        """A transport of the driver's own, which replaces network connections, or None.

        To support the async client, it must also be an `httpx.AsyncBaseTransport`. A transport that
        opens sockets applies the `AddressRule` in ``request.extensions[ADDRESSES]``, see the module
        `dockhand_core.http.addresses`.
        """
        return None

    def close(self) -> Flow[None] | Awaitable[None] | None:
        """Release the driver's own resources; called when its client is closed.

        It may be a flow, as the operations are, with `yield from call(…)`; it runs before the auth
        driver and the connection's sockets are closed. It may also be a plain function, which an
        async client calls in a thread, or a coroutine function, which a sync client refuses.
        """
        return None

    def identity(self) -> str:
        """A text that names the registry, for retention plans: by default, its normalised URL.

        Connections with the same text reach the same registry.
        """
        parts = urlsplit(type(self).base_uri(self.settings).strip())
        scheme, host = parts.scheme.lower(), parts.hostname or ""
        port = parts.port or {"http": 80, "https": 443}.get(scheme)
        path = parts.path.rstrip("/").removesuffix("/v2").rstrip("/")
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{path}"

    def _limited(self, flow: Flow[T], *, objects: bool = False) -> Flow[T]:
        """Run a flow that fetches a list, whose replies may have `list_limit` bytes in total.

        Args:
            flow: the flow.
            objects: whether the list consists of models instead of strings. In memory, models take
                about ten times the size of their JSON, so the replies of such a list may have only
                an eighth of `list_limit`, or 32 MiB if that is more.

        Raises:
            ResponseTooLarge: the replies exceed the limit; the message names the setting.
        """
        limit, advice = self.list_limit, "raise the connection's list_limit"
        if objects and limit > _OBJECTS:
            limit = max(_OBJECTS, limit // 8)
            advice += " (a list of objects may use an eighth of it, or 32 MiB if that is more)"
        return ListBudget(limit, advice).metered(flow)

    def _cannot(self, what: str) -> NoReturn:
        raise Unsupported(f"driver {self.name!r} cannot {what}")

    def ping(self) -> Flow[None]:
        """Check that the registry answers and accepts the connection's credentials."""
        self._cannot("ping")

    def is_online(self) -> Flow[bool]:
        """Whether the registry answers, even if it refuses the credentials."""
        self._cannot("ping")

    def api_version(self) -> Flow[ApiVersion]:
        """Fetch the version of the registry's API."""
        self._cannot("tell its version")

    def repository_page(self, *, limit: int | None, after: str | None) -> Flow[Page[str]]:
        """Fetch a page of repository names; if `limit` is None, the registry chooses the size."""
        self._cannot("list repositories")

    def tag_page(self, repository: str, *, limit: int | None, after: str | None) -> Flow[Page[str]]:
        """Fetch a page of tags; if `limit` is None, the registry chooses the size."""
        self._cannot("list tags")

    def manifest(
        self, repository: str, reference: str | Descriptor
    ) -> Flow[ImageManifest | ImageIndex]:
        """Fetch a manifest or index, and verify its bytes against its digest."""
        self._cannot("read manifests")

    def manifest_head(self, repository: str, reference: str | Descriptor) -> Flow[ManifestHead]:
        """Fetch the digest, size in bytes and media type of a manifest."""
        self._cannot("read manifests")

    def put_manifest(
        self,
        repository: str,
        reference: str | Descriptor,
        manifest: ManifestData,
        *,
        media_type: str | None,
    ) -> Flow[PushResult]:
        """Push a manifest or index; its bytes are sent unchanged."""
        self._cannot("push manifests")

    def delete_manifest(self, repository: str, digest: str | Descriptor) -> Flow[None]:
        """Delete a manifest and every tag that points to it."""
        self._cannot("delete manifests")

    def delete_tag(self, repository: str, tag: str) -> Flow[None]:
        """Delete a single tag; if the registry cannot, raise `Unsupported` and change nothing."""
        self._cannot("delete tags")

    def deletes_tags(self, repository: str) -> Flow[bool]:
        """Whether the registry can delete a single tag, for these credentials.

        By default, this is tried with a random tag that does not exist, so nothing can be changed.
        """
        try:
            yield from self.delete_tag(repository, f"dockhand-no-such-tag-{secrets.token_hex(16)}")
        except NotFound:
            return True
        except Unsupported:
            return False
        return True

    def tag_details(self, repository: str) -> Flow[dict[str, TagDetails]]:
        """Details of tags that their manifests do not have, such as push times; by default none.

        A driver that overrides this may leave out tags. The details decide the age of tags for
        retention and `copy_tags`.

        Returns:
            the details by tag.
        """
        return {}
        yield  # a flow, as all operations

    def manifest_page(
        self, repository: str, *, limit: int | None, after: str | None
    ) -> Flow[Page[str]]:
        """Fetch a page of the digests of all manifests of a repository, tagged or not."""
        self._cannot("list manifests")

    def referrers(
        self, repository: str, digest: str | Descriptor, *, artifact_type: str | None
    ) -> Flow[ImageIndex]:
        """Fetch the referrers of a manifest, as an index that lists them."""
        self._cannot("list referrers")

    def image_config(
        self, repository: str, source: ImageManifest | Descriptor
    ) -> Flow[ImageConfig]:
        """Fetch the configuration of an image."""
        self._cannot("read blobs")

    def open_blob(
        self,
        repository: str,
        digest: str | Descriptor,
        *,
        offset: int,
        max_size: int | None = None,
    ) -> Flow[Reply]:
        """Request a blob from byte `offset` on; the reply's body is left unread, for streaming."""
        self._cannot("read blobs")

    def read_blob(self, repository: str, digest: str | Descriptor, *, max_size: int) -> Flow[bytes]:
        """Read a whole blob into memory, and verify it against its digest."""
        self._cannot("read blobs")

    def download_blob(
        self,
        repository: str,
        digest: str | Descriptor,
        path: Path,
        *,
        progress: Progress | None,
        max_size: int | None = None,
    ) -> Flow[Path]:
        """Download a blob into a file, which appears only when it is complete and verified."""
        self._cannot("read blobs")

    def blob_size(self, repository: str, digest: str | Descriptor) -> Flow[int]:
        """Fetch the size of a blob in bytes."""
        self._cannot("read blobs")

    def blob_exists(self, repository: str, digest: str | Descriptor) -> Flow[bool]:
        """Whether a blob exists; by default, whether it has a size."""
        try:
            yield from self.blob_size(repository, digest)
        except NotFound:
            return False
        return True

    def delete_blob(self, repository: str, digest: str | Descriptor) -> Flow[None]:
        """Delete a blob from a repository."""
        self._cannot("delete blobs")

    def mount_blob(
        self, repository: str, digest: str | Descriptor, source: str
    ) -> Flow[PushResult | Upload]:
        """Mount a blob from the repository `source`; if that fails, begin an upload of the blob."""
        self._cannot("mount blobs")

    def upload_blob(
        self,
        repository: str,
        data: AnyBlobData,
        *,
        digest: str | None,
        progress: Progress | None,
    ) -> Flow[PushResult]:
        """Upload a blob."""
        self._cannot("upload blobs")

    def blob_exists_for_push(self, repository: str, digest: str | Descriptor) -> Flow[bool]:
        """Whether a repository has a blob, so that it need not be uploaded.

        Override it if the registry has a better way than `blob_exists`, such as a request that
        makes the blob of another repository available.
        """
        return (yield from self.blob_exists(repository, digest))

    def send_blob(
        self,
        repository: str,
        source: Source,
        *,
        digest: str,
        upload: Upload | None = None,
        progress: Progress | None = None,
    ) -> Flow[PushResult]:
        """Upload a blob whose digest is known, without asking whether the repository has it.

        By default, `upload` is cancelled, and `upload_blob` is called, which may ask. A driver that
        overrides it verifies the bytes of the source against the digest.

        Args:
            repository: the repository's name.
            source: the bytes of the blob.
            digest: the blob's digest.
            upload: an upload without bytes to continue, as `mount_blob` returns it; or None.
            progress: called as by `upload_blob`.
        """
        if upload is not None:
            with suppress(DockhandError):
                yield from self.cancel_upload(upload)
        return (yield from self.upload_blob(repository, source, digest=digest, progress=progress))

    def start_upload(self, repository: str) -> Flow[Upload]:
        """Begin an upload of a blob."""
        self._cannot("upload blobs")

    def upload_chunk(self, upload: Upload, data: bytes) -> Flow[Upload]:
        """Send the next bytes of an upload, and return its new state."""
        self._cannot("upload blobs")

    def finish_upload(self, upload: Upload, digest: str) -> Flow[PushResult]:
        """Finish an upload: the registry verifies the digest and stores the blob."""
        self._cannot("upload blobs")

    def upload_status(self, upload: Upload) -> Flow[Upload]:
        """Fetch the state of an upload from the registry."""
        self._cannot("upload blobs")

    def cancel_upload(self, upload: Upload) -> Flow[None]:
        """Cancel an upload; the registry deletes the bytes that it has received."""
        self._cannot("upload blobs")
