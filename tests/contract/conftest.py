"""Fixtures: the registries that the contract tests run against, and sync and async clients."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from abilities import ABILITIES
from dockhand_auth_jwt import SigningKey
from dockhand_testing import Abilities
from http_cassettes import RECORDING, REPLAY_URL, BlockingAsyncClient, cassette
from registries import HTPASSWD, crane_registry, distribution, embedded, zot

from dockhand_core import RegistryClient, connect
from dockhand_core.http.transports import ASYNC_TRANSPORTS, SYNC_TRANSPORTS


@dataclass(frozen=True)
class Target:
    """A registry that the tests run against.

    Attributes:
        name: the target's name in the ids of tests.
        kind: `embedded` (in the process of the tests), `served` (the embedded registry in a process
            of its own), `cassette` (recorded replies) or `live` (a real server).
        registry: the registry's name in the table of abilities; also the folder of its cassettes.
        version: Distribution's version, or the storage of an embedded registry.
        tokens: whether the registry demands tokens.
        driver: the name of the registry driver.
    """

    name: str
    kind: str
    registry: str
    version: str = ""
    tokens: bool = False
    driver: str = "distribution"

    @property
    def can(self) -> Abilities:
        """The registry's abilities."""
        return ABILITIES[self.registry]


TARGETS = [
    Target("embedded-memory", "embedded", "embedded", "memory", driver="embedded"),
    Target("embedded-folder", "embedded", "embedded", "folder", driver="embedded"),
    Target("embedded-served", "served", "embedded", "folder"),
]
for _kind in ("cassette", "live"):
    TARGETS += [
        Target(f"{_kind}-2.8", _kind, "distribution-2.8", "2.8"),
        Target(f"{_kind}-3.1", _kind, "distribution-3.1", "3.1"),
        Target(f"{_kind}-zot", _kind, "zot", driver="zot"),
        Target(f"{_kind}-crane", _kind, "crane"),
    ]
# Some of these registries again, but demanding tokens, which the auth driver `jwt` signs.
TARGETS += [
    replace(target, name=f"{target.name}-jwt", tokens=True)
    for target in TARGETS
    if target.can.has_tokens
    and (target.kind == "live" or target.name in {"embedded-memory", "embedded-served"})
]
KEY = SigningKey.generate()
REALM, ISSUER, SERVICE = "http://localhost/token", "dockhand-tests", "registry-under-test"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that takes a registry against every target, with sync and async clients."""
    if "target" in metafunc.fixturenames:
        targets = [t for t in TARGETS if t.kind == "cassette"] if RECORDING else TARGETS
        if "connect_with_auth" in metafunc.fixturenames:
            targets = [t for t in targets if t.can.has_logins and not t.tokens]
        metafunc.parametrize(
            ("target", "mode"),
            [
                pytest.param(
                    target,
                    mode,
                    id=f"{target.name}-{mode}",
                    marks=[pytest.mark.live] if target.kind == "live" else [],
                )
                for target in targets
                for mode in _modes(target)
            ],
            scope="session",
        )


def _modes(target: Target) -> list[str]:
    """Return the clients to test: sync and async; for a live server, each transport."""
    if RECORDING:
        return ["sync"]
    if target.kind == "live" and not target.tokens:
        sync = [f"sync-{name}" for name in SYNC_TRANSPORTS]
        return sync + [f"async-{name}" for name in ASYNC_TRANSPORTS]
    return ["sync", "async"]


@pytest.fixture
def abilities(target: Target) -> Abilities:
    """The abilities of the target's registry."""
    return target.can


