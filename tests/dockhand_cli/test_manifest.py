"""The commands `manifest …`."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import json_forms
import pytest
from command_line import CommandLine
from dockhand_testing.contracts.samples import push_image, push_index
from terminal import Terminal

from dockhand_core import ImageManifest, RegistryClient
from dockhand_core.models import media


@pytest.fixture
def image(registry: RegistryClient) -> ImageManifest:
    """Push an image, whose manifest is indented JSON, as `team/app:v1`."""
    made = push_image(registry, "team/app", "v1")
    raw = json.dumps(json.loads(made.raw), indent="\t").encode() + b"\n\n"
    registry.put_manifest("team/app", "v1", raw)
    found = registry.manifest("team/app", "v1")
    assert isinstance(found, ImageManifest)
    return found


def test_get_writes_the_exact_bytes(dockhand: CommandLine, image: ImageManifest, host: str) -> None:
    got = dockhand.run_bytes("manifest", "get", f"{host}/team/app:v1")
    assert (got.stdout, got.stderr) == (image.raw, b"")
    old_mask = os.umask(0o027)
    try:
        assert dockhand.out("manifest", "get", f"{host}/team/app:v1", "-o", "m.json") == ""
    finally:
        os.umask(old_mask)
    written = dockhand.folder / "m.json"
    assert written.read_bytes() == image.raw
    assert written.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in dockhand.folder.iterdir()] == ["m.json"]

    put = dockhand.run_bytes("manifest", "put", f"{host}/team/app:v2", "-", input=image.raw)
    assert put.stdout.decode() == f"{image.digest}\n"
    assert dockhand.lines("manifest", "put", f"{host}/team/app:v3", "m.json") == [image.digest]


def test_documents(dockhand: CommandLine, image: ImageManifest, host: str) -> None:
    name = f"{host}/team/app:v1"
    properties = {
        "repository": "team/app",
        "digest": image.digest,
        "media_type": media.OCI_MANIFEST,
        "size": len(image.raw),
    }
    head = dockhand.json("manifest", "head", name)
    json_forms.check(head, "manifest head")
    assert head == properties
    assert dockhand.lines("manifest", "head", name) == [
        f"{image.digest}\t{len(image.raw)}\t{media.OCI_MANIFEST}"
    ]
    got = dockhand.json("manifest", "get", name)
    json_forms.check(got, "manifest get")
    assert got == {**properties, "output": None, "manifest": json.loads(image.raw)}
    got = dockhand.json("manifest", "get", name, "--output", "file")
    json_forms.check(got, "manifest get")
    assert got == {**properties, "output": "file", "manifest": None}

    pushed = {"repository": "team/app", "digest": image.digest, "size": len(image.raw)}
    put = dockhand.json("manifest", "put", f"{host}/team/app:v2", "file")
    json_forms.check(put, "manifest put")
    assert put == {**pushed, "tag": "v2"}


def test_a_platform_of_an_index(dockhand: CommandLine, registry: RegistryClient, host: str) -> None:
    index = push_index(registry, "team/app", "v1")
    name = f"{host}/team/app:v1"
    assert dockhand.run_bytes("manifest", "get", name).stdout == index.raw
    got = dockhand.run_bytes("manifest", "get", name, "--platform", "linux/arm64")
    assert got.stdout == registry.image("team/app", "v1", platform="linux/arm64").raw
    error = dockhand.error("manifest", "get", name, "--platform", "windows/amd64", code=3)
    assert "linux/arm64" in error


def test_without_a_tag_it_is_pushed_by_digest(
    dockhand: CommandLine, registry: RegistryClient, image: ImageManifest, host: str
) -> None:
    changed = image.raw.replace(b"by a test", b"for a test")
    (dockhand.folder / "file").write_bytes(changed := json.dumps({**json.loads(changed)}).encode())
    digest = f"sha256:{hashlib.sha256(changed).hexdigest()}"
    for name in (f"{host}/team/app", f"{host}/team/app@{digest}"):
        put = dockhand.json("manifest", "put", name, "file")
        assert (put["tag"], put["digest"]) == (None, digest)
        registry.delete_manifest("team/app", digest)
    assert list(registry.tags("team/app")) == ["v1"]
    error = dockhand.error("manifest", "put", f"{host}/team/app@{image.digest}", "file", code=1)
    assert image.digest in error
    assert dockhand.lines("manifest", "put", f"{host}/team/app:latest", "file") == [digest]
    assert list(registry.tags("team/app")) == ["latest", "v1"]


def test_errors(dockhand: CommandLine, image: ImageManifest, host: str, tmp_path: Path) -> None:
    dockhand.error("manifest", "get", f"{host}/team/app:none", code=3)
    dockhand.error("manifest", "head", f"{host}/team/app:none", code=3)
    put = ("manifest", "put", f"{host}/team/app:v2")
    assert "not JSON" in dockhand.error(*put, "-", input="text", code=2)
    assert "blob put" in dockhand.error(*put, "-", input=" " * (8 << 20) + "{}", code=2)
    assert "no such file" in dockhand.error(*put, "none", code=2)
    fields = json.loads(image.raw)
    incomplete = json.dumps({**fields, "layers": [{"size": 1}]})
    assert "mediaType" in dockhand.error(*put, "-", input=incomplete, code=2)
    absent = {**fields["config"], "digest": f"sha256:{'0' * 64}"}
    refused = json.dumps({**fields, "config": absent})
    assert "MANIFEST_BLOB_UNKNOWN" in dockhand.error(*put, "-", input=refused, code=3)
    get = ("manifest", "get", f"{host}/team/app:v1")
    assert "none/file" in dockhand.error(*get, "--output", "none/file", code=1)
    assert "folder" in dockhand.error(*get, "--output", tmp_path, code=1)


def test_a_terminal_gets_no_control_characters(
    dockhand: CommandLine, registry: RegistryClient, image: ImageManifest, host: str
) -> None:
    raw = image.raw.replace(b"by a test", "\u202eby a test".encode())
    registry.put_manifest("team/app", "v1", raw)
    terminal = Terminal(dockhand, "manifest", "get", f"{host}/team/app:v1")
    try:
        assert terminal.end() == 0
    finally:
        terminal.close()
    assert "\\u202eby a test" in terminal.seen
    assert "\u202e" not in terminal.seen


def test_head_on_a_terminal(dockhand: CommandLine, image: ImageManifest, host: str) -> None:
    terminal = Terminal(dockhand, "manifest", "head", f"{host}/team/app:v1")
    try:
        assert terminal.end() == 0
    finally:
        terminal.close()
    assert image.digest in terminal.seen
    assert f" {len(image.raw)} bytes" in terminal.seen
