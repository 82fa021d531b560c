"""The options of `call`, as a driver with operations of its own uses them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from dockhand_testing.http_server import CUT, ScriptedServer, reply

from dockhand_core import (
    BlobUnknown,
    BlobUploadUnknown,
    ConnectionFailed,
    DockhandError,
    ManifestUnknown,
    NameUnknown,
    NotFound,
    PluginError,
    RegistryClient,
    RegistryError,
    ServerError,
    TooManyRequests,
)
from dockhand_core.flow import BytesSource, call

MakeClient = Callable[..., RegistryClient]
BASIC = {"driver": "basic", "username": "alice", "password": "s3cret-s3cret"}
DEFAULT: dict[str, Any] = {}
NOT_REPEATABLE: dict[str, Any] = {"repeatable": False}
ONCE: dict[str, Any] = {"once": True}


class LabelExists(RegistryError):
    """A label of this name exists."""


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    ("fault", "error", "repeated"),
    [
        (reply(503), ServerError, {"default"}),
        (reply(502), ServerError, {"default"}),
        ([reply(200, length=9) + b"cut", CUT], ConnectionFailed, {"default"}),
        (reply(429, Retry_After="0"), TooManyRequests, {"default", "not repeatable"}),
        (reply(500), ServerError, set()),
    ],
    ids=["503", "502", "cut", "429", "500"],
)
@pytest.mark.parametrize(
    ("name", "options"),
    [("default", DEFAULT), ("not repeatable", NOT_REPEATABLE), ("once", ONCE)],
)
def test_what_is_repeated(
    make_client: MakeClient,
    server: ScriptedServer,
    method: str,
    fault: Any,
    error: type[DockhandError],
    repeated: set[str],
    name: str,
    options: dict[str, Any],
) -> None:
    """The table in the docstring of `Call`."""
    server.handler = lambda request: fault if len(server.requests) == 1 else reply(200, b"{}")
    registry = make_client(server.url)
    if name in repeated:
        found = registry.run(call(method, "api/labels", **options))
        assert found.attempts == len(server.requests) == 2
    else:
        with pytest.raises(error):
            registry.run(call(method, "api/labels", **options))
        assert len(server.requests) == 1


def test_a_document_is_sent_as_json(make_client: MakeClient, server: ScriptedServer) -> None:
    server.handler = lambda request: reply(200, b"{}")
    registry = make_client(server.url)
    registry.run(call("POST", "api/labels", json={"name": "größe"}))
    registry.run(
        call("POST", "api/labels", json=["a"], headers={"content-type": "application/x+json"})
    )
    registry.run(call("POST", "api/labels", json=None, headers={"X-Own": "1"}))
    first, second, third = server.requests
    assert json.loads(first.body) == {"name": "größe"}
    assert first.headers["content-type"] == "application/json"
    assert (second.body, second.headers["content-type"]) == (b'["a"]', "application/x+json")
    assert (third.body, third.headers["x-own"]) == (b"null", "1")


@pytest.mark.parametrize("document", [{"a": object()}, float("nan"), {"token": b"s3cret"}])
def test_a_document_that_is_no_json(make_client: MakeClient, document: object) -> None:
    registry = make_client("http://127.0.0.1:9")
    with pytest.raises(PluginError, match="json that is no JSON document: ") as caught:
        registry.run(call("POST", "api/labels", json=document))
    assert "s3cret" not in str(caught.value)
    with pytest.raises(PluginError, match="both body and json"):
        registry.run(call("POST", "api/labels", json={}, body=BytesSource(b"")))


@pytest.mark.parametrize(
    ("path", "arrives"),
    [
        ("api/labels", "/team/v2/api/labels"),
        ("/api/labels", "/api/labels"),
        ("/api/labels?a=1", "/api/labels?a=1&b=2"),
    ],
)
def test_the_path_of_the_connections_url(
    make_client: MakeClient, server: ScriptedServer, path: str, arrives: str
) -> None:
    """A path below /v2/ keeps the path of `base_uri`; an absolute one is the whole path."""
    server.handler = lambda request: reply(200, b"{}")
    registry = make_client(f"{server.url}/team/v2/", auth=BASIC)
    query = [("b", "2")] if "?" in path else []
    registry.run(call("GET", path, query=query))
    [request] = server.requests
    assert request.target == arrives
    assert request.headers["authorization"].startswith("Basic ")


def test_an_anonymous_request(make_client: MakeClient, server: ScriptedServer) -> None:
    """It has the connection's own headers and the call's, but nothing of the auth driver."""
    server.handler = lambda request: reply(200, b"{}")
    registry = make_client(server.url, auth=BASIC, headers={"X-Team": "ci"})
    registry.run(call("GET", "/api/health", anonymous=True, headers={"X-Own": "1"}))
    [request] = server.requests
    assert "authorization" not in request.headers
    assert (request.headers["x-team"], request.headers["x-own"]) == ("ci", "1")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_expected_redirect_is_not_followed(
    make_client: MakeClient, server: ScriptedServer, method: str
) -> None:
    server.handler = lambda request: reply(307, Location="/elsewhere")
    found = make_client(server.url).run(call(method, "x", expect=frozenset({307})))
    assert (found.status, found.headers["location"]) == (307, "/elsewhere")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("base", NotFound),
        ("blob", BlobUnknown),
        ("catalog", NotFound),
        ("manifest", ManifestUnknown),
        ("referrers", NotFound),
        ("tags", NameUnknown),
        ("upload", BlobUploadUnknown),
    ],
)
def test_the_kind_decides_what_is_not_found(
    make_client: MakeClient, server: ScriptedServer, kind: Any, error: type[RegistryError]
) -> None:
    """The list in the docstring of `Subject`."""
    server.handler = lambda request: reply(404)
    with pytest.raises(error) as caught:
        make_client(server.url).run(call("GET", "x", kind=kind))
    assert type(caught.value) is error


@pytest.mark.parametrize("body", [b"", b'{"errors": [{"code": "NAME_UNKNOWN"}]}', b"{}"])
def test_a_status_becomes_an_error_of_the_plugin(
    make_client: MakeClient, server: ScriptedServer, body: bytes
) -> None:
    server.handler = lambda request: reply(409, body)
    registry = make_client(server.url)
    with pytest.raises(LabelExists, match="409") as caught:
        registry.run(call("POST", "x", repository="a/b", refusals={409: LabelExists}))
    error = caught.value
    assert (error.status, error.repository, error.attempts) == (409, "a/b", 1)
    server.handler = lambda request: reply(404)
    with pytest.raises(NotFound):
        registry.run(call("POST", "x", refusals={409: LabelExists}))


@pytest.mark.parametrize("wrong", [ValueError, "LabelExists", LabelExists("x")])
def test_refusals_are_errors_of_registries(make_client: MakeClient, wrong: Any) -> None:
    with pytest.raises(PluginError, match="wrong class in refusals"):
        make_client("http://127.0.0.1:9").run(call("POST", "x", refusals={409: wrong}))
