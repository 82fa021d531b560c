"""`locate`: which connection the host of a reference belongs to, and which one is made."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from dockhand_testing.contracts.samples import push_image
from registries import HTPASSWD, PASSWORD, embedded

from dockhand_core import (
    AsyncDockhand,
    AsyncRegistryClient,
    ConfigError,
    Dockhand,
    DockhandError,
    Place,
    PluginNotFound,
    Reference,
    ReferenceInvalid,
    RegistryClient,
    Unauthorized,
    connect,
)
from dockhand_core.manager import _Manager

DIGEST = f"sha256:{'ab' * 32}"
TABLES: dict[str, Any] = {
    "plain": {"base_uri": "http://registry.example.com"},
    "secure": {"base_uri": "https://registry.example.com/v2/"},
    "main": {"base_uri": "https://registry.example.com:443"},
    "port": {"base_uri": "https://registry.example.com:5000"},
    "path": {"base_uri": "https://paths.example.com/registry"},
    "six": {"base_uri": "http://[0:0:0:0:0:0:0:1]:5000"},
    "local": {"base_uri": "http://localhost:5000/v2"},
    "other": {"base_uri": "https://other.example.com", "driver": "zot"},
    "broken": {"base_uri": 5},
    "wrong": {"base_uri": "https://[::1"},
    "folder": {"driver": "embedded", "root": ":memory:"},
}


@pytest.fixture(params=[Dockhand, AsyncDockhand])
def open_manager(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Provide a function that makes a manager of both kinds, which is closed after the test."""
    made: list[Any] = []

    def call(connections: dict[str, Any], **settings: Any) -> Any:
        tables = {name: {"logging": {"driver": "null"}, **t} for name, t in connections.items()}
        made.append(request.param({"connections": tables, **settings}))
        return made[-1]

    yield call
    for manager in made:
        done = manager.close()
        if done is not None:
            asyncio.run(done)


def url_of(place: Place[Any]) -> str:
    """The URL of a place's client."""
    found: str = place.client.driver.settings.base_uri
    return found


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("registry.example.com/a", "plain"),
        ("REGISTRY.example.com/a", "plain"),
        ("registry.example.com:80/a", "plain"),
        ("registry.example.com:443/a", "secure"),
        ("registry.example.com:5000/a", "port"),
        ("[::1]:5000/a", "six"),
        ("localhost:5000/a", "local"),
        ("other.example.com/a", "other"),
        ("@port/a", "port"),
        ("@path/a", "path"),
        ("@folder/a", "folder"),
    ],
)
def test_configured_connections(open_manager: Callable[..., Any], text: str, name: str) -> None:
    dockhand = open_manager(TABLES, default="port")
    place = dockhand.locate(text)
    assert place.client is dockhand.connection(name)
    assert place == (place.client, "a", "latest")
    kind = AsyncRegistryClient if isinstance(dockhand, AsyncDockhand) else RegistryClient
    assert isinstance(place.client, kind)


def test_the_default_connection_is_preferred(open_manager: Callable[..., Any]) -> None:
    dockhand = open_manager(TABLES, default="main")
    assert dockhand.locate("registry.example.com/a").client.name == "main"
    assert dockhand.locate("registry.example.com:443/a").client.name == "main"
    assert dockhand.locate("registry.example.com:80/a").client.name == "plain"


@pytest.mark.parametrize(
    ("text", "repository", "reference"),
    [
        ("localhost:5000/library/nginx:1.27", "library/nginx", "1.27"),
        (f"localhost:5000/library/nginx:1.27@{DIGEST}", "library/nginx", DIGEST),
        (f"localhost:5000/nginx@{DIGEST}", "nginx", DIGEST),
        ("@local/library/nginx:1.27", "library/nginx", "1.27"),
        (f"@local/nginx:1.27@{DIGEST}", "nginx", DIGEST),
        ("@local/nginx", "nginx", "latest"),
    ],
)
def test_repository_and_reference(
    open_manager: Callable[..., Any], text: str, repository: str, reference: str
) -> None:
    dockhand = open_manager(TABLES)
    place = dockhand.locate(text)
    assert (place.client.name, place.repository, place.reference) == (
        "local",
        repository,
        reference,
    )
    if not text.startswith("@"):
        assert dockhand.locate(Reference.parse(text)) == place


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("nginx", "https://registry-1.docker.io"),
        ("docker.io/a/b", "https://registry-1.docker.io"),
        ("index.docker.io:443/a/b", "https://registry-1.docker.io"),
        ("registry-1.docker.io/a/b", "https://registry-1.docker.io"),
        ("quay.io/a", "https://quay.io"),
        ("quay.io:443/a", "https://quay.io"),
        ("quay.io:5000/a", "https://quay.io:5000"),
        ("localhost/a", "http://localhost"),
        ("localhost:80/a", "http://localhost"),
        ("localhost:5001/a", "http://localhost:5001"),
        ("127.8.9.10:5001/a", "http://127.8.9.10:5001"),
        ("[0::1]:5001/a", "http://[::1]:5001"),
        ("[::2]:5001/a", "https://[::2]:5001"),
        ("128.0.0.1/a", "https://128.0.0.1"),
        ("127.0.0.1.example.com/a", "https://127.0.0.1.example.com"),
        ("localhost.example.com/a", "https://localhost.example.com"),
        ("paths.example.com/a", "https://paths.example.com"),  # configured, but with a path
    ],
)
def test_connections_that_are_made(open_manager: Callable[..., Any], text: str, url: str) -> None:
    dockhand = open_manager(TABLES)
    place = dockhand.locate(text)
    assert url_of(place) == url
    assert place.client.driver.name == "distribution"
    assert dockhand.locate(text).client is place.client
    assert place.client.name not in dockhand.connections


