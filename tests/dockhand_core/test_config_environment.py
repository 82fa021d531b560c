"""Environment variables that override the file: their names, and what they do to credentials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dockhand_distribution import DistributionDriver
from pydantic import BaseModel, ConfigDict, SecretStr

from dockhand_core import ConfigError, Dockhand, hookimpl
from dockhand_core.config import ConnectionConfig, load_config, load_tables
from dockhand_core.plugin_failures import warn_once

pytestmark = pytest.mark.usefixtures("clean")

FILE = """
default = "main"
[connections.main]
base_uri = "https://registry.example.com/team"
client_cert = "c.pem"
client_key = "c.key"
headers = { X-Key = "from-file" }
auth = { driver = "basic", username = "alice", password = "hunter2" }
[connections.other-one]
base_uri = "https://other.example.com"
auth = { driver = "bearer", token = "t0ken" }
"""


def load(environ: dict[str, str], file: str | None = FILE) -> dict[str, ConnectionConfig]:
    if file is not None:
        Path("dockhand.toml").write_text(file)
    return load_config(environ=environ).connections


@pytest.mark.parametrize(
    ("variable", "path"),
    [
        ("DOCKHAND_DRIVER", ("driver",)),
        ("DOCKHAND_BASE_URI", ("base_uri",)),
        ("DOCKHAND_AUTH_DRIVER", ("auth", "driver")),
        ("DOCKHAND_PRIVATE_KEY", ("auth", "private_key")),
        ("DOCKHAND_PUBLIC_KEY", ("auth", "public_key")),
        ("DOCKHAND_AUTHORITY_NAME", ("auth", "authority_name")),
        ("DOCKHAND_REGISTRY_NAME", ("auth", "registry_name")),
        ("DOCKHAND_USERNAME", ("auth", "username")),
        ("DOCKHAND_PASSWORD", ("auth", "password")),
        ("DOCKHAND_TOKEN", ("auth", "token")),
        ("DOCKHAND_API_KEY", ("auth", "api_key")),
        ("DOCKHAND_LOG_DRIVER", ("logging", "driver")),
    ],
)
@pytest.mark.parametrize("default", [None, "prod"])
def test_flat_names_set_keys_of_the_default_connection(
    variable: str, path: tuple[str, ...], default: str | None
) -> None:
    environ = {variable: "json", **({"DOCKHAND_CONNECTION": default} if default else {})}
    connections = load(environ, None)
    assert list(connections) == [default or "default"]
    found: Any = connections[default or "default"]
    for key in path:
        found = getattr(found, key) if hasattr(found, key) else found.options[key]
    assert found == "json"


@pytest.mark.parametrize(
    "variable",
    [
        "DOCKHAND_NOTIFICATIONS_ENABLED",
        "DOCKHAND_NOTIFICATIONS_ROUTE",
        "DOCKHAND_NOTIFY_TOKEN",
        "DOCKHAND_NOTIFY_TOKEN_FILE",
        "DOCKHAND_SECRET_FILE",
        "DOCKHAND_CERT_FILE",
        "DOCKHAND_DB_PASSWORD_FILE",
        "DOCKHAND_DISABLE_PLUGINS",
    ],
)
def test_other_names_configure_no_connection(variable: str) -> None:
    assert load({variable: "x"}, None) == {}


def test_environment_names_the_default_connection() -> None:
    Path("dockhand.toml").write_text(FILE)
    config = load_config(environ={"DOCKHAND_CONNECTION": "other-one"})
    assert config.connection()[0] == "other-one"


def test_flat_names_override_the_default_connection_of_any_name() -> None:
    environ = {"DOCKHAND_USERNAME": "bob"}
    connections = load(environ)
    assert connections["main"].auth.options == {"username": "bob", "password": "hunter2"}
    assert connections["other-one"].auth.options == {"token": "t0ken"}
    connections = load({**environ, "DOCKHAND_CONNECTION": "other-one"})
    assert connections["main"].auth.options["username"] == "alice"
    assert connections["other-one"].auth.options == {"token": "t0ken", "username": "bob"}


def test_flat_names_override_the_only_connection_of_a_file_without_a_default() -> None:
    connections = load(
        {"DOCKHAND_LOG_DRIVER": "json"}, '[connections.single]\nbase_uri = "http://r"'
    )
    assert list(connections) == ["single"]
    assert connections["single"].logging.driver == "json"


def test_flat_names_create_a_connection_missing_in_the_file() -> None:
    connections = load({"DOCKHAND_BASE_URI": "http://new"}, 'default = "fresh"')
    assert connections["fresh"].options == {"base_uri": "http://new"}
    connections = load({"DOCKHAND_CONNECTION": "x", "DOCKHAND_BASE_URI": "http://new"})
    assert sorted(connections) == ["main", "other-one", "x"]


def test_flat_names_reach_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKHAND_BASE_URI", "http://registry.invalid/v2/")
    monkeypatch.setenv("DOCKHAND_AUTH_DRIVER", "bearer")
    monkeypatch.setenv("DOCKHAND_TOKEN", "t0ken")
    with Dockhand() as dockhand:
        client = dockhand.connection()
        assert repr(client) == "<DistributionClient 'default' http://registry.invalid>"
        assert vars(client._runner.endpoint.auth)["_header"] == "Bearer t0ken"


def test_nested_names_set_any_key_of_any_connection() -> None:
    connections = load(
        {
            "DOCKHAND_CONNECTIONS__STAGING__BASE_URI": "http://staging",
            "DOCKHAND_CONNECTIONS__STAGING__AUTH__DRIVER": "basic",
            "DOCKHAND_CONNECTIONS__STAGING__AUTH__USERNAME": "carol",
            "DOCKHAND_CONNECTIONS__STAGING__LOGGING__LEVEL": "debug",
            "DOCKHAND_CONNECTIONS__MAIN__TIMEOUT": "2.5",
            "DOCKHAND_CONNECTIONS__OTHER_ONE__RETRIES": "0",
        }
    )
    staging = connections["staging"]
    assert staging.options == {"base_uri": "http://staging"}
    assert (staging.auth.driver, staging.auth.options) == ("basic", {"username": "carol"})
    assert staging.logging.level == "debug"
    assert connections["main"].timeout == 2.5
    assert connections["other-one"].retries == 0  # the variable's name contains `OTHER_ONE`
    assert sorted(connections) == ["main", "other-one", "staging"]


def test_environment_creates_its_own_default_connection() -> None:
    environ = {
        "DOCKHAND_CONNECTION": "My-Registry",
        "DOCKHAND_CONNECTIONS__MY_REGISTRY__BASE_URI": "http://r",
        "DOCKHAND_USERNAME": "alice",
    }
    connections = load(environ, None)
    assert list(connections) == ["My-Registry"]
    assert connections["My-Registry"].options == {"base_uri": "http://r"}
    assert connections["My-Registry"].auth.options == {"username": "alice"}


def test_the_only_connection_in_the_environment_is_the_default() -> None:
    config = load_config(environ={"DOCKHAND_CONNECTIONS__A__BASE_URI": "http://r"})
    assert config.connection()[0] == "a"


def test_flat_names_take_precedence_over_nested_ones() -> None:
    connections = load(
        {
            "DOCKHAND_BASE_URI": "http://flat",
            "DOCKHAND_CONNECTIONS__MAIN__BASE_URI": "http://nested",
        }
    )
    assert connections["main"].options["base_uri"] == "http://flat"


@pytest.mark.parametrize("variable", ["DOCKHAND_CONNECTIONS__MAIN", "DOCKHAND_CONNECTIONS____X"])
def test_incomplete_nested_names_are_refused(variable: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        load({variable: "x"})


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("DOCKHAND_PASWORD", "DOCKHAND_PASSWORD"),
        ("DOCKHAND_BASE_URL", "DOCKHAND_BASE_URI"),
        ("DOCKHAND_CONNECTIONS", "DOCKHAND_CONNECTION"),
    ],
)
def test_misspelt_names_are_refused_with_a_suggestion(variable: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"{variable} is unknown; did you mean '{meant}'"):
        load({variable: "x"})


@pytest.mark.parametrize(
    "variable", ["DOCKHAND_RECORD", "DOCKHAND_LIVE_DISTRIBUTION_2", "DOCKHAND_HOME"]
)
def test_unrelated_variables_are_ignored(variable: str) -> None:
    assert sorted(load({variable: "1"})) == ["main", "other-one"]


def test_an_unknown_key_is_refused_with_its_connection() -> None:
    Path("dockhand.toml").write_text(FILE)
    config = load_config(environ={"DOCKHAND_CONNECTIONS__MAIN__TIEMOUT": "1"})
    with pytest.raises(ConfigError, match=r"connection 'main': .*'tiemout'.*mean 'timeout'"):
        Dockhand(config).connection()


class TestConversion:
    """Each value in the environment is text, which is converted to the type of its setting."""

    @pytest.mark.parametrize(
        ("key", "text", "value"),
        [
            ("verify", "false", False),
            ("verify", "False", False),
            ("verify", "0", False),
            ("verify", "true", True),
            ("retries", "7", 7),
            ("timeout", "1", 1.0),
            ("max_connections", "4", 4),
            ("list_limit", "4096", 4096),
        ],
    )
    def test_text_becomes_the_type_of_the_key(self, key: str, text: str, value: object) -> None:
        table = load({f"DOCKHAND_CONNECTIONS__MAIN__{key.upper()}": text})["main"]
        found = getattr(table, key)
        assert (found, type(found)) == (value, type(value))

    def test_a_relative_path_starts_at_the_file(self, clean: Path) -> None:
        table = load({"DOCKHAND_CONNECTIONS__MAIN__VERIFY": "ca/false.pem"})["main"]
        assert table.verify == clean / "ca/false.pem"

    @pytest.mark.parametrize("text", ["", "3.5", "many"])
    def test_text_of_another_type_is_refused(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"connection 'main': retries"):
            load({"DOCKHAND_CONNECTIONS__MAIN__RETRIES": text})


class TestSecretFiles:
    def test_a_flat_name_can_give_a_secret_file(self) -> None:
        Path("pw").write_text("from-file\n")
        main = load({"DOCKHAND_PASSWORD_FILE": "pw"})["main"]
        resolved = str(Path.cwd() / "pw")  # a relative path starts at the working folder
        assert main.auth.options == {"username": "alice", "password_file": resolved}

    def test_a_secret_replaces_the_secret_file_of_the_file(self) -> None:
        text = FILE.replace('password = "hunter2"', 'password_file = "pw"')
        main = load({"DOCKHAND_PASSWORD": "from-environment"}, text)["main"]
        assert main.auth.options == {"username": "alice", "password": "from-environment"}

    def test_a_secret_and_its_file_together_are_refused(self) -> None:
        Path("dockhand.toml").write_text(FILE)
        config = load_config(environ={"DOCKHAND_PASSWORD": "a", "DOCKHAND_PASSWORD_FILE": "b"})
        with pytest.raises(ConfigError, match="both password and password_file"):
            Dockhand(config).connection()


class TestCredentialsStayWithTheirRegistry:
    """Credentials in the file are not sent to a registry that the environment names."""

    @pytest.mark.parametrize(
        "uri",
        [
            "https://evil.example.com/team",
            "http://registry.example.com/team",
            "https://registry.example.com:8443/team",
            "http://registry.example.com:443",
            "registry.example.com",
        ],
    )
    @pytest.mark.parametrize(
        "variable", ["DOCKHAND_BASE_URI", "DOCKHAND_CONNECTIONS__MAIN__BASE_URI"]
    )
    def test_another_origin_drops_credentials_of_the_file(self, uri: str, variable: str) -> None:
        main = load({variable: uri})["main"]
        assert main.options == {"base_uri": uri}
        assert (main.auth.driver, main.auth.options) == ("null", {})
        assert (main.headers, main.client_cert, main.client_key) == ({}, None, None)

    def test_another_origin_takes_credentials_of_the_environment(self) -> None:
        environ = {"DOCKHAND_BASE_URI": "https://evil.example.com", "DOCKHAND_USERNAME": "bob"}
        main = load({**environ, "DOCKHAND_AUTH_DRIVER": "basic"})["main"]
        assert (main.auth.driver, main.auth.options) == ("basic", {"username": "bob"})
        main = load(environ)["main"]
        assert main.auth.options == {"username": "bob"}

    @pytest.mark.parametrize(
        "uri",
        [
            "https://registry.example.com",
            "https://registry.example.com/another/v2/",
            "https://REGISTRY.example.com:443/team",
        ],
    )
    def test_the_same_origin_keeps_credentials(self, uri: str) -> None:
        main = load({"DOCKHAND_BASE_URI": uri})["main"]
        assert main.options == {"base_uri": uri}
        assert main.auth.options == {"username": "alice", "password": "hunter2"}
        assert main.headers["X-Key"].get_secret_value() == "from-file"
        assert main.client_cert is not None

    def test_another_auth_driver_drops_the_auth_table_only(self) -> None:
        main = load({"DOCKHAND_AUTH_DRIVER": "bearer", "DOCKHAND_TOKEN": "t"})["main"]
        assert (main.auth.driver, main.auth.options) == ("bearer", {"token": "t"})
        assert main.headers["X-Key"].get_secret_value() == "from-file"

    def test_the_same_auth_driver_keeps_the_auth_table(self) -> None:
        main = load({"DOCKHAND_AUTH_DRIVER": "basic", "DOCKHAND_PASSWORD": "p"})["main"]
        assert main.auth.options == {"username": "alice", "password": "p"}

    def test_the_null_driver_drops_the_auth_table(self) -> None:
        main = load({"DOCKHAND_AUTH_DRIVER": "null"})["main"]
        assert (main.auth.driver, main.auth.options) == ("null", {})

    def test_other_connections_keep_their_credentials(self) -> None:
        others = load({"DOCKHAND_BASE_URI": "https://evil.example.com"})["other-one"]
        assert others.auth.options == {"token": "t0ken"}

    def test_a_file_without_base_uri_loses_credentials(self) -> None:
        text = FILE.replace('base_uri = "https://registry.example.com/team"\n', "")
        assert load({"DOCKHAND_BASE_URI": "https://a"}, text)["main"].auth.options == {}


class Corner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: SecretStr | None = None
    size: int = 1


class QuaysideDriver(DistributionDriver):
    class Settings(DistributionDriver.Settings):
        labels: str = "none"
        api_token: SecretStr | None = None
        other_tokens: dict[str, SecretStr] = {}
        corner: Corner = Corner()


class StrictDriver(DistributionDriver):
    class Settings(DistributionDriver.Settings):
        api_token: SecretStr


class Provider:
    @hookimpl
    def dockhand_registry_drivers(self) -> dict[str, Any]:
        return {"quayside": QuaysideDriver, "strict": StrictDriver}


QUAY = """
[connections.quay]
driver = "quayside"
base_uri = "https://quay.example.com"
labels = "all"
"""
SECRET = "f1le-s3cret"
ELSEWHERE = {"DOCKHAND_CONNECTIONS__QUAY__BASE_URI": "https://elsewhere.example.com"}


def settings_of_driver(environ: dict[str, str], file: str) -> Any:
    Path("dockhand.toml").write_text(file)
    with Dockhand(load_config(environ=environ)) as dockhand:
        dockhand.plugins.register(Provider())
        return dockhand.connection("quay").driver.settings


class TestSecretsOfTheDriverStayWithTheirRegistry:
    """The secrets among a driver's own settings are credentials, as those in `auth` are."""

    @pytest.mark.parametrize(
        "line",
        [
            f'api_token = "{SECRET}"',
            'api_token_file = "token"',
            'api_token = "${TOKEN}"',
            f'other_tokens = {{ a = "{SECRET}" }}',
            f'corner = {{ key = "{SECRET}", size = 2 }}',
        ],
    )
    def test_they_are_dropped(self, line: str) -> None:
        Path("token").write_text(SECRET)
        same = settings_of_driver({"TOKEN": SECRET}, QUAY + line)
        held = [same.api_token, *same.other_tokens.values(), same.corner.key]
        assert [each.get_secret_value() for each in held if each] == [SECRET]
        other = settings_of_driver({"TOKEN": SECRET, **ELSEWHERE}, QUAY + line)
        assert other.base_uri == "https://elsewhere.example.com"
        assert (other.api_token, other.other_tokens, other.corner) == (None, {}, Corner())
        assert other.labels == "all"  # no secret, so it is kept

    def test_a_short_name_of_the_url_drops_them(self) -> None:
        environ = {"DOCKHAND_BASE_URI": "https://elsewhere.example.com"}
        found = settings_of_driver(environ, QUAY + f'api_token = "{SECRET}"')
        assert found.api_token is None

    @pytest.mark.parametrize("key", ["api_token", "api_token_file"])
    def test_those_of_the_environment_are_used(self, key: str) -> None:
        Path("other").write_text("from-environment")
        value = "other" if key.endswith("_file") else "from-environment"
        environ = {f"DOCKHAND_CONNECTIONS__QUAY__{key.upper()}": value, **ELSEWHERE}
        found = settings_of_driver(environ, QUAY + f'api_token = "{SECRET}"')
        assert found.api_token.get_secret_value() == "from-environment"

    def test_a_table_of_both_has_the_part_of_the_environment_only(self) -> None:
        environ = {"DOCKHAND_CONNECTIONS__QUAY__CORNER__SIZE": "3", **ELSEWHERE}
        found = settings_of_driver(environ, QUAY + f'corner = {{ key = "{SECRET}" }}')
        assert found.corner == Corner(size=3)

    def test_the_same_origin_keeps_them(self) -> None:
        environ = {"DOCKHAND_CONNECTIONS__QUAY__BASE_URI": "https://quay.example.com/team"}
        found = settings_of_driver(environ, QUAY + f'api_token = "{SECRET}"')
        assert found.api_token.get_secret_value() == SECRET

    def test_a_required_one_has_to_be_set_in_the_environment(self) -> None:
        file = QUAY.replace("quayside", "strict").replace('labels = "all"', "")
        file += f'api_token = "{SECRET}"'
        message = (
            r"connection 'quay': api_token: is required \(not used: api_token of the file, since "
            "the environment names another registry; set it in the environment, too"
        )
        with pytest.raises(ConfigError, match=message) as caught:
            settings_of_driver(ELSEWHERE, file)
        assert SECRET not in str(caught.value)


