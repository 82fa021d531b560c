"""Who is let in: htpasswd, and an `authenticate` of one's own."""

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
from dockhand_embedded.access.policy import Authenticate, Challenge, Identity, Verdict, needed
from dockhand_embedded.protocol.messages import Headers, Request
from images import push_image
from registries import HTPASSWD, PASSWORD, embedded

from dockhand_core import ConfigError, Digest, Scope, Unauthorized, connect

QUIET = {"driver": "null"}
ALICE = {"driver": "basic", "username": "alice", "password": PASSWORD}


def basic(user: str, password: str) -> Headers:
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    return Headers([("Authorization", f"Basic {encoded}")])


def ask(door: Htpasswd, headers: Headers) -> Verdict:
    async def one() -> Verdict:
        return await door(headers, ())

    return asyncio.run(one())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "htpasswd"
    path.write_text(f"# people\n\n{HTPASSWD}")
    return path


def test_who_is_in_the_file(file: Path) -> None:
    door = Htpasswd(file)
    assert ask(door, basic("alice", PASSWORD)) == Identity("alice")
    assert ask(door, basic("alice", PASSWORD)) == Identity("alice")  # from memory, this time
    for headers in (
        basic("alice", "wrong"),
        basic("bob", PASSWORD),
        basic("", ""),
        basic("alice", "nul\0"),
        Headers(),
        Headers([("authorization", "Basic")]),
        Headers([("authorization", "Basic !!!")]),
        Headers([("authorization", f"Basic {base64.b64encode(b'no colon').decode()}")]),
        Headers([("authorization", f"Bearer {PASSWORD}")]),
    ):
        verdict = ask(door, headers)
        assert isinstance(verdict, Challenge)
        assert verdict.authenticate == 'Basic realm="dockhand"'


def test_who_is_not_there_takes_as_long(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: a hash is computed for anybody, at the cost of those in the file."""
    costs: list[bytes] = []
    real = bcrypt.checkpw

    def counted(password: bytes, expected: bytes) -> bool:
        costs.append(expected[:7])
        return real(password, expected)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    door = Htpasswd(file)
    ask(door, basic("alice", "wrong"))
    ask(door, basic("mallory", "wrong"))
    assert costs == [b"$2b$05$"] * 2


def test_right_passwords_are_remembered_for_a_while(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    real = bcrypt.checkpw

    def noted(password: bytes, expected: bytes) -> bool:
        asked.append(password)
        return real(password, expected)

    monkeypatch.setattr(bcrypt, "checkpw", noted)
    now = [1000.0]
    door = Htpasswd(file, remember=60, clock=lambda: now[0])
    for _ in range(3):
        ask(door, basic("alice", PASSWORD))
        ask(door, basic("alice", "wrong"))
    assert len([p for p in asked if p == PASSWORD.encode()]) == 1
    assert len([p for p in asked if p == b"wrong"]) == 3
    now[0] += 61
    ask(door, basic("alice", PASSWORD))
    assert len([p for p in asked if p == PASSWORD.encode()]) == 2


def test_the_file_is_read_again(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    door = Htpasswd(file)
    assert ask(door, basic("alice", PASSWORD)) == Identity("alice")
    hashed = bcrypt.hashpw(b"other", bcrypt.gensalt(4)).decode()
    file.write_text(f"bob:{hashed}\n")
    assert isinstance(ask(door, basic("alice", PASSWORD)), Challenge)
    assert ask(door, basic("bob", "other")) == Identity("bob")
    file.write_text("half a li")
    assert ask(door, basic("bob", "other")) == Identity("bob")
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
def test_files_that_are_none(tmp_path: Path, text: str, hint: str) -> None:
    path = tmp_path / "htpasswd"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match="htpasswd") as caught:
        Htpasswd(path)
    assert hint in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing"):
        Htpasswd(tmp_path / "missing")


def test_served_with_a_password(tmp_path: Path, file: Path) -> None:
    with embedded(tmp_path, "--htpasswd", str(file)) as url:
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


def test_served_over_tls(tmp_path: Path, file: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    command = [
        sys.executable, "-m", "dockhand_embedded", "--root", ":memory:", "--port", "0",
        "--htpasswd", str(file), "--tls-certificate", str(tmp_path / "cert.pem"),
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


def test_door_options_that_are_wrong(tmp_path: Path) -> None:
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
        assert done.returncode == 1, done
        assert hint in done.stderr
        assert "Traceback" not in done.stderr


def test_what_a_request_needs() -> None:
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
        # As Distribution has it: clients ask for a token for no more than that.
        ("GET", "/v2/a/b/blobs/uploads/x"): ("repository:a/b:pull",),
        ("PATCH", "/v2/a/b/blobs/uploads/x"): ("repository:a/b:pull,push",),
        ("DELETE", "/v2/a/b/blobs/uploads/x"): ("repository:a/b:delete",),
        ("GET", "/v2/UPPER/tags/list"): (),
        ("GET", "/other"): (),
    }
    for (method, path), scopes in cases.items():
        assert tuple(map(str, needed(Request(method, path)))) == scopes, (method, path)


def served(tmp_path: Path, door: Authenticate) -> httpx.AsyncClient:
    app = create_app(tmp_path / "root", authenticate=door)
    # The signature of httpx's own ASGI transport is looser than ASGI is.
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="http://registry")


Door = Callable[[Headers, Sequence[Scope]], Verdict]


def by_user(headers: Headers, scopes: Sequence[Scope]) -> Verdict:
    """Everyone has what begins with their name, and reads what is public."""
    user = headers.get("x-user", "")

    def allows(scope: Scope) -> bool:
        return scope.name.startswith(f"{user}/") or (
            scope.name.startswith("public/") and not scope.has_push and not scope.has_delete
        )

    if not user:
        return Challenge('Bearer realm="http://authority/token",service="registry"')
    if not all(allows(scope) for scope in scopes):
        return Challenge(None, f"{user} may not")
    return Identity(user, allows)


async def waiting(headers: Headers, scopes: Sequence[Scope]) -> Verdict:
    await asyncio.sleep(0)
    return by_user(headers, scopes)


@pytest.mark.parametrize("door", [by_user, waiting])
def test_a_door_of_ones_own(
    tmp_path: Path, door: Callable[[Headers, Sequence[Scope]], Verdict | Awaitable[Verdict]]
) -> None:
    digest = Digest.of(b"data")

    async def main() -> None:
        async with served(tmp_path, door) as client:
            reply = await client.get("/v2/alice/app/tags/list")
            assert reply.status_code == 401
            assert reply.headers["www-authenticate"].startswith("Bearer realm=")
            alice, bob = {"x-user": "alice"}, {"x-user": "bob"}
            url = f"/v2/alice/app/blobs/uploads/?digest={digest}"
            assert (await client.post(url, content=b"data", headers=alice)).status_code == 201
            reply = await client.get(f"/v2/alice/app/blobs/{digest}", headers=bob)
            assert reply.status_code == 403
            assert reply.json()["errors"][0]["code"] == "DENIED"
            # What bob may not read is not mounted, with a source and without: he has to send it.
            for source in ("&from=alice/app", ""):
                url = f"/v2/bob/app/blobs/uploads/?mount={digest}{source}"
                assert (await client.post(url, headers=bob)).status_code == 202
            url = f"/v2/alice/other/blobs/uploads/?mount={digest}&from=alice/app"
            assert (await client.post(url, headers=alice)).status_code == 201

    asyncio.run(main())
