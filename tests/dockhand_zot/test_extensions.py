"""zot's other extensions: discovery, stars, bookmarks and API keys."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dockhand_zot import ApiKeyInvalid, ExtensionNotEnabled, SearchForbidden, ZotClient
from registries import HTPASSWD, PASSWORD, zot

from dockhand_core import Denied, NotFound, ServerError, Unauthorized, connect

StartZot = Callable[[str], Any]
PushImage = Callable[..., Any]


def test_extensions(start_zot: StartZot) -> None:
    client: ZotClient = start_zot("users").client("alice")
    [found] = client.extensions()
    assert found.name == "_zot"
    assert "/v2/_zot/ext/search" in found.endpoints
    for name in ("search", "mgmt", "userprefs", "cosign", "notation"):
        assert client.supports(name)
    assert not client.supports("nonsense")


def test_mgmt(start_zot: StartZot) -> None:
    server = start_zot("users")
    for client in (server.client(), server.client("alice")):
        found = client.mgmt()
        assert found.version
        assert found.spec_version == "1.1.1"
        assert {"htpasswd", "apikey"} <= found.auth.keys()


def test_distribution_behind_the_driver() -> None:
    """The driver reports that the registry is not zot."""
    import http.server
    import threading

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/v2/" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with connect(url, driver="zot", logging={"driver": "null"}) as registry:
            assert isinstance(registry, ZotClient)
            operations: list[Callable[[], object]] = [
                registry.extensions,
                registry.newest_images,
                registry.mgmt,
            ]
            for operation in operations:
                with pytest.raises(ExtensionNotEnabled, match="registry is not zot") as caught:
                    operation()
                assert caught.value.setting is None
        server.shutdown()


def test_stars_and_bookmarks(start_zot: StartZot, push_image: PushImage) -> None:
    """A repeated call changes nothing, and each user has separate stars and bookmarks."""
    server = start_zot("users")
    alice = server.client("alice")
    push_image(alice, "public/tool", "1", "tool")
    push_image(alice, "public/other", "1", "other")
    assert [alice.star("public/tool"), alice.star("public/tool")] == [True, False]
    assert [alice.bookmark("public/tool"), alice.bookmark("public/tool")] == [True, False]
    assert alice.bookmark("public/other")
    assert [each.name for each in alice.starred()] == ["public/tool"]
    assert [each.name for each in alice.bookmarked()] == ["public/other", "public/tool"]
    bob = server.client("bob")
    assert bob.starred() == []
    assert bob.star("public/tool")
    summary = alice.repository_info("public/tool").summary
    assert (summary.starred, summary.bookmarked, summary.star_count) == (True, True, 2)
    assert [alice.unstar("public/tool"), alice.unstar("public/tool")] == [True, False]
    assert [alice.unbookmark("public/tool"), alice.unbookmark("public/tool")] == [True, False]
    assert alice.starred() == []
    assert [each.name for each in bob.starred()] == ["public/tool"]


def test_stars_of_what_may_not_be_read(start_zot: StartZot, push_image: PushImage) -> None:
    server = start_zot("users")
    push_image(server.client("alice"), "team/app", "1", "layer")
    push_image(server.client("alice"), "public/tool", "1", "tool")
    with pytest.raises(SearchForbidden):
        server.client("bob").star("team/app")
    with pytest.raises(Denied):
        server.client().star("public/tool")  # not logged in


def test_api_keys(start_zot: StartZot, push_image: PushImage) -> None:
    """An API key is created, used and revoked, and then refused."""
    server = start_zot("users")
    alice = server.client("alice")
    push_image(alice, "team/app", "1", "layer")
    assert alice.api_keys() == []
    made = alice.create_api_key("ci")
    assert made.label == "ci"
    assert made.expires_at is None
    assert made.created_at is not None
    secret = made.api_key.get_secret_value()
    assert secret.startswith("zak_")
    assert secret not in repr(made)
    assert [key.id for key in alice.api_keys()] == [made.id]
    auth = {"driver": "apikey", "username": "alice", "api_key": secret}
    with_key = server.client(auth=auth)
    assert list(with_key.tags("team/app")) == ["1"]
    alice.revoke_api_key(made.id)
    assert alice.api_keys() == []
    with pytest.raises(Unauthorized):
        list(server.client(auth=auth).tags("team/app"))
    with pytest.raises(NotFound, match="no API key"):
        alice.revoke_api_key(made.id)


def test_api_keys_that_end(start_zot: StartZot) -> None:
    server = start_zot("users")
    alice = server.client("alice")
    later = datetime(2099, 1, 1, 12, tzinfo=UTC)
    made = alice.create_api_key("a", scopes=["public/app"], expires_at=later)
    assert (made.expires_at, made.scopes, made.expired) == (later, ("public/app",), False)
    for wrong in (later.replace(tzinfo=None), datetime.now(UTC) - timedelta(seconds=1)):
        with pytest.raises(ApiKeyInvalid):
            alice.create_api_key("b", expires_at=wrong)
    assert [key.label for key in alice.api_keys()] == ["a"]
    # With anonymous policies, zot answers an anonymous request for API keys with a server error.
    with pytest.raises((Unauthorized, ServerError)):
        server.client(retries=0).api_keys()


@pytest.mark.live
def test_two_programs_that_star_at_once(tmp_path: Path, push_image: PushImage) -> None:
    """zot's request toggles a star, but two clients that set a star do not undo each other."""
    from concurrent.futures import ThreadPoolExecutor

    (tmp_path / "htpasswd").write_text(HTPASSWD)
    on = {"enable": True}
    users = {"htpasswd": {"path": str(tmp_path / "htpasswd")}}
    auth = {"driver": "basic", "username": "alice", "password": PASSWORD}
    with zot(tmp_path, auth=users, search=on, ui=on) as url, ThreadPoolExecutor(2) as threads:
        clients = [
            connect(url, driver="zot", auth=auth, logging={"driver": "null"}) for _ in range(2)
        ]
        with clients[0] as one, clients[1] as other:
            assert isinstance(one, ZotClient)
            assert isinstance(other, ZotClient)
            push_image(one, "a", "1", "layer")
            for _ in range(5):
                list(threads.map(lambda client: client.star("a"), (one, other)))
                assert one.repository_info("a").summary.starred
                list(threads.map(lambda client: client.unstar("a"), (one, other)))
                assert not one.repository_info("a").summary.starred
