"""zot's deviations from the Distribution Specification, and how the driver handles them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cutting_proxy import cutting_proxy
from dockhand_zot import ZotClient, ZotDriver
from registries import zot

from dockhand_core import (
    BlobUnknown,
    BlobUploadUnknown,
    ConnectionFailed,
    Denied,
    Digest,
    ManifestInvalid,
    NameUnknown,
    PushResult,
    Scope,
    Unauthorized,
    Unsupported,
    connect,
)

StartZot = Callable[[str], Any]
PushImage = Callable[..., Any]
QUIET = {"driver": "null"}


def test_failed_login(start_zot: StartZot) -> None:
    """zot replies with a challenge and a single error, without the list `errors`."""
    wrong = {"driver": "basic", "username": "alice", "password": "wrong"}
    client = start_zot("users").client(auth=wrong)
    with pytest.raises(Unauthorized, match="authentication required") as caught:
        client.ping()
    assert caught.value.code == "UNAUTHORIZED"
    assert client.is_online()


def test_a_challenge_on_success(start_zot: StartZot) -> None:
    """With anonymous policies, `/v2/` replies 200 with a challenge, which needs no login."""
    client = start_zot("users").client()
    client.ping()
    assert client.api_version().major == 2


def test_denied_is_not_tried_again(start_zot: StartZot, push_image: PushImage) -> None:
    """A 403 with a challenge is not retried: the cassette has only one reply."""
    server = start_zot("users")
    push_image(server.client("alice"), "team/app", "1", "layer")
    with pytest.raises(Denied) as caught:
        server.client("bob").manifest("team/app", "1")
    assert caught.value.attempts == 1


def test_looking_at_a_blob_changes_nothing(start_zot: StartZot) -> None:
    """A plain HEAD or GET of a range would link the blob from another repository."""
    client = start_zot("minimal").client()
    data = b"x" * 1000
    digest = client.upload_blob("team/app", data).digest
    empty = client.upload_blob("team/app", b"").digest
    assert (client.blob_size("team/app", digest), client.blob_size("team/app", empty)) == (1000, 0)
    assert not client.blob_exists("team/other", digest)
    with (
        pytest.raises(BlobUnknown),
        client.open_blob("team/other", digest, offset=10, verify=False) as blob,
    ):
        blob.read()
    with client.open_blob("team/app", digest, offset=10, verify=False) as blob:
        assert blob.read() == data[10:]
    assert list(client.repositories()) == ["team/app"]


def test_pushing_what_is_elsewhere(start_zot: StartZot) -> None:
    client = start_zot("minimal").client()
    digest = client.upload_blob("team/app", b"shared").digest
    again = client.upload_blob("team/other", b"shared")
    assert (again.digest, again.uploaded) == (digest, False)
    assert client.read_blob("team/other", digest) == b"shared"


def test_pages_after_what_was_deleted(start_zot: StartZot, push_image: PushImage) -> None:
    """If `last` names a deleted item, zot replies with an empty page or 404; the driver goes on."""
    client = start_zot("minimal").client()
    for name in ("a", "c", "d"):
        push_image(client, name, "1", "layer")
    page = client.repository_page(limit=1, after="b")
    assert (page.items, page.next) == (("c",), "c")
    assert list(client.repositories(page_size=1)) == ["a", "c", "d"]
    assert client.repository_page(limit=5, after="d").items == ()
    for tag in ("3", "5"):
        push_image(client, "a", tag, "layer")
    assert client.tag_page("a", limit=1, after="2").items == ("3",)
    assert client.tag_page("a", limit=5, after="9").items == ()
    with pytest.raises(NameUnknown):
        client.tag_page("none", after="2")


def test_a_tag_that_may_not_be_moved(start_zot: StartZot, push_image: PushImage) -> None:
    """A user with the permission `create` but not `update` cannot even push the same manifest."""
    server = start_zot("users")
    bob = server.client("bob")
    manifest = push_image(bob, "bobs/app", "1", "layer")
    with pytest.raises(Denied):
        bob.put_manifest("bobs/app", "1", manifest)
    with pytest.raises(Denied):
        bob.delete_tag("bobs/app", "1")


def test_docker_manifests(start_zot: StartZot, push_image: PushImage) -> None:
    client = start_zot("no-docker").client()
    manifest = push_image(client, "a", "1", "layer")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    document = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": manifest.config.digest,
            "size": manifest.config.size,
        },
        "layers": [],
    }
    with pytest.raises(ManifestInvalid, match="docker2s2") as caught:
        client.put_manifest("a", "docker", document)
    assert caught.value.status == 415


def test_lint(start_zot: StartZot, push_image: PushImage) -> None:
    client = start_zot("lint").client()
    with pytest.raises(ManifestInvalid) as caught:
        push_image(client, "a", "1", "layer")
    assert "org.example.owner" in str(caught.value.errors)
    push_image(client, "a", "1", "layer", annotations={"org.example.owner": "team"})
    assert list(client.tags("a")) == ["1"]


def test_what_is_in_use(start_zot: StartZot, push_image: PushImage) -> None:
    client = start_zot("minimal").client()
    manifest = push_image(client, "a", "1", "layer")
    with pytest.raises((Denied, Unsupported)):
        client.delete_blob("a", manifest.layers[0].digest)
    with pytest.raises(NameUnknown):
        client.delete_tag("none", "1")
    client.delete_tag("a", "1")
    assert client.manifest_exists("a", manifest.digest)


def test_scopes() -> None:
    """The scopes are exactly those that zot's bearer mode demands."""
    driver = ZotDriver(ZotDriver.Settings(base_uri="http://127.0.0.1:9"))
    assert [str(scope) for scope in driver.catalog_scopes()] == ["repository::pull"]
    assert driver.pull_scopes("a/b") == (Scope.read("a/b"),)
    assert [str(scope) for scope in driver.push_scopes("a/b", "c")] == ["repository:a/b:push"]
    assert [str(scope) for scope in driver.delete_scopes("a/b")] == ["repository:a/b:delete"]


