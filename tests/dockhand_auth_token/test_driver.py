"""The auth driver `token`, tested with a scripted registry and a scripted token endpoint."""

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
from dockhand_auth_token import CredentialsInvalid, RealmNotAllowed, TokenEndpointFailed
from fake_dns import FakeDNS
from http_cassettes import BlockingAsyncClient

from dockhand_core import (
    ConfigError,
    Denied,
    Dockhand,
    DockhandError,
    ResponseTooLarge,
    TooManyRequests,
    Unauthorized,
    async_connect,
    connect,
)

QUIET = {"driver": "null"}
ALICE = {"driver": "token", "username": "alice", "password": "s3cret"}
MODES = ["sync-h11", "sync-httpx", "async-aiohttp", "async-httpx"]
Reply = tuple[int, dict[str, str], bytes]


class Site(http.server.ThreadingHTTPServer):
    """A registry, and its token endpoint below /token.

    Attributes:
        token_requests: method, parameters and `Authorization` of each request for a token.
        registry_requests: path and `Authorization` of each request to the registry.
        issued: the number of tokens that `grant` has made.
        accepted: the values of `Authorization` that the registry accepts.
        challenge: the registry's `WWW-Authenticate` header; if it is empty, none is sent.
        token: maps the method and the parameters of a token request to the reply.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.token_requests: list[tuple[str, dict[str, list[str]], str | None]] = []
        self.registry_requests: list[tuple[str, str | None]] = []
        self.issued = 0
        self.accepted: set[str] = set()
        self.challenge = f'Bearer realm="{self.url}/token",service="reg"'
        self.token: Callable[[str, dict[str, list[str]]], Reply] = self.grant
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def grant(self, method: str, form: dict[str, list[str]]) -> Reply:
        self.issued += 1
        token = f"token{self.issued}"
        self.accepted.add(f"Bearer {token}")
        return 200, {}, json.dumps({"token": token, "expires_in": 300}).encode()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Site
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        sent = self.headers.get("Authorization")
        if parts.path.startswith("/token"):
            form = {**parse_qs(parts.query), **parse_qs(body.decode())}
            self.server.token_requests.append((self.command, form, sent))
            self.reply(*self.server.token(self.command, form))
            return
        self.server.registry_requests.append((self.path, sent))
        if sent in self.server.accepted:
            self.reply(200, {}, json.dumps({"name": "a/b", "tags": ["v1"]}).encode())
        else:
            headers = {"WWW-Authenticate": self.server.challenge} if self.server.challenge else {}
            self.reply(401, headers, b'{"errors":[{"code":"UNAUTHORIZED"}]}')

    do_GET = do_POST = do_HEAD = handle_any

    def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing, so that the output of the tests stays readable."""


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    yield server
    server.shutdown()
    server.server_close()


def tags(site: Site, **auth: Any) -> list[str]:
    """List the tags of the repository a/b with a new client."""
    settings = {**(auth or ALICE), "driver": "token"}
    with connect(site.url, auth=settings, logging=QUIET, retries=0) as registry:
        return list(registry.tags("a/b"))


def test_the_challenge_is_answered_with_a_cached_token(site: Site) -> None:
    with connect(site.url, auth=ALICE, logging=QUIET) as registry:
        assert list(registry.tags("a/b")) == ["v1"]
        assert list(registry.tags("a/b")) == ["v1"]
    basic = "Basic " + b64encode(b"alice:s3cret").decode()
    [(method, form, sent)] = site.token_requests  # only one: the token is cached
    assert (method, sent) == ("GET", basic)
    assert form["service"] == ["reg"]
    assert form["scope"] == ["repository:a/b:pull"]
    assert form["account"] == ["alice"]
    # The first request has no credentials; later ones have the token at once.
    assert [sent for _, sent in site.registry_requests] == [None, "Bearer token1", "Bearer token1"]


