"""The command `dockhand rm`."""

from __future__ import annotations

import json

import pytest
from command_line import CommandLine
from dated_images import REPOSITORY, put, put_image, put_index, refer
from json_forms import check
from terminal import Terminal
from watched_registry import watched_registry

from dockhand_core import RegistryClient, connect


@pytest.fixture
def name(host: str) -> str:
    """Provide the repository's name, with its host."""
    return f"{host}/{REPOSITORY}"


def tags(registry: RegistryClient) -> list[str]:
    return list(registry.tags(REPOSITORY))


def test_a_tag_goes_alone(dockhand: CommandLine, registry: RegistryClient, name: str) -> None:
    image = put_image(registry, "v1", "v1.0", "latest")
    other = put_image(registry, "v2")
    assert dockhand.lines("rm", f"{name}:v1", f"{name}:v2") == [
        f"{name}:v1: the tag goes; its manifest {image.digest} stays with the tags latest, v1.0",
        f"{name}:v2: the tag goes; its manifest {other.digest} then has no tag",
        f"deleted {name}:v1",
        f"deleted {name}:v2",
    ]
    assert tags(registry) == ["latest", "v1.0"]
    assert dockhand.lines("rm", "--quiet", f"{name}:latest") == [f"deleted {name}:latest"]
    assert registry.manifest_exists(REPOSITORY, image.digest)


def test_several_arguments_go_on_after_a_failed_one(
    dockhand: CommandLine, registry: RegistryClient, name: str
) -> None:
    image = put_image(registry, "v1", "v1.0")
    done = dockhand.run("rm", f"{name}:nope", f"{name}:v1", "--json", code=1)
    document = json.loads(done.stdout)
    check(document, "rm")
    failed, deleted = document["removals"]
    assert (failed["tag"], failed["status"]) == ("nope", "failed")
    assert "404" in failed["error"]
    (error,) = done.stderr.splitlines()
    assert error.startswith(f"error: {name}:nope: {failed['error']}; ")
    assert deleted == {
        "registry": f"http://{name.partition('/')[0]}",
        "repository": REPOSITORY,
        "tag": "v1",
        "digest": image.digest,
        "tags": ["v1"],
        "other_tags": ["v1.0"],
        "indexes": [],
        "referrers": 0,
        "status": "deleted",
        "error": None,
    }
    assert tags(registry) == ["v1.0"]
    assert "404" in dockhand.error("rm", f"{name}:nope", code=3)


def test_a_repository_is_not_deleted(
    dockhand: CommandLine, registry: RegistryClient, name: str
) -> None:
    put_image(registry, "v1", "latest")
    error = dockhand.error("rm", f"{name}:v1", name, code=2)
    assert error.startswith(f"{name}: a tag or a digest has to be given, such as {name}:v1")
    assert tags(registry) == ["latest", "v1"]


def test_a_dry_run_deletes_nothing(
    dockhand: CommandLine, registry: RegistryClient, name: str
) -> None:
    image = put_image(registry, "v1", "v1.0")
    document = dockhand.json("rm", f"{name}:v1", f"{name}@{image.digest}", "--dry-run")
    check(document, "rm")
    assert [each["status"] for each in document["removals"]] == ["planned", "planned"]
    assert document["removals"][1]["tags"] == ["v1", "v1.0"]
    dockhand.error("rm", f"{name}:v1", "--dry-run", "--yes", code=2)
    assert tags(registry) == ["v1", "v1.0"]


def test_a_digest_wants_yes_and_names_what_goes(
    dockhand: CommandLine, registry: RegistryClient, name: str
) -> None:
    image = put_image(registry, "v1", "latest", days=1)
    put_image(registry, "v2")
    put_index(registry, "multi", of=[image])
    refer(registry, image)
    argument = f"{name}@{image.digest}"
    line = (
        f"{argument}: the manifest goes with the tags latest, v1; it is listed by the index of the "
        "tag multi, which stays; its 1 referrer will be left without it"
    )
    done = dockhand.run("rm", argument, f"{name}:v2", code=2)
    assert done.stdout.splitlines()[0] == line
    assert done.stderr == (
        "error: 1 manifest with 2 tags would go, so this needs --yes; nothing was deleted\n"
    )
    assert tags(registry) == ["latest", "multi", "v1", "v2"]
    assert dockhand.lines("rm", argument, "--yes", "--quiet") == [line, f"deleted {argument}"]
    assert tags(registry) == ["multi", "v2"]
    assert not registry.manifest_exists(REPOSITORY, image.digest)
    dockhand.error("rm", argument, "--yes", code=3)


