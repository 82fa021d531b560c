"""Images: the manifest for a platform, and questions of existence."""

from __future__ import annotations

from typing import Any

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import ManifestInvalid, NotFound
from dockhand_core.flow import Flow
from dockhand_core.models import Descriptor, ImageIndex, ImageManifest, Platform

__all__ = ["exists", "image"]


def exists(flow: Flow[Any]) -> Flow[bool]:
    """Whether the content that a flow asks for exists.

    Args:
        flow: a flow that raises `NotFound` where it does not.
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
    """The manifest for a platform, through nested indexes, at most four deep.

    Raises:
        PlatformNotFound: an index has none for the platform.
        ManifestInvalid: the indexes are nested more deeply.
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
