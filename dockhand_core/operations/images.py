"""The manifest of an image for a platform, and a check whether content exists."""

from __future__ import annotations

from typing import Any

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import ManifestInvalid, NotFound
from dockhand_core.flow import Flow
from dockhand_core.models import Descriptor, ImageIndex, ImageManifest, Platform

__all__ = ["exists", "image"]


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
    platform: Platform | str,
) -> Flow[ImageManifest]:
    """Fetch the manifest of an image for a platform.

    If the reference is an index, the platform is searched for in it and in nested indexes, up to
    four levels in total.

    Raises:
        PlatformNotFound: an index has no manifest for the platform.
        ManifestInvalid: there are more than four levels of indexes.
    """
    wanted = Platform.parse(platform) if isinstance(platform, str) else platform
    document = yield from driver.manifest(repository, reference)
    for _ in range(4):
        if isinstance(document, ImageManifest):
            return document
        assert isinstance(document, ImageIndex)
        document = yield from driver.manifest(repository, document.find(wanted))
    if isinstance(document, ImageManifest):
        return document
    raise ManifestInvalid(f"repository {repository}: indexes within indexes, more than four deep")
