"""The driver with AWS's replies made by hand: tokens that expire, errors, hosts and secrets."""

import asyncio
import json
import logging
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dockhand_ecr.aws import get_authorization_token
from dockhand_ecr.driver import EcrAuth
from dockhand_ecr.errors import ClockSkewed, CredentialsNotFound, SessionExpired
from dockhand_testing import AuthDriverContract, ReceivedRequest, ScriptedRegistry, play, reply
from pydantic import ValidationError

from dockhand_core import (
    AsyncDockhand,
    ConfigError,
    ConnectionFailed,
    Denied,
    Dockhand,
    DockhandError,
    RegistryError,
    ServerError,
    Timeout,
    TooManyRequests,
    Unauthorized,
)
from dockhand_core.auth import Request

KEYS = {
    "access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "secret_access_key": "not-a-real-secret-key",
    "session_token": "not-a-real-session-token",
}
HOST = "https://123456789012.dkr.ecr.eu-west-3.amazonaws.com"


@pytest.fixture(autouse=True)
def aws_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """AWS's configuration file: an empty one, which the tests find in place of the user's."""
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "aws"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))  # of the sessions of `aws sso login`
    return tmp_path / "aws"


class Aws:
    """AWS's API at `/aws` of the scripted registry: each token has a number."""

    def __init__(self, registry: ScriptedRegistry) -> None:
        self.registry = registry
        self.lifetime = 12 * 3600.0
        self.fails: bytes | None = None
        self.accepted = 1  # number of the token that the registry lets in
        registry.answer = self.answer
        registry.accepts = lambda request: (
            request.headers.get("Authorization") == f"Basic {self.token(self.accepted)}"
        )

    @staticmethod
    def token(number: int) -> str:
        return b64encode(f"AWS:password-{number}".encode()).decode()

    @property
    def asked(self) -> list[ReceivedRequest]:
        return [request for request in self.registry.requests if request.path.startswith("/aws")]

    def answer(self, request: ReceivedRequest) -> bytes | None:
        if not request.path.startswith("/aws"):
            return None
        data: Any = {
            "authorizationToken": self.token(len(self.asked)),
            "expiresAt": time.time() + self.lifetime,
        }
        if "/ecr-public/" not in request.headers["Authorization"]:
            data = [data]
        return self.fails or reply(200, json.dumps({"authorizationData": data}).encode())

    def table(self, **auth: Any) -> dict[str, Any]:
        own = {"driver": "ecr", "region": "eu-west-3", "endpoint_url": f"{self.registry.url}/aws"}
        return {
            "base_uri": self.registry.url,
            "retries": 0,
            "auth": {**own, **KEYS, **auth},
        }

    def connect(self, **auth: Any) -> Dockhand:
        return Dockhand({"connections": {"main": self.table(**auth)}})

    def driver(self, **auth: Any) -> EcrAuth:
        table = {"endpoint_url": f"{self.registry.url}/aws", **KEYS, **auth}
        return EcrAuth(EcrAuth.Settings.model_validate(table))


@pytest.fixture
def aws(scripted_registry: ScriptedRegistry) -> Aws:
    return Aws(scripted_registry)


class TestEcrAuth(AuthDriverContract):
    driver = "ecr"
    settings = {"region": "eu-west-3", "endpoint_url": "{url}/aws", **KEYS}
    challenge = 'Basic realm="{url}/",service="ecr.amazonaws.com"'
    renews = True

    def accepts(self, request: ReceivedRequest) -> bool:
        return request.headers.get("Authorization") == f"Basic {Aws.token(1)}"

    def answer(self, request: ReceivedRequest) -> bytes | None:
        if not request.path.startswith("/aws"):
            return None  # a request to the registry
        assert request.headers["X-Amz-Target"].endswith(".GetAuthorizationToken")
        data = {"authorizationToken": Aws.token(1), "expiresAt": time.time() + 12 * 3600}
        return reply(200, json.dumps({"authorizationData": [data]}).encode())


def test_token_is_kept_until_it_is_refused(aws: Aws) -> None:
    with aws.connect() as dockhand:
        registry = dockhand.connection()
        registry.ping()
        registry.ping()
        assert len(aws.asked) == 1
        aws.accepted = 2  # the first token was revoked
        registry.ping()
        assert len(aws.asked) == 2


