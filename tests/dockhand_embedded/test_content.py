"""Blobs, manifests, tags, the catalog and referrers, as the specification requires."""

from __future__ import annotations

import json
from typing import Any

import pytest
from dockhand_embedded import Headers, RegistryRequest

DATA = bytes(range(200))
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.oci.image.config.v1+json"


def test_version_check(api: Any) -> None:
    for path in ("/v2/", "/v2"):
        reply = api.client.get(path)
        assert reply.status_code == 200
        assert reply.headers["docker-distribution-api-version"] == "registry/2.0"


@pytest.mark.parametrize(
    "path", ["/", "/v1/", "/v2/a", "/v2/a/tags", "/v2/a/other/x", "/v3/_catalog"]
)
def test_unknown_endpoints(api: Any, path: str) -> None:
    reply = api.client.get(path)
    assert (reply.status_code, api.error_codes(reply)) == (404, ["UNSUPPORTED"])


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
def test_unsupported_methods(api: Any, method: str, path: str, allowed: str) -> None:
    reply = api.client.request(method, path)
    assert (reply.status_code, api.error_codes(reply)) == (405, ["UNSUPPORTED"])
    assert reply.headers["allow"] == allowed


def test_blob_head(api: Any) -> None:
    digest = api.push_blob("a", DATA)
    reply = api.client.head(f"/v2/a/blobs/{digest}")
    assert reply.status_code == 200
    assert reply.headers["content-length"] == "200"
    assert reply.headers["docker-content-digest"] == digest
    assert reply.content == b""
    reply = api.client.head("/v2/a/blobs/sha256:" + "0" * 64)
    assert (reply.status_code, reply.content) == (404, b"")


@pytest.mark.parametrize(
    ("range_header", "first", "last"),
    [
        ("0-0", 0, 0),
        ("10-19", 10, 19),
        ("190-", 190, 199),
        ("-5", 195, 199),
        ("-500", 0, 199),
        ("150-5000", 150, 199),
    ],
)
def test_blob_ranges(api: Any, range_header: str, first: int, last: int) -> None:
    digest = api.push_blob("a", DATA)
    reply = api.client.get(f"/v2/a/blobs/{digest}", headers={"Range": f"bytes={range_header}"})
    assert reply.status_code == 206
    assert reply.content == DATA[first : last + 1]
    assert reply.headers["content-range"] == f"bytes {first}-{last}/200"
    assert reply.headers["content-length"] == str(last - first + 1)


@pytest.mark.parametrize("range_header", ["bytes=200-", "bytes=500-600", "bytes=-0", "bytes=9-5"])
def test_unsatisfiable_blob_range(api: Any, range_header: str) -> None:
    digest = api.push_blob("a", DATA)
    reply = api.client.get(f"/v2/a/blobs/{digest}", headers={"Range": range_header})
    assert (reply.status_code, api.error_codes(reply)) == (416, ["RANGE_INVALID"])
    assert reply.headers["content-range"] == "bytes */200"


@pytest.mark.parametrize("range_header", ["bytes=0-1,5-6", "items=0-1", "bytes=-", "bytes=a-b", ""])
def test_ignored_blob_ranges(api: Any, range_header: str) -> None:
    digest = api.push_blob("a", DATA)
    reply = api.client.get(f"/v2/a/blobs/{digest}", headers={"Range": range_header})
    assert (reply.status_code, reply.content) == (200, DATA)


def test_if_range(api: Any) -> None:
    digest = api.push_blob("a", DATA)
    url, part = f"/v2/a/blobs/{digest}", {"Range": "bytes=0-9"}
    assert api.client.get(url, headers={**part, "If-Range": '"other"'}).status_code == 200
    assert api.client.get(url, headers={**part, "If-Range": f'"{digest}"'}).status_code == 206


