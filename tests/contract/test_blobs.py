"""Blobs: reading, mounting, deleting, and every way to upload them."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dockhand_core import (
    BlobUnknown,
    Digest,
    DigestInvalid,
    DigestMismatch,
    DockhandError,
    NotFound,
    PushResult,
    RegistryClient,
    RegistryError,
    ResponseTooLarge,
    Upload,
)

DATA = bytes(range(256)) * 4
DIGEST = Digest.of(DATA)
MISSING = "sha256:" + "0" * 64


def test_read_blob(registry: RegistryClient, repository: str, target: Any) -> None:
    result = registry.upload_blob(repository, DATA)
    assert result.digest == DIGEST
    assert result.uploaded or target.links_blobs
    assert DIGEST in result.location
    assert registry.read_blob(repository, DIGEST) == DATA
    assert registry.read_blob(repository, DIGEST, max_size=len(DATA)) == DATA
    with pytest.raises(ResponseTooLarge):
        registry.read_blob(repository, DIGEST, max_size=len(DATA) - 1)


def test_blob_size(registry: RegistryClient, repository: str) -> None:
    registry.upload_blob(repository, DATA)
    assert registry.blob_size(repository, DIGEST) == len(DATA)
    assert registry.blob_exists(repository, DIGEST)
    assert not registry.blob_exists(repository, MISSING)


def test_blob_unknown(registry: RegistryClient, repository: str) -> None:
    registry.upload_blob(repository, DATA)
    with pytest.raises(BlobUnknown) as caught:
        registry.read_blob(repository, MISSING)
    assert caught.value.status == 404
    with pytest.raises(BlobUnknown):
        registry.blob_size(repository, MISSING)
    with pytest.raises(NotFound), registry.open_blob(repository, MISSING):
        pass
    with pytest.raises(BlobUnknown):
        registry.delete_blob(repository, MISSING)


def test_open_blob(registry: RegistryClient, repository: str) -> None:
    registry.upload_blob(repository, DATA)
    with registry.open_blob(repository, DIGEST) as blob:
        assert blob.size == len(DATA)
        assert blob.read(10) == DATA[:10]
        assert blob.read(0) == b""
        assert b"".join(blob) == DATA[10:]
        assert blob.read(10) == b""
    with pytest.raises(DockhandError):
        blob.read(1)
    with registry.open_blob(repository, DIGEST) as blob:
        assert blob.read() == DATA


def test_open_blob_at_offset(registry: RegistryClient, repository: str) -> None:
    registry.upload_blob(repository, DATA)
    with registry.open_blob(repository, DIGEST, offset=100, verify=False) as blob:
        assert blob.read() == DATA[100:]
    with pytest.raises(DockhandError, match="verify=False"):
        registry.open_blob(repository, DIGEST, offset=100)


def test_download_blob(registry: RegistryClient, repository: str, tmp_path: Path) -> None:
    registry.upload_blob(repository, DATA)
    seen: list[tuple[int, int | None]] = []
    path = registry.download_blob(
        repository, DIGEST, tmp_path / "blob", progress=lambda *now: seen.append(now)
    )
    assert path.read_bytes() == DATA
    assert seen[-1] == (len(DATA), len(DATA))
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["blob"]


def test_download_resumed(registry: RegistryClient, repository: str, tmp_path: Path) -> None:
    """The partial file of an earlier attempt is hashed, and the download continues after it."""
    registry.upload_blob(repository, DATA)
    part = tmp_path / f"blob.{DIGEST.encoded[:16]}.part"
    part.write_bytes(DATA[:400])
    seen: list[int] = []
    registry.download_blob(
        repository, DIGEST, tmp_path / "blob", progress=lambda done, _: seen.append(done)
    )
    assert (tmp_path / "blob").read_bytes() == DATA
    assert seen[0] > 400
    assert not part.exists()


def test_download_unknown(registry: RegistryClient, repository: str, tmp_path: Path) -> None:
    registry.upload_blob(repository, DATA)
    with pytest.raises(BlobUnknown):
        registry.download_blob(repository, MISSING, tmp_path / "blob")
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []  # no partial file either


def test_upload_file(
    registry: RegistryClient, repository: str, tmp_path: Path, target: Any
) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    seen: list[tuple[int, int | None]] = []
    first = registry.upload_blob(repository, path, progress=lambda *now: seen.append(now))
    assert first.digest == DIGEST
    if not target.links_blobs:  # otherwise the registry may link another test's blob
        assert seen[-1] == (len(DATA), len(DATA))
    second = registry.upload_blob(repository, str(path))
    assert (second.digest, second.uploaded) == (DIGEST, False)


def test_upload_open_file(registry: RegistryClient, repository: str) -> None:
    file = io.BytesIO(b"left out" + DATA)
    file.seek(8)
    assert registry.upload_blob(repository, file).digest == DIGEST
    assert registry.read_blob(repository, DIGEST) == DATA


def test_upload_iterable(registry: RegistryClient, repository: str) -> None:
    def blocks() -> Iterator[bytes]:
        for start in range(0, len(DATA), 100):
            yield DATA[start : start + 100]

    assert registry.upload_blob(repository, blocks()).digest == DIGEST
    assert registry.read_blob(repository, DIGEST) == DATA
    assert not registry.upload_blob(repository, blocks(), digest=DIGEST).uploaded


def test_upload_wrong_digest(registry: RegistryClient, repository: str) -> None:
    wrong = Digest.of(b"something else")
    with pytest.raises(DigestMismatch):
        registry.upload_blob(repository, DATA, digest=wrong)
    with pytest.raises(DigestMismatch):
        registry.upload_blob(repository, iter([DATA]), digest=wrong)
    assert not registry.blob_exists(repository, wrong)
    assert not registry.blob_exists(repository, DIGEST)


def test_upload_empty(registry: RegistryClient, repository: str) -> None:
    nothing: Iterator[bytes] = iter([])
    for data in (b"", nothing):
        result = registry.upload_blob(repository, data)
        assert registry.read_blob(repository, result.digest) == b""


def test_upload_sha512(registry: RegistryClient, repository: str) -> None:
    digest = Digest.of(DATA, "sha512")
    assert registry.upload_blob(repository, DATA, digest=digest).digest == digest
    assert registry.read_blob(repository, digest) == DATA


def test_failing_iterable(registry: RegistryClient, repository: str) -> None:
    def blocks() -> Iterator[bytes]:
        yield DATA
        raise ZeroDivisionError("the caller's own")

    with pytest.raises(ZeroDivisionError, match="the caller's own"):
        registry.upload_blob(repository, blocks())
    assert not registry.blob_exists(repository, DIGEST)


def test_upload_from_reader(registry: RegistryClient, repository: str) -> None:
    """A blob is copied from one repository to another without being held in memory."""
    registry.upload_blob(f"{repository}/a", DATA)
    with registry.open_blob(f"{repository}/a", DIGEST) as blob:
        source = getattr(blob, "_inner", blob)  # the async client takes the async reader inside
        assert registry.upload_blob(f"{repository}/b", source).digest == DIGEST
    assert registry.read_blob(f"{repository}/b", DIGEST) == DATA


def test_upload_from_pipe(registry: RegistryClient, repository: str) -> None:
    read, write = os.pipe()
    with os.fdopen(write, "wb") as sender:
        sender.write(DATA)
    with os.fdopen(read, "rb") as receiver:
        assert registry.upload_blob(repository, receiver).digest == DIGEST


def test_blob_writer(registry: RegistryClient, repository: str) -> None:
    with registry.blob_writer(repository) as out:
        assert out.write(DATA[:500]) == 500
        out.write(DATA[500:])
        with pytest.raises(DockhandError):
            _ = out.digest
    assert out.digest == DIGEST
    assert registry.read_blob(repository, DIGEST) == DATA


def test_blob_writer_cancelled(registry: RegistryClient, repository: str) -> None:
    out = registry.blob_writer(repository)
    with pytest.raises(ZeroDivisionError), out:
        out.write(DATA + bytes(1 // 0))
    assert not registry.blob_exists(repository, DIGEST)
    with pytest.raises(DockhandError):
        out.write(b"more")


def test_by_hand(registry: RegistryClient, repository: str) -> None:
    upload = registry.start_upload(repository)
    assert upload.offset == 0
    upload = registry.upload_chunk(upload, DATA[:600])
    assert upload.offset == 600
    carried = Upload.model_validate_json(upload.model_dump_json())
    assert carried == upload
    status = registry.upload_status(carried)
    assert status.offset == 600
    upload = registry.upload_chunk(status, DATA[600:])
    result = registry.finish_upload(upload, DIGEST)
    assert result.digest == DIGEST
    assert registry.read_blob(repository, DIGEST) == DATA


def test_one_byte(registry: RegistryClient, repository: str) -> None:
    """A registry reports no byte and one byte as `Range: 0-0`; the client keeps count itself."""
    upload = registry.start_upload(repository)
    assert registry.upload_status(upload).offset == 0
    upload = registry.upload_chunk(upload, b"1")
    upload = registry.upload_status(upload)
    assert upload.offset == 1
    result = registry.finish_upload(upload, Digest.of(b"1"))
    assert registry.blob_size(repository, result.digest) == 1


def test_finish_with_wrong_digest(registry: RegistryClient, repository: str) -> None:
    upload = registry.upload_chunk(registry.start_upload(repository), DATA)
    with pytest.raises(DigestInvalid) as caught:
        registry.finish_upload(upload, MISSING)
    assert caught.value.status == 400
    assert not registry.blob_exists(repository, MISSING)
    assert not registry.blob_exists(repository, DIGEST)


def test_cancel_upload(registry: RegistryClient, repository: str) -> None:
    upload = registry.upload_chunk(registry.start_upload(repository), DATA)
    registry.cancel_upload(upload)
    with pytest.raises(RegistryError) as caught:
        registry.upload_status(upload)
    assert caught.value.status == 404
    with pytest.raises(RegistryError) as caught:
        registry.finish_upload(upload, DIGEST)
    assert caught.value.status == 404
    assert not registry.blob_exists(repository, DIGEST)


def test_mount(registry: RegistryClient, repository: str) -> None:
    registry.upload_blob(f"{repository}/a", DATA)
    mounted = registry.mount_blob(f"{repository}/b", DIGEST, f"{repository}/a")
    assert isinstance(mounted, PushResult)
    assert registry.read_blob(f"{repository}/b", DIGEST) == DATA


def test_mount_unknown(registry: RegistryClient, repository: str, target: Any) -> None:
    """If the blob cannot be mounted, the client gets an upload for it."""
    begun = registry.mount_blob(repository, DIGEST, f"{repository}/none")
    if target.links_blobs:
        assert isinstance(begun, PushResult)  # linked from another repository
        return
    assert isinstance(begun, Upload)
    registry.finish_upload(registry.upload_chunk(begun, DATA), DIGEST)
    assert registry.blob_exists(repository, DIGEST)


def test_delete_blob(registry: RegistryClient, repository: str) -> None:
    registry.upload_blob(repository, DATA)
    registry.delete_blob(repository, DIGEST)
    assert not registry.blob_exists(repository, DIGEST)


def test_results_serialise(registry: RegistryClient, repository: str, target: Any) -> None:
    upload = registry.start_upload(repository)
    assert json.loads(upload.model_dump_json())["repository"] == repository
    if target.driver == "distribution" and not target.name.startswith("embedded"):
        assert "_state=" in upload.location
        assert "_state" not in repr(upload)
    registry.cancel_upload(upload)
