"""Access control: htpasswd files, and custom `authenticate` functions."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import bcrypt
import httpx
import pytest
import trustme
from dockhand_embedded import create_app
from dockhand_embedded.access.htpasswd import Htpasswd
from dockhand_embedded.access.policy import (
    AccessRejection,
    Authenticate,
    AuthenticatedUser,
    AuthResult,
    required_scopes,
)
from dockhand_embedded.protocol.messages import Headers, RegistryRequest
from dockhand_testing.contracts.samples import push_image
from registries import HTPASSWD, PASSWORD, embedded

from dockhand_core import ConfigError, Digest, Scope, Unauthorized, connect

QUIET = {"driver": "null"}
ALICE = {"driver": "basic", "username": "alice", "password": PASSWORD}


def basic_headers(user: str, password: str) -> Headers:
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    return Headers([("Authorization", f"Basic {encoded}")])


def login(authenticate: Htpasswd, headers: Headers) -> AuthResult:
    async def call() -> AuthResult:
        return await authenticate(headers, ())

    return asyncio.run(call())


@pytest.fixture
def htpasswd_file(tmp_path: Path) -> Path:
    path = tmp_path / "htpasswd"
    path.write_text(f"# people\n\n{HTPASSWD}")
    return path


def test_only_listed_users_with_the_right_password(htpasswd_file: Path) -> None:
    authenticate = Htpasswd(htpasswd_file)
    assert login(authenticate, basic_headers("alice", PASSWORD)) == AuthenticatedUser("alice")
    assert login(authenticate, basic_headers("alice", PASSWORD)) == AuthenticatedUser(
        "alice"
    )  # this login uses the cache
    for headers in (
        basic_headers("alice", "wrong"),
        basic_headers("bob", PASSWORD),
        basic_headers("", ""),
        basic_headers("alice", "nul\0"),
        Headers(),
        Headers([("authorization", "Basic")]),
        Headers([("authorization", "Basic !!!")]),
        Headers([("authorization", f"Basic {base64.b64encode(b'no colon').decode()}")]),
        Headers([("authorization", f"Bearer {PASSWORD}")]),
    ):
        result = login(authenticate, headers)
        assert isinstance(result, AccessRejection)
        assert result.www_authenticate == 'Basic realm="dockhand"'


def test_unknown_users_cost_one_hash_too(
    htpasswd_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test counts hashes: for an unknown user, one hash of the same cost is computed."""
    costs: list[bytes] = []
    real = bcrypt.checkpw

    def counted(password: bytes, expected: bytes) -> bool:
        costs.append(expected[:7])
        return real(password, expected)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    authenticate = Htpasswd(htpasswd_file)
    login(authenticate, basic_headers("alice", "wrong"))
    login(authenticate, basic_headers("mallory", "wrong"))
    assert costs == [b"$2b$05$"] * 2


