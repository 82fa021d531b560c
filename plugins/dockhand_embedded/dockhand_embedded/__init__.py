"""An OCI registry inside the process: the driver `embedded`, or the class `Registry` alone."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockhand_embedded.app import create_app
    from dockhand_embedded.protocol.messages import (
        FileBody,
        Headers,
        RegistryReply,
        RegistryRequest,
    )
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
    "RegistryReply",
    "RegistryRequest",
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
    "RegistryReply": "protocol.messages",
    "RegistryRequest": "protocol.messages",
    "Storage": "storage.base",
    "create_app": "app",
}


def __getattr__(name: str) -> object:
    """Import an object of this package when its name is first used.

    `dockhand_core.lazy` is not used here: pytest imports this package in every run, because of the
    fixture, and importing the core, too, would slow down each run.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
