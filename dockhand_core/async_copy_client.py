"""The operations of the async client that copy images and make indexes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from dockhand_core.async_blob_client import AsyncBlobClient, copy_docstrings
from dockhand_core.copy_client import CopyClient, make_route
from dockhand_core.flow import Progress
from dockhand_core.flow.checks import described
from dockhand_core.models import BlobProgress, CopyResult, Descriptor, Platform, PushResult

# The operations are imported when they are used: most programs use few of them.
if TYPE_CHECKING:
    from dockhand_core.operations.copies.blob_transfer import Route
    from dockhand_core.operations.copies.copy import CopyArguments, TagCopies

__all__ = ["AsyncCopyClient"]


class AsyncCopyClient(AsyncBlobClient):
    """The base of `AsyncImageClient`, with the operations on images of one or two registries."""

    async def put_index(
        self,
        repository: str,
        reference: str | Descriptor,
        sources: Iterable[str | Descriptor],
        *,
        annotations: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> PushResult:
        from dockhand_core.operations.indexes import put_index

        return await self.run(
            put_index(
                self.driver,
                repository,
                reference,
                sources,
                annotations=annotations,
                media_type=media_type,
            )
        )

    async def copy(
        self,
        repository: str,
        reference: str | Descriptor,
        *,
        to: AsyncCopyClient | None = None,
        to_repository: str | None = None,
        to_reference: str | None = None,
        platforms: Iterable[Platform | str] | None = None,
        platform: Platform | str | None = None,
        referrers: bool = False,
        convert: str | None = None,
        concurrency: int = 8,
        progress: Progress | None = None,
        blob_progress: Callable[[BlobProgress], object] | None = None,
    ) -> CopyResult:
        from dockhand_core.operations.copies.copy import copy_image

        arguments: CopyArguments = {
            "platforms": platforms,
            "platform": platform,
            "referrers": referrers,
            "convert": convert,
            "concurrency": concurrency,
            "progress": progress,
            "blob_progress": blob_progress,
        }
        route = self._route(to, repository, to_repository)
        return await self.run(copy_image(route, reference, to_reference, arguments))

    def copy_tags(
        self,
        repository: str,
        *,
        to: AsyncCopyClient | None = None,
        to_repository: str | None = None,
        tags: Sequence[str] = ("*",),
        newest: int | None = None,
        platforms: Iterable[Platform | str] | None = None,
        platform: Platform | str | None = None,
        referrers: bool = False,
        convert: str | None = None,
        concurrency: int = 8,
        progress: Progress | None = None,
        blob_progress: Callable[[BlobProgress], object] | None = None,
    ) -> AsyncIterator[CopyResult]:
        from dockhand_core.operations.copies.copy import TagCopies

        arguments: CopyArguments = {
            "platforms": platforms,
            "platform": platform,
            "referrers": referrers,
            "convert": convert,
            "concurrency": concurrency,
            "progress": progress,
            "blob_progress": blob_progress,
        }
        route = self._route(to, repository, to_repository)
        return self._copied_tags(TagCopies(route, tags, newest, arguments))

    async def _copied_tags(self, copies: TagCopies) -> AsyncIterator[CopyResult]:
        await self.run(copies.prepare())
        while copies.more:
            for result in await self.run(copies.next_results()):
                yield result

    def _route(
        self, to: AsyncCopyClient | None, repository: str, to_repository: str | None
    ) -> Route:
        target = self if to is None else to
        if not isinstance(target, AsyncCopyClient):
            raise TypeError(f"copy: to has to be an AsyncRegistryClient, not {described(target)}")
        return make_route(self, target, repository, to_repository)


copy_docstrings(CopyClient, AsyncCopyClient)
