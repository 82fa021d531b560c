"""Real registries tell the receiver what happens, configured with the section that is printed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockhand_webhook import Inbox
from dockhand_webhook.snippets import distribution_section
from images import push_blob, push_image
from receiving import Recorder, Served, eventually, plugins_with, receiving
from registries import distribution, embedded, program

from dockhand_core import RegistryClient, connect
from dockhand_core.events import (
    BlobMounted,
    BlobPulled,
    BlobPushed,
    ManifestDeleted,
    ManifestPulled,
    ManifestPushed,
    RegistryBaseEvent,
    RegistryEvent,
    TagDeleted,
)
from dockhand_core.models import media

pytestmark = pytest.mark.live


class World:
    """A registry, the receiver that it tells, and what it told."""

    def __init__(self, url: str, flavour: str, served: Served, recorder: Recorder) -> None:
        self.url, self.flavour, self.served, self._recorder = url, flavour, served, recorder
        self.host = url.removeprefix("http://")
        self._seen = 0

    def told(self, number: int) -> list[RegistryBaseEvent]:
        """The next so many events, and no more than these."""
        eventually(lambda: len(self._recorder.events) >= self._seen + number)
        found = self._recorder.events[self._seen :]
        self._seen += number
        assert len(found) == number, found
        return found


@pytest.fixture(params=["distribution-2.8", "distribution-3.1", "embedded"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    flavour: str = request.param
    recorder = Recorder()
    inbox = Inbox(tmp_path / "inbox.db")
    token = inbox.tokens.issue("staging").get_secret_value()
    with ExitStack() as stack:
        served = stack.enter_context(
            receiving(tmp_path / "inbox.db", plugins_with(recorder=recorder), tokens=())
        )
        route = f"{served.route}/staging"
        folder = tmp_path / "registry"
        if flavour == "embedded":
            (tmp_path / "token").write_text(token)
            options = ["--notify", route, "--notify-token-file", str(tmp_path / "token")]
            url = stack.enter_context(embedded(folder, *options))
        else:
            section = yaml.safe_load(distribution_section(route, token))
            version = flavour.partition("-")[2]
            url = stack.enter_context(distribution(version, folder, **section))
        yield World(url, flavour, served, recorder)


@pytest.fixture
def registry(world: World) -> Iterator[RegistryClient]:
    with connect(world.url, logging={"driver": "null"}) as found:
        yield found


@pytest.fixture
def skopeo(tmp_path: Path) -> Callable[..., str]:
    """Runs skopeo in a home of its own."""
    binary = program("skopeo", "Debian's package skopeo has it")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [binary, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def about(event: RegistryBaseEvent) -> tuple[Any, ...]:
    return type(event), event.repository, getattr(event, "tag", None), event.digest


def test_what_happens_to_blobs(world: World, registry: RegistryClient) -> None:
    blob = push_blob(registry, "team/app", b"some bytes", media.OCI_LAYER)
    [pushed] = world.told(1)
    assert isinstance(pushed, BlobPushed)
    assert (pushed.repository, pushed.digest, pushed.size) == ("team/app", blob.digest, 10)
    assert pushed.media_type == "application/octet-stream"
    assert pushed.connection == "staging"
    assert pushed.request_method in {"PUT", "POST"}
    assert pushed.request_user_agent is not None
    assert "dockhand" in pushed.request_user_agent
    assert pushed.request_host == world.host
    assert pushed.actor_name is None
    assert pushed.url is not None
    assert pushed.url.endswith(f"/v2/team/app/blobs/{blob.digest}")

    assert registry.read_blob("team/app", blob.digest) == b"some bytes"
    [pulled] = world.told(1)
    assert about(pulled) == (BlobPulled, "team/app", None, blob.digest)
    assert pulled.request_method == "GET"

    assert registry.blob_exists("team/app", blob.digest)
    [looked] = world.told(1)
    assert about(looked) == (BlobPulled, "team/app", None, blob.digest)
    assert looked.request_method == "HEAD"

    registry.mount_blob("team/other", blob.digest, "team/app")
    [mounted] = world.told(1)
    assert isinstance(mounted, BlobMounted)
    assert (mounted.repository, mounted.from_repository) == ("team/other", "team/app")
    assert mounted.digest == blob.digest

    registry.delete_blob("team/app", blob.digest)
    [deleted] = world.told(1)
    # 2.8 and 3.1 do not say that it was a blob
    assert deleted.digest == blob.digest
    assert deleted.repository == "team/app"
    assert deleted.action == "delete"
    assert not isinstance(deleted, RegistryEvent)


def test_what_happens_to_manifests(world: World, registry: RegistryClient) -> None:
    manifest = push_image(registry, "team/app", "v1")
    *blobs, pushed = world.told(3)
    assert {type(event) for event in blobs} == {BlobPushed}
    assert isinstance(pushed, ManifestPushed)
    assert about(pushed) == (ManifestPushed, "team/app", "v1", manifest.digest)
    assert pushed.media_type == media.OCI_MANIFEST
    assert pushed.size == len(manifest.raw)

    registry.put_manifest("team/app", "v2", manifest)
    [again] = world.told(1)
    assert about(again) == (ManifestPushed, "team/app", "v2", manifest.digest)

    registry.put_manifest("team/app", manifest.digest, manifest)
    [by_digest] = world.told(1)
    assert about(by_digest) == (ManifestPushed, "team/app", None, manifest.digest)

    registry.manifest("team/app", "v1")
    [pulled] = world.told(1)
    assert isinstance(pulled, ManifestPulled)
    assert pulled.digest == manifest.digest
    assert pulled.request_method == "GET"

    assert registry.manifest_exists("team/app", "v1")
    [looked] = world.told(1)
    assert isinstance(looked, ManifestPulled)
    assert looked.request_method == "HEAD"

    registry.delete_manifest("team/app", manifest.digest)
    looked_up, *gone = world.told(4)
    assert isinstance(looked_up, ManifestPulled)  # our client reads what it deletes
    assert {about(event) for event in gone} == {
        (ManifestDeleted, "team/app", None, manifest.digest),
        (TagDeleted, "team/app", "v1", None),
        (TagDeleted, "team/app", "v2", None),
    }
