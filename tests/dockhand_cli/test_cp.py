"""The command `dockhand cp`: between registries, connections and files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import json_forms
import pytest
from command_line import CommandLine
from dockhand_testing.contracts.samples import push_blob, push_image, push_index
from raw_servers import refusing_port
from watched_registry import watched_registry

from dockhand_core import Descriptor, ImageIndex, ImageManifest, RegistryClient
from dockhand_core.models import media


@pytest.fixture
def index(registry: RegistryClient) -> ImageIndex:
    """Push the index `a/app:v1`, with images for linux/amd64 and linux/arm64."""
    return push_index(registry, "a/app", "v1")


@pytest.fixture
def connections(dockhand: CommandLine, host: str) -> None:
    """Configure the connections `one` and `two`, both to the registry."""
    tables = [f'[connections.{name}]\nbase_uri = "http://{host}"\n' for name in ("one", "two")]
    (dockhand.folder / "dockhand.toml").write_text("default = 'one'\n" + "".join(tables))


def _digest(registry: RegistryClient, repository: str, reference: str) -> str:
    return str(registry.manifest(repository, reference).digest)


def test_the_tag_of_a_target(
    dockhand: CommandLine, registry: RegistryClient, host: str, index: ImageIndex
) -> None:
    source = f"{host}/a/app:v1"
    assert dockhand.lines("cp", source, f"{host}/b/app") == [f"{host}/b/app:v1@{index.digest}"]
    assert dockhand.lines("cp", source, f"{host}/b/app:x") == [f"{host}/b/app:x@{index.digest}"]
    image = index.manifests[0].digest
    digest = f"{host}/a/app@{image}"
    assert dockhand.lines("cp", digest, f"{host}/c/app") == [f"{host}/c/app@{image}"]
    named = f"{host}/a/app:name@{image}"
    assert dockhand.lines("cp", named, f"{host}/d/app") == [f"{host}/d/app:name@{image}"]
    pinned = f"{host}/e/app@{index.digest}"
    assert dockhand.lines("cp", source, pinned) == [pinned]
    assert "not sha256:0000" in dockhand.error(
        "cp", source, f"{host}/e/app@sha256:{'0' * 64}", code=1
    )
    assert [list(registry.tags(f"{name}/app")) for name in "bcde"] == [
        ["v1", "x"],
        [],
        ["name"],
        [],
    ]


def test_connections_and_the_document(
    dockhand: CommandLine,
    registry: RegistryClient,
    host: str,
    index: ImageIndex,
    connections: None,
) -> None:
    document = dockhand.json("cp", "@one/a/app:v1", "@two/b/app", "--concurrency", "2")
    json_forms.check(document, "cp")
    assert document.pop("seconds") > 0
    assert document == {
        "source": "@one/a/app:v1",
        "target": "@two/b/app:v1",
        "tag": "v1",
        "digest": index.digest,
        "manifests": 3,
        "blobs_copied": 0,
        "blobs_mounted": 4,
        "blobs_skipped": 0,
        "bytes_copied": 0,
        "dropped": [],
    }
    assert dockhand.lines("cp", "-c", "two", "a/app:arm64", "c/app") == [
        f"c/app:arm64@{index.manifests[1].digest}"
    ]
    assert "two" in dockhand.error("cp", "@three/a/app", "@two/b/app", code=2)


def test_platforms(
    dockhand: CommandLine, registry: RegistryClient, host: str, index: ImageIndex
) -> None:
    source = f"{host}/a/app:v1"
    dockhand.out("cp", source, f"{host}/b/app:one", "--platform", "linux/arm64")
    assert _digest(registry, "b/app", "one") == index.manifests[1].digest
    document = dockhand.json("cp", source, f"{host}/b/app:some", "--platforms", "linux/amd64")
    some = registry.manifest("b/app", "some")
    assert isinstance(some, ImageIndex)
    assert [each.digest for each in some.manifests] == [index.manifests[0].digest]
    assert document["digest"] == some.digest
    both = "linux/amd64,linux/arm64/v8"
    assert dockhand.out("cp", source, f"{host}/b/app:both", "--platforms", both)
    assert "linux/s390x" in dockhand.error(
        "cp", source, f"{host}/b/app:x", "--platform", "linux/s390x", code=3
    )
    assert "'amd64' is not a platform" in dockhand.error(
        "cp", source, f"{host}/b/app:x", "--platform", "amd64", code=2
    )
    excluded = dockhand.error(
        "cp", source, f"{host}/b/app", "--platform", "a/b", "--platforms", "a/c", code=2
    )
    assert "exclude each other" in excluded
    by_digest = f"{host}/a/app@{index.digest}"
    no_tag = dockhand.error("cp", by_digest, f"{host}/b/app", "--platforms", "linux/amd64", code=2)
    assert "give TARGET a tag" in no_tag


def test_referrers_come_along_or_are_reported(
    dockhand: CommandLine, registry: RegistryClient, host: str, index: ImageIndex
) -> None:
    kind = "application/spdx+json"
    sbom = registry.push_artifact("a/app", None, [], artifact_type=kind, subject="v1")
    dockhand.out("cp", f"{host}/a/app:v1", f"{host}/b/app", "--referrers")
    assert [d.digest for d in registry.referrers("b/app", index.digest).manifests] == [sbom.digest]
    done = dockhand.run(
        "cp", f"{host}/a/app:v1", f"{host}/c/app", "--referrers", "--platforms", "linux/amd64",
        "--json",
    )  # fmt: skip
    document = json.loads(done.stdout)
    json_forms.check(document, "cp")
    (dropped,) = document["dropped"]
    assert (dropped["digest"], dropped["artifact_type"]) == (sbom.digest, kind)
    assert done.stderr.startswith("warning: 1 referrer left out, as ")
    assert f"{sbom.digest} ({kind})" in done.stderr


def test_docker_manifests_are_converted(
    dockhand: CommandLine, registry: RegistryClient, host: str
) -> None:
    config = push_blob(registry, "a/docker", b"{}", media.DOCKER_CONFIG)
    registry.put_manifest(
        "a/docker", "v1", ImageManifest(media_type=media.DOCKER_MANIFEST, config=config, layers=())
    )
    dockhand.out("cp", f"{host}/a/docker:v1", f"{host}/b/docker", "--convert", "oci")
    assert registry.manifest("b/docker", "v1").media_type == media.OCI_MANIFEST
    with watched_registry() as target:
        target.answer = lambda method, path: (
            (415, b"") if method == "PUT" and "/manifests/" in path else None
        )
        error = dockhand.error(
            "cp", f"{host}/a/docker:v1", f"{target.url.removeprefix('http://')}/x/y", code=1
        )
    assert "--convert oci converts it" in error
    assert "Invalid value for '--convert': 'docker' is not one of 'oci'" in dockhand.error(
        "cp", f"{host}/a/docker:v1", f"{host}/b/docker", "--convert", "docker", code=2
    )


def test_all_tags(
    dockhand: CommandLine, registry: RegistryClient, host: str, index: ImageIndex
) -> None:
    source = f"{host}/a/app"
    lines = dockhand.lines("cp", source, f"{host}/b/app", "--all-tags")
    assert sorted(line.partition("@")[0] for line in lines) == [
        f"{host}/b/app:{tag}" for tag in ("amd64", "arm64", "v1")
    ]
    documents = dockhand.json_lines("cp", source, f"{host}/c/app", "--tags", "v*", "--tags", "a*64")
    for document in documents:
        json_forms.check(document, "cp --all-tags")
    assert {each["tag"]: each["digest"] for each in documents} == {
        "v1": index.digest,
        "amd64": index.manifests[0].digest,
        "arm64": index.manifests[1].digest,
    }
    assert documents[0]["source"] == f"{source}:{documents[0]['tag']}"
    assert len(dockhand.lines("cp", source, f"{host}/d/app", "--newest", "1")) == 1
    done = dockhand.run("cp", source, f"{host}/e/app", "--tags", "none*")
    assert done.stderr == f"warning: {source}: no tag matches none*\n"
    assert "re:(" in dockhand.error("cp", source, f"{host}/e/app", "--tags", "re:(", code=2)
    tagged = dockhand.error("cp", f"{source}:v1", f"{host}/e/app", "--all-tags", code=2)
    assert "a repository is expected" in tagged
    assert "not for files" in dockhand.error("cp", source, "oci:folder", "--all-tags", code=2)
    assert "a/none" in dockhand.error("cp", f"{host}/a/none", f"{host}/e", "--all-tags", code=3)


def test_other_tags_are_copied_after_one_that_failed(
    dockhand: CommandLine, registry: RegistryClient, host: str
) -> None:
    push_image(registry, "a/app", "good")
    push_image(registry, "a/app", "bad", architecture="arm64")
    with watched_registry() as target:
        to = f"{target.url.removeprefix('http://')}/b/app"
        target.answer = lambda method, path: (
            (403, b"") if method == "PUT" and path.endswith("/manifests/bad") else None
        )
        done = dockhand.run("cp", "--all-tags", f"{host}/a/app", to, code=1)
        assert re.fullmatch(rf"{to}:good@sha256:\w{{64}}\n", done.stdout)
        first, last = done.stderr.splitlines()
        assert first.startswith(f"error: {to}:bad: ")
        assert last == "error: 1 of 2 tags failed"
        done = dockhand.run("cp", "--tags", "*", "--json", f"{host}/a/app", to, code=1)
        documents = [json.loads(line) for line in done.stdout.splitlines()]
        for document in documents:
            json_forms.check(document, "cp --all-tags")
        assert {each["tag"]: each["error"] is None for each in documents} == {
            "good": True, "bad": False,
        }  # fmt: skip
        done = dockhand.run("cp", "--tags", "bad", f"{host}/a/app", to, code=4)
        assert done.stderr.splitlines()[-1] == "error: 1 of 1 tag failed"


def test_errors_have_exit_codes(
    dockhand: CommandLine, registry: RegistryClient, host: str, index: ImageIndex
) -> None:
    source = f"{host}/a/app:v1"
    assert "a/none" in dockhand.error("cp", f"{host}/a/none:v1", f"{host}/b/app", code=3)
    with watched_registry() as target:
        target.answer = lambda method, _: (403, b"") if method == "POST" else None
        denied = f"{target.url.removeprefix('http://')}/b/app"
        assert "403" in dockhand.error("cp", source, denied, code=4)
    with refusing_port() as port:
        gone = dockhand.error("cp", source, f"127.0.0.1:{port}/b/app", code=5)
        assert f"127.0.0.1:{port}" in gone
        assert dockhand.error("cp", f"127.0.0.1:{port}/b/app", source, code=5)
    assert "dockhand cp --help" in dockhand.error("cp", source, code=2)
    both = dockhand.error("cp", source, f"{host}/b/app:v1@{index.digest}", code=2)
    assert "a tag or a digest, not both" in both


@pytest.mark.parametrize("format_", ["oci", "oci-archive", "docker-archive"])
def test_files(dockhand: CommandLine, registry: RegistryClient, host: str, format_: str) -> None:
    layers = (push_blob(registry, "a/app", b"\0" * 1024, media.OCI_LAYER.removesuffix("+gzip")),)
    image = _pushed(registry, layers)
    to = f"{format_}:image"
    document = dockhand.json("cp", f"{host}/a/app:v1", to)
    json_forms.check(document, "cp")
    assert (document["target"], document["digest"]) == (to, image.digest)
    assert (document["blobs_copied"], document["manifests"]) == (2, None)
    assert document["bytes_copied"] == image.config.size + 1024
    lines = dockhand.lines("cp", to, f"{host}/b/app:x")
    assert lines == [f"{host}/b/app:x@{_digest(registry, 'b/app', 'x')}"]
    if format_ != "docker-archive":  # which holds no manifest
        assert _digest(registry, "b/app", "x") == image.digest
    if format_ == "oci":
        second = push_image(registry, "a/app", "v2")
        dockhand.out("cp", f"{host}/a/app:v2", "oci:image:second")
        several = dockhand.error("cp", "oci:image", f"{host}/b/app", code=1)
        assert "choose one with oci:image:NAME: v1 " in several
        assert dockhand.lines("cp", "oci:image:second", f"{host}/b/app") == [
            f"{host}/b/app:second@{second.digest}"
        ]
        return
    file = dockhand.folder / "image"
    before = file.read_bytes()
    again = dockhand.error("cp", f"{host}/a/app:v1", to, code=1)
    assert again == "image exists; --overwrite replaces it"
    dockhand.out("cp", f"{host}/a/app:v1", to, "--overwrite")
    assert file.read_bytes() == before


def _pushed(registry: RegistryClient, layers: tuple[Descriptor, ...]) -> ImageManifest:
    """Push an image whose config has the digests of its layers, and return its manifest."""
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [str(layer.digest) for layer in layers]},
    }
    blob = push_blob(registry, "a/app", json.dumps(config).encode(), media.OCI_CONFIG)
    manifest = ImageManifest(config=blob, layers=layers)
    registry.put_manifest("a/app", "v1", manifest)
    return manifest


def test_files_that_cannot_be_used(
    dockhand: CommandLine,
    registry: RegistryClient,
    host: str,
    index: ImageIndex,
    tmp_path: Path,
) -> None:
    source = f"{host}/a/app:v1"
    both = dockhand.error("cp", "oci:a", "oci-archive:b.tar", code=2)
    assert "does not copy from file to file" in both
    assert "dockhand cp oci:a localhost:5000/" in both
    missing = dockhand.error("cp", "oci-archive:none.tar", f"{host}/b/app", code=3)
    assert missing == "none.tar: there is no such file or folder"
    assert "a path is missing" in dockhand.error("cp", source, "oci-archive:", code=2)
    assert "as a stream" in dockhand.error("cp", source, "oci-archive:-", code=2)
    assert "as a stream" in dockhand.error("cp", "docker-archive:-", source, code=2)
    (tmp_path / "empty").touch()  # as `mktemp` makes it
    dockhand.out("cp", source, "oci-archive:empty")
    assert "is a file" in dockhand.error("cp", source, "oci:empty", code=1)
    (tmp_path / "folder").mkdir()
    assert "is a folder" in dockhand.error("cp", source, "docker-archive:folder", code=1)
    assert "not a regular file" in dockhand.error("cp", source, "oci-archive:/dev/null", code=1)
    two = dockhand.error("cp", source, "docker-archive:a.tar", "--platforms", "a/b,a/c", code=2)
    assert "--platform" in two
    for option in ("--referrers", "--convert=oci"):
        assert "between registries" in dockhand.error("cp", source, "oci:x", option, code=2)
    one = dockhand.error("cp", "oci-archive:empty", f"{host}/b/x", "--platform", "a/b", code=2)
    assert "--platforms" in one
