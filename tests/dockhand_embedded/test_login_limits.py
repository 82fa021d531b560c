"""The limit on failed logins: the work for wrong passwords, and users whom it must not affect."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import bcrypt
import httpx
import pytest
from dockhand_embedded import create_app
from dockhand_embedded.access.htpasswd import Htpasswd
from registries import HTPASSWD, PASSWORD, embedded

from dockhand_core import connect

QUIET = {"driver": "null"}


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Record the passwords whose bcrypt hash is computed, each of which takes 50 ms."""
    passwords: list[bytes] = []
    real = bcrypt.checkpw

    def slow(password: bytes, expected: bytes) -> bool:
        passwords.append(password)
        time.sleep(0.05)
        return real(password, expected)

    monkeypatch.setattr(bcrypt, "checkpw", slow)
    return passwords


@pytest.fixture
def htpasswd_file(tmp_path: Path) -> Path:
    path = tmp_path / "htpasswd"
    path.write_text(HTPASSWD + HTPASSWD.replace("alice", "carol"))
    return path


class Clients:
    """Requests for `/v2/` with a password, from any address."""

    def __init__(self, authenticate: Htpasswd) -> None:
        self._app = create_app(":memory:", authenticate=authenticate)

    async def login(self, user: str, password: str = PASSWORD, peer: str = "192.0.2.1") -> int:
        return (await self.reply(user, password, peer)).status_code

    async def reply(self, user: str, password: str, peer: str) -> httpx.Response:
        transport = httpx.ASGITransport(self._app, client=(peer, 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://registry") as http:
            return await http.get("/v2/", auth=httpx.BasicAuth(user, password))

    async def guess(self, count: int, user: str = "alice", peer: str = "192.0.2.1") -> list[int]:
        guesses = (self.login(user, f"wrong {number}", peer) for number in range(count))
        return await asyncio.gather(*guesses)


def test_failures_of_an_address_are_limited(htpasswd_file: Path, checked: list[bytes]) -> None:
    """Names that are not in the file count and cost as much as those that are."""

    async def attack() -> None:
        clients = Clients(Htpasswd(htpasswd_file))
        names = ["alice", "mallory", "nobody", "carol"]
        guesses = [clients.login(names[n % 4], f"wrong {n}") for n in range(400)]
        statuses = await asyncio.gather(*guesses)
        assert sorted(set(statuses)) == [401, 429]
        assert statuses.count(401) == len(checked) == 10
        assert await clients.login("carol", peer="192.0.2.2") == 200

    asyncio.run(attack())


def test_failures_of_a_user_are_limited_at_all_addresses(htpasswd_file: Path) -> None:
    async def attack() -> None:
        clients = Clients(Htpasswd(htpasswd_file))
        statuses = [await clients.login("alice", "wrong", f"192.0.2.{n}") for n in range(20)]
        assert statuses == [401] * 10 + [429] * 10
        assert await clients.login("alice", peer="192.0.2.200") == 429
        assert await clients.login("carol", peer="192.0.2.200") == 200

    asyncio.run(attack())


def test_a_refused_login_says_when_to_try_again(htpasswd_file: Path) -> None:
    now = [1000.0]

    async def attack() -> None:
        clients = Clients(Htpasswd(htpasswd_file, failures=2, clock=lambda: now[0]))
        await clients.guess(2)
        reply = await clients.reply("alice", PASSWORD, "192.0.2.1")
        assert (reply.status_code, reply.headers["retry-after"]) == (429, "30")
        assert reply.json()["errors"][0]["code"] == "TOOMANYREQUESTS"
        now[0] += 30
        assert await clients.login("alice") == 200

    asyncio.run(attack())


def test_a_user_who_logged_in_does_not_wait_for_guesses(
    htpasswd_file: Path, checked: list[bytes]
) -> None:
    """At an address where a user logged in, only failures of that user at that address count."""
    now = [1000.0]

    async def attack() -> None:
        clients = Clients(Htpasswd(htpasswd_file, clock=lambda: now[0]))
        assert await clients.login("alice") == 200
        guesses = asyncio.gather(
            clients.guess(200, "carol"), clients.guess(200, "alice", "192.0.2.9")
        )
        await asyncio.sleep(0.02)
        began = time.monotonic()
        assert await clients.login("alice") == 200  # the password is remembered
        assert time.monotonic() - began < 0.3
        now[0] += 61
        assert await clients.login("alice") == 200  # it is checked again
        assert time.monotonic() - began < 0.6
        await guesses
        assert await clients.login("alice") == 200
        assert (await clients.guess(20)).count(401) == 10

    asyncio.run(attack())
    assert checked.count(PASSWORD.encode()) == 2


def test_one_client_with_many_requests_at_once(htpasswd_file: Path, checked: list[bytes]) -> None:
    async def requests() -> None:
        clients = Clients(Htpasswd(htpasswd_file))
        assert await asyncio.gather(*(clients.login("alice") for _ in range(50))) == [200] * 50
        wrong = [clients.login("carol", "wrong", "192.0.2.7") for _ in range(5)]
        assert await asyncio.gather(*wrong) == [401] * 5
        assert await clients.login("carol", peer="192.0.2.7") == 200

    asyncio.run(requests())
    assert len(checked) <= 5  # a check for each request would be 56


def test_the_program_limits_failed_logins(htpasswd_file: Path, tmp_path: Path) -> None:
    options = ("--htpasswd", str(htpasswd_file), "--login-failures", "3")
    auth = {"driver": "basic", "username": "alice", "password": PASSWORD}
    with embedded(tmp_path / "root", *options) as url:
        with connect(url, auth=auth, logging=QUIET) as registry:
            assert registry.is_online()
        statuses = [httpx.get(f"{url}/v2/", auth=("bob", str(n))).status_code for n in range(5)]
        assert statuses == [401] * 3 + [429] * 2
        with connect(url, auth=auth, logging=QUIET) as registry:
            registry.upload_blob("a/b", b"data")
