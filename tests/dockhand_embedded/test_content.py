"""Blobs, manifests, tags, the catalog and referrers, as the specification says them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from dockhand_embedded import Headers, Request

DATA = bytes(range(200))
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


def test_base(to: Any) -> None:
    for path in ("/v2/", "/v2"):
        reply = to.client.get(path)
        assert reply.status_code == 200
        assert reply.headers["docker-distribution-api-version"] == "registry/2.0"


@pytest.mark.parametrize(
    "path", ["/", "/v1/", "/v2/a", "/v2/a/tags", "/v2/a/other/x", "/v3/_catalog"]
)
def test_no_such_endpoint(to: Any, path: str) -> None:
    reply = to.client.get(path)
    assert (reply.status_code, to.codes(reply)) == (404, ["UNSUPPORTED"])


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v2/", "GET, HEAD"),
        ("PUT", "/v2/_catalog", "GET, HEAD"),
        ("GET", "/v2/a/blobs/uploads/", "POST"),
        ("POST", "/v2/a/tags/list", "GET, HEAD"),
        ("PATCH", "/v2/a/manifests/x", "GET, HEAD, PUT, DELETE"),
        ("PUT", "/v2/a/blobs/sha256:" + "0" * 64, "GET, HEAD, DELETE"),
        ("DELETE", "/v2/a/referrers/sha256:" + "0" * 64, "GET, HEAD"),
    ],
)
def test_methods(to: Any, method: str, path: str, allowed: str) -> None:
    reply = to.client.request(method, path)
    assert (reply.status_code, to.codes(reply)) == (405, ["UNSUPPORTED"])
    assert reply.headers["allow"] == allowed


def test_blob_head(to: Any) -> None:
    digest = to.blob("a", DATA)
    reply = to.client.head(f"/v2/a/blobs/{digest}")
    assert reply.status_code == 200
    assert reply.headers["content-length"] == "200"
    assert reply.headers["docker-content-digest"] == digest
    assert reply.content == b""
    reply = to.client.head("/v2/a/blobs/sha256:" + "0" * 64)
    assert (reply.status_code, reply.content) == (404, b"")


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("0-0", 0, 0),
        ("10-19", 10, 19),
        ("190-", 190, 199),
        ("-5", 195, 199),
        ("-500", 0, 199),
        ("150-5000", 150, 199),
    ],
)
def test_blob_ranges(to: Any, asked: str, first: int, last: int) -> None:
    digest = to.blob("a", DATA)
    reply = to.client.get(f"/v2/a/blobs/{digest}", headers={"Range": f"bytes={asked}"})
    assert reply.status_code == 206
    assert reply.content == DATA[first : last + 1]
    assert reply.headers["content-range"] == f"bytes {first}-{last}/200"
    assert reply.headers["content-length"] == str(last - first + 1)


@pytest.mark.parametrize("asked", ["bytes=200-", "bytes=500-600", "bytes=-0", "bytes=9-5"])
def test_blob_range_outside(to: Any, asked: str) -> None:
    digest = to.blob("a", DATA)
    reply = to.client.get(f"/v2/a/blobs/{digest}", headers={"Range": asked})
    assert (reply.status_code, to.codes(reply)) == (416, ["RANGE_INVALID"])
    assert reply.headers["content-range"] == "bytes */200"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "items=0-1", "bytes=-", "bytes=a-b", ""])
def test_blob_ranges_that_are_ignored(to: Any, asked: str) -> None:
    digest = to.blob("a", DATA)
    reply = to.client.get(f"/v2/a/blobs/{digest}", headers={"Range": asked})
    assert (reply.status_code, reply.content) == (200, DATA)


def test_if_range(to: Any) -> None:
    digest = to.blob("a", DATA)
    url, part = f"/v2/a/blobs/{digest}", {"Range": "bytes=0-9"}
    assert to.client.get(url, headers={**part, "If-Range": '"other"'}).status_code == 200
    assert to.client.get(url, headers={**part, "If-Range": f'"{digest}"'}).status_code == 206


@pytest.mark.parametrize("kind", ["blobs", "manifests"])
def test_conditional(to: Any, kind: str) -> None:
    manifest = to.image("a", "v1", DATA)
    digest = to.digest_of(manifest if kind == "manifests" else DATA)
    url = f"/v2/a/{kind}/{digest}"
    etag = to.client.get(url).headers["etag"]
    for condition in (etag, f'"x", W/{etag}', "*"):
        reply = to.client.get(url, headers={"If-None-Match": condition})
        assert (reply.status_code, reply.content) == (304, b"")
        assert reply.headers["etag"] == etag
    assert to.client.get(url, headers={"If-None-Match": '"x"'}).status_code == 200


def test_blob_delete_is_of_one_repository(to: Any) -> None:
    digest = to.blob("a", DATA)
    to.blob("b", DATA)
    assert to.client.delete(f"/v2/a/blobs/{digest}").status_code == 202
    reply = to.client.delete(f"/v2/a/blobs/{digest}")
    assert (reply.status_code, to.codes(reply)) == (404, ["BLOB_UNKNOWN"])
    assert to.client.get(f"/v2/a/blobs/{digest}").status_code == 404
    assert to.client.get(f"/v2/b/blobs/{digest}").content == DATA


def test_a_manifest_is_not_deleted_as_a_blob(to: Any) -> None:
    digest = to.digest_of(to.image("a", "v1", DATA))
    assert to.client.delete(f"/v2/a/blobs/{digest}").status_code == 405
    assert to.client.get("/v2/a/manifests/v1").status_code == 200


def test_manifest_bytes_and_type_are_kept(to: Any) -> None:
    manifest = to.image("a", "v1", DATA, custom={"ü": [1, 2.0]})
    digest = to.digest_of(manifest)
    for reference in ("v1", digest):
        reply = to.client.get(f"/v2/a/manifests/{reference}", headers={"Accept": "text/html"})
        assert reply.content == manifest
        assert reply.headers["content-type"] == OCI_MANIFEST
        assert reply.headers["docker-content-digest"] == digest
        head = to.client.head(f"/v2/a/manifests/{reference}")
        assert head.headers["content-length"] == str(len(manifest))
        assert head.content == b""


def test_manifest_put_reply(to: Any) -> None:
    to.image("a", "v1", DATA)
    manifest = to.manifest(DATA)
    reply = to.put("a", "v2", manifest, f"{OCI_MANIFEST}; charset=utf-8")
    digest = to.digest_of(manifest)
    assert reply.status_code == 201
    assert reply.headers["location"] == f"/v2/a/manifests/{digest}"
    assert reply.headers["docker-content-digest"] == digest
    assert "oci-subject" not in reply.headers
    assert to.client.get("/v2/a/manifests/v2").headers["content-type"] == OCI_MANIFEST


def test_manifest_by_sha512(to: Any) -> None:
    manifest = to.image("a", "v1", DATA)
    digest = to.digest_of(manifest, "sha512")
    assert to.put("a", digest, manifest).headers["docker-content-digest"] == digest
    assert to.client.get(f"/v2/a/manifests/{digest}").content == manifest


def test_manifest_under_a_wrong_digest(to: Any) -> None:
    manifest = to.image("a", "v1", DATA)
    reply = to.put("a", to.digest_of(b"other"), manifest)
    assert (reply.status_code, to.codes(reply)) == (400, ["DIGEST_INVALID"])


def test_several_tags_in_one_push(to: Any) -> None:
    manifest = to.image("a", "v1", DATA)
    reply = to.put("a", f"{to.digest_of(manifest)}?tag=x&tag=y", manifest)
    assert reply.headers.get_list("oci-tag") == ["x", "y"]
    assert to.client.get("/v2/a/tags/list").json()["tags"] == ["v1", "x", "y"]
    reply = to.put("a", f"{to.digest_of(manifest)}?tag=.x", manifest)
    assert (reply.status_code, to.codes(reply)) == (400, ["TAG_INVALID"])


def test_every_missing_blob_is_named(to: Any) -> None:
    reply = to.put("fresh", "v1", to.manifest(DATA))
    assert reply.status_code == 400
    assert to.codes(reply) == ["MANIFEST_BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN"]
    missing = {error["detail"]["digest"] for error in reply.json()["errors"]}
    assert missing == {to.digest_of(DATA), to.digest_of(b"{}")}
    assert to.client.get("/v2/fresh/tags/list").status_code == 404


def test_layers_that_are_kept_elsewhere_need_not_be_here(to: Any) -> None:
    to.blob("a", b"{}")
    foreign = to.descriptor(DATA, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
    assert to.put("a", "v1", to.manifest(DATA, layers=[foreign])).status_code == 201


def test_an_index_may_be_sparse(to: Any) -> None:
    assert to.put("a", "v1", to.index(to.manifest(DATA)), OCI_INDEX).status_code == 201
    assert to.client.get(f"/v2/a/manifests/{to.digest_of(to.manifest(DATA))}").status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        {"schemaVersion": 1},
        {"schemaVersion": "2"},
        {"mediaType": OCI_INDEX},
        {"config": None},
        {"config": {"digest": "sha256:" + "0" * 64}},
        {"layers": None},
        {"layers": {}},
        {"layers": ["x"]},
        {"layers": [{"mediaType": "x", "digest": "sha256:../../../etc", "size": 1}]},
        {"layers": [{"mediaType": "x", "digest": "sha256:" + "0" * 63, "size": 1}]},
        {"layers": [{"mediaType": "x", "digest": "sha256:" + "0" * 64, "size": -1}]},
        {"layers": [{"mediaType": "x", "digest": "sha256:" + "0" * 64, "size": True}]},
        {"manifests": []},
        {"subject": "sha256:" + "0" * 64},
        {"subject": {"digest": "nonsense", "mediaType": "x", "size": 1}},
        {"annotations": {"a": 1}},
    ],
)
def test_manifests_that_are_none(to: Any, change: dict[str, Any]) -> None:
    to.image("a", "good", DATA)
    reply = to.put("a", "v1", to.manifest(DATA, **change))
    assert (reply.status_code, to.codes(reply)) == (400, ["MANIFEST_INVALID"])
    assert to.client.get("/v2/a/tags/list").json()["tags"] == ["good"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        '{"schemaVersion":2}'.encode("utf-16"),
        b'{"schemaVersion":' + b"9" * 5000 + b"}",
    ],
)
def test_bodies_that_are_no_json_object(to: Any, body: bytes) -> None:
    reply = to.put("a", "v1", body)
    assert (reply.status_code, to.codes(reply)) == (400, ["MANIFEST_INVALID"])


@pytest.mark.parametrize("kind", ["", "application/json", "text/plain", CONFIG])
def test_content_type_must_be_a_manifests(to: Any, kind: str) -> None:
    reply = to.put("a", "v1", to.image("a", "good", DATA), kind)
    assert (reply.status_code, to.codes(reply)) == (400, ["MANIFEST_INVALID"])


def test_docker_manifest_needs_its_media_type(to: Any) -> None:
    to.image("a", "v1", DATA)
    bare = json.loads(to.manifest(DATA))
    del bare["mediaType"]
    assert to.put("a", "oci", json.dumps(bare).encode()).status_code == 201
    reply = to.put("a", "docker", json.dumps(bare).encode(), DOCKER_MANIFEST)
    assert (reply.status_code, to.codes(reply)) == (400, ["MANIFEST_INVALID"])
    whole = to.manifest(DATA, mediaType=DOCKER_MANIFEST)
    assert to.put("a", "docker", whole, DOCKER_MANIFEST).status_code == 201
    assert to.client.head("/v2/a/manifests/docker").headers["content-type"] == DOCKER_MANIFEST


def test_manifest_limit(to: Any) -> None:
    to.image("a", "v1", DATA)
    limit = 4 * 1024 * 1024
    padding = limit - len(to.manifest(DATA, annotations={"x": ""}))
    assert (
        to.put("a", "big", to.manifest(DATA, annotations={"x": "y" * padding})).status_code == 201
    )
    over = to.manifest(DATA, annotations={"x": "y" * (padding + 1)})
    assert len(over) == limit + 1
    reply = to.put("a", "over", over)
    assert (reply.status_code, to.codes(reply)) == (413, ["SIZE_INVALID"])
    streamed = Request(
        "PUT", "/v2/a/manifests/over", (), Headers([("Content-Type", OCI_MANIFEST)]), [over]
    )
    assert to.registry.handle(streamed).status == 413
    assert to.client.get("/v2/a/manifests/over").status_code == 404


def test_delete_tag_leaves_the_manifest(to: Any) -> None:
    manifest = to.image("a", "v1", DATA)
    to.put("a", "v2", manifest)
    for tag in ("v1", "v2"):
        assert to.client.delete(f"/v2/a/manifests/{tag}").status_code == 202
        assert to.client.get(f"/v2/a/manifests/{tag}").status_code == 404
        assert to.client.get(f"/v2/a/manifests/{to.digest_of(manifest)}").content == manifest
    reply = to.client.delete("/v2/a/manifests/v1")
    assert (reply.status_code, to.codes(reply)) == (404, ["MANIFEST_UNKNOWN"])
    assert to.client.get("/v2/_catalog").json() == {"repositories": ["a"]}


def test_delete_manifest_takes_its_tags(to: Any) -> None:
    manifest = to.image("a", "v1", DATA)
    to.put("a", "v2", manifest)
    other = to.image("a", "other", b"else")
    digest = to.digest_of(manifest)
    assert to.client.delete(f"/v2/a/manifests/{digest}").status_code == 202
    for reference in ("v1", "v2", digest):
        assert to.client.get(f"/v2/a/manifests/{reference}").status_code == 404
    assert to.client.get("/v2/a/tags/list").json()["tags"] == ["other"]
    assert to.client.get("/v2/a/manifests/other").content == other
    reply = to.client.delete(f"/v2/a/manifests/{digest}")
    assert (reply.status_code, to.codes(reply)) == (404, ["MANIFEST_UNKNOWN"])
    assert to.put("a", "v3", manifest).status_code == 201
    assert to.client.get("/v2/a/tags/list").json()["tags"] == ["other", "v3"]


def test_a_child_is_deleted_for_good(to: Any) -> None:
    child = to.image("a", "", DATA)
    to.put("a", "all", to.index(child), OCI_INDEX)
    url = f"/v2/a/manifests/{to.digest_of(child)}"
    assert to.client.get(url).status_code == 200
    assert to.client.delete(url).status_code == 202
    assert to.client.get(url).status_code == 404
    assert to.client.get("/v2/a/manifests/all").status_code == 200


def test_moving_a_tag_keeps_the_old_manifest(to: Any) -> None:
    old, new = to.image("a", "v1", DATA), to.image("a", "v1", b"new")
    assert to.client.get("/v2/a/manifests/v1").content == new
    assert to.client.get(f"/v2/a/manifests/{to.digest_of(old)}").content == old
    assert to.client.get("/v2/a/tags/list").json() == {"name": "a", "tags": ["v1"]}


def test_tag_pages(to: Any) -> None:
    for tag in ("b", "a", "B", "a.1", "10", "9"):
        to.image("x/y", tag, DATA)
    tags = ["10", "9", "B", "a", "a.1", "b"]
    assert to.client.get("/v2/x/y/tags/list").json() == {"name": "x/y", "tags": tags}
    found, url = [], "/v2/x/y/tags/list?n=4"
    while url:
        reply = to.client.get(url)
        found.append(reply.json()["tags"])
        url = reply.links.get("next", {}).get("url", "")
        assert url == "" or url.startswith("/v2/x/y/tags/list?")
    assert found == [tags[:4], tags[4:]]
    exact = to.client.get("/v2/x/y/tags/list?n=6")
    assert exact.json()["tags"] == tags
    assert "link" not in exact.headers
    assert to.client.get("/v2/x/y/tags/list?last=a").json()["tags"] == ["a.1", "b"]
    assert to.client.get("/v2/x/y/tags/list?n=1&last=a0").json()["tags"] == ["b"]


def test_no_items_are_asked_for(to: Any) -> None:
    to.image("a", "v1", DATA)
    for path, key in (("/v2/a/tags/list", "tags"), ("/v2/_catalog", "repositories")):
        reply = to.client.get(path, params={"n": "0"})
        assert (reply.status_code, reply.json()[key]) == (200, [])
        assert "link" not in reply.headers


@pytest.mark.parametrize("n", ["-1", "x", "", "1.5", "\u0661", "9" * 5000])
def test_page_sizes_that_are_none(to: Any, n: str) -> None:
    to.image("a", "v1", DATA)
    for path in ("/v2/a/tags/list", "/v2/_catalog"):
        reply = to.client.get(path, params={"n": n})
        assert (reply.status_code, to.codes(reply)) == (400, ["PAGINATION_NUMBER_INVALID"])


def test_tags_of_no_repository(to: Any) -> None:
    reply = to.client.get("/v2/nothing/tags/list")
    assert (reply.status_code, to.codes(reply)) == (404, ["NAME_UNKNOWN"])
    to.blob("blobs-only", DATA)
    assert to.client.get("/v2/blobs-only/tags/list").json()["tags"] == []


def test_catalog(to: Any) -> None:
    assert to.client.get("/v2/_catalog").json() == {"repositories": []}
    for name in ("b", "a/b/c", "a", "a-b"):
        to.image(name, "v1", DATA)
    to.blob("blobs-only", DATA)
    names = ["a", "a-b", "a/b/c", "b"]
    assert to.client.get("/v2/_catalog").json() == {"repositories": names}
    reply = to.client.get("/v2/_catalog?n=3")
    assert reply.json()["repositories"] == names[:3]
    assert reply.headers["link"] == '</v2/_catalog?last=a%2Fb%2Fc&n=3>; rel="next"'
    assert to.client.get(reply.links["next"]["url"]).json() == {"repositories": ["b"]}


def test_referrers(to: Any) -> None:
    subject = to.image("a", "v1", DATA)
    digest = to.digest_of(subject)
    refers = to.descriptor(subject, OCI_MANIFEST)
    notes = {"org.example": "ü"}
    sbom = to.image("a", "", b"sbom", subject=refers, artifactType="x/sbom", annotations=notes)
    plain = to.image("a", "tagged", b"plain", subject=refers)
    bundle = to.index(subject=refers)
    reply = to.put("a", to.digest_of(bundle), bundle, OCI_INDEX)
    assert reply.headers["oci-subject"] == digest
    reply = to.client.get(f"/v2/a/referrers/{digest}")
    assert reply.headers["content-type"] == OCI_INDEX
    assert "oci-filters-applied" not in reply.headers
    document = reply.json()
    assert (document["schemaVersion"], document["mediaType"]) == (2, OCI_INDEX)
    expected = [
        {**to.descriptor(sbom, OCI_MANIFEST), "artifactType": "x/sbom", "annotations": notes},
        {**to.descriptor(plain, OCI_MANIFEST), "artifactType": CONFIG},
        to.descriptor(bundle, OCI_INDEX),
    ]
    by_digest = {entry["digest"]: entry for entry in document["manifests"]}
    assert by_digest == {entry["digest"]: entry for entry in expected}
    assert len(document["manifests"]) == 3

    filtered = to.client.get(f"/v2/a/referrers/{digest}", params={"artifactType": "x/sbom"})
    assert filtered.headers["oci-filters-applied"] == "artifactType"
    assert filtered.json()["manifests"] == expected[:1]

    to.client.delete(f"/v2/a/manifests/{to.digest_of(sbom)}")
    to.client.delete("/v2/a/manifests/tagged")
    left = [e["digest"] for e in to.client.get(f"/v2/a/referrers/{digest}").json()["manifests"]]
    assert sorted(left) == sorted([to.digest_of(plain), to.digest_of(bundle)])
    to.client.delete(f"/v2/a/manifests/{digest}")
    assert len(to.client.get(f"/v2/a/referrers/{digest}").json()["manifests"]) == 2


def test_referrers_of_nothing(to: Any) -> None:
    reply = to.client.get("/v2/nowhere/referrers/sha256:" + "0" * 64)
    assert (reply.status_code, reply.json()["manifests"]) == (200, [])
    reply = to.client.get("/v2/nowhere/referrers/sha256:xyz")
    assert (reply.status_code, to.codes(reply)) == (400, ["DIGEST_INVALID"])


def test_a_subject_may_come_later(to: Any) -> None:
    subject = to.manifest(DATA)
    refers = to.descriptor(subject, OCI_MANIFEST)
    first = to.image("a", "sig", b"sig", subject=refers)
    to.image("a", "v1", DATA)
    found = to.client.get(f"/v2/a/referrers/{to.digest_of(subject)}").json()["manifests"]
    assert [entry["digest"] for entry in found] == [to.digest_of(first)]
