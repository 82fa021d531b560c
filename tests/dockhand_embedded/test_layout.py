"""The folder of the registry: readable by other tools, intact after restarts and crashes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from dockhand_embedded import LayoutStorage, RegistryRequest

REF_NAME = "org.opencontainers.image.ref.name"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MakeApi = Callable[[Any], Any]

PUSHER = """
import hashlib, json, sys
from dockhand_embedded import Headers, LayoutStorage, Registry, RegistryRequest
root, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
registry = Registry(LayoutStorage(root))
kind = "application/vnd.oci.image.manifest.v1+json"
def push(data):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    path = "/v2/busy/repo/blobs/uploads/"
    request = RegistryRequest("POST", path, [("digest", digest)], body=[data])
    assert registry.handle(request).status == 201
    return {"mediaType": "x/y", "digest": digest, "size": len(data)}
for number in range(first, first + count):
    config, layer = push(b"{}"), push(b"layer %d" % number)
    body = json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode()
    headers = Headers([("Content-Type", kind)])
    path = f"/v2/busy/repo/manifests/t{number}"
    assert registry.handle(RegistryRequest("PUT", path, (), headers, [body])).status == 201
    print(number, flush=True)
"""


@pytest.fixture
def storage(root: Path) -> LayoutStorage:
    return LayoutStorage(root)


def start_pusher(root: Path, first: int, count: int) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, "-c", PUSHER, str(root), str(first), str(count)],
        stdout=subprocess.PIPE,
        env=env,
    )


def layout_index(folder: Path) -> list[dict[str, Any]]:
    assert json.loads((folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    document = json.loads((folder / "index.json").read_text())
    assert document["schemaVersion"] == 2
    found: list[dict[str, Any]] = document["manifests"]
    return found


def test_repository_is_an_image_layout(api: Any, root: Path) -> None:
    one = api.push_image("team/app", "v1", b"layer")
    two = api.push_image("team/app", "", b"other")
    entries = {entry["digest"]: entry for entry in layout_index(root / "team/app")}
    kind = "application/vnd.oci.image.manifest.v1+json"
    assert entries[api.digest_of(one)] == {
        **api.descriptor(one, kind),
        "annotations": {REF_NAME: "v1"},
    }
    assert entries[api.digest_of(two)] == api.descriptor(two, kind)
    for data in (one, two, b"layer", b"other", b"{}"):
        algorithm, _, encoded = api.digest_of(data).partition(":")
        assert (root / "team/app/blobs" / algorithm / encoded).read_bytes() == data
    assert len(entries) == 2
    assert list((root / ".uploads").iterdir()) == []


def test_restart_loses_nothing(api: Any, root: Path, make_api: MakeApi) -> None:
    manifest = api.push_image("a", "v1", b"layer")
    location = api.start_upload("a")
    api.client.patch(location, content=b"first ")
    again = make_api(LayoutStorage(root))
    assert again.client.get("/v2/a/manifests/v1").content == manifest
    assert again.client.get("/v2/_catalog").json() == {"repositories": ["a"]}
    assert again.client.get(location).headers["range"] == "0-5"
    digest = api.digest_of(b"first second")
    reply = again.client.put(f"{location}?digest={digest}", content=b"second")
    assert reply.status_code == 201
    assert api.client.get(f"/v2/a/blobs/{digest}").content == b"first second"


def test_two_processes_alternate_in_one_upload(api: Any, root: Path, make_api: MakeApi) -> None:
    other = make_api(LayoutStorage(root))
    location = api.start_upload("a")
    for turn in range(6):
        (api, other)[turn % 2].client.patch(location, content=b"%d" % turn)
    reply = api.client.put(f"{location}?digest={api.digest_of(b'012345')}")
    assert reply.status_code == 201


def test_layout_of_another_tool_is_served(api: Any, root: Path) -> None:
    """skopeo writes such a layout: index.json names the index only, not its children."""
    child = api.push_image("source", "", b"layer")
    whole = api.image_index(child)
    folder = root / "foreign/img"
    shutil.copytree(root / "source/blobs", folder / "blobs")
    (folder / "blobs/sha256" / api.digest_of(whole).partition(":")[2]).write_bytes(whole)
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    named = {**api.descriptor(whole, OCI_INDEX), "annotations": {REF_NAME: "tip", "x": "y"}}
    strange = {**api.descriptor(b"gone", OCI_INDEX), "annotations": {REF_NAME: "host/name:tag"}}
    entries = [named, strange, {"no": "digest"}]
    foreign = {"schemaVersion": 2, "own": 1, "manifests": entries}
    (folder / "index.json").write_text(json.dumps(foreign))

    assert api.client.get("/v2/foreign/img/manifests/tip").content == whole
    reply = api.client.get(f"/v2/foreign/img/manifests/{api.digest_of(child)}")
    assert reply.content == child
    assert reply.headers["content-type"] == "application/vnd.oci.image.manifest.v1+json"
    assert api.client.get(f"/v2/foreign/img/manifests/{api.digest_of(b'gone')}").status_code == 404
    assert api.client.get("/v2/foreign/img/tags/list").json()["tags"] == ["tip"]
    assert "foreign/img" in api.client.get("/v2/_catalog").json()["repositories"]

    assert api.put_manifest("foreign/img", "more", child).status_code == 201
    document = json.loads((folder / "index.json").read_text())
    assert document["own"] == 1
    for entry in entries:
        assert entry in document["manifests"]
    assert api.client.delete("/v2/foreign/img/manifests/tip").status_code == 202
    assert {**api.descriptor(whole, OCI_INDEX), "annotations": {"x": "y"}} in layout_index(folder)


def test_change_by_another_tool_is_seen(api: Any, root: Path) -> None:
    api.push_image("a", "v1", b"layer")
    assert api.client.get("/v2/a/tags/list").json()["tags"] == ["v1"]
    time.sleep(0.06)
    assert api.client.get("/v2/a/tags/list").json()["tags"] == ["v1"]
    path = root / "a/index.json"
    path.write_text(path.read_text().replace('"v1"', '"v2"'))
    assert api.client.get("/v2/a/tags/list").json()["tags"] == ["v2"]


def test_unreadable_index_is_not_overwritten(api: Any, root: Path) -> None:
    manifest = api.push_image("a", "v1", b"layer")
    (root / "a/index.json").write_text("{ this was")
    for reply in (api.client.get("/v2/a/tags/list"), api.put_manifest("a", "v2", manifest)):
        assert (reply.status_code, api.error_codes(reply)) == (500, ["UNKNOWN"])
        assert str(root) not in reply.text
    assert (root / "a/index.json").read_text() == "{ this was"


def test_repository_names_that_equal_layout_files(api: Any, root: Path) -> None:
    encoded = api.digest_of(b"layer a").partition(":")[2]
    names = [
        "a",
        "a/blobs",
        "a/blobs/sha256",
        f"a/blobs/sha256/{encoded}",
        "a/index.json",
        "a/oci-layout",
        "blobs",
        "index.json",
        "a/blobs/index.json/oci-layout",
    ]
    pushed = {name: api.push_image(name, "v1", f"layer {name}".encode()) for name in names}
    for name, manifest in pushed.items():
        assert api.client.get(f"/v2/{name}/manifests/v1").content == manifest
        assert api.client.get(
            f"/v2/{name}/blobs/{api.digest_of(b'layer ' + name.encode())}"
        ).is_success
    assert api.client.get("/v2/_catalog").json()["repositories"] == sorted(names)
    assert (root / "a/_blobs/index.json").is_file()


def test_mounted_blobs_are_one_file(api: Any, root: Path) -> None:
    digest = api.push_blob("a", b"data")
    api.client.post(f"/v2/b/blobs/uploads/?mount={digest}&from=a")
    paths = [root / name / "blobs" / digest.replace(":", "/") for name in "ab"]
    assert paths[0].samefile(paths[1])
    assert layout_index(root / "b") == []


def test_mount_without_hard_links(api: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", refuse)
    digest = api.push_blob("a", b"data")
    assert api.client.post(f"/v2/b/blobs/uploads/?mount={digest}&from=a").status_code == 201
    paths = [root / name / "blobs" / digest.replace(":", "/") for name in "ab"]
    assert paths[1].read_bytes() == b"data"
    assert not paths[0].samefile(paths[1])
    assert list((root / ".uploads").iterdir()) == []


def test_symbolic_links_cannot_leave_the_root(api: Any, root: Path, tmp_path: Path) -> None:
    api.push_image("a", "v1", b"layer")
    outside = tmp_path / "outside"
    shutil.copytree(root / "a", outside)
    (root / "link").symlink_to(outside)
    manifest = api.image_manifest(b"layer")
    replies = [
        api.client.get("/v2/link/manifests/v1"),
        api.client.get(f"/v2/link/blobs/{api.digest_of(b'layer')}"),
        api.client.get("/v2/link/tags/list"),
        api.client.delete("/v2/link/manifests/v1"),
        api.client.post("/v2/link/blobs/uploads/"),
        api.put_manifest("link", "v2", manifest),
    ]
    assert [(reply.status_code, api.error_codes(reply)) for reply in replies] == [
        (403, ["DENIED"])
    ] * 6
    assert len(json.loads((outside / "index.json").read_text())["manifests"]) == 1
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    digest = api.digest_of(b"secret")
    (root / "a/blobs/sha256" / digest.partition(":")[2]).symlink_to(secret)
    assert api.client.get(f"/v2/a/blobs/{digest}").status_code == 404


def test_full_disk_changes_nothing(api: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = api.push_image("a", "v1", b"layer")
    location = api.start_upload("a")
    api.client.patch(location, content=b"first")
    real = os.write

    def half(fd: int, data: Any) -> int:
        if len(data) == 1:
            raise OSError(errno.ENOSPC, "no space left")
        return real(fd, data[:1])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        replies = [
            api.client.patch(location, content=b"second"),
            api.put_manifest("a", "v2", manifest),
            api.client.post(f"/v2/a/blobs/uploads/?digest={api.digest_of(b'xyz')}", content=b"xyz"),
        ]
    assert [reply.status_code for reply in replies] == [507, 507, 507]
    assert api.client.get(location).headers["range"] == "0-4"
    assert api.client.get("/v2/a/tags/list").json()["tags"] == ["v1"]
    assert len(list((root / ".uploads").iterdir())) == 1
    assert api.client.get("/v2/a/manifests/v1").content == manifest
    done = api.client.put(f"{location}?digest={api.digest_of(b'first!')}", content=b"!")
    assert done.status_code == 201


def test_failed_finish_can_be_retried(
    api: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "input/output error")

    location = api.start_upload("a")
    url = f"{location}?digest={api.digest_of(b'data')}"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        assert api.client.put(url, content=b"data").status_code == 500
        reply = api.client.post(f"/v2/b/blobs/uploads/?digest={api.digest_of(b'x')}", content=b"x")
        assert reply.status_code == 500
    assert len(list((root / ".uploads").iterdir())) == 1
    assert api.client.head(f"/v2/a/blobs/{api.digest_of(b'data')}").status_code == 404
    assert api.client.get(location).headers["range"] == "0-3"
    assert api.client.put(url).status_code == 201


def test_concurrent_threads_lose_nothing(api: Any, root: Path) -> None:
    def push(number: int) -> None:
        api.push_image("busy", f"t{number}", b"layer %d" % number)
        if number % 5 == 0:
            assert api.client.delete(f"/v2/busy/manifests/t{number}").status_code == 202

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(push, range(100)))
    left = sorted(f"t{number}" for number in range(100) if number % 5)
    assert api.client.get("/v2/busy/tags/list").json()["tags"] == left
    assert len(layout_index(root / "busy")) == 100


def test_concurrent_pushes_of_one_tag(api: Any, root: Path) -> None:
    manifests = [api.push_image("busy", "", b"layer %d" % number) for number in range(20)]
    wrong_replies: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            reply = api.client.get("/v2/busy/manifests/latest")
            if reply.status_code != 200 or reply.content not in manifests:
                wrong_replies.append(reply.status_code)

    api.put_manifest("busy", "latest", manifests[0])
    reader = threading.Thread(target=read)
    reader.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda data: api.put_manifest("busy", "latest", data), manifests * 3))
    done.set()
    reader.join()
    assert wrong_replies == []
    tags = [e["annotations"][REF_NAME] for e in layout_index(root / "busy") if "annotations" in e]
    assert tags == ["latest"]
    assert len(layout_index(root / "busy")) == 20


def test_concurrent_processes_lose_nothing(api: Any, root: Path) -> None:
    pushers = [start_pusher(root, first, 25) for first in (0, 25)]
    for process in pushers:
        process.communicate(timeout=60)
    assert [process.returncode for process in pushers] == [0, 0]
    tags = api.client.get("/v2/busy/repo/tags/list").json()["tags"]
    assert tags == sorted(f"t{number}" for number in range(50))


def test_acknowledged_pushes_survive_a_kill(api: Any, root: Path) -> None:
    acknowledged: list[str] = []
    for round_ in range(4):
        process = start_pusher(root, 1000 * round_, 1000)
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(3 + 4 * round_)]
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].splitlines()
        acknowledged += [f"t{int(line)}" for line in [*lines, *rest] if line.strip()]
    tags = api.client.get("/v2/busy/repo/tags/list").json()["tags"]
    assert set(acknowledged) <= set(tags)
    assert len(acknowledged) >= 36
    for tag in tags:
        manifest = api.client.get(f"/v2/busy/repo/manifests/{tag}").json()
        for entry in (manifest["config"], *manifest["layers"]):
            data = api.client.get(f"/v2/busy/repo/blobs/{entry['digest']}").content
            assert api.digest_of(data) == entry["digest"]


def test_blobs_move_in_constant_memory(api: Any) -> None:
    import tracemalloc

    def body() -> Iterator[bytes]:
        for _ in range(64):
            yield bytes(1024 * 1024)

    location = api.start_upload("a")
    digest = "sha256:3b6a07d0d404fab4e23b6d34bc6696a6a312dd92821332385e5af7c01c421351"
    tracemalloc.start()
    try:
        api.client.patch(location, content=body())
        assert api.client.put(f"{location}?digest={digest}").status_code == 201
        with api.client.stream("GET", f"/v2/a/blobs/{digest}") as reply:
            assert sum(len(piece) for piece in reply.iter_raw()) == 64 * 1024 * 1024
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 1024 * 1024


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
def test_skopeo_reads_the_folder_and_writes_to_it(api: Any, root: Path) -> None:
    api.push_image("team/app", "v1", b"layer")
    reply = api.client.get("/v2/team/app/manifests/v1")
    raw = subprocess.run(
        ["skopeo", "inspect", "--raw", f"oci:{root}/team/app:v1"], capture_output=True, check=True
    )
    assert raw.stdout == reply.content
    (root / "copied").mkdir()
    subprocess.run(
        [
            "skopeo",
            "copy",
            "-q",
            "--all",
            "--preserve-digests",
            f"oci:{root}/team/app:v1",
            f"oci:{root}/copied/app:v2",
        ],
        capture_output=True,
        check=True,
    )
    assert api.client.get("/v2/copied/app/manifests/v2").content == reply.content


def test_unusable_root(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        LayoutStorage(tmp_path / "file")


def test_reply_generator(api: Any) -> None:
    generator = api.registry.reply_generator(
        RegistryRequest("POST", "/v2/a/blobs/uploads/", [("digest", api.digest_of(b"ab"))])
    )
    assert next(generator) is None
    assert generator.send(b"a") is None
    assert generator.send(b"b") is None
    with pytest.raises(StopIteration) as done:
        generator.send(b"")
    assert done.value.value.status == 201