def test_scopes_of_the_challenge_are_added_to_those_of_the_request(site: Site) -> None:
    site.challenge += ',scope="repository:a/b:push other:thing:use"'
    assert tags(site) == ["v1"]
    assert site.token_requests[0][1]["scope"] == ["other:thing:use", "repository:a/b:pull,push"]
    site.token_requests.clear()
    site.challenge = f'Bearer realm="{site.url}/token",scope="NO SCOPE"'
    assert tags(site) == ["v1"]
    assert site.token_requests[0][1]["scope"] == ["repository:a/b:pull"]


def test_concurrent_requests_share_one_token_request(site: Site) -> None:
    def slow(method: str, form: dict[str, list[str]]) -> Reply:
        time.sleep(0.1)
        return site.grant(method, form)

    site.token = slow

    async def main() -> None:
        async with async_connect(site.url, auth=ALICE, logging=QUIET) as registry:

            async def list_tags() -> None:
                assert [tag async for tag in registry.tags("a/b")] == ["v1"]

            await asyncio.gather(*(list_tags() for _ in range(8)))

    asyncio.run(main())
    assert len(site.token_requests) == 1


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
def test_forms_of_challenges(site: Site, challenge: str) -> None:
    site.challenge = challenge.format(url=site.url)
    assert tags(site) == ["v1"]
    assert site.token_requests[0][1]["service"] == ["reg"]


def test_a_basic_challenge_gets_the_password(site: Site) -> None:
    site.challenge = 'Basic realm="registry"'
    site.accepted.add("Basic " + b64encode(b"alice:s3cret").decode())
    assert tags(site) == ["v1"]
    assert site.token_requests == []


