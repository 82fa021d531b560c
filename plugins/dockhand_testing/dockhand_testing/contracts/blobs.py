"""Blobs: reading, downloading and deleting them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dockhand_core import (
    BlobUnknown,
    Digest,
    DockhandError,
    NotFound,
    RegistryClient,
    ResponseTooLarge,
    ServerError,
)
from dockhand_testing.abilities import Abilities
from dockhand_testing.contracts.needs import needs
from dockhand_testing.rules import rule

MISSING = "sha256:" + "0" * 64

__all__ = ["MISSING", "BlobContract", "SampleBlob"]


class SampleBlob:
    """A blob of 1024 bytes that no other test uploads."""

    @pytest.fixture
    def data(self, repository: str) -> bytes:
        """The bytes of the blob."""
        return hashlib.sha512(repository.encode()).digest() * 16

    @pytest.fixture
    def digest(self, data: bytes) -> Digest:
        """The digest of `data`."""
        return Digest.of(data)


class BlobContract(SampleBlob):
    """Blobs: reading, downloading and deleting them.

    The tests use the fixtures `registry`, `repository` and `abilities`.
    """

    @rule(
        "A blob is read as it was uploaded, and not if it is larger than max_size.",
        why="programs trust the bytes, and the limit on memory",
        where="RegistryClient.read_blob, upload_blob",
    )
    def test_read_blob(
        self, registry: RegistryClient, repository: str, data: bytes, digest: Digest
    ) -> None:
        result = registry.upload_blob(repository, data)
        assert result.digest == digest
        assert result.uploaded
        assert digest in result.location
        assert registry.read_blob(repository, digest) == data
        assert registry.read_blob(repository, digest, max_size=len(data)) == data
        with pytest.raises(ResponseTooLarge):
            registry.read_blob(repository, digest, max_size=len(data) - 1)

    @rule(
        "The size of a blob is known without reading it, and a missing blob does not exist.",
        why="copies decide by it what to send",
        where="RegistryClient.blob_size, blob_exists",
    )
    def test_blob_size(
        self, registry: RegistryClient, repository: str, data: bytes, digest: Digest
    ) -> None:
        registry.upload_blob(repository, data)
        assert registry.blob_size(repository, digest) == len(data)
        assert registry.blob_exists(repository, digest)
        assert not registry.blob_exists(repository, MISSING)

    @needs("delete_blob")
    @rule(
        "A missing blob is BlobUnknown in every operation.",
        why="programs tell a missing blob from a failure by it",
        where="BlobUnknown",
    )
    def test_blob_unknown(
        self, registry: RegistryClient, repository: str, data: bytes, abilities: Abilities
    ) -> None:
        registry.upload_blob(repository, data)
        with pytest.raises(BlobUnknown) as caught:
            registry.read_blob(repository, MISSING)
        assert caught.value.status == 404
        with pytest.raises(BlobUnknown):
            registry.blob_size(repository, MISSING)
        with pytest.raises(NotFound), registry.open_blob(repository, MISSING):
            pass
        with pytest.raises(BlobUnknown if abilities.reports_missing_blobs else ServerError):
            registry.delete_blob(repository, MISSING)

    @rule(
        "A blob can be read piece by piece, to its end, and not after it was closed.",
        why="large blobs do not fit into memory",
        where="RegistryClient.open_blob",
    )
    def test_open_blob(
        self, registry: RegistryClient, repository: str, data: bytes, digest: Digest
    ) -> None:
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

    @rule(
        "A blob can be read from an offset on, if it is not verified.",
        why="interrupted downloads continue",
        where="RegistryClient.open_blob",
    )
    def test_open_blob_at_offset(
        self, registry: RegistryClient, repository: str, data: bytes, digest: Digest
    ) -> None:
        registry.upload_blob(repository, data)
        with registry.open_blob(repository, digest, offset=100, verify=False) as blob:
            assert blob.read() == data[100:]
        with pytest.raises(DockhandError, match="verify=False"):
            registry.open_blob(repository, digest, offset=100)

    @rule(
        "A download gives the whole file, reports its progress and leaves no other file.",
        why="a partial file must not be taken for the blob",
        where="RegistryClient.download_blob",
    )
    def test_download_blob(
        self, registry: RegistryClient, repository: str, data: bytes, digest: Digest, tmp_path: Path
    ) -> None:
        registry.upload_blob(repository, data)
        seen: list[tuple[int, int | None]] = []
        path = registry.download_blob(
            repository, digest, tmp_path / "blob", progress=lambda *now: seen.append(now)
        )
        assert path.read_bytes() == data
        assert seen[-1] == (len(data), len(data))
        assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["blob"]

    @rule(
        "A download continues after the bytes of an earlier attempt.",
        why="gigabytes are not fetched again",
        where="RegistryClient.download_blob",
    )
    def test_download_resumed(
        self, registry: RegistryClient, repository: str, data: bytes, digest: Digest, tmp_path: Path
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

    @rule(
        "A download of a missing blob leaves no file.",
        why="an empty file would be taken for the blob",
        where="RegistryClient.download_blob",
    )
    def test_download_unknown(
        self, registry: RegistryClient, repository: str, data: bytes, tmp_path: Path
    ) -> None:
        registry.upload_blob(repository, data)
        with pytest.raises(BlobUnknown):
            registry.download_blob(repository, MISSING, tmp_path / "blob")
        assert [
            path for path in tmp_path.iterdir() if path.is_file()
        ] == []  # no partial file either

    @needs("delete_blob")
    @rule(
        "A deleted blob does not exist.",
        why="clean-ups free space",
        where="RegistryClient.delete_blob",
    )
    def test_delete_blob(
        self, registry: RegistryClient, repository: str, data: bytes, digest: Digest
    ) -> None:
        registry.upload_blob(repository, data)
        registry.delete_blob(repository, digest)
        assert not registry.blob_exists(repository, digest)
