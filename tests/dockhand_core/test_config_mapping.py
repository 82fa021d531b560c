"""A mapping, a `DockhandConfig` and `connect` read neither file nor environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dockhand_core import (
    AsyncDockhand,
    ConfigError,
    Dockhand,
    DockhandConfig,
    DockhandError,
    async_connect,
    connect,
)
from dockhand_core.config import AuthConfig, ConnectionConfig
from dockhand_core.logs import LogSettings

pytestmark = pytest.mark.usefixtures("clean")

AMBIENT = {
    "DOCKHAND_CONNECTION": "ambient",
    "DOCKHAND_BASE_URI": "http://ambient.invalid",
    "DOCKHAND_AUTH_DRIVER": "basic",
    "DOCKHAND_USERNAME": "ambient",
    "DOCKHAND_PASSWORD": "ambient",
    "DOCKHAND_LOG_DRIVER": "console",
    "DOCKHAND_CONNECTIONS__MAIN__RETRIES": "9",
    "DOCKHAND_CONNECTIONS__DEFAULT__RETRIES": "9",
    "DOCKHAND_CONFIG": "missing.toml",
}
TABLE: dict[str, Any] = {"base_uri": "http://r", "headers": {"X": "${HOME}"}}


@pytest.fixture
def ambient(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AMBIENT.items():
        monkeypatch.setenv(name, value)
    (clean / "dockhand.toml").write_text('[connections.ambient]\nbase_uri = "http://file"')


@pytest.mark.usefixtures("ambient")
class TestNothingAmbientIsRead:
    def check(self, config: DockhandConfig) -> None:
        name, table = config.connection()
        assert name == "main"
        assert list(config.connections) == ["main"]
        assert table.options == {"base_uri": "http://r"}
        assert table.retries == 3
        assert (table.auth.driver, table.logging.driver) == ("null", "stdlib")
        assert table.headers["X"].get_secret_value() == "${HOME}"  # the variable is not expanded

    def test_by_a_mapping(self) -> None:
        data = {"default": "main", "connections": {"main": TABLE}}
        self.check(Dockhand(data).config)
        self.check(AsyncDockhand(data).config)

    def test_by_a_config(self) -> None:
        config = DockhandConfig(default="main", connections={"main": ConnectionConfig(**TABLE)})
        assert Dockhand(config).config is config
        self.check(config)

    def test_by_connect(self) -> None:
        with connect("http://r") as client:
            endpoint = client._runner.endpoint
            assert (client.name, endpoint.base, endpoint.retry.retries) == (
                "default",
                "http://r",
                3,
            )
            assert type(endpoint.auth).__name__ == "NullAuth"
            assert type(client).__name__ == "DistributionClient"

    def test_by_async_connect(self) -> None:
        endpoint = async_connect("http://r")._runner.endpoint
        assert (endpoint.base, type(endpoint.auth).__name__) == ("http://r", "NullAuth")

    def test_by_an_empty_mapping(self) -> None:
        with pytest.raises(ConfigError, match="no connection named 'default'"):
            Dockhand({}).connection()


def test_connect_takes_the_keys_of_a_connection(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("hunter2\n")
    client = connect(
        "http://localhost:5000",
        driver="distribution",
        auth={"driver": "basic", "username": "alice", "password_file": "pw"},
        timeout=3,
        retries=0,
        headers={"X-Team": "red"},
        logging={"driver": "null"},
    )
    endpoint = client._runner.endpoint
    assert (endpoint.timeout, endpoint.retry.retries, endpoint.headers) == (
        3.0,
        0,
        {"X-Team": "red"},
    )
    assert type(endpoint.auth).__name__ == "BasicAuth"
    with pytest.raises(ConfigError, match=r"unknown key 'timout'; did you mean 'timeout'\?"):
        connect("http://localhost:5000", timout=3)


def test_other_types_are_refused() -> None:
    for wrong in ("dockhand.toml", 5, ["a"]):
        with pytest.raises(ConfigError, match="a configuration is a mapping"):
            Dockhand(wrong)  # type: ignore[arg-type]


def test_parts_of_a_mapping_may_be_models() -> None:
    table = {**TABLE, "auth": AuthConfig(driver="null")}
    config = DockhandConfig.parse({"connections": {"main": table, "b": ConnectionConfig(**TABLE)}})
    assert config.connection("main")[1].auth.driver == "null"
    assert config.connection("b")[1].options == {"base_uri": "http://r"}
    assert Dockhand(config).connection("b").name == "b"


def test_validation_errors_do_not_contain_values() -> None:
    """A model made directly raises pydantic's error, which omits the value: it may be a secret."""
    for wrong in (
        {"timeout": "hunter2"},
        {"auth": {"driver": ["hunter2"]}},
        {"logging": {"level": "hunter2"}},
        {"proxy": ["hunter2"]},
    ):
        with pytest.raises(ValidationError) as caught:
            DockhandConfig(connections={"main": wrong})
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("http://localhost:5000", "http://localhost:5000"),
        ("http://localhost:5000/", "http://localhost:5000"),
        ("http://localhost:5000/v2", "http://localhost:5000"),
        ("http://localhost:5000/v2/", "http://localhost:5000"),
        ("https://example.com/registry/v2/", "https://example.com/registry"),
        ("https://example.com/registry", "https://example.com/registry"),
        ("https://example.com/v2x", "https://example.com/v2x"),
        ("http://[::1]:5000/v2/", "http://[::1]:5000"),
        ("HTTPS://example.com", "https://example.com"),
    ],
)
def test_base_uri_is_normalised(given: str, base: str) -> None:
    with connect(given) as client:
        assert client._runner.endpoint.base == base


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("registry.example.com", "such as 'https://registry.example.com'"),
        ("localhost:5000/v2/", "such as 'https://localhost:5000/v2'"),
        ("alice:hunter2@registry.example.com", "no credentials"),
        ("registry.example.com/?token=hunter2", "needs http:// or https://"),
        ("registry.example.com#hunter2", "needs http:// or https://"),
        ("https://alice:hunter2@registry.example.com", "holds credentials"),
        ("https://hunter2@registry.example.com", "holds credentials"),
        ("ftp://alice:hunter2@registry.example.com", "not an http:// or https:// URL"),
        ("https://registry.example.com?token=hunter2", "a query or a fragment"),
        ("https://registry.example.com/#hunter2", "a query or a fragment"),
        ("https://alice:hunter2@registry.example.com:99999", "not an http"),
        ("https://alice:hunter2@[::1", "not an http"),
        ("https://", "not an http"),
        ("", "base_uri needs"),
    ],
)
def test_wrong_base_uris_are_refused_without_their_secrets(given: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connect(given)
    assert str(caught.value).startswith("connection 'default': base_uri ")
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"transport": "carrier-pigeon"}, "transport 'carrier-pigeon'"),
        ({"verify": "missing.pem"}, "missing.pem"),
        ({"proxy": "socks9://user:hunter2@host"}, "proxy"),
    ],
)
def test_errors_of_the_transport_name_the_connection(
    settings: dict[str, Any], message: str
) -> None:
    dockhand = Dockhand({"connections": {"main": {"base_uri": "https://r.invalid", **settings}}})
    with dockhand, pytest.raises(DockhandError) as caught:
        dockhand.connection().ping()
    assert type(caught.value) is ConfigError
    assert str(caught.value).startswith("connection 'main': ")
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_connection_that_is_only_a_url_is_equal_to_a_validated_one() -> None:
    quick = DockhandConfig.parse({"connections": {"main": {"base_uri": "http://r"}}})
    whole = DockhandConfig.parse({"connections": {"main": {"base_uri": "http://r", "retries": 3}}})
    validated = ConnectionConfig(base_uri="http://r")
    connection = quick.connection()[1]
    assert connection == validated
    assert connection.model_fields_set == validated.model_fields_set
    assert connection.model_dump() == whole.connection()[1].model_dump()
    assert connection.auth == AuthConfig()
    assert connection.logging == LogSettings()
    assert quick == DockhandConfig(default="main", connections={"main": validated}, base=quick.base)


@pytest.mark.parametrize("value", [7, None, ["http://r"]])
def test_a_url_that_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"base_uri: Input should be a valid string"):
        connect(value)  # type: ignore[arg-type]
