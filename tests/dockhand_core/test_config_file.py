"""The file `dockhand.toml`: its settings, and the error messages for wrong settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from dockhand_core import ConfigError, Dockhand
from dockhand_core.config import DockhandConfig, load_config, load_tables

pytestmark = pytest.mark.usefixtures("clean")

MAIN = """
default = "main"
[connections.main]
driver = "distribution"
base_uri = "https://registry.example.com"
timeout = 12.5
verify = "certs/ca.pem"
client_cert = "client.pem"
client_key = "client.key"
proxy = "http://proxy.example.com:3128"
retries = 5
max_connections = 7
headers = { X-Team = "red" }
transport = "httpx"
auth = { driver = "basic", username = "alice", password = "hunter2" }
logging = { driver = "console", level = "warning" }
[connections.staging]
base_uri = "http://localhost:5050/v2/"
auth = { driver = "apikey", username = "alice", api_key = "${ZOT_API_KEY}" }
"""


def write(text: str, name: str = "dockhand.toml") -> Path:
    """Write a text file, and create the folders above it."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def error_of(text: str, environ: dict[str, str] | None = None) -> str:
    """Return the error message of a file that fails when it is loaded or its connection is made."""
    write(text)
    with pytest.raises(ConfigError) as caught:
        Dockhand(load_config(environ=environ or {})).connection()
    return str(caught.value)


def test_every_key_of_the_core_is_read(clean: Path) -> None:
    write(MAIN)
    config = load_config(environ={"ZOT_API_KEY": "zot-key"})
    assert config.default == "main"
    assert list(config.connections) == ["main", "staging"]
    name, main = config.connection()
    assert name == "main"
    assert main.driver == "distribution"
    assert main.options == {"base_uri": "https://registry.example.com"}
    assert main.timeout == 12.5
    assert main.verify == clean / "certs/ca.pem"
    assert main.client_cert == clean / "client.pem"
    assert main.client_key == clean / "client.key"
    assert main.proxy is not None
    assert main.proxy.get_secret_value() == "http://proxy.example.com:3128"
    assert main.retries == 5
    assert main.max_connections == 7
    assert {name: value.get_secret_value() for name, value in main.headers.items()} == {
        "X-Team": "red"
    }
    assert main.transport == "httpx"
    assert main.auth.driver == "basic"
    assert main.auth.options == {"username": "alice", "password": "hunter2"}
    assert (main.logging.driver, main.logging.level) == ("console", "warning")
    assert config.connection("staging")[1].auth.options["api_key"] == "zot-key"


def test_defaults_of_a_minimal_file() -> None:
    write('[connections.only]\nbase_uri = "http://r"')
    name, table = load_config(environ={}).connection()
    assert name == "only"
    assert (table.driver, table.auth.driver, table.logging.level) == (
        "distribution",
        "null",
        "info",
    )
    assert (table.timeout, table.verify, table.proxy, table.transport) == (30.0, True, None, None)


def test_a_doubled_dollar_sign_is_a_literal_one() -> None:
    write('[connections.a]\nbase_uri = "http://r"\n[connections.a.headers]\nX = "$${HOME} ${B}$"')
    table = load_config(environ={"B": "${C}", "C": "no"}).connection("a")[1]
    assert table.headers["X"].get_secret_value() == "${HOME} ${C}$"


def test_variables_are_replaced_in_nested_values() -> None:
    write('[connections.a]\nbase_uri = "http://${HOST}"\nlist = ["${HOST}", 1]')
    assert load_config(environ={"HOST": "r"}).connection("a")[1].options == {
        "base_uri": "http://r",
        "list": ["r", 1],
    }


def test_a_missing_variable_is_refused_with_its_key() -> None:
    message = error_of(MAIN)
    assert "connections.staging.auth.api_key" in message
    assert "'ZOT_API_KEY' is not set" in message


