"""Lists and tables as JSON in environment variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from dockhand_core import ConfigError
from dockhand_core.config import ConnectionConfig, load_config, validate_table

pytestmark = pytest.mark.usefixtures("clean")

SECRET = "s3cr3t-value"
MAIN = "DOCKHAND_CONNECTIONS__MAIN__"


def loaded(**variables: str) -> ConnectionConfig:
    """The settings of the connection `main`, from a file and `DOCKHAND_CONNECTIONS__MAIN__*`."""
    Path("dockhand.toml").write_text(
        '[connections.main]\nbase_uri = "http://r"\n'
        'headers = { X-Old = "old" }\nauth = { driver = "basic", username = "a", password = "b" }\n'
    )
    environ = {f"{MAIN}{name}": value for name, value in variables.items()}
    return load_config(environ=environ).connection("main")[1]


def headers(config: ConnectionConfig) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in config.headers.items()}


def test_headers_from_a_variable() -> None:
    assert headers(loaded()) == {"X-Old": "old"}
    assert headers(loaded(HEADERS='{"X-A": "b"}')) == {"X-A": "b"}
    assert headers(loaded(HEADERS=' {"X-A": "${b}"}')) == {"X-A": "${b}"}
    assert headers(loaded(HEADERS='{"X-A": "b"}', HEADERS__X_C="d")) == {"X-A": "b", "x_c": "d"}
    assert headers(loaded(HEADERS="{}")) == {}


@pytest.mark.parametrize(
    "text",
    ['["http://a", "http://b:80"]', "http://a,http://b:80", " http://a , http://b:80,"],
)
def test_a_list_of_origins_from_a_variable(text: str) -> None:
    assert loaded(UPLOAD_ORIGINS=text).upload_origins == ("http://a", "http://b:80")


def test_auth_and_logging_from_a_variable() -> None:
    Path("secret").write_text(SECRET)
    config = loaded(
        AUTH='{"driver": "bearer", "token_file": "secret"}', LOGGING='{"level": "debug"}'
    )
    assert config.auth.driver == "bearer"
    assert config.auth.options == {"token_file": str(Path("secret").absolute())}
    assert config.logging.level == "debug"
    merged = loaded(AUTH='{"driver": "basic", "username": "c"}', AUTH__PASSWORD="d")
    assert merged.auth.options == {"username": "c", "password": "d"}


def test_a_table_of_another_origin_is_kept_from_the_variable() -> None:
    config = loaded(BASE_URI="http://other", HEADERS='{"X-A": "b"}')
    assert headers(config) == {"X-A": "b"}
    assert config.auth.driver == "null"


@pytest.mark.parametrize("name", ["AUTH", "HEADERS", "LOGGING"])
@pytest.mark.parametrize("text", [f'{{"a": "{SECRET}"', f"[{SECRET!r}]", "[]", SECRET, "", "null"])
def test_a_table_that_is_not_json(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(**{name: text})
    assert str(caught.value) == (
        f'{MAIN}{name}: it is not a table in JSON, such as {{"key": "value"}}'
    )


class Settings(BaseModel):
    names: list[str] = []
    numbers: tuple[int, ...] | None = None
    table: dict[str, int] = {}
    either: list[str] | str = ""
    text: str = ""
    secret: SecretStr = SecretStr("")
    anything: Any = None


def checked(**table: str) -> Settings:
    return validate_table(Settings, table, where="here", base=Path())


def test_lists_and_tables_of_a_driver() -> None:
    found = checked(names='["a", "b"]', numbers=" [1, 2]", table='{"a": 1}')
    assert (found.names, found.numbers, found.table) == (["a", "b"], (1, 2), {"a": 1})


def test_texts_stay_texts() -> None:
    found = checked(text="[1]", secret='{"type": "service_account"}', either="[1]", anything="[1]")
    assert found.text == found.either == found.anything == "[1]"
    assert found.secret.get_secret_value() == '{"type": "service_account"}'


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"names": f'["{SECRET}"'},
            (
                "here: names: Input should be a valid list; it is not valid JSON: Expecting ',' "
                "delimiter at character 16"
            ),
        ),
        (
            {"names": f"{SECRET},b"},
            (
                "here: names: Input should be a valid list; a list or table in a text is JSON, "
                'such as ["a", "b"] or {"a": "b"}'
            ),
        ),
        ({"names": "[1]"}, "here: names.0: Input should be a valid string"),
        ({"table": "[1]"}, "here: table: Input should be a valid table"),
        (
            {"names": "[" * 100_000},
            "here: names: Input should be a valid list; it is not valid JSON",
        ),
    ],
)
def test_wrong_lists_and_tables(table: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked(**table)
    assert str(caught.value) == message
    assert SECRET not in str(caught.value)
