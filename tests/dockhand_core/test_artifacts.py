"""Files and folders that are pushed and pulled as artifacts."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from artifacts import (
    CONTENT_DIGEST,
    CREATED,
    MODES,
    TITLE,
    UNPACK,
    folder_layer,
    listing,
    member,
    memory_registry,
    push_layers,
    tar,
)

from dockhand_core import (
    ArtifactFile,
    ArtifactFileExists,
    ArtifactInvalid,
    Descriptor,
    DigestMismatch,
    DownloadFileRefused,
    ImageManifest,
    ManifestUnknown,
    RegistryClient,
    TagInvalid,
    async_connect,
)

TIME = {CREATED: "2026-01-02T03:04:05Z"}
EMPTY = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.fixture(params=MODES)
def registry(request: pytest.FixtureRequest) -> Iterator[RegistryClient]:
    """Provide sync and async clients of an empty registry."""
    with memory_registry(request.param) as client:
        yield client


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a file and a folder; the times in it are fixed."""
    folder = tmp_path / "work"
    (folder / "site" / "sub").mkdir(parents=True)
    (folder / "manual.pdf").write_bytes(b"pdf")
    (folder / "site" / "index.html").write_bytes(b"<html>")
    script = folder / "site" / "sub" / "run.sh"
    script.write_bytes(b"#!/bin/sh\n")
    for path in (script, folder / "site", folder / "site" / "sub"):
        path.chmod(0o755)
    (folder / "site" / "index.html").chmod(0o644)
    (folder / "site" / "link").symlink_to("sub/run.sh")
    for path in [*folder.rglob("*")]:
        os.utime(path, (1_700_000_000, 1_700_000_000), follow_symlinks=False)
    monkeypatch.chdir(folder)
    return folder


def manifest(registry: RegistryClient, reference: str = "v1") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(registry.manifest("app", reference).raw)
    return found


def test_files_and_folders_come_back(registry: RegistryClient, work: Path, tmp_path: Path) -> None:
    pushed = registry.push_artifact(
        "app", "v1", ["manual.pdf", Path("site/")], artifact_type="application/vnd.example.docs"
    )
    assert pushed.digest == registry.manifest("app", "v1").digest
    paths = registry.pull_artifact("app", "v1", tmp_path / "out")
    assert paths == [tmp_path / "out" / "manual.pdf", tmp_path / "out" / "site"]
    assert listing(tmp_path / "out") == listing(work)
    script = (tmp_path / "out" / "site" / "sub" / "run.sh").stat()
    assert stat.S_IMODE(script.st_mode) == 0o755
    assert script.st_mtime == 1_700_000_000
    assert (tmp_path / "out" / "site").stat().st_mtime == 1_700_000_000


