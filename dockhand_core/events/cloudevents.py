"""Parser of zot's notifications: CloudEvents over HTTP, in binary mode.

Follows: "HTTP Protocol Binding for CloudEvents" 1.0, section 3.1; zot's extension "events".
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
from dockhand_core.events.fields import make_event, object_field, parse_object
from dockhand_core.events.parsers import EventHeaders

__all__ = ["ZotParser"]

_TYPE_PREFIX = "zotregistry."
_CLASSES: dict[str, type[RegistryBaseEvent]] = {
    "repository.created": RepositoryCreated,
    "image.updated": ManifestPushed,
    "image.lint_failed": ImageLintFailed,
    "image.scanned": ImageScanned,
}


class ZotParser:
    """The parser of the requests that zot sends to an HTTP event sink, each with one event."""

    def matches(self, headers: Mapping[str, str]) -> bool:
        """Whether the notification is a CloudEvent of one of zot's types."""
        return EventHeaders(headers).get("ce-type", "").startswith(_TYPE_PREFIX)

    def parse(self, headers: Mapping[str, str], body: bytes) -> list[RegistryBaseEvent]:
        """Parse a notification into its one event.

        The event's `raw` is the body. The event's id, timestamp and action are in the headers.

        Raises:
            EventInvalid: the event has an unknown type, or lacks a required field.
        """
        attributes = EventHeaders(headers)
        action = attributes["ce-type"].removeprefix(_TYPE_PREFIX)
        raw = parse_object(body, "the event's data")
        request = object_field(raw, "request")
        reference = str(raw.get("reference") or "")
        tag = reference if reference and ":" not in reference else None
        kind = _CLASSES.get(action)
        if action == "image.deleted":
            kind = TagDeleted if tag else ManifestDeleted
        if kind is None:
            raise EventInvalid(f"zot's event type {action[:100]!r} is not known")
        values = {
            "id": attributes.get("ce-id"),
            "timestamp": attributes.get("ce-time"),
            "action": action,
            "digest": raw.get("digest"),
            "repository": raw.get("name"),
            "request_addr": request.get("addr"),
            "request_method": request.get("method"),
            "request_user_agent": request.get("useragent"),
            "actor_name": object_field(raw, "actor").get("name"),
            "source_addr": attributes.get("ce-source"),
            "raw": raw,
        }
        if kind is TagDeleted or issubclass(kind, RegistryEvent):
            values["tag"] = tag
        if issubclass(kind, RegistryEvent):
            values["media_type"] = raw.get("mediaType")
            values |= _manifest_fields(raw.get("manifest"))
        if kind is ImageScanned:
            values["summary"] = object_field(raw, "summary")
        return [make_event(kind, values)]


def _manifest_fields(text: object) -> dict[str, Any]:
    """Return the size and references of a manifest, whose JSON zot's events contain as a string."""
    if not isinstance(text, str) or not text:
        return {}
    size = len(text.encode("utf-8", "surrogatepass"))
    try:
        manifest = parse_object(text, "the manifest")
    except EventInvalid:  # a manifest of an unknown format
        return {"size": size}
    entries = [
        manifest.get("config"),
        *_list_field(manifest, "layers"),
        *_list_field(manifest, "manifests"),
    ]
    references = [entry for entry in entries if isinstance(entry, dict)]
    return {"size": size, "references": references}


def _list_field(manifest: dict[str, Any], key: str) -> list[Any]:
    value = manifest.get(key)
    return value if isinstance(value, list) else []
