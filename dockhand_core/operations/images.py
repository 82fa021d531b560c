"""The manifest of an image for a platform, and a check whether content exists."""

from __future__ import annotations

from typing import Any

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import ManifestInvalid, NotFound, PlatformNotFound
from dockhand_core.flow import Flow
from dockhand_core.models import Descriptor, Digest, ImageIndex, ImageManifest, Platform, media

__all__ = ["UNSTATED", "exists", "image"]


class _Unstated(str):
    """The default of `platform`, which `image` can tell from an equal string of a caller."""

    __slots__ = ()


UNSTATED = _Unstated("linux/amd64")
DEPTH = 4  # levels of nested indexes
FETCHES = 100  # manifests that one search fetches at most; a hostile index may list any number


def exists(flow: Flow[Any]) -> Flow[bool]:
    """Run a flow that requests content, and return whether the content exists.

    Args:
        flow: a flow that raises `NotFound` if the content does not exist.
    """
    try:
        yield from flow
    except NotFound:
        return False
    return True


def image(
    driver: RegistryDriver,
    repository: str,
    reference: str | Descriptor,
    platform: Platform | str | None,
) -> Flow[ImageManifest]:
    """Fetch the manifest of an image for a platform.

    If the reference is an index, the platform is searched for in it and in nested indexes, up to
    four levels in total. Entries that state a suitable platform are tried first, then those that
    state none, which are judged by the configs of their images, as containerd does.

    Args:
        driver: the registry driver.
        repository: the repository's name.
        reference: a tag, a digest, or a descriptor.
        platform: the platform; `UNSTATED` or None for linux/amd64 from an index, and for any single
            image.

    Raises:
        PlatformNotFound: the index has no manifest for the platform, or the single image has
            another platform.
        ManifestInvalid: there are more than four levels of indexes, or too many entries without a
            platform.
    """
    stated = platform is not None and not isinstance(platform, _Unstated)
    platform = UNSTATED if platform is None else platform
    wanted = platform if isinstance(platform, Platform) else Platform.parse(platform)
    document = yield from driver.manifest(repository, reference)
    search = _Search(driver, repository, wanted)
    if isinstance(document, ImageIndex):
        found = yield from search.in_index(document, DEPTH)
    elif not stated:
        return document
    else:
        found = yield from search.judge(document)
    if found is not None:
        return found[1]
    if search.missing is not None:
        raise search.missing
    where = f"repository {repository}"
    if not (document.is_index or search.offered):
        raise PlatformNotFound(f"{where}: the manifest is not an image, so it has no platform")
    kind = "index" if document.is_index else "image"
    raise PlatformNotFound(
        f"{where}: no manifest for {search.wanted}; the {kind} has: "
        f"{', '.join(search.offered) or 'none'}"
    )


class _Search:
    """The search for an image of a platform.

    Attributes:
        wanted: the platform.
        offered: the other platforms that were found.
        missing: the error for an entry without a platform that the registry does not have.
    """

    def __init__(self, driver: RegistryDriver, repository: str, wanted: Platform) -> None:
        self._driver, self._repository = driver, repository
        self.wanted = wanted
        self.offered: dict[str, None] = {}  # in order, each once
        self.missing: NotFound | None = None
        self._seen: set[Digest] = set()

    def judge(self, document: ImageManifest) -> Flow[tuple[int, ImageManifest] | None]:
        """Compare the platform in an image's config with the wanted one.

        Returns:
            how well the image suits (0 suits best) and the image; None if it does not suit.
        """
        if document.config.media_type not in media.IMAGE_CONFIGS:
            return None  # an artifact
        config = yield from self._driver.image_config(self._repository, document)
        rank = self._rank(config.platform)
        return None if rank is None else (rank, document)

    def _judge_entry(self, document: ImageManifest) -> Flow[tuple[int, ImageManifest] | None]:
        try:
            return (yield from self.judge(document))
        except ManifestInvalid:
            return None  # its config cannot be read, so another entry may suit

    def in_index(self, index: ImageIndex, depth: int) -> Flow[tuple[int, ImageManifest] | None]:
        """Search an index and the indexes in it; the result is that of `judge`."""
        stated: list[tuple[int, Descriptor]] = []
        unstated: list[Descriptor] = []
        for entry in index.manifests:
            if entry.platform is None:
                unstated.append(entry)
            elif (rank := self._rank(entry.platform)) is not None:
                stated.append((rank, entry))
        stated.sort(key=lambda pair: pair[0])
        for rank, entry in stated:
            document = yield from self._fetch(entry)
            if isinstance(document, ImageManifest):
                return rank, document
            found = yield from self._nested(document, depth)
            if found is not None:
                return found
        best: tuple[int, ImageManifest] | None = None
        for entry in unstated:
            if entry.artifact_type is not None:
                continue
            try:
                document = yield from self._fetch(entry)
                if isinstance(document, ImageManifest):
                    found = yield from self._judge_entry(document)
                else:
                    found = yield from self._nested(document, depth)
            except NotFound as error:
                self.missing = self.missing or error
                continue
            if found is not None and (best is None or found[0] < best[0]):
                best = found
            if best is not None and best[0] == 0:
                break
        return best

    def _rank(self, platform: Platform | None) -> int | None:
        if platform is None:
            return None
        rank = self.wanted.ranks([platform])[0]
        if rank is None and platform.os != "unknown":  # `unknown` is that of an attestation
            self.offered[str(platform)] = None
        return rank

    def _nested(
        self, document: ImageIndex | None, depth: int
    ) -> Flow[tuple[int, ImageManifest] | None]:
        if document is None:
            return None
        if depth == 1:
            raise ManifestInvalid(
                f"repository {self._repository}: indexes within indexes, more than {DEPTH} deep"
            )
        return (yield from self.in_index(document, depth - 1))

    def _fetch(self, entry: Descriptor) -> Flow[ImageManifest | ImageIndex | None]:
        """Fetch the manifest of an entry; return None if the search has fetched it before."""
        if entry.digest in self._seen:
            return None
        if len(self._seen) == FETCHES:
            raise ManifestInvalid(
                f"repository {self._repository}: no manifest for {self.wanted} among the first "
                f"{FETCHES} in the index; name the image by its digest"
            )
        self._seen.add(entry.digest)
        return (yield from self._driver.manifest(self._repository, entry))
