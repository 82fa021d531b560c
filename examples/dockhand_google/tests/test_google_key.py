"""The driver with the key of a service account, and a token endpoint of the test's own."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from dockhand_google.driver import CredentialsNotFound, TokenRefused
from dockhand_testing import (
    CUT,
    AuthDriverContract,
    ReceivedRequest,
    ScriptedRegistry,
    Step,
    reply,
)
from google.auth import jwt

from dockhand_core import ConnectionFailed, RegistryClient, connect

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PRIVATE = KEY.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
).decode()
PUBLIC = KEY.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
OpenClient = Callable[..., RegistryClient]
EMAIL = "ci@project.iam.gserviceaccount.com"


def key_file(path: Path, url: str) -> str:
    """Write the key of a service account, whose token endpoint is at `url`."""
    account = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "1",
        "private_key": PRIVATE,
        "client_email": EMAIL,
        "token_uri": f"{url}/token",
    }
    path.write_text(json.dumps(account))
    return str(path)


class TestGoogleAuth(AuthDriverContract):
    """The contract, and what a program notices of Google's answers."""

    driver = "google"
    renews = True

    @pytest.fixture(autouse=True)
    def empty_counter(self) -> None:
        self.tokens = 0

    @pytest.fixture
    def own_settings(self, guarded: ScriptedRegistry, tmp_path: Path) -> dict[str, Any]:
        return {"credentials_file": key_file(tmp_path / "key.json", guarded.url)}

    def accepts(self, request: ReceivedRequest) -> bool:
        return request.headers.get("Authorization", "").startswith("Bearer ya29.")

    def answer(self, request: ReceivedRequest) -> bytes | None:
        """Google's token endpoint: a token for an assertion that the key has signed."""
        if request.path != "/token":
            return None
        (assertion,) = parse_qs(request.body.decode())["assertion"]
        claims = jwt.decode(assertion, certs=PUBLIC)  # raises an exception for another key
        assert (claims["iss"], claims["aud"].endswith("/token")) == (EMAIL, True)
        assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
        self.tokens += 1
        return token_reply(f"ya29.number-{self.tokens}", 3600)

    def test_one_token_serves_many_requests(
        self, mode: str, open_client: OpenClient, connection: dict[str, Any]
    ) -> None:
        client = open_client(mode, **connection)
        for _ in range(3):
            client.manifest("library/app", "v1")
        assert self.tokens == 1

    @pytest.mark.parametrize(("lifetime", "tokens"), [(0, 3), (3600, 1)], ids=["expired", "fresh"])
    def test_expired_token_is_renewed(
        self,
        mode: str,
        lifetime: int,
        tokens: int,
        open_client: OpenClient,
        connection: dict[str, Any],
        guarded: ScriptedRegistry,
    ) -> None:
        asked: list[str] = []

        def answer(request: ReceivedRequest) -> bytes | None:
            if request.path != "/token":
                return None
            asked.append(request.path)
            return token_reply(f"ya29.number-{len(asked)}", lifetime)

        guarded.answer = answer
        client = open_client(mode, **connection)
        for _ in range(3):
            client.manifest("library/app", "v1")
        assert len(asked) == tokens

    def test_deleted_key(
        self,
        mode: str,
        open_client: OpenClient,
        connection: dict[str, Any],
        guarded: ScriptedRegistry,
    ) -> None:
        body = b'{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}'
        guarded.answer = only_token(reply(400, body, Content_Type="application/json"))
        client = open_client(mode, **connection)
        with pytest.raises(TokenRefused, match=r"Invalid JWT Signature\. A key may be deleted"):
            client.ping()
        guarded.answer = self.answer  # the key works again
        client.ping()

    def test_replaced_file_is_read_after_a_failure(
        self,
        mode: str,
        open_client: OpenClient,
        connection: dict[str, Any],
        guarded: ScriptedRegistry,
    ) -> None:
        account = EMAIL

        def answer(request: ReceivedRequest) -> bytes | None:
            if request.path != "/token":
                return None
            (assertion,) = parse_qs(request.body.decode())["assertion"]
            if jwt.decode(assertion, certs=PUBLIC)["iss"] != account:
                return reply(400, b'{"error": "invalid_grant"}', Content_Type="application/json")
            return token_reply("ya29.of-an-account", 0)

        guarded.answer = answer
        client = open_client(mode, **connection)
        client.ping()
        account = "other@project.iam.gserviceaccount.com"
        with pytest.raises(TokenRefused):
            client.ping()
        file = Path(connection["auth"]["credentials_file"])
        file.write_text(file.read_text().replace(EMAIL, account))
        client.ping()

    def test_token_endpoint_breaks_off(
        self,
        mode: str,
        open_client: OpenClient,
        connection: dict[str, Any],
        guarded: ScriptedRegistry,
    ) -> None:
        guarded.answer = only_token([CUT])
        with pytest.raises(ConnectionFailed, match="no access token from Google"):
            open_client(mode, **connection).ping()

    def test_timeout_of_the_connection_holds(
        self,
        mode: str,
        open_client: OpenClient,
        connection: dict[str, Any],
        guarded: ScriptedRegistry,
    ) -> None:
        """Without one, google-auth would wait for two minutes."""
        finished = threading.Event()

        def answer(request: ReceivedRequest) -> bytes | None:
            if request.path == "/token":
                finished.wait(100)
            return None

        guarded.answer = answer
        begin = time.monotonic()
        try:
            with pytest.raises(ConnectionFailed, match="ReadTimeout"):
                open_client(mode, **{**connection, "timeout": 0.3}).ping()
        finally:
            finished.set()
        assert time.monotonic() - begin < 60

    def test_reply_is_not_quoted(
        self,
        mode: str,
        open_client: OpenClient,
        connection: dict[str, Any],
        guarded: ScriptedRegistry,
    ) -> None:
        reply_of_another_kind = b'{"id_token": "the-secret-of-the-reply"}'
        guarded.answer = only_token(reply(200, reply_of_another_kind))
        with pytest.raises(TokenRefused, match="No access token in response") as caught:
            open_client(mode, **connection).ping()
        assert "the-secret" not in f"{caught.value!r} {vars(caught.value)}"
        assert caught.value.__context__ is None

    def test_impersonation(
        self,
        mode: str,
        open_client: OpenClient,
        connection: dict[str, Any],
        guarded: ScriptedRegistry,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # google-auth has a fixed URL for this API
        endpoint = f"{guarded.url}/iam/{{}}:generateAccessToken"
        monkeypatch.setattr("google.auth.iam._IAM_ENDPOINT", endpoint)
        target = "deploy@project.iam.gserviceaccount.com"
        connection["auth"]["impersonate"] = target
        allowed = True

        def answer(request: ReceivedRequest) -> bytes | None:
            if request.path == "/token":
                return token_reply("ya29.of-the-source", 3600)
            if request.path != f"/iam/{target}:generateAccessToken":
                return None
            if not allowed or request.headers["Authorization"] != "Bearer ya29.of-the-source":
                return reply(403, b'{"error": {"message": "the-secret-of-the-reply"}}')
            body = {"accessToken": "ya29.of-the-target", "expireTime": "2999-01-01T00:00:00Z"}
            return reply(200, json.dumps(body).encode(), Content_Type="application/json")

        guarded.answer = answer
        open_client(mode, **connection).ping()
        assert guarded.requests[-1].headers["Authorization"] == "Bearer ya29.of-the-target"
        allowed = False
        with pytest.raises(TokenRefused, match=r"serviceAccountTokenCreator") as caught:
            open_client(mode, **connection).ping()
        assert target in str(caught.value)
        assert "the-secret" not in str(caught.value)


def only_token(answer: bytes | list[Step]) -> Callable[[ReceivedRequest], Any]:
    return lambda request: answer if request.path == "/token" else None


def token_reply(token: str, lifetime: int) -> bytes:
    body = {"access_token": token, "expires_in": lifetime, "token_type": "Bearer"}
    return reply(200, json.dumps(body).encode(), Content_Type="application/json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not found"),
        ("", "not a valid json file"),
        ('{"type": "no_such_type"}', "does not have a valid type"),
        ("[]", "malformed"),
        ('{"type": "service_account", "private_key": "the-secret"}', "service account"),
    ],
    ids=["missing", "empty", "unknown type", "list", "incomplete"],
)
def test_unusable_file(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    auth = {"driver": "google", "credentials_file": str(path)}
    with (
        connect("http://127.0.0.1:1", auth=auth) as registry,
        pytest.raises(CredentialsNotFound, match=message) as caught,
    ):
        registry.ping()
    assert "key.json" in str(caught.value)
    assert "the-secret" not in str(caught.value)
