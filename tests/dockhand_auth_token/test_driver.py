"""The driver before a registry and an endpoint that do as the test says."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from dockhand_auth_token import RealmNotAllowed, TokenEndpointFailed

from dockhand_core import (
    ConfigError,
    Denied,
    Dockhand,
    ResponseTooLarge,
    TooManyRequests,
    Unauthorized,
    async_connect,
    connect,
)

QUIET = {"driver": "null"}
ALICE = {"driver": "token", "username": "alice", "password": "s3cret"}
Answer = tuple[int, dict[str, str], bytes]


class Site(http.server.ThreadingHTTPServer):
    """A registry, and below /token its authority."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[tuple[str, dict[str, list[str]], str | None]] = []
        self.seen: list[tuple[str, str | None]] = []
        self.issued = 0
        self.good: set[str] = set()
        self.challenge = f'Bearer realm="{self.url}/token",service="reg"'
        self.token: Callable[[str, dict[str, list[str]]], Answer] = self.grant
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def grant(self, method: str, form: dict[str, list[str]]) -> Answer:
        self.issued += 1
        token = f"token{self.issued}"
        self.good.add(f"Bearer {token}")
        return 200, {}, json.dumps({"token": token, "expires_in": 300}).encode()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Site
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        sent = self.headers.get("Authorization")
        if parts.path.startswith("/token"):
            form = parse_qs(parts.query or body.decode())
            self.server.asked.append((self.command, form, sent))
            self.answer(*self.server.token(self.command, form))
            return
        self.server.seen.append((self.path, sent))
        if sent in self.server.good:
            self.answer(200, {}, json.dumps({"name": "a/b", "tags": ["v1"]}).encode())
        else:
            headers = {"WWW-Authenticate": self.server.challenge} if self.server.challenge else {}
            self.answer(401, headers, b'{"errors":[{"code":"UNAUTHORIZED"}]}')

    do_GET = do_POST = do_HEAD = handle_any

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    yield server
    server.shutdown()
    server.server_close()


def tags(site: Site, **auth: Any) -> list[str]:
    settings = {**(auth or ALICE), "driver": "token"}
    with connect(site.url, auth=settings, logging=QUIET, retries=0) as registry:
        return list(registry.tags("a/b"))


def test_what_is_asked(site: Site) -> None:
    with connect(site.url, auth=ALICE, logging=QUIET) as registry:
        assert list(registry.tags("a/b")) == ["v1"]
        assert list(registry.tags("a/b")) == ["v1"]
    basic = "Basic " + b64encode(b"alice:s3cret").decode()
    [(method, form, sent)] = site.asked  # once: the token is kept
    assert (method, sent) == ("GET", basic)
    assert form["service"] == ["reg"]
    assert form["scope"] == ["repository:a/b:pull"]
    assert form["account"] == ["alice"]
    # The first time bare, and from then on with what is known.
    assert [sent for _, sent in site.seen] == [None, "Bearer token1", "Bearer token1"]


def test_what_the_registry_wants_besides(site: Site) -> None:
    """What it asks for is asked for, beside what the request is known to need."""
    site.challenge += ',scope="repository:a/b:push other:thing:use"'
    assert tags(site) == ["v1"]
    assert site.asked[0][1]["scope"] == ["other:thing:use", "repository:a/b:pull,push"]
    site.asked.clear()
    site.challenge = f'Bearer realm="{site.url}/token",scope="NO SCOPE"'
    assert tags(site) == ["v1"]
    assert site.asked[0][1]["scope"] == ["repository:a/b:pull"]


