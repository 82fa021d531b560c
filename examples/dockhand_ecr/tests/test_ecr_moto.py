"""The driver gets its tokens from moto's server, which plays AWS, and logs in to a registry."""

import re
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dockhand_testing import AuthDriverContract, ReceivedRequest, ScriptedRegistry
from moto.server import ThreadedMotoServer

from dockhand_core import ConfigError, Denied, Dockhand

KEYS = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "not-a-real-secret-key"}
README = Path(__file__).parents[1] / "README.md"


def login(account: str = "123456789012") -> str:
    """The header for the token that moto gives an account."""
    return "Basic " + b64encode(f"AWS:{account}-auth-token".encode()).decode()


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def aws_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """AWS's configuration file: an empty one, which the tests find in place of the user's."""
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "aws"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path / "aws"


class TestEcrAuthWithMoto(AuthDriverContract):
    driver = "ecr"
    challenge = 'Basic realm="{url}/",service="ecr.amazonaws.com"'
    renews = True

    @pytest.fixture
    def own_settings(self, moto_url: str) -> dict[str, Any]:
        return {"region": "eu-central-1", "endpoint_url": moto_url, **KEYS}

    def accepts(self, request: ReceivedRequest) -> bool:
        return request.headers.get("Authorization") == login()


def connect(registry: ScriptedRegistry, **auth: Any) -> Dockhand:
    table = {"driver": "ecr", "region": "eu-central-1", **auth}
    return Dockhand({"connections": {"main": {"base_uri": registry.url, "auth": table}}})


def test_profile_may_assume_a_role(
    scripted_registry: ScriptedRegistry, moto_url: str, aws_config: Path
) -> None:
    aws_config.write_text(
        f"[profile base]\naws_access_key_id = {KEYS['access_key_id']}\n"
        f"aws_secret_access_key = {KEYS['secret_access_key']}\n"
        f"[profile deploy]\nsource_profile = base\nendpoint_url = {moto_url}\n"
        "role_arn = arn:aws:iam::222222222222:role/deploy\nregion = eu-central-1\n"
    )
    scripted_registry.accepts = lambda request: request.headers["Authorization"] == login("2" * 12)
    with connect(scripted_registry, profile="deploy") as dockhand:
        dockhand.connection().ping()
    not_found = pytest.raises(ConfigError, match=r"profile \(nightly\) could not be found")
    with connect(scripted_registry, profile="nightly") as dockhand, not_found:
        dockhand.connection().ping()


def test_access_is_denied(
    scripted_registry: ScriptedRegistry, moto_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0.0)  # moto checks policies
    denied = pytest.raises(Denied, match="refuses GetAuthorizationToken")
    manager = connect(scripted_registry, endpoint_url=moto_url, **KEYS)
    with manager as dockhand, denied as caught:
        dockhand.connection().ping()
    assert caught.value.status == 403
    assert not scripted_registry.requests  # nothing is sent without a token


def test_readme(
    scripted_registry: ScriptedRegistry,
    moto_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The README's examples run, and print what the comments behind `print` promise."""
    text = README.read_text()
    config = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0]
    host = "https://123456789012.dkr.ecr.eu-central-1.amazonaws.com"
    assert host in config
    monkeypatch.chdir(tmp_path)
    Path("dockhand.toml").write_text(config.replace(host, scripted_registry.url))
    monkeypatch.setenv("DOCKHAND_CONNECTIONS__MAIN__AUTH__REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["secret_access_key"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_url)
    scripted_registry.accepts = lambda request: request.headers["Authorization"] == login()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, str(README), "exec"), {})
        promised = re.findall(r"print\(.*\)  # (.+)", block)
        assert capsys.readouterr().out.splitlines() == promised