def test_anonymous_tokens_without_credentials(site: Site, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert tags(site, config=str(tmp_path / "config.json")) == ["v1"]
    assert site.token_requests[0][2] is None
    site.challenge = 'Basic realm="registry"'
    site.accepted.clear()
    with pytest.raises(Unauthorized):
        tags(site, config=str(tmp_path / "config.json"))


def test_an_identity_token_is_exchanged_by_post_or_else_get(site: Site, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    host = site.url.removeprefix("http://")
    config.write_text(json.dumps({"auths": {host: {"identitytoken": "r3fresh"}}}))
    assert tags(site, config=str(config)) == ["v1"]
    [(method, form, sent)] = site.token_requests
    assert (method, sent) == ("POST", None)
    assert form["grant_type"] == ["refresh_token"]
    assert form["refresh_token"] == ["r3fresh"]
    assert form["scope"] == ["repository:a/b:pull"]
    site.token_requests.clear()
    site.token = lambda m, form: (405, {}, b"") if m == "POST" else site.grant(m, form)
    assert tags(site, config=str(config)) == ["v1"]
    assert [method for method, *_ in site.token_requests] == ["POST", "GET"]
    assert site.token_requests[1][2] == "Basic " + b64encode(b"<token>:r3fresh").decode()


@pytest.mark.parametrize("is_async", [False, True])
def test_a_rotated_refresh_token_is_used_from_then_on(
    site: Site, tmp_path: Path, is_async: bool
) -> None:
    """The token endpoint gives a new refresh token each time, and accepts the newest alone."""
    config = tmp_path / "config.json"
    host = site.url.removeprefix("http://")
    config.write_text(json.dumps({"auths": {host: {"identitytoken": "r0"}}}))
    valid = ["r0"]

    def rotate(method: str, form: dict[str, list[str]]) -> Reply:
        if form["refresh_token"] != valid[-1:]:
            return 401, {}, b"{}"
        valid.append(f"r{len(valid)}")
        status, headers, body = site.grant(method, form)
        return (
            status,
            headers,
            json.dumps({**json.loads(body), "refresh_token": valid[-1]}).encode(),
        )

    site.token = rotate
    auth = {"driver": "token", "config": str(config)}

    async def list_tags() -> None:
        async with async_connect(site.url, auth=auth, logging=QUIET, retries=0) as registry:
            for repository in "abc":
                assert [tag async for tag in registry.tags(f"a/{repository}")] == ["v1"]

    if is_async:
        asyncio.run(list_tags())
    else:
        with connect(site.url, auth=auth, logging=QUIET, retries=0) as registry:
            for repository in "abc":
                assert list(registry.tags(f"a/{repository}")) == ["v1"]
            assert valid[-1] not in repr(vars(registry.driver))
            # a token endpoint that forgot the new one may still know the one in the file
            valid.append("r0")
            assert list(registry.tags("a/d")) == ["v1"]
    sent = [form["refresh_token"][0] for _, form, _ in site.token_requests]
    assert sent[:3] == ["r0", "r1", "r2"]
    assert sent[3:] == ([] if is_async else ["r3", "r0"])
    assert json.loads(config.read_text())["auths"][host]["identitytoken"] == "r0"


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
def test_a_helper_runs_once_for_each_token(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    log = tmp_path / "runs"
    helper = tmp_path / "docker-credential-counting"
    answer = json.dumps({"Username": "alice", "Secret": "s3cret"})
    helper.write_text(f"#!/bin/sh\necho ran >> {log}\necho '{answer}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "config.json").write_text('{"credsStore": "counting"}')
    if scheme == "Basic":
        site.challenge = 'Basic realm="registry"'
        site.accepted.add("Basic " + b64encode(b"alice:s3cret").decode())
    auth = {"driver": "token", "config": str(tmp_path / "config.json")}
    with connect(site.url, auth=auth, logging=QUIET) as registry:
        for _ in range(3):
            assert list(registry.tags("a/b")) == ["v1"]
    assert log.read_text() == "ran\n"


def test_a_refused_token_is_replaced_once(site: Site) -> None:
    """The token is also replaced if the refusal has no challenge, as zot's refusal has none."""
    with connect(site.url, auth=ALICE, logging=QUIET) as registry:
        assert list(registry.tags("a/b")) == ["v1"]
        site.accepted.clear()
        challenge, site.challenge = site.challenge, ""
        assert list(registry.tags("a/b")) == ["v1"]
        site.accepted.clear()
        site.challenge = challenge
        assert list(registry.tags("a/b")) == ["v1"]
        site.token = lambda *_: (200, {}, b'{"token":"bad"}')
        site.accepted.clear()
        site.registry_requests.clear()
        with pytest.raises(Unauthorized):
            list(registry.tags("a/b"))
        assert len(site.registry_requests) == 2


def test_a_realm_with_a_query_of_its_own(site: Site, tmp_path: Path) -> None:
    site.challenge = f'Bearer realm="{site.url}/token?tenant=a%2Fb&x=1",service="reg"'
    assert tags(site) == ["v1"]
    [(method, form, _)] = site.token_requests
    assert method == "GET"
    assert (form["tenant"], form["x"], form["service"]) == (["a/b"], ["1"], ["reg"])
    assert form["scope"] == ["repository:a/b:pull"]


def test_a_realm_with_a_query_of_its_own_by_post(site: Site, tmp_path: Path) -> None:
    site.challenge = f'Bearer realm="{site.url}/token?tenant=a",service="reg"'
    host = site.url.removeprefix("http://")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"auths": {host: {"identitytoken": "s3cret"}}}))
    assert tags(site, config=str(config)) == ["v1"]
    assert [method for method, *_ in site.token_requests] == ["POST"]
    assert site.token_requests[0][1]["tenant"] == ["a"]


def refuse_without_scope(site: Site, status: int) -> None:
    site.token = lambda method, form: (
        site.grant(method, form) if "scope" in form else (status, {}, b"s3cret")
    )


@pytest.mark.parametrize("client", ["sync", "async"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_an_authority_that_refuses_a_request_without_scope(
    site: Site, status: int, client: str
) -> None:
    refuse_without_scope(site, status)

    def ask(action: str) -> Any:
        """Call a method of a new client that has already been given a token."""
        if client == "sync":
            with connect(site.url, auth=ALICE, logging=QUIET) as registry:
                assert list(registry.tags("a/b")) == ["v1"]
                return getattr(registry, action)()

        async def run() -> Any:
            async with async_connect(site.url, auth=ALICE, logging=QUIET) as registry:
                assert [tag async for tag in registry.tags("a/b")] == ["v1"]
                return await getattr(registry, action)()

        return asyncio.run(run())

    assert ask("is_online") is True
    assert ask("api_version").header is None
    with pytest.raises(TokenEndpointFailed if status == 500 else Unauthorized) as caught:
        ask("ping")
    assert "s3cret" not in str(caught.value)
    plain = site.challenge
    site.challenge += ',scope="registry:catalog:*"'
    ask("ping")
    site.challenge = plain


@pytest.mark.parametrize(
    "challenge",
    [
        'Bearer realm="http://127.0.0.1:1/token",service="reg"',  # nobody listens
        'Bearer realm="http://10.1.2.3/token",service="reg"',  # refused: a private address
        'Bearer realm="http://no-such-host.invalid/token",service="reg"',
        'Bearer realm="ftp://x/token",service="reg"',
    ],
)
def test_online_whatever_the_authority_says(site: Site, challenge: str) -> None:
    site.challenge = challenge
    with connect(site.url, auth=ALICE, logging=QUIET, retries=0) as registry:
        assert registry.is_online() is True
        assert registry.api_version().header is None
        with pytest.raises(DockhandError):
            registry.ping()


def test_online_although_the_helper_fails(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"credsStore": "no-such"}')
    auth = {"driver": "token", "config": str(config)}
    with connect(site.url, auth=auth, logging=QUIET) as registry:
        assert registry.is_online() is True
        assert registry.api_version().header is None
        with pytest.raises(CredentialsInvalid):
            registry.ping()


def test_expired_tokens_are_replaced(site: Site) -> None:
    def short(method: str, form: dict[str, list[str]]) -> Reply:
        status, headers, body = site.grant(method, form)
        return status, headers, body.replace(b"300", b"1")

    site.token = short
    with connect(site.url, auth=ALICE, logging=QUIET) as registry:
        list(registry.tags("a/b"))
        time.sleep(0.9)
        list(registry.tags("a/b"))
    assert [sent for _, sent in site.registry_requests] == [None, "Bearer token1", "Bearer token2"]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ((401, {}, b'{"details":"s3cret is wrong"}'), Unauthorized),
        ((403, {}, b"s3cret"), Denied),
        ((429, {"Retry-After": "1"}, b""), TooManyRequests),
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
def test_failing_token_endpoints_raise(site: Site, reply: Reply, error: type[Exception]) -> None:
    site.token = lambda *_: reply
    with pytest.raises(error) as caught:
        tags(site)
    assert "s3cret" not in str(caught.value)


def test_redirects_keep_credentials_on_the_same_origin_only(site: Site) -> None:
    other = Site()
    try:
        moved = "/token/new?service=reg&scope=repository:a/b:pull"
        site.token = lambda m, form: (
            (307, {"Location": moved}, b"")
            if len(site.token_requests) == 1
            else site.grant(m, form)
        )
        assert tags(site) == ["v1"]
        assert site.token_requests[1][2] is not None
        site.token_requests.clear()
        site.token = lambda *_: (307, {"Location": f"{other.url}/token?service=reg"}, b"")
        other.token = site.grant
        assert tags(site) == ["v1"]
        assert [sent for *_, sent in other.token_requests] == [None]
        site.token = lambda *_: (302, {"Location": "http://10.0.0.1/token"}, b"")
        with pytest.raises(RealmNotAllowed, match="10.0.0.1"):
            tags(site)
        with pytest.raises(RealmNotAllowed, match="not among"):
            site.token = lambda *_: (302, {"Location": f"{other.url}/token"}, b"")
            tags(site, **ALICE, realms=[site.url])
    finally:
        other.shutdown()
        other.server_close()


def test_a_private_realm_is_refused(site: Site) -> None:
    site.challenge = 'Bearer realm="http://10.1.2.3/token",service="reg"'
    with pytest.raises(RealmNotAllowed, match=r"10\.1\.2\.3.*realms = "):
        tags(site)
    assert site.token_requests == []


def named_client(mode: str, site: Site, **settings: Any) -> Any:
    """Make a client of the site under the name registry.test."""
    url = f"http://registry.test:{site.server_port}"
    settings = {"auth": ALICE, "logging": QUIET, "retries": 0, "timeout": 5.0, **settings}
    kind, transport = mode.split("-")
    made = connect if kind == "sync" else BlockingAsyncClient
    return made(url, transport=transport, **settings)


@pytest.mark.parametrize("mode", MODES)
def test_a_realm_that_resolves_to_a_private_address_is_refused(
    site: Site, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address that is judged is the one of the request, so there is one look-up."""
    dns = FakeDNS(monkeypatch)
    dns.add("registry.test", ["127.0.0.1"])
    site.challenge = f'Bearer realm="http://auth.test:{site.server_port}/token",service="reg"'
    for answer in (["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["64:ff9b::7f00:1"]):
        dns.add("auth.test", answer)
        dns.lookups.clear()
        with (
            pytest.raises(RealmNotAllowed, match=r"private address.*realms = ") as caught,
            named_client(mode, site) as registry,
        ):
            list(registry.tags("a/b"))
        assert caught.value.realm == f"http://auth.test:{site.server_port}"
        assert dns.lookups.count("auth.test") == 1
    assert site.token_requests == []
    dns.add("auth.test", ["127.0.0.1"])
    realms = [f"http://auth.test:{site.server_port}"]
    with named_client(mode, site, auth={**ALICE, "realms": realms}) as registry:
        assert list(registry.tags("a/b")) == ["v1"]


@pytest.mark.parametrize("mode", MODES)
def test_a_realm_behind_a_proxy_is_not_looked_up(
    site: Site, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dns = FakeDNS(monkeypatch)
    dns.add("registry.test", ["127.0.0.1"])
    dns.add("auth.test", [])
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    proxy = Site()
    try:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "registry.test")
        proxy.token = site.grant
        site.challenge = 'Bearer realm="http://auth.test/token",service="reg"'
        with named_client(mode, site) as registry:
            assert list(registry.tags("a/b")) == ["v1"]
        assert len(proxy.token_requests) == 1
        assert "auth.test" not in dns.lookups
        site.challenge = 'Bearer realm="http://0xa.1/token",service="reg"'
        with pytest.raises(RealmNotAllowed), named_client(mode, site) as registry:
            list(registry.tags("c/d"))
        assert len(proxy.token_requests) == 1
    finally:
        proxy.shutdown()
        proxy.server_close()


@pytest.mark.parametrize(
    ("auth", "hint"),
    [
        ({"username": "alice"}, "must be given together"),
        ({"password": "s3cret"}, "must be given together"),
        ({"username": "a:b", "password": "s3cret"}, "colon"),
        ({"username": "a", "password": "s3cret", "config": "x"}, "either"),
        ({"realms": ["nonsense"]}, "origin"),
        ({"helper_timeout": 0}, "helper_timeout"),
        ({"usrname": "a"}, "usrname"),
    ],
)
def test_wrong_settings_are_refused(auth: dict[str, Any], hint: str) -> None:
    main = {"driver": "distribution", "base_uri": "http://127.0.0.1:9"}
    with pytest.raises(ConfigError, match=hint) as caught:
        Dockhand(
            {"connections": {"main": {**main, "auth": {"driver": "token", **auth}}}}
        ).connection()
    assert "s3cret" not in str(caught.value)


def test_the_readme_names_every_setting() -> None:
    from dockhand_auth_token.driver import TokenAuth

    path = Path(__file__).parents[2] / "plugins/dockhand_auth_token/README.md"
    for name in TokenAuth.Settings.model_fields:
        assert f"| `{name}` |" in path.read_text("utf-8")