def test_the_manifest_is_that_of_oras(registry: RegistryClient, work: Path) -> None:
    registry.push_artifact("app", "v1", ["manual.pdf", "site"], annotations={"b": "<&>", **TIME})
    found = manifest(registry)
    assert list(found) == [
        "schemaVersion", "mediaType", "artifactType", "config", "layers", "annotations",
    ]  # fmt: skip
    assert found["artifactType"] == "application/vnd.unknown.artifact.v1"
    assert found["config"] == {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": EMPTY,
        "size": 2,
        "data": "e30=",
    }
    assert found["annotations"] == {"b": "<&>", **TIME}
    file, folder = found["layers"]
    assert file["mediaType"] == "application/vnd.oci.image.layer.v1.tar"
    assert file["annotations"] == {TITLE: "manual.pdf"}
    assert folder["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
    assert folder["annotations"][UNPACK] == "true"
    assert folder["annotations"][TITLE] == "site"
    # the digest of the tar file that oras 1.3.6 makes of this folder
    assert folder["annotations"][CONTENT_DIGEST] == (
        "sha256:e3d36982c030a696611318e0b17f979823f39b10acd3783a54737ae4c2d678d5"
    )
    assert b"\\u003c\\u0026\\u003e" in registry.manifest("app", "v1").raw


def test_the_same_files_have_the_same_digest(registry: RegistryClient, work: Path) -> None:
    files = ["manual.pdf", "site"]
    first = registry.push_artifact("app", "a", files, annotations=TIME)
    assert registry.push_artifact("app", "b", files, annotations=TIME).digest == first.digest
    assert registry.push_artifact("app", "c", files).digest != first.digest


def test_an_artifact_without_files(registry: RegistryClient) -> None:
    registry.push_artifact("app", "v1", [], annotations={**TIME, "note": "only this"})
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": EMPTY, "size": 2}
    assert manifest(registry)["layers"] == [{**empty, "data": "e30="}]
    assert registry.read_blob("app", EMPTY) == b"{}"


def test_nothing_is_pulled_of_layers_without_a_title(
    registry: RegistryClient, tmp_path: Path
) -> None:
    push_layers(registry, (b"unnamed", {}), (b"named", {TITLE: "a"}))
    assert registry.pull_artifact("app", "v1", tmp_path / "out") == [tmp_path / "out" / "a"]
    push_layers(registry, (b"unnamed", {}), tag="v2")
    assert registry.pull_artifact("app", "v2", tmp_path / "other") == []
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("how", ["tag", "digest", "descriptor"])
def test_an_artifact_is_attached_to_its_subject(registry: RegistryClient, how: str) -> None:
    registry.push_artifact("app", "v1", [ArtifactFile(b"x", name="x")])
    image = registry.manifest("app", "v1")
    subjects: dict[str, str | Descriptor] = {
        "tag": "v1",
        "digest": image.digest,
        "descriptor": image.descriptor(),
    }
    pushed = registry.push_artifact(
        "app", None, [ArtifactFile(b"{}", name="sbom.json")],
        artifact_type="application/spdx+json", subject=subjects[how], annotations={"k": "v"},
    )  # fmt: skip
    found = registry.referrers("app", image.digest, artifact_type="application/spdx+json")
    assert [entry.digest for entry in found.manifests] == [pushed.digest]
    assert found.manifests[0].annotations["k"] == "v"
    assert list(registry.tags("app")) == ["v1"]
    attached = manifest(registry, pushed.digest)
    assert list(attached)[-2:] == ["subject", "annotations"]
    assert attached["subject"] == {
        "mediaType": image.media_type,
        "digest": image.digest,
        "size": len(image.raw),
    }


def test_a_subject_that_does_not_exist(registry: RegistryClient) -> None:
    registry.push_artifact("app", "v1", [])
    with pytest.raises(ManifestUnknown):
        registry.push_artifact("app", None, [ArtifactFile(b"x", name="x")], subject="v2")


def test_what_an_artifact_file_says(registry: RegistryClient, work: Path, tmp_path: Path) -> None:
    registry.push_artifact(
        "app",
        "v1",
        [
            ArtifactFile(b"text", name="notes/a.txt", media_type="text/plain; charset=utf-8"),
            ArtifactFile("manual.pdf", name="doc.pdf", annotations={"pages": "3"}),
            ArtifactFile(work / "site", name="www/html"),
            tmp_path / "work" / "manual.pdf",
        ],
        config=ArtifactFile(b"{ }", media_type="application/vnd.example.config"),
    )
    found = manifest(registry)
    assert "artifactType" not in found
    assert found["config"]["mediaType"] == "application/vnd.example.config"
    assert [layer["annotations"][TITLE] for layer in found["layers"]] == [
        "notes/a.txt", "doc.pdf", "www/html", "manual.pdf",
    ]  # fmt: skip
    assert found["layers"][0]["mediaType"] == "text/plain; charset=utf-8"
    assert found["layers"][1]["annotations"]["pages"] == "3"
    registry.pull_artifact("app", "v1", tmp_path / "out")
    assert listing(tmp_path / "out" / "www" / "html") == listing(work / "site")
    assert (tmp_path / "out" / "notes" / "a.txt").read_bytes() == b"text"


def test_names_of_paths(registry: RegistryClient, work: Path, tmp_path: Path) -> None:
    (work / "here").mkdir()
    os.chdir(work / "here")
    Path("below").mkdir()
    Path("below", "b").write_bytes(b"b")
    registry.push_artifact("app", "v1", ["./below/../below/b", "../manual.pdf", work / "site"])
    found = [layer["annotations"][TITLE] for layer in manifest(registry)["layers"]]
    assert found == ["below/b", "manual.pdf", "site"]
    registry.push_artifact("app", "v2", ["."])
    assert manifest(registry, "v2")["layers"][0]["annotations"][TITLE] == "."
    registry.pull_artifact("app", "v2", tmp_path / "out")
    assert listing(tmp_path / "out") == {"below": None, "below/b": b"b"}


def test_names_that_do_not_fit_a_plain_header(registry: RegistryClient, tmp_path: Path) -> None:
    source = tmp_path / "ü"
    deep = source.joinpath(*["d" * 60] * 5)
    deep.mkdir(parents=True)
    (deep / "ñ").write_bytes(b"1")
    (source / ("f" * 200)).write_bytes(b"2")
    (source / "link").symlink_to(f"{'f' * 200}")
    registry.push_artifact("app", "v1", [source])
    registry.pull_artifact("app", "v1", tmp_path / "out")
    assert listing(tmp_path / "out" / "ü") == listing(source)


def test_an_empty_file_and_two_of_the_same_bytes(registry: RegistryClient, tmp_path: Path) -> None:
    files = [ArtifactFile(b"", name="empty"), *(ArtifactFile(b"x", name=n) for n in "ab")]
    registry.push_artifact("app", "v1", files)
    registry.pull_artifact("app", "v1", tmp_path)
    assert listing(tmp_path) == {"a": b"x", "b": b"x", "empty": b""}


def test_progress_never_falls_and_ends_at_the_total(
    registry: RegistryClient, tmp_path: Path
) -> None:
    files = [ArtifactFile(os.urandom(3 << 20), name=str(number)) for number in range(4)]
    files.append(ArtifactFile(files[0].data_or_path, name="the same bytes"))
    for repetition in range(2):  # the second time, the registry has all of it
        seen: list[tuple[int, int | None]] = []
        registry.push_artifact(
            "app",
            "v1",
            files,
            progress=lambda *step, seen=seen: seen.append(step),
        )
        total = (12 << 20) + 2
        assert seen == sorted(seen), repetition
        assert seen[-1] == (total, total)
    seen = []
    registry.pull_artifact("app", "v1", tmp_path, progress=lambda *step: seen.append(step))
    assert seen == sorted(seen)
    assert seen[-1] == (12 << 20, 12 << 20)


BAD_FILES = {
    "a list": "manual.pdf",
    "no name": [b"bytes"],
    "bytes or a path": [ArtifactFile(3)],  # type: ignore[arg-type]
    "two files": ["manual.pdf", "./manual.pdf"],
    "is absolute": [ArtifactFile(b"x", name="/etc/passwd")],
    "leads out": [ArtifactFile(b"x", name="a/../../b")],
    "control character": [ArtifactFile(b"x", name="a\nb")],
    "backslash": [ArtifactFile(b"x", name="a\\b")],
    "letter of a drive": [ArtifactFile(b"x", name="C:x")],
    "UTF-8": [ArtifactFile(b"x", name="\udc80")],
    "is empty": [ArtifactFile(b"x", name="")],
    "names no file": [ArtifactFile(b"x", name="./.")],
    "more than 255": [ArtifactFile(b"x", name="é" * 200)],
    "more than 100 comp": [ArtifactFile(b"x", name="a/" * 101)],
    "a string": [ArtifactFile(b"x", name=3)],  # type: ignore[arg-type]
    "lies below": [ArtifactFile(b"x", name="a"), ArtifactFile(b"y", name="a/b")],
    "by itself": ["site", "site/index.html"],
    "media type": [ArtifactFile(b"x", name="x", media_type="text")],
    "pair of strings": [ArtifactFile(b"x", name="x", annotations={"a": 1})],  # type: ignore[dict-item]
}


@pytest.mark.parametrize("reason", BAD_FILES)
def test_files_that_could_not_be_pulled(registry: RegistryClient, work: Path, reason: str) -> None:
    with pytest.raises(ArtifactInvalid, match=reason):
        registry.push_artifact("app", "v1", BAD_FILES[reason])  # type: ignore[arg-type]
    assert not registry.manifest_exists("app", "v1")


def test_files_of_a_folder_that_could_not_be_pulled(
    registry: RegistryClient, tmp_path: Path
) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    bad = folder / "bad"
    for target, reason in [
        ("../other", "leads out"),
        ("/etc/passwd", "leads out"),
        ("bad", "circle"),
        ("x\\y", "backslash"),
    ]:
        bad.symlink_to(target)
        with pytest.raises(ArtifactInvalid, match=f"'site/bad'.*{reason}"):
            registry.push_artifact("app", "v1", [folder])
        bad.unlink()
    os.mkfifo(bad)
    with pytest.raises(ArtifactInvalid, match="a device, a pipe or a socket"):
        registry.push_artifact("app", "v1", [folder])
    with pytest.raises(ArtifactInvalid, match="neither a file nor a folder"):
        registry.push_artifact("app", "v1", [bad])
    with pytest.raises(FileNotFoundError):
        registry.push_artifact("app", "v1", [folder / "missing"])
    assert not registry.manifest_exists("app", "v1")


def test_other_wrong_arguments(registry: RegistryClient) -> None:
    with pytest.raises(ArtifactInvalid, match="media type"):
        registry.push_artifact("app", "v1", [], artifact_type="sbom")
    with pytest.raises(ArtifactInvalid, match="not a time"):
        registry.push_artifact("app", "v1", [], annotations={CREATED: "yesterday"})
    with pytest.raises(ArtifactInvalid, match="not valid Unicode"):
        registry.push_artifact("app", "v1", [], annotations={"a": "\ud800"})
    with pytest.raises(TagInvalid):
        registry.push_artifact("app", "-", [ArtifactFile(b"x", name="x")])
    assert not registry.manifest_exists("app", "v1")


def test_a_file_that_changes_after_it_was_hashed(
    registry: RegistryClient, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = work / "manual.pdf"
    plain = registry.driver.upload_blob

    def change(*args: Any, **options: Any) -> Any:
        path.write_bytes(b"new")
        return plain(*args, **options)

    monkeypatch.setattr(registry.driver, "upload_blob", change)
    with pytest.raises(DigestMismatch):
        registry.push_artifact("app", "v1", ["manual.pdf"])
    assert not registry.manifest_exists("app", "v1")


def test_temporary_files_of_a_push_are_deleted(
    registry: RegistryClient, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    registry.push_artifact("app", "v1", ["site"])
    os.mkfifo(work / "pipe")
    with pytest.raises(ArtifactInvalid):
        registry.push_artifact("app", "v1", ["site", "pipe"])
    assert not list(temporary.iterdir())


# -- existing files ------------------------------------------------------------------------


def test_existing_files_are_not_overwritten(
    registry: RegistryClient, work: Path, tmp_path: Path
) -> None:
    registry.push_artifact("app", "v1", ["manual.pdf", "site"])
    for name in ("manual.pdf", "site/sub/run.sh", "site/link"):
        out = tmp_path / name.replace("/", "-")
        (out / name).parent.mkdir(parents=True)
        (out / name).write_bytes(b"mine")
        before = listing(out)
        with pytest.raises(ArtifactFileExists, match=f"{name}.*overwrite=True") as caught:
            registry.pull_artifact("app", "v1", out)
        assert isinstance(caught.value, FileExistsError)
        assert listing(out) == before
        registry.pull_artifact("app", "v1", out, overwrite=True)
        assert listing(out) == listing(work)


def test_other_files_of_existing_folders_stay(
    registry: RegistryClient, work: Path, tmp_path: Path
) -> None:
    registry.push_artifact("app", "v1", ["site"])
    out = tmp_path / "out"
    (out / "site" / "sub").mkdir(parents=True)
    (out / "site" / "sub" / "mine").write_bytes(b"mine")
    registry.pull_artifact("app", "v1", out)
    assert listing(out / "site") == {**listing(work / "site"), "sub/mine": b"mine"}


def test_links_in_the_folder_are_not_followed(
    registry: RegistryClient, work: Path, tmp_path: Path
) -> None:
    registry.push_artifact("app", "v1", ["manual.pdf", "site"])
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    (out / "site").mkdir(parents=True)
    (out / "site" / "sub").symlink_to(outside)
    for overwrite in (False, True):
        with pytest.raises(DownloadFileRefused, match="symbolic link, which is not followed"):
            registry.pull_artifact("app", "v1", out, overwrite=overwrite)
    assert listing(out) == {"site": None, "site/sub": f"-> {outside}"}
    assert not list(outside.iterdir())


def test_a_link_in_the_place_of_a_file_is_replaced(
    registry: RegistryClient, work: Path, tmp_path: Path
) -> None:
    registry.push_artifact("app", "v1", ["manual.pdf"])
    out, outside = tmp_path / "out", tmp_path / "outside"
    out.mkdir()
    outside.write_bytes(b"secret")
    (out / "manual.pdf").symlink_to(outside)
    with pytest.raises(ArtifactFileExists):
        registry.pull_artifact("app", "v1", out)
    registry.pull_artifact("app", "v1", out, overwrite=True)
    assert listing(out) == {"manual.pdf": b"pdf"}
    assert outside.read_bytes() == b"secret"


def test_files_and_folders_do_not_replace_each_other(
    registry: RegistryClient, work: Path, tmp_path: Path
) -> None:
    registry.push_artifact("app", "v1", ["manual.pdf", "site"])
    out = tmp_path / "out"
    (out / "manual.pdf").mkdir(parents=True)
    with pytest.raises(DownloadFileRefused, match="is a folder, where the artifact has a file"):
        registry.pull_artifact("app", "v1", out, overwrite=True)
    (out / "manual.pdf").rmdir()
    (out / "site").write_bytes(b"mine")
    with pytest.raises(DownloadFileRefused, match="is a file, where the artifact has a folder"):
        registry.pull_artifact("app", "v1", out, overwrite=True)
    assert listing(out) == {"site": b"mine"}
    with pytest.raises(DownloadFileRefused, match="no files can be written"):
        registry.pull_artifact("app", "v1", out / "site")


def test_a_move_that_fails_is_undone(
    registry: RegistryClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.push_artifact("app", "v1", [ArtifactFile(b"new", name=name) for name in "abc"])
    out = tmp_path / "out"
    out.mkdir()
    (out / "a").write_bytes(b"old")
    link, rename = os.link, Path.rename

    def broken_link(source: Path, target: Path, **options: Any) -> None:
        if target.name == "c":
            raise OSError(5, "the disk is broken")
        link(source, target, **options)

    def broken(self: Path, target: Path) -> Path:
        if target.name == "c":
            raise OSError(5, "the disk is broken")
        return rename(self, target)

    monkeypatch.setattr(os, "link", broken_link)
    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(OSError, match="the disk is broken"):
        registry.pull_artifact("app", "v1", out, overwrite=True)
    assert listing(out) == {"a": b"old"}


def test_an_index_is_no_artifact(registry: RegistryClient, tmp_path: Path) -> None:
    registry.push_artifact("app", "v1", [])
    image = registry.manifest("app", "v1")
    entry = json.loads(image.descriptor().model_dump_json(by_alias=True, exclude_none=True))
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"}
    registry.put_manifest("app", "all", {**index, "manifests": [entry]})
    with pytest.raises(ArtifactInvalid, match="is an index"):
        registry.pull_artifact("app", "all", tmp_path)
    assert isinstance(image, ImageManifest)


def test_a_pull_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(done: int, total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    with memory_registry("sync") as registry:
        registry.push_artifact("app", "v1", [ArtifactFile(b"1", name="a")])
        with pytest.raises(KeyboardInterrupt):
            registry.pull_artifact("app", "v1", tmp_path / "new" / "out", progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_a_file_that_comes_during_the_pull_is_not_replaced(
    registry: RegistryClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.push_artifact("app", "v1", [ArtifactFile(b"new", name=name) for name in "ab"])
    out = tmp_path / "out"
    lexists = os.path.lexists

    def come(path: Path) -> bool:
        if path == out / "b" and (out / "a").exists():  # the files are being moved
            path.write_bytes(b"mine")  # by another program, right after the look
            return False
        return lexists(path)

    monkeypatch.setattr(os.path, "lexists", come)
    with pytest.raises(ArtifactFileExists):
        registry.pull_artifact("app", "v1", out)
    assert listing(out) == {"b": b"mine"}


def test_two_pulls_may_make_the_same_folder(
    registry: RegistryClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.push_artifact("app", "v1", [ArtifactFile(b"new", name="a")])
    mkdir = Path.mkdir

    def other_first(path: Path, mode: int = 0o777) -> None:
        if path.name == "out":
            mkdir(path)
        mkdir(path, mode)

    monkeypatch.setattr(Path, "mkdir", other_first)
    registry.pull_artifact("app", "v1", tmp_path / "new" / "out")
    assert (tmp_path / "new" / "out" / "a").read_bytes() == b"new"


def test_a_pull_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with async_connect("", driver="embedded", root=":memory:") as registry:
            files = [ArtifactFile(b"1" * 4_000_000, name=name) for name in "abc"]
            await registry.push_artifact("app", "v1", files)
            loop, started = asyncio.get_running_loop(), asyncio.Event()
            task = loop.create_task(
                registry.pull_artifact(
                    "app",
                    "v1",
                    tmp_path / "new" / "out",
                    progress=lambda done, _: done and loop.call_soon_threadsafe(started.set),
                )
            )
            await started.wait()
            assert list(tmp_path.rglob(".dockhand-*"))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("operation", ["pull", "push"])
def test_a_task_that_is_cancelled_while_its_folder_is_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    at_work, go_on = threading.Event(), threading.Event()

    def wait(function: Any, *args: Any) -> Any:
        result = function(*args)
        if ".dockhand-" in str(args[0]) or function is mkdtemp:
            at_work.set()
            go_on.wait(10)
        return result

    mkdir, mkdtemp = Path.mkdir, tempfile.mkdtemp

    async def main() -> None:
        async with async_connect("", driver="embedded", root=":memory:") as registry:
            await registry.push_artifact("app", "v1", [ArtifactFile(b"1", name="a")])
            monkeypatch.setattr(Path, "mkdir", lambda *args: wait(mkdir, *args))
            monkeypatch.setattr(tempfile, "mkdtemp", lambda prefix: wait(mkdtemp, None, prefix))
            task = asyncio.ensure_future(
                registry.pull_artifact("app", "v1", tmp_path / "out")
                if operation == "pull"
                else registry.push_artifact("app", "v2", [ArtifactFile(b"2", name="a")])
            )
            await asyncio.to_thread(at_work.wait, 10)
            assert list(tmp_path.iterdir())
            task.cancel()
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert not list(tmp_path.iterdir())


def test_files_are_read_off_the_event_loop(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[threading.Thread] = set()
    plain = tarfile.TarInfo.tobuf

    def spied(self: tarfile.TarInfo, *args: Any) -> bytes:
        threads.add(threading.current_thread())
        return plain(self, *args)

    monkeypatch.setattr(tarfile.TarInfo, "tobuf", spied)
    with memory_registry("async") as client:
        client.push_artifact("app", "v1", ["site"])
    assert threads
    assert threading.main_thread() not in threads


def test_tar_files_of_other_programs(registry: RegistryClient, tmp_path: Path) -> None:
    """GNU long names, `./` in front, hard links, missing folders and a filled-up last block."""
    long = "site/" + "n" * 150
    members = [
        member("./site/", type=tarfile.DIRTYPE),
        member(long, b"long"),
        member("site/missing/a", b"a", mode=0o4711),
        member("site/hard", type=tarfile.LNKTYPE, linkname="./site/missing/a"),
        member("site/missing", type=tarfile.DIRTYPE, mode=0o500),
        member("site/soft", type=tarfile.SYMTYPE, linkname="missing/../missing/a"),
    ]
    data = tar(*members, form=tarfile.GNU_FORMAT) + bytes(10240)
    push_layers(registry, folder_layer(data))
    registry.pull_artifact("app", "v1", tmp_path)
    assert listing(tmp_path / "site") == {
        "n" * 150: b"long",
        "missing": None,
        "missing/a": b"a",
        "hard": b"a",
        "soft": "-> missing/../missing/a",
    }
    assert stat.S_IMODE((tmp_path / "site/missing/a").stat().st_mode) == 0o711
    assert stat.S_IMODE((tmp_path / "site/missing").stat().st_mode) == 0o700
