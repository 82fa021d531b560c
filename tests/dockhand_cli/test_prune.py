"""The command `dockhand prune`."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest
from command_line import CommandLine
from dated_images import REPOSITORY, put, put_image, refer
from dockhand_embedded.pytest_plugin import OciRegistry
from json_forms import check
from terminal import Terminal
from watched_registry import watched_registry

from dockhand_core import Dockhand, RegistryClient, RetentionPlan, connect

OLD = ("--tags", "*", "--keep-last", "1")


@pytest.fixture
def name(host: str) -> str:
    """Provide the repository's name, with its host."""
    return f"{host}/{REPOSITORY}"


@pytest.fixture
def images(registry: RegistryClient) -> dict[str, str]:
    """Push four images of different ages; provide their digests by tag."""
    pushed = {f"v{n}": put_image(registry, f"v{n}", days=10 * (4 - n)).digest for n in range(4)}
    return {tag: str(digest) for tag, digest in pushed.items()}


def tags(registry: RegistryClient) -> list[str]:
    return list(registry.tags(REPOSITORY))


def test_a_pipe_shows_the_plan_and_deletes_nothing(
    dockhand: CommandLine, registry: RegistryClient, images: dict[str, str], name: str
) -> None:
    put_image(registry, "undated")
    *rows, summary, hint = dockhand.lines("prune", name, *OLD, "--keep", "v0")
    cells = [row.split("\t") for row in rows]
    assert [each[:4] for each in cells] == [
        [name, "delete", "v1", images["v1"]],
        [name, "delete", "v2", images["v2"]],
        [name, "unknown", "undated", cells[2][3]],
    ]
    assert cells[0][4].endswith("Z")
    assert int(cells[0][5]) > 0
    assert "no rule keeps it" in cells[0][6]
    assert "no usable age" in cells[2][6]
    assert f"{name}: 2 manifests and 2 tags to delete, 2 kept, 1 unknown, 0 blocked" in summary
    assert hint == "nothing was deleted; --yes deletes, and --out writes a plan for --apply"
    text = dockhand.out("prune", name, *OLD, "--json")
    document = json.loads(text)
    check(document, "prune")
    (dockhand.folder / "plan.json").write_text(text)
    assert dockhand.json_lines("prune", "--apply", "plan.json", "--dry-run") == [document]
    assert [item["tags"] for item in document["delete"]] == [["v0"], ["v1"], ["v2"]]
    assert len(tags(registry)) == 5


def test_yes_shows_the_plan_and_deletes(
    dockhand: CommandLine, registry: RegistryClient, images: dict[str, str], name: str
) -> None:
    refer(registry, registry.manifest(REPOSITORY, "v2"))
    lines = dockhand.json_lines("prune", name, *OLD, "--keep", "v0", "--yes")
    check(lines[0], "prune")
    for line in lines[1:]:
        check(line, "prune --apply")
    assert [(line["outcome"], line["tags"]) for line in lines[1:]] == [
        ("deleted", ["v1"]),
        ("deleted", ["v2"]),
        ("deleted", []),  # the referrer of v2
    ]
    assert tags(registry) == ["v0", "v3"]
    shown = dockhand.lines("prune", name, *OLD, "--yes")
    assert shown[0].startswith(f"{name}\tdelete\tv0\t")
    assert shown[2:] == [
        f"deleted {name}@{images['v0']} (v0)",
        f"{name}: 1 deleted, 0 changed, 0 failed, 0 gone before",
    ]
    assert dockhand.lines("prune", name, *OLD, "--yes") == [
        f"{name}: 0 manifests and 0 tags to delete, 1 kept, 0 unknown, 0 blocked"
    ]


def test_a_plan_is_written_and_applied(
    dockhand: CommandLine, registry: RegistryClient, images: dict[str, str], name: str
) -> None:
    file = dockhand.folder / "plan.json"
    lines = dockhand.lines("prune", name, *OLD, "--out", "plan.json")
    assert lines[-1] == "nothing was deleted; this does it: dockhand prune --apply plan.json"
    assert len(tags(registry)) == 4
    assert [item.tags for item in RetentionPlan.from_json(file.read_text()).delete] == [
        ("v0",), ("v1",), ("v2",),
    ]  # fmt: skip
    error = dockhand.error("prune", name, *OLD, "--out", "plan.json", code=2)
    assert error == "plan.json exists already; --force replaces it"
    moved = put_image(registry, "new", days=1)
    put(registry, moved, "v1")
    moving = f"the tag 'v1' has moved to {moved.digest}; it was left alone"
    assert "plan.json" not in dockhand.out("prune", "--apply", "plan.json", "--dry-run")
    assert dockhand.lines("prune", "--apply", "plan.json") == [
        f"deleted {name}@{images['v0']} (v0)",
        f"changed {name}@{images['v1']} (v1): {moving}",
        f"deleted {name}@{images['v2']} (v2)",
        f"{name}: 2 deleted, 1 changed, 0 failed, 0 gone before",
    ]
    assert tags(registry) == ["new", "v1", "v3"]
    outcomes = dockhand.json_lines("prune", "--apply", "plan.json")
    for outcome in outcomes:
        check(outcome, "prune --apply")
    assert [each["outcome"] for each in outcomes] == ["gone", "changed", "gone"]
    assert [path.name for path in dockhand.folder.iterdir() if "plan" in path.name] == ["plan.json"]


