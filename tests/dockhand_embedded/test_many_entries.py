"""Requests that anybody may make, in registries with many manifests, tags or repositories."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dockhand_embedded import LayoutStorage, Limits, Registry, RegistryRequest, Storage
from dockhand_embedded.storage import catalog
from dockhand_embedded.storage.index import StoredManifest

from dockhand_core import connect

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MakeApi = Callable[[Any], Any]


class OpenedBlobs:
    """Counts the blobs that a storage opens."""

    def __init__(self, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        real = storage.open_blob

        def open_blob(repository: str, digest: str) -> Any:
            self.count += 1
            return real(repository, digest)

        monkeypatch.setattr(storage, "open_blob", open_blob)


def push_referrers(api: Any, count: int, **extra: Any) -> tuple[str, list[str]]:
    """Push an image and referrers of it; return its digest and theirs."""
    subject = api.push_image("a", "v1", b"layer")
    refers = api.descriptor(subject, OCI_MANIFEST)
    found = [
        api.digest_of(
            api.push_image("a", "", b"layer", subject=refers, annotations={"n": str(n)}, **extra)
        )
        for n in range(count)
    ]
    return api.digest_of(subject), sorted(found)


def all_pages(api: Any, url: str, key: str = "manifests") -> list[list[Any]]:
    pages = []
    while url:
        reply = api.client.get(url)
        assert reply.status_code == 200
        pages.append(reply.json()[key])
        url = reply.links.get("next", {}).get("url", "")
    return pages


def test_pages_of_referrers(api: Any) -> None:
    digest, referrers = push_referrers(api, 7, artifactType="x/sbom")
    push_referrers(api, 0)
    url = f"/v2/a/referrers/{digest}"
    pages = all_pages(api, f"{url}?n=3")
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [entry["digest"] for page in pages for entry in page] == referrers
    pages = all_pages(api, f"{url}?n=3&artifactType=x/sbom")
    assert [entry["digest"] for page in pages for entry in page] == referrers
    assert all_pages(api, f"{url}?artifactType=x/other") == [[]]
    assert "link" not in api.client.get(url).headers
    assert "link" not in api.client.get(f"{url}?n=7").headers
    assert all_pages(api, f"{url}?n=0") == [[]]
    reply = api.client.get(f"{url}?n=x")
    assert (reply.status_code, api.error_codes(reply)) == (400, ["PAGINATION_NUMBER_INVALID"])


def test_large_referrers_fill_several_pages(api: Any) -> None:
    """A reply has about a MiB, also if each referrer is large."""
    digest, referrers = push_referrers(api, 5, own="x" * 400_000)
    reply = api.client.get(f"/v2/a/referrers/{digest}")
    assert len(reply.json()["manifests"]) == 2
    pages = all_pages(api, f"/v2/a/referrers/{digest}")
    assert [entry["digest"] for page in pages for entry in page] == referrers


def test_the_client_follows_the_pages(tmp_path: Path, make_api: MakeApi) -> None:
    api = make_api(LayoutStorage(tmp_path))
    digest, referrers = push_referrers(api, 5, own="x" * 400_000)
    with connect(str(tmp_path), driver="embedded", logging={"driver": "null"}) as registry:
        found = registry.referrers("a", digest)
        assert sorted(str(entry.digest) for entry in found.manifests) == referrers


def test_a_manifest_is_read_once_for_its_referrers(
    api: Any, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, _ = push_referrers(api, 3)
    for number in range(20):
        api.push_image("a", f"t{number}", b"layer", annotations={"n": str(number)})
    wide = {
        "schemaVersion": 2,
        "manifests": [
            {"mediaType": OCI_MANIFEST, "digest": f"sha256:{n:064x}", "size": 1} for n in range(500)
        ],
    }
    for number in range(3):
        data = json.dumps({**wide, "annotations": {"n": str(number)}}).encode()
        assert api.put_manifest("a", f"wide{number}", data, OCI_INDEX).status_code == 201
    opened = OpenedBlobs(storage, monkeypatch)
    assert len(api.client.get(f"/v2/a/referrers/{digest}").json()["manifests"]) == 3
    assert opened.count == 3 + 3  # the indexes, and the referrers on the page
    opened.count = 0
    nothing = f"/v2/a/referrers/sha256:{'0' * 64}"
    blob = f"/v2/a/manifests/{api.digest_of(b'layer')}"
    for _ in range(5):
        assert api.client.get(nothing).json()["manifests"] == []
        assert api.client.get(blob).status_code == 404
    assert opened.count == 0


def test_relations_survive_a_change_by_another_process(
    tmp_path: Path, make_api: MakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LayoutStorage(tmp_path)
    api, other = make_api(storage), make_api(LayoutStorage(tmp_path))
    digest, referrers = push_referrers(other, 10)
    url = f"/v2/a/referrers/{digest}"
    assert len(api.client.get(url).json()["manifests"]) == 10
    opened = OpenedBlobs(storage, monkeypatch)
    other.client.delete(f"/v2/a/manifests/{referrers[0]}")
    more = other.push_image(
        "a", "", b"layer", subject=other.descriptor(b"", OCI_MANIFEST) | {"digest": digest}
    )
    found = [entry["digest"] for entry in api.client.get(url).json()["manifests"]]
    assert found == sorted([*referrers[1:], other.digest_of(more)])
    assert opened.count == 10 + 1  # the referrers on the page, and the new one


def test_children_that_another_tool_adds_later(
    tmp_path: Path, make_api: MakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copied layout may have its index.json before its blobs."""
    api = make_api(LayoutStorage(tmp_path))
    subject = api.push_image("a", "v1", b"layer")
    child = api.image_manifest(b"layer", subject=api.descriptor(subject, OCI_MANIFEST))
    whole = api.image_index(child)
    assert api.put_manifest("a", "all", whole, OCI_INDEX).status_code == 201
    by_digest = f"/v2/a/manifests/{api.digest_of(child)}"
    referrers = f"/v2/a/referrers/{api.digest_of(subject)}"
    assert api.client.get(by_digest).status_code == 404
    assert api.client.get(referrers).json()["manifests"] == []
    api.push_blob("a", child)
    monkeypatch.setattr(time, "monotonic", lambda: time.time() + 1e6)
    assert api.client.get(by_digest).content == child
    [entry] = api.client.get(referrers).json()["manifests"]
    assert entry["digest"] == api.digest_of(child)
    # The child is only known through the index.
    index = f"/v2/a/manifests/{api.digest_of(whole)}"
    assert api.client.delete(index).status_code == 202
    assert api.client.get(by_digest).status_code == 404
    assert api.client.get(referrers).json()["manifests"] == []


