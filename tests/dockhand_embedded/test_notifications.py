"""Notifications of the registry, in Distribution's format."""

from __future__ import annotations

import http.server
import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dockhand_testing.contracts.samples import push_image, push_index
from registries import HTPASSWD, PASSWORD, embedded, free_port

from dockhand_core import (
    ConfigError,
    Digest,
    Dockhand,
    Plugins,
    RegistryClient,
    async_connect,
    connect,
)
from dockhand_core.events import (
    BlobMounted,
    BlobPushed,
    EventParsers,
    ManifestDeleted,
    ManifestPushed,
    TagDeleted,
)

QUIET = {"driver": "null"}
TOKEN = "n0t1fy-s3cret"


class NotificationReceiver(http.server.ThreadingHTTPServer):
    """A server that receives notifications; it rejects the next `reject_next` of them."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        self.received: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.reject_next = 0
        super().__init__(("127.0.0.1", port), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hook"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for _, envelope in self.received for event in envelope["events"]]

    def summaries(self) -> list[tuple[str, str, str, str]]:
        """Return the action, repository, digest and tag of each event."""
        return [
            (e["action"], t["repository"], t["digest"], t.get("tag", ""))
            for e in self.events
            for t in [e["target"]]
        ]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: NotificationReceiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.reject_next:
            self.server.reject_next -= 1
            self.send_response(503)
        else:
            self.server.received.append((dict(self.headers), json.loads(body)))
            self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Discard every line."""


@pytest.fixture
def receiver() -> Iterator[NotificationReceiver]:
    server = NotificationReceiver()
    yield server
    server.shutdown()
    server.server_close()


def connect_with_notifications(
    receiver: NotificationReceiver, root: str | Path = ":memory:"
) -> RegistryClient:
    endpoint = {"url": receiver.url, "token": TOKEN}
    return connect(str(root), driver="embedded", notifications=[endpoint], logging=QUIET)


def test_each_kind_of_event(receiver: NotificationReceiver) -> None:
    with connect_with_notifications(receiver) as registry:
        manifest = push_image(registry, "team/app", "v1")
        layer, config = manifest.layers[0].digest, manifest.config.digest
        registry.manifest("team/app", "v1")
        registry.manifest_head("team/app", manifest.digest)
        registry.read_blob("team/app", layer)
        registry.mount_blob("team/other", layer, "team/app")
        registry.put_manifest("team/app", "latest", manifest)
        registry.delete_tag("team/app", "latest")
        registry.delete_manifest("team/app", manifest.digest)
        registry.delete_blob("team/other", layer)
    digest = str(manifest.digest)
    not_deletions = [event for event in receiver.summaries() if event[0] != "delete"]
    assert [event for event in receiver.summaries() if event[0] == "delete"] == [
        ("delete", "team/app", "", "latest"),
        ("delete", "team/app", digest, ""),
        ("delete", "team/app", "", "v1"),
        ("delete", "team/other", str(layer), ""),
    ]
    for expected in (
        ("push", "team/app", str(config), ""),
        ("push", "team/app", digest, "v1"),
        ("push", "team/app", digest, "latest"),
        ("pull", "team/app", digest, "v1"),
        ("pull", "team/app", digest, ""),
        ("pull", "team/app", str(layer), ""),
    ):
        assert expected in not_deletions  # the client sends other pulls, too
    assert [e for e in not_deletions if e[0] == "mount"] == [
        ("mount", "team/other", str(layer), "")
    ]
    headers, _ = receiver.received[0]
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["Content-Type"] == "application/vnd.docker.distribution.events.v2+json"
    assert all(len(envelope["events"]) == 1 for _, envelope in receiver.received)


