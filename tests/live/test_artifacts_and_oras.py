"""Artifacts that Dockhand and oras push, pull, attach and discover for each other."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from artifacts import CONTENT_DIGEST, CREATED, TITLE, UNPACK, listing
from dockhand_testing.blocking import BlockingLoop, as_blocking
from registries import Clients, distribution, embedded

from dockhand_core import (
    ArtifactFile,
    ArtifactInvalid,
    RegistryClient,
    async_connect,
    connect,
)

pytestmark = pytest.mark.live

TIME = "2026-01-02T03:04:05Z"
FILES = ["manual.pdf", "site", "empty", "deep/er/file"]


@pytest.fixture(params=["2.8", "3.1", "embedded"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Start a registry, and provide its URL."""
    folder = tmp_path / "registry"
    with (
        embedded(folder) if request.param == "embedded" else distribution(request.param, folder)
    ) as found:
        yield found


@pytest.fixture(params=["sync", "async"])
def registry(request: pytest.FixtureRequest, url: str) -> Iterator[RegistryClient]:
    """Provide Dockhand's sync and async clients of the registry at `url`."""
    if request.param == "sync":
        with connect(url, logging={"driver": "null"}) as found:
            yield found
        return
    loop = BlockingLoop()
    client = as_blocking(loop, async_connect(url, logging={"driver": "null"}))
    try:
        yield client
    finally:
        client.close()
        loop.close()


class Oras:
    """The client oras, which works in a folder of its own.

    Args:
        clients: the clients.
        url: the registry's URL.
    """

    def __init__(self, clients: Clients, url: str) -> None:
        self._clients = clients
        self.work = clients.home
        self._host = url.removeprefix("http://")

    def __call__(self, command: str, name: str, *arguments: str, succeeds: bool = True) -> str:
        """Run a command on an artifact, such as `push` on `app:v1`; return the output."""
        return self._clients.run(
            "oras", *command.split(), "--plain-http", f"{self._host}/{name}", *arguments,
            succeeds=succeeds,
        )  # fmt: skip

    def manifest(self, name: str) -> dict[str, Any]:
        """Fetch a manifest."""
        found: dict[str, Any] = json.loads(self("manifest fetch", name))
        return found


@pytest.fixture
def oras(url: str, tmp_path: Path) -> Oras:
    """Provide oras; some files to push are in its folder."""
    return Oras(Clients(tmp_path / "home"), url)


