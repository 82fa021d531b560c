"""`authority.toml`: its settings, and the error messages for mistakes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from authority import write_authority
from dockhand_auth_jwt import SigningKey
from dockhand_token_server import LoginLimit, Rule, Settings, create_app, load_settings
from pydantic import SecretStr

from dockhand_core import ConfigError, PluginError, PluginNotFound

REQUIRED: dict[str, Any] = {"issuer": "a", "services": ["s"], "private_key": "k.pem"}
RULE = {"user": "alice", "repository": "a", "actions": ["pull"]}


def test_the_documented_file(tmp_path: Path) -> None:
    (tmp_path / "authority.toml").write_text(
        """
issuer = "my_auth"
services = ["my_registry"]
private_key = "keys/private.pem"
users = "htpasswd"                   # bcrypt
[[rules]]                            # every rule that matches adds its actions
user = "alice"
repository = "alice/*"               # * is one path component, ** any number
actions = ["pull", "push", "delete"]
[[rules]]
user = "*"
repository = "{user}/*"
actions = ["pull", "push"]
[[rules]]
user = "alice"
type = "registry"
name = "catalog"
actions = ["*"]
[[rules]]
user = ""
repository = "public/*"
actions = ["pull"]
"""
    )
    settings = load_settings(tmp_path / "authority.toml")
    assert settings.issuer == "my_auth"
    assert settings.services == ("my_registry",)
    assert settings.private_key == tmp_path / "keys" / "private.pem"
    assert settings.users == tmp_path / "htpasswd"
    assert settings.refresh_tokens == tmp_path / "refresh_tokens.db"
    assert [rule.user for rule in settings.rules] == ["alice", "*", "alice", ""]
    assert settings.rules[0].actions == {"pull", "push", "delete"}
    assert settings.rules[2].name == "catalog"
    assert settings.token_lifetime == 300
    assert settings.login_limit == LoginLimit(failures=10, seconds=60)


def test_all_settings(tmp_path: Path) -> None:
    pem = SigningKey.generate().private_pem().decode()
    (tmp_path / "password").write_text("s3cret\n")
    (tmp_path / "authority.toml").write_text(
        f"""
