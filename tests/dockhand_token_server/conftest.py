"""Fixtures: the token endpoint without a socket, called from synchronous tests."""

from __future__ import annotations

import asyncio
import os
import time
import tomllib
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from authority import ISSUER, RULES, SERVICE, USERS, write_authority
from dockhand_auth_jwt import Claims, SigningKey, TokenService
from dockhand_token_server import create_app

from dockhand_core import Plugins

T = TypeVar("T")


class Endpoint:
    """A token endpoint with the users alice and bob; methods send requests and check replies."""

    def __init__(self, folder: Path, key: SigningKey, runner: asyncio.Runner) -> None:
        self.folder, self.key, self._runner = folder, key, runner
        self.plugins = Plugins()
        self.app: Any = None

    def serve(self, **settings: Any) -> Endpoint:
        """Create the application; `settings` replace the default settings, and None removes one."""
        table = {
            "issuer": ISSUER,
            "services": [SERVICE],
            "private_key": str(self.folder / "private.pem"),
            "users": str(self.folder / "htpasswd"),
            "refresh_tokens": str(self.folder / "refresh_tokens.db"),
            **tomllib.loads(RULES),
            **settings,
        }
        present = {key: value for key, value in table.items() if value is not None}
        self.app = create_app(present, plugins=self.plugins)
        return self

    def overwrite(self, name: str, data: bytes) -> None:
        """Overwrite a file of the authority, and make sure that its modification time changes.

        The endpoint notices a change by inode, modification time and size, and two writes within
        one tick of the file system's clock would have the same time.
        """
        file = self.folder / name
        modified = file.stat().st_mtime_ns if file.exists() else time.time_ns()
        file.write_bytes(data)
        os.utime(file, ns=(modified + 10**9, modified + 10**9))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the event loop of this test."""
        return self._runner.run(coroutine)

    async def request(
        self,
        method: str = "GET",
        *,
        path: str = "/token",
        user: str | None = None,
        password: str | None = None,
        peer: str = "192.0.2.1",
        params: Any = None,
        **options: Any,
    ) -> httpx.Response:
        """Send a request, as `user` if it is given; the default password is the user's own."""
        if self.app is None:
            self.serve()
        transport = httpx.ASGITransport(self.app, client=(peer, 1234))
        if user is not None:
            secret = USERS.get(user, "") if password is None else password
            options["auth"] = httpx.BasicAuth(user, secret)
        async with httpx.AsyncClient(transport=transport, base_url="http://authority") as client:
            return await client.request(method, path, params=params, **options)

    def get(self, *scopes: str, offline: bool = False, **options: Any) -> httpx.Response:
        """Request a token with GET /token; `offline` asks for a refresh token, too."""
        query = [("service", SERVICE), *(("scope", scope) for scope in scopes)]
        if offline:
            query += [("offline_token", "true"), ("client_id", "docker")]
        return self.run(self.request(params=query, **options))

    def post(self, **fields: str) -> httpx.Response:
        """Request a token with POST /token and a form."""
        return self.run(self.request("POST", data={"service": SERVICE, **fields}))

    def claims(self, reply: httpx.Response, service: str = SERVICE) -> Claims:
        """Verify the token in a reply, and return its claims."""
        assert reply.status_code == 200, reply.text
        verifier = TokenService(self.key, issuer=ISSUER, audience=service)
        return verifier.validate(reply.json()["token"])

    def granted_scopes(self, reply: httpx.Response) -> set[str]:
        """Verify the token in a reply, and return its scopes."""
        return {str(scope) for scope in self.claims(reply).scopes}

    def assert_refused(self, reply: httpx.Response, status: int) -> str:
        """Assert that a reply is a refusal that clients can parse, and return its message."""
        assert reply.status_code == status, reply.text
        body = reply.json()
        [error] = body["errors"]
        assert error["code"]
        assert body["error"]
        assert error["message"] == body["error_description"]
        return str(error["message"])


@pytest.fixture(scope="session")
def signing_key() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture
def endpoint(tmp_path: Path, signing_key: SigningKey) -> Iterator[Endpoint]:
    """Provide an endpoint whose application is created by the first request, or by `serve`."""
    write_authority(tmp_path, key=signing_key)
    with asyncio.Runner() as runner:
        yield Endpoint(tmp_path, signing_key, runner)


@pytest.fixture
def another_endpoint(
    tmp_path: Path, signing_key: SigningKey, endpoint: Endpoint
) -> Callable[[], Endpoint]:
    """Provide a function that creates an endpoint on the same files, as another process would."""
    return lambda: Endpoint(tmp_path, signing_key, endpoint._runner)