def test_plans_of_several_repositories_are_one_file(
    dockhand: CommandLine, registry: RegistryClient, images: dict[str, str], name: str, host: str
) -> None:
    """A repository that does not exist does not stop the others."""
    for tag, days in (("a", 9), ("b", 1)):
        put_image(registry, tag, days=days)
        registry.copy(REPOSITORY, tag, to_repository="team/other")
    other = f"{host}/team/other"
    rules = ("--tags", "re:[ab]", "--keep-last", "1", "--out", "plans.json")
    done = dockhand.run("prune", name, f"{host}/team/nope", other, *rules, code=1)
    assert "team/nope" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    lines = dockhand.lines("prune", "--apply", "plans.json")
    assert [line.split("@")[0] for line in lines[::2]] == [f"deleted {name}", f"deleted {other}"]
    assert list(registry.tags("team/other")) == ["b"]
    assert "a" not in tags(registry)
    assert "404" in dockhand.error("prune", f"{host}/team/nope", *OLD, code=3)
    assert set(images) <= set(tags(registry))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a repository, or with --apply the file of a plan"),
        (("localhost:1/app", "--keep-last", "1"), "name the tags in question"),
        (
            ("localhost:1/app", "--tags", "*"),
            "give --keep, --keep-last, --keep-newer-than or --pro",
        ),
        (("localhost:1/app", "--tags", "*", "--keep-newer-than", "3x"), "--keep-newer-than: '3x'"),
        (("localhost:1/app", "--tags", "[", "--keep-last", "1"), "--tags: the glob '['"),
        (("localhost:1/app", *OLD, "--dry-run", "--yes"), "contradict each other"),
        (("localhost:1/app", *OLD, "--out", "no/plan.json"), "there is no folder"),
        (("--apply", "wrong.json", "--keep-last", "1"), "from the plan alone; give no others"),
        (("localhost:1/app", *OLD, "--out", "-"), "--json writes the plan to standard output"),
        (("--apply", "wrong.json"), "wrong.json: the JSON is not a retention plan"),
        (("--apply", "missing.json"), "missing.json"),
    ],
)
def test_wrong_usage(dockhand: CommandLine, arguments: tuple[str, ...], message: str) -> None:
    (dockhand.folder / "wrong.json").write_text("{}")
    assert message in dockhand.error("prune", *arguments, code=2)


def test_too_many_deletions_are_refused(
    dockhand: CommandLine, registry: RegistryClient, images: dict[str, str], name: str
) -> None:
    done = dockhand.run("prune", name, *OLD, "--max-delete", "2", "--yes", code=1)
    assert "3 deletions, more than --max-delete, which is 2; nothing was deleted" in done.stderr
    assert done.stdout.count("\tdelete\t") == 3
    assert tags(registry) == sorted(images)


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_a_terminal_is_asked(
    dockhand: CommandLine,
    registry: RegistryClient,
    images: dict[str, str],
    name: str,
    answer: str,
) -> None:
    terminal = Terminal(dockhand, "prune", name, *OLD)
    try:
        terminal.wait_for("Delete 3 manifests and 3 tags? Type yes to delete: ")
        assert "3 manifests and 3 tags to delete, 1 kept, 0 unknown, 0 blocked" in terminal.seen
        assert "no rule keeps it" in terminal.seen
        assert tags(registry) == sorted(images)
        terminal.type(f"{answer}\n")
        status = terminal.end()
    finally:
        terminal.close()
    if answer == "yes":
        assert (status, tags(registry)) == (0, ["v3"])
        assert "3 deleted, 0 changed, 0 failed" in terminal.seen
    else:
        assert (status, tags(registry)) == (1, sorted(images))
        assert "aborted; nothing was changed" in terminal.seen


