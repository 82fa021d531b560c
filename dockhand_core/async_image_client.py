"""The operations of the async client on whole images: copies, archives, artifacts and retention."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dockhand_core.async_blob_client import AsyncBlobClient, copy_docstrings
from dockhand_core.image_client import ImageClient
from dockhand_core.models import Descriptor, PushResult
from dockhand_core.operations import put_index

__all__ = ["AsyncImageClient"]


class AsyncImageClient(AsyncBlobClient):
    """The base of `AsyncRegistryClient`, with the operations on whole images."""

    # -- copies ----------------------------------------------------------------------------

    async def put_index(
        self,
        repository: str,
        reference: str | Descriptor,
        sources: Iterable[str | Descriptor],
        *,
        annotations: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> PushResult:
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

    # -- archives --------------------------------------------------------------------------

    # -- artifacts -------------------------------------------------------------------------

    # -- retention -------------------------------------------------------------------------


copy_docstrings(ImageClient, AsyncImageClient)
