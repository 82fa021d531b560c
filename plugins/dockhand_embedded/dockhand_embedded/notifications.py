"""Notifications: events about the registry's actions, posted to endpoints as Distribution does.

Each endpoint gets every event after the action has succeeded, one event per envelope, in order. An
event that an endpoint does not accept is sent again until the endpoint accepts it, and later events
wait. Waiting events are kept in memory, up to a limit: if an endpoint is down for long, the oldest
events are dropped. As with Distribution, waiting events are lost when the process ends.

Follows: Distribution's "Work with Notifications" (the envelope of Distribution 3).
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

import httpx
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from dockhand_embedded.protocol.messages import BLOB_MEDIA_TYPE, RegistryAction, RegistryRequest

__all__ = ["NotificationTarget", "Notifier"]

CONTENT_TYPE = "application/vnd.docker.distribution.events.v2+json"
_log = logging.getLogger("dockhand_embedded")
# Bytes of waiting events for each endpoint; an event takes about a kilobyte. The endpoints share
# the bytes of an event.
_MAX_QUEUED = 32 * 1024 * 1024
_EVENT_OVERHEAD = 128  # bytes of memory for an event in addition to its content
# Bytes of the descriptors in an event. Receivers limit what they accept; ours parses 1 MiB.
_MAX_REFERENCES = 128 * 1024
_MAX_TEXT = 1024  # characters of texts that a client chooses freely, such as its user agent
_LOG_INTERVAL = 1.0  # seconds between two messages about dropped events
_PLATFORM_FIELDS = frozenset({"architecture", "os", "os.version", "os.features", "variant"})
_MIN_BACKOFF, _MAX_BACKOFF = 0.2, 30.0  # seconds


def _check_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("is not an http or https URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError("contains credentials: give a token instead")
    return text


class NotificationTarget(BaseModel):
    """An endpoint that gets notifications.

    Attributes:
        url: the URL to post events to.
        token: the bearer token, sent as `Authorization: Bearer …`.
        timeout: the timeout of each request, in seconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: Annotated[str, AfterValidator(_check_url)]
    token: SecretStr | None = None
    timeout: Annotated[float, Field(gt=0)] = 10.0


class Notifier:
    """Sends events to all endpoints, in the background."""

    def __init__(self, endpoints: Sequence[NotificationTarget]) -> None:
        """Create a queue for each endpoint; threads run only while there are events to send."""
        self._source = {"addr": socket.gethostname(), "instanceID": str(uuid.uuid4())}
        self._queues = [_EndpointQueue(endpoint) for endpoint in endpoints]

    def notify(self, request: RegistryRequest, actions: Sequence[RegistryAction]) -> None:
        """Queue an event for each action of a request, without blocking."""
        request_fields = {
            "id": str(uuid.uuid4()),
            "addr": request.client,
            "host": request.headers.get("host", "")[:_MAX_TEXT],
            "method": request.method,
            "useragent": request.headers.get("user-agent", "")[:_MAX_TEXT],
        }
        # The actions of a push with several tags have the same manifest.
        manifest = next((action.manifest for action in actions if action.manifest), None)
        references = _references(json.loads(manifest)) if manifest else None
        for action in actions:
            event = {
                "id": str(uuid.uuid4()),
                "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                "action": action.kind,
                "target": _event_target(
                    action, request.origin, references if action.manifest else None
                ),
                "request": request_fields,
                "actor": {"name": request.user[:_MAX_TEXT]} if request.user else {},
                "source": self._source,
            }
            body = json.dumps({"events": [event]}).encode()
            for queue in self._queues:
                queue.put(body)

    def close(self, timeout: float = 5.0) -> None:
        """Wait at most `timeout` seconds until all events are sent, and drop the remaining ones.

        The notifier can be used again afterwards.
        """
        until = time.monotonic() + timeout
        for queue in self._queues:
            queue.close(until)


