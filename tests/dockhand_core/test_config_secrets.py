"""Reprs, messages and tracebacks contain no secrets."""

from __future__ import annotations

import copy
import pickle
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, field_validator

from dockhand_core import (
    AsyncDockhand,
    AuthDriver,
    ConfigError,
    Dockhand,
    DockhandConfig,
    DockhandError,
    async_connect,
    connect,
    hookimpl,
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


def full_traceback(error: BaseException) -> str:
    """Return the traceback of an error with all chained exceptions, and the error's repr."""
    return "".join(traceback.format_exception(error)) + repr(error)


@pytest.mark.parametrize("auth", AUTHS, ids="-".join)
def test_reprs_of_settings_have_no_secrets(auth: dict[str, str]) -> None:
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
    assert "alice" not in repr(main.auth)  # reprs contain no user names either


@pytest.mark.parametrize("auth", AUTHS, ids="-".join)
def test_reprs_of_clients_have_no_secrets(auth: dict[str, str]) -> None:
    settings = table(auth=auth, headers={"X-Token": SECRET}, proxy=f"http://u:{SECRET}@proxy:1")
    with Dockhand({"connections": {"main": settings}}) as dockhand:
        twins = AsyncDockhand({"connections": {"main": settings}})
        for client in (dockhand.connection(), twins.connection()):
            endpoint: Any = client._runner.endpoint
            for thing in (client, client.driver, endpoint.auth, dockhand, twins, dockhand.plugins):
                assert SECRET not in repr(thing)
                assert SECRET not in str(thing)


def test_errors_of_a_client_have_no_secrets(serve: Any) -> None:
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
    assert SECRET not in full_traceback(caught.value)
    with (
        connect("http://127.0.0.1:1", retries=0, **settings) as client,
        pytest.raises(DockhandError) as caught,
    ):
        client.ping()
    assert SECRET not in full_traceback(caught.value)
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
def test_config_errors_have_no_secrets(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Dockhand({"connections": {"main": table(**wrong)}}).connection()
    assert SECRET not in full_traceback(caught.value)
    with pytest.raises(ConfigError) as caught:
        async_connect(**table(**wrong))
    assert SECRET not in full_traceback(caught.value)


def test_config_errors_of_variables_have_no_secrets() -> None:
    for environ in (
        {"DOCKHAND_TOKN": SECRET},
        {"DOCKHAND_CONNECTIONS__A__TIMEOUT": SECRET},
        {"DOCKHAND_CONNECTIONS__A": SECRET},
        {"DOCKHAND_CONNECTIONS__A__AUTH": SECRET},
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(environ=environ)
        assert SECRET not in full_traceback(caught.value)


def test_a_secret_file_named_by_a_variable_starts_at_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path in `dockhand.toml` itself would start at that file's folder instead."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "secret.txt").write_text("from the working folder\n")
    (tmp_path / "etc" / "secret.txt").write_text("beside the file\n")
    config = tmp_path / "etc" / "dockhand.toml"
    config.write_text('[connections.main]\nbase_uri = "http://r"\n')
    monkeypatch.chdir(tmp_path)
    names = {"DOCKHAND_AUTH_DRIVER": "basic", "DOCKHAND_PASSWORD_FILE": "secret.txt"}
    _, table = load_config(config, names).connection()
    assert table.auth.options["password_file"] == str(tmp_path / "secret.txt")


class QuotingAuth(AuthDriver):
    """An auth driver whose validator quotes the value that it refuses."""

    class Settings(AuthDriver.Settings):
        pin: SecretStr

        @field_validator("pin", mode="before")
        @classmethod
        def _check_pin(cls, value: str) -> str:
            raise ValueError(f"{value!r} has letters")

    def auth_flow(self, request: Any) -> Any:
        yield request


class QuotingPlugin:
    @hookimpl
    def dockhand_auth_drivers(self) -> dict[str, Any]:
        return {"quoting": QuotingAuth}


def test_a_validator_that_quotes_a_secret() -> None:
    main = table(auth={"driver": "quoting", "pin": SECRET})
    with Dockhand({"connections": {"main": main}}) as dockhand:
        dockhand.plugins.register(QuotingPlugin())
        with pytest.raises(ConfigError, match="auth: pin: '...' has letters") as caught:
            dockhand.connection()
    assert SECRET not in full_traceback(caught.value)