def test_token_is_renewed_before_it_expires(aws: Aws) -> None:
    aws.lifetime = 1.0
    with aws.connect() as dockhand:
        dockhand.connection().ping()
        time.sleep(0.8)
        aws.accepted = 2
        dockhand.connection().ping()
    assert [request.headers["Authorization"] for request in aws.registry.requests][3:] == [
        f"Basic {aws.token(2)}"
    ]


def test_token_that_expired_while_the_computer_slept_is_not_sent(
    aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = aws.driver()
    play(auth.auth_flow(Request("GET", f"{HOST}/v2/")), [200])
    later = time.time() + 13 * 3600
    monkeypatch.setattr("dockhand_ecr.driver.time", SimpleNamespace(time=lambda: later))
    request = Request("GET", f"{HOST}/v2/")
    play(auth.auth_flow(request), [200])
    assert request.headers["Authorization"] == f"Basic {aws.token(2)}"


def test_threads_and_tasks_share_one_request_for_a_token(aws: Aws) -> None:
    with aws.connect() as dockhand, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: dockhand.connection().ping(), range(16)))
    assert len(aws.asked) == 1
    aws.accepted = 2

    async def many() -> None:
        async with AsyncDockhand({"connections": {"main": aws.table()}}) as dockhand:
            await asyncio.gather(*(dockhand.connection().ping() for _ in range(16)))

    asyncio.run(many())
    assert len(aws.asked) == 2


def test_event_loop_is_not_blocked(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def recorded(*args: Any) -> tuple[str, float]:
        threads.append(threading.current_thread())
        return get_authorization_token(*args)

    monkeypatch.setattr("dockhand_ecr.driver.get_authorization_token", recorded)

    async def ping() -> None:
        async with AsyncDockhand({"connections": {"main": aws.table()}}) as dockhand:
            await dockhand.connection().ping()

    asyncio.run(ping())
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("123456789012.dkr.ecr.eu-west-3.amazonaws.com", "eu-west-3"),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ("123456789012.dkr.ecr.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
        ("123456789012.dkr-ecr.eu-west-3.on.aws", "eu-west-3"),
        ("123456789012.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", "cn-north-1"),
    ],
)
def test_region_is_that_of_the_host(aws: Aws, host: str, region: str) -> None:
    play(aws.driver().auth_flow(Request("GET", f"https://{host}/v2/")), [200])
    assert f"/{region}/ecr/aws4_request" in aws.asked[0].headers["Authorization"]


def test_public_registry_takes_the_token_as_bearer(aws: Aws) -> None:
    request = Request("GET", "https://public.ecr.aws/v2/")
    play(aws.driver(region="eu-west-3").auth_flow(request), [200])
    assert request.headers["Authorization"] == f"Bearer {aws.token(1)}"
    assert "/us-east-1/ecr-public/aws4_request" in aws.asked[0].headers["Authorization"]


