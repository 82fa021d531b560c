"""Names, tags and digests: invalid ones are rejected, different ones never collide."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from dockhand_embedded import Headers, LayoutStorage, MemoryStorage, Registry, RegistryRequest
from dockhand_embedded.protocol.names import is_digest, is_name, is_tag
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SETTINGS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
DIGEST = "sha256:" + "0" * 64
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
BODY = b'{"schemaVersion":2,"manifests":[]}'

hostile_names = st.lists(
    st.sampled_from(
        [
            "..",
            ".",
            "",
            "\0",
            "A",
            "a",
            "blobs",
            "index.json",
            "uploads",
            "manifests",
            "tags",
            "~",
            "_blobs",
            ".uploads",
            "a" * 256,
            "é",
            "a\n",
            "%2e%2e",
            "\\",
            "c:",
            "-",
            "a..b",
            "con",
            " ",
        ]
    ),
    min_size=1,
    max_size=5,
).map("/".join) | st.text(max_size=40)
components = st.sampled_from(
    ["a", "b", "blobs", "index.json", "oci-layout", "sha256", "0" * 64, "uploads", "a--b", "x__y"]
)
valid_names = st.lists(components, min_size=1, max_size=4).map("/".join).filter(is_name)


def paths_below(folder: Path) -> set[str]:
    return {
        os.path.relpath(Path(at) / name, folder)
        for at, folders, files in os.walk(folder)
        for name in (*folders, *files)
    }


def status_of(registry: Registry, request: RegistryRequest) -> int:
    with closing(registry.handle(request)) as reply:
        return reply.status


@SETTINGS
@given(name=hostile_names)
def test_hostile_names_stay_inside_the_root(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("secret")
    registry = Registry(LayoutStorage(tmp_path / "x" / "kept"))
    before = paths_below(tmp_path)
    put = Headers([("Content-Type", OCI_INDEX)])
    requests = [
        RegistryRequest("PUT", f"/v2/{name}/manifests/latest", headers=put, body=[BODY]),
        RegistryRequest("GET", f"/v2/{name}/manifests/latest"),
        RegistryRequest("POST", f"/v2/{name}/blobs/uploads/"),
        RegistryRequest("POST", "/v2/good/blobs/uploads/", [("mount", DIGEST), ("from", name)]),
        RegistryRequest("GET", f"/v2/{name}/blobs/{DIGEST}"),
        RegistryRequest("DELETE", f"/v2/{name}/blobs/{DIGEST}"),
        RegistryRequest("GET", f"/v2/{name}/tags/list"),
        RegistryRequest("GET", f"/v2/{name}/referrers/{DIGEST}"),
    ]
    statuses = [status_of(registry, request) for request in requests]
    assert max(statuses) < 500
    if not is_name(name):
        assert [status for status in (*statuses[:3], *statuses[4:]) if status < 400] == []
    created = {path for path in paths_below(tmp_path) - before if not path.startswith("x/kept/")}
    assert created == set()
    assert (tmp_path / "secret").read_text() == "secret"


@SETTINGS
@given(reference=hostile_names | st.sampled_from(["sha256:../../../secret", "sha512:" + "0" * 64]))
def test_hostile_references_are_rejected(tmp_path: Path, reference: str) -> None:
    registry = Registry(LayoutStorage(tmp_path / "root"))
    put = Headers([("Content-Type", OCI_INDEX)])
    for method, path in (
        ("PUT", f"/v2/a/manifests/{reference}"),
        ("GET", f"/v2/a/manifests/{reference}"),
        ("DELETE", f"/v2/a/manifests/{reference}"),
        ("GET", f"/v2/a/blobs/{reference}"),
        ("DELETE", f"/v2/a/blobs/{reference}"),
    ):
        status = status_of(registry, RegistryRequest(method, path, headers=put, body=[BODY]))
        assert status < 500
        if not is_tag(reference) and not is_digest(reference) and "/" not in reference:
            assert status >= 400


@SETTINGS
@given(chosen=st.lists(valid_names, min_size=1, max_size=6, unique=True))
def test_different_names_never_share_content(
    tmp_path_factory: pytest.TempPathFactory, chosen: list[str]
) -> None:
    for storage in (MemoryStorage(), LayoutStorage(tmp_path_factory.mktemp("root"))):
        registry = Registry(storage)
        for name in chosen:
            body = b'{"schemaVersion":2,"manifests":[],"annotations":{"of":"%s"}}' % name.encode()
            put = Headers([("Content-Type", OCI_INDEX)])
            path = f"/v2/{name}/manifests/latest"
            assert (
                registry.handle(RegistryRequest("PUT", path, headers=put, body=[body])).status
                == 201
            )
        for name in chosen:
            reply = registry.handle(RegistryRequest("GET", f"/v2/{name}/manifests/latest"))
            assert reply.status == 200
            assert isinstance(reply.body, bytes)
            assert f'"of":"{name}"'.encode() in reply.body
        assert storage.repositories() == sorted(chosen)


@pytest.mark.parametrize("name", ["a", "a/b-c/d__e/f.g", "0", "a--b", "x" * 255, "a/" * 127 + "a"])
def test_valid_names(api: Any, name: str) -> None:
    assert api.client.post(f"/v2/{name}/blobs/uploads/").status_code == 202


@pytest.mark.parametrize(
    "name",
    [
        "A",
        "a/B",
        "-a",
        "a-",
        "a..b",
        "a___b",
        "a/",
        "/a",
        "a//b",
        "..",
        "../a",
        "a/../b",
        ".uploads",
        "_blobs",
        "a\0",
        "ä",
        "a b",
        "x" * 256,
        "a\n",
        "a/\u2028",
    ],
)
def test_invalid_names(api: Any, name: str) -> None:
    for method, path in (
        ("POST", f"/v2/{name}/blobs/uploads/"),
        ("GET", f"/v2/{name}/tags/list"),
        ("GET", f"/v2/{name}/manifests/latest"),
        ("GET", f"/v2/{name}/blobs/{DIGEST}"),
        ("GET", f"/v2/{name}/referrers/{DIGEST}"),
    ):
        reply = api.registry.handle(RegistryRequest(method, path))
        assert reply.status == 400
        assert b'"NAME_INVALID"' in reply.body


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("." * 3, "TAG_INVALID"),
        ("-x", "TAG_INVALID"),
        ("x" * 129, "TAG_INVALID"),
        ("ä", "TAG_INVALID"),
        ("x\n", "TAG_INVALID"),
        ("a b", "TAG_INVALID"),
        ("sha256:1", "DIGEST_INVALID"),
        ("sha256:" + "A" * 64, "DIGEST_INVALID"),
        ("md5:" + "0" * 32, "DIGEST_INVALID"),
        (DIGEST + "\n", "DIGEST_INVALID"),
        (":", "DIGEST_INVALID"),
    ],
)
def test_invalid_references(api: Any, reference: str, code: str) -> None:
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        headers = Headers([("Content-Type", OCI_INDEX)])
        path = f"/v2/a/manifests/{reference}"
        reply = api.registry.handle(RegistryRequest(method, path, headers=headers, body=[BODY]))
        assert reply.status == 400
        assert method == "HEAD" or code.encode() in reply.body


@pytest.mark.parametrize(
    "words", ["blobs/uploads", "manifests/x", "tags/list", "referrers/x", "blobs/x/blobs/uploads"]
)
def test_names_that_look_like_endpoints(api: Any, words: str) -> None:
    manifest = api.push_image(f"a/{words}", "v1", b"layer")
    assert api.client.get(f"/v2/a/{words}/manifests/v1").content == manifest
    assert api.client.get(f"/v2/a/{words}/tags/list").json()["tags"] == ["v1"]
    assert api.client.get("/v2/_catalog").json()["repositories"] == [f"a/{words}"]


@SETTINGS
@given(data=st.data())
def test_any_request_gets_a_reply(make_api: Callable[[Any], Any], data: st.DataObject) -> None:
    registry = make_api(MemoryStorage()).registry
    parts = st.sampled_from(
        [
            "v2",
            "a",
            "blobs",
            "uploads",
            "manifests",
            "tags",
            "list",
            DIGEST,
            "",
            "_catalog",
            "referrers",
            "latest",
        ]
    )
    path = "/" + "/".join(data.draw(st.lists(parts | st.text(max_size=5), max_size=6)))
    query = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from(["digest", "mount", "from", "n", "last", "tag", "artifactType"]),
                st.text(max_size=8) | st.just(DIGEST),
            ),
            max_size=3,
        )
    )
    headers = Headers(
        data.draw(
            st.lists(
                st.tuples(
                    st.sampled_from(["Range", "Content-Range", "Content-Length", "Content-Type"]),
                    st.text(max_size=12) | st.sampled_from([OCI_INDEX, "0-1", "bytes=0-"]),
                ),
                max_size=3,
            )
        )
    )
    method = data.draw(st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "BREW"]))
    reply = registry.handle(RegistryRequest(method, path, query, headers, [data.draw(st.binary())]))
    assert 200 <= reply.status < 500
    reply.close()
