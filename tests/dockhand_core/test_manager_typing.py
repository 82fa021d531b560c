"""Static types: `connection()` has the type of the requested class; mypy checks this file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import assert_type

import pytest
from dockhand_distribution import AsyncDistributionClient, DistributionClient

from dockhand_core import (
    AsyncBlobReader,
    AsyncDockhand,
    AsyncRegistryClient,
    BlobReader,
    Descriptor,
    Dockhand,
    ImageConfig,
    ImageIndex,
    ImageManifest,
    ManifestHead,
    Page,
    PushResult,
    RegistryClient,
    Scope,
    Upload,
    async_connect,
    connect,
)

pytestmark = pytest.mark.usefixtures("clean")

CONFIG = {"connections": {"main": {"base_uri": "http://r"}}}


def test_connections_have_the_requested_type() -> None:
    dockhand = Dockhand(CONFIG)
    assert_type(dockhand.connection(), RegistryClient)
    assert_type(dockhand.connection("main"), RegistryClient)
    assert_type(dockhand.connection("main", DistributionClient), DistributionClient)
    assert_type(dockhand.connection(None, DistributionClient), DistributionClient)
    assert_type(connect("http://r"), RegistryClient)
    twin = AsyncDockhand(CONFIG)
    assert_type(twin.connection(), AsyncRegistryClient)
    assert_type(twin.connection("main"), AsyncRegistryClient)
    assert_type(twin.connection("main", AsyncDistributionClient), AsyncDistributionClient)
    assert_type(async_connect("http://r"), AsyncRegistryClient)
    with Dockhand(CONFIG) as inside:
        assert_type(inside, Dockhand)


def test_clients_of_the_other_kind_are_refused() -> None:
    dockhand = Dockhand(CONFIG)
    with pytest.raises(TypeError):
        dockhand.connection("main", AsyncDistributionClient)  # type: ignore[type-var]
    with pytest.raises(TypeError):
        AsyncDockhand(CONFIG).connection("main", DistributionClient)  # type: ignore[type-var]


def typed_operations(registry: RegistryClient, upload: Upload) -> None:
    """Use the operations so that mypy checks their types; nothing calls this function."""
    assert_type(registry.is_online(), bool)
    assert_type(registry.repositories(), Iterator[str])
    assert_type(registry.repository_page(), Page[str])
    assert_type(registry.tags("r"), Iterator[str])
    assert_type(registry.tag_page("r").items, tuple[str, ...])
    found = registry.manifest("r", "t")
    assert_type(found, ImageManifest | ImageIndex)
    if isinstance(found, ImageIndex):
        assert_type(found.find("linux/amd64"), Descriptor)
    assert_type(registry.image("r", "t"), ImageManifest)
    assert_type(registry.manifest_head("r", "t"), ManifestHead)
    assert_type(registry.put_manifest("r", "t", b""), PushResult)
    assert_type(registry.image_config("r", registry.image("r", "t")), ImageConfig)
    assert_type(registry.read_blob("r", "d"), bytes)
    assert_type(registry.open_blob("r", "d"), BlobReader)
    assert_type(registry.start_upload("r"), Upload)
    assert_type(registry.finish_upload(upload, "d"), PushResult)
    assert_type(registry.mount_blob("r", "d", "s"), PushResult | Upload)
    assert_type(registry.referrers("r", "d"), ImageIndex)


async def typed_async_operations(registry: AsyncRegistryClient) -> None:
    """Use the operations so that mypy checks their types; nothing calls this function."""
    assert_type(await registry.is_online(), bool)
    assert_type(registry.repositories(), AsyncIterator[str])
    assert_type(registry.tags("r"), AsyncIterator[str])
    assert_type(await registry.manifest("r", "t"), ImageManifest | ImageIndex)
    assert_type(await registry.image("r", "t"), ImageManifest)
    assert_type(registry.open_blob("r", "d"), AsyncBlobReader)
    assert_type(await registry.tag_page("r"), Page[str])


def test_parsed_scopes_are_typed() -> None:
    assert_type(Scope.parse("a:b:c"), Scope)
    assert_type(Scope.parse_many("a:b:c"), tuple[Scope, ...])
