"""The settings of connections, which are made from a mapping.

The core's own keys are checked in this module. The keys of a registry driver, an auth driver or a
log driver are checked when the connection is made, and those of a plugin when it is configured.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
)

from dockhand_core.config.environment import Misspelt, OtherOrigin
from dockhand_core.config.validation import (
    TableFromVariable,
    did_you_mean,
    secret_keys,
    validate_table,
    variable_of,
)
from dockhand_core.driver import CHUNK
from dockhand_core.errors import ConfigError
from dockhand_core.flow import LIST_LIMIT
from dockhand_core.http.urls import PORTS, origin_of
from dockhand_core.logs import LogSettings
from dockhand_core.plugin_discovery import normal

__all__ = [
    "AuthConfig",
    "ConnectionConfig",
    "DockhandConfig",
    "CORE_KEYS",
    "WrongConnection",
    "make_connection",
]


def _refuse_boolean(value: object) -> object:
    """Refuse a boolean, which pydantic would accept as a number."""
    if isinstance(value, bool):
        raise ValueError("a number is expected")
    return value


def _entries(value: object) -> object:
    """Split a list with commas, as an environment variable has it."""
    if isinstance(value, str):
        return tuple(each.strip() for each in value.split(",") if each.strip())
    return value


def _origin(value: str) -> str:
    """Check that a string is the URL of an origin."""
    scheme, host, _ = origin_of(value)
    if scheme not in PORTS or not host:
        raise ValueError("each entry is an origin, such as https://uploads.example.com")
    return value


class AuthConfig(BaseModel):
    """A connection's `auth` table: the name of the auth driver, and the driver's settings.

    The driver's settings are not checked here, but when the connection is made.
    """

    model_config = ConfigDict(
        defer_build=True, extra="allow", frozen=True, hide_input_in_errors=True
    )

    driver: str = "null"

    @property
    def options(self) -> dict[str, Any]:
        """The auth driver's own settings."""
        return dict(self.model_extra or {})

    def __repr_args__(self) -> list[tuple[str | None, object]]:
        return [("driver", self.driver), *((key, "…") for key in self.options)]


