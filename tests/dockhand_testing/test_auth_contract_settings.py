"""The contract of auth drivers, for settings with secrets in files and with lists of URLs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dockhand_testing import AuthDriverContract, ReceivedRequest, ScriptedRegistry, reply
from pydantic import SecretStr

from dockhand_core import AuthDriver, Unauthorized, hookimpl

SECRET = "s3cret-in-a-file"


class VaultAuth(AuthDriver):
    """A driver that asks the first of several vaults."""

    class Settings(AuthDriver.Settings):
        urls: list[str]
        token: SecretStr

    settings: Settings

    def auth_flow(self, request: Any) -> Any:
        headers = {"X-Vault-Token": self.settings.token.get_secret_value()}
        answer = yield from self.fetch("POST", self.settings.urls[0], headers=headers)
        if answer.status_code != 200 or answer.content != b"given":
            raise Unauthorized("the vault gave no token", status=401)
        request.headers["X-Given"] = SECRET[::-1]
        yield request


class Plugin:
    @hookimpl
    def dockhand_auth_drivers(self) -> dict[str, Any]:
        return {"vault": VaultAuth}


class VaultContract(AuthDriverContract):
    driver = "vault"
    plugin = Plugin()
    caches = False

    def accepts(self, request: ReceivedRequest) -> bool:
        return request.headers["X-Given"] == SECRET[::-1]

    def answer(self, request: ReceivedRequest) -> bytes | None:
        if request.path != "/vault":
            return None
        return reply(200, b"given") if request.headers["X-Vault-Token"] == SECRET else reply(403)

    def test_secrets_are_found(self, secrets: set[str]) -> None:
        assert secrets == {SECRET}


class TestListOfUrls(VaultContract):
    settings = {"urls": ["{url}/vault"], "token": SECRET}


class TestSecretInFile(VaultContract):
    @pytest.fixture
    def own_settings(self, guarded: ScriptedRegistry, tmp_path: Path) -> dict[str, Any]:
        (tmp_path / "token").write_text(SECRET)
        return {"urls": [f"{guarded.url}/vault"], "token_file": str(tmp_path / "token")}