def test_async_asks_once_for_many(site: Site) -> None:
    def slow(method: str, form: dict[str, list[str]]) -> Answer:
        time.sleep(0.1)
        return site.grant(method, form)

    site.token = slow

    async def main() -> None:
        async with async_connect(site.url, auth=ALICE, logging=QUIET) as registry:

            async def one() -> None:
                assert [tag async for tag in registry.tags("a/b")] == ["v1"]

            await asyncio.gather(*(one() for _ in range(8)))

    asyncio.run(main())
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    "challenge",
    [
        'Bearer service=reg, realm="{url}/token"',
        'Basic realm="x", Bearer realm="{url}/token",service="reg"',
        'bearer realm="{url}/token",service="reg",scope=""',
        'Bearer error="invalid_token",realm="{url}/token",service="reg"',
        'Negotiate, Bearer realm="{url}/token", service="reg"',
    ],
)
def test_challenges_as_they_come(site: Site, challenge: str) -> None:
    site.challenge = challenge.format(url=site.url)
    assert tags(site) == ["v1"]
    assert site.asked[0][1]["service"] == ["reg"]


def test_a_registry_that_wants_a_password(site: Site) -> None:
    site.challenge = 'Basic realm="registry"'
    site.good.add("Basic " + b64encode(b"alice:s3cret").decode())
    assert tags(site) == ["v1"]
    assert site.asked == []


def test_no_credentials(site: Site, tmp_path: Path) -> None:
    """Asked for as nobody."""
    (tmp_path / "config.json").write_text("{}")
    assert tags(site, config=str(tmp_path / "config.json")) == ["v1"]
    assert site.asked[0][2] is None
    site.challenge = 'Basic realm="registry"'
    site.good.clear()
    with pytest.raises(Unauthorized):
        tags(site, config=str(tmp_path / "config.json"))


