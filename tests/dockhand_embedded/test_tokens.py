"""Bearer tokens of an authority: challenges, permissions, and rejected tokens."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from dockhand_auth_jwt import SigningKey, Token
from dockhand_embedded import EmbeddedTransport, MemoryStorage, Registry, create_app
from dockhand_embedded.access.bearer import Bearer
from dockhand_embedded.protocol.messages import Headers
from dockhand_testing.contracts.samples import push_image
from registries import embedded

from dockhand_core import ConfigError, Digest, Scope, Unauthorized, async_connect, connect

KEY = SigningKey.generate()
OTHER = SigningKey.generate()
REALM = "http://127.0.0.1:6120/token"
NAMES: dict[str, Any] = {"realm": REALM, "service": "dockhand-registry", "issuer": "my_auth"}
DIGEST = Digest.of(b"data")
QUIET = {"driver": "null"}


def token(*scopes: str) -> Token:
    return Token.issued_by("my_auth").permitted_for("dockhand-registry").with_scope(*scopes)


@pytest.fixture
def bearer() -> Bearer:
    return Bearer(**NAMES, certificate=KEY.self_signed_certificate("x"))


@pytest.fixture
def client(bearer: Bearer) -> httpx.Client:
    transport = EmbeddedTransport(Registry(MemoryStorage()), bearer)
    return httpx.Client(transport=transport, base_url="http://embedded")


# The challenges of Distribution 2.8 and 3.1 to requests without a token.
CHALLENGES = [
    ("GET", "/v2/", set()),
    ("GET", "/v2/_catalog?n=2", {"registry:catalog:*"}),
    ("GET", "/v2/a/b/tags/list", {"repository:a/b:pull"}),
    ("HEAD", "/v2/a/b/manifests/t", {"repository:a/b:pull"}),
    ("PUT", "/v2/a/b/manifests/t", {"repository:a/b:pull,push"}),
    ("DELETE", f"/v2/a/b/manifests/{DIGEST}", {"repository:a/b:delete"}),
    ("GET", f"/v2/a/b/blobs/{DIGEST}", {"repository:a/b:pull"}),
    ("DELETE", f"/v2/a/b/blobs/{DIGEST}", {"repository:a/b:delete"}),
    ("POST", "/v2/a/b/blobs/uploads/", {"repository:a/b:pull,push"}),
    (
        "POST",
        f"/v2/a/b/blobs/uploads/?mount={DIGEST}&from=src/repo",
        {"repository:a/b:pull,push", "repository:src/repo:pull"},
    ),
    ("POST", f"/v2/a/b/blobs/uploads/?mount={DIGEST}", {"repository:a/b:pull,push"}),
    ("PATCH", "/v2/a/b/blobs/uploads/uuid", {"repository:a/b:pull,push"}),
    ("PUT", f"/v2/a/b/blobs/uploads/uuid?digest={DIGEST}", {"repository:a/b:pull,push"}),
    ("GET", "/v2/a/b/blobs/uploads/uuid", {"repository:a/b:pull"}),
    ("DELETE", "/v2/a/b/blobs/uploads/uuid", {"repository:a/b:delete"}),
]
IDS = [f"{method} {path[:30]}" for method, path, _ in CHALLENGES]


@pytest.mark.parametrize(("method", "path", "scopes"), CHALLENGES, ids=IDS)
def test_challenges(client: httpx.Client, method: str, path: str, scopes: set[str]) -> None:
    for headers, error in (
        ({}, None),
        ({"Authorization": "Bearer "}, None),
        ({"Authorization": "Basic YTpi"}, None),
        ({"Authorization": "Bearer abc"}, "invalid_token"),
        ({"Authorization": f"Bearer {token('repository:c:*').sign(KEY)}"}, "insufficient_scope"),
    ):
        reply = client.request(method, path, headers=headers)
        if error == "insufficient_scope" and not scopes:
            assert reply.status_code == 200
            continue
        assert reply.status_code == 401
        assert reply.headers["content-type"] == "application/json"
        start = f'Bearer realm="{REALM}",service="dockhand-registry"'
        header = reply.headers["www-authenticate"]
        assert header.startswith(start)
        fields = dict(re.findall(r',([a-z]+)="([^"]*)"', header[len(start) :]))
        assert fields.get("error") == error
        assert set(fields.get("scope", "").split()) == scopes
        if method == "HEAD":
            assert not reply.content
            continue
        [problem] = reply.json()["errors"]
        assert problem["code"] == "UNAUTHORIZED"
        assert problem["message"].startswith("authentication required")
        listed = {(d["Type"], d["Name"], d["Action"]) for d in problem.get("detail", [])}
        actions = [Scope.parse(text) for text in scopes]
        assert listed == {(s.type, s.name, action) for s in actions for action in s.actions}


@pytest.mark.parametrize(("method", "path", "scopes"), CHALLENGES, ids=IDS)
def test_sufficient_tokens(client: httpx.Client, method: str, path: str, scopes: set[str]) -> None:
    """The scopes in the challenge are sufficient, and each of them is necessary."""
    text = token(*scopes).sign(KEY)
    for scheme in ("Bearer", "bearer"):
        reply = client.request(method, path, headers={"Authorization": f"{scheme} {text}"})
        assert reply.status_code not in {401, 403}
    for left_out in scopes:
        fewer = token(*(scopes - {left_out})).sign(KEY)
        reply = client.request(method, path, headers={"Authorization": f"Bearer {fewer}"})
        assert (reply.status_code, "insufficient_scope" in str(reply.headers)) == (401, True)


@pytest.mark.parametrize(
    ("held", "method", "path", "status"),
    [
        ("registry:catalog:pull", "GET", "/v2/_catalog", 401),
        ("registry:catalog:*", "GET", "/v2/_catalog", 200),
        ("repository:a/b:push", "POST", "/v2/a/b/blobs/uploads/", 401),
        ("repository:a/b:pull", "POST", "/v2/a/b/blobs/uploads/", 401),
        ("repository:a/b:*", "POST", "/v2/a/b/blobs/uploads/", 202),
        ("repository:a/b:pull,push", "DELETE", f"/v2/a/b/manifests/{DIGEST}", 401),
        ("repository:a:pull", "GET", "/v2/a/b/tags/list", 401),
        ("repository:a/b:pull repository:a/b:push", "POST", "/v2/a/b/blobs/uploads/", 202),
    ],
)
def test_permissions_of_scopes(
    client: httpx.Client, held: str, method: str, path: str, status: int
) -> None:
    text = token(*held.split()).sign(KEY)
    reply = client.request(method, path, headers={"Authorization": f"Bearer {text}"})
    assert reply.status_code == status


INVALID_TOKENS: dict[str, Callable[[], str]] = {
    "issuer": lambda: Token.issued_by("x").permitted_for("dockhand-registry").sign(KEY),
    "audience": lambda: Token.issued_by("my_auth").permitted_for("x").sign(KEY),
    "key": lambda: token().sign(OTHER),
    "expired": lambda: token().expires_in(seconds=-61).sign(KEY),
    "alg none": lambda: "eyJhbGciOiJub25lIn0." + token().sign(KEY).split(".")[1] + ".",
}


@pytest.mark.parametrize("make", INVALID_TOKENS.values(), ids=INVALID_TOKENS)
def test_invalid_tokens(client: httpx.Client, make: Callable[[], str]) -> None:
    reply = client.get("/v2/", headers={"Authorization": f"Bearer {make()}"})
    assert reply.status_code == 401
    assert 'error="invalid_token"' in reply.headers["www-authenticate"]


def test_leeway_and_cache_expiry() -> None:
    """A token in the cache is also refused once it has expired."""
    now = time.time()
    clock = [now]
    bearer = Bearer(**NAMES, jwks=json.dumps(KEY.jwks()).encode(), clock=lambda: clock[0])
    transport = EmbeddedTransport(Registry(MemoryStorage()), bearer)
    with httpx.Client(transport=transport, base_url="http://embedded") as client:
        headers = {"Authorization": f"Bearer {token().expires_in(seconds=100).sign(KEY)}"}
        for later, status in ((0, 200), (99, 200), (150, 200), (162, 401), (99, 200)):
            clock[0] = now + later
            assert client.get("/v2/", headers=headers).status_code == status


def test_token_cache_is_bounded(bearer: Bearer) -> None:
    for _ in range(1100):
        bearer(Headers([("authorization", f"Bearer {token().sign(KEY)}")]), ())
    assert len(bearer._verified) == 1024


def token_settings(tmp_path: Path, keys: str) -> dict[str, Any]:
    """Write a file of keys, and return the driver's settings for tokens."""
    token_options: dict[str, Any] = {f"token_{name}": value for name, value in NAMES.items()}
    if keys == "token_jwks":
        token_options[keys] = tmp_path / "jwks.json"
        token_options[keys].write_text(json.dumps(KEY.jwks()))
    else:
        token_options[keys] = tmp_path / "certificate.pem"
        token_options[keys].write_bytes(KEY.self_signed_certificate("x"))
    return token_options


