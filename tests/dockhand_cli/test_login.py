"""The commands `login` and `logout`."""

from __future__ import annotations

import base64
import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import json_forms
import pytest
from command_line import CommandLine
from registries import HTPASSWD, PASSWORD, embedded
from terminal import Terminal

from dockhand_core import connect

AUTH = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
STDIN = ("--username", "alice", "--password-stdin")
# keeps one entry, in the file `entry` beside it
HELPER = """#!/bin/sh
cd "$(dirname "$0")"
case $1 in
    store) cat > entry ;;
    get) cat entry 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
    erase) rm entry ;;
esac
"""


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a registry that asks for a password; provide its host and port."""
    folder = tmp_path_factory.mktemp("locked")
    (folder / "users").write_text(HTPASSWD)
    with embedded(folder, "--htpasswd", str(folder / "users")) as url:
        yield url.removeprefix("http://")


def config_of(dockhand: CommandLine) -> Path:
    return dockhand.folder / ".docker" / "config.json"


def install_helper(dockhand: CommandLine) -> Path:
    """Configure the helper `docker-credential-test`, and return the path of its only entry."""
    program = dockhand.folder / "bin" / "docker-credential-test"
    program.parent.mkdir()
    program.write_text(HELPER)
    program.chmod(0o755)
    dockhand.environment["PATH"] = f"{program.parent}:{dockhand.environment['PATH']}"
    config_of(dockhand).parent.mkdir()
    config_of(dockhand).write_text('{"credsStore": "test"}')
    return program.parent / "entry"


def test_login_stores_the_password_that_the_registry_accepts(
    dockhand: CommandLine, locked: str
) -> None:
    assert "401" in dockhand.error("ls", locked, code=4)
    done = dockhand.run("login", locked, *STDIN, input=f"{PASSWORD}\n")
    config = config_of(dockhand)
    name = {"darwin": "osxkeychain"}.get(sys.platform, "pass")
    assert done.stdout == f"Login succeeded: alice at {locked}\n"
    assert done.stderr == (
        f"warning: the password is in plain text (base64) in {config}; to keep it in a credential "
        f'helper such as docker-credential-{name}, set "credsStore": "{name}" in that file, and '
        "log in again\n"
    )
    assert json.loads(config.read_text()) == {"auths": {locked: {"auth": AUTH}}}
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert dockhand.lines("ls", locked) == []

    assert dockhand.out("logout", f"http://{locked}/") == f"Logged out from {locked}\n"
    assert json.loads(config.read_text()) == {"auths": {}}
    assert "401" in dockhand.error("ls", locked, code=4)
    assert dockhand.out("logout", locked) == f"There was no login at {locked}\n"


@pytest.mark.parametrize(
    ("given", "password"),
    [("any", "any"), ("any\r\n", "any"), ("any\r", "any"), (" any \n\n", " any \n")],
)
def test_one_line_end_is_removed(
    dockhand: CommandLine, host: str, given: str, password: str
) -> None:
    dockhand.run("login", host, *STDIN, input=given)
    auth = json.loads(config_of(dockhand).read_text())["auths"][host]["auth"]
    assert base64.b64decode(auth).decode() == f"alice:{password}"


def test_documents(dockhand: CommandLine, locked: str) -> None:
    done = dockhand.run("login", locked, *STDIN, "--json", "--quiet", input=PASSWORD)
    assert done.stderr == ""
    document = json.loads(done.stdout)
    json_forms.check(document, "login")
    assert document == {
        "registry": locked,
        "username": "alice",
        "file": str(config_of(dockhand)),
        "helper": None,
        "checked": True,
    }
    document = dockhand.json("logout", locked)
    json_forms.check(document, "logout")
    assert document == {"registry": locked, "erased": True}
    hub = "https://index.docker.io/v1/"
    assert dockhand.json("logout", "docker.io") == {"registry": hub, "erased": False}


def test_a_wrong_password_is_not_stored(dockhand: CommandLine, locked: str) -> None:
    error = dockhand.error("login", locked, *STDIN, input="wr0ng", code=4)
    assert error.startswith(f"{locked} does not accept this user name and password: ")
    assert "wr0ng" not in error
    assert not config_of(dockhand).exists()


def test_a_registry_that_does_not_answer(dockhand: CommandLine) -> None:
    (dockhand.folder / "dockhand.toml").write_text(
        '[connections.gone]\nbase_uri = "http://127.0.0.1:1"\nretries = 0\n'
    )
    assert "127.0.0.1:1" in dockhand.error("login", "127.0.0.1:1", *STDIN, input="x", code=5)
    assert not config_of(dockhand).exists()


def test_the_settings_of_a_connection_are_used(dockhand: CommandLine, locked: str) -> None:
    (dockhand.folder / "dockhand.toml").write_text(
        f'[connections.other]\ndriver = "zot"\nbase_uri = "http://{locked}"\n'
        'auth = { driver = "bearer", token = "wrong" }\n'
    )
    # but the credentials of the connection are not
    done = dockhand.run("login", locked, *STDIN, "-vv", input=PASSWORD)
    assert "other: GET /v2/ 200" in done.stderr
    assert "driver=zot" in done.stderr
    assert PASSWORD not in done.stderr
    assert AUTH not in done.stderr


def test_a_registry_that_asks_for_nothing(dockhand: CommandLine, host: str) -> None:
    """As docker does, the password is stored all the same, but the user is told."""
    done = dockhand.run("login", host, *STDIN, input="any", code=0)
    first = done.stderr.splitlines()[0]
    assert first == f"warning: {host} asked for no credentials, so these could not be checked"
    assert host in json.loads(config_of(dockhand).read_text())["auths"]
    quiet = dockhand.run("login", host, *STDIN, "--json", "-q", input="any")
    assert json.loads(quiet.stdout)["checked"] is False


def test_a_helper_keeps_the_password(dockhand: CommandLine, locked: str) -> None:
    entry = install_helper(dockhand)
    assert dockhand.out("login", locked, *STDIN, input=PASSWORD) == (
        f"Login succeeded: alice at {locked}\n"
    )
    assert json.loads(entry.read_text())["Secret"] == PASSWORD
    assert json.loads(config_of(dockhand).read_text()) == {
        "credsStore": "test",
        "auths": {locked: {}},
    }
    assert dockhand.lines("ls", locked) == []
    assert dockhand.json("logout", locked) == {"registry": locked, "erased": True}
    assert not entry.exists()
    assert dockhand.json("logout", locked) == {"registry": locked, "erased": False}


def test_a_missing_helper(dockhand: CommandLine, locked: str) -> None:
    config_of(dockhand).parent.mkdir()
    config_of(dockhand).write_text('{"credsStore": "none-such"}')
    for arguments in (("login", locked, *STDIN), ("logout", locked)):
        error = dockhand.error(*arguments, input=PASSWORD, code=2)
        assert error.startswith("docker-credential-none-such is not installed")
    assert config_of(dockhand).read_text() == '{"credsStore": "none-such"}'


def test_a_file_that_others_may_read(dockhand: CommandLine, locked: str) -> None:
    config_of(dockhand).parent.mkdir()
    config_of(dockhand).write_text("{}")
    config_of(dockhand).chmod(0o644)
    done = dockhand.run("login", locked, *STDIN, input=PASSWORD)
    warning = f"other users of this machine may read that file: chmod 600 {config_of(dockhand)}"
    assert f"warning: {warning}\n" in done.stderr


def test_a_login_that_is_hidden_by_one_of_podman(dockhand: CommandLine, locked: str) -> None:
    podman = dockhand.folder / "auth.json"
    podman.write_text(json.dumps({"auths": {locked: {"auth": AUTH}}}))
    dockhand.environment["REGISTRY_AUTH_FILE"] = str(podman)
    warning = dockhand.run("login", locked, *STDIN, input=PASSWORD).stderr.splitlines()[-1]
    assert warning == (
        f"warning: this login is not used: {podman} has other credentials for {locked}, and is "
        "read first"
    )
    done = dockhand.run("logout", locked)
    assert done.stdout == f"Logged out from {locked}\n"
    assert done.stderr == (
        f"warning: {podman} has other credentials for {locked}, which Dockhand still uses\n"
    )
    podman.write_text("{")
    warning = dockhand.run("login", locked, *STDIN, input=PASSWORD).stderr.splitlines()[-1]
    assert warning.startswith(f"warning: this login cannot be used: {podman}: the file is not JSON")


@pytest.mark.parametrize(
    ("arguments", "given", "why"),
    [
        ((), "", "standard input is no terminal"),
        (("-u", "alice"), "", "standard input is no terminal"),
        (("--password-stdin",), "x", "--password-stdin needs the user name, too"),
        (("-u", "", "--password-stdin"), "x", "the user name is empty"),
        (("-u", "a:b", "--password-stdin"), "x", "has no colon"),
        (STDIN, "", "the password on standard input is empty"),
        (STDIN, "\n", "the password on standard input is empty"),
        (STDIN, " \n", "the password on standard input is empty"),
        (STDIN, "x" * 70_000, "has more than 65536 bytes"),
        (("--password", "x"), "", "No such option"),
    ],
)
def test_wrong_usage(
    dockhand: CommandLine, locked: str, arguments: tuple[str, ...], given: str, why: str
) -> None:
    assert why in dockhand.error("login", locked, *arguments, input=given, code=2)
    assert not config_of(dockhand).exists()


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("@staging", "@staging: a host is expected here"),
        ("localhost:5000/team", "without a path"),
        ("alice:s3cret@localhost", "the host has a user name"),
        ("bad\x1b[31m", "malformed"),
        ("", "malformed"),
    ],
)
@pytest.mark.parametrize("command", ["login", "logout"])
def test_wrong_hosts(dockhand: CommandLine, command: str, host: str, why: str) -> None:
    error = dockhand.error(command, host, code=2)
    assert why in error
    assert "s3cret" not in error
    assert "\x1b" not in error


def test_bytes_that_are_not_text_are_refused(dockhand: CommandLine, locked: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dockhand_cli", "login", locked, *STDIN], input=b"\xff\n",
        env=dockhand.environment, cwd=dockhand.folder, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == b"error: the password on standard input is not UTF-8\n"


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        (
            "dockhand_auth_token",
            'dockhand-auth-token is not installed: pip install "dockhand-core[token]"',
        ),
        ("dockhand_distribution", 'pip install "dockhand-core[distribution,token]"'),
    ],
)
def test_missing_packages(dockhand: CommandLine, locked: str, missing: str, why: str) -> None:
    program = f"""
