"""The commands that list repositories and tags."""

from __future__ import annotations

from command_line import CommandLine
from dockhand_testing.contracts.samples import push_image

from dockhand_core import RegistryClient


def test_tags_are_lines(dockhand: CommandLine, registry: RegistryClient, host: str) -> None:
    for tag in ("v1", "v2"):
        push_image(registry, "team/app", tag)
    assert dockhand.lines("tags", f"{host}/team/app") == ["v1", "v2"]


def test_tags_as_json(dockhand: CommandLine, registry: RegistryClient, host: str) -> None:
    push_image(registry, "team/app", "v1")
    expected = [{"repository": "team/app", "tag": "v1"}]
    assert dockhand.json_lines("tags", f"{host}/team/app") == expected


def test_a_repository_that_does_not_exist(dockhand: CommandLine, host: str) -> None:
    assert "nothing/here" in dockhand.error("tags", f"{host}/nothing/here", code=3)


def test_a_tag_is_refused_where_a_repository_is_expected(dockhand: CommandLine, host: str) -> None:
    error = dockhand.error("tags", f"{host}/team/app:v1", code=2)
    assert error == (
        f"{host}/team/app:v1: a repository is expected here, without a tag or digest: "
        f"{host}/team/app"
    )


def test_a_host_with_a_port_is_a_host_beside_a_connection(
    dockhand: CommandLine, registry: RegistryClient, host: str
) -> None:
    (dockhand.folder / "dockhand.toml").write_text(
        f'[connections.staging]\nbase_uri = "http://{host}"\n'
    )
    push_image(registry, "team/app", "v1")
    image = f"{host}/other:v2"
    copied = dockhand.lines("cp", "team/app:v1", image, "-c", "staging")
    assert copied == [f"{image}@{registry.manifest('team/app', 'v1').digest}"]
    assert dockhand.lines("tags", "-c", "staging", f"{host}/other") == ["v2"]
