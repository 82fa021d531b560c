"""The progress of one blob in a transfer of several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from dockhand_core.models.digest import Digest
from dockhand_core.models.manifest import Descriptor

__all__ = ["BlobProgress", "BlobState"]

BlobState: TypeAlias = Literal["moving", "copied", "mounted", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class BlobProgress:
    """The progress of one blob, for a `blob_progress` function.

    A function is called with the state `moving` at most once for each block of bytes that was
    transferred, and then once with an outcome. A blob that is small, or that is not transferred,
    may have the outcome alone. `done` falls if the transfer of the blob begins again.

    Calls come one at a time, but of several blobs in turns, and perhaps from different threads.
    An exception that the function raises ends the operation and reaches its caller; the function is
    not called again.

    Attributes:
        blob: the blob's descriptor, with its media type, and the annotations of a layer.
        done: number of bytes that were transferred so far; of a blob that has come to its target,
            its size.
        state: `moving` while the bytes are transferred. The other states are outcomes: `copied`,
            the bytes were transferred; `mounted`, the registry took the blob from another of its
            repositories; `skipped`, the blob was there already, or is stored elsewhere; `failed`.
    """

    blob: Descriptor
    done: int
    state: BlobState

    @property
    def digest(self) -> Digest:
        """The blob's digest."""
        return self.blob.digest

    @property
    def size(self) -> int:
        """The blob's size in bytes."""
        return self.blob.size
