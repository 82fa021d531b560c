"""`examples/nightly_cleanup.py` as a process, on the embedded registry and on Distribution."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from registries import distribution, embedded

from dockhand_core import RegistryClient, RetentionPolicy, connect

PROGRAM = Path(__file__).parents[2] / "examples" / "nightly_cleanup.py"
POLICY = 'connection = "main"\ntags = ["build-*"]\nkeep_last = 1\n'


class Run:
    """A finished run of the program."""

    def __init__(self, *options: str) -> None:
        done = subprocess.run(
            [sys.executable, str(PROGRAM), "cleanup.toml", *options],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        self.status, self.plan = done.returncode, done.stdout
        self.log: list[dict[str, Any]] = [json.loads(line) for line in done.stderr.splitlines()]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of the log with this event."""
        return [line for line in self.log if line["event"] == event]


def push_builds(registry: RegistryClient, repository: str, number: int = 3) -> None:
    """Push `build-1`, `build-2` and so on, each newer than the one before; `v1` is `build-1`."""
    for day in range(1, number + 1):
        created = {"org.opencontainers.image.created": f"2024-01-0{day}T12:00:00Z"}
        registry.push_artifact(repository, f"build-{day}", [], annotations=created)
    registry.copy(repository, "build-1", to_reference="v1")


@pytest.fixture
def registry(clean: Path) -> Iterator[RegistryClient]:
    """Provide a client of an embedded registry, which `dockhand.toml` calls `main`."""
    with embedded(clean) as url:
        (clean / "dockhand.toml").write_text(f'[connections.main]\nbase_uri = "{url}"\n')
        with connect(url, logging={"driver": "null"}) as found:
            for repository in ("team/app", "ci/a", "ci/b", "other/app"):
                push_builds(found, repository)
            yield found


@pytest.fixture
def write(clean: Path) -> Callable[..., None]:
    """Provide a function that writes the settings: keys of the file, then a table's."""

    def write(policy: str, *tables: str, top: str = "") -> None:
        text = "".join(f"[[policies]]\n{table}\n" for table in (policy, *tables))
        (clean / "cleanup.toml").write_text(f"{top}\n{text}")

    return write


def test_plan_first_then_apply(registry: RegistryClient, write: Callable[..., None]) -> None:
    write(f'{POLICY}repositories = ["team/app", "ci/*"]')
    planned = Run()
    assert planned.status == 0
    lines = planned.plan.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("@")] == [
        "@main/team/app",
        "@main/ci/a",
        "@main/ci/b",
    ]
    assert sum(line.startswith("  delete build-1 sha256:") for line in lines) == 3
    assert planned.log[-1]["event"] == "finished"
    assert (planned.log[-1]["planned"], planned.log[-1]["deleted"]) == (6, 0)
    assert sorted(registry.tags("team/app")) == ["build-1", "build-2", "build-3", "v1"]
    applied = Run("--apply")
    assert (applied.status, applied.plan) == (0, planned.plan)
    assert (applied.log[-1]["deleted"], applied.log[-1]["failed"]) == (6, 0)
    assert [line["repository"] for line in applied.logged("applied")] == [
        "team/app",
        "ci/a",
        "ci/b",
    ]
    for repository in ("team/app", "ci/a", "ci/b"):
        assert sorted(registry.tags(repository)) == ["build-3", "v1"]
    assert len(list(registry.tags("other/app"))) == 4
    again = Run("--apply")
    assert (again.status, again.log[-1]["planned"], again.log[-1]["deleted"]) == (0, 0, 0)


def test_a_pattern_stays_within_its_component(
    registry: RegistryClient, write: Callable[..., None]
) -> None:
    push_builds(registry, "team/app/cache")
    write(f'{POLICY}repositories = ["team/*"]')
    assert Run("--apply").log[-1]["deleted"] == 2
    assert len(list(registry.tags("team/app/cache"))) == 4
    write(f'{POLICY}repositories = ["team/**"]')
    assert Run("--apply").log[-1]["deleted"] == 2
    assert sorted(registry.tags("team/app/cache")) == ["build-3", "v1"]


def test_more_deletions_than_the_limit_delete_nothing(
    registry: RegistryClient, write: Callable[..., None]
) -> None:
    write(f'{POLICY}repositories = ["**"]', top="max_delete = 7")
    refused = Run("--apply")
    assert refused.status == 3
    assert refused.log[-1]["event"] == "refused"
    assert (refused.log[-1]["planned"], refused.log[-1]["max_delete"]) == (8, 7)
    for repository in ("team/app", "ci/a", "ci/b", "other/app"):
        assert len(list(registry.tags(repository))) == 4


