"""Notifications: events about the registry's actions, posted to endpoints as Distribution does.

Each endpoint gets every event after the action has succeeded, one event per envelope, in order. An
event that an endpoint does not accept is sent again until the endpoint accepts it, and later events
wait. Waiting events are kept in memory. As with Distribution, they are lost when the process ends.

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
_MAX_QUEUED = 100_000  # events for each endpoint; an event takes about a kilobyte
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
            "host": request.headers.get("host", ""),
            "method": request.method,
            "useragent": request.headers.get("user-agent", ""),
        }
        for action in actions:
            event = {
                "id": str(uuid.uuid4()),
                "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                "action": action.kind,
                "target": _event_target(action, request.origin),
                "request": request_fields,
                "actor": {"name": request.user} if request.user else {},
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
        self._running = False
        self._lost = 0

    def put(self, body: bytes) -> None:
        if self._process != os.getpid():
            self._reset()  # after a fork: the parent process still sends the queued events
        with self._changed:
            if len(self._bodies) >= _MAX_QUEUED:
                # An event must be lost; the new one is dropped, since that is easier to count.
                self._lost += 1
                if self._lost == 1:
                    _log.error(
                        "%s: %d events are queued; further events are lost",
                        self._endpoint.url,
                        _MAX_QUEUED,
                    )
                return
            self._bodies.append(body)
            if not self._running:
                thread = threading.Thread(target=self._run, name="notifications", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the next event tries again to start a thread
                    _log.exception("cannot start a thread for notifications")
                else:
                    self._running = True

    def close(self, until: float) -> None:
        with self._changed:
            while self._bodies and self._process == os.getpid():
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    _log.warning("%s: %d events are lost", self._endpoint.url, len(self._bodies))
                    self._bodies.clear()
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
                    if not self._bodies:
                        self._running = False
                        return
                    body = self._bodies[0]
                problem = self._post(http, body)
                if problem is None:
                    backoff = _MIN_BACKOFF
                    with self._changed:
                        if self._bodies and self._bodies[0] is body:  # else `close` dropped it
                            self._bodies.popleft()
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


def _event_target(action: RegistryAction, origin: str) -> dict[str, Any]:
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
    if action.manifest:
        target["references"] = _references(json.loads(action.manifest))
    return target


def _references(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The descriptors in a manifest or index, with the fields that an event contains."""
    descriptors = [document.get("config"), *(document.get("layers") or ())]
    descriptors += document.get("manifests") or ()
    return [
        {key: entry[key] for key in ("mediaType", "digest", "size", "platform") if key in entry}
        for entry in descriptors
        if isinstance(entry, dict) and "digest" in entry
    ]