def test_relative_paths_start_at_the_file(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        '[connections.a]\nbase_uri = "http://r"\nverify = "ca.pem"\n'
        'auth = { driver = "basic", username = "a", password_file = "secrets/pw" }',
        "etc/dockhand.toml",
    )
    write("hunter2\n", "etc/secrets/pw")
    monkeypatch.setenv("DOCKHAND_CONFIG", "etc/dockhand.toml")
    (clean / "elsewhere").mkdir()
    with Dockhand() as dockhand:
        assert dockhand.config.connection()[1].verify == clean / "etc/ca.pem"
        monkeypatch.chdir(clean / "elsewhere")
        dockhand.connection()  # finds the password file, too


def test_absolute_paths_stay_unchanged() -> None:
    write('[connections.a]\nbase_uri = "http://r"\nverify = "/etc/ca.pem"')
    assert load_config(environ={}).connection()[1].verify == Path("/etc/ca.pem")


def test_the_file_named_by_dockhand_config_must_exist() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file"):
        load_config(environ={"DOCKHAND_CONFIG": "nowhere.toml"})


def test_the_default_file_need_not_exist() -> None:
    assert load_config(environ={}).connections == {}
    with pytest.raises(ConfigError, match=r"no connection named 'default'.*DOCKHAND_BASE_URI"):
        Dockhand().connection()


def test_invalid_toml_is_refused() -> None:
    path = write("default = [")
    with pytest.raises(ConfigError, match=r"dockhand\.toml: "):
        load_config(environ={})
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"dockhand\.toml: "):
        load_config(environ={})


def test_choice_of_the_default_connection() -> None:
    two = '[connections.a]\nbase_uri = "http://a"\n[connections.default]\nbase_uri = "http://d"'
    write(two)
    assert load_config(environ={}).connection()[0] == "default"
    write('default = "a"\n' + two)
    assert load_config(environ={}).connection()[0] == "a"
    write('default = "A"\n' + two)
    with pytest.raises(ConfigError, match=r"no connection named 'A'; configured: a, default"):
        load_config(environ={}).connection()


def test_an_unknown_connection_is_refused_with_a_suggestion() -> None:
    write('[connections.staging]\nbase_uri = "http://s"')
    with pytest.raises(ConfigError, match=r"'stagin'; configured: staging.*mean 'staging'\?"):
        Dockhand().connection("stagin")


URI = 'base_uri = "http://r"\n'


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('defalt = "a"', ["unknown key 'defalt'", "did you mean 'default'?"]),
        ("[connection.a]\n" + URI, ["unknown key 'connection'", "'connections'"]),
        ('connections = "a"', ["'connections'"]),
        ("default = 5", ["'default'"]),
        ('connections.a = "x"', ["connection 'a'", "table"]),
        ("[connections.a]\ntiemout = 3\n" + URI, ["'a'", "'tiemout'", "mean 'timeout'?"]),
        ('[connections.a]\nbase_url = "http://r"', ["'a'", "'base_url'", "mean 'base_uri'?"]),
        (
            f"[connections.a]\n{URI}auth = {{ driver = 'basic', usrname = 'x', password = 'p' }}",
            ["'a': auth", "'usrname'", "mean 'username'?"],
        ),
        (
            f"[connections.a]\n{URI}auth = {{ drvier = 'basic' }}",
            ["'a': auth", "'drvier'", "mean 'driver'?"],
        ),
        (
            f"[connections.a]\n{URI}auth = {{ driver = 'basic', username = 'x' }}",
            ["'a': auth: password", "is required"],
        ),
        (
            f"[connections.a]\n{URI}logging = {{ driver = 'console', levle = 'info' }}",
            ["'a': logging", "levle", "mean 'level'?"],
        ),
        (
            f"[connections.a]\n{URI}logging = {{ level = 'loud' }}",
            ["'a': logging: level", "'debug'"],
        ),
        (f"[connections.a]\n{URI}auth = 'basic'", ["'a': auth is a table"]),
        (f"[connections.a]\n{URI}logging = 'console'", ["'a': logging is a table"]),
        (f"[connections.a]\n{URI}auth = {{ driver = 3 }}", ["'a': auth.driver", "string"]),
        (f"[connections.a]\n{URI}driver = 3", ["'a': driver", "string"]),
        ("[connections.a]\ntimeout = 3", ["'a': base_uri: is required"]),
        ("[connections.a]\nbase_uri = 3", ["'a': base_uri", "string"]),
        (f"[connections.a]\n{URI}timeout = 'soon'", ["'a': timeout", "number"]),
        (f"[connections.a]\n{URI}timeout = 0", ["'a': timeout", "greater than 0"]),
        (f"[connections.a]\n{URI}retries = -1", ["'a': retries"]),
        (f"[connections.a]\n{URI}retries = 1.5", ["'a': retries", "integer"]),
        (f"[connections.a]\n{URI}max_connections = 0", ["'a': max_connections"]),
        (f"[connections.a]\n{URI}verify = 5", ["'a': verify: "]),
        (f"[connections.a]\n{URI}headers = ['x']", ["'a': headers"]),
        (f"[connections.a]\n{URI}headers = {{ X = 5 }}", ["'a': headers.X"]),
        (f"[connections.a]\n{URI}client_cert = 'c.pem'", ["'a': client_cert and client_key"]),
        (f"[connections.a]\n{URI}timeout_file = 'x'", ["'a'", "timeout_file"]),
    ],
)
def test_wrong_settings_are_refused_with_their_key(text: str, parts: list[str]) -> None:
    message = error_of(text)
    for part in parts:
        assert part in message


