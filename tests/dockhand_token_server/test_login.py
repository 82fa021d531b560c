"""Logins: the limit on failures, and client addresses behind proxies."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network
from typing import Any

import bcrypt
import pytest
from authority import USERS

from dockhand_core.server import FailureLimiter, LoginLimiter, client_address, network_of
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


@pytest.mark.parametrize(
    "spelling", ["ALICE", "Alice", " alice", "al ice", "ａｌｉｃｅ", "álice", "alice\ufe0f"]
)
def test_all_spellings_of_a_user_name_share_one_limit(endpoint: Any, spelling: str) -> None:
    """A directory may take each of these for alice."""
    endpoint.serve(login_limit=LIMIT)
    for number, name in enumerate(["alice", spelling, "alice"]):
        peer = f"192.0.2.{number}"
        endpoint.assert_refused(endpoint.get(user=name, password="wrong", peer=peer), 401)
    for name in ("alice", spelling):
        reply = endpoint.get(user=name, password="wrong", peer="192.0.2.9")
        endpoint.assert_refused(reply, 429)
    assert endpoint.get(user="bob", peer="192.0.2.9").status_code == 200


def test_unknown_users_are_limited_as_known_ones(endpoint: Any) -> None:
    endpoint.serve(login_limit=LIMIT)
    replies: dict[str, list[tuple[int, bytes]]] = {}
    for name in ("alice", "nobody"):
        for number in range(5):
            reply = endpoint.get(user=name, password="wrong", peer=f"198.51.{len(name)}.{number}")
            replies.setdefault(name, []).append((reply.status_code, reply.content))
    assert replies["alice"] == replies["nobody"]
    assert [status for status, _ in replies["alice"]] == [401] * 3 + [429] * 2


def test_a_user_behind_the_attackers_address(endpoint: Any) -> None:
    """Failures for other users behind one address do not lock out a user who logged in there."""
    endpoint.serve(login_limit=LIMIT)
    assert endpoint.get(user="alice").status_code == 200
    for name in ("bob", "nobody", "root"):
        endpoint.assert_refused(endpoint.get(user=name, password="wrong"), 401)
    endpoint.assert_refused(endpoint.get(user="bob"), 429)
    assert endpoint.get(user="alice").status_code == 200
    # guesses at alice's password there have a limit of their own
    for _ in range(3):
        endpoint.assert_refused(endpoint.get(user="alice", password="wrong"), 401)
    endpoint.assert_refused(endpoint.get(user="alice"), 429)
    assert endpoint.get(user="alice", peer="192.0.2.2").status_code == 200


def test_a_refresh_makes_an_address_known(endpoint: Any) -> None:
    endpoint.serve(login_limit=LIMIT)
    token = endpoint.get(user="alice", offline=True, peer="192.0.2.50").json()["refresh_token"]
    reply = endpoint.post(grant_type="refresh_token", refresh_token=token)  # from 192.0.2.1
    assert reply.status_code == 200
    for number in range(3):
        peer = f"198.51.100.{number}"
        endpoint.assert_refused(endpoint.get(user="alice", password="wrong", peer=peer), 401)
    endpoint.assert_refused(endpoint.get(user="alice", peer="198.51.100.9"), 429)
    assert endpoint.get(user="alice", peer="192.0.2.1").status_code == 200


def test_the_memory_of_the_limits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dockhand_core.server.failure_limiter._MAX_KEYS", 50)
    monkeypatch.setattr("dockhand_core.server.login_limiter._MAX_REMEMBERED_LOGINS", 50)
    failures = FailureLimiter(3, 3600, clock=lambda: 0.0)
    limiter = LoginLimiter(failures)
    victim = limiter.keys("192.0.2.1", "alice")
    limiter.add(victim, 3)
    for number in range(1000):  # cannot push the victim's count out
        limiter.add(limiter.keys(f"network {number}", f"user {number}" + "x" * 9999))
        limiter.remember_login(f"network {number}", f"user {number}")
    assert limiter.seconds_to_wait(victim) == 1200
    assert len(failures._levels) == 50
    assert sum(map(len, failures._levels)) < 10_000
    assert len(limiter._past_logins) == 50


@pytest.mark.parametrize("tail", ["x", "\0x", "x" * 100])
def test_bcrypt_does_not_cut_passwords(endpoint: Any, tail: str) -> None:
    """bcrypt uses the first 72 bytes, so that a longer password would match any other end."""
    password = "é" * 36
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()
    endpoint.overwrite("htpasswd", f"alice:{hashed}\n".encode())
    assert endpoint.get(user="alice", password=password).status_code == 200
    endpoint.assert_refused(endpoint.get(user="alice", password=password + tail), 401)
    form = {"grant_type": "password", "username": "alice"}
    assert endpoint.post(**form, password=password).status_code == 200
    assert endpoint.post(**form, password=password + tail).status_code in {400, 401}


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
