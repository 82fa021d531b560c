"""Blobs: reading, mounting, deleting, and every way to upload them."""

from __future__ import annotations

import hashlib
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
    ServerError,
    Upload,
)

MISSING = "sha256:" + "0" * 64


@pytest.fixture
def data(repository: str) -> bytes:
    """The bytes of a blob of 1024 bytes that no other test uploads."""
    return hashlib.sha512(repository.encode()).digest() * 16


@pytest.fixture
def digest(data: bytes) -> Digest:
    """The digest of `data`."""
    return Digest.of(data)


def test_read_blob(registry: RegistryClient, repository: str, data: bytes, digest: Digest) -> None:
    result = registry.upload_blob(repository, data)
    assert result.digest == digest
    assert result.uploaded
    assert digest in result.location
    assert registry.read_blob(repository, digest) == data
    assert registry.read_blob(repository, digest, max_size=len(data)) == data
    with pytest.raises(ResponseTooLarge):
        registry.read_blob(repository, digest, max_size=len(data) - 1)


def test_blob_size(registry: RegistryClient, repository: str, data: bytes, digest: Digest) -> None:
    registry.upload_blob(repository, data)
    assert registry.blob_size(repository, digest) == len(data)
    assert registry.blob_exists(repository, digest)
    assert not registry.blob_exists(repository, MISSING)


def test_blob_unknown(registry: RegistryClient, repository: str, data: bytes, target: Any) -> None:
    registry.upload_blob(repository, data)
    with pytest.raises(BlobUnknown) as caught:
        registry.read_blob(repository, MISSING)
    assert caught.value.status == 404
    with pytest.raises(BlobUnknown):
        registry.blob_size(repository, MISSING)
    with pytest.raises(NotFound), registry.open_blob(repository, MISSING):
        pass
    with pytest.raises(BlobUnknown if target.can.reports_missing_blobs else ServerError):
        registry.delete_blob(repository, MISSING)


def test_open_blob(registry: RegistryClient, repository: str, data: bytes, digest: Digest) -> None:
    registry.upload_blob(repository, data)
    with registry.open_blob(repository, digest) as blob:
        assert blob.size == len(data)
        assert blob.read(10) == data[:10]
        assert blob.read(0) == b""
        assert b"".join(blob) == data[10:]
        assert blob.read(10) == b""
    with pytest.raises(DockhandError):
        blob.read(1)
    with registry.open_blob(repository, digest) as blob:
        assert blob.read() == data


def test_open_blob_at_offset(
    registry: RegistryClient, repository: str, data: bytes, digest: Digest
) -> None:
    registry.upload_blob(repository, data)
    with registry.open_blob(repository, digest, offset=100, verify=False) as blob:
        assert blob.read() == data[100:]
    with pytest.raises(DockhandError, match="verify=False"):
        registry.open_blob(repository, digest, offset=100)


def test_download_blob(
    registry: RegistryClient, repository: str, data: bytes, digest: Digest, tmp_path: Path
) -> None:
    registry.upload_blob(repository, data)
    seen: list[tuple[int, int | None]] = []
    path = registry.download_blob(
        repository, digest, tmp_path / "blob", progress=lambda *now: seen.append(now)
    )
    assert path.read_bytes() == data
    assert seen[-1] == (len(data), len(data))
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["blob"]


def test_download_resumed(
    registry: RegistryClient, repository: str, data: bytes, digest: Digest, tmp_path: Path
) -> None:
    """The partial file of an earlier attempt is hashed, and the download continues after it."""
    registry.upload_blob(repository, data)
    part = tmp_path / f"blob.{digest.encoded[:16]}.part"
    part.write_bytes(data[:400])
    seen: list[int] = []
    registry.download_blob(
        repository, digest, tmp_path / "blob", progress=lambda done, _: seen.append(done)
    )
    assert (tmp_path / "blob").read_bytes() == data
    assert seen[0] > 400
    assert not part.exists()


def test_download_unknown(
    registry: RegistryClient, repository: str, data: bytes, tmp_path: Path
) -> None:
    registry.upload_blob(repository, data)
    with pytest.raises(BlobUnknown):
        registry.download_blob(repository, MISSING, tmp_path / "blob")
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []  # no partial file either


