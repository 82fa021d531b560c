"""A token endpoint for registries. docker, skopeo, crane and containerd get tokens from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dockhand_core import lazy_exports

if TYPE_CHECKING:
    from dockhand_token_server.app import create_app
    from dockhand_token_server.refresh_tokens import RefreshTokens
    from dockhand_token_server.settings import LoginLimit, Rule, Settings, load_settings

__all__ = ["LoginLimit", "RefreshTokens", "Rule", "Settings", "create_app", "load_settings"]

_HOMES = {
    "LoginLimit": "settings",
    "RefreshTokens": "refresh_tokens",
    "Rule": "settings",
    "Settings": "settings",
    "create_app": "app",
    "load_settings": "settings",
}

__getattr__ = lazy_exports(__name__, _HOMES)
