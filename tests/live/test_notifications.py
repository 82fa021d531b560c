"""Notifications of real registries, with the configuration that the receiver prints for them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockhand_testing.contracts.samples import push_blob, push_image, push_index
from dockhand_webhook import Inbox
from dockhand_webhook.snippets import distribution_section, zot_section
from registries import distribution, embedded, program, zot
from webhook_receiver import (
    EventRecorder,
    RunningReceiver,
    eventually,
    plugins_with,
    running_receiver,
)

from dockhand_core import (
    Digest,
    ImageManifest,
    ManifestInvalid,
    RegistryClient,
    Unsupported,
    connect,
)
from dockhand_core.events import (
    BlobMounted,
    BlobPulled,
    BlobPushed,
    ImageLintFailed,
    ManifestDeleted,
    ManifestPulled,
    ManifestPushed,
    RegistryBaseEvent,
    RegistryEvent,
    RepositoryCreated,
    TagDeleted,
)
from dockhand_core.models import media

pytestmark = pytest.mark.live
HELM = "application/vnd.cncf.helm.config.v1+json"


class NotificationSource:
    """A registry that sends notifications to a receiver, and the events that have arrived."""

    def __init__(
        self, url: str, flavour: str, receiver: RunningReceiver, recorder: EventRecorder
    ) -> None:
        self.url, self.flavour, self.receiver, self._recorder = url, flavour, receiver, recorder
        self.host = url.removeprefix("http://")
        self._read = 0

    @property
    def pending(self) -> list[RegistryBaseEvent]:
        """The events that `next_events` has not returned yet."""
        return self._recorder.events[self._read :]

    def next_events(self, number: int) -> list[RegistryBaseEvent]:
        """Wait for this number of events, check that no more have arrived, and return them."""
        eventually(lambda: len(self.pending) >= number)
        events = self.pending
        self._read += number
        assert len(events) == number, events
        return events


@pytest.fixture(params=["distribution-2.8", "distribution-3.1", "embedded"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NotificationSource]:
    flavour: str = request.param
    recorder = EventRecorder()
    inbox = Inbox(tmp_path / "inbox.db")
    token = inbox.tokens.issue("staging").get_secret_value()
    with ExitStack() as stack:
        receiver = stack.enter_context(
            running_receiver(tmp_path / "inbox.db", plugins_with(recorder=recorder), tokens=())
        )
        route = f"{receiver.notify_url}/staging"
        folder = tmp_path / "registry"
        if flavour == "embedded":
            (tmp_path / "token").write_text(token)
            options = ["--notify", route, "--notify-token-file", str(tmp_path / "token")]
            url = stack.enter_context(embedded(folder, *options))
        else:
            section = yaml.safe_load(distribution_section(route, token))
            version = flavour.partition("-")[2]
            url = stack.enter_context(distribution(version, folder, **section))
        yield NotificationSource(url, flavour, receiver, recorder)


@pytest.fixture
def registry(source: NotificationSource) -> Iterator[RegistryClient]:
    with connect(source.url, logging={"driver": "null"}) as found:
        yield found


@pytest.fixture
def skopeo(tmp_path: Path) -> Callable[..., str]:
    """Provide a function that runs skopeo with a home folder of its own."""
    binary = program("skopeo", "Debian's package skopeo has it")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [binary, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def summary(event: RegistryBaseEvent) -> tuple[Any, ...]:
    return type(event), event.repository, getattr(event, "tag", None), event.digest


def test_events_of_blobs(source: NotificationSource, registry: RegistryClient) -> None:
    blob = push_blob(registry, "team/app", b"some bytes", media.OCI_LAYER)
    [pushed] = source.next_events(1)
    assert isinstance(pushed, BlobPushed)
    assert (pushed.repository, pushed.digest, pushed.size) == ("team/app", blob.digest, 10)
    assert pushed.media_type == "application/octet-stream"
    assert pushed.connection == "staging"
    assert pushed.request_method in {"PUT", "POST"}
    assert pushed.request_user_agent is not None
    assert "dockhand" in pushed.request_user_agent
    assert pushed.request_host == source.host
    assert pushed.actor_name is None
    assert pushed.url is not None
    assert pushed.url.endswith(f"/v2/team/app/blobs/{blob.digest}")

    assert registry.read_blob("team/app", blob.digest) == b"some bytes"
    [pulled] = source.next_events(1)
    assert summary(pulled) == (BlobPulled, "team/app", None, blob.digest)
    assert pulled.request_method == "GET"

    assert registry.blob_exists("team/app", blob.digest)
    [looked] = source.next_events(1)
    assert summary(looked) == (BlobPulled, "team/app", None, blob.digest)
    assert looked.request_method == "HEAD"

    registry.mount_blob("team/other", blob.digest, "team/app")
    [mounted] = source.next_events(1)
    assert isinstance(mounted, BlobMounted)
    assert (mounted.repository, mounted.from_repository) == ("team/other", "team/app")
    assert mounted.digest == blob.digest

    registry.delete_blob("team/app", blob.digest)
    [deleted] = source.next_events(1)
    # the event of 2.8 and 3.1 does not show whether a blob or a manifest was deleted
    assert deleted.digest == blob.digest
    assert deleted.repository == "team/app"
    assert deleted.action == "delete"
    assert not isinstance(deleted, RegistryEvent)


def test_events_of_manifests(source: NotificationSource, registry: RegistryClient) -> None:
    manifest = push_image(registry, "team/app", "v1")
    *blobs, pushed = source.next_events(3)
    assert {type(event) for event in blobs} == {BlobPushed}
    assert isinstance(pushed, ManifestPushed)
    assert summary(pushed) == (ManifestPushed, "team/app", "v1", manifest.digest)
    assert pushed.media_type == media.OCI_MANIFEST
    assert pushed.size == len(manifest.raw)

    registry.put_manifest("team/app", "v2", manifest)
    [again] = source.next_events(1)
    assert summary(again) == (ManifestPushed, "team/app", "v2", manifest.digest)

    registry.put_manifest("team/app", manifest.digest, manifest)
    [by_digest] = source.next_events(1)
    assert summary(by_digest) == (ManifestPushed, "team/app", None, manifest.digest)

    registry.manifest("team/app", "v1")
    [pulled] = source.next_events(1)
    assert isinstance(pulled, ManifestPulled)
    assert pulled.digest == manifest.digest
    assert pulled.request_method == "GET"

    assert registry.manifest_exists("team/app", "v1")
    [looked] = source.next_events(1)
    assert isinstance(looked, ManifestPulled)
    assert looked.request_method == "HEAD"

    registry.delete_manifest("team/app", manifest.digest)
    looked_up, *gone = source.next_events(4)
    assert isinstance(looked_up, ManifestPulled)  # the client reads the manifest first
    assert {summary(event) for event in gone} == {
        (ManifestDeleted, "team/app", None, manifest.digest),
        (TagDeleted, "team/app", "v1", None),
        (TagDeleted, "team/app", "v2", None),
    }


def test_events_of_skopeo(
    source: NotificationSource, registry: RegistryClient, skopeo: Callable[..., str], tmp_path: Path
) -> None:
    """skopeo copies and deletes an index; the events of each repository arrive in order."""
    index = push_index(registry, "team/app", "v1")
    source.next_events(7)  # config, layer and manifest of two platforms, and the index
    original, copy = f"docker://{source.host}/team/app:v1", f"docker://{source.host}/team/copy:v2"
    insecure = ("--src-tls-verify=false", "--dest-tls-verify=false")
    skopeo("copy", "--all", "--preserve-digests", *insecure, original, copy)
    registry.ping()  # a ping causes no event
    eventually(lambda: _has_pushed(source, "team/copy", index.digest))
    received = source.next_events(len(source.pending))
    copied = [event for event in received if event.repository == "team/copy"]
    pushes = [event for event in copied if isinstance(event, ManifestPushed)]
    children = {entry.digest for entry in index.manifests}
    assert {event.digest for event in pushes[:-1]} == children
    assert summary(pushes[-1]) == (ManifestPushed, "team/copy", "v2", index.digest)
    assert pushes[-1].media_type == media.OCI_INDEX
    mounted = [event for event in copied if isinstance(event, BlobMounted)]
    assert len(mounted) + sum(isinstance(event, BlobPushed) for event in copied) >= 4
    assert {event.from_repository for event in mounted} <= {"team/app"}
    pulled = [event for event in received if isinstance(event, ManifestPulled)]
    assert index.digest in {event.digest for event in pulled if event.repository == "team/app"}
    agents = {event.request_user_agent for event in pushes}
    assert all(agent and agent.startswith("skopeo/") for agent in agents)

    skopeo("delete", "--tls-verify=false", f"docker://{source.host}/team/copy:v2")
    eventually(lambda: _has_deleted_a_tag(source))
    received = source.next_events(len(source.pending))
    deleted = [event for event in received if event.action == "delete"]
    assert TagDeleted in {type(event) for event in deleted}
    assert {event.repository for event in deleted} == {"team/copy"}


def _has_pushed(source: NotificationSource, repository: str, digest: Digest) -> bool:
    return any(
        isinstance(event, ManifestPushed)
        and (event.repository, event.digest) == (repository, digest)
        for event in source.pending
    )


def _has_deleted_a_tag(source: NotificationSource) -> bool:
    return any(isinstance(event, TagDeleted) for event in source.pending)


def test_event_of_a_deleted_tag(source: NotificationSource, registry: RegistryClient) -> None:
    """Distribution 3.1 and the embedded registry send the event; 2.8 cannot delete tags."""
    manifest = push_image(registry, "team/app", "v1")
    source.next_events(3)
    if source.flavour == "distribution-2.8":
        with pytest.raises(Unsupported):
            registry.delete_tag("team/app", "v1")
        return
    registry.delete_tag("team/app", "v1")
    eventually(lambda: _has_deleted_a_tag(source))
    deleted = source.next_events(len(source.pending))[-1]
    assert isinstance(deleted, TagDeleted)
    assert summary(deleted) == (TagDeleted, "team/app", "v1", None)
    assert registry.manifest_exists("team/app", manifest.digest)


def test_artifacts_keep_their_media_types(
    source: NotificationSource, registry: RegistryClient
) -> None:
    """The artifacts are a Helm chart, and a signature whose subject is an image."""
    image = push_image(registry, "team/app", "v1")
    config = push_blob(registry, "team/app", b'{"name": "chart"}', HELM)
    chart = ImageManifest(config=config, layers=())
    registry.put_manifest("team/app", "chart", chart)
    empty = push_blob(registry, "team/app", b"{}", media.OCI_EMPTY)
    signature = ImageManifest(
        artifact_type="application/vnd.example.signature", config=empty, layers=(empty,),
        subject=image.descriptor(),
    )  # fmt: skip
    registry.put_manifest("team/app", signature.digest, signature)

    def pushes() -> list[ManifestPushed]:
        return [event for event in source.pending if isinstance(event, ManifestPushed)]

    eventually(lambda: signature.digest in {event.digest for event in pushes()})
    found = {event.digest: event for event in pushes()}
    assert (found[chart.digest].tag, found[chart.digest].media_type) == (
        "chart",
        media.OCI_MANIFEST,
    )
    assert found[signature.digest].tag is None
    assert found[signature.digest].size == len(signature.raw)


def test_events_of_zot(tmp_path: Path, skopeo: Callable[..., str]) -> None:
    recorder = EventRecorder()
    token = Inbox(tmp_path / "inbox.db").tokens.issue().get_secret_value()
    quiet = {"driver": "null"}
    with ExitStack() as stack:
        receiver = stack.enter_context(
            running_receiver(tmp_path / "inbox.db", plugins_with(recorder=recorder), tokens=())
        )
        section = json.loads(zot_section(receiver.notify_url, token))["extensions"]
        url = stack.enter_context(zot(tmp_path / "zot", **section))
        registry = stack.enter_context(connect(url, driver="zot", logging=quiet))
        manifest = push_image(registry, "team/app", "v1")
        eventually(lambda: len(recorder.events) == 2)
        created, pushed = recorder.events
        assert isinstance(created, RepositoryCreated)
        assert (created.repository, created.connection) == ("team/app", None)
        assert isinstance(pushed, ManifestPushed)
        assert summary(pushed) == (ManifestPushed, "team/app", "v1", manifest.digest)
        assert (pushed.media_type, pushed.size) == (media.OCI_MANIFEST, len(manifest.raw))
        assert pushed.request_method == "PUT"
        assert len(pushed.references) == 2

        insecure = ("--src-tls-verify=false", "--dest-tls-verify=false")
        host = url.removeprefix("http://")
        skopeo("copy", *insecure, f"docker://{host}/team/app:v1", f"docker://{host}/team/copy:v2")
        eventually(lambda: len(recorder.events) == 4)
        assert {type(event) for event in recorder.events[2:]} == {RepositoryCreated, ManifestPushed}
        assert {event.repository for event in recorder.events[2:]} == {"team/copy"}

        registry.put_manifest("team/app", "v2", manifest)
        registry.delete_tag("team/app", "v1")
        registry.delete_manifest("team/app", manifest.digest)
        eventually(lambda: len(recorder.events) == 7)
        *_, by_tag, by_digest = recorder.events
        assert summary(by_tag)[:3] == (TagDeleted, "team/app", "v1")
        assert summary(by_digest) == (ManifestDeleted, "team/app", None, manifest.digest)
        assert receiver.inbox.counts().dead_letters == 0


def test_event_of_an_image_that_zot_refuses(tmp_path: Path) -> None:
    recorder = EventRecorder()
    token = Inbox(tmp_path / "inbox.db").tokens.issue().get_secret_value()
    with ExitStack() as stack:
        receiver = stack.enter_context(
            running_receiver(tmp_path / "inbox.db", plugins_with(recorder=recorder), tokens=())
        )
        section = json.loads(zot_section(receiver.notify_url, token))["extensions"]
        lint = {"enable": True, "mandatoryAnnotations": ["org.example.owner"]}
        url = stack.enter_context(zot(tmp_path / "zot", lint=lint, **section))
        registry = stack.enter_context(connect(url, driver="zot", logging={"driver": "null"}))
        with pytest.raises(ManifestInvalid):
            push_image(registry, "team/app", "v1")
        eventually(lambda: len(recorder.events) == 2)
        failed = recorder.events[-1]
        assert isinstance(failed, ImageLintFailed)
        assert (failed.repository, failed.tag) == ("team/app", "v1")
