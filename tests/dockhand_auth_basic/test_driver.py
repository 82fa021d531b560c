"""The auth driver `basic`."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx
import pytest
from dockhand_auth_basic import BasicAuth
from pydantic import SecretStr
from pydantic import ValidationError as Invalid

from dockhand_core import AuthDriver, ConfigError, connect

PASSWORD = "hunter2-s3cret"


def authorization(username: str, password: str) -> str:
    auth = BasicAuth(BasicAuth.Settings(username=username, password=SecretStr(password)))
    request = httpx.Request("GET", "http://r/v2/")
    requests = list(auth.auth_flow(request))
    assert requests == [request]
    return request.headers["Authorization"]


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("alice", PASSWORD),
        ("alice", "with:colons:in it"),
        ("alice", ""),
        ("", PASSWORD),
        ("älice", "pässwörd ✓"),
        ("_json_key", '{"type": "service_account",\n "key": "x"}'),
    ],
)
def test_header_of_user_name_and_password(username: str, password: str) -> None:
    assert (
        authorization(username, password)
        == f"Basic {b64encode(f'{username}:{password}'.encode()).decode()}"
    )


def test_examples_of_rfc_7617() -> None:
    assert authorization("Aladdin", "open sesame") == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert authorization("test", "123£") == "Basic dGVzdDoxMjPCow=="


def test_long_credentials_stay_on_one_line() -> None:
    assert issubclass(BasicAuth, AuthDriver)
    assert "\n" not in authorization("a" * 200, "b" * 2000)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "auth: username: is required"),
        ({"username": "a"}, "auth: password: is required"),
        ({"username": "a", "password": "b\0c"}, "auth: password: a password with a NUL"),
        ({"username": "a:b", "password": PASSWORD}, "auth: username: a user name with a colon"),
        ({"username": 5, "password": PASSWORD}, "auth: username: "),
        ({"username": "a", "password": 5}, "auth: password: "),
        ({"username": "a", "pasword": PASSWORD}, "unknown key 'pasword'; did you mean 'password'?"),
        ({"username": "a", "token": PASSWORD}, "unknown key 'token'"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connect("http://r", auth={"driver": "basic", **settings})
    text = str(caught.value)
    assert f"connection 'default': {message}" in text or message in text
    assert PASSWORD not in str(caught.value)


def test_nothing_shows_the_password() -> None:
    settings = BasicAuth.Settings(username="alice", password=SecretStr(PASSWORD))
    for thing in (settings, BasicAuth(settings)):
        assert PASSWORD not in repr(thing) + str(thing)
        assert b64encode(f"alice:{PASSWORD}".encode()).decode() not in repr(thing) + str(thing)
    with pytest.raises(Invalid, match="frozen"):
        settings.username = "bob"  # type: ignore[misc]


def test_password_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    auth = {"driver": "basic", "username": "alice", "password_file": file}
    with connect("http://r", auth=auth) as client:
        request = httpx.Request("GET", "http://r/v2/")
        next(client._runner.endpoint.auth.auth_flow(request))
    expected = b64encode(f"alice:{PASSWORD}".encode()).decode()
    assert request.headers["Authorization"] == f"Basic {expected}"
