"""Authentication: tokens of the inbox and the environment, and the routes that accept them."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from dockhand_webhook import Inbox, create_app
from dockhand_webhook.inbox.tokens import TokenAuthenticator
from notifications import envelope, push
from pydantic import SecretStr

from dockhand_core import ConfigError


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def post_status(receiver: Any, authorization: str | None, connection: str = "") -> int:
    headers = {"Authorization": authorization}
    status: int = receiver.post(envelope(push()), connection, headers=headers).status_code
    return status


def test_a_token_is_accepted_as_bearer_or_as_password(receiver: Any) -> None:
    token = receiver.inbox.tokens.issue().get_secret_value()
    receiver.create(tokens=[])
    for header in (
        f"Bearer {token}", f"bearer  {token} ", basic("registry", token), basic("", token),
        basic("dockhand", token).replace("Basic", "basic"),
    ):  # fmt: skip
        assert post_status(receiver, header) == 202
    assert len(receiver.stored_events()) == 5


@pytest.mark.parametrize(
    "header",
    [
        None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic", "Basic !!!", "Digest x",
        "t0ken-of-the-tests", "Token t0ken-of-the-tests", "Bearer t0ken-of-the-testsx",
        "Bearer T0KEN-OF-THE-TESTS", "Bearer \u00e9", basic("t0ken-of-the-tests", ""),
        basic("t0ken-of-the-tests", "wrong"), "Basic " + b64encode(b"\xff:\xff").decode(),
    ],
)  # fmt: skip
def test_an_invalid_authorization_is_refused(
    receiver: Any, header: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    sent = header.encode("latin-1") if header is not None else None
    reply = receiver.post(envelope(push()), headers={"Authorization": sent})
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == 'Bearer realm="dockhand", Basic realm="dockhand"'
    assert receiver.stored_events() == []
    assert receiver.inbox.counts().dead_letters == 0
    assert "without a valid token" in caplog.text
    if header and header.partition(" ")[2]:
        assert header.partition(" ")[2] not in caplog.text


def test_without_a_token_other_errors_are_not_revealed(receiver: Any) -> None:
    """The other errors are an invalid connection name and a body that is too large."""
    assert post_status(receiver, None, "a:b") == 401
    body = bytes((16 << 20) + 1)
    assert receiver.post(body, headers={"Authorization": None}).status_code == 401


def test_several_tokens_are_valid_until_they_are_revoked(receiver: Any, tmp_path: Path) -> None:
    now = 0.0
    inbox = receiver.inbox
    one, two = (inbox.tokens.issue().get_secret_value() for _ in range(2))
    authenticator = TokenAuthenticator(inbox.tokens, [SecretStr("fixed")], clock=lambda: now)
    shown = [f"Bearer {each}" for each in (one, two, "fixed")]
    assert [authenticator.accepts(each, "") for each in shown] == [True, True, True]
    other = Inbox(tmp_path / "inbox.db")  # as another process would open it
    first = other.tokens.valid()[0].id
    assert other.tokens.revoke(first)
    assert not other.tokens.revoke(first)
    assert authenticator.accepts(shown[0], "")
    now = 1.0
    assert [authenticator.accepts(each, "") for each in shown] == [False, True, True]
    three = f"Bearer {other.tokens.issue('staging').get_secret_value()}"
    assert not authenticator.accepts(three, "staging")
    now = 2.0
    assert authenticator.accepts(three, "staging")
    other.close()


def test_a_receiver_notices_new_and_revoked_tokens(
    receiver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dockhand_webhook.inbox.tokens._REFRESH_INTERVAL", 0.0)
    receiver.create()
    token = receiver.inbox.tokens.issue().get_secret_value()
    assert post_status(receiver, f"Bearer {token}") == 202
    [valid] = receiver.inbox.tokens.valid()
    receiver.inbox.tokens.revoke(valid.id)
    assert post_status(receiver, f"Bearer {token}") == 401
    assert post_status(receiver, f"Bearer {receiver.token}") == 202


def test_a_token_bound_to_a_connection_is_refused_on_other_routes(receiver: Any) -> None:
    staging = receiver.inbox.tokens.issue("staging").get_secret_value()
    production = receiver.inbox.tokens.issue("production").get_secret_value()
    receiver.create(tokens=[])
    for header in (f"Bearer {staging}", basic("any", staging)):
        assert post_status(receiver, header, "staging") == 202
        for connection in ("production", "", "Staging", "stag", "staging.", "staging2"):
            assert post_status(receiver, header, connection) == 401
        assert receiver.get("/metrics", headers={"Authorization": header}).status_code == 401
    assert post_status(receiver, f"Bearer {production}", "production") == 202
    assert {connection for connection, _ in receiver.stored_events()} == {"staging", "production"}


def test_no_spelling_of_a_path_bypasses_the_binding(receiver: Any) -> None:
    """A token of one connection cannot post events of another."""
    staging = f"Bearer {receiver.inbox.tokens.issue('staging').get_secret_value()}"
    receiver.create(tokens=[])
    for path in (
        "/dockhand/notify/production%2F..%2Fstaging", "/dockhand/notify/staging%2F..%2Fproduction",
        "/dockhand/notify//staging", "/dockhand/notify/staging;production",
        "/dockhand/notify/%2e%2e/notify/production", "/dockhand/notify/production?x=/staging",
        "/dockhand/notify/staging%00", "/dockhand/notify/staging%0a",
    ):  # fmt: skip
        reply = receiver.post(envelope(push()), path=path, headers={"Authorization": staging})
        assert reply.status_code in {401, 404}, path
    assert receiver.stored_events() == []


def test_the_inbox_stores_no_secret_of_a_token(inbox: Inbox, clock: Any, tmp_path: Path) -> None:
    bound = inbox.tokens.issue("staging")
    free = inbox.tokens.issue()
    assert bound.get_secret_value() != free.get_secret_value()
    assert len(free.get_secret_value()) >= 40
    assert free.get_secret_value().startswith("dhn_")
    tokens = inbox.tokens.valid()
    assert [each.connection for each in tokens] == ["staging", None]
    assert len({each.id for each in tokens}) == 2
    for secret in (bound, free):
        assert secret.get_secret_value() not in repr(tokens) + repr(secret)
    inbox.close()
    kept = b"".join(each.read_bytes() for each in tmp_path.glob("inbox.db*"))
    assert bound.get_secret_value().encode() not in kept
    assert free.get_secret_value()[4:].encode() not in kept


def test_create_app_needs_a_token_or_anonymous(tmp_path: Path) -> None:
    path = tmp_path / "inbox.db"
    empty: list[str] = []
    for tokens in (None, empty):
        with pytest.raises(ConfigError, match=r"notify-token --inbox .*inbox\.db.*--anonymous"):
            create_app(inbox=path, tokens=tokens)
    with pytest.raises(ConfigError, match="is empty"):
        create_app(inbox=path, tokens=["x", ""])
    create_app(inbox=path, tokens=[SecretStr("x")])
    create_app(inbox=path, anonymous=True)
    create_app(inbox=path, enabled=False)
    Inbox(path).tokens.issue()
    create_app(inbox=path)


def test_anonymous_accepts_every_request(receiver: Any) -> None:
    receiver.create(tokens=[], anonymous=True)
    assert post_status(receiver, None) == 202
    assert post_status(receiver, "Bearer any", "staging") == 202
    assert receiver.get("/metrics", headers={"Authorization": None}).status_code == 200


def test_a_token_from_the_environment(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKHAND_NOTIFY_TOKEN", " from-the-environment\n")
    receiver.create(tokens=None)
    assert post_status(receiver, "Bearer from-the-environment", "staging") == 202
    assert post_status(receiver, f"Bearer {receiver.token}") == 401
    assert receiver.get(
        "/metrics", headers={"Authorization": "Bearer from-the-environment"}
    ).is_success
    receiver.create(tokens=["given"])  # arguments take precedence over the environment
    assert post_status(receiver, "Bearer from-the-environment") == 401


def test_a_token_from_a_file(
    receiver: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    monkeypatch.setenv("DOCKHAND_NOTIFY_TOKEN_FILE", str(file))
    with pytest.raises(ConfigError, match="DOCKHAND_NOTIFY_TOKEN_FILE: .*No such file"):
        receiver.create(tokens=None)
    file.write_text("\n")
    with pytest.raises(ConfigError, match="there is no token"):
        receiver.create(tokens=None)
    file.write_text("from-the-file\n")
    receiver.create(tokens=None)
    assert post_status(receiver, "Bearer from-the-file") == 202
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not text"):
        receiver.create(tokens=None)


@pytest.mark.parametrize("value", ["no", "False", " 0 ", "off"])
def test_the_route_is_absent_if_disabled(
    receiver: Any, monkeypatch: pytest.MonkeyPatch, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DOCKHAND_NOTIFICATIONS_ENABLED", value)
    receiver.create()
    assert receiver.post(envelope(push())).status_code == 404
    assert receiver.post(envelope(push()), "staging").status_code == 404
    assert receiver.get("/healthz").status_code == 200
    assert "notifications are off" in caplog.text
    receiver.create(enabled=True)
    assert receiver.post(envelope(push())).status_code == 202


def test_invalid_settings_are_refused(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKHAND_NOTIFICATIONS_ENABLED", "perhaps")
    with pytest.raises(ConfigError, match="neither true nor false"):
        receiver.create()
    monkeypatch.setenv("DOCKHAND_NOTIFICATIONS_ENABLED", "YES")
    for route in ("/", "/a b", "/{x}", "/a//b", "/a?b", "/a\nb"):
        monkeypatch.setenv("DOCKHAND_NOTIFICATIONS_ROUTE", route)
        with pytest.raises(ConfigError, match="DOCKHAND_NOTIFICATIONS_ROUTE"):
            receiver.create()
    monkeypatch.setenv("DOCKHAND_NOTIFICATIONS_ROUTE", "")  # an empty value counts as unset
    receiver.create()
    assert receiver.post(envelope(push())).status_code == 202


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("DOCKHAND_NOTIFY_TOKN", "DOCKHAND_NOTIFY_TOKEN"),
        ("DOCKHAND_NOTIFICATION_ROUTE", "DOCKHAND_NOTIFICATIONS_ROUTE"),
        ("DOCKHAND_NOTIFICATIONS_ENABLE", "DOCKHAND_NOTIFICATIONS_ENABLED"),
    ],
)
def test_misspelt_variables_are_refused_with_a_suggestion(
    receiver: Any, monkeypatch: pytest.MonkeyPatch, variable: str, meant: str
) -> None:
    monkeypatch.setenv(variable, "x")
    with pytest.raises(ConfigError, match=f"{variable} is unknown; did you mean '{meant}'"):
        receiver.create()


def test_variables_of_others_are_ignored(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKHAND_PASSWORD", "x")
    monkeypatch.setenv("DOCKHAND_TOKEN_FILE", "x")
    monkeypatch.setenv("DOCKHAND_SOMETHING_ELSE", "x")
    receiver.create()
