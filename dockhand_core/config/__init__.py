"""Settings of connections, and the validation of tables of settings."""

from dockhand_core.config.connections import (
    AuthConfig,
    ConnectionConfig,
    DockhandConfig,
)
from dockhand_core.config.files import load_config, load_tables, read_toml
from dockhand_core.config.validation import (
    check_variables,
    did_you_mean,
    is_pem,
    validate_table,
)

__all__ = [
    "AuthConfig",
    "ConnectionConfig",
    "DockhandConfig",
    "check_variables",
    "did_you_mean",
    "is_pem",
    "load_config",
    "load_tables",
    "read_toml",
    "validate_table",
]