@pytest.mark.parametrize("name", ["retries", "max_connections", "list_limit", "timeout"])
def test_a_boolean_is_not_a_number(name: str) -> None:
    assert f"'a': {name}" in error_of(f"[connections.a]\n{URI}{name} = true")


class TestSecretFiles:
    TEXT = (
        f"[connections.a]\n{URI}auth = {{ driver = 'basic', username = 'x', password_file = 'pw' }}"
    )

    @pytest.mark.parametrize(
        ("content", "secret"),
        [
            ("hunter2", "hunter2"),
            ("hunter2\n", "hunter2"),
            ("hunter2\r\n", "hunter2"),
            (" hunter2 \n\n", " hunter2 \n"),
            ("", ""),
        ],
    )
    def test_one_trailing_newline_is_removed(self, content: str, secret: str) -> None:
        from base64 import b64encode

        write(self.TEXT)
        Path("pw").write_bytes(content.encode())
        with Dockhand() as dockhand:
            auth = dockhand.connection()._runner.endpoint.auth
        assert vars(auth)["_header"] == f"Basic {b64encode(f'x:{secret}'.encode()).decode()}"

    @pytest.mark.parametrize(
        "path", ["./pw", "pw.txt", "secrets/pw.txt", "/run/secrets/pw", "~/pw"]
    )
    def test_a_missing_file_is_refused(self, path: str) -> None:
        text = self.TEXT.replace("'pw'", f"'{path}'")
        assert f"'a': auth: password_file: {path}: No such file" in error_of(text)

    @pytest.mark.parametrize(
        "secret", ["hunter2", "aGVsbG8/d29ybGQ=", "eyJh.eyJz.c2ln", "hunter " * 200, "a.b.c"]
    )
    def test_a_secret_instead_of_a_path_is_not_shown(self, secret: str) -> None:
        found = error_of(self.TEXT.replace("'pw'", f"'{secret}'"))
        assert "'a': auth: password_file: (a path that is not shown): " in found
        assert f"(relative paths start at {Path.cwd()})" in found
        assert secret not in found

    def test_a_binary_file_is_refused(self) -> None:
        Path("pw").write_bytes(b"\xff\xfe\x00")
        assert "'a': auth: password_file: pw" in error_of(self.TEXT)

    def test_a_secret_and_its_file_together_are_refused(self) -> None:
        Path("pw").write_text("x")
        text = self.TEXT.replace("password_file", "password = 'hunter2', password_file")
        assert "'a': auth: both password and password_file" in error_of(text)

    def test_only_secrets_can_be_given_as_files(self) -> None:
        text = self.TEXT.replace("username =", "username_file =")
        assert "'a': auth: username_file: only a secret" in error_of(text)

    def test_a_secret_of_the_core_can_be_given_as_a_file(self) -> None:
        Path("proxy").write_text("http://user:hunter2@proxy:3128\n")
        write(f"[connections.a]\n{URI}proxy_file = 'proxy'")
        proxy = load_config(environ={}).connection()[1].proxy
        assert proxy is not None
        assert proxy.get_secret_value() == "http://user:hunter2@proxy:3128"


