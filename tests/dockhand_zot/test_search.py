"""zot's search, by typed methods and by GraphQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from dockhand_zot import (
    AsyncZotClient,
    ExtensionNotEnabled,
    ImageInvalid,
    SearchError,
    SearchForbidden,
    SearchUnknown,
    ZotClient,
)

from dockhand_core import DigestInvalid, Dockhand, DriverMismatch, NameInvalid, Platform, TagInvalid

StartZot = Callable[[str], Any]
PushImage = Callable[..., Any]
HOSTILE = ['a"b', "a{b}", "a\nb", "a\\b", 'x"){__typename}#', "a$b", "ä/b", "a b"]


@pytest.fixture
def alice(start_zot: StartZot, push_image: PushImage) -> ZotClient:
    """Push a base image, two images built on it, and a public image; return alice's client."""
    client: ZotClient = start_zot("users").client("alice")
    push_image(
        client, "team/base", "1.0", "base", annotations={"org.opencontainers.image.title": "B"}
    )
    push_image(client, "team/app", "2.0", "base", "app")
    push_image(client, "team/app", "2.1", "base", "app", "more", day=3)
    push_image(client, "public/tool", "v1", "tool")
    return client


def test_search_by_hand(alice: ZotClient) -> None:
    found = alice.search(
        "query($repository:String!){ImageList(repo:$repository){Results{Tag}}}",
        {"repository": "team/app"},
    )
    tags = {each["Tag"] for each in found["ImageList"]["Results"]}
    assert tags == {"2.0", "2.1"}
    assert alice.search("{__typename}") == {"__typename": "Query"}


def test_search_errors(alice: ZotClient) -> None:
    with pytest.raises(SearchError, match="Cannot query field") as caught:
        alice.search("{Nope{Tag}}")
    assert caught.value.status == 422
    assert "older version" in str(caught.value)  # the message names a possible reason
    assert caught.value.errors[0]["extensions"]["code"] == "GRAPHQL_VALIDATION_FAILED"
    with pytest.raises(SearchError, match="Expected Name"):
        alice.search("{ImageList(")
    # If one of two queries fails, neither has a result.
    with pytest.raises(SearchUnknown, match="repo metadata not found"):
        alice.search('{Image(image:"no/such:1"){Tag} ImageList(repo:"team/app"){Results{Tag}}}')
    with pytest.raises(SearchError, match="JSON"):
        alice.search("{__typename}", {"x": object()})


def test_global_search(alice: ZotClient) -> None:
    found = alice.global_search("team")
    assert sorted(each.name for each in found.repositories) == ["team/app", "team/base"]
    assert found.images == ()
    app = next(each for each in found.repositories if each.name == "team/app")
    assert app.size > 0
    assert app.platforms == (Platform("linux", "amd64"),)
    assert app.newest_image is not None
    assert app.newest_image.tag == "2.1"
    images = alice.global_search("team/app:2").images
    assert sorted(each.tag for each in images) == ["2.0", "2.1"]
    nothing = alice.global_search("no-such-thing")
    assert (nothing.repositories, nothing.images) == ((), ())


def test_image_summary(alice: ZotClient) -> None:
    found = alice.image_summary("team/base", "1.0")
    manifest = alice.image("team/base", "1.0")
    assert (found.repository, found.tag, found.digest) == ("team/base", "1.0", manifest.digest)
    assert isinstance(found.size, int)
    assert found.size > manifest.size
    assert found.last_updated == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert found.pushed_by == "alice"
    assert found.pushed_at is not None
    assert found.pushed_at.tzinfo is not None
    assert found.title == "B"
    assert found.signed is False
    [only] = found.manifests
    assert only.platform == Platform("linux", "amd64")
    assert [layer.digest for layer in only.layers] == [each.digest for each in manifest.layers]
    assert found.vulnerabilities is not None
    assert found.vulnerabilities.worst is None
    with pytest.raises(SearchUnknown):
        alice.image_summary("team/base", "none")


def test_images(alice: ZotClient) -> None:
    assert [each.tag for each in alice.images("team/app")] == ["2.0", "2.1"]
    with pytest.raises(SearchUnknown):
        alice.images("no/such")


