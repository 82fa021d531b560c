"""The auth driver `jwt`: what it signs, when, and what it does where that is refused."""

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
from driven import Loop, driven
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
    said = f',error="{error}"' if error else ""
    bearer = f'Bearer realm="http://r/token",service="my_registry",scope="x:y:z"{said}'
    return 401, {"WWW-Authenticate": bearer, **headers}


@pytest.fixture(params=["sync", "async"])
def world(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def client(world: str, registry: Any) -> Iterator[Any]:
    """Makes clients of either world."""
    loop, made = Loop(), []

    def make(**auth: Any) -> RegistryClient:
        table = {"driver": "jwt", "private_key": PEM, **NAMES, **auth}
        settings: dict[str, Any] = {"auth": table, "logging": {"driver": "null"}, "retries": 0}
        if world == "sync":
            found: Any = connect(registry.url, **settings)
        else:
            found = driven(loop, async_connect(registry.url, **settings))
        made.append(found)
        result: RegistryClient = found
        return result

    yield make
    for one in made:
        one.close()
    loop.close()


def test_exactly_the_scopes(client: Any, registry: Any) -> None:
    """What each operation needs, and nothing else."""
    found = client(subject="alice")
    upload = {"Location": "/v2/a/b/blobs/uploads/1?_state=x", "Range": "0-0"}

    def judge(_: str) -> tuple[int, dict[str, str]]:
        return 202, {**upload, "Docker-Content-Digest": str(DIGEST)}

    found.ping()
    list(found.repositories())
    list(found.tags("a/b"))
    assert registry.access == [[], ["registry:catalog:*"], ["repository:a/b:pull"]]
    registry.judge = judge
    write, delete = "repository:a/b:pull,push", "repository:a/b:delete"
    operations: list[tuple[Callable[[], Any], list[str]]] = [
        (lambda: found.start_upload("a/b"), [write]),
        (
            lambda: found.mount_blob("a/b", DIGEST, "other/one"),
            [write, "repository:other/one:pull"],
        ),
        (lambda: found.delete_manifest("a/b", DIGEST), [delete]),
        (lambda: found.delete_tag("a/b", "v1"), [delete]),
        (lambda: found.delete_blob("a/b", DIGEST), [delete]),
        (lambda: found.cancel_upload(found.start_upload("a/b")), [delete]),
        (lambda: found.put_manifest("a/b", "v1", ImageManifest(config=CONFIG)), [write]),
    ]
    for call, needs in operations:
        asked = len(registry.tokens)
        with suppress(DockhandError):  # it need not make sense of the answer
            call()
        assert needs in registry.access[asked:]
        # what comes beside it is reading and beginning
        assert all(a in (needs, [write], ["repository:a/b:pull"]) for a in registry.access[asked:])
    for token, claims in zip(registry.tokens, registry.claims, strict=True):
        assert SERVICE.validate(token)
        assert claims["sub"] == "alice"
        assert claims["exp"] - claims["iat"] == 300


def test_one_token_for_the_same_scopes(client: Any, registry: Any) -> None:
    found = client(lifetime=60)
    for _ in range(3):
        list(found.tags("a/b"))
        list(found.tags("c"))
    assert len(set(registry.tokens)) == 2
    assert {c["exp"] - c["iat"] for c in registry.claims} == {60}


def test_a_token_that_is_about_to_expire(client: Any, registry: Any) -> None:
    found = client(lifetime=1)
    found.ping()
    threading.Event().wait(0.8)
    found.ping()
    assert len(set(registry.tokens)) == 2


def test_refreshed_once(client: Any, registry: Any) -> None:
    found = client()
    found.ping()
    first = registry.tokens[0]
    registry.judge = lambda token: challenge("invalid_token") if token == first else (200, {})
    for _ in range(2):
        found.ping()
    assert registry.tokens[:2] == [first, first]
    assert len(set(registry.tokens[2:])) == 1
    assert len(registry.tokens) == 4


@pytest.mark.parametrize("error", [None, "invalid_token", "insufficient_scope"])
def test_refused_twice_is_refused(client: Any, registry: Any, error: str | None) -> None:
    registry.judge = lambda _: challenge(error)
    found = client()
    with pytest.raises(Unauthorized) as caught:
        list(found.tags("a/b"))
    assert len(registry.tokens) == 2
    assert registry.access == [["repository:a/b:pull"]] * 2  # not wider
    assert registry.tokens[0] not in repr(caught.value) + str(caught.value)


def test_forgotten_by_disconnect(registry: Any) -> None:
    table = {"base_uri": registry.url, "auth": {"driver": "jwt", "private_key": PEM, **NAMES}}
    with Dockhand({"connections": {"main": {**table, "logging": {"driver": "null"}}}}) as dockhand:
        dockhand.connection().ping()
        dockhand.disconnect()
        dockhand.connection().ping()
    assert len(set(registry.tokens)) == 2


def test_one_signature_for_many_at_once(registry: Any) -> None:
    auth = {"driver": "jwt", "private_key": PEM, **NAMES}
    quiet = {"driver": "null"}
    with connect(registry.url, auth=auth, logging=quiet) as found, ThreadPoolExecutor(20) as pool:
        for future in [pool.submit(found.ping) for _ in range(40)]:
            future.result()

    async def main() -> None:
        async with async_connect(registry.url, auth=auth, logging=quiet) as other:
            await asyncio.gather(*(other.ping() for _ in range(40)))

    asyncio.run(main())
    assert len(registry.tokens) == 80
    assert len(set(registry.tokens)) == 2


def kid_of(judged: str) -> str:
    return {"libtrust": KEY.libtrust, "rfc7638": KEY.thumbprint}[judged]


@pytest.mark.parametrize(
    ("takes", "content_type"),
    [("libtrust", "application/json; charset=utf-8"), ("rfc7638", "application/json")],
)
def test_registry_without_our_certificate(
    client: Any, registry: Any, takes: str, content_type: str
) -> None:
    """One made elsewhere: then the key goes by the name that this version knows."""

    def judge(_: str) -> tuple[int, dict[str, str]]:
        header = registry.headers[-1]
        fine = "x5c" not in header and header["kid"] == kid_of(takes)
        return (200, {}) if fine else challenge("invalid_token", **{"Content-Type": content_type})

    registry.judge = judge
    found = client()
    found.ping()
    list(found.tags("a/b"))
    ways = ["x5c" in header for header in registry.headers]
    assert ways == [True, False, False]


def test_a_way_that_was_taken_is_kept(client: Any, registry: Any) -> None:
    found = client()
    found.ping()
    registry.judge = lambda _: challenge("invalid_token")
    with pytest.raises(Unauthorized):
        found.ping()
    assert all("x5c" in header for header in registry.headers)


def test_the_third_way_is_tried_next(client: Any, registry: Any) -> None:
    registry.judge = lambda _: challenge("invalid_token")
    found = client()
    for _ in range(2):
        with pytest.raises(Unauthorized):
            found.ping()
    kinds = ["x5c" if "x5c" in h else h["kid"] for h in registry.headers]
    assert kinds == ["x5c", KEY.thumbprint, KEY.libtrust, "x5c"]


@pytest.mark.parametrize("key_id", ["x5c", "libtrust", "rfc7638"])
def test_a_way_that_was_asked_for(client: Any, registry: Any, key_id: str) -> None:
    registry.judge = lambda _: challenge("invalid_token")
    with pytest.raises(Unauthorized):
        client(key_id=key_id).ping()
    assert len(registry.tokens) == 2
    for header in registry.headers:
        assert ("x5c" in header) == (key_id == "x5c")
        assert header["kid"] == (KEY.libtrust if key_id == "libtrust" else KEY.thumbprint)


def one_certificate(key: SigningKey) -> bytes:
    bundle = key.self_signed_certificate("my_auth")
    return bundle[: bundle.index(b"-----END CERTIFICATE-----\n") + 26]


@pytest.mark.parametrize("name", ["certificate", "public_key"])
def test_a_certificate_that_was_given(
    client: Any, registry: Any, name: str, tmp_path: Path
) -> None:
    pem = one_certificate(KEY)
    (tmp_path / "certificate.pem").write_bytes(pem)
    for given in (str(tmp_path / "certificate.pem"), pem.decode()):
        client(**{name: given}).ping()
    bodies = ["".join(pem.decode().split("\n")[1:-2])] * 2
    assert [header["x5c"][0] for header in registry.headers] == bodies


def test_where_the_key_comes_from(registry: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """A file beside dockhand.toml, a variable with a path, one with the PEM, a secret's file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "private.pem").write_text(PEM)
    (tmp_path / "dockhand.toml").write_text(
        f'[connections.main]\nbase_uri = "{registry.url}"\nlogging = {{ driver = "null" }}\n'
    )
    names = {"DOCKHAND_AUTHORITY_NAME": "my_auth", "DOCKHAND_REGISTRY_NAME": "my_registry"}
    flat = PEM.replace("\n", "\\n")
    for given in (
        {"DOCKHAND_PRIVATE_KEY": "keys/private.pem"},
        {"DOCKHAND_PRIVATE_KEY": str(tmp_path / "keys" / "private.pem")},
        {"DOCKHAND_PRIVATE_KEY": PEM},
        {"DOCKHAND_PRIVATE_KEY": flat, "DOCKHAND_PUBLIC_KEY": KEY.public_pem().decode()},
        {"DOCKHAND_PRIVATE_KEY_FILE": "keys/private.pem"},
    ):
        environ = {"DOCKHAND_AUTH_DRIVER": "jwt", **names, **given}
        with Dockhand(load_config(environ=environ)) as dockhand:
            dockhand.connection().ping()
    assert len(registry.tokens) == 5
    for token in registry.tokens:
        SERVICE.validate(token)


def test_an_encrypted_key(client: Any, registry: Any) -> None:
    locked = KEY.private_pem("hunter2").decode()
    client(private_key=locked, private_key_password="hunter2").ping()
    SERVICE.validate(registry.tokens[0])


OTHER = SigningKey.generate()


@pytest.mark.parametrize(
    ("settings", "said"),
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
        ({"public_key": OTHER.public_pem().decode()}, "public_key: the public key is not of this"),
        ({"public_key": "x"}, "public_key: "),
        ({"certificate": one_certificate(OTHER).decode()}, "certificate: the certificate is not o"),
        ({"certificate": "none.pem"}, "none.pem: No such file"),
        ({"certificate": one_certificate(KEY).decode(), "key_id": "libtrust"}, "goes with key_id"),
        ({"privat_key": PEM}, "unknown key 'privat_key'; did you mean 'private_key'?"),
    ],
)
def test_settings_that_are_wrong(settings: dict[str, Any], said: str) -> None:
    auth = {"driver": "jwt", "private_key": PEM, **NAMES, **settings}
    with pytest.raises(ConfigError) as caught:
        connect("http://r", auth=auth)
    assert said in str(caught.value)
    for line in [line for line in PEM.split("\n") if len(line) > 30]:
        assert line not in str(caught.value)
        error: BaseException | None = caught.value
        while error is not None:
            assert line not in repr(error)
            error = error.__cause__ or error.__context__


def test_missing_settings() -> None:
    for name in ("private_key", "authority_name", "registry_name"):
        auth = {"driver": "jwt", "private_key": PEM, **NAMES}
        del auth[name]
        with pytest.raises(ConfigError, match=f"auth: {name}: is required"):
            connect("http://r", auth=auth)


def test_nothing_shows_the_private_key() -> None:
    made = JwtAuth.Settings(
        private_key=SecretStr(PEM), authority_name="my_auth", registry_name="my_registry"
    )
    auth = JwtAuth(made)
    assert isinstance(auth, AuthDriver)
    for thing in (made, auth):
        assert PEM.split("\n")[1] not in repr(thing) + str(thing)
