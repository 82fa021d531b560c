"""Errors in settings from environment variables name the variable, and those of a file do not."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from dockhand_core import ConfigError, Dockhand, DockhandError, hookimpl
from dockhand_core.config import load_config, validate_table
from dockhand_core.config.validation import FromVariable

FILE = """
[connections.company]
base_uri = "http://localhost:1"
auth = { driver = "basic", username = "alice", password = "s3cret-in-the-file" }
"""
COMPANY = "DOCKHAND_CONNECTIONS__COMPANY__"


def failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, env: Mapping[str, str], text: str = FILE
) -> str:
    """The message of the error of a connection with these variables."""
    (tmp_path / "dockhand.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DockhandError) as caught, Dockhand() as dockhand:
        dockhand.connection()
    return str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (f"{COMPANY}AUTH__USERNAM", "alice"),
        (f"{COMPANY}AUTH__DRIVER", "nope"),
        (f"{COMPANY}AUTH__PASSWORD_FILE", "absent"),
        (f"{COMPANY}AUTH__USERNAME_FILE", "users"),
        (f"{COMPANY}DRIVER", "nope"),
        (f"{COMPANY}AUTH", '{"driver": "basic", "usernam": "alice"}'),
        (f"{COMPANY}HEADERS", "no JSON"),
        (f"{COMPANY}HEADERS", '{"X-Team": 7}'),
        (f"{COMPANY}LOGGING", '{"level": 7}'),
        (f"{COMPANY}LOGGING__DRIVER", "nope"),
        (f"{COMPANY}LOGGING__LEVEL", "loud"),
        (f"{COMPANY}TIMEOUT", "soon"),
        (f"{COMPANY}UPLOAD_ORIGINS", "uploads.example.com"),
        (f"{COMPANY}PROXY_FILE", "absent"),
        ("DOCKHAND_AUTH_DRIVER", "nope"),
        ("DOCKHAND_BASE_URI", "ftp://localhost"),
        ("DOCKHAND_DRIVER", "nope"),
        ("DOCKHAND_LOG_DRIVER", "nope"),
        ("DOCKHAND_PASSWORD_FILE", "absent"),
    ],
)
def test_variable_is_named(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = failure(tmp_path, monkeypatch, {variable: value})
    assert text.startswith(f"{variable}: ")
    assert "s3cret" not in text


def test_value_of_the_file_names_no_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if other variables are set."""
    wrong = FILE.replace("alice", "alice:b")
    text = failure(tmp_path, monkeypatch, {f"{COMPANY}TIMEOUT": "3"}, wrong)
    assert text.startswith("connection 'company': auth: username: ")


def test_setting_of_a_plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Settings(BaseModel):
        port: int

    class Plugin:
        @hookimpl
        def dockhand_configure(self, settings: Any) -> None:
            settings.parse(Settings)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKHAND_PLUGINS__GATE__PORT", "high")
    with Dockhand() as dockhand, pytest.raises(ConfigError) as caught:
        dockhand.plugins.register(Plugin(), name="gate")
    assert str(caught.value).startswith("DOCKHAND_PLUGINS__GATE__PORT: plugin 'gate': port: ")


def test_setting_in_an_inner_table() -> None:
    class Storage(BaseModel, extra="forbid"):
        buckets: tuple[int, ...]
        options: dict[str, int] = {}

    class Settings(BaseModel):
        storage: Storage

    def wrong(**table: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            validate_table(Settings, {"storage": table}, where="here", base=Path())
        return str(caught.value)

    assert wrong(buckets=FromVariable("x", "A_B")) == (
        "A_B: here: storage.buckets: Input should be a valid list"
    )
    assert wrong(buckets=[1], options=[]) == "here: storage.options: Input should be a valid table"
    assert wrong(buckets=[1], bucket=1) == "here: storage.bucket: is an unknown key"


def test_known_keys_have_those_of_files() -> None:
    class Settings(BaseModel):
        user: str
        key: SecretStr | None = None

    with pytest.raises(ConfigError, match=r"known: driver, key, key_file, user\)"):
        validate_table(Settings, {"kex": "a"}, where="here", base=Path(), also=["driver"])


def test_values_are_plain_texts_for_drivers() -> None:
    class Settings(BaseModel):
        value: Any

    given = FromVariable("a", "A_B")
    found = validate_table(Settings, {"value": given}, where="here", base=Path())
    assert type(found.value) is str
    for twin in (copy.deepcopy(given), pickle.loads(pickle.dumps(given))):
        assert (twin, twin.variable) == ("a", "A_B")


def test_relative_file_of_a_variable_starts_at_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    (folder / "dockhand.toml").write_text(FILE)
    (tmp_path / "word").write_text("from-the-working-folder")
    monkeypatch.chdir(tmp_path)
    env = {f"{COMPANY}AUTH__PASSWORD_FILE": "word"}
    config = load_config("config/dockhand.toml", env)
    _, table = config.connection("company")
    assert table.auth.options["password_file"] == str(tmp_path / "word")
