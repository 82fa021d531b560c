"""The auth driver `bearer`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from dockhand_auth_bearer import BearerAuth
from pydantic import SecretStr

from dockhand_core import ConfigError, connect

TOKEN = "eyJhbGciOi.J9-_~+/==.s3cret"


def test_header_on_every_request() -> None:
    auth = BearerAuth(BearerAuth.Settings(token=SecretStr(TOKEN)))
    for path in ("/v2/", "/v2/a/blobs/b"):
        request = httpx.Request("GET", f"http://r{path}")
        assert list(auth.auth_flow(request)) == [request]
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "auth: token: is required"),
        ({"token": ""}, "auth: token: a token is printable ASCII without spaces"),
        ({"token": f"{TOKEN}\r\nX-Evil: 1"}, "auth: token: a token is"),
        ({"token": f"{TOKEN} {TOKEN}"}, "auth: token: a token is"),
        ({"token": f"{TOKEN}é"}, "auth: token: a token is"),
        ({"token": ["x"]}, "auth: token: "),
        ({"tokne": TOKEN}, "unknown key 'tokne'; did you mean 'token'?"),
        ({"token": TOKEN, "token_file": "x"}, "both token and token_file"),
        ({"token_file": "/nowhere/token"}, "auth: token_file: /nowhere/token: No such file"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connect("http://r", auth={"driver": "bearer", **settings})
    assert str(caught.value).startswith("connection 'default': auth: ")
    assert message in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_token_from_a_file(tmp_path: Path, end: str) -> None:
    file = tmp_path / "token"
    file.write_bytes(f"{TOKEN}{end}".encode())
    with connect("http://r", auth={"driver": "bearer", "token_file": str(file)}) as client:
        request = httpx.Request("GET", "http://r/v2/")
        next(client._runner.endpoint.auth.auth_flow(request))
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