class TestAnotherDriver:
    def test_keeps_the_base_uri_if_it_takes_one(self) -> None:
        main = load({"DOCKHAND_DRIVER": "zot"})["main"]
        assert (main.driver, main.options) == (
            "zot",
            {"base_uri": "https://registry.example.com/team"},
        )

    def test_drops_keys_that_it_does_not_take(self) -> None:
        environ = {"DOCKHAND_DRIVER": "embedded", "DOCKHAND_CONNECTIONS__MAIN__ROOT": "folder"}
        main = load(environ)["main"]
        assert (main.driver, main.options) == ("embedded", {"root": "folder"})

    def test_drops_keys_of_the_driver_in_the_file(self) -> None:
        text = '[connections.main]\ndriver = "embedded"\nroot = "folder"'
        environ = {"DOCKHAND_DRIVER": "distribution", "DOCKHAND_BASE_URI": "http://r"}
        assert load(environ, text)["main"].options == {"base_uri": "http://r"}


class TestMisspeltConnections:
    """A variable with the name of no connection, that is similar to one in the file."""

    FILE = QUAY.replace("quayside", "distribution").replace('labels = "all"', "")
    VARIABLE = "DOCKHAND_CONNECTIONS__QUAI__RETRIES"
    MESSAGE = (
        f"{VARIABLE}: the configuration has no connection 'quai'; did you mean 'quay'? (to have "
        "it in the environment alone, set DOCKHAND_CONNECTIONS__QUAI__BASE_URI)"
    )

    @pytest.mark.parametrize("tolerant", [False, True])
    def test_the_connection_is_wrong_and_a_warning_is_written(
        self, tolerant: bool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Other connections work: the variable may be meant for the file of another folder."""
        warn_once.cache_clear()
        Path("dockhand.toml").write_text(self.FILE)
        for _ in range(2):
            config = (
                load_tables(environ={self.VARIABLE: "1"}).config
                if tolerant
                else load_config(environ={self.VARIABLE: "1"})
            )
        assert capsys.readouterr().err == f"WARNING dockhand.config: {self.MESSAGE}\n"
        assert [*config.connections] == ["quay"]
        with Dockhand(config) as dockhand:
            assert dockhand.connection("quay")
            with pytest.raises(ConfigError) as caught:
                dockhand.connection("quai")
        assert str(caught.value) == self.MESSAGE

    @pytest.mark.parametrize(
        "environ",
        [
            {"QUAI__RETRIES": "1", "QUAI__BASE_URI": "https://a"},
            {"QUAI__DRIVER": "embedded", "QUAI__ROOT": ":memory:"},
            {"PARIS__BASE_URI": "https://a"},
            {"QUAY__RETRIES": "1"},
        ],
    )
    def test_a_connection_of_the_environment_alone(
        self, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        environ = {f"DOCKHAND_CONNECTIONS__{name}": value for name, value in environ.items()}
        config = load(environ, self.FILE)
        assert next(iter(environ)).split("__")[1].lower() in config
        assert capsys.readouterr().err == ""

    def test_several_variables_are_named(self) -> None:
        names = ["DOCKHAND_CONNECTIONS__QUAI__AUTH", "DOCKHAND_CONNECTIONS__QUAI__DRIVER"]
        Path("dockhand.toml").write_text(self.FILE)
        environ = dict(zip(names, ['{"driver": "basic"}', "quayside"], strict=True))
        error = load_config(environ=environ).wrong["quai"].error
        assert str(error).startswith(f"{', '.join(names)}: the configuration has no connection")
