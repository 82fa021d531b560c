"""The environment: `DOCKHAND_*` variables over the tables of a file, and `${NAME}` in its texts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from dockhand_core.config.validation import check_variables
from dockhand_core.errors import ConfigError
from dockhand_core.http.urls import origin_of

__all__ = ["apply_environment", "expand_variables"]

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
}
_NESTED_PREFIX = "DOCKHAND_CONNECTIONS__"
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)\}")
# Keys of the file that may hold credentials or a client certificate. If the environment sets a URL
# of another origin, they are dropped: they are meant for the registry in the file.
_TIED_TO_ORIGIN = ("auth", "headers", "client_cert", "client_key")


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
    tables: dict[str, Any] = data.get("connections", {})
    if not isinstance(tables, dict):
        return data  # `DockhandConfig.parse` reports the error
    tables = dict(tables)
    named = env.get("DOCKHAND_CONNECTION") or data.get("default")
    known = [*tables, named] if isinstance(named, str) else list(tables)
    changes: dict[str, dict[tuple[str, ...], str]] = {}
    for variable, value in sorted(env.items()):
        if variable.startswith(_NESTED_PREFIX):
            name, *path = variable.removeprefix(_NESTED_PREFIX).lower().split("__")
            if not path or not all([name, *path]):
                raise ConfigError(f"{variable}: {_NESTED_PREFIX}<NAME>__<KEY> is expected")
            changes.setdefault(_connection_name(name, known), {})[tuple(path)] = value
    own = [name for name in env if not name.startswith(_NESTED_PREFIX)]
    check_variables(own, [*_FLAT_NAMES, *_OTHER_NAMES], with_file=_FLAT_NAMES)
    default = named
    if default is None:
        names = list(tables) or list(changes)
        default = names[0] if len(names) == 1 else "default"
    flat = {
        (*path[:-1], path[-1] + suffix): env[variable + suffix.upper()]
        for variable, path in _FLAT_NAMES.items()
        for suffix in ("", "_file")
        if variable + suffix.upper() in env
    }
    if flat:
        changes.setdefault(default, {}).update(flat)
    for name, values in changes.items():
        tables[name] = _merge_table(tables.get(name, {}), values, core_keys)
    return {**data, "default": default, "connections": tables}


def _connection_name(name: str, tables: Iterable[str]) -> str:
    """Find the connection that a variable names in lower case, with `_` for `-` and `.`.

    Without a match, the name itself is returned: the variable adds a connection.
    """
    for candidate in tables:
        if re.sub(r"[-.]", "_", candidate).lower() == name:
            return candidate
    return name


def _merge_table(
    table: Any, values: Mapping[tuple[str, ...], str], core_keys: Collection[str]
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
    for path, value in values.items():
        node = merged
        for key in path[:-1]:
            inner = node.get(key)
            node[key] = dict(inner) if isinstance(inner, dict) else {}
            node = node[key]
        # A relative path in a variable starts at the working folder, one in the file at the file's
        # folder. So it is made absolute here.
        is_file = path[-1].endswith("_file")
        node[path[-1]] = str(Path(value).expanduser().absolute()) if is_file else value
        # A variable for `<key>` or for `<key>_file` replaces both keys of the file.
        twin = path[-1].removesuffix("_file") if path[-1].endswith("_file") else f"{path[-1]}_file"
        if (*path[:-1], twin) not in values:
            node.pop(twin, None)
    return merged


def _sets_other_origin(
    table: Mapping[str, Any], values: Mapping[tuple[str, ...], str], core_keys: Collection[str]
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
