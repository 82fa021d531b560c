"""What needs nothing but the driver's contract."""

from __future__ import annotations

from typing import Any

from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import ManifestInvalid, NotFound
from dockhand_core.flow import Flow
from dockhand_core.models import Descriptor, ImageIndex, ImageManifest, Platform

__all__ = ["exists", "image"]


def exists(flow: Flow[Any]) -> Flow[bool]:
    """Whether what a flow asks for is there."""
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
    """The manifest for a platform, through as many indexes as there are (at most four)."""
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