@pytest.mark.parametrize(
    "host",
    [
        "registry.example.com",
        "123456789012.dkr.ecr.eu-west-3.amazonaws.example.com",
        "123456789012.dkr.ecr.eu-west-3.amazonaws.com.example.com",
        "123456789012.dkr-ecr.eu-west-3.on.example.com",
    ],
)
def test_other_host_gets_no_token_unless_a_region_is_set(aws: Aws, host: str) -> None:
    request = Request("GET", f"https://{host}/v2/")
    with pytest.raises(ConfigError, match="is not the host of an ECR registry"):
        play(aws.driver().auth_flow(request))
    assert not aws.asked


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"secret_access_key": None}, "are set together"),
        ({"access_key_id": None, "secret_access_key": None}, "session_token belongs to"),
        ({"profile": "deploy"}, "exclude one another"),
        ({"endpoint_url": "localhost:5000"}, "http:// or https:// URL"),
        ({"endpoint_url": "https://user:pass@localhost"}, "without a password"),
    ],
)
def test_wrong_settings(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EcrAuth.Settings.model_validate({**KEYS, **change})


SIGNATURE = "The request signature we calculated does not match: not-a-real-session-token"


@pytest.mark.parametrize(
    ("status", "code", "text", "kind", "message"),
    [
        (400, "AccessDeniedException", "User u may not", Denied, "ecr:GetAuthorizationToken"),
        (400, "UnrecognizedClientException", "invalid", Unauthorized, "get-caller-identity"),
        (400, "InvalidSignatureException", SIGNATURE, Unauthorized, "access key is wrong"),
        (400, "InvalidSignatureException", "Signature expired: 20", ClockSkewed, "Sat, 01 Jan"),
        (400, "ExpiredTokenException", "is expired", SessionExpired, "aws sso login"),
        (400, "ThrottlingException", "Rate exceeded", TooManyRequests, "try again later"),
        (500, "ServerException", "oops", ServerError, "status 500"),
        (400, "InvalidParameterException", "oops", RegistryError, "InvalidParameterException"),
    ],
)
def test_error_of_aws(
    aws: Aws, status: int, code: str, text: str, kind: type[RegistryError], message: str
) -> None:
    body = json.dumps({"__type": code, "message": text}).encode()
    aws.fails = reply(status, body, Date="Sat, 01 Jan 2028 00:00:00 GMT")
    with aws.connect() as dockhand, pytest.raises(kind, match=message) as caught:
        dockhand.connection().ping()
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert "not-a-real" not in f"{caught.value!r} {caught.value.__context__!r}"


def no_credentials(path: Path) -> None:
    path.write_text("")


def no_sso_session(path: Path) -> None:
    path.write_text(
        "[profile ci]\nsso_start_url = https://example.awsapps.com/start\nsso_region = eu-west-3\n"
        "sso_account_id = 123456789012\nsso_role_name = deploy\n"
    )


def half_a_key(path: Path) -> None:
    path.write_text("[profile ci]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\n")


def failing_process(path: Path) -> None:
    path.write_text("[profile ci]\ncredential_process = sh -c 'echo s3cret-output >&2; exit 1'\n")


@pytest.mark.parametrize(
    ("prepare", "profile", "kind", "message"),
    [
        (no_credentials, None, CredentialsNotFound, "aws configure"),
        (no_credentials, "ci", ConfigError, "ci"),
        (no_sso_session, "ci", SessionExpired, "run `aws sso login --profile ci`"),
        (half_a_key, "ci", CredentialsNotFound, "aws_secret_access_key"),
        (failing_process, "ci", CredentialsNotFound, "get-caller-identity --profile ci"),
    ],
)
def test_no_usable_credentials(
    aws: Aws,
    aws_config: Path,
    prepare: Callable[[Path], None],
    profile: str | None,
    kind: type[DockhandError],
    message: str,
) -> None:
    prepare(aws_config)
    auth: dict[str, Any] = {**dict.fromkeys(KEYS), "profile": profile}
    with aws.connect(**auth) as dockhand, pytest.raises(kind, match=message) as caught:
        dockhand.connection().ping()
    assert "s3cret-output" not in f"{caught.value!r} {caught.value.__context__!r}"


def test_unreachable_api(aws: Aws) -> None:
    unreachable = pytest.raises(ConnectionFailed, match=r"http://127.0.0.1:1/? cannot be reached")
    with aws.connect(endpoint_url="http://127.0.0.1:1") as dockhand, unreachable:
        dockhand.connection().ping()


def test_timeout_of_the_connection_holds_for_the_api(aws: Aws) -> None:
    aws.registry.then("stall", "stall", path="/aws")
    table = {**aws.table(), "timeout": 0.3}
    manager = Dockhand({"connections": {"main": table}})
    started = time.monotonic()
    with manager as dockhand, pytest.raises(Timeout, match="/aws"):
        dockhand.connection().ping()
    assert time.monotonic() - started < 25  # two attempts; the driver's own timeout is 30 seconds


def test_only_the_drivers_requests_are_left_out_of_the_debug_log(
    aws: Aws, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with aws.connect() as dockhand:
        dockhand.connection().ping()
    assert aws.token(1) not in caplog.text
    assert "not-a-real-session-token" not in caplog.text
    logging.getLogger("botocore.parsers").debug("a line of another part of the program")
    assert "a line of another part of the program" in caplog.text
