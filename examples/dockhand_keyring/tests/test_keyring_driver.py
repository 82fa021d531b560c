"""The driver logs in with passwords of a key store in memory, which is a backend of keyring."""

import asyncio
import re
import threading
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keyring
import pytest
from dockhand_keyring.driver import (
    KeyringAuth,
    KeyStoreError,
    KeyStoreLocked,
    KeyStoreMissing,
    PasswordNotFound,
)
from dockhand_testing import AuthDriverContract, ReceivedRequest, ScriptedRegistry, play
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring
from keyring.errors import InitError, KeyringError, KeyringLocked

from dockhand_core import AsyncDockhand, ConfigError, Dockhand, Unauthorized
from dockhand_core.auth import Request

README = Path(__file__).parents[1] / "README.md"


class MemoryKeyring(KeyringBackend):  # type: ignore[misc,unused-ignore]  # Any without keyring
    """A key store in memory, which counts the look-ups, and fails if it is told to."""

    priority = 1.0  # of the key stores that keyring could choose; the tests set this one

    def __init__(self) -> None:
        super().__init__()
        self.passwords: dict[tuple[str, str], str] = {}
        self.asked: list[tuple[str, str]] = []
        self.threads: set[threading.Thread] = set()
        self.failure: Exception | None = None

    def get_password(self, service: str, username: str) -> str | None:
        self.asked.append((service, username))
        self.threads.add(threading.current_thread())
        if self.failure:
            raise self.failure
        return self.passwords.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.passwords[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.passwords[service, username]


@pytest.fixture(autouse=True)
def key_store() -> Iterator[MemoryKeyring]:
    """The key store of the tests, in place of that of the system."""
    before = keyring.get_keyring()
    store = MemoryKeyring()
    keyring.set_keyring(store)
    yield store
    keyring.set_keyring(before)


def basic(password: str) -> str:
    return "Basic " + b64encode(f"alice:{password}".encode()).decode()


class TestKeyringAuth(AuthDriverContract):
    driver = "keyring"
    settings = {"username": "alice", "service": "the registry"}

    @pytest.fixture(autouse=True)
    def _stored(self, key_store: MemoryKeyring) -> None:
        keyring.set_password("the registry", "alice", "s3cret-password")

    def accepts(self, request: ReceivedRequest) -> bool:
        return request.headers.get("Authorization") == basic("s3cret-password")


def table(registry: ScriptedRegistry, **auth: Any) -> dict[str, Any]:
    own = {"driver": "keyring", "username": "alice", **auth}
    return {"connections": {"main": {"base_uri": registry.url, "retries": 0, "auth": own}}}


def test_service_is_the_host_with_its_port(key_store: MemoryKeyring) -> None:
    auth = KeyringAuth(KeyringAuth.Settings(username="alice"))
    for host in ("registry.example.com", "registry.example.com:5000", "[::1]:5000"):
        keyring.set_password(host, "alice", f"password of {host}")
        request = Request("GET", f"https://{host}/v2/")
        play(auth.auth_flow(request), [200])
        assert request.headers["Authorization"] == basic(f"password of {host}")
    request = Request("GET", "https://registry.example.com:443/v2/")
    play(auth.auth_flow(request), [200])
    assert len(key_store.asked) == 3  # the passwords are cached


def test_changed_password_is_sent_after_a_401(
    scripted_registry: ScriptedRegistry, key_store: MemoryKeyring
) -> None:
    keyring.set_password(scripted_registry.host, "alice", "old-password")
    valid = "old-password"
    scripted_registry.accepts = lambda request: request.headers["Authorization"] == basic(valid)
    with Dockhand(table(scripted_registry)) as dockhand:
        dockhand.connection().ping()
        valid = "new-password"
        keyring.set_password(scripted_registry.host, "alice", "new-password")
        dockhand.connection().ping()
        dockhand.connection().ping()
    assert len(scripted_registry.requests) == 4
    assert len(key_store.asked) == 2


def test_refused_password_is_sent_only_once(
    scripted_registry: ScriptedRegistry, key_store: MemoryKeyring
) -> None:
    keyring.set_password(scripted_registry.host, "alice", "wrong-password")
    scripted_registry.accepts = lambda _: False
    with Dockhand(table(scripted_registry)) as dockhand, pytest.raises(Unauthorized) as caught:
        dockhand.connection().ping()
    assert len(scripted_registry.requests) == 1
    assert "wrong-password" not in str(caught.value)


def test_threads_and_tasks_share_one_look_up(
    scripted_registry: ScriptedRegistry, key_store: MemoryKeyring
) -> None:
    keyring.set_password(scripted_registry.host, "alice", "s3cret-password")
    with Dockhand(table(scripted_registry)) as dockhand, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: dockhand.connection().ping(), range(16)))
    assert len(key_store.asked) == 1
    key_store.threads.clear()

    async def many() -> None:
        async with AsyncDockhand(table(scripted_registry)) as dockhand:
            await asyncio.gather(*(dockhand.connection().ping() for _ in range(16)))

    asyncio.run(many())
    assert len(key_store.asked) == 2
    assert threading.current_thread() not in key_store.threads  # the event loop was not blocked


