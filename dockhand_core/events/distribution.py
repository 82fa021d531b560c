"""Parser of Distribution's notifications: envelopes of events.

Follows: Distribution's "Work with notifications", section "Envelope"; the media type has `v1` in
Distribution 2.x and `v2` in 3.x.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dockhand_core.errors import EventInvalid
from dockhand_core.events.classes import (
    BlobDeleted,
    BlobMounted,
    BlobPulled,
    BlobPushed,
    ManifestDeleted,
    ManifestPulled,
    ManifestPushed,
    RegistryBaseEvent,
    RegistryEvent,
    RepositoryDeleted,
    TagDeleted,
)
from dockhand_core.events.fields import make_event, object_field, parse_object
from dockhand_core.events.parsers import EventHeaders

__all__ = ["DistributionParser"]

_MEDIA_TYPE_PREFIX = "application/vnd.docker.distribution.events.v"
_BLOB_MEDIA_TYPE = "application/octet-stream"  # Distribution gives this media type to all blobs
_PUSHES_AND_PULLS: dict[str, tuple[type[RegistryEvent], type[RegistryEvent]]] = {
    "push": (ManifestPushed, BlobPushed),
    "pull": (ManifestPulled, BlobPulled),
}


class DistributionParser:
    """The parser of the envelopes of Distribution 2 and 3, and of registries compatible with it."""

    def matches(self, headers: Mapping[str, str]) -> bool:
        """Whether the content type is that of an envelope, whatever its version."""
        content_type = EventHeaders(headers).get("content-type", "")
        return content_type.lower().startswith(_MEDIA_TYPE_PREFIX)

    def parse(self, headers: Mapping[str, str], body: bytes) -> list[RegistryBaseEvent]:  # noqa: ARG002
        """Parse an envelope into its events, in the envelope's order.

        Raises:
            EventInvalid: the body is not an envelope, or an event in it is malformed; the error's
                `events` has the well-formed events.
        """
        entries = parse_object(body, "the envelope").get("events")
        if not isinstance(entries, list):
            raise EventInvalid("the envelope has no list of events")
        events: list[RegistryBaseEvent] = []
        problem = ""
        for position, raw in enumerate(entries):
            try:
                if not isinstance(raw, dict):
                    raise EventInvalid("is not a JSON object")
                events.append(_event(raw))
            except EventInvalid as error:
                problem = problem or f"events[{position}]: {error}"
        if problem:
            raise EventInvalid(problem, events=events)
        return events


def _event(raw: dict[str, Any]) -> RegistryBaseEvent:
    target, request = object_field(raw, "target"), object_field(raw, "request")
    source = object_field(raw, "source")
    kind = _event_class(raw.get("action"), target)
    values = {
        "id": raw.get("id"),
        "timestamp": raw.get("timestamp"),
        "action": raw.get("action"),
        "digest": target.get("digest"),
        "repository": target.get("repository"),
        "request_id": request.get("id"),
        "request_addr": request.get("addr"),
        "request_host": request.get("host"),
        "request_method": request.get("method"),
        "request_user_agent": request.get("useragent"),
        "actor_name": object_field(raw, "actor").get("name"),
        "source_addr": source.get("addr"),
        "source_instance_id": source.get("instanceID"),
        "raw": raw,
    }
    if kind is TagDeleted or issubclass(kind, RegistryEvent):
        values["tag"] = target.get("tag")
    if issubclass(kind, RegistryEvent):
        values["media_type"] = target.get("mediaType")
        values["size"] = target.get("size")
        values["url"] = target.get("url")
        values["references"] = target.get("references") or ()
    if kind is BlobMounted:
        values["from_repository"] = target.get("fromRepository")
    return make_event(kind, values)


def _event_class(action: object, target: dict[str, Any]) -> type[RegistryBaseEvent]:
    if action == "delete":
        if target.get("tag"):
            return TagDeleted
        if not target.get("digest"):
            return RepositoryDeleted
        return BlobDeleted if _is_blob(target) else ManifestDeleted
    if action == "mount":
        return BlobMounted
    if isinstance(action, str) and action in _PUSHES_AND_PULLS:
        return _PUSHES_AND_PULLS[action][_is_blob(target)]
    raise EventInvalid("the action is not one of push, pull, mount, delete")


def _is_blob(target: dict[str, Any]) -> bool:
    """Whether an event's target is a blob, and not a manifest.

    The target's URL decides, because a manifest can have any media type. Without a URL, a target
    with a tag or references is a manifest. Without a URL, a tag and references, the media type
    decides.
    """
    path = str(target.get("url") or "").partition("?")[0].split("/")
    if len(path) > 2 and path[-2] in {"blobs", "manifests"}:
        return path[-2] == "blobs"
    if target.get("tag") or target.get("references"):
        return False
    return target.get("mediaType") == _BLOB_MEDIA_TYPE
