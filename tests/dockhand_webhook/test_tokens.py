"""Who may come in: tokens of the inbox and of the environment, and what they open."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from dockhand_webhook import Inbox, create_app
from dockhand_webhook.inbox.tokens import Door
from notifications import envelope, push
from pydantic import SecretStr

from dockhand_core import ConfigError


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def asked(desk: Any, authorization: str | None, connection: str = "") -> int:
    headers = {"Authorization": authorization}
    status: int = desk.post(envelope(push()), connection, headers=headers).status_code
    return status


def test_as_a_bearer_token_or_a_password(desk: Any) -> None:
    token = desk.inbox.tokens.issue().get_secret_value()
    desk.serve(tokens=[])
    for header in (
        f"Bearer {token}", f"bearer  {token} ", basic("registry", token), basic("", token),
        basic("dockhand", token).replace("Basic", "basic"),
    ):  # fmt: skip
        assert asked(desk, header) == 202
    assert len(desk.stored()) == 5


@pytest.mark.parametrize(
    "header",
    [
        None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic", "Basic !!!", "Digest x",
        "t0ken-of-the-tests", "Token t0ken-of-the-tests", "Bearer t0ken-of-the-testsx",
        "Bearer T0KEN-OF-THE-TESTS", "Bearer \u00e9", basic("t0ken-of-the-tests", ""),
        basic("t0ken-of-the-tests", "wrong"), "Basic " + b64encode(b"\xff:\xff").decode(),
    ],
)  # fmt: skip
def test_who_shows_no_valid_token(
    desk: Any, header: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    sent = header.encode("latin-1") if header is not None else None
    reply = desk.post(envelope(push()), headers={"Authorization": sent})
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == 'Bearer realm="dockhand", Basic realm="dockhand"'
    assert desk.stored() == []
    assert desk.inbox.counts().letters == 0
    assert "without a valid token" in caplog.text
    if header and header.partition(" ")[2]:
        assert header.partition(" ")[2] not in caplog.text


def test_who_shows_no_token_is_told_nothing_else(desk: Any) -> None:
    """Neither that a name is none, nor that a body is too large."""
    assert asked(desk, None, "a:b") == 401
    body = bytes((16 << 20) + 1)
    assert desk.post(body, headers={"Authorization": None}).status_code == 401


def test_several_hold_at_once_until_they_are_revoked(desk: Any, tmp_path: Path) -> None:
    now = 0.0
    inbox = desk.inbox
    one, two = (inbox.tokens.issue().get_secret_value() for _ in range(2))
    door = Door(inbox.tokens, [SecretStr("fixed")], clock=lambda: now)
    shown = [f"Bearer {each}" for each in (one, two, "fixed")]
    assert [door.admits(each, "") for each in shown] == [True, True, True]
    other = Inbox(tmp_path / "inbox.db")  # another process
    first = other.tokens.held()[0].id
    assert other.tokens.revoke(first)
    assert not other.tokens.revoke(first)
    assert door.admits(shown[0], "")
    now = 1.0
    assert [door.admits(each, "") for each in shown] == [False, True, True]
    three = f"Bearer {other.tokens.issue('staging').get_secret_value()}"
    assert not door.admits(three, "staging")
    now = 2.0
    assert door.admits(three, "staging")
    other.close()


def test_a_receiver_knows_within_a_second(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dockhand_webhook.inbox.tokens._FRESH", 0.0)
    desk.serve()
    token = desk.inbox.tokens.issue().get_secret_value()
    assert asked(desk, f"Bearer {token}") == 202
    [held] = desk.inbox.tokens.held()
    desk.inbox.tokens.revoke(held.id)
    assert asked(desk, f"Bearer {token}") == 401
    assert asked(desk, f"Bearer {desk.token}") == 202


def test_a_token_of_one_connection_opens_no_other_route(desk: Any) -> None:
    staging = desk.inbox.tokens.issue("staging").get_secret_value()
    production = desk.inbox.tokens.issue("production").get_secret_value()
    desk.serve(tokens=[])
    for header in (f"Bearer {staging}", basic("any", staging)):
        assert asked(desk, header, "staging") == 202
        for connection in ("production", "", "Staging", "stag", "staging.", "staging2"):
            assert asked(desk, header, connection) == 401
        assert desk.get("/metrics", headers={"Authorization": header}).status_code == 401
    assert asked(desk, f"Bearer {production}", "production") == 202
    assert {connection for connection, _ in desk.stored()} == {"staging", "production"}


def test_the_route_is_what_counts_however_it_is_written(desk: Any) -> None:
    """No spelling of a path lets a token into another connection's events."""
    staging = f"Bearer {desk.inbox.tokens.issue('staging').get_secret_value()}"
    desk.serve(tokens=[])
    for path in (
        "/dockhand/notify/production%2F..%2Fstaging", "/dockhand/notify/staging%2F..%2Fproduction",
        "/dockhand/notify//staging", "/dockhand/notify/staging;production",
        "/dockhand/notify/%2e%2e/notify/production", "/dockhand/notify/production?x=/staging",
        "/dockhand/notify/staging%00", "/dockhand/notify/staging%0a",
    ):  # fmt: skip
        reply = desk.post(envelope(push()), path=path, headers={"Authorization": staging})
        assert reply.status_code in {401, 404}, path
    assert desk.stored() == []


