"""The operations of the async client on archives, artifacts and retention."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dockhand_core.async_blob_client import copy_docstrings
from dockhand_core.async_copy_client import AsyncCopyClient
from dockhand_core.flow import Progress
from dockhand_core.image_client import ImageClient
from dockhand_core.models import BlobProgress, Descriptor, Platform, PushResult

# The operations are imported when they are used: most programs use few of them.
if TYPE_CHECKING:
    from dockhand_core.operations.archives import ArchiveFormat
    from dockhand_core.operations.artifacts.files import ArtifactFile
    from dockhand_core.operations.artifacts.push import AnyFile
    from dockhand_core.operations.retention.apply import ItemDone
    from dockhand_core.operations.retention.plan import RetentionPlan, RetentionResult
    from dockhand_core.operations.retention.policy import RetentionPolicy

__all__ = ["AsyncImageClient"]


class AsyncImageClient(AsyncCopyClient):
    """The base of `AsyncRegistryClient`, with the operations on archives, artifacts, retention."""

    # -- archives --------------------------------------------------------------------------

    async def save_image(
        self,
        repository: str,
        reference: str | Descriptor,
        path: str | Path,
        *,
        format: ArchiveFormat = "oci-archive",  # noqa: A002
        platform: Platform | str | None = None,
        platforms: Sequence[Platform | str] | None = None,
        name: str | None = None,
        progress: Progress | None = None,
        blob_progress: Callable[[BlobProgress], object] | None = None,
    ) -> Descriptor:
        from dockhand_core.operations import archives

        return await self.run(
            archives.save_image(
                self.driver, repository, reference, Path(path), archive_format=format,
                platform=platform, platforms=platforms, name=name, progress=progress,
                blob_progress=blob_progress,
            )
        )  # fmt: skip

    async def load_image(
        self,
        path: str | Path,
        repository: str,
        reference: str | None = None,
        *,
        source: str | None = None,
        platforms: Sequence[Platform | str] | None = None,
        progress: Progress | None = None,
        blob_progress: Callable[[BlobProgress], object] | None = None,
    ) -> PushResult:
        from dockhand_core.operations import archives

        return await self.run(
            archives.load_image(
                self.driver, Path(path), repository, reference,
                source=source, platforms=platforms, progress=progress, blob_progress=blob_progress,
            )
        )  # fmt: skip

    # -- artifacts -------------------------------------------------------------------------

    async def push_artifact(
        self,
        repository: str,
        reference: str | Descriptor | None,
        files: Iterable[AnyFile],
        *,
        artifact_type: str | None = None,
        subject: str | Descriptor | None = None,
        annotations: Mapping[str, str] | None = None,
        config: ArtifactFile | None = None,
        progress: Progress | None = None,
        blob_progress: Callable[[BlobProgress], object] | None = None,
    ) -> PushResult:
        from dockhand_core.operations.artifacts.push import push_artifact

        return await self.run(
            push_artifact(
                self.driver,
                repository,
                reference,
                files,
                artifact_type=artifact_type,
                subject=subject,
                annotations=annotations,
                config=config,
                progress=progress,
                blob_progress=blob_progress,
            )
        )

    async def pull_artifact(
        self,
        repository: str,
        reference: str | Descriptor,
        folder: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        max_size: int | None = None,
        progress: Progress | None = None,
        blob_progress: Callable[[BlobProgress], object] | None = None,
    ) -> list[Path]:
        from dockhand_core.operations.artifacts.pull import pull_artifact

        return await self.run(
            pull_artifact(
                self.driver,
                repository,
                reference,
                folder,
                overwrite=overwrite,
                max_size=max_size,
                progress=progress,
                blob_progress=blob_progress,
            )
        )

    # -- retention -------------------------------------------------------------------------

    async def plan_retention(
        self,
        repository: str,
        policy: RetentionPolicy,
        *,
        progress: Progress | None = None,
    ) -> RetentionPlan:
        from dockhand_core.operations.retention.planning import plan_retention

        return await self.run(plan_retention(self.driver, repository, policy, progress))

    async def apply_retention(
        self,
        plan: RetentionPlan,
        *,
        progress: Progress | None = None,
        item_done: ItemDone | None = None,
    ) -> RetentionResult:
        from dockhand_core.operations.retention.apply import apply_retention

        return await self.run(apply_retention(self.driver, plan, progress, item_done))


copy_docstrings(ImageClient, AsyncImageClient)
