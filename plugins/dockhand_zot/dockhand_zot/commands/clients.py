"""The clients of the commands, which have to be clients of zot."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import typer
from dockhand_cli import session_of
from dockhand_cli.plan_files import registry_name

if TYPE_CHECKING:
    from dockhand_core import RegistryClient
    from dockhand_zot import ZotClient

__all__ = ["ZotPlace", "zot_client", "zot_image", "zot_repository"]

# The ways to log in to zot with a user name and a password or an API key.
_WITH_PASSWORDS = frozenset({"htpasswd", "ldap", "openid", "apikey"})


class ZotPlace(NamedTuple):
    """A repository of a zot, or an image in it.

    Attributes:
        client: the client of the zot.
        repository: the repository's name.
        reference: the tag or digest; empty for a repository.
    """

    client: ZotClient
    repository: str
    reference: str = ""

    @property
    def image(self) -> str:
        """The image as zot names it: `repository:tag` or `repository@digest`."""
        return f"{self.repository}{'@' if ':' in self.reference else ':'}{self.reference}"


def zot_client(context: typer.Context, name: str | None) -> ZotClient:
    """The client of a connection or of a host; None for the default connection.

    Raises:
        DriverMismatch: the connection has another driver.
    """
    return _of_zot(context, session_of(context).client(name))


def zot_repository(context: typer.Context, text: str) -> ZotPlace:
    """The repository that an argument names.

    Raises:
        DriverMismatch: its connection has another driver.
    """
    client, name = session_of(context).repository(text)
    return ZotPlace(_of_zot(context, client), name)


def zot_image(context: typer.Context, text: str) -> ZotPlace:
    """The image that an argument names.

    Raises:
        DriverMismatch: its connection has another driver.
    """
    place = session_of(context).place(text)
    return ZotPlace(_of_zot(context, place.client), place.repository, place.reference)


def _of_zot(context: typer.Context, client: RegistryClient) -> ZotClient:
    """The client itself, or for a host without a connection a client of the driver zot."""
    from dockhand_core import DriverMismatch
    from dockhand_zot import ZotClient

    if isinstance(client, ZotClient):
        return client
    dockhand = session_of(context).dockhand
    if client.name in dockhand.connections and dockhand.connection(client.name) is client:
        raise DriverMismatch(
            f'connection {client.name!r} has another driver than zot; set driver = "zot" in its '
            "settings"
        )
    zot = _connect(client.driver.identity())
    context.call_on_close(zot.close)
    return zot


def _connect(url: str) -> ZotClient:
    """Connect to a zot with the credentials that docker stores.

    The auth driver `token` sends a password when the registry asks for it. A zot that lets
    anonymous clients read does not ask, so the password is sent with each request if the zot has
    users with passwords.
    """
    from dockhand_auth_token import find_credentials

    from dockhand_core import RegistryError, connect
    from dockhand_zot import ExtensionNotEnabled, ZotClient

    zot = connect(url, driver="zot", auth={"driver": "token"})
    assert isinstance(zot, ZotClient)
    found = find_credentials(registry_name(url))
    if found.password is None:
        return zot
    try:
        passwords = not _WITH_PASSWORDS.isdisjoint(zot.mgmt().auth)
    except (ExtensionNotEnabled, RegistryError):
        return zot
    if passwords:
        zot.close()
        zot = connect(
            url,
            driver="zot",
            auth={"driver": "basic", "username": found.username, "password": found.password},
        )
        assert isinstance(zot, ZotClient)
    return zot