def test_what_is_known_of_a_token(inbox: Inbox, clock: Any, tmp_path: Path) -> None:
    bound = inbox.tokens.issue("staging")
    free = inbox.tokens.issue()
    assert bound.get_secret_value() != free.get_secret_value()
    assert len(free.get_secret_value()) >= 40
    assert free.get_secret_value().startswith("dhn_")
    held = inbox.tokens.held()
    assert [each.connection for each in held] == ["staging", None]
    assert len({each.id for each in held}) == 2
    for secret in (bound, free):
        assert secret.get_secret_value() not in repr(held) + repr(secret)
    inbox.close()
    kept = b"".join(each.read_bytes() for each in tmp_path.glob("inbox.db*"))
    assert bound.get_secret_value().encode() not in kept
    assert free.get_secret_value()[4:].encode() not in kept


def test_without_any_token_it_refuses_to_start(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    nobody: list[str] = []
    for tokens in (None, nobody):
        with pytest.raises(ConfigError, match=r"notify-token --inbox .*inbox\.db.*--anonymous"):
            create_app(inbox=path, tokens=tokens)
    with pytest.raises(ConfigError, match="is empty"):
        create_app(inbox=path, tokens=["x", ""])
    create_app(inbox=path, tokens=[SecretStr("x")])
    create_app(inbox=path, anonymous=True)
    create_app(inbox=path, enabled=False)
    Inbox(path).tokens.issue()
    create_app(inbox=path)


def test_anonymous(desk: Any) -> None:
    desk.serve(tokens=[], anonymous=True)
    assert asked(desk, None) == 202
    assert asked(desk, "Bearer whatever", "staging") == 202
    assert desk.get("/metrics", headers={"Authorization": None}).status_code == 200


def test_a_token_of_the_environment(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKHAND_NOTIFY_TOKEN", " from-the-environment\n")
    desk.serve(tokens=None)
    assert asked(desk, "Bearer from-the-environment", "staging") == 202
    assert asked(desk, f"Bearer {desk.token}") == 401
    assert desk.get("/metrics", headers={"Authorization": "Bearer from-the-environment"}).is_success
    desk.serve(tokens=["said"])  # the environment is asked where nobody says otherwise
    assert asked(desk, "Bearer from-the-environment") == 401


def test_a_token_of_a_file(desk: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    monkeypatch.setenv("DOCKHAND_NOTIFY_TOKEN_FILE", str(file))
    with pytest.raises(ConfigError, match="DOCKHAND_NOTIFY_TOKEN_FILE: .*No such file"):
        desk.serve(tokens=None)
    file.write_text("\n")
    with pytest.raises(ConfigError, match="nobody could be told"):
        desk.serve(tokens=None)
    file.write_text("from-the-file\n")
    desk.serve(tokens=None)
    assert asked(desk, "Bearer from-the-file") == 202
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is no text"):
        desk.serve(tokens=None)


@pytest.mark.parametrize("said", ["no", "False", " 0 ", "off"])
def test_turned_off(
    desk: Any, monkeypatch: pytest.MonkeyPatch, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DOCKHAND_NOTIFICATIONS_ENABLED", said)
    desk.serve()
    assert desk.post(envelope(push())).status_code == 404
    assert desk.post(envelope(push()), "staging").status_code == 404
    assert desk.get("/healthz").status_code == 200
    assert "notifications are off" in caplog.text
    desk.serve(enabled=True)
    assert desk.post(envelope(push())).status_code == 202


def test_settings_that_make_no_sense(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKHAND_NOTIFICATIONS_ENABLED", "perhaps")
    with pytest.raises(ConfigError, match="neither true nor false"):
        desk.serve()
    monkeypatch.setenv("DOCKHAND_NOTIFICATIONS_ENABLED", "YES")
    for route in ("/", "/a b", "/{x}", "/a//b", "/a?b", "/a\nb"):
        monkeypatch.setenv("DOCKHAND_NOTIFICATIONS_ROUTE", route)
        with pytest.raises(ConfigError, match="DOCKHAND_NOTIFICATIONS_ROUTE"):
            desk.serve()
    monkeypatch.setenv("DOCKHAND_NOTIFICATIONS_ROUTE", "")  # as if it were not set
    desk.serve()
    assert desk.post(envelope(push())).status_code == 202
