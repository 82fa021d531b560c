"""The parts of `dockhand login` and `logout`, which need the package of the auth driver `token`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr

from dockhand_cli.exit_codes import DENIED, CommandFailed, UsageError
from dockhand_core import (
    Denied,
    Dockhand,
    DockhandError,
    PluginNotFound,
    RegistryClient,
    Unauthorized,
)
from dockhand_core.config import ConnectionConfig, DockhandConfig

try:
    from dockhand_auth_token import credentials_file, registry_key
except ModuleNotFoundError as error:
    if error.name != "dockhand_auth_token":
        raise
    raise UsageError(
        'the package dockhand-auth-token is not installed: pip install "dockhand-core[token]"'
    ) from None

__all__ = ["HELPER_TIMEOUT", "check_login", "file_in_use", "host_and_key"]

HELPER_TIMEOUT = 120.0  # seconds; a credential helper may ask its user to unlock it


def host_and_key(text: str) -> tuple[str, str]:
    """The host of a registry, and the key of its credentials in docker's `config.json`.

    Args:
        text: the host or the URL of the registry, as the user wrote it.

    Raises:
        UsageError: the text is the name of a connection.
        ReferenceInvalid: the text is malformed.
    """
    if text.startswith("@"):
        raise UsageError(
            f"{text}: a host is expected here, such as registry.example.com; the credentials of a "
            "connection can also be in its auth table in dockhand.toml"
        )
    key = registry_key(text)
    return ("docker.io" if key.startswith("https://") else key), key


def file_in_use(host: str) -> tuple[Path | None, str]:
    """The file whose credentials Dockhand uses for a registry, or None; and an error, or ''."""
    try:
        return credentials_file(host, timeout=HELPER_TIMEOUT), ""
    except DockhandError as error:
        return None, str(error)


def check_login(dockhand: Dockhand, host: str, username: str, password: SecretStr) -> bool:
    """Check a user name and a password with a registry.

    The registry is found as `Dockhand.locate` finds it, with the settings of a connection for the
    host, such as `verify` and `proxy`, but not with that connection's credentials.

    Args:
        dockhand: the manager of the configured connections.
        host: the registry's host, with the port if it has one.
        username: the user name.
        password: the password.

    Returns:
        whether the registry asked for credentials, so that they were checked.

    Raises:
        CommandFailed: the registry does not accept the credentials.
        DockhandError: the registry cannot be reached, or fails.
    """
    try:
        name, table = _settings(dockhand, host)
        credentials = {"username": username, "password": password}
        old = table.auth.options if table.auth.driver == "token" else {}
        realms = {key: old[key] for key in ("realms",) if key in old}
        base = dockhand.config
        try:
            _ping(base, name, table, {"driver": "null"})
        except (Unauthorized, Denied):
            _ping(base, name, table, {"driver": "token", **credentials, **realms})
            return True
        with suppress(PluginNotFound):  # the driver `basic` is a package of its own
            # zot with an anonymous policy does not ask, but refuses a wrong password.
            _ping(base, name, table, {"driver": "basic", **credentials})
        return False
    except (Unauthorized, Denied) as error:
        raise CommandFailed(
            f"{host} does not accept this user name and password: {error}", DENIED
        ) from None
    except PluginNotFound as error:
        raise UsageError(f'{error}; pip install "dockhand-core[distribution,token]"') from None


def _settings(dockhand: Dockhand, host: str) -> tuple[str, ConnectionConfig]:
    """The name and the settings of a host's connection, which need not be configured."""
    client = dockhand.locate(f"{host}/any/name").client
    connections = dockhand.config.connections
    if client.name in connections and dockhand.connection(client.name) is client:
        return client.name, connections[client.name]
    return host, ConnectionConfig.model_validate({"base_uri": _base_uri(client)})


def _base_uri(client: RegistryClient) -> str:
    return type(client.driver).base_uri(client.driver.settings)


def _ping(
    config: DockhandConfig, name: str, table: ConnectionConfig, auth: dict[str, object]
) -> None:
    settings = ConnectionConfig.model_validate({"auth": auth})
    only = table.model_copy(update={"auth": settings.auth})
    with Dockhand(
        DockhandConfig.parse({"connections": {name: only}}, base=config.base)
    ) as dockhand:
        dockhand.connection(name).ping()
