"""Hostile archives: a typed error that names the member, in bounded time and memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archives import Member, make_image, new_docker_save, old_docker_save, sha256, write_tar
from embedded_clients import embedded_client
from hypothesis import given
from hypothesis import strategies as st

from dockhand_core import ArchiveInvalid, DockhandError, RegistryClient, connect
from dockhand_core.models import media
from dockhand_core.operations.archives.files import open_archive

LAYOUT: Member = ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
EMPTY: Member = ("index.json", b'{"schemaVersion":2,"manifests":[]}')


@pytest.fixture(params=["sync", "async"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RegistryClient]:
    """Provide a client of an embedded registry."""
    with embedded_client(request.param, tmp_path / "registry") as client:
        yield client


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> bytes:
    """The header of a member."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.size, entry.linkname = kind, size, link
    return entry.tobuf(tarfile.GNU_FORMAT)


def member(name: str, data: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A member with its content."""
    return header(name, kind, len(data)) + data + b"\0" * (-len(data) % 512)


def pax(**fields: str) -> bytes:
    """An extended header."""
    records = b""
    for key, value in fields.items():
        rest = f" {key.replace('__', '.')}={value}\n".encode()
        length = len(rest) + 2
        length = len(rest) + len(str(length))
        records += str(length).encode() + rest
    return member("PaxHeader", records, tarfile.XHDTYPE)


def broken_checksum(data: bytes) -> bytes:
    return data[:148] + b"0000000\0" + data[156:]


def with_size(name: str, size: bytes) -> bytes:
    """A header with any bytes as its size, and the right checksum."""
    raw = bytearray(header(name))
    raw[124:136] = size.ljust(12, b"\0")
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


GOOD = member(*LAYOUT) + member(*EMPTY)  # type: ignore[arg-type]
BEYOND = "the archive ends before|expands to more than"
HEADERS = {
    "an absolute name": (header("/etc/passwd"), "leads out"),
    "a name with ..": (header("blobs/../../x"), "leads out"),
    "a pax name with ..": (pax(path="../x") + header("y"), "leads out"),
    "a pax name with NUL": (pax(path="x\0y") + header("y"), "leads out"),
    "a long name with ..": (
        member("././@LongLink", b"a/" * 80 + b"../" * 90 + b"\0", tarfile.GNUTYPE_LONGNAME)
        + header("y"),
        "leads out",
    ),
    "a name that is too long": (pax(path="x" * 5000) + header("y"), "more than 4096 characters"),
    "no name": (header("./"[:1]), "no name"),
    "a link that leads out": (header("a/b", tarfile.SYMTYPE, link="../../c"), "leads out"),
    "an absolute link": (header("a/b", tarfile.SYMTYPE, link="/etc/passwd"), "leads out"),
    "a hard link that leads out": (header("a", tarfile.LNKTYPE, link="../b"), "leads out"),
    "a character device": (header("null", tarfile.CHRTYPE), "a device"),
    "a block device": (header("sda", tarfile.BLKTYPE), "a device"),
    "a pipe": (header("pipe", tarfile.FIFOTYPE), "a pipe"),
    "an unknown type": (header("x", b"Q"), "unknown type"),
    "a sparse file": (header("x", tarfile.GNUTYPE_SPARSE), "sparse"),
    "a sparse file by pax": (pax(GNU__sparse__major="1") + header("x"), "sparse"),
    "a size below zero": (with_size("x", b"\xff" * 12), "states a size of -1"),
    "a size beyond the end": (header("x", size=1 << 40), BEYOND),
    "a huge size": (with_size("x", b"\x80" + b"\x7f" * 11), BEYOND),
    "a size that is no number": (with_size("x", b"12x"), "no valid header"),
    "a pax size beyond the end": (pax(size=str(1 << 60)) + header("x"), BEYOND),
    "a pax size below zero": (pax(size="-5") + header("x"), "states a size"),
    "a pax size of many digits": (pax(size="9" * 5000) + header("x"), "states a size"),
    "a wrong checksum": (broken_checksum(header("x")), "no valid header"),
    "a part of a header": (header("x")[:100], "no valid header"),
    "a pax header without a member": (pax(path="x"), "after an extended header"),
    "a pax header that is too large": (header("x", tarfile.XHDTYPE, 1 << 21), "more than 1048576"),
    "a pax header that is cut": (header("x", tarfile.XHDTYPE, 1 << 20), "within an extended"),
    "a pax header that lies": (member("x", b"99 path=y\n", tarfile.XHDTYPE), "malformed pax"),
    "a pax header of zero length": (member("x", b"0 path=y\n", tarfile.XHDTYPE), "malformed pax"),
    "a pax header without =": (member("x", b"7 path\n", tarfile.XHDTYPE), "malformed pax"),
    "a global header with a path": (
        member("x", b"10 path=y\n", tarfile.XGLTYPE), "renames or resizes",
    ),
    "many pax headers for one member": (pax(path="x") * 5 + header("y"), "too many extended"),
    "another index.json": (member(*EMPTY), "several members have the name 'index.json'"),  # type: ignore[arg-type]
    "another oci-layout": (member(*LAYOUT), "several members have the name 'oci-layout'"),  # type: ignore[arg-type]
}  # fmt: skip


@pytest.mark.parametrize("case", HEADERS)
def test_hostile_headers(registry: RegistryClient, tmp_path: Path, case: str) -> None:
    data, message = HEADERS[case]
    compressed = len(case) % 2 == 0  # about half of the cases
    file = tmp_path / "a.tar"
    whole = GOOD + data + (b"" if "cut" in case or "part" in case else b"\0" * 1024)
    file.write_bytes(gzip.compress(whole) if compressed else whole)
    with pytest.raises(ArchiveInvalid, match=message):
        registry.load_image(file, "a/b", "v1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "registry"]


FILES = {
    "no archive": (b"x" * 2000, "not a tar file"),
    "an empty file": (b"", "empty tar file"),
    "an empty tar file": (b"\0" * 10240, "empty tar file"),
    "zstd": (b"\x28\xb5\x2f\xfd" + b"x" * 600, "zstd"),
    "bzip2": (b"BZh9" + b"x" * 600, "bzip2"),
    "xz": (b"\xfd7zXZ\0" + b"x" * 600, "xz"),
    "damaged gzip": (gzip.compress(GOOD)[:40] + b"x" * 50, "gzip data is damaged"),
    "cut gzip": (gzip.compress(os.urandom(512) + GOOD, 1)[:300], "gzip data is damaged"),
    "gzip of no tar file": (gzip.compress(b"x" * 2000), "not a tar file"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_are_no_tar_files(registry: RegistryClient, tmp_path: Path, case: str) -> None:
    data, message = FILES[case]
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(ArchiveInvalid, match=message):
        registry.load_image(tmp_path / "a.tar", "a/b", "v1")


def test_paths_that_are_no_files(registry: RegistryClient, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ArchiveInvalid, match="not a regular file"):
            registry.load_image(path, "a/b", "v1")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ArchiveInvalid, match="neither an image layout"):
        registry.load_image(tmp_path / "folder", "a/b", "v1")


def documents(**changes: Any) -> list[Member]:
    """A layout with an image whose parts can be changed."""
    members, _ = new_docker_save("app:v1", {"amd64": make_image(layers=1)})
    found = dict(members)
    found.update({name.replace("__", "."): data for name, data in changes.items()})
    return [(name, data) for name, data in found.items() if data != "left out"]


def nested(depth: int) -> list[Member]:
    """A layout with an image below a number of indexes."""
    members, _ = new_docker_save("app:v1", {"amd64": make_image(layers=1)})
    found = dict(members)
    index = found["index.json"]
    for _ in range(depth):
        assert isinstance(index, bytes)
        entry = {"mediaType": media.OCI_INDEX, "digest": f"sha256:{sha256(index)}"}
        found[f"blobs/sha256/{sha256(index)}"] = index
        entries = [{**entry, "size": len(index)}]
        index = json.dumps(
            {"schemaVersion": 2, "mediaType": media.OCI_INDEX, "manifests": entries}
        ).encode()
    found["index.json"] = index
    return list(found.items())


def docker(**changes: Any) -> list[Member]:
    """A docker-archive whose entry in manifest.json can be changed."""
    image = make_image(layers=1)
    entry = {"Config": f"{image.id}.json", "RepoTags": ["a:b"], "Layers": ["layer"], **changes}
    config, layer = (f"{image.id}.json", image.config), ("layer", image.layers[0])
    return [config, layer, ("manifest.json", json.dumps([entry]).encode())]


BOMB = gzip.compress(b"\0" * (64 << 20), 9)
MEMBERS: dict[str, tuple[list[Member], str]] = {
    "nothing": ([("x", b"")], "neither an image layout"),
    "no images": ([LAYOUT, EMPTY], "holds no image"),
    "only repositories": ([("repositories", b"{}")], "before 1.10"),
    "another version": ([("oci-layout", b'{"imageLayoutVersion":"2.0"}'), EMPTY], "version is"),
    "a layout that is no object": ([("oci-layout", b"[]"), EMPTY], "not an object"),
    "an index that is no JSON": ([LAYOUT, ("index.json", b"{")], r"index\.json.*not JSON"),
    "an index of brackets": ([LAYOUT, ("index.json", b"[" * 100_000)], r"index\.json"),
    "an index that is too large": (
        [LAYOUT, ("index.json", b'{"a":"' + b"x" * (9 << 20) + b'"}')], "a JSON document may have",
    ),
    "an index that is a manifest": (
        [LAYOUT, ("index.json", b'{"mediaType":"application/vnd.oci.image.manifest.v1+json"}')],
        r"index\.json",
    ),
    "indexes within indexes": (nested(12), "indexes within indexes"),
    "a manifest.json that is no list": ([("manifest.json", b"{}")], "not an array"),
    "a manifest.json without a config": ([("manifest.json", b"[{}]")], "needs Config"),
    "a manifest.json of texts": ([("manifest.json", b'["a"]')], "needs Config"),
    "layers that are no list": (docker(Layers="layer"), "lists of names"),
    "a config that is missing": (docker(Config="x"), "lacks the config 'x'"),
    "a config of a bad name": (docker(Config="../../x"), "lacks the config"),
    "a layer that is missing": (docker(Layers=["x"]), "lacks the layer 'x'"),
    "a layer too many": (docker(Layers=["layer", "layer"]), "has 1 layers"),
    "a config that is no config": (
        [("c", b"[]"), ("manifest.json", b'[{"Config":"c","Layers":[]}]')], "member 'c'",
    ),
    "a config with another digest": (
        [(f"{'0' * 64}.json", b"{}"),
         ("manifest.json", json.dumps([{"Config": f"{'0' * 64}.json", "Layers": []}]).encode())],
        "has the digest",
    ),
    "two configs of one name": (
        [("c", b"{}"), ("c", b'{"os":"x"}'), ("manifest.json", b'[{"Config":"c","Layers":[]}]')],
        "several members",
    ),
    "two manifest.json": (docker() + docker()[2:], "several members"),
    "a circle of links": (
        [("layer", "other"), ("other", "layer"), docker()[0], docker()[2]], "lead to no file",
    ),
    "a link to nothing": ([("layer", "other"), docker()[0], docker()[2]], "lacks the layer"),
    "a layer in bzip2": ([docker()[0], ("layer", b"BZh91AY"), docker()[2]], "bzip2"),
    "a layer of damaged gzip": ([docker()[0], ("layer", BOMB[:1000]), docker()[2]], "damaged"),
    "a layer with rubbish after gzip": (
        [docker()[0], ("layer", gzip.compress(b"x") + b"rubbish"), docker()[2]], "damaged",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MEMBERS)
def test_hostile_members(registry: RegistryClient, tmp_path: Path, case: str) -> None:
    members, message = MEMBERS[case]
    compressed = len(case) % 2 == 0  # about half of the cases
    file = write_tar(tmp_path / "a.tar", members, compressed=compressed)
    with pytest.raises(ArchiveInvalid, match=message):
        registry.load_image(file, "a/b", "v1")
    assert list(registry.repositories()) == []


def test_an_index_may_be_nested_a_little(registry: RegistryClient, tmp_path: Path) -> None:
    registry.load_image(write_tar(tmp_path / "a.tar", nested(3)), "a/b", "v1")
    assert registry.manifest_exists("a/b", "v1")


@pytest.fixture
def small_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the limits on expansion, so that bombs of the tests are small."""
    monkeypatch.setattr("dockhand_core.operations.archives.files.EXPANDED", 8 << 20)


@pytest.mark.usefixtures("small_bombs")
def test_bombs(registry: RegistryClient, tmp_path: Path) -> None:
    layer = [docker()[0], ("layer", BOMB), docker()[2]]
    with pytest.raises(ArchiveInvalid, match="'layer'.*expands to more than"):
        registry.load_image(write_tar(tmp_path / "layer.tar", layer), "a/b", "v1")
    archive = [docker()[0], ("junk", b"\0" * (64 << 20)), docker()[2]]
    file = write_tar(tmp_path / "a.tar", archive, compressed=True)
    with pytest.raises(ArchiveInvalid, match="'junk'.*expands to more than"):
        registry.load_image(file, "a/b", "v1")


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    file = write_tar(tmp_path / "a.tar", [docker()[0], ("layer", BOMB), docker()[2]])
    packed = tmp_path / "a.tgz"
    with gzip.open(packed, "wb") as out:
        out.write(file.read_bytes())
        out.write(b"\0" * (64 << 20))
    with connect(str(tmp_path / "registry"), driver="embedded") as registry:
        tracemalloc.start()
        try:
            for path in (file, packed):
                with pytest.raises(ArchiveInvalid, match="the config states"):
                    registry.load_image(path, "a/b", "v1")
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("compressed", [False, True])
def test_a_hundred_thousand_members(tmp_path: Path, compressed: bool) -> None:
    data = GOOD + b"".join(header(f"{number}") for number in range(100_000)) + b"\0" * 1024
    file = tmp_path / "a.tar"
    file.write_bytes(gzip.compress(data, 1) if compressed else data)
    with connect(str(tmp_path / "registry"), driver="embedded") as registry:
        start = time.monotonic()
        with pytest.raises(ArchiveInvalid, match="more than 65536 members"):
            registry.load_image(file, "a/b", "v1")
        assert time.monotonic() - start < 60  # about 2 on a machine that does nothing else


def test_many_long_names_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.tar"
    with file.open("wb") as out:
        out.write(GOOD)
        for number in range(5000):
            out.write(pax(path=f"{number}/" + "x" * 4000) + header("y"))
    with pytest.raises(ArchiveInvalid, match="names of the members have more than"):
        open_archive(file)


@pytest.mark.parametrize(
    ("name", "link", "message"),
    [
        ("index.json", "/etc/passwd", "leads out of the folder"),
        ("index.json", "index.json", r"index\.json"),
        ("blobs", "../outside", "leads out of the folder"),
        ("index.json", None, "not a regular file"),
    ],
)
def test_folders_with_links_and_pipes(
    registry: RegistryClient, tmp_path: Path, name: str, link: str | None, message: str
) -> None:
    layout, outside = tmp_path / "layout", tmp_path / "outside"
    members, _ = new_docker_save("app:v1", {"amd64": make_image(layers=1)})
    for folder in (layout, outside):
        with tarfile.open(write_tar(tmp_path / "a.tar", members)) as tar:
            tar.extractall(folder, filter="data")
    (outside / "sha256").symlink_to(outside / "blobs" / "sha256")
    path = layout / name
    if path.is_dir():
        path.rename(tmp_path / "moved")
    else:
        path.unlink()
    if link is None:
        os.mkfifo(path)
    else:
        path.symlink_to(link)
    with pytest.raises(ArchiveInvalid, match=message):
        registry.load_image(layout, "a/b", "v1")
    assert list(registry.repositories()) == []


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 300, "../outside", "/etc/passwd"])
def test_names_that_no_file_of_a_folder_can_have(
    registry: RegistryClient, tmp_path: Path, name: str
) -> None:
    entry: dict[str, Any] = {"Config": name, "RepoTags": None, "Layers": []}
    (tmp_path / "outside").write_text("{}")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps([entry]))
    with pytest.raises(ArchiveInvalid):
        registry.load_image(folder, "a/b", "v1")


