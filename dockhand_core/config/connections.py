"""Settings of connections: from a file, the environment, or a mapping.

Precedence, the highest last: `dockhand.toml`, `DOCKHAND_CONNECTIONS__<NAME>__<KEY>`, and the flat
names (`DOCKHAND_BASE_URI` …), which belong to the default connection. The core's own keys are
checked here; the keys of a driver, an auth driver or a log driver are checked against its
`Settings` when the connection is made.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from dockhand_core.config.validation import check_variables, did_you_mean, validate_table
from dockhand_core.errors import ConfigError
from dockhand_core.http.urls import origin_of
from dockhand_core.logs import LogSettings

__all__ = ["AuthConfig", "ConnectionConfig", "DockhandConfig", "load_config", "read_toml"]

_FLAT = {
    "DOCKHAND_DRIVER": ("driver",),
    "DOCKHAND_BASE_URI": ("base_uri",),
    "DOCKHAND_AUTH_DRIVER": ("auth", "driver"),
    "DOCKHAND_PRIVATE_KEY": ("auth", "private_key"),
    "DOCKHAND_PUBLIC_KEY": ("auth", "public_key"),
    "DOCKHAND_AUTHORITY_NAME": ("auth", "authority_name"),
    "DOCKHAND_REGISTRY_NAME": ("auth", "registry_name"),
    "DOCKHAND_USERNAME": ("auth", "username"),
    "DOCKHAND_PASSWORD": ("auth", "password"),
    "DOCKHAND_TOKEN": ("auth", "token"),
    "DOCKHAND_API_KEY": ("auth", "api_key"),
    "DOCKHAND_LOG_DRIVER": ("logging", "driver"),
}
_OTHER = {
    "DOCKHAND_CONNECTION",
    "DOCKHAND_CONFIG",
    "DOCKHAND_DISABLE_PLUGINS",
}
_NESTED = "DOCKHAND_CONNECTIONS__"
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)\}")
# Keys that are for one origin, and must not be used when the environment names another one.
_TIED_TO_ORIGIN = ("auth", "headers", "client_cert", "client_key")


def _refuse_boolean(value: object) -> object:
    """Refuse a boolean, which pydantic accepts as a number."""
    if isinstance(value, bool):
        raise ValueError("a number is expected")
    return value


class AuthConfig(BaseModel):
    """A connection's `auth` table: the driver's name, and its settings, which are checked later."""

    model_config = ConfigDict(
        defer_build=True, extra="allow", frozen=True, hide_input_in_errors=True
    )

    driver: str = "null"

    @property
    def options(self) -> dict[str, Any]:
        """The auth driver's own keys."""
        return dict(self.model_extra or {})

    def __repr_args__(self) -> list[tuple[str | None, object]]:
        return [("driver", self.driver), *((key, "…") for key in self.options)]


class ConnectionConfig(BaseModel):
    """A connection's table. Keys beyond these are the registry driver's own.

    Attributes:
        driver: the registry driver's name.
        auth: the auth driver and its settings.
        logging: the log driver and its settings.
        timeout: seconds for each of connecting, sending and receiving.
        verify: check the registry's certificate: true, false, or a file of CA certificates.
        client_cert, client_key: files of the client's certificate and its key.
        proxy: URL of an HTTP proxy; the environment's unless given.
        retries: how often a failed request is repeated, or a transfer without progress.
        max_connections: sockets at most, and kept open at most.
        headers: added to every request to the registry itself.
        transport: the library that speaks HTTP; None for the default.
    """

    model_config = ConfigDict(
        defer_build=True, extra="allow", frozen=True, hide_input_in_errors=True
    )

    driver: str = "distribution"
    auth: AuthConfig = Field(default_factory=AuthConfig)
    logging: LogSettings = Field(default_factory=LogSettings)
    timeout: Annotated[float, Field(gt=0), BeforeValidator(_refuse_boolean)] = 30.0
    verify: bool | Path = True
    client_cert: Path | None = None
    client_key: Path | None = None
    proxy: SecretStr | None = None
    retries: Annotated[int, Field(ge=0, le=100), BeforeValidator(_refuse_boolean)] = 3
    max_connections: Annotated[int, Field(ge=1), BeforeValidator(_refuse_boolean)] = 32
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    transport: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The registry driver's own keys."""
        return dict(self.model_extra or {})

    def __repr_args__(self) -> list[tuple[str | None, object]]:
        # the driver's keys may be secrets, which only the driver knows
        own = [(key, getattr(self, key)) for key in type(self).model_fields]
        return [*own, *((key, "…") for key in self.options)]


