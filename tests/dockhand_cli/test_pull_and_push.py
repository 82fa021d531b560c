"""The commands `dockhand pull`, `push`, `tag` and `index`."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path

import json_forms
from command_line import CommandLine
from dockhand_testing.contracts.samples import push_image, push_index
from watched_registry import watched_registry

from dockhand_core import ImageIndex, RegistryClient, connect


def test_the_format_of_a_path(
    dockhand: CommandLine, registry: RegistryClient, host: str, tmp_path: Path
) -> None:
    index = push_index(registry, "a/app", "v1")
    source = f"{host}/a/app:v1"
    document = dockhand.json("pull", source, "app.tar")
    json_forms.check(document, "pull")
    assert (document["source"], document["target"]) == (source, "app.tar")
    assert (document["digest"], document["blobs_copied"], document["tag"]) == (
        index.digest,
        4,
        "v1",
    )
    assert dockhand.lines("pull", source, "layout") == [f"layout@{index.digest}"]
    assert (tmp_path / "layout/oci-layout").exists()
    image = index.manifests[1].digest
    only = dockhand.lines("pull", source, "layout", "--platform", "linux/arm64", "--name", "arm")
    assert only == [f"layout@{image}"]
    names = [
        each["annotations"]["org.opencontainers.image.ref.name"]
        for each in json.loads((tmp_path / "layout/index.json").read_text())["manifests"]
    ]
    assert sorted(names) == ["arm", "v1"]
    dockhand.out("pull", f"{host}/a/app:amd64", "docker.tar", "--format", "docker-archive")
    assert b"a/app:amd64" in (tmp_path / "docker.tar").read_bytes()
    assert "--overwrite" in dockhand.error("pull", source, "app.tar", code=1)
    dockhand.out("pull", source, "app.tar", "--overwrite", "--platforms", "linux/amd64")
    assert "without compression" in dockhand.error("pull", source, "app.tar.gz", code=2)
    dockhand.out("pull", source, "oci-archive:prefixed")
    assert tarfile.is_tarfile(dockhand.folder / "prefixed")
    other = dockhand.error("pull", source, "oci:layout", "--format", "docker-archive", code=2)
    assert other == "oci:layout: the format is oci, and --format says docker-archive"
    assert "as a stream" in dockhand.error("pull", source, "-", code=2)
    assert "a/none" in dockhand.error("pull", f"{host}/a/none:v1", "none.tar", code=3)
    assert not (tmp_path / "none.tar").exists()


def test_archives_are_pushed(
    dockhand: CommandLine, registry: RegistryClient, host: str, tmp_path: Path
) -> None:
    index = push_index(registry, "a/app", "v1")
    registry.save_image("a/app", "v1", tmp_path / "app.tar")
    packed = gzip.compress((tmp_path / "app.tar").read_bytes())
    (tmp_path / "app.tar.gz").write_bytes(packed)
    document = dockhand.json("push", "app.tar.gz", f"{host}/b/app")
    json_forms.check(document, "push")
    assert (document["target"], document["tag"]) == (f"{host}/b/app:latest", "latest")
    assert (document["digest"], document["blobs_copied"]) == (index.digest, 4)
    again = dockhand.json("push", "app.tar", f"{host}/b/app:v1")
    assert (again["blobs_copied"], again["blobs_skipped"], again["bytes_copied"]) == (0, 4, 0)
    by_digest = f"{host}/c/app@{index.digest}"
    assert dockhand.lines("push", "app.tar", by_digest) == [by_digest]
    some = dockhand.lines("push", "app.tar", f"{host}/d/app:v1", "--platforms", "linux/arm64")
    pushed = registry.manifest("d/app", "v1")
    assert some == [f"{host}/d/app:v1@{pushed.digest}"]
    assert isinstance(pushed, ImageIndex)
    assert len(pushed.manifests) == 1


def test_one_of_several_images_is_pushed(
    dockhand: CommandLine, registry: RegistryClient, host: str, tmp_path: Path
) -> None:
    for tag in ("amd64", "arm64"):
        push_image(registry, "a/app", tag, architecture=tag)
        registry.save_image("a/app", tag, tmp_path / "layout", format="oci")
    several = dockhand.error("push", "layout", f"{host}/b/app", code=1)
    assert "choose one with --source NAME: amd64 " in several
    dockhand.out("push", "layout", f"{host}/b/app", "--source", "arm64")
    assert registry.manifest("b/app", "latest").digest == registry.manifest("a/app", "arm64").digest
    dockhand.out("push", "oci:layout:amd64", f"{host}/c/app")
    assert registry.manifest("c/app", "latest").digest == registry.manifest("a/app", "amd64").digest
    missing = dockhand.error("push", "none", f"{host}/b/app", code=3)
    assert missing == "none: there is no such file or folder"
    (tmp_path / "no.tar").write_text("not an archive")
    assert "no.tar" in dockhand.error("push", "no.tar", f"{host}/b/app", code=1)


def test_further_tags(dockhand: CommandLine) -> None:
    with (
        watched_registry() as watched,
        connect(watched.url, logging={"driver": "null"}) as registry,
    ):
        host = watched.url.removeprefix("http://")
        image = push_image(registry, "a/app", "v1")
        watched.requests.clear()
        assert dockhand.lines("tag", f"{host}/a/app:v1", "v2", "latest") == [
            f"{host}/a/app:v2@{image.digest}", f"{host}/a/app:latest@{image.digest}",
        ]  # fmt: skip
        assert watched.count("GET", "/manifests/v1") == 1
        assert watched.count("PUT", "/manifests/") == 2
        assert not [target for _, target in watched.requests if "/blobs/" in target]
        document = dockhand.json("tag", f"{host}/a/app@{image.digest}", "v3")
        json_forms.check(document, "tag")
        assert document == {
            "repository": "a/app", "digest": image.digest, "tags": [{"tag": "v3", "error": None}],
        }  # fmt: skip
        assert "a/app" in dockhand.error("tag", f"{host}/a/app:none", "v4", "v5", code=3)
        elsewhere = dockhand.error("tag", f"{host}/a/app:v1", "b/app:v1", code=2)
        assert "dockhand cp" in elsewhere
        assert "'-x'" in dockhand.error("tag", f"{host}/a/app:v1", "v6", "--", "-x", code=2)
        watched.answer = lambda method, path: (
            (403, b"") if method == "PUT" and path.endswith("/v7") else None
        )
        done = dockhand.run("tag", f"{host}/a/app:v1", "v7", "v8", "--json", code=1)
        assert [each["error"] is None for each in json.loads(done.stdout)["tags"]] == [False, True]
        assert done.stderr.splitlines()[-1] == "error: 1 of 2 tags failed"
        assert sorted(registry.tags("a/app")) == ["latest", "v1", "v2", "v3", "v8"]


def test_an_index(dockhand: CommandLine, registry: RegistryClient, host: str) -> None:
    amd64 = push_image(registry, "a/app", "amd64")
    arm64 = push_image(registry, "a/app", "arm64", architecture="arm64")
    image = f"{host}/a/app:v1"
    sources = ("amd64", f"{host}/a/app:arm64")
    document = dockhand.json("index", image, *sources, "--annotation", "some.key=a=b")
    json_forms.check(document, "index")
    pushed = registry.manifest("a/app", "v1")
    assert document == {"repository": "a/app", "tag": "v1", "digest": pushed.digest}
    assert isinstance(pushed, ImageIndex)
    assert [each.digest for each in pushed.manifests] == [amd64.digest, arm64.digest]
    assert [str(each.platform) for each in pushed.manifests] == ["linux/amd64", "linux/arm64"]
    assert pushed.annotations == {"some.key": "a=b"}
    lines = dockhand.lines("index", f"{host}/a/app:v2", str(amd64.digest), "--media-type",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )  # fmt: skip
    second = registry.manifest("a/app", "v2")
    assert lines == [f"{host}/a/app:v2@{second.digest}"]
    assert second.media_type.startswith("application/vnd.docker")
    assert "nothing" in dockhand.error("index", image, "amd64", "nothing", code=3)
    other = dockhand.error("index", image, f"{host}/b/app:v1", code=2)
    assert f"dockhand cp {host}/b/app:v1 {host}/a/app" in other
    assert "KEY=VALUE" in dockhand.error("index", image, "amd64", "--annotation", "x", code=2)
