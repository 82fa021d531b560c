"""The command `python -m dockhand_token_server`."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from authority import SERVICE, USERS, token_server, write_authority
from dockhand_token_server import RefreshTokens
from dockhand_token_server.__main__ import main

from dockhand_core import Identity


def test_serving(tmp_path: Path) -> None:
    config = write_authority(tmp_path)
    with token_server(config) as url:
        auth = httpx.BasicAuth("alice", USERS["alice"])
        reply = httpx.get(f"{url}/token", params={"service": SERVICE}, auth=auth)
        assert reply.json()["token"].count(".") == 2
        assert httpx.get(f"{url}/.well-known/jwks.json").json()["keys"]
        # X-Forwarded-For is ignored without trusted_proxies
        headers = {"X-Forwarded-For": "203.0.113.1"}
        assert httpx.get(f"{url}/token", headers=headers).status_code == 200
    log = (tmp_path / "log").read_text()
    assert "token for 'alice' from 127.0.0.1" in log
    assert "203.0.113.1" not in log


def run_program(config: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dockhand_token_server", "--config", str(config), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def output(capsys: pytest.CaptureFixture[str], config: Path, *options: str) -> str:
    main(["--config", str(config), *options])
    return capsys.readouterr().out


@pytest.fixture
def error_message(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Provide a function that runs a command which fails, and returns its one-line message."""

    def run(config: Path, *options: str, status: int = 2) -> str:
        with pytest.raises(SystemExit) as caught:
            main(["--config", str(config), *options])
        assert caught.value.code == status
        return capsys.readouterr().err.removesuffix("\n")

    return run


def test_refresh_tokens_are_listed_and_revoked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error_message: Any
) -> None:
    config = write_authority(tmp_path)
    store = RefreshTokens(tmp_path / "refresh_tokens.db", 3600)
    for user in ("alice", "alice", "bob"):
        store.issue(
            Identity(user), source="users", entry_hash=b"", service=SERVICE, client_id="docker"
        )
    first, *_ = store.list_valid()
    listed = output(capsys, config, "--list-refresh-tokens").splitlines()
    assert len(listed) == 4
    assert listed[1].split()[:3] == [first.id, "alice", SERVICE]
    assert listed[1].endswith("docker")
    assert output(capsys, config, "--revoke-refresh-token", first.id) == "1 revoked\n"
    assert error_message(config, "--revoke-refresh-token", first.id, status=3) == (
        f"there is no refresh token {first.id!r}; --list-refresh-tokens lists them"
    )
    assert output(capsys, config, "--revoke-user", "alice") == "1 revoked\n"
    assert [record.identity.name for record in store.list_valid()] == ["bob"]


def test_check_reports_whether_the_settings_are_valid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error_message: Any
) -> None:
    config = write_authority(tmp_path)
    assert output(capsys, config, "--check") == f"{config}: the settings are valid\n"
    config.write_text(config.read_text().replace("issuer", "isuer"))
    assert "unknown key 'isuer'; did you mean 'issuer'?" in error_message(config, "--check")
    off = write_authority(tmp_path / "off", "refresh_tokens = false")
    assert "refresh tokens are disabled" in error_message(off, "--list-refresh-tokens")


def test_listening_beyond_loopback_requires_tls_or_plain_http(
    tmp_path: Path, error_message: Any
) -> None:
    config = write_authority(tmp_path)
    assert "--plain-http" in error_message(config, "--host", "0.0.0.0", "--port", "0")
    assert "belong together" in error_message(config, "--tls-certificate", "x", "--port", "0")


def test_a_port_in_use_is_an_error(tmp_path: Path, error_message: Any) -> None:
    config = write_authority(tmp_path)
    with token_server(config) as url:
        message = error_message(config, "--port", url.rpartition(":")[2], status=1)
    assert message.startswith("cannot listen on 127.0.0.1:")


def test_a_missing_settings_file_is_an_error_without_traceback(tmp_path: Path) -> None:
    done = run_program(tmp_path / "none.toml")
    assert done.returncode == 2
    assert "none.toml: No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: "])
def test_endless_headers_end_the_connection(tmp_path: Path, start: bytes) -> None:
    config = write_authority(tmp_path)
    with token_server(config) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=20) as client:
            client.sendall(start)
            with pytest.raises(ConnectionError):
                for _ in range(10_000):  # up to 100 MB
                    client.sendall(b"a" * 10_000)
        assert httpx.get(f"{url}/token").status_code == 200
