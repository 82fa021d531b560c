"""zot's extensions: their list, calls of their endpoints, and the error if an extension is off.

Follows: OCI Distribution Specification, "Extensions API" (`_oci/ext/discover`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar, Unpack

from dockhand_distribution.base import DistributionBase
from pydantic import BaseModel

from dockhand_core.errors import NotFound, ResponseInvalid, Unsupported
from dockhand_core.flow import CallOptions, Flow, Reply, call
from dockhand_core.http.urls import redacted_url
from dockhand_zot.errors import ExtensionNotEnabled
from dockhand_zot.models import Extension, ServerInfo

M = TypeVar("M", bound=BaseModel)

DISCOVER = "_oci/ext/discover"
# The settings that turn each endpoint on. zot's documentation of them is partly wrong.
_SETTINGS = {
    "search": '"extensions": {"search": {"enable": true}}',
    "mgmt": '"extensions": {"search": {"enable": true}}',
    "userprefs": '"extensions": {"search": {"enable": true}, "ui": {"enable": true}}',
    "cosign": '"extensions": {"trust": {"enable": true, "cosign": true}}',
    "notation": '"extensions": {"trust": {"enable": true, "notation": true}}',
    "apikey": '"http": {"auth": {"apikey": true}}',
}


class Extensions(DistributionBase):
    """The operations that all extensions share."""

    def extensions(self) -> Flow[list[Extension]]:
        """Fetch the list of extensions.

        Raises:
            ExtensionNotEnabled: the registry has no such list, so it is not zot.
        """
        try:
            reply = yield from call("GET", DISCOVER, scopes=self.catalog_scopes())
        except (NotFound, Unsupported) as error:
            raise ExtensionNotEnabled(
                f"{error}: this registry is not zot, or its extensions are off; "
                "use the driver distribution",
                extension="discover",
                setting=None,
            ) from error
        found = reply.json().get("extensions") or ()
        if not isinstance(found, list | tuple):
            raise ResponseInvalid(f"{redacted_url(reply.url)}: 'extensions' is not a list")
        return validated_items(reply, Extension, found)

    def supports(self, extension: str) -> Flow[bool]:
        """Return whether an endpoint with this name is in the list of extensions."""
        found = yield from self.extensions()
        wanted = f"/ext/{extension.strip('/')}"
        return any(endpoint.endswith(wanted) for each in found for endpoint in each.endpoints)

    def mgmt(self) -> Flow[ServerInfo]:
        """Get the version of the server, and its ways to log in.

        The request has no credentials: the endpoint needs none, and refuses bearer tokens.
        """
        reply = yield from self._extension("mgmt", "GET", "_zot/ext/mgmt", anonymous=True)
        document = reply.json()
        http = document.get("http")
        auth = http.get("auth") if isinstance(http, dict) else None
        return reply.validated(ServerInfo, {**document, "auth": auth})

    def _extension(
        self, name: str, method: str, path: str, /, **options: Unpack[CallOptions]
    ) -> Flow[Reply]:
        """Call an endpoint of an extension.

        Raises:
            ExtensionNotEnabled: the endpoint is missing; the error names the setting that turns the
                endpoint on.
        """
        try:
            return (yield from call(method, path, **options))
        except (NotFound, Unsupported) as error:
            if name != "apikey" and (yield from self.supports(name)):
                raise  # the endpoint exists, so the 404 has another reason
            setting = _SETTINGS[name]
            raise ExtensionNotEnabled(
                f"zot's extension {name} is off: its configuration needs {setting}",
                extension=name,
                setting=setting,
            ) from error


def validated_items(reply: Reply, model: type[M], items: Iterable[object]) -> list[M]:
    """Convert the items of a list in a reply to models.

    zot sends null for some items; they are left out.

    Raises:
        ResponseInvalid: an item does not match the model.
    """
    return [reply.validated(model, item) for item in items if item is not None]