@pytest.mark.parametrize("kind", ["blobs", "manifests"])
def test_if_none_match(api: Any, kind: str) -> None:
    manifest = api.push_image("a", "v1", DATA)
    digest = api.digest_of(manifest if kind == "manifests" else DATA)
    url = f"/v2/a/{kind}/{digest}"
    etag = api.client.get(url).headers["etag"]
    for condition in (etag, f'"x", W/{etag}', "*"):
        reply = api.client.get(url, headers={"If-None-Match": condition})
        assert (reply.status_code, reply.content) == (304, b"")
        assert reply.headers["etag"] == etag
    assert api.client.get(url, headers={"If-None-Match": '"x"'}).status_code == 200


def test_blob_is_deleted_from_one_repository_only(api: Any) -> None:
    digest = api.push_blob("a", DATA)
    api.push_blob("b", DATA)
    assert api.client.delete(f"/v2/a/blobs/{digest}").status_code == 202
    reply = api.client.delete(f"/v2/a/blobs/{digest}")
    assert (reply.status_code, api.error_codes(reply)) == (404, ["BLOB_UNKNOWN"])
    assert api.client.get(f"/v2/a/blobs/{digest}").status_code == 404
    assert api.client.get(f"/v2/b/blobs/{digest}").content == DATA


def test_manifest_cannot_be_deleted_as_a_blob(api: Any) -> None:
    digest = api.digest_of(api.push_image("a", "v1", DATA))
    assert api.client.delete(f"/v2/a/blobs/{digest}").status_code == 405
    assert api.client.get("/v2/a/manifests/v1").status_code == 200


def test_manifest_bytes_and_type_are_kept(api: Any) -> None:
    manifest = api.push_image("a", "v1", DATA, custom={"ü": [1, 2.0]})
    digest = api.digest_of(manifest)
    for reference in ("v1", digest):
        reply = api.client.get(f"/v2/a/manifests/{reference}", headers={"Accept": "text/html"})
        assert reply.content == manifest
        assert reply.headers["content-type"] == OCI_MANIFEST
        assert reply.headers["docker-content-digest"] == digest
        head = api.client.head(f"/v2/a/manifests/{reference}")
        assert head.headers["content-length"] == str(len(manifest))
        assert head.content == b""


def test_manifest_put_reply(api: Any) -> None:
    api.push_image("a", "v1", DATA)
    manifest = api.image_manifest(DATA)
    reply = api.put_manifest("a", "v2", manifest, f"{OCI_MANIFEST}; charset=utf-8")
    digest = api.digest_of(manifest)
    assert reply.status_code == 201
    assert reply.headers["location"] == f"/v2/a/manifests/{digest}"
    assert reply.headers["docker-content-digest"] == digest
    assert "oci-subject" not in reply.headers
    assert api.client.get("/v2/a/manifests/v2").headers["content-type"] == OCI_MANIFEST


def test_manifest_by_sha512(api: Any) -> None:
    manifest = api.push_image("a", "v1", DATA)
    digest = api.digest_of(manifest, "sha512")
    assert api.put_manifest("a", digest, manifest).headers["docker-content-digest"] == digest
    assert api.client.get(f"/v2/a/manifests/{digest}").content == manifest


def test_manifest_under_a_wrong_digest(api: Any) -> None:
    manifest = api.push_image("a", "v1", DATA)
    reply = api.put_manifest("a", api.digest_of(b"other"), manifest)
    assert (reply.status_code, api.error_codes(reply)) == (400, ["DIGEST_INVALID"])


def test_several_tags_in_one_push(api: Any) -> None:
    manifest = api.push_image("a", "v1", DATA)
    reply = api.put_manifest("a", f"{api.digest_of(manifest)}?tag=x&tag=y", manifest)
    assert reply.headers.get_list("oci-tag") == ["x", "y"]
    assert api.client.get("/v2/a/tags/list").json()["tags"] == ["v1", "x", "y"]
    reply = api.put_manifest("a", f"{api.digest_of(manifest)}?tag=.x", manifest)
    assert (reply.status_code, api.error_codes(reply)) == (400, ["TAG_INVALID"])


def test_every_missing_blob_is_reported(api: Any) -> None:
    reply = api.put_manifest("fresh", "v1", api.image_manifest(DATA))
    assert reply.status_code == 400
    assert api.error_codes(reply) == ["MANIFEST_BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN"]
    missing = {error["detail"]["digest"] for error in reply.json()["errors"]}
    assert missing == {api.digest_of(DATA), api.digest_of(b"{}")}
    assert api.client.get("/v2/fresh/tags/list").status_code == 404


