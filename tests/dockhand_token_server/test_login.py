"""Logins: the limit on failures, and client addresses behind proxies."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from typing import Any

import pytest
from authority import USERS

from dockhand_core.server import FailureLimiter, client_address, network_of
from dockhand_core.server.htpasswd import PasswordFile

LIMIT = {"failures": 3, "seconds": 3600}


def test_failures_are_forgotten_steadily() -> None:
    now = 0.0
    limiter = FailureLimiter(3, 30, clock=lambda: now)
    for _ in range(3):
        assert limiter.seconds_to_wait("a") == 0
        limiter.add("a")
    assert limiter.seconds_to_wait("a") == 10
    assert limiter.seconds_to_wait("b") == 0
    now += 9
    assert limiter.seconds_to_wait("a") == 1
    now += 1
    assert limiter.seconds_to_wait("a") == 0
    limiter.add("a")
    assert limiter.seconds_to_wait("a") == 10
    limiter.add("a", -1)
    assert limiter.seconds_to_wait("a") == 0
    limiter.add("c", -1)
    assert limiter.seconds_to_wait("c") == 0


def test_too_many_failures_from_one_address(endpoint: Any) -> None:
    endpoint.serve(login_limit=LIMIT)
    for user in ("alice", "bob", "nobody"):
        endpoint.assert_refused(endpoint.get(user=user, password="wrong"), 401)
    for password in (
        "wrong",
        None,
    ):  # the right password is refused, too: another status would reveal it
        reply = endpoint.get(user="alice", password=password)
        endpoint.assert_refused(reply, 429)
        assert 0 < int(reply.headers["retry-after"]) <= 1200
        assert reply.json()["errors"][0]["code"] == "TOOMANYREQUESTS"
    form = {"grant_type": "password", "username": "alice", "password": USERS["alice"]}
    endpoint.assert_refused(endpoint.post(**form), 429)
    # other addresses are not limited, nor are anonymous requests
    assert endpoint.get(user="alice", peer="192.0.2.2").status_code == 200
    assert endpoint.get().status_code == 200


def test_too_many_failures_for_one_user(endpoint: Any) -> None:
    endpoint.serve(login_limit=LIMIT)
    assert endpoint.get(user="alice", peer="192.0.2.99").status_code == 200
    for number in range(3):
        peer = f"192.0.2.{number}"
        endpoint.assert_refused(endpoint.get(user="alice", password="wrong", peer=peer), 401)
    endpoint.assert_refused(endpoint.get(user="alice", peer="192.0.2.3"), 429)
    # failures from other addresses do not block an address where alice logged in before
    assert endpoint.get(user="alice", peer="192.0.2.99").status_code == 200
    assert endpoint.get(user="bob", peer="192.0.2.3").status_code == 200


def test_concurrent_guesses_cannot_exceed_the_limit(endpoint: Any) -> None:
    endpoint.serve(login_limit=LIMIT)

    async def statuses_of_guesses() -> list[int]:
        guesses = (endpoint.request(user="alice", password=f"wrong{n}") for n in range(20))
        return [reply.status_code for reply in await asyncio.gather(*guesses)]

    assert sorted(endpoint.run(statuses_of_guesses())) == [401] * 3 + [429] * 17


def test_concurrent_requests_with_one_password_are_one_check(
    endpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that starts twenty pulls at once does not reach the limit on failed logins."""
    limit = {"failures": 1, "seconds": 3600}
    checked: list[str] = []
    verify = PasswordFile.verify

    def recording_verify(self: PasswordFile, user: str, password: bytes) -> bool:
        checked.append(user)
        return verify(self, user, password)

    monkeypatch.setattr(PasswordFile, "verify", recording_verify)
    endpoint.serve(login_limit=limit)

    async def statuses_of_pulls() -> set[int]:
        replies = await asyncio.gather(*(endpoint.request(user="alice") for _ in range(20)))
        return {reply.status_code for reply in replies}

    assert endpoint.run(statuses_of_pulls()) == {200}
    assert checked == ["alice"]
    assert endpoint.run(statuses_of_pulls()) == {200}
    assert checked == ["alice"]  # the success is remembered


def test_invalid_refresh_tokens_count_as_failures(endpoint: Any) -> None:
    endpoint.serve(login_limit=LIMIT)
    for _ in range(3):
        reply = endpoint.post(grant_type="refresh_token", refresh_token="dhr_guess")
        endpoint.assert_refused(reply, 401)
    reply = endpoint.post(grant_type="refresh_token", refresh_token="dhr_guess")
    endpoint.assert_refused(reply, 429)


def test_behind_a_proxy(endpoint: Any) -> None:
    endpoint.serve(login_limit=LIMIT, trusted_proxies=["192.0.2.1/32"])

    def status(forwarded: str, password: str | None = None) -> int:
        headers = {"X-Forwarded-For": forwarded}
        reply = endpoint.get(user="bob", password=password, headers=headers)
        return int(reply.status_code)

    for number in range(3):  # the client invents the first entry, the proxy adds the second
        assert status(f"198.51.100.{number}, 203.0.113.7", "wrong") == 401
    assert status("203.0.113.7") == 429
    assert endpoint.get(user="alice", headers={"X-Forwarded-For": "203.0.113.8"}).status_code == 200


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("192.0.2.9", ["1.1.1.1"], "192.0.2.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, 2.2.2.2"], "2.2.2.2"),
        ("10.0.0.1", ["1.1.1.1", "2.2.2.2, 10.0.0.2"], "2.2.2.2"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("::ffff:10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("", ["1.1.1.1"], ""),
    ],
)
def test_client_addresses(peer: str, forwarded: list[str], found: str) -> None:
    trusted = [ip_network("10.0.0.0/8")]
    assert client_address(peer, forwarded, trusted) == found


def test_the_network_of_an_address() -> None:
    assert network_of("2001:db8:1:2:3::4") == network_of("2001:db8:1:2:ffff::1")
    assert network_of("2001:db8:1:2::") != network_of("2001:db8:1:3::")
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("testclient") == "testclient"


def test_without_an_htpasswd_file(endpoint: Any) -> None:
    endpoint.serve(users=None)
    endpoint.assert_refused(endpoint.get(user="alice"), 401)
    assert endpoint.granted_scopes(endpoint.get("repository:public/x:pull")) == {
        "repository:public/x:pull"
    }
