"""Distribution's notifications: envelopes of events.

Follows: Distribution's "Work with Notifications", envelopes v1 (2.x) and v2 (3.x).
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
from dockhand_core.events.fields import build, read_object, table
from dockhand_core.events.headers import EventHeaders

__all__ = ["DistributionParser"]

_MEDIA_TYPE = "application/vnd.docker.distribution.events.v"
_BLOB = "application/octet-stream"  # whatever the blob is
_PUSHES_AND_PULLS: dict[str, tuple[type[RegistryEvent], type[RegistryEvent]]] = {
    "push": (ManifestPushed, BlobPushed),
    "pull": (ManifestPulled, BlobPulled),
}


class DistributionParser:
    """Reads the envelopes that Distribution 2 and 3 send, and those who do as they do."""

    def matches(self, headers: Mapping[str, str]) -> bool:
        """Whether the content type is that of an envelope, of any version."""
        said = EventHeaders(headers).get("content-type", "")
        return said.lower().startswith(_MEDIA_TYPE)

    def parse(self, headers: Mapping[str, str], body: bytes) -> list[RegistryBaseEvent]:  # noqa: ARG002
        """The envelope's events, in its order.

        Raises:
            EventInvalid: it is no envelope, or some event in it cannot be understood; the others
                are the error's `events`.
        """
        listed = read_object(body, "the envelope").get("events")
        if not isinstance(listed, list):
            raise EventInvalid("the envelope has no list of events")
        events: list[RegistryBaseEvent] = []
        wrong = ""
        for position, raw in enumerate(listed):
            try:
                if not isinstance(raw, dict):
                    raise EventInvalid("is not a JSON object")
                events.append(_event(raw))
            except EventInvalid as error:
                wrong = wrong or f"events[{position}]: {error}"
        if wrong:
            raise EventInvalid(wrong, events=events)
        return events


def _event(raw: dict[str, Any]) -> RegistryBaseEvent:
    target, request = table(raw, "target"), table(raw, "request")
    source = table(raw, "source")
    kind = _kind(raw.get("action"), target)
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
        "actor_name": table(raw, "actor").get("name"),
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
    return build(kind, values)


def _kind(action: object, target: dict[str, Any]) -> type[RegistryBaseEvent]:
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
    """What the URL says, as media types can be anything; without one, what only manifests have."""
    path = str(target.get("url") or "").partition("?")[0].split("/")
    if len(path) > 2 and path[-2] in {"blobs", "manifests"}:
        return path[-2] == "blobs"
    if target.get("tag") or target.get("references"):
        return False
    return target.get("mediaType") == _BLOB
