"""The async client, with the same operations as the sync client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from dockhand_core.async_blob_client import copy_docstrings
from dockhand_core.async_image_client import AsyncImageClient
from dockhand_core.client import RegistryClient
from dockhand_core.driver import ManifestData
from dockhand_core.errors import PluginError
from dockhand_core.flow import Flow
from dockhand_core.http.closing import noting
from dockhand_core.models import (
    ApiVersion,
    Descriptor,
    ImageConfig,
    ImageIndex,
    ImageManifest,
    ManifestHead,
    Page,
    Platform,
    PushResult,
)
from dockhand_core.operations import UNSTATED, exists, image
from dockhand_core.operations.page_cursor import PageCursor

__all__ = ["AsyncRegistryClient"]

T = TypeVar("T")


class AsyncRegistryClient(AsyncImageClient):
    """An async client for one registry, returned by `AsyncDockhand.connection` and `async_connect`.

    The methods have the same names, arguments and errors as those of `RegistryClient`. Methods that
    return a value are awaited; `tags`, `repositories` and `walk` are used in `async for`;
    `open_blob` and `blob_writer` are used in `async with`. The client requires asyncio, and may be
    used in several event loops.

    A subclass can name its sync counterpart: `class AsyncVaultClient(AsyncRegistryClient,
    twin=VaultClient)`. Methods without a docstring get that of the sync client. A public method
    that only one of the two classes has raises `PluginError` when the class is made.

    Follows: OCI Distribution Specification 1.1; each operation names its section.
    """

    def __init_subclass__(cls, twin: type[RegistryClient] | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if twin is not None:
            _check_twins(twin, cls)
            copy_docstrings(twin, cls)

    async def walk(self, fetch: Callable[[str | None], Flow[Page[T]]]) -> AsyncIterator[T]:
        cursor = PageCursor(fetch, self.driver.list_limit)
        while cursor.more:
            for item in await self.run(cursor.next_page()):
                yield item

    # -- the registry ----------------------------------------------------------------------

    async def is_online(self) -> bool:
        return await self.run(self.driver.is_online())

    async def ping(self) -> None:
        return await self.run(self.driver.ping())

    async def api_version(self) -> ApiVersion:
        return await self.run(self.driver.api_version())

    def repositories(self, *, page_size: int | None = None) -> AsyncIterator[str]:
        return self.walk(lambda a: self.driver.repository_page(limit=page_size, after=a))

    async def repository_page(self, *, limit: int = 10, after: str | None = None) -> Page[str]:
        return await self.run(self.driver.repository_page(limit=limit, after=after))

    def tags(self, repository: str, *, page_size: int | None = None) -> AsyncIterator[str]:
        return self.walk(lambda a: self.driver.tag_page(repository, limit=page_size, after=a))

    async def tag_page(
        self, repository: str, *, limit: int = 20, after: str | None = None
    ) -> Page[str]:
        return await self.run(self.driver.tag_page(repository, limit=limit, after=after))

    # -- manifests -------------------------------------------------------------------------

    async def manifest(
        self, repository: str, reference: str | Descriptor
    ) -> ImageManifest | ImageIndex:
        return await self.run(self.driver.manifest(repository, reference))

    async def image(
        self,
        repository: str,
        reference: str | Descriptor,
        *,
        platform: Platform | str | None = UNSTATED,
    ) -> ImageManifest:
        return await self.run(image(self.driver, repository, reference, platform))

    async def manifest_head(self, repository: str, reference: str | Descriptor) -> ManifestHead:
        return await self.run(self.driver.manifest_head(repository, reference))

    async def manifest_exists(self, repository: str, reference: str | Descriptor) -> bool:
        return await self.run(exists(self.driver.manifest_head(repository, reference)))

    async def put_manifest(
        self,
        repository: str,
        reference: str | Descriptor,
        manifest: ManifestData,
        *,
        media_type: str | None = None,
    ) -> PushResult:
        return await self.run(
            self.driver.put_manifest(repository, reference, manifest, media_type=media_type)
        )

    async def delete_manifest(self, repository: str, digest: str | Descriptor) -> None:
        return await self.run(self.driver.delete_manifest(repository, digest))

    async def delete_tag(self, repository: str, tag: str) -> None:
        return await self.run(self.driver.delete_tag(repository, tag))

    async def referrers(
        self, repository: str, digest: str | Descriptor, *, artifact_type: str | None = None
    ) -> ImageIndex:
        return await self.run(
            self.driver.referrers(repository, digest, artifact_type=artifact_type)
        )

    async def image_config(
        self, repository: str, manifest_or_descriptor: ImageManifest | Descriptor
    ) -> ImageConfig:
        return await self.run(self.driver.image_config(repository, manifest_or_descriptor))

    # -- the connection itself -------------------------------------------------------------

    async def reset(self) -> None:
        await self._runner.reset()

    async def close(self) -> None:
        await self._runner.close(self.driver)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with noting(error):
            await self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self._runner.endpoint.base}>"


def _check_twins(twin: type[RegistryClient], client: type[AsyncRegistryClient]) -> None:
    """Refuse a pair of client classes of which one has a public method that the other lacks."""
    sync = {name for name in dir(twin) if not name.startswith("_")} - {*dir(RegistryClient)}
    own = {name for name in dir(client) if not name.startswith("_")} - {*dir(AsyncRegistryClient)}
    for there, names, lacking in ((twin, sync - own, client), (client, own - sync, twin)):
        if names:
            raise PluginError(
                f"{lacking.__name__} lacks {', '.join(sorted(names))}, which {there.__name__} has; "
                "a sync and an async client have the same methods (a helper begins with `_`)"
            )


copy_docstrings(RegistryClient, AsyncRegistryClient)