def test_a_tag_with_a_digest_goes_if_it_still_points_there(
    dockhand: CommandLine, registry: RegistryClient, name: str
) -> None:
    old, new = put_image(registry, "v1", "old"), put_image(registry, "new")
    put(registry, new, "v1")
    error = dockhand.error("rm", f"{name}:v1@{old.digest}", code=1)
    assert (
        error == f"{name}:v1@{old.digest}: the tag points to {new.digest} now; it was not deleted"
    )
    assert tags(registry) == ["new", "old", "v1"]
    dockhand.out("rm", f"{name}:v1@{new.digest}")
    assert tags(registry) == ["new", "old"]
    assert registry.manifest_exists(REPOSITORY, new.digest)


@pytest.mark.parametrize("answer", ["yes", "y"])
def test_a_terminal_is_asked(
    dockhand: CommandLine, registry: RegistryClient, name: str, answer: str
) -> None:
    image = put_image(registry, "v1", "latest")
    terminal = Terminal(dockhand, "rm", f"{name}@{image.digest}")
    try:
        terminal.wait_for("Delete 1 manifest with 2 tags? Type yes to delete: ")
        assert "the tags latest, v1" in terminal.seen
        terminal.type(f"{answer}\n")
        status = terminal.end()
    finally:
        terminal.close()
    if answer == "yes":
        assert status == 0
        assert f"deleted {name}@{image.digest}" in terminal.seen
        assert tags(registry) == []
    else:
        assert status == 1
        assert "aborted; nothing was changed" in terminal.seen
        assert tags(registry) == ["latest", "v1"]


def test_a_tag_that_came_during_the_question_is_not_deleted(
    dockhand: CommandLine, registry: RegistryClient, name: str
) -> None:
    image = put_image(registry, "v1")
    terminal = Terminal(dockhand, "rm", f"{name}@{image.digest}")
    try:
        terminal.wait_for("Type yes to delete: ")
        put(registry, image, "precious")
        terminal.type("yes\n")
        assert terminal.end() == 1
    finally:
        terminal.close()
    assert "the tag 'precious' was added meanwhile; it was not deleted" in terminal.seen
    assert tags(registry) == ["precious", "v1"]


def test_ctrl_c_at_the_question(dockhand: CommandLine, registry: RegistryClient, name: str) -> None:
    image = put_image(registry, "v1")
    terminal = Terminal(dockhand, "rm", f"{name}@{image.digest}")
    try:
        terminal.wait_for("Type yes to delete: ")
        terminal.type("\x03")
        assert terminal.end() == 130
    finally:
        terminal.close()
    assert tags(registry) == ["v1"]


def test_a_tag_and_its_digest_both_go(
    dockhand: CommandLine, registry: RegistryClient, name: str
) -> None:
    image = put_image(registry, "v1", "latest")
    lines = dockhand.lines("rm", f"{name}@{image.digest}", f"{name}:v1", "--yes")
    assert lines[2:] == [f"deleted {name}:v1", f"deleted {name}@{image.digest}"]
    assert tags(registry) == []
    untagged = put_image(registry, name="untagged")
    line, _ = dockhand.lines("rm", f"{name}@{untagged.digest}", "--yes")
    assert line == f"{name}@{untagged.digest}: the manifest goes; it has no tag"


def test_tags_are_looked_up_once_and_only_if_they_may_be_listed(dockhand: CommandLine) -> None:
    with watched_registry() as watched, connect(watched.url, logging={"driver": "null"}) as client:
        for n in range(5):
            put_image(client, f"v{n}")
        name = f"{watched.url.removeprefix('http://')}/{REPOSITORY}"
        watched.requests.clear()
        dockhand.out("rm", f"{name}:v0", f"{name}:v1", f"{name}:v2")
        assert watched.count("GET", "/tags/list") == 1
        assert watched.count("HEAD") == 3 + 5 + 3  # each again before it is deleted
        watched.answer = lambda _, target: (403, b"") if "/tags/list" in target else None
        first, second = dockhand.lines("rm", f"{name}:v3")
        assert first.startswith(f"{name}:v3: the tag goes; its manifest sha256:")
        assert first.endswith(" stays")
        assert second == f"deleted {name}:v3"
        digest = put_image(client, "v4").digest
        assert "403" in dockhand.error("rm", f"{name}@{digest}", "--yes", code=4)
        assert client.manifest_exists(REPOSITORY, "v4")