def jwt_auth(key: SigningKey) -> dict[str, Any]:
    names = {"authority_name": "my_auth", "registry_name": "dockhand-registry"}
    return {"driver": "jwt", "private_key": key.private_pem().decode(), **names, "subject": "al"}


@pytest.mark.parametrize("keys", ["token_certificate", "token_jwks"])
def test_driver_with_tokens(tmp_path: Path, keys: str) -> None:
    options = {"driver": "embedded", "logging": QUIET, **token_settings(tmp_path, keys)}
    root = str(tmp_path / "root")
    with connect(root, auth=jwt_auth(KEY), **options) as registry:
        manifest = push_image(registry, "a/b", "v1")
        assert list(registry.repositories()) == ["a/b"]
        registry.mount_blob("c", manifest.config.digest, "a/b")
        assert registry.blob_exists("c", manifest.config.digest)
        registry.delete_tag("a/b", "v1")

    async def read() -> bytes:
        async with async_connect(root, auth=jwt_auth(KEY), **options) as found:
            return (await found.manifest("a/b", manifest.digest)).raw

    assert asyncio.run(read()) == manifest.raw
    for auth in (jwt_auth(OTHER), {"driver": "null"}):
        with connect(root, auth=auth, **options) as registry:
            assert registry.is_online()
            with pytest.raises(Unauthorized, match="authentication required"):
                registry.manifest("a/b", manifest.digest)