def test_nondistributable_layers_may_be_missing(api: Any) -> None:
    api.push_blob("a", b"{}")
    foreign = api.descriptor(DATA, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
    assert (
        api.put_manifest("a", "v1", api.image_manifest(DATA, layers=[foreign])).status_code == 201
    )


def test_an_index_may_be_sparse(api: Any) -> None:
    assert (
        api.put_manifest(
            "a", "v1", api.image_index(api.image_manifest(DATA)), OCI_INDEX
        ).status_code
        == 201
    )
    assert (
        api.client.get(f"/v2/a/manifests/{api.digest_of(api.image_manifest(DATA))}").status_code
        == 404
    )


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
def test_invalid_manifests(api: Any, change: dict[str, Any]) -> None:
    api.push_image("a", "good", DATA)
    reply = api.put_manifest("a", "v1", api.image_manifest(DATA, **change))
    assert (reply.status_code, api.error_codes(reply)) == (400, ["MANIFEST_INVALID"])
    assert api.client.get("/v2/a/tags/list").json()["tags"] == ["good"]


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
def test_bodies_that_are_not_json_objects(api: Any, body: bytes) -> None:
    reply = api.put_manifest("a", "v1", body)
    assert (reply.status_code, api.error_codes(reply)) == (400, ["MANIFEST_INVALID"])


@pytest.mark.parametrize("kind", ["", "application/json", "text/plain", CONFIG])
def test_content_type_must_be_of_a_manifest(api: Any, kind: str) -> None:
    reply = api.put_manifest("a", "v1", api.push_image("a", "good", DATA), kind)
    assert (reply.status_code, api.error_codes(reply)) == (400, ["MANIFEST_INVALID"])


def test_docker_manifest_needs_its_media_type(api: Any) -> None:
    api.push_image("a", "v1", DATA)
    bare = json.loads(api.image_manifest(DATA))
    del bare["mediaType"]
    assert api.put_manifest("a", "oci", json.dumps(bare).encode()).status_code == 201
    reply = api.put_manifest("a", "docker", json.dumps(bare).encode(), DOCKER_MANIFEST)
    assert (reply.status_code, api.error_codes(reply)) == (400, ["MANIFEST_INVALID"])
    whole = api.image_manifest(DATA, mediaType=DOCKER_MANIFEST)
    assert api.put_manifest("a", "docker", whole, DOCKER_MANIFEST).status_code == 201
    assert api.client.head("/v2/a/manifests/docker").headers["content-type"] == DOCKER_MANIFEST


def test_manifest_limit(api: Any) -> None:
    api.push_image("a", "v1", DATA)
    limit = 4 * 1024 * 1024
    padding = limit - len(api.image_manifest(DATA, annotations={"x": ""}))
    assert (
        api.put_manifest(
            "a", "big", api.image_manifest(DATA, annotations={"x": "y" * padding})
        ).status_code
        == 201
    )
    over = api.image_manifest(DATA, annotations={"x": "y" * (padding + 1)})
    assert len(over) == limit + 1
    reply = api.put_manifest("a", "over", over)
    assert (reply.status_code, api.error_codes(reply)) == (413, ["SIZE_INVALID"])
    streamed = RegistryRequest(
        "PUT", "/v2/a/manifests/over", (), Headers([("Content-Type", OCI_MANIFEST)]), [over]
    )
    assert api.registry.handle(streamed).status == 413
    assert api.client.get("/v2/a/manifests/over").status_code == 404


def test_deleting_a_tag_keeps_the_manifest(api: Any) -> None:
    manifest = api.push_image("a", "v1", DATA)
    api.put_manifest("a", "v2", manifest)
    for tag in ("v1", "v2"):
        assert api.client.delete(f"/v2/a/manifests/{tag}").status_code == 202
        assert api.client.get(f"/v2/a/manifests/{tag}").status_code == 404
        assert api.client.get(f"/v2/a/manifests/{api.digest_of(manifest)}").content == manifest
    reply = api.client.delete("/v2/a/manifests/v1")
    assert (reply.status_code, api.error_codes(reply)) == (404, ["MANIFEST_UNKNOWN"])
    assert api.client.get("/v2/_catalog").json() == {"repositories": ["a"]}


def test_deleting_a_manifest_deletes_its_tags(api: Any) -> None:
    manifest = api.push_image("a", "v1", DATA)
    api.put_manifest("a", "v2", manifest)
    other = api.push_image("a", "other", b"else")
    digest = api.digest_of(manifest)
    assert api.client.delete(f"/v2/a/manifests/{digest}").status_code == 202
    for reference in ("v1", "v2", digest):
        assert api.client.get(f"/v2/a/manifests/{reference}").status_code == 404
    assert api.client.get("/v2/a/tags/list").json()["tags"] == ["other"]
    assert api.client.get("/v2/a/manifests/other").content == other
    reply = api.client.delete(f"/v2/a/manifests/{digest}")
    assert (reply.status_code, api.error_codes(reply)) == (404, ["MANIFEST_UNKNOWN"])
    assert api.put_manifest("a", "v3", manifest).status_code == 201
    assert api.client.get("/v2/a/tags/list").json()["tags"] == ["other", "v3"]


def test_deleted_child_of_an_index_stays_deleted(api: Any) -> None:
    child = api.push_image("a", "", DATA)
    api.put_manifest("a", "all", api.image_index(child), OCI_INDEX)
    url = f"/v2/a/manifests/{api.digest_of(child)}"
    assert api.client.get(url).status_code == 200
    assert api.client.delete(url).status_code == 202
    assert api.client.get(url).status_code == 404
    assert api.client.get("/v2/a/manifests/all").status_code == 200


def test_moving_a_tag_keeps_the_old_manifest(api: Any) -> None:
    old, new = api.push_image("a", "v1", DATA), api.push_image("a", "v1", b"new")
    assert api.client.get("/v2/a/manifests/v1").content == new
    assert api.client.get(f"/v2/a/manifests/{api.digest_of(old)}").content == old
    assert api.client.get("/v2/a/tags/list").json() == {"name": "a", "tags": ["v1"]}


def test_tag_pages(api: Any) -> None:
    for tag in ("b", "a", "B", "a.1", "10", "9"):
        api.push_image("x/y", tag, DATA)
    tags = ["10", "9", "B", "a", "a.1", "b"]
    assert api.client.get("/v2/x/y/tags/list").json() == {"name": "x/y", "tags": tags}
    found, url = [], "/v2/x/y/tags/list?n=4"
    while url:
        reply = api.client.get(url)
        found.append(reply.json()["tags"])
        url = reply.links.get("next", {}).get("url", "")
        assert url == "" or url.startswith("/v2/x/y/tags/list?")
    assert found == [tags[:4], tags[4:]]
    exact = api.client.get("/v2/x/y/tags/list?n=6")
    assert exact.json()["tags"] == tags
    assert "link" not in exact.headers
    assert api.client.get("/v2/x/y/tags/list?last=a").json()["tags"] == ["a.1", "b"]
    assert api.client.get("/v2/x/y/tags/list?n=1&last=a0").json()["tags"] == ["b"]


def test_page_size_zero(api: Any) -> None:
    api.push_image("a", "v1", DATA)
    for path, key in (("/v2/a/tags/list", "tags"), ("/v2/_catalog", "repositories")):
        reply = api.client.get(path, params={"n": "0"})
        assert (reply.status_code, reply.json()[key]) == (200, [])
        assert "link" not in reply.headers


@pytest.mark.parametrize("n", ["-1", "x", "", "1.5", "\u0661", "9" * 5000])
def test_invalid_page_sizes(api: Any, n: str) -> None:
    api.push_image("a", "v1", DATA)
    for path in ("/v2/a/tags/list", "/v2/_catalog"):
        reply = api.client.get(path, params={"n": n})
        assert (reply.status_code, api.error_codes(reply)) == (400, ["PAGINATION_NUMBER_INVALID"])


def test_tags_of_an_unknown_repository(api: Any) -> None:
    reply = api.client.get("/v2/nothing/tags/list")
    assert (reply.status_code, api.error_codes(reply)) == (404, ["NAME_UNKNOWN"])
    api.push_blob("blobs-only", DATA)
    assert api.client.get("/v2/blobs-only/tags/list").json()["tags"] == []


def test_catalog(api: Any) -> None:
    assert api.client.get("/v2/_catalog").json() == {"repositories": []}
    for name in ("b", "a/b/c", "a", "a-b"):
        api.push_image(name, "v1", DATA)
    api.push_blob("blobs-only", DATA)
    names = ["a", "a-b", "a/b/c", "b"]
    assert api.client.get("/v2/_catalog").json() == {"repositories": names}
    reply = api.client.get("/v2/_catalog?n=3")
    assert reply.json()["repositories"] == names[:3]
    assert reply.headers["link"] == '</v2/_catalog?last=a%2Fb%2Fc&n=3>; rel="next"'
    assert api.client.get(reply.links["next"]["url"]).json() == {"repositories": ["b"]}


def test_referrers(api: Any) -> None:
    subject = api.push_image("a", "v1", DATA)
    digest = api.digest_of(subject)
    refers = api.descriptor(subject, OCI_MANIFEST)
    notes = {"org.example": "ü"}
    sbom = api.push_image(
        "a", "", b"sbom", subject=refers, artifactType="x/sbom", annotations=notes
    )
    plain = api.push_image("a", "tagged", b"plain", subject=refers)
    bundle = api.image_index(subject=refers)
    reply = api.put_manifest("a", api.digest_of(bundle), bundle, OCI_INDEX)
    assert reply.headers["oci-subject"] == digest
    reply = api.client.get(f"/v2/a/referrers/{digest}")
    assert reply.headers["content-type"] == OCI_INDEX
    assert "oci-filters-applied" not in reply.headers
    document = reply.json()
    assert (document["schemaVersion"], document["mediaType"]) == (2, OCI_INDEX)
    expected = [
        {**api.descriptor(sbom, OCI_MANIFEST), "artifactType": "x/sbom", "annotations": notes},
        {**api.descriptor(plain, OCI_MANIFEST), "artifactType": CONFIG},
        api.descriptor(bundle, OCI_INDEX),
    ]
    by_digest = {entry["digest"]: entry for entry in document["manifests"]}
    assert by_digest == {entry["digest"]: entry for entry in expected}
    assert len(document["manifests"]) == 3

    filtered = api.client.get(f"/v2/a/referrers/{digest}", params={"artifactType": "x/sbom"})
    assert filtered.headers["oci-filters-applied"] == "artifactType"
    assert filtered.json()["manifests"] == expected[:1]

    api.client.delete(f"/v2/a/manifests/{api.digest_of(sbom)}")
    api.client.delete("/v2/a/manifests/tagged")
    left = [e["digest"] for e in api.client.get(f"/v2/a/referrers/{digest}").json()["manifests"]]
    assert sorted(left) == sorted([api.digest_of(plain), api.digest_of(bundle)])
    api.client.delete(f"/v2/a/manifests/{digest}")
    assert len(api.client.get(f"/v2/a/referrers/{digest}").json()["manifests"]) == 2


def test_referrers_of_an_unknown_digest(api: Any) -> None:
    reply = api.client.get("/v2/nowhere/referrers/sha256:" + "0" * 64)
    assert (reply.status_code, reply.json()["manifests"]) == (200, [])
    reply = api.client.get("/v2/nowhere/referrers/sha256:xyz")
    assert (reply.status_code, api.error_codes(reply)) == (400, ["DIGEST_INVALID"])


def test_subject_may_be_pushed_later(api: Any) -> None:
    subject = api.image_manifest(DATA)
    refers = api.descriptor(subject, OCI_MANIFEST)
    first = api.push_image("a", "sig", b"sig", subject=refers)
    api.push_image("a", "v1", DATA)
    found = api.client.get(f"/v2/a/referrers/{api.digest_of(subject)}").json()["manifests"]
    assert [entry["digest"] for entry in found] == [api.digest_of(first)]
