"""Credentials that are stored and erased as docker does."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import re
import stat
import threading
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from dockhand_auth_token import (
    CredentialsInvalid,
    StoredCredentials,
    credentials_file,
    erase_credentials,
    store,
    store_credentials,
)
from dockhand_auth_token.credentials import Credentials, find_credentials
from pydantic import SecretStr

from dockhand_core import ReferenceInvalid

HOST = "registry.example.com:5000"
HUB = "https://index.docker.io/v1/"
ALICE = {"auth": b64encode(b"alice:s3cret").decode()}
BOB = {"auth": b64encode(b"bob:old").decode()}

# A helper that keeps each server's credentials in a file, and writes down its arguments.
HELPER = """#!/bin/sh
set -eu
cd "$(dirname "$0")/../vault"
echo "$#:$1" >> calls
if [ "$1" = store ]; then
    entry=$(cat)
    name=$(echo "$entry" | sed 's/.*"ServerURL": "\\([^"]*\\)".*/\\1/' | tr / _)
    echo "$entry" > "$name.json"
else
    name=$(cat | tr / _)
    if [ ! -e "$name.json" ]; then
        echo "credentials not found in native keychain"
        exit 1
    fi
    if [ "$1" = erase ]; then rm "$name.json"; else cat "$name.json"; fi
