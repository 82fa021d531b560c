"""Credentials from the files of docker and podman, and from credential helpers."""

from __future__ import annotations

import json
import stat
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from dockhand_auth_token import CredentialsInvalid
from dockhand_auth_token.credentials import Credentials, find_credentials
from pydantic import SecretStr

HOST = "registry.example.com:5000"
ALICE = {"auth": b64encode(b"alice:s3cret").decode()}


def find(home: Path, *, repository: str = "", config: Path | None = None, **env: Any) -> Any:
    environ = {"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin", **env}
    return find_credentials(HOST, repository, config=config, environ=environ, timeout=2)


def write_file(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def install_helper(home: Path, script: str) -> None:
    path = write_file(home / "bin/docker-credential-vault", f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_no_files_give_empty_credentials(tmp_path: Path) -> None:
    assert find(tmp_path) == Credentials()


@pytest.mark.parametrize("key", [HOST, f"https://{HOST}", f"https://{HOST}/v1/"])
def test_entry_of_a_docker_config(tmp_path: Path, key: str) -> None:
    write_file(tmp_path / ".docker/config.json", {"auths": {"other": {}, key: ALICE}})
    found = find(tmp_path)
    assert (found.username, found.password) == ("alice", SecretStr("s3cret"))
    assert "s3cret" not in repr(found)


def test_precedence_of_files(tmp_path: Path) -> None:
    """Each file in the list takes precedence over the files before it."""
    files: list[tuple[str, dict[str, str]]] = [
        (".config/containers/auth.json", {}),
        ("run/containers/auth.json", {"XDG_RUNTIME_DIR": str(tmp_path / "run")}),
        (".docker/config.json", {}),
        ("own/config.json", {"DOCKER_CONFIG": str(tmp_path / "own")}),
        ("podman.json", {"REGISTRY_AUTH_FILE": str(tmp_path / "podman.json")}),
    ]
    env: dict[str, Any] = {}
    for number, (path, variables) in enumerate(files):
        env |= variables
        auth = {"auth": b64encode(f"user{number}:x".encode()).decode()}
        write_file(tmp_path / path, {"auths": {HOST: auth}})
        assert find(tmp_path, **env).username == f"user{number}"


def test_podman_entries_for_parts_of_a_registry(tmp_path: Path) -> None:
    team = {"auth": b64encode(b"team:x").decode()}
    write_file(
        tmp_path / ".config/containers/auth.json", {"auths": {HOST: ALICE, f"{HOST}/t": team}}
    )
    assert find(tmp_path, repository="t/app").username == "team"
    assert find(tmp_path, repository="other/app").username == "alice"


def test_identity_and_registry_tokens(tmp_path: Path) -> None:
    write_file(tmp_path / ".docker/config.json", {"auths": {HOST: {"identitytoken": "s3cret"}}})
    assert find(tmp_path).identity_token == SecretStr("s3cret")
    write_file(tmp_path / ".docker/config.json", {"auths": {HOST: {"registrytoken": "s3cret"}}})
    assert find(tmp_path).registry_token == SecretStr("s3cret")


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
def test_answers_of_a_helper(tmp_path: Path, key: str) -> None:
    value = "vault" if key == "credsStore" else {HOST: "vault"}
    write_file(tmp_path / ".docker/config.json", {key: value, "auths": {HOST: {}}})
    install_helper(
        tmp_path, 'read server; echo "{\\"Username\\":\\"$server\\",\\"Secret\\":\\"s3cret\\"}"'
    )
    found = find(tmp_path)
    assert (found.username, found.password) == (HOST, SecretStr("s3cret"))
    install_helper(tmp_path, """echo '{"Username":"<token>","Secret":"s3cret"}'""")
    assert find(tmp_path).identity_token == SecretStr("s3cret")
    install_helper(tmp_path, "echo credentials not found in native keychain; exit 1")
    assert find(tmp_path) == Credentials()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo s3cret; exit 3", "failed with status 3"),
        ("echo s3cret", "did not answer with a Username"),
        ("echo '[1]'", "did not answer with a Username"),
        ("exec sleep 10", "within 0.2 s"),
        ("sleep 10 & sleep 10", "within 0.2 s"),  # the helper's child process is killed, too
    ],
)
def test_failing_helpers_raise(tmp_path: Path, script: str, why: str) -> None:
    config = write_file(tmp_path / "config.json", {"credsStore": "vault"})
    install_helper(tmp_path, script)
    with pytest.raises(CredentialsInvalid, match=why) as caught:
        find_credentials(
            HOST, "", config=config, environ={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}, timeout=0.2
        )
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["x; touch hacked", "../vault", "$(id)", "-x", "a/b"])
def test_helpers_with_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    config = write_file(tmp_path / "config.json", {"credsStore": name})
    with pytest.raises(CredentialsInvalid, match="cannot be the name"):
        find(tmp_path, config=config)
    write_file(config, {"credsStore": "no-such"})
    with pytest.raises(CredentialsInvalid, match="not installed"):
        find(tmp_path, config=config)


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "[]",
        {"auths": {HOST: {"auth": "s3cret!"}}},
        {"auths": {HOST: {"auth": b64encode(b"s3cret").decode()}}},
    ],
)
def test_invalid_files_raise(tmp_path: Path, document: object) -> None:
    config = write_file(tmp_path / "config.json", document)
    with pytest.raises(CredentialsInvalid) as caught:
        find(tmp_path, config=config)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(CredentialsInvalid, match="no such file"):
        find(tmp_path, config=tmp_path / "missing.json")