@pytest.fixture(scope="session")
def registry_url(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start the target's server and provide its URL, or provide the URL in its cassettes."""
    folder = tmp_path_factory.mktemp("registry")
    sections: dict[str, Any] = {}
    if target.tokens and target.kind == "live":
        certificate = folder / "certificate.pem"
        certificate.write_bytes(KEY.self_signed_certificate(ISSUER))
        token = {"realm": REALM, "service": SERVICE}
        if target.driver == "zot":
            sections = {"auth": {"bearer": {**token, "cert": str(certificate)}}}
        else:
            token |= {"issuer": ISSUER, "rootcertbundle": str(certificate)}
            sections = {"auth": {"token": token}}
    with _server(target, folder, **sections) as url:
        yield url


@pytest.fixture(scope="session")
def login_url(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a server that demands a user name and a password, and provide its URL."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "htpasswd").write_text(HTPASSWD)
    users = {"path": str(folder / "htpasswd")}
    if target.driver != "zot":
        users["realm"] = "basic-realm"
    with _server(target, folder, auth={"htpasswd": users}) as url:
        yield url


@contextmanager
def _server(target: Target, folder: Path, **sections: Any) -> Iterator[str]:
    if target.kind == "live" or (target.kind == "cassette" and RECORDING):
        if target.registry == "zot":
            server = zot(folder, **sections)
        elif target.registry == "crane":
            server = crane_registry(folder)
        else:
            server = distribution(target.version, folder, **sections)
        with server as url:
            yield url
    elif target.kind == "served":
        with embedded(folder, *(_token_options(folder) if target.tokens else ())) as url:
            yield url
    else:
        yield REPLAY_URL


@pytest.fixture
def registry(
    target: Target,
    mode: str,
    registry_url: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[RegistryClient]:
    """Connect a client to the target."""
    settings: dict[str, Any] = {}
    if target.tokens:
        names = {"authority_name": ISSUER, "registry_name": SERVICE}
        settings["auth"] = {"driver": "jwt", "private_key": KEY.private_pem().decode(), **names}
    if target.kind == "embedded":
        place = ":memory:" if target.version == "memory" else str(tmp_path / "registry")
        if target.tokens:
            settings |= _token_settings(tmp_path)
        with open_client(target, mode, place, **settings) as found:
            yield found
    else:
        with (
            _cassette_or_nothing(target, request),
            open_client(target, mode, registry_url, **settings) as found,
        ):
            yield found


def _token_settings(folder: Path) -> dict[str, str]:
    """Write the public key, and return settings that make an embedded registry demand tokens."""
    path = folder / "keys" / "jwks.json"
    path.parent.mkdir()
    path.write_text(json.dumps(KEY.jwks()))
    names = {"token_realm": REALM, "token_service": SERVICE, "token_issuer": ISSUER}
    return {**names, "token_jwks": str(path)}


def _token_options(folder: Path) -> list[str]:
    """Return the result of `_token_settings` as command line options."""
    settings = _token_settings(folder)
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]


@pytest.fixture
def connect_with_auth(
    target: Target, mode: str, login_url: str, request: pytest.FixtureRequest
) -> Iterator[Callable[..., RegistryClient]]:
    """Provide a function that connects a client to a registry that demands a login.

    The function takes the settings of the `auth` table as keyword arguments.
    """
    with _cassette_or_nothing(target, request), ExitStack() as stack:
        yield lambda **auth: stack.enter_context(open_client(target, mode, login_url, auth=auth))


def open_client(target: Target, mode: str, place: str, **settings: Any) -> Any:
    """Open a sync client, or an async client whose calls block, as a context manager."""
    settings["logging"] = {"driver": "null"}
    settings.setdefault("driver", target.driver)
    if target.kind == "cassette":
        settings |= {"transport": "httpx", "retries": 0}
    kind, _, transport = mode.partition("-")
    if transport:
        settings["transport"] = transport
    if kind == "sync":
        return connect(place, **settings)
    return BlockingAsyncClient(place, **settings)


def _cassette_or_nothing(target: Target, request: pytest.FixtureRequest) -> Any:
    if target.kind != "cassette":
        return nullcontext()
    return cassette(target.registry, request.node.originalname.removeprefix("test_"))


@pytest.fixture
def repository(target: Target, mode: str, request: pytest.FixtureRequest) -> str:
    """The name of this test's repository; a cassette's replay uses the recorded name."""
    name = request.node.originalname.removeprefix("test_").replace("_", "-")
    return f"{mode}/{name}" if target.kind in ("live", "served") else f"contract/{name}"
