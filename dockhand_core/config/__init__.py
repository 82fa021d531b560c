"""Settings: of connections, and the checks that every table of settings goes through."""

from dockhand_core.config.connections import (
    AuthConfig,
    ConnectionConfig,
    DockhandConfig,
    load_config,
    read_toml,
)

__all__ = ["AuthConfig", "ConnectionConfig", "DockhandConfig", "load_config", "read_toml"]