def test_pages_of_many_tags(api: Any, storage: Storage) -> None:
    with storage.edit_index("a") as edit:
        manifest = StoredManifest(f"sha256:{1:064x}", OCI_MANIFEST, 7)
        edit.put(manifest, [f"t{number:05}" for number in range(10_001)])
    expected = [f"t{number:05}" for number in range(10_001)]
    for query in ("", "?n=99999"):
        pages = all_pages(api, f"/v2/a/tags/list{query}", "tags")
        assert pages == [expected[:10_000], expected[10_000:]]
    with storage.edit_index("a") as edit:
        edit.delete_tag("t00001")
        edit.put(manifest, ["t00000x"])
    reply = api.client.get("/v2/a/tags/list?n=2")
    assert reply.json()["tags"] == ["t00000", "t00000x"]


def test_a_slow_catalog_is_not_read_at_each_request(
    tmp_path: Path, make_api: MakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LayoutStorage(tmp_path)
    api, other = make_api(storage), make_api(LayoutStorage(tmp_path))
    api.push_image("b", "v1", b"layer")

    def catalog_of(api: Any) -> list[str]:
        found: list[str] = api.client.get("/v2/_catalog").json()["repositories"]
        return found

    assert catalog_of(api) == ["b"]
    other.push_image("c", "v1", b"layer")
    assert catalog_of(api) == ["b", "c"]  # a quick walk is repeated
    monkeypatch.setattr(catalog, "_QUICK", 0)
    monkeypatch.setattr(catalog, "_REUSE_FACTOR", 1e6)
    assert catalog_of(api) == ["b", "c"]
    other.push_image("d", "v1", b"layer")
    assert catalog_of(api) == ["b", "c"]
    manifest = api.push_image("a", "v1", b"layer")
    assert catalog_of(api) == ["a", "b", "c"]
    api.client.delete(f"/v2/a/manifests/{api.digest_of(manifest)}")
    assert catalog_of(api) == ["b", "c"]


def test_an_unreadable_index_does_not_break_the_catalog(tmp_path: Path, make_api: MakeApi) -> None:
    api = make_api(LayoutStorage(tmp_path))
    api.push_image("a", "v1", b"layer")
    api.push_image("b", "v1", b"layer")
    (tmp_path / "b/index.json").write_text("{ this was")
    assert api.client.get("/v2/_catalog").json()["repositories"] == ["a"]


def test_search_for_a_blob_to_mount_is_limited(
    api: Any, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dockhand_embedded.storage import layout, memory

    digest = ""
    for number in range(5):
        digest = api.push_blob(f"r{number}", b"data")
    asked: list[str] = []

    def may_read(name: str) -> bool:
        asked.append(name)
        return False

    for module in (layout, memory):
        monkeypatch.setattr(module, "MOUNT_SEARCH_LIMIT", 3)
    assert not storage.mount_blob("new", digest, None, may_read)
    assert len(asked) == 3


def test_uploads_are_not_counted_at_each_request(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = 0
    real = storage.upload_count

    def count() -> int:
        nonlocal counted
        counted += 1
        return real()

    monkeypatch.setattr(storage, "upload_count", count)
    registry = Registry(storage, Limits(uploads=40))
    post = RegistryRequest("POST", "/v2/a/b/blobs/uploads/")
    statuses = [registry.handle(post).status for _ in range(42)]
    assert statuses == [202] * 40 + [429] * 2
    assert counted < 20
    assert Limits().uploads == 10_000