@pytest.fixture
def work(oras: Oras, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of both clients, with files to push."""
    folder = oras.work
    for name in ("site/sub/deeper", "empty", "deep/er"):
        (folder / name).mkdir(parents=True)
    (folder / "manual.pdf").write_bytes(bytes(range(256)) * 5000)
    (folder / "deep" / "er" / "file").write_bytes(b"")
    (folder / "site" / "index.html").write_text("<html>" * 1000)
    (folder / "site" / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "site" / "sub" / "run.sh").chmod(0o755)
    (folder / "site" / "sub" / "secret").write_text("mine")
    (folder / "site" / "sub" / "secret").chmod(0o600)
    (folder / "site" / "link").symlink_to("sub/run.sh")
    (folder / "site" / "sub" / "up").symlink_to("../index.html")
    monkeypatch.chdir(folder)
    return folder


def modes(folder: Path) -> dict[str, tuple[int, int]]:
    """The permissions of the files below a folder, and their times, rounded to seconds."""
    return {
        path.relative_to(folder).as_posix(): (
            stat.S_IMODE(path.stat().st_mode),
            (path.stat().st_mtime_ns + 500_000_000) // 1_000_000_000,
        )
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def without_gzip(manifest: dict[str, Any]) -> dict[str, Any]:
    """Leave out digest and size of compressed layers: two programs compress differently."""
    layers = [
        {k: v for k, v in layer.items() if k not in ("digest", "size")}
        if UNPACK in layer.get("annotations", {})
        else layer
        for layer in manifest["layers"]
    ]
    return {**manifest, "layers": layers}


def test_both_push_the_same_manifest(registry: RegistryClient, oras: Oras, work: Path) -> None:
    notes = {"a": "<b> & c", "ü": "é"}
    given = [f"--annotation={name}={value}" for name, value in notes.items()]
    kind = "application/vnd.example.docs"
    oras("push", "app:theirs", *FILES, *given, "--artifact-type", kind)
    theirs = oras.manifest("app:theirs")
    time = theirs["annotations"][CREATED]
    registry.push_artifact(
        "app", "ours", FILES, annotations={**notes, CREATED: time}, artifact_type=kind
    )
    ours = oras.manifest("app:ours")
    # field by field, and in the same order; with the digests of the folders' tar files
    assert json.dumps(without_gzip(ours)) == json.dumps(without_gzip(theirs))
    assert all(CONTENT_DIGEST in layer["annotations"] for layer in ours["layers"][1:3])


@pytest.mark.parametrize("config", [False, True])
def test_both_push_the_same_bytes_of_files(
    registry: RegistryClient, oras: Oras, work: Path, config: bool
) -> None:
    (work / "config.json").write_text("{ }")
    created = f"--annotation={CREATED}={TIME}"
    given = ["--config", "config.json:application/vnd.example.config+json"] if config else []
    oras("push", "app:theirs", "manual.pdf:application/pdf", "deep/er/file", created, *given)
    settings = ArtifactFile("config.json", media_type="application/vnd.example.config+json")
    pushed = registry.push_artifact(
        "app",
        "ours",
        [ArtifactFile("manual.pdf", media_type="application/pdf"), "deep/er/file"],
        annotations={CREATED: TIME},
        config=settings if config else None,
    )
    assert registry.manifest_head("app", "theirs").digest == pushed.digest


def test_both_push_the_same_artifact_without_files(registry: RegistryClient, oras: Oras) -> None:
    oras("push", "app:theirs", f"--annotation={CREATED}={TIME}")
    pushed = registry.push_artifact("app", "ours", [], annotations={CREATED: TIME})
    assert registry.manifest_head("app", "theirs").digest == pushed.digest


def test_oras_pulls_what_dockhand_pushed(
    registry: RegistryClient, oras: Oras, work: Path, tmp_path: Path
) -> None:
    registry.push_artifact("app", "v1", FILES)
    oras("pull", "app:v1", "--output", str(tmp_path / "out"))
    got, expected = listing(tmp_path / "out"), listing(work)
    assert {name: expected[name] for name in got} == got
    assert set(got) >= {"manual.pdf", "site/sub/run.sh", "site/link", "empty", "deep/er/file"}
    assert modes(tmp_path / "out" / "site") == modes(work / "site")


def test_dockhand_pulls_what_oras_pushed(
    registry: RegistryClient, oras: Oras, work: Path, tmp_path: Path
) -> None:
    oras("push", "app:v1", *FILES)
    oras("pull", "app:v1", "--output", str(tmp_path / "theirs"))
    paths = registry.pull_artifact("app", "v1", tmp_path / "ours")
    assert paths == [tmp_path / "ours" / name for name in FILES]
    assert listing(tmp_path / "ours") == listing(tmp_path / "theirs")
    assert modes(tmp_path / "ours" / "site") == modes(work / "site")


def test_the_working_directory_itself(
    registry: RegistryClient,
    oras: Oras,
    work: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = tmp_path / "source"
    shutil.copytree(work / "site", source, symlinks=True)
    monkeypatch.chdir(source)
    registry.push_artifact("app", "ours", ["."])
    oras("pull", "app:ours", "--output", str(tmp_path / "out"))
    assert listing(tmp_path / "out") == listing(source)
    registry.pull_artifact("app", "ours", tmp_path / "again")
    assert listing(tmp_path / "again") == listing(source)


def test_oras_discovers_what_dockhand_attached(
    registry: RegistryClient, oras: Oras, work: Path, tmp_path: Path
) -> None:
    registry.push_artifact("app", "v1", ["manual.pdf"])
    pushed = registry.push_artifact(
        "app",
        None,
        [ArtifactFile(b'{"spdx": 1}', name="sbom.spdx.json", media_type="application/spdx+json")],
        artifact_type="application/spdx+json",
        subject="v1",
        annotations={"k": "v"},
    )
    found = json.loads(oras("discover", "app:v1", "--format", "json"))
    (entry,) = found["referrers"]
    assert entry["digest"] == pushed.digest
    assert entry["artifactType"] == "application/spdx+json"
    oras("pull", f"app@{pushed.digest}", "--output", str(tmp_path / "out"))
    assert listing(tmp_path / "out") == {"sbom.spdx.json": b'{"spdx": 1}'}


def test_dockhand_lists_what_oras_attached(
    registry: RegistryClient, oras: Oras, work: Path, tmp_path: Path
) -> None:
    kind = "application/vnd.example.signature"
    oras("push", "app:v1", "manual.pdf")
    created = f"--annotation={CREATED}={TIME}"
    oras("attach", "app:v1", "site", "--artifact-type", kind, created)
    subject = registry.manifest("app", "v1").descriptor()
    (entry,) = registry.referrers("app", subject.digest, artifact_type=kind).manifests
    registry.pull_artifact("app", entry, tmp_path / "out")
    assert listing(tmp_path / "out" / "site") == listing(work / "site")
    ours = registry.push_artifact(
        "app", None, ["site"], artifact_type=kind, subject=subject, annotations={CREATED: TIME}
    )
    attached = [oras.manifest(f"app@{digest}") for digest in (entry.digest, ours.digest)]
    assert json.dumps(without_gzip(attached[0])) == json.dumps(without_gzip(attached[1]))
    digests = {e.digest for e in registry.referrers("app", subject.digest).manifests}
    assert digests == {entry.digest, ours.digest}


def test_names_that_both_refuse(
    registry: RegistryClient, oras: Oras, work: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("secret")
    oras("push", "app:v1", "--disable-path-validation", "../outside", "manual.pdf")
    oras("pull", "app:v1", "--output", str(tmp_path / "out"), succeeds=False)
    with pytest.raises(ArtifactInvalid, match="leads out of the folder"):
        registry.pull_artifact("app", "v1", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
    (work / "site" / "out").symlink_to("../../outside")
    oras("push", "app:v2", "site")
    oras("pull", "app:v2", "--output", str(tmp_path / "out"), succeeds=False)
    with pytest.raises(ArtifactInvalid, match="leads out of the folder"):
        registry.pull_artifact("app", "v2", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
    with pytest.raises(ArtifactInvalid, match="'site/out'"):
        registry.push_artifact("app", "v3", ["site"])


def test_dockhand_skips_what_oras_does_not_name(
    registry: RegistryClient, oras: Oras, tmp_path: Path
) -> None:
    oras("push", "app:v1")
    assert TITLE not in json.dumps(oras.manifest("app:v1"))
    assert registry.pull_artifact("app", "v1", tmp_path / "out") == []
