"""Connections of `dockhand.toml` and the environment, as the command uses them at a registry."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from archives import make_image, old_docker_save, write_tar
from authority import registry_auth
from command_line import CommandLine
from registries import HTPASSWD, PASSWORD, distribution

pytestmark = pytest.mark.live

BASIC = b64encode(f"alice:{PASSWORD}".encode()).decode()
# a header's value, and a JWT; the log names the header `authorization` in no case
SECRET = re.compile(rf"{PASSWORD}|{BASIC}|eyJ[\w-]{{10}}|authorization|bearer |basic ", re.I)


class Office(NamedTuple):
    """Two registries that ask for credentials, and a `dockhand.toml` with a connection for each.

    Attributes:
        dockhand: the command `dockhand`, in the folder of the file.
        folder: the folder of the file.
        basic, jwt: hosts of the registries.
    """

    dockhand: CommandLine
    folder: Path
    basic: str
    jwt: str

    def other(self, folder: Path, **variables: str) -> CommandLine:
        """The command in another folder, with variables."""
        return CommandLine(folder, **variables)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """Start the registries; push `team/app:v1` to both by their connections."""
    folder = tmp_path_factory.mktemp("office")
    dockhand = CommandLine(folder)
    keys = dockhand.json("keys", "keys")
    (folder / "bundle.pem").write_bytes((folder / keys["certificate"]).read_bytes())
    (folder / "htpasswd").write_text(HTPASSWD)
    (folder / "password.txt").write_text(PASSWORD)
    write_tar(folder / "app.tar", old_docker_save({"app:v1": make_image()}))
    htpasswd = {"htpasswd": {"realm": "any", "path": str(folder / "htpasswd")}}
    with ExitStack() as stack:
        basic = stack.enter_context(distribution("3.1", folder / "one", auth=htpasswd))
        token = registry_auth(folder, "http://localhost:5001")
        jwt = stack.enter_context(distribution("3.1", folder / "two", auth=token))
        (folder / "dockhand.toml").write_text(
            f"""
            default = "office"

            [connections.office]
            base_uri = "{basic}"
            [connections.office.auth]
            driver = "basic"
            username = "alice"
            password_file = "password.txt"

            [connections.signed]
            base_uri = "{jwt}"
            [connections.signed.auth]
            driver = "jwt"
            private_key = "{keys["private_key"]}"
            authority_name = "{keys["authority"]}"
            registry_name = "{keys["registry"]}"
            """
        )
        for name in ("office", "signed"):
            dockhand.out("push", "app.tar", f"@{name}/team/app:v1")
        hosts = [url.removeprefix("http://") for url in (basic, jwt)]
        yield Office(dockhand, folder, *hosts)


def test_connections_by_name_and_by_option(office: Office) -> None:
    dockhand = office.dockhand
    assert dockhand.lines("ls") == ["team/app"]  # of the default connection
    assert dockhand.lines("-c", "signed", "ls") == ["team/app"]
    assert dockhand.lines("tags", "team/app", "-c", "signed") == ["v1"]
    copied = dockhand.json("cp", "@office/team/app:v1", "@signed/copy/app")
    assert copied["digest"] == dockhand.json("inspect", "copy/app:v1", "-c", "signed")["digest"]
    assert {each["name"] for each in dockhand.json("connections")["connections"]} == {
        "office", "signed",
    }  # fmt: skip
    assert dockhand.error("tags", "@absent/app", code=2).startswith(
        "dockhand.toml: no connection named 'absent'; configured: office, signed"
    )


def test_files_and_variables(office: Office, tmp_path: Path) -> None:
    file = office.folder / "dockhand.toml"
    assert office.other(tmp_path).lines("--config", file, "tags", "@signed/team/app") == ["v1"]
    by_variable = office.other(tmp_path, DOCKHAND_CONFIG=str(file), DOCKHAND_CONNECTION="signed")
    assert by_variable.lines("tags", "@signed/team/app") == ["v1"]
    assert by_variable.json("ping")["name"] == "signed"
    without_file = office.other(
        tmp_path,
        DOCKHAND_BASE_URI=f"http://{office.basic}",
        DOCKHAND_AUTH_DRIVER="basic",
        DOCKHAND_USERNAME="alice",
        DOCKHAND_PASSWORD=PASSWORD,
    )
    assert without_file.lines("ls") == ["team/app"]


A = '[connections.a]\nbase_uri = "http://x"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[connections.a", "Expected ']'"),
        (f'{A}colour = "red"', "connection 'a': unknown key 'colour'"),
        ("[connections.a]\nbase_uri = 5", "connection 'a': base_uri: "),
        (
            f'{A}auth = {{ driver = "basic", pasword = "{PASSWORD}" }}',
            "'a': auth: unknown key 'pasword'",
        ),
        (f'{A}auth = {{ driver = "basix" }}', "'basix'"),
        (f'colour = "red"\n{A}', "unknown key 'colour'"),
    ],
    ids=["syntax", "key", "type", "auth", "driver", "top"],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "dockhand.toml").write_text(text)
    error = CommandLine(tmp_path).error("tags", "@a/app", code=2)
    assert "dockhand.toml: " in error
    assert expected in error
    assert PASSWORD not in error


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    dockhand = CommandLine(tmp_path)
    assert "absent.toml" in dockhand.error("ls", "--config", "absent.toml", code=2)
    error = CommandLine(tmp_path, DOCKHAND_CONFIG="gone.toml").error("ls", code=2)
    assert "gone.toml" in error
    assert "dockhand.toml" in dockhand.error("ls", code=2)


def test_logs_and_tracebacks_have_no_secrets(office: Office, tmp_path: Path) -> None:
    """Not with `basic`, `jwt` and docker's login; not in errors, and not in tracebacks."""
    logged_in = office.other(tmp_path)
    login = ("login", office.basic, "-u", "alice", "--password-stdin", "-vv", "--debug")
    shown = [logged_in.run(*login, input=PASSWORD)]
    wrong = logged_in.run(*login, input=f"{PASSWORD}x", code=4)
    assert "Traceback" in wrong.stderr
    shown.append(wrong)
    for command, image in (
        (office.dockhand, "@office/team/app"),
        (office.dockhand, "@signed/team/app"),
        (logged_in, f"{office.basic}/team/app"),
    ):
        brief, full = command.run("-v", "tags", image), command.run("-vv", "tags", image)
        assert f"/v2/{image.partition('/')[2]}/tags/list" in brief.stderr
        assert len(full.stderr) > len(brief.stderr)
        failed = command.run("-vv", "--debug", "inspect", f"{image}:absent", code=3)
        assert "Traceback" in failed.stderr
        pushed = command.run("push", "-vv", office.folder / "app.tar", f"{image}:again")
        shown += [brief, full, failed, pushed]
    (tmp_path / "dockhand.toml").write_text(
        f"""
        [connections.wrong]
        base_uri = "http://{office.basic}"
        [connections.wrong.auth]
        driver = "basic"
        username = "alice"
        password = "{PASSWORD}x"
        """
    )
    shown.append(logged_in.run("-vv", "--debug", "ls", "wrong", code=4))
    shown.append(logged_in.run("connections", "--json"))
    for done in shown:
        assert SECRET.search(done.stdout + done.stderr) is None, done.stdout + done.stderr