def test_an_identity_token(site: Site, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    host = site.url.removeprefix("http://")
    config.write_text(json.dumps({"auths": {host: {"identitytoken": "r3fresh"}}}))
    assert tags(site, config=str(config)) == ["v1"]
    [(method, form, sent)] = site.asked
    assert (method, sent) == ("POST", None)
    assert form["grant_type"] == ["refresh_token"]
    assert form["refresh_token"] == ["r3fresh"]
    assert form["scope"] == ["repository:a/b:pull"]
    site.asked.clear()
    site.token = lambda m, form: (405, {}, b"") if m == "POST" else site.grant(m, form)
    assert tags(site, config=str(config)) == ["v1"]
    assert [method for method, *_ in site.asked] == ["POST", "GET"]
    assert site.asked[1][2] == "Basic " + b64encode(b"<token>:r3fresh").decode()


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
def test_a_helper_is_asked_for_a_token_and_not_for_each_request(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    log = tmp_path / "asked"
    helper = tmp_path / "docker-credential-counting"
    answer = json.dumps({"Username": "alice", "Secret": "s3cret"})
    helper.write_text(f"#!/bin/sh\necho asked >> {log}\necho '{answer}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "config.json").write_text('{"credsStore": "counting"}')
    if scheme == "Basic":
        site.challenge = 'Basic realm="registry"'
        site.good.add("Basic " + b64encode(b"alice:s3cret").decode())
    auth = {"driver": "token", "config": str(tmp_path / "config.json")}
    with connect(site.url, auth=auth, logging=QUIET) as registry:
        for _ in range(3):
            assert list(registry.tags("a/b")) == ["v1"]
    assert log.read_text() == "asked\n"


def test_a_token_that_is_refused(site: Site) -> None:
    """With a challenge or without one (zot): once anew, and not for ever."""
    with connect(site.url, auth=ALICE, logging=QUIET) as registry:
        assert list(registry.tags("a/b")) == ["v1"]
        site.good.clear()
        challenge, site.challenge = site.challenge, ""
        assert list(registry.tags("a/b")) == ["v1"]
        site.good.clear()
        site.challenge = challenge
        assert list(registry.tags("a/b")) == ["v1"]
        site.token = lambda *_: (200, {}, b'{"token":"bad"}')
        site.good.clear()
        site.seen.clear()
        with pytest.raises(Unauthorized):
            list(registry.tags("a/b"))
        assert len(site.seen) == 2


def test_tokens_expire(site: Site) -> None:
    def short(method: str, form: dict[str, list[str]]) -> Answer:
        status, headers, body = site.grant(method, form)
        return status, headers, body.replace(b"300", b"1")

    site.token = short
    with connect(site.url, auth=ALICE, logging=QUIET) as registry:
        list(registry.tags("a/b"))
        time.sleep(0.9)
        list(registry.tags("a/b"))
    assert [sent for _, sent in site.seen] == [None, "Bearer token1", "Bearer token2"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((401, {}, b'{"details":"s3cret is wrong"}'), Unauthorized),
        ((403, {}, b"s3cret"), Denied),
        ((429, {"Retry-After": "7"}, b""), TooManyRequests),
        ((500, {}, b"s3cret"), TokenEndpointFailed),
        ((200, {}, b"no JSON s3cret"), TokenEndpointFailed),
        ((200, {}, b"[]"), TokenEndpointFailed),
        ((200, {}, b"{}"), TokenEndpointFailed),
        ((200, {}, b'{"token": "two\\nlines s3cret"}'), TokenEndpointFailed),
        ((200, {}, b'{"token": "' + b"x" * 70_000 + b'"}'), TokenEndpointFailed),
        ((200, {}, b" " * (9 << 20)), ResponseTooLarge),
        ((302, {"Location": "/token?again"}, b""), TokenEndpointFailed),
    ],
)
def test_endpoints_that_fail(site: Site, answer: Answer, error: type[Exception]) -> None:
    site.token = lambda *_: answer
    with pytest.raises(error) as caught:
        tags(site)
    assert "s3cret" not in str(caught.value)


def test_redirects(site: Site) -> None:
    """On the same origin with the credentials, elsewhere without, and never where not allowed."""
    other = Site()
    try:
        moved = "/token/new?service=reg&scope=repository:a/b:pull"
        site.token = lambda m, form: (
            (307, {"Location": moved}, b"") if len(site.asked) == 1 else site.grant(m, form)
        )
        assert tags(site) == ["v1"]
        assert site.asked[1][2] is not None
        site.asked.clear()
        site.token = lambda *_: (307, {"Location": f"{other.url}/token?service=reg"}, b"")
        other.token = site.grant
        assert tags(site) == ["v1"]
        assert [sent for *_, sent in other.asked] == [None]
        site.token = lambda *_: (302, {"Location": "http://10.0.0.1/token"}, b"")
        with pytest.raises(RealmNotAllowed, match="10.0.0.1"):
            tags(site)
        with pytest.raises(RealmNotAllowed, match="not among"):
            site.token = lambda *_: (302, {"Location": f"{other.url}/token"}, b"")
            tags(site, **ALICE, realms=[site.url])
    finally:
        other.shutdown()
        other.server_close()


def test_a_realm_that_is_not_allowed(site: Site) -> None:
    site.challenge = 'Bearer realm="http://10.1.2.3/token",service="reg"'
    with pytest.raises(RealmNotAllowed, match=r"10\.1\.2\.3.*realms = "):
        tags(site)
    assert site.asked == []


@pytest.mark.parametrize(
    ("auth", "hint"),
    [
        ({"username": "alice"}, "given together"),
        ({"password": "s3cret"}, "given together"),
        ({"username": "a:b", "password": "s3cret"}, "colon"),
        ({"username": "a", "password": "s3cret", "config": "x"}, "either"),
        ({"realms": ["nonsense"]}, "origin"),
        ({"helper_timeout": 0}, "helper_timeout"),
        ({"usrname": "a"}, "usrname"),
    ],
)
def test_settings_that_are_wrong(auth: dict[str, Any], hint: str) -> None:
    main = {"driver": "distribution", "base_uri": "http://127.0.0.1:9"}
    with pytest.raises(ConfigError, match=hint) as caught:
        Dockhand(
            {"connections": {"main": {**main, "auth": {"driver": "token", **auth}}}}
        ).connection()
    assert "s3cret" not in str(caught.value)


def test_settings_are_documented() -> None:
    from dockhand_auth_token.driver import TokenAuth

    path = Path(__file__).parents[2] / "plugins/dockhand_auth_token/README.md"
    for name in TokenAuth.Settings.model_fields:
        assert f"| `{name}` |" in path.read_text("utf-8")