def test_event_fields(receiver: NotificationReceiver) -> None:
    with connect_with_notifications(receiver) as registry:
        manifest = push_image(registry, "team/app", "v1")
        registry.mount_blob("team/other", manifest.layers[0].digest, "team/app")
    [pushed] = [e for e in receiver.events if e["target"].get("tag") == "v1"]
    target = pushed["target"]
    size = len(manifest.raw)
    assert (target["size"], target["length"]) == (size, size)
    assert target["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert target["url"] == f"http://embedded/v2/team/app/manifests/{manifest.digest}"
    assert [entry["digest"] for entry in target["references"]] == [
        manifest.config.digest,
        manifest.layers[0].digest,
    ]
    assert pushed["request"]["method"] == "PUT"
    assert pushed["request"]["useragent"].startswith("dockhand")
    assert pushed["timestamp"].endswith("Z")
    assert pushed["actor"] == {}
    [mounted] = [e for e in receiver.events if e["action"] == "mount"]
    assert mounted["target"]["fromRepository"] == "team/app"
    assert mounted["target"]["mediaType"] == "application/octet-stream"
    assert len({e["id"] for e in receiver.events}) == len(receiver.events)
    assert len({e["source"]["instanceID"] for e in receiver.events}) == 1


def test_index_references_and_rejected_push(receiver: NotificationReceiver) -> None:
    with connect_with_notifications(receiver) as registry:
        index = push_index(registry, "a", "v1")
        with pytest.raises(Exception, match="MANIFEST_INVALID"):
            registry.put_manifest("a", "bad", b"{}", media_type=index.media_type)
    [event] = [e for e in receiver.events if e["target"].get("tag") == "v1"]
    assert [entry["digest"] for entry in event["target"]["references"]] == [
        entry.digest for entry in index.manifests
    ]
    assert event["target"]["references"][1]["platform"]["variant"] == "v8"
    assert not [e for e in receiver.events if e["target"].get("tag") == "bad"]


def test_rejected_events_are_sent_again(
    receiver: NotificationReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    """The events are sent again in order, and pushes do not wait for them."""
    receiver.reject_next = 2
    with connect_with_notifications(receiver) as registry:
        digests = [str(registry.upload_blob("a", str(n).encode()).digest) for n in range(5)]
    pushed = [digest for action, _, digest, _ in receiver.summaries() if action == "push"]
    assert pushed == digests
    assert "does not accept events: status 503" in caplog.text
    assert TOKEN not in caplog.text


def test_no_receiver(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    from dockhand_embedded.notifications import Notifier

    real = Notifier.close
    monkeypatch.setattr(Notifier, "close", lambda self, timeout=0.3: real(self, timeout))
    endpoint = {"url": f"http://127.0.0.1:{free_port()}/", "token": TOKEN}
    with (
        caplog.at_level(logging.WARNING),
        connect(":memory:", driver="embedded", notifications=[endpoint], logging=QUIET) as registry,
    ):
        registry.upload_blob("a", b"data")
    assert "events are lost" in caplog.text
    for thread in [t for t in threading.enumerate() if t.name == "notifications"]:
        thread.join(10)  # the thread ends when its queue is empty
        assert not thread.is_alive()
    assert TOKEN not in caplog.text


async def _push(url: str) -> Digest:
    endpoint = {"url": url, "token": TOKEN}
    async with async_connect(
        ":memory:", driver="embedded", notifications=[endpoint], logging=QUIET
    ) as registry:
        return (await registry.upload_blob("a", b"data")).digest


def test_async_client(receiver: NotificationReceiver) -> None:
    import asyncio

    digest = asyncio.run(_push(receiver.url))
    assert ("push", "a", str(digest), "") in receiver.summaries()


def test_server_with_notifications(receiver: NotificationReceiver, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(HTPASSWD)
    secret = tmp_path / "token"
    secret.write_text(f"{TOKEN}\n")
    auth = {"driver": "basic", "username": "alice", "password": PASSWORD}
    options = [
        "--notify",
        receiver.url,
        "--notify-token-file",
        str(secret),
        "--htpasswd",
        str(users),
    ]
    with (
        embedded(tmp_path, *options) as url,
        connect(url, logging=QUIET, auth=auth) as registry,
    ):
        manifest = push_image(registry, "team/app", "v1")
    [event] = [e for e in receiver.events if e["target"].get("tag") == "v1"]
    assert event["actor"] == {"name": "alice"}
    assert event["request"]["addr"].startswith("127.0.0.1:")
    assert event["request"]["host"] == url.removeprefix("http://")
    assert event["target"]["url"] == f"{url}/v2/team/app/manifests/{manifest.digest}"
    assert receiver.received[0][0]["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("endpoint", "hint"),
    [
        ({"url": "ftp://host/"}, "is not an http or https URL"),
        ({"url": "http://"}, "is not an http or https URL"),
        ({"url": f"http://user:{TOKEN}@host/"}, "give a token instead"),
        ({"url": "http://host/", "tokn": "x"}, "tokn"),
        ({"url": "http://host/", "timeout": 0}, "timeout"),
        ({}, "url"),
    ],
)
def test_invalid_endpoints(endpoint: dict[str, Any], hint: str) -> None:
    from dockhand_embedded import create_app

    with pytest.raises(ConfigError, match="notifications") as caught:
        create_app(":memory:", notifications=[endpoint])
    assert hint in str(caught.value)
    assert TOKEN not in str(caught.value)
    main = {"driver": "embedded", "root": ":memory:", "notifications": [endpoint]}
    with pytest.raises(ConfigError, match="notifications") as caught:
        Dockhand({"connections": {"main": main}}).connection("main")
    assert TOKEN not in str(caught.value)


def test_events_parse_as_distribution_events(receiver: NotificationReceiver) -> None:
    """The core's parser reads the events as if Distribution had sent them."""
    with connect_with_notifications(receiver) as registry:
        manifest = push_image(registry, "team/app", "v1")
        registry.mount_blob("team/other", manifest.layers[0].digest, "team/app")
        registry.delete_manifest("team/app", manifest.digest)
    parsers = EventParsers(Plugins())
    events = [
        event
        for headers, envelope in receiver.received
        for event in parsers.parse(headers, json.dumps(envelope).encode())
    ]
    pushed = [event for event in events if isinstance(event, ManifestPushed)]
    assert [(event.tag, event.digest) for event in pushed] == [("v1", manifest.digest)]
    [mounted] = [event for event in events if isinstance(event, BlobMounted)]
    assert (mounted.repository, mounted.from_repository) == ("team/other", "team/app")
    assert [type(event) for event in events[-2:]] == [ManifestDeleted, TagDeleted]
    assert any(isinstance(event, BlobPushed) for event in events)


def test_references_too_large_for_an_event_are_left_out(receiver: NotificationReceiver) -> None:
    """The event itself arrives, and is small enough for every receiver."""
    with connect_with_notifications(receiver) as registry:
        layer = registry.upload_blob("a", b"layer").digest
        descriptor = {"mediaType": "x/" + "y" * 200, "digest": str(layer), "size": 5}
        for count, tag in ((100, "small"), (2048, "large")):
            document = {"schemaVersion": 2, "config": descriptor, "layers": [descriptor] * count}
            registry.put_manifest(
                "a",
                tag,
                json.dumps(document).encode(),
                media_type="application/vnd.oci.image.manifest.v1+json",
            )
    targets = {e["target"].get("tag"): e["target"] for e in receiver.events}
    assert len(targets["small"]["references"]) == 101
    assert "references" not in targets["large"]
    assert max(int(headers["Content-Length"]) for headers, _ in receiver.received) < 200_000
    parsed = EventParsers(Plugins()).parse(
        receiver.received[-1][0], json.dumps(receiver.received[-1][1]).encode()
    )
    assert any(isinstance(event, ManifestPushed) for event in parsed)


def test_platforms_in_references_have_known_fields_only(receiver: NotificationReceiver) -> None:
    with connect_with_notifications(receiver) as registry:
        child = push_image(registry, "a", "v1")
        platform = {"os": "linux", "architecture": "arm64", "own": {"deep": [[[1]]]}}
        entry = {**json.loads(child.descriptor().model_dump_json(by_alias=True, exclude_none=True))}
        document = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{**entry, "platform": platform}],
        }
        data = json.dumps(document).encode()
        kind = "application/vnd.oci.image.index.v1+json"
        registry.put_manifest("a", "all", data, media_type=kind)
    [event] = [e for e in receiver.events if e["target"].get("tag") == "all"]
    assert event["target"]["references"][0]["platform"] == {
        "os": "linux",
        "architecture": "arm64",
    }


def test_waiting_events_take_limited_memory(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an endpoint is down, the oldest events are dropped; the log says how many."""
    import tracemalloc

    from dockhand_embedded import Headers, RegistryRequest, notifications
    from dockhand_embedded.protocol.messages import RegistryAction

    monkeypatch.setattr(notifications, "_MAX_QUEUED", 1 << 20)
    targets = [
        notifications.NotificationTarget(url=f"http://127.0.0.1:{free_port()}/") for _ in range(3)
    ]
    notifier = notifications.Notifier(targets)
    digest = "sha256:" + "0" * 64
    descriptor = {"mediaType": "x/y", "digest": digest, "size": 1}
    document = {"schemaVersion": 2, "config": descriptor, "layers": [descriptor] * 900}
    manifest = json.dumps(document).encode()
    request = RegistryRequest("PUT", "/v2/a/manifests/x", (), Headers([("User-Agent", "x" * 9999)]))
    action = RegistryAction("push", "a", digest, "x/y", 7, "v1", manifest=manifest)
    tracemalloc.start()
    started = time.monotonic()
    try:
        for _ in range(4):
            notifier.notify(request, [action] * 50)
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        notifier.close(0)
    assert used < 3 << 20  # the three queues share the bytes
    messages = [r.message for r in caplog.records if "events of 1 MiB are waiting" in r.message]
    assert messages
    assert len(messages) <= 3 * (time.monotonic() - started + 1)


def test_newest_events_are_kept(
    receiver: NotificationReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dockhand_embedded import notifications

    monkeypatch.setattr(notifications, "_MAX_QUEUED", 10_000)
    monkeypatch.setattr(notifications, "_MIN_BACKOFF", 1.0)
    receiver.reject_next = 1
    with connect_with_notifications(receiver) as registry:
        digests = [str(registry.upload_blob("a", str(n).encode()).digest) for n in range(40)]
    pushed = [digest for action, _, digest, _ in receiver.summaries() if action == "push"]
    assert 0 < len(pushed) < 40
    assert pushed == digests[-len(pushed) :]
