"""Uploads and mounts, as the specification says them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from dockhand_embedded import Headers, Limits, Registry, Request

DATA = bytes(range(256)) * 40


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_single_post(to: Any, algorithm: str) -> None:
    digest = to.digest_of(DATA, algorithm)
    reply = to.client.post("/v2/a/b/blobs/uploads/", params={"digest": digest}, content=DATA)
    assert reply.status_code == 201
    assert reply.headers["location"] == f"/v2/a/b/blobs/{digest}"
    assert reply.headers["docker-content-digest"] == digest
    assert to.client.get(reply.headers["location"]).content == DATA


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_post_then_put(to: Any, algorithm: str) -> None:
    location = to.start("a")
    digest = to.digest_of(DATA, algorithm)
    reply = to.client.put(f"{location}?digest={digest}", content=DATA)
    assert reply.status_code == 201
    assert to.client.get(f"/v2/a/blobs/{digest}").content == DATA
    assert to.client.get(location).status_code == 404


def test_start_says_where_and_how_far(to: Any) -> None:
    reply = to.client.post("/v2/a/blobs/uploads/")
    upload_id = reply.headers["docker-upload-uuid"]
    assert str(uuid.UUID(upload_id)) == upload_id
    assert reply.headers["location"] == f"/v2/a/blobs/uploads/{upload_id}"
    assert reply.headers["range"] == "0-0"
    assert reply.headers["content-length"] == "0"


def test_streamed_patch_needs_no_content_range(to: Any) -> None:
    location = to.start("a")
    pieces = [DATA[i : i + 1000] for i in range(0, len(DATA), 1000)]
    reply = to.client.patch(location, content=iter(pieces))
    assert reply.status_code == 202
    assert reply.headers["range"] == f"0-{len(DATA) - 1}"
    digest = to.digest_of(DATA)
    assert to.client.put(location, params={"digest": digest}).status_code == 201
    assert to.client.get(f"/v2/a/blobs/{digest}").content == DATA


def test_chunks_in_order_and_the_last_one_in_the_put(to: Any) -> None:
    location = to.start("a")
    for start in (0, 100):
        reply = to.client.patch(
            location,
            content=DATA[start : start + 100],
            headers={"Content-Range": f"{start}-{start + 99}"},
        )
        assert reply.status_code == 202
        assert reply.headers["range"] == f"0-{start + 99}"
        location = reply.headers["location"]
    digest = to.digest_of(DATA)
    reply = to.client.put(
        location,
        params={"digest": digest},
        content=DATA[200:],
        headers={"Content-Range": f"200-{len(DATA) - 1}"},
    )
    assert reply.status_code == 201
    assert to.client.get(f"/v2/a/blobs/{digest}").content == DATA


@pytest.mark.parametrize("bad", ["101-200", "99-198", "0-99", "bytes 100-199/*", "199-100", "x"])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_chunk_at_the_wrong_place_changes_nothing(to: Any, bad: str, method: str) -> None:
    location = to.start("a")
    to.client.patch(location, content=DATA[:100])
    url = f"{location}?digest={to.digest_of(DATA)}"
    reply = to.client.request(method, url, content=DATA[100:200], headers={"Content-Range": bad})
    assert reply.status_code == 416
    assert to.codes(reply) == ["RANGE_INVALID"]
    assert reply.headers["range"] == "0-99"
    assert reply.headers["location"] == location
    assert to.client.get(location).headers["range"] == "0-99"
    assert to.client.put(url, content=DATA[100:]).status_code == 201


@pytest.mark.parametrize("sent", [99, 101])
def test_content_range_of_another_length_than_the_body(to: Any, sent: int) -> None:
    location = to.start("a")
    reply = to.client.patch(location, content=DATA[:sent], headers={"Content-Range": "0-99"})
    assert reply.status_code == 400
    assert to.codes(reply) == ["SIZE_INVALID"]
    reply = to.client.patch(
        location, content=iter([DATA[:sent]]), headers={"Content-Range": "0-99"}
    )
    assert (reply.status_code, to.codes(reply)) == (400, ["SIZE_INVALID"])
    assert to.client.put(f"{location}?digest={to.digest_of(DATA)}", content=DATA).status_code == 201


def test_lying_content_length_is_refused(to: Any) -> None:
    reply = to.registry.handle(
        Request(
            "POST",
            "/v2/a/blobs/uploads/",
            [("digest", to.digest_of(b"abc"))],
            Headers([("Content-Length", "4")]),
            [b"abc"],
        )
    )
    assert reply.status == 400
    assert to.client.get(f"/v2/a/blobs/{to.digest_of(b'abc')}").status_code == 404


def test_status(to: Any) -> None:
    location = to.start("a")
    to.client.patch(location, content=b"x")
    reply = to.client.get(location)
    assert (reply.status_code, reply.headers["range"]) == (204, "0-0")
    assert reply.headers["location"] == location
    assert "content-length" not in reply.headers
    to.client.patch(location, content=b"yz")
    assert to.client.get(location).headers["range"] == "0-2"


def test_cancel(to: Any) -> None:
    location = to.start("a")
    assert to.client.delete(location).status_code == 204
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        reply = to.client.request(method, f"{location}?digest={to.digest_of(b'')}")
        assert (reply.status_code, to.codes(reply)) == (404, ["BLOB_UPLOAD_UNKNOWN"])


def test_upload_belongs_to_one_repository(to: Any) -> None:
    elsewhere = to.start("a").replace("/a/", "/b/")
    reply = to.client.patch(elsewhere, content=b"x")
    assert (reply.status_code, to.codes(reply)) == (404, ["BLOB_UPLOAD_UNKNOWN"])


@pytest.mark.parametrize("upload_id", ["..", "x", "A" * 36, "%00", "../../etc/passwd", "a" * 5000])
def test_malformed_upload_ids(to: Any, upload_id: str) -> None:
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        path = f"/v2/a/blobs/uploads/{upload_id}"
        assert to.registry.handle(Request(method, path)).status in {400, 404, 405}


def test_wrong_digest_discards_the_upload(to: Any) -> None:
    location = to.start("a")
    wrong = to.digest_of(b"other")
    reply = to.client.put(location, params={"digest": wrong}, content=DATA)
    assert (reply.status_code, to.codes(reply)) == (400, ["DIGEST_INVALID"])
    assert to.client.get(location).status_code == 404
    assert to.client.head(f"/v2/a/blobs/{wrong}").status_code == 404
    reply = to.client.post("/v2/a/blobs/uploads/", params={"digest": wrong}, content=DATA)
    assert (reply.status_code, to.codes(reply)) == (400, ["DIGEST_INVALID"])


@pytest.mark.parametrize("digest", ["", "sha256:abc", "md5:" + "a" * 32, "sha256:" + "A" * 64])
def test_malformed_digest_leaves_the_upload(to: Any, digest: str) -> None:
    location = to.start("a")
    to.client.patch(location, content=DATA)
    reply = to.client.put(location, params={"digest": digest})
    assert (reply.status_code, to.codes(reply)) == (400, ["DIGEST_INVALID"])
    assert to.client.put(location).status_code == 400
    assert to.client.put(location, params={"digest": to.digest_of(DATA)}).status_code == 201


def test_a_body_that_breaks_keeps_what_came(to: Any) -> None:
    def broken() -> Iterator[bytes]:
        yield DATA[:5000]
        raise ConnectionResetError("gone")

    location = to.start("a")
    with pytest.raises(ConnectionResetError):
        to.client.patch(location, content=broken())
    assert to.client.get(location).headers["range"] == "0-4999"
    reply = to.client.put(location, params={"digest": to.digest_of(DATA)}, content=DATA[5000:])
    assert reply.status_code == 201


def test_a_single_post_that_breaks_leaves_nothing(to: Any) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        to.client.post(
            "/v2/a/blobs/uploads/", params={"digest": to.digest_of(DATA)}, content=broken()
        )
    root = getattr(to.storage, "root", None)
    left = list((root / ".uploads").iterdir()) if root else list(to.storage._sessions)
    assert left == []


def test_two_writers_of_one_upload(to: Any) -> None:
    location = to.start("a")

    def body() -> Iterator[bytes]:
        yield b"first"
        reply = to.client.patch(location, content=b"second")
        assert (reply.status_code, to.codes(reply)) == (416, ["RANGE_INVALID"])
        yield b"third"

    assert to.client.patch(location, content=body()).headers["range"] == "0-9"
    digest = to.digest_of(b"firstthird")
    assert to.client.put(location, params={"digest": digest}).status_code == 201


def test_blob_limit(to: Any) -> None:
    registry = Registry(to.storage, Limits(blob=10))
    for headers in ([], [("Content-Length", "11")]):
        reply = registry.handle(
            Request(
                "POST",
                "/v2/a/blobs/uploads/",
                [("digest", to.digest_of(b"x" * 11))],
                Headers(headers),
                [b"x" * 6, b"x" * 5],
            )
        )
        assert reply.status == 413
        assert isinstance(reply.body, bytes)
        assert b"SIZE_INVALID" in reply.body
    location = to.start("a")
    path = location.partition("?")[0]
    assert registry.handle(Request("PATCH", path, body=[b"y" * 10])).status == 202
    assert registry.handle(Request("PATCH", path, body=[b"z"])).status == 413
    assert to.client.get(location).headers["range"] == "0-9"


def test_mount_from(to: Any) -> None:
    digest = to.blob("source/one", DATA)
    reply = to.client.post(f"/v2/target/blobs/uploads/?mount={digest}&from=source/one")
    assert reply.status_code == 201
    assert reply.headers["location"] == f"/v2/target/blobs/{digest}"
    assert reply.headers["docker-content-digest"] == digest
    assert to.client.delete(f"/v2/source/one/blobs/{digest}").status_code == 202
    assert to.client.get(f"/v2/target/blobs/{digest}").content == DATA


def test_mount_without_from(to: Any) -> None:
    digest = to.blob("source/two", DATA)
    reply = to.client.post(f"/v2/target/blobs/uploads/?mount={digest}")
    assert reply.status_code == 201
    assert to.client.get(f"/v2/target/blobs/{digest}").content == DATA


@pytest.mark.parametrize("source", ["nowhere", "../etc", "UPPER", "source/other"])
def test_mount_of_what_is_not_there_is_an_upload(to: Any, source: str) -> None:
    digest = to.blob("source/one", DATA)
    to.blob("source/other", b"something else")
    reply = to.client.post("/v2/target/blobs/uploads/", params={"mount": digest, "from": source})
    assert reply.status_code == 202
    assert to.client.head(f"/v2/target/blobs/{digest}").status_code == 404
    reply = to.client.put(f"{reply.headers['location']}?digest={digest}", content=DATA)
    assert reply.status_code == 201


def test_mount_of_no_digest(to: Any) -> None:
    reply = to.client.post("/v2/target/blobs/uploads/", params={"mount": "sha256:1"})
    assert (reply.status_code, to.codes(reply)) == (400, ["DIGEST_INVALID"])


def test_empty_blob(to: Any) -> None:
    digest = to.blob("a", b"")
    reply = to.client.get(f"/v2/a/blobs/{digest}")
    assert (reply.status_code, reply.content, reply.headers["content-length"]) == (200, b"", "0")
    location = to.start("b")
    assert to.client.put(location, params={"digest": digest}).status_code == 201


def test_unsupported_digest_algorithm(to: Any) -> None:
    reply = to.client.post("/v2/a/blobs/uploads/", params={"digest-algorithm": "md5"})
    assert (reply.status_code, to.codes(reply)) == (400, ["DIGEST_INVALID"])
