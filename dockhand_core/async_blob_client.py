"""The operations of the async client on blobs and uploads."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TypeVar

from dockhand_core.async_blob_io import AsyncBlobReader, AsyncBlobWriter
from dockhand_core.blob_client import READ_LIMIT, BlobClient
from dockhand_core.driver import AnyBlobData, RegistryDriver
from dockhand_core.flow import Flow, Progress
from dockhand_core.http.async_runner import AsyncRunner
from dockhand_core.models import Descriptor, PushResult, Upload

__all__ = ["AsyncBlobClient", "copy_docstrings"]

T = TypeVar("T")


class AsyncBlobClient:
    """The base of `AsyncRegistryClient`, with the operations on blobs and uploads."""

    def __init__(self, driver: RegistryDriver, runner: AsyncRunner, name: str = "default") -> None:
        self.driver = driver
        self.name = name
        self._runner = runner

    async def run(self, flow: Flow[T]) -> T:
        return await self._runner.run(flow)

    # -- blobs -----------------------------------------------------------------------------

    async def read_blob(
        self, repository: str, digest: str | Descriptor, *, max_size: int = READ_LIMIT
    ) -> bytes:
        return await self.run(self.driver.read_blob(repository, digest, max_size=max_size))

    def open_blob(
        self,
        repository: str,
        digest: str | Descriptor,
        *,
        offset: int = 0,
        verify: bool = True,
        max_size: int | None = None,
    ) -> AsyncBlobReader:
        return AsyncBlobReader(
            self._runner, self.driver, repository, digest, offset, verify, max_size
        )

    async def download_blob(
        self,
        repository: str,
        digest: str | Descriptor,
        path: str | Path,
        *,
        progress: Progress | None = None,
        max_size: int | None = None,
    ) -> Path:
        return await self.run(
            self.driver.download_blob(
                repository, digest, Path(path), progress=progress, max_size=max_size
            )
        )

    async def blob_size(self, repository: str, digest: str | Descriptor) -> int:
        return await self.run(self.driver.blob_size(repository, digest))

    async def blob_exists(self, repository: str, digest: str | Descriptor) -> bool:
        return await self.run(self.driver.blob_exists(repository, digest))

    async def delete_blob(self, repository: str, digest: str | Descriptor) -> None:
        return await self.run(self.driver.delete_blob(repository, digest))

    async def mount_blob(
        self, repository: str, digest: str | Descriptor, source: str
    ) -> PushResult | Upload:
        return await self.run(self.driver.mount_blob(repository, digest, source))

    # -- uploads ---------------------------------------------------------------------------

    async def upload_blob(
        self,
        repository: str,
        data: AnyBlobData,
        *,
        digest: str | None = None,
        progress: Progress | None = None,
    ) -> PushResult:
        return await self.run(
            self.driver.upload_blob(repository, data, digest=digest, progress=progress)
        )

    def blob_writer(self, repository: str) -> AsyncBlobWriter:
        return AsyncBlobWriter(self._runner, self.driver, repository)

    async def start_upload(self, repository: str) -> Upload:
        return await self.run(self.driver.start_upload(repository))

    async def upload_chunk(self, upload: Upload, data: bytes) -> Upload:
        return await self.run(self.driver.upload_chunk(upload, data))

    async def finish_upload(self, upload: Upload, digest: str) -> PushResult:
        return await self.run(self.driver.finish_upload(upload, digest))

    async def upload_status(self, upload: Upload) -> Upload:
        return await self.run(self.driver.upload_status(upload))

    async def cancel_upload(self, upload: Upload) -> None:
        return await self.run(self.driver.cancel_upload(upload))


def copy_docstrings(twin: type, client: type) -> None:
    """Copy the docstrings of a sync client's methods to those of its async counterpart.

    A method that has a docstring keeps it.
    """
    for name, method in vars(client).items():
        other = getattr(twin, name, None)
        if other is not None and not name.startswith("_") and inspect.isfunction(method):
            method.__doc__ = method.__doc__ or other.__doc__


copy_docstrings(BlobClient, AsyncBlobClient)
