"""The driver `embedded`, used through the core's clients."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from dockhand_embedded.driver import EmbeddedDriver
from dockhand_embedded.hooks import dockhand_registry_drivers

from dockhand_core import BlobUnknown, ConfigError, Dockhand, async_connect, connect

QUIET = {"driver": "null"}


def test_hook_names_the_driver() -> None:
    module, _, name = dockhand_registry_drivers()["embedded"].partition(":")
    assert (module, name) == (EmbeddedDriver.__module__, EmbeddedDriver.__qualname__)


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_push_and_pull(kind: str, tmp_path: Path) -> None:
    root = ":memory:" if kind == "memory" else str(tmp_path / "registry")
    with connect(root, driver="embedded", logging=QUIET) as registry:
        pushed = registry.upload_blob("library/hello", b"hello")
        assert registry.read_blob("library/hello", pushed.digest) == b"hello"
        with pytest.raises(BlobUnknown):
            registry.read_blob("library/other", pushed.digest)
    assert (tmp_path / "registry").exists() == (kind == "folder")


def test_async_client() -> None:
    async def run() -> bytes:
        async with async_connect(":memory:", driver="embedded", logging=QUIET) as registry:
            pushed = await registry.upload_blob("a", b"hello" * 100_000)
            return await registry.read_blob("a", pushed.digest)

    assert asyncio.run(run()) == b"hello" * 100_000


def test_connections_with_the_same_folder_share_it(tmp_path: Path) -> None:
    memory = {"driver": "embedded", "root": ":memory:", "logging": QUIET}
    folder = {**memory, "root": str(tmp_path)}
    connections = {"m1": memory, "m2": memory, "f1": folder, "f2": folder}
    with Dockhand({"default": "m1", "connections": connections}) as dockhand:
        for first, second, shared in (("m1", "m2", False), ("f1", "f2", True)):
            digest = dockhand.connection(first).upload_blob("a", b"data").digest
            assert dockhand.connection(first).blob_exists("a", digest)
            assert dockhand.connection(second).blob_exists("a", digest) is shared


def test_root_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(ConfigError, match="root"):
        connect(str(path), driver="embedded", logging=QUIET)