def test_wrong_connections_are_left_out(clean: Path) -> None:
    write(
        'default = "good"\n'
        '[connections.good]\nbase_uri = "http://good.example.com"\n'
        "[connections.negative]\ntimeout = -1\n"
        '[connections.unset]\nbase_uri = "${NOT_SET}"\n'
        '[connections.text]\nauth = "basic"\n'
    )
    environ = {"DOCKHAND_CONNECTIONS__GOOD__TIMEOUT": "3"}
    config, errors, names = load_tables(environ=environ)
    assert names == ("good", "negative", "unset", "text")
    assert (config.default, list(config.connections)) == ("good", ["good"])
    assert (config.connections["good"].timeout, config.base) == (3.0, clean)
    assert {name: str(error) for name, error in errors.items()} == {
        "unset": "connections.unset.base_uri: the environment variable 'NOT_SET' is not set",
        "negative": "connection 'negative': timeout: Input should be greater than 0",
        "text": "connection 'text': auth is a table with a driver: auth = { driver = \"…\" }",
    }
    assert load_tables(environ={"DOCKHAND_CONFIG": str(Path("dockhand.toml"))}).errors.keys() == {
        "negative", "text", "unset",
    }  # fmt: skip


def test_a_wrong_connection_raises_its_error_when_it_is_wanted(clean: Path) -> None:
    def load(uri: str = "http://wrong.example.com") -> DockhandConfig:
        write(
            '[connections.good]\nbase_uri = "http://good.example.com"\n'
            f'[connections.wrong]\nbase_uri = "{uri}"\nauth.password = "${{NOT_SET}}"\n'
        )
        return load_tables(environ={}).config

    with Dockhand(load()) as dockhand:
        assert dockhand.connection("good") is dockhand.locate("good.example.com/app").client
        dockhand.locate("other.example.com/app")
        for place in ("@wrong/app", "wrong.example.com/app"):
            with pytest.raises(ConfigError, match="'NOT_SET' is not set"):
                dockhand.locate(place)
        with pytest.raises(ConfigError, match="'NOT_SET' is not set"):
            dockhand.connection("wrong")
        with pytest.raises(ConfigError, match="no connection named 'default'"):
            dockhand.connection()
    with Dockhand(load("http://${HOST}")) as dockhand:
        dockhand.locate("good.example.com/app")
        with pytest.raises(ConfigError, match="is not set"):
            dockhand.locate("other.example.com/app")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonsense", "dockhand.toml"),
        ("connections = 3", "'connections' is not a table of connections"),
        ("colour = 1\n[connections.a]\ntimeout = -1\n", "unknown key 'colour'"),
    ],
)
def test_an_error_outside_of_connections_is_raised(clean: Path, text: str, reason: str) -> None:
    write(text)
    with pytest.raises(ConfigError, match=reason):
        load_tables(environ={})


def test_a_connection_is_checked_without_making_it(clean: Path) -> None:
    write('[connections.main]\ndriver = "embedded"\nroot = "images"\n')
    with Dockhand(load_config(environ={})) as dockhand:
        dockhand.check_connection()
        assert not (clean / "images").exists()
    write('[connections.main]\nbase_uri = "http://alice:hunter2@example.com"\n')
    with Dockhand(load_config(environ={})) as dockhand:
        with pytest.raises(ConfigError, match="holds credentials") as caught:
            dockhand.check_connection("main")
        assert "hunter2" not in str(caught.value)
        with pytest.raises(ConfigError, match="no connection named 'other'"):
            dockhand.check_connection("other")
