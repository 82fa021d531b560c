"""The endpoint without a socket, asked from blocking tests."""

from __future__ import annotations

import asyncio
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
    """An authority of two users, alice and bob, and what it answers."""

    def __init__(self, folder: Path, key: SigningKey, runner: asyncio.Runner) -> None:
        self.folder, self.key, self._runner = folder, key, runner
        self.plugins = Plugins()
        self.app: Any = None

    def serve(self, **settings: Any) -> Endpoint:
        """Make the application, with settings beside those of every test; None leaves one out."""
        table = {
            "issuer": ISSUER,
            "services": [SERVICE],
            "private_key": str(self.folder / "private.pem"),
            "users": str(self.folder / "htpasswd"),
            "refresh_tokens": str(self.folder / "refresh_tokens.db"),
            **tomllib.loads(RULES),
            **settings,
        }
        given = {key: value for key, value in table.items() if value is not None}
        self.app = create_app(given, plugins=self.plugins)
        return self

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine, in the loop of all requests of this test."""
        return self._runner.run(work)

    async def ask(
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
        """A request, as a user where one is named; the right password is theirs unless given."""
        if self.app is None:
            self.serve()
        transport = httpx.ASGITransport(self.app, client=(peer, 1234))
        if user is not None:
            secret = USERS.get(user, "") if password is None else password
            options["auth"] = httpx.BasicAuth(user, secret)
        async with httpx.AsyncClient(transport=transport, base_url="http://authority") as client:
            return await client.request(method, path, params=params, **options)

    def get(self, *scopes: str, offline: bool = False, **options: Any) -> httpx.Response:
        """GET /token, a field `scope` for each; `offline` asks for a refresh token."""
        query = [("service", SERVICE), *(("scope", scope) for scope in scopes)]
        if offline:
            query += [("offline_token", "true"), ("client_id", "docker")]
        return self.run(self.ask(params=query, **options))

    def post(self, **fields: str) -> httpx.Response:
        """POST /token with a form."""
        return self.run(self.ask("POST", data={"service": SERVICE, **fields}))

    def claims(self, reply: httpx.Response, service: str = SERVICE) -> Claims:
        """The claims of the token in a reply, verified."""
        assert reply.status_code == 200, reply.text
        verifier = TokenService(self.key, issuer=ISSUER, audience=service)
        return verifier.validate(reply.json()["token"])

    def granted(self, reply: httpx.Response) -> set[str]:
        """The scopes of the token in a reply."""
        return {str(scope) for scope in self.claims(reply).scopes}

    def refused(self, reply: httpx.Response, status: int) -> str:
        """That it was refused, in the form that clients read; the message."""
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
    """An endpoint that is made with its first request, or by `serve`."""
    write_authority(tmp_path, key=signing_key)
    with asyncio.Runner() as runner:
        yield Endpoint(tmp_path, signing_key, runner)


@pytest.fixture
def another(tmp_path: Path, signing_key: SigningKey, endpoint: Endpoint) -> Callable[[], Endpoint]:
    """One more endpoint over the same files, as another process has it."""
    return lambda: Endpoint(tmp_path, signing_key, endpoint._runner)
