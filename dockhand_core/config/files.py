"""Configurations from a file and the environment.

Each of these sources overrides the ones before it: the file `dockhand.toml`; environment variables
`DOCKHAND_CONNECTIONS__<NAME>__<KEY>` and `DOCKHAND_PLUGINS__<NAME>__<KEY>`; and variables with a
short name, such as `DOCKHAND_BASE_URI`, which set keys of the default connection.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dockhand_core.config.connections import (
    CORE_KEYS,
    ConnectionConfig,
    DockhandConfig,
    WrongConnection,
    make_connection,
)
from dockhand_core.config.environment import Misspelt, apply_environment, expand_variables
from dockhand_core.errors import ConfigError

__all__ = ["LoadedTables", "load_config", "load_tables", "read_toml"]


def load_config(
    path: str | Path | None = None, environ: Mapping[str, str] | None = None
) -> DockhandConfig:
    """Load a configuration from a file and the environment, which overrides the file.

    Args:
        path: path of the file. By default it is the value of the variable `DOCKHAND_CONFIG`, or
            without that variable `dockhand.toml` in the working folder, if that file exists.
        environ: environment variables; by default those of the process.

    Raises:
        ConfigError: the file cannot be read, or a setting is wrong. The message names the
            connection and the key; the variable, if the value is from one; and the file, if it
            cannot be read.
    """
    env = os.environ if environ is None else environ
    file = _config_file(path, env)
    data = {} if file is None else read_toml(file, env)
    base = Path.cwd() if file is None else file.parent
    data = apply_environment(data, env, CORE_KEYS)
    tables = data["connections"] if isinstance(data.get("connections"), Mapping) else {}
    misspelt = {name: t.error for name, t in tables.items() if isinstance(t, Misspelt)}
    if misspelt:  # breaks only itself: the variable may be meant for another file
        good = {name: table for name, table in tables.items() if name not in misspelt}
        data = {**data, "connections": good}
    config = DockhandConfig.parse(data, base=base)
    for name, error in misspelt.items():
        config._wrong[name] = WrongConnection(ConfigError(error), None)
    return config


class LoadedTables(NamedTuple):
    """A configuration whose connections may be wrong.

    Attributes:
        config: the configuration, without the connections that are wrong.
        errors: the errors of the other connections by name.
        names: the names of all connections, in the order of the configuration.
    """

    config: DockhandConfig
    errors: dict[str, ConfigError]
    names: tuple[str, ...]


def load_tables(
    path: str | Path | None = None, environ: Mapping[str, str] | None = None
) -> LoadedTables:
    """Load a configuration as `load_config` does, but without the connections that are wrong.

    Their errors are raised when they are wanted, by name or by host.

    Args:
        path: path of the file, as for `load_config`.
        environ: environment variables; by default those of the process.

    Raises:
        ConfigError: the file cannot be read, or something besides the connections is wrong.
    """
    env = os.environ if environ is None else environ
    file = _config_file(path, env)
    data = {} if file is None else _toml(file)
    base = Path.cwd() if file is None else file.parent
    errors: dict[str, ConfigError] = {}
    tables = data.pop("connections", {})
    data = expand_variables(data, env)
    if isinstance(tables, dict):
        for name, table in tables.items():
            try:
                tables[name] = expand_variables(table, env, ("connections", name))
            except ConfigError as error:
                errors[name] = error
    data = apply_environment({**data, "connections": tables}, env, CORE_KEYS)
    found = data["connections"]
    if not isinstance(found, Mapping):
        return LoadedTables(DockhandConfig.parse(data, base=base), errors, ())  # raises the error
    parsed: dict[str, ConnectionConfig] = {}
    for name, table in found.items():
        try:
            if name not in errors:
                parsed[name] = make_connection(name, table, base)
        except ConfigError as error:
            errors[name] = error
    if errors and data.get("default") is None:  # the only good one is not the default for this
        data["default"] = next(iter(found)) if len(found) == 1 else "default"
    config = DockhandConfig.parse({**data, "connections": parsed}, base=base)
    for name, wrong in errors.items():
        table = found[name]
        uri = table.get("base_uri") if isinstance(table, Mapping) else None
        config._wrong[name] = WrongConnection(wrong, uri)
    return LoadedTables(config, errors, tuple(found))


def _config_file(path: str | Path | None, env: Mapping[str, str]) -> Path | None:
    """The file of the configuration; None if none is named, and the usual one does not exist."""
    named = path or env.get("DOCKHAND_CONFIG")
    file = Path(named or "dockhand.toml").absolute()
    return file if named or file.exists() else None


def read_toml(file: Path, env: Mapping[str, str]) -> dict[str, Any]:
    """Read a TOML file, and replace `${NAME}` in it by the value of the environment variable.

    Args:
        file: path of the file.
        env: environment variables.

    Raises:
        ConfigError: the file cannot be read or is not TOML, or a variable in it is not set.
    """
    expanded: dict[str, Any] = expand_variables(_toml(file), env)
    return expanded


def _toml(file: Path) -> dict[str, Any]:
    import tomllib  # imported here, because `connect` reads no file

    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from None
