"""The auth driver `jwt`: the scopes of its tokens, its cache, and its reaction to refusals."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from dockhand_auth_jwt import JwtAuth, SigningKey, TokenService
from dockhand_testing.blocking import BlockingLoop, as_blocking
from pydantic import SecretStr

from dockhand_core import (
    AuthDriver,
    ConfigError,
    Descriptor,
    Digest,
    Dockhand,
    DockhandError,
    ImageManifest,
    RegistryClient,
    Unauthorized,
    async_connect,
    connect,
)
from dockhand_core.config import load_config
from dockhand_core.models import media

KEY = SigningKey.generate()
PEM = KEY.private_pem().decode()
NAMES = {"authority_name": "my_auth", "registry_name": "my_registry"}
SERVICE = TokenService(KEY, issuer="my_auth", audience="my_registry")
DIGEST = Digest.of(b"x")
CONFIG = Descriptor(media_type=media.OCI_CONFIG, digest=DIGEST, size=1)


def challenge(error: str | None, **headers: str) -> tuple[int, dict[str, str]]:
    suffix = f',error="{error}"' if error else ""
    bearer = f'Bearer realm="http://r/token",service="my_registry",scope="x:y:z"{suffix}'
    return 401, {"WWW-Authenticate": bearer, **headers}


@pytest.fixture(params=["sync", "async"])
def world(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def make_client(world: str, registry: Any) -> Iterator[Any]:
    """Provide a function that makes sync or async clients."""
    loop, clients = BlockingLoop(), []

    def make(**auth: Any) -> RegistryClient:
        table = {"driver": "jwt", "private_key": PEM, **NAMES, **auth}
        settings: dict[str, Any] = {"auth": table, "logging": {"driver": "null"}, "retries": 0}
        if world == "sync":
            made: Any = connect(registry.url, **settings)
        else:
            made = as_blocking(loop, async_connect(registry.url, **settings))
        clients.append(made)
        result: RegistryClient = made
        return result

    yield make
    for made in clients:
        made.close()
    loop.close()


def test_each_operation_signs_exactly_its_scopes(make_client: Any, registry: Any) -> None:
    client = make_client(subject="alice")
    upload = {"Location": "/v2/a/b/blobs/uploads/1?_state=x", "Range": "0-0"}

    def judge(_: str) -> tuple[int, dict[str, str]]:
        return 202, {**upload, "Docker-Content-Digest": str(DIGEST)}

    client.ping()
    list(client.repositories())
    list(client.tags("a/b"))
    assert registry.scopes == [[], ["registry:catalog:*"], ["repository:a/b:pull"]]
    registry.judge = judge
    write, delete = "repository:a/b:pull,push", "repository:a/b:delete"
    operations: list[tuple[Callable[[], Any], list[str]]] = [
        (lambda: client.start_upload("a/b"), [write]),
        (
            lambda: client.mount_blob("a/b", DIGEST, "other/one"),
            [write, "repository:other/one:pull"],
        ),
        (lambda: client.delete_manifest("a/b", DIGEST), [delete]),
        (lambda: client.delete_tag("a/b", "v1"), [delete]),
        (lambda: client.delete_blob("a/b", DIGEST), [delete]),
        (lambda: client.cancel_upload(client.start_upload("a/b")), [delete]),
        (lambda: client.put_manifest("a/b", "v1", ImageManifest(config=CONFIG)), [write]),
    ]
    for call, needs in operations:
        before = len(registry.tokens)
        with suppress(DockhandError):  # the registry's only reply does not fit every operation
            call()
        sent = registry.scopes[before:]
        assert needs in sent
        # an operation may also send requests that only read or that start an upload
        assert all(scopes in (needs, [write], ["repository:a/b:pull"]) for scopes in sent)
    for token, claims in zip(registry.tokens, registry.claims, strict=True):
        assert SERVICE.validate(token)
        assert claims["sub"] == "alice"
        assert claims["exp"] - claims["iat"] == 300


def test_tokens_are_cached_for_their_scopes(make_client: Any, registry: Any) -> None:
    client = make_client(lifetime=60)
    for _ in range(3):
        list(client.tags("a/b"))
        list(client.tags("c"))
    assert len(set(registry.tokens)) == 2
    assert {c["exp"] - c["iat"] for c in registry.claims} == {60}


def test_a_token_near_its_expiry_is_replaced(make_client: Any, registry: Any) -> None:
    client = make_client(lifetime=1)
    client.ping()
    threading.Event().wait(0.8)
    client.ping()
    assert len(set(registry.tokens)) == 2


def test_a_refused_token_is_replaced_once(make_client: Any, registry: Any) -> None:
    client = make_client()
    client.ping()
    first = registry.tokens[0]
    registry.judge = lambda token: challenge("invalid_token") if token == first else (200, {})
    for _ in range(2):
        client.ping()
    assert registry.tokens[:2] == [first, first]
    assert len(set(registry.tokens[2:])) == 1
    assert len(registry.tokens) == 4


@pytest.mark.parametrize("error", [None, "invalid_token", "insufficient_scope"])
def test_a_second_refusal_is_unauthorized(
    make_client: Any, registry: Any, error: str | None
) -> None:
    registry.judge = lambda _: challenge(error)
    client = make_client()
    with pytest.raises(Unauthorized) as caught:
        list(client.tags("a/b"))
    assert len(registry.tokens) == 2
    assert registry.scopes == [["repository:a/b:pull"]] * 2  # the second token has the same scope
    assert registry.tokens[0] not in repr(caught.value) + str(caught.value)


def test_disconnect_forgets_tokens(registry: Any) -> None:
    table = {"base_uri": registry.url, "auth": {"driver": "jwt", "private_key": PEM, **NAMES}}
    with Dockhand({"connections": {"main": {**table, "logging": {"driver": "null"}}}}) as dockhand:
        dockhand.connection().ping()
        dockhand.disconnect()
        dockhand.connection().ping()
    assert len(set(registry.tokens)) == 2


def test_concurrent_requests_share_one_token(registry: Any) -> None:
    auth = {"driver": "jwt", "private_key": PEM, **NAMES}
    quiet = {"driver": "null"}
    with (
        connect(registry.url, auth=auth, logging=quiet) as client,
        ThreadPoolExecutor(20) as pool,
    ):
        for future in [pool.submit(client.ping) for _ in range(40)]:
            future.result()

    async def main() -> None:
        async with async_connect(registry.url, auth=auth, logging=quiet) as other:
            await asyncio.gather(*(other.ping() for _ in range(40)))

    asyncio.run(main())
    assert len(registry.tokens) == 80
    assert len(set(registry.tokens)) == 2


def kid_of(key_id: str) -> str:
    return {"libtrust": KEY.libtrust, "rfc7638": KEY.thumbprint}[key_id]


@pytest.mark.parametrize(
    ("accepted", "content_type"),
    [("libtrust", "application/json; charset=utf-8"), ("rfc7638", "application/json")],
)
def test_a_registry_that_refuses_the_chain_gets_the_kid_of_its_version(
    make_client: Any, registry: Any, accepted: str, content_type: str
) -> None:

    def judge(_: str) -> tuple[int, dict[str, str]]:
        header = registry.headers[-1]
        known = "x5c" not in header and header["kid"] == kid_of(accepted)
        return (200, {}) if known else challenge("invalid_token", **{"Content-Type": content_type})

    registry.judge = judge
    client = make_client()
    client.ping()
    list(client.tags("a/b"))
    with_chain = ["x5c" in header for header in registry.headers]
    assert with_chain == [True, False, False]


def test_an_accepted_key_id_is_kept(make_client: Any, registry: Any) -> None:
    client = make_client()
    client.ping()
    registry.judge = lambda _: challenge("invalid_token")
    with pytest.raises(Unauthorized):
        client.ping()
    assert all("x5c" in header for header in registry.headers)


def test_every_key_id_is_tried_in_turn(make_client: Any, registry: Any) -> None:
    registry.judge = lambda _: challenge("invalid_token")
    client = make_client()
    for _ in range(2):
        with pytest.raises(Unauthorized):
            client.ping()
    used = ["x5c" if "x5c" in h else h["kid"] for h in registry.headers]
    assert used == ["x5c", KEY.thumbprint, KEY.libtrust, "x5c"]


@pytest.mark.parametrize("key_id", ["x5c", "libtrust", "rfc7638"])
def test_a_configured_key_id_is_never_changed(make_client: Any, registry: Any, key_id: str) -> None:
    registry.judge = lambda _: challenge("invalid_token")
    with pytest.raises(Unauthorized):
        make_client(key_id=key_id).ping()
    assert len(registry.tokens) == 2
    for header in registry.headers:
        assert ("x5c" in header) == (key_id == "x5c")
        assert header["kid"] == (KEY.libtrust if key_id == "libtrust" else KEY.thumbprint)


def single_certificate(key: SigningKey) -> bytes:
    bundle = key.self_signed_certificate("my_auth")
    return bundle[: bundle.index(b"-----END CERTIFICATE-----\n") + 26]


@pytest.mark.parametrize("name", ["certificate", "public_key"])
def test_a_configured_certificate_is_sent(
    make_client: Any, registry: Any, name: str, tmp_path: Path
) -> None:
    pem = single_certificate(KEY)
    (tmp_path / "certificate.pem").write_bytes(pem)
    for setting in (str(tmp_path / "certificate.pem"), pem.decode()):
        make_client(**{name: setting}).ping()
    bodies = ["".join(pem.decode().split("\n")[1:-2])] * 2
    assert [header["x5c"][0] for header in registry.headers] == bodies


def test_sources_of_the_private_key(registry: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """The key may be a path (relative to dockhand.toml or absolute), PEM text, or a secret file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "private.pem").write_text(PEM)
    (tmp_path / "dockhand.toml").write_text(
        f'[connections.main]\nbase_uri = "{registry.url}"\nlogging = {{ driver = "null" }}\n'
    )
    names = {"DOCKHAND_AUTHORITY_NAME": "my_auth", "DOCKHAND_REGISTRY_NAME": "my_registry"}
    pem_in_one_line = PEM.replace("\n", "\\n")
    for variables in (
        {"DOCKHAND_PRIVATE_KEY": "keys/private.pem"},
        {"DOCKHAND_PRIVATE_KEY": str(tmp_path / "keys" / "private.pem")},
        {"DOCKHAND_PRIVATE_KEY": PEM},
        {"DOCKHAND_PRIVATE_KEY": pem_in_one_line, "DOCKHAND_PUBLIC_KEY": KEY.public_pem().decode()},
        {"DOCKHAND_PRIVATE_KEY_FILE": "keys/private.pem"},
    ):
        environ = {"DOCKHAND_AUTH_DRIVER": "jwt", **names, **variables}
        with Dockhand(load_config(environ=environ)) as dockhand:
            dockhand.connection().ping()
    assert len(registry.tokens) == 5
    for token in registry.tokens:
        SERVICE.validate(token)


