"""Partial files and destinations of downloads that are not what their names promise."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from dockhand_distribution.partial_file import DownloadFileRefused, PartialFile
from scripted_server import ScriptedServer, reply

from dockhand_core import Digest, DockhandError, RegistryClient

MakeClient = Callable[..., RegistryClient]
DATA = b"the bytes of a blob"
DIGEST = Digest.of(DATA)


def link(part: Path, other: Path) -> None:
    part.symlink_to(other)


def dangling(part: Path, other: Path) -> None:
    part.symlink_to(other.with_name("missing"))


def hard_link(part: Path, other: Path) -> None:
    part.hardlink_to(other)


def fifo(part: Path, other: Path) -> None:
    os.mkfifo(part)


def folder(part: Path, other: Path) -> None:
    part.mkdir()


@pytest.mark.parametrize("place", [link, dangling, hard_link, fifo, folder])
def test_partial_files_that_are_refused(
    make_client: MakeClient,
    server: ScriptedServer,
    tmp_path: Path,
    place: Callable[[Path, Path], None],
) -> None:
    server.handler = lambda request: reply(200, DATA)
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    part = tmp_path / f"blob.{DIGEST.encoded[:16]}.part"
    place(part, other)
    before = {one.name for one in tmp_path.iterdir()}
    with pytest.raises(DownloadFileRefused, match=r"\.part: the partial file .* delete it"):
        make_client(server.url).download_blob("a/b", DIGEST, tmp_path / "blob")
    assert other.read_bytes() == b"precious"
    assert {one.name for one in tmp_path.iterdir()} == before
    assert server.requests == []


@pytest.mark.parametrize("place", ["a folder", "no parent", "parent is a file", "a fifo"])
def test_destinations_that_are_refused(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path, place: str
) -> None:
    path = tmp_path / "blob"
    expected: type[OSError] = DownloadFileRefused
    if place == "a folder":
        path.mkdir()
        expected = IsADirectoryError
    elif place == "no parent":
        path = tmp_path / "missing" / "blob"
        expected = FileNotFoundError
    elif place == "parent is a file":
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "blob"
        expected = NotADirectoryError
    else:
        os.mkfifo(path)
    before = list(tmp_path.iterdir())
    with pytest.raises(expected):
        make_client(server.url).download_blob("a/b", DIGEST, path)
    assert server.requests == []
    assert list(tmp_path.iterdir()) == before


def test_modes(make_client: MakeClient, server: ScriptedServer, tmp_path: Path) -> None:
    """Only the owner can read the partial file; the destination has the mode of a new file."""
    part = tmp_path / f"blob.{DIGEST.encoded[:16]}.part"
    part.write_bytes(DATA[:5])
    part.chmod(0o666)
    seen: list[int] = []
    server.handler = lambda request: reply(200, DATA)
    before = os.umask(0o027)
    try:
        make_client(server.url).download_blob(
            "a/b",
            DIGEST,
            tmp_path / "blob",
            progress=lambda *_: seen.append(stat.S_IMODE(part.stat().st_mode)),
        )
    finally:
        os.umask(before)
    assert set(seen) == {0o600}
    assert stat.S_IMODE((tmp_path / "blob").stat().st_mode) == 0o640
    assert [one.name for one in tmp_path.iterdir()] == ["blob"]


def test_a_file_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = PartialFile(tmp_path / "blob", DIGEST)
    partial.path.write_bytes(b"x")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(DownloadFileRefused, match="another user"):
        partial.open()


def test_only_a_lock_is_another_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    first, second = (PartialFile(tmp_path / "blob", DIGEST) for _ in range(2))
    first.open()
    with pytest.raises(DockhandError, match="another download is writing"):
        second.open()
    first.close()

    def failing(number: int) -> Callable[..., None]:
        def flock(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        return flock

    monkeypatch.setattr(fcntl, "flock", failing(errno.ENOLCK))  # a file system without locks
    third = PartialFile(tmp_path / "blob", DIGEST)
    third.open()
    third.close()
    monkeypatch.setattr(fcntl, "flock", failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        PartialFile(tmp_path / "blob", DIGEST).open()


def test_a_partial_file_that_is_replaced_is_not_renamed(tmp_path: Path) -> None:
    partial = PartialFile(tmp_path / "blob", DIGEST)
    partial.open()
    partial.sink(None, None)(DATA)
    partial.path.unlink()
    partial.path.write_bytes(b"of another program")
    with pytest.raises(DownloadFileRefused, match="replaced"):
        partial.finish()
    partial.close()
    assert partial.path.read_bytes() == b"of another program"
    assert not (tmp_path / "blob").exists()