class _EndpointQueue:
    """The events that an endpoint has not accepted yet."""

    def __init__(self, endpoint: NotificationTarget) -> None:
        self._endpoint = endpoint
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._bodies: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._size = 0  # bytes of memory that `_bodies` takes
        self._running = False
        self._dropped = 0  # events since the last message about dropped events
        self._next_message = 0.0

    def put(self, body: bytes) -> None:
        if self._process != os.getpid():
            self._reset()  # after a fork: the parent process still sends the queued events
        with self._changed:
            self._bodies.append(body)
            self._size += len(body) + _EVENT_OVERHEAD
            while self._size > _MAX_QUEUED and len(self._bodies) > 1:
                self._remove_first()
                self._dropped += 1
            self._log_dropped()
            if not self._running:
                thread = threading.Thread(target=self._run, name="notifications", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the next event tries again to start a thread
                    _log.exception("cannot start a thread for notifications")
                else:
                    self._running = True

    def _remove_first(self) -> None:
        self._size -= len(self._bodies.popleft()) + _EVENT_OVERHEAD

    def _log_dropped(self) -> None:
        now = time.monotonic()
        if not self._dropped or now < self._next_message:
            return
        _log.error(
            "%s: events of %d MiB are waiting; the oldest %d of them are lost",
            self._endpoint.url,
            _MAX_QUEUED >> 20,
            self._dropped,
        )
        self._dropped = 0
        self._next_message = now + _LOG_INTERVAL

    def close(self, until: float) -> None:
        with self._changed:
            while self._bodies and self._process == os.getpid():
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    _log.warning("%s: %d events are lost", self._endpoint.url, len(self._bodies))
                    self._bodies.clear()
                    self._size = 0
                    self._changed.notify_all()

    def _run(self) -> None:
        backoff = _MIN_BACKOFF
        headers = {"Content-Type": CONTENT_TYPE}
        if self._endpoint.token is not None:
            headers["Authorization"] = f"Bearer {self._endpoint.token.get_secret_value()}"
        # Ignore proxies and netrc in the environment, since only this URL may get the token.
        with httpx.Client(timeout=self._endpoint.timeout, headers=headers, trust_env=False) as http:
            while True:
                with self._changed:
                    self._log_dropped()
                    if not self._bodies:
                        self._running = False
                        return
                    body = self._bodies[0]
                problem = self._post(http, body)
                if problem is None:
                    backoff = _MIN_BACKOFF
                    with self._changed:
                        if self._bodies and self._bodies[0] is body:  # else it was dropped
                            self._remove_first()
                        self._changed.notify_all()
                    continue
                if backoff == _MIN_BACKOFF:
                    _log.warning(
                        "%s does not accept events: %s; trying again", self._endpoint.url, problem
                    )
                with self._changed:
                    self._changed.wait_for(lambda: not self._bodies, backoff)
                backoff = min(backoff * 2, _MAX_BACKOFF)

    def _post(self, http: httpx.Client, body: bytes) -> str | None:
        """Send an event; return why the endpoint did not accept it, or None if it did."""
        try:
            with http.stream("POST", self._endpoint.url, content=body) as reply:
                return None if reply.is_success else f"status {reply.status_code}"
        except httpx.HTTPError as error:
            return str(error) or type(error).__name__


def _event_target(
    action: RegistryAction, origin: str, references: list[dict[str, Any]] | None
) -> dict[str, Any]:
    target: dict[str, Any] = {
        "mediaType": action.media_type,
        "digest": action.digest,
        "size": action.size,
        "repository": action.repository,
    }
    if action.kind != "delete":
        is_blob = action.media_type == BLOB_MEDIA_TYPE
        folder = "blobs" if is_blob else "manifests"
        target["length"] = action.size
        target["url"] = f"{origin}/v2/{action.repository}/{folder}/{action.digest}"
    if action.tag:
        target["tag"] = action.tag
    if action.source:
        target["fromRepository"] = action.source
    if references is not None:
        target["references"] = references
    return target


def _references(document: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The descriptors in a manifest or index, with the fields that an event contains.

    Returns:
        None if the descriptors are too large for an event. The receiver can read the manifest.
    """
    descriptors = [document.get("config"), *(document.get("layers") or ())]
    descriptors += document.get("manifests") or ()
    found = []
    for entry in descriptors:
        if not isinstance(entry, dict) or "digest" not in entry:
            continue
        reference = {key: entry[key] for key in ("mediaType", "digest", "size") if key in entry}
        if isinstance(entry.get("platform"), dict):
            reference["platform"] = {
                key: value for key, value in entry["platform"].items() if key in _PLATFORM_FIELDS
            }
        found.append(reference)
    return found if len(json.dumps(found)) <= _MAX_REFERENCES else None