def test_one_connection_for_all_spellings_of_a_host(open_manager: Callable[..., Any]) -> None:
    dockhand = open_manager({})
    for spellings in (
        ("nginx", "docker.io/a/b", "registry-1.docker.io:443/a/b"),
        ("quay.io/a", "Quay.IO:443/b"),
        ("[::1]:5000/a", "[0:0::1]:5000/b"),
    ):
        assert len({id(dockhand.locate(text).client) for text in spellings}) == 1


@pytest.mark.parametrize("uri", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_docker_hub_is_one_host(open_manager: Callable[..., Any], uri: str) -> None:
    dockhand = open_manager({"hub": {"base_uri": f"https://{uri}/v2/"}})
    for text in ("nginx", "docker.io/nginx", "registry-1.docker.io/library/nginx", "@hub/nginx"):
        assert dockhand.locate(text)[1:] == ("library/nginx", "latest")
        assert dockhand.locate(text).client is dockhand.connection("hub")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "empty"),
        ("@", "@connection/repository"),
        ("@local", "@connection/repository"),
        ("@/a", "@connection/repository"),
        ("@local/", "no repository"),
        ("@local/A", "upper-case"),
        ("@local/a:", "is not a tag"),
        ("@local/a@b", "no digest"),
        ("@alice:s3cret@local/a", "@connection/repository"),
        ("alice:s3cret@localhost:5000/a", "no digest"),
    ],
)
def test_malformed_text(open_manager: Callable[..., Any], text: str, named: str) -> None:
    with pytest.raises(ReferenceInvalid, match=named) as caught:
        open_manager(TABLES).locate(text)
    assert "s3cret" not in str(caught.value)


def test_unknown_connection(open_manager: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="no connection named 'locla'.*did you mean 'local'"):
        open_manager(TABLES).locate("@locla/a")


def test_drivers_that_are_not_installed(
    open_manager: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKHAND_DISABLE_PLUGINS", "token")
    dockhand = open_manager({})
    with pytest.raises(
        PluginNotFound,
        match=r"no connection is configured for 'quay\.io'.*'token' is not installed.*pip install",
    ):
        dockhand.locate("quay.io/a")


def test_name_without_a_host_leads_to_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user may have meant the default connection."""
    monkeypatch.setenv("DOCKHAND_DISABLE_PLUGINS", "token")
    tables = {"main": {"base_uri": "http://localhost:1"}}
    with Dockhand({"connections": tables}) as dockhand, pytest.raises(PluginNotFound) as caught:
        dockhand.locate("team/notes")
    assert str(caught.value).endswith(
        "; a name without a host is one of docker.io: write @main/REPOSITORY for a repository of "
        "the connection 'main'"
    )


def test_threads_share_the_connection_that_is_made() -> None:
    with Dockhand({}) as dockhand, ThreadPoolExecutor(16) as pool:
        places = list(pool.map(dockhand.locate, ["quay.io/a", "quay.io:443/b"] * 50))
        assert len({id(place.client) for place in places}) == 1


def test_a_closed_manager_closes_what_it_made(open_manager: Callable[..., Any]) -> None:
    dockhand: _Manager[Any] = open_manager({})
    client = dockhand.locate("localhost:1/a").client

    async def use() -> None:
        await dockhand.close()  # type: ignore[attr-defined]
        await client.ping()

    with pytest.raises(DockhandError, match="closed"):
        if isinstance(dockhand, AsyncDockhand):
            asyncio.run(use())
        else:
            dockhand.close()  # type: ignore[attr-defined]
            client.ping()
    with pytest.raises(DockhandError, match="this manager is closed"):
        dockhand.locate("localhost:1/a")


def test_credentials_of_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The made connection logs in with the credentials that docker stores for the host."""
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with embedded(tmp_path / "registry", "--htpasswd", str(tmp_path / "htpasswd")) as url:
        host = url.removeprefix("http://")
        auth = {"driver": "basic", "username": "alice", "password": PASSWORD}
        with connect(url, auth=auth) as registry:
            image = push_image(registry, "app", "v1")
        with Dockhand({}) as dockhand:
            place = dockhand.locate(f"{host}/app:v1")
            with pytest.raises(Unauthorized):
                place.client.manifest(place.repository, place.reference)
        token = b64encode(f"alice:{PASSWORD}".encode()).decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"auth": token}}}))
        with Dockhand({}) as dockhand:
            place = dockhand.locate(f"{host}/app:v1")
            assert place.client.manifest(place.repository, place.reference) == image

        async def pull() -> None:
            async with AsyncDockhand({}) as dockhand:
                there = dockhand.locate(f"{host}/app:v1@{image.digest}")
                assert await there.client.manifest(there.repository, there.reference) == image

        asyncio.run(pull())
