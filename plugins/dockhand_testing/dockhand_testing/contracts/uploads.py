"""Blobs: every way to upload them, and mounting."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dockhand_core import (
    Digest,
    DigestInvalid,
    DigestMismatch,
    DockhandError,
    PushResult,
    RegistryClient,
    RegistryError,
    Upload,
)
from dockhand_testing.abilities import Abilities
from dockhand_testing.contracts.blobs import MISSING, SampleBlob
from dockhand_testing.contracts.needs import needs
from dockhand_testing.rules import rule

__all__ = ["UploadContract"]


class UploadContract(SampleBlob):
    """Blobs: every way to upload them, and mounting.

    The tests use the fixtures `registry`, `repository` and `abilities`.
    """

    @rule(
        "A file is uploaded by its path, and not again if the repository has it.",
        why="pushes send only what is missing",
        where="RegistryClient.upload_blob",
    )
    def test_upload_file(
        self, registry: RegistryClient, repository: str, data: bytes, digest: Digest, tmp_path: Path
    ) -> None:
        path = tmp_path / "file"
        path.write_bytes(data)
        seen: list[tuple[int, int | None]] = []
        first = registry.upload_blob(repository, path, progress=lambda *now: seen.append(now))
        assert first.digest == digest
        assert seen[-1] == (len(data), len(data))
        second = registry.upload_blob(repository, str(path))
        assert (second.digest, second.uploaded) == (digest, False)

    @rule(
        "An open file is uploaded from its position on.",
        why="the caller may have read a header",
        where="RegistryClient.upload_blob",
    )
    def test_upload_open_file(
        self, registry: RegistryClient, repository: str, data: bytes, digest: Digest
    ) -> None:
        file = io.BytesIO(b"left out" + data)
        file.seek(8)
        assert registry.upload_blob(repository, file).digest == digest
        assert registry.read_blob(repository, digest) == data

    @rule(
        "An iterable of bytes is uploaded without knowing its size or digest.",
        why="data that is made on the fly has neither",
        where="RegistryClient.upload_blob",
    )
    def test_upload_iterable(
        self, registry: RegistryClient, repository: str, data: bytes, digest: Digest
    ) -> None:
        def blocks() -> Iterator[bytes]:
            for start in range(0, len(data), 100):
                yield data[start : start + 100]

        assert registry.upload_blob(repository, blocks()).digest == digest
        assert registry.read_blob(repository, digest) == data
        assert not registry.upload_blob(repository, blocks(), digest=digest).uploaded

    @rule(
        "Data that does not match the stated digest is DigestMismatch, and nothing is stored.",
        why="a wrong blob would be served to everybody",
        where="RegistryClient.upload_blob",
    )
    def test_upload_wrong_digest(
        self, registry: RegistryClient, repository: str, data: bytes, digest: Digest
    ) -> None:
        wrong = Digest.of(b"something else")
        with pytest.raises(DigestMismatch):
            registry.upload_blob(repository, data, digest=wrong)
        with pytest.raises(DigestMismatch):
            registry.upload_blob(repository, iter([data]), digest=wrong)
        assert not registry.blob_exists(repository, wrong)
        assert not registry.blob_exists(repository, digest)

    @rule(
        "An empty blob can be uploaded and read.",
        why="empty layers and configurations exist",
        where="RegistryClient.upload_blob",
    )
    def test_upload_empty(self, registry: RegistryClient, repository: str) -> None:
        nothing: Iterator[bytes] = iter([])
        for data in (b"", nothing):
            result = registry.upload_blob(repository, data)
            assert registry.read_blob(repository, result.digest) == b""

    @needs("sha512")
    @rule(
        "Digests of sha512 are accepted.",
        why="the specification allows them",
        where="OCI Image Specification, Digests",
    )
    def test_upload_sha512(self, registry: RegistryClient, repository: str, data: bytes) -> None:
        digest = Digest.of(data, "sha512")
        assert registry.upload_blob(repository, data, digest=digest).digest == digest
        assert registry.read_blob(repository, digest) == data

    @rule(
        "An exception of the caller's iterable reaches the caller, and nothing is stored.",
        why="a truncated blob would look complete",
        where="RegistryClient.upload_blob",
    )
    def test_failing_iterable(
        self, registry: RegistryClient, repository: str, data: bytes, digest: Digest
    ) -> None:
        def blocks() -> Iterator[bytes]:
            yield data
            raise ZeroDivisionError("the caller's own")

        with pytest.raises(ZeroDivisionError, match="the caller's own"):
            registry.upload_blob(repository, blocks())
        assert not registry.blob_exists(repository, digest)

    @rule(
        "A blob reader can be the source of an upload.",
        why="blobs are copied without memory or disk",
        where="RegistryClient.upload_blob and open_blob",
    )
    def test_upload_from_reader(
        self, registry: RegistryClient, repository: str, data: bytes, digest: Digest
    ) -> None:
        """A blob is copied from one repository to another without being held in memory."""
        registry.upload_blob(f"{repository}/a", data)
        with registry.open_blob(f"{repository}/a", digest) as blob:
            source = getattr(blob, "_inner", blob)  # the async client takes the async reader inside
            assert registry.upload_blob(f"{repository}/b", source).digest == digest
        assert registry.read_blob(f"{repository}/b", digest) == data

    @rule(
        "A pipe can be the source of an upload.",
        why="a pipe has no size and cannot be read twice",
        where="RegistryClient.upload_blob",
    )
    def test_upload_from_pipe(
        self, registry: RegistryClient, repository: str, data: bytes, digest: Digest
    ) -> None:
        read, write = os.pipe()
        with os.fdopen(write, "wb") as sender:
            sender.write(data)
        with os.fdopen(read, "rb") as receiver:
            assert registry.upload_blob(repository, receiver).digest == digest

    @needs("start_upload")
    @rule(
        "A blob can be written like a file; its digest is known at the end.",
        why="programs stream what they make",
        where="RegistryClient.blob_writer",
    )
    def test_blob_writer(
        self, registry: RegistryClient, repository: str, data: bytes, digest: Digest
    ) -> None:
        with registry.blob_writer(repository) as out:
            assert out.write(data[:500]) == 500
            out.write(data[500:])
            with pytest.raises(DockhandError):
                _ = out.digest
        assert out.digest == digest
        assert registry.read_blob(repository, digest) == data

    @needs("start_upload")
    @rule(
        "An exception in the `with` block cancels the upload.",
        why="a truncated blob would look complete",
        where="RegistryClient.blob_writer",
    )
    def test_blob_writer_cancelled(
        self, registry: RegistryClient, repository: str, data: bytes, digest: Digest
    ) -> None:
        out = registry.blob_writer(repository)
        with pytest.raises(ZeroDivisionError), out:
            out.write(data + bytes(1 // 0))
        assert not registry.blob_exists(repository, digest)
        with pytest.raises(DockhandError):
            out.write(b"more")

    @needs("start_upload")
    @rule(
        "An upload can be carried on by hand, also after it was saved as JSON.",
        why="an upload may continue in another process",
        where="RegistryClient.start_upload, upload_chunk, finish_upload",
    )
    def test_by_hand(
        self,
        registry: RegistryClient,
        repository: str,
        data: bytes,
        digest: Digest,
        abilities: Abilities,
    ) -> None:
        upload = registry.start_upload(repository)
        assert upload.offset == 0
        upload = registry.upload_chunk(upload, data[:600])
        assert upload.offset == 600
        carried = Upload.model_validate_json(upload.model_dump_json())
        assert carried == upload
        if abilities.has_upload_status:
            assert registry.upload_status(carried).offset == 600
        else:
            with pytest.raises(RegistryError) as caught:
                registry.upload_status(carried)
            assert caught.value.status == 400
        upload = registry.upload_chunk(carried, data[600:])
        result = registry.finish_upload(upload, digest)
        assert result.digest == digest
        assert registry.read_blob(repository, digest) == data

    @needs("start_upload")
    @rule(
        "An upload of one byte is counted as one byte.",
        why="registries report no byte and one byte alike",
        where="RegistryClient.upload_status",
    )
    def test_one_byte(
        self, registry: RegistryClient, repository: str, abilities: Abilities
    ) -> None:
        """A registry reports no byte and one byte as `Range: 0-0`."""
        upload = registry.start_upload(repository)
        if abilities.has_upload_status:
            assert registry.upload_status(upload).offset == 0
        upload = registry.upload_chunk(upload, b"1")
        if abilities.has_upload_status:
            upload = registry.upload_status(upload)
        assert upload.offset == 1
        result = registry.finish_upload(upload, Digest.of(b"1"))
        assert registry.blob_size(repository, result.digest) == 1

    @needs("start_upload")
    @rule(
        "The registry's refusal of a digest is DigestInvalid, and nothing is stored.",
        why="the caller must know that the data is at fault",
        where="RegistryClient.finish_upload",
    )
    def test_finish_with_wrong_digest(
        self, registry: RegistryClient, repository: str, data: bytes, digest: Digest
    ) -> None:
        upload = registry.upload_chunk(registry.start_upload(repository), data)
        with pytest.raises(DigestInvalid) as caught:
            registry.finish_upload(upload, MISSING)
        assert caught.value.status == 400
        assert not registry.blob_exists(repository, MISSING)
        assert not registry.blob_exists(repository, digest)

    @needs("start_upload")
    @rule(
        "A cancelled upload is gone.",
        why="uploads that are left take space",
        where="RegistryClient.cancel_upload",
    )
    def test_cancel_upload(
        self,
        registry: RegistryClient,
        repository: str,
        data: bytes,
        digest: Digest,
        abilities: Abilities,
    ) -> None:
        upload = registry.upload_chunk(registry.start_upload(repository), data)
        if abilities.has_upload_status:
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

    @needs("mount_blob")
    @rule(
        "A blob of another repository can be mounted, or an upload begins.",
        why="blobs are not sent twice",
        where="RegistryClient.mount_blob",
    )
    def test_mount(
        self,
        registry: RegistryClient,
        repository: str,
        data: bytes,
        digest: Digest,
        abilities: Abilities,
    ) -> None:
        registry.upload_blob(f"{repository}/a", data)
        mounted = registry.mount_blob(f"{repository}/b", digest, f"{repository}/a")
        if abilities.mounts_blobs:
            assert isinstance(mounted, PushResult)
            assert digest in mounted.location
        else:
            assert isinstance(mounted, Upload)
            registry.finish_upload(registry.upload_chunk(mounted, data), digest)
        assert registry.read_blob(f"{repository}/b", digest) == data

    @needs("mount_blob")
    @rule(
        "If the blob cannot be mounted, the client gets an upload for it.",
        why="the push goes on",
        where="RegistryClient.mount_blob",
    )
    def test_mount_unknown(
        self, registry: RegistryClient, repository: str, data: bytes, digest: Digest
    ) -> None:
        """If the blob cannot be mounted, the client gets an upload for it."""
        begun = registry.mount_blob(repository, digest, f"{repository}/none")
        assert isinstance(begun, Upload)
        registry.finish_upload(registry.upload_chunk(begun, data), digest)
        assert registry.blob_exists(repository, digest)

    @needs("start_upload")
    @rule(
        "The state of an upload is written to JSON, and hides its secrets in repr().",
        why="signed states in logs allow others to write",
        where="Upload",
    )
    def test_results_serialise(
        self, registry: RegistryClient, repository: str, abilities: Abilities
    ) -> None:
        upload = registry.start_upload(repository)
        assert json.loads(upload.model_dump_json())["repository"] == repository
        assert ("_state=" in upload.location) is abilities.signs_uploads
        assert "_state" not in repr(upload)
        if abilities.has_upload_status:
            registry.cancel_upload(upload)