@pytest.mark.live
def test_an_upload_that_breaks(tmp_path: Path) -> None:
    """zot drops a broken upload: a repeatable source is sent again, else the client raises."""
    data = os.urandom(3 << 20)
    with zot(tmp_path) as url, cutting_proxy(url) as proxy:
        with connect(proxy.url, driver="zot", logging=QUIET) as registry:
            proxy.upload_cuts.append(1 << 20)
            result = registry.upload_blob("a/b", data)
            assert proxy.cut_count == 1
            assert registry.read_blob("a/b", result.digest) == data
        with connect(proxy.url, driver="zot", logging=QUIET) as registry:
            upload = registry.upload_chunk(registry.start_upload("a/b"), data[: 1 << 20])
            proxy.upload_cuts.append(3 << 19)  # bytes of all requests on the connection
            with pytest.raises(ConnectionFailed):
                registry.upload_chunk(upload, data[1 << 20 :])
            with pytest.raises(BlobUploadUnknown, match="start_upload"):
                registry.upload_chunk(upload, data[1 << 20 :])


@pytest.mark.live
def test_a_reply_to_a_push_that_is_lost(
    tmp_path: Path, push_image: PushImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retry is refused because the first request succeeded; the driver checks that."""
    access = {
        "repositories": {"**": {"anonymousPolicy": ["read", "create"]}},
    }
    with zot(tmp_path, access=access) as url, cutting_proxy(url) as proxy:
        with connect(proxy.url, driver="zot", logging=QUIET) as registry:
            manifest = push_image(registry, "a", "1", "layer")
        with connect(proxy.url, driver="zot", logging=QUIET) as registry:
            proxy.download_cuts.append(5)
            done = registry.put_manifest("a", "2", manifest)
            assert proxy.cut_count == 1
            assert done.digest == Digest.of(manifest.raw)
            assert list(registry.tags("a")) == ["1", "2"]
        with connect(proxy.url, driver="zot", logging=QUIET, retries=0) as registry:
            proxy.download_cuts.append(5)
            with pytest.raises(ConnectionFailed):
                registry.put_manifest("a", "3", manifest)


@pytest.mark.live
def test_bearer_mode(tmp_path: Path, push_image: PushImage) -> None:
    """The operations request the scopes that zot demands; `mgmt` needs no scope."""
    from dockhand_auth_jwt import SigningKey

    key = SigningKey.generate("RS256")
    (tmp_path / "key.crt").write_bytes(key.public_pem())
    bearer = {
        "realm": "http://127.0.0.1:9/token",
        "service": "zot",
        "cert": str(tmp_path / "key.crt"),
    }
    auth = {
        "driver": "jwt",
        "private_key": key.private_pem().decode(),
        "authority_name": "authority",
        "registry_name": "zot",
    }
    on = {"enable": True}
    with (
        zot(tmp_path, auth={"bearer": bearer}, search=on, ui=on) as url,
        connect(url, driver="zot", auth=auth, logging=QUIET) as client,
    ):
        assert isinstance(client, ZotClient)
        manifest = push_image(client, "team/app", "1", "layer")
        assert list(client.repositories()) == ["team/app"]
        assert client.supports("search")
        assert [each.tag for each in client.images("team/app")] == ["1"]
        assert client.mgmt().auth["bearer"]["service"] == "zot"
        with pytest.raises(Denied):  # a token names no user, and stars belong to users
            client.star("team/app")
        upload = client.start_upload("team/app")
        assert client.upload_status(upload).offset == 0
        client.cancel_upload(upload)
        mounted = client.mount_blob("team/other", manifest.layers[0].digest, "team/app")
        assert isinstance(mounted, PushResult)
        client.delete_manifest("team/app", manifest.digest)
        with connect(url, driver="zot", logging=QUIET) as anonymous:
            assert anonymous.is_online()
            with pytest.raises(Unauthorized):
                anonymous.manifest("team/app", "1")