fi
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The path of a config.json that does not exist yet."""
    return tmp_path / "docker" / "config.json"


def environment(folder: Path) -> dict[str, str]:
    return {
        "HOME": str(folder),
        "PATH": f"{folder}/bin:/usr/bin:/bin",
        "DOCKER_CONFIG": str(folder / "docker"),
    }


def write(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def install_helper(folder: Path, script: str = HELPER) -> Path:
    """Install the helper `docker-credential-test`, and return the folder where it keeps entries."""
    write(folder / "bin/docker-credential-test", script).chmod(0o755)
    (folder / "vault").mkdir(exist_ok=True)
    return folder / "vault"


def login(folder: Path, host: str = HOST, user: str = "alice", secret: str = "s3cret") -> Any:
    return store_credentials(host, user, secret, environ=environment(folder), timeout=5)


def logout(folder: Path, host: str = HOST) -> bool:
    return erase_credentials(host, environ=environment(folder), timeout=5)


def find(folder: Path, host: str = HOST) -> Credentials:
    return find_credentials(host, "a/b", config=None, environ=environment(folder), timeout=5)


def test_a_new_file_is_written_as_docker_writes_it(tmp_path: Path, config: Path) -> None:
    stored = login(tmp_path)
    assert stored == StoredCredentials(HOST, config, None)
    # as `docker login` writes it, byte by byte
    text = '{\n\t"auths": {\n\t\t"registry.example.com:5000": {\n\t\t\t"auth": "%s"\n\t\t}\n\t}\n}'
    assert config.read_text() == text % ALICE["auth"]
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700
    assert [each.name for each in config.parent.iterdir()] == ["config.json"]
    assert find(tmp_path) == Credentials("alice", SecretStr("s3cret"))
    assert "s3cret" not in repr(stored)


def test_the_file_is_in_the_home_folder_without_docker_config(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "PATH": ""}
    stored = store_credentials(HOST, "alice", SecretStr("s3cret"), environ=environ)
    assert stored.path == tmp_path / ".docker/config.json"
    assert json.loads(stored.path.read_text()) == {"auths": {HOST: ALICE}}
    assert credentials_file(HOST, environ=environ) == stored.path
    own = store_credentials(HOST, "alice", "s3cret", environ=environ, config=tmp_path / "own.json")
    assert own.path == tmp_path / "own.json"
    assert erase_credentials(HOST, environ=environ, config=own.path)
    assert json.loads(own.path.read_text()) == {"auths": {}}
    assert credentials_file(HOST, environ=environ) == stored.path


def test_all_else_in_the_file_is_kept_in_its_order(tmp_path: Path, config: Path) -> None:
    before = {
        "HttpHeaders": {"X-Meta": "é → <b>"},
        "psFormat": "table {{.ID}}",
        "unknown": [1, 2.5, None, True, {"z": 1, "a": 2}],
        "auths": {"other.example.com": BOB, HOST: {**BOB, "identitytoken": "old", "email": "b@x"}},
        "credHelpers": {"third.example.com": "none-such"},
        "plugins": {},
    }
    write(config, before)
    config.chmod(0o640)
    login(tmp_path)
    after = json.loads(config.read_text())
    assert after == before | {"auths": {"other.example.com": BOB, HOST: ALICE}}
    assert list(after) == list(before)
    assert list(after["unknown"][4]) == ["z", "a"]
    assert "é → <b>" in config.read_text()
    assert stat.S_IMODE(config.stat().st_mode) == 0o640
    assert logout(tmp_path)
    assert json.loads(config.read_text()) == before | {"auths": {"other.example.com": BOB}}


def test_an_unchanged_file_is_not_written_again(tmp_path: Path, config: Path) -> None:
    login(tmp_path)
    before = config.stat()
    login(tmp_path)
    assert not logout(tmp_path, "elsewhere.example.com")
    after = config.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("registry.example.com", "registry.example.com"),
        ("https://Registry.example.com/", "registry.example.com"),
        ("http://localhost:5000/v2/", "localhost:5000"),
        ("registry.example.com:443", "registry.example.com:443"),
        ("registry.example.com/v1/", "registry.example.com"),
        ("[::1]:5000", "[::1]:5000"),
        ("registry", "registry"),
        ("docker.io", HUB),
        ("index.docker.io", HUB),
        ("registry-1.docker.io", HUB),
        ("https://index.docker.io/v1/", HUB),
    ],
)
def test_keys_are_those_of_docker(tmp_path: Path, config: Path, host: str, key: str) -> None:
    assert login(tmp_path, host).registry == key
    assert json.loads(config.read_text())["auths"] == {key: ALICE}
    asked = key.removesuffix(":443") if key != HUB else "registry-1.docker.io"
    assert find(tmp_path, asked) == Credentials("alice", SecretStr("s3cret"))
    assert logout(tmp_path, host)
    assert find(tmp_path, asked) == Credentials()


@pytest.mark.parametrize(
    "host",
    [
        "",
        "https://",
        "ftp://registry.example.com",
        "registry.example.com/team",
        "https://registry.example.com/team/",
        "alice:s3cret@registry.example.com",
        "registry example",
        "registry.example.com:s3cret",
        "registry\x1b[31m",
        "../config",
    ],
)
def test_malformed_hosts_are_refused(tmp_path: Path, config: Path, host: str) -> None:
    for action in (login, logout):
        with pytest.raises(ReferenceInvalid) as caught:
            action(tmp_path, host)
        assert "s3cret" not in str(caught.value)
        assert "\x1b" not in str(caught.value)
    assert not config.exists()


@pytest.mark.parametrize(
    ("user", "secret"),
    [("", "x"), ("a:b", "x"), ("alice", ""), ("alice", "\0"), ("alice", "\udcff"), ("\udcff", "x")],
)
def test_credentials_that_cannot_be_sent_are_refused(
    tmp_path: Path, config: Path, user: str, secret: str
) -> None:
    with pytest.raises(CredentialsInvalid):
        login(tmp_path, user=user, secret=secret)
    assert not config.exists()


def test_all_spellings_of_a_registry_get_the_new_credentials(tmp_path: Path, config: Path) -> None:
    """Programs differ in the key that they look for, so no older entry may be left."""
    spellings = ["https://registry.example.com/v1/", "registry.example.com:443"]
    others = {"registry.example.com/team": BOB, "registry.example.com:5000": BOB}
    write(config, {"auths": {**dict.fromkeys(spellings, BOB), **others}})
    login(tmp_path, "registry.example.com")
    auths = json.loads(config.read_text())["auths"]
    assert auths == {**dict.fromkeys([*spellings, "registry.example.com"], ALICE), **others}
    assert logout(tmp_path, "registry.example.com:443")
    assert json.loads(config.read_text())["auths"] == others


def test_logout_of_docker_hub_erases_the_tokens_of_a_login_by_browser(
    tmp_path: Path, config: Path
) -> None:
    tokens = {f"{HUB}access-token": BOB, f"{HUB}refresh-token": BOB}
    write(config, {"auths": {"docker.io": BOB, HUB: BOB, **tokens, "docker.io/team": BOB}})
    assert logout(tmp_path, "docker.io")
    assert json.loads(config.read_text())["auths"] == {"docker.io/team": BOB}


@pytest.mark.parametrize("table", ["credsStore", "credHelpers"])
@pytest.mark.parametrize(
    ("host", "key", "asked"),
    [
        (HOST, HOST, HOST),
        ("docker.io", HUB, "registry-1.docker.io"),
        ("registry.example.com:443", "registry.example.com:443", "registry.example.com"),
    ],
)
def test_a_helper_keeps_the_credentials(
    tmp_path: Path, config: Path, table: str, host: str, key: str, asked: str
) -> None:
    vault = install_helper(tmp_path)
    names = {table: "test"} if table == "credsStore" else {table: {key: "test"}, "credsStore": "x"}
    write(config, {"auths": {key: BOB}, **names})
    stored = login(tmp_path, host, secret='s3"cret é')
    assert stored == StoredCredentials(key, config, "test")
    assert json.loads(config.read_text()) == {"auths": {key: {}}, **names}
    entry = json.loads((vault / f"{key.replace('/', '_')}.json").read_text())
    assert entry == {"ServerURL": key, "Username": "alice", "Secret": 's3"cret é'}
    assert set((vault / "calls").read_text().split()) == {"1:store"}  # no argument but the action
    assert find(tmp_path, asked) == Credentials("alice", SecretStr('s3"cret é'))
    assert logout(tmp_path, host)
    assert [each.name for each in vault.iterdir()] == ["calls"]
    assert json.loads(config.read_text()) == {"auths": {}, **names}
    assert not logout(tmp_path, host)


def test_logout_finds_what_older_programs_gave_to_a_helper(tmp_path: Path, config: Path) -> None:
    vault = install_helper(tmp_path)
    write(config, {"credsStore": "test"})
    entry = '{"ServerURL": "%s", "Username": "alice", "Secret": "s3cret"}'
    for name in (f"https:__{HOST}", f"http:__{HOST}", HOST):
        (vault / f"{name}.json").write_text(entry % name)
    (vault / "other.json").write_text(entry % "other")
    assert logout(tmp_path)
    assert sorted(each.name for each in vault.iterdir()) == ["calls", "other.json"]
    assert json.loads(config.read_text()) == {"credsStore": "test"}


def test_an_empty_helper_name_means_the_file(tmp_path: Path, config: Path) -> None:
    """As in docker, the registry is then an exception from `credsStore`."""
    write(config, {"credsStore": "no-such", "credHelpers": {HOST: ""}})
    assert login(tmp_path).helper is None
    assert find(tmp_path) == Credentials("alice", SecretStr("s3cret"))
    assert logout(tmp_path)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (None, "docker-credential-test is not installed.*install it, or remove it"),
        ("cat; exit 3", "docker-credential-test store failed with status 3.*test list"),
        ("cat; echo not found >&2; exit 1", "failed with status 1"),
        ("exec sleep 10", "docker-credential-test did not answer within 0.5 s"),
    ],
)
def test_a_failing_helper_leaves_the_file_unchanged(
    tmp_path: Path, config: Path, script: str | None, why: str
) -> None:
    write(config, {"auths": {HOST: BOB}, "credsStore": "test"})
    before = config.read_bytes()
    if script is not None:
        install_helper(tmp_path, f"#!/bin/sh\n{script}\n")
    with pytest.raises(CredentialsInvalid, match=why) as caught:
        store_credentials(HOST, "alice", "s3cret", environ=environment(tmp_path), timeout=0.5)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(CredentialsInvalid, match="docker-credential-test"):
        erase_credentials(HOST, environ=environment(tmp_path), timeout=0.5)
    assert config.read_bytes() == before


def test_what_is_too_long_for_a_helper_is_refused(tmp_path: Path, config: Path) -> None:
    vault = install_helper(tmp_path)
    write(config, {"credsStore": "test"})
    with pytest.raises(CredentialsInvalid, match="too long for docker-credential-test"):
        login(tmp_path, secret="x" * 20_000)
    assert not list(vault.iterdir())
    login(tmp_path, secret="x" * 16_000)
    assert find(tmp_path).password == SecretStr("x" * 16_000)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "the file is not JSON"),
        ("[]", "not a JSON object"),
        ('{"auths": []}', "auths is not a JSON object"),
        ('{"size": NaN}', "number or a text that JSON does not allow"),
        ('{"name": "\\ud800"}', "number or a text that JSON does not allow"),
        ('{"a": ' + "[" * 3000 + "]" * 3000 + "}", "config.json"),
    ],
)
def test_a_file_that_cannot_be_kept_is_not_touched(
    tmp_path: Path, config: Path, text: str, why: str
) -> None:
    write(config, text)
    with pytest.raises(CredentialsInvalid, match=why) as caught:
        login(tmp_path)
    assert str(config) in str(caught.value)
    assert config.read_text() == text
    assert len(list(config.parent.iterdir())) == 1


def test_an_empty_file_is_like_none(tmp_path: Path, config: Path) -> None:
    write(config, "\n")
    assert find(tmp_path) == Credentials()
    assert not logout(tmp_path)
    login(tmp_path)
    assert find(tmp_path).username == "alice"


def test_a_file_that_cannot_be_read_or_written(tmp_path: Path, config: Path) -> None:
    config.mkdir(parents=True)
    with pytest.raises(CredentialsInvalid, match=re.escape(f"{config}: Is a directory")):
        login(tmp_path)
    write(tmp_path / "file", "")
    with pytest.raises(CredentialsInvalid, match="file/config.json"):
        store_credentials(
            HOST, "alice", "s3cret", environ={"DOCKER_CONFIG": str(tmp_path / "file"), "PATH": ""}
        )


@pytest.mark.parametrize("action", ["write", "replace"])
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, config: Path, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    write(config, {"auths": {"other": BOB}})
    before = config.read_bytes()
    if action == "write":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(CredentialsInvalid, match="cannot be written: No space left on device"):
        login(tmp_path)
    assert config.read_bytes() == before
    assert [each.name for each in config.parent.iterdir()] == ["config.json"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_is_followed(tmp_path: Path, config: Path, exists: bool) -> None:
    target = tmp_path / "dotfiles/docker.json"
    if exists:
        write(target, {"detachKeys": "ctrl-q"})
    config.parent.mkdir()
    config.symlink_to("../dotfiles/docker.json")
    assert login(tmp_path).path == config
    assert config.is_symlink()
    assert json.loads(target.read_text())["auths"] == {HOST: ALICE}
    assert [each.name for each in target.parent.iterdir()] == ["docker.json"]
    assert [each.name for each in config.parent.iterdir()] == ["config.json"]
    assert find(tmp_path).username == "alice"


def _log_in_often(folder: Path, number: int) -> None:
    for turn in range(10):
        login(folder, f"host-{number}-{turn}.example.com")
        if turn % 2:
            assert logout(folder, f"host-{number}-{turn}.example.com")


def test_concurrent_logins_keep_each_other(tmp_path: Path, config: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_log_in_often, args=(tmp_path, each)) for each in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    expected = {f"host-{n}-{turn}.example.com" for n in range(4) for turn in range(0, 10, 2)}
    assert set(json.loads(config.read_text())["auths"]) == expected


def test_a_login_waits_for_the_lock(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.parent.mkdir()
    fd = os.open(config.parent, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    monkeypatch.setattr(store, "_LOCK_TIMEOUT", 0.1)
    with pytest.raises(CredentialsInvalid, match=r"another process has locked .*docker for 0.1 s"):
        login(tmp_path)
    monkeypatch.setattr(store, "_LOCK_TIMEOUT", 30.0)
    threading.Timer(0.2, os.close, [fd]).start()
    start = time.monotonic()
    login(tmp_path)
    assert time.monotonic() - start > 0.15
    assert find(tmp_path).username == "alice"


def test_the_file_in_use_is_named(tmp_path: Path, config: Path) -> None:
    """Podman's file may come first, so that a login in docker's file has no effect."""
    environ = environment(tmp_path)
    assert credentials_file(HOST, environ=environ) is None
    login(tmp_path)
    assert credentials_file(f"https://{HOST}/", environ=environ) == config
    podman = write(tmp_path / "auth.json", {"auths": {HOST: BOB}})
    environ["REGISTRY_AUTH_FILE"] = str(podman)
    assert credentials_file(HOST, environ=environ) == podman
    assert credentials_file("elsewhere.example.com", environ=environ) is None
    logout(tmp_path)
    login(tmp_path, "docker.io")
    assert credentials_file("index.docker.io", environ=environ) == config
