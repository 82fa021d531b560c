"""zot's extensions: which there are, and what an absent one is answered with.

Follows: the Distribution specification's "Extensions API" (`_oci/ext/discover`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from dockhand_distribution.lists import parsed
from dockhand_distribution.scopes import Scopes
from pydantic import BaseModel, ValidationError

from dockhand_core.errors import NotFound, ResponseInvalid, Unsupported
from dockhand_core.flow import Flow, Reply, call
from dockhand_core.http.urls import redacted_url
from dockhand_zot.errors import ExtensionNotEnabled
from dockhand_zot.models import Extension, ServerInfo

M = TypeVar("M", bound=BaseModel)

DISCOVER = "_oci/ext/discover"
# What turns an endpoint on. zot's own documentation is not always right about this.
_SETTINGS = {
    "search": '"extensions": {"search": {"enable": true}}',
    "mgmt": '"extensions": {"search": {"enable": true}}',
    "userprefs": '"extensions": {"search": {"enable": true}, "ui": {"enable": true}}',
    "cosign": '"extensions": {"trust": {"enable": true, "cosign": true}}',
    "notation": '"extensions": {"trust": {"enable": true, "notation": true}}',
    "apikey": '"http": {"auth": {"apikey": true}}',
}


class Extensions(Scopes):
    """The operations that every extension stands on."""

    def extensions(self) -> Flow[list[Extension]]:
        """Ask for the list; a registry that has none is no zot."""
        try:
            reply = yield from call("GET", DISCOVER, scopes=self.listing())
        except (NotFound, Unsupported) as error:
            raise ExtensionNotEnabled(
                f"{error}: this registry is no zot, or one without extensions; "
                "the driver distribution suits it",
                extension="discover",
                setting=None,
            ) from error
        found = parsed(reply).get("extensions") or ()
        if not isinstance(found, list | tuple):
            raise ResponseInvalid(f"{redacted_url(reply.url)}: 'extensions' is not a list")
        return read_all(Extension, found, reply)

    def supports(self, extension: str) -> Flow[bool]:
        """Look for an endpoint of that name."""
        found = yield from self.extensions()
        wanted = f"/ext/{extension.strip('/')}"
        return any(endpoint.endswith(wanted) for each in found for endpoint in each.endpoints)

    def mgmt(self) -> Flow[ServerInfo]:
        """Ask without credentials: a token is refused there, and none is needed."""
        reply = yield from self._extension("mgmt", "GET", "_zot/ext/mgmt", anonymous=True)
        document = parsed(reply)
        http = document.get("http")
        auth = http.get("auth") if isinstance(http, dict) else None
        return read(ServerInfo, {**document, "auth": auth}, reply)

    def _extension(self, name: str, method: str, path: str, **options: Any) -> Flow[Reply]:
        """Call an endpoint; where it is not there, say what turns it on."""
        try:
            return (yield from call(method, path, **options))
        except (NotFound, Unsupported) as error:
            if name != "apikey" and (yield from self.supports(name)):
                raise  # it is not the endpoint that is unknown
            setting = _SETTINGS[name]
            raise ExtensionNotEnabled(
                f"zot's extension {name} is off: its configuration needs {setting}",
                extension=name,
                setting=setting,
            ) from error


def read(model: type[M], value: object, reply: Reply) -> M:
    """A part of a reply as a model.

    Raises:
        ResponseInvalid: it is not one.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        place = ".".join(map(str, error.errors(include_url=False, include_input=False)[0]["loc"]))
        raise ResponseInvalid(
            f"{redacted_url(reply.url)}: not what a zot answers: {model.__name__}"
            + (f", at {place}" if place else ""),
            status=reply.status,
        ) from None


def read_all(model: type[M], values: Iterable[object], reply: Reply) -> list[M]:
    """Parts of a reply as models."""
    return [read(model, value, reply) for value in values if value is not None]
