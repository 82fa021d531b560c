"""Partial files and destinations of downloads that are not what their names promise."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from dockhand_distribution.partial_file import PartialFile
from dockhand_testing.http_server import CUT, ScriptedServer, reply

from dockhand_core import (
    ConnectionFailed,
    Digest,
    DockhandError,
    DownloadFileRefused,
    RegistryClient,
)

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


def no_folder(path: Path) -> Path:
    return path / "missing" / "blob"


def folder_is_a_file(path: Path) -> Path:
    (path / "file").touch()
    return path / "file" / "blob"


def folder_is_a_dangling_link(path: Path) -> Path:
    (path / "link").symlink_to(path / "missing")
    return path / "link" / "blob"


def folder_is_a_circle_of_links(path: Path) -> Path:
    (path / "link").symlink_to(path / "link")
    return path / "link" / "blob"


def is_a_folder(path: Path) -> Path:
    (path / "blob").mkdir()
    return path / "blob"


def is_a_link_to_a_folder(path: Path) -> Path:
    (path / "folder").mkdir()
    (path / "blob").symlink_to(path / "folder")
    return path / "blob"


def is_a_fifo(path: Path) -> Path:
    os.mkfifo(path / "blob")
    return path / "blob"


def has_a_nul(path: Path) -> Path:
    return path / "a\0b"


def is_too_long(path: Path) -> Path:
    return path / ("a" * 256)


def has_an_escape(path: Path) -> Path:
    return path / "\x1b[2J\udcff" / "blob"


@pytest.mark.parametrize(
    "place",
    [
        no_folder,
        folder_is_a_file,
        folder_is_a_dangling_link,
        folder_is_a_circle_of_links,
        is_a_folder,
        is_a_link_to_a_folder,
        is_a_fifo,
        has_a_nul,
        is_too_long,
        has_an_escape,
    ],
)
def test_destinations_that_are_refused(
    make_client: MakeClient,
    server: ScriptedServer,
    tmp_path: Path,
    place: Callable[[Path], Path],
) -> None:
    path = place(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DownloadFileRefused) as caught:
        make_client(server.url).download_blob("a/b", DIGEST, path)
    assert isinstance(caught.value, DockhandError)
    assert isinstance(caught.value, OSError)
    assert str(caught.value).isprintable()
    assert server.requests == []
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_written_to(
    make_client: MakeClient,
    server: ScriptedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # as root, every folder can
    with pytest.raises(DownloadFileRefused, match="the folder .* cannot be written to"):
        make_client(server.url).download_blob("a/b", DIGEST, tmp_path / "blob")
    assert server.requests == []


def test_a_destination_of_another_user_in_a_folder_such_as_tmp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "blob").write_bytes(b"old")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(DownloadFileRefused, match="of another user"):
        PartialFile(tmp_path / "blob", DIGEST).open()


def test_a_destination_that_becomes_a_folder(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path
) -> None:
    path = tmp_path / "blob"
    server.handler = lambda request: reply(200, DATA)
    with pytest.raises(DownloadFileRefused, match="cannot be renamed to it") as caught:
        make_client(server.url).download_blob(
            "a/b", DIGEST, path, progress=lambda *_: path.mkdir(exist_ok=True)
        )
    assert isinstance(caught.value.__cause__, OSError)


def test_a_link_at_the_destination_is_replaced(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path
) -> None:
    """As `rename` does it; the file that the link leads to stays as it is."""
    server.handler = lambda request: reply(200, DATA)
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    for target in (other, tmp_path / "missing", tmp_path / "blob"):
        (tmp_path / "blob").unlink(missing_ok=True)
        (tmp_path / "blob").symlink_to(target)
        make_client(server.url).download_blob("a/b", DIGEST, tmp_path / "blob")
        assert not (tmp_path / "blob").is_symlink()
        assert (tmp_path / "blob").read_bytes() == DATA
    assert other.read_bytes() == b"precious"
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("name", ["a" * 255, "ä" * 127, "\udcff" * 230, "\udcff", "\n", "%s{x}"])
def test_names_of_every_kind_and_length(
    make_client: MakeClient, server: ScriptedServer, tmp_path: Path, name: str
) -> None:
    """A long name leaves room for the end of the partial file's name, and can be resumed."""
    server.handler = lambda request: (
        reply(206, DATA[4:], Content_Range=f"bytes 4-{len(DATA) - 1}/{len(DATA)}")
        if "range" in request.headers
        else [reply(200, DATA[:4], length=len(DATA)), CUT]
    )
    registry = make_client(server.url, retries=0)
    with pytest.raises(ConnectionFailed):
        registry.download_blob("a/b", DIGEST, tmp_path / name)
    (part,) = tmp_path.iterdir()
    assert part.name.endswith(f".{DIGEST.encoded[:16]}.part")
    registry.download_blob("a/b", DIGEST, tmp_path / name)
    assert (tmp_path / name).read_bytes() == DATA
    assert server.requests[-1].headers["range"] == "bytes=4-"
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_a_partial_file_that_others_can_write_to(tmp_path: Path) -> None:
    """It is made anew: a program of another user may have opened it."""
    partial = PartialFile(tmp_path / "blob", DIGEST)
    partial.path.touch()
    partial.path.chmod(0o666)
    with partial.path.open("r+b") as other:
        partial.open()
        partial.sink(None, None)(DATA)
        other.write(b"changed")
        other.flush()
        partial.finish()
    partial.close()
    assert (tmp_path / "blob").read_bytes() == DATA


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
    with pytest.raises(DownloadFileRefused, match="another download is writing"):
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
    with pytest.raises(DownloadFileRefused, match="Input/output error"):
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