def test_upload_file(
    registry: RegistryClient, repository: str, data: bytes, digest: Digest, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    seen: list[tuple[int, int | None]] = []
    first = registry.upload_blob(repository, path, progress=lambda *now: seen.append(now))
    assert first.digest == digest
    assert seen[-1] == (len(data), len(data))
    second = registry.upload_blob(repository, str(path))
    assert (second.digest, second.uploaded) == (digest, False)


def test_upload_open_file(
    registry: RegistryClient, repository: str, data: bytes, digest: Digest
) -> None:
    file = io.BytesIO(b"left out" + data)
    file.seek(8)
    assert registry.upload_blob(repository, file).digest == digest
    assert registry.read_blob(repository, digest) == data


def test_upload_iterable(
    registry: RegistryClient, repository: str, data: bytes, digest: Digest
) -> None:
    def blocks() -> Iterator[bytes]:
        for start in range(0, len(data), 100):
            yield data[start : start + 100]

    assert registry.upload_blob(repository, blocks()).digest == digest
    assert registry.read_blob(repository, digest) == data
    assert not registry.upload_blob(repository, blocks(), digest=digest).uploaded


def test_upload_wrong_digest(
    registry: RegistryClient, repository: str, data: bytes, digest: Digest
) -> None:
    wrong = Digest.of(b"something else")
    with pytest.raises(DigestMismatch):
        registry.upload_blob(repository, data, digest=wrong)
    with pytest.raises(DigestMismatch):
        registry.upload_blob(repository, iter([data]), digest=wrong)
    assert not registry.blob_exists(repository, wrong)
    assert not registry.blob_exists(repository, digest)


def test_upload_empty(registry: RegistryClient, repository: str) -> None:
    nothing: Iterator[bytes] = iter([])
    for data in (b"", nothing):
        result = registry.upload_blob(repository, data)
        assert registry.read_blob(repository, result.digest) == b""


def test_upload_sha512(registry: RegistryClient, repository: str, data: bytes) -> None:
    digest = Digest.of(data, "sha512")
    assert registry.upload_blob(repository, data, digest=digest).digest == digest
    assert registry.read_blob(repository, digest) == data


def test_failing_iterable(
    registry: RegistryClient, repository: str, data: bytes, digest: Digest
) -> None:
    def blocks() -> Iterator[bytes]:
        yield data
        raise ZeroDivisionError("the caller's own")

    with pytest.raises(ZeroDivisionError, match="the caller's own"):
        registry.upload_blob(repository, blocks())
    assert not registry.blob_exists(repository, digest)


def test_upload_from_reader(
    registry: RegistryClient, repository: str, data: bytes, digest: Digest
) -> None:
    """A blob is copied from one repository to another without being held in memory."""
    registry.upload_blob(f"{repository}/a", data)
    with registry.open_blob(f"{repository}/a", digest) as blob:
        source = getattr(blob, "_inner", blob)  # the async client takes the async reader inside
        assert registry.upload_blob(f"{repository}/b", source).digest == digest
    assert registry.read_blob(f"{repository}/b", digest) == data


def test_upload_from_pipe(
    registry: RegistryClient, repository: str, data: bytes, digest: Digest
) -> None:
    read, write = os.pipe()
    with os.fdopen(write, "wb") as sender:
        sender.write(data)
    with os.fdopen(read, "rb") as receiver:
        assert registry.upload_blob(repository, receiver).digest == digest


def test_blob_writer(
    registry: RegistryClient, repository: str, data: bytes, digest: Digest
) -> None:
    with registry.blob_writer(repository) as out:
        assert out.write(data[:500]) == 500
        out.write(data[500:])
        with pytest.raises(DockhandError):
            _ = out.digest
    assert out.digest == digest
    assert registry.read_blob(repository, digest) == data


def test_blob_writer_cancelled(
    registry: RegistryClient, repository: str, data: bytes, digest: Digest
) -> None:
    out = registry.blob_writer(repository)
    with pytest.raises(ZeroDivisionError), out:
        out.write(data + bytes(1 // 0))
    assert not registry.blob_exists(repository, digest)
    with pytest.raises(DockhandError):
        out.write(b"more")


def test_by_hand(
    registry: RegistryClient, repository: str, data: bytes, digest: Digest, target: Any
) -> None:
    upload = registry.start_upload(repository)
    assert upload.offset == 0
    upload = registry.upload_chunk(upload, data[:600])
    assert upload.offset == 600
    carried = Upload.model_validate_json(upload.model_dump_json())
    assert carried == upload
    if target.can.has_upload_status:
        assert registry.upload_status(carried).offset == 600
    else:
        with pytest.raises(RegistryError) as caught:
            registry.upload_status(carried)
        assert caught.value.status == 400
    upload = registry.upload_chunk(carried, data[600:])
    result = registry.finish_upload(upload, digest)
    assert result.digest == digest
    assert registry.read_blob(repository, digest) == data


def test_one_byte(registry: RegistryClient, repository: str, target: Any) -> None:
    """A registry reports no byte and one byte as `Range: 0-0`; the client keeps count itself."""
    upload = registry.start_upload(repository)
    if target.can.has_upload_status:
        assert registry.upload_status(upload).offset == 0
    upload = registry.upload_chunk(upload, b"1")
    if target.can.has_upload_status:
        upload = registry.upload_status(upload)
    assert upload.offset == 1
    result = registry.finish_upload(upload, Digest.of(b"1"))
    assert registry.blob_size(repository, result.digest) == 1


def test_finish_with_wrong_digest(
    registry: RegistryClient, repository: str, data: bytes, digest: Digest
) -> None:
    upload = registry.upload_chunk(registry.start_upload(repository), data)
    with pytest.raises(DigestInvalid) as caught:
        registry.finish_upload(upload, MISSING)
    assert caught.value.status == 400
    assert not registry.blob_exists(repository, MISSING)
    assert not registry.blob_exists(repository, digest)


def test_cancel_upload(
    registry: RegistryClient, repository: str, data: bytes, digest: Digest, target: Any
) -> None:
    upload = registry.upload_chunk(registry.start_upload(repository), data)
    if target.can.has_upload_status:
        registry.cancel_upload(upload)
    else:
        with pytest.raises(RegistryError) as caught:
            registry.cancel_upload(upload)
        assert caught.value.status == 400
        return
    with pytest.raises(RegistryError) as caught:
        registry.upload_status(upload)
    assert caught.value.status == 404
    with pytest.raises(RegistryError) as caught:
        registry.finish_upload(upload, digest)
    assert caught.value.status == 404
    assert not registry.blob_exists(repository, digest)


def test_mount(
    registry: RegistryClient, repository: str, data: bytes, digest: Digest, target: Any
) -> None:
    registry.upload_blob(f"{repository}/a", data)
    mounted = registry.mount_blob(f"{repository}/b", digest, f"{repository}/a")
    if target.can.mounts_blobs:
        assert isinstance(mounted, PushResult)
        assert digest in mounted.location
    else:
        assert isinstance(mounted, Upload)
        registry.finish_upload(registry.upload_chunk(mounted, data), digest)
    assert registry.read_blob(f"{repository}/b", digest) == data


def test_mount_unknown(
    registry: RegistryClient, repository: str, data: bytes, digest: Digest
) -> None:
    """If the blob cannot be mounted, the client gets an upload for it."""
    begun = registry.mount_blob(repository, digest, f"{repository}/none")
    assert isinstance(begun, Upload)
    registry.finish_upload(registry.upload_chunk(begun, data), digest)
    assert registry.blob_exists(repository, digest)


def test_delete_blob(
    registry: RegistryClient, repository: str, data: bytes, digest: Digest
) -> None:
    registry.upload_blob(repository, data)
    registry.delete_blob(repository, digest)
    assert not registry.blob_exists(repository, digest)


def test_results_serialise(registry: RegistryClient, repository: str, target: Any) -> None:
    upload = registry.start_upload(repository)
    assert json.loads(upload.model_dump_json())["repository"] == repository
    assert ("_state=" in upload.location) is target.can.signs_uploads
    assert "_state" not in repr(upload)
    if target.can.has_upload_status:
        registry.cancel_upload(upload)