def test_missing_password_names_the_command(scripted_registry: ScriptedRegistry) -> None:
    with Dockhand(table(scripted_registry, service="our registry")) as dockhand:
        command = re.escape("`keyring set 'our registry' alice`")
        with pytest.raises(PasswordNotFound, match=f"no password of alice.*{command}"):
            dockhand.connection().ping()
    assert not scripted_registry.requests


@pytest.mark.parametrize(
    ("failure", "kind", "message"),
    [
        (KeyringLocked("s3cret-password"), KeyStoreLocked, "unlock it"),
        (InitError("s3cret-password"), KeyStoreLocked, "unlock it"),
        (KeyringError("s3cret-password"), KeyStoreError, "KeyringError"),
        (OSError("s3cret-password"), KeyStoreError, "OSError"),
    ],
)
def test_key_store_fails(
    scripted_registry: ScriptedRegistry,
    key_store: MemoryKeyring,
    failure: Exception,
    kind: type[KeyStoreError],
    message: str,
) -> None:
    key_store.failure = failure
    with Dockhand(table(scripted_registry)) as dockhand, pytest.raises(kind) as caught:
        dockhand.connection().ping()
    assert message in str(caught.value)
    assert f"`keyring get {scripted_registry.host} alice`" in str(caught.value)
    assert "s3cret-password" not in f"{caught.value} {caught.value.__context__!r}"


def test_system_without_a_key_store(scripted_registry: ScriptedRegistry) -> None:
    keyring.set_keyring(NoKeyring())  # the one that keyring takes if it finds no other
    missing = pytest.raises(KeyStoreMissing, match="PYTHON_KEYRING_BACKEND")
    with Dockhand(table(scripted_registry)) as dockhand, missing:
        dockhand.connection().ping()


def test_user_name_with_a_colon_is_refused(scripted_registry: ScriptedRegistry) -> None:
    refused = pytest.raises(ConfigError, match="colon")
    with Dockhand(table(scripted_registry, username="a:b")) as dockhand, refused:
        dockhand.connection()


def test_readme(
    scripted_registry: ScriptedRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The README's examples run, and print what the comments behind `print` promise."""
    text = README.read_text()
    config = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0]
    assert "https://registry.example.com" in config
    monkeypatch.chdir(tmp_path)
    Path("dockhand.toml").write_text(
        config.replace("https://registry.example.com", scripted_registry.url)
    )
    keyring.set_password(scripted_registry.host, "alice", "s3cret-password")
    scripted_registry.accepts = lambda request: (
        request.headers["Authorization"] == basic("s3cret-password")
    )
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, str(README), "exec"), {})
        promised = re.findall(r"print\(.*\)  # (.+)", block)
        assert capsys.readouterr().out.splitlines() == promised
