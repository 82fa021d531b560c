"""The auth driver `apikey`."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx
import pytest
from dockhand_auth_apikey import ApiKeyAuth
from pydantic import SecretStr

from dockhand_core import ConfigError, connect

KEY = "zak_s3cret-0123"


def added_headers(**settings: Any) -> httpx.Headers:
    """Return the headers that the driver adds to a request."""
    auth = ApiKeyAuth(ApiKeyAuth.Settings(api_key=SecretStr(KEY), **settings))
    request = httpx.Request("GET", "http://r/v2/", headers={"Accept": "x"})
    before = {*request.headers}
    assert list(auth.auth_flow(request)) == [request]
    return httpx.Headers({k: v for k, v in request.headers.items() if k not in before})


def test_basic_with_the_key_as_password() -> None:
    pair = b64encode(f"alice:{KEY}".encode()).decode()
    assert added_headers(username="alice") == {"Authorization": f"Basic {pair}"}


@pytest.mark.parametrize(
    ("settings", "headers"),
    [
        ({"header": "X-Api-Key"}, {"X-Api-Key": KEY}),
        ({"header": "X-JFrog-Art-Api"}, {"X-JFrog-Art-Api": KEY}),
        ({"header": "Authorization", "prefix": "Token "}, {"Authorization": f"Token {KEY}"}),
        ({"header": "Authorization", "prefix": "Bearer "}, {"Authorization": f"Bearer {KEY}"}),
    ],
)
def test_in_a_header_of_its_own(settings: dict[str, str], headers: dict[str, str]) -> None:
    assert added_headers(**settings) == headers


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"username": "a"}, "auth: api_key: is required"),
        ({"api_key": KEY}, "auth: give either username (sends Basic) or header"),
        ({"api_key": KEY, "username": "a", "header": "X"}, "auth: give either username"),
        (
            {"api_key": KEY, "username": "a", "prefix": "Token "},
            "auth: prefix can be given with header only",
        ),
        ({"api_key": "", "username": "a"}, "auth: api_key: an API key is one line"),
        ({"api_key": f"{KEY}\n{KEY}", "username": "a"}, "auth: api_key: an API key is one line"),
        ({"api_key": KEY, "header": "X Key"}, "auth: header: not a valid name of an HTTP header"),
        ({"api_key": KEY, "header": "X:"}, "auth: header: not a valid name of an HTTP header"),
        (
            {"api_key": KEY, "header": "X\r\nEvil"},
            "auth: header: not a valid name of an HTTP header",
        ),
        ({"api_key": KEY, "header": ""}, "auth: header: not a valid name of an HTTP header"),
        ({"api_key": KEY, "header": "X", "prefix": "a\r\nEvil: "}, "auth: prefix: "),
        ({"api_key": f"{KEY}é", "header": "X"}, "auth: "),
        ({"api_key": KEY, "username": "a:b"}, "auth: username: a user name with a colon"),
        ({"apikey": KEY, "username": "a"}, "unknown key 'apikey'; did you mean 'api_key'?"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connect("http://r", auth={"driver": "apikey", **settings})
    assert str(caught.value).startswith("connection 'default': auth: ")
    assert message in str(caught.value)
    assert KEY not in str(caught.value)


def test_nothing_shows_the_key() -> None:
    settings = ApiKeyAuth.Settings(api_key=SecretStr(KEY), username="alice")
    for thing in (settings, ApiKeyAuth(settings)):
        assert KEY not in repr(thing) + str(thing)
        assert b64encode(f"alice:{KEY}".encode()).decode() not in repr(thing) + str(thing)


def test_key_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    auth = {"driver": "apikey", "header": "X-Api-Key", "api_key_file": str(file)}
    with connect("http://r", auth=auth) as client:
        request = httpx.Request("GET", "http://r/v2/")
        next(client._runner.endpoint.auth.auth_flow(request))
    assert request.headers["X-Api-Key"] == KEY
