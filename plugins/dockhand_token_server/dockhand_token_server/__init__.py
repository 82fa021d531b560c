"""The token endpoint that docker, skopeo, crane and containerd ask for a registry's tokens."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockhand_token_server.app import create_app
    from dockhand_token_server.refresh import RefreshTokens
    from dockhand_token_server.settings import LoginLimit, Rule, Settings, load_settings

__all__ = ["LoginLimit", "RefreshTokens", "Rule", "Settings", "create_app", "load_settings"]

_HOMES = {
    "LoginLimit": "settings",
    "RefreshTokens": "refresh",
    "Rule": "settings",
    "Settings": "settings",
    "create_app": "app",
    "load_settings": "settings",
}


def __getattr__(name: str) -> object:
    """Load on use: `hooks` is imported at every start, the endpoint only where it is wanted."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