def test_correct_passwords_are_cached_for_a_while(
    htpasswd_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[bytes] = []
    real = bcrypt.checkpw

    def recorded(password: bytes, expected: bytes) -> bool:
        checked.append(password)
        return real(password, expected)

    monkeypatch.setattr(bcrypt, "checkpw", recorded)
    now = [1000.0]
    authenticate = Htpasswd(htpasswd_file, remember=60, clock=lambda: now[0])
    for _ in range(3):
        login(authenticate, basic_headers("alice", PASSWORD))
        login(authenticate, basic_headers("alice", "wrong"))
    assert len([p for p in checked if p == PASSWORD.encode()]) == 1
    assert len([p for p in checked if p == b"wrong"]) == 3
    now[0] += 61
    login(authenticate, basic_headers("alice", PASSWORD))
    assert len([p for p in checked if p == PASSWORD.encode()]) == 2


def test_changed_file_is_read_again(htpasswd_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    authenticate = Htpasswd(htpasswd_file)
    assert login(authenticate, basic_headers("alice", PASSWORD)) == AuthenticatedUser("alice")
    hashed = bcrypt.hashpw(b"other", bcrypt.gensalt(4)).decode()
    htpasswd_file.write_text(f"bob:{hashed}\n")
    assert isinstance(login(authenticate, basic_headers("alice", PASSWORD)), AccessRejection)
    assert login(authenticate, basic_headers("bob", "other")) == AuthenticatedUser("bob")
    htpasswd_file.write_text("half a li")
    assert login(authenticate, basic_headers("bob", "other")) == AuthenticatedUser("bob")
    assert "line 1 is not user:bcrypt-hash" in caplog.text
    assert "half a li" not in caplog.text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("alice\n", "line 1"),
        ("# x\nalice:$apr1$abc$def\n", "line 2"),
        ("alice:{SHA}s3cret\n", "line 1"),
        (HTPASSWD + HTPASSWD, "line 2 lists a user a second time"),
        (HTPASSWD.replace("$05$", "$03$"), "line 1"),
        ("\udcff", "utf-8"),
    ],
)
def test_malformed_files(tmp_path: Path, text: str, hint: str) -> None:
    path = tmp_path / "htpasswd"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match="htpasswd") as caught:
        Htpasswd(path)
    assert hint in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing"):
        Htpasswd(tmp_path / "missing")


def test_server_with_a_password(tmp_path: Path, htpasswd_file: Path) -> None:
    with embedded(tmp_path, "--htpasswd", str(htpasswd_file)) as url:
        with connect(url, logging=QUIET, auth=ALICE) as registry:
            push_image(registry, "a/b", "v1")
            assert list(registry.tags("a/b")) == ["v1"]
        wrong = {**ALICE, "password": "wrong"}
        for auth in ({"driver": "null"}, wrong):
            with connect(url, logging=QUIET, auth=auth) as registry:
                assert registry.is_online()
                with pytest.raises(Unauthorized):
                    registry.manifest("a/b", "v1")
                with pytest.raises(Unauthorized):
                    registry.upload_blob("a/b", os.urandom(2 << 20))
        reply = httpx.get(f"{url}/v2/")
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"] == 'Basic realm="dockhand"'
        assert reply.json()["errors"][0]["code"] == "UNAUTHORIZED"
        assert httpx.head(f"{url}/v2/").content == b""