def test_images_page_by_page(alice: ZotClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dockhand_zot.search.PAGE", 1)
    assert [each.tag for each in alice.images("team/app")] == ["2.0", "2.1"]
    names = sorted(each.name for each in alice.global_search("t").repositories)
    assert names == ["public/tool", "team/app", "team/base"]
    assert len(alice.newest_images()) == 3


def test_repository_info(alice: ZotClient) -> None:
    found = alice.repository_info("team/app")
    assert found.summary.name == "team/app"
    assert found.summary.starred is False
    assert sorted(each.tag for each in found.images) == ["2.0", "2.1"]
    with pytest.raises(SearchUnknown):
        alice.repository_info("no/such")


def test_newest_images(alice: ZotClient) -> None:
    found = [(each.repository, each.tag) for each in alice.newest_images()]
    assert sorted(found) == [("public/tool", "v1"), ("team/app", "2.1"), ("team/base", "1.0")]


def test_images_for_digest(alice: ZotClient) -> None:
    base = alice.image("team/base", "1.0")
    by_layer = alice.images_for_digest(base.layers[0].digest)
    assert sorted(each.tag for each in by_layer) == ["1.0", "2.0", "2.1"]
    assert [each.tag for each in alice.images_for_digest(base.digest)] == ["1.0"]
    assert alice.images_for_digest("sha256:" + "0" * 64) == []


def test_bases_and_derived(alice: ZotClient) -> None:
    derived = alice.derived_images("team/base:1.0")
    assert sorted(each.tag for each in derived) == ["2.0", "2.1"]
    bases = alice.base_images("team/app:2.1")
    assert sorted(f"{each.repository}:{each.tag}" for each in bases) == [
        "team/app:2.0",
        "team/base:1.0",
    ]


def test_what_others_may_not_read(start_zot: StartZot, push_image: PushImage) -> None:
    """For an image that the user may not read, zot sends empty fields or leaves the image out."""
    server = start_zot("users")
    push_image(server.client("alice"), "team/app", "1", "layer")
    push_image(server.client("alice"), "public/tool", "1", "tool")
    bob = server.client("bob")
    with pytest.raises(SearchForbidden):
        bob.image_summary("team/app", "1")
    with pytest.raises(SearchForbidden):
        bob.repository_info("team/app")
    with pytest.raises(SearchForbidden):
        bob.images("team/app")
    assert [each.name for each in bob.global_search("t").repositories] == ["public/tool"]
    assert [each.repository for each in bob.newest_images()] == ["public/tool"]


def test_search_is_off(start_zot: StartZot) -> None:
    client = start_zot("minimal").client()
    assert client.extensions() == []
    assert client.supports("search") is False
    operations: list[Callable[[], object]] = [
        lambda: client.search("{__typename}"),
        lambda: client.global_search("x"),
        lambda: client.mgmt(),
        lambda: client.starred(),
        lambda: client.cves("a", "b"),
    ]
    for operation in operations:
        with pytest.raises(ExtensionNotEnabled) as caught:
            operation()
        assert '"search": {"enable": true}' in str(caught.value)
        assert caught.value.setting is not None
    with pytest.raises(ExtensionNotEnabled, match="apikey"):
        client.api_keys()


def test_preferences_are_off(start_zot: StartZot, push_image: PushImage) -> None:
    client = start_zot("search").client()
    push_image(client, "a", "1", "layer")
    assert client.supports("search")
    assert not client.supports("userprefs")
    with pytest.raises(ExtensionNotEnabled, match="ui") as caught:
        client.star("a")
    assert caught.value.extension == "userprefs"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_refused(text: str) -> None:
    """No server listens at the URL: the client itself refuses the names."""
    with Dockhand(
        {"connections": {"z": {"driver": "zot", "base_uri": "http://127.0.0.1:9"}}}
    ) as dockhand:
        client = dockhand.connection("z", ZotClient)
        for operation in (
            lambda: client.images(text),
            lambda: client.repository_info(text),
            lambda: client.star(text),
            lambda: client.cves(text, "v1"),
            lambda: client.images_with_cve_fixed("CVE-1", text),
            lambda: client.image_summary(text, "v1"),
        ):
            with pytest.raises(NameInvalid):
                operation()
        with pytest.raises(TagInvalid):
            client.image_summary("a", text)
        with pytest.raises(TagInvalid):
            client.cves("a", text)
        with pytest.raises(DigestInvalid):
            client.images_for_digest(text)
        for named in (f"{text}:v1", f"a:{text}", text, f"a@{text}", "a", ":", "a:", ""):
            with pytest.raises(ImageInvalid):
                client.base_images(named)
            with pytest.raises(ImageInvalid):
                client.cve_diff("a:1", named)


def test_hostile_text_is_only_text(alice: ZotClient) -> None:
    """Free text is sent as a variable, so it cannot change the query."""
    for text in HOSTILE:
        found = alice.global_search(text)
        assert (found.images, found.layers) == ((), ())


def test_client_class_of_the_connection() -> None:
    connections = {
        "z": {"driver": "zot", "base_uri": "http://127.0.0.1:9"},
        "d": {"driver": "distribution", "base_uri": "http://127.0.0.1:9"},
    }
    with Dockhand({"connections": connections}) as dockhand:
        assert isinstance(dockhand.connection("z", ZotClient), ZotClient)
        with pytest.raises(DriverMismatch):
            dockhand.connection("d", ZotClient)


def test_both_clients_have_everything() -> None:
    import inspect

    for name, method in vars(ZotClient).items():
        if name.startswith("_") or not inspect.isfunction(method):
            continue
        twin = vars(AsyncZotClient)[name]
        assert inspect.iscoroutinefunction(twin)
        assert inspect.signature(twin) == inspect.signature(method)
        assert twin.__doc__ == method.__doc__
        assert method.__doc__


def test_tag_details(start_zot: StartZot, push_image: PushImage) -> None:
    """The driver knows when tags were pushed, for the ages of retention."""
    client = start_zot("users").client("alice")
    for tag in ("v1", "v2"):
        push_image(client, "team/pushed", tag, tag)
    found = client.run(client.driver.tag_details("team/pushed"))
    assert set(found) == {"v1", "v2"}
    assert found["v1"].digest == client.manifest_head("team/pushed", "v1").digest
    assert found["v1"].pushed_at < found["v2"].pushed_at
    assert client.run(client.driver.deletes_tags("team/pushed")) is True