class ConnectionConfig(BaseModel):
    """A connection's table of settings. All other keys are settings of the registry driver.

    Attributes:
        driver: the registry driver's name.
        auth: the auth driver and its settings.
        logging: the log driver and its settings.
        timeout: timeout in seconds, which applies to connecting, sending and receiving separately.
        commit_timeout: time in seconds to wait for the reply that ends an upload, if it is longer
            than `timeout`: a registry may move or check the whole blob before it replies. None for
            ten times `timeout`.
        chunk_size: size in bytes of the chunks of an upload, of which one is kept in memory. If the
            registry refuses the size, smaller chunks are sent.
        verify: whether to check the registry's certificate; or the path of a file or folder with
            the CA certificates to check it against.
        client_cert, client_key: PEM files of the client's certificate and its private key. The
            certificate is presented to the registry's origin only. If the files change, they are
            read again.
        proxy: URL of an HTTP proxy for all requests; by default the environment (`HTTPS_PROXY`,
            `NO_PROXY` …) chooses the proxy for the URL of each request.
        retries: how often a failed request is repeated; for a transfer, how often it may fail
            without progress in between.
        rate_limit_timeout: total time in seconds that a request may wait because the registry
            limits the rate of requests (429), apart from `retries`; 0 for no such waits, and there
            are none if `retries` is 0.
        list_limit: maximum size in bytes of all replies of one list, such as a repository's tags;
            256 MiB. A list in memory takes several times as much. A list of objects, such as
            referrers, may use an eighth of it, or 32 MiB if that is more.
        max_connections: maximum number of sockets in use at a time, and of idle sockets kept open.
        headers: HTTP headers to add to every request to the registry, but not to other origins.
            `User-Agent` replaces Dockhand's own.
        upload_origins: origins to which the registry may direct uploads although they are on a
            private, loopback or link-local address, such as `["https://uploads.example.com"]`.
        transport: HTTP library to use: `httpx`; for sync clients `h11`, for async clients
            `aiohttp`. None for the default, which is not `httpx`.
    """

    model_config = ConfigDict(
        defer_build=True, extra="allow", frozen=True, hide_input_in_errors=True
    )

    driver: str = "distribution"
    # constructed without validators, which pydantic would make first
    auth: AuthConfig = Field(default_factory=AuthConfig.model_construct)
    logging: LogSettings = Field(default_factory=LogSettings.model_construct)
    timeout: Annotated[float, Field(gt=0), BeforeValidator(_refuse_boolean)] = 30.0
    commit_timeout: Annotated[float, Field(gt=0), BeforeValidator(_refuse_boolean)] | None = None
    chunk_size: Annotated[int, Field(ge=1), BeforeValidator(_refuse_boolean)] = CHUNK
    verify: bool | Path = True
    client_cert: Path | None = None
    client_key: Path | None = None
    proxy: SecretStr | None = None
    retries: Annotated[int, Field(ge=0, le=100), BeforeValidator(_refuse_boolean)] = 3
    rate_limit_timeout: Annotated[
        float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_refuse_boolean)
    ] = 300.0
    list_limit: Annotated[int, Field(ge=1), BeforeValidator(_refuse_boolean)] = LIST_LIMIT
    max_connections: Annotated[int, Field(ge=1), BeforeValidator(_refuse_boolean)] = 32
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    upload_origins: Annotated[
        tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_entries)
    ] = ()
    transport: str | None = None
    _variables: dict[str, str] = PrivateAttr(default_factory=dict)
    # the values of variables alone, if these name another registry than the file
    _environment: Mapping[str, Any] | None = PrivateAttr(default=None)

    @property
    def options(self) -> dict[str, Any]:
        """The registry driver's own settings."""
        return dict(self.model_extra or {})

    def dropped(self, model: type[BaseModel]) -> frozenset[str]:
        """The keys with secrets of the driver that the file has for another registry.

        Args:
            model: the driver's settings.
        """
        if self._environment is None:
            return frozenset()
        return secret_keys(model, self.options.keys() - self._environment.keys())

    def options_for(self, model: type[BaseModel]) -> dict[str, Any]:
        """The registry driver's own settings, without the secrets for another registry.

        Args:
            model: the driver's settings.
        """
        options = self.options
        if self._environment is None:
            return options
        for key in secret_keys(model, options):
            del options[key]
            if key in self._environment:
                options[key] = self._environment[key]
        return options

    def __repr_args__(self) -> list[tuple[str | None, object]]:
        # The values of the driver's settings are hidden: only the driver knows which are secrets.
        own = [(key, getattr(self, key)) for key in type(self).model_fields]
        return [*own, *((key, "…") for key in self.options)]


def driver_variable(table: ConnectionConfig, key: str) -> str:
    """The start of a message about a driver: `VARIABLE: ` if a variable chose it, or an empty text.

    Args:
        table: the connection's settings.
        key: the key with the driver's name: `driver`, `auth.driver` or `logging.driver`.
    """
    return table._variables.get(key, "")


CORE_KEYS = frozenset({*ConnectionConfig.model_fields, "proxy_file"})


class WrongConnection(NamedTuple):
    """A connection whose settings are wrong.

    Attributes:
        error: the error, which is raised when the connection is wanted.
        base_uri: its setting of that name, as it is written; or None.
    """

    error: ConfigError
    base_uri: object


