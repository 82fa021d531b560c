"""The operations of the sync client on whole images: copies, archives, artifacts and retention."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dockhand_core.blob_client import BlobClient
from dockhand_core.models import Descriptor, PushResult
from dockhand_core.operations import put_index

__all__ = ["ImageClient"]


class ImageClient(BlobClient):
    """The base of `RegistryClient`, with the operations on whole images."""

    # -- copies ----------------------------------------------------------------------------

    def put_index(
        self,
        repository: str,
        reference: str | Descriptor,
        sources: Iterable[str | Descriptor],
        *,
        annotations: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> PushResult:
        """Make an index of images that are in the repository, and push it.

        The platform of each entry is that in the image's config. A source that is an index is
        replaced by its entries, with their platforms and attestations; so are indexes in it, up to
        four levels. An image that is listed twice for the same platform becomes one entry.

        All sources are fetched before the push, so a missing source changes nothing.

        Args:
            repository: the repository's name.
            reference: the tag of the index; or its digest, which is checked.
            sources: tags, digests and descriptors of images and indexes, in the order of the
                entries. A descriptor with a platform is the entry as it is.
            annotations: annotations of the index, name to value.
            media_type: media type of the index: that of an OCI index, which is the default, or of a
                Docker manifest list, which has no annotations.

        Raises:
            ManifestUnknown: the repository does not have a source; the message names it.
            ManifestInvalid: there are no sources, a source or its config cannot be read, there are
                more than four levels of indexes, or `media_type` is not that of an index.
            ManifestBlobUnknown: an image that a source lists is missing, and the registry checks
                this.
            DigestMismatch: `reference` is a digest, but the index has another one.
            TypeError: `sources` is not a list of strings and descriptors.

        Follows: OCI Image Specification 1.1, "Image Index"; "Pushing Manifests".
        """
        return self.run(
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
