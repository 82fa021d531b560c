"""zot's notifications: CloudEvents over HTTP, in binary mode.

Follows: CloudEvents 1.0, "HTTP Protocol Binding", 3.1; zot's events extension.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dockhand_core.errors import EventInvalid
from dockhand_core.events.classes import (
    ImageLintFailed,
    ImageScanned,
    ManifestDeleted,
    ManifestPushed,
    RegistryBaseEvent,
    RegistryEvent,
    RepositoryCreated,
    TagDeleted,
)
from dockhand_core.events.fields import build, read_object, table
from dockhand_core.events.headers import EventHeaders

__all__ = ["ZotParser"]

_TYPES = "zotregistry."
_KINDS: dict[str, type[RegistryBaseEvent]] = {
    "repository.created": RepositoryCreated,
    "image.updated": ManifestPushed,
    "image.lint_failed": ImageLintFailed,
    "image.scanned": ImageScanned,
}


class ZotParser:
    """Reads what zot's event sinks are sent over HTTP: one event for each request."""

    def matches(self, headers: Mapping[str, str]) -> bool:
        """Whether it is a CloudEvent of one of zot's types."""
        return EventHeaders(headers).get("ce-type", "").startswith(_TYPES)

    def parse(self, headers: Mapping[str, str], body: bytes) -> list[RegistryBaseEvent]:
        """The event. Its `raw` is the body; what the headers said is in id, timestamp and action.

        Raises:
            EventInvalid: it is of a type that is not known, or lacks what an event needs.
        """
        said = EventHeaders(headers)
        action = said["ce-type"].removeprefix(_TYPES)
        raw = read_object(body, "the event's data")
        request = table(raw, "request")
        reference = str(raw.get("reference") or "")
        tag = reference if reference and ":" not in reference else None
        kind = _KINDS.get(action)
        if action == "image.deleted":
            kind = TagDeleted if tag else ManifestDeleted
        if kind is None:
            raise EventInvalid(f"zot's event type {action[:100]!r} is not known")
        values = {
            "id": said.get("ce-id"),
            "timestamp": said.get("ce-time"),
            "action": action,
            "digest": raw.get("digest"),
            "repository": raw.get("name"),
            "request_addr": request.get("addr"),
            "request_method": request.get("method"),
            "request_user_agent": request.get("useragent"),
            "actor_name": table(raw, "actor").get("name"),
            "source_addr": said.get("ce-source"),
            "raw": raw,
        }
        if kind is TagDeleted or issubclass(kind, RegistryEvent):
            values["tag"] = tag
        if issubclass(kind, RegistryEvent):
            values["media_type"] = raw.get("mediaType")
            values |= _manifest(raw.get("manifest"))
        if kind is ImageScanned:
            values["summary"] = table(raw, "summary")
        return [build(kind, values)]


def _manifest(text: object) -> dict[str, Any]:
    """What the manifest, which comes along as a string, says of itself."""
    if not isinstance(text, str) or not text:
        return {}
    try:
        manifest = read_object(text, "the manifest")
    except EventInvalid:  # it is one all the same, of a kind of its own
        return {"size": len(text.encode())}
    listed = [manifest.get("config"), *_list(manifest, "layers"), *_list(manifest, "manifests")]
    references = [entry for entry in listed if isinstance(entry, dict)]
    return {"size": len(text.encode()), "references": references}


def _list(manifest: dict[str, Any], key: str) -> list[Any]:
    found = manifest.get(key)
    return found if isinstance(found, list) else []
