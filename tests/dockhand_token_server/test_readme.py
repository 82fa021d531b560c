"""The README: its examples run, and it names every setting and option."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from dockhand_auth_jwt import SigningKey
from dockhand_token_server import LoginLimit, Rule, Settings, load_settings
from dockhand_token_server.programs import SERVE

README = Path(__file__).parents[2] / "plugins" / "dockhand_token_server" / "README.md"
TEXT = README.read_text("utf-8")


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_every_setting_is_named() -> None:
    named = re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)
    assert named == list(Settings.model_fields)
    for name in (*Rule.model_fields, *LoginLimit.model_fields):
        assert f"`{name}`" in TEXT


def test_every_named_option_exists() -> None:
    known = SERVE.parser("program")._option_string_actions
    for option in re.findall(r"(?<![-|])--[a-z][a-z-]+", TEXT):
        assert option in known, option


def test_the_examples_run(endpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [toml], [mounted, plugin] = code_blocks("toml"), code_blocks("python")
    (tmp_path / "keys").mkdir()
    shutil.copy(tmp_path / "private.pem", tmp_path / "keys" / "private.pem")
    (tmp_path / "authority.toml").write_text(toml)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(mounted, str(README), "exec"), names)
    endpoint.app = names["app"]
    reply = endpoint.run(
        endpoint.request(
            path="/auth/token", user="alice", params={"scope": "repository:alice/a:pull"}
        )
    )
    assert endpoint.granted_scopes(reply) == {"repository:alice/a:pull"}
    assert SigningKey.load(tmp_path / "keys" / "private.pem").thumbprint == endpoint.key.thumbprint

    exec(compile(plugin, str(README), "exec"), names)
    endpoint.plugins.register(names["Directory"]())
    endpoint.serve(rules=list(load_settings("authority.toml").rules))
    asked = "pull,push"
    reply = endpoint.get(f"repository:carol/x:{asked}", user="carol", password="s3cret")
    assert endpoint.granted_scopes(reply) == {"repository:carol/x:pull,push"}
    reply = endpoint.get(f"repository:bob/x:{asked}", user="bob")
    assert endpoint.granted_scopes(reply) == {"repository:bob/x:pull"}