def test_wrong_settings(tmp_path: Path) -> None:
    good = token_settings(tmp_path, "token_certificate")
    (tmp_path / "text").write_text("text")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"token_realm": None}, "token_realm is needed"),
        ({"token_issuer": ""}, "token_issuer is needed"),
        ({"token_service": 'a"b'}, "token_service: must be printable ASCII"),
        ({"token_certificate": None}, "token_certificate or token_jwks is needed"),
        ({"token_certificate": tmp_path / "none"}, "none: No such file"),
        ({"token_certificate": tmp_path / "text"}, "text is neither a certificate nor a public"),
        ({"token_jwks": tmp_path / "text"}, "text is not JSON"),
        ({"token_jwks": tmp_path / "certificate.pem"}, "certificate.pem is not JSON"),
    ]
    for change, message in wrong:
        with pytest.raises(ConfigError) as caught:
            connect(":memory:", driver="embedded", **{**good, **change})
        assert message in str(caught.value), message


def test_server_with_tokens(tmp_path: Path) -> None:
    token_options = token_settings(tmp_path, "token_certificate")
    options = [f"--{name.replace('_', '-')}={value}" for name, value in token_options.items()]
    with embedded(tmp_path, *options) as url:
        with connect(url, auth=jwt_auth(KEY), logging=QUIET) as registry:
            manifest = push_image(registry, "a/b", "v1")
            assert registry.manifest("a/b", "v1").raw == manifest.raw
        with connect(url, logging=QUIET) as registry, pytest.raises(Unauthorized) as caught:
            registry.manifest("a/b", "v1")
        assert "Bearer" in str(caught.value)


def test_wrong_options(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("")
    token_options = token_settings(tmp_path, "token_jwks")
    good = [f"--{name.replace('_', '-')}={value}" for name, value in token_options.items()]
    for arguments, hint in (
        (good[:1], "token_service is needed"),
        (good[:3], "token_certificate or token_jwks is needed"),
        ([*good, "--htpasswd", str(users)], "--htpasswd and --token-realm exclude each other"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "dockhand_embedded", "--root", ":memory:", *arguments],
            capture_output=True, text=True, check=False, timeout=30, cwd=tmp_path,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        assert hint in done.stderr
        assert "Traceback" not in done.stderr


def test_transport_rejects_async_authenticate() -> None:
    async def async_authenticate(headers: Any, scopes: Any) -> Any:
        return None

    transport = EmbeddedTransport(Registry(MemoryStorage()), async_authenticate)
    with pytest.raises(RuntimeError, match="not a coroutine"):
        transport.handle_request(httpx.Request("GET", "http://embedded/v2/"))


def test_asgi_application(tmp_path: Path, bearer: Bearer) -> None:
    app = create_app(tmp_path / "root", authenticate=bearer)

    async def main() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://r") as client:
            assert (await client.get("/v2/")).status_code == 401
            headers = {"Authorization": f"Bearer {token().sign(KEY)}"}
            assert (await client.get("/v2/", headers=headers)).status_code == 200

    asyncio.run(main())
