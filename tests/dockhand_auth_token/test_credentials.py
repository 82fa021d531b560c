"""Credentials from the files of docker and podman, and from credential helpers."""

from __future__ import annotations

import json
import stat
import time
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from dockhand_auth_token import CredentialsInvalid
from dockhand_auth_token.credentials import Credentials, find_credentials
from pydantic import SecretStr

HOST = "registry.example.com:5000"
ALICE = {"auth": b64encode(b"alice:s3cret").decode()}


def find(
    home: Path, *, host: str = HOST, repository: str = "", config: Path | None = None, **env: Any
) -> Any:
    environ = {"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin", **env}
    return find_credentials(host, repository, config=config, environ=environ, timeout=2)


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


@pytest.mark.parametrize(
    "key",
    [
        "registry.example.com",
        "REGISTRY.example.com/",
        "https://registry.example.com",
        "https://registry.example.com/",
        "http://registry.example.com",
        "http://registry.example.com:80/v2/",
        "https://registry.example.com:443",
        "registry.example.com:443",
        "https://registry.example.com/v2/",
        "registry.example.com/v1/",
        "https://alice@registry.example.com/any/path",
    ],
)
def test_keys_are_compared_by_host(tmp_path: Path, key: str) -> None:
    others = {
        "other.example.com": ALICE,
        "registry.example.com:5000": ALICE,
        "https://registry.example.com/v1/access-token": ALICE,
        "registry.example.com/team": ALICE,
    }
    bob = {"auth": b64encode(b"bob:x").decode()}
    config = write_file(tmp_path / "config.json", {"auths": {**others, key: bob}})
    for host in ("registry.example.com", "registry.example.com:443"):
        assert find(tmp_path, config=config, host=host, repository="a/b").username == "bob"
    assert find(tmp_path, config=config, repository="a/b").username == "alice"
    write_file(config, {"auths": others})
    assert find(tmp_path, config=config, host="registry.example.com") == Credentials()


@pytest.mark.parametrize("host", ["registry-1.docker.io", "index.docker.io", "docker.io"])
@pytest.mark.parametrize(
    "key",
    [
        "https://index.docker.io/v1/",
        "index.docker.io/v1/",
        "docker.io",
        "https://registry-1.docker.io/v2/",
        "registry-1.docker.io",
    ],
)
def test_the_login_of_docker_hub(tmp_path: Path, host: str, key: str) -> None:
    token = {"auth": b64encode(b"desktop:x").decode()}
    auths = {"https://index.docker.io/v1/access-token": token, key: ALICE}
    write_file(tmp_path / ".docker/config.json", {"auths": auths})
    assert find(tmp_path, host=host, repository="library/nginx").username == "alice"
    team = {"auth": b64encode(b"team:x").decode()}
    write_file(tmp_path / ".docker/config.json", {"auths": {"docker.io/team": team, key: ALICE}})
    assert find(tmp_path, host=host, repository="team/app").username == "team"


@pytest.mark.parametrize(
    ("host", "key", "asked"),
    [
        ("registry-1.docker.io", "https://index.docker.io/v1/", "https://index.docker.io/v1/"),
        ("docker.io", "docker.io", "https://index.docker.io/v1/"),
        (HOST, HOST, HOST),
        (HOST, f"https://{HOST}/v2/", HOST),
    ],
)
@pytest.mark.parametrize("table", ["credsStore", "credHelpers"])
def test_the_name_that_helpers_are_asked_for(
    tmp_path: Path, host: str, key: str, asked: str, table: str
) -> None:
    value = "vault" if table == "credsStore" else {key: "vault", "other": "no-such"}
    config = write_file(tmp_path / "config.json", {table: value})
    install_helper(tmp_path, 'echo "{\\"Username\\":\\"$(cat)\\",\\"Secret\\":\\"s3cret\\"}"')
    assert find(tmp_path, config=config, host=host, repository="a/b").username == asked


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
        ("printf 's3cret\\351'", "did not answer with a Username"),  # not UTF-8
        ("exec sleep 10", "within 0.2 s"),
        ("exec >&-; exec sleep 10", "did not end within 0.2 s"),
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
    if "answer with a" in why:
        assert caught.value.__context__ is None  # it would have the helper's output


def running(marker: str) -> bool:
    """Return whether a process has this text among its arguments."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if marker.encode() in path.read_bytes():
                return True
    return False


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("yes s3cret; sleep $MARK", "answered with more than 65536 bytes"),
        ("sleep $MARK & yes s3cret >&2", "did not answer within 1 s"),
        ("(sleep $MARK >/dev/null) & sleep $MARK", "did not answer within 1 s"),
    ],
)
def test_a_helper_with_endless_output_is_ended(tmp_path: Path, script: str, why: str) -> None:
    config = write_file(tmp_path / "config.json", {"credsStore": "vault"})
    mark = f"3{time.time_ns() % 10**9}"
    install_helper(tmp_path, script)
    environ = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "MARK": mark}
    start = time.monotonic()
    with pytest.raises(CredentialsInvalid, match=why):
        find_credentials(HOST, "", config=config, environ=environ, timeout=1)
    assert time.monotonic() - start < 10
    deadline = time.monotonic() + 5  # the kernel ends killed processes in its own time
    while running(mark) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not running(mark)
    assert not running(f"{tmp_path}/bin/docker-credential-vault")


def test_a_helper_may_answer_at_length(tmp_path: Path) -> None:
    config = write_file(tmp_path / "config.json", {"credsStore": "vault"})
    secret = "x" * 60_000
    install_helper(tmp_path, f"""echo '{{"Username":"alice","Secret":"{secret}"}}'""")
    assert find(tmp_path, config=config).password == SecretStr(secret)


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