def test_an_encrypted_private_key_is_loaded(make_client: Any, registry: Any) -> None:
    locked = KEY.private_pem("hunter2").decode()
    make_client(private_key=locked, private_key_password="hunter2").ping()
    SERVICE.validate(registry.tokens[0])


OTHER = SigningKey.generate()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"private_key": None}, "auth: private_key: "),
        ({"private_key": 5}, "auth: private_key: a PEM file, or the PEM itself"),
        ({"private_key": "keys/none.pem"}, "keys/none.pem: No such file or directory"),
        ({"private_key": OTHER.public_pem().decode()}, "is not a private key in PEM"),
        ({"private_key": OTHER.private_pem("x").decode()}, "encrypted: a password is needed"),
        ({"private_key_password": "x"}, "auth: private_key: the private key is not encrypted"),
        ({"authority_name": ""}, "auth: authority_name: "),
        ({"registry_name": None}, "auth: registry_name: "),
        ({"key_id": "kid"}, "auth: key_id: Input should be 'libtrust', 'rfc7638' or 'x5c'"),
        ({"lifetime": 0}, "auth: lifetime: "),
        ({"public_key": OTHER.public_pem().decode()}, "public_key: the public key does not belong"),
        ({"public_key": "x"}, "public_key: "),
        (
            {"certificate": single_certificate(OTHER).decode()},
            "certificate: the certificate is not o",
        ),
        ({"certificate": "none.pem"}, "none.pem: No such file"),
        (
            {"certificate": single_certificate(KEY).decode(), "key_id": "libtrust"},
            "with key_id x5c only",
        ),
        ({"privat_key": PEM}, "unknown key 'privat_key'; did you mean 'private_key'?"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    auth = {"driver": "jwt", "private_key": PEM, **NAMES, **settings}
    with pytest.raises(ConfigError) as caught:
        connect("http://r", auth=auth)
    assert message in str(caught.value)
    for line in [line for line in PEM.split("\n") if len(line) > 30]:
        assert line not in str(caught.value)
        error: BaseException | None = caught.value
        while error is not None:
            assert line not in repr(error)
            error = error.__cause__ or error.__context__


def test_missing_settings_are_named() -> None:
    for name in ("private_key", "authority_name", "registry_name"):
        auth = {"driver": "jwt", "private_key": PEM, **NAMES}
        del auth[name]
        with pytest.raises(ConfigError, match=f"auth: {name}: is required"):
            connect("http://r", auth=auth)


def test_nothing_shows_the_private_key() -> None:
    settings = JwtAuth.Settings(
        private_key=SecretStr(PEM), authority_name="my_auth", registry_name="my_registry"
    )
    auth = JwtAuth(settings)
    assert isinstance(auth, AuthDriver)
    for thing in (settings, auth):
        assert PEM.split("\n")[1] not in repr(thing) + str(thing)
