"""The commands `dockhand rm` and `dockhand prune` on real registries."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from command_line import CommandLine
from dated_images import REPOSITORY, put_image, put_index, refer
from json_forms import check
from registries import crane_registry, distribution, zot

from dockhand_core import NotFound, RegistryClient, connect

pytestmark = pytest.mark.live


class Server(NamedTuple):
    """A running registry.

    Attributes:
        name: `2.8`, `3.1`, `zot` or `crane`.
        client: the library's client.
        repository: the repository's name with its host.
    """

    name: str
    client: RegistryClient
    repository: str

    def tags(self) -> list[str]:
        """The tags of the repository."""
        try:
            return sorted(self.client.tags(REPOSITORY))
        except NotFound:
            return []


@pytest.fixture(params=["2.8", "3.1", "zot", "crane"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "registry"
    folder.mkdir()
    if request.param == "zot":
        running = zot(folder, search={"enable": True})
    elif request.param == "crane":
        running = crane_registry(folder)
    else:
        running = distribution(request.param, folder)
    with running as url, connect(url, logging={"driver": "null"}) as client:
        yield Server(request.param, client, f"{url.removeprefix('http://')}/{REPOSITORY}")


@pytest.fixture
def dockhand(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def test_a_tag_goes_alone_or_the_error_says_what_to_do(
    server: Server, dockhand: CommandLine
) -> None:
    image = put_image(server.client, "v1", "v1.0", days=1)
    put_image(server.client, "v2", days=1)
    if server.name == "2.8":
        error = dockhand.run("rm", f"{server.repository}:v1", code=1).stderr
        assert "deletes no tag alone" in error
        assert f"dockhand rm {server.repository}@{image.digest}" in error
        assert server.tags() == ["v1", "v1.0", "v2"]
    else:
        document = dockhand.json("rm", f"{server.repository}:v1")
        check(document, "rm")
        assert document["removals"][0]["other_tags"] == ["v1.0"]
        assert server.tags() == ["v1.0", "v2"]
    assert server.client.manifest_exists(REPOSITORY, image.digest)


def test_a_digest_goes_with_its_tags(server: Server, dockhand: CommandLine) -> None:
    image = put_image(server.client, "v1", "v1.0", days=1)
    put_image(server.client, "v2", days=1)
    argument = f"{server.repository}@{image.digest}"
    refused = dockhand.run("rm", argument, code=2)
    assert "the manifest goes with the tags v1, v1.0" in refused.stdout
    assert server.tags() == ["v1", "v1.0", "v2"]
    assert dockhand.lines("rm", argument, "--yes")[-1] == f"deleted {argument}"
    assert server.tags() == ["v2"]
    assert not server.client.manifest_exists(REPOSITORY, image.digest)


def test_an_image_of_an_index(server: Server, dockhand: CommandLine) -> None:
    """zot refuses to delete it; the others do what was asked for. The index is named before."""
    image = put_image(server.client, name="amd64", days=1)
    put_index(server.client, "multi", of=[image])
    argument = f"{server.repository}@{image.digest}"
    done = dockhand.run("rm", argument, "--yes", code=4 if server.name == "zot" else 0)
    assert ("first delete team/app:multi" in done.stderr) is (server.name == "zot")
    assert "it is listed by the index of the tag multi, which stays" in done.stdout
    assert server.tags() == ["multi"]
    assert server.client.manifest_exists(REPOSITORY, image.digest) is (server.name == "zot")


def test_a_plan_is_written_and_applied(server: Server, dockhand: CommandLine) -> None:
    """The host's connection has the driver distribution, so the times are those of the builds."""
    old = [put_image(server.client, f"pr-{n}", days=50 - n) for n in range(3)]
    put_image(server.client, "latest", "v9", days=60)
    referrer = refer(server.client, old[0])
    rules = ("--tags", "pr-*", "--tags", "v*", "--keep-last", "1", "--keep", "pr-2")
    (plan,) = dockhand.json_lines("prune", server.repository, *rules, "--out", "plan.json")
    check(plan, "prune")
    blocked = [tag for item in plan["blocked"] for tag in item["tags"]]
    gone = [tag for item in plan["delete"] for tag in item["tags"] if not tag.startswith("sha256-")]
    if server.name == "2.8":
        assert (gone, blocked) == (["pr-0"], ["v9"])
    else:
        assert (gone, blocked) == (["pr-0", "v9"], [])
    assert len(server.tags()) >= 5
    outcomes = dockhand.json_lines("prune", "--apply", "plan.json")
    for outcome in outcomes:
        check(outcome, "prune --apply")
    assert {each["outcome"] for each in outcomes} == {"deleted"}
    assert not set(gone) & set(server.tags())
    assert {"latest", "pr-2"} <= set(server.tags())
    assert not server.client.manifest_exists(REPOSITORY, referrer.digest)
    again = dockhand.json_lines("prune", "--apply", "plan.json")
    assert {each["outcome"] for each in again} == {"gone"}


def test_zot_s_push_times_count_with_its_driver(dockhand: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    with zot(folder, search={"enable": True}) as url, connect(url, driver="zot") as client:
        put_image(client, "pushed-first", days=1)
        put_image(client, "pushed-last", days=50)
        config = f'[connections.main]\ndriver = "zot"\nbase_uri = "{url}"\n'
        (dockhand.folder / "dockhand.toml").write_text(config)
        rules = ("--tags", "*", "--keep-last", "1", "--out", "plan.json")
        dockhand.out("prune", f"@main/{REPOSITORY}", *rules)
        dockhand.out("prune", "--apply", "plan.json")
        assert list(client.tags(REPOSITORY)) == ["pushed-last"]