_CORE = frozenset({*ConnectionConfig.model_fields, "proxy_file"})


class DockhandConfig(BaseModel):
    """The connections, and the name of the default one.

    Attributes:
        default: the name of the default connection.
        connections: the tables, by name.
        base: the folder that relative paths start at.
    """

    model_config = ConfigDict(
        defer_build=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    default: str = "default"
    connections: dict[str, ConnectionConfig] = Field(default_factory=dict)
    base: Path = Field(default_factory=Path.cwd)

    @classmethod
    def parse(cls, data: Mapping[str, Any], *, base: Path | None = None) -> DockhandConfig:
        """The configuration in a mapping; no file and no environment is read.

        Args:
            data: as in `dockhand.toml`.
            base: the folder that relative paths start at; the working folder unless given.

        Raises:
            ConfigError: a key is unknown or a value wrong; the message names connection and key.
        """
        if not isinstance(data, Mapping):
            raise ConfigError(f"a configuration is a mapping, not {type(data).__name__}")
        allowed = ("default", "connections")
        for key in data:
            if key not in allowed:
                raise ConfigError(f"unknown key {key!r}{did_you_mean(str(key), allowed)}")
        tables = data.get("connections", {})
        if not isinstance(tables, Mapping):
            raise ConfigError("'connections' is not a table of connections")
        where = base or Path.cwd()
        connections = {str(n): _connection(str(n), table, where) for n, table in tables.items()}
        default = data.get("default")
        if default is None:
            default = next(iter(connections)) if len(connections) == 1 else "default"
        if not isinstance(default, str):
            raise ConfigError("'default' is not the name of a connection")
        return cls(default=default, connections=connections, base=where)

    def connection(self, name: str | None = None) -> tuple[str, ConnectionConfig]:
        """A connection's name and table.

        Raises:
            ConfigError: there is none of that name; the message lists the configured ones.
        """
        wanted = name or self.default
        if wanted not in self.connections:
            there = ", ".join(sorted(self.connections)) or "none"
            hint = did_you_mean(wanted, self.connections)
            if not self.connections:
                hint = (
                    ": write a dockhand.toml with a [connections.<name>] table, or set "
                    "DOCKHAND_BASE_URI"
                )
            raise ConfigError(f"no connection named {wanted!r}; configured: {there}{hint}")
        return wanted, self.connections[wanted]


def _connection(name: str, table: Any, base: Path) -> ConnectionConfig:
    if isinstance(table, ConnectionConfig):
        return table
    if not isinstance(table, Mapping):
        raise ConfigError(f"connection {name!r} is not a table")
    for key in ("auth", "logging"):
        if key in table and not isinstance(table[key], Mapping | BaseModel):
            raise ConfigError(
                f'connection {name!r}: {key} is a table with a driver: {key} = {{ driver = "…" }}'
            )
    core = {key: value for key, value in table.items() if key in _CORE}
    where = f"connection {name!r}"
    logging = core.get("logging")
    if isinstance(logging, Mapping):
        known = {k: v for k, v in logging.items() if k in LogSettings.model_fields}
        checked = validate_table(LogSettings, known, where=f"{where}: logging", base=base)
        core["logging"] = {**logging, **checked.model_dump()}
    config = validate_table(ConnectionConfig, core, where=where, base=base)
    if bool(config.client_cert) != bool(config.client_key):
        raise ConfigError(f"{where}: client_cert and client_key are given together")
    rest = {key: value for key, value in table.items() if key not in _CORE}
    fields = {key: getattr(config, key) for key in config.model_fields_set}
    return ConnectionConfig(**fields, **rest)


def load_config(
    path: str | Path | None = None, environ: Mapping[str, str] | None = None
) -> DockhandConfig:
    """Load the configuration of `Dockhand()`: the file, overridden by the environment.

    Args:
        path: the file; `DOCKHAND_CONFIG` or `dockhand.toml` in the working folder unless given.
            Only the last of these may be missing.
        environ: the environment; the process's unless given.

    Raises:
        ConfigError: a setting is wrong; the message names file or variable, connection and key.
    """
    env = os.environ if environ is None else environ
    named = path or env.get("DOCKHAND_CONFIG")
    file = Path(named or "dockhand.toml").absolute()
    data: dict[str, Any] = {}
    if named or file.exists():
        data = read_toml(file, env)
    return DockhandConfig.parse(_overlay(data, env), base=file.parent)


def read_toml(file: Path, env: Mapping[str, str]) -> dict[str, Any]:
    """The tables of a file, with `${NAME}` replaced from the environment.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or names a variable that is not set.
    """
    try:
        data = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from None
    expanded: dict[str, Any] = _expanded(data, env, ())
    return expanded


def _expanded(value: Any, env: Mapping[str, str], at: tuple[str, ...]) -> Any:
    """`${NAME}` replaced by the environment's value, `$${` by `${`."""
    if isinstance(value, dict):
        return {key: _expanded(item, env, (*at, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_expanded(item, env, at) for item in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        if match[1] is None:
            return "${"
        if match[1] not in env:
            where = ".".join(at)
            raise ConfigError(f"{where}: the environment variable {match[1]!r} is not set")
        return env[match[1]]

    return _VARIABLE.sub(replace, value)


def _overlay(data: dict[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    """The data of the file, overridden by the environment."""
    tables: dict[str, Any] = data.get("connections", {})
    if not isinstance(tables, dict):
        return data  # the parser reports the error
    tables = dict(tables)
    named = env.get("DOCKHAND_CONNECTION") or data.get("default")
    known = [*tables, named] if isinstance(named, str) else list(tables)
    changes: dict[str, dict[tuple[str, ...], str]] = {}
    for variable, value in sorted(env.items()):
        if variable.startswith(_NESTED):
            name, *path = variable.removeprefix(_NESTED).lower().split("__")
            if not path or not all([name, *path]):
                raise ConfigError(f"{variable}: {_NESTED}<NAME>__<KEY> is expected")
            changes.setdefault(_like(name, known), {})[tuple(path)] = value
    names = [*_FLAT, *(f"{name}_FILE" for name in _FLAT), *_OTHER]
    check_variables((name for name in env if not name.startswith(_NESTED)), names)
    default = named
    if default is None:
        names = list(tables) or list(changes)
        default = names[0] if len(names) == 1 else "default"
    flat = {
        (*path[:-1], path[-1] + suffix): env[variable + suffix.upper()]
        for variable, path in _FLAT.items()
        for suffix in ("", "_file")
        if variable + suffix.upper() in env
    }
    if flat:
        changes.setdefault(default, {}).update(flat)
    for name, values in changes.items():
        tables[name] = _merged(tables.get(name, {}), values)
    return {**data, "default": default, "connections": tables}


def _like(name: str, tables: Iterable[str]) -> str:
    """The connection whose name a variable spells in lower case."""
    for there in tables:
        if re.sub(r"[-.]", "_", there).lower() == name:
            return there
    return name


def _merged(table: Any, values: Mapping[tuple[str, ...], str]) -> dict[str, Any]:
    merged: dict[str, Any] = dict(table) if isinstance(table, dict) else {}
    elsewhere = _moved(merged, values)
    driver = values.get(("driver",))
    if driver is not None and driver != merged.get("driver", "distribution"):
        # Another driver has other keys; the URL stays, unless one of them is set.
        kept = _CORE if any(path[0] not in _CORE for path in values) else {*_CORE, "base_uri"}
        merged = {k: v for k, v in merged.items() if k in kept}
    if elsewhere:
        merged = {k: v for k, v in merged.items() if k not in _TIED_TO_ORIGIN}
    auth_driver = values.get(("auth", "driver"))
    auth = merged.get("auth")
    if isinstance(auth, dict) and auth_driver not in (None, auth.get("driver", "null")):
        del merged["auth"]
    for path, value in values.items():
        node = merged
        for key in path[:-1]:
            inner = node.get(key)
            node[key] = dict(inner) if isinstance(inner, dict) else {}
            node = node[key]
        # a path in a variable starts at the working folder, not at the file's
        is_file = path[-1].endswith("_file")
        node[path[-1]] = str(Path(value).expanduser().absolute()) if is_file else value
        # `<key>` in the environment replaces `<key>_file` in the file, and the reverse
        twin = path[-1].removesuffix("_file") if path[-1].endswith("_file") else f"{path[-1]}_file"
        if (*path[:-1], twin) not in values:
            node.pop(twin, None)
    return merged


def _moved(table: Mapping[str, Any], values: Mapping[tuple[str, ...], str]) -> bool:
    """Whether the environment names another origin than the table.

    A driver may have another key than `base_uri` for it, so every URL among its keys counts.
    """
    for path, new in values.items():
        if path[0] in _CORE or (path != ("base_uri",) and "://" not in new):
            continue
        old = table.get(path[0])
        try:
            if not isinstance(old, str) or origin_of(old) != origin_of(new):
                return True
        except ValueError:
            return True
    return False
