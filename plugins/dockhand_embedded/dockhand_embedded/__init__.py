"""A whole OCI registry in the process: driver `embedded`, or `Registry` by itself."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockhand_embedded.app import create_app
    from dockhand_embedded.protocol.messages import FileBody, Headers, Reply, Request
    from dockhand_embedded.protocol.registry import Limits, Registry
    from dockhand_embedded.storage.base import Storage
    from dockhand_embedded.storage.layout import LayoutStorage
    from dockhand_embedded.storage.memory import MemoryStorage
    from dockhand_embedded.transport import EmbeddedTransport

__all__ = [
    "EmbeddedTransport",
    "FileBody",
    "Headers",
    "LayoutStorage",
    "Limits",
    "MemoryStorage",
    "Registry",
    "Reply",
    "Request",
    "Storage",
    "create_app",
]

_HOMES = {
    "EmbeddedTransport": "transport",
    "FileBody": "protocol.messages",
    "Headers": "protocol.messages",
    "LayoutStorage": "storage.layout",
    "Limits": "protocol.registry",
    "MemoryStorage": "storage.memory",
    "Registry": "protocol.registry",
    "Reply": "protocol.messages",
    "Request": "protocol.messages",
    "Storage": "storage.base",
    "create_app": "app",
}


def __getattr__(name: str) -> object:
    """Load on use. Not by `dockhand_core.lazy`: pytest imports this package in every run, for the
    plugin with the fixture, and the core with it would be felt there."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
