"""Artifacts that strangers made to break out of the folder, or to fill the disk."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from artifacts import (
    CONTENT_DIGEST,
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

from dockhand_core import ArtifactInvalid, RegistryClient
from dockhand_core.operations.artifacts import tar as artifact_tar

DIR, LINK, HARD = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
ROOT = member("site", type=DIR)


@pytest.fixture(params=MODES)
def registry(request: pytest.FixtureRequest) -> Iterator[RegistryClient]:
    """Provide sync and async clients of an empty registry."""
    with memory_registry(request.param) as client:
        yield client


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder to pull into; the file beside it must stay as it is."""
    (tmp_path / "secret").write_bytes(b"secret")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine").write_bytes(b"mine")
    return folder


def refused(
    registry: RegistryClient, out: Path, match: str, *, max_size: int | None = None
) -> None:
    """Pull `app:v1`, and check that it is refused and leaves nothing."""
    for overwrite in (False, True):
        with pytest.raises(ArtifactInvalid, match=match):
            registry.pull_artifact("app", "v1", out, overwrite=overwrite, max_size=max_size)
        assert listing(out) == {"mine": b"mine"}
        assert listing(out.parent) == {"secret": b"secret", "out": None, "out/mine": b"mine"}
    with pytest.raises(ArtifactInvalid, match=match):
        registry.pull_artifact("app", "v1", out / "deep" / "new", max_size=max_size)
    assert listing(out) == {"mine": b"mine"}


TITLES = {
    "/etc/passwd": "absolute",
    "../secret": "leads out",
    "a/../../secret": "leads out",
    "a/..": "leads out",
    "..": "leads out",
    "a\\..\\..\\secret": "backslash",
    "C:secret": "drive",
    "c:/secret": "drive",
    "a\0b": "control character",
    "a\x1b[31m": "control character",
    "a\nb": "control character",
    ".": "names no file",
    "./": "names no file",
    "x" * 256: "255 bytes",
    "/".join(["x" * 250] * 20): "4096 bytes",
    "/".join("x" * 101): "100 components",
}


@pytest.mark.parametrize("title", TITLES)
def test_names_of_files(registry: RegistryClient, out: Path, title: str) -> None:
    push_layers(registry, (b"good", {TITLE: "good"}), (b"evil", {TITLE: title}))
    refused(registry, out, TITLES[title])


@pytest.mark.parametrize("title", [title for title in TITLES if title not in (".", "./")])
def test_names_of_members(registry: RegistryClient, out: Path, title: str) -> None:
    if "\0" in title:
        pytest.skip("a name in a tar file ends at a zero byte")
    good = member("good", b"good")
    push_layers(registry, folder_layer(tar(good, member(title, b"evil")), "."))
    refused(registry, out, TITLES[title])


def test_names_that_no_tar_program_writes(registry: RegistryClient, out: Path) -> None:
    for record, reason in [
        (b"10 path=\xff\n", "not valid UTF-8"),
        (b"12 path=a\0b\n", "control character"),
        (b"8 path=\n", "is empty"),
    ]:
        extension = member("pax", record, type=tarfile.XHDTYPE)
        push_layers(registry, folder_layer(tar(extension, member("plain", b"evil")), "."))
        refused(registry, out, reason)


@pytest.mark.parametrize("titles", [["a", "a"], ["a", "./a"], ["a", "a/b"], ["a/b/c", "a/b"]])
def test_two_files_of_one_name(registry: RegistryClient, out: Path, titles: list[str]) -> None:
    push_layers(registry, *((b"x", {TITLE: title}) for title in titles))
    refused(registry, out, "two files have the name|lies below")