def test_a_failing_repository_does_not_stop_the_others(
    registry: RegistryClient, write: Callable[..., None]
) -> None:
    write(f'{POLICY}repositories = ["absent", "none/*", "team/app"]')
    run = Run("--apply")
    assert run.status == 1
    [failure] = run.logged("not_planned")
    assert failure["repository"] == "absent"
    assert failure["error"].startswith("NameUnknown: ")
    assert [line["pattern"] for line in run.logged("nothing_matches")] == ["none/*"]
    assert (run.log[-1]["deleted"], run.log[-1]["failed"]) == (2, 1)
    assert sorted(registry.tags("team/app")) == ["build-3", "v1"]


def test_an_unreachable_registry_fails_after_the_others(
    registry: RegistryClient, write: Callable[..., None], clean: Path
) -> None:
    with (clean / "dockhand.toml").open("a") as file:
        file.write('[connections.down]\nbase_uri = "http://127.0.0.1:9"\nretries = 0\n')
    down = POLICY.replace("main", "down") + 'repositories = ["*"]'
    write(down, f'{POLICY}repositories = ["team/app"]')
    run = Run("--apply")
    assert run.status == 1
    assert [line["connection"] for line in run.logged("not_listed")] == ["down"]
    assert run.log[-1]["deleted"] == 2
    assert sorted(registry.tags("team/app")) == ["build-3", "v1"]


def test_two_runs_do_not_overlap(
    registry: RegistryClient, write: Callable[..., None], clean: Path
) -> None:
    write(f'{POLICY}repositories = ["team/app"]')
    with (clean / "cleanup.toml.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = Run("--apply")
    assert second.status == 4
    assert [line["event"] for line in second.log] == ["locked"]
    assert len(list(registry.tags("team/app"))) == 4
    assert Run("--apply", "--lock", "other.lock").status == 0
    assert (clean / "other.lock").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cleanup.toml: policies: "),
        ("policies = 1", "cleanup.toml: policies: "),
        ("policies = [1]", "cleanup.toml: policies.0: "),
        ("policy = 1", "cleanup.toml: unknown key 'policy'"),
        ("max_delete = -1\n[[policies]]", "cleanup.toml: max_delete: "),
        ("[[policies]]", "policies, table 1: repositories: "),
        ("[[policies]]\nrepositories = ['a']\nconnection = 5", "table 1: connection: "),
        ("[[policies]]\nrepositories = ['a']\nkeeplast = 5", "table 1: unknown key 'keeplast'"),
        ("[[policies]]\nrepositories = ['a']", "table 1: tags is empty"),
        ("[[policies]]\nrepositories = ['a']\ntags = ['*']", "table 1: the policy keeps nothing"),
        (
            "[[policies]]\nrepositories = ['a']\ntags = ['*']\nkeep_last = 1\nconnection = 'x'",
            "table 1: no connection named 'x'",
        ),
        ("[[policies", "cleanup.toml: "),
    ],
)
def test_wrong_settings(clean: Path, text: str, message: str) -> None:
    (clean / "dockhand.toml").write_text('[connections.main]\nbase_uri = "http://127.0.0.1:9"\n')
    (clean / "cleanup.toml").write_text(text)
    run = Run("--apply")
    assert run.status == 2
    assert [line["event"] for line in run.log] == ["not_started"]
    assert message in run.log[0]["error"]
    assert run.log[0]["error"].startswith("ConfigError: ")
    assert not (clean / "cleanup.toml.lock").exists()


def test_every_rule_is_a_key() -> None:
    policy = runpy.run_path(str(PROGRAM))["Policy"]
    rules = {field.name for field in dataclasses.fields(RetentionPolicy)}
    assert policy.model_fields.keys() == rules | {"connection", "repositories"}


@pytest.mark.live
@pytest.mark.parametrize("version", ["2.8", "3.1"])
def test_on_distribution(clean: Path, write: Callable[..., None], version: str) -> None:
    """Distribution 2.8 cannot delete a tag alone, so `build-1`, which is `v1`, is blocked there."""
    with distribution(version, clean / "registry") as url:
        (clean / "dockhand.toml").write_text(f'[connections.main]\nbase_uri = "{url}"\n')
        with connect(url, logging={"driver": "null"}) as registry:
            push_builds(registry, "team/app")
            write(f'{POLICY}repositories = ["team/*"]')
            run = Run("--apply")
            assert run.status == 0
            blocked = ["build-1"] if version == "2.8" else []
            assert sorted(registry.tags("team/app")) == [*blocked, "build-3", "v1"]
            assert run.log[-1]["deleted"] == 2 - len(blocked)
            assert ("  blocked build-1 " in run.plan) is bool(blocked)
