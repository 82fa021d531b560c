"""Arguments that name no image and no host: mistakes that would end at Docker Hub."""

from __future__ import annotations

import pytest
from command_line import CommandLine


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
    ],
)
def test_a_mistake_is_explained(dockhand: CommandLine, words: str, message: str) -> None:
    code = 1 if words.startswith("pull") else 2
    assert message in dockhand.error_in_process(*words.split(), code=code)
