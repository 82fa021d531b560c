"""Token requests as clients send them, and the replies that they parse."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from authority import SERVICE, USERS
from starlette.applications import Starlette
from starlette.routing import Mount

FORM = "application/x-www-form-urlencoded"


def test_the_fields_of_a_reply(endpoint: Any) -> None:
    before = int(time.time())
    reply = endpoint.get("repository:alice/app:pull,push", user="alice")
    body = reply.json()
    assert body["token"] == body["access_token"]
    assert type(body["expires_in"]) is int
    assert body["expires_in"] == 300
    issued = datetime.strptime(body["issued_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert before <= issued.timestamp() <= time.time()
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-store"
    assert "refresh_token" not in body
    claims = endpoint.claims(reply)
    assert claims.subject == "alice"
    assert claims["exp"] - claims["iat"] == 300
    assert claims["nbf"] < claims["iat"]
    assert endpoint.granted_scopes(reply) == {"repository:alice/app:pull,push"}
    assert body["scope"] == "repository:alice/app:pull,push"


@pytest.mark.parametrize(
    "query",
    [
        "scope=repository:alice/app:pull,push&scope=registry:catalog:*",
        "scope=repository:alice/app:pull,push+registry:catalog:*",
        "scope=repository:alice/app:pull,push%20%20registry%3Acatalog%3A%2A&scope=",
        "scope=repository:alice/app:push&scope=repository:alice/app:pull+registry:catalog:*",
    ],
)
def test_several_scopes(endpoint: Any, query: str) -> None:
    path = f"/token?account=alice&service={SERVICE}&{query}"
    reply = endpoint.run(endpoint.request(path=path, user="alice"))
    assert endpoint.granted_scopes(reply) == {
        "repository:alice/app:pull,push",
        "registry:catalog:*",
    }


def test_scopes_are_narrowed_to_the_rules(endpoint: Any) -> None:
    asked = ["repository:alice/shared:pull,push", "repository:bob/x:pull,delete"]
    reply = endpoint.get(*asked, user="bob")
    assert endpoint.granted_scopes(reply) == {
        "repository:alice/shared:pull",
        "repository:bob/x:pull",
    }
    reply = endpoint.get("repository:alice/app:pull", user="bob")
    assert endpoint.claims(reply)["access"] == []
    # skopeo requests `*` in order to delete
    reply = endpoint.get("repository:alice/app:*", user="alice")
    assert endpoint.granted_scopes(reply) == {"repository:alice/app:pull,push,delete"}


def test_an_anonymous_client(endpoint: Any) -> None:
    reply = endpoint.get("repository:public/app:pull,push", "repository:alice/app:pull")
    assert endpoint.granted_scopes(reply) == {"repository:public/app:pull"}
    assert "sub" not in endpoint.claims(reply)
    # a client with the parameter `account` is still anonymous
    reply = endpoint.run(
        endpoint.request(params={"account": "alice", "scope": "repository:alice/app:pull"})
    )
    assert endpoint.granted_scopes(reply) == set()
    assert (
        "refresh_token"
        not in endpoint.run(endpoint.request(params={"offline_token": "true"})).json()
    )


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("alice", "wrong"),
        ("alice", ""),
        ("alice", "x" * 5000),
        ("alice", USERS["alice"] + "\0"),
        ("mallory", USERS["alice"]),
        ("", ""),
        ("a" * 300, "x"),
        ("al\nice", "x"),
    ],
)
def test_wrong_passwords(endpoint: Any, user: str, password: str) -> None:
    reply = endpoint.get("repository:public/app:pull", user=user, password=password)
    endpoint.assert_refused(reply, 401)
    assert reply.json()["errors"][0]["code"] == "UNAUTHORIZED"
    assert reply.headers["www-authenticate"].startswith('Basic realm="')
    fields = {"grant_type": "password", "username": user, "password": password}
    assert endpoint.post(**fields).status_code in {400, 401}


@pytest.mark.parametrize(
    "header",
    [
        "Bearer abc",
        "Basic",
        "Basic !!!",
        "Basic " + b64encode(b"alice").decode(),
        "Basic " + b64encode(b"\xff:\xff").decode(),
        "Basic " + b64encode(b"alice:\xff").decode(),
        "Basic " + b64encode(b"a" * 9000).decode(),
    ],
)
def test_invalid_authorization_headers(endpoint: Any, header: str) -> None:
    endpoint.assert_refused(endpoint.get(headers={"Authorization": header}), 401)


def test_two_authorization_headers(endpoint: Any) -> None:
    header = ("Authorization", "Basic " + b64encode(f"alice:{USERS['alice']}".encode()).decode())
    endpoint.assert_refused(endpoint.get(headers=[header, header]), 401)


def test_services(endpoint: Any) -> None:
    request = endpoint.request
    # a request need not name the only service
    assert endpoint.claims(endpoint.run(request(user="alice")))["aud"] == SERVICE
    message = endpoint.assert_refused(endpoint.run(request(params={"service": "other"})), 403)
    assert "'other'" in message
    endpoint.serve(services=["one", "two"])
    assert endpoint.claims(endpoint.run(request(params={"service": "two"})), "two")["aud"] == "two"
    endpoint.assert_refused(endpoint.run(request()), 400)
    endpoint.assert_refused(
        endpoint.run(request(params=[("service", "one"), ("service", "two")])), 400
    )


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("scope=nonsense", 400),
        ("scope=repository:a%00b:pull", 400),
        ("scope=repository:../x:pull%0a", 400),
        ("scope=repository:" + "a" * 300 + ":pull", 400),
        ("&".join(["scope=repository:a:pull"] * 101), 400),
        ("scope=" + "+".join(["repository:a:pull"] * 101), 400),
        ("a=b&" * 300, 400),
        ("service=%ff", 400),
        ("service=a%00b", 400),
        ("service=" + "s" * 300, 400),
        ("x=" + "y" * 20_000, 414),
        ("service=s&service=s", 400),
    ],
)
def test_invalid_queries(endpoint: Any, query: str, status: int) -> None:
    reply = endpoint.run(endpoint.request(path=f"/token?{query}", user="alice"))
    assert len(endpoint.assert_refused(reply, status)) < 500


def test_the_maximum_number_of_scopes(endpoint: Any) -> None:
    scopes = [f"repository:alice/a{number}:pull" for number in range(100)]
    assert endpoint.granted_scopes(endpoint.get(*scopes, user="alice")) == set(scopes)


def test_a_form_with_a_password(endpoint: Any) -> None:
    reply = endpoint.post(
        grant_type="password", username="bob", password=USERS["bob"], client_id="containerd",
        scope="repository:bob/x:pull,push repository:alice/shared:pull,push",
    )  # fmt: skip
    expected = {"repository:bob/x:pull,push", "repository:alice/shared:pull"}
    assert endpoint.granted_scopes(reply) == expected
    assert "refresh_token" not in reply.json()


def test_a_form_in_chunks(endpoint: Any) -> None:
    """skopeo sends the form in chunks, without a Content-Length."""
    text = urlencode(
        {"grant_type": "password", "username": "bob", "password": USERS["bob"], "service": SERVICE}
    ).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(text), 7):
            yield text[start : start + 7]

    reply = endpoint.run(
        endpoint.request(
            "POST", content=pieces(), headers={"Content-Type": f"{FORM}; charset=UTF-8"}
        )
    )
    assert endpoint.claims(reply).subject == "bob"


@pytest.mark.parametrize(
    ("body", "media_type", "status", "error"),
    [
        (b"", FORM, 400, "invalid_request"),
        (b"grant_type=client_credentials", FORM, 400, "unsupported_grant_type"),
        (b"grant_type=password", FORM, 401, "invalid_grant"),
        (b"grant_type=password&grant_type=password", FORM, 400, "invalid_request"),
        (b"grant_type=refresh_token", FORM, 401, "invalid_grant"),
        (b"grant_type=password&scope=x&username=alice&password=x", FORM, 400, "invalid_scope"),
        (b"grant_type=pass\xffword", FORM, 400, "invalid_request"),
        (b"grant_type=password&username=%ff", FORM, 400, "invalid_request"),
        (b"x" * 70_000, FORM, 413, "invalid_request"),
        (b"a=b&" * 300, FORM, 400, "invalid_request"),
        (b"{}", "application/json", 415, "invalid_request"),
        (b"", "", 415, "invalid_request"),
    ],
)
def test_invalid_forms(
    endpoint: Any, body: bytes, media_type: str, status: int, error: str
) -> None:
    reply = endpoint.run(
        endpoint.request("POST", content=body, headers={"Content-Type": media_type})
    )
    endpoint.assert_refused(reply, status)
    assert reply.json()["error"] == error


def test_an_endless_body_is_refused_after_a_time(
    endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dockhand_token_server.token_requests._BODY_SECONDS", 0.05)
    endpoint.serve()
    scope = {
        "type": "http", "method": "POST", "path": "/token", "query_string": b"", "root_path": "",
        "headers": [(b"content-type", FORM.encode())], "client": ("192.0.2.1", 1),
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> Any:
        if waiting:
            await asyncio.Event().wait()
        waiting.append(True)
        return {"type": "http.request", "body": b"grant_type=", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    waiting: list[bool] = []
    endpoint.run(endpoint.app(scope, receive, send))
    assert sent[0]["status"] == 408


def test_unknown_paths_and_methods(endpoint: Any) -> None:
    endpoint.assert_refused(endpoint.run(endpoint.request(path="/other")), 404)
    reply = endpoint.run(endpoint.request("DELETE"))
    endpoint.assert_refused(reply, 405)
    assert {"GET", "POST"} <= {each.strip() for each in reply.headers["allow"].split(",")}


def test_mounted_in_an_application(endpoint: Any) -> None:
    endpoint.serve()
    endpoint.app = Starlette(routes=[Mount("/auth", endpoint.app)])
    reply = endpoint.run(endpoint.request(path="/auth/token", user="alice"))
    assert endpoint.claims(reply).subject == "alice"
    endpoint.assert_refused(endpoint.run(endpoint.request("PUT", path="/auth/token")), 405)
    assert endpoint.run(endpoint.request(path="/auth/.well-known/jwks.json")).json()["keys"]


def test_endpoints_share_a_key(endpoint: Any, another_endpoint: Any) -> None:
    """A registry that knows the key accepts the tokens of all endpoints that sign with it."""
    reply = another_endpoint().get("repository:alice/app:pull", user="alice")
    assert endpoint.granted_scopes(reply) == {"repository:alice/app:pull"}


def test_each_token_has_an_id_of_its_own(endpoint: Any) -> None:
    replies = [endpoint.get(user="alice") for _ in range(2)]
    assert len({endpoint.claims(reply)["jti"] for reply in replies}) == 2
    header = jwt.get_unverified_header(replies[0].json()["token"])
    assert header["alg"] == "ES256"
    assert len(header["x5c"]) == 1


def test_a_key_id_in_the_settings(endpoint: Any) -> None:
    endpoint.serve(key_id="libtrust")
    header = jwt.get_unverified_header(endpoint.get(user="alice").json()["token"])
    assert header["kid"] == endpoint.key.libtrust
    assert "x5c" not in header
    reply = endpoint.run(endpoint.request(path="/.well-known/jwks.json"))
    assert [key["kid"] for key in reply.json()["keys"]] == [endpoint.key.libtrust]


def test_no_secret_is_logged(endpoint: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    token = endpoint.get(user="alice", offline=True).json()
    wrong = "wr0ng-s3cret"
    endpoint.get(user="alice", password=wrong)
    endpoint.post(grant_type="refresh_token", refresh_token=wrong)
    assert "token for 'alice' from 192.0.2.1" in caplog.text
    assert "login refused: user 'alice' from 192.0.2.1" in caplog.text
    for secret in (USERS["alice"], wrong, token["token"], token["refresh_token"]):
        assert secret not in caplog.text
