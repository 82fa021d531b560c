"""The environment: `DOCKHAND_*` variables over the tables of a file, and `${NAME}` in its texts."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from dockhand_core.config.validation import (
    CONNECTIONS,
    PLUGINS,
    FromVariable,
    TableFromVariable,
    check_variables,
)
from dockhand_core.errors import ConfigError
from dockhand_core.http.urls import origin_of
from dockhand_core.plugin_failures import warn_once
from dockhand_core.text import did_you_mean

__all__ = ["Misspelt", "OtherOrigin", "apply_environment", "expand_variables"]

_FLAT_NAMES = {
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
_OTHER_NAMES = {
    "DOCKHAND_CONNECTION",
    "DOCKHAND_CONFIG",
    "DOCKHAND_DISABLE_PLUGINS",
    "DOCKHAND_STRICT_PLUGINS",
}
# Keys of a connection that are tables; a variable has such a table as JSON.
_TABLES = ("auth", "headers", "logging")
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)\}")
# Keys of the file that may hold credentials or a client certificate. If the environment sets a URL
# of another origin, they are dropped: they are meant for the registry in the file.
# Secrets among the settings of the driver are dropped when the driver is known; see `OtherOrigin`.
_TIED_TO_ORIGIN = ("auth", "headers", "client_cert", "client_key")


class OtherOrigin(dict[str, Any]):
    """A connection's table whose URL in the environment is of another origin than that of the file.

    Attributes:
        from_environment: the values of variables alone. Only these may be secrets of the driver.
    """

    from_environment: dict[str, Any]


class Misspelt(dict[str, Any]):
    """A connection's table that is of the environment alone, and probably meant for another one.

    Attributes:
        error: the error, which names the variable and the similar connection.
    """

    error: str


def expand_variables(value: Any, env: Mapping[str, str], at: tuple[str, ...] = ()) -> Any:
    """Replace `${NAME}` by the environment variable's value, and `$${` by `${`, in all strings.

    Args:
        value: a TOML value: a table, a list, a string or anything else.
        env: the environment.
        at: the keys that lead to the value, for the error's message.

    Raises:
        ConfigError: a variable is not set; the message names it and the key.
    """
    if isinstance(value, dict):
        return {key: expand_variables(item, env, (*at, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [expand_variables(item, env, at) for item in value]
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


def apply_environment(
    data: dict[str, Any], env: Mapping[str, str], core_keys: Collection[str]
) -> dict[str, Any]:
    """Override settings of the file with settings from the environment.

    Args:
        data: the file's tables.
        env: the environment.
        core_keys: the keys of a connection's table that belong to the core, not to its driver.

    Raises:
        ConfigError: a variable's name is misspelt or incomplete.
    """
    tables, plugins = data.get("connections", {}), data.get("plugins", {})
    if not isinstance(tables, dict) or not isinstance(plugins, dict):
        return data  # `DockhandConfig.parse` reports the error
    tables, plugins = dict(tables), dict(plugins)
    named = env.get("DOCKHAND_CONNECTION") or data.get("default")
    known = [*tables, named] if isinstance(named, str) else list(tables)
    changes = _nested(env, CONNECTIONS, known)
    for name, values in _nested(env, PLUGINS, plugins).items():
        table = plugins.get(name, {})
        plugins[name] = _with_values(dict(table) if isinstance(table, dict) else {}, values)
    check_variables(env, [*_FLAT_NAMES, *_OTHER_NAMES], with_file=_FLAT_NAMES)
    default = named
    if default is None:
        names = list(tables) or list(changes)
        default = names[0] if len(names) == 1 else "default"
    flat = {
        (*path[:-1], path[-1] + suffix): FromVariable(env[name], name)
        for variable, path in _FLAT_NAMES.items()
        for suffix in ("", "_file")
        if (name := variable + suffix.upper()) in env
    }
    if flat:
        changes.setdefault(default, {}).update(flat)
    misspelt = {
        name: error
        for name, values in changes.items()
        if name not in tables and (error := _misspelt(name, values, tables, env, core_keys))
    }
    for name, values in changes.items():
        tables[name] = _merge_table(tables.get(name, {}), values, core_keys)
        if name in misspelt:
            tables[name] = Misspelt(tables[name])
            tables[name].error = misspelt[name]
            warn_once(misspelt[name], "dockhand.config")
    return {**data, "default": default, "connections": tables, "plugins": plugins}


def _nested(
    env: Mapping[str, str], prefix: str, known: Collection[str]
) -> dict[str, dict[tuple[str, ...], Any]]:
    """Collect the values of variables for connections or plugins, by name and path of the key.

    Args:
        env: the environment.
        prefix: `CONNECTIONS` or `PLUGINS`.
        known: names of the tables that exist.
    """
    found: dict[str, dict[tuple[str, ...], Any]] = {}
    for variable, value in sorted(env.items()):
        if variable.startswith(prefix):
            name, *path = variable.removeprefix(prefix).lower().split("__")
            if not path or not all([name, *path]):
                raise ConfigError(f"{variable}: {prefix}<NAME>__<KEY> is expected")
            if prefix == CONNECTIONS and len(path) == 1 and path[0] in _TABLES:
                found.setdefault(_table_name(name, known), {})[path[0],] = _json(variable, value)
            else:
                text = FromVariable(value, variable)
                found.setdefault(_table_name(name, known), {})[tuple(path)] = text
    return found


def _json(variable: str, text: str) -> dict[str, Any]:
    """Decode the table in a variable. Relative paths in it start at the working folder."""
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise ConfigError(f'{variable}: it is not a table in JSON, such as {{"key": "value"}}')
    values = {key: _absolute(key, _noted(value, variable)) for key, value in table.items()}
    return TableFromVariable(values, variable)


def _noted(value: Any, variable: str) -> Any:
    """Note the variable in all texts of a value in JSON."""
    if isinstance(value, dict):
        return {key: _noted(item, variable) for key, item in value.items()}
    if isinstance(value, list):
        return [_noted(item, variable) for item in value]
    return FromVariable(value, variable) if isinstance(value, str) else value


def _absolute(key: str, value: Any) -> Any:
    """Make the path of a file with a secret in a variable absolute.

    A relative path in a variable starts at the working folder, one in the file at the file's
    folder.
    """
    if not key.endswith("_file") or not isinstance(value, FromVariable):
        return value
    return FromVariable(str(Path(value).expanduser().absolute()), value.variable)


def _table_name(name: str, tables: Iterable[str]) -> str:
    """Find the table that a variable names in lower case, with `_` for `-` and `.`.

    Without a match, the name itself is returned: the variable adds a table.
    """
    for candidate in tables:
        if re.sub(r"[-.]", "_", candidate).lower() == name:
            return candidate
    return name


def _misspelt(
    name: str,
    values: Mapping[tuple[str, ...], Any],
    tables: Iterable[str],
    env: Iterable[str],
    core_keys: Collection[str],
) -> str:
    """Describe the mistake if variables for a connection that is not in the file look misspelt.

    A connection may be in the environment alone. So its name counts as misspelt only if it is
    similar to another, and the variables do not say which registry it is for.
    """
    own = any(path[0] not in core_keys for path in values)
    if ("base_uri",) in values or (("driver",) in values and own):
        return ""
    hint = did_you_mean(name, tables)
    prefix = f"{CONNECTIONS}{name}__".lower()
    variables = sorted(each for each in env if each.lower().startswith(prefix))
    if not hint or not variables:
        return ""
    return (
        f"{', '.join(variables)}: the configuration has no connection {name!r}{hint} (to have it "
        f"in the environment alone, set {CONNECTIONS}{name.upper()}__BASE_URI)"
    )


def _merge_table(
    table: Any, values: Mapping[tuple[str, ...], Any], core_keys: Collection[str]
) -> dict[str, Any]:
    merged: dict[str, Any] = dict(table) if isinstance(table, dict) else {}
    other_origin = _sets_other_origin(merged, values, core_keys)
    driver = values.get(("driver",))
    if driver is not None and driver != merged.get("driver", "distribution"):
        # The environment selects another driver than the file, so the file's settings of its
        # driver are dropped. `base_uri` is kept, unless the environment sets driver settings, too.
        with_driver_settings = any(path[0] not in core_keys for path in values)
        kept = core_keys if with_driver_settings else {*core_keys, "base_uri"}
        merged = {k: v for k, v in merged.items() if k in kept}
    if other_origin:
        merged = {k: v for k, v in merged.items() if k not in _TIED_TO_ORIGIN}
    auth_driver = values.get(("auth", "driver"))
    auth = merged.get("auth")
    if isinstance(auth, dict) and auth_driver not in (None, auth.get("driver", "null")):
        del merged["auth"]
    result = _with_values(merged, values)
    if other_origin:
        result = OtherOrigin(result)
        result.from_environment = _with_values({}, values)
    return result


def _with_values(table: dict[str, Any], values: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Put the values of variables into a table, whose inner tables are copied."""
    for path, value in values.items():
        node = table
        for key in path[:-1]:
            inner = node.get(key)
            node[key] = dict(inner) if isinstance(inner, dict) else {}
            node = node[key]
        node[path[-1]] = _absolute(path[-1], value)
        # A variable for `<key>` or for `<key>_file` replaces both keys of the file.
        twin = path[-1].removesuffix("_file") if path[-1].endswith("_file") else f"{path[-1]}_file"
        if (*path[:-1], twin) not in values:
            node.pop(twin, None)
    return table


def _sets_other_origin(
    table: Mapping[str, Any], values: Mapping[tuple[str, ...], Any], core_keys: Collection[str]
) -> bool:
    """Whether the environment sets a URL of another origin than the table has.

    A driver may have its URL in another key than `base_uri`, so all driver settings that are URLs
    are compared.
    """
    for path, new in values.items():
        if path[0] in core_keys or (path != ("base_uri",) and "://" not in new):
            continue
        old = table.get(path[0])
        try:
            if not isinstance(old, str) or origin_of(old) != origin_of(new):
                return True
        except ValueError:
            return True
    return False
