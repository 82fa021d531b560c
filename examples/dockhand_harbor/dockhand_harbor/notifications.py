"""The parser of Harbor's webhook notifications, in both of its formats, and their own event class.

Follows: Harbor 2.16, `src/pkg/notifier`: the formats `Default` and `CloudEvents`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from dockhand_core import DockhandError, EventInvalid
from dockhand_core.events import (
    ImageScanned,
    ManifestDeleted,
    ManifestPulled,
    ManifestPushed,
    RegistryBaseEvent,
)
from dockhand_core.models import check_repository, check_tag

__all__ = ["HarborEvent", "HarborParser"]


class HarborEvent(RegistryBaseEvent):
    """An event of Harbor that the core has no class for; the hook `dockhand_event` gets it.

    Its `action` tells its kind: `QUOTA_EXCEED`, `QUOTA_WARNING`, `REPLICATION`, `TAG_RETENTION`,
    `SCANNING_FAILED`, `SCANNING_STOPPED`, or `SCANNING_COMPLETED` of a bill of materials. Its
    `repository` is the project's name, if it is not about a single repository.

    """

    @property
    def data(self) -> dict[str, Any]:
        """The details, as Harbor wrote them in either format."""
        found: dict[str, Any] = self.raw.get("event_data") or self.raw.get("data") or {}
        return found


# The names in the format Default, by those in the format CloudEvents.
_ACTIONS = {
    "harbor.artifact.pushed": "PUSH_ARTIFACT",
    "harbor.artifact.pulled": "PULL_ARTIFACT",
    "harbor.artifact.deleted": "DELETE_ARTIFACT",
    "harbor.scan.completed": "SCANNING_COMPLETED",
    "harbor.scan.failed": "SCANNING_FAILED",
    "harbor.scan.stopped": "SCANNING_STOPPED",
    "harbor.quota.exceeded": "QUOTA_EXCEED",
    "harbor.quota.warned": "QUOTA_WARNING",
    "harbor.replication.status.changed": "REPLICATION",
    "harbor.tag_retention.finished": "TAG_RETENTION",
}
_KNOWN = frozenset(_ACTIONS.values())
_CLASSES: dict[str, type[RegistryBaseEvent]] = {
    "PUSH_ARTIFACT": ManifestPushed,
    "PULL_ARTIFACT": ManifestPulled,
    "DELETE_ARTIFACT": ManifestDeleted,
    "SCANNING_COMPLETED": ImageScanned,
}


class HarborParser:
    """The parser of the requests that Harbor sends to an HTTP endpoint of a project's webhook."""

    def matches(self, headers: Mapping[str, str], connection: str | None) -> bool:  # noqa: ARG002
        """Whether the body may be in one of Harbor's formats, on any route.

        Harbor sends no header of its own, so `parse` looks at the body. A header `ce-type` belongs
        to CloudEvents in another form, such as zot's.
        """
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        return (
            kind in ("application/json", "application/cloudevents+json")
            and "ce-type" not in headers
        )

    def parse(self, headers: Mapping[str, str], body: bytes) -> list[RegistryBaseEvent] | None:  # noqa: ARG002
        """Parse a notification into an event for each of its artifacts, or into one without any.

        Returns:
            the events; None if the body is not one of Harbor's.

        Raises:
            EventInvalid: a field is missing or has a wrong value.
        """
        try:
            raw = json.loads(body)
        except (ValueError, RecursionError):
            return None
        found = _envelope(raw) if isinstance(raw, dict) else None
        if found is None:
            return None
        action, data, common = found
        try:
            common.setdefault("id", hashlib.sha256(body).hexdigest())
            common |= {"raw": raw, "action": action, "repository": _repository(data)}
            return list(_events(action, data, common))
        except (
            DockhandError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            StopIteration,
        ) as error:
            reason = _reason(error)
            raise EventInvalid(f"a malformed notification {action} of Harbor: {reason}") from error


def _envelope(raw: dict[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]] | None:
    """Return the action, the data and the common fields; None if it is no event of Harbor's."""
    kind = raw.get("type")
    if not isinstance(kind, str):
        return None
    if "specversion" in raw and kind in _ACTIONS:
        action, data = _ACTIONS[kind], raw.get("data")
        common = {
            "id": raw.get("id"),
            "timestamp": raw.get("time"),
            "request_id": raw.get("requestid"),
            "source_addr": raw.get("source"),
        }
    elif "occur_at" in raw and kind in _KNOWN:
        action, data = kind, raw.get("event_data")
        common = {"timestamp": raw.get("occur_at")}
    else:
        return None
    common["actor_name"] = raw.get("operator")
    return action, data if isinstance(data, dict) else {}, common


def _repository(data: dict[str, Any]) -> str:
    """Return the repository's name, or that of the project."""
    if "repository" in data:
        return check_repository(data["repository"]["repo_full_name"])
    if "retention" in data:
        return str(data["retention"]["project_name"])
    replication = data["replication"]
    local = [replication[end] for end in ("src_resource", "dest_resource")]
    return str(next(each["namespace"] for each in local if each.get("namespace")))


def _events(
    action: str, data: dict[str, Any], common: dict[str, Any]
) -> Iterator[RegistryBaseEvent]:
    bill = data.get("scan", {}).get("scan_type") == "sbom"
    kind = HarborEvent if bill else _CLASSES.get(action, HarborEvent)
    if kind is HarborEvent:
        resources = data.get("resources") or [{}]
        yield HarborEvent(**common, digest=resources[0].get("digest"))
        return
    if not data["resources"]:
        raise ValueError("it has no resources")
    for number, resource in enumerate(data["resources"]):
        values = common | {"digest": resource["digest"]}
        if number:  # in practice, Harbor sends one
            values["id"] = f"{common['id']}/{number}"
        if kind is not ManifestDeleted:
            tag = resource.get("tag")
            values["tag"] = None if tag in (None, "", resource["digest"]) else check_tag(tag)
        if kind is ImageScanned:
            values["summary"] = resource.get("scan_overview") or {}
        yield kind(**values)


def _reason(error: Exception) -> str:
    """Describe an error in a line that names the field."""
    if not isinstance(error, ValidationError):
        return repr(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
