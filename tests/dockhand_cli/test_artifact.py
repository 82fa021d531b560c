"""The commands `artifact …`."""

from __future__ import annotations

import json
from pathlib import Path

import json_forms
import pytest
from command_line import CommandLine
from dockhand_testing.contracts.samples import push_image, push_index

from dockhand_core import Descriptor, ImageManifest, RegistryClient
from dockhand_core.models import media

TIME = "org.opencontainers.image.created=2026-01-02T03:04:05Z"
TITLE = "org.opencontainers.image.title"
DEFAULT_TYPE = "application/vnd.oci.image.layer.v1.tar"


@pytest.fixture
def files(dockhand: CommandLine) -> Path:
    """Write files to push, in the working folder of the command."""
    folder = dockhand.folder
    (folder / "site" / "sub").mkdir(parents=True)
    (folder / "site" / "sub" / "page").write_text("page")
    (folder / "manual.pdf").write_bytes(bytes(range(256)) * 5000)
    (folder / "notes: today").write_text("notes")
    (folder / "notes: x" / "b").mkdir(parents=True)
    (folder / "notes: x" / "b" / "c").write_text("c")
    return folder


def manifest_of(registry: RegistryClient, repository: str, reference: str) -> ImageManifest:
    found = registry.manifest(repository, reference)
    assert isinstance(found, ImageManifest)
    return found


def layers_of(manifest: ImageManifest) -> dict[str, str]:
    """The media types of layers, by title."""
    return {each.annotations[TITLE]: each.media_type for each in manifest.layers}


def test_push_and_pull(
    dockhand: CommandLine, registry: RegistryClient, host: str, files: Path
) -> None:
    push = (
        "artifact", "push", f"{host}/docs:v1", "manual.pdf:application/pdf", "site/",
        "notes: today", "notes: x/b/c", "--artifact-type", "application/vnd.example.docs",
        "--annotation", TIME, "--annotation", "org.example.formula=a=b",
    )  # fmt: skip
    (digest,) = dockhand.lines(*push)
    found = manifest_of(registry, "docs", "v1")
    assert found.digest == digest
    assert found.artifact_type == "application/vnd.example.docs"
    assert found.annotations["org.example.formula"] == "a=b"
    assert layers_of(found) == {
        "manual.pdf": "application/pdf",
        "site": f"{DEFAULT_TYPE}+gzip",
        "notes: today": DEFAULT_TYPE,
        "notes: x/b/c": DEFAULT_TYPE,
    }
    document = dockhand.json(*push)
    json_forms.check(document, "artifact push")
    assert document == {"repository": "docs", "tag": "v1", "digest": digest, "subject": None}

    pulled = dockhand.lines("artifact", "pull", f"{host}/docs:v1", "--output", "out")
    assert pulled == ["out/manual.pdf", "out/site", "out/notes: today", "out/notes: x/b/c"]
    for name in ("manual.pdf", "site/sub/page", "notes: today", "notes: x/b/c"):
        assert (files / "out" / name).read_bytes() == (files / name).read_bytes()
    (files / "out" / "manual.pdf").write_text("old")
    error = dockhand.error("artifact", "pull", f"{host}/docs:v1", "-o", "out", code=1)
    assert error == (
        "'out/manual.pdf' exists already; --overwrite replaces the files that the artifact has"
    )
    document = dockhand.json("artifact", "pull", f"{host}/docs:v1", "-o", "out", "--overwrite")
    json_forms.check(document, "artifact pull")
    assert document == {"repository": "docs", "digest": digest, "files": pulled}
    assert (files / "out" / "manual.pdf").stat().st_size == 256 * 5000


def test_a_size_limit(dockhand: CommandLine, host: str, files: Path) -> None:
    dockhand.out("artifact", "push", f"{host}/docs:v1", "manual.pdf")
    pull = ("artifact", "pull", f"{host}/docs:v1", "-o", "out", "--max-size")
    assert "--max-size is 1000000" in dockhand.error(*pull, "1MB", code=1)
    assert "is not a size such as" in dockhand.error(*pull, "1 pint", code=2)
    assert not (files / "out" / "manual.pdf").exists()
    assert dockhand.lines(*pull, "1.25MiB") == ["out/manual.pdf"]