def test_an_archive_that_changes_while_it_is_read(registry: RegistryClient, tmp_path: Path) -> None:
    members, _ = new_docker_save("app:v1", {"amd64": make_image(layers=1)})
    file = write_tar(tmp_path / "a.tar", members)
    whole = file.read_bytes()

    def cut(done: int, total: int | None) -> None:
        file.write_bytes(whole[:2000])

    with pytest.raises(ArchiveInvalid, match="ends .* bytes before its end"):
        registry.load_image(file, "a/b", "v1", progress=cut)
    assert not registry.manifest_exists("a/b", "v1")


def _archives() -> list[bytes]:
    found = []
    for members in (
        old_docker_save({"a:b": make_image()}),
        new_docker_save("a:b", {"amd64": make_image()})[0],
    ):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name, content in members:
                if isinstance(content, bytes):
                    entry = tarfile.TarInfo(name)
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
        found.append(file.getvalue())
    return found


ARCHIVES = _archives()


@given(
    number=st.sampled_from(range(len(ARCHIVES))),
    changes=st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(max_size=16)), max_size=5),
    end=st.integers(0, 1 << 20),
    compressed=st.booleans(),
)
def test_random_damage_gives_typed_errors_or_an_intact_image(
    tmp_path_factory: pytest.TempPathFactory,
    number: int,
    changes: list[tuple[int, bytes]],
    end: int,
    compressed: bool,
) -> None:
    data = bytearray(ARCHIVES[number])
    for position, change in changes:
        start = position % len(data)
        data[start : start + len(change)] = change
    if end % 3 == 0:
        del data[end % len(data) :]
    file = tmp_path_factory.mktemp("damaged") / "a.tar"
    file.write_bytes(gzip.compress(bytes(data), 1) if compressed else bytes(data))
    with connect(":memory:", driver="embedded", logging={"driver": "null"}) as registry:
        try:
            registry.load_image(file, "a/b", "v1")
        except DockhandError:
            assert list(registry.repositories()) == [] or list(registry.tags("a/b")) == []
            return
        manifest = registry.image("a/b", "v1", platform=None)
        for blob in (manifest.config, *manifest.layers):
            registry.read_blob("a/b", blob)