import sys
from importlib import metadata

sys.modules["{missing}"] = None
found = metadata.distributions
metadata.distributions = lambda: [
    each for each in found() if each.name.replace("-", "_") != "{missing}"
]
from dockhand_cli.main import main

sys.exit(main(["login", "{locked}", "-u", "alice", "--password-stdin"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], input=PASSWORD, text=True, env=dockhand.environment,
        cwd=dockhand.folder, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not config_of(dockhand).exists()


@pytest.mark.parametrize("arguments", [(), ("-u", "alice"), STDIN])
def test_a_terminal_is_asked_without_echo(
    dockhand: CommandLine, locked: str, arguments: tuple[str, ...]
) -> None:
    terminal = Terminal(dockhand, "login", locked, *arguments)
    try:
        if not arguments:
            terminal.wait_for(f"User name for {locked}: ")
            terminal.type("alice\n")
        terminal.wait_for("Password of alice: ")
        terminal.wait_until_silent()
        terminal.type(f"{PASSWORD}\n")
        assert terminal.end() == 0
        assert terminal.echoes()
    finally:
        terminal.close()
    assert f"Login succeeded: alice at {locked}" in terminal.seen
    assert PASSWORD not in terminal.seen
    assert AUTH in config_of(dockhand).read_text()


@pytest.mark.parametrize(("key", "status"), [("\x03", 130), ("\x04", 1)], ids=["C-c", "C-d"])
def test_no_password_is_typed(dockhand: CommandLine, locked: str, key: str, status: int) -> None:
    terminal = Terminal(dockhand, "login", locked, "-u", "alice")
    try:
        terminal.wait_for("Password of alice: ")
        terminal.wait_until_silent()
        terminal.type(key)
        assert terminal.end() == status
        assert terminal.echoes()
    finally:
        terminal.close()
    assert ("aborted; nothing was changed" in terminal.seen) is (status == 1)
    assert not config_of(dockhand).exists()


def test_the_library_uses_the_login(dockhand: CommandLine, locked: str) -> None:
    dockhand.run("login", locked, *STDIN, input=PASSWORD)
    auth = {"driver": "token", "config": str(config_of(dockhand))}
    with connect(f"http://{locked}", auth=auth, logging={"driver": "null"}) as client:
        client.ping()
