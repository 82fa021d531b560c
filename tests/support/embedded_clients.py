"""Sync and async clients of an embedded registry, for tests that run with both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dockhand_testing.blocking import BlockingLoop, as_blocking

from dockhand_core import RegistryClient, async_connect, connect


@contextmanager
def embedded_client(mode: str, root: Path | str) -> Iterator[RegistryClient]:
    """Connect to an embedded registry in a folder.

    Args:
        mode: `sync` or `async`; an async client is wrapped, and is used like a sync one.
        root: the folder.
    """
    settings: dict[str, Any] = {"driver": "embedded", "logging": {"driver": "null"}}
    loop = BlockingLoop()
    client = (
        connect(str(root), **settings)
        if mode == "sync"
        else as_blocking(loop, async_connect(str(root), **settings))
    )
    try:
        yield client
    finally:
        client.close()
        loop.close()
