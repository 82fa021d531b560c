"""Notifications: requests recorded from real registries, and envelopes made for tests."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parents[1] / "data" / "notifications"
DISTRIBUTION = "application/vnd.docker.distribution.events.v2+json"


class RecordedNotification(NamedTuple):
    """A recorded request of a registry: `case` names the action that caused it."""

    case: str
    headers: dict[str, str]
    body: bytes


def recorded(registry: str) -> Iterator[RecordedNotification]:
    """Yield the recorded notifications of `distribution-2.8.2`, `distribution-3.1.1` or `zot`."""
    for line in (FOLDER / f"{registry}.jsonl").read_text("utf-8").splitlines():
        found = json.loads(line)
        yield RecordedNotification(
            found["case"], found["headers"], json.dumps(found["body"]).encode()
        )


def push(repository: str = "team/app", id: str | None = None, **target: Any) -> dict[str, Any]:  # noqa: A002
    """Return the event of a pushed manifest in Distribution's format, for `envelope`."""
    return {
        "id": id or str(uuid.uuid4()),
        "timestamp": "2026-11-23T12:16:30.389133333Z",
        "action": "push",
        "target": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": "sha256:" + "4b" * 32,
            "size": 416,
            "repository": repository,
            "url": f"http://127.0.0.1:5000/v2/{repository}/manifests/sha256:{'4b' * 32}",
            "tag": "v1",
            **target,
        },
        "request": {"id": "r", "method": "PUT", "useragent": "", "addr": "a", "host": "h"},
        "actor": {},
        "source": {"addr": "vm:5000", "instanceID": "i"},
    }


def envelope(*events: dict[str, Any]) -> bytes:
    """Return the body of a notification of Distribution with these events."""
    return json.dumps({"events": list(events)}).encode()
