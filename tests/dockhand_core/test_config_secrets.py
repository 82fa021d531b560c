"""No secret is shown: not by what is printed, nor by what is raised."""

from __future__ import annotations

import copy
import pickle
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dockhand_core import (
    AsyncDockhand,
    ConfigError,
    Dockhand,
    DockhandConfig,
    DockhandError,
    async_connect,
    connect,
)
from dockhand_core.config import load_config

pytestmark = pytest.mark.usefixtures("clean")

SECRET = "hunter2-s3cret"
AUTHS: list[dict[str, str]] = [
    {"driver": "basic", "username": "alice", "password": SECRET},
    {"driver": "bearer", "token": SECRET},
    {"driver": "apikey", "username": "alice", "api_key": SECRET},
    {"driver": "apikey", "header": "X-Key", "api_key": SECRET},
]


def table(**settings: Any) -> dict[str, Any]:
    return {"base_uri": "http://r.invalid", **settings}


def redacted_url(error: BaseException) -> str:
    """All that a traceback prints, what it was chained from included."""
    return "".join(traceback.format_exception(error)) + repr(error)


@pytest.mark.parametrize("auth", AUTHS, ids="-".join)
def test_what_is_printed(auth: dict[str, str]) -> None:
    full = table(
        auth=auth,
        headers={"X-Token": SECRET},
        proxy=f"http://u:{SECRET}@proxy:3128",
        logging={"driver": "null", "token": SECRET},
        some_key_of_a_driver=SECRET,
    )
    config = DockhandConfig.parse({"connections": {"main": full}})
    main = config.connection()[1]
    for thing in (config, main, main.auth, main.logging, main.headers, main.proxy):
        for text in (repr(thing), str(thing), f"{thing}", format(thing)):
            assert SECRET not in text
    assert "alice" not in repr(main.auth)  # nor whose it is


@pytest.mark.parametrize("auth", AUTHS, ids="-".join)
def test_clients_and_their_parts(auth: dict[str, str]) -> None:
    settings = table(auth=auth, headers={"X-Token": SECRET}, proxy=f"http://u:{SECRET}@proxy:1")
    with Dockhand({"connections": {"main": settings}}) as dockhand:
        twins = AsyncDockhand({"connections": {"main": settings}})
        for client in (dockhand.connection(), twins.connection()):
            wire: Any = client._runner.endpoint
            for thing in (client, client.driver, wire.auth, dockhand, twins, dockhand.plugins):
                assert SECRET not in repr(thing)
                assert SECRET not in str(thing)


def test_errors_of_a_client(serve: Any) -> None:
    def refuse(method: str, path: str, headers: Mapping[str, str], body: bytes) -> Any:
        assert SECRET in headers["x-token"]
        return 401, {}, b""

    settings: dict[str, Any] = {
        "auth": AUTHS[0],
        "headers": {"X-Token": SECRET},
        "logging": {"driver": "null"},
    }
    with connect(serve(refuse), **settings) as client, pytest.raises(DockhandError) as caught:
        client.ping()
    assert SECRET not in redacted_url(caught.value)
    with (
        connect("http://127.0.0.1:1", retries=0, **settings) as client,
        pytest.raises(DockhandError) as caught,
    ):
        client.ping()
    assert SECRET not in redacted_url(caught.value)
    assert SECRET not in repr(pickle.loads(pickle.dumps(copy.copy(caught.value))))


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": SECRET},
        {"retries": [SECRET]},
        {"headers": {"X": [SECRET]}},
        {"headers": SECRET},
        {"proxy": [SECRET]},
        {"proxy": 5, "proxy_file": SECRET},
        {"logging": {"level": SECRET}},
        {"logging": {"driver": "console", "token": SECRET}},
        {"auth": SECRET},
        {"auth": {"driver": "basic", "username": f"a:{SECRET}", "password": SECRET}},
        {"auth": {"driver": "basic", "password": SECRET}},
        {"auth": {"driver": "basic", "username": ["x"], "password": [SECRET]}},
        {"auth": {"driver": "basic", "username": "a", "password": SECRET, "tokn": SECRET}},
        {"auth": {"driver": "bearer", "token": f"{SECRET} {SECRET}"}},
        {"auth": {"driver": "bearer", "token": f"{SECRET}\n"}},
        {"auth": {"driver": "bearer", "token": {"a": SECRET}}},
        {"auth": {"driver": "bearer", "tokn": SECRET}},
        {"auth": {"driver": "apikey", "api_key": SECRET}},
        {"auth": {"driver": "apikey", "api_key": f"{SECRET}\n", "username": "a"}},
        {"auth": {"driver": "apikey", "api_key": SECRET, "header": "a b"}},
        {"auth": {"driver": "apikey", "api_key": SECRET, "header": "X", "prefix": [SECRET]}},
        {"base_uri": [SECRET]},
        {"base_uri": f"http://u:{SECRET}@r"},
        {"other": SECRET},
    ],
    ids=str,
)
def test_config_errors(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Dockhand({"connections": {"main": table(**wrong)}}).connection()
    assert SECRET not in redacted_url(caught.value)
    with pytest.raises(ConfigError) as caught:
        async_connect(**table(**wrong))
    assert SECRET not in redacted_url(caught.value)


def test_config_errors_of_files_and_variables() -> None:
    for environ in (
        {"DOCKHAND_TOKN": SECRET},
        {"DOCKHAND_CONNECTIONS__A__TIMEOUT": SECRET},
        {"DOCKHAND_CONNECTIONS__A": SECRET},
        {"DOCKHAND_CONNECTIONS__A__AUTH": SECRET},
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(environ=environ)
        assert SECRET not in redacted_url(caught.value)


def test_file_named_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts at the working folder; one that the file names starts at the file."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "secret.txt").write_text("from the working folder\n")
    (tmp_path / "etc" / "secret.txt").write_text("beside the file\n")
    config = tmp_path / "etc" / "dockhand.toml"
    config.write_text('[connections.main]\nbase_uri = "http://r"\n')
    monkeypatch.chdir(tmp_path)
    names = {"DOCKHAND_AUTH_DRIVER": "basic", "DOCKHAND_PASSWORD_FILE": "secret.txt"}
    _, table = load_config(config, names).connection()
    assert table.auth.options["password_file"] == str(tmp_path / "secret.txt")