class DockhandConfig(BaseModel):
    """The settings of all connections and plugins, and the name of the default connection.

    Attributes:
        default: name of the default connection.
        connections: tables of settings, by the connection's name.
        plugins: tables of settings, by the plugin's name; the hook `dockhand_configure` of the
            plugin checks them.
        base: folder that relative paths in settings are resolved against.
    """

    model_config = ConfigDict(
        defer_build=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    default: str = "default"
    connections: dict[str, ConnectionConfig] = Field(default_factory=dict)
    plugins: dict[str, dict[str, Any]] = Field(default_factory=dict)
    base: Path = Field(default_factory=Path.cwd)
    _wrong: dict[str, WrongConnection] = PrivateAttr(default_factory=dict)

    @property
    def wrong(self) -> Mapping[str, WrongConnection]:
        """The connections that `load_tables` left out, by name."""
        return self._wrong

    @classmethod
    def parse(cls, data: Mapping[str, Any], *, base: Path | None = None) -> DockhandConfig:
        """Parse a configuration from a mapping, without `dockhand.toml` and the environment.

        Args:
            data: mapping with the same structure as `dockhand.toml`.
            base: folder that relative paths are resolved against; by default the working folder.

        Raises:
            ConfigError: a key is unknown or a value is wrong; the message names the connection and
                the key.
        """
        if not isinstance(data, Mapping):
            raise ConfigError(f"a configuration is a mapping, not {type(data).__name__}")
        allowed = ("default", "connections", "plugins")
        for key in data:
            if key not in allowed:
                raise ConfigError(f"unknown key {key!r}{did_you_mean(str(key), allowed)}")
        tables = data.get("connections", {})
        if not isinstance(tables, Mapping):
            raise ConfigError("'connections' is not a table of connections")
        where = base or Path.cwd()
        connections = {str(n): make_connection(str(n), table, where) for n, table in tables.items()}
        default = data.get("default")
        if default is None:
            default = next(iter(connections)) if len(connections) == 1 else "default"
        if not isinstance(default, str):
            raise ConfigError("'default' is not the name of a connection")
        return cls.model_construct(
            default=default,
            connections=connections,
            plugins=_plugin_tables(data.get("plugins", {})),
            base=where,
        )

    def __repr_args__(self) -> list[tuple[str | None, object]]:
        # The values of plugins' settings are hidden: only a plugin knows which are secrets.
        hidden = {name: dict.fromkeys(table, "…") for name, table in self.plugins.items()}
        shown = {key: getattr(self, key) for key in type(self).model_fields}
        return [*{**shown, "plugins": hidden}.items()]

    def connection(self, name: str | None = None) -> tuple[str, ConnectionConfig]:
        """Return the name and the settings of a connection.

        Args:
            name: name of the connection; by default the default connection.

        Raises:
            ConfigError: no connection has this name; the message lists the configured names. Or its
                settings are wrong.
        """
        wanted = name or self.default
        if wanted in self.wrong:
            raise self.wrong[wanted].error
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


def _plugin_tables(tables: Any) -> dict[str, dict[str, Any]]:
    """Check that plugins' settings are tables, and that no two are of the same plugin."""
    if not isinstance(tables, Mapping):
        raise ConfigError("'plugins' is not a table of plugins")
    found: dict[str, dict[str, Any]] = {}
    names: dict[str, str] = {}
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise ConfigError(f"plugins.{name} is not a table of settings: [plugins.{name}]")
        twin = names.setdefault(normal(str(name)), str(name))
        if twin != name:
            raise ConfigError(f"plugins.{twin} and plugins.{name} are the same plugin")
        found[str(name)] = dict(table)
    return found


def make_connection(name: str, table: Any, base: Path) -> ConnectionConfig:
    """Make the settings of a connection from its table.

    Args:
        name: name of the connection, for messages.
        table: the table, or settings that were made before, which are returned as they are.
        base: the folder at which relative paths in the table start.

    Raises:
        ConfigError: a key of the core has a wrong value.
    """
    if isinstance(table, ConnectionConfig):
        return table
    if not isinstance(table, Mapping):
        raise ConfigError(f"connection {name!r} is not a table")
    if isinstance(table, Misspelt):
        raise ConfigError(table.error)
    for key in ("auth", "logging"):
        if key in table and not isinstance(table[key], Mapping | BaseModel):
            raise ConfigError(
                f'connection {name!r}: {key} is a table with a driver: {key} = {{ driver = "…" }}'
            )
    core = {key: value for key, value in table.items() if key in CORE_KEYS}
    where = f"connection {name!r}"
    logging = core.get("logging")
    if isinstance(logging, Mapping):
        known = {k: v for k, v in logging.items() if k in LogSettings.model_fields}
        if isinstance(logging, TableFromVariable):
            known = TableFromVariable(known, logging.variable)
        checked = validate_table(LogSettings, known, where=f"{where}: logging", base=base)
        core["logging"] = {**logging, **checked.model_dump()}
    config = validate_table(ConnectionConfig, core, where=where, base=base)
    if bool(config.client_cert) != bool(config.client_key):
        raise ConfigError(f"{where}: client_cert and client_key are given together")
    rest = {key: value for key, value in table.items() if key not in CORE_KEYS}
    made = config.model_copy(update=rest)
    for keys in (("driver",), ("auth", "driver"), ("logging", "driver")):
        if variable := variable_of(table, keys):
            made._variables[".".join(keys)] = variable
    if isinstance(table, OtherOrigin):
        made._environment = table.from_environment
    return made
