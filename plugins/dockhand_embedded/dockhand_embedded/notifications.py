"""Telling others what happens in the registry, as Distribution does.

Each endpoint is sent every event once it is sure to have happened, one envelope for each, in
order. What an endpoint does not take is sent again until it does, and later events wait. They wait
in memory, so what is not out when the process ends is lost, as with Distribution.

Follows: Distribution's "Work with Notifications" (the envelope of its version 3).
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

from dockhand_embedded.protocol.messages import BLOB, Happening, Request

__all__ = ["Endpoint", "Notifier"]

CONTENT_TYPE = "application/vnd.docker.distribution.events.v2+json"
_log = logging.getLogger("dockhand_embedded")
_HELD = 100_000  # events; one takes about a kilobyte
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 30.0


def _is_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("is not an http or https URL")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds a password: give a token instead")
    return text


class Endpoint(BaseModel):
    """Who is told.

    Attributes:
        url: where events are posted to.
        token: sent as `Authorization: Bearer …`.
        timeout: seconds for each request.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: Annotated[str, AfterValidator(_is_url)]
    token: SecretStr | None = None
    timeout: Annotated[float, Field(gt=0)] = 10.0


class Notifier:
    """Sends what happens to every endpoint, in the background."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        """Send nothing yet: threads run only while there is something to send."""
        self._source = {"addr": socket.gethostname(), "instanceID": str(uuid.uuid4())}
        self._queues = [_Queue(endpoint) for endpoint in endpoints]

    def tell(self, request: Request, happened: Sequence[Happening]) -> None:
        """Take note of what a request did; waits for nobody."""
        about = {
            "id": str(uuid.uuid4()),
            "addr": request.client,
            "host": request.headers.get("host", ""),
            "method": request.method,
            "useragent": request.headers.get("user-agent", ""),
        }
        for each in happened:
            event = {
                "id": str(uuid.uuid4()),
                "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
                "action": each.action,
                "target": _target(each, request.origin),
                "request": about,
                "actor": {"name": request.user} if request.user else {},
                "source": self._source,
            }
            body = json.dumps({"events": [event]}).encode()
            for queue in self._queues:
                queue.put(body)

    def close(self, timeout: float = 5.0) -> None:
        """Wait until all is out, at most some seconds, and give up what is not.

        It can be used again afterwards.
        """
        until = time.monotonic() + timeout
        for queue in self._queues:
            queue.close(until)


class _Queue:
    """What one endpoint has not taken yet."""

    def __init__(self, endpoint: Endpoint) -> None:
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
            self._reset()  # in a fork: the parent sends what is its own
        with self._changed:
            if len(self._bodies) >= _HELD:
                # The oldest are as good as the newest; these can still be counted.
                self._lost += 1
                if self._lost == 1:
                    _log.error("%s: %d events wait; more are lost", self._endpoint.url, _HELD)
                return
            self._bodies.append(body)
            if not self._running:
                thread = threading.Thread(target=self._run, name="notifications", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the next event tries again
                    _log.exception("no thread for notifications")
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
        wait = _FIRST_WAIT
        headers = {"Content-Type": CONTENT_TYPE}
        if self._endpoint.token is not None:
            headers["Authorization"] = f"Bearer {self._endpoint.token.get_secret_value()}"
        # No proxy or netrc of the environment: the token is for this URL.
        with httpx.Client(timeout=self._endpoint.timeout, headers=headers, trust_env=False) as http:
            while True:
                with self._changed:
                    if not self._bodies:
                        self._running = False
                        return
                    body = self._bodies[0]
                problem = self._post(http, body)
                if problem is None:
                    wait = _FIRST_WAIT
                    with self._changed:
                        if self._bodies and self._bodies[0] is body:  # else given up meanwhile
                            self._bodies.popleft()
                        self._changed.notify_all()
                    continue
                if wait == _FIRST_WAIT:
                    _log.warning("%s takes no events: %s", self._endpoint.url, problem)
                with self._changed:
                    self._changed.wait_for(lambda: not self._bodies, wait)
                wait = min(wait * 2, _LONGEST_WAIT)

    def _post(self, http: httpx.Client, body: bytes) -> str | None:
        """What went wrong, or None."""
        try:
            with http.stream("POST", self._endpoint.url, content=body) as reply:
                return None if reply.is_success else f"status {reply.status_code}"
        except httpx.HTTPError as error:
            return str(error) or type(error).__name__


def _target(each: Happening, origin: str) -> dict[str, Any]:
    target: dict[str, Any] = {
        "mediaType": each.media_type,
        "digest": each.digest,
        "size": each.size,
        "repository": each.repository,
    }
    if each.action != "delete":
        blob = each.media_type == BLOB
        kind = "blobs" if blob else "manifests"
        target["length"] = each.size
        target["url"] = f"{origin}/v2/{each.repository}/{kind}/{each.digest}"
    if each.tag:
        target["tag"] = each.tag
    if each.source:
        target["fromRepository"] = each.source
    if each.manifest:
        target["references"] = _references(json.loads(each.manifest))
    return target


def _references(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The descriptors of a manifest or index, as far as they name anything."""
    named = [document.get("config"), *(document.get("layers") or ())]
    named += document.get("manifests") or ()
    return [
        {key: entry[key] for key in ("mediaType", "digest", "size", "platform") if key in entry}
        for entry in named
        if isinstance(entry, dict) and "digest" in entry
    ]