MEMBERS = {
    "two files": [member("site/a", b"1"), member("site/a", b"2")],
    "file over folder": [member("site/a", type=DIR), member("site/a", b"2")],
    "folder over file": [member("site/a", b"1"), member("site/a", type=DIR)],
    "below a file": [member("site/a", b"1"), member("site/a/b", b"2")],
    "file over its folder": [member("site", b"1")],
    "outside the title": [member("other/a", b"1")],
    "beside the title": [member("site2/a", b"1")],
    "absolute link": [member("site/a", type=LINK, linkname="/etc/passwd")],
    "link out": [member("site/a", type=LINK, linkname="../secret")],
    "link out, later in": [member("site/a", type=LINK, linkname="../site/b")],
    "link through out": [member("site/a", type=LINK, linkname="b/../../../secret")],
    "link with a drive": [member("site/a", type=LINK, linkname="C:\\secret")],
    "empty link": [member("site/a", type=LINK, linkname="")],
    "link in a circle": [
        member("site/a", type=LINK, linkname="b"),
        member("site/b", type=LINK, linkname="a"),
    ],
    "file through a link": [
        member("site/a", type=LINK, linkname="b"),
        member("site/b", type=DIR),
        member("site/a/c", b"evil"),
    ],
    "file in place of a link": [
        member("site/a", type=LINK, linkname="b"),
        member("site/a", b"evil"),
    ],
    "link in place of a folder": [
        member("site/a/b", b"1"),
        member("site/a", type=LINK, linkname="."),
    ],
    "chained links": [
        member("site/d/e", type=DIR),
        member("site/up", type=LINK, linkname="."),
        member("site/d/e/top", type=LINK, linkname="../.."),
        member("site/out", type=LINK, linkname="d/e/top/../secret"),
    ],
    "hard link out": [member("site/a", type=HARD, linkname="../secret")],
    "hard link to an absolute name": [member("site/a", type=HARD, linkname="/etc/passwd")],
    "hard link to another layer": [member("site/a", type=HARD, linkname="good")],
    "hard link to a folder": [ROOT, member("site/a", type=HARD, linkname="site")],
    "hard link to a link": [
        member("site/l", type=LINK, linkname="x"),
        member("site/a", type=HARD, linkname="site/l"),
    ],
    "hard link to a later file": [
        member("site/a", type=HARD, linkname="site/b"),
        member("site/b", b"1"),
    ],
    "hard link through a link": [
        member("site/b/f", b"1"),
        member("site/l", type=LINK, linkname="b"),
        member("site/a", type=HARD, linkname="site/l/f"),
    ],
    "device": [member("site/a", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "block device": [member("site/a", type=tarfile.BLKTYPE, devmajor=8)],
    "pipe": [member("site/a", type=tarfile.FIFOTYPE)],
    "sparse file": [member("site/a", type=tarfile.GNUTYPE_SPARSE)],
    "unknown kind": [member("site/a", type=b"Z")],
    "sparse file in pax": [member("site/a", b"1", pax_headers={"GNU.sparse.major": "1"})],
    "pax path out": [member("site/a", b"1", pax_headers={"path": "../secret"})],
    "pax link out": [
        member("site/a", type=LINK, linkname="b", pax_headers={"linkpath": "../../secret"})
    ],
    "pax size": [member("site/a", b"1", pax_headers={"size": "-5"})],
    "pax time": [member("site/a", b"1", pax_headers={"mtime": "noon"})],
    "folder with content": [member("site/a", b"content", type=DIR)],
}


@pytest.mark.parametrize("name", MEMBERS)
def test_members_of_folders(registry: RegistryClient, out: Path, name: str) -> None:
    good = (b"good", {TITLE: "good"})
    push_layers(registry, good, folder_layer(tar(*MEMBERS[name])))
    refused(registry, out, "the artifact app@sha256:")


def test_a_harmless_link_that_leads_out_by_way_of_an_existing_one(
    registry: RegistryClient, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / "site").mkdir(parents=True)
    (out / "site" / "old").symlink_to(tmp_path)
    push_layers(registry, folder_layer(tar(member("site/a", type=LINK, linkname="old/secret"))))
    before = listing(out)
    with pytest.raises(ArtifactInvalid, match="leads out"):
        registry.pull_artifact("app", "v1", out)
    assert listing(out) == before


# -- damaged files -------------------------------------------------------------------------


def damaged_layers() -> dict[str, bytes]:
    """Layers of a folder that are no whole, well-formed tar file with gzip."""
    plain = tar(ROOT, member("site/a", b"a" * 2000))
    packed = gzip.compress(plain, mtime=0)
    wrong_sum = bytearray(plain)
    wrong_sum[512] ^= 1
    huge = bytearray(tar(member("site/a", b"x")))
    huge[124:136] = b"00000007777\0"
    negative = bytearray(tar(member("site/a", b"x")))
    negative[124:136] = b"\xff" * 12
    for block in (huge, negative):
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block[:512])
    return {
        "no gzip": plain,
        "empty": b"",
        "cut off": packed[: len(packed) // 2],
        "without its end": packed[:-4],
        "wrong sum of gzip": packed[:-8] + bytes(8),
        "garbage behind": packed + b"garbage",
        "no tar": gzip.compress(b"<html>" * 200),
        "wrong sum of a header": gzip.compress(wrong_sum),
        "cut off in a header": gzip.compress(plain[:700]),
        "cut off in a file": gzip.compress(plain[:1800]),
        "larger than it is": gzip.compress(huge),
        "negative": gzip.compress(negative),
        "members behind the end": gzip.compress(tar(ROOT) + tar(member("site/evil", b"1"))),
        "long name without a member": gzip.compress(
            tar(member("././@LongLink", b"site/a\0", type=tarfile.GNUTYPE_LONGNAME))
        ),
        "damaged pax": gzip.compress(tar(member("pax", b"99 path=x\n", type=tarfile.XHDTYPE))),
        "pax without a length": gzip.compress(tar(member("x", b"path=x\n", type=tarfile.XHDTYPE))),
        "names for all": gzip.compress(
            tar(member("x", b"13 path=../a\n", type=tarfile.XGLTYPE), member("site/a", b"1"))
        ),
        "many extensions": gzip.compress(
            tar(*[member("x", b"7 a=bc\n", type=tarfile.XHDTYPE)] * 9, member("site/a", b"1"))
        ),
    }


@pytest.mark.parametrize("name", damaged_layers())
def test_damaged_folders(registry: RegistryClient, out: Path, name: str) -> None:
    annotations = {TITLE: "site", UNPACK: "true"}
    push_layers(registry, (damaged_layers()[name], annotations))
    refused(registry, out, "the folder 'site': ")


@pytest.mark.parametrize("digest", ["sha256:" + "0" * 64, "nonsense", "md5:0"])
def test_a_folder_with_another_digest(registry: RegistryClient, out: Path, digest: str) -> None:
    data, annotations = folder_layer(tar(ROOT, member("site/a", b"1")))
    push_layers(registry, (data, {**annotations, CONTENT_DIGEST: digest}))
    refused(registry, out, "has the digest sha256:")


# -- bombs ---------------------------------------------------------------------------------


def test_more_bytes_than_max_size(registry: RegistryClient, out: Path) -> None:
    push_layers(registry, (b"12345", {TITLE: "a"}), (b"67890", {TITLE: "b"}))
    refused(registry, out, "max_size is 9", max_size=9)
    assert len(registry.pull_artifact("app", "v1", out, max_size=10)) == 2


def test_files_and_folders_count_together(registry: RegistryClient, out: Path) -> None:
    folder = folder_layer(tar(ROOT, member("site/a", b"12345"), member("site/b", b"6")))
    push_layers(registry, (b"12345", {TITLE: "a"}), folder)
    refused(registry, out, "more than 10 bytes", max_size=10)
    registry.pull_artifact("app", "v1", out, max_size=11)


def test_a_bomb_is_refused_before_it_is_written(registry: RegistryClient, out: Path) -> None:
    entry = tarfile.TarInfo("site/bomb")
    entry.size = 5 << 30  # more than the default of max_size; only the first bytes are there
    data = entry.tobuf(tarfile.PAX_FORMAT) + bytes(1 << 20)
    push_layers(registry, folder_layer(data))
    refused(registry, out, "more than 4294967296 bytes")


def test_extended_headers_do_not_fill_the_memory(registry: RegistryClient, out: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 200 << 20
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as file:
        file.write(header.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(20):
            file.write(bytes(1 << 20))
    push_layers(registry, (packed.getvalue(), {TITLE: "site", UNPACK: "true"}))
    tracemalloc.start()
    try:
        refused(registry, out, "too large extended headers")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_many_small_pax_records_take_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """To cut each record off the rest takes quadratic time."""
    monkeypatch.setattr(artifact_tar, "EXTENSION", 1 << 20)
    fields = b"6 a=b\n" * 100_000
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, len(fields)
    extended = header.tobuf(tarfile.USTAR_FORMAT) + fields + bytes(-len(fields) % 512)
    data = gzip.compress(extended + tarfile.TarInfo("site").tobuf(tarfile.USTAR_FORMAT), 1)
    start = time.process_time()
    (found,) = artifact_tar.TarReader(io.BytesIO(data), "it").members()
    assert found.name == "site"
    assert time.process_time() - start < 2


def test_zeros_behind_the_end_are_limited(registry: RegistryClient, out: Path) -> None:
    packed = io.BytesIO()
    with gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as file:
        file.write(tar(ROOT))
        for _ in range(8):
            file.write(bytes(1 << 20))
    push_layers(registry, (packed.getvalue(), {TITLE: "site", UNPACK: "true"}))
    refused(registry, out, "bytes behind its end")


def test_a_hundred_thousand_members(tmp_path: Path) -> None:
    packed = io.BytesIO()
    entry = bytearray(tarfile.TarInfo("site/000000").tobuf(tarfile.USTAR_FORMAT))
    with gzip.GzipFile("", "wb", compresslevel=1, fileobj=packed, mtime=0) as file:
        for number in range(100_000):
            entry[5:11] = b"%06d" % number
            entry[148:156] = b" " * 8
            entry[148:156] = b"%06o\0 " % sum(entry)
            file.write(entry)
        file.write(bytes(1024))
    with memory_registry("sync") as registry:
        push_layers(registry, (packed.getvalue(), {TITLE: "site", UNPACK: "true"}))
        with pytest.raises(ArtifactInvalid, match="more than 65536 files"):
            registry.pull_artifact("app", "v1", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_implied_folders_count_as_files(
    registry: RegistryClient, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dockhand_core.operations.artifacts.unpacking.MEMBERS", 100)
    names = ["/".join([f"d{number}", *"x" * 60, "f"]) for number in range(2)]
    push_layers(registry, folder_layer(tar(*(member(name, b"") for name in names)), "."))
    refused(registry, out, "more than 100 files")


def test_links_of_links_take_little_time(registry: RegistryClient, out: Path) -> None:
    """Each link leads to the one before it, twice: an unlimited search would never end."""
    links = [member("site/l0", type=LINK, linkname="x")]
    links += [
        member(f"site/l{n}", type=LINK, linkname=f"l{n - 1}/../l{n - 1}") for n in range(1, 100)
    ]
    push_layers(registry, folder_layer(tar(*links)))
    started = time.monotonic()
    refused(registry, out, "components, or leads in a circle|leads out")
    assert time.monotonic() - started < 30


def test_a_file_system_that_ignores_case(
    registry: RegistryClient, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that folds names is simulated: there, `A` exists if `a` does."""
    plain = Path.open

    def folded(self: Path, mode: str = "r", *args: object, **options: object) -> object:
        name = self.with_name(self.name.lower()) if "files" in self.parts else self
        return plain(name, mode, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", folded)
    push_layers(registry, folder_layer(tar(member("site/a", b"1"), member("site/A", b"2"))))
    refused(registry, out, "ignores case")


def test_modes_that_give_rights_are_left_out(registry: RegistryClient, tmp_path: Path) -> None:
    os.umask(os.umask(0o022))
    push_layers(registry, folder_layer(tar(member("site/a", b"1", mode=0o7755))))
    registry.pull_artifact("app", "v1", tmp_path)
    assert (tmp_path / "site" / "a").stat().st_mode & 0o7777 == 0o755


def test_random_damage(registry: RegistryClient, tmp_path: Path) -> None:
    """A tar file in which one byte is another is pulled into the folder, or refused."""
    plain = tar(ROOT, member("site/a", b"a"), member("site/l", type=LINK, linkname="a"))
    outside = tmp_path / "outside"
    for position in range(0, len(plain) - 1024, 37):
        changed = bytearray(plain)
        changed[position] ^= 1 + position % 255
        start = position // 512 * 512
        changed[start + 148 : start + 156] = b" " * 8
        total = sum(changed[start : start + 512])
        changed[start + 148 : start + 156] = struct.pack("8s", b"%06o\0 " % total)
        layer, annotations = folder_layer(bytes(changed))
        push_layers(registry, (layer, annotations))
        out = tmp_path / f"out{position}"
        try:
            registry.pull_artifact("app", "v1", out)
        except ArtifactInvalid:
            assert not out.exists()
        else:
            assert (out / "site").is_dir()
        assert not outside.exists()
        assert not list(tmp_path.rglob(".dockhand-*"))