def test_attach(dockhand: CommandLine, registry: RegistryClient, host: str, files: Path) -> None:
    image = push_image(registry, "app", "v1")
    attach = ("artifact", "attach", f"{host}/app:v1")
    (digest,) = dockhand.lines(*attach, "manual.pdf", "--artifact-type", "application/spdx+json")
    document = dockhand.json(*attach, "--artifact-type", "application/x.y", "--annotation", "a=b")
    json_forms.check(document, "artifact attach")
    assert (document["tag"], document["subject"]) == (None, image.digest)
    found = {
        each.digest: each.artifact_type
        for each in registry.referrers("app", image.digest).manifests
    }
    assert found == {digest: "application/spdx+json", document["digest"]: "application/x.y"}
    assert list(registry.tags("app")) == ["v1"]

    document = dockhand.json(
        "artifact", "push", f"{host}/app:sbom", "manual.pdf", "--subject", "v1",
        "--artifact-config", "notes: today:application/vnd.example.config",
    )  # fmt: skip
    pushed = manifest_of(registry, "app", "sbom")
    assert (document["tag"], document["subject"]) == ("sbom", image.digest)
    assert pushed.subject is not None
    assert pushed.subject.digest == image.digest
    assert pushed.config.media_type == "application/vnd.example.config"

    assert "application/spdx+json" in dockhand.error(*attach, "manual.pdf", code=2)
    typed = ("--artifact-type", "a/b")
    assert "nothing to push" in dockhand.error(*attach, *typed, code=2)
    dockhand.error("artifact", "attach", f"{host}/app:none", "manual.pdf", *typed, code=3)


def test_without_a_tag_it_is_pushed_by_digest(
    dockhand: CommandLine, registry: RegistryClient, host: str, files: Path
) -> None:
    document = dockhand.json("artifact", "push", f"{host}/docs", "manual.pdf")
    assert document["tag"] is None
    assert registry.manifest_exists("docs", document["digest"])
    assert not registry.manifest_exists("docs", "latest")
    error = dockhand.error("artifact", "push", f"{host}/docs@{document['digest']}", "x", code=2)
    assert "is pushed to a tag" in error


def test_wrong_arguments(dockhand: CommandLine, host: str, files: Path) -> None:
    (files / "other").mkdir()
    (files / "other" / "manual.pdf").write_text("other")
    push = ("artifact", "push", f"{host}/docs:v1")
    for arguments, message in {
        ("none.pdf",): "none.pdf: there is no such file or folder",
        ("none:text/plain",): "none: there is no such file or folder",
        ("manual.pdf:pdf",): "not a media type such as application/spdx+json: 'pdf'",
        ("manual.pdf", "--annotation", "a"): "--annotation a: KEY=VALUE is expected",
        ("manual.pdf", "--annotation", "a=1", "--annotation", "a=2"): "is given twice",
        ("manual.pdf", files / "other" / "manual.pdf"): "give relative paths below the working",
        (): "there is nothing to push: give a FILE or an --annotation",
    }.items():
        assert message in dockhand.error(*push, *arguments, code=2)


def test_what_is_no_artifact(
    dockhand: CommandLine, registry: RegistryClient, host: str, tmp_path: Path
) -> None:
    push_image(registry, "app", "v1")
    done = dockhand.run("artifact", "pull", f"{host}/app:v1", "--json")
    assert json.loads(done.stdout)["files"] == []
    assert done.stderr == (
        f"warning: {host}/app:v1 has no files with a name, so nothing was pulled; "
        "`dockhand pull` saves an image\n"
    )
    push_index(registry, "app", "index")
    assert "is an index" in dockhand.error("artifact", "pull", f"{host}/app:index", code=1)
    dockhand.error("artifact", "pull", f"{host}/app:none", code=3)


def test_names_that_lead_out_of_the_folder(
    dockhand: CommandLine, registry: RegistryClient, host: str, tmp_path: Path
) -> None:
    digest = registry.upload_blob("app", b"evil").digest
    empty = registry.upload_blob("app", b"{}").digest
    layer = Descriptor(
        media_type="text/plain", digest=digest, size=4, annotations={TITLE: "../\x1b[31mevil"}
    )
    config = Descriptor(media_type=media.OCI_EMPTY, digest=empty, size=2)
    registry.put_manifest("app", "evil", ImageManifest(config=config, layers=(layer,)))
    error = dockhand.error("artifact", "pull", f"{host}/app:evil", "-o", "deep/in", code=1)
    assert "\\x1b[31mevil" in error
    assert not [each for each in tmp_path.rglob("*") if each.is_file()]