issuer = "my_auth"
services = ["one", "two"]
private_key = '''{pem}'''
private_key_password_file = "password"
certificate = "cert.pem"
key_id = "x5c"
other_keys = ["/keys/a.pem", "b.pem"]
token_lifetime = 900
refresh_tokens = false
refresh_token_lifetime = 3600
trusted_proxies = ["10.0.0.0/8", "::1"]
[login_limit]
failures = 3
seconds = ${{SECONDS}}
[groups]
staff = ["alice", "bob"]
""".replace("seconds = ${SECONDS}", "seconds = 1.5").replace('"my_auth"', '"${ISSUER}"')
    )
    settings = load_settings(tmp_path / "authority.toml", {"ISSUER": "from the environment"})
    assert settings.issuer == "from the environment"
    assert isinstance(settings.private_key, SecretStr)
    assert settings.private_key.get_secret_value() == pem
    assert settings.private_key_password == SecretStr("s3cret")
    assert settings.other_keys == (Path("/keys/a.pem"), tmp_path / "b.pem")
    assert settings.refresh_tokens is False
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "::1/128"]
    assert settings.login_limit.seconds == 1.5
    assert settings.groups == {"staff": ("alice", "bob")}
    assert pem not in repr(settings)
    assert "s3cret" not in repr(settings)


def test_paths_of_a_mapping_start_at_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.parse({**REQUIRED, "users": "~/users"})
    assert settings.private_key == tmp_path / "k.pem"
    assert settings.users == Path("~/users").expanduser()
    assert settings.rules == ()


def test_rules_as_objects() -> None:
    rule = Rule(user="alice", repository="a", actions=frozenset({"pull"}))
    assert Settings.parse({**REQUIRED, "rules": [rule, RULE]}).rules == (rule, rule)
    assert Settings(
        issuer="a", services=("s",), private_key=Path("k.pem"), rules=(rule,)
    ).rules == (rule,)


def rules(**change: Any) -> dict[str, Any]:
    table = {**RULE, **change}
    return {"rules": [RULE, {key: value for key, value in table.items() if value is not None}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"issuer": None}, "auth.toml: issuer: is required"),
        ({"issuer": ""}, "auth.toml: issuer: "),
        ({"isuer": "x"}, "auth.toml: unknown key 'isuer'; did you mean 'issuer'?"),
        ({"services": []}, "auth.toml: services: "),
        ({"services": "s"}, "auth.toml: services: must be a list"),
        ({"services": [1]}, "auth.toml: services.0: "),
        ({"private_key": None}, "auth.toml: private_key: is required"),
        ({"private_key": 5}, "auth.toml: private_key"),
        ({"key_id": "md5"}, "auth.toml: key_id: "),
        ({"other_keys": "a.pem"}, "auth.toml: other_keys: must be a list"),
        ({"token_lifetime": 5}, "auth.toml: token_lifetime: "),
        ({"token_lifetime": True}, "auth.toml: token_lifetime: must be a number"),
        ({"refresh_tokens": True}, "auth.toml: refresh_tokens"),
        ({"trusted_proxies": ["proxy"]}, "auth.toml: trusted_proxies.0"),
        ({"trusted_proxies": "10.0.0.0/8"}, "auth.toml: trusted_proxies: must be a list"),
        ({"login_limit": {"failure": 3}}, "auth.toml: login_limit: unknown key 'failure'"),
        ({"login_limit": {"failures": 0}}, "auth.toml: login_limit: failures: "),
        ({"login_limit": 3}, "auth.toml: login_limit: "),
        ({"groups": {"a": "alice"}}, "auth.toml: groups.a: "),
        (
            {"rules": {}},
            "auth.toml: rules: must be a list of tables; begin each with a line [[rules]]",
        ),
        ({"rules": ["alice"]}, "auth.toml: rules: number 1: must be a table"),
        (
            rules(actoins=["pull"]),
            "rules: number 2: unknown key 'actoins'; did you mean 'actions'",
        ),
        (rules(actions=None), "rules: number 2: actions: is required"),
        (
            rules(actions=[]),
            "rules: number 2: actions: must be a list of at least one action",
        ),
        (
            rules(actions="pull"),
            "rules: number 2: actions: must be a list of at least one action",
        ),
        (rules(actions=["Pull"]), "rules: number 2: actions: 'Pull' is neither"),
        (rules(user=None), "rules: number 2: give either user or group"),
        (rules(group="g"), "rules: number 2: give either user or group"),
        (rules(user=None, group=""), "rules: number 2: group must not be empty"),
        (rules(user="a:b"), "rules: number 2: user: "),
        (rules(user="a\nb"), "rules: number 2: user: "),
        (
            rules(repository=None),
            "rules: number 2: give either repository, or type and name",
        ),
        (
            rules(type="registry", name="c"),
            "rules: number 2: give either repository, or type and name",
        ),
        (rules(name="c"), "rules: number 2: give type and name together"),
        (
            rules(repository=None, type="r"),
            "rules: number 2: give type and name together",
        ),
        (
            rules(repository=None, type="R", name="c"),
            "rules: number 2: type: must be a lower-case word",
        ),
        (
            rules(repository=""),
            "rules: number 2: repository: must not be empty; '**' matches every",
        ),
        (
            rules(repository="team-*/app"),
            "repository: 'team-*' in 'team-*/app': '*' stands for",
        ),
        (rules(repository="a/***"), "rules: number 2: repository: '***' in 'a/***'"),
        (
            rules(repository="{usr}/*"),
            "'{usr}' cannot be part of a name; the only placeholder is",
        ),
        (rules(repository="Alice/*"), "'Alice/*': 'Alice' is not valid as a component"),
        (rules(repository="a//b"), "'a//b': '' cannot be part of a name"),
        (rules(repository="/a"), "'/a': '' cannot be part of a name"),
        (
            {"backend": "ldap", **rules()},
            "auth.toml: backend is the plugin 'ldap', so that the",
        ),
    ],
)
def test_mistakes(change: dict[str, Any], message: str) -> None:
    table = {key: value for key, value in {**REQUIRED, **change}.items() if value is not None}
    with pytest.raises(ConfigError) as caught:
        Settings.parse(table, where="auth.toml")
    assert message in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_file_that_is_not_toml(tmp_path: Path) -> None:
    file = tmp_path / "authority.toml"
    with pytest.raises(ConfigError, match=r"authority\.toml: No such file"):
        load_settings(file)
    file.write_text("issuer = ")
    with pytest.raises(ConfigError, match=r"authority\.toml: "):
        load_settings(file)
    file.write_text('issuer = "${NOT_THERE}"')
    with pytest.raises(ConfigError, match=r"authority\.toml: issuer: .*NOT_THERE"):
        load_settings(file, {})
    with pytest.raises(ConfigError, match="settings must be a mapping, not list"):
        create_app([])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("private.pem", None, "private_key: .*private.pem: No such file"),
        ("private.pem", "-----BEGIN nothing", "private_key: .*private.pem is not a private key"),
        ("htpasswd", None, "htpasswd: .*No such file"),
        ("htpasswd", "alice:{SHA}abc", "htpasswd: .*line 1 is not user:bcrypt-hash"),
        ("refresh_tokens.db", "no database, but long enough" * 99, "refresh_tokens: .*not a data"),
    ],
)
def test_unreadable_or_invalid_files(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    config = write_authority(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        create_app(config)


def test_invalid_certificates(tmp_path: Path) -> None:
    config = write_authority(tmp_path, 'certificate = "other.pem"')
    with pytest.raises(ConfigError, match=r"other.pem: No such file"):
        create_app(config)
    (tmp_path / "other.pem").write_bytes(SigningKey.generate().self_signed_certificate("other"))
    with pytest.raises(ConfigError, match="certificate is not of this private key"):
        create_app(config)


def test_an_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config = write_authority(tmp_path, 'refresh_tokens = "file/tokens.db"')
    with pytest.raises(ConfigError, match="or set refresh_tokens = false"):
        create_app(os.fspath(config))


def test_a_missing_backend(tmp_path: Path) -> None:
    write_authority(tmp_path)
    table = {**REQUIRED, "private_key": str(tmp_path / "private.pem"), "refresh_tokens": False}
    with pytest.raises(PluginNotFound, match="no plugin 'ldap' implements dockhand_authorize"):
        create_app({**table, "backend": "ldap"})
    assert issubclass(PluginNotFound, PluginError)
