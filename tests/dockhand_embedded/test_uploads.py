"""Uploads and mounts, as the specification requires."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from dockhand_embedded import Headers, Limits, Registry, RegistryRequest

DATA = bytes(range(256)) * 40


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_single_post(api: Any, algorithm: str) -> None:
    digest = api.digest_of(DATA, algorithm)
    reply = api.client.post("/v2/a/b/blobs/uploads/", params={"digest": digest}, content=DATA)
    assert reply.status_code == 201
    assert reply.headers["location"] == f"/v2/a/b/blobs/{digest}"
    assert reply.headers["docker-content-digest"] == digest
    assert api.client.get(reply.headers["location"]).content == DATA


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_post_then_put(api: Any, algorithm: str) -> None:
    location = api.start_upload("a")
    digest = api.digest_of(DATA, algorithm)
    reply = api.client.put(f"{location}?digest={digest}", content=DATA)
    assert reply.status_code == 201
    assert api.client.get(f"/v2/a/blobs/{digest}").content == DATA
    assert api.client.get(location).status_code == 404


def test_reply_to_the_start(api: Any) -> None:
    reply = api.client.post("/v2/a/blobs/uploads/")
    upload_id = reply.headers["docker-upload-uuid"]
    assert str(uuid.UUID(upload_id)) == upload_id
    assert reply.headers["location"] == f"/v2/a/blobs/uploads/{upload_id}"
    assert reply.headers["range"] == "0-0"
    assert reply.headers["content-length"] == "0"


def test_streamed_patch_needs_no_content_range(api: Any) -> None:
    location = api.start_upload("a")
    pieces = [DATA[i : i + 1000] for i in range(0, len(DATA), 1000)]
    reply = api.client.patch(location, content=iter(pieces))
    assert reply.status_code == 202
    assert reply.headers["range"] == f"0-{len(DATA) - 1}"
    digest = api.digest_of(DATA)
    assert api.client.put(location, params={"digest": digest}).status_code == 201
    assert api.client.get(f"/v2/a/blobs/{digest}").content == DATA


def test_chunks_in_order_and_the_last_one_in_the_put(api: Any) -> None:
    location = api.start_upload("a")
    for start in (0, 100):
        reply = api.client.patch(
            location,
            content=DATA[start : start + 100],
            headers={"Content-Range": f"{start}-{start + 99}"},
        )
        assert reply.status_code == 202
        assert reply.headers["range"] == f"0-{start + 99}"
        location = reply.headers["location"]
    digest = api.digest_of(DATA)
    reply = api.client.put(
        location,
        params={"digest": digest},
        content=DATA[200:],
        headers={"Content-Range": f"200-{len(DATA) - 1}"},
    )
    assert reply.status_code == 201
    assert api.client.get(f"/v2/a/blobs/{digest}").content == DATA


@pytest.mark.parametrize("bad", ["101-200", "99-198", "0-99", "bytes 100-199/*", "199-100", "x"])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_chunk_at_the_wrong_place_changes_nothing(api: Any, bad: str, method: str) -> None:
    location = api.start_upload("a")
    api.client.patch(location, content=DATA[:100])
    url = f"{location}?digest={api.digest_of(DATA)}"
    reply = api.client.request(method, url, content=DATA[100:200], headers={"Content-Range": bad})
    assert reply.status_code == 416
    assert api.error_codes(reply) == ["RANGE_INVALID"]
    assert reply.headers["range"] == "0-99"
    assert reply.headers["location"] == location
    assert api.client.get(location).headers["range"] == "0-99"
    assert api.client.put(url, content=DATA[100:]).status_code == 201


@pytest.mark.parametrize("sent", [99, 101])
def test_content_range_of_another_length_than_the_body(api: Any, sent: int) -> None:
    location = api.start_upload("a")
    reply = api.client.patch(location, content=DATA[:sent], headers={"Content-Range": "0-99"})
    assert reply.status_code == 400
    assert api.error_codes(reply) == ["SIZE_INVALID"]
    reply = api.client.patch(
        location, content=iter([DATA[:sent]]), headers={"Content-Range": "0-99"}
    )
    assert (reply.status_code, api.error_codes(reply)) == (400, ["SIZE_INVALID"])
    assert (
        api.client.put(f"{location}?digest={api.digest_of(DATA)}", content=DATA).status_code == 201
    )


def test_wrong_content_length_is_rejected(api: Any) -> None:
    reply = api.registry.handle(
        RegistryRequest(
            "POST",
            "/v2/a/blobs/uploads/",
            [("digest", api.digest_of(b"abc"))],
            Headers([("Content-Length", "4")]),
            [b"abc"],
        )
    )
    assert reply.status == 400
    assert api.client.get(f"/v2/a/blobs/{api.digest_of(b'abc')}").status_code == 404


def test_status(api: Any) -> None:
    location = api.start_upload("a")
    api.client.patch(location, content=b"x")
    reply = api.client.get(location)
    assert (reply.status_code, reply.headers["range"]) == (204, "0-0")
    assert reply.headers["location"] == location
    assert "content-length" not in reply.headers
    api.client.patch(location, content=b"yz")
    assert api.client.get(location).headers["range"] == "0-2"


def test_cancel(api: Any) -> None:
    location = api.start_upload("a")
    assert api.client.delete(location).status_code == 204
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        reply = api.client.request(method, f"{location}?digest={api.digest_of(b'')}")
        assert (reply.status_code, api.error_codes(reply)) == (404, ["BLOB_UPLOAD_UNKNOWN"])


def test_upload_belongs_to_one_repository(api: Any) -> None:
    elsewhere = api.start_upload("a").replace("/a/", "/b/")
    reply = api.client.patch(elsewhere, content=b"x")
    assert (reply.status_code, api.error_codes(reply)) == (404, ["BLOB_UPLOAD_UNKNOWN"])


@pytest.mark.parametrize("upload_id", ["..", "x", "A" * 36, "%00", "../../etc/passwd", "a" * 5000])
def test_malformed_upload_ids(api: Any, upload_id: str) -> None:
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        path = f"/v2/a/blobs/uploads/{upload_id}"
        assert api.registry.handle(RegistryRequest(method, path)).status in {400, 404, 405}


def test_wrong_digest_discards_the_upload(api: Any) -> None:
    location = api.start_upload("a")
    wrong = api.digest_of(b"other")
    reply = api.client.put(location, params={"digest": wrong}, content=DATA)
    assert (reply.status_code, api.error_codes(reply)) == (400, ["DIGEST_INVALID"])
    assert api.client.get(location).status_code == 404
    assert api.client.head(f"/v2/a/blobs/{wrong}").status_code == 404
    reply = api.client.post("/v2/a/blobs/uploads/", params={"digest": wrong}, content=DATA)
    assert (reply.status_code, api.error_codes(reply)) == (400, ["DIGEST_INVALID"])


@pytest.mark.parametrize("digest", ["", "sha256:abc", "md5:" + "a" * 32, "sha256:" + "A" * 64])
def test_malformed_digest_leaves_the_upload(api: Any, digest: str) -> None:
    location = api.start_upload("a")
    api.client.patch(location, content=DATA)
    reply = api.client.put(location, params={"digest": digest})
    assert (reply.status_code, api.error_codes(reply)) == (400, ["DIGEST_INVALID"])
    assert api.client.put(location).status_code == 400
    assert api.client.put(location, params={"digest": api.digest_of(DATA)}).status_code == 201


def test_failing_body_keeps_received_bytes(api: Any) -> None:
    def failing_body() -> Iterator[bytes]:
        yield DATA[:5000]
        raise ConnectionResetError("gone")

    location = api.start_upload("a")
    with pytest.raises(ConnectionResetError):
        api.client.patch(location, content=failing_body())
    assert api.client.get(location).headers["range"] == "0-4999"
    reply = api.client.put(location, params={"digest": api.digest_of(DATA)}, content=DATA[5000:])
    assert reply.status_code == 201


def test_failing_single_post_leaves_nothing(api: Any) -> None:
    def failing_body() -> Iterator[bytes]:
        yield b"x"
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        api.client.post(
            "/v2/a/blobs/uploads/", params={"digest": api.digest_of(DATA)}, content=failing_body()
        )
    root = getattr(api.storage, "root", None)
    left = list((root / ".uploads").iterdir()) if root else list(api.storage._uploads)
    assert left == []


def test_two_writers_of_one_upload(api: Any) -> None:
    location = api.start_upload("a")

    def body() -> Iterator[bytes]:
        yield b"first"
        reply = api.client.patch(location, content=b"second")
        assert (reply.status_code, api.error_codes(reply)) == (416, ["RANGE_INVALID"])
        yield b"third"

    assert api.client.patch(location, content=body()).headers["range"] == "0-9"
    digest = api.digest_of(b"firstthird")
    assert api.client.put(location, params={"digest": digest}).status_code == 201


def test_blob_limit(api: Any) -> None:
    registry = Registry(api.storage, Limits(blob=10))
    for headers in ([], [("Content-Length", "11")]):
        reply = registry.handle(
            RegistryRequest(
                "POST",
                "/v2/a/blobs/uploads/",
                [("digest", api.digest_of(b"x" * 11))],
                Headers(headers),
                [b"x" * 6, b"x" * 5],
            )
        )
        assert reply.status == 413
        assert isinstance(reply.body, bytes)
        assert b"SIZE_INVALID" in reply.body
    location = api.start_upload("a")
    path = location.partition("?")[0]
    assert registry.handle(RegistryRequest("PATCH", path, body=[b"y" * 10])).status == 202
    assert registry.handle(RegistryRequest("PATCH", path, body=[b"z"])).status == 413
    assert api.client.get(location).headers["range"] == "0-9"


def test_mount_from(api: Any) -> None:
    digest = api.push_blob("source/one", DATA)
    reply = api.client.post(f"/v2/target/blobs/uploads/?mount={digest}&from=source/one")
    assert reply.status_code == 201
    assert reply.headers["location"] == f"/v2/target/blobs/{digest}"
    assert reply.headers["docker-content-digest"] == digest
    assert api.client.delete(f"/v2/source/one/blobs/{digest}").status_code == 202
    assert api.client.get(f"/v2/target/blobs/{digest}").content == DATA


def test_mount_without_from(api: Any) -> None:
    digest = api.push_blob("source/two", DATA)
    reply = api.client.post(f"/v2/target/blobs/uploads/?mount={digest}")
    assert reply.status_code == 201
    assert api.client.get(f"/v2/target/blobs/{digest}").content == DATA


@pytest.mark.parametrize("source", ["nowhere", "../etc", "UPPER", "source/other"])
def test_failed_mount_becomes_an_upload(api: Any, source: str) -> None:
    digest = api.push_blob("source/one", DATA)
    api.push_blob("source/other", b"something else")
    reply = api.client.post("/v2/target/blobs/uploads/", params={"mount": digest, "from": source})
    assert reply.status_code == 202
    assert api.client.head(f"/v2/target/blobs/{digest}").status_code == 404
    reply = api.client.put(f"{reply.headers['location']}?digest={digest}", content=DATA)
    assert reply.status_code == 201


def test_mount_with_an_invalid_digest(api: Any) -> None:
    reply = api.client.post("/v2/target/blobs/uploads/", params={"mount": "sha256:1"})
    assert (reply.status_code, api.error_codes(reply)) == (400, ["DIGEST_INVALID"])


def test_empty_blob(api: Any) -> None:
    digest = api.push_blob("a", b"")
    reply = api.client.get(f"/v2/a/blobs/{digest}")
    assert (reply.status_code, reply.content, reply.headers["content-length"]) == (200, b"", "0")
    location = api.start_upload("b")
    assert api.client.put(location, params={"digest": digest}).status_code == 201


def test_unsupported_digest_algorithm(api: Any) -> None:
    reply = api.client.post("/v2/a/blobs/uploads/", params={"digest-algorithm": "md5"})
    assert (reply.status_code, api.error_codes(reply)) == (400, ["DIGEST_INVALID"])
