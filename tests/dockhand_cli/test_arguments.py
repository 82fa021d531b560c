"""Arguments that name no image and no host: mistakes that would end at Docker Hub."""

from __future__ import annotations

import pytest
from command_line import CommandLine

from dockhand_core import RegistryClient


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("inspect localhost:5000", "localhost:5000: the repository is missing"),
        ("du registry.example.com:5000/", "registry.example.com:5000/: the repository is missing"),
        ("cp localhost:1/app:v1 app.tar", "app.tar: an image of a registry is expected here"),
        ("cp ./app.tar localhost:1/app:v1", "files begin with oci:, oci-archive:, docker-archive:"),
        ("cp localhost:1/app:v1 dir:app", "dir:app: an image of a registry is expected here"),
        ("inspect oci:layout", "oci:layout: an image of a registry is expected here, not oci: …"),
        ("ls localhost:1/team", "a connection or a host is expected here"),
        ("ping http://localhost:1", "without a scheme and a repository: localhost:1"),
        ("ls", "no connection is configured: name a registry's host, such as localhost:5000"),
        ("pull localhost:1/app:v1 none/app.tar", "none/app.tar: there is no folder none"),
        ("rm localhost:1/app@sha256:ab", "localhost:1/app@sha256:ab: the digest of the reference"),
        ("rm localhost:1/app:*", "localhost:1/app:*: '*' is not a tag"),
        ("tags localhost:1", "`dockhand ls localhost:1` lists those"),
        ("inspect alice:secret@localhost:1/app", "the reference has no digest after '@'"),
        ("cp localhost:1/app localhost:1/b --platforms ,", "--platforms is empty"),
        ("push README.txt localhost:1/app", "`dockhand artifact push` makes an artifact"),
    ],
)
def test_a_mistake_is_explained(dockhand: CommandLine, words: str, message: str) -> None:
    (dockhand.folder / "README.txt").write_text("text")
    code = 1 if words.startswith(("pull", "push")) else 2
    error = dockhand.error(*words.split(), code=code)
    assert message in error
    assert "secret" not in error


def test_a_name_with_a_dot_and_a_tag_of_digits_in_a_connection(
    dockhand: CommandLine, host: str, registry: RegistryClient
) -> None:
    pushed = registry.push_artifact("my.app", "123", [], artifact_type="application/vnd.example")
    (dockhand.folder / "dockhand.toml").write_text(
        f'[connections.own]\nbase_uri = "http://{host}"\n'
    )
    found = dockhand.json("-c", "own", "inspect", "my.app:123")
    assert found["digest"] == pushed.digest
    error = dockhand.error(
        "inspect", "-c", "own", "my.app:123", "--platform", "linux/amd64", code=3
    )
    assert error == "repository my.app: the manifest is not an image, so it has no platform"
    for words, message in (
        (("tags", "-c", "", "app"), "--connection is empty"),
        (("ls", ""), "the name of the connection or host is empty"),
        (("ls", "-c", ""), "the name of the connection or host is empty"),
        (("ls", "-c", "other"), "no connection named 'other'"),
        (("-c", "other", "ls"), "no connection named 'other'"),
        (("ping", "--connection", "other"), "no connection named 'other'"),
    ):
        assert message in dockhand.error(*words, code=2)
    error = dockhand.error("inspect", "@own/my.app:123", "--platform", "", code=2)
    assert error.startswith("'' is not a platform")


def test_a_wrong_connection_stops_only_its_own_commands(
    dockhand: CommandLine, host: str, registry: RegistryClient
) -> None:
    registry.push_artifact("app", "v1", [], artifact_type="application/vnd.example")
    (dockhand.folder / "dockhand.toml").write_text(
        f'[connections.good]\nbase_uri = "http://{host}"\n'
        '[connections.wrong]\nbase_uri = "https://wrong.example.com"\n'
        'auth = { driver = "basic", username = "ci", password = "${NOT_SET}" }\n'
    )
    assert dockhand.lines("tags", "@good/app") == dockhand.lines("tags", f"{host}/app") == ["v1"]
    expected = "dockhand.toml: connections.wrong.auth.password: the environment variable 'NOT_SET'"
    for words in ("tags @wrong/app", "tags wrong.example.com/app", "ls wrong", "ping wrong"):
        assert dockhand.error(*words.split(), code=2).startswith(expected), words