def test_server_with_tls(tmp_path: Path, htpasswd_file: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    command = [
        sys.executable, "-m", "dockhand_embedded", "--root", ":memory:", "--port", "0",
        "--htpasswd", str(htpasswd_file), "--tls-certificate", str(tmp_path / "cert.pem"),
        "--tls-key", str(tmp_path / "key.pem"),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().removeprefix("listening on ").strip()
        try:
            assert url.startswith("https://127.0.0.1:")
            with connect(
                url, verify=str(tmp_path / "ca.pem"), logging=QUIET, auth=ALICE
            ) as registry:
                manifest = push_image(registry, "a/b", "v1")
                assert registry.manifest("a/b", "v1").raw == manifest.raw
        finally:
            process.terminate()


def test_wrong_options(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("nonsense")
    for options, hint in (
        (["--htpasswd", str(nonsense)], "line 1 is not user:bcrypt-hash"),
        (["--tls-certificate", "cert.pem"], "belong together"),
        (["--tls-certificate", str(nonsense), "--tls-key", str(nonsense)], "nonsense"),
        (["--host", "0.0.0.0"], "--htpasswd FILE"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "dockhand_embedded", "--root", ":memory:", *options],
            capture_output=True, text=True, check=False, timeout=30, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 2, done
        assert hint in done.stderr
        assert "Traceback" not in done.stderr


def test_required_scopes() -> None:
    cases = {
        ("GET", "/v2/"): (),
        ("GET", "/v2/_catalog"): ("registry:catalog:*",),
        ("GET", "/v2/a/b/tags/list"): ("repository:a/b:pull",),
        ("HEAD", "/v2/a/b/manifests/v1"): ("repository:a/b:pull",),
        ("PUT", "/v2/a/b/manifests/v1"): ("repository:a/b:pull,push",),
        ("DELETE", "/v2/a/b/manifests/v1"): ("repository:a/b:delete",),
        ("GET", f"/v2/a/b/blobs/{Digest.of(b'')}"): ("repository:a/b:pull",),
        ("DELETE", f"/v2/a/b/blobs/{Digest.of(b'')}"): ("repository:a/b:delete",),
        ("GET", f"/v2/a/b/referrers/{Digest.of(b'')}"): ("repository:a/b:pull",),
        ("POST", "/v2/a/b/blobs/uploads/"): ("repository:a/b:pull,push",),
        # Distribution demands the same scopes, and clients request tokens for these scopes only.
        ("GET", "/v2/a/b/blobs/uploads/x"): ("repository:a/b:pull",),
        ("PATCH", "/v2/a/b/blobs/uploads/x"): ("repository:a/b:pull,push",),
        ("DELETE", "/v2/a/b/blobs/uploads/x"): ("repository:a/b:delete",),
        ("GET", "/v2/UPPER/tags/list"): (),
        ("GET", "/other"): (),
    }
    for (method, path), scopes in cases.items():
        assert tuple(map(str, required_scopes(RegistryRequest(method, path)))) == scopes, (
            method,
            path,
        )


def asgi_client(tmp_path: Path, authenticate: Authenticate) -> httpx.AsyncClient:
    app = create_app(tmp_path / "root", authenticate=authenticate)
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="http://registry")


def by_user(headers: Headers, scopes: Sequence[Scope]) -> AuthResult:
    """Allow a user to do anything below the user's name, and to read anything below `public/`."""
    user = headers.get("x-user", "")

    def allows(scope: Scope) -> bool:
        return scope.name.startswith(f"{user}/") or (
            scope.name.startswith("public/") and not scope.has_push and not scope.has_delete
        )

    if not user:
        return AccessRejection('Bearer realm="http://authority/token",service="registry"')
    if not all(allows(scope) for scope in scopes):
        return AccessRejection(None, f"{user} may not")
    return AuthenticatedUser(user, allows)


async def async_by_user(headers: Headers, scopes: Sequence[Scope]) -> AuthResult:
    await asyncio.sleep(0)
    return by_user(headers, scopes)


@pytest.mark.parametrize("authenticate", [by_user, async_by_user])
def test_custom_authenticate(
    tmp_path: Path,
    authenticate: Callable[[Headers, Sequence[Scope]], AuthResult | Awaitable[AuthResult]],
) -> None:
    digest = Digest.of(b"data")

    async def main() -> None:
        async with asgi_client(tmp_path, authenticate) as client:
            reply = await client.get("/v2/alice/app/tags/list")
            assert reply.status_code == 401
            assert reply.headers["www-authenticate"].startswith("Bearer realm=")
            alice, bob = {"x-user": "alice"}, {"x-user": "bob"}
            url = f"/v2/alice/app/blobs/uploads/?digest={digest}"
            assert (await client.post(url, content=b"data", headers=alice)).status_code == 201
            reply = await client.get(f"/v2/alice/app/blobs/{digest}", headers=bob)
            assert reply.status_code == 403
            assert reply.json()["errors"][0]["code"] == "DENIED"
            # A blob that bob may not read is not mounted, even if the request names its repository.
            for source in ("&from=alice/app", ""):
                url = f"/v2/bob/app/blobs/uploads/?mount={digest}{source}"
                assert (await client.post(url, headers=bob)).status_code == 202
            url = f"/v2/alice/other/blobs/uploads/?mount={digest}&from=alice/app"
            assert (await client.post(url, headers=alice)).status_code == 201

    asyncio.run(main())