def test_the_connection_of_a_plan(
    dockhand: CommandLine,
    registry: RegistryClient,
    images: dict[str, str],
    oci_registry: OciRegistry,
) -> None:
    """A plan names its registry: a connection to it is found, and another one refuses the plan."""
    config = {"a": "http://127.0.0.1:9/v2/", "b": f"{oci_registry.url}/v2/"}
    (dockhand.folder / "dockhand.toml").write_text(
        "".join(
            f'[connections.{name}]\ndriver = "distribution"\nbase_uri = "{url}"\n'
            for name, url in config.items()
        )
    )
    dockhand.out("prune", "-c", "b", REPOSITORY, *OLD, "--out", "plan.json")
    error = dockhand.error("prune", "-c", "a", "--apply", "plan.json", code=2)
    assert f"made for {oci_registry.url}" in error
    assert len(dockhand.lines("prune", "--apply", "plan.json")) == 4
    assert tags(registry) == ["v3"]
    assert len(images) == 4


def test_a_plan_that_was_killed_does_the_rest_when_it_runs_again(dockhand: CommandLine) -> None:
    """The process is killed while its second deletion waits for the registry."""
    waits, killed = threading.Event(), threading.Event()

    def answer(method: str, _target: str) -> tuple[int, bytes] | None:
        if method != "DELETE" or killed.is_set() or watched.count("DELETE") < 2:
            return None
        waits.set()
        killed.wait(60)
        return 503, b""  # the deletion never happened

    with watched_registry() as watched, connect(watched.url, logging={"driver": "null"}) as client:
        for n in range(4):
            put_image(client, f"v{n}", days=10 * (4 - n))
        name = f"{watched.url.removeprefix('http://')}/{REPOSITORY}"
        dockhand.out("prune", name, *OLD, "--out", "plan.json")
        watched.answer = answer
        process = subprocess.Popen(
            [sys.executable, "-m", "dockhand_cli", "prune", "--apply", "plan.json"],
            cwd=dockhand.folder, env=dockhand.environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        with process.stdout as lines:
            assert waits.wait(60)
            process.kill()
            process.wait(30)
            killed.set()
            (line,) = lines.read().splitlines()
        assert line.endswith("(v0)")
        assert tags(client) == ["v1", "v2", "v3"]
        again = dockhand.lines("prune", "--apply", "plan.json")
        assert [each.partition(" ")[0] for each in again[:3]] == ["gone", "deleted", "deleted"]
        assert again[0].endswith("(v0)")
        assert tags(client) == ["v3"]


def test_a_failed_deletion_does_not_stop_the_others(dockhand: CommandLine) -> None:
    with watched_registry() as watched, connect(watched.url, logging={"driver": "null"}) as client:
        images = [put_image(client, f"v{n}", days=10 * (4 - n)) for n in range(4)]
        watched.answer = lambda method, target: (
            (403, b"") if method == "DELETE" and target.endswith(images[1].digest.encoded) else None
        )
        name = f"{watched.url.removeprefix('http://')}/{REPOSITORY}"
        done = dockhand.run("prune", name, *OLD, "--yes", code=1)
        (error,) = done.stderr.splitlines()
        assert error.startswith(
            f"error: {name}@{images[1].digest} (v1): the deletion failed: Denied"
        )
        assert done.stdout.splitlines()[-1] == (
            f"{name}: 2 deleted, 0 changed, 1 failed, 0 gone before"
        )
        assert tags(client) == ["v1", "v3"]


def test_manifests_without_tags_of_a_registry_in_a_folder(
    dockhand: CommandLine, registry: RegistryClient, name: str
) -> None:
    """A plan finds the connection of a registry that has no host."""
    settings = {"driver": "embedded", "root": str(dockhand.folder / "registry")}
    (dockhand.folder / "dockhand.toml").write_text(
        '[connections.local]\ndriver = "embedded"\nroot = "registry"\n'
    )
    with Dockhand({"connections": {"local": settings}}) as manager:
        put_image(manager.connection(), "v1", days=3)
        lost = put_image(manager.connection(), name="lost", days=30)
    rules = ("--untagged-older-than", "5d", "--out", "plan.json")
    dockhand.out("prune", f"@local/{REPOSITORY}", *rules)
    (outcome,) = dockhand.json_lines("prune", "--apply", "plan.json")
    assert (outcome["outcome"], outcome["digest"]) == ("deleted", str(lost.digest))
    put_image(registry, "v1", days=3)
    error = dockhand.error("prune", name, *OLD, "--untagged-older-than", "5d", code=1)
    assert error.endswith("cannot list manifests; leave out --untagged-older-than")
